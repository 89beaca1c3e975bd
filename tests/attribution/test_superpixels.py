"""Segments: their number, their form, and that they are cheap to find."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

from cxr_estimator import make_phantoms
from cxr_estimator.attribution import Problem, TargetRule
from cxr_estimator.attribution._superpixels import SEGMENTATIONS, superpixels


def segments_of(x, segmentation, n_segments):
    return superpixels(Problem(nn.Identity(), x, TargetRule(None)), segmentation, n_segments, caller="t")


@pytest.mark.parametrize("segmentation", SEGMENTATIONS)
@pytest.mark.parametrize(("size", "n_segments"), [(32, 8), (64, 50), (224, 50)])
def test_about_as_many_as_asked_for(segmentation, size, n_segments):
    pixels = make_phantoms(2, size, difficulty=0.0, random_state=0).X
    x = torch.from_numpy(np.asarray(pixels, dtype=np.float32))[:, None] / 255
    start = time.perf_counter()
    found = segments_of(x, segmentation, n_segments)
    assert time.perf_counter() - start < 15  # quickshift at full size would take a minute
    for segments in found:
        assert torch.equal(segments.unique(), torch.arange(int(segments.max()) + 1))
        assert n_segments / 2 <= segments.max() + 1 <= 2 * n_segments
    assert torch.equal(found, segments_of(x, segmentation, n_segments))
    assert torch.equal(found[1:], segments_of(x[1:], segmentation, n_segments))


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_cut_too(channels):
    torch.manual_seed(0)
    assert segments_of(torch.rand(1, channels, 64, 64), "slic", 50).max() > 25


@pytest.mark.parametrize("segmentation", ["slic", "quickshift", "felzenszwalb"])
def test_edges_follow_the_image(segmentation):
    x = torch.zeros(1, 1, 40, 40)
    x[:, :, :, 23:] = 1.0
    (segments,) = segments_of(x, segmentation, 8)
    left, right = set(segments[:, :21].unique().tolist()), set(segments[:, 25:].unique().tolist())
    assert not left & right
