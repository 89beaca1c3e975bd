"""Three classes: which lung an opacity is in, and, as nothing here is about radiographs alone, photographs in colour.

python examples/08_several_classes.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cxr_estimator import CXRClassifier, ExplanationDisplay, evaluate, make_phantoms, patient_split

output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/08_several_classes")
output.mkdir(parents=True, exist_ok=True)


def photographs(n: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pictures (N, size, size, 3), uint8, of red discs, green squares and blue crosses, and which."""
    X = rng.normal(rng.uniform(70, 130, (n, 1, 1, 3)), 20, (n, size, size, 3))
    kind = np.arange(n) % 3
    for image, shown in zip(X, kind, strict=True):
        down, across = np.abs(np.mgrid[:size, :size] - rng.uniform(0.3 * size, 0.7 * size, (2, 1, 1)))
        radius = rng.uniform(0.15, 0.25) * size
        disc, square = np.hypot(down, across) < radius, np.maximum(down, across) < radius
        cross = square & (np.minimum(down, across) < 0.4 * radius)
        image[[disc, square, cross][shown], shown] += 100
    return X.clip(0, 255).astype(np.uint8), np.array(["red disc", "green square", "blue cross"])[kind]


# opacities of one side: the middle of the image is at column 24, and the patient's right is on the left
data = make_phantoms(800, size=48, difficulty=0.0, random_state=0)
left, right = data.lesion_masks[..., 24:].any(axis=(1, 2)), data.lesion_masks[..., :24].any(axis=(1, 2))
side = np.select([left & ~right, right & ~left, ~left & ~right], ["left lung", "right lung", "normal"], "both")
one = np.flatnonzero(side != "both")
pictures, shapes = photographs(360, 32, np.random.default_rng(0))

sets = {
    "radiographs": (data.X[one], side[one], data.groups[one], 1),
    "photographs": (pictures, shapes, np.arange(len(pictures)), 3),
}
for name, (X, y, groups, channels) in sets.items():
    train, test = patient_split(y, groups, fractions=(0.75, 0.25), random_state=0)
    clf = CXRClassifier(
        "plain_cnn", image_size=X.shape[1], channels=channels, max_epochs=8, batch_size=16, learning_rate=5e-3,
        random_state=0,
    )  # fmt: skip
    clf.fit(X[train], y[train], groups=groups[train])
    found = evaluate(clf, X[test], y[test], groups[test]).metrics
    print(f"{name}, {len(test)} images: macro AUROC {found['macro_auroc']}, accuracy {found['accuracy']}")
    print("  found of each class:", ", ".join(f"{label} {found[f'recall_{label}']}" for label in clf.classes_))
    rows = [test[y[test] == label][0] for label in clf.classes_]  # one image of each class
    maps = clf.explain(X[rows], y[rows], method=["grad_cam", "occlusion"], target="true")
    ExplanationDisplay(maps).plot().figure_.savefig(output / f"{name}.png", dpi=100)
