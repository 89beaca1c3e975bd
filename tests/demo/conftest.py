"""One running app for all tests, a browser to look at it, and a model of the bundled kind."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time

import httpx
import pytest

pytest.importorskip("gradio", reason="the app needs the extra `demo`")

from cxr_estimator.demo import Settings
from cxr_estimator.demo._models import Models


@pytest.fixture(scope="session")
def served():
    """The bundled model as the app serves it."""
    return Models(Settings(device="cpu")).get("bundled")


@pytest.fixture(scope="session")
def app_url(hub_server):
    """Address of the app with the bundled model, in a process of its own, where a warning is no error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "from cxr_estimator.demo import Settings, launch; launch(Settings(device='cpu'))"
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen([sys.executable, "-c", start], env=environment, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    try:
        while not _answers(url):
            if process.poll() is not None:
                pytest.fail("the app did not start")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url):
    try:
        httpx.get(f"{url}config").raise_for_status()
    except httpx.TransportError:
        return False
    return True


@pytest.fixture(scope="session")
def browser():
    """Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, app_url):
    """The app in a new session, at the size of a desktop."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.goto(app_url)
    yield page
    context.close()
