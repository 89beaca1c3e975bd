"""Figures. They see Explanations and arrays, never models; attributions are normalised here alone, for display."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_estimator._explanation_check import SHOWS
from cxr_estimator._figure_style import DPI, FIRST, INK, MUTED, SECOND, bare, legend, method_title, short, write
from cxr_estimator._heat_table import plot_benchmark
from cxr_estimator._validation import check_number, invalid
from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.explanation import Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = [
    "DPI", "WITHHELD", "colormap", "decision", "draw_methods", "heatmap", "overlay", "plot_benchmark",
    "plot_comparison", "plot_deletion", "plot_explanation", "plot_methods", "rgb",
]  # fmt: skip

# Both stay readable with colour-vision deficiency; "jet" is there for those who must compare with old figures.
CMAP_UNSIGNED = "inferno"
CMAP_SIGNED = "PuOr_r"
_COLUMNS = 6  # of a sheet
WITHHELD = "withheld: not evidence"  # of a map that is no better than chance
_GUIDE = {
    "signed": (
        "One end of the colour bar marks pixels that spoke for the\n"
        "explained class, the other those against it."
    ),
    "evidence": (
        "Bright regions raised the score of the explained class;\n"
        "dark ones had little to do with it."
    ),
    "sensitivity": (
        "Where it is bright, small changes of the pixels move the\n"
        "score most, in either direction: for or against."
    ),
    "features": (
        "Bright regions are what the network responds to most,\n"
        "the same for every class: they speak for none of them."
    ),
}  # fmt: skip


def heatmap(values: np.ndarray, *, signed: bool) -> np.ndarray:
    """Scale an attribution (H, W) for display: signed to [-1, 1] around 0, unsigned to [0, 1]; all-zero stays zero.

    The strongest half percent of the pixels are all shown alike: one single pixel, as gradients have them, would leave
    the rest of a map dark.
    """
    strength = np.abs(values)
    top = float(np.percentile(strength, 99.5, method="higher")) or float(strength.max())
    if top == 0.0 or not np.isfinite(top):
        return np.zeros_like(values, dtype=np.float32)
    return np.clip(values / top, -1.0 if signed else 0.0, 1.0).astype(np.float32)


def overlay(
    explanation: Explanation,
    i: int = 0,
    *,
    cmap: str | None = None,
    opacity: float = 0.5,
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Lay the heat map of image `i` over it, (H, W, 3) uint8.

    The map is the more opaque the stronger it is, up to `opacity` in [0, 1], so that anatomy stays visible where the
    method found little. `image` (H, W) or (H, W, 3), uint8, is the original at any size; without it, what the model
    saw is shown.
    """
    check_number("opacity", opacity, caller="overlay", low=0.0, high=1.0)
    shown = heatmap(explanation.values[i], signed=explanation.signed)
    if image is None:
        image = _image(explanation, i)
    else:
        image = rgb(image)
        shown = explanation.geometry[i].resized(image.shape[:2]).to_original(shown)
    colours = _colormap(explanation, cmap)((shown + 1) / 2 if explanation.signed else shown)[..., :3]
    alpha = (opacity * np.sqrt(np.abs(shown)))[..., None]
    return np.rint(255 * ((1 - alpha) * image / 255.0 + alpha * colours)).astype(np.uint8)


