"""Models beside each other: decisions, tests, maps, and who flipped."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cxr_estimator import CXRClassifier
from cxr_estimator.comparison import compare
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError, SkippedImagesWarning
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
    with pytest.raises(InvalidParameterError, match=r"'names' parameter of ModelComparison\.pair"):
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
    assert text.startswith(f"2 models on {len(found.images)} images of {found.n_patients} patients")
    assert "good beside other:" in text
    assert "auroc less that of other: " in text
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["pairs"][0]["names"] == ["good", "other"]
    assert written["models"]["good"]["auroc"][0] == pytest.approx(found.reports["good"].metrics["auroc"].value)


def test_unreadable_images_are_left_out_for_all(fitted, other, phantoms, tmp_path):
    from PIL import Image

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


def test_progress_can_stop_it(fitted, phantoms):
    told = []
    compare([fitted, fitted], phantoms.X[:4], n_maps=1, progress=lambda *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        compare([fitted, fitted], phantoms.X[:4], progress=stop)
