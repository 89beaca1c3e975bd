"""The files of a Space, and what deploying it does, against the local Hub."""

from __future__ import annotations

import ast
import re
import runpy
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import cxr_estimator
from cxr_estimator import demo, pretrained
from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.checksums import SUMS_NAME, differing, read_sums
from cxr_estimator.demo import Settings, _space
from cxr_estimator.demo._deploying import deploy
from cxr_estimator.demo._space import MADE_BY, app_files, package_files, write_space
from cxr_estimator.errors import DataError, EditedFilesWarning, MissingPackageError
from cxr_estimator.hub import Located
from tests.hub import OTHER, READ, Fault, check_card
from tests.hub.folders import names, refused

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMIT = "0123456789" * 4
MODEL = Located("alice/model", COMMIT, ("config.json", "model.safetensors", "odd name, with comma", SUMS_NAME), False)


def head(text: bytes) -> dict:
    return yaml.safe_load(text.decode().split("---\n")[1])


# -- what is in it


def test_the_repository_has_what_is_written():
    """`python -m cxr_estimator.demo._space demo` writes it anew."""
    now = head((ROOT / "demo" / "README.md").read_bytes())
    wanted = app_files(gradio_version=now["sdk_version"], python_version=now["python_version"])
    there = {path.name: path.read_bytes() for path in (ROOT / "demo").iterdir() if path.is_file()}
    assert there == wanted, "run: python -m cxr_estimator.demo._space demo"
    gradio = Requirement(PROJECT["project"]["optional-dependencies"]["demo"][0])
    assert gradio.specifier.contains(now["sdk_version"])
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(now["python_version"])


def test_requirements_are_those_of_the_package():
    listed = app_files()["requirements.txt"].decode().splitlines()
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    assert sorted(map(str, map(Requirement, listed))) == sorted(map(str, map(Requirement, wanted)))


@pytest.mark.parametrize(
    "listed",
    [
        ["b>=1", "a", "c>=2; python_version < '4'", "x; extra == 'test'", "gradio[mcp]>=6; extra == 'demo'"],
        ["b>=1", "a", "c>=2; python_version < '4'", 'gradio[mcp]>=6; extra == "demo"', 'y; extra == "demo2"'],
    ],
)
def test_requirements_of_other_extras_and_systems(monkeypatch, listed):
    monkeypatch.setattr(_space.metadata, "requires", lambda name: listed)
    text = app_files(gradio_version="6.22.0")["requirements.txt"].decode()
    assert text.splitlines() == ["b>=1", "a", "c>=2; python_version < '4'", "gradio[mcp]>=6"]


def test_a_package_that_is_not_installed(monkeypatch, tmp_path):
    def missing(name):
        raise _space.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_space.metadata, "requires", missing)
    with pytest.raises(MissingPackageError, match=r"pip install it, with its extra: 'cxr_estimator\[demo\]'"):
        write_space(tmp_path / "space")


@pytest.mark.parametrize("model", [None, MODEL])
def test_the_card(model):
    text = app_files(model=model)["README.md"]
    assert check_card(text.decode(), is_space=True) == ([], [])
    found = head(text)
    assert found["sdk"] == "gradio"
    assert found["sdk_version"] == version("gradio")
    assert found["python_version"] == "{}.{}".format(*sys.version_info)
    assert (found["app_file"], found["license"], found["pinned"]) == ("app.py", "mit", False)
    assert found.get("models") == (["alice/model"] if model else None)
    preloaded = [f"alice/model config.json,model.safetensors,{SUMS_NAME} {COMMIT}"]
    assert found.get("preload_from_hub") == (preloaded if model else None)
    assert DISCLAIMER in text.decode()
    assert pretrained.ATTRIBUTION in text.decode()  # which the data's licence asks for


def test_the_card_is_refused_where_it_is_wrong():
    """What stands for the Hub's own check can tell."""
    text = app_files(model=MODEL)["README.md"].decode()
    python = "{}.{}".format(*sys.version_info)
    for change in (
        ("colorTo: gray", "colorTo: grey"), (f"'{python}'", python), ("app_file", "application"),
        ("short_description: A", f"short_description: A{60 * 'a'}"), (f" {COMMIT}\n", " main\n"),
        ("emoji: 🩻", "emoji: xray"), ("pinned: f", "pinned: n"),
    ):  # fmt: skip
        assert text.count(change[0]) == 1, change
        assert len(check_card(text.replace(*change), is_space=True)[0]) == 1, change


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, Settings(models=(), allow_hub=True, device="auto")),
        ({"model": MODEL, "allow_hub": False}, Settings(models=(f"alice/model@{COMMIT}",), allow_hub=False)),
    ],
)
def test_app_launches_with_the_settings(tmp_path, monkeypatch, options, settings):
    launched: list[Settings] = []
    monkeypatch.setattr(demo, "launch", launched.append)
    path = tmp_path / "app.py"
    path.write_bytes(app_files(**options)["app.py"])
    runpy.run_path(str(path), run_name="imported")
    assert launched == []
    runpy.run_path(str(path), run_name="__main__")
    assert launched == [settings]
    tree = ast.parse(path.read_text())
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [node.module for node in imported] == ["cxr_estimator.demo"]
    assert len(path.read_text().splitlines()) < 10


