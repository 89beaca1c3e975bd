"""What `CXRClassifier.explain` does: check the request, run the methods batch by batch, wrap the results."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from cxr_estimator._batches import problem_of, run_batches
from cxr_estimator._decisions import active_point, target_rule
from cxr_estimator._operating import threshold_of
from cxr_estimator._outputs import Task
from cxr_estimator._predicting import execution, reading, report
from cxr_estimator._predicting import images as as_images
from cxr_estimator._progress import check_callback
from cxr_estimator._targets import explained_classes, present_or_not
from cxr_estimator._validation import (
    check_choice,
    check_number,
    check_seed,
    invalid,
    keyword_options,
    plain,
    wrong_type,
)
from cxr_estimator.attribution import METHODS, Attribution, Problem, check_supported, repeated
from cxr_estimator.attribution import REPEATS as ERROR_BAR_REPEATS
from cxr_estimator.errors import BackgroundWarning, DataError
from cxr_estimator.explanation import Explanation, Prediction
from cxr_estimator.images import ImageSequence
from cxr_estimator.inference import (
    BatchLimit,
    Execution,
    automatic_batch_size,
    forward,
    normalise,
    unit_tensor,
)
from cxr_estimator.reading import PreparedImages, prepare
from cxr_estimator.versions import package_versions

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

_Result = TypeVar("_Result")
_CALLER = "explain"
ARRAY = "array of shape"  # begins what stands for an option that is an array


class Explained(NamedTuple):
    """A batch.

    Attributes
    ----------
    found : dict of method to Explanation
    seconds : dict of method to float
        How long each took; what several share counts for the first.
    problem : Problem
        The network and the images.
    explain : dict of method to callable
        What makes the method's map of a variant of the problem.
    """

    found: dict[str, Explanation]
    seconds: dict[str, float]
    problem: Problem
    explain: dict[str, Callable[[Problem], Tensor]]


@dataclass(frozen=True)
class ExplanationPlan:
    """A checked request."""

    clf: CXRClassifier
    images: ImageSequence
    options: dict[str, dict[str, Any]]  # of each method
    target: Any
    index: np.ndarray | None  # class index per image, where it does not depend on the prediction
    true_label: np.ndarray | None
    error_bars: bool
    execution: Execution
    seed: int
    background: Tensor | None
    progress: Callable[[float, int], Any] | None

    @classmethod
    def check(
        cls,
        clf: CXRClassifier,
        X: Any,
        y: Any,
        method: Sequence[str],
        /,
        *,
        target: Any = "predicted",
        error_bars: bool = False,
        batch_size: Any = None,
        random_state: Any = None,
        background: Any = None,
        progress: Callable[[float, int], Any] | None = None,
        **options: Any,
    ) -> ExplanationPlan:
        """Return the plan, or raise before any image is explained. For the parameters see `CXRClassifier.explain`."""
        images = as_images(clf, X)
        if not isinstance(error_bars, bool | np.bool_):
            raise wrong_type("error_bars", _CALLER, "True or False", error_bars)
        check_callback(progress)
        if not isinstance(method, list | tuple) or not method:
            raise invalid("method", _CALLER, "the name of a method, or a list of one at least", method)
        for name in method:
            check_supported(check_choice("method", name, METHODS, caller=_CALLER), clf.model_)
        index, true_label = explained_classes(clf, len(images), plain(target), y)
        return cls(
            clf,
            images,
            options_of_each(method, options),
            plain(target),
            index,
            true_label,
            bool(error_bars),
            execution_of(clf, batch_size),
            check_seed(clf.random_state if random_state is None else random_state, caller=_CALLER),
            background_images(clf, background, needed=any(METHODS[name].needs_background for name in method)),
            progress,
        )

    def run(self, use: Callable[[Explained], _Result]) -> Iterator[_Result]:
        """Yield what `use` makes of each batch, while the network is held."""
        at_once = BatchLimit(self.execution.batch_size)  # of images in the network, as found so far
        return run_batches(
            self.clf,
            self.images,
            self.execution,
            lambda prepared, x, done: use(self._explain(at_once, prepared, x, done)),
        )

    def _explain(self, at_once: BatchLimit, prepared: PreparedImages, x: Tensor, done: int) -> Explained:
        index = None if self.index is None else torch.from_numpy(self.index[prepared.index]).to(x.device)
        rule = target_rule(self.clf, index, margin=self.target == "margin" and isinstance(self.target, str))
        # decides as `predict` does, whatever the precision of a method
        decided = problem_of(self.clf, prepared, x, rule, self.execution, self.seed, self.background, at_once)
        problems: dict[str, Problem] = {}  # one per precision: what methods share, they share there
        found, seconds = {}, {}
        for number, method in enumerate(self.options):
            began = time.perf_counter()
            precision = self._precision(method)
            if precision not in problems:
                problems[precision] = decided.at_precision(precision)
            problem = problems[precision]
            before = problem.evaluations
            start, share = done + len(x) * number / len(self.options), len(x) / len(self.options)
            problem.progress = self._teller(start, share)
            result = self._attribution(method, problem)
            self._tell(start + share)
            found[method] = self._wrap(method, result, decided, problem, prepared, problem.evaluations - before)
            seconds[method] = time.perf_counter() - began
        decided.progress = lambda share: self._tell(done + len(x))  # which may stop what comes now
        return Explained(found, seconds, decided, {method: partial(self._values, method) for method in self.options})

    def _precision(self, method: str) -> str:
        return self.execution.precision if METHODS[method].bf16_safe else "float32"

    def _attribution(self, method: str, problem: Problem) -> Attribution:
        if self.error_bars:
            return repeated(METHODS[method], problem, self.options[method])
        return METHODS[method].function(problem, **self.options[method])

    def _values(self, method: str, problem: Problem) -> Tensor:
        return self._attribution(method, problem.at_precision(self._precision(method))).values

    def _teller(self, start: float, images: float) -> Callable[[float], None]:
        """Return the callback of a method that counts for so many `images`; repetitions count for a share each."""
        at = start
        repeats = ERROR_BAR_REPEATS if self.error_bars else 1

        def tell(part: float) -> None:
            nonlocal at
            at = min(at + part * images / repeats, start + images)  # not beyond, by rounding
            self._tell(at)

        return tell

    def _tell(self, done: float) -> None:
        if self.progress is not None:
            self.progress(done, len(self.images))

    def _wrap(
        self,
        method: str,
        result: Attribution,
        decided: Problem,
        problem: Problem,
        prepared: PreparedImages,
        evaluations: int,
    ) -> Explanation:
        clf, entry, n = self.clf, METHODS[method], len(problem)
        values = result.values.detach().float().cpu().numpy()
        residual = np.full(n, np.nan, dtype=np.float32)
        if result.difference is not None:
            expected = result.difference.detach().cpu().double().numpy()
            total = values.sum(axis=(1, 2), dtype=np.float64)
            residual = (np.abs(total - expected) / np.maximum(np.abs(expected), 0.1)).astype(np.float32)
        if result.evaluations is None:
            counts = np.full(n, -(-evaluations // n), dtype=np.int64)
        else:
            counts = result.evaluations.cpu().numpy().astype(np.int64)
        target, logits = problem.target, decided.logits
        return Explanation(
            values=values,
            method=method,
            signed=entry.signed,
            shows=entry.shows,
            target=clf.classes_[target.index.cpu().numpy()],
            score=problem.score.cpu().numpy(),
            index=prepared.index,
            image_ids=prepared.content_ids,
            geometry=prepared.geometry,
            prediction=prediction_of(
                clf,
                logits.cpu().numpy(),
                target.index.cpu().numpy(),
                None if self.true_label is None else self.true_label[prepared.index],
            ),
            options={
                "target": self.target,
                **({"error_bars": True} if self.error_bars else {}),
                **_described({**_defaults(method), **self.options[method]}),
                **({"background": background_digest(self.background)} if result.baseline == "background" else {}),
            },
            seed=self.seed if entry.random or self.error_bars else None,
            layer=result.layer,
            baseline=result.baseline,
            versions=package_versions(),
            completeness_residual=residual,
            evaluations=counts,
            spread=None if result.spread is None else result.spread.detach().float().cpu().numpy(),
            images=_as_seen(prepared.pixels),
            names=tuple(self.images.source(int(position)) for position in prepared.index),
        )


def background_digest(background: Tensor | None) -> str | None:
    """Return what tells one background from another, without holding it."""
    return None if background is None else hashlib.sha256(background.cpu().numpy().tobytes()).hexdigest()[:16]


def prediction_of(clf: Any, logits: np.ndarray, explained: np.ndarray, true_label: np.ndarray | None) -> Prediction:
    """Return what an estimator says of images with these raw logits (n, K).

    Of several labels, whether they have the explained one, which is the same in all of `explained` (n,).
    """
    decided, classes = clf._decide(logits), clf.classes_.tolist()
    pos_label, threshold = clf.pos_label_, clf.threshold_
    if clf.task_ is Task.MULTILABEL:
        k = int(explained[0])
        threshold = threshold_of(clf, active_point(clf, classes[k]))
        classes = list(map(str, classes))
        pos_label = classes[k]
        label = present_or_not(pos_label, decided[:, k] == 1)
    else:
        label = clf.classes_[decided]
    return Prediction(tuple(classes), clf._proba(logits), label, pos_label, threshold, true_label)


def joined(parts: list[Any], n_images: int) -> Any:
    """Return the explanation, or dict of them, that was made in parts."""
    if not parts:
        raise DataError(f"{_CALLER}: none of the {n_images} images could be read.")
    if isinstance(parts[0], dict):
        return {method: Explanation.concatenate([part[method] for part in parts]) for method in parts[0]}
    return Explanation.concatenate(parts)


def options_of_each(methods: Sequence[str], options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return which of the options each method takes; one that none of them takes is an error."""
    taken = {method: list(_defaults(method)) for method in methods}
    known = sorted({name for names in taken.values() for name in names})
    for name in options:
        if not known:
            raise invalid(f"options of {', '.join(methods)}", _CALLER, "empty", name)
        check_choice(f"options of {', '.join(methods)}", name, known, caller=_CALLER)
    return {method: {name: options[name] for name in options if name in taken[method]} for method in methods}


