"""Attribution methods. `METHODS` is the one list of them: a new method is one function and one line here."""

from __future__ import annotations

from cxr_estimator.attribution._target import Target, TargetRule
from cxr_estimator.attribution._types import Attribution, Method
from cxr_estimator.attribution.cam import grad_cam

METHODS: dict[str, Method] = {
    "grad_cam": Method(
        grad_cam, signed=False, localises=True, complete=False, bf16_safe=True, cost="1 forward, head backward"
    ),
}

__all__ = ["METHODS", "Attribution", "Method", "Target", "TargetRule"]