def test_the_source_is_what_a_wheel_holds():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    assert set(_space.SOURCE) == {"**/*.py", *patterns["cxr_estimator"]}
    root = Path(cxr_estimator.__file__).parent
    there = {
        path.relative_to(root).as_posix()
        for folder, found in ((root, _space.SOURCE), (root / "pretrained", patterns["cxr_estimator.pretrained"]))
        for pattern in found
        for path in folder.glob(pattern)
    }
    files = package_files()
    assert set(files) == there
    assert {"__init__.py", "demo/_app.py", "card/card.md.jinja", "pretrained/model.safetensors"} <= set(files)
    assert all(content == (root / name).read_bytes() for name, content in files.items())
    assert not [name for name in files if "__pycache__" in name or Path(name).suffix in (".jpeg", ".dcm", ".pyc")]


def test_a_space_in_a_folder(tmp_path):
    folder = write_space(tmp_path / "new" / "space", model=MODEL)
    sums = read_sums(folder)
    assert differing(folder, sums) == []
    assert names(folder) == {*sums, SUMS_NAME}
    assert {name for name in sums if "/" not in name} == {"app.py", "README.md", "requirements.txt", "LICENSE"}
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert not [name for name in sums if str(ROOT).encode() in (folder / name).read_bytes()]
    with pytest.raises(DataError, match="space: holds something already; name a new or empty folder"):
        write_space(folder)
    with pytest.raises(DataError, match=r"app\.py: holds something already"):
        write_space(folder / "app.py")


def test_the_licence_of_an_installed_package(monkeypatch, tmp_path):
    """Away from the repository it is that of the installation."""
    (tmp_path / "cxr_estimator").mkdir()
    monkeypatch.setattr(_space.cxr_estimator, "__file__", str(tmp_path / "cxr_estimator" / "__init__.py"))

    class Installed:
        text: str | None = "MIT License"

        def read_text(self, name):
            return self.text if name == "licenses/LICENSE" else None

    monkeypatch.setattr(_space.metadata, "distribution", lambda name: Installed())
    assert _space._license() == b"MIT License"
    Installed.text = None
    with pytest.raises(DataError, match="lacks its LICENSE"):
        _space._license()


# -- deploying it


@pytest.fixture
def source(monkeypatch):
    """Little source, so that tests send little; change it as a new version of the package would."""
    files = {"__init__.py": b"", "demo/__init__.py": b"1", "pretrained/model.safetensors": b"weights" * 99}
    monkeypatch.setattr(_space, "package_files", lambda: dict(files))
    return files


def remote(hub, name="alice/space"):
    return hub.store.find("spaces", name)


def text_of(hub, path, name="alice/space"):
    return hub.store.read("spaces", name, path)


def test_a_new_space_is_one_commit_of_everything(hub):
    done = deploy("alice/space", model=MODEL, commit_message="First")
    assert done.url == f"{hub.endpoint}/spaces/alice/space"
    first, created = remote(hub).history()
    assert (first.title, created.title) == ("First", "initial commit")
    assert done.pushed.url == f"{done.url}/commit/{first.sha}"
    (made,) = hub.seen("POST", "repos/create")
    assert b'"sdk": "gradio"' in made.body.replace(b'":"', b'": "')
    wanted = {f"cxr_estimator/{name}": content for name, content in package_files().items()} | app_files(model=MODEL)
    assert set(first.files) == {*wanted, "LICENSE", SUMS_NAME, ".gitattributes"}  # the Hub's own README is replaced
    assert all(text_of(hub, name) == content for name, content in wanted.items())
    assert set(done.pushed.changed) == set(first.files) - {".gitattributes"}
    before = len(hub.requests)
    again = deploy("alice/space", model=MODEL)
    assert again == (done.url, (done.pushed.url, done.pushed.oid, (), None))
    assert {one.method for one in hub.requests[before:]} == {"GET", "HEAD"}


def test_only_what_changed_is_sent_and_what_is_stale_goes(hub, source):
    source["old.py"] = b"old"
    deploy("alice/space")
    hub.store.put("spaces", "alice/space", {"notes.txt": b"by hand"})
    del source["old.py"]
    source["demo/__init__.py"] = b"2"
    hub.requests.clear()
    done = deploy("alice/space", allow_hub=False)
    changed = {"app.py", SUMS_NAME, "cxr_estimator/demo/__init__.py", "cxr_estimator/old.py"}
    assert set(done.pushed.changed) == changed
    assert len(remote(hub).history()) == 4
    assert "cxr_estimator/old.py" not in remote(hub).head().files
    assert text_of(hub, "notes.txt") == b"by hand"
    assert not hub.seen("PUT")  # the weights are there
    assert b"allow_hub=False" in text_of(hub, "app.py")


