"""The table of a benchmark as a picture: content, and that all of it can be read. Beauty is looked at."""

from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from cxr_estimator.figures import DPI, plot_benchmark

METRICS = {"deletion_auc": True, "sparsity_90": False, "relevance_mass": True}


def table(methods=("grad_cam", "occlusion", "lime"), metrics=METRICS, scale=1.0) -> pd.DataFrame:
    """Return what `benchmark` returns: the first method is best, values are 0.1, 0.2, ... times `scale`."""
    rows = []
    for (number, method), (metric, greater) in itertools.product(enumerate(methods), metrics.items()):
        value = scale * (number + 1) / 10
        rows.append(
            {
                "method": method, "metric": metric, "bucket": "all", "value": value, "low": value - 0.05 * scale,
                "high": value + 0.05 * scale, "n_images": 40, "n_undefined": 0, "n_patients": 20,
                "greater_is_better": greater, "is_gain": False, "seconds_per_image": 0.1, "rank": number + 1.0,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def written(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def all_texts(figure) -> list:
    ax = figure.axes[0]
    return [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels(), figure._supxlabel]


def assert_readable(figure):
    """No text is cut off, and none lies over another."""
    FigureCanvasAgg(figure).draw()  # which lays it out
    width, height = figure.canvas.get_width_height()
    boxes = [(text.get_text(), text.get_window_extent()) for text in all_texts(figure)]
    for text, box in boxes:
        assert 0 <= box.x0 <= box.x1 <= width, text
        assert 0 <= box.y0 <= box.y1 <= height, text
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        apart = first.x1 <= second.x0 or second.x1 <= first.x0 or first.y1 <= second.y0 or second.y1 <= first.y0
        assert apart, (one, other)


def test_cells_hold_values_and_intervals():
    figure = plot_benchmark(table())
    assert figure.dpi == DPI
    said = written(figure)
    assert said[:2] == ["0.100", "[0.050, 0.150]"]
    assert len(said) == 2 * 9
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "deletion auc ↑", "sparsity 90 ↓", "relevance mass ↑",
    ]  # fmt: skip
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Grad-CAM", "Occlusion", "LIME"]
    assert figure._supxlabel.get_text().startswith("40 images of 20 patients")


def test_of_few_patients_there_is_no_interval():
    assert not any("nan" in text for text in written(plot_benchmark(table().assign(low=np.nan, high=np.nan))))


def test_the_best_is_the_darkest():
    """Cells lie column by column; ranks 1, 2, 3."""
    figure = plot_benchmark(table())
    brightness = [sum(patch.get_facecolor()[:3]) for patch in figure.axes[0].patches[:3]]
    assert brightness == sorted(brightness)
    assert figure.axes[0].patches[0].get_facecolor() == mpl.colormaps["Blues"](0.8)


def test_undefined_values_are_hatched():
    values = table()
    values.loc[0, ["value", "low", "high", "rank"]] = np.nan
    values.loc[1, "n_undefined"] = 3
    figure = plot_benchmark(values)
    assert [bool(patch.get_hatch()) for patch in figure.axes[0].patches] == [True, *[False] * 8]
    assert written(figure)[0] == "n/a"
    assert "[0.050, 0.150]\n3 undefined" in written(figure)
    values[["value", "low", "high", "rank"]] = np.nan
    assert written(plot_benchmark(values)) == ["n/a"] * 9


@pytest.mark.parametrize(("scale", "first"), [(1e-6, "1.00e-07"), (10, "1.00"), (1000, "100"), (0.0, "0.000")])
def test_numbers_have_three_digits_of_the_largest(scale, first):
    assert written(plot_benchmark(table(scale=scale)))[0] == first


def test_no_minus_zero():
    values = table()
    values.loc[0, "value"] = -1e-9
    assert written(plot_benchmark(values))[0] == "0.000"


@pytest.mark.parametrize(
    "values",
    [
        table(),
        table(methods=["grad_cam"], metrics={"gini": True}),
        table(scale=-1e-6),
        table(
            methods=[f"a_method_whose_name_goes_on_and_on_{number}" for number in range(7)],
            metrics={f"{number} $percent and a label that goes on and on and on": True for number in range(6)},
        ),
        table(metrics={"averyveryverylongnamewithoutanyspace": True, "probability_degradation": True, "": False}),
    ],
    ids=["usual", "one cell", "tiny and negative", "many and long", "odd names"],
)
def test_no_text_is_cut_off_or_overlaps(values):
    values.loc[0, "n_undefined"] = 12345
    assert_readable(plot_benchmark(values))


def test_a_real_benchmark(fitted, phantoms):
    from cxr_estimator.benchmark import benchmark

    found = benchmark(
        fitted, phantoms.X[:6], phantoms.y[:6], methods=["grad_cam", "saliency"], metrics=["gini", "sparsity_90"],
        n_resamples=20,
    )  # fmt: skip
    for bucket in found["bucket"].unique():
        figure = plot_benchmark(found, bucket=bucket)
        assert_readable(figure)
        assert figure._supxlabel.get_text().startswith("6 images" if bucket == "all" else f"{bucket}: ")


def test_bad_tables():
    with pytest.raises(InvalidTypeError, match="as benchmark returns it"):
        plot_benchmark([1, 2])
    with pytest.raises(InvalidTypeError, match="as benchmark returns it"):
        plot_benchmark(pd.DataFrame({"method": ["grad_cam"]}))
    with pytest.raises(InvalidParameterError, match="one of 'all'"):
        plot_benchmark(table(), bucket="TP")
    with pytest.raises(InvalidParameterError, match="of one benchmark"):
        plot_benchmark(pd.concat([table(), table()]))
