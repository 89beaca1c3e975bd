"""Synthetic frontal chest radiographs with known lesions, for tests and examples.

A phantom arises the way a radiograph does: every part of the body adds to (or, for air, takes from) the attenuation
of the beam; the sum is posed, blurred and exposed onto a film with a saturating curve. Parts are drawn in body
coordinates: x and y run from -1 to 1 over the image, y downwards, and the patient's left is on the right.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cxr_estimator._validation import check_number, check_seed

_EXTENT = 1.15  # the canvas reaches this far in body coordinates: a rotated or shifted image still finds anatomy there
_MIN_CANVAS = 112  # below this resolution ribs alias: smaller images are drawn at it and blurred before sampling
_LABEL_BLOCK = 20  # patients among whom the prevalence is kept and the order shuffled
_LESION_AREA = (0.024, 0.052)  # least and largest share of the image, before the pose
_LESION_CONTRAST = (1.0, 0.45)  # largest share of the air that a lesion fills, at difficulty 0 and 1
_FAINTEST = 0.65  # the faintest lesions have this share of the contrast of the strongest
_LESION_LEVEL = 0.3  # opacity at which the lesion mask ends
_LUNG_LEVEL = 0.5  # share of the full depth of air at which the lung mask ends
_VESSEL_WIDTHS = (0.014, 0.009, 0.006)  # of successive branches
_LABELS, _ANATOMY, _LESION, _IMAGE = range(4)  # independent random streams: no draw from one shifts another
_LUNG_REGION, _LESION_REGION = 1, 2  # a lesion is part of the lung

_GLYPHS = {
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
}


class Phantoms(NamedTuple):
    """Images, labels, patients and ground-truth masks, as `make_phantoms` returns them."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    lesion_masks: np.ndarray
    lung_masks: np.ndarray


class _Body(NamedTuple):
    """The frame of one patient in body coordinates: the canvas (float32 arrays) and what all parts hang on."""

    x: np.ndarray  # from the spine to the patient's left
    y: np.ndarray  # one column, downwards
    side: np.ndarray  # distance from the spine
    axial: np.ndarray  # 0 at the spine, 1 at the lateral rib cage
    cage: np.ndarray  # one column, half-width of the rib cage
    apex: float  # top of the lungs
    dome: float  # top of the right hemidiaphragm


def make_phantoms(n=200, size=128, *, prevalence=0.5, images_per_patient=2, difficulty=0.5, random_state=0):
    """Make synthetic frontal chest radiographs, some with a pneumonia whose place is known.

    The images are drawings for tests, examples and the development of methods, such as saliency maps that should
    find the lesion. They are **not for training clinical models**: nothing learned on them carries over to patients.

    Parameters
    ----------
    n : int, default=200
        Number of images, at least 1.
    size : int, default=128
        Height and width in pixels, from 16 to 1024.
    prevalence : float, default=0.5
        Share of patients with pneumonia. Strictly between 0 and 1, any two or more patients show both classes.
    images_per_patient : int, default=2
        Successive images share patient, label and anatomy; pose, exposure and noise differ.
    difficulty : float, default=0.5
        From 0 (dense lesions) to 1 (faint ones).
    random_state : int, RandomState, Generator or None, default=0
        With an integer, each image depends only on the seed and on its place in the sequence. A larger `n` appends
        images, and ``prevalence=0`` and ``prevalence=1`` give the same patients without and with pneumonia.

    Returns
    -------
    Phantoms
        Named tuple of ``X``, uint8 grey levels of shape (n, size, size); ``y``, "NORMAL" or "PNEUMONIA", shape (n,);
        ``groups``, patients such as "P0007", shape (n,); and two bool arrays of shape (n, size, size):
        ``lesion_masks``, 2 to 6 % of the image for "PNEUMONIA" and empty for "NORMAL", and ``lung_masks``, the lungs
        that heart and diaphragm leave free.

    Examples
    --------
    >>> from cxr_estimator.datasets.phantom import make_phantoms
    >>> phantoms = make_phantoms(n=4, size=64)
    >>> phantoms.X.shape, phantoms.X.dtype.name
    ((4, 64, 64), 'uint8')
    >>> sorted(set(phantoms.y.tolist()))
    ['NORMAL', 'PNEUMONIA']
    """
    caller = "make_phantoms"
    check_number("n", n, caller=caller, low=1, integer=True)
    check_number("size", size, caller=caller, low=16, high=1024, integer=True)
    check_number("prevalence", prevalence, caller=caller, low=0, high=1)
    check_number("images_per_patient", images_per_patient, caller=caller, low=1, integer=True)
    check_number("difficulty", difficulty, caller=caller, low=0, high=1)
    seed = check_seed(random_state, caller=caller)

    contrast = float(np.interp(difficulty, (0, 1), _LESION_CONTRAST))
    patients, views = np.divmod(np.arange(n), images_per_patient)
    sick = _draw_labels(patients[-1] + 1, prevalence, seed)
    X = np.empty((n, size, size), np.uint8)
    regions = np.empty_like(X)
    for i, (patient, view) in enumerate(zip(patients, views, strict=True)):
        if view == 0:
            body, body_regions = _draw_patient(size, contrast if sick[patient] else 0, seed, patient)
        rng = _stream(seed, _IMAGE, patient, view)
        tissue, regions[i] = _pose(body, body_regions, size, rng)
        X[i] = _expose(tissue, rng)
    y = np.where(sick[patients], "PNEUMONIA", "NORMAL")
    groups = np.array([f"P{patient:04d}" for patient in patients])
    return Phantoms(X, y, groups, regions == _LESION_REGION, regions > 0)


