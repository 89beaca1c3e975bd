"""The report of a model: every part in its order, given parts as they are, and reasons for what is not there."""

from __future__ import annotations

import copy
import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cxr_estimator import CXRClassifier, evaluate, make_phantoms
from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.audit import audit
from cxr_estimator.errors import CXRError, DataError, SameDataWarning, SkippedImagesWarning, UnsupportedMethodError
from cxr_estimator.metrics import METRICS
from cxr_estimator.report import PARTS, planned_images, report
from cxr_estimator.report._page import _COLOURS, _MEASURES
from tests.report.asking import FAST, Page
from tests.test_multilabel import OPTIONS, squares

EVIL = "<script>alert(1)</script>"
_NUMBERS = ("value", "low", "high", "rank", "n_images", "n_undefined", "n_patients")
TABLE = pd.DataFrame([{"method": "grad_cam", "metric": "m", "bucket": "all", **dict.fromkeys(_NUMBERS, 1.0)}]).assign(
    greater_is_better=True, is_gain=False
)


def test_every_part_is_there_and_none_twice(page, whole, fitted):
    said = page.sections
    assert "PNEUMONIA (the positive label)" in said["summary"]
    assert "Verdict of the audit: " in said["summary"]
    for count in ("training images", "validation patients", "images judged here"):
        assert count in said["data"]
    assert "Of a sample of " in said["data"] or "Of the images" in said["data"]
    for setting in ("learning rate 0.01", "plain_cnn", "image_size", "versions"):
        assert setting in said["training"]
    assert "AUROC" in said["evaluation"]
    assert "sex" in said["evaluation"]
    for title in ("What each decides", "Confusion matrix at default", "Of 1,000 images like these"):
        assert title in said["operating-points"]
        assert title not in said["evaluation"]
    assert "True positives: PNEUMONIA, and decided so" in said["explanations"]
    assert "Grad-CAM" in said["explanations"]
    assert "deletion AUC gain" in said["benchmark"]
    assert "border exchange" in said["audit"]
    assert "what it looks like." in said["audit"]
    text = "".join(page.texts)
    assert text.count(DISCLAIMER) == 2
    assert "This page shows radiographs: keep it as you keep them." in text


def test_examples_are_of_each_outcome_and_drawn_by_the_seed(whole, fitted, held_out):
    found = whole[0].explanations
    decided = fitted.predict(held_out.X)
    expected = {
        "TP": (held_out.y == "PNEUMONIA") & (decided == "PNEUMONIA"),
        "FN": (held_out.y == "PNEUMONIA") & (decided == "NORMAL"),
        "FP": (held_out.y == "NORMAL") & (decided == "PNEUMONIA"),
        "TN": (held_out.y == "NORMAL") & (decided == "NORMAL"),
    }
    assert found.counts == {name: int(rows.sum()) for name, rows in expected.items()}
    assert found.outcomes == tuple(name for name, rows in expected.items() if rows.any())
    explained = found.explanations["grad_cam"]
    for outcome, image, truth in zip(found.outcomes, explained.images, found.truth, strict=True):
        (same,) = np.flatnonzero([np.array_equal(one, image) for one in held_out.X])
        assert expected[outcome][same]
        assert truth == held_out.y[same]
    cards = found.cards["grad_cam"]
    assert len(cards) == len(found.outcomes)
    again = report(fitted, held_out.X, held_out.y, held_out.groups, parts=["explanations"], **FAST).explanations
    np.testing.assert_array_equal(again.explanations["grad_cam"].values, explained.values)
    other = report(fitted, held_out.X, held_out.y, parts=["explanations"], **FAST, random_state=4).explanations
    assert other.explanations["grad_cam"].image_ids != explained.image_ids


def test_progress_goes_to_its_end(whole):
    told = whole[1]
    total = planned_images(40, ["explanations", "benchmark"], n_examples=1, n_maps=6)
    assert {one for _, one in told} == {total}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == total


def test_what_progress_raises_stops_the_work(fitted, held_out):
    def stop(done, total):
        if done > 40:
            raise DataError("enough")

    with pytest.raises(DataError, match="enough"):
        report(fitted, held_out.X, held_out.y, parts=["benchmark"], progress=stop, **FAST)


