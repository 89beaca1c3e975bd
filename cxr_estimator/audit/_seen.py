"""One pass over all images: what the network says of each, and of each with a part exchanged or alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from cxr_estimator._batches import run_batches
from cxr_estimator._explaining import execution_of
from cxr_estimator._predicting import images as as_images
from cxr_estimator._predicting import not_finite, reading
from cxr_estimator.audit._exchanges import EXCHANGES
from cxr_estimator.errors import DataError
from cxr_estimator.inference import BatchLimit, forward, normalise, unit_tensor
from cxr_estimator.metrics.localisation import frame
from cxr_estimator.preprocessing import Geometry
from cxr_estimator.reading import PreparedImages, prepare

_DONORS = 24  # images of each class
_STREAM = 0xA0D1
FEATURES = ("brightness", "contrast", "sharpness", "width", "height", "aspect")


class Donors(NamedTuple):
    """Images whose parts are given to others.

    Attributes
    ----------
    unit : ndarray (m, C, H, W), float32
        Pixels in [0, 1].
    target, patient : ndarray (m,), int
    """

    unit: np.ndarray
    target: np.ndarray
    patient: np.ndarray

    def pick(self, target: int, patient: int, rng: np.random.Generator) -> tuple[int, int] | None:
        """Return one of the same class, of another patient, and one of another class; None without either."""
        same = np.flatnonzero((self.target == target) & (self.patient != patient))
        other = np.flatnonzero((self.target != target) & (self.patient != patient))
        if not len(same) or not len(other):
            return None
        return int(rng.choice(same)), int(rng.choice(other))


class Exchanged(NamedTuple):
    """An image (C, H, W) with the part of a donor of its own class, and of one of class `donor`."""

    own: np.ndarray
    other: np.ndarray
    donor: int


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of the M readable images.

    Attributes
    ----------
    index : ndarray (M,)
        Position of each in X.
    content_ids : tuple of M str
    target, patient : ndarray (M,), int
        Index of the true class, and a number for the patient.
    logits : ndarray (M, K)
    exchanged : dict of kind to ndarray (2, M, K)
        Logits with the part of a donor of the same class, and of another one; NaN where there is no such part.
    donor : dict of kind to ndarray (M,), int
        Class of the other donor; -1 where there is none.
    alone : dict of part to ndarray (M, K)
        Logits of the part alone, all else grey; NaN where there is none.
    features : dict of name to ndarray (M,)
    """

    index: np.ndarray
    content_ids: tuple[str, ...]
    target: np.ndarray
    patient: np.ndarray
    logits: np.ndarray
    exchanged: dict[str, np.ndarray]
    donor: dict[str, np.ndarray]
    alone: dict[str, np.ndarray]
    features: dict[str, np.ndarray]


