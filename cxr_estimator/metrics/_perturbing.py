"""The one loop that perturbs images and puts them through the network.

A map ranks the pixels, or units of pixels, from the most to the least relevant. Each perturbed image hides those from
one rank to another, so that deletion, insertion and all that is made of them ask for intervals of ranks, and images
that several metrics ask for are evaluated once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor

from cxr_estimator._validation import check_choice
from cxr_estimator.attribution import Problem, baseline_images, superpixels
from cxr_estimator.metrics._imputation import imputed

UNITS = {"pixel": None, "patch": "grid", "superpixel": "slic"}
OUTPUTS = ("proba", "score")
NOISE, IMPUTED = "noise", "imputed"
_TIES, _NOISE_STREAM = 0x71E5, 0x4015E  # random streams of their own, besides those of the methods

Hidden = Callable[[Tensor, Tensor], Tensor]  # (owner (m,), number (m,)) -> which pixels are hidden, (m, H, W) bool


class Perturbing(TypedDict, total=False):
    """Options that all metrics share which perturb images.

    Attributes
    ----------
    baseline : {"black", "mean", "blur", "background", "noise", "imputed"} or array
        What hidden pixels show. "noise": uniform in the range of pixels, seeded. "imputed": weighted means of the
        visible pixels around, see `_imputation`. The others as for `occlusion`.
    unit : {"pixel", "patch", "superpixel"}
        What is hidden together; a unit counts by its mean attribution. Fractions are rounded to whole units.
    n_units : int
        Wanted number of patches or superpixels.
    output : {"proba", "score"}
        What is read off the network: the probability of the explained class, or the explained score, which is not
        bounded.
    """

    baseline: Any
    unit: str
    n_units: int
    output: str


class Ranking(NamedTuple):
    """The order in which units of pixels go.

    Attributes
    ----------
    before : Tensor (n, H, W), int32
        How many pixels rank before the unit of each pixel.
    edges : list of n ndarray (units + 1,), int64
        Numbers of pixels at which a unit ends, from 0 on: what can be hidden without cutting one.
    digest : bytes
        Of what was ranked.
    """

    before: Tensor
    edges: list[np.ndarray]
    digest: bytes


class PerturbedOutputs:
    """What the network says to perturbed versions of the images of a problem. Remembers all it was asked."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._found: dict[Hashable, dict[str, Tensor]] = {}
        self._fillings: dict[Hashable, Tensor] = {}
        self._units: dict[tuple[str, int], Tensor] = {}
        self._latest: Ranking | None = None  # rankings are large; metrics are asked one map after the other

    def hiding(
        self, keys: Sequence[Hashable], hidden: Hidden, *, baseline: Any, output: str, caller: str
    ) -> np.ndarray:
        """Return what the network says to each image with pixels hidden, (n, len(keys)) float64.

        `keys` name the perturbed versions of an image, of which those that are new are evaluated: `hidden` tells which
        pixels are hidden in version `number[j]` of image `owner[j]`.
        """
        check_choice("output", output, OUTPUTS, caller=caller)
        fill, name = self._filling(baseline, caller)
        full = [(key, name) for key in keys]
        new = {key: number for number, key in enumerate(full) if key not in self._found}
        if new:
            self._evaluate(list(new), torch.tensor(list(new.values())), hidden, fill)
        return torch.stack([self._found[key][output] for key in full], dim=1).cpu().numpy().astype(np.float64)

    def original(self, output: str, caller: str) -> np.ndarray:
        """Return what the network says to the images themselves, (n,) float64."""
        check_choice("output", output, OUTPUTS, caller=caller)
        target, logits = self.problem.target, self.problem.logits
        values = target.score(logits) if output == "score" else target.proba(logits)
        return values.cpu().numpy().astype(np.float64)

    def ranking(self, values: np.ndarray, unit: str, n_units: int, caller: str) -> Ranking:
        """Rank the units of each map (n, H, W); ties are broken at random, seeded."""
        check_choice("unit", unit, UNITS, caller=caller)
        digest = blake2b(f"{unit} {n_units}".encode() + values.tobytes()).digest()
        if self._latest is None or self._latest.digest != digest:
            units = self.units(unit, n_units, caller)
            before, edges = zip(
                *(self._ranked(torch.from_numpy(each), units[row], row) for row, each in enumerate(values)), strict=True
            )
            self._latest = Ranking(torch.stack(before).to(self.problem.x.device), list(edges), digest)
        return self._latest

    def units(self, unit: str, n_units: int, caller: str) -> Tensor:
        """Return the unit (0, 1, ...) of each pixel, (n, H, W) int64, on the CPU."""
        check_choice("unit", unit, UNITS, caller=caller)
        if (unit, n_units) not in self._units:
            n, _, height, width = self.problem.x.shape
            segmentation = UNITS[unit]
            self._units[unit, n_units] = (
                torch.arange(height * width).view(height, width).expand(n, height, width)
                if segmentation is None
                else superpixels(self.problem, segmentation, n_units, caller=caller).cpu()
            )
        return self._units[unit, n_units]

    def _ranked(self, values: Tensor, units: Tensor, row: int) -> tuple[Tensor, np.ndarray]:
        size = torch.bincount(units.flatten())
        mean = torch.bincount(units.flatten(), weights=values.flatten().double().nan_to_num()) / size
        shuffled = torch.from_numpy(self.problem.generator(row, _TIES).permutation(len(size)))
        order = shuffled[mean[shuffled].argsort(descending=True, stable=True)]
        ends = size[order].cumsum(0)
        before = torch.empty_like(size)
        before[order] = ends - size[order]
        return before[units].to(torch.int32), np.concatenate([[0], ends.numpy()])

    def _evaluate(self, keys: list[Hashable], numbers: Tensor, hidden: Hidden, fill: Callable) -> None:
        problem = self.problem
        found = {output: problem.x.new_empty(len(problem), len(keys)) for output in OUTPUTS}
        for owner, place in problem.chunks(len(keys)):
            x = problem.x[owner]
            concealed = hidden(owner, numbers.to(owner)[place])[:, None]
            logits = problem.logits_of(torch.where(concealed, fill(x, owner, concealed), x))
            target = problem.target.of(owner)
            found["score"][owner, place], found["proba"][owner, place] = target.score(logits), target.proba(logits)
        for column, key in enumerate(keys):
            self._found[key] = {output: values[:, column] for output, values in found.items()}

    def _filling(self, baseline: Any, caller: str) -> tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Hashable]:
        """Return what fills hidden pixels, as a function of images, owners and hidden pixels, and its name."""
        if isinstance(baseline, str) and baseline == IMPUTED:
            return (lambda x, owner, concealed: imputed(x, concealed)), IMPUTED
        name = baseline if isinstance(baseline, str) else np.asarray(baseline).tobytes()
        if name not in self._fillings:
            self._fillings[name] = (
                self._noise() if name == NOISE else baseline_images(self.problem, baseline, caller=caller).images
            )
        images = self._fillings[name]
        return (lambda x, owner, concealed: images[owner]), name

    def _noise(self) -> Tensor:
        shape = self.problem.x.shape
        noise = [self.problem.generator(row, _NOISE_STREAM).random(shape[1:], np.float32) for row in range(shape[0])]
        return self.problem.normalised(torch.from_numpy(np.stack(noise)).to(self.problem.x))


