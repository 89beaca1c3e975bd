"""SHAP beside Grad-CAM on DenseNet121: how sparse, how faithful, how stable.

python examples/shap_versus_grad_cam.py [--data chest_xray] [--out FOLDER] [--model FOLDER]

A published comparison reports the same sparsity, 5.35e-6, for both methods, and calls a map with a low AOPC "stable".
This one measures sparsity as the share of the pixels that hold 90% of the map, AOPC beside that of the same map moved
elsewhere, and stability as what it is: how much the map changes when the image hardly does. Without --data it runs on
synthetic radiographs, which shows how it is done; with it (half an hour and more on a CPU), what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from _studies import (
    GAIN,
    MOVED,
    RAW,
    Study,
    cells,
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

from cxr_estimator.statistics import Estimate

CAM, SHAP = "grad_cam", ("deep_shap", "gradient_shap")
METHODS = (CAM, *SHAP)
CURVES = ("aopc", "probability_degradation", "deletion_auc")
STABILITY = {  # options, and whether less is better
    "max_sensitivity": ({"n_draws": 3}, True),
    "augmentation_consistency": ({"n_draws": 2}, False),
}
PUBLISHED_SPARSITY, PUBLISHED_SIDE = 5.35e-6, 432


def main(arguments: Sequence[str] | None = None) -> str:
    study = prepare(parse(arguments, __doc__, backbone="densenet121", images="how many of each outcome", few=2))
    curves = {name: (name, {"steps": study.budget["steps"]}) for name in CURVES}
    outcome = study.outcomes()
    of_each = study.draw({name: outcome == name for name in np.unique(outcome)})
    rows = np.sort(np.concatenate(list(of_each.values())))
    by_outcome = measured(study, rows, METHODS, {"sparsity_90": ("sparsity_90", {}), **curves})
    few = np.sort(np.random.default_rng(study.options.seed).permutation(rows)[: study.options.images])
    stability = measured(study, few, METHODS, {name: (name, options) for name, (options, _) in STABILITY.items()})
    values = pd.concat([pd.concat([by_outcome, stability]).assign(bucket="all"), by_outcome])
    table = tidy(study, values, ["bucket", "metric", "method", "quantity"])
    found = cells(values[values["bucket"] == "all"], ["metric", "method", "quantity"])
    is_all = table["bucket"] == "all"
    parts = [
        "## What a careful measurement finds",
        "\n".join([*sparsity(study, found), *faithfulness(study, found), *stable(study, found)]),
        f"## All images\n\n{markdown(table[is_all], ['metric', 'method'])}",
        "The images were drawn evenly from the outcomes, as far as there are, so these means are not those of patients "
        "as they come.",
        f"## By outcome\n\n{markdown(table[~is_all], ['bucket', 'metric', 'method'])}",
    ]
    return write(study, "SHAP versus Grad-CAM", parts, table)


def sparsity(study: Study, found: dict[tuple[str, str, str], pd.Series]) -> list[str]:
    """Say how many pixels hold 90% of each map, and whether the methods differ."""
    side = study.clf.image_size
    shares = {method: found["sparsity_90", method, RAW] for method in METHODS}
    fewest = ", ".join(f"{method} {share.min() * side**2:.0f}" for method, share in shares.items())
    lines = [
        f"- **Sparsity.** No map can be sparser than one pixel, a share of 1 / (H W): {1 / side**2:.2e} at {side} x "
        f"{side}. The published {PUBLISHED_SPARSITY:.2e} would be {PUBLISHED_SPARSITY * PUBLISHED_SIDE**2:.2f} pixels "
        f"of {PUBLISHED_SIDE} x {PUBLISHED_SIDE}, which no map has that is scaled up from a coarse layer. The fewest "
        f"pixels that hold 90% of the map of any image here: {fewest}."
    ]
    for method in SHAP:
        ratio = mean(study, np.log(shares[method] / shares[CAM]))
        said = f"it is {'sparser' if ratio.value < 0 else 'less sparse'}" if is_shown(ratio) else "no difference shown"
        lines.append(
            f"- {method} takes a share of {text(mean(study, shares[method]))} of the pixels, {CAM} one of "
            f"{text(mean(study, shares[CAM]))}; in the same image {text(Estimate(*np.exp(ratio)))} times as many: "
            f"{said}."
        )
    return lines


def faithfulness(study: Study, found: dict[tuple[str, str, str], pd.Series]) -> list[str]:
    """Say of each method whether hiding what it marks does more than hiding as much elsewhere."""
    lines = [
        "- **AOPC** is how far the probability falls, on average, while pixels are hidden, those that the map marks "
        "first. A low one means that hiding what the map marks changes little: the map is unfaithful, or the network "
        "reacts to no hidden pixels, which the moved map tells. It does not mean that the map is stable."
    ]
    for method in METHODS:
        raw, moved, gain = (mean(study, found["aopc", method, quantity]) for quantity in (RAW, MOVED, GAIN))
        others = [f"by {name} {verdict(mean(study, found[name, method, GAIN]))}" for name in CURVES[1:]]
        empty = int(found["aopc", method, RAW].isna().sum())
        lines.append(
            f"- {method}: AOPC {text(raw)}, moved map {text(moved)}, gain {text(gain)}: {verdict(gain)}; "
            f"{'; '.join(others)}." + (f" {empty} maps are zero everywhere and could not be measured." if empty else "")
        )
    return lines


def stable(study: Study, found: dict[tuple[str, str, str], pd.Series]) -> list[str]:
    """Say which map is the most stable, and whether that is the one with the lowest AOPC."""
    means = {name: {m: mean(study, found[name, m, RAW]) for m in METHODS} for name in ("aopc", *STABILITY)}

    def least(name: str, sign: int = 1) -> str:
        return min(METHODS, key=lambda method: np.nan_to_num(sign * means[name][method].value, nan=np.inf))

    lowest = least("aopc")
    best = {name: least(name, 1 if less_is_better else -1) for name, (_, less_is_better) in STABILITY.items()}
    quoted = [f"{m}: {', '.join(f'{name} {text(means[name][m])}' for name in STABILITY)}" for m in METHODS]
    same = [name for name, method in best.items() if method == lowest]
    said = f"here the same as by {' and '.join(same)}, yet not the same thing" if same else "another method"
    return [
        "- **Stability** is measured, not read off AOPC: `max_sensitivity` is how far the map moves, as a share of its "
        "length, when the image gets 2% of noise (lower is better), `augmentation_consistency` the rank correlation "
        f"with the map of the shifted image (higher is better). {'; '.join(quoted)} "
        f"({len(found['max_sensitivity', CAM, RAW])} images).",
        f"- By these means the most stable is {', '.join(f'{method} by {name}' for name, method in best.items())}. The "
        f"lowest AOPC is that of {lowest}: {said}.",
    ]


if __name__ == "__main__":
    print(main())
