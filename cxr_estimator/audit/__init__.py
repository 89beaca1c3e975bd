"""The audit: whether a model looks at the disease, and whether its heat maps tell the truth.

`CHECKS` is the one table: a new check is a function and a line. Thresholds were chosen on models whose faults were
known (`benchmarks/planted`), and what they catch was measured on others.
"""

from cxr_estimator.audit._audit import audit
from cxr_estimator.audit._checks import CHECKS
from cxr_estimator.audit._report import AuditReport
from cxr_estimator.audit._types import AuditCheck, Check, Picture

__all__ = ["CHECKS", "AuditCheck", "AuditReport", "Check", "Picture", "audit"]
