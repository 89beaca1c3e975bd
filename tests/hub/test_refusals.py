"""What a Hub can refuse, or do wrong while it answers: clear errors, and nothing half done."""

from __future__ import annotations

import json
import threading

import pytest

from cxr_estimator.checksums import SUMS_NAME
from cxr_estimator.errors import HubError
from cxr_estimator.hub import differences, fetch, push
from tests.hub import OTHER, READ, WRITE, Fault
from tests.hub.folders import WEIGHTS, is_whole, refused, write_model

# -- a Hub that refuses


def test_a_repository_that_is_not_there_or_private(hub, model):
    hub.store.put("models", "alice/private", {SUMS_NAME: b""})
    hub.store.find("models", "alice/private").private = True
    for name, token in (
        ("alice/none", None),
        ("alice/none", False),
        ("alice/private", OTHER),
        ("alice/private", False),
    ):
        with refused(r"there is no such repository at http.*, or it is private\. If it is yours, log in with `hf auth"):
            fetch(name, token=token)
        with refused("there is no such repository"):
            differences(model, name, token=token)


def test_a_gated_repository(hub, shared, model):
    hub.store.find("models", shared).gated = True
    with refused(rf"access to this repository is restricted\. Ask for it at {hub.endpoint}/alice/model, then log in"):
        fetch(shared, token=OTHER)
    with refused("is restricted"):
        fetch(shared, token=False)
    hub.store.find("models", shared).granted.add("bob")
    assert is_whole(fetch(shared, token=OTHER), model)


def test_a_revision_that_is_not_there(hub, shared, model):
    for revision in ("v9", "refs/pr/7", "0" * 40):
        with refused(rf"this repository has no revision \(branch, tag or commit\) '{revision}'"):
            fetch(shared, revision=revision)
        with refused("has no revision"):
            differences(model, shared, revision=revision)


def test_a_token_that_is_not_valid(hub, shared, model):
    for function in (lambda: fetch(shared, token="hf_gone"), lambda: push(model, shared, token="hf_gone")):
        with refused("no token was given, or one that is not valid"):
            function()


def test_tokens_that_may_not_write(hub, shared, model):
    write_model(model, seed=1)
    head = hub.store.find("models", shared).head().sha
    with refused(rf"you must use a write token.* make one that may write at {hub.endpoint}/settings/tokens"):
        push(model, shared, token=READ)
    with refused("don't have the rights"):
        push(model, shared, token=OTHER)
    with refused("no token was given, or one that is not valid .* log in with `hf auth login`, or pass token="):
        push(model, shared, token=False)
    for token, match in ((READ, "write token"), (OTHER, "rights"), (False, "no token was given")):
        with refused(match):
            push(model, "alice/new", token=token)
    assert hub.store.find("models", "alice/new") is None
    assert hub.store.find("models", shared).head().sha == head
    assert not hub.seen("PUT")


