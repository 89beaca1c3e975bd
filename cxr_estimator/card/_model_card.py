"""`ModelCard`: what its author adds to a card, and the text that comes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxr_estimator._heat_table import bucket_rows
from cxr_estimator._validation import invalid, wrong_type
from cxr_estimator._wording import (
    DISCLAIMER,
    Markdown,
    escaped,
    fenced,
    images_of,
    markdown_rows,
    number_of,
    printable,
)
from cxr_estimator.card import _facts as facts
from cxr_estimator.card._metadata import metadata, result_files
from cxr_estimator.card._picture import calibration_picture
from cxr_estimator.card._tables import evaluation_tables, explanations_table
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from cxr_estimator.audit import AuditReport
    from cxr_estimator.evaluation import EvaluationReport

CARD_NAME, PICTURE_NAME, AUDIT_NAME = "README.md", "calibration.png", "audit.json"
_WRITTEN = (
    "title", "repo_id", "license", "license_name", "license_link", "tags", "dataset", "dataset_name", "population",
    "attribution", "citation",
)  # fmt: skip
_NO_TEXTS = ("tags", "evaluation", "explanations", "audit", "bundled")
_HUB = "https://huggingface.co/datasets/"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What an author adds to the card of a model; everything else the model knows itself.

    Parameters
    ----------
    title : str, optional
    repo_id : str, optional
        Where the model is shared, "user/model"; `push_to_hub` sets it.
    license : str, optional
        Identifier of the Hub in small letters, such as "mit" or "cc-by-4.0"; "other" needs a `license_name`.
    license_name, license_link : str, optional
        Of a licence that the Hub has no identifier for.
    tags : tuple of str, default=("chest-x-ray", "medical-imaging")
    dataset, dataset_name : str, optional
        The data it was trained on: id on the Hub ("user/data"), and name.
    population : str, optional
        Where the images come from: institutions, years, devices, ages, views. Default: the card says to take them for
        those of one institution.
    attribution : str, optional
        Of the data, and of weights that the training began with.
    citation : str, optional
        BibTeX, or text.
    evaluation : EvaluationReport, optional
        What `evaluate` found on images that the model has not seen.
    evaluation_dataset, evaluation_name, evaluation_split : str, optional
        Id on the Hub and name of the data of the evaluation, where they are not those of `dataset`; and which part.
    evaluation_task : str, default="default"
        Of the benchmark, as the data set on the Hub names it.
    development : str, optional
        How the recipe was chosen, what else was tried and what it gave: Markdown, with headings of the third level.
    explanations : DataFrame, optional
        What `benchmark.benchmark` returned.
    bundled : bool, default=False
        Whether the model comes with the package, so that it is loaded without a name.
    audit : AuditReport, optional
        What `audit.audit` found. Without its pictures it also goes into audit.json, beside the card.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, make_phantoms
    >>> data = make_phantoms(40, size=32)
    >>> clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, pos_label="PNEUMONIA", random_state=0)
    >>> clf = clf.fit(data.X, data.y, groups=data.groups)
    >>> sorted(ModelCard(license="mit").files(clf))
    ['README.md']
    """

    title: str | None = None
    repo_id: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    tags: tuple[str, ...] = ("chest-x-ray", "medical-imaging")
    dataset: str | None = None
    dataset_name: str | None = None
    population: str | None = None
    attribution: str | None = None
    citation: str | None = None
    evaluation: EvaluationReport | None = None
    evaluation_dataset: str | None = None
    evaluation_name: str | None = None
    evaluation_split: str | None = None
    evaluation_task: str = "default"
    development: str | None = None
    explanations: pd.DataFrame | None = None
    audit: AuditReport | None = None
    bundled: bool = False

    def __post_init__(self) -> None:
        caller = type(self).__name__
        for name, value in vars(self).items():
            if name not in _NO_TEXTS and not isinstance(value, str | None):
                raise wrong_type(name, caller, "None or a text", value)
        if self.evaluation_task is None:
            raise invalid("evaluation_task", caller, "a text", None)
        for name in ("repo_id", "dataset", "evaluation_dataset"):
            if getattr(self, name) is not None:
                _check_id(name, getattr(self, name), caller)
        if not isinstance(self.tags, tuple | list) or not all(isinstance(tag, str) for tag in self.tags):
            raise wrong_type("tags", caller, "a tuple of texts", self.tags)
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license):
            raise invalid("license", caller, "an identifier of the Hub, such as 'mit' or 'cc-by-4.0'", self.license)
        if self.license == "other" and self.license_name is None:
            raise invalid("license_name", caller, "given where the license is 'other'", None)
        if self.explanations is not None:
            bucket_rows(self.explanations, "all", caller=caller)
        if self.evaluation is not None and not hasattr(self.evaluation, "tables"):
            raise wrong_type("evaluation", caller, "an EvaluationReport", self.evaluation)
        if self.audit is not None and not hasattr(self.audit, "checks"):
            raise wrong_type("audit", caller, "an AuditReport", self.audit)

    @property
    def evaluated_dataset(self) -> str | None:
        """Id on the Hub of the data of the evaluation; that of the training, unless another was named."""
        return (
            self.dataset
            if self.evaluation_name is None and self.evaluation_dataset is None
            else self.evaluation_dataset
        )

    @property
    def evaluated_name(self) -> str | None:
        """Name of the data of the evaluation."""
        return self.evaluation_name if self._evaluated_elsewhere else self.dataset_name

    @property
    def _evaluated_elsewhere(self) -> bool:
        return self.evaluation_name is not None or self.evaluation_dataset is not None

    def to_dict(self) -> dict[str, Any]:
        """Return what the author wrote, as JSON types; what was measured belongs to one state of the model, and not."""
        defaults = type(self)()
        written = {name: getattr(self, name) for name in _WRITTEN if getattr(self, name) != getattr(defaults, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in written.items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ModelCard:
        """Undo `to_dict`; raises ValueError or TypeError for anything else."""
        unknown = sorted(set(content) - set(_WRITTEN))
        if unknown:
            raise invalid("card", "load", f"made of {', '.join(_WRITTEN)}", unknown)
        parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        return cls(**parts)

    def files(self, clf: Any) -> dict[str, bytes]:
        """Return README.md, the pictures it shows, audit.json and `.eval_results/*.yaml`, by name.

        The same card of the same model has the same bytes. No patient, no file name and no image is in it.

        Parameters
        ----------
        clf : CXRClassifier or CXREnsemble
            Fitted.

        Raises
        ------
        DataError
            The evaluation or the audit is of other classes.
        """
        own = clf.classes_.tolist()
        if self.evaluation is not None:
            _check_classes("evaluation", list(self.evaluation.classes), own)
        if self.audit is not None:
            _check_classes("audit", list(self.audit.classes), list(map(str, own)))
        picture = calibration_picture(clf, self.evaluation)
        found = {CARD_NAME: _text(self, clf, has_picture=picture is not None).encode()}
        if picture is not None:
            found[PICTURE_NAME] = picture
        if self.audit is not None:
            found[AUDIT_NAME] = self.audit.to_json().encode()
        return found | result_files(self)


def _text(card: ModelCard, clf: Any, *, has_picture: bool) -> str:
    """Return the card. What is put into the template is escaped, unless it is `Markdown`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    title = card.title or f"{facts.listed(clf.classes_.tolist())}: {facts.network(clf)}"
    # Markdown is no HTML: `escaped` does what autoescape would do there
    page = Environment(  # noqa: S701
        loader=PackageLoader("cxr_estimator", "card"),
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    members = clf._members()
    text = page.get_template("card.md.jinja").render(
        card=card,
        clf=clf,
        facts=facts,
        images_of=images_of,
        number_of=number_of,
        title=title,
        metadata=Markdown(metadata(card, clf, title)),
        disclaimer=DISCLAIMER,
        members=members,
        measured=any(point.n_images for point in clf.operating_points_.values()),
        has_subgroups=card.evaluation is not None and len(card.evaluation.subgroups) > 0,
        seen=members[0].provenance_,
        has_picture=has_picture,
        picture=PICTURE_NAME,
        table=lambda found: markdown_rows(*found),
        python=_python(card, clf),
        shell=_shell(card) if len(members) == 1 else None,  # the commands take single models
        dataset=_dataset(card.dataset, card.dataset_name),
        evaluated=_dataset(card.evaluated_dataset, card.evaluated_name),
        tables=[] if card.evaluation is None else evaluation_tables(card.evaluation),
        development=None if card.development is None else Markdown(card.development.strip()),
        explanations=None if card.explanations is None else explanations_table(card.explanations),
        audit=None if card.audit is None else card.audit.to_markdown(),
        citation=None if card.citation is None else _citation(card.citation),
    )
    return printable(text)


def _python(card: ModelCard, clf: Any) -> Markdown:
    kind, target = type(clf).__name__, ", target=clf.classes_[0]" * (clf.task_ == "multilabel")
    lines = [
        f"from cxr_estimator import {kind}",
        "",
        f"clf = {kind}.from_pretrained({_quoted(card)})",
        f'clf.predict_proba(["image.png"])  # (1, {len(clf.classes_)}), columns in the order of clf.classes_',
        'clf.predict(["image.png"])',
        f'clf.explain(["image.png"], method="grad_cam"{target}).plot()',
    ]
    return fenced("\n".join(lines), "python")


def _shell(card: ModelCard) -> Markdown:
    model = "" if card.bundled else f" --model {card.repo_id or 'USER/MODEL'}"
    return fenced(f"cxr predict{model} image.png", "sh")


def _quoted(card: ModelCard) -> str:
    return "" if card.bundled else f'"{card.repo_id or "USER/MODEL"}"'


def _dataset(identifier: str | None, name: str | None) -> Markdown | None:
    """Return the name of a data set, with a link to the Hub where it is there."""
    if identifier is None:
        return None if name is None else escaped(name)
    return Markdown(f"[{escaped(name or identifier)}]({_HUB}{identifier})")


def _citation(text: str) -> Markdown:
    return fenced(text, "bibtex" if text.lstrip().startswith("@") else "text")


def _check_id(name: str, value: str, caller: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(value)
    except HFValidationError as error:
        raise invalid(name, caller, "a name as the Hub has them, such as 'user/model'", value) from error


def _check_classes(what: str, theirs: list[Any], own: list[Any]) -> None:
    if theirs != own:
        raise DataError(f"ModelCard: the {what} is of the classes {theirs}, but the model knows {own}.")
