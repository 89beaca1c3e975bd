"""An ensemble, prediction sets and abstention: knowing when not to answer.

pip install ".[conformal]" && python examples/10_uncertainty.py [OUTPUT_FOLDER] [--data chest_xray]

Two networks are trained on 60% of the patients, 20% choose how much doubt is too much, 20% judge. Without --data it
runs on synthetic radiographs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cxr_estimator import (
    CXRClassifier,
    CXREnsemble,
    RiskCoverageDisplay,
    load_image_folder,
    make_phantoms,
    patient_split,
)
from cxr_estimator.statistics import proportion


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="output/10_uncertainty")
    parser.add_argument("--data", help="folder train/{NORMAL,PNEUMONIA}; default: synthetic radiographs")
    parser.add_argument("--backbone", default="plain_cnn")
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args(arguments)
    data = load_image_folder(options.data) if options.data else make_phantoms(700, 48, difficulty=0.0, random_state=0)
    parts = patient_split(data.y, data.groups, fractions=(0.6, 0.2, 0.2), random_state=0)
    train, choose, (X, y, patients) = ((data.X[rows], data.y[rows], data.groups[rows]) for rows in parts)
    settings = {"image_size": options.image_size, "max_epochs": options.epochs, "batch_size": 16, "patience": None}
    rate = 1e-3 if options.data else 5e-3
    one = CXRClassifier(options.backbone, learning_rate=rate, pos_label="PNEUMONIA", random_state=0, **settings)
    ensemble = CXREnsemble(one, n_estimators=2).fit(train[0], train[1], groups=train[2])
    ensemble.conformalize(choose[0], choose[1], groups=choose[2])
    ensemble.set_abstention(choose[0], choose[1], groups=choose[2], doubt=["ensemble", "explanation"], coverage=0.8)
    ensemble.save(Path(options.out) / "ensemble")
    sets = ensemble.predict_set(X, coverage=0.9)
    covered = sets[y[:, None] == ensemble.classes_]
    answered = ensemble.predict_with_abstention(X).answered
    wrong = ensemble.predict(X) != y
    display = RiskCoverageDisplay.from_estimator(ensemble, X, y, groups=patients)
    display.ax_.set_ylim(top=1.6 * display.ax_.get_ylim()[1])  # for the legend
    display.figure_.savefig(Path(options.out) / "risk_coverage.png", dpi=100)
    return (
        f"Sets for 90% hold the truth of {proportion(covered, patients)} of {len(y)} images; "
        f"{sets.all(axis=1).mean():.1%} hold both classes.\nOf all answers {proportion(wrong, patients)} are wrong; "
        f"of those to the surest {answered.mean():.1%}, {proportion(wrong[answered], patients[answered])}."
    )


if __name__ == "__main__":
    print(main())
