"""Exceptions and warnings of the package, all derived from one base class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class CXRError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidParameterError(CXRError, ValueError):
    """A parameter has a value that is not allowed."""


class InvalidTypeError(CXRError, TypeError):
    """A parameter has the wrong type."""


class DataError(CXRError, ValueError):
    """Labels, groups or a whole data set cannot be used."""


class ImageError(CXRError, ValueError):
    """One image cannot be read or used. The message begins with its file name or index."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self):  # the default would call __init__ with the one joined message
        return type(self), (self.source, self.reason)


class DecoderError(CXRError, RuntimeError):
    """Images cannot be decoded at all; nothing is wrong with the file."""


class TrainingError(CXRError, RuntimeError):
    """Training went wrong, though nothing was wrong with its input."""


class NotEnoughMemoryError(CXRError, RuntimeError):
    """Not even one image fits into memory."""


class WeightsError(CXRError, OSError):
    """Pretrained weights cannot be downloaded or read."""


class MissingPackageError(CXRError, ImportError):
    """An optional package is not installed; the message says how to get it."""


class UnsupportedMethodError(CXRError, ValueError):
    """A method does not work on this network; the message names what does."""


class ModelFolderError(CXRError, ValueError):
    """A saved model, explanation or receipt is incomplete, damaged or not one of ours."""


class HubError(CXRError, OSError):
    """The Hugging Face Hub cannot be reached, or refuses."""


class SkippedImage(NamedTuple):
    """One image that was left out, and why."""

    position: int  # in X
    source: str
    reason: str


class SkippedImagesWarning(UserWarning):
    """Some images could not be read and were left out; `skipped` lists each of them."""

    def __init__(self, skipped: Sequence[SkippedImage]) -> None:
        self.skipped = tuple(skipped)
        lines = "\n".join(f"  {item.source}: {item.reason}" for item in self.skipped)
        super().__init__(f"{len(self.skipped)} image(s) could not be used and were skipped:\n{lines}")

    def __reduce__(self):
        return type(self), (self.skipped,)


class HubWarning(UserWarning):
    """The Hugging Face Hub gave no answer; what the cache holds is used."""


class EditedFilesWarning(UserWarning):
    """Files that go with a model, such as its card, are not those that were written with it."""


class MissingImagesWarning(UserWarning):
    """A table names images that are not on the disk; they were left out."""


class EncodedLabelsWarning(UserWarning):
    """The labels were replaced by 0, 1, ... before `fit` saw them, so `pos_label` cannot be found among them."""


class UnknownLabelsWarning(UserWarning):
    """Of some images no label is known, so that they take no part in training."""


class PatientLeakWarning(UserWarning):
    """Images of one patient may stand on both sides of a split, because no patients are known."""


class ThresholdWarning(UserWarning):
    """The rule for the threshold found no useful one."""


class SameDataWarning(UserWarning):
    """A model is evaluated on images that chose an operating point, calibrated it or made its prediction sets."""


class ScoreWarning(UserWarning):
    """A score is undefined on the images that were scored, or leaves some of them out."""


class BackgroundWarning(UserWarning):
    """The reference images of a SHAP method are of one class only."""


class CacheWarning(UserWarning):
    """Decoded images could not be kept in the cache; results are not affected."""


class CheckpointWarning(UserWarning):
    """A checkpoint could not be written or read; training goes on without it."""


class BatchSizeWarning(UserWarning):
    """Batches did not fit into memory, so smaller ones are used."""
