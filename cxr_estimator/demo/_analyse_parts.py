"""The parts of the page that judges and explains one radiograph."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from cxr_estimator._figure_style import method_title
from cxr_estimator.attribution import SPEEDS
from cxr_estimator.demo._analysis import OWN_POINT, methods_of, methods_on_offer, points_of
from cxr_estimator.demo._case import DEFAULTS
from cxr_estimator.demo._controls import first_model, first_point, model_control, radiograph_control, targets
from cxr_estimator.demo._examples import EXAMPLES, example
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._pictures import SIGNED, UNSIGNED, png
from cxr_estimator.demo._running import Turn, cancel_button
from cxr_estimator.demo._shared import App
from cxr_estimator.demo._view import VIEWS, Look
from cxr_estimator.demo._words import not_offered, notice

_COSTS = {"fast": "Fast methods", "moderate": "Moderate: about a second", "slow": "Slow: up to a minute"}
_ICON = 96  # pixels
WELCOME = "Drop a radiograph, or take a synthetic one: probability, decision and heat maps appear here."


class Controls(NamedTuple):
    """What the visitor sets."""

    upload: gr.File
    examples: dict[str, gr.Button]
    model: gr.Dropdown
    point: gr.Radio
    cut_off: gr.Slider
    target: gr.Dropdown
    methods: dict[str, gr.CheckboxGroup]
    note: gr.HTML
    run: gr.Button

    @property
    def question(self) -> list[Any]:
        """What decides what is asked: model, operating point, cut-off, target."""
        return [self.model, self.point, self.cut_off, self.target]


class Results(NamedTuple):
    """What is shown."""

    case: gr.State  # as judged
    mapped: gr.State  # the same with maps; written by an event of its own, which may come late
    turn: gr.State  # of the maps
    asking: gr.State  # a turn as well: of what is asked
    question: gr.Number  # its number, as the page knows it, which changes again with the answer
    asked: gr.Number  # a number that changes when something else is asked, of code and not of a visitor
    due: gr.Number  # a number that changes when maps are to be made
    fresh: gr.Number  # a number that changes when something is to be drawn
    verdict: gr.HTML
    status: gr.HTML
    cancel: gr.Button
    view: gr.Radio
    method: gr.Dropdown
    picture: gr.Image
    pair: gr.ImageSlider
    gallery: gr.Gallery
    legend: gr.HTML
    alt: gr.HTML
    opacity: gr.Slider
    unsigned: gr.Dropdown
    signed: gr.Dropdown
    withheld: gr.Checkbox
    card: gr.HTML
    make: gr.Button
    files: gr.File
    which: gr.Row  # what chooses among the heat maps
    rest: gr.Column  # what stands below them

    @property
    def around(self) -> list[Any]:
        """What is hidden while there can be no heat map."""
        return [self.which, self.rest]

    @property
    def look(self) -> list[Any]:
        """The fields of `Look`, in its order."""
        return [self.view, self.method, self.opacity, self.unsigned, self.signed, self.withheld]

    @property
    def posed(self) -> list[Any]:
        """What tells whether something else was asked or answered since."""
        return [self.asking, self.question]

    @property
    def cases(self) -> list[Any]:
        """What `current` takes."""
        return [self.case, self.mapped]


def add_controls(app: App) -> Controls:
    """Add what the visitor sets."""
    upload = radiograph_control()
    examples = _examples()
    options = settings_for(first_model(app))
    model = model_control(app)
    point = gr.Radio(label="Operating point", **options["point"])
    cut_off = gr.Slider(0.01, 0.99, 0.5, step=0.01, label="Own cut-off (probability)", visible=False)
    target = gr.Dropdown(label="Class to explain", **options["target"])
    methods = {}
    for speed in SPEEDS:
        with gr.Accordion(_COSTS[speed], open=speed == "fast"):
            methods[speed] = gr.CheckboxGroup(label=f"{speed.capitalize()} methods", show_label=False, **options[speed])
    note = gr.HTML(**options["note"], padding=False)
    run = gr.Button("Analyse", variant="primary")
    return Controls(upload, examples, model, point, cut_off, target, methods, note, run)


def _examples() -> dict[str, gr.Button]:
    gr.HTML(
        "<p class='cxr-small'>No radiograph at hand? These are <b>synthetic</b>: drawn by a program, of nobody.</p>",
        padding=False,
    )
    with gr.Row(elem_classes="cxr-examples"):
        return {title: gr.Button(title, icon=_icon(title), size="sm", min_width=80) for title in EXAMPLES}


def _icon(title: str) -> Any:
    """Return a small picture as part of the page: a file would name a folder of the server, and be swept."""
    small = Image.fromarray(example(title)).resize((_ICON, _ICON), Image.Resampling.LANCZOS)
    return {"path": "icon.png", "url": f"data:image/png;base64,{base64.b64encode(png(np.asarray(small))).decode()}"}


def settings_for(served: Served) -> dict[str, dict[str, Any]]:
    """Return what the controls offer for a model, and their first values."""
    points = points_of(served.clf)
    found: dict[str, dict[str, Any]] = {
        "point": {
            "choices": [*points, OWN_POINT] if points else [],
            "value": first_point(served),
            "visible": bool(points),
        },
        "target": targets(served),
    }
    for speed in SPEEDS:
        names = methods_on_offer(served.clf, (speed,))
        found[speed] = {
            "choices": [(method_title(name), name) for name in names],
            "value": [name for name in names if name in DEFAULTS],
        }
    lacking = not_offered(methods_of(served.clf).items())
    found["note"] = {"value": f"<p class='cxr-small'>{lacking}</p>" if lacking else ""}
    return found


def add_results(app: App) -> Results:
    """Add what is shown."""
    case, mapped = (gr.State(None, time_to_live=app.settings.keep_seconds) for _ in range(2))
    turn, asking = gr.State(Turn()), gr.State(Turn())  # each session has copies of its own
    # not gr.State, whose change is told before the new values of the other components are there
    question, asked, due, fresh = (gr.Number(0, precision=0, visible="hidden") for _ in range(4))
    verdict = gr.HTML(notice(WELCOME), elem_id="cxr-verdict", padding=False)
    with gr.Row(elem_classes="cxr-progress"):
        status = gr.HTML("", elem_id="cxr-status", padding=False)
        cancel = cancel_button(turn, "maps")
    first = Look()
    with gr.Row(visible=False) as which:
        # any value: what was chosen may be gone when it arrives, and then nothing is shown of it
        method = gr.Dropdown([], label="Heat map", interactive=True, allow_custom_value=True, scale=1, min_width=150)
        view = gr.Radio(VIEWS, value=first.view, label="View", scale=4, min_width=280)
    picture = gr.Image(
        label="Picture",
        show_label=False,
        format="png",
        interactive=False,
        visible=False,
        buttons=["fullscreen"],
        elem_id="cxr-picture",
    )
    pair = gr.ImageSlider(
        label="Before and after: radiograph, heat map over it", format="png", interactive=False, visible=False,
        max_height=440, buttons=["fullscreen"],
    )  # fmt: skip
    gallery = gr.Gallery(
        label="All methods", show_label=False, format="png", columns=3, object_fit="contain", height="auto",
        interactive=False, visible=False, buttons=["fullscreen"], elem_classes="cxr-gallery",
    )  # fmt: skip
    legend, alt = (gr.HTML("", padding=False) for _ in range(2))
    with gr.Column(visible=False) as rest:
        with gr.Row():
            opacity = gr.Slider(0, 1, first.opacity, step=0.05, label="Opacity", min_width=150)
            unsigned = gr.Dropdown(UNSIGNED, value=first.unsigned, label="Colours", min_width=150)
            signed = gr.Dropdown(SIGNED, value=first.signed, label="Colours, for and against", min_width=150)
        withheld = gr.Checkbox(False, label="Show withheld maps, as counter-examples: they are no evidence")
        card = gr.HTML("", padding=False)
        with gr.Accordion("Downloads", open=False):
            gr.HTML(
                "<p class='cxr-small'>A figure, the numbers, a page to print, and a receipt with which "
                "<code>cxr replay</code> repeats the explanation. They name no file and no patient.</p>"
            )
            make = gr.Button("Make files of this heat map")
            files = gr.File(label="Files", file_count="multiple", interactive=False, visible=False)
    return Results(
        case, mapped, turn, asking, question, asked, due, fresh, verdict, status, cancel, view, method, picture, pair,
        gallery, legend, alt, opacity, unsigned, signed, withheld, card, make, files, which, rest,
    )  # fmt: skip
