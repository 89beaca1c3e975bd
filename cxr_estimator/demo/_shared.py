"""What all pages are given, and how they turn errors into messages."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import gradio as gr

from cxr_estimator.demo._models import Models
from cxr_estimator.demo._settings import Settings
from cxr_estimator.errors import CXRError

_Function = TypeVar("_Function", bound=Callable[..., Any])
_TAG = re.compile("<(?=[A-Za-z/!?])")  # begins what could be a tag; other signs stay, since programs read messages, too
_log = logging.getLogger(__name__)
MODEL_QUEUE = "model"  # the line in which everything waits that computes


class App(NamedTuple):
    """What all pages share."""

    settings: Settings
    models: Models


def computing(app: App) -> dict[str, Any]:
    """Return the options of an event of a page that computes."""
    at_once = app.settings.at_once
    return {"concurrency_id": MODEL_QUEUE, "concurrency_limit": at_once, "api_visibility": "private"}


def told(function: _Function) -> _Function:
    """Turn our errors into messages for visitors; others are logged without what the visitor sent, and told briefly."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            try:
                yield from function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - the last resort of a server for people
                raise _message(error) from None

    else:

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - the last resort of a server for people
                raise _message(error) from None

    return wrapped  # type: ignore[return-value]


def _message(error: Exception) -> gr.Error:
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, CXRError):
        # gradio shows messages as HTML: a class name of a stranger's model must not load a picture from elsewhere
        return gr.Error(_TAG.sub("< ", str(error)), print_exception=False)
    # only kinds and places: the text of an error may quote a file
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f" at {place.tb_frame.f_globals.get('__name__')}:{place.tb_lineno}"
    _log.error("unforeseen %s%s", type(error).__name__, where)
    return gr.Error(
        "Something went wrong here that should not. It was noted; please try another image or setting.",
        print_exception=False,
    )
