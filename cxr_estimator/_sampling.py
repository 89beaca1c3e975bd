"""Several answers to each image: with features of the network left out at random, or to changed copies of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cxr_estimator._batches import run_batches
from cxr_estimator._predicting import execution, not_finite
from cxr_estimator._progress import bar, check_callback, told_how_far
from cxr_estimator._validation import MOST_COPIES, check_choice, check_number, check_seed
from cxr_estimator.augmentation import AUGMENTATIONS
from cxr_estimator.errors import UnsupportedMethodError
from cxr_estimator.inference import normalise, unit_tensor
from cxr_estimator.reading import PreparedImages

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

Draw = Callable[[int], Tensor]  # the number of a sample -> logits (n, K) of the batch
Sampling = Callable[[PreparedImages, Tensor], Draw]  # a batch and its normalised images (n, C, H, W) -> its samples

_CALLER = "uncertainty"
# what torch's modules for dropout call, also in eval mode, and whether each leaves out whole channels
_DROPOUTS = {F.dropout: False, F.dropout1d: True, F.dropout2d: True, F.dropout3d: True}


def dropped(clf: CXRClassifier, X: Any, *, n_samples: int, seed: int, progress: Any) -> np.ndarray:
    """Return probabilities (T, N, K) with dropout switched on, each time with other features left out.

    Batch norm and stochastic depth stay as they are for predictions.

    Raises
    ------
    UnsupportedMethodError
        The network has no dropout.

    References
    ----------
    Gal & Ghahramani (2016), Dropout as a Bayesian approximation, ICML, arXiv:1506.02142
    """

    def sampling(prepared: PreparedImages, x: Tensor) -> Draw:
        return _with_dropout(clf.model_, x, prepared.content_ids, seed)

    return _probabilities(clf, X, sampling, n_samples=n_samples, progress=progress)


def augmented(
    clf: CXRClassifier, X: Any, *, n_samples: int, seed: int, progress: Any, augment: str = "light"
) -> np.ndarray:
    """Return probabilities (T, N, K) of the image itself, which comes first, and of randomly changed copies.

    `augment` is "light" (turned by up to 7 degrees, scaled, shifted, other contrast, brightness and gamma), "strong"
    or "robust", see `augmentation.AUGMENTATIONS`.

    References
    ----------
    Wang et al. (2019), Aleatoric uncertainty estimation with test-time augmentation for medical image segmentation with
    convolutional neural networks, Neurocomputing 338, doi:10.1016/j.neucom.2019.01.103
    """
    _check_change(augment, caller=_CALLER)
    return _probabilities(clf, X, partial(_changed, clf, augment, seed), n_samples=n_samples, progress=progress)


class Copies(NamedTuple):
    """Which changed copies of each image are judged beside itself.

    Attributes
    ----------
    augment : str
        Key of `AUGMENTATIONS`, which draws the changes.
    number : int
        Of copies of each image.
    seed : int
        With the content of an image and the number of the copy it makes all that is random.
    """

    augment: str
    number: int
    seed: int

    @classmethod
    def check(cls, augment: Any, copies: Any, random_state: Any, *, caller: str) -> Copies | None:
        """Return what the parameters `augment` and `copies` ask for; None without `augment`."""
        if augment is None:
            return None
        augment = _check_change(augment, caller=caller)
        number = int(check_number("copies", copies, caller=caller, low=1, high=MOST_COPIES, integer=True))
        return cls(augment, number, check_seed(random_state, caller=caller))


def kept_of(copies: Copies | None) -> dict[str, Any]:
    """Return what points and calibrations keep of it, as parameters."""
    return {} if copies is None else {"augment": copies.augment, "copies": copies.number}


def with_copies(clf: Any, X: Any, copies: Copies) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the raw logits (1 + number, N, K) of each image, which comes first, and of its copies.

    Those of an ensemble are means over its members, which see the same copies. Rows of unreadable images are NaN; the
    content ids are those of the others, in order.
    """
    found = [
        _answers(one, X, partial(_changed, one, copies.augment, copies.seed), n_samples=1 + copies.number)
        for one in clf._members()
    ]
    logits = np.mean([values for values, _ in found], axis=0)
    readable = np.flatnonzero(~np.isnan(logits[0]).any(axis=1)).tolist()
    return logits, tuple(found[0][1][row] for row in readable)


def _check_change(augment: Any, *, caller: str) -> str:
    return check_choice("augment", augment, [name for name, change in AUGMENTATIONS.items() if change], caller=caller)


def _changed(clf: CXRClassifier, augment: str, seed: int, prepared: PreparedImages, x: Tensor) -> Draw:
    """Return the samples of a batch: number 0 is of the images themselves, the others of changed copies."""
    change: Any = AUGMENTATIONS[augment]
    unit = unit_tensor(prepared.pixels, x.device)

    def draw(number: int) -> Tensor:
        if number == 0:
            return clf.model_(x)
        generators = _generators(seed, prepared.content_ids, number)
        with torch.autocast(x.device.type, enabled=False):  # as in training: bfloat16 would round where pixels lie
            copies = [change(unit[row : row + 1], own) for row, own in enumerate(generators)]
        return clf.model_(normalise(torch.cat(copies), clf.preprocessing_))

    return draw


