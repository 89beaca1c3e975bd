"""Long work of a session: what starts it, what tells how far it is, and what ends it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

import gradio as gr

from cxr_estimator.demo._background import Stopped
from cxr_estimator.demo._shared import App, computing
from cxr_estimator.demo._words import notice

FAILED = notice("Stopped; the message says why.", kind="cxr-fail")
_NUMBERS = count(1)


class Turn:
    """Tells work that its session wants something else by now; the value of a `gr.State`, one for each session.

    gradio's own `cancels` stops what was started after it as well, and forgets what waits for the stopped event.
    """

    def __init__(self) -> None:
        self.number = 0
        self.is_cancelled = False  # by the visitor, who wants nothing else instead

    def begin(self) -> int:
        """End what is under way, and return the number of what is to come instead; none is given out twice."""
        self.number, self.is_cancelled = next(_NUMBERS), False
        return self.number

    def cancel(self) -> None:
        """End what is under way, and what still waits to begin."""
        self.number, self.is_cancelled = next(_NUMBERS), True

    @property
    def why(self) -> str:
        """What to tell of work that was ended; nothing where something else is wanted instead."""
        return "Cancelled." if self.is_cancelled else ""

    def watched(self, shares: Iterable[float], number: int) -> Iterator[float]:
        """Yield the shares that are done of the work of this number, which may have been ended before it began.

        Raises
        ------
        Stopped
            The session wants something else, or was told to stop.
        """
        self._check(number)
        for share in shares:
            self._check(number)
            yield share

    def _check(self, number: int) -> None:
        if number != self.number:
            raise Stopped(self.why)


def cancel_button(turn: gr.State, name: str) -> gr.Button:
    """Add a button that ends the work of a session; it is seen while there is some."""
    button = gr.Button("Cancel", variant="stop", size="sm", visible=False, elem_id=f"cancel-{name}", scale=0)
    button.click(_cancel, turn, None, queue=False, api_visibility="private")
    return button


class Outcome(NamedTuple):
    """Where a page shows how its work goes."""

    status: gr.HTML
    cancel: gr.Button
    results: gr.Column  # hidden until there may be some


def run_button(
    app: App,
    button: gr.Button,
    turn: gr.State,
    work: Callable[..., Iterator[Any]],
    inputs: list[Any],
    outputs: list[Any],
    outcome: Outcome,
) -> None:
    """Let a button start a generator, in the line of everything that computes; an error leaves a word instead.

    It is called as `work(turn, number, *inputs)`. The number is given out by the click, so that work can be cancelled
    while it waits in the line; another click ends it, and starts anew.
    """
    latest: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    seen, hidden = gr.update(visible=True), gr.update(visible=False)
    number = gr.Number(0, precision=0, visible="hidden")

    def shown(*given: Any) -> Iterator[Any]:
        with contextlib.closing(work(*given)) as updates:  # type: ignore[type-var]
            for update in updates:
                yield seen, *update
        yield hidden, *[gr.skip()] * len(outputs)

    begun = [number, outcome.cancel, outcome.results]
    clicked = button.click(lambda turn: (turn.begin(), seen, seen), turn, begun, **at_once)
    started = clicked.then(shown, [turn, number, *inputs], [outcome.cancel, *outputs], **latest, **computing(app))
    # gradio 6.31 follows a failure by what waits for one alone, and not by what waits for any end
    ended = [outcome.status, outcome.cancel, outcome.results]
    started.failure(lambda: (FAILED, hidden, hidden), None, ended, **at_once)


def _cancel(turn: Turn) -> None:
    turn.cancel()
