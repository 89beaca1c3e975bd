"""A model folder: config.json + model.safetensors. Nothing is ever unpickled or executed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from cxr_estimator._arrays import label_array
from cxr_estimator.errors import DataError, ModelFolderError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "cxr_estimator"
SCHEMA_VERSION = 2
WEIGHT_TYPES = ("float32", "float16")  # of what is stored; networks compute in float32 or by autocast
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
OWN_TENSORS = "cxr_estimator."  # begins the names of tensors that are no weights of the network
_MAX_JSON = 50_000_000  # bytes; an explanation of 100,000 images has so many
_KEYS = {
    "format", "schema_version", "parameters", "classes", "pos_label", "preprocessing", "image_shape",
    "operating_points", "active_operating_points", "calibration",
    "class_weights", "task", "bfloat16_change", "training", "weights_dtype",
}  # fmt: skip
_OPTIONAL_KEYS = {"abstention", "card", "conformal", "feature_names", "ood"}


def writable_folder(path: str | Path) -> Path:
    """Make a folder if need be and return it, or raise before any work is lost on it."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise DataError(f"{path}: cannot be written to ({getattr(error, 'strerror', None) or error}).") from error


@contextlib.contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place only when the block ends well.

    A crash of the program leaves the old file or the new one; with `durable`, so does a crash of the machine.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # missing where an interrupt comes just after the replacing
        raise


def write_report(folder: str | Path, files: Mapping[str, bytes], *, pictures: str = "") -> Path:
    """Write files by their paths within a folder, each whole or not at all, and return the folder.

    Files of an earlier report beside them, whose names match the regular expression `pictures`, are deleted.
    """
    folder = writable_folder(folder)
    paths = {folder / name: content for name, content in files.items()}
    for parent in {path.parent for path in paths}:
        for old in writable_folder(parent).iterdir():
            if re.fullmatch(pictures, old.name) and old not in paths:
                old.unlink()
    for path, content in paths.items():
        write_file(path, content)
    return folder


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {repeated!r:.200} stands twice")
    return content


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large")
    return number


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not allowed")


def read_json(path: Path, *, limit: int = _MAX_JSON) -> dict[str, Any]:
    """Read a JSON object of at most `limit` bytes strictly, see `parse_json`."""
    try:
        if path.stat().st_size > limit:
            raise ModelFolderError(f"{path}: has more than the limit of {limit:,} bytes.")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFolderError(f"{path}: there is no such file.") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise ModelFolderError(f"{path}: cannot be read as JSON ({error}).") from error
    return parse_json(content, path)


def parse_json(content: bytes, source: str | Path) -> dict[str, Any]:
    """Return a JSON object: no duplicate keys, no NaN, nothing but an object. Errors name the `source`."""
    try:
        found = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_reject_duplicates,
            parse_constant=_reject_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{source}: cannot be read as JSON ({error}).") from error
    if not isinstance(found, dict):
        raise ModelFolderError(f"{source}: must hold a JSON object. Got {type(found).__name__}.")
    return found


def write_file(path: Path, content: bytes) -> str:
    """Write a file whole or not at all; return the SHA-256 (hex) of what was meant, whatever lies there later."""
    with atomic_write(path) as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def write_folder(folder: Path, config: dict[str, Any], state: dict[str, Tensor]) -> dict[str, str]:
    """Write configuration and weights of a model; `config` gets the format's own keys. Return SHA-256 by name."""
    from safetensors.torch import save

    writable_folder(folder)
    weights = save({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()})
    config = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **config}
    text = json.dumps(config, indent=1, allow_nan=False)
    return {
        WEIGHTS_NAME: write_file(folder / WEIGHTS_NAME, weights),
        CONFIG_NAME: write_file(folder / CONFIG_NAME, text.encode()),
    }


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return config and weights of a model folder, after checking that it is one."""
    if not folder.is_dir():
        raise ModelFolderError(f"{folder}: there is no such model folder.")
    return check_config(read_json(folder / CONFIG_NAME), folder / CONFIG_NAME), read_weights(folder / WEIGHTS_NAME)


def check_config(config: dict[str, Any], source: str | Path) -> dict[str, Any]:
    """Return the configuration of a single model if its format, schema version and keys are this version's."""
    otherwise = "CXREnsemble.load reads an ensemble; the commands take single models."
    return _checked(config, source, FORMAT, _KEYS, _OPTIONAL_KEYS, otherwise=otherwise)


