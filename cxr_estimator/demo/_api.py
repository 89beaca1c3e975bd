"""The public endpoints, which are the tools of MCP, too. Their docstrings are what clients read, in gradio's format."""

# ruff: noqa: D205, D406, D407 - that format

from __future__ import annotations

import contextlib
import inspect
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from cxr_estimator._receipt_fields import FOLDER
from cxr_estimator._validation import check_number, wrong_type
from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.demo._analysis import PREDICTED, Judgement, Question, Shown, explain, judge, unchecked
from cxr_estimator.demo._answers import (
    compared_answer,
    judgement_answer,
    map_answer,
    model_answer,
    records,
    replay_answer,
    tables_answer,
)
from cxr_estimator.demo._archives import Limits
from cxr_estimator.demo._arguments import CALLER, check_cost, file_path, flag, image_of, seed_of, text, texts
from cxr_estimator.demo._background import finished
from cxr_estimator.demo._batch import ORDER, csv_of, judge_batch, ranked, table
from cxr_estimator.demo._benchmark import (
    CAUTION,
    DEFAULT_IMAGES,
    DEFAULT_METHODS,
    DEFAULT_METRICS,
    metrics_on_offer,
    phantom_images,
    run,
    uploaded_images,
)
from cxr_estimator.demo._compare import compare, six_panels
from cxr_estimator.demo._controls import first_model
from cxr_estimator.demo._downloads import receipt_for
from cxr_estimator.demo._folder import new_file
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._pictures import overlaid, png, radiograph
from cxr_estimator.demo._shared import MODEL_QUEUE, App, told
from cxr_estimator.errors import DataError
from cxr_estimator.figures import colormap, overlay
from cxr_estimator.images import DecodedImage
from cxr_estimator.receipts import Receipt, replay
from cxr_estimator.verdicts import WITHHOLD