def test_a_file_of_ours_that_was_edited_and_became_stale_stays(hub, source):
    source["old.py"] = b"old"
    deploy("alice/space")
    hub.store.put("spaces", "alice/space", {"cxr_estimator/old.py": b"mine"})
    del source["old.py"]
    with pytest.warns(EditedFilesWarning, match=r"old\.py was edited on the Hub and is kept"):
        deploy("alice/space")
    assert text_of(hub, "cxr_estimator/old.py") == b"mine"
    source["old.py"] = b"new"
    deploy("alice/space")
    del source["old.py"]
    hub.store.put("spaces", "alice/space", {"cxr_estimator/old.py": b"mine"})
    deploy("alice/space", overwrite=True)
    assert "cxr_estimator/old.py" not in remote(hub).head().files


@pytest.mark.parametrize(
    "files",
    [
        {"app.py": b"import gradio"},
        {"app.py": f"{MADE_BY}, or so they say".encode()},  # without SHA256SUMS
        {"main.py": b"", "README.md": b"---\napp_file: main.py\n---\n"},
    ],
)
def test_a_space_of_somebody_else_is_not_overwritten(hub, source, files):
    hub.store.put("spaces", "alice/space", files)
    before = remote(hub).head()
    with refused("its app.py was not made by `cxr deploy-space`, .*nothing was sent. .* say --overwrite"):
        deploy("alice/space")
    assert remote(hub).head() == before
    assert not hub.seen("POST", "/commit/|/preupload/|batch")
    deploy("alice/space", overwrite=True)
    there = {name: text_of(hub, name) for name in remote(hub).head().files}
    assert there["app.py"] == app_files()["app.py"]
    assert there["README.md"] == app_files()["README.md"]
    assert all(there[name] == content for name, content in files.items() if name not in app_files())


def test_what_was_edited_in_our_space(hub, source):
    deploy("alice/space")
    hub.store.put("spaces", "alice/space", {"README.md": b"---\ntitle: Mine\n---\n"})
    with pytest.warns(EditedFilesWarning, match=r"README\.md was edited on the Hub and is kept"):
        assert deploy("alice/space", allow_hub=False).pushed.changed == ("app.py", SUMS_NAME)
    assert text_of(hub, "README.md") == b"---\ntitle: Mine\n---\n"
    hub.store.put("spaces", "alice/space", {"app.py": MADE_BY.encode()})
    with refused("or was edited since"):
        deploy("alice/space")
    assert set(deploy("alice/space", overwrite=True).pushed.changed) == {"app.py", "README.md", SUMS_NAME}
    assert text_of(hub, "README.md") == app_files()["README.md"]


def test_a_model_and_a_space_of_the_same_name(hub, source):
    hub.store.put("models", "alice/space", {"README.md": b"a model"})
    deploy("alice/space", private=True)
    assert remote(hub).private
    assert list(hub.store.find("models", "alice/space").head().files) == [".gitattributes", "README.md"]
    with refused(rf"is private already, .* make this one public at {hub.endpoint}/spaces/alice/space/settings"):
        deploy("alice/space", private=False)


def test_no_right_to_deploy(hub, source):
    for token, match in (
        (READ, rf"you must use a write token.* make one that may write at {hub.endpoint}/settings/tokens"),
        (OTHER, "don't have the rights"),
        (False, "no token was given, or one that is not valid .* log in with `hf auth login`"),
    ):
        with refused(match):
            deploy("alice/space", token=token)
    assert remote(hub) is None
    deploy("alice/space")
    for token, match in ((READ, "write token"), (OTHER, "rights"), (False, "no token was given")):
        with refused(match):
            deploy("alice/space", token=token, allow_hub=False)


def test_a_hub_that_is_down_or_out_of_order(hub, source):
    with hub.down(), refused("gave no answer"):
        deploy("alice/space")
    hub.faults.append(Fault("POST", "/commit/", "status"))
    with refused("out of order"):
        deploy("alice/space")
    assert len(remote(hub).commits) == 1
    deploy("alice/space")
    assert len(remote(hub).commits) == 2


def test_names(hub, source):
    for name in ("space", "../space", "a/b/c", "alice/space.git"):
        with pytest.raises(ValueError, match="'repo_id' parameter of deploy_space must be"):
            deploy(name)
    assert not hub.requests


def test_addresses_of_registries_and_machines_are_nowhere():
    for content in app_files(model=MODEL).values():
        assert not re.search(rb"index-url|find-links|file://|/(home|root|tmp)/", content)


def test_the_limits_in_the_docs_are_the_defaults():
    page = " ".join((ROOT / "docs" / "demo.md").read_text().split())
    of = Settings()
    for said in (
        f"A file may have {of.max_file_bytes >> 20} MiB",
        f"a batch {of.max_batch_files} files and, unpacked, {of.max_batch_bytes >> 20} MiB",
        f"{of.waiting} requests may wait, {of.at_once} compute",
        f"may have {of.max_model_bytes >> 20:,} MiB",
        f"the last {of.hub_models} such models",
        f"within {of.keep_seconds // 60} minutes",
        DISCLAIMER,
    ):
        assert said in page
