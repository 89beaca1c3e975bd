"""`locate`: a model on the Hub, pinned to its commit, without downloading weights."""

from __future__ import annotations

from dataclasses import dataclass

from huggingface_hub import HfApi

from cxr_estimator.checksums import SUMS_NAME
from cxr_estimator.errors import HubError
from cxr_estimator.hub._errors import check_repo_id, check_revision, check_token, hub_errors
from cxr_estimator.hub._fetching import no_model
from cxr_estimator.hub._remote import Remote, ask
from cxr_estimator.serialization import CONFIG_NAME, WEIGHTS_NAME, check_config, is_timm, parse_json


@dataclass(frozen=True)
class Located:
    """A model on the Hub that `CXRClassifier.from_pretrained` reads.

    Attributes
    ----------
    repo_id, commit : str
    files : tuple of str
        What `fetch` downloads.
    is_restricted : bool
        Private or gated: it takes a token to read it.
    """

    repo_id: str
    commit: str
    files: tuple[str, ...]
    is_restricted: bool

    @property
    def name(self) -> str:
        """The model as "user/model@commit"."""
        return f"{self.repo_id}@{self.commit}"


def locate(
    repo_id: str, *, revision: str | None = None, token: str | bool | None = None, caller: str = "locate"
) -> Located:
    """Return where a model is, which may be one of this package or a checkpoint of timm.

    Raises
    ------
    HubError
        The Hub cannot be reached or refuses, or there is no such repository, revision or model.
    ModelFolderError
        The configuration is damaged, of another version, or that of an ensemble.
    """
    check_repo_id(repo_id, caller=caller)
    check_revision("revision", revision, caller=caller)
    check_token(token, caller=caller)
    api = HfApi(token=token)
    with hub_errors(repo_id, revision):
        info = ask(api, repo_id, revision)
        remote = Remote(api, repo_id, str(info.sha))
        return Located(repo_id, str(info.sha), _files(repo_id, remote), bool(info.private or info.gated))


def _files(repo_id: str, remote: Remote) -> tuple[str, ...]:
    """Return the names of the files of a model, or raise where there is none that can be read."""
    source = f"{repo_id}: {CONFIG_NAME}"
    config = parse_json(remote.read(CONFIG_NAME), source) if CONFIG_NAME in remote.files else {}
    if remote.sums and config:
        check_config(config, source)
        names: tuple[str, ...] = (*remote.sums, SUMS_NAME)
    elif is_timm(config):
        names = (CONFIG_NAME, WEIGHTS_NAME)
    else:
        raise no_model(repo_id)
    if WEIGHTS_NAME not in remote.files:
        raise HubError(f"{repo_id}: {WEIGHTS_NAME} is missing, so no model can be read from there.")
    return tuple(name for name in names if name in remote.files)
