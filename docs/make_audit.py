"""Write docs/audit.md from the table of checks and from what was measured.

python docs/make_audit.py [--check]

Nothing in that page is written by hand; a test runs this with --check.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from make_methods import write_or_check

from cxr_estimator.audit import CHECKS, Check
from cxr_estimator.verdicts import NO_DATA, PASS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks are not installed

from benchmarks.planted import auditing, cases, reporting  # noqa: E402

PAGE = ROOT / "docs" / "audit.md"
REAL = ROOT / "benchmarks" / "results" / "audit_real.json"
SPEED = ROOT / "benchmarks" / "results" / "audit_speed.json"

_HEAD = """# The audit

Published heat maps are judged by eye, and models by one figure. `audit` turns "it looks plausible" into checks: each
has a value, a 95% interval, limits, a verdict (*pass*, *doubtful*, *fail*, *not enough data*) and a sentence; exchanges
and heat maps that do not pass come with images that show what was found. How often the checks are right was measured on
models whose faults are known. This page is made by `docs/make_audit.py`.

```
cxr audit --model my-model --data held_out --output audit     # audit.json and audit.html
```

```python
from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator.audit import audit

clf, data = CXRClassifier.from_pretrained(), make_phantoms(40, 96, random_state=1)
report = audit(clf, data.X, data.y, data.groups, n_maps=10)
print(report)
print(report.maps["grad_cam"].verdict)  # show, show with warning, or withhold; .reason says why
```

Audit on images that neither trained the model nor chose its threshold, 200 of them or more, of as many patients as can
be: a check that sees less than five patients says *not enough data*, and with few more its interval is wide.
`report.save` writes the page and audit.json, `AuditReport.load` reads that again, `ModelCard(audit=report)` or `cxr
card --audit` put it into the model card, and `dataclasses.replace(report, note="...")` says what readers must know.

## What it checks

**Shortcuts.** `border_exchange`, `corner_exchange`, `marker_exchange`, `brightness_exchange` and `sharpness_exchange`
put a part of another image in the place of the image's own: its border, its corners, its side markers and letters, its
brightness and contrast, the strength of its fine detail. The value is the share of the images that are given the class
of a donor of another class together with its part, less the share that are given that class with the part of a donor of
their own class. What the seams of such a change do by themselves is the same in both and cancels. `border_alone` and
`lungs_alone` are AUROCs of images of which nothing else is left. `border_mass`, `corner_mass`, `marker_mass`,
`outside_lungs_mass` and `outside_thorax_mass` tell, for each method, where what speaks for the class lies: -1 is
nothing in that region, 0 as much as by chance, 1 all of it. Lungs are found by `anatomy.lung_mask`, or given as
`masks`; where they are not found there is no verdict.

**Heat maps.** `gain` over moved copies of the map, `parameter_randomisation` (with all weights random), `completeness`,
`seed_stability`, `agreement` of methods, `augmentation_consistency` (the map moves along with the image), each as the
mean over images. [Trust cards](trust.md) of single maps share the table of these checks and their limits; they leave
out those two that need many more evaluations, and want a gain over nearly every single copy.

**Data.** `one_feature` is the AUROC of the best of brightness, contrast, sharpness, width, height, aspect and source
(with `sources`), without the model; `duplicates` under other patients or labels; images that were `seen_in_training`,
or chose a threshold or a calibration (by the fingerprints that a model keeps); `patient_overlap` (with
`training_groups`); `label_order`; `prevalence`.

**Model.** `auroc_drop` since validation, `calibration` beyond chance, `transfer` of operating points, `ood_share`,
`subgroup_gap` (with `subgroups`).

Intervals are over patients, but for `duplicates`, `prevalence` and `seen_in_training` (over images) and `calibration`
(what chance gives). Where a check finds several values of one thing, such as subgroups, the worst verdict counts.

A check is doubtful where its value lies beyond the first limit, and fails where its whole interval lies beyond the
second. What goes wrong in a check is told in its sentence and hides no other; only images that cannot be read end an
audit, unless the model has `on_error="skip"`. A method's maps are **withheld** where a check fails that withholds them;
they are shown **with a warning** where another check of them is doubtful or fails, where a check that would withhold
them could not be made, or where the model looks at a shortcut."""

_MEASURED = """## How often it is right

`benchmarks/planted` trains models whose faults are known, on phantoms and on normal radiographs (Kermany et al. 2018,
CC BY 4.0) into half of which opacities were pasted, so that nothing but the lesion tells the classes; then it plants
what a model could go by instead, in training and audit images alike: of a *strength* s, sick images carry it with
probability (1 + s) / 2 and the others with (1 - s) / 2, so that 0 tells nothing and 1 everything. "Duplicated patients"
puts training images into that share of the places of audit images, "reversed labels" turns that share of the audit
labels; both leave the model clean. Models are small CNNs at {side} px that learn in seconds from {n_train}; each audit
is of {n_audit} images of other patients, with everything at its default. The limits above were chosen on one set of
models and judged on this other one, whose radiographs are of other patients, too. (The first set was measured when
markers that only one of two images has were not exchanged yet, and maps had bootstrap intervals.) Brackets hold 95%
intervals (Clopper-Pearson).

