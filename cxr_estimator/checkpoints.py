"""Checkpoints of a training run: one file per run, found by a fingerprint of everything the run depends on."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cxr_estimator.errors import CheckpointWarning
from cxr_estimator.serialization import atomic_write, writable_folder
from cxr_estimator.versions import package_versions

if TYPE_CHECKING:
    from torch import Tensor

INTERVAL = 120.0  # seconds between two checkpoints within an epoch
_FORMAT = 1  # raised when the training loop changes so that older checkpoints no longer continue the same run
_STALE = 3600.0  # age in seconds of half-written files that a killed run has left behind
_BLOCK = 256  # images hashed at once


class Checkpoint(NamedTuple):
    """What was saved: tensors by name, and the rest as JSON values."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class CheckpointFile:
    """The checkpoint of one run, replaced atomically: at any moment a whole one or none is there.

    Parameters
    ----------
    folder : path
        Made if need be; any number of runs may share it.
    fingerprint : str
        Hex digest; a run with another one never sees this file.
    """

    def __init__(self, folder: str | Path, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.path = writable_folder(folder) / f"{fingerprint[:32]}.safetensors"
        self._saved_at = time.monotonic()
        self._has_warned = False
        self._remove_stale()

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is more than `INTERVAL` seconds old."""
        return time.monotonic() - self._saved_at >= INTERVAL

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the file. Where that is impossible, warn and leave the old one: training goes on."""
        from safetensors.torch import save

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        proofs = {"fingerprint": self.fingerprint, "sha256": _digest(tensors)}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)  # it may have been deleted in the meantime
            with atomic_write(self.path) as file:
                file.write(save(tensors, metadata={"facts": json.dumps(checkpoint.facts | proofs)}))
        except OSError as error:
            if not self._has_warned:  # once is enough
                reason = f"{self.path}: the checkpoint could not be written ({error.strerror}); training goes on."
                warnings.warn(reason, CheckpointWarning, stacklevel=4)
            self._has_warned = True
        self._saved_at = time.monotonic()

    def load(self) -> Checkpoint | None:
        """Return what was saved last; None where nothing was, or, with a warning, where the file is damaged."""
        from safetensors import SafetensorError, safe_open

        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["facts"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            if facts.pop("fingerprint") != self.fingerprint:
                raise ValueError("it belongs to another run")
            if facts.pop("sha256") != _digest(tensors):
                raise ValueError("its checksum is wrong")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{self.path}: the checkpoint is damaged ({error}); training begins anew."
            warnings.warn(reason, CheckpointWarning, stacklevel=4)
            return None
        return Checkpoint(tensors, facts)

    def _remove_stale(self) -> None:
        for path in self.path.parent.glob(f".{self.path.name}.*"):
            try:
                if time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()
            except FileNotFoundError:  # another process was quicker
                continue


def fingerprint(description: dict[str, Any], state: dict[str, Tensor], arrays: Iterable[Any]) -> str:
    """Return the SHA-256 (hex) of plain values, of the initial weights, of the training data and of the versions.

    `arrays` hold one row per image; they are read in blocks, since they may be larger than the memory.
    """
    versions = {name: package_versions()[name] for name in ("cxr_estimator", "torch", "timm")}
    digest = hashlib.sha256(json.dumps([_FORMAT, versions, description, _digest(state)], sort_keys=True).encode())
    for array in arrays:
        for start in range(0, max(1, len(array)), _BLOCK):
            block = np.ascontiguousarray(array[start : start + _BLOCK])
            digest.update(f"{block.dtype.str} {block.shape}".encode())
            digest.update(block.tobytes())
    return digest.hexdigest()


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