def plot_explanation(
    explanation: Explanation, i: int = 0, *, cmap: str | None = None, withheld: str | None = None
) -> Figure:
    """Return the four-panel figure (150 dpi): radiograph, heat map with colour bar, overlay, prediction details.

    Parameters
    ----------
    explanation : Explanation
        As returned by `explain`, or loaded with its images.
    i : int, default=0
    cmap : str, optional
        Any colour map of matplotlib, such as "jet"; the default is safe for colour-vision deficiency.
    withheld : str, optional
        Why the map is no evidence: it is not drawn then, and the reason stands in its place.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.6, 4.0), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.05))
    titles = ("Radiograph (as the model sees it)", f"Heat map: {method_title(explanation.method)}", "Overlay")
    _three_panels(figure, axes, explanation, i, titles, withheld=withheld, cmap=cmap)
    _details(axes[3], explanation, i)
    return figure


def plot_comparison(
    a: Explanation,
    b: Explanation,
    i: int = 0,
    *,
    names: tuple[str, str] = ("first", "second"),
    withheld: tuple[str | None, str | None] = (None, None),
    cmap: str | None = None,
) -> Figure:
    """Return six panels (150 dpi): radiograph, heat map and overlay of image `i`, a row for each of two explanations.

    Parameters
    ----------
    a, b : Explanation
        Of the same images, with them; see `comparison.compare_explanations`.
    i : int, default=0
    names : (str, str), default=("first", "second")
        What the rows are called.
    withheld : (str or None, str or None)
        Why the map of a row is no evidence: it is not drawn then, and the reason stands in its place.
    cmap : str, optional
        As for `plot_explanation`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.2, 7.4), dpi=DPI, layout="constrained")
    for row, name, explanation, reason in zip(figure.subplots(2, 3), names, (a, b), withheld, strict=True):
        title = f"{short(name, 36)}\n{decision(explanation, i)}"
        titles = (title, f"Heat map: {method_title(explanation.method)}", "Overlay")
        _three_panels(figure, row, explanation, i, titles, withheld=reason, cmap=cmap)
    explained = " and ".join(dict.fromkeys(short(one.target[i], 24) for one in (a, b)))
    said = f"Explained: {explained}. {reading((a, b), cmap)}"
    figure.suptitle(said, fontsize=8.5, color=MUTED, parse_math=False)
    return figure


def reading(explanations: Iterable[Explanation], cmap: str | None = None) -> str:
    """Return two lines for those who read maps that are drawn with these colours."""
    signed = cmap is None and any(one.signed for one in explanations)
    colours = "Signed maps: violet against, orange for. " if signed else ""
    return f"Each map on its own scale.\n{colours}{DISCLAIMER}"


