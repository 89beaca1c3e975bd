"""Simulated changes of scanner, exposure and framing, on radiographs that a model was not trained on.

A model that holds up under them need not hold up in another hospital, but one that does not will not. Each shift is a
pure function of an image, a strength and random numbers; these come from the image itself, so that an image is shifted
in the same way in whatever set and order it stands. None is used for training: `levers` has changes of its own.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image
from scipy import ndimage

Shift = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
_PER_SIDE = 1.0 / 224.0  # lengths below are in pixels of an image of 224


def shifted(images: np.ndarray, name: str, strength: float) -> np.ndarray:
    """Return shifted copies of images (N, H, W), uint8.

    Parameters
    ----------
    images : ndarray (N, H, W), uint8
    name : str
        A key of `SHIFTS`.
    strength : float in [0, 1]
        0 changes nothing beyond rounding, 1 is more than ordinary practice would show.

    Raises
    ------
    KeyError, ValueError
        There is no such shift; the strength is not within [0, 1].

    Examples
    --------
    >>> square = np.full((1, 8, 8), 100, dtype=np.uint8)
    >>> int(shifted(square, "border", 1.0)[0, 0, 0])
    0
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"The strength must be within [0, 1]. Got {strength!r}.")
    change = SHIFTS[name]
    out = np.empty_like(images)
    for image, place in zip(images, out, strict=True):
        unit = image.astype(np.float32) / 255.0
        changed = change(unit, strength, random_numbers(image, name)) if strength else unit
        place[...] = np.rint(np.clip(changed, 0.0, 1.0) * 255.0)
    return out


def random_numbers(image: np.ndarray, name: str) -> np.random.Generator:
    """Return a generator that depends on the image's pixels and the shift's name alone."""
    digest = hashlib.sha256(name.encode() + np.ascontiguousarray(image).tobytes()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _either_way(size: float, rng: np.random.Generator) -> float:
    """Return a number between half of `size` and `size`, of either sign, so that no image goes unchanged."""
    return float(rng.uniform(0.5, 1.0) * size * rng.choice([-1.0, 1.0]))


def exposure(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply all grey values by up to 2 ** 0.7, or divide them; what passes white is lost."""
    return image * np.float32(2.0 ** _either_way(0.7 * strength, rng))


def contrast(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Stretch or squeeze grey values around their mean by up to e ** 0.6."""
    return (image - image.mean()) * np.float32(np.exp(_either_way(0.6 * strength, rng))) + image.mean()


def gamma(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Raise grey values to a power of up to e ** 0.7, or its inverse."""
    return image ** np.float32(np.exp(_either_way(0.7 * strength, rng)))


def shading(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Darken towards one side by up to half, as the heel effect of the tube does."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    rows, columns = (np.linspace(-1.0, 1.0, side, dtype=np.float32) for side in image.shape)
    ramp = np.cos(angle) * columns[None, :] + np.sin(angle) * rows[:, None]
    return image * (1.0 - 0.5 * strength * (ramp - ramp.min()) / np.ptp(ramp))


def blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blur with a Gaussian of up to 2 pixels of 224."""
    return ndimage.gaussian_filter(image, rng.uniform(0.5, 1.0) * 2.0 * strength * _PER_SIDE * image.shape[0])


def sharpening(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add up to 1.5 times what a Gaussian of 1.5 pixels of 224 takes away."""
    smooth = ndimage.gaussian_filter(image, 1.5 * _PER_SIDE * image.shape[0])
    return image + np.float32(rng.uniform(0.5, 1.0) * 1.5 * strength) * (image - smooth)


def noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise with a standard deviation of up to 0.1."""
    spread = rng.uniform(0.5, 1.0) * 0.1 * strength
    return image + rng.normal(0.0, spread, image.shape).astype(np.float32)


def resolution(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink to as little as a quarter of the side, and enlarge again."""
    side = max(2, round(image.shape[0] / (1.0 + 3.0 * strength * rng.uniform(0.5, 1.0))))
    return _resized(_resized(image, (side, side)), image.shape)


def compression(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Compress as JPEG with a quality of as little as 8 of 100."""
    file = io.BytesIO()
    quality = round(95 - 87 * strength * rng.uniform(0.8, 1.0))
    Image.fromarray(np.rint(image * 255.0).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=np.float32) / 255.0


def crop(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Cut away up to 30% of both sides, anywhere, and enlarge what is left."""
    share = 1.0 - 0.3 * strength * rng.uniform(0.5, 1.0)
    return _cut(image, share, share, rng)


def aspect(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Cut away up to 30% of the height or of the width, and stretch what is left."""
    share = 1.0 - 0.3 * strength * rng.uniform(0.5, 1.0)
    return _cut(image, share, 1.0, rng) if rng.random() < 0.5 else _cut(image, 1.0, share, rng)


def rotation(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Rotate by up to 20 degrees; black comes in at the corners."""
    angle = _either_way(20.0 * strength, rng)
    return ndimage.rotate(image, angle, reshape=False, order=1, mode="constant", cval=0.0)


def markers(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blank the four corners, up to 25% of the sides, where letters and clips are; each with its own median."""
    out = image.copy()
    height, width = (max(1, round(0.25 * strength * side)) for side in image.shape)
    for rows in (slice(None, height), slice(-height, None)):
        for columns in (slice(None, width), slice(-width, None)):
            out[rows, columns] = np.median(image[rows, columns])
    return out


def border(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Cover a frame of up to 12% of each side with black, as a tighter collimation."""
    out = image.copy()
    for axis, side in enumerate(image.shape):
        for reverse in (False, True):
            width = max(1, round(0.12 * strength * side * rng.uniform(0.5, 1.0)))
            view = np.flip(out, axis) if reverse else out
            np.moveaxis(view, axis, 0)[:width] = 0.0
    return out


SHIFTS: Mapping[str, Shift] = {
    function.__name__: function
    for function in (
        exposure, contrast, gamma, shading, blur, sharpening, noise, resolution, compression, crop, aspect, rotation,
        markers, border,
    )
}  # fmt: skip


def _resized(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _cut(image: np.ndarray, height: float, width: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random rectangle of such shares of the sides, enlarged to the image's own size."""
    sides = [max(2, round(share * side)) for share, side in zip((height, width), image.shape, strict=True)]
    top, left = (int(rng.integers(0, whole - side + 1)) for whole, side in zip(image.shape, sides, strict=True))
    return _resized(np.ascontiguousarray(image[top : top + sides[0], left : left + sides[1]]), image.shape)
