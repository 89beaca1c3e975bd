"""`deploy`: the app as a Space of the Hub, in one commit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from cxr_estimator import hub
from cxr_estimator.demo._space import APP_NAME, MADE_BY, write_space
from cxr_estimator.errors import HubError

_CALLER = "deploy_space"


class Deployed(NamedTuple):
    """A Space that was deployed: its address, and the commit that was made, or that was there if nothing was new."""

    url: str
    pushed: hub.Pushed


def deploy(
    repo_id: str,
    *,
    model: hub.Located | None = None,
    allow_hub: bool = True,
    private: bool | None = None,
    token: str | bool | None = None,
    commit_message: str | None = None,
    overwrite: bool = False,
) -> Deployed:
    """Send the app to a Space, which is made if need be, as one commit of what changed.

    Files of an earlier deployment that are no longer needed are deleted; what others put there stays. A README.md that
    somebody edited there is kept, with an `EditedFilesWarning`.

    Parameters
    ----------
    repo_id : str
        "user/space".
    model, allow_hub
        As for `write_space`.
    private : bool, optional
        Of a new Space. Default: as the account has it.
    token : str or bool, optional
        Default: that of `hf auth login` or HF_TOKEN.
    commit_message : str, optional
    overwrite : bool, default=False
        Take over a Space that was not made by this function, and write edited files anew.

    Raises
    ------
    HubError
        No or a read-only token, no such account, no network, or the Space is not ours; then nothing was changed.
    """
    hub.check_repo_id(repo_id, caller=_CALLER)
    with tempfile.TemporaryDirectory() as folder:
        pushed = hub.push(
            write_space(Path(folder), model=model, allow_hub=allow_hub),
            repo_id,
            repo_type="space",
            check=None if overwrite else _check_ours,
            overwrite=overwrite,
            private=private,
            token=token,
            commit_message=commit_message,
            caller=_CALLER,
        )
    return Deployed(hub.address(repo_id, repo_type="space"), pushed)


def _check_ours(remote: hub.Remote) -> None:
    """Raise unless a Space is new, or has an app.py that is as an earlier deployment wrote it."""
    if remote.is_new or (remote.is_as_recorded(APP_NAME) and MADE_BY.encode() in remote.read(APP_NAME)):
        return
    raise HubError(
        f"{remote.repo_id}: there is a Space already, and its {APP_NAME} was not made by `cxr deploy-space`, or was "
        "edited since, so nothing was sent. Name another Space, or say --overwrite to let it be replaced."
    )
