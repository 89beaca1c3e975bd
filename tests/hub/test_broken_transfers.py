"""What a network, a cache or other processes can do to a download: clear errors, and a cache that stays sound."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cxr_estimator.checksums import SUMS_NAME
from cxr_estimator.errors import HubWarning, ModelFolderError
from cxr_estimator.hub import differences, discard_damaged, fetch, push
from tests.hub import Fault
from tests.hub.folders import WEIGHTS, is_whole, names, refused


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
        with refused(r"nothing of revision 'main' is in the cache\. The Hub .* gave no answer \(ConnectError"):
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
