"""Estimates with intervals that respect patients: a patient's images stand or fall together.

Which interval for what: `roc.delong` for the area under a ROC curve, `proportion` for a share of images, `difference`
for two estimates from different patients, `paired_difference` for two shares of the same images, `patient_bootstrap` or
`resampled_sums` for everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

_ROUNDING = 1e-12  # relative
FEWEST_PATIENTS = 5  # a bootstrap over fewer gives an interval that means nothing
N_RESAMPLES = 1000
_NEAR_THE_ENDS = 15  # patients on one side, below which a bootstrap of a share is too narrow


class Estimate(NamedTuple):
    """A value with its interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def patient_bootstrap(
    statistic: Callable[[np.ndarray], float],
    groups: np.ndarray,
    *,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
    random_state: int = 0,
) -> Estimate:
    """Percentile bootstrap over patients: all images of a drawn patient come along.

    Parameters
    ----------
    statistic : callable
        Maps an integer index array into the images (repeats allowed) to a number; NaN where undefined.
    groups : ndarray (N,)
        Patient of each image; one per image where no patients are known.

    References
    ----------
    Field & Welsh (2007), Bootstrapping clustered data, J. R. Stat. Soc. B 69(3), doi:10.1111/j.1467-9868.2007.00593.x
    """
    _, patient = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(patient, kind="stable")
    images_of = np.split(order, np.cumsum(np.bincount(patient))[:-1])
    rng = np.random.default_rng(random_state)
    values = []
    for _ in range(n_resamples):
        drawn = rng.integers(len(images_of), size=len(images_of))
        values.append(statistic(np.concatenate([images_of[number] for number in drawn])))
    return Estimate(float(statistic(order)), *percentile_interval(values, confidence))


def resampled_weights(groups: Any, *, n_resamples: int = N_RESAMPLES, random_state: int = 0) -> Iterator[np.ndarray]:
    """Yield how often each image counts in each bootstrap resample of patients, (N,) int64.

    The same resamples as those of `patient_bootstrap`, for statistics that are quicker with weights than with lists.
    """
    _, patient = np.unique(np.asarray(groups), return_inverse=True)
    for drawn in _draws(int(patient.max()) + 1, n_resamples, random_state):
        yield drawn[patient]


def resampled_sums(values: Any, groups: Any, *, n_resamples: int = N_RESAMPLES, random_state: int = 0) -> np.ndarray:
    """Return the sum of each column of values (N, P) in each bootstrap resample of patients, (n_resamples, P).

    The same resamples as those of `patient_bootstrap`. Whatever is made of sums, such as all figures of a confusion
    matrix, needs no other pass over the images.
    """
    _, patient = np.unique(np.asarray(groups), return_inverse=True)
    values = np.asarray(values, dtype=np.float64)
    of_patient = np.zeros((int(patient.max()) + 1, values.shape[1]))
    np.add.at(of_patient, patient, values)
    return np.stack([drawn @ of_patient for drawn in _draws(len(of_patient), n_resamples, random_state)])


def _draws(n_patients: int, n_resamples: int, random_state: int) -> Iterator[np.ndarray]:
    """Yield how often each patient is drawn, (n_patients,) int64."""
    rng = np.random.default_rng(random_state)
    for _ in range(n_resamples):
        yield np.bincount(rng.integers(n_patients, size=n_patients), minlength=n_patients)