def _stream(seed, *key):
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _draw_labels(n_patients, prevalence, seed):
    """Return who is sick: the prevalence holds within every shuffled block, and the first two patients differ."""
    rng = _stream(seed, _LABELS)
    ranks = [rng.permutation(_LABEL_BLOCK) + rng.random() for _ in range(0, n_patients, _LABEL_BLOCK)]
    sick = np.concatenate(ranks) < _LABEL_BLOCK * prevalence
    if 0 < prevalence < 1:
        swap = np.argmax(sick[:_LABEL_BLOCK] != sick[0]) or 1
        sick[swap] = sick[1]
        sick[1] = not sick[0]
    return sick[:n_patients]


def _step(z, width):
    """Rise smoothly from 0 to 1 while `z` goes from -`width` to `width`."""
    t = np.clip(0.5 + z / (2 * width), 0, 1)
    return t * t * (3 - 2 * t)


def _bump(z, width):
    """Return a bell of height 1 around `z` = 0."""
    return np.exp(-((z / width) ** 2))


def _radius2(dx, dy, a, b, tilt):
    """Return the squared distance from the centre of an ellipse with half-axes `a` and `b`; 1 on the ellipse."""
    c, s = math.cos(tilt), math.sin(tilt)
    return ((c / a) * dx + (s / a) * dy) ** 2 + ((c / b) * dy - (s / b) * dx) ** 2


def _ellipsoid(dx, dy, a, b, tilt=0.0):
    """Return the relative thickness of an ellipsoid: 1 at its centre, 0 at its outline."""
    return np.sqrt(np.maximum(1 - _radius2(dx, dy, a, b, tilt), 0))


@lru_cache(maxsize=64)
def _spline_basis(n, knots):
    """Return the (n, knots) cubic B-spline weights that take values at knots to a fine, smooth grid."""
    d = np.abs(np.linspace(1, knots - 2, n)[:, None] - np.arange(knots))
    return ((np.maximum(2 - d, 0) ** 3 - 4 * np.maximum(1 - d, 0) ** 3) / 6).astype(np.float32)


def _cloud(body, rng, knots):
    """Return smooth noise of about unit variance whose grain is 2 / `knots` of the canvas."""
    basis = _spline_basis(body.y.size, knots)
    return 2 * basis @ rng.standard_normal((knots, knots), dtype=np.float32) @ basis.T


