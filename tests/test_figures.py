"""Figures: content, not beauty; that is looked at."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from cxr_estimator.figures import DPI, heatmap, overlay, plot_comparison, plot_explanation, plot_methods


@pytest.fixture(scope="module")
def explanation(fitted, phantoms):
    return fitted.explain(phantoms.X[:3], phantoms.y[:3], target="PNEUMONIA")


def texts(figure) -> str:
    return "\n".join(text.get_text() for ax in figure.axes for text in [*ax.texts, ax.title])


def test_heatmap_by_hand():
    np.testing.assert_allclose(heatmap(np.array([[0.0, 2.0, 1.0]]), signed=False), [[0, 1, 0.5]])
    np.testing.assert_allclose(heatmap(np.array([[0.0, 2.0, -4.0]]), signed=True), [[0, 0.5, -1]])
    assert (heatmap(np.zeros((2, 2)), signed=True) == 0).all()


def test_one_strong_pixel_does_not_darken_the_rest():
    values = np.full((20, 20), 1.0)
    values[3, 3] = 1000.0  # 0.25% of the pixels
    assert (heatmap(values, signed=False) == 1.0).all()
    assert heatmap(-values, signed=True).min() == -1.0


def test_overlay_by_hand(explanation):
    """Nothing found: the image itself. Strongest at opacity 1: the colour itself."""
    values = np.zeros((3, 32, 32), dtype=np.float32)
    values[0, 4, 5] = 7.0
    shown = overlay(dataclasses.replace(explanation, values=values), 0, opacity=1.0, cmap="viridis")
    colour = np.rint(255 * np.array(mpl.colormaps["viridis"](1.0)[:3]))
    assert shown.shape == (32, 32, 3)
    assert shown.dtype == np.uint8
    assert shown[4, 5].tolist() == colour.tolist()
    elsewhere = np.ones((32, 32), dtype=bool)
    elsewhere[4, 5] = False
    assert (shown[elsewhere] == explanation.images[0][elsewhere][:, None]).all()


def test_four_panels_at_150_dpi(explanation, fitted):
    figure = explanation.plot(1)
    assert figure.dpi == DPI == 150
    assert len(figure.axes) == 5  # four panels and the colour bar
    said = texts(figure)
    proba = explanation.prediction.proba[1]
    for expected in (
        f"Decision: {explanation.prediction.label[1]}",
        f"{proba[0]:.1%}",
        f"{proba[1]:.1%}",
        "positive: PNEUMONIA, from 50.0% on (black line)",
        f"true label: {explanation.prediction.true_label[1]}",
        "log-odds of PNEUMONIA",
        "Grad-CAM, layer features",
        "How to read this",
        "not a medical device",
    ):
        assert expected in said
    drawn = figure.axes[0].images[0].get_array()
    assert (drawn[..., 0] == explanation.images[1]).all()


def test_colour_maps(explanation):
    safe = explanation.plot(0).axes[1].images[0].get_cmap().name
    assert safe == "inferno"
    assert explanation.plot(0, cmap="jet").axes[1].images[0].get_cmap().name == "jet"
    signed = dataclasses.replace(explanation, signed=True)
    shown = plot_explanation(signed, 0).axes[1].images[0]
    assert shown.get_cmap().name == "PuOr_r"
    assert shown.get_clim() == (-1, 1)
    with pytest.raises(InvalidParameterError, match="'cmap' parameter"):
        explanation.plot(0, cmap="rainbow9")


def test_without_labels_or_threshold(three_classes):
    X, _, clf = three_classes
    said = texts(clf.explain(X[:1]).plot())
    assert "true label" not in said
    assert "positive:" not in said
    assert "logit of" in said


def test_many_classes_show_the_five_likeliest(explanation):
    proba = np.tile(np.linspace(0.01, 0.15, 12), (3, 1))
    many = dataclasses.replace(
        explanation.prediction,
        classes=tuple(f"a class with a long name {k}" for k in range(12)),
        proba=proba,
        label=np.array(["a class with a long name 11"] * 3),
        threshold=None,
        pos_label=None,
    )
    said = texts(dataclasses.replace(explanation, prediction=many).plot())
    assert "15.0%" in said
    assert "1.0%" not in said
    assert "a class with a …" in said


def test_bad_requests(explanation):
    with pytest.raises(InvalidParameterError, match="one with images"):
        dataclasses.replace(explanation, images=None).plot()
    with pytest.raises(InvalidParameterError, match="an index below 3"):
        explanation.plot(3)
    with pytest.raises(InvalidParameterError, match="'opacity'"):
        explanation.overlay(0, opacity=2)
    with pytest.raises(InvalidTypeError, match="'opacity'"):
        explanation.overlay(0, opacity="half")


def test_figure_is_written(explanation, tmp_path):
    explanation.plot(0).savefig(tmp_path / "figure.png")
    from PIL import Image

    with Image.open(tmp_path / "figure.png") as image:
        assert image.width == pytest.approx(13.6 * 150, abs=2)


def test_class_names_are_no_formulas_and_no_layout(explanation, tmp_path):
    """A dollar sign is drawn as it is, and a long name squeezes no panel."""
    names = (r"$\frac$ & <b>", "a name that goes on and on " * 4)
    said = dataclasses.replace(
        explanation.prediction, classes=names, label=np.array([names[1]] * 3), pos_label=names[0]
    )
    figure = dataclasses.replace(explanation, prediction=said, target=np.array([names[0]] * 3)).plot(0)
    usual = explanation.plot(0)
    figure.savefig(tmp_path / "figure.png")
    usual.savefig(tmp_path / "usual.png")
    assert r"$\frac$" in texts(figure)
    assert figure.axes[0].get_position().width == pytest.approx(usual.axes[0].get_position().width, rel=0.05)


def test_text_does_not_overlap_with_five_classes(explanation, tmp_path):
    said = dataclasses.replace(explanation.prediction, classes=tuple("abcde"), proba=np.full((3, 5), 0.2))
    figure = dataclasses.replace(explanation, prediction=said).plot(0)
    figure.savefig(tmp_path / "figure.png")
    boxes = [text.get_window_extent() for text in figure.axes[3].texts if text.get_position()[0] == 0]
    ordered = sorted(boxes, key=lambda box: -box.y1)
    assert all(above.y0 >= below.y1 - 2 for above, below in pairwise(ordered))
    assert ordered[-1].y0 >= 0


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("grad_cam", "Bright regions raised the score of the explained class"),
        ("hi_res_cam", "pixels that spoke for"),
        ("saliency", "in either direction"),
        ("eigen_cam", "for every class"),
    ],
)
def test_the_guide_says_what_the_map_shows(fitted, phantoms, method, expected):
    said = texts(fitted.explain(phantoms.X[:1], method=method).plot(0))
    assert expected in said
    assert ("raised the score" in said) == (method == "grad_cam")


@pytest.mark.parametrize("method", ["grad_cam", "hi_res_cam", "saliency", "eigen_cam"])
def test_no_text_is_cut_off(fitted, phantoms, method):
    figure = fitted.explain(phantoms.X[:1], method=method).plot(0)
    FigureCanvasAgg(figure).draw()  # which lays it out; the canvas of a bare Figure does nothing
    width, height = figure.canvas.get_width_height()
    for ax in figure.axes:
        for text in ax.texts:
            box = text.get_window_extent()
            assert box.x0 >= 0, text.get_text()
            assert box.x1 <= width, text.get_text()
            assert 0 <= box.y0 <= box.y1 <= height, text.get_text()


def test_a_sheet_of_several_methods(fitted, phantoms):
    found = fitted.explain(phantoms.X[:2], method=["grad_cam", "hi_res_cam", "grad_cam_plus_plus"])
    figure = plot_methods(found, 1)
    assert figure.dpi == DPI
    assert [ax.get_title() for ax in figure.axes] == ["radiograph", "Grad-CAM", "HiResCAM (signed)", "Grad-CAM++"]
    shown = [ax.get_images()[0].get_array() for ax in figure.axes]
    np.testing.assert_array_equal(shown[0], found["grad_cam"].images[1][..., None].repeat(3, axis=2))
    np.testing.assert_array_equal(shown[2], overlay(found["hi_res_cam"], 1, opacity=0.75))
    assert f"explained: {found['grad_cam'].target[1]}" in figure.get_suptitle()
    other = dataclasses.replace(
        found["grad_cam"].prediction,
        proba=np.array([[0.94, 0.06]] * 2),
        label=np.array(["PNEUMONIA"] * 2),
        threshold=0.05,
    )
    decided = plot_methods({"grad_cam": dataclasses.replace(found["grad_cam"], prediction=other)}, 0)
    assert "decision: PNEUMONIA (6.0%)" in decided.get_suptitle()  # not the larger one, of the other class
    kinds = plot_methods(fitted.explain(phantoms.X[:1], method=["guided_grad_cam", "eigen_cam"]), 0)
    assert [ax.get_title() for ax in kinds.axes[1:]] == ["Guided Grad-CAM (sensitivity)", "Eigen-CAM (features)"]
    many = plot_methods({f"method_{number}": found["grad_cam"] for number in range(7)}, 0)
    assert len(many.axes) == 12  # two rows of six


def test_six_panels_of_two_explanations(explanation, fitted, phantoms):
    other = fitted.explain(phantoms.X[:3], method="hi_res_cam", target="PNEUMONIA")
    figure = plot_comparison(explanation, other, 1, names=("this one", "$that$ one"))
    assert figure.dpi == DPI
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles[0].startswith("this one\ndecision: ")
    assert titles[1:3] == ["Heat map: Grad-CAM", "Overlay"]
    assert titles[4:] == ["Heat map: HiResCAM", "Overlay"]
    assert len(figure.axes) == 8  # six panels and two colour bars
    drawn = [ax.images[0].get_array() for ax in figure.axes[:6]]
    np.testing.assert_array_equal(drawn[0], explanation.images[1][..., None].repeat(3, axis=2))
    np.testing.assert_array_equal(drawn[1], heatmap(explanation.values[1], signed=False))
    np.testing.assert_array_equal(drawn[5], overlay(other, 1))
    assert "Explained: PNEUMONIA." in figure.get_suptitle()


def test_a_withheld_map_is_nowhere_in_the_comparison(explanation):
    figure = plot_comparison(explanation, explanation, 0, withheld=(None, "No better than its moved copies."))
    FigureCanvasAgg(figure).draw()
    assert texts(figure).count("withheld: not evidence") == 2
    assert "No better than its moved copies." in texts(figure).replace("\n", " ")
    assert len(figure.axes) == 7  # one colour bar
    for ax in figure.axes[4:6]:
        assert np.ptp(ax.images[0].get_array()) == 0
