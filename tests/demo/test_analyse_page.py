"""The parts of the Analyse page, without a browser."""

import json
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the app needs the extra `demo`")

import gradio as gr

from cxr_estimator import trust
from cxr_estimator.attribution._types import SPEEDS
from cxr_estimator.demo._analyse_events import _end, _Page
from cxr_estimator.demo._analyse_parts import Controls, Results
from cxr_estimator.demo._analysis import N_COPIES, Question, explain
from cxr_estimator.demo._background import NAME
from cxr_estimator.demo._break_panel import _changed, break_case, rows
from cxr_estimator.demo._case import current, judged, steps
from cxr_estimator.demo._downloads import numbers, write_files
from cxr_estimator.demo._examples import EXAMPLES, example_file
from cxr_estimator.demo._models import Models, Served
from cxr_estimator.demo._pictures import STAMP, overlaid, scale
from cxr_estimator.demo._running import Turn
from cxr_estimator.demo._settings import Settings
from cxr_estimator.demo._shared import App
from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.demo._view import CURVE, GALLERY, SLIDER, Look, view_of
from cxr_estimator.demo._words import described, html, place, verdict
from cxr_estimator.errors import DataError
from cxr_estimator.preprocessing import Box


@pytest.fixture(scope="module")
def served(bundled):
    return Served("bundled", bundled)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("DOE_JANE") / "synthetic_with.png"
    return str(shutil.copy(example_file("With an opacity"), path))


@pytest.fixture(scope="module")
def case(served, film):
    found = judged(film, served, Question("rule_in"))
    names = ("grad_cam", "lrp", "saliency")
    return found._replace(shown=explain(found.judgement, read_upload(film), names), chosen=names)


@pytest.fixture(scope="module")
def app():
    settings = Settings(device="cpu")
    return App(settings, Models(settings))


def withheld(shown):
    """The same map with a card on which a needed check fails."""
    failed = trust.TrustCheck("gain", -0.1, 0.02, trust.FAIL, "No better than moved copies <of it>.")
    return shown._replace(card=replace(shown.card, checks=(failed,)))


def test_words_hold_the_numbers_of_the_estimator(case, bundled, film):
    said, point = verdict(case.judgement), bundled.operating_points_["rule_in"]
    share = bundled.predict_proba([film])[0, 1]
    assert said.decision == bundled.predict([film], operating_point="rule_in")[0]
    assert said.rows[0].label == "PNEUMONIA"
    assert said.rows[0].share == pytest.approx(share, abs=1e-6)
    text = " ".join(said.sentences)
    for number in (share, bundled.thresholds_["rule_in"], *point.sensitivity, *point.specificity):
        assert f"{number:.1%}" in text
    assert "5,232 images of 2,861 patients" in text
    assert f"{share:.1%}" in html("verdict", said=said)


@pytest.mark.parametrize("apart", [1e-4, 1e-5])
def test_a_probability_close_to_the_cut_off_is_seen_to_be_on_its_side(served, film, apart):
    share = judged(film, served, Question()).judgement.proba["PNEUMONIA"]
    for cut_off, side in ((share + apart, "below"), (share - apart, "at or above")):
        first = verdict(judged(film, served, Question(cut_off=cut_off)).judgement).sentences[0]
        told = re.fullmatch(rf"The probability of PNEUMONIA is ([\d.]+)%, {side} your own cut-off, ([\d.]+)%\.", first)
        assert (float(told[1]) < float(told[2])) == (side == "below")
        assert told[1] != told[2]


def test_nothing_is_called_certain(case):
    sure = replace(case.judgement, proba={"NORMAL": 1e-6, "PNEUMONIA": 1 - 1e-6}, spread=dict.fromkeys(
        ("NORMAL", "PNEUMONIA"), (1e-7, 1 - 1e-7)))  # fmt: skip
    for text in (html("verdict", said=verdict(sure)), " ".join(verdict(sure).sentences)):
        assert "100.0%" not in text
        assert " 0.0%" not in text
        assert "over 99.9%" in text


def test_the_range_is_of_the_image_and_its_copies(case, bundled, film):
    samples = bundled.uncertainty([film], n_samples=N_COPIES, random_state=0).samples[:, 0, 1]
    low, high = case.judgement.spread["PNEUMONIA"]
    assert (low, high) == pytest.approx((samples.min(), samples.max()), abs=0.01)
    assert low <= case.judgement.proba["PNEUMONIA"] <= high
    assert f"the image itself and {N_COPIES - 1} slightly changed copies" in " ".join(verdict(case.judgement).sentences)


def test_points_that_nobody_measured_say_so(served, film):
    for question, words in ((Question("default"), "were not measured"), (Question(cut_off=0.3), "are not known")):
        assert words in " ".join(verdict(judged(film, served, question).judgement).sentences)


@pytest.mark.parametrize("title", list(EXAMPLES))
def test_examples_are_judged_honestly(title, served):
    found = judged(example_file(title), served, Question())
    said = verdict(found.judgement)
    assert said.refused == (title in ("A negative", "On its side"))
    if said.refused:
        text = html("verdict", said=said)
        assert "%" not in text.replace("stranger than", "").split("held-out")[-1]
        assert steps(found._replace(chosen=("grad_cam",))) == []


