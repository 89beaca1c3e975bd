"""PneumoniaMNIST: train on its train part, judge on val and test, beside the published figures.

python examples/14_pneumonia_mnist.py [OUTPUT_FOLDER] [--data pneumoniamnist.npz] [--backbone resnet18]

Radiographs of children, cropped to a square, 28 px; test is the official part of Kermany's data, drawn differently. No
patients are told: intervals count images, and val flatters; it chooses nothing. Without --data: a synthetic archive.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxr_estimator import CXRClassifier, CXRError, evaluate, load_medmnist, make_phantoms

KIND = 28, 28, "uint8", 1, 0, 1  # height, width and type of images, dimensions and values of labels
PUBLISHED = "ResNet-18 at 28 px, test: AUROC 0.944, accuracy 0.854 (Yang et al. 2023, doi:10.1038/s41597-022-01721-8)"
PARTS = {"train": slice(0, 480), "val": slice(480, 560), "test": slice(560, 720)}  # of the phantoms, by patient


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=Path("output/14_pneumonia_mnist"))
    parser.add_argument("--data", help="pneumoniamnist.npz; default: synthetic radiographs")
    parser.add_argument("--backbone", default="plain_cnn")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.data or options.out / "phantoms.npz"
    if not options.data:
        data = make_phantoms(PARTS["test"].stop, size=28, difficulty=0.0, random_state=0)
        arrays = {"images": data.X, "labels": (data.y == "PNEUMONIA").astype(np.uint8)[:, None]}
        np.savez_compressed(path, **{f"{part}_{name}": arrays[name][PARTS[part]] for part in PARTS for name in arrays})
    try:
        parts = {part: load_medmnist(path, split=part) for part in PARTS}
    except CXRError as error:
        parser.error(str(error))
    if {(*p.X.shape[1:], p.X.dtype.name, p.y.ndim, *np.unique(p.y)) for p in parts.values()} != {KIND}:
        parser.error(f"{path}: is not PneumoniaMNIST at 28 px: grey, uint8, label 0 (normal) or 1 (pneumonia).")
    X, y, _ = parts.pop("train")
    clf = CXRClassifier(options.backbone, image_size=28, max_epochs=options.epochs, random_state=0)
    clf.fit(X, y, groups=np.arange(len(y)))  # as far as the archive tells, each image is of another patient
    lines = [PUBLISHED if options.data else "Synthetic radiographs (phantoms): compare them with no published figures."]
    for name, part in parts.items():
        report = evaluate(clf, part.X, part.y)
        report.save(options.out / f"{name}.json")
        report.plot("roc").savefig(options.out / f"roc_{name}.png", dpi=100)
        found = f"AUROC {report.metrics['auroc']}, accuracy at 0.5 {report.metrics['accuracy']}"
        lines.append(f"{options.backbone}, {name}: {found}; {report.heading}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
