"""The reference for faithfulness: the same map, moved to where it does not belong.

A raw deletion AUC depends on the network more than on the map, and independent random pixels flatter every smooth map,
since scattered holes do less harm than one large one. The same map shifted and flipped is as smooth, as sparse and as
large as the map itself; all it lacks is the right place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cxr_estimator.attribution import Problem
from cxr_estimator.explanation import Explanation

_STREAM = 0x3EF


def moved(values: np.ndarray, problem: Problem, draw: int) -> np.ndarray:
    """Return the maps (n, H, W), each circularly shifted by a quarter to three quarters of both sides, and flipped.

    Shift and flips (left and right, up and down, each in half of the draws) follow from the seed, the content of the
    image and the number of the `draw`.
    """
    result = np.empty_like(values)
    for row, each in enumerate(values):
        rng = problem.generator(row, _STREAM, draw)
        shift = [int(rng.integers(side // 4, side - side // 4 + 1)) for side in each.shape]
        flips = [axis for axis in (0, 1) if rng.random() < 0.5]
        result[row] = np.roll(np.flip(each, tuple(flips)), shift, axis=(0, 1))
    return result


def references(explanation: Explanation, problem: Problem, n_references: int) -> Iterator[Explanation]:
    """Yield the explanation with its maps moved, once for each draw."""
    for draw in range(n_references):
        yield replace(explanation, values=moved(explanation.values, problem, draw))
