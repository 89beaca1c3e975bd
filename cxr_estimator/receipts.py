"""Receipts: what is needed to repeat one explanation of one image, and to tell whether the repetition is the same.

A receipt holds no image, file name, path or patient. Of the image it keeps a SHA-256, by which those who have the image
can tell that it is the one. It is not signed: it tells what somebody says was computed, which `replay` checks.
"""

from __future__ import annotations

import copy
import hashlib
import json
import operator
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from cxr_estimator._decisions import active_point
from cxr_estimator._explaining import ARRAY, background_digest, background_images, execution_of
from cxr_estimator._model_digest import network_digest
from cxr_estimator._operating import threshold_of
from cxr_estimator._outputs import Task
from cxr_estimator._receipt_fields import BUNDLED, FOLDER, Point, check_fields, option_value
from cxr_estimator._replaying import TOLERANCES, Difference, Replay, Tolerance, coarse, compared
from cxr_estimator._validation import check_choice, check_path, keyword_options, plain, wrong_type
from cxr_estimator.attribution import METHODS
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.errors import DataError, ModelFolderError
from cxr_estimator.explanation import Explanation
from cxr_estimator.images import as_images
from cxr_estimator.serialization import atomic_write, parse_json, read_json, writable_folder
from cxr_estimator.thresholds import NUMBER, OperatingPoint
from cxr_estimator.versions import package_versions

_FORMAT = "cxr_estimator.receipt"
_VERSION = 1
_MAX_BYTES = 1_000_000
_CLOSE = 1e-6  # how far the two ways in which a receipt tells the operating point may be apart, by rounding


