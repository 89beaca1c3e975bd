"""Images batch by batch, and the problem of explaining a batch: what is explained here or was elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

from cxr_estimator._predicting import reading, report
from cxr_estimator.attribution import Problem, TargetRule
from cxr_estimator.errors import SkippedImage
from cxr_estimator.images import ImageSequence
from cxr_estimator.inference import BatchLimit, Execution, batches, evaluating, iter_inputs
from cxr_estimator.reading import PreparedImages

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

_Result = TypeVar("_Result")


def run_batches(
    clf: CXRClassifier,
    images: ImageSequence,
    how: Execution,
    use: Callable[[PreparedImages, Tensor, int], _Result],
) -> Iterator[_Result]:
    """Yield what `use(prepared, x, done)` makes of each batch, while the network is held; `done` images came before."""
    limit = BatchLimit(how.batch_size)
    skipped: list[SkippedImage] = []
    done = 0

    def parts(prepared: PreparedImages, x: Tensor, done: int, size: int) -> list[_Result]:
        results = []
        for rows in batches(len(x), size):
            with evaluating(clf.model_):
                results.append(use(prepared.part(rows), x[rows], done + rows.start))
        return results

    for prepared, x in iter_inputs(images, clf.preprocessing_, how, reading(clf)):
        skipped += prepared.skipped
        done += len(prepared.skipped)
        if len(x):
            yield from limit.run(partial(parts, prepared, x, done))
            done += len(x)
    report(tuple(skipped))


def problem_of(
    clf: CXRClassifier,
    prepared: PreparedImages,
    x: Tensor,
    rule: TargetRule,
    how: Execution,
    seed: int,
    background: Tensor | None = None,
    limit: BatchLimit | None = None,
) -> Problem:
    """Return the problem of explaining a batch: its images `x`, the target by `rule`."""
    return Problem(
        clf.model_,
        x,
        rule,
        mean=clf.preprocessing_.mean,
        std=clf.preprocessing_.std,
        execution=how,
        seed=seed,
        image_ids=prepared.content_ids,
        background=background,
        limit=limit,
    )
