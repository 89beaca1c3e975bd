"""Progress bars on the terminal (stderr)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tqdm.auto import tqdm

from cxr_estimator._validation import wrong_type
from cxr_estimator.training import TrainingSettings, steps_per_epoch

# without the decimals of `done`: a slow method also tells of parts of an image
_BAR_FORMAT = "{l_bar}{bar}| {n:.0f}/{total} [{elapsed}<{remaining}, {rate_fmt}]"


@contextlib.contextmanager
def bar(total: int, description: str, verbose: int) -> Iterator[Callable[[float], Any]]:
    """Show a bar with the time left; yields the callback that moves it."""
    with tqdm(
        total=total, desc=description, unit="image", disable=not verbose, leave=False, bar_format=_BAR_FORMAT
    ) as shown:
        yield shown.update


def check_callback(progress: Any, *, caller: str = "explain") -> None:
    """Raise unless `progress` is None or can be called."""
    if progress is not None and not callable(progress):
        raise wrong_type("progress", caller, "None or a function", progress)


def shared_progress(
    progress: Callable[[float, int], Any] | None, number: int, n_parts: int
) -> Callable[[float, int], Any] | None:
    """Return the callback of one of several equal parts of the work, of which `number` are done."""
    if progress is None:
        return None
    return lambda done, total: progress((number * total + done) / n_parts, total)


def told_how_far(
    advance: Callable[[float], Any], progress: Callable[[float, int], Any] | None, *, caller: str = "explain"
) -> Callable[[float, int], Any]:
    """Return a callback `(done, total)` that moves a bar on, and tells `progress` if there is one."""
    check_callback(progress, caller=caller)
    at = 0.0

    def tell(done: float, total: int) -> None:
        nonlocal at
        advance(done - at)
        at = done
        if progress is not None:
            progress(done, total)

    return tell


class FitProgress:
    """A bar over all training steps, with the time left and the validation AUROC of the last epoch."""

    def __init__(self, verbose: int, settings: TrainingSettings, n_images: int) -> None:
        total = settings.max_epochs * steps_per_epoch(n_images, settings.batch_size)
        self._bar = tqdm(total=total, desc="training", unit="step", disable=not verbose)

    def __enter__(self) -> FitProgress:
        return self

    def __exit__(self, *details: object) -> None:
        self._bar.close()

    def __call__(self, steps: int, row: dict[str, Any] | None) -> None:
        """Move on by `steps`; at the end of an epoch show its `row` of the history."""
        self._bar.update(steps)
        if row is not None:
            self._bar.set_postfix_str(
                f"epoch {row['epoch']}, loss {row['train_loss']:.3f}, validation AUROC {row['val_auroc']:.3f}"
            )
