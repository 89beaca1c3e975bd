"""Out of distribution: how unlike an image is to those a network was trained on, and a cut-off that says "unusual".

Each block of features (`_ood_blocks.BLOCKS`) has a Gaussian of low rank. An image's squared Mahalanobis distance (Lee
et al. 2018, doi:10.48550/arXiv.1807.03888) says how strange it is by that block. One more row, the orientation, says
how much less strange its pixels would be if it were inverted or turned: little of what is strange about a film on its
head stands out by itself. All rows are brought to one scale, by the same patients, and the largest is the score. Other
patients, held out, give p-values (conformal; Bates et al. 2023, doi:10.1214/22-AOS2244) and cut-offs.

Nothing that is kept shows a patient: every mean is of 20 patients at least, one image of each; a Gaussian has at most
one component for 20 patients, and none that is mostly one patient's doing; of the held-out patients only sorted scores
remain. And the finest view of the pixels is one of 8 x 8 cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._ood_blocks import CORRECTIONS, PIXEL_BLOCKS, REASONS
from cxr_estimator._validation import check_number, invalid
from cxr_estimator.errors import ModelFolderError

PATIENTS = 20  # in every mean, and for every component, at least; and as many held out
_COMPONENTS = 40  # of a Gaussian at most
_LONGEST = 1.5  # median lengths of a patient's standardised features, as far as components heed them
_LARGEST_PART = 1 / 3  # of a component's variance that may be one patient's doing
_NO_VARIANCE = 1e-6  # stands for none, where images are all alike
_HIGH = 0.95  # the share of patients who are at most 1 on the common scale
_CONFIDENCE = 0.95  # with which a cut-off keeps what it promises
_NARROW, _FAR = 1e-3, 1e3  # the smallest spread, and the largest centre, of a row
_FLAT = 0.01  # share of the typical spread below which a feature counts as constant


@dataclass(frozen=True)
class LowRankGaussian:
    """A Gaussian for standardised features, of a few components and the same variance in all other directions.

    This is probabilistic PCA (Tipping & Bishop 1999, doi:10.1111/1467-9868.00196): with few components each is an
    average of many patients, where a full covariance would fit single ones.

    Parameters
    ----------
    mean, scale : ndarray (F,)
        Of each feature.
    components : ndarray (k, F)
        Orthonormal rows.
    variances : ndarray (k,)
        Along the components, of standardised features.
    noise : float
        Variance in every other direction.
    """

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    noise: float

    @classmethod
    def fit(cls, features: np.ndarray) -> LowRankGaussian:
        """Return the Gaussian of features (n, F), one row for each of at least 20 patients."""
        from sklearn.decomposition import PCA

        n_patients, width = features.shape
        features = features.astype(np.float64)
        scale = features.std(axis=0)
        mean = features.mean(axis=0)
        # below 1e-4 of the mean lies what float32 makes of the size of a batch
        scale = np.maximum(scale, np.maximum(1e-4 * np.abs(mean), max(_FLAT * float(np.median(scale)), 1e-6)))
        z = _shortened((features - mean) / scale)
        n_components = max(1, min(_COMPONENTS, n_patients // PATIENTS, width // 2))
        with np.errstate(invalid="ignore"):  # shares of a variance of 0, where all images are alike
            pca = PCA(n_components, svd_solver="covariance_eigh").fit(z)
        shared = _is_shared((z - z.mean(axis=0)) @ pca.components_.T)
        components, variances = pca.components_[shared], pca.explained_variance_[shared]
        rest = z.var(axis=0, ddof=1).sum() - variances.sum()
        return cls(
            mean.astype(np.float32),
            scale.astype(np.float32),
            components.astype(np.float32),
            np.maximum(variances, _NO_VARIANCE).astype(np.float32),
            float(np.float32(max(rest / (width - len(variances)), _NO_VARIANCE))),
        )

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return squared Mahalanobis distances (...) of features (..., F) from the mean; higher = stranger.

        sum_k t_k^2 / variance_k + |z - sum_k t_k component_k|^2 / noise, with standardised z and t = components z.

        Examples
        --------
        >>> plane = LowRankGaussian(np.zeros(2), np.ones(2), np.array([[1.0, 0.0]]), np.array([4.0]), 1.0)
        >>> plane.distance(np.array([[2.0, 3.0]])).tolist()
        [10.0]
        """
        z = (features.astype(np.float64) - self.mean) / self.scale
        t = z @ self.components.T.astype(np.float64)
        rest = np.maximum((z**2).sum(axis=-1) - (t**2).sum(axis=-1), 0.0)
        return (t**2 / self.variances).sum(axis=-1) + rest / self.noise


