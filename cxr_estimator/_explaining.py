"""What `CXRClassifier.explain` does: check the request, run the method batch by batch, wrap the result."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cxr_estimator._predicting import execution, reading, report
from cxr_estimator._validation import check_choice, check_labels, invalid
from cxr_estimator.attribution import METHODS, Attribution
from cxr_estimator.errors import SkippedImage
from cxr_estimator.explanation import Explanation, Prediction
from cxr_estimator.images import ImageSequence
from cxr_estimator.inference import BatchLimit, Execution, batches, evaluating, iter_inputs
from cxr_estimator.reading import PreparedImages
from cxr_estimator.versions import package_versions

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

_RULES = ("predicted", "true", "margin")


@dataclass(frozen=True)
class ExplanationPlan:
    """A checked request."""

    method: str
    target: Any
    options: dict[str, Any]
    index: np.ndarray | None  # class index per image, where it does not depend on the prediction
    true_label: np.ndarray | None

    @classmethod
    def check(
        cls, clf: CXRClassifier, n_images: int, y: Any, method: str, target: Any, options: dict[str, Any]
    ) -> ExplanationPlan:
        """Return the plan, or raise before any image is read."""
        caller = "explain"
        entry = METHODS[check_choice("method", method, METHODS, caller=caller)]
        allowed = [
            name
            for name, parameter in inspect.signature(entry.function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        for name in options:
            check_choice(f"options of {method}", name, allowed, caller=caller)
        labels = clf.classes_.tolist()
        if isinstance(target, str) and target in _RULES and target in labels:
            raise invalid("target", caller, "unambiguous; rename the class, which is called like a rule", target)
        true_label = None if y is None else check_labels(y, n_images, caller=caller, classes=clf.classes_)
        index = None
        if isinstance(target, str) and target == "true":
            if true_label is None:
                raise invalid("y", caller, "given for target='true'", None)
            index = np.searchsorted(clf.classes_, true_label)
        elif not (isinstance(target, str) and target in _RULES):
            check_choice("target", target, [*labels, *_RULES], caller=caller)
            index = np.full(n_images, labels.index(target))
        return cls(method, target, dict(options), index, true_label)

    def run(self, clf: CXRClassifier, images: ImageSequence) -> Iterator[Explanation]:
        """Yield an explanation for each batch."""
        how = execution(clf)
        limit = BatchLimit(how.batch_size)
        skipped: list[SkippedImage] = []
        for prepared, x in iter_inputs(images, clf.preprocessing_, how, reading(clf)):
            skipped += prepared.skipped
            yield from limit.run(partial(self._parts, clf, images, prepared, x, how))
        report(tuple(skipped))

    def _parts(
        self, clf: CXRClassifier, images: ImageSequence, prepared: PreparedImages, x: Tensor, how: Execution, size: int
    ) -> list[Explanation]:
        return [self._explain(clf, images, prepared.part(rows), x[rows], how) for rows in batches(len(x), size)]

    def _explain(
        self, clf: CXRClassifier, images: ImageSequence, prepared: PreparedImages, x: Tensor, how: Execution
    ) -> Explanation:
        entry = METHODS[self.method]
        index = None if self.index is None else torch.from_numpy(self.index[prepared.index]).to(x.device)
        rule = clf._target_rule(index, margin=isinstance(self.target, str) and self.target == "margin")
        precise = how if entry.bf16_safe else replace(how, precision="float32")
        with evaluating(clf.model_), precise.autocast():
            result: Attribution = entry.function(clf.model_, x, rule, **self.options)
        target = rule.resolve(result.logits)
        logits = result.logits.cpu().numpy()
        return Explanation(
            values=result.values.detach().cpu().numpy().astype(np.float32),
            method=self.method,
            signed=entry.signed,
            target=clf.classes_[target.index.cpu().numpy()],
            score=target.score(result.logits).cpu().numpy(),
            index=prepared.index,
            image_ids=prepared.content_ids,
            geometry=prepared.geometry,
            prediction=Prediction(
                classes=tuple(clf.classes_.tolist()),
                proba=clf._proba(logits),
                label=clf.classes_[rule.predicted(result.logits).cpu().numpy()],
                pos_label=clf.pos_label_,
                threshold=clf.threshold_,
                true_label=None if self.true_label is None else self.true_label[prepared.index],
            ),
            options={
                "target": self.target.item() if isinstance(self.target, np.generic) else self.target,
                **self.options,
            },
            layer=result.layer,
            versions=package_versions(),
            completeness_residual=np.full(len(x), np.nan, dtype=np.float32),
            images=_as_seen(prepared.pixels),
            names=tuple(images.source(int(position)) for position in prepared.index),
        )


def _as_seen(pixels: np.ndarray) -> np.ndarray:
    """Return (n, H, W) or (n, H, W, 3) uint8 for figures."""
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257.0).astype(np.uint8)
    return pixels[:, 0] if pixels.shape[1] == 1 else np.moveaxis(pixels, 1, 3)
