"""Work that is watched and stopped: its thread always ends."""

from __future__ import annotations

import threading

import pytest

from cxr_estimator.demo import _background
from cxr_estimator.demo._background import Background, Stopped, finished


def threads():
    return set(threading.enumerate())


def test_shares_and_result():
    told, seen = threading.Event(), threading.Event()

    def work(progress):
        progress(1, 4)
        told.set()
        assert seen.wait(20)
        progress(9, 4)  # rounding may go beyond
        return "done"

    with Background(work) as running:
        assert told.wait(20)
        shares = running.shares(every=0.001)
        assert next(shares) == 0.25
        seen.set()
        assert set(shares) <= {0.25, 1.0}
    assert running.result() == "done"


def test_nothing_to_do_is_all_done():
    with Background(lambda progress: progress(0, 0)) as running:
        assert list(running) == []
    assert running._share == 1.0


def test_an_error_is_raised_where_the_result_is_asked_for():
    def work(progress):
        raise KeyError("lost")

    with Background(work) as running:
        assert list(running) == []
        with pytest.raises(KeyError, match="lost"):
            running.result()


def test_whoever_leaves_stops_it_and_its_thread_ends():
    before, began, ended = threads(), threading.Event(), []

    def work(progress):
        try:
            while True:
                progress(1, 2)
                began.set()
        except Stopped:
            ended.append("stopped")
            raise

    running = Background(work)
    with running:
        assert began.wait(20)
    assert ended == ["stopped"]
    assert threads() == before
    with pytest.raises(Stopped):
        running.result()


def test_a_generator_that_is_closed_stops_it():
    before, began = threads(), threading.Event()

    def work(progress):
        while True:
            progress(1, 2)
            began.set()

    def page():
        with Background(work) as running:
            yield from running.shares(every=0.001)

    shown = page()
    next(shown)
    assert began.wait(20)
    (thread,) = threads() - before
    shown.close()
    thread.join(20)  # closing does not wait for it: gradio closes in its event loop
    assert not thread.is_alive()


def test_an_error_of_the_one_who_watches_stops_it_and_is_not_hidden():
    before = threads()

    def work(progress):
        while True:
            progress(1, 2)

    with pytest.raises(ZeroDivisionError), Background(work):
        _ = 1 / 0
    assert threads() == before


def test_work_without_end_is_ended(monkeypatch):
    monkeypatch.setattr(_background, "LONGEST", 0.05)
    before = threads()

    def work(progress):
        while True:
            progress(1, 2)

    with Background(work) as running:
        assert set(running.shares(every=0.001)) <= {0.0, 0.5}
        with pytest.raises(Stopped, match="the most for one visitor"):
            running.result()
    assert threads() == before


def test_work_that_nobody_watches_ends_as_well(monkeypatch):
    assert finished(lambda progress: progress(1, 1) or 42) == 42
    with pytest.raises(ZeroDivisionError):
        finished(lambda progress: 1 / 0)
    monkeypatch.setattr(_background, "LONGEST", 0.05)

    def work(progress):
        while True:
            progress(1, 2)

    with pytest.raises(Stopped, match="the most for one visitor"):
        finished(work)


def test_stopped_before_it_began():
    called = []
    running = Background(called.append)
    running._stop.set()
    with pytest.raises(Stopped):
        running._tell(0, 1)
    assert called == []
