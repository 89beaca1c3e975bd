"""Long work of a session: what starts it, what tells how far it is, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

import gradio as gr

from cxr_estimator.demo._background import Stopped
from cxr_estimator.demo._shared import App, computing
from cxr_estimator.demo._words import notice

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
        """Yield the shares that are done of the work of this number.

        Raises
        ------
        Stopped
            The session wants something else, or was told to stop.
        """
        for share in shares:
            if number != self.number:
                raise Stopped(self.why)
            yield share


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
    app: App, button: gr.Button, work: Callable[..., Any], inputs: Any, outputs: Any, outcome: Outcome
) -> None:
    """Let a button start a generator, in the line of everything that computes; an error leaves a word instead."""
    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    seen, hidden = gr.update(visible=True), gr.update(visible=False)
    button.click(lambda: (seen, seen), None, [outcome.cancel, outcome.results], **at_once)
    started = button.click(work, inputs, outputs, show_progress="hidden", **computing(app))
    failed = notice("Stopped; the message says why.", kind="cxr-fail")
    started.failure(lambda: (failed, hidden), None, [outcome.status, outcome.results], **at_once)
    started.then(lambda: hidden, None, outcome.cancel, **at_once)


def _cancel(turn: Turn) -> None:
    turn.cancel()
