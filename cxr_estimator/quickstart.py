"""The main job from end to end, on phantoms or on real radiographs; what `cxr quickstart` runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._validation import invalid
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.datasets import load_image_folder, make_phantoms, patient_split
from cxr_estimator.errors import DataError
from cxr_estimator.evaluation import EvaluationReport, evaluate
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import Context, measure
from cxr_estimator.serialization import writable_folder
from cxr_estimator.statistics import Estimate, patient_bootstrap
from cxr_estimator.versions import package_versions

METHOD = "grad_cam"
SENSITIVITY = 0.95  # asked of the screening threshold on the validation patients
_NORMAL = ("normal", "no finding", "no_finding", "healthy", "negative")
_N_FIGURES = 2  # per kind of decision


class _Data(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray | None
    masks: np.ndarray | None
    pos_label: Any
    kind: str


class HeatMapCheck(NamedTuple):
    """Share of the heat map inside the lesions, against the lesions' share of the image (what chance would give)."""

    inside: Estimate
    area: float
    n_images: int

    @property
    def gain(self) -> float:
        """How many times more of the map lies inside than chance would put there."""
        return self.inside.value / self.area


def run(
    data: str | Path | None,
    output: str | Path,
    *,
    label_pattern: str | None = None,
    backbone: str | None = None,
    image_size: int | None = None,
    max_epochs: int | None = None,
    n_phantoms: int = 1200,
    seed: int = 0,
    verbose: bool = True,
) -> str:
    """Train on 80% of the patients, choose the threshold on 10%, evaluate and explain the last 10%.

    Writes `model/`, `figures/*.png`, `history.csv`, `summary.json` and `summary.md` into `output`, and returns the
    text of the summary.

    Parameters
    ----------
    data : path or None
        Folder with one sub-folder per class; None makes `n_phantoms` phantoms, whose lesions are known, so that the
        heat maps can be checked against them.
    label_pattern : str, optional
        As for `load_image_folder`.
    """
    if data is None and label_pattern is not None:
        raise invalid("label_pattern", "quickstart", "None for phantoms", label_pattern)
    output = writable_folder(output)
    seconds: dict[str, float] = {}
    with _timed(seconds, "data"):
        if image_size is None:
            image_size = 96 if data is None else 128
        images = _phantoms(n_phantoms, image_size, seed) if data is None else _folder(Path(data), label_pattern)
        train, validation, test = patient_split(images.y, images.groups, random_state=seed)
    clf = CXRClassifier(
        backbone or ("plain_cnn" if data is None else "mobilenetv3_small_100"),
        image_size=image_size,
        max_epochs=(15 if data is None else 20) if max_epochs is None else max_epochs,
        pos_label=images.pos_label,
        n_jobs=-1,
        verbose=int(verbose),
        random_state=seed,
    )
    with _timed(seconds, "train"):
        clf.fit(images.X[train], images.y[train], groups=_at(images.groups, train))
    with _timed(seconds, "threshold and evaluation"):
        if len(clf.classes_) == 2:
            held_out = {"X": images.X[validation], "y": images.y[validation]}
            clf.set_threshold("sensitivity", at_least=SENSITIVITY, name="screening", **held_out)
        report = evaluate(clf, images.X[test], images.y[test], _at(images.groups, test))
    with _timed(seconds, "explain"):
        explanation = clf.explain(images.X[test], images.y[test], method=METHOD)
        check = None if images.masks is None else _check(explanation, images, test)
    with _timed(seconds, "figures"):
        figures = _draw(explanation, output / "figures")
    clf.save(output / "model")
    clf.history_.to_csv(output / "history.csv", index=False)
    text = _summary(clf, images, (len(train), len(validation), len(test)), report, check, figures, seconds)
    (output / "summary.md").write_text(text, encoding="utf-8")
    _write_json(output / "summary.json", clf, report, check, seconds)
    return text


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 2)