def test_parts_that_were_made_before_are_used_as_they_are(fitted, held_out, audited, whole):
    evaluation = evaluate(fitted, held_out.X, held_out.y, held_out.groups, n_resamples=20)
    table = whole[0].benchmark
    found = report(
        fitted, held_out.X, held_out.y, held_out.groups, evaluation=evaluation, benchmark=table, audit=audited, **FAST
    )
    assert found.evaluation is evaluation
    assert found.benchmark is table
    assert found.audit is audited
    assert found.missing == {}
    assert found.benchmark_of is None, "what was made before tells it not"
    assert whole[0].benchmark_of == "the decided class"
    assert found.evaluation.to_dict() == {**whole[0].evaluation.to_dict(), "subgroups": []}
    assert found.made_before == ("benchmark", "audit")
    assert whole[0].made_before == ("audit",)
    assert any(one.startswith("The benchmark and the audit were made before") for one in found.before_use)
    assert any(one.startswith("The audit was made before") for one in whole[0].before_use)


def test_figures_are_those_that_are_found_apart(fitted, held_out, audited, whole):
    found = report(fitted, held_out.X, held_out.y, held_out.groups, parts=["audit"], **FAST).audit
    options = {"methods": ["grad_cam"], "n_maps": 6, "n_resamples": 20, "random_state": 0}
    apart = audit(fitted, held_out.X, held_out.y, held_out.groups, **options)
    assert found.to_dict() == apart.to_dict()
    apart = evaluate(fitted, held_out.X, held_out.y, held_out.groups, n_resamples=20)
    assert {**whole[0].evaluation.to_dict(), "subgroups": []} == apart.to_dict()


def test_an_evaluation_that_this_model_does_not_repeat_is_refused(fitted, held_out, phantoms):
    def given(X, y, groups, clf=fitted):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SameDataWarning)
            return evaluate(clf, X, y, groups, n_resamples=1)

    other = CXRClassifier.from_pretrained().set_params(verbose=0)
    moved = copy.deepcopy(fitted).set_threshold(0.9)
    here = held_out.X, held_out.y, held_out.groups
    for wrong, said in (
        (given(phantoms.X[:40], phantoms.y[:40], phantoms.groups[:40]), "other figures"),
        (given(*here, other), "other figures"),
        (given(*here, moved), "other figures"),
        (given(*here[:2], None), "is of 40 patients, but there are 20"),
    ):
        with pytest.raises(DataError, match=said):
            report(fitted, *here, evaluation=wrong, parts=[])
    with pytest.raises(CXRError, match="'subgroups' parameter of report must be None where an evaluation is given"):
        report(fitted, *here, evaluation=given(*here), subgroups={"sex": ["F", "M"] * 20}, parts=[])


def test_numbers_of_a_thousand_images(whole):
    (one,) = whole[0].to_dict()["operating_points"]["of_1000_images"]
    figures = whole[0].evaluation.metrics
    prevalence = whole[0].evaluation.prevalence["PNEUMONIA"]
    assert one["found"]["value"] == pytest.approx(1000 * prevalence * figures["sensitivity"].value)
    assert one["false_alarms"]["value"] == pytest.approx(1000 * (1 - prevalence) * (1 - figures["specificity"].value))
    assert one["false_alarms"]["low"] <= one["false_alarms"]["value"] <= one["false_alarms"]["high"]


def test_nothing_names_a_patient(whole, written, held_out):
    texts = (written, whole[0].to_json(), str(whole[0]))
    for patient in set(held_out.groups.tolist()):
        assert not any(re.search(rf"(?<![\w+/=#]){patient}(?![\w+/=])", text) for text in texts)


def test_json_is_plain(whole):
    found = json.loads(whole[0].to_json())
    assert found == whole[0].to_dict()
    assert found["audit"]["verdict"] == whole[0].audit.verdict
    assert found["explanations"]["images"][0]["maps"]["grad_cam"]["verdict"]
    assert len(found["benchmark"]) == len(whole[0].benchmark)
    assert found["disclaimer"] == DISCLAIMER


def test_without_images_no_image_is_there(whole, page):
    bare = Page(whole[0].to_html(show_images=False)).check()
    assert all("jpeg" not in one["src"] for one in bare.images)
    plots = ("curve", "diagram", "probabilities", "by epoch", "table as a picture")
    assert all(any(name in one["alt"] for name in plots) for one in bare.images)
    of_data = {one["src"] for one in page.images} - {one["src"] for one in bare.images}
    n_examples = len(whole[0].explanations.outcomes)
    n_withheld = sum(card.verdict == "withhold" for card in whole[0].explanations.cards["grad_cam"])
    assert len(of_data) == 2 * n_examples - n_withheld + 2, "those, and the pictures of the audit"
    assert "This page shows no radiograph" in "".join(bare.texts)
    assert "Grad-CAM" in bare.sections["explanations"], "what is said of the maps stays"
    assert "which are left out here" in bare.sections["explanations"]
    assert "brightness between images" in page.sections["explanations"]
    assert "brightness between images" not in bare.sections["explanations"]