def _draw_patient(size, contrast, seed, patient):
    """Return the (canvas, canvas) attenuation and regions of a patient, healthy where `contrast` is 0."""
    rng = _stream(seed, _ANATOMY, patient)
    body = _draw_body(max(size, _MIN_CANVAS), rng)
    abdomen, above = _abdomen(body, rng)
    heart, border = _heart(body, rng)
    lung, air = _lungs(body, above, border, rng)
    solid = abdomen + heart
    for part in (_trunk, _ribs, _clavicles, _shoulders, _spine):
        solid += part(body, rng)
    vessels = lung * _vessels(body, rng)
    regions = _LUNG_REGION * (lung > _LUNG_LEVEL).astype(np.uint8)
    if contrast:
        lesions = _stream(seed, _LESION, patient)
        opacity, texture = _pneumonia(body, lung, lesions)
        regions[(regions == _LUNG_REGION) & (opacity > _LESION_LEVEL)] = _LESION_REGION
        filled = contrast * lesions.uniform(_FAINTEST, 1) * opacity * texture
        # Exudate replaces air; what air no longer surrounds loses its outline.
        air *= 1 - filled
        vessels *= 1 - 0.8 * filled
    return np.maximum(solid + vessels - air, 0), regions


def _draw_body(canvas, rng):
    """Draw the frame that all other parts hang on."""
    n = round(canvas * _EXTENT)
    axis = np.linspace(-_EXTENT, _EXTENT, n, dtype=np.float32)
    y = axis[:, None]
    lean = rng.uniform(-0.04, 0.04) + rng.uniform(-0.03, 0.03) * y + rng.uniform(-0.03, 0.03) * y * y
    x = axis[None, :] - lean
    apex, dome = rng.uniform(-0.74, -0.56), rng.uniform(0.36, 0.54)
    # The cage is narrow at the apices, widest above the costophrenic angles, and tapers a little below.
    depth = (y - apex + 0.1) / (dome - apex + 0.1)
    roof = (1 - np.clip(1 - depth, 0, 1) ** rng.uniform(2.0, 2.6)) ** rng.uniform(0.5, 0.65)
    cage = rng.uniform(0.7, 0.84) * (roof - rng.uniform(0.05, 0.25) * np.clip(depth - 1.05, 0, 1)) + 1e-3
    side = np.abs(x)
    return _Body(x, y, side, side / cage, cage, apex, dome)


def _abdomen(body, rng):
    """Return the attenuation under the diaphragm, often with a gastric bubble, and 1 above it to 0 below."""
    # The liver holds the right dome (left in the image) up; both domes fall off to the flanks.
    dome = body.dome + _step(body.x, 0.1) * rng.uniform(0.02, 0.09)
    slope = (body.axial - rng.uniform(0.4, 0.52)) / 0.55
    fall = rng.uniform(0.1, 0.24) * np.where(slope > 0, slope**2, 0.15 * slope**2)
    above = _step(dome + fall + 0.006 * _cloud(body, rng, 9) - body.y, rng.uniform(0.02, 0.045))
    depth = _step(1.0 - body.axial, 0.12) * (1 - 0.25 * _step(body.y - body.dome - 0.2, 0.4))
    left, down = body.x - rng.uniform(0.25, 0.45), body.y - body.dome - rng.uniform(0.2, 0.3)
    gas = rng.uniform(0.1, 0.3) if rng.random() < 0.4 else 0
    bubble = gas * _ellipsoid(left, down, rng.uniform(0.1, 0.2), rng.uniform(0.06, 0.1))
    return (1 - above) * depth * (rng.uniform(0.28, 0.42) + 0.03 * _cloud(body, rng, 8) - bubble), above


def _heart(body, rng):
    """Return the attenuation of heart and great vessels, and the distance of their border from the spine."""
    # Down the left border come aortic knob, waist and left ventricle; down the right one the smaller right atrium.
    top, bottom = body.apex + rng.uniform(0.3, 0.4), body.dome + rng.uniform(0.02, 0.1)
    t = (body.y - top) / (bottom - top)
    knob = rng.uniform(0.03, 0.07) * _bump(t, 0.15)
    ventricle = rng.uniform(0.22, 0.38) * np.sin(1.8 * np.clip(t - 0.1, 0, 1.3) ** rng.uniform(0.8, 1.2))
    atrium = rng.uniform(0.06, 0.16) * _bump(t - 0.7, 0.38)
    border = rng.uniform(0.13, 0.17) + np.where(body.x > 0, knob + ventricle, atrium) + 0.008 * _cloud(body, rng, 8)
    depth = np.sqrt(np.maximum(1 - (body.side / border) ** 2, 0))
    fade = _step(body.y - body.apex - 0.1, 0.35) * (1 - 0.7 * _step(t - 1.1, 0.25))
    return rng.uniform(0.22, 0.34) * fade * (0.5 + 0.75 * _step(t - 0.4, 0.5)) * depth**0.8, border


