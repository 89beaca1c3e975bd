"""Models whose faults are known, and what an audit says of them.

python -m benchmarks.planted measure-models [--seeds 5]                  # do they use what was planted
python -m benchmarks.planted audit choosing [--share 0/2]                # on these thresholds are chosen
python -m benchmarks.planted audit judging [--planted 20] [--clean 60]   # on these they are judged
python -m benchmarks.planted table judging

Raw figures of each model are written as soon as they are there, into results/planted_models.json and
results/planted_audits_*.jsonl, and every command goes on where it was stopped, unless the recipe has changed. "real"
cases need CXR_DATA_DIR. A model takes 6 to 15 s of one core. `--share i/n` takes each n-th model, so that several
processes can work side by side.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks._common import RESULTS, write  # first: it sets OpenMP up
from benchmarks.planted import auditing, reporting
from benchmarks.planted.cases import DIFFICULTY, DOMAINS, N_AUDIT, N_TRAIN, RECIPE, STRENGTHS, Case
from benchmarks.planted.measuring import measure
from cxr_estimator.datasets.shortcuts import SHORTCUTS
from cxr_estimator.verdicts import DOUBTFUL, FAIL

NAME = "planted_models"
SETTINGS = {"recipe": RECIPE, "difficulty": DIFFICULTY, "training_images": N_TRAIN, "audit_images": N_AUDIT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("measure-models").add_argument("--seeds", type=int, default=5)
    audits = commands.add_parser("audit")
    audits.add_argument("half", choices=list(auditing.SEEDS))
    audits.add_argument("--planted", type=int, default=auditing.N_MODELS["planted"])
    audits.add_argument("--clean", type=int, default=auditing.N_MODELS["clean"])
    audits.add_argument("--share", default="0/1")
    commands.add_parser("table").add_argument("half", choices=list(auditing.SEEDS))
    given = parser.parse_args()
    if given.command == "measure-models":
        measure_models(given.seeds)
    elif given.command == "audit":
        share, of = map(int, given.share.split("/"))
        auditing.run(given.half, n_planted=given.planted, n_clean=given.clean, share=(share, of))
    else:
        print(f"{reporting.totals(given.half)}\n\n{reporting.table(given.half)}\n")
        for verdict in (FAIL, DOUBTFUL):
            print(f"Clean models, {verdict}:", dict(reporting.alarms(given.half, verdict).most_common()))


def measure_models(seeds: int) -> None:
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