def test_parts_that_are_not_wanted_say_so(fitted, held_out, tmp_path):
    found = report(fitted, held_out.X, held_out.y, parts=[], n_resamples=20)
    assert set(found.missing) == set(PARTS)
    path = found.save(tmp_path / "new" / "report.html")
    said = Page(path.read_text()).check().sections
    for part in PARTS:
        assert "left out on request" in said[part]
    assert "It was not audited" in said["summary"]
    assert "Patients are unknown" in said["summary"]
    assert "When it doubts" not in said["operating-points"]


def test_figures_that_are_not_known_and_what_was_not_seen(fitted, held_out, audited):
    rows = np.flatnonzero(held_out.y == "NORMAL")[:4]
    failed = replace(audited, checks=tuple(one._replace(verdict="fail") for one in audited.checks))
    found = report(
        fitted, held_out.X[rows], held_out.y[rows], held_out.groups[rows], audit=failed, parts=["audit"], n_resamples=20
    )
    said = Page(found.to_html()).check().sections["summary"]
    assert "AUROCundefined" in said
    assert not re.search(r"\bnan\b", said)
    assert "No image here is known to be PNEUMONIA" in said
    assert f"It was judged on {len(set(held_out.groups[rows]))} patients only" in said
    assert "hecks: ." not in said


def test_what_a_model_does_in_doubt_and_what_it_does_not_know_of_itself(fitted, held_out):
    clf = copy.deepcopy(fitted)
    data = make_phantoms(60, 32, difficulty=0.0, random_state=4)
    clf.conformalize(data.X, data.y, groups=data.groups).set_abstention(
        data.X, data.y, coverage=0.8, groups=data.groups
    )
    request = {"parts": ["explanations"], **FAST}
    said = Page(report(clf, held_out.X, held_out.y, held_out.groups, **request).to_html()).check().sections
    assert "split conformal (lac), compared with 60 images of 30 patients" in said["operating-points"]
    assert "also of those that it would not answer" in said["operating-points"]
    assert "(1 image)" in said["explanations"] or "images)" in said["explanations"]
    assert "(1 images)" not in said["explanations"]
    clf.provenance_, clf.history_ = None, pd.DataFrame()
    facts = report(clf, held_out.X[:4], held_out.y[:4], parts=[], n_resamples=1).facts
    assert not facts.changed.rows, "those parameters trained nothing"
    assert facts.histories == ()


def test_images_that_trained_the_model(fitted, phantoms):
    with pytest.warns(SameDataWarning, match=r"report: Among these images are"):
        found = report(fitted, phantoms.X, phantoms.y, phantoms.groups, parts=[], n_resamples=20)
    assert any("too good" in one for one in found.before_use)
    assert any("that trained the network" in one and "none" not in one for one in found.facts.seen)


def test_what_cannot_be_read_is_counted_and_reported_once(fitted, held_out, tmp_path):
    (tmp_path / "person7_broken.png").write_bytes(b"no picture")
    X = [*held_out.X[:20], str(tmp_path / "person7_broken.png")]
    clf = CXRClassifier.load(fitted.save(tmp_path / "model")).set_params(on_error="skip")
    labels = [*held_out.y[:20], "NORMAL"]
    with pytest.warns(SkippedImagesWarning) as warned:
        found = report(clf, X, labels, [*held_out.groups[:20], "q"], parts=["explanations", "benchmark"], **FAST)
    assert len(warned) == 1
    assert found.evaluation.n_unreadable == 1
    text = found.to_html()
    assert "1 of the images here could not be read" in Page(text).check().sections["data"]
    assert "person7" not in text + found.to_json()


def test_several_classes(three_classes):
    X, y, clf = three_classes
    with pytest.warns(SameDataWarning):
        found = report(clf, X, y, parts=["explanations", "benchmark"], **FAST)
    said = Page(found.to_html()).check().sections
    assert "Right decisions (" in said["explanations"]
    assert "macro AUROC" in said["summary"]
    assert "likeliest" in said["operating-points"]
    assert set(found.explanations.counts) == {"right", "wrong"}
    assert json.loads(found.to_json())["evaluation"]["task"] == "multiclass"