class CutOff(NamedTuple):
    """The score above which an image is unusual.

    Attributes
    ----------
    score : float
    is_certain : bool
        Whether the false-alarm rate holds with 95% confidence, over which patients were held out; else on average.
    """

    score: float
    is_certain: bool


class Strangeness(NamedTuple):
    """How strange N images are, and what would make them less so.

    Attributes
    ----------
    score : ndarray (N,), float32
        Higher = stranger: where 5% of ordinary images lie by any one row, it is 1.
    reason : ndarray (N,), int64
        The row that says so: a place in `_ood_blocks.REASONS`.
    correction : ndarray (N,), int64
        Place in `_ood_blocks.CORRECTIONS` of what makes the pixels least strange; -1 where none makes them less so.
    corrected : ndarray (N,), float32
        How strange the strangest block of pixels is after it.
    """

    score: np.ndarray
    reason: np.ndarray
    correction: np.ndarray
    corrected: np.ndarray


@dataclass(frozen=True)
class OodStatistics:
    """What is known of ordinary images.

    Parameters
    ----------
    gaussians : dict of str to LowRankGaussian
        One for each of `BLOCKS`.
    centre, spread : ndarray (B + 1,)
        Median of each row, one for each of `REASONS`, among the patients of the Gaussians, and how far above it their
        95% quantile lies.
    reference : ndarray (n,), float32
        Scores of held-out patients, one image each, ascending.
    n_patients : int
        Patients that the Gaussians were made of, one image each.
    """

    gaussians: dict[str, LowRankGaussian]
    centre: np.ndarray
    spread: np.ndarray
    reference: np.ndarray
    n_patients: int

    @classmethod
    def learn(cls, features: np.ndarray, held_out: np.ndarray, widths: Mapping[str, int]) -> OodStatistics:
        """Return the statistics of `features`, and of held-out ones, one row per patient; at least 20 rows of each.

        They are as `_ood_blocks.features` gives them; `widths` are the numbers of features of each block.
        """
        if min(len(features), len(held_out)) < PATIENTS:
            raise invalid("features", "OodStatistics.learn", f"of {PATIENTS} patients at least", len(features))
        parts = np.split(features, np.cumsum(list(widths.values())), axis=1)[: len(widths)]
        gaussians = {name: LowRankGaussian.fit(part) for name, part in zip(widths, parts, strict=True)}
        # not by the held-out patients: their scores must be like those of new ones
        rows = _compared(gaussians, features).rows
        centre = np.median(rows, axis=0).astype(np.float32)
        spread = np.maximum(np.quantile(rows, _HIGH, axis=0) - centre, _NARROW).astype(np.float32)
        empty = cls(gaussians, centre, spread, np.empty(0, np.float32), len(features))
        return cls(gaussians, centre, spread, np.sort(empty.strangeness(held_out).score), len(features))

    def strangeness(self, features: np.ndarray) -> Strangeness:
        """Return how strange images are, of what `_ood_blocks.features` gives.

        The score is (row - centre) / spread of the strangest row: log(1 + distance) by each block, and the margin of
        the orientation, sum(log(1 + distance)) over the blocks of pixels minus the least such sum of a correction.
        """
        found = _compared(self.gaussians, features)
        scaled = (found.rows - self.centre) / self.spread
        n_blocks = found.corrected.shape[1]
        corrected = (found.corrected - self.centre[:n_blocks]) / self.spread[:n_blocks]
        return Strangeness(
            scaled.max(axis=1).astype(np.float32),
            scaled.argmax(axis=1),
            np.where(found.rows[:, -1] > 0, found.correction, -1),
            corrected.max(axis=1).astype(np.float32),
        )

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return (1 + held-out scores >= score) / (1 + held-out patients), (N,), in (0, 1]; NaN for NaN.

        For an image of a new patient, drawn as the held-out ones were, P(p <= a) <= a.
        """
        n_held_out = len(self.reference)
        at_least = n_held_out - np.searchsorted(self.reference, scores, side="left")
        return np.where(np.isnan(scores), np.nan, (1.0 + at_least) / (1.0 + n_held_out))

    def cut_off(self, false_alarm_rate: float) -> CutOff:
        """Return the score that images of new patients exceed at most at that rate.

        The rate behind the (k + 1)-th largest of n held-out scores is Beta(k + 1, n - k) distributed. The largest k is
        taken whose 95% quantile, the bound of Clopper and Pearson (1934, doi:10.1093/biomet/26.4.404), is not above
        the rate. Where there is none (59 patients are needed for 5%), the rate holds on average over such sets.
        """
        from scipy.stats import beta

        rate = check_number(
            "false_alarm_rate", false_alarm_rate, caller="check_images",
            low=0, high=1, open_low=True, open_high=True,
        )  # fmt: skip
        n_held_out = len(self.reference)
        k = np.arange(n_held_out)
        certain = int((beta.ppf(_CONFIDENCE, k + 1, n_held_out - k) <= rate).sum())
        allowed = certain or int(rate * (n_held_out + 1) + 1e-9)
        if not allowed:
            least = f"at least {1 / (n_held_out + 1):.3g}, for want of more than {n_held_out} held-out patients"
            raise invalid("false_alarm_rate", "check_images", least, false_alarm_rate)
        return CutOff(float(self.reference[n_held_out - allowed]), bool(certain))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that must be stored beside `n_patients`, float32, by name."""
        found = {"centre": self.centre, "spread": self.spread, "reference": self.reference}
        for block, gaussian in self.gaussians.items():
            for name, value in vars(gaussian).items():
                found[f"{block}.{name}"] = np.atleast_1d(np.asarray(value, dtype=np.float32))
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], n_patients: Any, widths: Mapping[str, int]) -> OodStatistics:
        """Undo `arrays`; whatever does not fit is a ModelFolderError that names it."""
        check_number("n_patients", n_patients, caller="load", low=PATIENTS, high=10**9, integer=True)
        _check_arrays(arrays, int(n_patients), widths)
        gaussians = {}
        for block in widths:
            mean, scale, components, variances = (
                arrays[f"{block}.{name}"] for name in ("mean", "scale", "components", "variances")
            )
            gaussians[block] = LowRankGaussian(mean, scale, components, variances, float(arrays[f"{block}.noise"][0]))
        return cls(gaussians, arrays["centre"], arrays["spread"], arrays["reference"], int(n_patients))


