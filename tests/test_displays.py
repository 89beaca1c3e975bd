"""Displays hold the numbers that they draw."""

from __future__ import annotations

import dataclasses

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from cxr_estimator import DeletionCurveDisplay, Explanation, ExplanationDisplay
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError, SkippedImagesWarning
from cxr_estimator.metrics import measure
from cxr_estimator.metrics.faithfulness import deletion_curve, insertion_curve

METHODS = ("grad_cam", "occlusion")
FAST = {"steps": 4, "n_references": 2, "n_resamples": 50}


@pytest.fixture(autouse=True)
def no_figures_are_left():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def maps(fitted, phantoms):
    return fitted.explain(phantoms.X[:8], method=list(METHODS), target="PNEUMONIA", random_state=0)


@pytest.fixture(scope="module")
def curves(fitted, phantoms):
    display = DeletionCurveDisplay.from_estimator(
        fitted, phantoms.X[:8], methods=METHODS, target="PNEUMONIA", groups=phantoms.groups[:8], batch_size=5, **FAST
    )
    plt.close(display.figure_)
    return display


def titles(axes) -> list[str]:
    return [ax.get_title() for ax in axes]


# -- explanations --


def test_a_row_per_image_and_a_column_per_method(fitted, phantoms):
    display = ExplanationDisplay.from_estimator(fitted, phantoms.X[:3], phantoms.y[:3], method=list(METHODS))
    assert display.axes_.shape == (3, 3)
    assert titles(display.axes_[1, 1:]) == ["Grad-CAM", "Occlusion (signed)"]
    first = display.explanations["grad_cam"]
    share = first.prediction.proba[1].max()
    assert display.axes_[1, 0].get_title() == f"decision: {first.prediction.label[1]} ({share:.1%})\nexplained: " + str(
        first.target[1]
    )
    np.testing.assert_array_equal(display.axes_[1, 0].images[0].get_array()[..., 0], first.images[1])
    overlay = display.axes_[1, 2].images[0].get_array()
    np.testing.assert_array_equal(overlay, display.explanations["occlusion"].overlay(1, opacity=0.75))
    assert "not a medical device" in display.figure_.get_supxlabel()
    assert display.plot() is display


def test_the_probability_is_that_of_the_decision(maps):
    """At a low threshold the decision need not be the likelier class."""
    one = maps["grad_cam"][0]
    said = dataclasses.replace(one.prediction, proba=np.array([[0.8, 0.2]]), label=np.array(["PNEUMONIA"]))
    display = ExplanationDisplay.from_explanations(dataclasses.replace(one, prediction=said))
    assert display.axes_[0, 0].get_title().startswith("decision: PNEUMONIA (20.0%)")


def test_the_first_eight_are_drawn_unless_others_are_asked_for(fitted, phantoms):
    display = ExplanationDisplay.from_explanations(fitted.explain(phantoms.X[:10]))
    assert display.axes_.shape == (8, 2)
    assert "The first 8 of 10 images." in display.figure_.get_supxlabel()
    assert display.plot(images=[9]).axes_.shape == (1, 2)
    assert "first" not in display.figure_.get_supxlabel()
    for images, match in (([10], "'images'"), ([-1], "'images'"), ([], "one at least")):
        with pytest.raises(InvalidParameterError, match=match):
            display.plot(images=images)


def test_panels_take_the_place_of_given_axes(maps):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    display = ExplanationDisplay.from_explanations(maps["grad_cam"][:2], ax=left, cmap="viridis")
    assert display.ax_ is left
    assert display.figure_ is figure
    assert not left.axison
    edge = right.get_position().x0
    assert all(ax.get_position().x1 <= edge for ax in display.axes_.flat)
    with pytest.raises(InvalidTypeError, match="Axes"):
        display.plot(figure)
    with pytest.raises(InvalidParameterError, match="can be divided"):
        display.plot(figure.add_axes((0, 0, 1, 1)))


def test_explanations_that_do_not_belong_together(maps, fitted, phantoms):
    whole = maps["grad_cam"]
    for other, match in (
        (whole[:3], "different images"),
        (dataclasses.replace(whole, target=np.array(["NORMAL"] * 8)), "different classes"),
    ):
        with pytest.raises(DataError, match=match):
            ExplanationDisplay.from_explanations({"a": whole, "b": other})
    with pytest.raises(InvalidTypeError, match="an Explanation"):
        ExplanationDisplay.from_explanations(whole.values)
    with pytest.raises(InvalidParameterError, match="one at least"):
        ExplanationDisplay.from_explanations({})
    with pytest.raises(InvalidTypeError, match="a CXRClassifier"):
        ExplanationDisplay.from_estimator("model", phantoms.X)


def test_axes_and_colours_are_checked_before_any_work(fitted, phantoms, monkeypatch):
    monkeypatch.setattr(type(fitted), "explain", None)
    for options, match in (({"ax": Figure().add_axes((0, 0, 1, 1))}, "can be divided"), ({"cmap": "jett"}, "cmap")):
        with pytest.raises(InvalidParameterError, match=match):
            ExplanationDisplay.from_estimator(fitted, phantoms.X[:2], **options)
    with pytest.raises(InvalidParameterError, match="one at least"):
        ExplanationDisplay({})


