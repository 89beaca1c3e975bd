"""Train named recipes for a small pneumonia network and judge them where it hurts: under simulated shifts.

python recipes/pneumonia/study.py --data DIR --cache DIR [--only base,strong] [--seeds 0,1] [--final]

The patients are split once: 55% train, 10% calibrate (and choose thresholds), 15% choose recipes, 20% are kept for the
final figures, which nothing is chosen by. One run is one recipe and one seed; it writes results/NAME-SEED.json, and is
not repeated where that is there. `table.py` makes a page of them. The cache holds radiographs: keep it private.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before anything loads torch

import numpy as np
from judging import Judged, figures
from levers import augmented, pulled
from material import CONDITIONS, Material

from cxr_estimator import CXRClassifier
from cxr_estimator._calibration_maps import fit_platt
from cxr_estimator.thresholds import choose_point
from cxr_estimator.versions import package_versions

RESULTS = Path(__file__).parent / "results"
STRENGTH = 1.0
COPIES = 4  # of the calibration images, where these are augmented
SCREENING = 0.98  # sensitivity on calibration images that the screening point is chosen for


@dataclass(frozen=True)
class Recipe:
    """How one network is trained and used; the defaults are the baseline of the cheap comparisons.

    Attributes
    ----------
    augment : str
        Names joined by "+"; see `levers.chain`.
    standard : str
        A key of `levers.STANDARDS`.
    mixup : float
        Alpha of the Beta distribution; 0 for none.
    flips : bool
        Average the log-odds of each image and its mirror image.
    calibrate_under : str
        Augmentations under which, beside clean, temperature, offset and thresholds are chosen; "" for clean alone.
    weigh_acquisition : bool
        Weigh training images so that grey-value statistics no longer tell the classes; see `Material.weights`.
    leave_out : {"", "IM", "NORMAL2", "bacteria", "virus"}
        Source that is not trained on.
    share : float
        Share of the training patients that is used.
    """

    name: str
    backbone: str = "plain_cnn"
    image_size: int = 96
    max_epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    dropout: float | None = None
    class_weight: str | None = None
    augment: str = "light"
    standard: str = "none"
    mixup: float = 0.0
    flips: bool = False
    calibrate_under: str = ""
    weigh_acquisition: bool = False
    leave_out: str = "IM"
    share: float = 0.6

    def classifier(self, augment: str, seed: int, checkpoint_dir: Path | None) -> CXRClassifier:
        """Return the estimator; without an internal validation split, so all epochs run and the average is kept."""
        names = (
            "backbone", "image_size", "max_epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing",
            "dropout", "class_weight",
        )  # fmt: skip
        return CXRClassifier(
            **{name: getattr(self, name) for name in names},
            augment=augment,
            validation_fraction=0,
            pos_label="PNEUMONIA",
            checkpoint_dir=checkpoint_dir,
            random_state=seed,
        )


BASE = Recipe("base")
LONG = replace(BASE, max_epochs=16, share=1.0)  # 2.8 times the steps
ROBUST = replace(LONG, name="long_zoom_calibrated", augment="strong+zoom", calibrate_under="strong+zoom")
RECIPES = {
    recipe.name: recipe
    for recipe in (
        BASE,
        replace(BASE, name="resnet10t", backbone="resnet10t"),
        replace(BASE, name="strong", augment="strong"),
        replace(BASE, name="curve", augment="light+curve"),
        replace(BASE, name="bands", augment="light+bands"),
        replace(BASE, name="crop", augment="light+crop"),
        replace(BASE, name="resolution", augment="light+resolution"),
        replace(BASE, name="mixup", mixup=0.3),
        replace(BASE, name="ranks", standard="ranks"),
        replace(BASE, name="z_scores", standard="z_scores"),
        replace(BASE, name="local", standard="local_contrast"),
        replace(BASE, name="flips", flips=True),
        replace(BASE, name="strong_crop", augment="strong+crop"),
        replace(BASE, name="strong_zoom", augment="strong+zoom"),
        replace(BASE, name="strong_ranks", augment="strong", standard="ranks"),
        replace(BASE, name="strong_z_scores", augment="strong", standard="z_scores"),
        replace(BASE, name="strong_zoom_calibrated", augment="strong+zoom", calibrate_under="strong+zoom"),
        replace(BASE, name="strong_zoom_flips", augment="strong+zoom", calibrate_under="strong+zoom", flips=True),
        replace(BASE, name="strong_zoom_128", augment="strong+zoom", calibrate_under="strong+zoom", image_size=128),
        replace(BASE, name="strong_zoom_mixup", augment="strong+zoom", calibrate_under="strong+zoom", mixup=0.3),
        ROBUST,
        replace(
            LONG,
            name="full",
            augment="strong+zoom",
            calibrate_under="strong+zoom",
            image_size=128,
            max_epochs=20,
            leave_out="",
        ),
        replace(ROBUST, name="long_border", augment="strong+zoom+border", calibrate_under="strong+zoom+border"),
        replace(ROBUST, name="long_bands", augment="strong+zoom+bands"),
        replace(ROBUST, name="long_curve", augment="strong+zoom+curve"),
        replace(ROBUST, name="long_mixup", mixup=0.3),
        replace(ROBUST, name="long_balanced", class_weight="balanced"),
        replace(ROBUST, name="long_acquisition", weigh_acquisition=True),
        replace(ROBUST, name="long_amplitudes", augment="strong+zoom+amplitudes"),
        replace(ROBUST, name="long_gain", augment="strong+zoom+gain", calibrate_under="strong+zoom+gain"),
        replace(LONG, name="long_robust", augment="robust", calibrate_under="robust"),
        replace(LONG, name="long_robust_24", augment="robust", calibrate_under="robust", max_epochs=24),
        replace(ROBUST, name="long_dropout", dropout=0.4),
        replace(ROBUST, name="long_24", max_epochs=24),
        replace(ROBUST, name="long_resnet10t", backbone="resnet10t"),
        replace(ROBUST, name="long_regnetx", backbone="regnetx_002"),
        replace(ROBUST, name="long_efficientvit", backbone="efficientvit_b0"),
        replace(ROBUST, name="long_128", image_size=128),
        replace(ROBUST, name="long_without_NORMAL2", leave_out="NORMAL2"),
        replace(ROBUST, name="long_without_bacteria", leave_out="bacteria"),
        replace(ROBUST, name="long_without_virus", leave_out="virus"),
        replace(LONG, name="long_strong", augment="strong"),
        replace(LONG, name="long_crop", augment="strong+crop"),
        replace(LONG, name="long_zoom", augment="strong+zoom"),
    )
}


def main() -> None:
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"), help="folder of the radiographs")
    parser.add_argument("--cache", required=True, help="folder for decoded and shifted images and checkpoints")
    parser.add_argument("--only", default=",".join(RECIPES), help="recipes, joined by commas")
    parser.add_argument("--seeds", default="0", help="seeds, joined by commas")
    parser.add_argument("--final", action="store_true", help="judge by the patients that no choice was made on")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    material = Material(options.data, options.cache)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.only.split(","):
        for seed in map(int, options.seeds.split(",")):
            path = options.output / f"{name}-{seed}{'-final' if options.final else ''}.json"
            if not path.exists():
                result, case = run(
                    RECIPES[name], seed, material, Path(options.cache) / "checkpoints", final=options.final
                )
                np.savez(Path(options.cache) / f"scores-{path.stem}.npz", **case.scores)
                path.write_text(json.dumps(result, indent=1) + "\n")
                print(f"{path.name}: {result['seconds']:.0f} s, {result['summary']}", flush=True)


def run(
    recipe: Recipe, seed: int, material: Material, checkpoints: Path, *, final: bool
) -> tuple[dict[str, Any], Judged]:
    """Train one network, calibrate it, score it under every condition; return its figures and what they come from."""
    rows = material.training_rows(recipe.share, recipe.leave_out)
    known = material.parts["calibrate"]
    known = known[material.sources[known] != recipe.leave_out]
    judged = material.judging_rows(recipe.leave_out, final=final)
    with pulled(recipe.augment, recipe.mixup, recipe.standard) as augment:
        clf = recipe.classifier(augment, seed, checkpoints)
        weight = material.weights(rows) if recipe.weigh_acquisition else None
        clf.fit(material.pixels[rows], material.labels[rows], groups=material.patients[rows], sample_weight=weight)
        images, truth = material.pixels[known], material.positive[known]
        if recipe.calibrate_under:
            images = augmented(images, recipe.calibrate_under, COPIES, seed=seed)
            truth = np.tile(truth, 1 + COPIES)
        raw = scores_of(clf, images, flips=recipe.flips)
        calibrate = fit_platt(raw, truth)
        point = choose_point(calibrate(raw), truth, "sensitivity", {"at_least": SCREENING}, n_resamples=1)
        scores = {
            name: calibrate(scores_of(clf, material.shifted(judged, name, STRENGTH), flips=recipe.flips))
            for name in CONDITIONS
        }
    case = Judged(
        scores=scores,
        positive=material.positive[judged],
        patients=material.patients[judged],
        sources=material.sources[judged],
        acquisition=material.acquisition[judged],
        points={"screening": np.full(len(judged), point.score)},
        leave_out=recipe.leave_out,
    )
    about = {
        "n_training": len(rows),
        "seconds": round(clf.history_["seconds"].sum()),
        "parameters": sum(parameter.numel() for parameter in clf.model_.parameters()),
        "final": final,
    }
    return {"recipe": asdict(recipe), "seed": seed, **about, **figures(case), "versions": package_versions()}, case


def scores_of(clf: CXRClassifier, images: np.ndarray, *, flips: bool) -> np.ndarray:
    """Return the log-odds of pneumonia (N,); with `flips` their mean with those of the mirror images."""
    found = clf.decision_function(images)
    return (found + clf.decision_function(images[:, :, ::-1])) / 2.0 if flips else found


def runs() -> list[dict[str, Any]]:
    """Return what each run wrote that is among the results."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*-*.json"))]


if __name__ == "__main__":
    main()