def _defaults(method: str) -> dict[str, Any]:
    """Return the options of a method with their defaults."""
    return keyword_options(METHODS[method].function)


def execution_of(clf: CXRClassifier, batch_size: Any) -> Execution:
    """Return how the network runs; `batch_size` is None (that of the classifier), a number or "auto"."""
    how = execution(clf)
    if batch_size is None:
        return how
    if isinstance(batch_size, str):
        check_choice("batch_size", batch_size, ("auto",), caller=_CALLER)
        return replace(how, batch_size=automatic_batch_size(clf.model_, clf.preprocessing_, how))
    return replace(how, batch_size=check_number("batch_size", batch_size, caller=_CALLER, low=1, integer=True))


def background_images(clf: CXRClassifier, background: Any = None, *, needed: bool = False) -> Tensor | None:
    """Return the reference images (b, C, S, S), normalised: those given, or what `fit` has kept, if anything."""
    if background is not None:
        prepared = prepare(as_images(clf, background), clf.preprocessing_, reading(clf))
        if not len(prepared.pixels):
            first = prepared.skipped[0]
            raise DataError(
                f"{_CALLER}: none of the background images could be read. The first, {first.source}: {first.reason}"
            )
        report(prepared.skipped)
        pixels = prepared.pixels
    elif clf.background_ is not None:
        pixels = clf.background_
    elif needed:
        raise DataError(
            f"{_CALLER}: fit kept no background, for want of 20 patients. Pass background=, some 10 images to compare "
            "with."
        )
    else:
        return None
    how = execution(clf)
    x = normalise(unit_tensor(pixels, how.device), clf.preprocessing_)
    if needed and background is not None and clf.task_ is not Task.MULTILABEL:
        decided = np.unique(clf._decide(forward(clf.model_, x, how, BatchLimit(how.batch_size)).cpu().numpy()))
        if len(decided) == 1:
            warnings.warn(
                f"The network says {plain(clf.classes_[decided[0]])!r} to all {len(x)} background images, so the map "
                "explains what differs from that class only.",
                BackgroundWarning,
                stacklevel=5,
            )
    return x


def _described(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as JSON can hold them; arrays by their shape."""
    return {
        name: f"{ARRAY} {tuple(value.shape)}"
        if hasattr(value, "shape") and value.shape
        else list(value)
        if isinstance(value, tuple)
        else plain(value)
        for name, value in options.items()
    }


def _as_seen(pixels: np.ndarray) -> np.ndarray:
    """Return (n, H, W) or (n, H, W, 3) uint8 for figures."""
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257.0).astype(np.uint8)
    return pixels[:, 0] if pixels.shape[1] == 1 else np.moveaxis(pixels, 1, 3)
