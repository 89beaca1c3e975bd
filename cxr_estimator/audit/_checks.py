"""The table of checks, with their thresholds."""

from __future__ import annotations

import math

from cxr_estimator._map_checks import MAP_CHECKS
from cxr_estimator.audit import _data, _maps, _model, _shortcuts
from cxr_estimator.audit._types import AuditCheck, Check
from cxr_estimator.verdicts import Limits

_NEVER = math.inf  # of what can only be doubtful


def passes(check: AuditCheck) -> str:
    """Return where a check passes, for people: "up to 0.05" or "from 0.6"."""
    return f"{'up to' if CHECKS[check.name].limits.greater_is_worse else 'from'} {check.threshold:g}"


def _exchange(kind: str) -> Check:
    return Check("shortcuts", _shortcuts.exchange(kind), Limits(doubtful=0.05, fail=0.05), needs=(kind,))


def _of_maps(name: str, family: str = "maps") -> Check:
    row = MAP_CHECKS[name]
    return Check(family, _maps.of_maps(name), row.limits, row.withholds, needs=(name,))


CHECKS: dict[str, Check] = {
    "border_exchange": _exchange("border"),
    "corner_exchange": _exchange("corners"),
    "marker_exchange": _exchange("markers"),
    "brightness_exchange": _exchange("brightness"),
    "sharpness_exchange": _exchange("sharpness"),
    # anatomy lies in the border, too: only exchanging it tells whether decisions follow
    "border_alone": Check("shortcuts", _shortcuts.border_alone, Limits(0.65, _NEVER), needs=("border_alone",)),
    "lungs_alone": Check(
        "shortcuts", _shortcuts.lungs_alone, Limits(0.6, -_NEVER, greater_is_worse=False), needs=("lungs_alone",)
    ),
    "border_mass": _of_maps("border_mass", "shortcuts"),
    "corner_mass": _of_maps("corner_mass", "shortcuts"),
    "marker_mass": _of_maps("marker_mass", "shortcuts"),
    "outside_lungs_mass": _of_maps("outside_lungs_mass", "shortcuts"),
    "outside_thorax_mass": _of_maps("outside_thorax_mass", "shortcuts"),
    "gain": _of_maps("gain"),
    "parameter_randomisation": _of_maps("parameter_randomisation"),
    "completeness": _of_maps("completeness"),
    "seed_stability": _of_maps("seed_stability"),
    "agreement": _of_maps("agreement"),
    "augmentation_consistency": _of_maps("augmentation_consistency"),
    "one_feature": Check("data", _shortcuts.one_feature, Limits(0.75, 0.9)),
    "duplicates": Check("data", _data.duplicates, Limits(0.0, 0.02)),
    "seen_in_training": Check("data", _data.seen_in_training, Limits(0.0, 0.0)),
    "patient_overlap": Check("data", _data.patient_overlap, Limits(0.0, 0.0)),
    "label_order": Check("data", _data.label_order, Limits(0.6, 0.5, greater_is_worse=False)),
    "prevalence": Check("data", _data.prevalence, Limits(0.2, _NEVER)),
    "auroc_drop": Check("model", _model.auroc_drop, Limits(0.05, 0.05)),
    "calibration": Check("model", _model.calibration, Limits(0.05, 0.05)),
    "transfer": Check("model", _model.transfer, Limits(0.1, 0.1)),
    "ood_share": Check("model", _model.ood_share, Limits(0.1, 0.5)),
    "subgroup_gap": Check("model", _model.subgroup_gap, Limits(0.05, 0.1)),
}
