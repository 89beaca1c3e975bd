"""`cxr demo` and `cxr deploy-space`: a Space that is deployed to the local Hub starts from its own folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from huggingface_hub import snapshot_download
from PIL import Image

from cxr_estimator import demo
from cxr_estimator.checksums import SUMS_NAME, differing, read_sums
from cxr_estimator.demo import Settings, _space
from cxr_estimator.errors import DataError, HubError, MissingPackageError
from tests.apps import free_port, judged, started
from tests.cli.running import cxr
from tests.hub import READ
from tests.model_folders import contents

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shared(hub, fitted, tmp_path):
    """The commit of a model on the Hub."""
    return hub.store.put("models", "alice/model", contents(fitted.save(tmp_path / "model"))).sha


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setattr(_space, "package_files", lambda: {"__init__.py": b""})


# -- deploy-space


def test_deploying(hub, shared, source):
    said = cxr("deploy-space", "alice/space", "--model", "alice/model", "--private", "--message", "First")
    space = hub.store.find("spaces", "alice/space")
    assert space.private
    assert space.head().title == "First"
    url = f"{hub.endpoint}/spaces/alice/space"
    assert said.endswith(f"changed: {SUMS_NAME}\npushed: {url}/commit/{space.head().sha}\nSpace: {url}\n")
    assert f'models=("alice/model@{shared}",), allow_hub=True'.encode() in hub.store.read("spaces", space.id, "app.py")
    again = cxr("deploy-space", "alice/space", "--model", f"alice/model@{shared}")
    assert again == f"nothing new; the same files are in: {url}/commit/{space.head().sha}\nSpace: {url}\n"


def test_which_model(hub, shared, source):
    hub.store.put("models", "alice/model", {"notes.txt": b"newer"})

    def models(*options):
        cxr("deploy-space", "alice/space", *options)
        return (
            hub.store.read("spaces", "alice/space", "app.py").decode().partition("models=")[2].partition(", allow")[0]
        )

    assert models() == "()"
    assert models("--model", "alice/model", "--revision", shared) == f'("alice/model@{shared}",)'
    newest = hub.store.find("models", "alice/model").head().sha
    assert models("--model", "alice/model") == f'("alice/model@{newest}",)'
    assert models("--model", f"alice/model@{shared}", "--no-hub") == f'("alice/model@{shared}",)'
    assert b"allow_hub=False" in hub.store.read("spaces", "alice/space", "app.py")


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (["alice/space", "--model", "alice/none"], HubError, r"alice/none: there is no such repository at http"),
        (["alice/space", "--model", "alice/model@v9"], HubError, r"no revision .* 'v9'"),
        (["alice/space", "--model", "alice/bert"], HubError, r"no model of cxr_estimator, nor a config\.json of timm"),
        (
            ["alice/space", "--model", "../model"],
            ValueError,
            r"'repo_id' parameter of deploy-space must be 'user/model'",
        ),
        (["alice/space", "--model", "a/b@v1", "--revision", "v2"], DataError, "'v1' and --revision 'v2'; leave one"),
        (["alice/space", "--revision", "v2"], DataError, "--revision is for a model on the Hub"),
        (["space"], ValueError, "'repo_id' parameter of deploy-space"),
        ([], DataError, "Name the Space: user/space; or a folder for it by --output"),
    ],
)
def test_what_cannot_be_deployed(hub, shared, source, arguments, error, match):
    hub.store.put("models", "alice/bert", {"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(error, match=match):
        cxr("deploy-space", *arguments)
    assert hub.store.find("spaces", "alice/space") is None


def test_a_local_model(hub, shared, source, tmp_path):
    with pytest.raises(DataError, match=r"is a folder here, .* cxr push user/model --model .*model"):
        cxr("deploy-space", "alice/space", "--model", tmp_path / "model")


def test_a_private_model(hub, shared, source):
    hub.store.find("models", "alice/model").private = True
    said = cxr("deploy-space", "alice/space", "--model", "alice/model")
    assert "warning: alice/model is private or gated: the Space needs a token" in said


def test_a_space_that_was_edited(hub, source):
    cxr("deploy-space", "alice/space")
    hub.store.put("spaces", "alice/space", {"README.md": b"---\ntitle: Mine\n---\n"})
    assert "warning: README.md was edited on the Hub and is kept" in cxr("deploy-space", "alice/space", "--no-hub")
    hub.store.put("spaces", "alice/space", {"app.py": b"mine"})
    with pytest.raises(HubError, match="say --overwrite to let it be replaced"):
        cxr("deploy-space", "alice/space")
    assert "changed: README.md" in cxr("deploy-space", "alice/space", "--overwrite")


def test_no_right_to_deploy(hub, source, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ)
    with pytest.raises(HubError, match="read-only"):
        cxr("deploy-space", "alice/space")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="hf auth login"):
        cxr("deploy-space", "alice/space")
    with hub.down(), pytest.raises(HubError, match="gave no answer"):
        cxr("deploy-space", "alice/space")


def test_a_folder_instead_of_a_push(hub, shared, tmp_path):
    said = cxr("deploy-space", "alice/space", "--model", "alice/model", "--output", tmp_path / "space")
    assert said == f"{tmp_path / 'space'}: a Space; `python app.py` starts it there\n"
    assert differing(tmp_path / "space", read_sums(tmp_path / "space")) == []
    assert f"alice/model@{shared}" in (tmp_path / "space" / "app.py").read_text()
    assert hub.store.find("spaces", "alice/space") is None
    with pytest.raises(DataError, match="holds something already"):
        cxr("deploy-space", "--output", tmp_path / "space")


# -- a Space in its own folder


def environment(hub, home: Path, **more: str) -> dict[str, str]:
    """An environment of a Space: nothing of this one but the programs, and the packages that others made."""
    packages = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    assert not any(Path(path).is_relative_to(ROOT / "cxr_estimator") or Path(path) == ROOT for path in packages)
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    hub_of_tests = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return {**kept, **hub_of_tests, "HOME": str(home), "PYTHONPATH": os.pathsep.join(sorted(packages)), **more}


def test_a_deployed_space_answers_from_its_own_folder(hub, shared, fitted, phantoms, tmp_path):
    """Without `site`, so that no installation that is editable leads to the repository."""
    cxr("deploy-space", "alice/space", "--model", "alice/model")
    space = Path(snapshot_download("alice/space", repo_type="space", local_dir=tmp_path / "space"))
    port, log = free_port(), tmp_path / "log.txt"
    surroundings = environment(hub, tmp_path / "home", GRADIO_SERVER_PORT=str(port))
    where = [sys.executable, "-S", "-c", "import sys; print(*sys.path, sep='\\n')"]
    searched = subprocess.run(where, env=surroundings, cwd=space, capture_output=True, text=True, check=True).stdout
    assert str(ROOT) not in searched.splitlines()
    hub.requests.clear()
    Image.fromarray(phantoms.X[0]).save(tmp_path / "image.png")
    command = [sys.executable, "-S", "app.py"]
    with started(command, log, port=port, environment=surroundings, folder=space) as (url, _):
        answer = judged(url, tmp_path / "image.png")
    expected = dict(zip(fitted.classes_.tolist(), fitted.predict_proba(phantoms.X[:1])[0], strict=True))
    assert {one["label"]: one["probability"] for one in answer["probabilities"]} == pytest.approx(expected, abs=1e-5)
    assert answer["decision"] == fitted.predict(phantoms.X[:1]).tolist()
    assert (answer["model"], answer["revision"]) == (f"alice/model@{shared}", shared)
    # it ran from there: these modules were compiled where they lie, and the model came from the Hub at its commit
    compiled = {path.name.partition(".")[0] for path in (space / "cxr_estimator").glob("**/__pycache__/*.pyc")}
    assert {"__init__", "classifier", "_app", "_models"} <= compiled
    assert hub.seen(path=f"/alice/model/resolve/{shared}/model.safetensors")
    assert hub.seen("GET", "/storage/")
    assert {one.token for one in hub.requests} == {None}
    assert "Traceback" not in log.read_text()


# -- demo


def test_a_port_that_is_taken(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            DataError, match=rf"listen at port {port} of '127.0.0.1' \(.*in use\); name another by --port"
        ):
            cxr("demo", "--port", port)


def test_a_host_that_is_none():
    with pytest.raises(DataError, match=r"Nothing can listen at '203\.0\.113\.1' \(.*\); name another by --port or"):
        cxr("demo", "--host", "203.0.113.1")


@pytest.mark.parametrize("command", [["demo"], ["deploy-space", "alice/space"]])
def test_without_gradio(monkeypatch, command):
    monkeypatch.setitem(sys.modules, "gradio", None)
    match = rf"cxr {command[0]} needs the package gradio: pip install 'cxr_estimator\[demo\]'"
    with pytest.raises(MissingPackageError, match=match):
        cxr(*command)


def test_settings_of_the_app(monkeypatch):
    launched = []

    class App:
        local_url = "http://127.0.0.1:7860/"

        def block_thread(self):
            launched.append("waited")

    def launch(settings, **options):
        launched.append((settings, options))
        return App()

    monkeypatch.setattr(demo, "launch", launch)
    assert cxr("demo") == "app: http://127.0.0.1:7860/ (Ctrl-C ends it)\n"
    options = {"host": None, "port": None, "open_browser": False, "prevent_thread_lock": True}
    assert launched == [(Settings(), options), "waited"]
    launched.clear()
    port = free_port()
    arguments = ("--model", "alice/model", "--model", "folder", "--no-hub", "--device", "cpu", "--open")
    cxr("demo", *arguments, "--host", "localhost", "--port", port)
    settings = Settings(models=("alice/model", "folder"), allow_hub=False, device="cpu")
    options = {"host": "localhost", "port": port, "open_browser": True, "prevent_thread_lock": True}
    assert launched == [(settings, options), "waited"]


def test_ctrl_c_ends_it_cleanly(fitted, tmp_path):
    port, log = free_port(), tmp_path / "log.txt"
    program = [sys.executable, "-c", "from cxr_estimator.cli import main; main()"]
    command = [*program, "demo", "--model", str(fitted.save(tmp_path / "mine")), "--port", str(port)]
    with started(command, log, port=port, environment=os.environ) as (url, process):
        assert httpx.get(f"{url}/config").json()["title"] == demo._app.TITLE
        while "app: " not in log.read_text():
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
    said = log.read_text()
    assert f"app: http://127.0.0.1:{port}/ (Ctrl-C ends it)\n" in said
    assert "Traceback" not in said
    with closing(socket.socket()) as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