{totals}

{table}

Columns count audits that failed by a check that says what was planted: {catches}; the last one those that failed by any
check. In the first row all failures are false alarms; they came from: {alarms}. With a strength of 0.5 models go by
lesions and shortcut both (`benchmarks/results/planted_models.json`), so that fewer decisions follow what was planted.
Raw values of each audit are in `benchmarks/results/planted_audits_*.jsonl`; `python -m benchmarks.planted` repeats it.
"""

_CANNOT = """## What it cannot know

- A shortcut that none of the checks exchanges, such as a device beside the heart.
- Whether a difference between the classes at the border is anatomy or a shortcut: it tells that the model uses it.
- What the images do not show: with few patients intervals are wide, and faults are found less often.
- Lungs are found less often where they are white, so checks of lungs speak of the clearer ones.
- The error rates above are those of small networks on small images. Larger ones may hide more.

Research and education only, not a medical device.
"""


def make_page() -> str:
    return "\n".join([_HEAD, limits(), "", measured(), *real(), *speed(), _CANNOT])


def limits() -> str:
    rows = ["| check | about | doubtful beyond | fails beyond | withholds maps |", "|---" * 5 + "|"]
    return "\n".join(rows + [_row(name, check) for name, check in CHECKS.items()])


def _row(name: str, check: Check) -> str:
    side = "" if check.limits.greater_is_worse else "less than "
    ends = ["never" if math.isinf(end) else f"{side}{end:g}" for end in check.limits[:2]]
    return f"| `{name}` | {check.family} | {ends[0]} | {ends[1]} | {'yes' * check.withholds} |"


def measured() -> str:
    half = "judging"
    if not auditing.read(half):
        return "## How often it is right\n\nNot measured yet with these checks: `python -m benchmarks.planted`.\n"
    alarms = reporting.alarms(half)
    own = "; ".join(f"{kind.replace('_', ' ')}: {', '.join(names)}" for kind, names in reporting.CATCHES.items())
    trained = " or ".join(f"{n} images ({domain})" for domain, n in cases.N_TRAIN.items())
    return _MEASURED.format(
        side=cases.SIDE,
        n_train=trained,
        n_audit=cases.N_AUDIT,
        totals=reporting.totals(half),
        table=reporting.table(half),
        catches=own,
        alarms=", ".join(f"{name} ({count})" for name, count in alarms.most_common()) or "none",
    )


def real() -> list[str]:
    """Return what an audit says of a model of real radiographs."""
    if not REAL.is_file():
        return []
    found = json.loads(REAL.read_text())
    report, said = found["report"], []
    for one in report["checks"]:
        if one["verdict"] not in (PASS, NO_DATA):
            of = f" of {one['method']}" if one["method"] else ""
            said.append(f"- `{one['name']}`{of}, {one['verdict']}: {one['sentence']}")
    passed = ", ".join(sorted({f"`{one['name']}`" for one in report["checks"] if one["verdict"] == PASS}))
    maps = "; ".join(f"{method}: {one['verdict']}" for method, one in report["maps"].items())
    head = (
        f"## A model of real radiographs\n\n`benchmarks/audit_real.py`: a resnet10t at 128 px, trained on "
        f"{found['training_images']} radiographs of children, audited on {report['n_images']} of "
        f"{report['n_patients']} other patients. What did not pass:\n"
    )
    read = (
        f"\nHeat maps: {maps}. Passed (by one method at least): {passed}.\n\n"
        "That fits these data: even the sharpness of a film tells the class, without any model, and so does "
        "the border, which shows arms, neck and what the collimator left. This network decides by it where "
        "the lungs leave room for doubt. The [bundled one](../MODEL_CARD.md), trained with changed frames and "
        "fields of view, does not follow the border (on images that trained it).\n"
    )
    return [head, *said, read]


def speed() -> list[str]:
    if not SPEED.is_file():
        return []
    found = json.loads(SPEED.read_text())
    took, counted, memory = found["seconds"], found["evaluations"], found["memory"]["gigabytes"]
    held = ", ".join(f"{gigabytes:.2f} GB with {n} images" for n, gigabytes in memory.items())
    return [
        f"## What it costs\n\nresnet18 at 224 px, {took['images']} images, default checks, two CPU cores "
        f"({found['machine']['precision']}): {took['seconds']:.0f} s. Checks share what they evaluate: one audit puts "
        f"{counted['together']:,} images through the network, audits of each check alone would put "
        f"{counted['ratio']:.1f} times as many (counted with a small network at 32 px). "
        f"Peak memory of the process: {held}.\n"
    ]


if __name__ == "__main__":
    write_or_check(PAGE, make_page())