def add(app: App) -> None:
    """Add the endpoints to the app that is being built."""
    endpoints = Endpoints(app)
    gr.api(_documented(endpoints.methods), api_name="methods", queue=False)
    for function in (
        endpoints.models, endpoints.predict, endpoints.explain, endpoints.compare, endpoints.batch, endpoints.benchmark,
        endpoints.replay,
    ):  # fmt: skip
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
        return {"offered": names, **model_answer(self._model(model))}

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
        return judgement_answer(self._judged(image, model, Question(point, cut_off, seed=seed_of(seed)))[0])

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
        opacity: float = 0.6,
        check: bool = True,
        show_withheld: bool = False,
        receipt: bool = False,
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
            show_withheld: Whether a withheld map is drawn nevertheless, as a counter-example that is stamped as such.
            receipt: Whether the JSON has a "receipt", with which "replay" and the command "cxr replay" repeat the map.

        Returns:
            JSON with the judgement, "explanation" and its "trust_card"; and the overlay, in the proportions of the
                radiograph, as a PNG file, or null.
        """
        is_checked, is_stamped = flag("check", check), flag("show_withheld", show_withheld)
        with_receipt = flag("receipt", receipt)
        strength = float(check_number("opacity", opacity, caller=CALLER, low=0, high=1))
        if colour_map is not None:
            colormap(text("colour_map", colour_map))
        judgement, decoded = self._judged(image, model, Question(point, cut_off, text("target", target), seed_of(seed)))
        answer, name = judgement_answer(judgement), text("method", method)
        if judgement.is_refused:
            return {**answer, "explanation": None}, None
        if not is_checked:
            made, card = finished(lambda progress: unchecked(judgement, decoded, name, progress=progress)), None
        else:
            made, card = finished(lambda progress: explain(judgement, decoded, [name], progress=progress))[name]
        answer["explanation"] = map_answer(made, card)
        if with_receipt:
            answer["receipt"] = json.loads(receipt_for(judgement, made).to_json())
        film = radiograph(judgement.served, decoded)
        if card is None:
            drawn = overlay(made, cmap=colour_map, opacity=strength, image=film)
        elif card.verdict == WITHHOLD and not is_stamped:
            return answer, None
        else:
            drawn = overlaid(film, Shown(made, card), cmap=colour_map, opacity=strength, show_withheld=True)
        return answer, _file(f"{made.method}.png", png(drawn))

    def compare(
        self,
        image: gr.FileData,
        model_a: str | None = None,
        model_b: str | None = None,
        point_a: str | None = None,
        point_b: str | None = None,
        method: str = "grad_cam",
        target: str = PREDICTED,
        seed: int = 0,
    ) -> tuple[dict[str, Any], gr.FileData | None]:
        """
        Let two models, or one at two operating points, judge and explain the same chest radiograph, and tell how far
        decisions, probabilities and heat maps agree. Agreement does not make either right. Research and education
        only, not a medical device.

        Args:
            image: One radiograph, as for "predict".
            model_a: Name of the first model, as for "predict".
            model_b: Name of the second one; null for the first model on offer.
            point_a: Name of an operating point of the first model; null for its active one.
            point_b: Name of an operating point of the second model; null for its active one.
            method: Name of a method that works on both.
            target: Label to explain in both, or "predicted" for what the first model decides.
            seed: Seed of changed copies and of random methods, an integer from 0 to 4294967295.

        Returns:
            JSON with "sentences", two "judgements", two "explanations", "agreement" of the maps and what "to_verify"
                (empty without maps); and a figure of six panels as a PNG file, or null. Withheld maps are not drawn.
        """
        wanted = Question(point_a, target=text("target", target), seed=seed_of(seed)), Question(point_b, seed=seed)
        models = self._model(model_a, "model_a"), self._model(model_b, "model_b")
        asked = models, image_of(image), wanted, text("method", method)
        found = finished(lambda progress: compare(*asked, progress=progress))
        answer = compared_answer(found)
        return answer, None if found.shown is None else _file("comparison.png", png(six_panels(found)))

    def batch(
        self,
        images: list[gr.FileData],
        model: str | None = None,
        point: str | None = None,
        method: str = "grad_cam",
        seed: int = 0,
    ) -> tuple[dict[str, Any], gr.FileData]:
        """
        Judge and explain many chest radiographs; the least trusted come first. A file that cannot be used is a row with
        its reason. Research and education only, not a medical device.

        Args:
            images: Radiographs as for "predict", and zip files of them, up to the limits of the page "Batch".
            model: Name of a model, as for "predict".
            point: Name of an operating point of the model; null for its active one.
            method: Name of a method that works on the model.
            seed: Seed of changed copies and of random methods, an integer from 0 to 4294967295.

        Returns:
            JSON with "order" and "rows": file, status, decision, class, probability, low, high, heat map, gain, reason;
                and the same table as a CSV file.
        """
        if not isinstance(images, list):
            raise wrong_type("images", CALLER, "a list of files", images)
        paths = [file_path("images", one) for one in images]
        question = Question(point, seed=seed_of(seed))
        limits = Limits.of(self._app.settings)
        asked = self._model(model), paths, question, text("method", method), limits
        found = table(ranked(finished(lambda progress: judge_batch(*asked, progress=progress))))
        return {"order": ORDER, **records(found), "disclaimer": DISCLAIMER}, _file("batch.csv", csv_of(found))

    def benchmark(
        self,
        model: str | None = None,
        methods: list[str] | None = None,
        metrics: list[str] | None = None,
        n: int = DEFAULT_IMAGES,
        target: str = PREDICTED,
        seed: int = 0,
        images: gr.FileData | None = None,
    ) -> dict[str, Any]:
        """
        Measure explanation methods by metrics on a few images: synthetic phantoms, on which the place of the finding is
        known, or uploaded labelled ones. Takes seconds to minutes.

        Args:
            model: Name of a model, as for "predict".
            methods: Names of methods that work on the model; null for three fast ones.
            metrics: Names of metrics, see "methods"; null for a few.
            n: Number of images, from 1 to 32.
            target: Label to explain, or "predicted".
            seed: Seed of phantoms and of random methods, an integer from 0 to 4294967295.
            images: A zip file with one folder per class, called as the labels of the model; null for phantoms.

        Returns:
            JSON with "n_images", "left_out" (files and why), "rows" (means with 95% intervals, by outcome where labels
                are known) and "caution".
        """
        served, number = self._model(model), seed_of(seed)
        path = None if images is None else file_path("images", images)
        chosen = texts("metrics", list(DEFAULT_METRICS) if metrics is None else metrics)
        if metrics is None and path is not None:
            chosen = [name for name in chosen if name in metrics_on_offer(has_masks=False)]
        named = texts("methods", list(DEFAULT_METHODS) if methods is None else methods)
        with (
            contextlib.nullcontext(phantom_images(served, n, seed=number))
            if path is None
            else uploaded_images(served, path, n, Limits.of(self._app.settings))
        ) as found:
            measure = partial(run, served, found, named, chosen, target=text("target", target), seed=number)
            measured = finished(lambda progress: measure(progress=progress))
            left_out = [{"file": name, "reason": reason} for name, reason in found.left_out]
            return {"n_images": len(found.X), "left_out": left_out, **records(measured), "caution": CAUTION}

    def replay(self, receipt: dict[str, Any], image: gr.FileData, model: str | None = None) -> dict[str, Any]:
        """
        Repeat an explanation as a receipt says, and tell what agrees: exactly on the same machine with the same
        versions, elsewhere within a stated tolerance.

        Args:
            receipt: The JSON of a receipt, as "explain" gives it and the page "Analyse" writes it.
            image: The radiograph that was explained.
            model: Name of the model where the receipt does not name one on offer; null for the one of the receipt.

        Returns:
            JSON with "is_exact", "within_tolerance", "same_versions", "same_machine", "sentence" and all "differences".
        """
        if not isinstance(receipt, dict):
            raise wrong_type("receipt", CALLER, "the JSON object of a receipt", receipt)
        read = Receipt.from_json(json.dumps(receipt))
        if model is None and read.model_name == FOLDER:
            raise DataError("The model of this receipt lay in a folder; name it as `model`, if it is on offer here.")
        clf = self._model(self._name_of(read) if model is None else model).clf
        check_cost(read, clf.batch_size)
        return replay_answer(replay(read, image_of(image).pixels, clf=clf))

    def _name_of(self, receipt: Receipt) -> str:
        """Return what the model of a receipt is called here: as it is offered, or by its commit on the Hub."""
        models = self._app.models
        for name in models.names:
            if name.partition("@")[0] == receipt.model_name and models.get(name).revision == receipt.model_revision:
                return name
        return receipt.model_name + (f"@{receipt.model_revision}" if receipt.model_revision else "")

    def _model(self, name: Any, argument: str = "model") -> Served:
        return (first_model(self._app) if name is None else self._app.models.get(text(argument, name))).held()

    def _judged(self, image: Any, model: Any, question: Question) -> tuple[Judgement, DecodedImage]:
        decoded = image_of(image)
        return judge(self._model(model), decoded, question), decoded


def _file(name: str, content: bytes) -> gr.FileData:
    path = new_file(name)
    path.write_bytes(content)
    return gr.FileData(path=str(path)).model_dump()  # type: ignore[return-value]
