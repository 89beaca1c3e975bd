"""Random soft masks, sums over them, and how far to trust a map that was made of them."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_estimator.attribution._problem import Problem, add_to


class RandomMasks:
    """The random masks of each image, of which only the small grids are held."""

    def __init__(self, problem: Problem, count: int, grid: int, p: float) -> None:
        n, _, *size = problem.x.shape
        cell = [math.ceil(side / grid) for side in size]
        device = problem.x.device
        # mask by mask, so that more masks begin with the same ones
        self._on = torch.empty(n, count, grid, grid, dtype=torch.bool, device=device)
        self._corner = torch.empty(n, count, 2, dtype=torch.int16, device=device)  # small: there may be many masks
        for row in range(n):
            draw = problem.generator(row).random((count, grid * grid + 2))
            self._on[row] = torch.from_numpy(draw[:, 2:] < p).unflatten(1, (grid, grid))
            self._corner[row] = torch.from_numpy((draw[:, :2] * cell).astype(np.int16))
        self._resize = [_upsampling(grid, (grid + 1) * one).to(device) for one in cell]
        self._offsets = [torch.arange(side, device=device) for side in size]

    def of(self, owner: Tensor, number: Tensor) -> Tensor:
        """Return the masks (m, H, W). Only the part that is cropped is ever resized, along one axis after the other."""
        corners = self._corner[owner, number].long().unbind(dim=1)
        down, across = (
            resize[corner[:, None] + offsets]
            for resize, corner, offsets in zip(self._resize, corners, self._offsets, strict=True)
        )
        return down @ self._on[owner, number].to(down) @ across.transpose(1, 2)


class HalfSums:
    """Sums over the even and over the odd masks of each image, from which its maps follow."""

    def __init__(self, x: Tensor) -> None:
        n, _, *size = x.shape
        self.count, self.score = x.new_zeros(2, n), x.new_zeros(2, n)
        self.mask, self.product = x.new_zeros(2, n, *size), x.new_zeros(2, n, *size)

    def add(self, owner: Tensor, half: Tensor, score: Tensor, mask: Tensor) -> None:
        """Add masks (m, H, W), each of a `half` (0 or 1), and what they changed of the score of the image."""
        row = half * len(self.count[0]) + owner
        for total, values in (
            (self.count, torch.ones_like(score)),
            (self.score, score),
            (self.mask, mask),
            (self.product, mask * score[:, None, None]),
        ):
            add_to(total.flatten(0, 1), row, values)

    def maps(self, score: Tensor, *, centre: bool, halves: bool) -> Tensor:
        """Return the mean of mask times score, (2, n, H, W) for the halves or (1, n, H, W) for all masks.

        `score` (n,) are the scores of the images themselves, and `centre` tells whether the mean score is taken away.
        """
        everything = (self.count, self.score, self.mask, self.product)
        parts = everything if halves else tuple(one.sum(dim=0, keepdim=True) for one in everything)
        count, change, mask, product = parts
        shift = -change / count if centre else score.expand_as(change)
        return (product + shift[..., None, None] * mask) / count[..., None, None]


def reliability(halves: Tensor) -> Tensor:
    """Return what the rank correlation of half maps (2, k, H, W) promises of the whole ones, (k,)."""
    flat = halves.flatten(2)
    ranks = flat.argsort(dim=2).argsort(dim=2).float()
    ranks = F.normalize(ranks - ranks.mean(dim=2, keepdim=True), dim=2)
    r = (ranks[0] * ranks[1]).sum(dim=1)
    return 2 * r / (1 + r).clamp(min=1e-6)


def _upsampling(size: int, length: int) -> Tensor:
    """Return the matrix (length, size) that resizes a line of `size` values bilinearly."""
    return F.interpolate(torch.eye(size)[None], size=length, mode="linear", align_corners=False)[0].T
