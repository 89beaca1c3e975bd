"""One copy of each model, and nobody is served what is not offered."""

from __future__ import annotations

import copy
import gc
import tempfile
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants as hub_constants

from cxr_estimator import CXRClassifier
from cxr_estimator.demo import _models
from cxr_estimator.demo._analysis import Question
from cxr_estimator.demo._api import Endpoints
from cxr_estimator.demo._batch_tab import _judged
from cxr_estimator.demo._examples import phantom_files
from cxr_estimator.demo._models import Models
from cxr_estimator.demo._running import Turn
from cxr_estimator.demo._settings import Settings
from cxr_estimator.demo._shared import App
from cxr_estimator.errors import DataError, HubError, ModelFolderError
from cxr_estimator.hub import push
from cxr_estimator.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    return fitted.save(tmp_path_factory.mktemp("models") / "ours")


@pytest.fixture
def loads(monkeypatch):
    """What was loaded, one by one; the loading itself is real."""
    seen, load = [], Models._load

    def counted(self, name):
        seen.append(name)
        return load(self, name)

    monkeypatch.setattr(Models, "_load", counted)
    return seen


def test_names_are_the_operators_first_and_show_no_path(folder):
    models = Models(Settings(models=(str(folder), "alice/model@v1")))
    assert models.names == ["ours", "alice/model@v1", "bundled"]
    assert Models(Settings()).names == ["bundled"]


def test_a_folder_is_served_by_its_name_alone(folder, fitted, phantoms, monkeypatch):
    monkeypatch.chdir(folder.parent)
    models = Models(Settings(models=(str(folder),), allow_hub=False))
    served = models.get(" ours ")
    assert (served.name, served.revision) == ("ours", None)
    assert served.clf.predict_proba(phantoms.X[:2]) == pytest.approx(fitted.predict_proba(phantoms.X[:2]), abs=1e-6)
    for path in (str(folder), "./ours", "../ours", "ours/"):
        with pytest.raises(DataError, match="There is no model"):
            models.get(path)


@pytest.mark.parametrize("name", ["/etc", "ours", "../..", "a/b/c", "user/model@../..", "file:///etc", "", "\0", "ü/ü"])
def test_no_folder_is_reached_by_a_visitors_name(folder, name, monkeypatch, hub):
    monkeypatch.chdir(folder.parent)  # where "ours" is a model
    with pytest.raises(DataError, match="There is no model") as caught:
        Models(Settings()).get(name)
    assert str(folder.parent) not in str(caught.value)
    assert not hub.requests


def test_a_folder_in_the_way_is_not_taken_for_a_model_on_the_hub(folder, hub, tmp_path, monkeypatch):
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice" / "model").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubError):
        Models(Settings()).get("alice/model")


@pytest.mark.parametrize("name", ["ours", "bundled"])
def test_two_models_of_one_name_are_refused(tmp_path, name):
    folders = [tmp_path / part / name for part in "ab"]
    for one in folders:
        one.mkdir(parents=True)
    with pytest.raises(DataError, match="the same name"):
        Models(Settings(models=tuple(map(str, folders))))
    if name == "bundled":
        with pytest.raises(DataError, match="the same name"):
            Models(Settings(models=(str(folders[0]),)))


