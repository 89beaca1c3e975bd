"""The files of a Gradio Space: app.py, README.md and requirements.txt, and the source of this package beside them.

`python -m cxr_estimator.demo._space demo` writes the first three anew where they lie in the repository.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import cxr_estimator
from cxr_estimator._bundled import bundled_folder
from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.checksums import SUMS_NAME, read_sums, write_sums
from cxr_estimator.errors import DataError, MissingPackageError
from cxr_estimator.hub import Located, address
from cxr_estimator.pretrained import ATTRIBUTION
from cxr_estimator.serialization import writable_folder

APP_NAME = "app.py"
MADE_BY = "# Made by `cxr deploy-space`"  # a line of app.py, which tells our Spaces from other people's
SOURCE = ("**/*.py", "py.typed", "*/*.jinja", "*/*.css")  # of the package, beside the files of the bundled model
_PACKAGE = "cxr_estimator"
_SIMPLE = re.compile(r"[\w./-]+", re.ASCII)  # names that `preload_from_hub` can list: without spaces and commas
_APP = '''"""The Space of a chest-radiograph classifier. {disclaimer}"""

{made_by}, which writes this file anew: settings of your own belong into another Space.
from cxr_estimator.demo import Settings, launch

if __name__ == "__main__":
    launch(Settings(models={models}, allow_hub={allow_hub}, device="auto"))
'''
_TEXT = """
# Chest radiographs: the decision, the evidence, and how far to trust it

**{disclaimer}**

Drop a radiograph (PNG, JPEG or DICOM): a calibrated probability, the decision at the operating point you choose, heat
maps, and a verdict in plain sentences on whether they can be trusted. Unfit images are refused, with the reason. What
you upload is not kept, there is no history of runs and no telemetry.

{models}

The bundled model was trained on radiographs of children and is not validated for any clinical use. They come from
{attribution}.

The source of `cxr_estimator` lies beside `app.py`; `cxr demo` starts the same app on your own machine.
"""


def write_space(folder: Path, *, model: Located | None = None, allow_hub: bool = True) -> Path:
    """Write a Space that starts from its own folder, with SHA256SUMS, which tells later what was edited in it.

    Parameters
    ----------
    folder : path
        New or empty.
    model : Located, optional
        A model of the Hub that is offered beside the bundled one.
    allow_hub : bool, default=True
        Whether visitors may name other models of the Hub.

    Raises
    ------
    DataError
        The folder holds something, or cannot be written to.
    MissingPackageError
        This package runs without being installed, so that nothing tells what the Space needs.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: holds something already; name a new or empty folder.")
    source = {f"{_PACKAGE}/{name}": content for name, content in package_files().items()}
    files = {**app_files(model=model, allow_hub=allow_hub), "LICENSE": _license(), **source}
    _write(folder, files)
    write_sums(folder, {name: sha256(content).hexdigest() for name, content in files.items()})
    return folder


def app_files(
    *,
    model: Located | None = None,
    allow_hub: bool = True,
    gradio_version: str | None = None,
    python_version: str | None = None,
) -> dict[str, bytes]:
    """Return app.py, README.md and requirements.txt by name; the versions are those that run here unless given."""
    names = f"({json.dumps(model.name)},)" if model else "()"
    python = python_version or ".".join(map(str, sys.version_info[:2]))
    files = {
        APP_NAME: _APP.format(disclaimer=DISCLAIMER, made_by=MADE_BY, models=names, allow_hub=allow_hub),
        "README.md": _readme(model, gradio_version or metadata.version("gradio"), python),
        "requirements.txt": "".join(f"{one}\n" for one in _requirements()),
    }
    return {name: text.encode() for name, text in files.items()}


def package_files() -> dict[str, bytes]:
    """Return the files of this package by name, those of the bundled model included, and nothing that is not of it."""
    root, bundled = Path(cxr_estimator.__file__).parent, bundled_folder()
    found = {path.relative_to(root).as_posix(): path for pattern in SOURCE for path in root.glob(pattern)}
    found |= {f"pretrained/{name}": bundled / name for name in (*read_sums(bundled), SUMS_NAME)}
    return {name: path.read_bytes() for name, path in sorted(found.items())}


def _readme(model: Located | None, gradio_version: str, python_version: str) -> str:
    """Return the card of a Space: https://huggingface.co/docs/hub/spaces-config-reference."""
    from huggingface_hub.utils import yaml_dump

    head = {
        "title": "Chest radiographs, explained and doubted",
        "emoji": "🩻",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": gradio_version,
        "python_version": python_version,
        "app_file": APP_NAME,
        "license": "mit",
        "short_description": "A decision, its heat maps, and how far to trust them",
        "tags": [_PACKAGE, "chest-x-ray", "medical-imaging", "explainable-ai", "mcp-server"],
        "pinned": False,
    }
    models = "Model: the one that comes with `cxr_estimator`."
    if model is not None:
        files = ",".join(filter(_SIMPLE.fullmatch, model.files))
        head |= {"models": [model.repo_id], "preload_from_hub": [f"{model.repo_id} {files} {model.commit}"]}
        page = f"{address(model.repo_id)}/tree/{model.commit}"
        models = f"Models: [{model.repo_id}]({page}), and the one that comes with `cxr_estimator`."
    text = _TEXT.format(disclaimer=DISCLAIMER, models=models, attribution=ATTRIBUTION)
    return f"---\n{yaml_dump(head, sort_keys=False)}---\n{text}"


def _requirements() -> list[str]:
    """Return what the package needs, and its extra "demo", as its own metadata say."""
    try:
        listed = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        told = "A Space needs to know what cxr_estimator requires, but it is not installed here: pip install it"
        raise MissingPackageError(f"{told}, with its extra: 'cxr_estimator[demo]'.") from error
    split = [(one.partition(";")[0].strip(), one) for one in listed]
    return [
        *(one for _, one in split if "extra ==" not in one),
        *(name for name, one in split if re.search("""; extra == ["']demo["']$""", one)),
    ]


def _license() -> bytes:
    """Return the licence, which copies of the package must carry: of the repository, or of what is installed."""
    beside = Path(cxr_estimator.__file__).parents[1] / "LICENSE"
    text = beside.read_text() if beside.is_file() else metadata.distribution(_PACKAGE).read_text("licenses/LICENSE")
    if text is None:
        raise DataError("This installation of cxr_estimator lacks its LICENSE; install it again.")
    return text.encode()


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    writable_folder(folder)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    _write(Path(sys.argv[1]), app_files())
