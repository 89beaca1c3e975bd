"""`ExplanationDisplay`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cxr_estimator._figure_style import MUTED, caption, short
from cxr_estimator._measuring import of_the_same_images
from cxr_estimator._validation import check_number, invalid
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.displays._axes import check_inputs, grid
from cxr_estimator.explanation import Explanation
from cxr_estimator.figures import colormap, decision, draw_methods, reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_IMAGES = 8  # that are drawn unless others are asked for


class ExplanationDisplay:
    """Radiographs with the heat maps of one or several methods: a row for each image.

    Parameters
    ----------
    explanations : dict of name to Explanation
        Of the same images. `from_estimator` and `from_explanations` make it.

    Attributes
    ----------
    explanations : dict of name to Explanation
    axes_ : ndarray (rows, 1 + methods) of Axes
    ax_ : Axes or None
        Those that were given to `plot`.
    figure_ : Figure

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, ExplanationDisplay, make_phantoms
    >>> data = make_phantoms(8, 32, random_state=0)
    >>> clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, validation_fraction=0, random_state=0)
    >>> clf = clf.fit(data.X, data.y, groups=data.groups)
    >>> display = ExplanationDisplay.from_estimator(clf, data.X[:2], method=["grad_cam", "saliency"])
    >>> display.axes_.shape
    (2, 3)
    """

    def __init__(self, explanations: Explanation | Mapping[str, Explanation]) -> None:
        self.explanations = of_the_same_images(explanations, caller=type(self).__name__)

    @classmethod
    def from_estimator(
        cls,
        clf: CXRClassifier,
        X: Any,
        y: Any = None,
        *,
        method: str | Sequence[str] = "grad_cam",
        ax: Axes | None = None,
        cmap: str | None = None,
        **explain: Any,
    ) -> ExplanationDisplay:
        """Explain images and draw them.

        Parameters
        ----------
        clf : CXRClassifier
        X, y : images and, if known, labels
        method : str or list of str, default="grad_cam"
        ax, cmap
            See `plot`.
        **explain
            Of `CXRClassifier.explain`.
        """
        check_inputs(clf, ax, cls, divided=True)
        if cmap is not None:
            colormap(cmap)
        names = [method] if isinstance(method, str) else method
        return cls(clf.explain(X, y, method=names, **explain)).plot(ax, cmap=cmap)

    @classmethod
    def from_explanations(
        cls, explanations: Explanation | Mapping[str, Explanation], *, ax: Axes | None = None, cmap: str | None = None
    ) -> ExplanationDisplay:
        """Draw explanations that exist: one, or a dict of them by method, of the same images; see `plot`."""
        return cls(explanations).plot(ax, cmap=cmap)

    def plot(
        self, ax: Axes | None = None, *, images: Sequence[int] | None = None, cmap: str | None = None
    ) -> ExplanationDisplay:
        """Draw, and return self.

        Parameters
        ----------
        ax : Axes, optional
            Whose place the panels take; by default a new figure.
        images : sequence of int, optional
            Which of the explained images; default: the first eight.
        cmap : str, optional
            Any colour map of matplotlib; the default is safe for colour-vision deficiency.
        """
        first = next(iter(self.explanations.values()))
        chosen = range(min(len(first), _MOST_IMAGES)) if images is None else list(images)
        for i in chosen:
            check_number("images", i, caller="plot", low=0, high=len(first) - 1, integer=True)
        if not len(chosen):
            raise invalid("images", "plot", "one at least", images)
        columns = 1 + len(self.explanations)
        self.ax_ = ax
        self.axes_ = grid(ax, len(chosen), columns)
        self.figure_ = self.axes_[0, 0].figure
        for row, i in zip(self.axes_, chosen, strict=True):
            draw_methods(row, self.explanations, i, cmap=cmap)
            text = f"{decision(first, i)}\nexplained: {short(first.target[i], 24)}"
            row[0].set_title(text, fontsize=8, color=MUTED, parse_math=False)
        if ax is None:
            left_out = [f"The first {len(chosen)} of {len(first)} images."] if len(chosen) < len(first) else []
            read = reading(self.explanations.values(), cmap).replace("\n", " ")
            caption(self.figure_, " ".join([*(left_out if images is None else []), read]))
        return self
