"""Write docs/metrics.md from the table of metrics and their docstrings.

python docs/make_metrics.py [--check]

Nothing in that page is written by hand; a test runs this with --check.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from make_methods import links, split, write_or_check

from cxr_estimator.metrics import METRICS, N_REFERENCES, Metric

PAGE = Path(__file__).parent / "metrics.md"

_HEAD = f"""# Metrics of explanation quality

`xai_scorer("grad_cam:deletion_auc")` for scikit-learn, `benchmark(clf, X, y, methods=, metrics=)` for a table,
`metrics.measure(name, explanation, context)` for one value per image. This page is made from the table
`cxr_estimator.metrics.METRICS` by `docs/make_metrics.py`.

What all metrics have in common:

- They give one number per image, NaN where it is undefined: for a map of zeros (its gain is 0), not finite, or with an
  empty mask. NaNs are counted, never dropped in silence.
- **faithfulness** is by default the **gain** over the same map shifted and flipped ({N_REFERENCES} draws, seeded),
  and then greater is better for each of them. Raw values (`relative=False`) depend on the network more than on the
  map: an untrained one can have the better deletion AUC, and independent random pixels flatter every smooth map.
- What is hidden shows a `baseline`: "mean" of the image (default), "black", "blur", "background", "noise", "imputed"
  from the pixels around, or an array. It is hidden by pixel (default), "patch" or "superpixel" (`unit=`, `n_units=`).
  `output=` is "proba" (default) or "score".
- Each distinct perturbed image is evaluated once, whatever the number of metrics that look at it.

No metric says that a map is right. High faithfulness says that the network uses what the map marks; the lesion may be
elsewhere.
"""


def make_page() -> str:
    parts = [_HEAD, summary()]
    family = None
    for name, metric in METRICS.items():
        if metric.family != family:
            family = metric.family
            module = inspect.getdoc(inspect.getmodule(metric.function)) or ""
            parts.append(f"## {family.capitalize()}\n\n{module}\n")
        parts.append(section(name, metric))
    return "\n".join(parts)


def summary() -> str:
    rows = ["| metric | family | raw value | range | needs | source |", "|---" * 6 + "|"]
    for name, metric in METRICS.items():
        better = "greater is better" if metric.greater_is_better else "less is better"
        low, high = (f"{edge:g}" for edge in metric.range)
        needs = ", ".join(_NEEDS[need] for need in metric.needs)
        rows.append(
            f"| [{name}](#{name}) | {metric.family} | {better} | {low} to {high} | {needs} | {metric.reference} |"
        )
    return "\n".join(rows) + "\n"


def section(name: str, metric: Metric) -> str:
    """Return what the docstring of the function says."""
    text, sections = split(inspect.getdoc(metric.function) or "")
    lines = [f"### {name}", "", text, ""]
    if metric.options:
        lines += [f"Options: {', '.join(f'`{option}`' for option in metric.options)}.", ""]
    return "\n".join([*lines, f"Source: {links(sections['References'])}", ""])


_NEEDS = {"problem": "the network", "explain": "maps made anew", "mask": "a mask", "other": "another explanation"}

if __name__ == "__main__":
    write_or_check(PAGE, make_page())
