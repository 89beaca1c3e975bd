"""The parts of a report that take long, and how far they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing

from cxr_estimator._operating import Judged
from cxr_estimator._outputs import Task
from cxr_estimator._progress import check_callback
from cxr_estimator.audit import AuditReport
from cxr_estimator.audit import audit as examine_model
from cxr_estimator.benchmark import benchmark as measure_methods
from cxr_estimator.errors import CXRError, DataError, ImageError
from cxr_estimator.report._examples import Examples, drawn, examples, explained_label, outcomes_of

_STREAM = 0xBE4C
_ENSEMBLE = {
    "benchmark": "The model is an ensemble, and methods are measured on one network: benchmark a member of it.",
    "audit": "The model is an ensemble, and an audit is of one network: audit a member of it.",
}
_Part = TypeVar("_Part")
Tell = Callable[[float, int], Any]  # tell(done, total), in images


@dataclass(frozen=True)
class Work:
    """What is made of the images X (M,) that could be read.

    Attributes
    ----------
    clf : CXRClassifier or CXREnsemble
    X : M images
    data : Judged
        What the network says of them.
    groups : ndarray (M,) or None
        None where patients are unknown.
    attributes : dict of name to ndarray (M,)
        Subgroups.
    methods : list of str
    seed, n_resamples : int
    """

    clf: Any
    X: Any
    data: Judged
    groups: np.ndarray | None
    attributes: dict[str, np.ndarray]
    methods: list[str]
    seed: int
    n_resamples: int

    @property
    def target(self) -> Any:
        """What maps explain."""
        return explained_label(self.clf, self.data)

    @property
    def explained(self) -> str:
        """What maps explain, in words."""
        return f"the label {self.target}" if self.clf.task_ is Task.MULTILABEL else "the decided class"

    def examples(self, n_examples: int, tell: Tell) -> Examples:
        """Explain images of each outcome."""
        rows = drawn(self.clf, outcomes_of(self.clf, self.data, self.target), n_examples, self.seed)
        if not len(rows):
            raise DataError("No examples were asked for.")
        return examples(
            self.clf, self.X, self.data, rows, self.methods, target=self.target, seed=self.seed, progress=tell
        )

    def benchmark(self, metrics: Any, n_maps: int, tell: Tell) -> pd.DataFrame:
        """Measure the methods on images drawn at random."""
        known = np.flatnonzero(outcomes_of(self.clf, self.data, self.target) != "")
        rows = np.sort(np.random.default_rng([self.seed, _STREAM]).permutation(known)[:n_maps])
        return measure_methods(
            self.clf,
            _safe_indexing(self.X, rows),
            self.data.labels[rows],
            methods=self.methods,
            metrics=metrics,
            groups=None if self.groups is None else self.groups[rows],
            n_resamples=self.n_resamples,
            random_state=self.seed,
            progress=tell,
            target=self.target,
        )

    def audit(self, n_maps: int, tell: Tell) -> AuditReport:
        """Audit the model."""
        return examine_model(
            self.clf,
            self.X,
            self.data.labels,
            self.groups,
            methods=self.methods,
            subgroups=self.attributes or None,
            n_maps=n_maps,
            n_resamples=self.n_resamples,
            random_state=self.seed,
            progress=tell,
        )


class Steps:
    """Tells how far all parts are, and lets none of them hide the others by what goes wrong in it."""

    def __init__(self, progress: Callable[[float, int], Any] | None, total: int) -> None:
        check_callback(progress, caller="report")
        self._progress, self._total, self._done = progress, total, 0.0
        self._stopped: BaseException | None = None

    def end(self, n_images: float) -> None:
        """End a part of so many images."""
        self._done += n_images
        self._tell(self._done)

    def attempt(
        self, name: str, task: Callable[[Any], _Part], cost: int, clf: Any, missing: dict[str, str]
    ) -> _Part | None:
        """Return a part, or None where it cannot be made, which `missing` then tells of."""
        found = None
        if name in _ENSEMBLE and hasattr(clf, "estimators_"):
            missing[name] = _ENSEMBLE[name]
        elif name == "audit" and clf.task_ is Task.MULTILABEL:
            missing[name] = "The model gives several labels per image, and an audit is of models of classes."
        else:
            try:
                found = task(lambda done, total: self._tell(self._done + cost * done / max(total, 1)))
            except CXRError as error:
                if error is self._stopped:
                    raise
                # an ImageError names the file, and so maybe the patient
                said = "An image that could be read before could not be read any more."
                missing[name] = said if isinstance(error, ImageError) else str(error)
        self.end(cost)
        return found

    def _tell(self, done: float) -> None:
        if self._progress is None:
            return
        try:
            self._progress(done, self._total)
        except BaseException as error:
            self._stopped = error
            raise
