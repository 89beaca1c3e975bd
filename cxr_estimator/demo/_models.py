"""One copy of each model, shared by all sessions; nothing here changes a model once it is loaded."""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import HfApi

from cxr_estimator import hub
from cxr_estimator._bundled import BUNDLED, bundled_folder
from cxr_estimator.card import CARD_NAME
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.demo._settings import MEBIBYTE, Settings
from cxr_estimator.errors import DataError, HubError, ModelFolderError
from cxr_estimator.hub import check_repo_id
from cxr_estimator.hub._errors import check_revision, hub_errors

_LONGEST_CARD = 200_000  # bytes
_COMMIT = re.compile("[0-9a-f]{40}")
_LOADERS = 8
# of a model that a visitor names: what its images, its answers and its words may cost others
_MOST_PIXELS, _MOST_LABELS, _MOST_POINTS, _LONGEST_NAME = 1024, 200, 50, 200


class Served(NamedTuple):
    """A model.

    Attributes
    ----------
    name : str
        What visitors see: "bundled", the name of a folder without its path, or "user/model".
    clf : CXRClassifier
    revision : str or None
        The commit on the Hub.
    card : str
        Its model card in Markdown, as its author wrote it; empty where there is none.
    """

    name: str
    clf: CXRClassifier
    revision: str | None = None
    card: str = ""

    def held(self) -> Served:
        """Return the model for a piece of work, which keeps it in memory until it is done, whatever others name."""
        return Served(self.name, self.clf, self.revision, self.card)


class Lent(Served):
    """A model that a visitor named: sessions that have used it do not keep it in memory, only the app and `held` do."""

    @property
    def clf(self) -> CXRClassifier:
        """The model, while it is there."""
        lent: Any = tuple.__getitem__(self, 1)  # a weak reference
        found: CXRClassifier | None = lent()
        if found is None:
            raise DataError(f"The model {self.name} had to make room for another one meanwhile; choose it again.")
        return found


class Models:
    """The models of an app: those offered are kept, those that visitors name make room for others.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._offered = {BUNDLED: BUNDLED} | {_shown(source): source for source in settings.models}
        if len(self._offered) < 1 + len(settings.models):
            raise DataError(f"Two of the models have the same name: {', '.join(settings.models)}.")
        for source in settings.models:
            _check_source(source)
        self._kept: dict[str, Served] = {}
        self._visited: OrderedDict[str, tuple[Served, Any]] = OrderedDict()  # with what keeps its model alive
        self._lock = threading.Lock()  # of the table
        # so that nobody loads what another is loading; as many as may load at once, whatever names visitors think of
        self._loading = [threading.Lock() for _ in range(_LOADERS)]

    @property
    def names(self) -> list[str]:
        """The models on offer, the first one being the default: the operator's, if any, before the bundled one."""
        return [*(name for name in self._offered if name != BUNDLED), BUNDLED]

    def get(self, name: str) -> Served:
        """Return a model on offer, or one on the Hub that a visitor names as "user/model" or "user/model@revision".

        Raises
        ------
        DataError
            It is neither; nothing else is looked for on this machine.
        HubError, ModelFolderError
            The Hub refuses or cannot be reached, or what it has is too large or no model of ours.
        """
        name = str(name).strip()
        found = self._there(name)
        if found is None:
            with self._loading[hash(name) % _LOADERS]:
                found = self._there(name) or self._keep(name, self._load(name))
        return found

    def _there(self, name: str) -> Served | None:
        with self._lock:
            if name in self._visited:
                self._visited.move_to_end(name)
                return self._visited[name][0]
            return self._kept.get(name)

    def _keep(self, name: str, served: Served) -> Served:
        with self._lock:
            if name in self._offered:
                self._kept[name] = served
                return served
            lent = Lent(served.name, weakref.ref(served.clf), served.revision, served.card)  # type: ignore[arg-type]
            self._visited[name] = lent, served.clf
            while len(self._visited) > self._settings.hub_models:
                self._visited.popitem(last=False)
            return lent

    def _load(self, name: str) -> Served:
        device = self._settings.device
        if name == BUNDLED:
            return Served(name, CXRClassifier.from_pretrained(device=device), card=_card(bundled_folder()))
        source = self._offered.get(name)
        if source is not None and Path(source).is_dir():
            with _naming(Path(source), name):
                return Served(name, CXRClassifier.load(source, device=device), card=_card(Path(source)))
        if source is None and not self._settings.allow_hub:
            raise DataError(f"There is no model {name!r:.100} here. Choose one of {', '.join(self.names)}.")
        # a visitor's wish must not be fulfilled by the operator's rights
        return self._from_hub(name, source or name, token=None if source else False)

    def _from_hub(self, name: str, source: str, *, token: bool | None) -> Served:
        there = f"Choose one of {', '.join(self.names)}, or name one on the Hugging Face Hub as user/model."
        repo_id, revision = _on_hub(source, otherwise=f"There is no model {name!r:.100} here. {there}")
        # of a visitor's model the size is asked for even where the commit is known, and whether it is public
        if token is False or not _COMMIT.fullmatch(revision):
            with hub_errors(repo_id, revision or None):
                info = HfApi(token=token).model_info(repo_id, revision=revision or None, files_metadata=True)
            size, most = sum(one.size or 0 for one in info.siblings or []), self._settings.max_model_bytes
            if token is False and size > most:
                limit = f"{size / MEBIBYTE:,.0f} MiB, more than the {most / MEBIBYTE:,.0f} MiB that this app loads"
                raise HubError(f"{repo_id}: its files have {limit}.")
            revision = str(info.sha)
        if token is not False:
            return self._fetched(name, repo_id, revision, token=token)
        # on disk no longer than it is read, else visitors would fill the disk with models
        with (
            tempfile.TemporaryDirectory(prefix="cxr_demo_model_", ignore_cleanup_errors=True) as cache,
            _naming(Path(cache), repo_id),
        ):
            served = self._fetched(name, repo_id, revision, token=token, cache_dir=cache)
        _check_modest(repo_id, served.clf)
        return served

    def _fetched(self, name: str, repo_id: str, revision: str, **options: Any) -> Served:
        # not from_pretrained, which would also take a folder of that name
        folder = hub.fetch(repo_id, revision=revision, **options)
        with _naming(folder, repo_id):
            return Served(name, CXRClassifier.load(folder, device=self._settings.device), revision, _card(folder))


