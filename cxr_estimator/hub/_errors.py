"""What can be wrong with a request to the Hugging Face Hub, said before it is made or after it failed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # of the library that carries the client's requests, which lets it through: no network, no answer
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from cxr_estimator._validation import invalid, wrong_type
from cxr_estimator.errors import CXRError, HubError, InvalidParameterError

_REPO_ID = re.compile(r"(?!.*(\.\.|--|\.git$))\w([\w.-]{0,94}\w)?/\w([\w.-]{0,94}\w)?", re.ASCII)
_NAMES = (
    "'user/model': two names of letters, digits, '.', '_' and '-', of 96 characters at most, that neither begin nor "
    "end with '.' or '-', without '..', '--' and '.git' at the end"
)
# as `git check-ref-format`; revisions also become names of files in the client's cache
_REVISION = re.compile(r"(?!.*(\.\.|//|/\.|@\{|\.lock(/|$)))(?![/.-])[^\s\x00-\x1f\x7f~^:?*\[\\]{1,200}(?<![/.])")
_LOG_IN = "log in with `hf auth login`, or pass token="
_MOST = 300  # characters of what somebody else said


def check_repo_id(repo_id: str, *, caller: str) -> str:
    """Return `repo_id` if it has the form of one; no request is ever made for a path or an address."""
    if not isinstance(repo_id, str):
        raise wrong_type("repo_id", caller, _NAMES, repo_id)
    if not _REPO_ID.fullmatch(repo_id):
        raise invalid("repo_id", caller, _NAMES, repo_id)
    return repo_id


def check_revision(name: str, revision: str | None, *, caller: str) -> str | None:
    """Return `revision` if git could have such a branch, tag or commit."""
    if revision is None:
        return None
    if not isinstance(revision, str):
        raise wrong_type(name, caller, "None, or a branch, tag or commit", revision)
    if not _REVISION.fullmatch(revision):
        raise invalid(name, caller, "a name that git allows: a branch, tag or commit", revision)
    return revision


def check_token(token: str | bool | None, *, caller: str) -> str | bool | None:
    """Return `token` if it can be sent; the message never shows it, nor does that of the failure to send it."""
    if token is None or isinstance(token, bool):
        return token
    if not isinstance(token, str):
        raise wrong_type("token", caller, "None, a text or a bool", type(token))
    if not re.fullmatch(r"[\x21-\x7e]{1,1000}", token):
        raise InvalidParameterError(
            f"The 'token' parameter of {caller} must be ASCII without spaces and line ends. Got one with something "
            "else, which is not shown here."
        )
    return token


@contextmanager
def hub_errors(repo_id: str, revision: str | None = None) -> Iterator[None]:
    """Raise one HubError, which says what was wrong and what to do, for whatever fails in the Hub's client."""
    try:
        yield
    except CXRError:
        raise
    # the client raises ValueError for metadata or answers that are no good, RuntimeError around what fails in threads
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise HubError(f"{repo_id}: {_explained(error, repo_id, revision or 'main')}") from error


def is_unreachable(error: Exception) -> bool:
    """Tell whether the Hub gave no answer, or one that says that it is out of order."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    return isinstance(error, HTTPError | OfflineModeIsEnabled)


def _explained(error: BaseException, repo_id: str, revision: str) -> str:
    """Return what was wrong and what to do about it."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        return f"{error} {_explained(error.__cause__, repo_id, revision)}"
    if isinstance(error, LocalEntryNotFoundError):
        return _not_cached(error, repo_id, revision)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, which keeps the Hub's client from making any request."
    if isinstance(error, LocalTokenNotFoundError):
        return f"token=True, but there is none here; {_LOG_IN}."
    if isinstance(error, HfHubHTTPError):
        return _refused(error, repo_id, revision)
    if isinstance(error, HTTPError):
        return (
            f"the Hub ({constants.ENDPOINT}) gave no answer ({_said(error)}). Check the network, and try again: what "
            "was done stays done, and nothing is sent or fetched twice."
        )
    if isinstance(error, json.JSONDecodeError):
        return f"what answered at {constants.ENDPOINT} is no Hub: a proxy or login page, or a wrong HF_ENDPOINT."
    return _said(error)


def _not_cached(error: LocalEntryNotFoundError, repo_id: str, revision: str) -> str:
    if isinstance(error, IncompleteSnapshotError):
        what = (
            f"only a part of revision {revision!r} is in the cache: a download was interrupted, or a file was damaged."
        )
    else:
        what = f"nothing of revision {revision!r} is in the cache."
    if error.__cause__ is None:
        return f"{what} Call once without local_files_only, with a connection to the Hub, to fetch what is missing."
    why = _explained(error.__cause__, repo_id, revision)
    return f"{what} {why[0].upper()}{why[1:]}"


def _refused(error: HfHubHTTPError, repo_id: str, revision: str) -> str:
    """Explain an answer of the Hub by its kind, else by its status."""
    hub, status = constants.ENDPOINT, error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"access to this repository is restricted. Ask for it at {hub}/{repo_id}, then {_LOG_IN}."
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no such repository at {hub}, or it is private. If it is yours, {_LOG_IN}."
    if isinstance(error, RevisionNotFoundError):
        return f"this repository has no revision (branch, tag or commit) {revision!r}."
    if isinstance(error, EntryNotFoundError):
        return f"a file is not there at revision {revision!r} ({_said(error)})."
    settings = f"{hub}/settings/tokens"
    known = {
        401: f"no token was given, or one that is not valid (any more); {_LOG_IN} (tokens are made at {settings}).",
        403: f"the token may not do this ({_said(error)}). If it is read-only, make one that may write at {settings}.",
        412: "somebody else pushed at the same time, so nothing was changed. Look at what is new there; push again.",
        429: "too many requests in a short time; wait some minutes.",
    }
    if status >= 500:
        return f"the Hub ({hub}) is out of order at the moment (status {status}); try again later."
    return known.get(status, f"the Hub refused with status {status} ({_said(error)}).")


def _said(error: BaseException) -> str:
    """Return the words of an error without what is secret in them: tokens, and the queries of signed addresses."""
    words: Any = getattr(error, "server_message", None) or str(error) or "no details"
    # the client's "Please retry with `force_download`" is no advice here, where what is incomplete is never kept
    text = " ".join(str(words).split()).partition(" Please retry with")[0]
    text = re.sub(r"(?<=\w)\?\S+", "", re.sub(r"(Bearer\s+|\bhf_)[\w.-]+", r"\1***", text))
    name = "" if isinstance(error, HfHubHTTPError | ValueError) else f"{type(error).__name__}: "
    return f"{name}{text[:_MOST]}"
