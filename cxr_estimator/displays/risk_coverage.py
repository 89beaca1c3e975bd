"""`RiskCoverageDisplay`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from cxr_estimator._doubting import Doubting
from cxr_estimator._figure_style import LINES, MARKERS, MUTED
from cxr_estimator._operating import known_images
from cxr_estimator._validation import check_number, check_per_image, check_seed, invalid, wrong_type
from cxr_estimator.abstention import judged_doubts
from cxr_estimator.displays._axes import check_ax, new_figure
from cxr_estimator.doubts import check_doubts, default_doubts
from cxr_estimator.selective import best_possible, risk_coverage
from cxr_estimator.statistics import Estimate, patient_bootstrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAME = "RiskCoverageDisplay"
_SHOWN = 0.05  # the share answered from which on the curves fit into the axes; before it they are noise


class RiskCoverageDisplay:
    """Share of wrong answers among those given, against the share of images that is answered, the surest first.

    Each line is a kind of doubt; the area under it (AURC, lower is better) stands in the legend, with its 95% interval
    over patients. The dashed line is a doubt that knows every error, the dotted one says nothing.

    Parameters
    ----------
    wrong : sequence of N bool
        Whether the answer to each image is wrong.
    doubts : dict of str to sequence of N numbers
        By name; higher is less sure.
    groups : sequence of N patients, optional
        Without them each image counts as a patient of its own, which makes the intervals too narrow.
    n_resamples : int, default=1000
    random_state : int, default=0
        Seeds the bootstrap.

    Attributes
    ----------
    wrong_ : ndarray (N,), bool
    curves_ : dict of str to RiskCoverage
    areas_ : dict of str to Estimate
    best_ : RiskCoverage
    ax_ : Axes
    figure_ : Figure
    lines_ : dict of str to Line2D
    """

    def __init__(
        self,
        wrong: Any,
        doubts: Mapping[str, Any],
        *,
        groups: Any = None,
        n_resamples: int = 1000,
        random_state: Any = 0,
    ) -> None:
        if not isinstance(doubts, Mapping) or not doubts:
            raise invalid("doubts", _NAME, "a dict of name to N numbers, one at least", doubts)
        given = np.asarray(wrong)
        if given.dtype.kind not in "bui" or not np.isin(given, (0, 1)).all():
            raise invalid("wrong", _NAME, "N times True or False", wrong)
        self.wrong_ = given.astype(bool)
        self.curves_ = {name: risk_coverage(self.wrong_, doubt) for name, doubt in doubts.items()}
        self.best_ = best_possible(self.wrong_)
        check_number("n_resamples", n_resamples, caller=_NAME, low=1, integer=True)
        n_images = len(self.wrong_)
        patients = np.arange(n_images) if groups is None else check_per_image("groups", groups, n_images, caller=_NAME)
        self._over = "images" if groups is None else f"{len(np.unique(patients))} patients"
        seed = check_seed(random_state, caller=_NAME)
        self.areas_ = {
            name: _area(self.wrong_, np.asarray(doubt), patients, n_resamples, seed) for name, doubt in doubts.items()
        }

    @classmethod
    def from_estimator(
        cls,
        clf: Any,
        X: Any,
        y: Any,
        *,
        doubt: str | Sequence[str] | None = None,
        groups: Any = None,
        operating_point: str | None = None,
        n_resamples: int = 1000,
        random_state: int = 0,
        ax: Axes | None = None,
    ) -> RiskCoverageDisplay:
        """Answer labelled images, doubt the answers, and draw.

        Parameters
        ----------
        clf : CXRClassifier or CXREnsemble
        X, y : images and labels
            Not those the network was trained on.
        doubt : str or sequence of str, optional
            Keys of `doubts.DOUBTS`. Default: "probability", "test_time_augmentation" ("ensemble" for one) and
            "explanation".
        groups : sequence of N patients, optional
        operating_point : str, optional
            That decides between two classes; default: the one that was set last.
        n_resamples : int, default=1000
        random_state : int, default=0
            Seeds the random doubts and the bootstrap.
        ax : Axes, optional
        """
        if not isinstance(clf, Doubting):
            raise wrong_type("clf", _NAME, "a CXRClassifier or a CXREnsemble", clf)
        if ax is not None:
            check_ax(ax)
        check_is_fitted(clf, "classes_")
        names = default_doubts(clf) if doubt is None else check_doubts(doubt, caller=_NAME, clf=clf)
        seed = check_seed(random_state, caller=_NAME)
        wrong, doubts, data = judged_doubts(clf, X, y, groups, names, operating_point, seed, caller=_NAME)
        known_images(clf, data.content_ids.tolist(), caller=_NAME)
        patients = None if groups is None else data.groups
        return cls(wrong, doubts, groups=patients, n_resamples=n_resamples, random_state=seed).plot(ax)

    def plot(self, ax: Axes | None = None) -> RiskCoverageDisplay:
        """Draw on `ax`, or in a new figure, and return self."""
        self.ax_ = check_ax(ax) if ax is not None else new_figure(6.4, 4.6).subplots()
        self.figure_ = self.ax_.figure
        self.lines_ = {}
        for number, (name, curve) in enumerate(self.curves_.items()):
            area = self.areas_[name]
            label = f"{name}: AURC {area.value:.4f} [{area.low:.4f}, {area.high:.4f}]"
            marker = MARKERS[number // len(LINES) % len(MARKERS)]
            (self.lines_[name],) = self.ax_.plot(
                curve.coverage, curve.risk, color=LINES[number % len(LINES)], marker=marker, markevery=0.1, label=label
            )
        style: dict[str, Any] = {"color": MUTED, "linewidth": 1}
        best = f"every error known: AURC {self.best_.area:.4f}"
        self.ax_.plot(self.best_.coverage, self.best_.risk, linestyle="--", label=best, **style)
        error = self.wrong_.mean()
        self.ax_.axhline(error, linestyle=":", label=f"nothing known: AURC {error:.4f}", **style)
        self.ax_.set(xlim=(0, 1.01), xlabel="share of the images that is answered, the surest first")
        shown = [curve.risk[curve.coverage >= _SHOWN].max() for curve in self.curves_.values()]
        self.ax_.set_ylim(bottom=0, top=max(1.1 * max(shown), 1.3 * error, 0.01))
        self.ax_.set_ylabel("share of wrong answers among them")
        title = f"{len(self.wrong_)} images, {int(self.wrong_.sum())} answers wrong; 95% intervals over {self._over}"
        self.ax_.set_title(title, fontsize=10)
        for text in self.ax_.legend(fontsize=7.5).get_texts():
            text.set_parse_math(False)
        return self


def _area(wrong: np.ndarray, doubt: np.ndarray, patients: np.ndarray, n_resamples: int, seed: int) -> Estimate:
    return patient_bootstrap(
        lambda rows: risk_coverage(wrong[rows], doubt[rows]).area, patients, n_resamples=n_resamples, random_state=seed
    )