def members(clf: Any, X: Any, *, n_samples: int, seed: int, progress: Any) -> np.ndarray:
    """Return probabilities (T, N, K) of the T members of an ensemble; nothing is random, and `n_samples` not used.

    References
    ----------
    Lakshminarayanan, Pritzel & Blundell (2017), Simple and scalable predictive uncertainty estimation using deep
    ensembles, NeurIPS, arXiv:1612.01474
    """
    clf._images(X)
    if not hasattr(clf, "_member_logits"):
        raise UnsupportedMethodError(
            "method='ensemble' asks the members of a CXREnsemble. One network: method='test_time_augmentation'."
        )
    check_callback(progress, caller=_CALLER)
    logits = clf._member_logits(X)
    if progress is not None:
        progress(logits.shape[1], logits.shape[1])
    return clf._proba(logits.reshape(-1, logits.shape[2])).reshape(*logits.shape[:2], -1)


def _probabilities(clf: CXRClassifier, X: Any, sampling: Sampling, *, n_samples: int, progress: Any) -> np.ndarray:
    """Return the calibrated probabilities (T, N, K) of all samples, with rows of NaN for unreadable images."""
    clf._images(X)
    if not hasattr(clf, "model_"):
        raise UnsupportedMethodError(f"This method asks one network. For a {type(clf).__name__}: method='ensemble'.")
    logits, _ = _answers(clf, X, sampling, n_samples=n_samples, progress=progress)
    return clf._proba(logits.reshape(-1, logits.shape[2])).reshape(*logits.shape[:2], -1)


def _answers(
    clf: CXRClassifier, X: Any, sampling: Sampling, *, n_samples: int, progress: Any = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Return the logits (T, N, K) of all samples, with rows of NaN for unreadable images, and ids of the others."""
    images, how = clf._images(X), execution(clf)
    n_images, width = len(images), clf.task_.num_outputs(len(clf.classes_))
    logits = np.full((n_samples, n_images, width), np.nan, dtype=np.float32)
    ids: dict[int, str] = {}
    with bar(n_images, "sampling", clf.verbose) as advance:
        tell = told_how_far(advance, progress, caller=_CALLER)

        @torch.no_grad()
        def use(prepared: PreparedImages, x: Tensor, done: int) -> None:
            ids.update(zip(prepared.index.tolist(), prepared.content_ids, strict=True))
            with how.autocast():
                draw = sampling(prepared, x)
                for number in range(n_samples):
                    found = draw(number).float().cpu().numpy()
                    if not np.isfinite(found).all():
                        broken = np.flatnonzero(~np.isfinite(found).all(axis=1))[0]
                        raise not_finite(images.source(int(prepared.index[broken])))
                    logits[number, prepared.index] = found
                    tell(done + len(x) * (number + 1) / n_samples, n_images)

        for _ in run_batches(clf, images, how, use):
            pass
    return logits, ids


def _with_dropout(model: nn.Module, x: Tensor, ids: Sequence[str], seed: int) -> Draw:
    """Return the samples of a batch. What lies before the first dropout, if only the head drops, is computed once."""
    network: Any = model
    with _Dropping(_generators(seed, ids, 0)) as in_features:
        features = network.forward_features(x)

    def draw(number: int) -> Tensor:
        with _Dropping(_generators(seed, ids, number)) as dropping:
            logits = model(x) if in_features.count else network.forward_head(features)
        if not dropping.count:
            raise UnsupportedMethodError(
                "method='mc_dropout' needs a network with dropout, and this one has none. What works without: "
                "method='test_time_augmentation', or a CXREnsemble. Or train with dropout, such as "
                "CXRClassifier(dropout=0.2)."
            )
        return logits

    return draw


class _Dropping(TorchFunctionMode):
    """Within the block, dropout works although the network is in eval mode; of this thread only.

    No flag or hook of the network is touched, so batch norm keeps its running statistics. Each image has a generator of
    its own: what is left out does not depend on the images beside it.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.count = 0  # of calls that left something out
        self._generators = generators

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function not in _DROPOUTS or not kwargs["p"]:
            return function(*args, **kwargs)
        self.count += 1
        return self._drop(args[0], kwargs["p"], whole_channels=_DROPOUTS[function])

    def _drop(self, x: Tensor, p: float, *, whole_channels: bool) -> Tensor:
        if len(x) != len(self._generators):  # such as the table of positions of swinv2_cr, which all images share
            raise UnsupportedMethodError(
                "method='mc_dropout' does not suit this network, which drops more than values of single images. "
                "method='test_time_augmentation' suits every one."
            )
        shape = [*x.shape[1:2], *[1] * (x.ndim - 2)] if whole_channels else x.shape[1:]
        draws = torch.stack([torch.rand(shape, generator=own) for own in self._generators])
        return x * (draws >= p).to(x) / (1.0 - p)


def _generators(seed: int, ids: Sequence[str], number: int) -> list[torch.Generator]:
    """Return a generator for this sample of each image, which follows from the seed and the image's content alone."""
    states = (np.random.SeedSequence([seed, int(one, 16), number]).generate_state(1, np.uint64) for one in ids)
    return [torch.Generator().manual_seed(int(state[0])) for state in states]
