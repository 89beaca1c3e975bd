"""The panel that changes an image, to see how the probability and a heat map follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr

from cxr_estimator._figure_style import method_title
from cxr_estimator.attribution import METHODS
from cxr_estimator.demo._analyse_parts import Results
from cxr_estimator.demo._analysis import explain, judge
from cxr_estimator.demo._breaking import broken
from cxr_estimator.demo._case import Case, current
from cxr_estimator.demo._pictures import radiograph
from cxr_estimator.demo._running import Turn
from cxr_estimator.demo._shared import App, computing, told
from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.demo._view import Look, laid_over
from cxr_estimator.demo._words import described, html, notice, verdict
from cxr_estimator.errors import DataError
from cxr_estimator.images import DecodedImage

_FALLBACK = "grad_cam"  # where the chosen method is slow: a slider should answer soon
_EMPTY = "Move a slider: the probability and the heat map follow."


class Panel(NamedTuple):
    """Components of the panel."""

    rotate: gr.Slider
    exposure: gr.Slider
    crop: gr.Slider
    marker: gr.Checkbox
    reset: gr.Button
    said: gr.HTML
    before: gr.Image
    after: gr.Image


class Broken(NamedTuple):
    """An image and what became of it: cases of one map each."""

    before: Case
    after: Case
    method: str


def add() -> Panel:
    """Add the panel."""
    with gr.Accordion("Break it: change the image and watch", open=False):
        with gr.Row():
            rotate = gr.Slider(-20, 20, 0, step=1, label="Rotate (°)", min_width=150)
            exposure = gr.Slider(-1, 1, 0, step=0.05, label="Exposure", min_width=150)
            crop = gr.Slider(0, 30, 0, step=1, label="Crop (%)", min_width=150)
        with gr.Row():
            marker = gr.Checkbox(False, label="Remove side markers and text")
            reset = gr.Button("Back to the original", size="sm", scale=0, min_width=180)
        said = gr.HTML(notice(_EMPTY), padding=False)
        with gr.Row():
            before, after = (
                gr.Image(
                    label=label,
                    format="png",
                    interactive=False,
                    visible=False,
                    buttons=[],
                    min_width=140,
                    height=300,
                    elem_id=f"cxr-{label.lower()}",
                )
                for label in ("Original", "Changed")
            )
    return Panel(rotate, exposure, crop, marker, reset, said, before, after)


def connect(app: App, panel: Panel, results: Results) -> None:
    """Connect the panel to the case that is shown; it is emptied when something else is asked, and with the answer."""
    sliders = [panel.rotate, panel.exposure, panel.crop]
    start = lambda: [0, 0, 0, False]  # noqa: E731
    hidden = gr.update(value=None, visible=False)
    empty = lambda: [*start(), notice(_EMPTY), hidden, hidden]  # noqa: E731
    results.question.change(
        empty, None, [*sliders, panel.marker, panel.said, panel.before, panel.after], queue=False,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    reset = panel.reset.click(start, None, [*sliders, panel.marker], concurrency_limit=None, api_visibility="private")

    listening: dict[str, Any] = {
        "fn": told(_changed),
        "inputs": [*results.posed, *results.cases, *sliders, panel.marker, *results.look],
        "outputs": [panel.said, panel.before, panel.after],
        "show_progress": "minimal",
        "show_progress_on": panel.said,
        "trigger_mode": "always_last",
        **computing(app),
    }
    gr.on([*(slider.input for slider in sliders), panel.marker.input], **listening)
    reset.success(**listening)


def _changed(
    asking: Turn,
    question: int,
    case: Case | None,
    mapped: Case | None,
    rotate: float,
    exposure: float,
    crop: float,
    marker: bool,
    *look: Any,
) -> list[Any]:
    """Return what is said and both pictures; nothing where something else was asked or answered meanwhile."""
    wanted, too_late = Look(*look), [gr.skip()] * 3
    if asking.number != question:
        return too_late
    found = break_case(
        current(case, mapped),
        wanted.method,
        rotate=rotate,
        exposure=exposure,
        crop=crop / 100,
        remove_marker=marker,
    )
    if asking.number != question:
        return too_late
    wanted = wanted._replace(method=found.method)
    pictures = [_image(one, wanted) for one in (found.before, found.after)]
    return [html("broken", rows=rows(found), title=method_title(found.method)), *pictures]


def break_case(case: Case | None, method: str | None, **changes: Any) -> Broken:
    """Change the image of a case, and judge and explain it as before; the explained class stays the same.

    Raises
    ------
    DataError
        There is no case.
    """
    if case is None:
        raise DataError("Analyse a radiograph first.")
    name = method if method in METHODS and METHODS[method].speed != "slow" else _FALLBACK
    judgement, image = case.judgement, read_upload(case.path)
    served, question = judgement.served, judgement.question
    fixed = replace(question, target=str(judgement.label))  # else a turned decision would turn what is explained
    changed = DecodedImage(broken(image.pixels, **changes), image.source)
    found = []
    for one, said in (
        (image, replace(judgement, question=fixed)),
        (changed, judge(served, changed, fixed)),
    ):
        shown = case.shown.get(name) if one is image else None
        maps = {name: shown} if shown is not None else {} if said.is_refused else explain(said, one, [name])
        found.append(Case(case.path, said, radiograph(served, one, longest=512), maps, (name,)))
    return Broken(found[0], found[1], name)


def rows(found: Broken) -> list[dict[str, Any]]:
    """Return what is said of the image before and after."""
    label = str(found.before.judgement.label)
    table = []
    for title, case in (("Original", found.before), ("Changed", found.after)):
        judgement, shown = case.judgement, case.visible.get(found.method)
        said = verdict(judgement)
        table.append(
            {
                "title": title,
                "label": label,
                "share": None if said.refused else judgement.proba[label],
                "decision": said.decision or "refused",
                "warning": said.warning or "",
                "trust": "no map" if shown is None else shown.card.verdict,
            }
        )
    return table


def _image(case: Case, look: Look) -> Any:
    """Return the update of a picture: the map over the image, or the image alone where it was refused."""
    shown = case.visible.get(look.method or "")
    if shown is None:
        return gr.update(value=case.picture, alt_text="The image, without a heat map.", visible=True)
    alt = described(shown, show_withheld=look.show_withheld)
    return gr.update(value=laid_over(case, shown, look), alt_text=alt, visible=True)