def test_maps_are_kept_where_they_explain_the_same(case, served, film):
    again = judged(film, served, Question("screening"), case)
    same = again.judgement.label == case.judgement.label
    assert set(again.shown) == (set(case.shown) if same else set())
    kept = judged(film, served, Question(cut_off=0.99), case)
    assert kept.shown["lrp"].explanation.prediction.threshold == pytest.approx(0.99)
    assert judged(film, served, Question("rule_in", target="PNEUMONIA"), case).shown == {}


def test_withheld_maps_are_not_shown_as_evidence(case):
    hidden = withheld(case.shown["lrp"])
    options = {"cmap": "PuOr_r", "opacity": 0.6}
    plain = overlaid(case.picture, case.shown["lrp"], show_withheld=False, **options)
    panel = overlaid(case.picture, hidden, show_withheld=False, **options)
    stamped = overlaid(case.picture, hidden, show_withheld=True, **options)
    assert panel.shape == plain.shape
    film = np.repeat(case.picture[..., None], 3, axis=2)
    assert np.corrcoef(panel.ravel(), film.ravel())[0, 1] < 0.2
    assert 0.005 < (stamped != plain).any(axis=2).mean() < 0.3, STAMP
    one = case._replace(shown={"lrp": hidden})
    view = view_of(one, Look(method="lrp"))
    assert view.alt.startswith("No picture.")
    assert view.legend == ""
    assert "moved copies &lt;of it&gt;" in view.card
    assert "not evidence" in view_of(one, Look(method="lrp", show_withheld=True)).alt


