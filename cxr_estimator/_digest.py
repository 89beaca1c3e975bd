"""`digest_of`: whether two inputs are the same, without keeping them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import chain
from numbers import Number
from typing import Any

import numpy as np
import torch
from PIL import Image

from cxr_estimator._validation import plain, wrong_type


def digest_of(value: Any) -> str:
    """Return a SHA-256 (hex) that differs where values do: in type, shape or any number, however large they are.

    Paths count by their text, not by what the files hold, and the order of a dict's entries does not count.

    Parameters
    ----------
    value : None, number, text, bytes, path, array, tensor, pandas object or PIL image, or a nesting of these

    Raises
    ------
    InvalidTypeError
        Anything else: its `repr` may hold an address, or leave out what matters.
    """
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(len(part).to_bytes(8, "little"))  # so that parts cannot run into each other
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes | memoryview]:
    """Yield the kind of a value, then its content."""
    value = plain(value)
    if value is None or isinstance(value, str | Number):
        yield f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes | bytearray):
        yield from (b"bytes", bytes(value))
    elif isinstance(value, os.PathLike):
        yield from _parts(os.fspath(value))
    elif isinstance(value, Image.Image):
        yield from _parts(("image", value.mode, value.size, value.getpalette(), value.tobytes()))
    elif isinstance(value, torch.Tensor):
        yield from _parts(("tensor", str(value.dtype), tuple(value.shape)))
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    elif hasattr(value, "to_numpy"):  # pandas
        yield from _parts(value.to_numpy())
    elif isinstance(value, np.ndarray):
        yield from _parts(("array", value.dtype.str, value.shape))
        if value.dtype.hasobject:
            yield from _parts(value.ravel().tolist())
        else:  # not `tobytes`, which would copy all images
            yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    elif isinstance(value, Mapping):
        pairs = sorted((digest_of(key), digest_of(entry)) for key, entry in value.items())
        yield from _parts(("mapping", *chain.from_iterable(pairs)))
    elif isinstance(value, Set):
        yield from _parts(("set", *sorted(map(digest_of, value))))
    elif isinstance(value, Sequence):
        yield f"sequence {len(value)}".encode()
        for entry in value:
            yield from _parts(entry)
    else:
        raise wrong_type("value", "digest_of", "made of numbers, text, arrays, images and containers of these", value)
