"""Apps in processes of their own. `python -m tests.apps SPACE PYTHON` starts a folder of a Space, and asks it.

The Python has what the Space's requirements.txt names, and not this package: that lies in the Space.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client, handle_file
from PIL import Image

from cxr_estimator import CXRClassifier
from cxr_estimator.datasets.phantom import make_phantoms

_LONGEST = 240.0  # seconds until an app answers, on a machine that has other things to do


def free_port() -> int:
    with contextlib.closing(socket.socket()) as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


@contextlib.contextmanager
def started(
    command: Sequence[str], log: Path, *, port: int, environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen]]:
    """Yield address and process of an app, once it answers at `port`; end it with SIGTERM."""
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=file, stderr=subprocess.STDOUT)
    try:
        _wait_for(url, process, log)
        yield url, process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    limit = time.monotonic() + _LONGEST
    while time.monotonic() < limit:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{url}/config").raise_for_status()
            return
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def judged(url: str, image: Path) -> dict[str, Any]:
    """Return what the endpoint /predict says of an image."""
    with contextlib.closing(Client(url, verbose=False)) as client:
        return client.predict(handle_file(image), api_name="/predict")


def check_space(space: Path, python: str) -> None:
    """Raise unless a Space of the bundled model answers as the model does, with nothing else than it needs."""
    with tempfile.TemporaryDirectory() as home:
        port, log, image = free_port(), Path(home, "log.txt"), Path(home, "image.png")
        clean = {"PATH": os.environ["PATH"], "HOME": home, "GRADIO_SERVER_PORT": str(port)}
        elsewhere = [python, "-c", "import cxr_estimator"]
        assert subprocess.run(elsewhere, cwd=home, env=clean, capture_output=True).returncode, "it is installed there"
        pixels = make_phantoms(1, 224, random_state=0).X[0]
        Image.fromarray(pixels).save(image)
        with started([python, "app.py"], log, port=port, environment=clean, folder=space) as (url, _):
            answer = judged(url, image)
        assert "Traceback" not in log.read_text(), log.read_text()
    clf = CXRClassifier.from_pretrained(device="cpu")
    expected = dict(zip(clf.classes_.tolist(), clf.predict_proba([pixels])[0].tolist(), strict=True))
    for one in answer["probabilities"]:
        assert abs(one["probability"] - expected[one["label"]]) < 1e-5, (answer, expected)
    print(f"{space.name}: /predict said {' and '.join(answer['decision'])}, as the model does")


if __name__ == "__main__":
    check_space(Path(sys.argv[1]), sys.argv[2])
