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
        What is hidden together; a unit counts by its mean attribution.
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
    """How many pixels rank before the unit of each pixel, (n, H, W) int32, and a digest of what was ranked."""

    before: Tensor
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
        new = [number for number, key in enumerate(full) if key not in self._found]
        if new:
            self._evaluate([full[number] for number in new], torch.tensor(new), hidden, fill)
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
            before = [self._ranked(torch.from_numpy(each), units[row], row) for row, each in enumerate(values)]
            self._latest = Ranking(torch.stack(before).to(self.problem.x.device), digest)
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

    def _ranked(self, values: Tensor, units: Tensor, row: int) -> Tensor:
        size = torch.bincount(units.flatten())
        mean = torch.bincount(units.flatten(), weights=values.flatten().double().nan_to_num()) / size
        shuffled = torch.from_numpy(self.problem.generator(row, _TIES).permutation(len(size)))
        order = shuffled[mean[shuffled].argsort(descending=True, stable=True)]
        before = torch.empty_like(size)
        before[order] = size[order].cumsum(0) - size[order]
        return before[units].to(torch.int32)

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
    explanation : Explanation
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
        """Return (n, len(fractions)): with these fractions of the pixels hidden, the most relevant ones first."""
        return self._hiding([(0, self._pixels(fraction)) for fraction in fractions])

    def least_relevant_hidden(self, fractions: Sequence[float]) -> np.ndarray:
        """Return (n, len(fractions)): with these fractions of the pixels hidden, the least relevant ones first."""
        return self._hiding([(self._area - self._pixels(fraction), self._area) for fraction in fractions])

    def most_relevant_shown(self, fractions: Sequence[float]) -> np.ndarray:
        """Return (n, len(fractions)): with all but these fractions of the pixels hidden, the most relevant ones."""
        return self._hiding([(self._pixels(fraction), self._area) for fraction in fractions])

    def _pixels(self, fraction: float) -> int:
        return round(fraction * self._area)

    def _hiding(self, intervals: list[tuple[int, int]]) -> np.ndarray:
        before = self._ranking.before
        bounds = torch.tensor(intervals, dtype=torch.int32, device=before.device)
        found = np.empty((len(before), len(intervals)))
        shown = [low >= high for low, high in intervals]
        found[:, shown] = self.original[:, None]
        keys = [
            "all" if low == 0 and high == self._area else (self._ranking.digest, low, high)
            for low, high in intervals
            if low < high
        ]
        rest = torch.tensor([number for number, one in enumerate(shown) if not one], device=before.device)

        def hidden(owner: Tensor, number: Tensor) -> Tensor:
            low, high = bounds[rest[number]].unbind(dim=1)
            rank = before[owner]
            return (rank >= low[:, None, None]) & (rank < high[:, None, None])

        if keys:
            found[:, ~np.array(shown)] = self._perturbed.hiding(
                keys, hidden, baseline=self._baseline, output=self._output, caller=self._caller
            )
        return found