def plot_methods(explanations: Mapping[str, Explanation], i: int = 0, *, cmap: str | None = None) -> Figure:
    """Return a sheet (150 dpi) of one image: the radiograph, then the overlay of each method under its name.

    Parameters
    ----------
    explanations : mapping of str to Explanation
        As `explain` returns it for a list of methods.
    i : int, default=0
    cmap : str, optional
        As for `plot_explanation`.
    """
    from matplotlib.figure import Figure

    first = next(iter(explanations.values()))
    columns = min(_COLUMNS, len(explanations) + 1)
    rows = -(-(len(explanations) + 1) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.45 * rows + 0.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    draw_methods(axes, explanations, i, cmap=cmap)
    figure.suptitle(
        f"{decision(first, i)}; explained: {short(first.target[i], 24)}. {reading(explanations.values(), cmap)}",
        fontsize=8.5,
        color=MUTED,
        parse_math=False,
    )
    return figure


def plot_deletion(fractions: np.ndarray, curve: np.ndarray, references: np.ndarray, *, title: str) -> Figure:
    """Return the deletion curve of one map against those of its references (150 dpi).

    Parameters
    ----------
    fractions : ndarray (steps + 1,)
        Share of the pixels that are hidden.
    curve : ndarray (steps + 1,)
        Probability of the explained class, hidden in the order of the map.
    references : ndarray (n_references, steps + 1)
        The same for moved copies of the map.
    title : str
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 4.2), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    named = f"its {len(references)} moved copies"
    ax.plot(100 * fractions, 100 * references.T, color=FIRST, linewidth=0.9, alpha=0.55, linestyle="--")
    ax.lines[0].set_label(named)
    ax.plot(100 * fractions, 100 * curve, color=SECOND, linewidth=2.2, marker="o", markersize=4, label="this map")
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)
    ax.set_xlabel("pixels hidden, the strongest first (%)", fontsize=9)
    ax.set_ylabel("probability before calibration (%)", fontsize=9)
    legend(ax, "best")
    bare(ax, title)
    return figure


def decision(explanation: Explanation, i: int) -> str:
    """Return what the model decided of image `i`, with the probability of that class."""
    said = explanation.prediction
    share = (
        float(said.proba[i, said.classes.index(said.label[i])])
        if said.label[i] in said.classes
        else 1.0 - float(said.proba[i, said.classes.index(said.pos_label)])  # "not" one of several labels
    )
    return f"decision: {short(said.label[i], 24)} ({share:.1%})"


def draw_methods(
    axes: Sequence[Axes] | np.ndarray, explanations: Mapping[str, Explanation], i: int, *, cmap: str | None = None
) -> None:
    """Draw the radiograph of image `i` on the first of the axes, and the overlay of each method on the next ones."""
    axes[0].imshow(_image(next(iter(explanations.values())), i), cmap="gray", vmin=0, vmax=255)
    axes[0].set_title("radiograph", fontsize=9, color=INK)
    for ax, (name, explanation) in zip(axes[1:], explanations.items(), strict=False):
        ax.imshow(overlay(explanation, i, cmap=cmap, opacity=0.75))
        kind = _kind(explanation)
        title = method_title(name) + ("" if kind == SHOWS[0] else f" ({kind})")
        ax.set_title(title, fontsize=9, color=INK, parse_math=False)


def _three_panels(
    figure: Figure,
    axes: Sequence[Axes] | np.ndarray,
    explanation: Explanation,
    i: int,
    titles: tuple[str, str, str],
    *,
    withheld: str | None = None,
    cmap: str | None = None,
) -> None:
    """Draw radiograph, heat map with colour bar, and overlay; or why the map is withheld in place of the last two."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    image, colours = _image(explanation, i), _colormap(explanation, cmap)
    shown = heatmap(explanation.values[i], signed=explanation.signed)
    low = -1.0 if explanation.signed else 0.0
    panels: tuple[tuple[np.ndarray, dict[str, Any]], ...] = (
        (image, {"cmap": "gray", "vmin": 0, "vmax": 255}),
        (shown, {"cmap": colours, "vmin": low, "vmax": 1.0}),
        (overlay(explanation, i, cmap=cmap), {}),
    )
    for number, (ax, title, (content, options)) in enumerate(zip(axes, titles, panels, strict=False)):
        ax.set_title(title, fontsize=10, color=INK, parse_math=False)
        ax.set_axis_off()
        if number and withheld is not None:
            _withheld_panel(ax, withheld, image.shape[:2])
        else:
            ax.imshow(content, **options)
    if withheld is not None:
        return
    scale = figure.colorbar(ScalarMappable(Normalize(low, 1.0), colours), ax=axes[1], fraction=0.046, pad=0.02)
    scale.set_ticks([low, 0.0, 1.0] if explanation.signed else [0.0, 1.0])
    target = short(explanation.target[i], 16)
    labels = [f"against\n{target}", "0", f"for\n{target}"] if explanation.signed else ["none", "strongest"]
    scale.set_ticklabels(labels, parse_math=False)
    scale.ax.tick_params(labelsize=8, length=0)


def _withheld_panel(ax: Axes, reason: str, shape: tuple[int, ...]) -> None:
    """Say in place of a picture of `shape` (h, w) that the map is withheld, and why."""
    ax.imshow(np.full((*shape, 3), 238, dtype=np.uint8))
    height, width = shape
    write(ax, width / 2, height * 0.28, WITHHELD, ha="center", fontsize=10, fontweight="bold")
    text = textwrap.fill(reason, 38, max_lines=8, placeholder=" …")
    write(ax, width / 2, height * 0.36, text, ha="center", va="top", fontsize=8.5, linespacing=1.4)


def _details(ax: Axes, explanation: Explanation, i: int) -> None:
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    said = explanation.prediction
    write(ax, 0, 0.985, f"Decision: {short(said.label[i], 24)}", fontsize=13, fontweight="bold", va="top")
    bottom = _probabilities(ax, explanation, i, top=0.86)
    lines = []
    if said.threshold is not None:
        lines.append(f"positive: {short(said.pos_label, 24)}, from {said.threshold:.1%} on (black line)")
    if said.true_label is not None:
        verdict = "right" if said.true_label[i] == said.label[i] else "wrong"
        lines.append(f"true label: {short(said.true_label[i], 24)} (the decision is {verdict})")
    lines.append(f"explained: {_explained(explanation, i)}")
    where = f", layer {short(explanation.layer, 32)}" if explanation.layer else ""
    lines.append(f"method: {method_title(explanation.method)}{where}")
    write(ax, 0, bottom, "\n".join(lines), fontsize=8.5, va="top", linespacing=1.5)
    guide = bottom - 0.045 * len(lines) - 0.035  # below those lines
    write(ax, 0, guide, "How to read this", fontsize=9.5, fontweight="bold", va="top")
    write(ax, 0, guide - 0.055, _guide(explanation), fontsize=8, va="top", color=MUTED, linespacing=1.4)


def _probabilities(ax: Axes, explanation: Explanation, i: int, *, top: float) -> float:
    """Draw a bar per class (the five likeliest) with the threshold; return the height below them."""
    said = explanation.prediction
    order = np.arange(len(said.classes))
    if len(order) > 5:
        order = np.argsort(-said.proba[i])[:5]
    step = 0.085 if len(order) <= 3 else 0.065
    for row, k in enumerate(order):
        y = top - row * step
        share = float(said.proba[i, k])
        chosen = said.classes[k] == said.label[i]
        ax.barh(y, 1.0 * 0.45, left=0.38, height=step * 0.55, color="#ececec")
        ax.barh(y, share * 0.45, left=0.38, height=step * 0.55, color=SECOND if chosen else FIRST)
        write(ax, 0.36, y, short(said.classes[k], 16), ha="right", va="center", fontsize=8.5)
        write(ax, 0.85, y, f"{share:.1%}", va="center", fontsize=8.5)
        if said.threshold is not None and said.classes[k] == said.pos_label:
            ax.plot([0.38 + 0.45 * said.threshold] * 2, [y - step * 0.4, y + step * 0.4], color=INK, linewidth=1.4)
    return top - len(order) * step


def _explained(explanation: Explanation, i: int) -> str:
    score, target = f"{float(explanation.score[i]):+.2f}", short(explanation.target[i], 24)
    if explanation.options.get("target") == "margin":
        return f"margin of {target} (score {score})"
    kind = "log-odds" if len(explanation.prediction.classes) == 2 else "logit"
    return f"{kind} of {target} (score {score})"


def _kind(explanation: Explanation) -> str:
    return "signed" if explanation.signed else explanation.shows


def _guide(explanation: Explanation) -> str:
    colours = _GUIDE[_kind(explanation)]
    return (
        f"{colours}\nThe map is scaled to its own strongest pixels: compare\n"
        "places within it, not brightness between images. It\n"
        "shows what the model used, not where disease is.\n"
        f"{DISCLAIMER}"
    )


def _image(explanation: Explanation, i: int) -> np.ndarray:
    """Return image `i` as (H, W, 3) uint8."""
    if explanation.images is None:
        raise invalid("explanation", "figures", "one with images (save(include_image=True) keeps them)", "no images")
    if not -len(explanation) <= i < len(explanation):
        raise invalid("i", "figures", f"an index below {len(explanation)}", i)
    return rgb(explanation.images[i])


def rgb(image: np.ndarray) -> np.ndarray:
    """Return a picture (H, W) or (H, W, 3) as (H, W, 3)."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _colormap(explanation: Explanation, cmap: str | None) -> Colormap:
    return colormap(cmap or (CMAP_SIGNED if explanation.signed else CMAP_UNSIGNED))


def colormap(name: str) -> Colormap:
    """Return the colour map of matplotlib that is called `name`."""
    import matplotlib as mpl

    if name not in mpl.colormaps:
        raise invalid("cmap", "figures", "a colour map of matplotlib, such as 'inferno', 'viridis' or 'jet'", name)
    return mpl.colormaps[name]