class Looking:
    """A pass over all images.

    Parameters
    ----------
    clf : CXRClassifier
    X : images
    target, patient : ndarray (N,), int
    needs : collection of str
        Which exchanges, and which parts alone: "border_alone", "lungs_alone".
    anatomy : callable
        `anatomy(position, unit, geometry) -> (lungs, thorax)`: masks (H, W) at model size, None for what is not found.
    seed : int
    """

    def __init__(
        self,
        clf: Any,
        X: Any,
        target: np.ndarray,
        patient: np.ndarray,
        needs: Collection[str],
        anatomy: Callable[..., Any],
        seed: int,
    ) -> None:
        self._clf, self._target, self._patient, self._seed = clf, target, patient, seed
        self._kinds, self._alone = [kind for kind in EXCHANGES if kind in needs], [one for one in ALONE if one in needs]
        self._anatomy = anatomy
        self._images = as_images(clf, X)
        self._how = execution_of(clf, None)
        self._limit = BatchLimit(self._how.batch_size)
        self.donors = self._pool()

    def look(self, progress: Callable[[float], Any]) -> Seen:
        """Return what is seen; `progress` is told how many images more are done."""
        parts: list[dict[str, Any]] = []
        for part in run_batches(self._clf, self._images, self._how, lambda prepared, x, done: self._part(prepared)):
            parts.append(part)
            progress(len(part["index"]))
        if not parts:
            raise DataError(f"audit: none of the {len(self._images)} images could be read.")
        index = np.concatenate([part["index"] for part in parts])
        return Seen(
            index,
            tuple(one for part in parts for one in part["ids"]),
            self._target[index],
            self._patient[index],
            np.concatenate([part["logits"] for part in parts]),
            {kind: np.concatenate([part["exchanged"][kind] for part in parts], axis=1) for kind in self._kinds},
            {kind: np.concatenate([part["donor"][kind] for part in parts]) for kind in self._kinds},
            {name: np.concatenate([part["alone"][name] for part in parts]) for name in self._alone},
            {name: np.concatenate([part["features"][name] for part in parts]) for name in FEATURES},
        )

    def image(self, position: int) -> np.ndarray:
        """Return an image (C, H, W) in [0, 1]."""
        return _unit(self._prepared([position]))[0]

    def alone(self, position: int, part: str) -> np.ndarray | None:
        """Return a part of an image alone; None where it is not found."""
        prepared = self._prepared([position])
        return next(iter(ALONE[part](self, prepared, _unit(prepared))))

    def exchange(self, position: int, kind: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return an image and what it looks like with the part of a donor of another class, (C, H, W) in [0, 1]."""
        prepared = self._prepared([position])
        unit = _unit(prepared)
        changed = self._exchanges(prepared, unit, kind)[0]
        return None if changed is None else (unit[0], changed.other)

    def _prepared(self, positions: list[int]) -> PreparedImages:
        return prepare(self._images, self._clf.preprocessing_, reading(self._clf), indices=positions)

    def _pool(self) -> Donors:
        """Return some images of each class, of as many patients as can be."""
        rng, rows = np.random.default_rng([self._seed, _STREAM]), []
        for k in np.unique(self._target):
            shuffled = rng.permutation(np.flatnonzero(self._target == k))
            _, first = np.unique(self._patient[shuffled], return_index=True)
            rows += shuffled[np.sort(first)][:_DONORS].tolist()
        prepared = self._prepared(rows)
        return Donors(_unit(prepared), self._target[prepared.index], self._patient[prepared.index])

    def _part(self, prepared: PreparedImages) -> dict[str, Any]:
        unit = _unit(prepared)
        found = {kind: self._exchanges(prepared, unit, kind) for kind in self._kinds}
        return {
            "index": prepared.index,
            "ids": prepared.content_ids,
            "logits": self._logits(list(unit)),
            "exchanged": {
                kind: np.stack(
                    [
                        self._logits([None if one is None else one.own for one in each]),
                        self._logits([None if one is None else one.other for one in each]),
                    ]
                )
                for kind, each in found.items()
            },
            "donor": {
                kind: np.array([-1 if one is None else one.donor for one in each]) for kind, each in found.items()
            },
            "alone": {name: self._logits(list(ALONE[name](self, prepared, unit))) for name in self._alone},
            "features": _features(unit, prepared.geometry),
        }

    def _exchanges(self, prepared: PreparedImages, unit: np.ndarray, kind: str) -> list[Exchanged | None]:
        """Return of each image what it looks like with the part of a donor; None where there is no such part."""
        found: list[Exchanged | None] = []
        for row, position in enumerate(prepared.index):
            stream = [self._seed, int(prepared.content_ids[row], 16), _STREAM, list(EXCHANGES).index(kind)]
            rng = np.random.default_rng(stream)
            picked = self.donors.pick(int(self._target[position]), int(self._patient[position]), rng)
            found.append(None if picked is None else self._exchanged(unit[row], kind, *picked))
        return found

    def _exchanged(self, image: np.ndarray, kind: str, same: int, other: int) -> Exchanged | None:
        own, foreign = (EXCHANGES[kind](image, self.donors.unit[row]) for row in (same, other))
        if own is None and foreign is None:
            return None
        # where one of the two has nothing to exchange, the image stays as it is
        own, foreign = (image if one is None else one for one in (own, foreign))
        return Exchanged(own, foreign, int(self.donors.target[other]))

    def only(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the image with all but the mask in the grey of the donors, which tells nothing of this image."""
        return np.where(mask, image, np.float32(self.donors.unit.mean()))

    def border_alone(self, prepared: PreparedImages, unit: np.ndarray) -> Iterator[np.ndarray | None]:
        """Yield images of which only the border is left."""
        yield from (self.only(image, frame(image.shape[1:])) for image in unit)

    def lungs_alone(self, prepared: PreparedImages, unit: np.ndarray) -> Iterator[np.ndarray | None]:
        """Yield images of which only the lungs are left; None where these are not found."""
        for image, position, geometry in zip(unit, prepared.index, prepared.geometry, strict=True):
            lungs, _ = self._anatomy(int(position), image, geometry)
            yield None if lungs is None else self.only(image, lungs)

    def _logits(self, units: Sequence[np.ndarray | None]) -> np.ndarray:
        """Return the logits of images in [0, 1]; rows of NaN for None."""
        K = self._clf.task_.num_outputs(len(self._clf.classes_))
        found, known = (
            np.full((len(units), K), np.nan, np.float32),
            [i for i, one in enumerate(units) if one is not None],
        )
        if known:
            stacked = torch.from_numpy(np.stack([units[row] for row in known])).to(self._how.device)  # type: ignore
            x = normalise(stacked, self._clf.preprocessing_)
            found[known] = forward(self._clf.model_, x, self._how, self._limit).cpu().numpy()
            if not np.isfinite(found[known]).all():
                raise not_finite("an image")
        return found


ALONE = {"border_alone": Looking.border_alone, "lungs_alone": Looking.lungs_alone}


def _unit(prepared: PreparedImages) -> np.ndarray:
    return unit_tensor(prepared.pixels, torch.device("cpu")).numpy()


def _features(unit: np.ndarray, geometry: Sequence[Geometry]) -> dict[str, np.ndarray]:
    """Return what can be known of images without looking at what they show."""
    grey = unit.mean(axis=1)
    height, width = np.array([one.original_shape for one in geometry], dtype=np.float64).T
    fine = (
        grey - (np.roll(grey, 1, axis=1) + np.roll(grey, -1, axis=1) + np.roll(grey, 1, 2) + np.roll(grey, -1, 2)) / 4
    )
    return {
        "brightness": grey.mean(axis=(1, 2)),
        "contrast": grey.std(axis=(1, 2)),
        "sharpness": np.abs(fine[:, 1:-1, 1:-1]).mean(axis=(1, 2)),
        "width": width,
        "height": height,
        "aspect": width / height,
    }
