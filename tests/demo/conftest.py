"""One running app for all tests, a browser to look at it, and files to send to it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator.demo import Settings
from cxr_estimator.demo._models import Models
from tests.hub import WRITE

pytest.importorskip("gradio", reason="the app needs the extra `demo`")

from gradio_client import Client

from tests.apps import free_port, started

_START = "from cxr_estimator.demo import Settings, launch; launch(Settings(device='cpu', max_file_bytes=4 << 20))"


class Server(NamedTuple):
    """An app in a process of its own, as an operator runs it who has a token for the Hub."""

    url: str
    folder: Path  # where everything is that it stores
    log: Path


@pytest.fixture(scope="session")
def server(hub_server, tmp_path_factory):
    """The app, running with the bundled model; files of at most 4 MiB."""
    folder = tmp_path_factory.mktemp("app")
    port, log = free_port(), folder / "log.txt"
    # without HF_ENDPOINT and the like of tests/conftest.py it would meet the real Hub
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder), "GRADIO_SERVER_PORT": str(port), "HF_TOKEN": WRITE}
    environment |= {"GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1"}
    with started([sys.executable, "-c", _START], log, port=port, environment=environment) as (url, _):
        yield Server(url, folder, log)
    assert not list(folder.glob("cxr_demo_*")), "uploads are left"


@pytest.fixture(scope="session")
def app_url(server):
    return server.url


@pytest.fixture(scope="session")
def client(app_url, tmp_path_factory):
    return Client(app_url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture(scope="session")
def bundled():
    """A copy of the bundled model that the app does not share."""
    return CXRClassifier.from_pretrained(device="cpu")


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """Paths of PNG files of two phantoms at 224 px, and their pixels."""
    folder, X = tmp_path_factory.mktemp("films"), make_phantoms(2, 224, random_state=0).X
    for number, pixels in enumerate(X):
        Image.fromarray(pixels).save(folder / f"film{number}.png")
    return [folder / f"film{number}.png" for number in range(len(X))], X


@pytest.fixture(scope="session")
def served():
    """The bundled model as the app serves it."""
    return Models(Settings(device="cpu")).get("bundled")


_CHROMIUM = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-quic --no-first-run "
    "--disable-component-update --disable-sync"
)


# not for the whole session: while it is there an event loop runs in this thread, and no test can start one of its own
@pytest.fixture(scope="module")
def browser():
    """Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as running:
        one = running.chromium.launch(executable_path=chromium, args=_CHROMIUM.split())
        yield one
        one.close()


@pytest.fixture
def page(browser, app_url):
    """A page of Chromium that shows the app, in a session of its own; it may ask for nothing outside of the app."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    outside = []
    inside = (app_url, "data:", "blob:")
    context.on("request", lambda one: None if one.url.startswith(inside) else outside.append(one.url))
    one = context.new_page()
    one.set_default_timeout(90_000)  # of a machine that has other things to do
    one.goto(app_url)
    yield one
    context.close()
    assert outside == []