def _lungs(body, above, border, rng):
    """Return the lungs' relative depth in [0, 1], some of it behind the heart, and the attenuation air takes away."""
    cage = np.sqrt(np.maximum(1 - body.axial**4, 0)) * _step(0.98 - body.axial, 0.04)
    cap = _step(body.y - body.apex - 1.2 * np.maximum(0.26 - body.side, 0) ** 2, 0.06)
    lung = cage * cap * (0.12 + 0.88 * _step(body.side - border, 0.03)) * (0.06 + 0.94 * above)
    gradient = rng.uniform(-0.14, 0.1) * body.y + rng.uniform(-0.06, 0.06) * body.x
    haze = rng.uniform(0.02, 0.05) * _cloud(body, rng, 9) + 0.018 * _cloud(body, rng, 40)
    return lung, lung * (rng.uniform(0.42, 0.58) + gradient + haze)


def _trunk(body, rng):
    """Return soft tissue: a trunk that thins out at the flanks, shoulders, neck and chin; breasts and nipples."""
    flare = rng.uniform(0.1, 0.4) * _step(-0.4 - body.y, 0.35)
    half = 0.5 * (body.cage.max() + np.maximum(body.cage, body.cage[-1])) + rng.uniform(0.06, 0.18) + flare
    depth = np.maximum(1 - (body.x / half) ** 2, 0) ** rng.uniform(0.45, 0.7)
    # Trapezius: the line from neck to shoulder is concave.
    line = body.apex - 0.06 - rng.uniform(0.6, 1.0) * np.exp(-np.maximum(body.side - 0.12, 0) / rng.uniform(0.14, 0.24))
    tissue = rng.uniform(0.7, 0.82) * depth * _step(body.y - line, 0.07) * (1 + 0.025 * _cloud(body, rng, 12))
    extras = rng.uniform((0.4, 0.03, 0.04), (0.5, 0.14, 0.1)) * (rng.random(3) < (0.35, 0.4, 0.25))
    chin, breast, nipple = extras.tolist()
    tissue += chin * _ellipsoid(body.x, body.y + 1.15, rng.uniform(0.25, 0.4), rng.uniform(0.2, 0.42)) ** 0.7
    out, down = body.side - rng.uniform(0.36, 0.46), body.y - body.dome + rng.uniform(0.1, 0.3)
    tissue += breast * _ellipsoid(out, down, 0.3, 0.28)
    return tissue + nipple * _ellipsoid(out - 0.05, down - 0.1, 0.03, 0.03)


def _ribs(body, rng):
    """Return the ribs: posterior arches fall to the side, anterior ones fall back to the middle."""
    # A rib is a tilted ring, known by the height at which it leaves the spine: ribs are stripes of that height.
    spacing, tilt = rng.uniform(0.15, 0.185), rng.uniform(0.28, 0.46)
    u = np.clip(body.axial, 0, 1)
    arch = tilt * (0.4 * u * u + 0.6 * (1 - np.sqrt(1 - 0.97 * u * u))) - 0.04 * u
    origin = body.y + 0.009 * _cloud(body, rng, 7) + rng.uniform(-0.04, 0.04) * body.x - rng.uniform(0, spacing)
    strength = rng.uniform(0.13, 0.24) * (1 + 0.12 * _cloud(body, rng, 10))
    tangent = 1 + 0.5 * _step(u - 0.93, 0.06)  # the beam runs along the bone where a rib turns forward
    below = 1 - 0.6 * _step(body.y - body.dome - 0.1, 0.25)
    inside = _step(1.04 - body.axial, 0.03) * _step(body.y - body.apex + 0.06, 0.08) * below
    posterior = _stripes(origin - arch, spacing, rng.uniform(0.2, 0.25)) * _step(u - 0.14, 0.1)
    anterior = _stripes(origin + 1.2 * arch, spacing, rng.uniform(0.2, 0.25)) * _step(u - rng.uniform(0.5, 0.65), 0.15)
    return strength * inside * tangent * (posterior + rng.uniform(0.3, 0.7) * anterior)


def _stripes(height, spacing, half_width):
    """Return tubes at multiples of `spacing`, with brighter cortex at their edges."""
    d = np.abs((height / spacing) % 1 - 0.5)
    return _step(half_width - d, 0.06) * (0.65 + 0.45 * (d / half_width) ** 2)