# -- curves --


def test_curves_are_those_of_the_metrics(curves, explained):
    explanation, context = explained(slice(0, 8))
    np.testing.assert_allclose(curves.fractions_, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curves.curves_["occlusion"], deletion_curve(explanation, context, steps=4), atol=1e-6)
    mean = curves.curves_["occlusion"].mean(axis=0)
    np.testing.assert_array_equal(curves.lines_["occlusion"].get_ydata(), mean)
    low, high = curves.bands_["occlusion"]
    assert ((low <= mean) & (mean <= high)).all()


def test_the_gap_to_the_reference_is_the_score(curves, explained):
    explanation, context = explained(slice(0, 8))
    gain = measure("deletion_auc", explanation, context, steps=4, n_references=2)
    gap = curves.references_["occlusion"] - curves.curves_["occlusion"]
    np.testing.assert_allclose((gap[:, 1:] + gap[:, :-1]).mean(axis=1) / 2, gain, atol=1e-6)


def test_curves_and_references_share_a_colour(curves):
    assert list(curves.lines_) == list(METHODS)
    colours = [line.get_color() for line in curves.lines_.values()]
    assert len(set(colours)) == 2
    assert [line.get_color() for line in curves.reference_lines_.values()] == colours
    assert {line.get_linestyle() for line in curves.reference_lines_.values()} == {"--"}
    mean = curves.curves_["grad_cam"].mean(axis=0)
    area = (mean[0] / 2 + mean[1] + mean[2] + mean[3] + mean[4] / 2) / 4
    texts = [text.get_text() for text in curves.ax_.get_legend().get_texts()]
    assert texts[0].startswith(f"Grad-CAM (area {area:.3f}, reference ")
    assert texts[-1] == "same maps shifted and flipped"
    assert curves.ax_.get_title() == "Deletion: 8 images, 95% interval over 4 patients"
    assert curves.ax_.get_xlabel().startswith("share of pixels hidden")


def test_insertion_on_given_axes_without_references(fitted, phantoms, explained):
    ax = Figure().subplots()
    display = DeletionCurveDisplay.from_estimator(
        fitted, phantoms.X[:3], methods="occlusion", kind="insertion", target="PNEUMONIA", ax=ax, **FAST
    )
    assert display.ax_ is ax
    assert display.plot(references=False).reference_lines_ == {}
    explanation, context = explained(slice(0, 3))
    np.testing.assert_allclose(display.curves_["occlusion"], insertion_curve(explanation, context, steps=4), atol=1e-6)
    assert display.ax_.get_title() == "Insertion: 3 images, 95% interval over images"


def test_maps_that_exist_give_the_same_curves(maps, curves, fitted, phantoms, tmp_path):
    told = []
    maps["occlusion"].save(tmp_path / "maps")
    given = {"grad_cam": maps["grad_cam"], "occlusion": Explanation.load(tmp_path / "maps")}
    display = DeletionCurveDisplay.from_explanations(
        given, fitted, phantoms.X[:8], groups=phantoms.groups[:8], batch_size=3,
        progress=lambda done, total: told.append((done, total)), **FAST,
    )  # fmt: skip
    for method in METHODS:
        np.testing.assert_allclose(display.curves_[method], curves.curves_[method], atol=1e-6)
        np.testing.assert_allclose(display.references_[method], curves.references_[method], atol=1e-6)
        np.testing.assert_allclose(display.bands_[method], curves.bands_[method], atol=1e-6)
    assert told[-1] == (8, 8)


def test_some_of_the_images_with_their_patients(maps, curves, fitted, phantoms):
    """`index` finds images and patients in the X that was explained."""
    display = DeletionCurveDisplay.from_explanations(
        maps["occlusion"][5:7], fitted, phantoms.X[:8], groups=phantoms.groups[:8], **FAST
    )
    np.testing.assert_allclose(display.curves_["occlusion"], curves.curves_["occlusion"][5:7], atol=1e-6)
    assert display.groups_.tolist() == phantoms.groups[5:7].tolist()


def test_maps_of_another_library(maps, fitted, phantoms):
    other = dataclasses.replace(maps["grad_cam"], values=-maps["grad_cam"].values, method="of_captum")
    display = DeletionCurveDisplay.from_explanations(other, fitted, phantoms.X[:8], **FAST)
    assert list(display.curves_) == ["of_captum"]


def test_several_classes(three_classes):
    X, _, clf = three_classes
    explanation = clf.explain(X[:3])
    display = DeletionCurveDisplay.from_explanations(explanation, clf, X[:3], **FAST)
    chosen = [clf.classes_.tolist().index(label) for label in explanation.target]
    np.testing.assert_allclose(
        display.curves_["grad_cam"][:, 0], clf.predict_proba(X[:3])[np.arange(3), chosen], atol=1e-5
    )


