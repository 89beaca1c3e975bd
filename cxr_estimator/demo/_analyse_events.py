"""What the events of the Analyse page do. Computing can be cancelled; changing only the looks computes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from html import escape
from itertools import count
from typing import Any

import gradio as gr

from cxr_estimator._figure_style import method_title
from cxr_estimator.attribution._types import SPEEDS
from cxr_estimator.demo._analyse_parts import Controls, Results, settings_for
from cxr_estimator.demo._analysis import OWN_POINT, Progress, Question, Shown, explain
from cxr_estimator.demo._background import Background, Stopped
from cxr_estimator.demo._case import Case, current, judged, steps
from cxr_estimator.demo._downloads import write_files
from cxr_estimator.demo._examples import example_file
from cxr_estimator.demo._running import FAILED, Turn
from cxr_estimator.demo._shared import App, computing, told
from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.demo._view import Look, view_of
from cxr_estimator.demo._words import html, notice, verdict
from cxr_estimator.errors import CXRError
from cxr_estimator.images import DecodedImage

Updates = dict[Any, Any]
# each is used once: what adds one to a number that the page sends may repeat one, and then nothing changes
_NUMBERS = count(1)
# on a phone the results lie below the controls
_TO_RESULT = "() => { if (innerWidth < 768) document.getElementById('cxr-result').scrollIntoView(); }"


def connect(app: App, controls: Controls, results: Results) -> None:
    """Connect controls and results.

    Whatever asks anew stops the maps under way. That these are due is told by a number that changes, and so is that
    something is to be drawn, which then is done with the settings of that moment.
    """
    page = _Page(app, controls, results)
    private: dict[str, Any] = {"api_visibility": "private"}
    at_once: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
    latest: dict[str, Any] = {**private, "trigger_mode": "always_last"}
    computes: dict[str, Any] = {**latest, **computing(app)}
    shown, methods = results, list(controls.methods.values())
    mapping = shown.due.change(
        told(page.maps),
        [*shown.cases, shown.turn, shown.due, shown.method, *methods],
        [shown.mapped, shown.fresh, shown.method, shown.status, shown.cancel],
        show_progress="minimal",
        show_progress_on=shown.status,
        **computes,
    )
    mapping.failure(lambda: ("", gr.update(visible=False)), None, [shown.status, shown.cancel], **at_once)
    controls.model.input(
        told(page.choose_model),
        controls.model,
        [shown.asked, controls.point, controls.target, controls.cut_off, *methods, controls.note],
        **computes,
    )
    for title, button in controls.examples.items():
        take = told(page.taker(title))
        button.click(take, None, [shown.asked, controls.upload], show_progress="hidden", **private)
    # of one trigger, events run one after another as they stand here
    own = lambda point: gr.update(visible=point == OWN_POINT)  # noqa: E731
    controls.point.input(own, controls.point, controls.cut_off, **at_once)
    ticked = [group.input for group in methods]
    asks = [controls.upload.upload, controls.upload.clear, shown.asked.change, controls.point.input]
    asks += [controls.cut_off.input, controls.target.input, controls.run.click]
    # one after the other: an end that comes late would end what was asked for instead
    ended = gr.on(asks, _end, [shown.turn, shown.asking], shown.question, **at_once, trigger_mode="always_last")
    answer = [
        shown.case, shown.question, shown.due, shown.fresh, shown.verdict, shown.method, shown.status, shown.cancel,
        shown.files, *shown.around,
    ]  # fmt: skip
    judging = ended.then(
        told(page.judge),
        [*shown.cases, shown.turn, shown.asking, controls.upload, *controls.question],
        answer,
        show_progress="minimal",
        show_progress_on=shown.verdict,
        **computes,
    )
    judging.failure(page.nothing, shown.asking, answer, **at_once)
    new = [controls.upload.upload, *(button.click for button in controls.examples.values())]
    gr.on(new, None, js=_TO_RESULT, **private)
    gr.on(ticked, lambda turn: turn.begin(), shown.turn, shown.due, **at_once, trigger_mode="always_last")
    looks = [one.input for one in (shown.method, shown.view, shown.unsigned, shown.signed, shown.withheld)]
    gr.on(
        [shown.fresh.change, *looks, shown.opacity.input],
        told(page.draw),
        [*shown.cases, *shown.look],
        [shown.picture, shown.pair, shown.gallery, shown.legend, shown.alt, shown.card],
        show_progress="hidden",
        **latest,
    )
    shown.make.click(told(page.files), [*shown.posed, *shown.cases, *shown.look], shown.files, **latest)


class _Page:
    """The handlers."""

    def __init__(self, app: App, controls: Controls, results: Results) -> None:
        self.app, self.controls, self.results = app, controls, results

    def taker(self, title: str) -> Any:
        """Return a handler that takes an example for an upload."""
        return lambda: (next(_NUMBERS), example_file(title))

    def choose_model(self, name: str) -> list[Any]:
        """Offer what the chosen model can do; its first operating point is taken, not a cut-off of one's own."""
        try:
            options = settings_for(self.app.models.get(name))
        except CXRError:  # `judge` is asked nevertheless: it tells why, and leaves nothing of the model before
            return [next(_NUMBERS), *[gr.skip()] * (len(SPEEDS) + 4)]
        groups = [gr.update(**options[speed]) for speed in self.controls.methods]
        point, target = gr.update(**options["point"]), gr.update(**options["target"])
        return [next(_NUMBERS), point, target, gr.update(visible=False), *groups, options["note"]["value"]]

    def judge(
        self, case: Case | None, mapped: Case | None, turn: Turn, asking: Turn, path: str | None, name: str, *asked: Any
    ) -> Updates:
        """Judge the upload; where that fails, nothing of an earlier one is left on the page."""
        shown = self.results
        point, cut_off, target = asked
        question = Question(None, cut_off, target) if point == OWN_POINT else Question(point, None, target)
        try:
            case = judged(path, self.app.models.get(name), question, current(case, mapped))
        except CXRError as error:
            return self.nothing(asking, notice(str(error), kind="" if path is None else "cxr-fail"))
        said = html("verdict", said=verdict(case.judgement))
        updates = self._answered(asking, is_shown=not case.judgement.is_refused)
        return updates | {shown.case: case, shown.verdict: said, shown.due: turn.begin()}

    def nothing(self, asking: Turn, said: str = FAILED) -> Updates:
        """Leave nothing on the page but a word."""
        shown = self.results
        updates = self._answered(asking, is_shown=False)
        return updates | {shown.case: None, shown.verdict: said, shown.method: _choices(None, None)}

    def _answered(self, asking: Turn, *, is_shown: bool) -> Updates:
        """Return what each answer does to the page: nothing that was begun before it may be shown beside it."""
        shown = self.results
        return {
            shown.question: asking.begin(),
            shown.fresh: next(_NUMBERS),
            shown.status: "",
            shown.cancel: gr.update(visible=False),
            shown.files: gr.update(value=None, visible=False),
            **{part: gr.update(visible=is_shown) for part in shown.around},
        }

    def maps(
        self,
        case: Case | None,
        mapped: Case | None,
        turn: Turn,
        due: int,
        method: str | None,
        *chosen: list[str],
    ) -> Iterator[Updates]:
        """Make the maps that are missing, step by step; those that are done are shown meanwhile."""
        shown = self.results
        case = current(case, mapped)
        if case is None:
            return
        case = case._replace(chosen=tuple(name for group in chosen for name in group))
        if turn.number != due:  # stopped before it began
            yield self._idle(case, turn.why)
            return
        if case.visible or method:
            yield self._idle(case, turn.why) | self._drawn(case, method)
        todo = steps(case)
        if not todo:
            return
        image, why = read_upload(case.path), ""
        for number, group in enumerate(todo):
            said = f"Computing {', '.join(map(method_title, group))} ({number + 1} of {len(todo)})"
            yield {shown.status: notice(said, share=0.0), shown.cancel: gr.update(visible=True)}
            try:
                with Background(partial(_explained, case, image, group)) as work:
                    for share in turn.watched(work, due):
                        yield {shown.status: notice(said, share=share)}
                    case = case._replace(shown={**case.shown, **work.result()})
            except Stopped as stopped:
                why = str(stopped)
                break
            yield self._drawn(case, method)
        yield self._idle(case, why)

    def _idle(self, case: Case, why: str) -> Updates:
        ready = ", ".join(map(method_title, case.visible))
        said = notice(f"{why} Ready: {ready}." if ready else why) if why else ""
        return {self.results.status: said, self.results.cancel: gr.update(visible=False)}

    def _drawn(self, case: Case, method: str | None) -> Updates:
        return {
            self.results.mapped: case,
            self.results.fresh: next(_NUMBERS),
            self.results.method: _choices(case, method),
        }

    def draw(self, case: Case | None, mapped: Case | None, *look: Any) -> list[Any]:
        """Draw what the visitor wants to see."""
        view = view_of(current(case, mapped), Look(*look))
        alt = f"<p class='cxr-small'>{escape(view.alt)}</p>" if view.alt else ""
        return [
            gr.update(value=view.picture, alt_text=view.alt, visible=view.picture is not None),
            gr.update(value=view.pair, visible=view.pair is not None),
            gr.update(value=view.gallery, visible=bool(view.gallery)),
            view.legend,
            alt,
            view.card,
        ]

    def files(self, asking: Turn, question: int, case: Case | None, mapped: Case | None, *look: Any) -> Any:
        """Write the files of the map that is looked at; they are not offered beside another radiograph."""
        paths = write_files(current(case, mapped), Look(*look))
        return gr.update(value=paths, visible=True) if asking.number == question else gr.skip()


def _end(turn: Turn, asking: Turn) -> int:
    """End the maps under way; return the number of what is asked now."""
    turn.begin()
    return asking.begin()


def _explained(case: Case, image: DecodedImage, group: list[str], progress: Progress) -> dict[str, Shown]:
    return explain(case.judgement, image, group, others=case.visible, progress=progress)


def _choices(case: Case | None, method: str | None) -> Any:
    """Return which maps can be looked at; what was looked at stays."""
    if case is None:
        return gr.update(choices=[], value=None)
    return gr.update(choices=[(method_title(name), name) for name in case.visible], value=case.looked_at(method))