def _clavicles(body, rng):
    """Return both clavicles: S-shaped bars from the sternum up and out to the shoulders."""
    rise, height = rng.uniform(0.0, 0.25), body.apex + rng.uniform(0.04, 0.14)
    out = body.side - 0.1
    course = height - rise * out + 0.025 * np.sin(8 * out) + rng.uniform(-0.08, 0.08) * body.x
    d = np.abs(body.y - course) / (0.024 + 0.016 * _bump(out, 0.08))
    ends = _step(out, 0.03) * _step(rng.uniform(0.5, 0.65) - out, 0.08)
    return rng.uniform(0.16, 0.32) * _step(1 - d, 0.3) * (0.7 + 0.3 * d * d) * ends


def _shoulders(body, rng):
    """Return scapulae and humeri at the upper corners, a little closer on one side."""
    out = body.side + rng.uniform(-0.06, 0.06) * body.x - rng.uniform(0.82, 0.98)
    down, arm = body.y - body.apex - rng.uniform(-0.02, 0.1), rng.uniform(0.1, 0.5)
    head = _ellipsoid(out, down, 0.085, 0.1) ** 0.7
    shaft = _ellipsoid(out - 0.03 - 0.35 * math.sin(arm), down - 0.35, 0.055, 0.42, -arm)
    scapula = _ellipsoid(out + 0.16, down - 0.22, 0.1, 0.26, rng.uniform(0.2, 0.5))
    return 0.2 * np.maximum(head, shaft) + 0.07 * scapula


def _spine(body, rng):
    """Return the vertebral column, with the air of the trachea taken out."""
    level = (body.y / rng.uniform(0.115, 0.135)) % 1
    half = rng.uniform(0.075, 0.095) * (1 + 0.15 * _bump(level - 0.5, 0.15))
    pedicles = _bump(body.side - 0.055, 0.02) * _bump(level - 0.05, 0.16)
    vertebrae = _step(half - body.side, 0.03) * (1 - 0.4 * _bump(level - 0.5, 0.12)) + 0.3 * pedicles
    way = np.abs(body.x - rng.uniform(-0.02, 0.03))
    trachea = _step(rng.uniform(0.035, 0.05) - way, 0.02) * _step(body.apex + 0.45 - body.y, 0.08)
    return rng.uniform(0.18, 0.34) * vertebrae - rng.uniform(0.1, 0.22) * trachea


def _vessels(body, rng):
    """Return the hila and the pulmonary vessels that branch out from them."""
    n = body.y.size
    level = body.apex + rng.uniform(0.52, 0.64)
    hila = sum(_bump(body.x - x, 0.07) * _bump(body.y - level - 0.03, 0.12) for x in (-0.2, 0.2))
    tree = np.zeros((n, n), np.float32)
    # Most vessels run down and out, for the lungs are larger below the hila.
    angle = rng.uniform(-1.2, 1.5, 16) * np.repeat([1, -1], 8) + np.repeat([0, np.pi], 8)
    start = np.stack([np.sign(np.cos(angle)) * rng.uniform(0.12, 0.24, 16), level + 0.12 * np.sin(angle)])
    for width in _VESSEL_WIDTHS:
        reach = np.linspace(0, 1, 80)[:, None] * rng.uniform(0.12, 0.33, angle.size)
        bend = angle + rng.normal(0, 2, angle.size) * reach
        course = start[:, None] + reach * np.stack([np.cos(bend), np.sin(bend)])
        columns, rows = np.rint((course + _EXTENT) * ((n - 1) / (2 * _EXTENT))).astype(np.int32).clip(0, n - 1)
        ink = np.bincount((rows * n + columns).ravel(), minlength=n * n).reshape(n, n).astype(np.float32)
        radius = width * n / (2 * _EXTENT)
        tree += ndimage.gaussian_filter(np.minimum(ink * (n / 800), 3), radius, truncate=2) * (0.14 * radius)
        start = np.repeat(course[:, -1], 2, axis=-1)
        angle = np.repeat(angle, 2) + np.tile([-0.35, 0.35], angle.size) + rng.normal(0, 0.3, 2 * angle.size)
    return rng.uniform(0.5, 1.2) * tree + rng.uniform(0.05, 0.2) * hila


