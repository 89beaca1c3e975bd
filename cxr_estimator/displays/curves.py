"""`DeletionCurveDisplay`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cxr_estimator._explaining import Explained, ExplanationPlan
from cxr_estimator._figure_style import LINES, MARKERS, MUTED, method_title, short
from cxr_estimator._measuring import of_the_same_images, run_given
from cxr_estimator._progress import bar, told_how_far
from cxr_estimator._validation import check_choice, check_number, check_per_image, check_seed, invalid
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.displays._axes import check_ax, check_inputs, new_figure
from cxr_estimator.errors import DataError
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import N_REFERENCES, Context
from cxr_estimator.metrics.curves import CURVES, curve_with_reference
from cxr_estimator.statistics import mean_band

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CURVES = "DeletionCurveDisplay"  # for messages
_AXIS = {
    "deletion": "share of pixels hidden, the most relevant first",
    "insertion": "share of pixels shown, the most relevant first",
}


class DeletionCurveDisplay:
    """Mean probability of the explained class while pixels are hidden (or shown) in the order of the maps.

    The band is the 95% interval over patients. The dashed line of the same colour is the reference: the same maps,
    shifted and flipped. A map is worth something as far as its deletion curve lies below that, or its insertion curve
    above. Maps that are all zero or not finite have no curve; they are counted in the legend.

    Parameters
    ----------
    fractions : ndarray (steps + 1,)
        Share of the pixels that is hidden (deletion) or shown (insertion), from 0 to 1.
    curves, references : dict of method to ndarray (N, steps + 1)
        Probability of the explained class for each image; NaN where undefined.
    kind : {"deletion", "insertion"}
    groups : ndarray (N,), optional
        Patient of each image; without it each counts as a patient of its own, which makes the bands too narrow.
    n_resamples : int, default=1000
        Bootstrap resamples.
    random_state : int, default=0
        Seeds the bootstrap.

    Attributes
    ----------
    fractions_, curves_, references_ : as given
    groups_ : ndarray (N,) or None
    bands_ : dict of method to (low, high), (steps + 1,) each
    n_undefined_ : dict of method to int
    ax_ : Axes
    figure_ : Figure
    lines_, reference_lines_ : dict of method to Line2D
    """

    def __init__(
        self,
        fractions: np.ndarray,
        curves: Mapping[str, np.ndarray],
        references: Mapping[str, np.ndarray],
        *,
        kind: str = "deletion",
        groups: np.ndarray | None = None,
        n_resamples: int = 1000,
        random_state: Any = 0,
    ) -> None:
        self.fractions_, self.curves_ = np.asarray(fractions), _arrays("curves", curves)
        self.references_ = _arrays("references", references)
        self.kind = check_choice("kind", kind, _AXIS, caller=_CURVES)
        n_images = len(next(iter(self.curves_.values())))
        expected = (n_images, *self.fractions_.shape)
        for name, one in [*self.curves_.items(), *self.references_.items()]:
            if one.shape != expected:
                raise invalid(name, _CURVES, f"an array of shape {expected}", one.shape)
        if self.references_.keys() != self.curves_.keys():
            raise invalid("references", _CURVES, f"of the methods {list(self.curves_)}", list(self.references_))
        self.groups_ = _patients(groups, n_images)
        patients = np.arange(n_images) if self.groups_ is None else self.groups_
        self.bands_, self.n_undefined_ = {}, {}
        for method, curve in self.curves_.items():
            defined = _defined(curve)
            self.n_undefined_[method] = int((~defined).sum())
            self.bands_[method] = (
                mean_band(curve[defined], patients[defined], n_resamples=n_resamples, random_state=random_state)
                if defined.any()
                else tuple(np.full((2, len(fractions)), np.nan))
            )

    @classmethod
    def from_estimator(
        cls,
        clf: CXRClassifier,
        X: Any,
        y: Any = None,
        *,
        methods: Sequence[str],
        kind: str = "deletion",
        steps: int = 20,
        n_references: int = N_REFERENCES,
        groups: Any = None,
        n_resamples: int = 1000,
        random_state: int = 0,
        progress: Callable[[float, int], Any] | None = None,
        ax: Axes | None = None,
        **explain: Any,
    ) -> DeletionCurveDisplay:
        """Explain images by several methods, hide or show their pixels, and draw the curves.

        No map is kept, so that memory stays flat.

        Parameters
        ----------
        clf : CXRClassifier
        X, y : images and, for target "true", labels
        methods : list of str
            Keys of `attribution.METHODS`.
        kind : {"deletion", "insertion"}, default="deletion"
            Hidden pixels show the mean of the image (deletion) or the image blurred (insertion).
        steps : int, default=20
            Points of the curve, besides the first.
        n_references : int, default=5
            Shifted and flipped versions of each map.
        groups : sequence of N patients, optional
        n_resamples, random_state : int
            `random_state` seeds the methods, the references and the bootstrap.
        progress : callable, optional
            Called as `progress(done, total)`, in images; what it raises stops the work.
        ax : Axes, optional
        **explain
            Of `CXRClassifier.explain`.
        """
        check_inputs(clf, ax, cls)
        curves = _CurveRequest(kind, steps, n_references, n_resamples)
        seed, patients = check_seed(random_state, caller=_CURVES), _patients(groups, len(X))
        with bar(len(X), "curves", clf.verbose) as advance:
            tell = told_how_far(advance, progress)
            plan = ExplanationPlan.check(clf, X, y, _names(methods), random_state=seed, progress=tell, **explain)
            parts = list(plan.run(curves.of))
        return cls._of(parts, curves, patients, seed).plot(ax)

    @classmethod
    def from_explanations(
        cls,
        explanations: Explanation | Mapping[str, Explanation],
        clf: CXRClassifier,
        X: Any,
        *,
        kind: str = "deletion",
        steps: int = 20,
        n_references: int = N_REFERENCES,
        groups: Any = None,
        n_resamples: int = 1000,
        random_state: int = 0,
        batch_size: int | str | None = None,
        progress: Callable[[float, int], Any] | None = None,
        ax: Axes | None = None,
    ) -> DeletionCurveDisplay:
        """Draw the curves of maps that exist, such as those of another library, or loaded from disk.

        Parameters
        ----------
        explanations : Explanation, or dict of name to Explanation
            Of the same images and classes. Maps of another library go into one of this package:
            `dataclasses.replace(explanation, values=maps, method="name")`.
        clf : CXRClassifier
            The network that was explained.
        X : images
            As they were given to `explain`.
        groups : sequence of patients, one for each image of X, optional
        batch_size : int or "auto", optional
        kind, steps, n_references, n_resamples, random_state, progress, ax
            See `from_estimator`.

        Raises
        ------
        DataError
            X does not hold the images that were explained, or the maps are of another size than the model's images.
        """
        check_inputs(clf, ax, cls)
        found = of_the_same_images(explanations, caller=_CURVES)
        curves = _CurveRequest(kind, steps, n_references, n_resamples)
        seed, patients = check_seed(random_state, caller=_CURVES), _patients(groups, len(X))
        with bar(len(next(iter(found.values()))), "curves", clf.verbose) as advance:
            tell = told_how_far(advance, progress)
            settings: dict[str, Any] = {"batch_size": batch_size, "random_state": seed, "progress": tell}
            parts = list(run_given(found, clf, X, curves.of, caller=_CURVES, **settings))
        return cls._of(parts, curves, patients, seed).plot(ax)

    @classmethod
    def _of(
        cls, parts: list[_Curves], request: _CurveRequest, patients: np.ndarray | None, seed: int
    ) -> DeletionCurveDisplay:
        """Return the display of all batches."""
        if not parts:
            raise DataError(f"{_CURVES}: none of the images could be read.")
        curves, references = (
            {method: np.concatenate([part[which][method] for part in parts]) for method in parts[0].curves}
            for which in (0, 1)
        )
        return cls(
            np.linspace(0.0, 1.0, request.steps + 1),
            curves,
            references,
            kind=request.kind,
            groups=None if patients is None else patients[np.concatenate([part.position for part in parts])],
            n_resamples=request.n_resamples,
            random_state=seed,
        )

    def plot(self, ax: Axes | None = None, *, references: bool = True) -> DeletionCurveDisplay:
        """Draw, and return self.

        Parameters
        ----------
        ax : Axes, optional
            Default: those of a new figure.
        references : bool, default=True
            Whether the dashed lines are drawn.
        """
        self.ax_ = check_ax(ax) if ax is not None else new_figure(6.4, 4.6).subplots()
        self.figure_ = self.ax_.figure
        self.lines_, self.reference_lines_ = {}, {}
        for number, (method, curve) in enumerate(self.curves_.items()):
            colour, marker = LINES[number % len(LINES)], MARKERS[number // len(LINES) % len(MARKERS)]
            mean, reference = _mean(curve), _mean(self.references_[method])
            label = f"{short(method_title(method), 28)} (area {_area(mean):.3f}, reference {_area(reference):.3f})"
            if self.n_undefined_[method]:
                label += f", {self.n_undefined_[method]} undefined"
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3.5}
            (self.lines_[method],) = self.ax_.plot(self.fractions_, mean, label=label, **style)
            low, high = self.bands_[method]
            self.ax_.fill_between(self.fractions_, low, high, color=colour, alpha=0.15, linewidth=0)
            if references:
                (self.reference_lines_[method],) = self.ax_.plot(
                    self.fractions_, reference, linestyle="--", linewidth=1, **style
                )
        if references:
            self.ax_.plot([], [], linestyle="--", linewidth=1, color=MUTED, label="same maps shifted and flipped")
        self.ax_.set(xlim=(0, 1), xlabel=_AXIS[self.kind], ylabel="mean probability of the explained class")
        n_images = len(next(iter(self.curves_.values())))
        over = "images" if self.groups_ is None else f"{len(np.unique(self.groups_))} patients"
        self.ax_.set_title(f"{self.kind.capitalize()}: {n_images} images, 95% interval over {over}", fontsize=10)
        for text in self.ax_.legend(fontsize=7.5).get_texts():
            text.set_parse_math(False)
        return self


class _Curves(NamedTuple):
    """Of a batch: by method the curves and those of the reference, and the positions of the images in X."""

    curves: dict[str, np.ndarray]
    references: dict[str, np.ndarray]
    position: np.ndarray


class _CurveRequest:
    """Checked options of the curves, and what is done with each batch of explanations."""

    def __init__(self, kind: str, steps: int, n_references: int, n_resamples: int) -> None:
        self.kind = check_choice("kind", kind, CURVES, caller=_CURVES)
        self.steps = check_number("steps", steps, caller=_CURVES, low=1, integer=True)
        self.n_references = check_number("n_references", n_references, caller=_CURVES, low=1, integer=True)
        self.n_resamples = check_number("n_resamples", n_resamples, caller=_CURVES, low=1, integer=True)

    def of(self, batch: Explained) -> _Curves:
        context = Context(batch.problem)
        options = {"n_references": self.n_references, "steps": self.steps}
        pairs = {name: curve_with_reference(self.kind, one, context, **options) for name, one in batch.found.items()}
        curves, references = ({name: pair[which] for name, pair in pairs.items()} for which in (0, 1))
        return _Curves(curves, references, next(iter(batch.found.values())).index)


def _defined(curve: np.ndarray) -> np.ndarray:
    return ~np.isnan(curve).any(axis=1)


def _mean(curve: np.ndarray) -> np.ndarray:
    """Return the mean over the images that have a curve; NaN if there is none."""
    defined = _defined(curve)
    return curve[defined].mean(axis=0) if defined.any() else np.full(curve.shape[1], np.nan)


def _area(mean: np.ndarray) -> float:
    return float((mean[1:] + mean[:-1]).mean() / 2)


def _arrays(name: str, curves: Any) -> dict[str, np.ndarray]:
    if not isinstance(curves, Mapping) or not curves:
        raise invalid(name, _CURVES, "a dict of method to an array (N, steps + 1), one at least", curves)
    return {method: np.atleast_1d(curve) for method, curve in curves.items()}


def _names(methods: Any) -> list[str]:
    if isinstance(methods, str):
        return [methods]
    if not isinstance(methods, list | tuple) or not methods:
        raise invalid("methods", _CURVES, "a list of methods, one at least", methods)
    return list(dict.fromkeys(methods))


def _patients(groups: Any, n_images: int) -> np.ndarray | None:
    return None if groups is None else check_per_image("groups", groups, n_images, caller=_CURVES)
