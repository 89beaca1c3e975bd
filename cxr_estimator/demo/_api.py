"""The public endpoints, which are the tools of MCP, too. Their docstrings are what clients read, in gradio's format."""

# ruff: noqa: D205, D406, D407 - that format

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import gradio as gr
from PIL import Image

from cxr_estimator._validation import check_number, check_seed, wrong_type
from cxr_estimator.demo._analysis import PREDICTED, Judgement, Question, explain, judge, unchecked
from cxr_estimator.demo._answers import judgement_answer, map_answer, model_answer, tables_answer
from cxr_estimator.demo._folder import new_file, uploaded
from cxr_estimator.demo._shared import MODEL_QUEUE, App, told
from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.errors import DataError
from cxr_estimator.figures import colormap
from cxr_estimator.images import DecodedImage
from cxr_estimator.trust import WITHHOLD

_CALLER = "this endpoint"


def add(app: App) -> None:
    """Add the endpoints to the app that is being built."""
    endpoints = Endpoints(app)
    gr.api(_documented(endpoints.methods), api_name="methods", queue=False)
    for function in (endpoints.models, endpoints.predict, endpoints.explain):
        gr.api(
            _documented(function),
            api_name=function.__name__,
            concurrency_id=MODEL_QUEUE,
            concurrency_limit=app.settings.at_once,
        )


def _documented(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function for visitors, with types and descriptions as gradio reads them: no text, and single lines."""
    wrapped: Any = told(function)
    wrapped.__signature__ = inspect.signature(function, eval_str=True)
    wrapped.__doc__ = re.sub(r"(?<=\S)\n {8}(?=\S)", " ", inspect.getdoc(function) or "")
    return wrapped


class Endpoints:
    """What the endpoints do.

    Parameters
    ----------
    app : App
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def models(self, model: str | None = None) -> dict[str, Any]:
        """
        List the models on offer, and describe one: its labels, its operating points with threshold, sensitivity and
        specificity (95% intervals, from the images that chose them), and which explanation methods work on it.

        Args:
            model: Name of the model to describe; null for the first one on offer. Where the operator allows it, any
                model of this kind on the Hugging Face Hub as "user/model" or "user/model@revision".

        Returns:
            JSON with "offered" (names) and the description.
        """
        names = self._app.models.names
        return {"offered": names, **model_answer(self._app.models.get(_name(model, names[0])))}

    def methods(self) -> dict[str, Any]:
        """
        List the explanation methods (cost, speed, whether signed, what the values mean) and the metrics that judge
        explanations (range, direction).

        Returns:
            JSON with "methods" and "metrics", each an object by name.
        """
        return tables_answer()

    def predict(
        self,
        image: gr.FileData,
        model: str | None = None,
        point: str | None = None,
        cut_off: float | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """
        Judge one chest radiograph: calibrated probabilities with their range over the image and seven slightly changed
        copies, the decision at an operating point and what it means there, and whether the image is unlike those the
        model knows.
        An image that is too unlike is refused: then "is_refused" is true and there is no probability. Research and
        education only, not a medical device.

        Args:
            image: One radiograph: a PNG, JPEG, TIFF or DICOM file of at most 50 megapixels; 16-bit files keep their
                depth. MCP clients give a data address (data:image/png;base64,...) or the address of a file that was
                uploaded to this app. Nothing is fetched from elsewhere.
            model: Name of a model, see the endpoint "models"; null for the first one on offer.
            point: Name of an operating point of the model, such as "screening"; null for its active one.
            cut_off: Instead of a point: the probability, above 0 and below 1, from which the positive label is decided.
            seed: Seed of the changed copies, an integer from 0 to 4294967295.

        Returns:
            JSON; undefined numbers are null.
        """
        return judgement_answer(self._judged(image, model, Question(point, cut_off, seed=_seed(seed)))[0])

    def explain(
        self,
        image: gr.FileData,
        model: str | None = None,
        method: str = "grad_cam",
        point: str | None = None,
        cut_off: float | None = None,
        target: str = PREDICTED,
        seed: int = 0,
        colour_map: str | None = None,
        opacity: float = 0.5,
        check: bool = True,
        show_withheld: bool = False,
    ) -> tuple[dict[str, Any], gr.FileData | None]:
        """
        Explain what the model says of one chest radiograph by a heat map, and say how far the map can be trusted. The
        trust card tells "show", "show with warning" or "withhold"; a withheld map is no better than the same map moved
        elsewhere, so it comes without its picture. Heat maps show what the model used, not where disease is. Research
        and education only, not a medical device.

        Args:
            image: One radiograph, as for "predict".
            model: Name of a model, as for "predict".
            method: Name of a method that works on the model, see the endpoints "methods" and "models"; fast ones answer
                within a second or so, slow ones may take minutes.
            point: Name of an operating point of the model; null for its active one.
            cut_off: Instead of a point: a probability, above 0 and below 1.
            target: Label to explain, or "predicted" for the one that is decided.
            seed: Seed of changed copies and of random methods, an integer from 0 to 4294967295.
            colour_map: Name of a colour map of matplotlib; null for one that is safe for colour-vision deficiency.
            opacity: How opaque the strongest pixels of the heat map are, from 0 to 1.
            check: Whether the map is checked; without, the answer comes several times sooner and has no trust card, and
                nothing says whether the map is better than chance.
            show_withheld: Whether a withheld map is drawn nevertheless, as a counter-example; it is no evidence.

        Returns:
            JSON with the judgement, "explanation" and its "trust_card"; and the overlay as a PNG file, or null.
        """
        number = float(check_number("opacity", opacity, caller=_CALLER, low=0, high=1))
        if colour_map is not None:
            colormap(_text("colour_map", colour_map))
        question = Question(point, cut_off, _text("target", target), _seed(seed))
        judgement, decoded = self._judged(image, model, question)
        answer = judgement_answer(judgement)
        if judgement.is_refused:
            return {**answer, "explanation": None}, None
        name = _text("method", method)
        if check is False:
            made, card = unchecked(judgement, decoded, name), None
        else:
            ((made, card),) = explain(judgement, decoded, [name]).values()
        answer["explanation"] = map_answer(made, card)
        if card is not None and card.verdict == WITHHOLD and show_withheld is not True:
            return answer, None
        path = new_file(f"{made.method}.png")
        Image.fromarray(made.overlay(0, cmap=colour_map, opacity=number)).save(path)
        return answer, gr.FileData(path=str(path), mime_type="image/png").model_dump()  # type: ignore[return-value]

    def _judged(self, image: Any, model: Any, question: Question) -> tuple[Judgement, DecodedImage]:
        path = image.get("path") if isinstance(image, dict) else None
        if path is None:
            raise DataError("`image` must be a file: a PNG, JPEG, TIFF or DICOM radiograph.")
        decoded = read_upload(uploaded(path))
        return judge(self._app.models.get(_name(model, self._app.models.names[0])), decoded, question), decoded


def _name(model: Any, default: str) -> str:
    return default if model is None else _text("model", model)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_type(name, _CALLER, "a text", value)
    return value


def _seed(seed: Any) -> int:
    if seed is None:
        raise wrong_type("seed", _CALLER, "an integer", seed)
    return check_seed(seed, caller=_CALLER)
