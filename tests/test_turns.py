"""The lock whose holder can let others go first."""

from __future__ import annotations

import threading
import time

import pytest

from cxr_estimator._turns import Turns


def wait_until(is_so):
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_threads_hold_it_in_the_order_in_which_they_came():
    turns, order, threads = Turns(), [], []

    def note(number):
        with turns:
            order.append(number)

    with turns:
        for number in range(5):
            threads.append(threading.Thread(target=note, args=(number,)))
            threads[-1].start()
            wait_until(lambda number=number: len(turns._queue) == number + 2)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_all_who_wait_go_first_where_the_holder_gives_way_and_it_still_holds_as_often():
    turns, order = Turns(), []

    def note(number):
        with turns, turns:
            order.append(number)

    with turns:
        with turns:
            threads = [threading.Thread(target=note, args=(number,)) for number in range(2)]
            for thread in threads:
                thread.start()
            wait_until(lambda: len(turns._queue) == 3)
            turns.give_way()
            assert sorted(order) == [0, 1]
        late = threading.Thread(target=note, args=(2,))
        late.start()
        wait_until(lambda: len(turns._queue) == 2)
        assert len(order) == 2  # the outer block holds it still
    for thread in (*threads, late):
        thread.join()
    assert sorted(order) == [0, 1, 2]


def test_to_give_way_does_nothing_for_a_thread_that_does_not_hold_it():
    turns = Turns()
    turns.give_way()
    with turns:
        thread = threading.Thread(target=turns.give_way)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()


def test_an_error_within_sets_it_free():
    turns = Turns()
    with pytest.raises(KeyError), turns:
        raise KeyError
    assert not turns._queue


def test_an_interrupt_while_waiting_holds_nobody_up(monkeypatch):
    turns = Turns()

    def interrupted(*args):
        raise KeyboardInterrupt

    def attempt():
        with pytest.raises(KeyboardInterrupt), turns:
            raise AssertionError("it was held by another thread")

    with turns, monkeypatch.context() as patch:
        patch.setattr(turns._condition, "wait_for", interrupted)
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join(20)
        assert len(turns._queue) == 1
    with turns:
        assert turns._depth == 1


def test_an_interrupt_while_giving_way_comes_when_it_is_held_again(monkeypatch):
    turns, calls = Turns(), []
    real = turns._condition.wait_for

    def once(condition):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(condition)

    def other():
        with turns:
            pass

    with turns:
        thread = threading.Thread(target=other)
        thread.start()
        wait_until(lambda: len(turns._queue) == 2)
        monkeypatch.setattr(turns._condition, "wait_for", once)
        with pytest.raises(KeyboardInterrupt):
            turns.give_way()
        assert turns._queue[0] == threading.get_ident()
    thread.join(20)
    assert not turns._queue
