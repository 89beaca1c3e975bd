"""What `CXREnsemble` does with its members: fit them, join what they say and what explains it, save and load them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from cxr_estimator import _persistence
from cxr_estimator._explaining import ExplanationPlan, prediction_of
from cxr_estimator._outputs import Task
from cxr_estimator._predicting import run_members
from cxr_estimator._progress import check_callback, shared_progress
from cxr_estimator._targets import explained_classes
from cxr_estimator._validation import check_number, check_seed, invalid, plain, wrong_type
from cxr_estimator.card import ModelCard
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.errors import CXRError, DataError, ModelFolderError
from cxr_estimator.explanation import Explanation
from cxr_estimator.images import ImageSequence
from cxr_estimator.inference import Logits, batches
from cxr_estimator.serialization import (
    CONFIG_NAME,
    SCHEMA_VERSION,
    from_json,
    read_config,
    to_json,
    write_file,
)

if TYPE_CHECKING:
    from cxr_estimator.ensemble import CXREnsemble

FORMAT = "cxr_estimator_ensemble"
_CLASS = "CXREnsemble"
_CALLER = "explain"
_MOST = 100  # members
# Parameters of the template that its members follow when they answer; the others belong to the networks as fitted.
_RUN = ("batch_size", "precision", "device", "on_error", "cache_dir", "n_jobs", "verbose")
_KEYS = {
    "format", "schema_version", "members", "parameters", "task", "classes", "pos_label", "operating_points",
    "active_operating_points", "calibration", "class_weights",
}  # fmt: skip
_OPTIONAL_KEYS = {"abstention", "card", "conformal"}
# where members do not have what the ensemble or its template was made with
_PARAMETERS = ("random_state", "estimator__random_state", "estimator__threshold")


def fitted_members(ensemble: CXREnsemble, X: Any, y: Any, **fit: Any) -> list[CXRClassifier]:
    """Fit clones of the template with seeds of their own."""
    template = ensemble.estimator
    if not isinstance(template, CXRClassifier):
        raise wrong_type("estimator", _CLASS, "a CXRClassifier", template)
    check_number("n_estimators", ensemble.n_estimators, caller=_CLASS, low=2, high=_MOST, integer=True)
    if isinstance(template.threshold, str):
        constraint = "a number, since each member splits off other validation images; use set_threshold after fit"
        raise invalid("estimator__threshold", _CLASS, constraint, template.threshold)
    seeds = np.random.SeedSequence(check_seed(ensemble._default_seed, caller=_CLASS)).generate_state(
        ensemble.n_estimators
    )
    members = []
    for number, seed in enumerate(seeds.tolist()):
        member = clone(template).set_params(random_state=seed)
        if template.checkpoint_dir is not None:
            member.set_params(checkpoint_dir=Path(template.checkpoint_dir) / f"member_{number}")
        members.append(member.fit(X, y, **fit))
    return members


def check_members(models: Any) -> list[CXRClassifier]:
    """Return fitted classifiers that can be joined, or raise an error that says how they differ."""
    if not isinstance(models, Sequence) or not 2 <= len(models) <= _MOST:
        raise invalid("models", _CLASS, f"a list of 2 to {_MOST} fitted classifiers", models)
    for number, model in enumerate(models):
        if not isinstance(model, CXRClassifier):
            raise wrong_type("models", _CLASS, "a list of CXRClassifiers", model)
        if not hasattr(model, "classes_"):
            raise invalid("models", _CLASS, "a list of fitted classifiers", f"an unfitted one at index {number}")
        rows = "image_shape of rows", model.image_shape_, models[0].image_shape_
        for what, own, first in (*_must_agree(model, models[0]), rows):
            if own != first:
                raise DataError(
                    f"{_CLASS}: the models must have the same {what}, but models[0] has {first!r} and models[{number}] "
                    f"has {own!r}."
                )
    return list(models)


def _must_agree(model: Any, first: CXRClassifier) -> Iterator[tuple[str, Any, Any]]:
    yield "task", model.task_.value, first.task_.value
    yield "classes, in the same order", model.classes_.tolist(), first.classes_.tolist()
    yield "positive label", model.pos_label_, first.pos_label_


def geometric_mean_of_weights(members: Sequence[CXRClassifier]) -> np.ndarray:
    """Return the class weights (K,) whose shift of the mean log-odds is the mean of the members' shifts."""
    with np.errstate(divide="ignore"):  # a weight of 0 stays 0
        return np.exp(np.mean([np.log(member.class_weights_) for member in members], axis=0))


