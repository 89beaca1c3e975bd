"""Digests tell values apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cxr_estimator._digest import digest_of
from cxr_estimator.errors import InvalidTypeError

LONG = np.zeros((40, 40))  # longer than NumPy prints
CHANGED = LONG.copy()
CHANGED[20, 20] = 1.0
GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG, CHANGED),
        ({"baseline": LONG}, {"baseline": CHANGED}),
        ([LONG], [CHANGED]),
        (torch.as_tensor(LONG), torch.as_tensor(CHANGED)),
        (torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
        (torch.zeros(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
        (torch.tensor(1.0), torch.tensor(2.0)),
        (np.zeros(4), np.zeros((2, 2))),
        (np.zeros(2, np.int32), np.zeros(1, np.int64)),
        (np.array([LONG, None], dtype=object), np.array([CHANGED, None], dtype=object)),
        (pd.DataFrame(LONG), pd.DataFrame(CHANGED)),
        (pd.Series(["a", "b"]), pd.Series(["a", "c"])),
        (GREY, GREY.rotate(90)),
        (GREY.convert("P"), GREY),
        (["ab", "c"], ["a", "bc"]),
        (["a", ["b"]], [["a"], "b"]),
        (1, True),
        (1, 1.0),
        ("1", 1),
        (None, "None"),
        (b"a", "a"),
        ({"a": "b"}, {"b": "a"}),
        ({"a", "b"}, {"a", "c"}),
    ],
)
def test_different_values(one, other):
    assert digest_of(one) != digest_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG, LONG.copy()),
        (np.asfortranarray(CHANGED), CHANGED),
        ({"a": 1, "b": LONG}, {"b": LONG, "a": 1}),
        ((1, 2), [1, 2]),
        (np.float64(0.5), 0.5),
        (Path("a/b.png"), "a/b.png"),
        (pd.Series([1.0, 2.0], index=[7, 3]), np.array([1.0, 2.0])),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        (torch.ones(2, 3).T, torch.ones(3, 2)),
    ],
)
def test_equal_values(one, other):
    assert digest_of(one) == digest_of(other)


def test_what_has_no_content_to_compare_is_refused():
    with pytest.raises(InvalidTypeError, match="digest_of"):
        digest_of({"option": object()})
