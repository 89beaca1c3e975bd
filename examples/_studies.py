"""What the studies share: data and model, the values of each image, means with intervals, and the files they write."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr_estimator import CXRClassifier, EvaluationReport, evaluate, load_image_folder, make_phantoms, patient_split
from cxr_estimator.benchmark import benchmark_images
from cxr_estimator.metrics import METRICS
from cxr_estimator.statistics import FEWEST_PATIENTS, Estimate, patient_bootstrap
from cxr_estimator.versions import package_versions

POSITIVE = "PNEUMONIA"
N_PHANTOMS = 240
RAW, MOVED, GAIN = "raw", "moved map", "gain"


class Study(NamedTuple):
    """A classifier with images of patients that it has not seen, and how much may be spent on measuring."""

    clf: CXRClassifier
    X: np.ndarray
    y: np.ndarray
    patients: np.ndarray
    report: EvaluationReport
    kind: str
    budget: dict[str, int]
    options: argparse.Namespace

    def outcomes(self) -> np.ndarray:
        """Return "TP", "FP", "FN" or "TN" of each image, at the operating point."""
        decided = self.clf.predict(self.X)
        return np.char.add(np.where(decided == self.y, "T", "F"), np.where(decided == POSITIVE, "P", "N"))

    def draw(self, pools: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return rows of each pool (N,) bool, at random: as many as asked for, or as there are."""
        rng = np.random.default_rng(self.options.seed)
        shuffled = {name: rng.permutation(np.flatnonzero(pool)) for name, pool in pools.items()}
        return {name: np.sort(rows[: self.options.images]) for name, rows in shuffled.items()}


def parse(
    arguments: Sequence[str] | None, about: str | None, *, backbone: str, images: str, few: int
) -> argparse.Namespace:
    """Return the options; what is left out suits radiographs, or phantoms and a minute's patience (`few` images)."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder train/{NORMAL,PNEUMONIA}; default: synthetic radiographs")
    parser.add_argument("--out", default="output/study")
    parser.add_argument("--model", help="model folder of an earlier run on the same data, instead of training")
    parser.add_argument("--backbone", default=backbone)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int, help=images)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.image_size = options.image_size or (128 if options.data else 32)
    options.epochs = options.epochs or (5 if options.data else 2)
    options.images = options.images or (12 if options.data else few)
    return options


def prepare(options: argparse.Namespace) -> Study:
    """Train on 80% of the patients, or load what was trained on them, and evaluate on the others."""
    if options.data:
        data = load_image_folder(options.data, split="auto")  # never the official test part
        kind, budget = "radiographs", {"steps": 20, "n_references": 5}
    else:
        data = make_phantoms(N_PHANTOMS, options.image_size, difficulty=0, random_state=0)
        kind, budget = "synthetic radiographs (phantoms)", {"steps": 5, "n_references": 3}
    patients = np.arange(len(data.y)) if data.groups is None else data.groups
    # the split does not depend on --seed: a model that is loaded has not seen the patients that judge it
    seen, unseen = patient_split(data.y, patients, fractions=(0.8, 0.2), random_state=0)
    if options.model:
        clf = CXRClassifier.load(options.model)
    else:
        clf = CXRClassifier(
            options.backbone,
            image_size=options.image_size,
            max_epochs=options.epochs,
            validation_fraction=1 / 8,
            pos_label=POSITIVE,
            threshold="youden",  # on patients that `fit` splits off
            verbose=1,
            random_state=options.seed,
        )
        clf.fit(data.X[seen], data.y[seen], groups=patients[seen])
        clf.save(Path(options.out) / "model")
    X, y, patients = data.X[unseen], data.y[unseen], patients[unseen]
    return Study(clf, X, y, patients, evaluate(clf, X, y, patients), kind, budget, options)


def measured(
    study: Study, rows: np.ndarray, methods: Sequence[str], metrics: Mapping[str, tuple[str, dict[str, Any]]]
) -> pd.DataFrame:
    """Return the values of the images `rows`: row, bucket, method, metric, quantity (raw, moved map, gain), value."""
    raw = _values(study, rows, methods, metrics, relative=False)
    of_label = {label: METRICS[name] for label, (name, _) in metrics.items()}
    with_reference = {label: metrics[label] for label, metric in of_label.items() if metric.has_reference_maps}
    quantities = {RAW: raw}
    if with_reference:
        gain = _values(study, rows, methods, with_reference, relative=True)
        sign = [1 if of_label[label].greater_is_better else -1 for label in gain.index.get_level_values("metric")]
        quantities |= {MOVED: raw[gain.index] - sign * gain, GAIN: gain}
    return pd.concat(quantities, names=["quantity"]).reset_index()


def _values(study: Study, rows: np.ndarray, methods: Any, metrics: Any, *, relative: bool) -> pd.Series:
    """Return the value of each image, method and metric."""
    found = benchmark_images(
        study.clf,
        study.X[rows],
        study.y[rows],
        methods=methods,
        metrics=metrics,
        relative=relative,
        n_references=study.budget["n_references"],
        random_state=study.options.seed,
    )
    return found.assign(row=rows[found["index"]]).set_index(["row", "bucket", "method", "metric"])["value"]


def cells(values: pd.DataFrame, by: Sequence[str]) -> dict[Any, pd.Series]:
    """Return, for each combination of the columns `by`, the values by row of the study."""
    return {names: part.set_index("row")["value"] for names, part in values.groupby(list(by), sort=False)}


def mean(study: Study, values: pd.Series) -> Estimate:
    """Return the mean of values by row of the study, NaN left out, with its 95% interval over patients."""
    return difference(study, values, None)


def difference(study: Study, ours: pd.Series, theirs: pd.Series | None) -> Estimate:
    """Return the mean of `ours` minus that of `theirs`, which are of other images, with its interval."""
    sides = [side.dropna() for side in (ours, theirs) if side is not None]
    numbers = np.concatenate(sides).astype(float)
    owners = [study.patients[side.index] for side in sides]
    belongs = np.repeat(np.arange(len(sides)), [len(side) for side in sides])

    def statistic(drawn: np.ndarray) -> float:
        parts = [numbers[drawn[belongs[drawn] == side]] for side in range(len(sides))]
        means = [part.mean() if len(part) else np.nan for part in parts]
        return float(means[0] - sum(means[1:]))

    if min(len(np.unique(owner)) for owner in owners) < FEWEST_PATIENTS:
        return Estimate(statistic(np.arange(len(numbers))), np.nan, np.nan)
    return patient_bootstrap(statistic, np.concatenate(owners))


def tidy(study: Study, values: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return means with intervals of `values`, one row for each combination of the columns `by`."""
    rows = []
    for names, series in cells(values, by).items():
        counts = {"n_images": len(series), "n_undefined": int(series.isna().sum())}
        counts["n_patients"] = len(np.unique(study.patients[series.index]))
        rows.append({**dict(zip(by, names, strict=True)), **mean(study, series)._asdict(), **counts})
    return pd.DataFrame(rows)


