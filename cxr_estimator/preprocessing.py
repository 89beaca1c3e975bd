"""Decoded images -> arrays at model size, and the geometry that leads back. Described by plain JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cxr_estimator._validation import check_choice, check_number, invalid, plain
from cxr_estimator.errors import ImageError
from cxr_estimator.images import DecodedImage

RESIZE_MODES = ("stretch", "pad", "crop")
INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_PER_CHANNEL: dict[str, dict[str, Any]] = {
    "mean": {}, "std": {"low": 0, "open_low": True}, "fill": {"low": 0, "high": 1}
}  # fmt: skip
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in Pillow's "L"


class Box(NamedTuple):
    """A rectangle in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, for indexing an (H, W) array."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Geometry:
    """Which part of the original lies where in the model's input.

    `source`, in original pixels, was resized to `target`, in pixels of the model's input. Where an image is cut, the
    cut may lie between two pixels of the original; `source` then is the nearest to it that has whole ones.
    """

    original_shape: tuple[int, int]
    model_shape: tuple[int, int]
    source: Box
    target: Box

    def to_original(self, values: np.ndarray) -> np.ndarray:
        """Resize a map (h, w) at model size to the original's (H, W), float32; 0 where the model saw nothing."""
        values = np.asarray(values, dtype=np.float32)
        self._check_shape(values, self.model_shape)
        original = np.zeros(self.original_shape, dtype=np.float32)
        original[self.source.slices] = _resize(values[self.target.slices], self.source)
        return original

    def mask_to_model(self, mask: np.ndarray) -> np.ndarray:
        """Bring a bool mask (H, W) of the original to model size (h, w), by nearest neighbour."""
        mask = np.asarray(mask, dtype=bool)
        self._check_shape(mask, self.original_shape)
        resized = np.zeros(self.model_shape, dtype=bool)
        part = Image.fromarray(mask[self.source.slices].astype(np.uint8))
        resized[self.target.slices] = np.asarray(
            part.resize((self.target.width, self.target.height), Image.Resampling.NEAREST)
        ).astype(bool)
        return resized

    def resized(self, shape: tuple[int, int]) -> Geometry:
        """Return the geometry of the same original once it is resized to `shape` = (H, W)."""
        grow = [new / old for new, old in zip(shape, self.original_shape, strict=True)]
        (top, bottom), (left, right) = (
            (min(round(start * by), side - 1), round((start + length) * by))
            for start, length, by, side in zip(self.source[:2], self.source[2:], grow, shape, strict=True)
        )
        source = Box(top, left, max(bottom - top, 1), max(right - left, 1))
        return replace(self, original_shape=(shape[0], shape[1]), source=source)

    @staticmethod
    def _check_shape(values: np.ndarray, shape: tuple[int, int]) -> None:
        if values.shape != shape:
            raise invalid("values", "Geometry", f"an array of shape {shape}", f"shape {values.shape}")

    @classmethod
    def from_dict(cls, description: dict[str, Any]) -> Geometry:
        """Rebuild a geometry from `dataclasses.asdict` after a trip through JSON."""
        return cls(
            original_shape=tuple(description["original_shape"]),
            model_shape=tuple(description["model_shape"]),
            source=Box(*description["source"]),
            target=Box(*description["target"]),
        )


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the model's input. Every step depends on that one image alone.

    Parameters
    ----------
    image_size : int
        Height and width of the model's input, in pixels.
    channels : {1, 3}
        Grey or RGB input. Colour becomes grey by BT.601 luma; grey is repeated for three channels.
    resize : {"stretch", "pad", "crop"}
        Stretch to the square, fit inside with black bars, or cut out the largest central square.
    intensity : None, (low, high) or "minmax"
        None: uint8 and uint16 scale by their type, floats must lie in [0, 1]. (low, high) becomes [0, 1], clipped.
        "minmax": each image is stretched to its own range.
    mean, std : tuple of float
        Normalisation of the [0, 1] pixels: one number for all channels, or one per channel.
    crop_pct : float in (0, 1], default=1.0
        Share of the height and of the width, in the middle, that is seen of what `resize` would show.
    interpolation : {"bilinear", "bicubic", "lanczos"}, default="bilinear"
        The filter of Pillow's resize, which is anti-aliased.
    fill : tuple of float in [0, 1], default=(0.0,)
        What the bars of "pad" look like, as `mean` for channels: black.

    Notes
    -----
    "stretch", "crop" and "pad" place and cut the image to the pixel as timm's evaluation transforms do with crop_mode
    "squash", "center" and "border", where `fill` is the mean.
    """

    image_size: int
    channels: int = 1
    resize: str = "stretch"
    intensity: tuple[float, float] | str | None = None
    mean: tuple[float, ...] = field(default=(0.5,))
    std: tuple[float, ...] = field(default=(0.25,))
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    fill: tuple[float, ...] = field(default=(0.0,))

    def __post_init__(self) -> None:
        caller = type(self).__name__
        check_number("image_size", self.image_size, caller=caller, low=8, high=4096, integer=True)
        check_choice("channels", self.channels, (1, 3), caller=caller)
        check_choice("resize", self.resize, RESIZE_MODES, caller=caller)
        _check_intensity(self.intensity, caller)
        check_number("crop_pct", self.crop_pct, caller=caller, low=0, high=1, open_low=True)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS, caller=caller)
        for name, bounds in _PER_CHANNEL.items():
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) not in (1, self.channels):
                raise invalid(name, caller, "a tuple of one number for all channels or one per channel", values)
            for value in values:
                check_number(name, value, caller=caller, **bounds)

    def to_dict(self) -> dict[str, Any]:
        """Return a description that `Preprocessing.from_dict` reads, of JSON types only."""
        return {
            key: [plain(item) for item in value] if isinstance(value, tuple | list) else plain(value)
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, description: dict[str, Any]) -> Preprocessing:
        """Rebuild the preprocessing that `to_dict` described."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in description.items()}
        return cls(**values)

    def geometry(self, shape: tuple[int, int]) -> Geometry:
        """Return the geometry of an original of `shape` = (H, W)."""
        view, target = self._view(shape)
        (top, bottom), (left, right) = (
            (min(_nearest(start), side - 1), _nearest(stop)) for (start, stop), side in zip(view, shape, strict=True)
        )
        source = Box(top, left, max(bottom - top, 1), max(right - left, 1))
        return Geometry((shape[0], shape[1]), (self.image_size, self.image_size), source, target)

    def _view(self, shape: tuple[int, int]) -> tuple[list[tuple[float, float]], Box]:
        """Return from where to where rows and columns are seen, and the box of the model's input that they fill.

        The whole image is thought resized, to whole pixels, and then cut or padded in the middle.
        """
        size = self.image_size
        grown = math.floor(size / self.crop_pct)
        if self.resize == "stretch":
            resized = [grown, grown]
        elif self.resize == "pad":
            resized = [max(1, round(side / (max(shape) / grown))) for side in shape]
        else:
            resized = [int(grown * side / min(shape)) for side in shape]
        view = []
        for side, length in zip(shape, resized, strict=True):
            start = round(max(length - size, 0) / 2)
            view.append((start * side / length, (start + min(length, size)) * side / length))
        height, width = (min(length, size) for length in resized)
        return view, Box((size - height) // 2, (size - width) // 2, height, width)

    def pixels(self, image: DecodedImage) -> np.ndarray:
        """Return (channels, size, size): uint8 where the source is uint8, else uint16 (65535 = 1.0)."""
        unit = _unit_pixels(image, self.intensity)
        if unit.ndim == 3 and self.channels == 1:
            unit = (
                np.asarray(Image.fromarray(unit).convert("L"))
                if unit.dtype == np.uint8
                else unit.astype(np.float32) @ _LUMA
            )
        planes = [unit] if unit.ndim == 2 else [unit[..., channel] for channel in range(3)]
        view, target = self._view(unit.shape[:2])
        resized = [_resized(plane, view, target, INTERPOLATIONS[self.interpolation]) for plane in planes]
        resized *= self.channels // len(resized)
        fills = self.fill * (self.channels // len(self.fill))
        size = self.image_size
        return np.stack([_placed(plane, target, size, fill) for plane, fill in zip(resized, fills, strict=True)])


def picture(
    image: DecodedImage, *, longest: int, intensity: tuple[float, float] | str | None = None, shortest: int = 1
) -> np.ndarray:
    """Return an image for people to look at, (h, w) or (h, w, 3) uint8, at its own aspect.

    Parameters
    ----------
    image : DecodedImage
    longest : int
        The longer side has at most so many pixels.
    intensity : None, (low, high) or "minmax", optional
        As of `Preprocessing`, whose grey levels these then are.
    shortest : int, default=1
        The longer side has at least so many pixels.
    """
    unit = _unit_pixels(image, intensity)
    height, width = unit.shape[:2]
    grow = min(max(max(height, width), shortest), longest) / max(height, width)
    target = Box(0, 0, max(round(height * grow), 1), max(round(width * grow), 1))
    planes = [unit] if unit.ndim == 2 else [unit[..., channel] for channel in range(3)]
    view = [(0.0, float(height)), (0.0, float(width))]
    resized = [_resized(plane, view, target, Image.Resampling.BILINEAR) for plane in planes]
    eight = [plane if plane.dtype == np.uint8 else (plane // 257).astype(np.uint8) for plane in resized]
    return eight[0] if unit.ndim == 2 else np.stack(eight, axis=-1)


def _nearest(edge: float) -> int:
    """Return the nearest edge between pixels, the lower one of two."""
    return math.ceil(edge - 0.5)


def _check_intensity(intensity: Any, caller: str) -> None:
    if intensity is None or (isinstance(intensity, str) and intensity == "minmax"):
        return
    is_pair = isinstance(intensity, tuple | list) and len(intensity) == 2
    is_finite = is_pair and all(isinstance(bound, Real) and math.isfinite(bound) for bound in intensity)
    if not is_finite or not intensity[0] < intensity[1]:
        raise invalid("intensity", caller, "None, 'minmax' or a pair (low, high) with low < high", intensity)


def _unit_pixels(image: DecodedImage, intensity: tuple[float, float] | str | None) -> np.ndarray:
    """Return uint8 as it is (255 = 1.0), anything else as float32 in [0, 1]."""
    pixels = image.pixels
    if intensity is not None:
        low, high = (float(pixels.min()), float(pixels.max())) if isinstance(intensity, str) else intensity
        span = high - low if high > low else 1.0
        return np.clip((pixels.astype(np.float32) - low) / span, 0.0, 1.0)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return pixels.astype(np.float32) / 65535.0
    if pixels.dtype.kind in "ui":
        raise ImageError(
            image.source,
            f"{pixels.dtype} pixels have no agreed range; convert to uint8 or uint16, or set intensity=(low, high).",
        )
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0.0 or high > 1.0:
        raise ImageError(
            image.source,
            f"float pixels must lie in [0, 1] but span [{low:g}, {high:g}]; rescale, or set intensity=(low, high).",
        )
    return pixels


def _resize(plane: np.ndarray, box: Box) -> np.ndarray:
    """Resize a 2-D float32 map with anti-aliasing (triangle filter)."""
    if plane.shape == (box.height, box.width):
        return plane
    return np.asarray(Image.fromarray(plane).resize((box.width, box.height), Image.Resampling.BILINEAR))


def _resized(plane: np.ndarray, view: list[tuple[float, float]], target: Box, resample: Image.Resampling) -> np.ndarray:
    """Return what the model sees of a 2-D plane: uint8 as it is, float32 as uint16."""
    (top, bottom), (left, right) = view
    picture = Image.fromarray(np.ascontiguousarray(plane))
    resized = np.asarray(picture.resize((target.width, target.height), resample, box=(left, top, right, bottom)))
    if resized.dtype != np.uint8:
        resized = np.rint(np.clip(resized, 0.0, 1.0) * 65535.0).astype(np.uint16)
    return resized


def _placed(plane: np.ndarray, target: Box, size: int, fill: float) -> np.ndarray:
    canvas = np.full((size, size), round(fill * np.iinfo(plane.dtype).max), dtype=plane.dtype)
    canvas[target.slices] = plane
    return canvas