def _at(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[rows]


def _phantoms(n: int, size: int, seed: int) -> _Data:
    made = make_phantoms(n, size, random_state=seed)
    return _Data(made.X, made.y, made.groups, made.lesion_masks, "PNEUMONIA", f"{n} synthetic radiographs (phantoms)")


def _folder(folder: Path, label_pattern: str | None) -> _Data:
    found = load_image_folder(folder, label_pattern=label_pattern)
    labels = sorted(set(found.y.tolist()))
    normal = [label for label in labels if label.lower() in _NORMAL]
    # of two classes the abnormal one is positive, whatever the alphabet says
    pos_label = None if len(labels) != 2 else labels[0] if labels[1:] == normal else labels[1]
    return _Data(found.X, found.y, found.groups, None, pos_label, f"{len(found.X)} radiographs")


def _check(explanation: Explanation, images: _Data, test: np.ndarray) -> HeatMapCheck:
    """Measure the heat maps of the test images with a lesion that the model found."""
    if images.masks is None:
        raise DataError("Heat maps can only be checked where lesion masks are known.")
    masks = images.masks[test][explanation.index]
    found = (explanation.prediction.label == images.pos_label) & masks.any(axis=(1, 2))
    mass = measure("relevance_mass", explanation, Context(mask=masks))
    rows = np.flatnonzero(found & ~np.isnan(mass))
    if not len(rows):
        return HeatMapCheck(Estimate(np.nan, np.nan, np.nan), np.nan, 0)
    owners = np.arange(len(test)) if images.groups is None else images.groups[test]
    inside = patient_bootstrap(lambda drawn: float(mass[rows][drawn].mean()), owners[explanation.index][rows])
    return HeatMapCheck(inside, float(masks[rows].mean()), len(rows))


def _draw(explanation: Explanation, folder: Path) -> list[tuple[str, str]]:
    """Draw a few images of each (true, decided) pair; return file name and caption."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("true_*_decided_*.png"):  # of an earlier run into the same folder
        old.unlink()
    said = explanation.prediction
    true_label = said.label if said.true_label is None else said.true_label
    drawn = []
    for true in said.classes:
        for decided in said.classes:
            rows = np.flatnonzero((true_label == true) & (said.label == decided))[:_N_FIGURES]
            for number, row in enumerate(rows, start=1):
                name = f"true_{true}_decided_{decided}_{number}.png".replace("/", "_")
                explanation.plot(int(row)).savefig(folder / name)
                drawn.append((name, f"true label {true}, decided {decided}"))
    return drawn


def _summary(
    clf: CXRClassifier,
    images: _Data,
    sizes: tuple[int, int, int],
    report: EvaluationReport,
    check: HeatMapCheck | None,
    figures: list[tuple[str, str]],
    seconds: dict[str, float],
) -> str:
    n_train, n_validation, n_test = sizes
    patients = "no patient on two sides" if images.groups is not None else "patients unknown, each image on its own"
    best = clf.history_[clf.history_["best"]].iloc[0]
    parts = [
        "# Quick start\n",
        f"{images.kind}, split {n_train} / {n_validation} / {n_test} for training, threshold and test ({patients}).",
        f"`{clf.backbone}` at {clf.image_size} px, {len(clf.history_)} epochs, best validation AUROC "
        f"{best['val_auroc']:.3f} after epoch {best['epoch']}.",
    ]
    if "screening" in clf.operating_points_:
        point = clf.operating_points_["screening"]
        parts.append(
            f"Threshold {point.threshold:.3f}: sensitivity >= {SENSITIVITY} on the {point.n_images} validation images."
        )
    parts.append(f"\n## Test\n\n```\n{report}\n```")
    if check is not None:
        parts.append(f"\n## Heat maps against lesions\n\n{_check_sentence(check)}")
    pictures = "\n".join(f"![{caption}](figures/{name})" for name, caption in figures)
    parts.append(f"\n## Figures\n\n{pictures}")
    times = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    parts.append(f"\nTime: {times}. Research and education only, not a medical device.\n")
    return "\n".join(parts)


def _check_sentence(check: HeatMapCheck) -> str:
    if not check.n_images:
        return "No test image with a lesion was decided positive, so there is nothing to check."
    return (
        f"{METHOD} on {check.n_images} test images with a lesion that were decided positive: {check.inside} of the map "
        f"lies inside the lesions, which cover {check.area:.3f} of the image: {check.gain:.1f} times what chance gives."
    )


def _write_json(
    path: Path, clf: CXRClassifier, report: EvaluationReport, check: HeatMapCheck | None, seconds: dict[str, float]
) -> None:
    content = {
        "backbone": clf.backbone,
        "image_size": clf.image_size,
        "epochs": len(clf.history_),
        "evaluation": report.to_dict(),
        "heat_maps": None
        if check is None or not check.n_images
        else {"method": METHOD, "inside": check.inside._asdict(), "area": check.area, "n_images": check.n_images},
        "seconds": seconds,
        "versions": package_versions(),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