class Curves:
    """What the network says while pixels are hidden in the order of a map.

    Parameters
    ----------
    values : ndarray (n, H, W)
        The maps.
    perturbed : PerturbedOutputs
    caller : str
        The metric, for error messages.
    baseline, unit, n_units, output
        See `Perturbing`.
    """

    def __init__(
        self,
        values: np.ndarray,
        perturbed: PerturbedOutputs,
        caller: str,
        *,
        baseline: Any = "mean",
        unit: str = "pixel",
        n_units: int = 196,
        output: str = "proba",
    ) -> None:
        self._perturbed, self._caller = perturbed, caller
        self._baseline, self._output = baseline, output
        self._ranking = perturbed.ranking(values, unit, n_units, caller)
        self._area = values[0].size

    @property
    def original(self) -> np.ndarray:
        """What the network says to the images themselves, (n,)."""
        return self._perturbed.original(self._output, self._caller)

    def most_relevant_hidden(self, fractions: Sequence[float]) -> np.ndarray:
        """Return (n, len(fractions)): with these fractions of the pixels hidden, the most relevant ones first.

        Units are hidden whole: of the numbers of pixels that can be, the nearest one counts.
        """
        return self._hiding([(np.zeros_like(count), count) for count in map(self._first, fractions)])

    def least_relevant_hidden(self, fractions: Sequence[float]) -> np.ndarray:
        """Return (n, len(fractions)): with these fractions of the pixels hidden, the least relevant ones first."""
        return self._hiding([(start, np.full_like(start, self._area)) for start in map(self._last, fractions)])

    def most_relevant_shown(self, fractions: Sequence[float]) -> np.ndarray:
        """Return (n, len(fractions)): with all but these fractions of the pixels hidden, the most relevant ones."""
        return self._hiding([(count, np.full_like(count, self._area)) for count in map(self._first, fractions)])

    def _first(self, fraction: float) -> np.ndarray:
        """Return how many pixels (n,) are the first `fraction`, in whole units."""
        return np.array([_nearest(edges, round(fraction * self._area)) for edges in self._ranking.edges])

    def _last(self, fraction: float) -> np.ndarray:
        """Return the rank (n,) at which the last `fraction` begins; rounded as at the other end."""
        area, wanted = self._area, round(fraction * self._area)
        return np.array([area - _nearest(area - edges[::-1], wanted) for edges in self._ranking.edges])

    def _hiding(self, intervals: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Return (n, len(intervals)) with the pixels of ranks from low (n,) to below high (n,) hidden."""
        before = self._ranking.before
        bounds = torch.from_numpy(np.array(intervals)).to(before)  # (intervals, 2, n)
        found = np.empty((len(before), len(intervals)))
        shown = np.array([(low >= high).all() for low, high in intervals])
        found[:, shown] = self.original[:, None]
        keys: list[Hashable] = [
            "all"
            if not low.any() and (high == self._area).all()
            else (self._ranking.digest, low.tobytes(), high.tobytes())
            for low, high in intervals
            if not (low >= high).all()
        ]
        rest = torch.from_numpy(np.flatnonzero(~shown)).to(before.device)

        def hidden(owner: Tensor, number: Tensor) -> Tensor:
            low, high = (bounds[rest[number], side, owner][:, None, None] for side in (0, 1))
            return (before[owner] >= low) & (before[owner] < high)

        if keys:
            found[:, ~shown] = self._perturbed.hiding(
                keys, hidden, baseline=self._baseline, output=self._output, caller=self._caller
            )
        return found


def _nearest(edges: np.ndarray, wanted: int) -> int:
    """Return the nearest of the ascending numbers `edges`, from 0 on; of two as near ones the lower."""
    place = int(np.searchsorted(edges, wanted))
    if place > 0 and (place == len(edges) or wanted - edges[place - 1] <= edges[place] - wanted):
        place -= 1
    return int(edges[place])