def is_shown(estimate: Estimate) -> bool:
    """Whether the interval lies on one side of 0."""
    return estimate.low > 0 or estimate.high < 0


def verdict(gain: Estimate) -> str:
    """Return what the interval of a gain over the moved maps allows to say."""
    if np.isnan(gain.low):
        return "too few patients to tell"
    if not is_shown(gain):
        return "no difference from the reference can be shown"
    return f"{'better' if gain.low > 0 else 'worse'} than the reference"


def text(estimate: Estimate) -> str:
    """Return a value, with its interval if there is one."""
    return f"{estimate.value:.3f}" if np.isnan(estimate.low) else str(estimate)


def markdown(table: pd.DataFrame, index: Sequence[str]) -> str:
    """Return a tidy table as Markdown, with a column for each quantity."""
    undefined = table["n_undefined"].map(lambda count: f" ({count} undefined)" if count else "")
    table = table.assign(
        cell=[text(Estimate(*row)) for row in table[["value", "low", "high"]].to_numpy()],
        images=table["n_images"].astype(str) + undefined,
    )
    wide = table.pivot_table(index=[*index, "images"], columns="quantity", values="cell", aggfunc="first", sort=False)
    wide = wide.fillna("").reset_index()
    rows = [list(wide.columns), ["---"] * wide.shape[1], *wide.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write(study: Study, title: str, parts: Sequence[str], table: pd.DataFrame) -> str:
    """Write results.csv, evaluation.json and summary.md, which hold neither images nor names; return the summary."""
    out, clf, options, report = Path(study.options.out), study.clf, study.options, study.report
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "results.csv", index=False, float_format="%.6g")
    settings = {"backbone": clf.backbone, "image_size": clf.image_size, "max_epochs": clf.max_epochs}
    settings |= {"seed": options.seed, "images": options.images, **study.budget}
    description = {"data": study.kind, **settings, "evaluation": report.to_dict(), "versions": package_versions()}
    (out / "evaluation.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    head = (
        f"`{clf.backbone}` at {clf.image_size} px, trained from scratch (max_epochs={clf.max_epochs}), judged on "
        f"{report.n_images} {study.kind} of {report.n_patients} patients that it has not seen: AUROC "
        f"{report.metrics['auroc']}. Brackets hold 95% intervals by bootstrap over patients; with few images they are "
        f"rough, and too narrow if anything, and below {FEWEST_PATIENTS} patients there are none. The reference is the "
        f"*moved map*: the same map shifted and flipped, mean of {study.budget['n_references']} draws. *Gain*: by how "
        "much the map does better than the moved map; 0 says that its place does not matter."
    )
    summary = "\n\n".join([f"# {title}", head, *parts, f"## The classifier\n\n```\n{report}\n```"]) + "\n"
    (out / "summary.md").write_text(summary, encoding="utf-8")
    return summary
