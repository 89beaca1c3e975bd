"""Errors become messages: ours as they are, others without what the visitor sent."""

from __future__ import annotations

import logging

import pytest

gr = pytest.importorskip("gradio")

from cxr_estimator.demo._shared import told
from cxr_estimator.errors import DataError, ImageError


def raising(error):
    def plain():
        """Say why."""
        raise error

    def generator():
        yield 1
        raise error

    return told(plain), lambda: list(told(generator)())


@pytest.mark.parametrize("kind", [0, 1])
def test_our_errors_are_shown_as_they_are(kind, caplog):
    with pytest.raises(gr.Error) as caught:
        raising(ImageError("X[0]", "too dark."))[kind]()
    assert caught.value.message == "X[0]: too dark."
    assert not caught.value.print_exception
    assert caught.value.__suppress_context__
    assert not caplog.records


@pytest.mark.parametrize("kind", [0, 1])
def test_others_are_noted_by_kind_and_place_alone(kind, caplog):
    with caplog.at_level(logging.INFO), pytest.raises(gr.Error) as caught:
        raising(RuntimeError("patient Jane Doe in /srv/uploads/1.dcm"))[kind]()
    assert caught.value.message.startswith("Something went wrong here that should not.")
    (record,) = caplog.records
    assert "unforeseen RuntimeError at tests.demo.test_shared:" in record.getMessage()
    assert record.exc_info is None
    assert not any(text in record.getMessage() + str(caught.value) for text in ("Jane", "/srv"))


def test_messages_of_pages_and_results_pass():
    with pytest.raises(gr.Error, match="mine"):
        raising(gr.Error("mine"))[0]()
    assert told(lambda a, *, b: (a, b))(1, b=2) == (1, 2)


def test_generators_pass_what_they_yield_and_end_when_closed():
    ended = []

    def generator():
        try:
            yield from (1, 2, 3)
        finally:
            ended.append(True)

    running = told(generator)()
    assert next(running) == 1
    running.close()
    assert ended == [True]
    assert list(told(generator)()) == [1, 2, 3]


def test_what_gradio_reads_of_a_function_stays():
    function = raising(ValueError())[0]
    assert function.__name__ == "plain"
    assert function.__doc__ == "Say why."


def test_a_message_holds_no_tag():
    @told
    def fails():
        raise DataError("Must be < 1 and > 0. Got '<img src=x>' of <b>x</b><!-- -->.")

    with pytest.raises(gr.Error) as caught:
        fails()
    assert caught.value.message == "Must be < 1 and > 0. Got '< img src=x>' of < b>x< /b>< !-- -->."
