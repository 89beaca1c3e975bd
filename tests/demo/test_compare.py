"""One image, two models: numbers of the estimators, words that follow from them, and no withheld map as evidence."""

from __future__ import annotations

import numpy as np
import pytest
from markupsafe import escape

from cxr_estimator import make_phantoms
from cxr_estimator.comparison import compare_explanations
from cxr_estimator.demo._analysis import Question
from cxr_estimator.demo._compare import agreement, alternative, compare, side_by_side, six_panels
from cxr_estimator.demo._compare_tab import _compared, _results
from cxr_estimator.demo._models import Models, Served
from cxr_estimator.demo._running import Turn
from cxr_estimator.demo._settings import Settings
from cxr_estimator.demo._shared import App
from cxr_estimator.errors import DataError
from cxr_estimator.images import DecodedImage


@pytest.fixture(scope="module")
def image():
    return DecodedImage(make_phantoms(1, 128, random_state=0).X[0], "the image")


@pytest.fixture(scope="module")
def found(served, fitted, image):
    questions = Question(point="default"), Question(point="default")
    return compare((served, Served("tiny", fitted)), image, questions, "grad_cam")


def test_numbers_are_those_of_the_estimators(found, served, fitted, image):
    models, X = (served.clf, fitted), [image.pixels]
    target = str(served.clf.predict(X)[0])
    maps = [clf.explain(X, target=target, random_state=0) for clf in models]
    expected = compare_explanations(*maps)
    assert found.found.target.tolist() == [target]
    for name, values in expected.agreement.items():
        np.testing.assert_allclose(found.found.agreement[name], values)
    assert found.found.shapes == ((32, 32),)
    text = str(side_by_side(found, ("default", "default")))
    for clf in models:
        share = clf.predict_proba(X)[0][clf.classes_.tolist().index(target)]
        assert f"{share:.1%} (" in text
        assert str(clf.predict(X)[0]) in text
    assert f"{expected.agreement['ssim'][0]:.2f}" in str(agreement(found))
    assert "32 x 32 pixels" in str(agreement(found))


def test_operating_points_of_one_model_share_the_map(served, image):
    proba = served.clf.predict_proba([image.pixels])[0][1]
    other = Question(cut_off=min(0.999, proba + 0.01))
    same = compare((served, served), image, (Question(cut_off=proba - 0.01), other), "grad_cam")
    assert same.sentences[0] == "They differ: PNEUMONIA by model A, NORMAL by model B."
    assert "same model" in same.sentences[1]
    assert {name: float(value[0]) for name, value in same.found.agreement.items()} == pytest.approx(
        dict.fromkeys(same.found.agreement, 1.0)
    )
    assert same.shown[1].explanation.prediction.label.tolist() == ["NORMAL"]


def test_a_withheld_map_is_said_to_be_none(found, monkeypatch):
    monkeypatch.setattr("cxr_estimator.trust.TrustCard.verdict", "withhold")
    assert found.withheld == tuple(one.card.sentence for one in found.shown)
    assert "The map of model A and that of model B is no evidence" in " ".join(found.sentences)
    assert side_by_side(found, ("", ""))[-2][1:] == ["✕ withhold"] * 2
    cards = _results(found, (None, None))[-1]
    assert cards.count("Withhold.</strong>") == 2
    assert "of model B:" in cards
    assert "heat map withhold" in alternative(found)


def test_words_figure_and_cards_of_the_page(found):
    words, figure, table, alike, cards = _results(found, ("default", "default"))
    assert words.startswith("### ")
    assert figure["visible"]
    assert figure["value"].shape == (1110, 1530, 3)
    assert "Six panels" in figure["alt_text"]
    assert all(text for text in (table, alike))
    items = found.to_verify
    assert [one.name for one in items] == ["focus on anatomy", "models agree", "confidence", "no artefacts"]
    for one in items:
        assert str(escape(one.sentence)) in alike
    for check in found.shown[0].card.checks:
        assert str(escape(check.sentence)) in cards


def test_without_a_common_class_there_are_no_maps(served, three_classes, image):
    X, _, clf = three_classes
    colour = DecodedImage(X[0], "the image")
    both = compare((Served("colours", clf), Served("grey", served.clf)), colour, (Question(), Question()), "grad_cam")
    assert both.shown is None
    if not any(one.is_refused for one in both.judgements):
        assert "maps of the same class" in both.sentences[0]
    with pytest.raises(DataError):
        six_panels(both)
    words, figure, _, alike, cards = _results(both, (None, None))
    assert (figure["visible"], alike) == (False, "")
    assert "There are no heat maps to trust." in cards
    assert words.startswith("### ")


def test_a_refused_image_has_no_answer(served):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    both = compare((served, served), DecodedImage(noise, "noise"), (Question(), Question()), "grad_cam")
    assert both.shown is None
    assert both.sentences[0].startswith("For model A there is no answer. This image is unlike")
    table = str(side_by_side(both, ("default", "default")))
    assert table.count("no answer") == 2
    assert "probability" not in table


def test_progress_goes_over_both(served, image):
    shares = []
    questions = Question(), Question()
    compare((served, served), image, questions, "grad_cam", progress=lambda done, of: shares.append(done / of))
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= 0.5 < shares[-1] == 1.0


def test_the_page_cancels(served, image, tmp_path):
    from PIL import Image

    Image.fromarray(image.pixels).save(tmp_path / "film.png")
    settings = Settings(device="cpu")
    app = App(settings, Models(settings))
    names, questions = ("bundled", "bundled"), (Question(), Question())
    turn = Turn()
    steps = _compared(app, turn, turn.begin(), str(tmp_path / "film.png"), names, questions, "kernel_shap")
    next(steps)
    turn.cancel()
    assert "Cancelled." in list(steps)[-1][0]
    waiting = turn.begin()
    turn.cancel()
    late = list(_compared(app, turn, waiting, str(tmp_path / "film.png"), names, questions, "kernel_shap"))
    assert "Cancelled." in late[-1][0]
    assert len(late) == 2, "it was begun"
    done = list(_compared(app, turn, turn.begin(), str(tmp_path / "film.png"), names, questions, "grad_cam"))
    assert "Done." in done[-1][0]
    (tmp_path / "none.png").write_bytes(b"no picture")
    steps = _compared(app, turn, turn.begin(), str(tmp_path / "none.png"), names, questions, "grad_cam")
    _, words, figure, *tables = next(steps)
    assert (words, figure["value"], figure["visible"], tables) == ("", None, False, ["", "", ""])
    with pytest.raises(DataError, match="cannot be used"):
        next(steps)