def test_undefined_maps_are_counted(maps, fitted, phantoms):
    values = maps["grad_cam"].values.copy()
    values[2] = 0
    display = DeletionCurveDisplay.from_explanations(
        dataclasses.replace(maps["grad_cam"], values=values), fitted, phantoms.X[:8], **FAST
    )
    assert np.isnan(display.curves_["grad_cam"][2]).all()
    assert display.n_undefined_ == {"grad_cam": 1}
    assert "1 undefined" in display.ax_.get_legend().get_texts()[0].get_text()
    assert np.isfinite(display.lines_["grad_cam"].get_ydata()).all()
    nothing = dataclasses.replace(maps["grad_cam"], values=0 * values)
    display = DeletionCurveDisplay.from_explanations(nothing, fitted, phantoms.X[:8], **FAST)
    assert np.isnan(display.lines_["grad_cam"].get_ydata()).all()


def test_an_image_that_has_become_unreadable_is_left_out(fitted, phantoms, tmp_path):
    import copy

    from PIL import Image

    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, phantoms.X, strict=False):
        Image.fromarray(image).save(path)
    explanation = fitted.explain(paths, method="occlusion", target="PNEUMONIA")
    whole = DeletionCurveDisplay.from_explanations(explanation, fitted, paths, **FAST)
    paths[1].write_bytes(b"")
    clf = copy.copy(fitted).set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        rest = DeletionCurveDisplay.from_explanations(explanation, clf, paths, groups=["a", "b", "c"], **FAST)
    np.testing.assert_allclose(rest.curves_["occlusion"], whole.curves_["occlusion"][[0, 2]], atol=1e-6)
    assert rest.groups_.tolist() == ["a", "c"]


def test_the_work_can_be_stopped(maps, fitted, phantoms):
    def stop(done, total):
        raise KeyboardInterrupt

    for make in (
        lambda: DeletionCurveDisplay.from_explanations(maps, fitted, phantoms.X[:8], progress=stop, **FAST),
        lambda: DeletionCurveDisplay.from_estimator(fitted, phantoms.X, methods=METHODS, progress=stop, **FAST),
    ):
        with pytest.raises(KeyboardInterrupt):
            make()


def test_other_images_classes_or_sizes_are_refused(maps, fitted, phantoms, three_classes):
    def draw(explanation=maps["grad_cam"], clf=fitted, X=phantoms.X[:8]):
        DeletionCurveDisplay.from_explanations(explanation, clf, X, **FAST)

    with pytest.raises(DataError, match="image 0 of X is not the one that was explained"):
        draw(X=phantoms.X[8:16])
    with pytest.raises(DataError, match="X has 5 images, but one at position 7 was explained"):
        draw(X=phantoms.X[:5])
    with pytest.raises(DataError, match="'grad_cam' has maps of"):
        draw(dataclasses.replace(maps["grad_cam"], values=np.ones((8, 16, 16), np.float32)))
    with pytest.raises(DataError, match=r"\['PNEUMONIA'\] was explained, but the model knows"):
        draw(clf=three_classes[2], X=np.zeros((8, 24, 24, 3), np.uint8), explanation=dataclasses.replace(
            maps["grad_cam"], values=np.ones((8, 24, 24), np.float32)
        ))  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kind": "deleting"}, "Did you mean 'deletion'"),
        ({"steps": 0}, "'steps'"),
        ({"n_references": 0}, "'n_references'"),
        ({"n_resamples": 0}, "'n_resamples'"),
        ({"groups": [1, 2]}, "one entry for each of the 8 images"),
        ({"methods": []}, "a list of methods"),
        ({"methods": ["gradcam"]}, "Did you mean 'grad_cam'"),
        ({"target": "FRACTURE"}, "'target'"),
        ({"ax": "left"}, "Axes"),
    ],
)
def test_bad_requests_fail_before_any_work(fitted, phantoms, monkeypatch, changes, match):
    monkeypatch.setattr("cxr_estimator._batches.iter_inputs", None)
    with pytest.raises((InvalidParameterError, InvalidTypeError, DataError), match=match):
        DeletionCurveDisplay.from_estimator(fitted, phantoms.X[:8], **{"methods": METHODS, **FAST, **changes})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"curves": {}, "references": {}}, "'curves' .* one at least"),
        ({"curves": [1, 2]}, "'curves' .* a dict"),
        ({"curves": {"a": np.zeros((3, 4))}}, r"'a' .* shape \(3, 5\)"),
        ({"curves": {"a": np.zeros(5)}}, "'a' .* shape"),
        ({"references": {"a": np.zeros((2, 5))}}, r"'a' .* shape \(3, 5\)"),
        ({"references": {"b": np.zeros((3, 5))}}, "'references' .* of the methods"),
        ({"groups": ["a", "b"]}, "one entry for each of the 3 images"),
    ],
)
def test_numbers_that_do_not_fit_together(changes, match):
    given = {"curves": {"a": np.zeros((3, 5))}, "references": {"a": np.zeros((3, 5))}, **changes}
    with pytest.raises((InvalidParameterError, DataError), match=match):
        DeletionCurveDisplay(np.linspace(0, 1, 5), **given)
