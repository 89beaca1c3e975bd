"""How many images are put through a network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass
class Count:
    """Images that were put through the network so far."""

    images: int = 0


@contextlib.contextmanager
def counting(model: nn.Module) -> Iterator[Count]:
    """Count all images that `model` sees within the block."""
    count = Count()

    def add(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        count.images += len(arguments[0])

    handle = model.register_forward_pre_hook(add)
    try:
        yield count
    finally:
        handle.remove()