@dataclass(frozen=True)
class Receipt:
    """One explanation of one image: what it was made with, and what came out.

    Attributes
    ----------
    created : str
        The day (UTC), such as "2026-01-31".
    image_id : str
        SHA-256 of the decoded pixels.
    model_name, model_revision : str; str or None
        "bundled", "folder", or "user/model" with its revision on the Hub.
    model_digest : str
        SHA-256 of weights, preprocessing, classes, background and calibration.
    operating_point : Point or None
        The one that decided between two classes, or on the explained one of several labels.
    method, target, error_bars, options, seed
        As for `CXRClassifier.explain`; the options with their defaults, the seed None where nothing is random.
    batch_size, device, precision, threads : int, str, str, int
        How the network ran: images at once at most, "cpu" or the like, "float32" or "bfloat16".
    versions, machine : dict of str to str
        Packages; operating system, processor family and its vector instructions.
    probabilities : tuple of (label, float)
    decision, explained : label
    score : float
        The explained scalar, see `Explanation`.
    map_sha256 : str
        Of the float32 values of the map, little-endian.
    coarse_map : tuple of tuples of float
        Means of the map on a grid of at most 16 x 16 blocks.
    """

    created: str
    image_id: str
    model_name: str
    model_revision: str | None
    model_digest: str
    operating_point: Point | None
    method: str
    target: Any
    error_bars: bool
    options: dict[str, Any]
    seed: int | None
    batch_size: int
    device: str
    precision: str
    threads: int
    versions: dict[str, str]
    machine: dict[str, str]
    probabilities: tuple[tuple[Any, float], ...]
    decision: Any
    explained: Any
    score: float
    map_sha256: str
    coarse_map: tuple[tuple[float, ...], ...]

    @property
    def model(self) -> str:
        """Which model it was, for people."""
        if self.model_name == BUNDLED:
            return f"the one that comes with cxr_estimator {self.versions.get('cxr_estimator', '(unknown)')}"
        if self.model_name == FOLDER:
            return "one that lay in a folder"
        return f"{self.model_name} on the Hub, revision {self.model_revision or 'main at that time'}"

    def to_json(self) -> str:
        """Return the receipt as JSON, which `from_json` reads."""
        content = asdict(self)
        if self.operating_point is not None:
            content["operating_point"] = self.operating_point._asdict()
        return json.dumps({"format": _FORMAT, "version": _VERSION, **content}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Receipt:
        """Read what `to_json` wrote.

        Raises
        ------
        ModelFolderError
            It is no receipt of this version: too long, not JSON, unknown, missing or repeated keys, wrong types.
        """
        if not isinstance(text, str | bytes):
            raise wrong_type("text", "Receipt.from_json", "text or bytes", text)
        content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if len(content) > _MAX_BYTES:
            raise ModelFolderError(f"receipt: has more than the limit of {_MAX_BYTES:,} bytes.")
        return cls._of(parse_json(content, "receipt"), "receipt")

    def save(self, path: str | Path) -> Path:
        """Write the receipt to a file, whole or not at all; return its path."""
        path = check_path("path", path, caller="Receipt.save")
        writable_folder(path.parent)
        with atomic_write(path) as file:
            file.write(self.to_json().encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Receipt:
        """Read the file of a receipt; errors are those of `from_json`, and name the file."""
        path = check_path("path", path, caller="Receipt.load")
        return cls._of(read_json(path, limit=_MAX_BYTES), str(path))

    @classmethod
    def _of(cls, content: dict[str, Any], source: str) -> Receipt:
        version = content.pop("version", None)
        if content.pop("format", None) != _FORMAT or version != _VERSION or isinstance(version, bool | float):
            raise ModelFolderError(f"{source}: not a receipt of version {_VERSION}.")
        try:
            return cls(**check_fields(content))
        except DataError as error:
            raise ModelFolderError(f"{source}: this receipt is damaged ({error}).") from error


def receipt_of(
    clf: CXRClassifier,
    explanation: Explanation,
    i: int = 0,
    *,
    model_name: str,
    revision: str | None = None,
    batch_size: int | str | None = None,
) -> Receipt:
    """Return the receipt of image `i` of an explanation that `clf` has just made, as it is now.

    A repetition explains the image alone. It is the same bit for bit where the image was explained alone as well:
    together with others the last bits are other ones, since sums are then made in another order.

    Parameters
    ----------
    clf : CXRClassifier
    explanation : Explanation
    i : int
    model_name : str
        "bundled", "user/model" on the Hub, or "folder"; never a path.
    revision : str, optional
        On the Hub, best a commit.
    batch_size : int or "auto", optional
        As given to `explain`, if it was.

    Raises
    ------
    DataError
        The explanation cannot be repeated from a receipt (a background, or an array as an option, that only its maker
        has), or the operating point of `clf` is another one by now.
    InvalidTypeError
        `clf` is an ensemble, which has no receipts.
    """
    clf = _checked(clf, "receipt_of")
    if not isinstance(explanation, Explanation):
        raise wrong_type("explanation", "receipt_of", "an Explanation of one method", explanation)
    one = explanation[operator.index(i)]
    said, how, explained = one.prediction, execution_of(clf, batch_size), plain(one.target[0])
    content = {
        "created": datetime.now(UTC).date().isoformat(),
        "image_id": one.image_ids[0],
        "model_name": model_name,
        "model_revision": revision,
        "model_digest": network_digest(clf),
        "operating_point": _point(clf, one),
        "method": one.method,
        "options": _options(clf, one),
        # "true" is known to its maker only
        "target": explained if one.options["target"] == "true" else one.options["target"],
        "error_bars": "error_bars" in one.options,
        "seed": one.seed,
        "batch_size": how.batch_size,
        "device": how.device.type,
        "precision": how.precision,
        "threads": torch.get_num_threads(),
        "versions": dict(one.versions),
        "machine": _machine(),
        "probabilities": [(plain(label), float(p)) for label, p in zip(said.classes, said.proba[0], strict=True)],
        "decision": plain(said.label[0]),
        "explained": explained,
        "score": float(one.score[0]),
        "map_sha256": hashlib.sha256(np.ascontiguousarray(one.values[0], dtype="<f4").data).hexdigest(),
        "coarse_map": coarse(one.values[0]),
    }
    try:
        return Receipt(**check_fields(content))
    except DataError as error:
        raise DataError(f"receipt_of: there can be no receipt of this explanation: {error}.") from error


def replay(receipt: Receipt, image: Any, *, clf: CXRClassifier | None = None, device: str = "auto") -> Replay:
    """Explain an image again as a receipt says, and compare.

    On the same machine with the same versions the map and the probabilities are the same to the last bit; elsewhere
    they are compared within `TOLERANCES`.

    Parameters
    ----------
    receipt : Receipt
    image : path, PIL image or array
    clf : CXRClassifier, optional
        The model, which is left as it is. Default: the one that the receipt names, loaded on `device`. Needed where
        that was a folder.

    Raises
    ------
    DataError
        It is another image or another model, or the operating point contradicts itself.
    CXRError
        The image cannot be read, the model cannot be loaded, or the method does not take the options.
    """
    if not isinstance(receipt, Receipt):
        raise wrong_type("receipt", "replay", "a Receipt", receipt)
    clf = _loaded(receipt, device) if clf is None else _checked(clf, "replay")
    if network_digest(clf) != receipt.model_digest:
        raise DataError(
            "replay: this is another model than that of the receipt: its weights, preprocessing, classes, background "
            f"or calibration differ. The receipt's is {receipt.model}."
        )
    if as_images([image])[0].content_id != receipt.image_id:
        raise DataError(f"replay: this is another image than that of the receipt.{_decoders(receipt)}")
    unknown = sorted(set(receipt.options) - set(keyword_options(_method(receipt).function)))
    if unknown:
        raise DataError(f"replay: the method {receipt.method!r} has no options {', '.join(unknown)}.")
    own = _as_then(clf, receipt)
    explanation = own.explain(
        [image],
        method=receipt.method,
        target=receipt.target,
        error_bars=receipt.error_bars,
        batch_size=receipt.batch_size,
        random_state=receipt.seed or 0,
        **receipt.options,
    )
    name, revision = receipt.model_name, receipt.model_revision
    return compared(receipt, receipt_of(own, explanation, 0, model_name=name, revision=revision))


def _checked(clf: Any, caller: str) -> CXRClassifier:
    """Return a fitted single classifier, or raise."""
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", caller, "a CXRClassifier; ensembles have no receipts, but their members do", clf)
    check_is_fitted(clf, "classes_")
    return clf


def _point(clf: CXRClassifier, one: Explanation) -> Point | None:
    """Return the operating point that decided; None for several classes, which have none."""
    if clf.task_ is Task.MULTICLASS:
        return None
    label = clf.pos_label_ if clf.task_ is Task.BINARY else plain(one.target[0])
    point = active_point(clf, label)
    threshold = threshold_of(clf, point)
    if one.prediction.threshold != threshold:
        raise DataError(
            f"receipt_of: the explanation was made at the threshold {one.prediction.threshold}, and the estimator now "
            f"decides at {threshold}. Make receipts before the operating point is changed."
        )
    return Point(point.name, point.rule, plain(label), float(threshold), float(point.score))


def _options(clf: CXRClassifier, one: Explanation) -> dict[str, Any]:
    """Return the options of the method, or raise where they are more than a receipt can hold."""
    background = one.options.get("background")
    if background is not None and background != background_digest(background_images(clf)):
        raise DataError(
            "receipt_of: the explanation compares with background images that were given to it. A receipt holds no "
            "images, so that nobody could repeat it; leave `background` out, and it compares with the model's own."
        )
    options = {name: one.options[name] for name in keyword_options(METHODS[one.method].function)}
    for name, value in options.items():
        try:
            option_value(value)
            is_array = isinstance(value, str) and value.startswith(ARRAY)
        except ValueError:
            is_array = True
        if is_array:
            raise DataError(f"receipt_of: the option {name!r} is an array, which a receipt does not hold.")
    return options


def _machine() -> dict[str, str]:
    """Return what of the machine may move the last bits; nothing that tells whose it is."""
    instructions = torch.backends.cpu.get_cpu_capability()
    return {"system": platform.system(), "processor": platform.machine(), "instructions": instructions}


def _loaded(receipt: Receipt, device: str) -> CXRClassifier:
    """Return the model that a receipt names."""
    if receipt.model_name == FOLDER:
        raise DataError(
            "replay: the model of this receipt lay in a folder, and where is not recorded. Give it (clf=, or --model)."
        )
    name = None if receipt.model_name == BUNDLED else receipt.model_name
    return CXRClassifier.from_pretrained(name, revision=receipt.model_revision, device=device)


def _decoders(receipt: Receipt) -> str:
    """Say where the decoders are other than those of the receipt: they may give other pixels for the same file."""
    here = package_versions()
    others = [name for name in ("pillow", "pydicom") if receipt.versions.get(name) != here[name]]
    told = ", ".join(f"{name} {here[name]} (there {receipt.versions.get(name, 'unknown')})" for name in others)
    return f" Or it is the same file, decoded to other pixels by {told}." if others else ""


def _method(receipt: Receipt) -> Any:
    return METHODS[check_choice("method", receipt.method, METHODS, caller="replay")]


def _as_then(clf: CXRClassifier, receipt: Receipt) -> CXRClassifier:
    """Return a copy that shares the network, and decides and computes as the receipt says."""
    own = copy.copy(clf).set_params(precision=receipt.precision, on_error="raise", verbose=0)
    point = receipt.operating_point
    if (point is None) != (own.task_ is Task.MULTICLASS):
        raise DataError("replay: the receipt tells an operating point for several classes, or none where there is one.")
    if point is None:
        return own
    if point.rule == NUMBER:
        own.set_threshold(point.threshold, label=point.label, name=point.name)
    else:
        own.set_threshold(OperatingPoint(point.name, point.rule, point.score, point.label))
    here = own.operating_points_[point.name]
    apart = max(abs(threshold_of(own, here) - point.threshold), abs(here.score - point.score))
    if apart > _CLOSE:
        raise DataError(
            f"replay: the receipt contradicts itself: for this model, the probability {point.threshold:.6g} and the "
            f"log-odds {point.score:.6g} of its operating point are not the same."
        )
    return own


__all__ = [
    "BUNDLED", "FOLDER", "TOLERANCES", "Difference", "Point", "Receipt", "Replay", "Tolerance", "compared",
    "receipt_of", "replay",
]  # fmt: skip