def _pneumonia(body, lung, rng):
    """Return a consolidation's opacity and texture in [0, 1]: one to three foci, their outline frayed by noise."""
    inside = lung > _LUNG_LEVEL
    form = np.full(lung.shape, -np.inf, np.float32)
    for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])):
        half = (body.x > 0) == rng.integers(2)
        lobe = inside & half
        row = np.searchsorted(np.cumsum(lobe.sum(1)), rng.uniform(0.15, 0.9) * lobe.sum())
        columns = np.flatnonzero(lobe[row])
        column = columns[int(rng.uniform(0.15, 0.85) * columns.size)]
        dx, dy = body.x - body.x[row, column], body.y - body.y[row, 0]
        focus = -_radius2(dx, dy, rng.uniform(0.24, 0.34), rng.uniform(0.16, 0.24), rng.uniform(0, math.pi))
        form = np.where(half, np.maximum(form, focus), form)
    form += 0.45 * _cloud(body, rng, 14) + 0.22 * _cloud(body, rng, 34)
    n_pixels = int(rng.uniform(*_LESION_AREA) * (body.y.size / _EXTENT) ** 2)
    outline = np.sort(form[inside])[-min(n_pixels, inside.sum())]
    opacity = _step(form - outline - 0.1, rng.uniform(0.4, 0.7))
    return opacity, np.clip(0.85 + 0.12 * _cloud(body, rng, 28), 0.4, 1)


def _pose(tissue, regions, size, rng):
    """Rotate, scale and shift the body before the film; return attenuation and regions on the image grid."""
    n = tissue.shape[0]
    angle, zoom = math.radians(rng.uniform(-3, 3)), rng.uniform(0.95, 1.04)
    pitch = (n - 1) / (_EXTENT * size * zoom)  # canvas pixels per image pixel
    turn = pitch * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = (n - 1) / 2 + rng.uniform(-0.025, 0.025, 2) * n
    offset = centre - turn @ np.full(2, (size - 1) / 2)
    blur = max(rng.uniform(0.2, 0.5), 0.45 * pitch if pitch > 1.3 else 0)
    tissue = ndimage.gaussian_filter(tissue, blur, truncate=3)
    sampled = ndimage.affine_transform(tissue, turn, offset, (size, size), order=1, mode="nearest")
    return sampled, ndimage.affine_transform(regions, turn, offset, (size, size), order=0, mode="nearest")


def _expose(tissue, rng):
    """Turn attenuation into uint8 grey levels with a film curve, under a marker, the collimator and film grain."""
    grey = 1 - np.exp(-rng.uniform(1.15, 1.55) * tissue)
    grey = rng.uniform(0.92, 1.06) * grey ** rng.uniform(0.9, 1.15) + rng.uniform(-0.01, 0.03)
    _mark(grey, rng)
    # Collimator blades sometimes shade a border.
    blades = np.where(rng.random((2, 2, 1)) < 0.08, rng.uniform(0.01, 0.05, (2, 2, 1)), -1)
    at = (np.arange(len(grey), dtype=np.float32) + 0.5) / len(grey)
    rows, columns = _step(np.minimum(at - blades[0], 1 - at - blades[1]), 0.006).astype(np.float32)
    grey *= rows[:, None] * columns
    grey += rng.uniform(0.006, 0.02) * rng.standard_normal(grey.shape, dtype=np.float32)
    return (255 * np.clip(grey, 0, 1)).round().astype(np.uint8)


def _mark(grey, rng):
    """Burn in a side marker, in place and mostly: R beside the patient's right, or L beside the left."""
    size, letter = len(grey), "R" if rng.random() < 0.7 else "L"
    height = max(5, int(size * rng.uniform(0.045, 0.075)))
    width = max(4, height * 5 // 7)
    dots = np.array([[dot == "1" for dot in row] for row in _GLYPHS[letter]])
    glyph = dots[np.arange(height) * 7 // height][:, np.arange(width) * 5 // width]
    top, margin = (size * rng.uniform((0.03, 0.01), (0.5, 0.08))).astype(int)
    left = margin if letter == "R" else size - margin - width
    ink = rng.uniform(0.7, 1.0) if rng.random() < 0.75 else 0
    patch = grey[top : top + height, left : left + width]
    patch[glyph] = np.maximum(patch[glyph], ink)
