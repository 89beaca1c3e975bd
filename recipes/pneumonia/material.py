"""The radiographs of the study, who must not meet whom, and what of an image tells its class without any disease."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.special import expit
from shift import SHIFTS, shifted
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr_estimator import load_image_folder, patient_split
from cxr_estimator.serialization import atomic_write, write_file

SIDE = 224
PARTS = {"train": 0.55, "calibrate": 0.10, "choose": 0.15, "final": 0.20}
PER_SOURCE = 150  # images of each source that a choice is made on, which keeps a run short
_SOURCE = re.compile(r"(NORMAL2|IM|bacteria|virus)")


class Material:
    """Images with label, patient and source, split by patients into parts that never change.

    Parameters
    ----------
    data : path
        A folder of NORMAL and PNEUMONIA, or of train/NORMAL and so on.
    cache : path
        Keeps decoded and shifted images, which take seconds to minutes to make, of one set of images. They are
        radiographs: keep it private.

    Attributes
    ----------
    paths, labels : ndarray (N,), str
    pixels : ndarray (N, 224, 224), uint8
    positive : ndarray (N,), bool
    patients, sources : ndarray (N,), str
    parts : dict of str to ndarray
        Rows of each part: "train", "calibrate" (temperature and thresholds), "choose" (what recipes are chosen by) and
        "final" (what no choice is made on).

    Raises
    ------
    ValueError
        The cache is of images with other names, or a name is none of the Kaggle pneumonia set.
    """

    def __init__(self, data: str | Path, cache: str | Path) -> None:
        found = load_image_folder(data)
        self._cache = Path(cache)
        self._cache.mkdir(parents=True, exist_ok=True)
        self._check_cache(found.X)
        self.paths, self.labels, self.patients = found.X, found.y, found.groups
        self.positive = found.y == "PNEUMONIA"
        self.sources = np.array([source_of(path) for path in found.X])
        self.pixels = self._kept("all", lambda: _decoded(found.X))
        rows = patient_split(self.sources, self.patients, fractions=tuple(PARTS.values()), random_state=0)
        self.parts = dict(zip(PARTS, rows, strict=True))

    def training_rows(self, share: float, leave_out: str) -> np.ndarray:
        """Return a share of the training patients, without one source."""
        rows = self.parts["train"]
        if share < 1.0:
            split = patient_split(
                self.sources[rows], self.patients[rows], fractions=(share, 1.0 - share), random_state=0
            )
            rows = rows[split[0]]
        return rows[self.sources[rows] != leave_out]

    def judging_rows(self, leave_out: str, *, final: bool) -> np.ndarray:
        """Return the images to judge by: all of "final", or at most 150 of each source of "choose".

        Of a source that was left out of training, images of the training part fill up what "choose" lacks.
        """
        if final:
            return self.parts["final"]
        train = self.parts["train"]
        rows = np.concatenate([self.parts["choose"], train[self.sources[train] == leave_out]])
        return np.concatenate([rows[self.sources[rows] == one][:PER_SOURCE] for one in np.unique(self.sources)])

    def shifted(self, rows: np.ndarray, name: str, strength: float) -> np.ndarray:
        """Return those images under a shift, from the cache where they were made before; "clean" for none."""
        if name == "clean":
            return self.pixels[rows]
        key = f"{name}-{strength}-{_digest(rows)}"
        return self._kept(key, lambda: shifted(self.pixels[rows], name, strength))

    def at(self, size: int, rows: np.ndarray) -> np.ndarray:
        """Return those images at another size, (n, size, size), uint8."""
        small = [Image.fromarray(self.pixels[row]).resize((size, size), Image.Resampling.BILINEAR) for row in rows]
        return np.stack([np.asarray(image) for image in small])

    @functools.cached_property
    def acquisition(self) -> np.ndarray:
        """Log-odds (N,) of pneumonia by grey-value and sharpness statistics alone, fitted on the training part."""
        features = statistics(self.pixels)
        train = self.parts["train"]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return model.fit(features[train], self.positive[train]).decision_function(features)

    def weights(self, rows: np.ndarray) -> np.ndarray:
        """Return weights (n,), of mean 1, under which acquisition hardly tells the classes of those rows.

        Each is the share of the image's class over its probability by `acquisition`, clipped to [0.2, 5]: inverse
        propensity weights, stabilised as in Robins et al. (2000), doi:10.1097/00001648-200009000-00011.
        """
        positive = self.positive[rows]
        chance = expit(np.where(positive, self.acquisition[rows], -self.acquisition[rows]))
        found = np.clip(np.where(positive, positive.mean(), 1.0 - positive.mean()) / chance, 0.2, 5.0)
        return found / found.mean()

    def _kept(self, key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        path = self._cache / f"{key}.npy"
        if not path.exists():
            found = make()
            with atomic_write(path) as file:  # another run may be making the same
                np.save(file, found)
        return np.load(path)

    def _check_cache(self, paths: np.ndarray) -> None:
        """Raise if the cache is of other images, whose pixels and answers would be taken for those of these."""
        names = "\n".join("/".join(Path(path).parts[-2:]) for path in paths)
        own, path = hashlib.sha256(names.encode()).hexdigest(), self._cache / "images.sha256"
        if not path.exists():
            write_file(path, own.encode())
        elif path.read_text() != own:
            raise ValueError(f"{self._cache}: this cache is of other images. Name another, or the data it is of.")


def source_of(path: str) -> str:
    """Return which family of file names a radiograph belongs to: IM, NORMAL2, bacteria or virus."""
    found = _SOURCE.search(Path(path).name)
    if found is None:
        raise ValueError(f"{Path(path).name}: not a file name of the Kaggle pneumonia set.")
    return found.group()


def statistics(images: np.ndarray) -> np.ndarray:
    """Return what a technician sets and a child's lungs do not: (N, 7) of images (N, H, W), uint8.

    Mean, standard deviation, 1st and 99th percentile of the grey values, shares of black and of nearly white pixels,
    and the mean step between neighbours over the standard deviation, which is sharpness.
    """
    rows = []
    for image in images:
        grey = image.astype(np.float32)
        sharpness = np.abs(np.diff(grey, axis=1)).mean() / (grey.std() + 1.0)
        low, high = np.percentile(grey, [1, 99])
        rows.append([grey.mean(), grey.std(), low, high, (grey < 5).mean(), (grey > 235).mean(), sharpness])
    return np.array(rows)


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows, dtype=np.int64).tobytes()).hexdigest()[:12]


def _decoded(paths: np.ndarray) -> np.ndarray:
    def read(path: str) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(read, paths)))


CONDITIONS = ("clean", *SHIFTS)
