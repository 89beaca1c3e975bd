"""The table of checks, with their thresholds."""

from __future__ import annotations

import math

from cxr_estimator.audit import _data, _maps, _model, _shortcuts
from cxr_estimator.audit._types import Check

_NEVER = math.inf  # of what can only be doubtful


def _exchange(kind: str) -> Check:
    return Check("shortcuts", _shortcuts.exchange(kind), doubtful=0.05, fail=0.1, needs=(kind,))


def _mass(measure: str, *, doubtful: float, fail: float) -> Check:
    return Check("shortcuts", _maps.of_maps(measure, greater_is_worse=True), doubtful, fail, needs=(measure,))


def _map(measure: str, *, doubtful: float, fail: float, greater_is_worse: bool, withholds: bool = False) -> Check:
    function = _maps.of_maps(measure, greater_is_worse=greater_is_worse)
    return Check("maps", function, doubtful, fail, greater_is_worse, withholds, needs=(measure,))


CHECKS: dict[str, Check] = {
    "border_exchange": _exchange("border"),
    "corner_exchange": _exchange("corners"),
    "marker_exchange": _exchange("markers"),
    "brightness_exchange": _exchange("brightness"),
    "sharpness_exchange": _exchange("sharpness"),
    "border_alone": Check("shortcuts", _shortcuts.border_alone, doubtful=0.6, fail=0.65, needs=("border_alone",)),
    "lungs_alone": Check(
        "shortcuts", _shortcuts.lungs_alone, 0.6, -_NEVER, greater_is_worse=False, needs=("lungs_alone",)
    ),
    "one_feature": Check("shortcuts", _shortcuts.one_feature, doubtful=0.75, fail=0.9),
    "border_mass": _mass("border_mass", doubtful=0.35, fail=0.7),
    "corner_mass": _mass("corner_mass", doubtful=0.35, fail=0.7),
    "marker_mass": _mass("marker_mass", doubtful=0.2, fail=0.4),
    "outside_lungs_mass": _mass("outside_lungs_mass", doubtful=0.5, fail=0.8),
    "outside_thorax_mass": _mass("outside_thorax_mass", doubtful=0.35, fail=0.7),
    "gain": _map("gain", doubtful=0.02, fail=0.0, greater_is_worse=False, withholds=True),
    "parameter_randomisation": _map(
        "parameter_randomisation", doubtful=0.5, fail=0.8, greater_is_worse=True, withholds=True
    ),
    "completeness": _map("completeness", doubtful=0.1, fail=0.5, greater_is_worse=True, withholds=True),
    "seed_stability": _map("seed_stability", doubtful=0.8, fail=0.4, greater_is_worse=False),
    "agreement": _map("agreement", doubtful=0.15, fail=0.1, greater_is_worse=False),
    "augmentation_consistency": _map("augmentation_consistency", doubtful=0.5, fail=0.2, greater_is_worse=False),
    "duplicates": Check("data", _data.duplicates, doubtful=0.0, fail=0.02),
    "seen_in_training": Check("data", _data.seen_in_training, doubtful=0.0, fail=0.0),
    "patient_overlap": Check("data", _data.patient_overlap, doubtful=0.0, fail=0.0),
    "label_order": Check("data", _data.label_order, doubtful=0.6, fail=0.5, greater_is_worse=False),
    "prevalence": Check("data", _data.prevalence, doubtful=0.2, fail=_NEVER),
    "auroc_drop": Check("model", _model.auroc_drop, doubtful=0.05, fail=0.1),
    "calibration": Check("model", _model.calibration, doubtful=0.05, fail=0.15),
    "transfer": Check("model", _model.transfer, doubtful=0.05, fail=0.1),
    "ood_share": Check("model", _model.ood_share, doubtful=0.1, fail=0.5),
    "subgroup_gap": Check("model", _model.subgroup_gap, doubtful=0.05, fail=0.1),
}
