"""The app: upload a radiograph, see the decision, the evidence, and how far to trust it. Needs the extra `demo`."""

from cxr_estimator.demo._app import build, launch, running
from cxr_estimator.demo._settings import Settings

__all__ = ["Settings", "build", "launch", "running"]