def running(ensemble: CXREnsemble) -> list[CXRClassifier]:
    """Return the members as they are to run now: with the template's device, batch size and treatment of errors."""
    settings = {name: getattr(ensemble.estimator, name) for name in _RUN}
    return [copy(member).set_params(**settings) for member in ensemble.estimators_]


def run(ensemble: CXREnsemble, X: Any) -> Logits:
    """Return the mean of the members' logits for each image."""
    values, found = run_members(running(ensemble), X)
    return found._replace(values=values.mean(axis=0))


@dataclass(frozen=True)
class EnsemblePlan:
    """A checked request for explanations."""

    ensemble: CXREnsemble
    members: list[CXRClassifier]
    X: Any
    images: ImageSequence
    method: Any
    target: Any
    index: np.ndarray | None  # of the class to explain, where it does not follow from the prediction
    truth: np.ndarray | None
    request: dict[str, Any]

    @classmethod
    def check(
        cls, ensemble: CXREnsemble, X: Any, y: Any, method: Any, target: Any, request: dict[str, Any]
    ) -> EnsemblePlan:
        """Return the plan, or raise before any image is explained, but for faults that the members find."""
        images = ensemble._images(X)
        members = running(ensemble)
        views = sorted({f"{one.preprocessing_.resize} to {one.preprocessing_.image_size} pixels" for one in members})
        if len(views) > 1:
            text = f"the members see images in different ways ({', '.join(views)}), and such maps have no mean"
            raise DataError(f"{_CALLER}: {text}. Explain each of `estimators_` by itself.")
        if isinstance(target, str) and target == "margin":
            raise invalid("target", _CALLER, "a class, 'predicted' or 'true' for an ensemble", target)
        if "error_bars" in request:
            raise invalid("error_bars", _CALLER, "left out for an ensemble, whose members differ anyway", True)
        index, truth = explained_classes(ensemble, len(images), target, y)
        methods = [method] if isinstance(method, str) else method
        asked = request | {"target": ensemble.classes_.tolist()[0]}
        ExplanationPlan.check(members[0], X, None, methods, **asked)  # wrong options fail now
        return cls(ensemble, members, X, images, method, target, index, truth, request)

    def all(self, progress: Callable[[float, int], Any] | None) -> Any:
        """Return what `CXREnsemble.explain` returns."""
        check_callback(progress)
        found = self._part(slice(0, len(self.images)), progress)
        if found is None:
            raise DataError(f"{_CALLER}: none of the {len(self.images)} images could be read.")
        return found

    def parts(self) -> Iterator[Any]:
        """Yield the explanations of `batch_size` images at a time."""
        size = self.request.get("batch_size")
        for rows in batches(len(self.images), size if isinstance(size, int) else self.ensemble.estimator.batch_size):
            found = self._part(rows)
            if found is not None:
                yield found

    def _part(self, rows: slice, progress: Callable[[float, int], Any] | None = None) -> Any:
        """Return the explanations of some of the images, or None where none of them could be read."""
        ensemble, part = self.ensemble, _safe_indexing(self.X, rows)
        found = ensemble._run(part)
        readable = np.flatnonzero(~np.isnan(found.values).any(axis=1))
        if not len(readable):
            return None
        logits, position = found.values[readable], readable + rows.start
        index = ensemble._decide(logits) if self.index is None else self.index[position]
        if ensemble.task_ is Task.MULTILABEL:
            what: dict[str, Any] = {"target": ensemble.classes_.tolist()[index[0]]}
        else:
            what = {"target": "true", "y": ensemble.classes_[index]}
        several = not isinstance(self.method, str)
        each = [
            member.explain(
                _safe_indexing(part, readable),
                method=self.method if several else [self.method],
                progress=shared_progress(progress, number, len(self.members)),
                **{**what, **self.request},
            )
            for number, member in enumerate(self.members)
        ]
        fields = {
            "index": position,
            "prediction": prediction_of(ensemble, logits, index, None if self.truth is None else self.truth[position]),
            "names": tuple(self.images.source(int(row)) for row in position),
        }
        joined = {name: _mean([one[name] for one in each], self._options, **fields) for name in each[0]}
        return joined if several else joined[self.method]

    @property
    def _options(self) -> dict[str, Any]:
        return {"target": plain(self.target), "members": len(self.members)}


