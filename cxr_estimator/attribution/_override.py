"""Other derivatives for functions of torch, without hooks: in-place operations and reused modules do no harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.overrides import TorchFunctionMode

Replacement = Callable[..., Any]


class Override(TorchFunctionMode):
    """Within the block, calls of some of torch's functions in this thread go to replacements.

    It catches functions, methods and operators alike, as `F.relu`, `Tensor.relu_` or `+=`, by their `__name__`; an
    in-place variant ends in an underscore or begins with "__i". A replacement is called as
    `replacement(function, *args, **kwargs)`, outside of the mode, and returns what the network goes on with.

    Backward hooks on modules, which the usual libraries use, break on in-place operations behind them, and cannot tell
    two calls of one module apart.
    """

    def __init__(self, replacements: Mapping[str, Replacement]) -> None:
        super().__init__()
        self._replacements = replacements

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replacement = self._replacements.get(getattr(func, "__name__", ""))
        if replacement is None:
            return func(*args, **(kwargs or {}))
        return replacement(func, *args, **(kwargs or {}))
