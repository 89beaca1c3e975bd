"""Holes are bridged from their rims."""

from __future__ import annotations

import numpy as np

from cxr_estimator._filling import filled


def test_a_large_hole_is_bridged_on_a_coarse_grid():
    slope = np.add.outer(np.arange(400.0), 2 * np.arange(500.0)).astype(np.float32)
    hole = np.zeros(slope.shape, bool)
    hole[50:350, 60:440] = True
    damaged = np.where(hole, 0, slope).astype(np.float32)
    assert np.abs(filled(damaged, hole) - slope).max() < 4 * 3  # a step of the coarse grid


def test_holes_at_the_corner_are_filled_from_the_rest():
    pixels = np.full((30, 30), 77, np.uint8)
    hole = np.zeros(pixels.shape, bool)
    hole[:5, :6] = True
    assert np.array_equal(filled(np.where(hole, 255, pixels).astype(np.uint8), hole), pixels)