def _mean(parts: list[Explanation], asked: dict[str, Any], **fields: Any) -> Explanation:
    """Return the mean of the members' maps; their standard deviation is the spread."""
    first, values = parts[0], np.stack([part.values for part in parts])
    return replace(
        first,
        values=values.mean(axis=0),
        spread=values.std(axis=0, ddof=1),
        score=np.mean([part.score for part in parts], axis=0),
        layer=first.layer if len({part.layer for part in parts}) == 1 else None,
        completeness_residual=np.max([part.completeness_residual for part in parts], axis=0),
        evaluations=np.sum([part.evaluations for part in parts], axis=0),
        options={**first.options, **asked},
        **fields,
    )


def file_names(n_members: int) -> list[str]:
    """Return the names of the files of an ensemble: its configuration, and a folder for each member."""
    return [CONFIG_NAME, *(f"{_place(number)}/{name}" for number in range(n_members) for name in _persistence.FILES)]


def _place(number: int) -> str:
    return f"member_{number}"


def save(ensemble: CXREnsemble, folder: Path, dtype: str | None, card: ModelCard) -> dict[str, str]:
    """Write the files of `file_names`, and return their SHA-256."""
    sums = {}
    for number, member in enumerate(ensemble.estimators_):
        written = _persistence.save(member, folder / _place(number), dtype, ModelCard())
        sums.update({f"{_place(number)}/{name}": digest for name, digest in written.items()})
    config = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "members": len(ensemble.estimators_),
        "parameters": {name: to_json(ensemble.get_params()[name]) for name in _PARAMETERS},
        **_persistence.decisions_to_json(ensemble, card),
    }
    sums[CONFIG_NAME] = write_file(folder / CONFIG_NAME, json.dumps(config, indent=1, allow_nan=False).encode())
    return sums


def load(cls: type[CXREnsemble], folder: Path, device: str) -> CXREnsemble:
    """Read what `save` wrote; whatever is wrong is a ModelFolderError that names the file."""
    path = folder / CONFIG_NAME
    config = read_config(path, FORMAT, _KEYS, _OPTIONAL_KEYS, otherwise="CXRClassifier.load reads a single model.")
    try:
        n_members = check_number("members", config["members"], caller=_CLASS, low=2, high=_MOST, integer=True)
    except CXRError as error:
        raise ModelFolderError(f"{path}: {error}") from error
    members = [_persistence.load(CXRClassifier, folder / _place(number), device) for number in range(n_members)]
    try:
        ensemble = cls.from_fitted(members)
        if set(config["parameters"]) != set(_PARAMETERS):
            raise ModelFolderError(f"{path}: 'parameters' must hold {list(_PARAMETERS)}.")
        ensemble.set_params(**{name: from_json(value) for name, value in config["parameters"].items()})
        check_seed(ensemble._default_seed, caller=_CLASS)
        check_number("threshold", ensemble.estimator.threshold, caller=_CLASS, low=0, high=1)
        _persistence.restore_decisions(ensemble, config)
    except ModelFolderError:
        raise
    except (CXRError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelFolderError(f"{path}: not a valid configuration ({error}).") from error
    for what, own, of_members in _must_agree(ensemble, members[0]):
        if own != of_members:
            raise ModelFolderError(f"{path}: the {what} ({own!r:.100}) differ from those of the members.")
    return ensemble
