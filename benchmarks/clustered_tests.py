"""Error rates of tests and intervals by patient, where nothing differs: python benchmarks/clustered_tests.py.

Two models of equal worth judge images of patients who are easy or hard as a whole; 500 draws of each setting. A test at
5% should be wrong in 5% of them, an interval of 95% should miss in 5%. Beside each stands what the same data give when
each image counts as a patient of its own. Raw rates go to results/clustered_tests.json; half a minute on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from _common import machine, write

from cxr_estimator.roc import delong_difference
from cxr_estimator.statistics import (
    Estimate,
    clustered_difference,
    clustered_mean,
    mcnemar,
    paired_difference,
)

_N_DRAWS = 500
_LEVEL = 0.05
_PATIENTS = (10, 40, 150)
_ALIKE = 0.7  # share of the variance that images of a patient have in common
_SIZES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "1 image each": lambda rng, n: np.ones(n, int),
    "1 to 8 images": lambda rng, n: rng.integers(1, 9, n),
    "one with most images": lambda rng, n: np.r_[3 * n, np.ones(n - 1, int)],
}


def main() -> None:
    found = []
    for sizes, draw_sizes in _SIZES.items():
        for n_patients in _PATIENTS:
            rng = np.random.default_rng([n_patients, len(sizes)])
            wrong: dict[str, list[bool]] = {}
            for _ in range(_N_DRAWS):
                groups = np.repeat(np.arange(n_patients), draw_sizes(rng, n_patients))
                for name, is_wrong in _once(rng, groups):
                    wrong.setdefault(name, []).append(is_wrong)
            rates = {name: float(np.mean(each)) for name, each in wrong.items()}
            found.append({"images of a patient": sizes, "patients": n_patients, "rates": rates})
            print(sizes, n_patients, {name: f"{rate:.1%}" for name, rate in rates.items()})
    write("clustered_tests", {"machine": machine(), "draws": _N_DRAWS, "alike": _ALIKE, "settings": found})


def _once(rng: np.random.Generator, groups: np.ndarray) -> Iterator[tuple[str, bool]]:
    """Yield whether each test is wrong about one draw, by patient and by image."""
    n, own = len(groups), np.arange(len(groups))
    label = (np.unique(groups) % 2 == 0)[groups]  # a patient has one label
    scores = label + _noise(rng, groups), label + _noise(rng, groups)
    right = tuple(_noise(rng, groups) > -0.8 for _ in range(2))  # of about four fifths
    values = _noise(rng, groups)
    for by, patients in {"patient": groups, "image": own}.items():
        yield f"delong_difference by {by}", delong_difference(*scores, label, patients)[1] < _LEVEL
        yield f"mcnemar by {by}", mcnemar(*right, patients) < _LEVEL
        yield f"paired_difference by {by}", _misses(paired_difference(*right, patients))
        yield f"clustered_mean by {by}", _misses(clustered_mean(values, patients))
    first = rng.random(n) < 0.5  # images of a patient may be on both sides
    pair = (values[first], groups[first], values[~first], groups[~first])
    yield "clustered_difference by patient", clustered_difference(*pair)[1] < _LEVEL


def _noise(rng: np.random.Generator, groups: np.ndarray) -> np.ndarray:
    shared = rng.normal(size=groups.max() + 1)[groups]
    return np.sqrt(_ALIKE) * shared + np.sqrt(1 - _ALIKE) * rng.normal(size=len(groups))


def _misses(interval: Estimate) -> bool:
    return not interval.low <= 0 <= interval.high


if __name__ == "__main__":
    main()