def _shortened(z: np.ndarray) -> np.ndarray:
    """Return rows (n, F), the longest shortened to 1.5 times the median length.

    Or else one odd patient could make a component, which would then be that patient's picture.
    """
    length = np.linalg.norm(z, axis=1, keepdims=True)
    return z * np.minimum(1.0, _LONGEST * np.median(length) / np.maximum(length, 1e-12))


def _is_shared(t: np.ndarray) -> np.ndarray:
    """Return which components, of coordinates t (n, k), are not mostly one patient's doing."""
    squares = t**2
    return squares.max(axis=0) <= _LARGEST_PART * np.maximum(squares.sum(axis=0), 1e-12)


class _Compared(NamedTuple):
    rows: np.ndarray  # (N, B + 1), log-distances by all blocks, and the margin
    correction: np.ndarray  # (N,), the best
    corrected: np.ndarray  # (N, number of pixel blocks), log-distances after it


def _compared(gaussians: Mapping[str, LowRankGaussian], features: np.ndarray) -> _Compared:
    """Compare images as they are, and with their corrections."""
    pixels = [gaussians[name] for name in PIXEL_BLOCKS]
    width = sum(len(one.mean) for one in gaussians.values())
    as_it_is = _log_distances([*gaussians.values()], features[:, :width])
    corrected = features[:, width:].reshape(len(features), len(CORRECTIONS), sum(len(one.mean) for one in pixels))
    logs = _log_distances(pixels, corrected)
    sums = logs.sum(axis=2)
    best = sums.argmin(axis=1)
    margin = as_it_is[:, : len(pixels)].sum(axis=1) - sums.min(axis=1)
    return _Compared(np.column_stack([as_it_is, margin]), best, logs[np.arange(len(best)), best])


def _log_distances(gaussians: Sequence[LowRankGaussian], features: np.ndarray) -> np.ndarray:
    """Return log(1 + distance), (..., B), of the features (..., F) of B blocks side by side."""
    parts = np.split(features, np.cumsum([len(one.mean) for one in gaussians])[:-1], axis=-1)
    return np.log1p(np.stack([one.distance(part) for one, part in zip(gaussians, parts, strict=True)], axis=-1))


