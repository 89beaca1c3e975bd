"""Explanations made and measured batch by batch: what scorers and the benchmark share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cxr_estimator._explaining import Explained, ExplanationPlan
from cxr_estimator._validation import invalid
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import METRICS, N_REFERENCES, Context, Request, checked, measure_all

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier


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
        if masks is not None and len(masks) != len(explaining.images):
            raise invalid("masks", "explain", f"one mask for each of the {len(explaining.images)} images", len(masks))
        return cls(explaining, requests, masks, relative, n_references)

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
        return np.stack([geometry.mask_to_model(np.asarray(self.masks[int(i)])) for geometry, i in pairs])