def read_config(path: Path, format: str, keys: set[str], optional: set[str], *, otherwise: str) -> dict[str, Any]:
    """Return a configuration of this format and schema version with these keys; `otherwise` says who reads others."""
    return _checked(read_json(path), path, format, keys, optional, otherwise=otherwise)


def _checked(
    config: dict[str, Any], source: str | Path, format: str, keys: set[str], optional: set[str], *, otherwise: str
) -> dict[str, Any]:
    if config.get("format") != format:
        raise ModelFolderError(
            f"{source}: not a {format} model (its 'format' is {config.get('format')!r:.100}). {otherwise}"
        )
    version = config.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool | float):
        raise ModelFolderError(
            f"{source}: schema version {version!r:.100} is not supported; this version of the package reads version "
            f"{SCHEMA_VERSION}. Save the model again with this one, or install the one that wrote it."
        )
    unknown, missing = sorted(set(config) - keys - optional), sorted(keys - set(config))
    if unknown or missing:
        wrong = [f"unknown: {unknown!r:.200}"] * bool(unknown) + [f"missing: {missing}"] * bool(missing)
        raise ModelFolderError(f"{source}: wrong keys ({'; '.join(wrong)}).")
    return config


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    if not path.is_file():
        raise ModelFolderError(f"{path}: there is no such file.")
    try:
        return load_file(path) if _is_utf8(path) else load(path.read_bytes())  # the library opens such names only
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelFolderError(f"{path}: the weights are damaged ({error}).") from error


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_timm(config: dict[str, Any]) -> bool:
    """Tell whether a config.json is one of timm's, rather than of this package or of another library."""
    return "format" not in config and "model_type" not in config and "architecture" in config


def to_json(value: Any) -> Any:
    """Return a constructor parameter as JSON: tuples become lists, dicts lists of pairs, paths bare names."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return value.name  # where a file lay on one machine is nobody else's business
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {"pairs": [[to_json(key), to_json(item)] for key, item in value.items()]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return None  # random generators, whose state cannot be described


def from_json(value: Any) -> Any:
    """Undo `to_json`; sequences come back as tuples."""
    if isinstance(value, dict):
        return {from_json(key): from_json(item) for key, item in value["pairs"]}
    return tuple(from_json(item) for item in value) if isinstance(value, list) else value


def labels_to_json(labels: np.ndarray) -> dict[str, Any]:
    """Describe an array of class labels."""
    kind = {"O": "object", "U": "str"}.get(labels.dtype.kind, labels.dtype.name)
    return {"dtype": kind, "values": labels.tolist()}


def labels_from_json(description: dict[str, Any], *, is_sorted: bool = True) -> np.ndarray:
    """Undo `labels_to_json`; only text, numbers and booleans are accepted."""
    kind, values = description["dtype"], description["values"]
    known = kind in ("object", "str") or re.fullmatch(r"bool|u?int(8|16|32|64)|float(16|32|64)", kind)
    if not known or not all(isinstance(value, str | int | float) for value in values):
        raise ModelFolderError(f"classes {values!r:.200} of type {kind!r:.200} are not supported.")
    try:
        labels = label_array(values, kind)
    except DataError as error:
        raise ModelFolderError(f"the classes cannot be used: {error}.") from error
    if len(labels) < 2 or np.unique(labels).tolist() != (values if is_sorted else sorted(values)):
        must = "sorted and different" if is_sorted else "different"
        raise ModelFolderError(f"the classes {values!r:.200} must be two at least, {must}.")
    return labels
