"""The one folder that holds what visitors upload and get, for as long as the app says and for nobody else."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import math
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from cxr_estimator.errors import DataError

_LOOK_EVERY = 60.0  # seconds
_COUNT_EVERY = 10.0  # seconds
_LEAST = 1 << 16  # bytes that a file counts for, so that there are not millions of tiny ones
_SPARE = 1 << 26  # bytes of the disk that uploads leave free
_UNKNOWN = "This is no file that was uploaded here. Upload it first; addresses and paths elsewhere are not read."


@functools.cache
def private_folder() -> Path:
    """Return a new folder of this process, which no other user of the machine can read, and make gradio use it.

    It lies in GRADIO_TEMP_DIR, or where temporary files are, and is deleted when the process ends.
    """
    place = os.environ.get("GRADIO_TEMP_DIR") or None
    try:
        folder = Path(tempfile.mkdtemp(prefix="cxr_demo_", dir=place)).resolve()
    except OSError as error:
        where = place or "The place of temporary files"
        told = f"{where}: uploads cannot be kept there ({error.strerror}); set GRADIO_TEMP_DIR to another folder."
        raise DataError(told) from error
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # where gradio looks whenever it makes a component or takes an upload
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def new_file(name: str) -> Path:
    """Return where to write a file called `name`, in a folder of its own that nobody can guess."""
    folder = private_folder() / uuid.uuid4().hex
    folder.mkdir()
    return folder / name


def uploaded(path: Any) -> Path:
    """Return the path of a file that was uploaded, though it may have been deleted since.

    Raises
    ------
    DataError
        It does not lie in the private folder, wherever else there may be such a file.
    """
    if not isinstance(path, str) or "\0" in path or not os.path.isabs(path):
        raise DataError(_UNKNOWN)
    try:
        found = Path(path).resolve()
        if private_folder() in found.parents and not found.is_dir():
            return found
    except OSError:  # a name that is too long
        raise DataError(_UNKNOWN) from None
    raise DataError(_UNKNOWN)


class Store:
    """How much the private folder holds, so that visitors cannot fill the disk.

    Parameters
    ----------
    most : int
        Bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._counted = -math.inf

    def count(self) -> None:
        """Count what there is, if that was not done just now."""
        if time.monotonic() - self._counted < _COUNT_EVERY:
            return
        folder, held = private_folder(), 0
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):  # it has been deleted meanwhile
                held += max(path.lstat().st_size, _LEAST)
        self._held = max(held, self._most * (shutil.disk_usage(folder).free < _SPARE))
        self._counted = time.monotonic()

    def check(self, n_bytes: int) -> None:
        """Raise where there is no room for so many more."""
        if self._held + n_bytes > self._most:
            raise DataError("This app holds as many files as it may; they are deleted after a while. Try again later.")

    def take(self, n_bytes: int) -> None:
        """Count what arrives, or raise."""
        self.check(n_bytes)
        self._held += n_bytes


def sweep(folder: Path, keep_seconds: float) -> None:
    """Delete all files that are older than that, and folders that are empty since."""
    limit = time.time() - keep_seconds
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        with contextlib.suppress(OSError):  # somebody else was quicker, or the folder is not empty
            if path.lstat().st_mtime < limit:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def sweeping(keep_seconds: float) -> Callable[[Any], contextlib.AbstractAsyncContextManager[None]]:
    """Return a lifespan in which the private folder is swept again and again."""

    async def again() -> None:
        while True:
            await asyncio.sleep(min(_LOOK_EVERY, keep_seconds))
            await asyncio.to_thread(sweep, private_folder(), keep_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(again())
        try:
            yield
        finally:
            task.cancel()

    return lifespan
