"""The app: upload a radiograph, see the decision, the evidence, and how far to trust it. Needs the extra `demo`."""

import os

# Before torch is loaded, as `cli.main` does: threads that wait for others of their team must not take the cores from
# another visitor's.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from cxr_estimator.demo._app import build, launch, running
from cxr_estimator.demo._settings import Settings

__all__ = ["Settings", "build", "launch", "running"]
