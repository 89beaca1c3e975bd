"""Work on untrusted bytes in child processes with limits: what kills a decoder kills only a child.

`Pool.run` sends bytes to a child and gets an array back; each busy thread has a child of its own, and children are
reused. Both sides speak frames over pipes: two lengths, a JSON header, raw bytes. Nothing is pickled. A child says
nothing on its own: its standard error is discarded, and its messages are the reasons of ImageErrors.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from io import BufferedReader, RawIOBase
from pkgutil import resolve_name
from typing import Any, cast

import numpy as np

from cxr_estimator.errors import DecoderError, ImageError

try:
    import resource
except ImportError:  # Windows: there the time limit alone holds
    resource = None  # type: ignore[assignment]

_LENGTHS = struct.Struct(">IQ")  # of the JSON header, of the bytes after it
_START_SECONDS = 60.0  # for Python and its imports, however slow the disk is
_MAX_HEADER, _MAX_CONTENT = 1 << 16, 1 << 30
_DTYPES = {"uint8": np.uint8, "uint16": np.uint16, "int32": np.int32, "float32": np.float32}
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = sys.argv[2:]; from cxr_estimator._isolation import serve;"
    "serve(**json.loads(sys.argv[1]))"
)
# No secrets, and one thread: each thread of a BLAS would reserve memory that counts against the limit.
_KEPT = ("PATH", "HOME", "USERPROFILE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")
_SET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """Child processes that run one function, which takes bytes and JSON options and returns an array.

    Parameters
    ----------
    function : str
        "module:name" of a function `(content: bytes, **options) -> ndarray` that raises ImageError.
    memory : int, default=2 GiB
        Bytes of address space per child.
    cpu_seconds : float, default=5
        Processor time for one call, with one second more for every megabyte of `content`: JPEG 2000 is that slow.
    wall_seconds : float, default=30
        Time by the clock for one call; the last resort, and the only limit on Windows.
    """

    def __init__(
        self, function: str, *, memory: int = 2 << 30, cpu_seconds: float = 5, wall_seconds: float = 30
    ) -> None:
        self._settings = {"function": function, "memory": memory}
        self._wall_seconds = wall_seconds
        self._cpu_seconds = cpu_seconds
        self._start_afresh()
        _pools.add(self)

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()

    def run(self, content: bytes, **options: Any) -> np.ndarray:
        """Return what the function makes of `content`.

        Raises
        ------
        ImageError
            The function refused (its source is ""), or it crashed or exceeded a limit.
        DecoderError
            No child can be started.
        """
        seconds = self._cpu_seconds + len(content) / 1e6
        child = self._take()
        timer = threading.Timer(self._wall_seconds + (0 if child.is_ready else _START_SECONDS), child.stop_late)
        timer.daemon = True
        try:
            timer.start()
            answer = child.ask(content, {"cpu_seconds": seconds, "options": options})
        except (OSError, EOFError, ValueError):  # it died, or what it says makes no sense
            self._discard(child)
            raise self._why(child, seconds) from None
        except BaseException:  # an interrupt: the conversation stands half-way
            self._discard(child)
            raise
        finally:
            timer.cancel()
        self._give_back(child)
        if isinstance(answer, str):
            raise ImageError("", answer)
        return answer

    def close(self) -> None:
        """End all children; the next `run` starts new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
            busy = self._children.difference(idle)
        for child in idle:
            self._discard(child)
        for child in busy:  # its thread will notice, and clear up
            child.process.kill()

    def _take(self) -> _Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.process.poll() is None:
                    return child
                self._children.discard(child)
                child.end()
        child = _Child(self._settings)
        with self._lock:
            self._children.add(child)
        return child

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            keep = not child.is_late and len(self._idle) < (os.cpu_count() or 1)
            if keep:
                self._idle.append(child)
        if not keep:
            self._discard(child)

    def _discard(self, child: _Child) -> None:
        with self._lock:
            self._children.discard(child)
        child.end()

    def _why(self, child: _Child, seconds: float) -> Exception:
        if not child.is_ready:  # however slow the machine is, the file is not to blame
            return DecoderError(
                "The process that decodes images cannot be started. "
                f"Does this work: {sys.executable} -c 'import numpy, PIL, pydicom'?"
            )
        if child.is_late:
            return ImageError("", f"decoding it takes longer than {self._wall_seconds:g} seconds.")
        if child.process.returncode == -getattr(signal, "SIGXCPU", 0):
            return ImageError("", f"decoding it takes more than {seconds:.0f} seconds of processor time.")
        return ImageError("", "its decoder crashed: the file is damaged, or made to do harm.")

    def forget(self) -> None:
        """In a forked process: the children belong to the parent, and their pipes must not be held open here."""
        for child in self._children:
            child.abandon()
        self._start_afresh()