def percentile_interval(values: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Return the central share `confidence` of the values that are not NaN; NaN if there are none."""
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return math.nan, math.nan
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high)


def wilson(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share observed among `n` independent cases; NaN for none.

    References
    ----------
    Wilson (1927), Probable inference, J. Am. Stat. Assoc. 22(158), doi:10.1080/01621459.1927.10502953

    Examples
    --------
    >>> low, high = wilson(1.0, 20)
    >>> round(low, 3), round(high, 3)
    (0.839, 1.0)
    """
    if not n > 0:
        return math.nan, math.nan
    z = normal_quantile(confidence)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def clustered_mean(values: np.ndarray, groups: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Return the mean of numbers (n,), with an interval over patients; without one where there are less than five.

    Student's t with the jackknife's variance (how far the mean moves as each patient leaves), which holds for few
    patients, too, where a percentile bootstrap is too narrow, and where most images are of one of them, where the
    variance of patients' sums is. It has no width where all numbers are equal.

    References
    ----------
    Bell & McCaffrey (2002), Bias reduction in standard errors for linear regression with multi-stage samples, Survey
    Methodology 28(2)

    Examples
    --------
    >>> print(clustered_mean(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.arange(5)))
    3.000 [1.037, 4.963]
    """
    from scipy.stats import t as student_t

    names, group = np.unique(groups, return_inverse=True)
    mean = float(np.mean(values)) if len(values) else math.nan
    if len(names) < FEWEST_PATIENTS:
        return Estimate(mean, math.nan, math.nan)
    moved = _moved_by_patients(values, group, len(names))
    reach = float(student_t.ppf((1 + confidence) / 2, len(names) - 1)) * math.sqrt(float(moved @ moved))
    return Estimate(mean, mean - reach, mean + reach)


def _moved_by_patients(values: np.ndarray, patient: np.ndarray, n_patients: int) -> np.ndarray:
    """Return how far the mean moves as each patient leaves, (n_patients,); their squares add up to its variance."""
    images, sums = np.bincount(patient, minlength=n_patients), np.bincount(patient, values - values.mean(), n_patients)
    n = np.count_nonzero(images)
    return math.sqrt((n - 1) / n) * sums / (len(values) - images)


def clustered_difference(
    first: np.ndarray, first_groups: np.ndarray, second: np.ndarray, second_groups: np.ndarray, confidence: float = 0.95
) -> tuple[Estimate, float]:
    """Return the mean of numbers (n,) less that of others (m,), with an interval over patients, and its p-value.

    As `clustered_mean`; a patient may have images on both sides. Student's t goes by the side with fewer patients, so
    that the interval is rather too wide. NaN instead of interval and p-value where a side has less than five patients.

    Returns
    -------
    Estimate, float
        The p-value is two-sided, of no difference.

    References
    ----------
    As for `clustered_mean`; for the degrees of freedom Welch's test, whose number is never less

    Examples
    --------
    >>> found, p_value = clustered_difference(np.arange(5.0), np.arange(5), np.arange(5.0) + 9, np.arange(5, 10))
    >>> print(found, f"{p_value:.4f}")
    -9.000 [-11.776, -6.224] 0.0008
    """
    from scipy.stats import t as student_t

    sides = ((first, first_groups), (second, second_groups))
    means = [float(np.mean(values)) if len(values) else math.nan for values, _ in sides]
    numbers = [len(np.unique(groups)) for _, groups in sides]
    value, fewest = means[0] - means[1], min(numbers)
    if fewest < FEWEST_PATIENTS:
        return Estimate(value, math.nan, math.nan), math.nan
    if abs(value) <= _ROUNDING * abs(means[0]):
        value = 0.0  # what is left of equal numbers would be many times its error, which is rounding, too
    names, group = np.unique(np.concatenate([first_groups, second_groups]), return_inverse=True)
    parts = zip((first, second), np.split(group, [len(first)]), strict=True)
    moved = [_moved_by_patients(values, patient, len(names)) for values, patient in parts]
    error = float(np.linalg.norm(moved[0] - moved[1]))
    reach = float(student_t.ppf((1 + confidence) / 2, fewest - 1)) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p_value = 2 * float(student_t.sf(abs(np.float64(value) / error), fewest - 1))
    return Estimate(value, value - reach, value + reach), 1.0 if math.isnan(p_value) else p_value


def proportion(
    right: Any,
    groups: Any,
    *,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
    random_state: int = 0,
) -> Estimate:
    """Return the share of images for which `right` (N,) holds, with its interval over patients; NaN for no images.

    A percentile bootstrap of patients, which near 0 and 1 is too narrow, and of no width at the ends. So where fewer
    than 15 patients have an image on one of the two sides, it is Wilson's interval instead, of as many independent
    images as would vary as much as these do; where fewer than five have, which tells nothing of that, of one image per
    patient. The change was set where simulated intervals cover the truth best.

    References
    ----------
    Franco, Little, Louis & Slud (2019), Comparative study of confidence intervals for proportions in complex sample
    surveys, J. Surv. Stat. Methodol. 7(3), doi:10.1093/jssam/smy019
    """
    right, groups = np.asarray(right, dtype=bool), np.asarray(groups)
    if not len(right):
        return Estimate(math.nan, math.nan, math.nan)
    share = float(right.mean())
    fewest = min(len(np.unique(groups[right])), len(np.unique(groups[~right])))
    if fewest < _NEAR_THE_ENDS:
        n = len(np.unique(groups)) if fewest < FEWEST_PATIENTS else _effective_number(right, groups)
        return Estimate(share, *wilson(share, n, confidence))
    columns = np.stack([right, np.ones(len(right))], axis=1)
    sums = resampled_sums(columns, groups, n_resamples=n_resamples, random_state=random_state)
    return Estimate(share, *percentile_interval(sums[:, 0] / sums[:, 1], confidence))


def _effective_number(right: np.ndarray, groups: np.ndarray) -> float:
    """Return how many independent images would give the share of `right` (N,) the variance that patients give it."""
    _, patient = np.unique(groups, return_inverse=True)
    share = right.mean()
    residual = np.bincount(patient, weights=right - share)
    variance = len(residual) / (len(residual) - 1) * (residual @ residual) / len(right) ** 2
    # images of few patients may happen to balance, down to no variance at all: patients never vary so little
    least = share * (1.0 - share) / len(right) / 2.0
    return float(share * (1.0 - share) / max(variance, least))


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return first - second with its interval, of two estimates of the same thing on different patients.

    The distances from each value to the ends of its interval are combined as squares, so that the result keeps the
    skewness of intervals near 0 and 1. Positive where the first is the greater; NaN where one of them has no interval.

    References
    ----------
    Newcombe (1998), Interval estimation for the difference between independent proportions, Stat. Med. 17(8), method
    10, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I

    Examples
    --------
    >>> print(difference(Estimate(56 / 70, *wilson(56 / 70, 70)), Estimate(48 / 80, *wilson(48 / 80, 80))))
    0.200 [0.052, 0.334]
    """
    value = first.value - second.value
    down = math.hypot(first.value - first.low, second.high - second.value)
    up = math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, value - down, value + up)


def share_difference(
    first: Any, second: Any, groups: Any, *, n_resamples: int = N_RESAMPLES, random_state: int = 0
) -> Estimate:
    """Return the share of images (N,) of which the first holds less that of the second, with an interval over patients.

    A percentile bootstrap, which is narrow where few patients differ (`paired_difference` is not). Where no resample
    differs, that is no proof: the interval then reaches as far as Wilson's for none of as many patients.
    """
    apart = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    groups = np.asarray(groups)
    found = patient_bootstrap(
        lambda rows: float(apart[rows].mean()), groups, n_resamples=n_resamples, random_state=random_state
    )
    if found.low < found.high:
        return found
    _, reach = wilson(0.0, len(np.unique(groups)))
    return Estimate(found.value, max(found.value - reach, -1.0), min(found.value + reach, 1.0))


def paired_difference(first: Any, second: Any, groups: Any, confidence: float = 0.95) -> Estimate:
    """Return the share of images (N,) of which the first holds less that of the second, with an interval over patients.

    The adjusted interval of Bonett and Price: as of the images and two patients more, one of whom speaks for either
    side, in as many images as differ by chance among those of an average patient (the root of their number). The
    jackknife's variance and Student's t as in `clustered_mean`; `benchmarks/clustered_tests.py` tells how often it
    misses.

    Parameters
    ----------
    first, second : array-like (N,), bool
    groups : array-like (N,)
        Patient of each image.
    confidence : float in (0, 1), default=0.95

    Returns
    -------
    Estimate
        In [-1, 1]; without an interval where there are less than five patients, NaN for no images.

    References
    ----------
    Bonett & Price (2012), Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data, J. Educ. Behav. Stat. 37(4), doi:10.3102/1076998611411915

    Examples
    --------
    >>> print(paired_difference([1, 1, 1, 0, 0, 0, 1, 1], [1, 1, 1, 0, 0, 0, 0, 1], range(8)))
    0.125 [-0.324, 0.524]
    """
    from scipy.stats import t as student_t

    apart = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    value = float(apart.mean()) if len(apart) else math.nan
    _, patient = np.unique(np.asarray(groups), return_inverse=True)
    images = np.bincount(patient).astype(float)
    if len(images) < FEWEST_PATIENTS:
        return Estimate(value, math.nan, math.nan)
    average = images.mean()
    sums = np.append(np.bincount(patient, apart), [math.sqrt(average), -math.sqrt(average)])
    sizes = np.append(images, [average, average])
    middle = float(sums.sum() / sizes.sum())
    moved = (sums - middle * sizes) / (sizes.sum() - sizes)  # how far the mean moves as each of them leaves
    error = math.sqrt((len(sizes) - 1) / len(sizes) * float(moved @ moved))
    reach = float(student_t.ppf((1 + confidence) / 2, len(images) - 1)) * error
    return Estimate(value, max(min(middle - reach, value), -1.0), min(max(middle + reach, value), 1.0))


def mcnemar(first: Any, second: Any, groups: Any = None) -> float:
    """Return the exact two-sided p-value that two ways to decide are right equally often on the same images.

    Patients stand or fall together: for each one counts how often more the first is right than the second, and if
    there were no difference the sign of that would be as good as tossed. All tosses are gone through. With one image
    for each patient this is McNemar's exact test.

    Parameters
    ----------
    first, second : array-like (N,), bool
        Whether each is right.
    groups : array-like (N,), optional
        Patient of each image. Without it each image is a patient of its own.

    References
    ----------
    McNemar (1947), Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12(2), doi:10.1007/BF02295996. Signs of whole clusters: Fisher's randomisation test (1935), The Design
    of Experiments, section 21

    Examples
    --------
    >>> round(mcnemar([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 1]), 4)  # six against one: 2 (1 + 7) / 2^7
    0.125
    """
    apart = np.asarray(first, dtype=int) - np.asarray(second, dtype=int)
    patient = np.arange(len(apart)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = np.abs(found := np.bincount(patient, apart).round().astype(int))
    total = int(sums.sum())
    chances = np.zeros(2 * total + 1)  # of each sum of signed numbers, from -total on
    chances[total] = 1.0
    for one in sums[sums > 0].tolist():
        chances = (np.roll(chances, one) + np.roll(chances, -one)) / 2  # nothing is rolled over the ends
    at_least = np.abs(np.arange(-total, total + 1)) >= abs(int(found.sum()))
    return float(min(chances[at_least].sum(), 1.0))


def mean_band(
    values: np.ndarray,
    groups: np.ndarray,
    *,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
    random_state: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval of each column's mean, (P,) each, for values (N, P) without NaN.

    What `patient_bootstrap` says of one column after the other.
    """
    columns = np.column_stack([values, np.ones(len(values))])
    sums = resampled_sums(columns, groups, n_resamples=n_resamples, random_state=random_state)
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(sums[:, :-1] / sums[:, -1:], [tail, 100.0 - tail], axis=0)
    return low, high


def normal_quantile(confidence: float) -> float:
    """Return how many standard deviations around the mean hold the share `confidence` of a normal distribution."""
    from scipy.stats import norm

    return float(norm.ppf(0.5 + confidence / 2.0))
