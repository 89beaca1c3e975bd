"""The Hub for tests itself, through the real client."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.hub import OTHER, READ, WRITE, check_card

CARD = b"---\nlicense: mit\n---\n# A model\n"


def test_create_upload_list_and_download(hub, tmp_path):
    api = HfApi()
    assert str(api.create_repo("alice/model")) == f"{hub.endpoint}/alice/model"
    assert str(api.create_repo("alice/model", exist_ok=True)) == f"{hub.endpoint}/alice/model"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/README.md").write_bytes(CARD)
    (tmp_path / "folder/model.safetensors").write_bytes(bytes(range(256)) * 40)
    done = api.upload_folder(repo_id="alice/model", folder_path=tmp_path / "folder")
    assert done.oid == hub.store.find("models", "alice/model").branches["main"] == api.model_info("alice/model").sha
    tree = {one.path: one for one in api.list_repo_tree("alice/model", recursive=True)}
    assert set(tree) == {".gitattributes", "README.md", "model.safetensors"}
    assert tree["model.safetensors"].lfs.size == 10240
    folder = snapshot_download("alice/model")
    for name in ("README.md", "model.safetensors"):
        assert Path(folder, name).read_bytes() == (tmp_path / "folder" / name).read_bytes()
    assert {one.token for one in hub.seen(path="storage")} == {None}  # the client keeps tokens to their origin


def test_branches_tags_pull_requests_and_older_revisions(hub):
    api = HfApi()
    first = hub.store.put("models", "alice/model", {"a.txt": b"1"}).sha
    api.create_tag("alice/model", tag="v1")
    api.create_branch("alice/model", branch="next/one")
    api.upload_file(repo_id="alice/model", path_or_fileobj=b"2", path_in_repo="a.txt", revision="next/one")
    pull = api.upload_file(repo_id="alice/model", path_or_fileobj=b"3", path_in_repo="a.txt", create_pr=True)
    assert pull.pr_url == f"{hub.endpoint}/alice/model/discussions/1"

    def text(revision):
        return Path(hf_hub_download("alice/model", "a.txt", revision=revision)).read_text()

    assert [text(one) for one in ("main", "v1", first, "next/one", "refs/pr/1")] == ["1", "1", "1", "2", "3"]
    refs = api.list_repo_refs("alice/model", include_pull_requests=True)
    assert [one.name for one in refs.branches] == ["main", "next/one"]
    assert refs.tags[0].target_commit == first
    assert refs.pull_requests[0].name == "refs/pr/1"


def test_datasets_are_no_models(hub):
    hub.store.put("datasets", "hf-vision/xray", {"data/train-0.parquet": b"PAR1" * 9, "README.md": CARD})
    folder = snapshot_download("hf-vision/xray", repo_type="dataset", allow_patterns="*.parquet", token=False)
    assert Path(folder, "data/train-0.parquet").read_bytes() == b"PAR1" * 9
    assert not hub.seen(path="README")
    with pytest.raises(RepositoryNotFoundError):
        snapshot_download("hf-vision/xray")


def test_spaces_are_neither(hub):
    api = HfApi()
    with pytest.raises(ValueError, match="space_sdk"):
        api.create_repo("alice/app", repo_type="space")
    url = api.create_repo("alice/app", repo_type="space", space_sdk="gradio")
    assert str(url) == f"{hub.endpoint}/spaces/alice/app"
    done = api.upload_file(repo_id="alice/app", repo_type="space", path_or_fileobj=b"1", path_in_repo="app.py")
    assert done.commit_url == f"{url}/commit/{done.oid}"
    assert api.space_info("alice/app").sha == done.oid
    folder = snapshot_download("alice/app", repo_type="space")
    assert {path.name for path in Path(folder).iterdir()} == {".gitattributes", "README.md", "app.py"}
    assert check_card(Path(folder, "README.md").read_text(), is_space=True) == ([], [])
    for kind in ("model", "dataset"):
        assert not api.repo_exists("alice/app", repo_type=kind)
    card = Path(folder, "README.md").read_bytes().replace(b"colorFrom: red", b"colorFrom: crimson")
    with pytest.raises(ValueError, match='"colorFrom" must be a colour'):
        api.upload_file(repo_id="alice/app", repo_type="space", path_or_fileobj=card, path_in_repo="README.md")
    api.delete_repo("alice/app", repo_type="space")
    assert not api.repo_exists("alice/app", repo_type="space")


def test_who_may_do_what(hub):
    hub.store.put("models", "alice/gated", {"a.txt": b"1"})
    hub.store.find("models", "alice/gated").gated = True
    hub.store.create("models", "alice/private", private=True)
    api = HfApi()
    for token in (False, OTHER):
        with pytest.raises(GatedRepoError):
            hf_hub_download("alice/gated", "a.txt", token=token)
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("alice/private", token=token)
    assert api.model_info("alice/private", token=READ).private
    assert hf_hub_download("alice/gated", "a.txt", token=READ)
    for token, status in ((False, 401), (READ, 403), (OTHER, 403), ("hf_unknown", 401)):
        with pytest.raises(HfHubHTTPError) as caught:
            api.create_branch("alice/gated", branch="x", token=token)
        assert caught.value.response.status_code == status
    with pytest.raises(RevisionNotFoundError):
        api.model_info("alice/gated", revision="none")
    assert api.whoami(token=READ)["name"] == "alice"
    api.delete_repo("alice/private", token=WRITE)
    assert not api.repo_exists("alice/private")


@pytest.mark.parametrize(
    ("card", "errors", "warnings"),
    [
        ("---\nlicense: mit\ntags: [xray]\n---\n", 0, 0),
        ("no metadata", 0, 1),
        ("---\nlicense: my own\n---\n", 1, 0),
        ("---\nlicense: other\n---\n", 1, 0),
        ("---\nlicense: mit\nlicense: mit\n---\n", 1, 0),
        ("---\n[a\n---\n", 1, 0),
        ("---\ntags: xray\n---\n", 1, 0),
        ("---\npipeline_tag: dreaming\n---\n", 1, 0),
        ("---\nmodel-index: {}\n---\n", 1, 0),
        ("---\nmodel-index: [{results: []}]\n---\n", 1, 0),
        ("---\nmodel-index: [{name: a, results: [{metrics: [{type: auc}]}]}]\n---\n", 4, 0),
        (
            "---\nmodel-index: [{name: a, results: [{task: {type: image-classification}, dataset: {type: x, name: y}, "
            "metrics: [{type: auc, value: 0.9}]}]}]\n---\n",
            0,
            0,
        ),
    ],
)
def test_metadata_as_the_hub_judges_it(card, errors, warnings):
    assert tuple(map(len, check_card(card))) == (errors, warnings)
