"""The small Hub of this project's tests, on a port of this machine, for examples that share models."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def start(cache: Path) -> None:
    """Start it and point huggingface_hub to it, which must not be imported yet: it reads its variables then.

    No request leaves this machine, and neither the token of whoever runs this nor their cache is used.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where tests/ lies; it is not installed
    from tests.hub import WRITE, HubServer

    server = HubServer()
    server.start()
    os.environ.update(HF_ENDPOINT=server.endpoint, HF_TOKEN=WRITE, HF_HUB_CACHE=str(cache), HF_HUB_OFFLINE="0")
    os.environ.update(HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