def test_no_token_where_one_was_promised(hub, shared, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with refused("token=True, but there is none here; log in"):
        fetch(shared, token=True)


# -- a Hub that is out of order


@pytest.mark.parametrize(
    ("method", "path", "waited"),
    [
        ("HEAD", "config.json", []),
        ("POST", "/preupload/", [1]),
        ("POST", "objects/batch", [1]),
        ("PUT", "", [1]),
    ],
)
def test_what_is_tried_again_after_a_500(hub, shared, model, waits, method, path, waited):
    hub.faults.append(Fault(method, path, "status"))
    write_model(model, seed=1)
    done = push(model, shared)
    assert is_whole(fetch(shared, revision=done.oid), model)
    assert hub.faults[0].times == 0
    assert waits == waited


@pytest.mark.parametrize("path", ["/api/models/alice/model$", WEIGHTS, "/resolve/.*config"])
def test_fetching_after_a_500_that_is_not_tried_again(hub, shared, model, path):
    hub.faults.append(Fault("GET", path, "status", status=503))
    with refused(r"[Tt]he Hub \(http.*\) is out of order at the moment \(status 503\); try again later"):
        fetch(shared, revision=None)
    assert is_whole(fetch(shared), model)


@pytest.mark.parametrize("path", ["/commit/", "/api/repos/create", "/validate-yaml", "/api/models/alice/new$"])
@pytest.mark.parametrize("kind", ["status", "drop"])
def test_pushing_where_nothing_is_half_done(hub, model, path, kind):
    hub.faults.append(Fault("", path, kind))
    with refused("is out of order|gave no answer"):
        push(model, "alice/new")
    repository = hub.store.find("models", "alice/new")
    assert repository is None or len(repository.commits) == 1
    uploads = len(hub.seen("PUT"))
    done = push(model, "alice/new")
    assert len(hub.store.find("models", "alice/new").commits) == 2
    assert is_whole(fetch("alice/new", revision=done.oid), model)
    assert len(hub.seen("PUT")) == 1  # weights that arrived before the fault are not sent again
    assert uploads == (path == "/commit/")


def test_a_commit_whose_answer_is_lost(hub, shared, model):
    write_model(model, seed=1)
    hub.faults.append(Fault("POST", "/commit/", "lost"))
    with refused("gave no answer .* what was done stays done"):
        push(model, shared)
    head = hub.store.find("models", shared).head()
    assert push(model, shared) == (f"{hub.endpoint}/alice/model/commit/{head.sha}", head.sha, (), None)


def test_something_else_answers(hub, shared):
    hub.faults.append(Fault("GET", "", "status", status=200, body=b"<html>Log in to the guest network</html>"))
    with refused(f"what answered at {hub.endpoint} is no Hub: a proxy or login page, or a wrong HF_ENDPOINT"):
        fetch(shared)


@pytest.mark.parametrize(("status", "match"), [(429, "too many requests"), (418, "refused with status 418")])
def test_other_refusals(hub, shared, status, match):
    hub.faults.append(Fault("GET", "", "status", status=status))
    with refused(match):
        fetch(shared)


def test_a_hub_that_takes_for_ever(hub, shared, model, monkeypatch):
    monkeypatch.setattr("cxr_estimator.hub._remote._PATIENCE", 0.2)
    stalled = Fault("GET", "/api/models/", "stall", at=0, times=-1)
    hub.faults.append(stalled)
    for function in (lambda: fetch(shared), lambda: push(model, shared), lambda: differences(model, shared)):
        with refused(r"gave no answer \(ReadTimeout"):
            function()
    stalled.go_on.set()


def test_an_upload_that_is_refused(hub, shared, model):
    write_model(model, seed=1)
    hub.faults.append(Fault("PUT", "", "status", status=403))
    with refused(r"Error while uploading 'model\.safetensors' to the Hub"):
        push(model, shared)
    assert not hub.seen("POST", "/commit/")


def test_secrets_in_the_words_of_a_hub_are_not_repeated(hub, shared):
    said = f"Bearer {WRITE} may not: see https://storage.example/key?X-Signature=abc, {READ}"
    hub.faults.append(Fault("GET", "", "status", status=418, body=json.dumps({"error": said}).encode()))
    with pytest.raises(HubError, match=r"Bearer \*\*\* may not: see https://storage\.example/key hf_\*\*\*") as caught:
        fetch(shared)
    assert "abc" not in str(caught.value)


def test_two_pushes_at_the_same_time(hub, shared, model):
    write_model(model, seed=1)
    stalled = Fault("POST", "/preupload/", "stall", at=0)
    hub.faults.append(stalled)
    errors: list[BaseException] = []

    def first():
        with refused("somebody else pushed at the same time, so nothing was changed") as caught:
            push(model, shared)
        errors.append(caught.value)

    thread = threading.Thread(target=first)
    thread.start()
    assert stalled.reached.wait(30)
    theirs = hub.store.put("models", shared, {"README.md": b"theirs"})
    stalled.go_on.set()
    thread.join(30)
    assert errors
    assert hub.store.find("models", shared).head() == theirs
    (commit,) = hub.seen("POST", "/commit/")
    assert theirs.parent.encode() in commit.body  # the head that the push had seen