def test_the_place_is_one_of_the_picture_and_not_of_the_bars_around_it(case):
    """A wide image fills the middle rows of what the model sees; the map is strongest in the upper third of it."""
    one = case.shown["grad_cam"]
    height, width = one.explanation.values.shape[1:]
    values = np.zeros((1, height, width), np.float32)
    top = height // 3
    values[0, top : top + height // 9, -width // 9 :] = 1
    geometry = replace(one.explanation.geometry[0], target=Box(top, 0, height // 3, width))
    padded = replace(one.explanation, values=values, geometry=(geometry,))
    assert "at the upper right of the picture" in described(one._replace(explanation=padded), show_withheld=True)


def test_overlay_has_the_aspect_of_the_radiograph(served, tmp_path, film):
    from PIL import Image

    tall = tmp_path / "tall.png"
    Image.open(film).resize((300, 500)).save(tall)
    found = judged(str(tall), served, Question())
    found = found._replace(shown=explain(found.judgement, read_upload(tall), ["grad_cam"]), chosen=("grad_cam",))
    picture = view_of(found, Look(method="grad_cam")).picture
    assert picture.shape == (512, 307, 3)


def test_views(case):
    assert view_of(None, Look()).picture is None
    assert view_of(case._replace(chosen=()), Look()).alt.startswith("The radiograph")
    # the page may ask before it knows which maps there are: then the first one that is evidence
    assert case.shown["grad_cam"].card.verdict != "withhold"
    assert "Grad-CAM" in view_of(case, Look(method="rise")).alt
    before, after = view_of(case, Look(SLIDER, "grad_cam")).pair
    assert before.shape == after.shape
    assert len(view_of(case, Look(GALLERY, "grad_cam")).gallery) == 4
    curve = view_of(case, Look(CURVE, "grad_cam"))
    assert f"Gain {case.shown['grad_cam'].card.gain:+.3f}" in curve.alt
    assert all(check.sentence in html("card", card=case.shown["lrp"].card) for check in case.shown["lrp"].card.checks)


def test_place_and_scale():
    values = np.zeros((30, 30))
    values[:6, 24:] = 1
    assert place(values) == "upper right"
    assert place(np.zeros((9, 9))) == "nowhere"
    assert scale("gray", 2) == "linear-gradient(to right, #000000, #ffffff)"


def test_files_name_nobody_and_need_nothing_else(case):
    look = Look(method="grad_cam")
    paths = [Path(path) for path in write_files(case, look)]
    assert [path.name for path in paths] == ["figure.png", "numbers.json", "report.html", "receipt.json"]
    for path in paths[1:]:
        text = path.read_text()
        assert "DOE_JANE" not in text
        assert "synthetic_with" not in text
    found = json.loads(paths[1].read_text())
    assert {one["label"]: one["probability"] for one in found["probabilities"]} == case.judgement.proba
    assert found["explanation"]["trust_card"]["deletion"]["gain"] == pytest.approx(case.shown["grad_cam"].card.gain)
    assert found["operating_point"]["sensitivity"]["value"] == case.judgement.point.sensitivity.value
    text = paths[2].read_text()
    assert 'src="data:image/png' in text
    assert "http" not in text
    json.dumps(numbers(case, case.shown["lrp"]), allow_nan=False)
    with pytest.raises(DataError, match="no heat map yet"):
        write_files(None, look)


def test_break_it(case):
    same = break_case(case, "grad_cam")
    assert same.after.judgement.proba == pytest.approx(same.before.judgement.proba)
    assert np.array_equal(same.before.picture, same.after.picture)
    turned = break_case(case, "rise", rotate=8.0)
    assert turned.method == "grad_cam"
    table = rows(turned)
    assert table[0]["share"] == pytest.approx(case.judgement.proba[str(case.judgement.label)])
    assert turned.after.judgement.image_id != turned.before.judgement.image_id
    with pytest.raises(DataError, match="Analyse a radiograph first"):
        break_case(None, "grad_cam")


@pytest.fixture(scope="module")
def handlers(app):
    """The handlers, whose components are mere keys."""
    controls = Controls(**{name: object() for name in Controls._fields})
    controls = controls._replace(methods={speed: object() for speed in SPEEDS})
    return _Page(app, controls, Results(**{name: object() for name in Results._fields}))


def test_judging_what_cannot_be_read_leaves_nothing(handlers, case, tmp_path):
    (tmp_path / "film.png").write_bytes(b"no picture")
    for path, words in ((str(tmp_path / "film.png"), "cannot be used"), (None, "Choose a radiograph first")):
        found = handlers.judge(case, None, Turn(), Turn(), path, "bundled", "rule_in", 0.5, "predicted")
        assert found[handlers.results.case] is None
        assert words in found[handlers.results.verdict]
        assert str(tmp_path) not in found[handlers.results.verdict]
        assert handlers.results.due not in found


def test_a_model_that_cannot_be_had_leaves_nothing_of_the_one_before(handlers, case, film):
    """The choice is told to `judge` nevertheless, which clears the page; the controls stay as they are."""
    before, *_ = handlers.choose_model("bundled")
    asked, *controls = handlers.choose_model("../../etc")
    assert asked > before
    assert all(one == gr.skip() for one in controls)
    found = handlers.judge(case, None, Turn(), Turn(), film, "../../etc", "rule_in", 0.5, "predicted")
    assert found[handlers.results.case] is None
    assert "There is no model" in found[handlers.results.verdict]


def test_what_is_begun_before_an_answer_is_not_shown_beside_it(handlers, case, film):
    """Another image is asked about while the panel or the files of the one before are made."""
    shown, asking, look = handlers.results, Turn(), Look(method="grad_cam")
    question = _end(Turn(), asking)
    changes = (8.0, 0.0, 0.0, False)
    said, *pictures = _changed(asking, question, case, None, *changes, *look)
    assert "Changed" in said
    assert all(one["visible"] for one in pictures)
    assert handlers.files(asking, question, case, None, *look)["visible"]
    answered = handlers.judge(case, None, Turn(), asking, film, "bundled", "rule_in", 0.5, "predicted")
    assert answered[shown.question] == asking.number > question
    assert _changed(asking, question, case, None, *changes, *look) == [gr.skip()] * 3
    assert handlers.files(asking, question, case, None, *look) == gr.skip()
    assert _end(Turn(), asking) > answered[shown.question]


def test_maps_come_step_by_step_and_what_exists_is_kept(handlers, film):
    shown = handlers.results
    asked = handlers.judge(None, None, Turn(), Turn(), film, "bundled", "rule_in", 0.5, "predicted")
    first = asked[shown.case]
    updates = list(handlers.maps(first, None, Turn(), 0, None, ["grad_cam"], ["occlusion"], []))
    cases = [one[shown.mapped] for one in updates if shown.mapped in one]
    assert [sorted(one.shown) for one in cases] == [["grad_cam"], ["grad_cam", "occlusion"]]
    assert any("agreement" in {check.name for check in one.card.checks} for one in cases[-1].shown.values())
    assert updates[-1][shown.status] == ""
    again = list(handlers.maps(first, cases[-1], Turn(), 0, "occlusion", ["grad_cam"], [], []))
    assert len(again) == 1
    assert list(again[0][shown.mapped].visible) == ["grad_cam"]
    assert current(first._replace(judgement=replace(first.judgement)), cases[-1]).shown == {}


@pytest.mark.parametrize("how", ["cancelled", "left"])
def test_stopped_work_ends(handlers, film, how):
    shown, turn = handlers.results, Turn()
    first = handlers.judge(None, None, Turn(), Turn(), film, "bundled", "rule_in", 0.5, "predicted")[shown.case]
    updates = handlers.maps(first, None, turn, 0, None, [], [], ["rise"])
    next(updates)
    next(updates)
    (thread,) = [one for one in threading.enumerate() if one.name == NAME]
    if how == "cancelled":
        turn.cancel()
        *_, last = updates
        assert "Cancelled." in last[shown.status]
        assert not last[shown.cancel]["visible"]
        (late,) = handlers.maps(first, None, turn, 0, None, [], [], ["rise"])  # which was waiting
        assert "Cancelled." in late[shown.status]
    else:
        updates.close()
    thread.join(20)
    assert not thread.is_alive()