def test_eight_threads_at_once_get_one_copy(folder, loads):
    models, found, start = Models(Settings(models=(str(folder),))), [], threading.Barrier(8)

    def ask():
        start.wait()
        found.append(models.get("ours"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["ours"]
    assert len(found) == 8
    assert len({id(one.clf.model_) for one in found}) == 1


def test_a_slow_model_holds_up_nobody_who_wants_one_that_is_there(folder, monkeypatch):
    models = Models(Settings(models=(str(folder),)))
    models.get("ours")
    began, go_on = threading.Event(), threading.Event()

    def slow(self, name):
        began.set()
        go_on.wait(20)
        raise DataError("late")

    monkeypatch.setattr(Models, "_load", slow)

    def ask():
        with pytest.raises(DataError, match="late"):
            models.get("alice/slow")

    thread = threading.Thread(target=ask)
    thread.start()
    assert began.wait(20)
    assert models.get("ours").name == "ours"
    go_on.set()
    thread.join()


def test_visitors_models_make_room_for_each_other_and_never_for_the_operators(folder, hub, loads):
    for name in ("alice/a", "alice/b", "alice/c"):
        push(folder, name)
    models = Models(Settings(models=(str(folder),), hub_models=2))
    ours, a, b = (models.get(name) for name in ("ours", "alice/a", "alice/b"))
    assert models.get("alice/a") is a
    models.get("alice/c")  # in place of b, which was asked for the longest ago
    assert models.get("alice/a") is a
    assert models.get("alice/b") is not b
    assert models.get("ours") is ours
    assert loads == ["ours", "alice/a", "alice/b", "alice/c", "alice/b"]


def test_the_commit_is_known_and_can_be_asked_for(folder, hub):
    sha = push(folder, "alice/model").oid
    models = Models(Settings())
    by_name, by_commit = models.get("alice/model"), models.get(f"alice/model@{sha}")
    assert by_name.revision == by_commit.revision == sha
    assert by_name.clf.model_ is not by_commit.clf.model_
    with pytest.raises(HubError, match="nowhere"):
        models.get("alice/model@nowhere")


def test_visitors_have_no_part_in_the_operators_rights(folder, hub):
    sha = push(folder, "alice/private", private=True).oid
    operators = Models(Settings(models=("alice/private",)))
    assert operators.get("alice/private").revision == sha  # now in the cache of this machine, too
    for name in ("alice/private", f"alice/private@{sha}", "alice/private@main"):
        with pytest.raises(HubError):
            Models(Settings()).get(name)
    assert not any("authorization" in one.headers for one in hub.requests[-3:])


@pytest.mark.parametrize("with_commit", [False, True])
def test_what_is_too_large_is_not_fetched(folder, hub, with_commit):
    name = "alice/model" + ("@" + push(folder, "alice/model").oid) * with_commit
    push(folder, "alice/model")
    hub.requests.clear()
    with pytest.raises(HubError, match=r"alice/model: its files have .* MiB, more than"):
        Models(Settings(max_model_bytes=1000)).get(name)
    assert not hub.seen("GET", "resolve|storage")
    assert Models(Settings(models=(name,), max_model_bytes=1000)).get(name)  # the operator knows what it is


def test_without_the_hub_only_the_offered_ones_are_served(hub):
    with pytest.raises(DataError, match=r"There is no model 'alice/model' here\. Choose one of bundled"):
        Models(Settings(allow_hub=False)).get("alice/model")
    assert not hub.requests


def test_names_that_fail_leave_nothing_behind_and_may_work_later(folder, hub):
    models = Models(Settings())
    for _ in range(3):
        with pytest.raises(HubError):
            models.get("alice/later")
    push(folder, "alice/later")
    assert isinstance(models.get("alice/later").clf, CXRClassifier)
    assert len(models._loading) == _models._LOADERS


def test_a_visitors_model_is_on_disk_no_longer_than_it_is_read(folder, phantoms, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    cached = Path(hub_constants.HF_HUB_CACHE)
    push(folder, "alice/model")
    before = sorted(cached.rglob("*model*"))
    models = Models(Settings())
    clf = models.get("alice/model").clf
    assert clf.predict_proba(phantoms.X[:1]).shape == (1, 2)  # which needs no file any more
    assert not list((tmp_path / "temporary").iterdir())
    assert sorted(cached.rglob("*model*")) == before


def test_sessions_do_not_keep_a_visitors_model_in_memory(folder, hub):
    """One visitor names model after model, and looks at an image with each."""
    for name in ("alice/a", "alice/b"):
        push(folder, name)
    models = Models(Settings(hub_models=1))
    kept_by_a_session = models.get("alice/a")
    network = weakref.ref(kept_by_a_session.clf.model_)
    models.get("alice/b")
    gc.collect()
    assert network() is None
    with pytest.raises(DataError, match="alice/a had to make room"):
        _ = kept_by_a_session.clf
    assert models.get("alice/a").clf.model_ is not None


def test_but_work_keeps_it_until_it_is_done(folder, hub):
    """Others name a model meanwhile."""
    for name in ("alice/a", "alice/b"):
        push(folder, name)
    settings = Settings(hub_models=1)
    app = App(settings, Models(settings))
    steps = _judged(app, Turn(), 0, phantom_files(2), "alice/a", Question(), "grad_cam")
    shown = [next(steps), next(steps)]
    app.models.get("alice/b")
    gc.collect()
    said, *_, csv, _ = [*shown, *steps][-1]
    assert "Done. 2 of 2 files judged." in said
    assert csv["interactive"]
    asked = Endpoints(app)._model("alice/a")
    app.models.get("alice/b")
    gc.collect()
    assert asked.clf.model_ is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"preprocessing_": Preprocessing(4096)}, r"images of 4,096 pixels a side; this app takes 1,024 at most"),
        ({"classes_": np.arange(201)}, "201 labels"),
        ({"classes_": np.array(["a", "x" * 201])}, "a name of 201 characters"),
        ({"operating_points_": dict.fromkeys(map(str, range(51)))}, "51 operating points"),
    ],
    ids=["pixels", "labels", "name", "points"],
)
def test_a_visitors_model_that_would_take_the_machine_is_refused(folder, fitted, hub, monkeypatch, change, said):
    push(folder, "alice/model")
    clf = copy.copy(fitted)
    for name, value in change.items():
        setattr(clf, name, value)
    monkeypatch.setattr(CXRClassifier, "load", lambda *_, **__: clf)
    with pytest.raises(HubError, match=said):
        Models(Settings()).get("alice/model")
    assert Models(Settings(models=("alice/model",))).get("alice/model").clf is clf  # the operator knows what it is


@pytest.mark.parametrize("name", ["/nowhere/model", "nowhere", "../nowhere", "user/model@../.."])
def test_an_operator_is_told_at_once_of_a_model_that_cannot_be(folder, name):
    with pytest.raises(DataError, match="is neither a model folder nor"):
        Models(Settings(models=(str(folder), name)))


@pytest.mark.parametrize("fault", ["config.json", "model.safetensors"])
def test_messages_do_not_tell_visitors_where_a_model_lies(fitted, hub, tmp_path, fault):
    ours = fitted.save(tmp_path / "secret place" / "ours")
    models = Models(Settings(models=(str(ours),)))  # and then the folder changes
    (ours / fault).write_bytes(b"{")
    with pytest.raises(ModelFolderError, match="ours, ") as caught:
        models.get("ours")
    assert "secret" not in str(caught.value)
    assert "/" not in str(caught.value)


def test_nor_where_one_of_the_hub_was_put(folder, hub, tmp_path, monkeypatch):
    def damaged(path, **_):
        raise ModelFolderError(f"{path / 'config.json'}: not a valid configuration (why).")

    push(folder, "alice/model")
    monkeypatch.setattr(CXRClassifier, "load", damaged)
    with pytest.raises(ModelFolderError) as caught:
        Models(Settings()).get("alice/model")
    assert str(caught.value) == "alice/model, config.json: not a valid configuration (why)."
