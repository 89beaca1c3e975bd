"""`differences`: a model folder compared with a repository, without downloading weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import HfApi

from cxr_estimator._validation import check_path
from cxr_estimator.checksums import read_sums
from cxr_estimator.hub._errors import check_repo_id, check_revision, check_token, hub_errors
from cxr_estimator.hub._remote import Remote, ask
from cxr_estimator.serialization import CONFIG_NAME, parse_json, read_json


class Change(NamedTuple):
    """One entry of a config.json that differs: its dotted path, and both values as JSON (None where it is absent)."""

    key: str
    here: str | None
    there: str | None


@dataclass(frozen=True)
class Differences:
    """A model folder (here) compared with a repository (there).

    Attributes
    ----------
    commit : str
        The commit that was compared.
    same, changed, only_here, only_there : tuple of str
        Names of files that belong to the model, here or there. Other files of the repository are left out.
    config : tuple of Change
        What differs in config.json, by dotted path; those of an ensemble begin with the folder of the member.
    """

    commit: str
    same: tuple[str, ...]
    changed: tuple[str, ...]
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    config: tuple[Change, ...]


def differences(
    folder: Path, repo_id: str, *, revision: str | None = None, token: str | bool | None = None
) -> Differences:
    """Compare a model folder with a repository, without downloading weights.

    Raises
    ------
    ModelFolderError
        The folder is no model of ours, or the config.json of one of the two is no JSON object.
    HubError
        The Hub cannot be reached or refuses.
    """
    check_path("folder", folder, caller="differences")
    check_repo_id(repo_id, caller="differences")
    check_revision("revision", revision, caller="differences")
    check_token(token, caller="differences")
    here = {name for name in read_sums(folder) if (folder / name).is_file()}
    api = HfApi(token=token)
    with hub_errors(repo_id, revision):
        commit = str(ask(api, repo_id, revision).sha)
        remote = Remote(api, repo_id, commit)
        there = (remote.sums.keys() | here) & remote.files.keys()
        same = {name for name in here & there if remote.holds(name, folder / name)}
        changed = sorted((here & there) - same)
        config = [
            change
            for name in changed
            if Path(name).name == CONFIG_NAME
            for change in _config_changes(
                name, read_json(folder / name), parse_json(remote.read(name), f"{repo_id}: {name}")
            )
        ]
    return Differences(
        commit=commit,
        same=tuple(sorted(same)),
        changed=tuple(changed),
        only_here=tuple(sorted(here - there)),
        only_there=tuple(sorted(there - here)),
        config=tuple(config),
    )


def _config_changes(name: str, here: dict[str, Any], there: dict[str, Any]) -> list[Change]:
    """Return what differs between two config.json; `name` tells the folder of an ensemble's member."""
    prefix = "".join(f"{part}." for part in Path(name).parts[:-1])
    return list(_changes(prefix, here, there))


def _changes(path: str, here: Any, there: Any) -> Iterator[Change]:
    """Yield what differs between two JSON objects, the objects in them included."""
    for key in sorted(here.keys() | there.keys()):
        if key in here and key in there:
            if isinstance(here[key], dict) and isinstance(there[key], dict):
                yield from _changes(f"{path}{key}.", here[key], there[key])
                continue
            if here[key] == there[key]:
                continue
        yield Change(
            path + key, *(json.dumps(one[key], sort_keys=True) if key in one else None for one in (here, there))
        )
