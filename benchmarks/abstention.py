"""Real radiographs: whether an estimator that may withhold answers withholds the wrong ones.

An ensemble of three networks with dropout is trained on 60% of the patients, 20% calibrate it and choose how much doubt
is too much, 20% judge. For the first network and for the ensemble, and each kind of doubt: the area under the
risk-coverage curve, and what becomes of cut-offs that were chosen for 90% of the answers and for at most 3% of errors.

python benchmarks/abstention.py --data chest_xray --work FOLDER_FOR_CHECKPOINTS
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._common import machine, write
from cxr_estimator import CXRClassifier, CXREnsemble, load_image_folder, patient_split
from cxr_estimator.abstention import judged_doubts
from cxr_estimator.displays import RiskCoverageDisplay
from cxr_estimator.doubts import PERCENTILES, combined
from cxr_estimator.errors import DataError
from cxr_estimator.selective import cutoff_for_coverage, cutoff_for_error
from cxr_estimator.statistics import proportion

NETWORK = ["probability", "test_time_augmentation", "mc_dropout", "explanation"]
DOUBTS = {
    "network": [[name] for name in NETWORK] + [["test_time_augmentation", "explanation"]],
    "ensemble": [["probability"], ["ensemble"], ["explanation"], ["ensemble", "explanation"]],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--backbone", default="mobilenetv3_small_100")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    data = load_image_folder(options.data)
    parts = patient_split(data.y, data.groups, fractions=(0.6, 0.2, 0.2), random_state=0)
    train, choose, judge = ({"X": data.X[p], "y": data.y[p], "groups": data.groups[p]} for p in parts)
    settings = {"image_size": options.image_size, "max_epochs": options.epochs, "dropout": 0.2, "random_state": 0}
    files = {"checkpoint_dir": options.work / "checkpoints", "cache_dir": options.work / "cache"}
    one = CXRClassifier(options.backbone, pos_label="PNEUMONIA", verbose=1, **files, **settings)
    ensemble = CXREnsemble(one, n_estimators=3).fit(**train)
    found: dict[str, Any] = {}
    for name, model in (("network", ensemble.estimators_[0]), ("ensemble", ensemble)):
        model.set_params(**({"verbose": 0} if name == "network" else {"estimator__verbose": 0})).calibrate(**choose)
        found[name] = measured(model, choose, judge, DOUBTS[name])
        print(name, found[name], flush=True)
    settings |= {"backbone": options.backbone, "members": 3}
    counts = {"trained": len(parts[0]), "chose": len(parts[1]), "judged": len(parts[2])}
    write("abstention", {"machine": machine(), "settings": settings, "images": counts, "results": found})


def measured(model: Any, choose: dict[str, Any], judge: dict[str, Any], kinds: list[list[str]]) -> dict[str, Any]:
    """Return the figures of one estimator; each doubt of each image is found once, for all cut-offs."""
    names = sorted({name for kind in kinds for name in kind})
    chosen, judged = (Doubted.of(model, part, names) for part in (choose, judge))
    areas = RiskCoverageDisplay(judged.wrong, judged.doubts, groups=judged.groups).areas_
    error = proportion(judged.wrong, judged.groups)
    result: dict[str, Any] = {
        "error_of_all": error._asdict(),
        "unusual": float(1.0 - judged.usual.mean()),
        "aurc": {name: area._asdict() for name, area in areas.items()},
    }
    for kind in kinds:
        percentiles = {name: np.quantile(chosen.doubts[name], PERCENTILES) for name in kind}
        known, new = (combined({n: one.doubts[n] for n in kind}, percentiles) for one in (chosen, judged))
        one = chosen.first[chosen.usual[chosen.first]]
        for limit in ("coverage 0.9", "max_error 0.03"):
            try:
                if limit.startswith("coverage"):
                    cutoff = cutoff_for_coverage(known[chosen.usual], 0.9)
                else:
                    cutoff = cutoff_for_error(chosen.wrong[one], known[one], 0.03)
            except DataError as refusal:
                result[f"{' + '.join(kind)}, {limit}"] = {"refused": str(refusal)}
                continue
            answered = judged.usual & (new <= cutoff)
            result[f"{' + '.join(kind)}, {limit}"] = {
                "answered": proportion(answered, judged.groups)._asdict(),
                "error": proportion(judged.wrong[answered], judged.groups[answered])._asdict(),
                "wrong": int(judged.wrong[answered].sum()),
            }
    return result


class Doubted(NamedTuple):
    """Images, whether their answers are wrong, how doubtful these are, and one image of each patient (`first`)."""

    wrong: np.ndarray
    doubts: dict[str, np.ndarray]
    groups: np.ndarray
    usual: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, model: Any, part: dict[str, Any], names: list[str]) -> Doubted:
        """Return what an estimator says to labelled images."""
        wrong, doubts, data = judged_doubts(model, *part.values(), names, None, 0, caller="benchmark")
        usual = ~model.check_images(part["X"]).is_unusual.astype(bool)
        return cls(wrong, doubts, data.groups, usual, data.one_of_each_patient(0))


if __name__ == "__main__":
    main()
