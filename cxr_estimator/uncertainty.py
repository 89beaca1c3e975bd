"""How sure a classifier is of an answer: the same image asked several times, and how much the answers differ.

`SAMPLERS` is the one table: a new way to ask is a function and a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import entr

from cxr_estimator._outputs import Task
from cxr_estimator._sampling import augmented, dropped, members
from cxr_estimator._validation import check_choice, check_number, check_seed, invalid, keyword_options

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

_CALLER = "uncertainty"
_COMMON = ("n_samples", "seed", "progress")


class Sampler(NamedTuple):
    """A row of `SAMPLERS`.

    Attributes
    ----------
    function : callable
        `function(estimator, X, *, n_samples, seed, progress, **options)` returns calibrated probabilities (T, N, K),
        with rows of NaN for unreadable images; T is `n_samples`, or the number of members.
    summary : str
    """

    function: Callable[..., np.ndarray]
    summary: str


SAMPLERS: Mapping[str, Sampler] = {
    "mc_dropout": Sampler(dropped, "dropout stays on, so that other features are left out each time"),
    "test_time_augmentation": Sampler(augmented, "the image itself and copies that are turned, shifted, lighter, ..."),
    "ensemble": Sampler(members, "the members of a CXREnsemble"),
}


@dataclass(frozen=True)
class Uncertainty:
    """What T samples say to each of N images. Rows of NaN are images that could not be read.

    Entropies are in nats and sum over the classes, (N,); several labels per image each have their own, (N, K).

    Attributes
    ----------
    proba : ndarray (N, K)
        Mean of the samples; columns as in `classes_`. (`predict_proba` of an ensemble averages logits instead.)
    samples : ndarray (T, N, K)
        Calibrated probabilities.
    std : ndarray (N, K)
        Standard deviation over the samples, with divisor T.
    entropy : ndarray (N,) or (N, K)
        Of `proba`: all uncertainty, from 0 (sure) to log K (or log 2 for a label).
    expected_entropy : ndarray (N,) or (N, K)
        Mean entropy of the samples: what stays if the network were known exactly (aleatoric).
    mutual_information : ndarray (N,) or (N, K)
        `entropy - expected_entropy`, at least 0: how far the samples contradict each other (epistemic).
    method : str
        Key of `SAMPLERS`.
    seed : int

    References
    ----------
    Houlsby et al. (2011), Bayesian active learning for classification and preference learning, arXiv:1112.5745
    Gal (2016), Uncertainty in deep learning, PhD thesis, University of Cambridge
    Depeweg et al. (2018), Decomposition of uncertainty in Bayesian deep learning, ICML, arXiv:1710.07283

    Examples
    --------
    >>> samples = np.array([[[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.0, 1.0]]])  # unsure twice; sure, but not the same
    >>> found = Uncertainty.of(samples, Task.BINARY, method="mc_dropout", seed=0)
    >>> found.entropy.round(3).tolist(), found.mutual_information.round(3).tolist()
    ([0.693, 0.693], [0.0, 0.693])
    """

    proba: np.ndarray
    samples: np.ndarray
    std: np.ndarray
    entropy: np.ndarray
    expected_entropy: np.ndarray
    mutual_information: np.ndarray
    method: str
    seed: int

    @classmethod
    def of(cls, samples: np.ndarray, task: Task, *, method: str, seed: int) -> Uncertainty:
        """Return what probabilities (T, N, K) come to."""
        proba = samples.mean(axis=0)
        entropy, expected = _entropy(proba, task), _entropy(samples, task).mean(axis=0)
        information = np.maximum(entropy - expected, 0.0)  # below 0 by rounding only: entropy is concave
        return cls(proba, samples, samples.std(axis=0), entropy, expected, information, method, seed)


def suitable_samplers(clf: Any) -> list[str]:
    """Return the keys of `SAMPLERS` that suit a single network, or an ensemble; the default is the first."""
    return ["ensemble"] if hasattr(clf, "_member_logits") else ["test_time_augmentation", "mc_dropout"]


def _entropy(proba: np.ndarray, task: Task) -> np.ndarray:
    if task is Task.MULTILABEL:
        return entr(proba) + entr(1.0 - proba)
    return entr(proba).sum(axis=-1)


def sample(
    clf: CXRClassifier, X: Any, *, method: str | None, n_samples: int, random_state: Any, progress: Any, **options: Any
) -> Uncertainty:
    """Return what `Doubting.uncertainty` is asked for."""
    clf._images(X)  # an unfitted estimator or wrong images, before wrong options
    method = suitable_samplers(clf)[0] if method is None else method
    check_choice("method", method, SAMPLERS, caller=_CALLER)
    check_number("n_samples", n_samples, caller=_CALLER, low=1, integer=True)
    function = SAMPLERS[method].function
    known = [name for name in keyword_options(function) if name not in _COMMON]
    for name, value in options.items():
        if name not in known:
            raise invalid(name, _CALLER, f"left out: the options of {method!r} are {known}", value)
    own = clf._default_seed if random_state is None else random_state
    seed = check_seed(own, caller=_CALLER)
    samples = function(clf, X, n_samples=int(n_samples), seed=seed, progress=progress, **options)
    return Uncertainty.of(samples, clf.task_, method=method, seed=seed)
