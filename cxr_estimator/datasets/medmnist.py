"""MedMNIST archives (.npz)."""

from __future__ import annotations

from pathlib import Path

from cxr_estimator._arrays import read_arrays
from cxr_estimator._validation import check_choice
from cxr_estimator.datasets.folder import SPLITS, ImageDataset
from cxr_estimator.errors import DataError


def load_medmnist(path: str | Path, *, split: str = "train") -> ImageDataset:
    """Read one split of a MedMNIST archive such as pneumoniamnist.npz.

    Parameters
    ----------
    path : path
    split : {"train", "val", "test"}, default="train"

    Returns
    -------
    ImageDataset
        X (N, 28, 28) or (N, 28, 28, 3) uint8 (or a larger size), y (N,) int, or (N, K) for several labels per image;
        groups is None: these sets do not tell patients.

    Raises
    ------
    DataError
        The file is missing or damaged, or no MedMNIST archive. Nothing is unpickled.

    References
    ----------
    Yang et al. (2023), MedMNIST v2, Scientific Data 10, doi:10.1038/s41597-022-01721-8
    """
    path = Path(path)
    check_choice("split", split, SPLITS, caller="load_medmnist")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    names = f"{split}_images", f"{split}_labels"
    try:
        X, y = read_arrays(path, names).values()
    except DataError as error:
        raise DataError(f"{path}: is no readable MedMNIST archive ({error}).") from error
    if X.ndim not in (3, 4) or y.ndim not in (1, 2) or not 0 < len(X) == len(y) or 0 in (*X.shape, *y.shape):
        raise DataError(f"{path}: has images of shape {X.shape} and labels of shape {y.shape}, which do not match.")
    return ImageDataset(X, y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y, None)
