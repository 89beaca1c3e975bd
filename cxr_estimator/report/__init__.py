"""One page on one model: data, training, evaluation, operating points, explanations, benchmark, audit.

It asks the other modules and adds no figure of its own but counts: what they cannot say of a model stands there with
the reason.
"""

from cxr_estimator.report._checks import PARTS
from cxr_estimator.report._examples import Examples
from cxr_estimator.report._facts import Facts
from cxr_estimator.report._make import planned_images, report
from cxr_estimator.report._report import ModelReport

__all__ = ["PARTS", "Examples", "Facts", "ModelReport", "planned_images", "report"]
