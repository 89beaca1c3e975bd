"""Pushing and fetching model folders with the real client, against a local Hub that behaves."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import example, given
from hypothesis import strategies as st

from cxr_estimator.checksums import SUMS_NAME, sha256_of, write_sums
from cxr_estimator.errors import EditedFilesWarning, HubError, InvalidParameterError, InvalidTypeError, ModelFolderError
from cxr_estimator.hub import Change, check_repo_id, differences, fetch, push
from tests.hub import OTHER, READ, WRITE
from tests.hub.folders import CARD, names, write_model


def test_push_makes_one_commit_of_what_the_sums_list(hub, model):
    (model / "patient.png").write_bytes(b"not listed, so it stays here")
    done = push(model, "alice/model", commit_message="First")
    repository = hub.store.find("models", "alice/model")
    first, created = repository.history()
    assert (done.oid, first.title, created.title) == (first.sha, "First", "initial commit")
    assert done.url == f"{hub.endpoint}/alice/model/commit/{first.sha}"
    assert done.changed == ("README.md", "config.json", "model.safetensors", SUMS_NAME)
    assert set(first.files) == {".gitattributes", *done.changed}
    for name in done.changed:
        assert hub.store.read("models", "alice/model", name) == (model / name).read_bytes()
    assert not repository.private
    assert len(hub.seen("POST", "/commit/")) == 1
    (upload,) = hub.seen("PUT")
    assert (upload.received, upload.token) == (20_000, None)  # large files go elsewhere, and no token with them
    assert {one.token for one in hub.seen(path="/api/")} == {"write"}
    assert len(hub.seen("POST", "validate-yaml")) == 1


def test_nothing_new_is_no_commit(hub, model):
    first = push(model, "alice/model")
    before = len(hub.requests)
    again = push(model, "alice/model")
    assert (again.oid, again.url, again.changed) == (first.oid, first.url, ())
    assert {one.method for one in hub.requests[before:]} == {"GET", "HEAD"}
    assert sum(one.received for one in hub.requests[before:]) == 0


def test_unchanged_files_are_not_sent_again(hub, model):
    push(model, "alice/model")
    before = len(hub.requests)
    write_model(model, card=CARD + "More.\n")
    assert push(model, "alice/model").changed == ("README.md", SUMS_NAME)
    sent = hub.requests[before:]
    assert not [one for one in sent if one.method == "PUT" or "lfs" in one.path]
    assert sum(one.received for one in sent) < 4000  # the card goes to the validation, the preupload and the commit
    write_model(model, card=CARD + "More.\n", seed=1)
    before = len(hub.requests)
    assert push(model, "alice/model").changed == ("model.safetensors", SUMS_NAME)
    assert [one.received for one in hub.requests[before:] if one.method == "PUT"] == [20_000]
    write_model(model, card=CARD + "More.\n", seed=0)  # which the Hub has had before
    before = len(hub.requests)
    push(model, "alice/model")
    assert not [one for one in hub.requests[before:] if one.method == "PUT"]


def test_files_of_an_earlier_push_go_and_those_of_others_stay(hub, model):
    extra = {"curve.png": b"\x89PNG", ".eval_results/a.yaml": b"- a: 1\n", ".eval_results/b.yaml": b"- b: 1\n"}
    write_model(model, extra=extra)
    push(model, "alice/model")
    hub.store.put("models", "alice/model", {"notes.txt": b"by hand", ".eval_results/b.yaml": b"- b: 2\n"})
    for name in extra:
        (model / name).unlink()
    write_model(model)
    with pytest.warns(EditedFilesWarning, match=r"b\.yaml was edited on the Hub and is kept"):
        done = push(model, "alice/model")
    assert done.changed == (SUMS_NAME, ".eval_results/a.yaml", "curve.png")
    left = hub.store.find("models", "alice/model").head().files
    assert set(left) == {*names(model), ".gitattributes", "notes.txt", ".eval_results/b.yaml"}


def test_a_card_that_was_edited_on_the_hub_is_kept(hub, model):
    push(model, "alice/model")
    hub.store.put("models", "alice/model", {"README.md": b"---\nlicense: mit\n---\nBy hand\n"})
    for seed in (1, 2):  # for ever, not only once
        write_model(model, seed=seed, card=CARD + "New.\n")
        with pytest.warns(EditedFilesWarning, match=r"README\.md was edited on the Hub and is kept; delete it there"):
            push(model, "alice/model")
        assert hub.store.read("models", "alice/model", "README.md").endswith(b"By hand\n")
    HfApi().delete_file("README.md", "alice/model")
    push(model, "alice/model")
    assert hub.store.read("models", "alice/model", "README.md") == (model / "README.md").read_bytes()


def test_a_card_that_was_there_first_is_kept(hub, model):
    hub.store.put(
        "models", "alice/model", {"README.md": b"---\nlicense: mit\n---\nMine\n", SUMS_NAME: b"of another tool"}
    )
    with pytest.warns(EditedFilesWarning, match="README"):
        push(model, "alice/model")
    assert hub.store.read("models", "alice/model", "README.md").endswith(b"Mine\n")


def test_branches_and_pull_requests(hub, model):
    push(model, "alice/model")
    write_model(model, seed=1)
    on_branch = push(model, "alice/model", branch="next/one")
    repository = hub.store.find("models", "alice/model")
    assert repository.branches["next/one"] == on_branch.oid
    assert repository.commits[on_branch.oid].parent == repository.branches["main"]
    write_model(model, seed=2)
    pull = push(model, "alice/model", create_pr=True, token=OTHER)  # anybody may propose
    assert pull.pull_request == f"{hub.endpoint}/alice/model/discussions/1"
    assert repository.pulls == {"refs/pr/1": pull.oid}
    assert repository.branches == {"main": repository.commits[pull.oid].parent, "next/one": on_branch.oid}
    with pytest.raises(HubError, match=r"has no revision .* 'none'"):
        push(model, "alice/model", branch="none", create_pr=True)


def test_private_is_for_new_repositories(hub, model):
    push(model, "alice/private", private=True)
    assert hub.store.find("models", "alice/private").private
    push(model, "alice/model")
    write_model(model, seed=1)
    before = len(hub.requests)
    with pytest.raises(HubError, match="is public already, so nothing was sent"):
        push(model, "alice/model", private=True)
    assert {one.method for one in hub.requests[before:]} == {"GET"}
    with pytest.raises(HubError, match="is private already"):
        push(model, "alice/private", private=False)
    assert push(model, "alice/private", private=True).changed


def test_fetch_gets_the_files_of_the_model_and_no_others(hub, model):
    write_model(model, extra={"member_0/config.json": b"{}", "odd [a].png": b"1"})
    push(model, "alice/model")
    others = {"huge.bin": b"1" * 99, "odd a.png": b"2", "radiograph.png": b"3"}
    head = hub.store.put("models", "alice/model", others).sha
    folder = fetch("alice/model")
    assert folder.name == head
    assert names(folder) == names(model)
    for name in names(model):
        assert (folder / name).read_bytes() == (model / name).read_bytes()
    assert not hub.seen(path="huge|odd%20a|radiograph")
    before = len(hub.requests)
    assert fetch("alice/model", revision=head) == folder  # a commit that is cached needs no request at all
    assert fetch("alice/model", local_files_only=True) == folder
    assert len(hub.requests) == before
    assert fetch("alice/model") == folder
    assert {one.path for one in hub.requests[before:]} == {
        "/api/models/alice/model",
        "/api/models/alice/model/revision/main",
    }


def test_fetch_of_tags_branches_and_older_commits(hub, model):
    first = push(model, "alice/model").oid
    HfApi().create_tag("alice/model", tag="v1")
    write_model(model, seed=1)
    second = push(model, "alice/model", branch="next").oid
    write_model(model, seed=2)
    third = push(model, "alice/model").oid
    found = [fetch("alice/model", revision=one).name for one in ("v1", first, "next", second, "main", None)]
    assert found == [first, first, second, second, third, third]
    weights = {
        (fetch("alice/model", revision=one) / "model.safetensors").read_bytes() for one in (first, second, third)
    }
    assert len(weights) == 3


def test_fetch_goes_into_the_cache_that_was_asked_for(hub, model, tmp_path):
    push(model, "alice/model")
    folder = fetch("alice/model", cache_dir=tmp_path / "mine", token=False)
    assert folder.is_relative_to(tmp_path / "mine")
    assert {one.token for one in hub.seen("GET", "/resolve/")} == {None}


def test_a_repository_without_a_model_of_ours(hub):
    hub.store.put("models", "alice/other", {"config.json": b"{}", "pytorch_model.bin": b"1" * 99})
    with pytest.raises(HubError, match=r"alice/other: the repository holds no SHA256SUMS, so there is no model of cxr"):
        fetch("alice/other")
    assert [one.path.rpartition("/")[2] for one in hub.seen("GET", "/resolve/")] == ["config.json"]


def test_differences(hub, model):
    write_model(model, extra={"a.png": b"1", "member_0/config.json": b'{"x": 1}'})
    commit = push(model, "alice/model").oid
    same = differences(model, "alice/model")
    assert (same.commit, same.changed, same.only_here, same.only_there, same.config) == (commit, (), (), (), ())
    assert same.same == tuple(sorted(names(model) - {SUMS_NAME}))
    (model / "a.png").unlink()
    hub.store.put("models", "alice/model", {"notes.txt": b"by hand"})
    config = {"format": "cxr_estimator", "parameters": {"image_size": 64, "backbone": "plain_cnn"}, "ood": None}
    write_model(model, seed=1, config=config, extra={"b.png": b"1", "member_0/config.json": b'{"x": [2]}'})
    before = len(hub.requests)
    found = differences(model, "alice/model", revision=commit, token=READ)
    assert (found.same, found.only_here, found.only_there) == (("README.md",), ("b.png",), ("a.png",))
    assert found.changed == ("config.json", "member_0/config.json", "model.safetensors")
    assert found.config == (
        Change("classes", None, '["a", "b"]'),
        Change("ood", "null", None),
        Change("parameters.image_size", "64", "32"),
        Change("member_0.x", "[2]", "1"),
    )
    assert not [one for one in hub.requests[before:] if "storage" in one.path or "safetensors" in one.path]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"{", "cannot be read as JSON"),
        (b"[1]", "must hold a JSON object. Got list"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b"[" * 100_000, "recursion"),
        (b"\xff", "cannot be read as JSON"),
    ],
)
def test_differences_from_a_configuration_that_is_none(hub, model, content, match):
    push(model, "alice/model")
    hub.store.put("models", "alice/model", {"config.json": content})
    with pytest.raises(ModelFolderError, match=f"alice/model: config.json: .*{match}"):
        differences(model, "alice/model")


BAD_IDS = [
    "../x", "a/b/c", "model", "", "/", "a/", "/a", "file:///etc/passwd", "https://huggingface.co/a/b", "a/b\0", "a/b\n",
    "a/..", "a/b--c", "a/b.git", "a/.b", "é/b", "a/" + "b" * 97, "a b/c", "a\\b/c", "~/model", "-a/b", "a/b-",
    "x/" + "y" * 100_000,
]  # fmt: skip


@given(st.text("aZ0._-/é\n ", min_size=1, max_size=12) | st.from_regex(r"[a-z]{0,97}/[a-z.]{0,97}"))
@example("hf-vision/chest-xray_1.0")
def test_names_are_those_that_the_client_allows_for_users(text):
    try:
        accepted = bool(check_repo_id(text, caller="test"))
    except InvalidParameterError:
        accepted = False
    try:
        validate_repo_id(text)
        allowed = "/" in text
    except HFValidationError:
        allowed = False
    assert accepted == allowed


@pytest.mark.parametrize("repo_id", BAD_IDS, ids=[repr(one[:12]) for one in BAD_IDS])
def test_names_that_no_repository_has(hub, model, repo_id):
    for function in (fetch, lambda name: push(model, name), lambda name: differences(model, name)):
        with pytest.raises(InvalidParameterError, match=r"'repo_id' parameter of \w+ must be 'user/model'") as caught:
            function(repo_id)
        assert len(str(caught.value)) < 2500
    assert not hub.requests


@pytest.mark.parametrize(
    "revision", ["../../x", "", "a b", "/main", "-x", "a..b", "a\0", "x" * 201, "a.lock", "v1.", "a//b"]
)
def test_names_that_no_revision_has(hub, model, revision):
    for function, name in ((fetch, "revision"), (differences, "revision"), (push, "branch")):
        arguments = ["alice/model"] if function is fetch else [model, "alice/model"]
        with pytest.raises(InvalidParameterError, match=f"'{name}' parameter"):
            function(*arguments, **{name: revision})
    assert not hub.requests


def test_wrong_types(hub, model):
    with pytest.raises(InvalidTypeError, match="'repo_id' parameter of from_pretrained"):
        fetch(Path("a/b"))
    with pytest.raises(InvalidTypeError, match="'revision' parameter"):
        fetch("a/b", revision=1)
    with pytest.raises(InvalidTypeError, match="'token' parameter"):
        fetch("a/b", token=b"hf_secret")
    with pytest.raises(InvalidTypeError, match="'commit_message' parameter"):
        push(model, "a/b", commit_message=" ")
    with pytest.raises(InvalidParameterError, match="'local_files_only' parameter of from_pretrained"):
        fetch("a/b", local_files_only="no")
    with pytest.raises(InvalidTypeError, match="'cache_dir' parameter of from_pretrained"):
        fetch("a/b", cache_dir=1)
    for name in ("private", "create_pr"):
        with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of push_to_hub"):
            push(model, "a/b", **{name: "no"})
    assert not hub.requests


@pytest.mark.parametrize("token", ["hf_secret\n", "hf secret", "", "hf_sécret"])
def test_a_token_that_cannot_be_sent_is_not_shown(hub, model, token):
    with pytest.raises(InvalidParameterError, match="'token' parameter") as caught:
        fetch("alice/model", token=token)
    assert "ecret" not in str(caught.value)
    assert not hub.requests


def test_only_a_folder_that_is_as_its_sums_say_is_pushed(hub, model, tmp_path):
    (model / "README.md").write_text("edited")
    with pytest.raises(ModelFolderError, match=r"README\.md changed since the model was saved"):
        push(model, "alice/model")
    (model / SUMS_NAME).unlink()
    with pytest.raises(ModelFolderError, match="there is no such file"):
        push(model, "alice/model")
    write_model(model)
    (tmp_path / "secret").write_text("secret")
    (model / "curve.png").symlink_to(tmp_path / "secret")
    with (model / SUMS_NAME).open("a") as file:
        file.write(f"{sha256_of(tmp_path / 'secret')}  curve.png\n")
    with pytest.raises(ModelFolderError, match=r"curve\.png: is a link"):
        push(model, "alice/model")
    (model / SUMS_NAME).write_text(f"{sha256_of(tmp_path / 'secret')}  ../secret\n")
    with pytest.raises(ModelFolderError, match="may lead out of the folder"):
        push(model, "alice/model")
    linked = tmp_path / "linked"
    (tmp_path / "elsewhere").mkdir()
    write_model(tmp_path / "elsewhere/member_0")
    linked.mkdir()
    (linked / "member_0").symlink_to(tmp_path / "elsewhere/member_0")
    write_sums(linked, {"member_0/config.json": sha256_of(linked / "member_0/config.json")})
    with pytest.raises(ModelFolderError, match="is a link"):
        push(linked, "alice/model")
    assert not hub.requests


def test_a_card_that_the_hub_refuses(hub, model):
    write_model(model, card="---\nlicense: my own\n---\n")
    with pytest.raises(HubError, match=r'alice/model: Invalid metadata in README.md. - "license" must be one of'):
        push(model, "alice/model")
    assert len(hub.store.find("models", "alice/model").commits) == 1
    assert not hub.seen("PUT")


def test_no_warning_on_the_way(hub, model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Use 'content=<...>'", DeprecationWarning)
        push(model, "alice/model", token=WRITE)
        fetch("alice/model")