def _check_arrays(arrays: Mapping[str, np.ndarray], n_patients: int, widths: Mapping[str, int]) -> None:
    """Raise for the first array that is missing, unknown, of a wrong type or shape, not finite or out of range."""
    shapes: dict[str, tuple[int, ...]] = {name: (len(REASONS),) for name in ("centre", "spread", "reference")}
    for block, width in widths.items():
        k = arrays[f"{block}.variances"].size if f"{block}.variances" in arrays else 0
        shapes |= {f"{block}.mean": (width,), f"{block}.scale": (width,), f"{block}.noise": (1,)}
        shapes |= {f"{block}.components": (k, width), f"{block}.variances": (k,)}
    wrong = sorted(shapes.keys() ^ arrays.keys())
    if wrong:
        raise ModelFolderError(f"{wrong[0]!r:.200} of the out-of-distribution statistics is missing or unknown.")
    for name, array in arrays.items():
        expected = (array.size,) if name == "reference" else shapes[name]
        if array.dtype != np.float32 or array.shape != expected or not np.isfinite(array).all():
            raise ModelFolderError(f"{name!r} of the out-of-distribution statistics is not as the model needs it.")
        is_component = name.endswith(".variances")
        if is_component and len(array) > n_patients // PATIENTS:
            raise ModelFolderError(f"{name!r} has {len(array)} components of only {n_patients} patients.")
        if name.endswith(("scale", "variances", "noise")) and not (array > 0).all():
            raise ModelFolderError(f"{name!r} of the out-of-distribution statistics must be above 0.")
    if np.abs(arrays["centre"]).max() > _FAR or not (arrays["spread"] >= _NARROW).all():
        raise ModelFolderError("'centre' or 'spread' of the out-of-distribution statistics is out of range.")
    reference = arrays["reference"]
    if len(reference) < PATIENTS or (np.diff(reference) < 0).any():
        raise ModelFolderError(f"'reference' must be the scores of {PATIENTS} patients at least, ascending.")


@dataclass(frozen=True)
class ImageCheck:
    """What `check_images` found; one entry for each of N images.

    Attributes
    ----------
    score : ndarray (N,), float32
        Higher = stranger. NaN for an unreadable image, as is `p_value`.
    p_value : ndarray (N,)
        In (0, 1]: how often an image of a new patient is at least as strange, if it is like the held-out ones.
    is_unusual : ndarray (N,), bool
        Whether the score lies above the cut-off; of objects, with None, where an image could not be read.
    reason : ndarray (N,) of str or None
        What is strangest about an unusual image: "layout", "texture", "brightness", "network" or "orientation".
    correction : ndarray (N,) of str or None
        What makes the pixels of an unusual image ordinary: "inverted", "rotated_90" (anticlockwise), "rotated_180",
        "rotated_270" or "flipped" (upside down).
    false_alarm_rate : float
        Asked for: the share of ordinary images, of new patients, that are called unusual.
    is_certain : bool
        Whether the rate is kept with 95% confidence; else, with few held-out patients, on average.
    n_held_out : int
        Patients who gave p-values and cut-off.
    """

    score: np.ndarray
    p_value: np.ndarray
    is_unusual: np.ndarray
    reason: np.ndarray
    correction: np.ndarray
    false_alarm_rate: float
    is_certain: bool
    n_held_out: int

    def __len__(self) -> int:
        return len(self.score)

    @property
    def sentences(self) -> list[str]:
        """What to tell a person about each image."""
        return [self._sentence(number) for number in range(len(self))]

    def _sentence(self, number: int) -> str:
        unusual = self.is_unusual[number]
        if unusual is None:
            return "This image could not be read."
        # p (n + 1) - 1 held-out images are at least as strange
        weaker = self.n_held_out + 1 - round(float(self.p_value[number]) * (self.n_held_out + 1))
        among = f"{weaker / self.n_held_out:.1%} of {self.n_held_out} held-out ones"
        if weaker == self.n_held_out:
            among = f"all {self.n_held_out} held-out ones"
        if not unusual:
            return f"This image is like those the model was trained on: stranger than {among}."
        said = (
            f"This image is unlike those the model was trained on: stranger than {among}, most of all in "
            f"{REASONS[self.reason[number]]}."
        )
        name = self.correction[number]
        advice = "Do not rely on the probability."
        return " ".join([said, CORRECTIONS[name].sentence, advice] if name else [said, advice])
