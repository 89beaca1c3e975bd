"""Images that no chest network should answer: photographs, noise, drawings, and radiographs spoiled in known ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage
import sklearn
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

_SIDE = 224
# what spoils a radiograph, and the correction that `check_images` should name
CORRECTION = {
    "inverted": "inverted",
    "rotated_90": "rotated_270",
    "rotated_180": "rotated_180",
    "rotated_270": "rotated_90",
    "upside_down": "flipped",
}


def photographs(rng: np.random.Generator) -> list[np.ndarray]:
    """Return the pictures that come with scikit-image and scikit-learn, whole, and four parts of each large one."""
    folders = Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"
    paths = sorted(path for folder in folders for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    found = []
    for path in paths:
        picture = np.asarray(Image.open(path).convert("RGB"))
        found.append(picture)
        height, width = picture.shape[:2]
        for _ in range(4 if min(height, width) >= 300 else 0):
            top, left = rng.integers(height // 2), rng.integers(width // 2)
            found.append(picture[top : top + height // 2, left : left + width // 2])
    return found


def noise(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Return uniform, normal, binary, blocky noise and clouds of two sizes, in turn."""

    def clouds(size: float) -> np.ndarray:
        field = gaussian_filter(rng.normal(size=(_SIDE, _SIDE)), size)
        return (field - field.min()) / np.ptp(field)

    kinds = [
        lambda: rng.uniform(size=(_SIDE, _SIDE)),
        lambda: rng.normal(0.5, 0.2, (_SIDE, _SIDE)),
        lambda: (rng.uniform(size=(_SIDE, _SIDE)) < 0.5).astype(float),
        lambda: np.kron(rng.uniform(size=(_SIDE // 8, _SIDE // 8)), np.ones((8, 8))),
        lambda: clouds(5),
        lambda: clouds(25),
    ]
    return [np.uint8(255 * np.clip(kinds[number % len(kinds)](), 0, 1)) for number in range(count)]


def drawings(rng: np.random.Generator) -> list[np.ndarray]:
    """Return blank images, gradients, a page of text, and hands as an X-ray would show them, roughly."""
    ramp = np.broadcast_to(np.linspace(0, 255, _SIDE).astype(np.uint8), (_SIDE, _SIDE))
    blank = [np.full((_SIDE, _SIDE), level, np.uint8) for level in (0, 120, 255)]
    page = Image.new("L", (_SIDE, _SIDE), 255)
    for line in range(8, _SIDE - 8, 12):
        ImageDraw.Draw(page).text((8, line), "the quick brown fox jumps over a lazy dog", fill=0)
    left = _hand(rng)
    return [*blank, ramp, ramp.T, np.asarray(page), left, left[:, ::-1]]


def _hand(rng: np.random.Generator) -> np.ndarray:
    picture = Image.new("L", (_SIDE, _SIDE), 10)
    draw = ImageDraw.Draw(picture)
    fingers = list(enumerate((72, 94, 116, 138)))
    draw.rounded_rectangle((70, 110, 160, 215), 20, fill=150)
    draw.line((160, 170, 200, 120), fill=150, width=20)
    for number, x in fingers:
        draw.rounded_rectangle((x, 30 + abs(number - 1) * 12, x + 17, 130), 8, fill=150)
    for _, x in fingers:
        draw.line((x + 8, 140, 110, 200), fill=230, width=7)
        for y in (45, 75, 115):
            draw.rounded_rectangle((x + 5, y, x + 12, y + 26), 3, fill=235)
    soft = gaussian_filter(np.asarray(picture, float), 1.5)
    return np.uint8(np.clip(soft + rng.normal(0, 4, soft.shape), 0, 255))


def spoiled(film: np.ndarray) -> dict[str, np.ndarray]:
    """Return a radiograph (H, W), uint8, spoiled in each known way."""
    height, width = film.shape
    return {
        "inverted": 255 - film,
        "rotated_90": np.rot90(film),
        "rotated_180": np.rot90(film, 2),
        "rotated_270": np.rot90(film, 3),
        "upside_down": film[::-1],
        "rotated_45": np.asarray(Image.fromarray(film).rotate(45, Image.Resampling.BILINEAR)),
        "rotated_-45": np.asarray(Image.fromarray(film).rotate(-45, Image.Resampling.BILINEAR)),
        "cropped_to_a_quarter": film[: height // 2, : width // 2],
        "cropped_to_the_lower_third": film[2 * height // 3 :],
        "cropped_to_a_side": film[:, : width // 3],
        "half_out_of_the_frame": np.pad(film, ((0, 0), (width // 2, 0)))[:, :width],
    }
