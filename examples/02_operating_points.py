"""Operating points, calibration and an evaluation report, with patients kept apart.

python examples/02_operating_points.py [OUTPUT_FOLDER] [--data chest_xray [--label-pattern "_(bacteria|virus)_"]]

The network is trained on 60% of the patients, 20% choose the thresholds and calibrate, 20% judge. Without --data it
runs on synthetic radiographs; with --label-pattern the classes come from the file names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cxr_estimator import CXRClassifier, evaluate, load_image_folder, make_phantoms, patient_split


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="output/02_operating_points")
    parser.add_argument("--data", help="folder train/{NORMAL,PNEUMONIA}; default: synthetic radiographs")
    parser.add_argument("--label-pattern", help="regular expression whose group is the class")
    parser.add_argument("--backbone", default="plain_cnn")
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args(arguments)
    if options.data:
        data = load_image_folder(options.data, label_pattern=options.label_pattern)
    else:
        data = make_phantoms(800, options.image_size, difficulty=0.0, random_state=0)
    parts = patient_split(data.y, data.groups, fractions=(0.6, 0.2, 0.2), random_state=0)
    train, choose, judge = ((data.X[rows], data.y[rows], data.groups[rows]) for rows in parts)

    clf = CXRClassifier(
        options.backbone,
        image_size=options.image_size,
        max_epochs=options.epochs,
        learning_rate=1e-3 if options.data else 3e-3,
        pos_label="PNEUMONIA" if options.label_pattern is None else None,
        checkpoint_dir=Path(options.out) / "checkpoints",
        random_state=0,
    )
    clf.fit(train[0], train[1], groups=train[2])
    X, y, patients = choose
    for label in [clf.pos_label_] if len(clf.classes_) == 2 else clf.classes_:
        of = "" if len(clf.classes_) == 2 else f"_{label}"
        held_out = {"X": X, "y": y, "groups": patients, "label": label}
        clf.set_threshold("specificity>=0.95", name=f"rule_in{of}", **held_out)
        clf.set_threshold("sensitivity>=0.95", name=f"screening{of}", **held_out)
    clf.calibrate(X, y, groups=patients)
    clf.save(Path(options.out) / "model")
    report = evaluate(clf, *judge)
    print(report)
    report.save(Path(options.out) / "report")  # HTML, Markdown, JSON, CSV and the pictures
    return str(report)


if __name__ == "__main__":
    main()
