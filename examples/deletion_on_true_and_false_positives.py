"""Grad-CAM on true and false positives of a ResNet-18, and LIME's spread over seeds.

python examples/deletion_on_true_and_false_positives.py [--data chest_xray] [--out FOLDER] [--model FOLDER]

A published study hides the 25% of the pixels that Grad-CAM marks most, finds that the probability drops by 1-2% on true
positives and by 25-67% on false ones, and compares with nothing. This one puts beside each drop that of the same map
moved elsewhere, and the drop in log-odds, which do not saturate as probabilities do. Without --data it runs on
synthetic radiographs, which shows how it is done; with it, what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from _studies import (
    GAIN,
    MOVED,
    POSITIVE,
    RAW,
    Study,
    cells,
    difference,
    is_shown,
    markdown,
    mean,
    measured,
    parse,
    prepare,
    text,
    tidy,
    verdict,
    write,
)  # fmt: skip
from scipy.special import logit

from cxr_estimator.metrics import Context, measure

TRUE, FALSE, RANDOM = "true positives", "false positives", "random cases"
DROP, LOG_ODDS = "top 25%", "top 25%, log-odds"
N_SEEDS = 3

Found = dict[tuple[str, str, str], pd.Series]


def main(arguments: Sequence[str] | None = None) -> str:
    study = prepare(parse(arguments, __doc__, backbone="resnet18", images="how many of each group", few=6))
    metrics = {f"top {k}%": ("top_k_deletion", {"k": k}) for k in (10, 25, 50)}
    metrics[LOG_ODDS] = ("top_k_deletion", {"k": 25, "output": "score"})
    metrics["insertion_auc"] = ("insertion_auc", {"steps": study.budget["steps"]})
    outcome = study.outcomes()
    groups = study.draw({TRUE: outcome == "TP", FALSE: outcome == "FP", RANDOM: outcome != ""})
    by_image = measured(study, np.unique(np.concatenate(list(groups.values()))), ["grad_cam"], metrics)
    values = pd.concat([by_image[by_image["row"].isin(rows)].assign(group=name) for name, rows in groups.items()])
    found = cells(values, ["group", "metric", "quantity"])
    repeats = lime_repeats(study, groups[RANDOM])
    table = tidy(study, pd.concat([values, repeats]), ["group", "method", "metric", "quantity"])
    is_cam = table["method"] == "grad_cam"
    parts = [
        "## What a careful measurement finds",
        "\n".join(each_group(study, groups, found) + false_against_true(study, groups, found) + lime(study, repeats)),
        f"## Grad-CAM\n\n{markdown(table[is_cam], ['group', 'metric'])}",
        "`top k%`: how far the probability (or the log-odds) of the decided class falls when the k% of the pixels that "
        "the map marks most show the mean of the image. Random cases are drawn without regard to the outcome.",
        f"## LIME over {N_SEEDS} seeds\n\n{markdown(table[~is_cam], ['method', 'metric'])}",
    ]
    return write(study, "Deletion on true and false positives", parts, table)


def starts(study: Study, rows: np.ndarray) -> pd.DataFrame:
    """Return by row the probability of the decided class, and how far the log-odds lie beyond the threshold."""
    proba = study.clf.predict_proba(study.X[rows])[:, study.clf.classes_.tolist().index(POSITIVE)]
    decided = np.where(proba >= study.clf.threshold_, proba, 1 - proba)
    return pd.DataFrame({"proba": decided, "margin": np.abs(logit(proba) - logit(study.clf.threshold_))}, index=rows)


def each_group(study: Study, groups: dict[str, np.ndarray], found: Found) -> list[str]:
    """Say of each group how far the probability drops, and what of that is due to the place of the map."""
    lines = []
    for name, rows in groups.items():
        if not len(rows):
            lines.append(f"- **{name.capitalize()}**: there are none among these images.")
            continue
        raw, moved, gain = (mean(study, found[name, DROP, quantity]) for quantity in (RAW, MOVED, GAIN))
        inserted = mean(study, found[name, "insertion_auc", GAIN])
        lines.append(
            f"- **{name.capitalize()}** ({len(rows)}): from a probability of {starts(study, rows)['proba'].mean():.3f} "
            f"it drops by {text(raw)} when the top 25% of the map are hidden, and by {text(moved)} with the map moved; "
            f"gain {text(gain)}: {verdict(gain)}. By insertion, gain {text(inserted)}: {verdict(inserted)}."
        )
    return lines


def false_against_true(study: Study, groups: dict[str, np.ndarray], found: Found) -> list[str]:
    """Say whether false positives differ from true ones, and whether that is a matter of the maps."""
    if not len(groups[TRUE]) or not len(groups[FALSE]):
        return ["- **False against true positives**: one of the groups is empty, so nothing can be said."]
    raw, moved, gain, odds = (
        difference(study, found[FALSE, metric, quantity], found[TRUE, metric, quantity])
        for metric, quantity in ((DROP, RAW), (DROP, MOVED), (DROP, GAIN), (LOG_ODDS, RAW))
    )
    start = difference(study, *(starts(study, groups[name])["margin"] for name in (FALSE, TRUE)))
    if not is_shown(raw):
        said = "with so many images, no difference of the drop can be shown"
    elif is_shown(gain):
        said = "the drop differs, and so does what the place of the map adds to it"
    else:
        said = "the drop differs, but that the place of the map has a part in it cannot be shown"
    return [
        f"- **False against true positives** (25-67% against 1-2% in the published study): the drop at 25% differs by "
        f"{text(raw)}, that of the moved maps, which mark nothing, by {text(moved)}, the gain by {text(gain)}: {said}.",
        f"- False positives start {abs(start.value):.2f} log-odds {'nearer to' if start.value < 0 else 'further from'} "
        f"the threshold (difference {text(start)}{'' if is_shown(start) else ', not shown'}). A probability "
        "near 1 hides what happens: its log-odds can fall far before it moves. In log-odds the drop differs by "
        f"{text(odds)}{'' if is_shown(odds) else ': no difference can be shown'}.",
    ]


def lime_repeats(study: Study, rows: np.ndarray) -> pd.DataFrame:
    """Return how far LIME's maps of the same images differ between seeds, with few and with many samples."""
    found = []
    for n_samples in (100, 1000) if study.options.data else (20, 100):
        options = {"method": "lime", "n_samples": n_samples}
        runs = [
            study.clf.explain(study.X[rows], random_state=study.options.seed + k, **options) for k in range(N_SEEDS)
        ]
        maps = np.stack([run.values for run in runs])  # noqa: PD011 (an Explanation, no data frame)
        size = np.abs(maps.mean(axis=0)).mean(axis=(1, 2))
        by_metric = {"spread": maps.std(axis=0, ddof=1).mean(axis=(1, 2)) / np.where(size > 0, size, np.nan)}
        for name in ("rank_correlation", "top_k_overlap"):
            pairs = [measure(name, one, Context(other=other)) for one, other in combinations(runs, 2)]
            by_metric[name] = np.mean(pairs, axis=0)
        found += [
            pd.DataFrame({"row": rows, "method": f"lime, {n_samples} samples", "metric": name, "value": numbers})
            for name, numbers in by_metric.items()
        ]
    return pd.concat(found).assign(group=RANDOM, quantity=RAW)


def lime(study: Study, repeats: pd.DataFrame) -> list[str]:
    """Say how much of a LIME map is the draw of its samples."""
    found, methods = cells(repeats, ["method", "metric"]), repeats["method"].unique()
    lines = [
        f"- **{method.replace('lime', 'LIME')}**: between {N_SEEDS} seeds a pixel's standard deviation is "
        f"{text(mean(study, found[method, 'spread']))} of the map's mean size; two maps of an image agree with a rank "
        f"correlation of {text(mean(study, found[method, 'rank_correlation']))} and share "
        f"{text(mean(study, found[method, 'top_k_overlap']))} of their top 10% (0.1 by chance)."
        for method in methods
    ]
    change = mean(study, found[methods[-1], "spread"] - found[methods[0], "spread"])
    said = f"{'less' if change.value < 0 else 'more'} spread" if is_shown(change) else "no change can be shown"
    return [
        *lines,
        f"- More samples change that by {text(change)}: {said}. Grad-CAM draws nothing and repeats exactly.",
    ]


if __name__ == "__main__":
    print(main())
