"""Measure planted models: python -m benchmarks.planted measure-models [--seeds 5].

Writes raw figures of every model to results/planted_models.json after each one, and goes on where it was stopped,
unless the recipe has changed. "real" cases need CXR_DATA_DIR. A model takes 6 to 15 s of one core, measuring included.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks._common import RESULTS, write  # first: it sets OpenMP up
from benchmarks.planted.cases import DIFFICULTY, DOMAINS, N_AUDIT, N_TRAIN, RECIPE, STRENGTHS, Case
from benchmarks.planted.measuring import measure
from cxr_estimator.datasets.shortcuts import SHORTCUTS

NAME = "planted_models"
SETTINGS = {"recipe": RECIPE, "difficulty": DIFFICULTY, "training_images": N_TRAIN, "audit_images": N_AUDIT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["measure-models"])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    models = measured()
    done = {(one["domain"], one["kind"], one["strength"], one["seed"]) for one in models}
    for case in cases(seeds):
        if case in done:
            continue
        models.append(measure(case))
        print(json.dumps(models[-1]), flush=True)
        save(models)
    save(models)
    print(summary(models))


def cases(seeds: int) -> Iterator[Case]:
    """Yield the models to train, seed by seed, so that all kinds stand equal whenever this is stopped.

    Duplicated patients and reversed labels are left out: their models are the clean ones.
    """
    domains = [domain for domain in DOMAINS if domain == "phantoms" or os.environ.get("CXR_DATA_DIR")]
    for seed in range(seeds):
        for kind in ("clean", *SHORTCUTS):
            for strength in reversed(STRENGTHS[kind]):
                yield from (Case(domain, kind, strength, seed) for domain in domains)


def measured() -> list[dict[str, Any]]:
    """Return what is known of models of this recipe."""
    path = RESULTS / f"{NAME}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    return known["models"] if known.get("settings") == SETTINGS else []


def save(models: list[dict[str, Any]]) -> None:
    question = "do clean models find lesions, and do models with a shortcut use it"
    write(NAME, {"question": question, "settings": SETTINGS, "models": models})


def summary(models: list[dict[str, Any]]) -> str:
    """Return a paragraph per domain, kind and strength: medians over the seeds, the least and the largest."""
    alike: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for one in models:
        alike.setdefault((one["domain"], one["kind"], one["strength"]), []).append(one)
    lines = []
    for (domain, kind, strength), rows in alike.items():
        aurocs = spread([row["auroc"] for row in rows])
        lines.append(f"{domain}, {kind} {strength}, {len(rows)} models: audit AUROC {aurocs}")
        for shortcut, names in rows[0]["response"].items():
            shown = (f"{name} {spread([row['response'][shortcut][name] for row in rows])}" for name in names)
            lines.append(f"  {shortcut}: " + "; ".join(shown))
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