def test_several_labels_have_no_audit_and_say_why():
    X, y, groups = squares(60)
    y[:5, 0] = np.nan
    names = ["top", EVIL, "bottom"]
    clf = CXRClassifier(**{**OPTIONS, "max_epochs": 1}).fit(X, pd.DataFrame(y, columns=names), groups=groups)
    here = squares(30, seed=5)
    here[1][0] = np.nan
    found = report(clf, *here, **FAST)
    assert "several labels" in found.missing["audit"]
    text = found.to_html()
    assert EVIL not in text
    said = Page(text).check().sections
    assert "several labels" in said["audit"]
    explained = str(clf.classes_[np.nansum(here[1], axis=0).argmax()])
    assert set(found.explanations.explanations["grad_cam"].target.tolist()) == {explained}
    assert f"Missed: {explained}, decided not {explained}" in said["explanations"]
    assert found.benchmark["n_images"].max() == 6
    assert f"those of the label {explained}, on 6 images" in said["benchmark"]
    assert f"the label that most images have, {explained}. At best a map" in said["explanations"]
    assert len(found.to_dict()["operating_points"]["of_1000_images"]) == 3


def test_an_ensemble_is_explained_but_not_audited(ensemble, held_out):
    found = report(ensemble, held_out.X, held_out.y, held_out.groups, **FAST)
    said = Page(found.to_html()).check().sections
    assert "The model is an ensemble" in said["audit"]
    assert "The model is an ensemble" in said["benchmark"]
    assert "ensemble of 3" in said["summary"]
    assert "Members of the ensemble" in said["training"]
    assert "not checked one by one" in said["explanations"]
    assert found.explanations.cards == {}
    assert len(found.facts.histories) == 3


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"methods": ["none"]}, CXRError, "'methods' parameter of report"),
        ({"methods": "grad_cam"}, CXRError, "a sequence of one method at least"),
        ({"methods": ["attention_rollout"]}, UnsupportedMethodError, "does not work on this network"),
        ({"metrics": ["none"]}, CXRError, "must be one of"),
        ({"metrics": ["relevance_mass"]}, CXRError, "masks"),
        ({"metrics": None}, CXRError, "a list of metrics"),
        ({"parts": ["all"]}, CXRError, "'parts' parameter of report"),
        ({"n_maps": 0}, CXRError, "'n_maps' parameter of report"),
        ({"n_examples": -1}, CXRError, "'n_examples' parameter of report"),
        ({"progress": 1}, CXRError, "progress"),
        ({"groups": ["a"]}, DataError, "groups must have one entry"),
        ({"y": ["OTHER"] * 40}, DataError, "labels the model does not know"),
        ({"benchmark": pd.DataFrame({"a": [1]})}, CXRError, "as benchmark returns it"),
        ({"benchmark": TABLE[:0]}, CXRError, "'benchmark' parameter of report must be a table of one"),
        ({"benchmark": TABLE.assign(value="a")}, CXRError, "numbers in value. Got 'a'"),
        ({"audit": "audit"}, CXRError, "an AuditReport"),
        ({"evaluation": "evaluation"}, CXRError, "an EvaluationReport"),
    ],
)
def test_wrong_input_is_refused_before_the_network_runs(fitted, held_out, monkeypatch, change, error, said):
    monkeypatch.setattr(CXRClassifier, "_run", lambda *_: pytest.fail("an image was read"))
    request = {"y": held_out.y, **FAST, **change}
    with pytest.raises(error, match=said):
        report(fitted, held_out.X, **request)


def test_parts_of_another_model_are_refused(fitted, held_out, audited, whole):
    with pytest.raises(DataError, match="the audit is of the classes"):
        report(fitted, held_out.X, held_out.y, audit=replace(audited, classes=("A", "B")))
    with pytest.raises(DataError, match="the evaluation is of 40 images, but X has 20"):
        report(fitted, held_out.X[:20], held_out.y[:20], evaluation=whole[0].evaluation)
    with pytest.raises(CXRError, match="a CXRClassifier or a CXREnsemble"):
        report("model", held_out.X, held_out.y)


def test_where_it_is_written(whole, tmp_path):
    for path, said in ((tmp_path / "report", "ends in .html"), (tmp_path / "folder.html", "is a folder")):
        (tmp_path / "folder.html").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=re.escape(said)):
            whole[0].save(path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder.html"]


def test_there_are_words_for_every_kind_of_map_and_metric():
    from cxr_estimator._explanation_check import SHOWS

    assert {one.family for one in METRICS.values()} == set(_MEASURES)
    assert {"signed", *SHOWS} == set(_COLOURS)
