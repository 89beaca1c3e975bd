"""Explanations made and measured batch by batch: what scorers and the benchmark share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from sklearn.utils import _safe_indexing

from cxr_estimator._batches import problem_of, run_batches
from cxr_estimator._decisions import target_rule
from cxr_estimator._explaining import Explained, ExplanationPlan, execution_of
from cxr_estimator._predicting import images as as_images
from cxr_estimator._progress import check_callback
from cxr_estimator._validation import check_number, check_seed, invalid, wrong_type
from cxr_estimator.errors import DataError
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import METRICS, N_REFERENCES, Context, Request, checked, measure_all

if TYPE_CHECKING:
    from torch import Tensor

    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.images import ImageSequence
    from cxr_estimator.preprocessing import Geometry
    from cxr_estimator.reading import PreparedImages

_Result = TypeVar("_Result")


class Measured(NamedTuple):
    """A batch: its explanations, the time that each took, and by method the metrics (n,) of each."""

    found: dict[str, Explanation]
    seconds: dict[str, float]
    metrics: dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class MeasuringPlan:
    """A checked request: methods, and the metrics to take of each.

    Parameters
    ----------
    explaining : ExplanationPlan
    requests : dict of method to dict of label to Request
    masks : sequence of N masks, or None
        Ground truth of each image, bool, at its original size.
    relative, n_references
        See `metrics.measure`.
    """

    explaining: ExplanationPlan
    requests: Mapping[str, Mapping[str, Request]]
    masks: Sequence[Any] | None
    relative: bool
    n_references: int

    @classmethod
    def check(
        cls,
        clf: CXRClassifier,
        X: Any,
        y: Any,
        requests: Mapping[str, Mapping[str, Request]],
        *,
        masks: Sequence[Any] | None = None,
        relative: bool = True,
        n_references: int = N_REFERENCES,
        **explain: Any,
    ) -> MeasuringPlan:
        """Return the plan, or raise before any image is explained. `explain` are parameters of `explain`."""
        explaining = ExplanationPlan.check(clf, X, y, list(requests), **explain)
        for request in [one for of_method in requests.values() for one in of_method.values()]:
            needs = METRICS[checked(request).metric].needs
            if "mask" in needs and masks is None:
                raise invalid("masks", request.metric, "given: the ground truth of each image", None)
        if not isinstance(relative, bool | np.bool_):
            raise wrong_type("relative", "measure", "True or False", relative)
        check_number("n_references", n_references, caller="measure", low=1, integer=True)
        listed = None if masks is None else checked_masks(masks, len(explaining.images))
        return cls(explaining, requests, listed, bool(relative), n_references)

    def run(self) -> Iterator[Measured]:
        """Yield the batches."""
        return self.explaining.run(self._measured)

    def _measured(self, batch: Explained) -> Measured:
        first = next(iter(batch.found.values()))
        context = Context(batch.problem, mask=self._mask(first))
        values = {}
        for method, explanation in batch.found.items():
            context = replace(context, explain=batch.explain[method])
            values[method] = measure_all(
                self.requests[method], explanation, context, relative=self.relative, n_references=self.n_references
            )
        return Measured(batch.found, batch.seconds, values)

    def _mask(self, explanation: Explanation) -> np.ndarray | None:
        if self.masks is None:
            return None
        pairs = zip(explanation.geometry, explanation.index, strict=True)
        masks = [mask_at_model_size(self.masks[int(i)], geometry, int(i), caller="measure") for geometry, i in pairs]
        return np.stack(masks)


def checked_masks(masks: Any, n_images: int, *, caller: str = "measure") -> list[Any]:
    """Return the masks by position (a pandas Series goes by labels), or raise unless each is one of booleans."""
    if not hasattr(masks, "__len__") or isinstance(masks, str | Mapping):
        raise wrong_type("masks", caller, "a sequence of masks, one for each image", masks)
    if len(masks) != n_images:
        raise invalid("masks", caller, f"one mask for each of the {n_images} images", len(masks))
    listed = list(masks)
    for number, mask in enumerate(listed):
        array = np.asarray(mask)
        if array.dtype != bool or array.ndim != 2:  # a share of 0.2 or NaN would become True
            got = f"{array.dtype} of shape {array.shape}"
            raise wrong_type(f"masks[{number}]", caller, "a bool array of the shape of the image", got)
    return listed


def mask_at_model_size(mask: Any, geometry: Geometry, position: int, *, caller: str) -> np.ndarray:
    """Return a mask (H, W) of an image, bool, at model size, or raise unless it has the shape of the image."""
    mask = np.asarray(mask)
    if mask.shape != tuple(geometry.original_shape):
        shapes = f"shape {mask.shape}, and its image {tuple(geometry.original_shape)}"
        raise DataError(f"{caller}: the mask at position {position} has {shapes}: masks are at original size.")
    return geometry.mask_to_model(mask)


def of_the_same_images(explanations: Any, *, caller: str) -> dict[str, Explanation]:
    """Return explanations by name, of one or a dict; raise unless they explain the same classes of the same images."""
    found = {explanations.method: explanations} if isinstance(explanations, Explanation) else explanations
    if not isinstance(found, Mapping) or not all(isinstance(one, Explanation) for one in found.values()):
        raise wrong_type("explanations", caller, "an Explanation, or a dict of them by name", explanations)
    if not found or not all(map(len, found.values())):
        raise invalid("explanations", caller, "one at least, of one image at least", explanations)
    (first_name, first), *others = found.items()
    for name, one in others:
        if one.image_ids != first.image_ids or one.index.tolist() != first.index.tolist():
            raise DataError(f"{caller}: {name!r} and {first_name!r} explain different images.")
        if one.target.tolist() != first.target.tolist():
            raise DataError(f"{caller}: {name!r} and {first_name!r} explain different classes of the same images.")
    return {str(name): one for name, one in found.items()}


def run_given(
    explanations: Mapping[str, Explanation],
    clf: CXRClassifier,
    X: Any,
    use: Callable[[Explained], _Result],
    *,
    caller: str,
    batch_size: Any = None,
    random_state: Any = 0,
    progress: Callable[[float, int], Any] | None = None,
) -> Iterator[_Result]:
    """Yield what `use` makes of each batch of explanations that exist already, as `ExplanationPlan.run` does.

    Parameters
    ----------
    explanations : dict of name to Explanation
        Of the same images and classes, see `of_the_same_images`.
    clf : CXRClassifier
        The network that the maps are tried on.
    X : images
        Those that were given to `explain`: `Explanation.index` tells which of them a map belongs to.
    use : callable
        As for `ExplanationPlan.run`; what it is given can explain nothing anew.
    caller : str
        For error messages.
    batch_size, random_state, progress
        As for `CXRClassifier.explain`.

    Raises
    ------
    DataError
        Other images, classes or sizes than those of the explanations; of images that is noticed as they are read.
    """
    first, images = next(iter(explanations.values())), _images_of(explanations, clf, X, caller)
    classes = torch.from_numpy(_class_index(first, clf, caller))
    margin = first.options.get("target") == "margin"
    how, seed = execution_of(clf, batch_size), check_seed(random_state, caller=caller)
    check_callback(progress)

    def part(prepared: PreparedImages, x: Tensor, done: int) -> _Result:
        for row, content_id in zip(prepared.index, prepared.content_ids, strict=True):
            if first.image_ids[row] != content_id:
                raise DataError(f"{caller}: image {first.index[row]} of X is not the one that was explained.")
        rule = target_rule(clf, classes[prepared.index].to(x.device), margin=margin)
        problem = problem_of(clf, prepared, x, rule, how, seed)
        if progress is not None:  # which may stop the work
            problem.progress = lambda share: progress(done, len(first))
        found = {
            name: Explanation.concatenate([one[int(i)] for i in prepared.index]) for name, one in explanations.items()
        }
        result = use(Explained(found, {}, problem, {}))
        if progress is not None:
            progress(done + len(x), len(first))
        return result

    return run_batches(clf, images, how, part)


def _images_of(explanations: Mapping[str, Explanation], clf: CXRClassifier, X: Any, caller: str) -> ImageSequence:
    """Return the explained images among X, in order, or raise where X or the maps cannot be right."""
    index, n_images = next(iter(explanations.values())).index, len(as_images(clf, X))
    if index.min() < 0 or index.max() >= n_images:
        raise DataError(
            f"{caller}: X has {n_images} images, but one at position {index.max()} was explained. Pass the X that was "
            "given to explain."
        )
    size = (clf.preprocessing_.image_size, clf.preprocessing_.image_size)
    for name, one in explanations.items():
        if one.values.shape[1:] != size:
            raise DataError(f"{caller}: {name!r} has maps of {one.values.shape[1:]}, but the model sees {size} pixels.")
    return as_images(clf, _safe_indexing(X, index))


def _class_index(explanation: Explanation, clf: CXRClassifier, caller: str) -> np.ndarray:
    """Return the index (N,) of the explained class among those of the model."""
    labels = {label: number for number, label in enumerate(clf.classes_.tolist())}
    unknown = sorted(set(explanation.target.tolist()) - set(labels), key=str)
    if unknown:
        raise DataError(f"{caller}: {unknown} was explained, but the model knows {list(labels)}.")
    return np.array([labels[label] for label in explanation.target.tolist()], dtype=np.int64)
