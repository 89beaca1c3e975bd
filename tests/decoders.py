"""Stand-ins for a decoder, which tests/test_isolation.py has run in child processes."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from cxr_estimator.errors import ImageError


def echo(content, dtype="uint8", shape=(-1,)):
    return np.frombuffer(content, dtype).reshape(shape)


def pid(content):
    time.sleep(0.05)
    return np.array([os.getpid()], dtype=np.int32)


def refuse(content):
    raise ImageError("", "this is no picture of a cat.")


def fail(content):
    raise ValueError(content)


def unknown_type(content):
    return np.zeros(3)


def crash(content):
    os.kill(os.getpid(), signal.SIGSEGV)


def sleep(content):
    time.sleep(100)


def spin(content):
    while True:
        pass


def hog(content):
    return np.zeros(int(content), dtype=np.uint8)


def talk(content):
    os.write(1, b"garbage on standard output")
    os.write(2, b"garbage on standard error")
    print("and more", flush=True)
    return echo(content)


def environment(content):
    return echo(repr(sorted(os.environ)).encode())


def call(content, name, **options):
    """Do what `name` says."""
    return globals()[name](content, **options)
