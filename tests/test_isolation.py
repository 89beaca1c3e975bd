"""Child processes with limits: whatever happens in one, the caller gets an array or an error; nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cxr_estimator import _isolation
from cxr_estimator._isolation import Pool
from cxr_estimator.errors import DecoderError, ImageError
from tests.dicom_files import dicom

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pool():
    """A pool that the tests share; a child of it may be lost."""
    pool = Pool("tests.decoders:call")
    yield pool
    pool.close()


def child_of(pool):
    return int(pool.run(b"", name="pid")[0])


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_arrays_come_through(pool, dtype):
    for shape in ((1,), (3, 5), (1000, 700, 3)):
        array = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
        found = pool.run(array.tobytes(), name="echo", dtype=dtype, shape=shape)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
        assert found.flags.writeable


def test_a_refusal_keeps_its_reason_and_the_child(pool):
    pid = child_of(pool)
    with pytest.raises(ImageError) as caught:
        pool.run(b"", name="refuse")
    assert caught.value.reason == "this is no picture of a cat."
    assert child_of(pool) == pid


@pytest.mark.parametrize(
    ("what", "limits", "reason"),
    [
        ("crash", {}, "its decoder crashed"),
        ("fail", {}, "its decoder crashed"),
        ("unknown_type", {}, "its decoder crashed"),
        ("sleep", {"_wall_seconds": 0.2}, r"takes longer than 0\.2 seconds"),
        ("spin", {"_cpu_seconds": 0}, "takes more than 0 seconds of processor time"),
    ],
)
def test_a_lost_child_costs_one_file(pool, monkeypatch, what, limits, reason):
    pid = child_of(pool)
    with monkeypatch.context() as patch:
        for name, seconds in limits.items():  # only now, because a child may take a while to start
            patch.setattr(pool, name, seconds)
        with pytest.raises(ImageError, match=reason):
            pool.run(b"", name=what)
    assert not is_alive(pid)
    assert child_of(pool) != pid


def test_a_stopped_child_meets_the_time_limit(pool, monkeypatch):
    pid = child_of(pool)
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(pool, "_wall_seconds", 0.2)
    with pytest.raises(ImageError, match=r"takes longer than 0\.2 seconds"):
        pool.run(b"", name="pid")
    assert not is_alive(pid)


def test_a_slow_start_is_not_blamed_on_the_file(monkeypatch):
    monkeypatch.setattr(_isolation, "_START_SECONDS", 0.0)
    slow = _isolation.Pool("cxr_estimator.images:decode_content", wall_seconds=0.01)
    with pytest.raises(DecoderError, match="cannot be started"):
        slow.run(b"x")


def test_memory_has_a_limit(pool):
    pid = child_of(pool)
    assert pool.run(b"100000000", name="hog").size == 100_000_000
    with pytest.raises(ImageError, match="needs more memory than the limit of 2,048 MiB"):
        pool.run(b"3000000000", name="hog")
    assert child_of(pool) == pid


def test_a_child_that_dies_while_idle_costs_nothing(pool):
    pid = child_of(pool)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    assert child_of(pool) != pid


def test_interrupts_of_the_terminal_are_for_the_parent(pool):
    pid = child_of(pool)
    os.kill(pid, signal.SIGINT)
    assert child_of(pool) == pid


def test_an_interrupt_leaves_no_half_finished_conversation(pool, monkeypatch):
    pid = child_of(pool)
    with monkeypatch.context() as patch:
        patch.setattr(_isolation, "_receive", lambda pipe: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            pool.run(b"", name="pid")
    assert not is_alive(pid)
    assert child_of(pool) != pid


def test_what_a_library_prints_does_not_garble_the_answer(pool, capfd):
    assert pool.run(b"abc", name="talk").tobytes() == b"abc"
    assert capfd.readouterr() == ("", "")


def test_secrets_stay_in_the_parent(pool, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    names = pool.run(b"", name="environment").tobytes().decode()
    assert "PATH" in names
    assert "HF_TOKEN" not in names


def test_each_busy_thread_has_a_child_and_few_stay(pool):
    with ThreadPoolExecutor(4) as threads:
        pids = {int(answer[0]) for answer in threads.map(lambda i: pool.run(b"", name="pid"), range(12))}
    assert 2 <= len(pids) <= 4
    assert len([pid for pid in pids if is_alive(pid)]) <= (os.cpu_count() or 1)
    assert child_of(pool) in pids


def test_threads_get_their_own_answers(pool):
    texts = [bytes([i]) * (100_000 + i) for i in range(40)]
    with ThreadPoolExecutor(3) as threads:
        assert [answer.tobytes() for answer in threads.map(lambda text: pool.run(text, name="echo"), texts)] == texts


def test_nothing_stays_behind(pool):
    pool.close()  # children that other tests left
    child_of(pool)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        with pytest.raises(ImageError):
            pool.run(b"", name="crash")
    pid = child_of(pool)
    assert len(os.listdir("/proc/self/fd")) == before
    pool.close()
    assert not Path(f"/proc/{pid}").exists(), "a zombie, or still running"
    assert len(os.listdir("/proc/self/fd")) == before - 2
    assert child_of(pool) != pid


def test_where_no_child_can_start_the_file_is_not_blamed(monkeypatch):
    with pytest.raises(DecoderError, match="cannot be started"):
        Pool("tests.decoders:no_such_function").run(b"")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(DecoderError, match="cannot be started"):
        Pool("tests.decoders:call").run(b"")


# -- in processes of their own ----------------------------------------------------------------------------------------


def start(code, *arguments, cwd=ROOT):
    """Start Python code, with the package and the tests on its path."""
    code = f"import sys; sys.path.insert(0, {os.fspath(ROOT)!r})\n{code}"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=cwd)


def test_children_end_when_the_parent_is_killed():
    parent = start(
        "from tests.test_isolation import Pool, child_of\nimport time\n"
        "print(child_of(Pool('tests.decoders:call')), flush=True); time.sleep(60)"
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    wait_until(lambda: not is_alive(pid))


FORK = """
import os
from tests.test_isolation import Pool, child_of
pool = Pool("tests.decoders:call")
first = child_of(pool)
pipes = [pipe.fileno() for child in pool._children for pipe in (child.process.stdin, child.process.stdout)]
ends = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in pipes}
if os.fork() == 0:
    open_ends = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
                 and os.path.exists(f"/proc/self/fd/{fd}")]
    print("fork", child_of(pool) != first, set(open_ends).isdisjoint(ends.values()), flush=True)
    os._exit(0)
os.wait()
print("parent", child_of(pool) == first)
"""


def test_a_forked_process_has_children_of_its_own():
    with start(FORK) as parent:
        said = parent.stdout.read().splitlines()
    assert said == ["fork True True", "parent True"]


def test_the_current_folder_is_not_on_the_path(tmp_path):
    for name in ("pydicom", "pylibjpeg", "openjpeg", "cxr_estimator"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "a.dcm").write_bytes(dicom(np.full((40, 40), 7, dtype=np.uint8)))
    code = "from cxr_estimator.images import as_images; print(as_images(['a.dcm'])[0].pixels.sum())"
    with start(code, cwd=tmp_path) as parent:
        assert parent.stdout.read() == "11200\n"  # 7 * 1600


def test_the_child_loads_little():
    """Fast to start: no torch, no scikit-learn; pydicom only for DICOM."""
    code = (
        "import sys, cxr_estimator.images; print(sorted(sys.modules.keys() & {'torch', 'sklearn', 'pydicom', 'scipy'}))"
    )
    with start(code) as process:
        assert process.stdout.read() == "[]\n"
