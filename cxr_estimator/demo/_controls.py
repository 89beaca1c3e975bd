"""What several pages ask for in the same way: model, operating point, class and method."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from cxr_estimator._figure_style import method_title
from cxr_estimator.attribution import METHODS, SPEEDS
from cxr_estimator.demo._analysis import PREDICTED, labels_of, methods_on_offer, points_of
from cxr_estimator.demo._folder import new_file
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._shared import App, computing, told

FILE_TYPES = [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom"]
_DEFAULT = "grad_cam"


def radiograph_control() -> gr.File:
    """Add the upload of one radiograph, which keeps its depth as a file."""
    return gr.File(label="Radiograph: DICOM, PNG, JPEG", file_types=FILE_TYPES, type="filepath", height=150)


class ModelControls(NamedTuple):
    """A model and its operating point, both ways to choose."""

    model: gr.Dropdown
    point: gr.Dropdown


def model_control(app: App, *, label: str = "Model", value: str | None = None) -> gr.Dropdown:
    """Add the choice of a model."""
    names = app.models.names
    return gr.Dropdown(
        names,
        value=value or names[0],
        label=label,
        info="Of the list, or on the Hugging Face Hub: user/model" if app.settings.allow_hub else None,
        allow_custom_value=app.settings.allow_hub,
    )


def model_controls(app: App, *, label: str = "Model", is_second: bool = False) -> ModelControls:
    """Add the choice of a model and of its operating point, which follows the model.

    A second one begins with the second model, or where there is only one with its last operating point.
    """
    names = app.models.names
    name = names[-1] if is_second else names[0]
    points = _points(app.models.get(name))
    if is_second and name == names[0] and points["value"]:
        others = [key for _, key in points["choices"] if key != points["value"]]
        points["value"] = next(reversed(others), points["value"])
    model = model_control(app, label=label, value=name)
    point = gr.Dropdown(label="Operating point" if label == "Model" else f"Its operating point ({label})", **points)

    @told
    def follow(name: str) -> Any:
        return gr.update(**_points(app.models.get(name)))

    on_model(app, model, follow, point)
    return ModelControls(model, point)


def target_control(app: App, model: gr.Dropdown) -> gr.Dropdown:
    """Add the choice of the class to explain, which follows the model."""
    target = gr.Dropdown(label="Class to explain", **targets(first_model(app)))

    @told
    def follow(name: str) -> Any:
        return gr.update(**targets(app.models.get(name)))

    on_model(app, model, follow, target)
    return target


def method_control(app: App, model: gr.Dropdown, *, speeds: tuple[str, ...] = tuple(SPEEDS)) -> gr.Dropdown:
    """Add the choice of a method among those that work on the model, which it follows."""
    method = gr.Dropdown(label="Method of explanation", **_methods(first_model(app), speeds))

    @told
    def follow(name: str) -> Any:
        return gr.update(**_methods(app.models.get(name), speeds))

    on_model(app, model, follow, method)
    return method


def on_model(app: App, model: gr.Dropdown, follow: Any, outputs: Any) -> None:
    """Let something follow the choice of a model, which may have to be loaded first."""
    model.change(follow, model, outputs, show_progress="minimal", **computing(app))


def first_model(app: App) -> Served:
    """Return the model that pages begin with."""
    return app.models.get(app.models.names[0])


def figure_image(label: str) -> gr.Image:
    """Add a place for a figure, which is seen when there is one."""
    return gr.Image(
        label=label, show_label=False, format="png", interactive=False, visible=False, elem_classes="cxr-figure",
        buttons=["download", "fullscreen"],
    )  # fmt: skip


def csv_button(name: str) -> gr.DownloadButton:
    """Add a button that gives a table, as soon as there is one."""
    return gr.DownloadButton("Download the table (CSV)", interactive=False, elem_id=f"{name}-csv")


def csv_file(name: str, content: bytes | None) -> Any:
    """Return the update of such a button; None for no table."""
    if content is None:
        return gr.update(value=None, interactive=False)
    path = new_file(f"{name}.csv")
    path.write_bytes(content)
    return gr.update(value=str(path), interactive=True)


def method_choices(served: Served, speeds: tuple[str, ...] = tuple(SPEEDS)) -> list[tuple[str, str]]:
    """Return (title, key) of the methods that work on a model, the fast ones first."""
    return [(f"{method_title(name)} ({METHODS[name].speed})", name) for name in methods_on_offer(served.clf, speeds)]


def first_point(served: Served) -> str | None:
    """Return the operating point that pages begin with: of those that were measured the one that misses least."""
    names = points_of(served.clf)
    found = {name: served.clf.operating_points_[name].sensitivity for name in names}
    measured = {name: one.value for name, one in found.items() if one is not None}
    return max(measured, key=measured.__getitem__) if measured else next(iter(names), None)


def targets(served: Served) -> dict[str, Any]:
    """Return which classes can be explained."""
    labels = [(label, label) for label in labels_of(served.clf)]
    return {"choices": [("what the model decides", PREDICTED), *labels], "value": PREDICTED}


def _points(served: Served) -> dict[str, Any]:
    names = points_of(served.clf)
    choices = [(f"{name} (from {served.clf.thresholds_[name]:.1%})", name) for name in names]
    info = None if names else "This model decides without one."
    return {"choices": choices, "value": first_point(served), "interactive": bool(names), "info": info}


def _methods(served: Served, speeds: tuple[str, ...]) -> dict[str, Any]:
    choices = method_choices(served, speeds)
    keys = [key for _, key in choices]
    return {"choices": choices, "value": _DEFAULT if _DEFAULT in keys else keys[0]}