class _Child:
    """The parent's end of one child process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.is_ready = self.is_late = False
        # -I: nothing of the environment, of the user's site or of the current folder gets onto the path. The parent's
        # own path follows, so that the child finds the same packages.
        path = [entry for entry in sys.path if os.path.isabs(entry)]
        if _ROOT not in path:
            path.insert(0, _ROOT)
        try:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-c", _BOOTSTRAP, json.dumps(settings), *path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # a buffer could be flushed a second time by a forked process
                cwd=os.sep,
                env={**{name: os.environ[name] for name in _KEPT if name in os.environ}, **_SET},
            )
        except OSError as error:
            raise DecoderError(f"The process that decodes images cannot be started ({error}).") from error
        self._requests, self._answers = cast(RawIOBase, self.process.stdin), cast(RawIOBase, self.process.stdout)

    def ask(self, content: bytes, request: dict[str, Any]) -> np.ndarray | str:
        """Return the array, or the reason why there is none; ValueError for an answer that makes no sense."""
        if not self.is_ready:
            _receive(self._answers)
            self.is_ready = True
        _send(self._requests, request, content)
        header, length = _receive(self._answers)
        try:
            if "reason" in header:
                return str(header["reason"])
            dtype, shape = np.dtype(_DTYPES[header["dtype"]]), [int(side) for side in header["shape"]]
        except (KeyError, TypeError) as error:
            raise ValueError("no such answer is known") from error
        if min(shape) < 1 or math.prod(shape) * dtype.itemsize != length:
            raise ValueError("the answer has another length than it says")
        array = np.empty(shape, dtype=dtype)
        _fill(self._answers, array.data.cast("B"))
        return array

    def stop_late(self) -> None:
        """Kill the child, because its time is over."""
        self.is_late = True
        self.process.kill()

    def end(self) -> None:
        """Kill the child if it still runs, and clear up after it."""
        self.process.kill()
        self._close_pipes()
        self.process.wait()

    def abandon(self) -> None:
        """Let go of a child of another process."""
        self._close_pipes()
        self.process.returncode = 0  # nobody waits for it here

    def _close_pipes(self) -> None:
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()


def serve(function: str, memory: int) -> None:
    """Answer requests until the parent closes the pipe, or ends in whatever way; the child's main function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    logging.disable()
    warnings.simplefilter("ignore")
    requests, answers = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library that prints would garble the answers
    work = resolve_name(function)
    _limit("RLIMIT_CORE", 0)  # a dump would hold the patient's data
    _limit("RLIMIT_AS", memory)
    _send(answers, {"ready": True}, b"")
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            request, length = _receive(requests)
            content = requests.read(length)
            _limit("RLIMIT_CPU", math.ceil(time.process_time() + request["cpu_seconds"]))
            _send(answers, *_answer(work, content, request["options"], memory))


def _answer(
    work: Callable[..., np.ndarray], content: bytes, options: dict[str, Any], memory: int
) -> tuple[dict[str, Any], bytes | memoryview]:
    try:
        array = np.ascontiguousarray(work(content, **options))
        names = {dtype: name for name, dtype in _DTYPES.items()}
        return {"dtype": names[array.dtype.type], "shape": array.shape}, array.data.cast("B")
    except ImageError as error:
        return {"reason": error.reason}, b""
    except MemoryError:
        return {"reason": f"decoding it needs more memory than the limit of {memory >> 20:,} MiB."}, b""


def _limit(name: str, value: int) -> None:
    """Set a soft limit of this process, where the system has it."""
    if resource is not None and hasattr(resource, name):
        with contextlib.suppress(OSError, ValueError):  # macOS knows RLIMIT_AS but refuses it
            hard = resource.getrlimit(getattr(resource, name))[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(getattr(resource, name), (value, hard))


def _send(pipe: RawIOBase, header: dict[str, Any], content: bytes | memoryview) -> None:
    encoded = json.dumps(header).encode()
    for part in (_LENGTHS.pack(len(encoded), len(content)) + encoded, content):
        rest = memoryview(part)
        while rest:
            rest = rest[pipe.write(rest) or 0 :]


def _receive(pipe: RawIOBase | BufferedReader) -> tuple[dict[str, Any], int]:
    """Return a header, and the length of what follows it."""
    lengths = bytearray(_LENGTHS.size)
    _fill(pipe, memoryview(lengths))
    header_length, length = _LENGTHS.unpack(lengths)
    if header_length > _MAX_HEADER or length > _MAX_CONTENT:
        raise ValueError("a frame is too long")
    encoded = bytearray(header_length)
    _fill(pipe, memoryview(encoded))
    return json.loads(encoded), length


def _fill(pipe: RawIOBase | BufferedReader, rest: memoryview) -> None:
    while rest:
        count = pipe.readinto(rest)
        if not count:
            raise EOFError
        rest = rest[count:]


def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
