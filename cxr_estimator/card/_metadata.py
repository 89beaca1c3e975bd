"""What the Hub reads of a model card: the YAML at its head, and `.eval_results/*.yaml`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cxr_estimator._wording import cell, printable, words
from cxr_estimator.statistics import Estimate

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from cxr_estimator.card import ModelCard

LIBRARY, PIPELINE = "cxr_estimator", "image-classification"
HEADLINES = "auroc", "macro_auroc"
# figures of a report, and what the Hub calls them
HUB_METRICS = {
    "auroc": "roc_auc",
    "macro_auroc": "roc_auc",
    "brier": "brier_score",
    "sensitivity": "recall",
    "specificity": "specificity",
    "macro_recall": "recall",
    "precision": "precision",
    "macro_precision": "precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "f1": "f1",
    "macro_f1": "f1",
    "mcc": "matthews_correlation",
}


def metadata(card: ModelCard, clf: Any, title: str) -> str:
    """Return the YAML at the head of the card, without its fences."""
    from huggingface_hub import ModelCardData

    results = list(_results(card))
    found = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=PIPELINE,
        tags=[LIBRARY, *dict.fromkeys(str(one.backbone) for one in clf._members()), *map(_line, card.tags)],
        license=card.license,
        license_name=_line(card.license_name),
        license_link=_line(card.license_link),
        datasets=None if card.dataset is None else [card.dataset],
        metrics=list(dict.fromkeys(one.metric_type for one in results)) or None,
        model_name=_line(card.repo_id.split("/")[-1] if card.repo_id else title) if results else None,
        eval_results=results or None,
    )
    return found.to_yaml()


def result_files(card: ModelCard) -> dict[str, bytes]:
    """Return `.eval_results/*.yaml`: the headline figure, where the evaluated data set is on the Hub."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump

    dataset = card.evaluated_dataset
    if card.evaluation is None or dataset is None:
        return {}
    measured = [(name, one) for name, one in card.evaluation.metrics.items() if name in HEADLINES]
    if not measured or math.isnan(measured[0][1].value):
        return {}
    name, one = measured[0]
    notes = f"{_named(name, one)}; {card.evaluation.n_images} images of {card.evaluation.n_patients} patients"
    entry = EvalResultEntry(dataset, card.evaluation_task, _rounded(one.value), notes=notes)
    path = f".eval_results/{re.sub(r'[^0-9A-Za-z._-]+', '--', dataset)}.yaml"
    return {path: yaml_dump(eval_result_entries_to_yaml([entry]), sort_keys=False).encode()}


def _results(card: ModelCard) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    if card.evaluation is None:
        return
    dataset = card.evaluated_dataset
    point, active = next(iter(card.evaluation.decisions.items()))
    decided = active.estimates.keys() - card.evaluation.overall.keys() if active.label is not None else set()
    for name, one in card.evaluation.metrics.items():
        if name in HUB_METRICS and not math.isnan(one.value):
            yield EvalResult(
                task_type=PIPELINE,
                dataset_type=dataset or "other",
                dataset_name=_line(card.evaluated_name) or dataset or "without a name",
                dataset_split=_line(card.evaluation_split),
                metric_type=HUB_METRICS[name],
                metric_value=_rounded(one.value),
                metric_name=_named(name, one, point if name in decided else None),
            )


def _named(name: str, one: Estimate, point: str | None = None) -> str:
    """Return a figure's name with its operating point and its interval, which the Hub has no fields for."""
    interval = re.search(r"\((.*)\)", cell(one))
    at = "" if point is None else f" at {_line(point)}"
    return f"{words(name)}{at}" + (f" (95% interval {interval[1]})" if interval else "")


def _rounded(value: float) -> float:
    return round(value, 4)


def _line(text: str | None) -> Any:
    """Return text in one line that UTF-8 can hold."""
    return None if text is None else printable(" ".join(str(text).split()))