@contextlib.contextmanager
def _naming(folder: Path, name: str) -> Iterator[None]:
    """Let errors call a model by its name: visitors read them, and where it lies is none of their business."""
    try:
        yield
    except ModelFolderError as error:
        text = re.sub(rf"{re.escape(str(folder))}[^\s:]*/(?=[^/\s:]+:)", f"{name}, ", str(error))
        raise ModelFolderError(text.replace(str(folder), name)) from None


def _check_source(source: str) -> None:
    """Raise unless an operator names the bundled model, a folder that is there, or what may be on the Hub."""
    if source != BUNDLED and not Path(source).is_dir():
        _on_hub(
            source, otherwise=f"{source}: is neither a model folder nor user/model or user/model@revision on the Hub."
        )


def _on_hub(source: str, *, otherwise: str) -> tuple[str, str]:
    """Return repository and revision ("" for none) of a name of that form; raise a DataError that says `otherwise`."""
    repo_id, _, revision = source.partition("@")
    try:
        check_repo_id(repo_id, caller="the app")
        check_revision("revision", revision or None, caller="the app")
    except ValueError as error:
        raise DataError(otherwise) from error
    return repo_id, revision


def _check_modest(repo_id: str, clf: CXRClassifier) -> None:
    """Raise for a model of a visitor whose work would take the machine from others, or whose words would fill pages."""
    labels, points = [str(label) for label in clf.classes_], list(clf.operating_points_)
    for what, found, most in (
        ("images of {} pixels a side", clf.preprocessing_.image_size, _MOST_PIXELS),
        ("{} labels", len(labels), _MOST_LABELS),
        ("{} operating points", len(points), _MOST_POINTS),
        ("a name of {} characters", max(map(len, [*labels, *points])), _LONGEST_NAME),
    ):
        if found > most:
            raise HubError(f"{repo_id}: it has {what.format(f'{found:,}')}; this app takes {most:,} at most.")


def _card(folder: Path) -> str:
    """Return the beginning of a model's card, or nothing where it has none."""
    path = folder / CARD_NAME
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        return file.read(_LONGEST_CARD).decode("utf-8", "replace")


def _shown(source: str) -> str:
    """Return what visitors see: of a folder not the path."""
    return Path(source).resolve().name if Path(source).is_dir() else source
