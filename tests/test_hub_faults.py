"""What a Hub, a network or a cache can do wrong: clear errors, nothing half done, and a cache that stays sound."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest

from cxr_estimator.checksums import SUMS_NAME
from cxr_estimator.errors import HubError, HubWarning, ModelFolderError
from cxr_estimator.hub import differences, discard_damaged, fetch, push
from tests.hub import OTHER, READ, WRITE, Fault
from tests.test_hub import names, write_model

WEIGHTS = "/storage/.*signed=get"


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
def shared(hub, model):
    """The id of a repository that holds `model`; requests up to here are forgotten."""
    push(model, "alice/model")
    hub.requests.clear()
    return "alice/model"


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the client would have waited between its attempts."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


@contextmanager
def refused(match, error=HubError):
    """Expect an error that shows no token, neither in its message nor in what is printed of its causes."""
    with pytest.raises(error, match=match) as caught:
        yield caught
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(token in shown for token in (WRITE, READ, OTHER))


def is_whole(folder: Path, model: Path) -> bool:
    return names(folder) == names(model) and all(
        (folder / name).read_bytes() == (model / name).read_bytes() for name in names(model)
    )


def blobs(folder: Path) -> list[Path]:
    return list((folder.parent.parent / "blobs").iterdir())


# -- downloads that go wrong


def test_a_download_that_breaks_off_is_resumed(hub, shared, model, waits, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # it resumes after whole ones
    hub.faults.append(Fault("GET", WEIGHTS, "truncate", at=7000))
    assert is_whole(fetch(shared), model)
    assert [one.headers.get("range") for one in hub.seen("GET", WEIGHTS)] == [None, "bytes=7000-"]


def test_a_connection_that_drops_is_made_again(hub, shared, model, waits):
    hub.faults.append(Fault("GET", WEIGHTS, "drop", times=2))
    assert is_whole(fetch(shared), model)
    assert len(hub.seen("GET", WEIGHTS)) == 3


def test_a_connection_that_drops_for_ever(hub, shared, model, waits):
    hub.faults.append(Fault("GET", WEIGHTS, "drop", times=-1))
    with refused(r"alice/model: the Hub \(http.*\) gave no answer .* nothing is sent or fetched twice"):
        fetch(shared)
    with refused(
        "only a part of revision 'main' is in the cache: a download was interrupted.*Call once without local_"
    ):
        fetch(shared, local_files_only=True)
    with hub.down(), refused("only a part of revision 'main' .* gave no answer"):
        fetch(shared)
    hub.faults.clear()
    hub.requests.clear()
    assert is_whole(fetch(shared), model)
    assert {one.path.partition("?")[0].rpartition("/")[2] for one in hub.seen("GET", "resolve|storage")} == {
        hub.store.find("models", shared).head().files["model.safetensors"].sha256
    }


def test_an_answer_that_is_too_short(hub, shared, model):
    hub.faults.append(Fault("GET", WEIGHTS, "short", at=7000))
    with refused(r"file should be of size 20000 but has size 7000") as caught:
        fetch(shared)
    assert "force_download" not in str(caught.value)
    assert is_whole(fetch(shared), model)


def test_a_flipped_byte_passes_the_client_and_is_found(hub, shared, model):
    hub.faults.append(Fault("GET", WEIGHTS, "flip", at=9))
    folder = fetch(shared)
    assert names(folder) == names(model)
    assert not is_whole(folder, model)
    assert discard_damaged(folder) == ["model.safetensors"]
    assert not (folder / "model.safetensors").exists()
    assert len(blobs(folder)) == 3
    hub.requests.clear()
    assert is_whole(fetch(shared), model)
    assert discard_damaged(folder) == []
    assert [one.path for one in hub.seen("GET", "resolve|storage")] == [one.path for one in hub.seen("GET", WEIGHTS)]


@pytest.mark.parametrize("name", ["README.md", "config.json"])
def test_a_flipped_byte_in_a_small_file(hub, shared, model, name):
    hub.faults.append(Fault("GET", name, "flip", at=5))
    folder = fetch(shared)
    assert discard_damaged(folder) == [name]
    assert is_whole(fetch(shared), model)


def test_damaged_sums_are_fetched_once_more(hub, shared, model):
    hub.faults.append(Fault("GET", SUMS_NAME, "flip", at=64))  # a space
    assert is_whole(fetch(shared), model)
    assert len(hub.seen("GET", SUMS_NAME)) == 2


def test_sums_that_are_always_damaged(hub, shared, tmp_path):
    hub.faults.append(Fault("GET", SUMS_NAME, "flip", at=64, times=-1))
    with refused("is not a SHA-256 and a name", ModelFolderError):
        fetch(shared)
    assert len(hub.seen("GET", SUMS_NAME)) == 2
    assert not [path for path in (tmp_path / "hub_cache").rglob("*") if path.name == SUMS_NAME]


def test_sums_that_are_wrong_on_the_hub_itself(hub, shared):
    hub.store.put("models", shared, {SUMS_NAME: b"00  ../../config.json\n"})
    with refused("is not a SHA-256 and a name", ModelFolderError):
        fetch(shared)
    assert len(hub.seen("GET", SUMS_NAME)) == 1  # it is what the Hub has: another download would not help


# -- a Hub that refuses


def test_a_repository_that_is_not_there_or_private(hub, model):
    hub.store.put("models", "alice/private", {SUMS_NAME: b""})
    hub.store.find("models", "alice/private").private = True
    for name, token in (
        ("alice/none", None),
        ("alice/none", False),
        ("alice/private", OTHER),
        ("alice/private", False),
    ):
        with refused(r"there is no such repository at http.*, or it is private\. If it is yours, log in with `hf auth"):
            fetch(name, token=token)
        with refused("there is no such repository"):
            differences(model, name, token=token)


def test_a_gated_repository(hub, shared, model):
    hub.store.find("models", shared).gated = True
    with refused(rf"access to this repository is restricted\. Ask for it at {hub.endpoint}/alice/model, then log in"):
        fetch(shared, token=OTHER)
    with refused("is restricted"):
        fetch(shared, token=False)
    hub.store.find("models", shared).granted.add("bob")
    assert is_whole(fetch(shared, token=OTHER), model)


def test_a_revision_that_is_not_there(hub, shared, model):
    for revision in ("v9", "refs/pr/7", "0" * 40):
        with refused(rf"this repository has no revision \(branch, tag or commit\) '{revision}'"):
            fetch(shared, revision=revision)
        with refused("has no revision"):
            differences(model, shared, revision=revision)


def test_a_token_that_is_not_valid(hub, shared, model):
    for function in (lambda: fetch(shared, token="hf_gone"), lambda: push(model, shared, token="hf_gone")):
        with refused("no token was given, or one that is not valid"):
            function()


def test_tokens_that_may_not_write(hub, shared, model):
    write_model(model, seed=1)
    head = hub.store.find("models", shared).head().sha
    with refused(rf"you must use a write token.* make one that may write at {hub.endpoint}/settings/tokens"):
        push(model, shared, token=READ)
    with refused("don't have the rights"):
        push(model, shared, token=OTHER)
    with refused("no token was given, or one that is not valid .* log in with `hf auth login`, or pass token="):
        push(model, shared, token=False)
    for token, match in ((READ, "write token"), (OTHER, "rights"), (False, "no token was given")):
        with refused(match):
            push(model, "alice/new", token=token)
    assert hub.store.find("models", "alice/new") is None
    assert hub.store.find("models", shared).head().sha == head
    assert not hub.seen("PUT")


def test_no_token_where_one_was_promised(hub, shared, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with refused("token=True, but there is none here; log in"):
        fetch(shared, token=True)


# -- a Hub that is out of order


@pytest.mark.parametrize(
    ("method", "path", "waited"),
    [
        ("HEAD", "config.json", []),
        ("POST", "/preupload/", [1]),
        ("POST", "objects/batch", [1]),
        ("PUT", "", [1]),
    ],
)
def test_what_is_tried_again_after_a_500(hub, shared, model, waits, method, path, waited):
    hub.faults.append(Fault(method, path, "status"))
    write_model(model, seed=1)
    done = push(model, shared)
    assert is_whole(fetch(shared, revision=done.oid), model)
    assert hub.faults[0].times == 0
    assert waits == waited


@pytest.mark.parametrize("path", ["/api/models/alice/model$", WEIGHTS, "/resolve/.*config"])
def test_fetching_after_a_500_that_is_not_tried_again(hub, shared, model, path):
    hub.faults.append(Fault("GET", path, "status", status=503))
    with refused(r"the Hub \(http.*\) is out of order at the moment \(status 503\); try again later"):
        fetch(shared, revision=None)
    assert is_whole(fetch(shared), model)


@pytest.mark.parametrize("path", ["/commit/", "/api/repos/create", "/validate-yaml", "/api/models/alice/new$"])
@pytest.mark.parametrize("kind", ["status", "drop"])
def test_pushing_where_nothing_is_half_done(hub, model, path, kind):
    hub.faults.append(Fault("", path, kind))
    with refused("is out of order|gave no answer"):
        push(model, "alice/new")
    repository = hub.store.find("models", "alice/new")
    assert repository is None or len(repository.commits) == 1
    uploads = len(hub.seen("PUT"))
    done = push(model, "alice/new")
    assert len(hub.store.find("models", "alice/new").commits) == 2
    assert is_whole(fetch("alice/new", revision=done.oid), model)
    assert len(hub.seen("PUT")) == 1  # weights that arrived before the fault are not sent again
    assert uploads == (path == "/commit/")


def test_a_commit_whose_answer_is_lost(hub, shared, model):
    write_model(model, seed=1)
    hub.faults.append(Fault("POST", "/commit/", "lost"))
    with refused("gave no answer .* what was done stays done"):
        push(model, shared)
    head = hub.store.find("models", shared).head()
    assert push(model, shared) == (f"{hub.endpoint}/alice/model/commit/{head.sha}", head.sha, (), None)


def test_something_else_answers(hub, shared):
    hub.faults.append(Fault("GET", "", "status", status=200, body=b"<html>Log in to the guest network</html>"))
    with refused(f"what answered at {hub.endpoint} is no Hub: a proxy or login page, or a wrong HF_ENDPOINT"):
        fetch(shared)


@pytest.mark.parametrize(("status", "match"), [(429, "too many requests"), (418, "refused with status 418")])
def test_other_refusals(hub, shared, status, match):
    hub.faults.append(Fault("GET", "", "status", status=status))
    with refused(match):
        fetch(shared)


def test_a_hub_that_takes_for_ever(hub, shared, model, monkeypatch):
    monkeypatch.setattr("cxr_estimator.hub._remote._PATIENCE", 0.2)
    stalled = Fault("GET", "/api/models/", "stall", at=0, times=-1)
    hub.faults.append(stalled)
    for function in (lambda: fetch(shared), lambda: push(model, shared), lambda: differences(model, shared)):
        with refused(r"gave no answer \(ReadTimeout"):
            function()
    stalled.go_on.set()


def test_an_upload_that_is_refused(hub, shared, model):
    write_model(model, seed=1)
    hub.faults.append(Fault("PUT", "", "status", status=403))
    with refused(r"Error while uploading 'model\.safetensors' to the Hub"):
        push(model, shared)
    assert not hub.seen("POST", "/commit/")


def test_secrets_in_the_words_of_a_hub_are_not_repeated(hub, shared):
    said = f"Bearer {WRITE} may not: see https://storage.example/key?X-Signature=abc, {READ}"
    hub.faults.append(Fault("GET", "", "status", status=418, body=json.dumps({"error": said}).encode()))
    with pytest.raises(HubError, match=r"Bearer \*\*\* may not: see https://storage\.example/key hf_\*\*\*") as caught:
        fetch(shared)
    assert "abc" not in str(caught.value)


def test_two_pushes_at_the_same_time(hub, shared, model):
    write_model(model, seed=1)
    stalled = Fault("POST", "/preupload/", "stall", at=0)
    hub.faults.append(stalled)
    errors: list[BaseException] = []

    def first():
        with refused("somebody else pushed at the same time, so nothing was changed") as caught:
            push(model, shared)
        errors.append(caught.value)

    thread = threading.Thread(target=first)
    thread.start()
    assert stalled.reached.wait(30)
    theirs = hub.store.put("models", shared, {"README.md": b"theirs"})
    stalled.go_on.set()
    thread.join(30)
    assert errors
    assert hub.store.find("models", shared).head() == theirs
    (commit,) = hub.seen("POST", "/commit/")
    assert theirs.parent.encode() in commit.body  # the head that the push had seen


# -- no Hub


def test_server_gone_with_a_warm_cache(hub, shared, model, waits):
    folder = fetch(shared)
    with hub.down():
        with pytest.warns(
            HubWarning, match=rf"gave no answer; the model is that of the cache \(commit {folder.name}\)"
        ):
            assert fetch(shared) == folder
        assert fetch(shared, revision=folder.name) == folder  # a whole commit id needs nobody
        assert fetch(shared, local_files_only=True) == folder
    assert waits == []
    hub.faults.append(Fault("GET", "", "status", status=502))
    with pytest.warns(HubWarning):
        assert fetch(shared) == folder
    assert is_whole(folder, model)


def test_server_gone_with_nothing_cached(hub, shared, model, waits):
    with hub.down():
        with refused(r"nothing of revision 'main' is in the cache\. the Hub .* gave no answer \(ConnectError"):
            fetch(shared)
        with refused("gave no answer"):
            fetch(shared, revision="0" * 40)
        with refused("gave no answer"):
            push(model, shared)
        with refused("gave no answer"):
            differences(model, shared)
        with refused(r"nothing of revision 'main' is in the cache\. Call once without local_files_only"):
            fetch(shared, local_files_only=True)


def test_offline_mode(hub, shared, monkeypatch):
    folder = fetch(shared)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert fetch(shared) == folder  # as the user wished, so without a warning
    with refused("nothing of revision 'v1' is in the cache. HF_HUB_OFFLINE is set"):
        fetch(shared, revision="v1")
    assert not hub.requests


FETCH = "from cxr_estimator.hub import fetch; print(fetch('alice/model'))"


def test_eight_processes_of_which_one_is_killed(hub, shared, model, tmp_path):
    stalled = Fault("GET", WEIGHTS, "stall", at=7000)
    hub.faults.append(stalled)
    cache = tmp_path / "shared_cache"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH],
            env={**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_USER_AGENT_ORIGIN": f"process-{n}."},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(8)
    ]
    try:
        assert stalled.reached.wait(60)  # one of them downloads, under a lock that the others wait for
        agent = hub.seen("GET", WEIGHTS)[0].headers["user-agent"]
        (killed,) = (process for n, process in enumerate(processes) if f"process-{n}." in agent)
        os.kill(killed.pid, signal.SIGKILL)
        said = [process.communicate(timeout=60) for process in processes]
    finally:
        stalled.go_on.set()
        for process in processes:
            process.kill()
            process.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert [one.returncode for one in processes if one is not killed] == 7 * [0], said
    (folder,) = {Path(out.strip()) for out, _ in said if out}
    assert is_whole(folder, model)
    assert discard_damaged(folder) == []
    assert len(hub.seen("GET", WEIGHTS)) == 2  # of the one that was killed, and of one for all others
    assert fetch(shared, cache_dir=cache, local_files_only=True) == folder
