"""Models beside each other: decisions, tests, maps, and who flipped."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import CXRClassifier
from cxr_estimator.comparison import compare
from cxr_estimator.errors import (
    DataError,
    InvalidParameterError,
    InvalidTypeError,
    SameDataWarning,
    SkippedImagesWarning,
)
from tests.conftest import small_classifier
from tests.test_multilabel import OPTIONS, squares


@pytest.fixture(scope="module")
def other(phantoms):
    """Another network of the same classes, at another size."""
    clf = small_classifier(image_size=24, max_epochs=1, random_state=3)
    return clf.fit(phantoms.X, phantoms.y, groups=phantoms.groups)


@pytest.fixture(scope="module")
def found(fitted, other, phantoms):
    models = {"good": fitted, "other": other}
    return compare(models, phantoms.X, phantoms.y, phantoms.groups, n_maps=6, n_resamples=200)


def test_decisions_and_flips_are_those_of_the_models(found, fitted, other, phantoms):
    table = found.images
    assert table["position"].tolist() == list(range(len(phantoms.X)))
    for name, clf in (("good", fitted), ("other", other)):
        assert table[f"decision {name}"].tolist() == clf.predict(phantoms.X).tolist()
        proba = clf.predict_proba(phantoms.X)
        own = proba[np.arange(len(proba)), np.searchsorted(clf.classes_, table[f"decision {name}"])]
        np.testing.assert_allclose(table[f"probability {name}"], own)
    flipped = found.flipped("good", "other")
    differ = fitted.predict(phantoms.X) != other.predict(phantoms.X)
    assert flipped["position"].tolist() == np.flatnonzero(differ).tolist()
    (pair,) = found.pairs
    assert pair.same_decision.value == pytest.approx(1 - differ.mean())


def test_figures_differ_by_what_the_reports_say(found):
    (pair,) = found.pairs
    tests = {one.figure: one for one in pair.tests}
    assert set(tests) == {"auroc", "accuracy", "sensitivity", "specificity"}
    for figure, one in tests.items():
        values = [found.reports[name].metrics[figure].value for name in pair.names]
        assert one.difference.value == pytest.approx(values[0] - values[1])
        assert one.difference.low <= one.difference.value <= one.difference.high
        assert 0 <= one.p_value <= 1
    assert found.pair("good", "other") is pair
    with pytest.raises(InvalidParameterError, match="'names' parameter of ModelComparison"):
        found.pair("other", "good")


def test_maps_are_of_the_class_that_the_first_model_decides(found, fitted, phantoms):
    decided = fitted.predict(phantoms.X)[found.explained]
    for name, explanation in found.explanations.items():
        assert explanation.target.tolist() == decided.tolist(), name
        assert explanation.images is not None
    ids = [one.image_ids for one in found.explanations.values()]
    assert ids[0] == ids[1]
    alone = fitted.explain(phantoms.X[found.explained[:1]], target=decided[0], random_state=0)
    np.testing.assert_allclose(found.explanations["good"].values[0], alone.values[0], atol=1e-5)
    moved = found.moved("good", "other")
    assert moved["rank_correlation"].is_monotonic_increasing
    assert sorted(moved["position"]) == sorted(found.explained.tolist())
    assert found.pairs[0].maps["rank_correlation"].value == pytest.approx(moved["rank_correlation"].mean())
    items = found.checklist(1)
    assert [one.name for one in items][:2] == ["focus on anatomy", "models agree"]
    assert ("Both decide" in items[1].sentence) == bool(found.pairs[0].comparison.same_decision[1])
    figure = found.plot(1)
    assert len([axis for axis in figure.axes if axis.images]) >= 6
    assert figure.dpi == 150


def test_flips_are_counted_by_what_is_true_and_who_is_right(found):
    flips, rows = found.flips("good", "other"), found.flipped("good", "other")
    assert flips["n_images"].sum() == len(rows) > 0
    for one in flips.itertuples(index=False):
        label, good, other, number, right = one
        own = rows[(rows["label"] == label) & (rows["decision good"] == good) & (rows["decision other"] == other)]
        assert len(own) == number
        assert good != other
        assert {"good": good, "other": other}[right] == label
    # who is right more often of those is who is more accurate
    gained = flips.groupby("right")["n_images"].sum()
    accuracy = next(one for one in found.pairs[0].tests if one.figure == "accuracy").difference.value
    assert accuracy == pytest.approx((gained.get("good", 0) - gained.get("other", 0)) / len(found.images))


def test_nothing_names_a_file_and_maps_know_their_place(found, phantoms, fitted, other, tmp_path):
    files = []
    for number, pixels in enumerate(phantoms.X[:5]):
        files.append(str(tmp_path / f"jane_doe_{number}.png"))
        Image.fromarray(pixels).save(files[-1])
    report = compare({"a": fitted, "b": other}, files, n_maps=3)
    assert report.explained.tolist() == report.explanations["b"].index.tolist()
    assert report.explanations["a"].names == tuple(f"X[{position}]" for position in report.explained)
    written = report.save(tmp_path / "out")
    for name in ("comparison.html", "comparison.json", "images.csv"):
        assert "jane" not in (written / name).read_text()
    assert "jane" not in repr(report.explanations)


def test_a_model_beside_itself_is_the_same(fitted, phantoms):
    same = compare([fitted, fitted, fitted], phantoms.X[:30], phantoms.y[:30], phantoms.groups[:30], n_maps=2)
    assert [one.names for one in same.pairs] == [
        ("model 1", "model 2"), ("model 1", "model 3"), ("model 2", "model 3")
    ]  # fmt: skip
    for pair in same.pairs:
        assert pair.same_decision.value == 1
        assert all(one.p_value == 1 and one.difference.value == 0 for one in pair.tests)
        assert pair.maps["rank_correlation"].value == pytest.approx(1)
    assert len(same.flipped("model 1", "model 3")) == 0


def test_several_classes_ensembles_and_no_labels(three_classes, ensemble, fitted, phantoms):
    X, y, clf = three_classes
    found = compare({"a": clf, "b": clf}, X, y, n_maps=2, n_resamples=50)
    assert {one.figure for one in found.pairs[0].tests} == {
        "accuracy", *(f"{kind} {label}" for label in clf.classes_ for kind in ("auroc", "recall"))
    }  # fmt: skip
    assert found.n_patients is None
    mixed = compare({"one": fitted, "many": ensemble}, phantoms.X[:6], n_maps=2)
    assert mixed.pairs[0].tests == ()
    assert mixed.reports == {}
    assert "label" not in mixed.images


def test_as_text_and_json(found):
    text = str(found)
    assert text.startswith(f"2 models on {len(found.images)} images of {found.n_patients} patients\n")
    assert "Classes in order: NORMAL" in text
    (row,) = re.findall(r"^ +AUROC +\d.*$", text, re.MULTILINE)
    for name in ("good", "other"):
        assert f"{found.reports[name].metrics['auroc'].value:.3f} (" in row
    assert "good beside other:" in text
    assert "AUROC of good less that of other: " in text
    (pair,) = found.pairs
    for one in pair.tests:
        assert one.words == ("more than chance explains" if one.p_value < 0.05 else "chance can explain it")
        assert f": {one.words}" in text
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["pairs"][0]["names"] == ["good", "other"]
    assert written["models"]["good"]["auroc"][0] == pytest.approx(found.reports["good"].metrics["auroc"].value)


def test_unreadable_images_are_left_out_for_all(fitted, other, phantoms, tmp_path):
    paths = []
    for number, pixels in enumerate(phantoms.X[:8]):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    (tmp_path / "2.png").write_bytes(b"no picture")
    models = [CXRClassifier.load(one.save(tmp_path / str(k))) for k, one in enumerate((fitted, other))]
    for one in models:
        one.set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        found = compare(models, paths, phantoms.y[:8], phantoms.groups[:8], n_maps=3, n_resamples=50)
    assert found.n_unreadable == 1
    assert {one.n_unreadable for one in found.reports.values()} == {1}
    assert "7 images of" in str(found)
    assert "1 more could not be read" in str(found)
    assert found.images["position"].tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert found.images["label"].tolist() == phantoms.y[[0, 1, 3, 4, 5, 6, 7]].tolist()
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x.png").write_bytes(b"")
    with pytest.warns(SkippedImagesWarning), pytest.raises(DataError, match="none of the 1 images could be read"):
        compare(models, [str(tmp_path / "one" / "x.png")])


def test_what_cannot_be_compared(fitted, three_classes, phantoms):
    X = phantoms.X[:4]
    for wrong in (fitted, [fitted], {"a": fitted}, "models", [fitted, "model"], {1: fitted, 2: fitted}):
        with pytest.raises(InvalidTypeError, match="'models' parameter of compare"):
            compare(wrong, X)
    with pytest.raises(DataError, match="different classes"):
        compare([fitted, three_classes[2]], X)
    many, y, groups = squares(40)
    labels = CXRClassifier(**{**OPTIONS, "max_epochs": 1}).fit(many, y, groups=groups)
    with pytest.raises(DataError, match="several labels per image"):
        compare([labels, labels], many[:4])
    with pytest.raises(DataError):
        compare([fitted, fitted], X, phantoms.y[:3])
    with pytest.raises(InvalidParameterError):
        compare([fitted, fitted], X, n_maps=0)
    with pytest.raises(InvalidParameterError):
        compare([fitted, fitted], X, method="none")


@pytest.mark.parametrize(
    ("options", "error", "wrong"),
    [
        ({"n_resamples": 0}, InvalidParameterError, "'n_resamples' parameter of compare"),
        ({"n_resamples": "x"}, InvalidTypeError, "'n_resamples' parameter of compare"),
        ({"progress": 3}, InvalidTypeError, "'progress' parameter of compare"),
        ({"random_state": "a"}, InvalidTypeError, "'random_state' parameter of compare"),
    ],
)
def test_wrong_options_are_told_before_any_work(fitted, phantoms, monkeypatch, options, error, wrong):
    monkeypatch.setattr(CXRClassifier, "_run", None)
    with pytest.raises(error, match=wrong):
        compare([fitted, fitted], phantoms.X[:4], phantoms.y[:4], **options)


def test_positive_labels_must_be_the_same_where_figures_speak_of_them(fitted, phantoms):
    turned = small_classifier(max_epochs=1, pos_label="NORMAL").fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    with pytest.raises(DataError, match="different positive labels"):
        compare([fitted, turned], phantoms.X[:4], phantoms.y[:4])
    assert compare([fitted, turned], phantoms.X[:4], n_maps=1).reports == {}


def test_rows_and_names_that_are_not_there(found):
    for wrong in (-1, 6, 1.0):
        with pytest.raises((InvalidParameterError, InvalidTypeError), match="'row' parameter of ModelComparison"):
            found.plot(wrong)
    for call in (found.flipped, found.flips, found.moved, lambda *names: found.plot(0, names)):
        with pytest.raises(InvalidParameterError, match="'names' parameter of ModelComparison"):
            call("good", "x")


def test_images_that_the_models_know_are_warned_of_and_noted(fitted, other, phantoms):
    with pytest.warns(SameDataWarning, match=r"compare \(good\): Among these .* that trained the network"):
        known = compare({"good": fitted, "other": other}, phantoms.X, phantoms.y, n_maps=1, n_resamples=20)
    assert any("trained the network" in note for note in known.notes)
    assert any("Patients are unknown" in note for note in known.notes)
    assert len(set(known.notes)) == len(known.notes)
    assert known.notes[0] in known.reports["good"].notes


def test_ties_of_calibrated_probabilities_do_not_change_the_ranking(fitted, other, phantoms):
    """An isotonic map makes many equal: the areas are those of the scores, as in the reports."""
    stepped = copy.copy(other)
    stepped.operating_points_ = dict(other.operating_points_)
    stepped.calibration_ = Flat()
    found = compare({"a": fitted, "b": stepped}, phantoms.X, phantoms.y, phantoms.groups, n_maps=1, n_resamples=20)
    values = [found.reports[name].metrics["auroc"].value for name in ("a", "b")]
    assert found.pairs[0].tests[0].difference.value == pytest.approx(values[0] - values[1])
    assert values[1] > 0.5


class Flat:
    """A calibration that gives all images the same probability."""

    fingerprint, n_images = (), 0

    def __call__(self, logits):
        return np.zeros_like(logits, dtype=np.float64)


def test_progress_can_stop_it(fitted, phantoms):
    told = []
    compare([fitted, fitted], phantoms.X[:4], n_maps=1, progress=lambda *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        compare([fitted, fitted], phantoms.X[:4], progress=stop)
