"""What reaches gradio: no file but one that was uploaded here, no address to fetch from, no more than a request may be.

gradio 6 downloads what file data name by address, however large; it passes paths on to `gr.api` functions unchecked
where they lack its mark; and its MCP server uploads any file of the server that a tool's arguments mark as file data.
Here all of that is refused before gradio sees it, and routes that this app does not need are closed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr_estimator.demo._folder import Store, new_file, uploaded
from cxr_estimator.demo._settings import MEBIBYTE, Settings
from cxr_estimator.errors import CXRError, DataError

API = "/gradio_api"
_FILE = f"{API}/file="
_MCP = f"{API}/mcp"
# Proxies, functions of components, recordings, editing of the app, and links that keep a session on the server's disk.
_CLOSED = re.compile(
    rf"{API}/(proxy=|file=\w+:|file/|component_server|process_recording|(undo-)?vibe-|deep_link|stream/|run-history)"
)
_QUESTIONS = re.compile(rf"{API}/(?:queue/join|(?:call/v2|call|run|api)/(?P<name>[^/]+))/?")
_MAX_JSON = 16 * MEBIBYTE
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# what was uploaded is no page of this app, and stays in no cache
_FILE_HEADERS = {"Content-Security-Policy": "sandbox; default-src 'none'", "Cache-Control": "private, no-store"}


class Refused(DataError):
    """A request that cannot be answered.

    Parameters
    ----------
    message : str
    status : int
        Of HTTP.
    call : str, int or None
        Id of the message of MCP.
    """

    def __init__(self, message: str, status: int = 422, call: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.call = call


class Guard:
    """ASGI middleware around gradio's application.

    Parameters
    ----------
    app : ASGIApp
    settings : Settings
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._store = Store(settings.max_stored_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, as it may be, or refuse it with the reason."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS | (_FILE_HEADERS if path.startswith(_FILE) else {}))
            await send(message)

        try:
            receive = await self._checked(scope, receive)
        except Refused as error:
            await _refusal(path, error)(scope, receive, answer)
            return
        await self._app(scope, receive, answer)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        """Return what gives the body of an allowed request."""
        path, settings = scope["path"], self._settings
        if _CLOSED.match(path):
            raise Refused("This app does not offer that.", 403)
        if scope["method"] != "POST":
            return receive
        asked = _QUESTIONS.fullmatch(path)
        is_tool = path.startswith(_MCP)
        is_upload = path.startswith(f"{API}/upload")
        if is_upload or is_tool:
            await asyncio.to_thread(self._store.count)
            receive = _stored(scope, receive, self._store)
        if not asked and not is_tool:
            return _limited(scope, receive, settings.max_batch_bytes if is_upload else _MAX_JSON)
        body = await _body(_limited(scope, receive, _MAX_JSON + (2 * settings.max_file_bytes if is_tool else 0)))
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refused("The request is no JSON.", 400) from error
        try:
            if asked:
                content = _files(content)
                _check_arguments(scope, path, asked["name"], content)
            else:
                content = _tool_call(content, settings.max_file_bytes)
        except RecursionError as error:
            raise Refused("The request is nested too deeply.", 400) from error
        except CXRError as error:
            status, call = getattr(error, "status", 422), content.get("id") if isinstance(content, dict) else None
            raise Refused(str(error), status, call) from None
        return _replaced(scope, json.dumps(content).encode(), receive)


def _refusal(path: str, error: Refused) -> JSONResponse:
    """Return the message in the form in which the clients of a route show it."""
    text = str(error)
    if path.startswith(_MCP):
        return JSONResponse({"jsonrpc": "2.0", "id": error.call, "error": {"code": -32602, "message": text}})
    if path.startswith(f"{API}/queue/join") and error.status == 422:
        detail = [{"__type__": "validate", "is_valid": False, "parameter_name": "request", "message": text}]
        return JSONResponse({"detail": detail}, error.status)
    return JSONResponse({"detail": text, "error": text}, error.status)


def _files(value: Any) -> Any:
    """Return JSON in which all file data name files that were uploaded here."""
    if isinstance(value, list):
        return [_files(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("path") is not None:
        return {**{key: _files(one) for key, one in value.items()}, "path": str(uploaded(local_path(value["path"])))}
    return {key: _files(one) for key, one in value.items()}


def local_path(path: Any) -> Any:
    """Return the path that an address of a file of this app stands for; nothing is fetched from there."""
    _, mark, rest = path.partition(_FILE) if isinstance(path, str) else ("", "", "")
    return unquote(rest) if mark else path


def _tool_call(content: Any, max_bytes: int) -> Any:
    """Return a message of MCP in which all files of a tool's arguments are addresses of files of this app."""
    if not isinstance(content, dict) or content.get("method") != "tools/call":
        if isinstance(content, list):
            raise Refused("Send one message at a time.", 400)
        return content
    parameters = content.get("params")
    if not isinstance(parameters, dict):
        raise Refused("tools/call needs params.")
    # without a token for progress, gradio 6.31 takes the answers of a tool for one, and a picture for its path
    meta = {"progressToken": content.get("id"), **(parameters.get("_meta") or {})}
    arguments = _arguments(parameters.get("arguments") or {}, max_bytes)
    return {**content, "params": {**parameters, "_meta": meta, "arguments": arguments}}


def _arguments(value: Any, max_bytes: int) -> Any:
    if isinstance(value, list):
        return [_arguments(one, max_bytes) for one in value]
    if isinstance(value, dict):
        if "path" in value or "meta" in value:
            raise Refused(
                "Give an image as a data address (data:image/png;base64,...), or its address after an upload."
            )
        return {key: _arguments(one, max_bytes) for key, one in value.items()}
    if not isinstance(value, str):
        return value
    if value.startswith("data:"):
        return f"http://localhost{_FILE}{quote(str(_saved(value, max_bytes)))}"
    if re.match(r"\w+://", value):
        return f"http://localhost{_FILE}{quote(str(uploaded(local_path(value))))}"
    return value


def _saved(data: str, max_bytes: int) -> Any:
    """Write what a data address holds into the private folder."""
    head, _, text = data.partition(",")
    if not head.endswith(";base64"):
        raise Refused("A data address must be in base64: data:image/png;base64,...")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("The data address is no base64.") from error
    if len(content) > max_bytes:
        raise Refused(f"The file has more than the {max_bytes / MEBIBYTE:g} MiB that are allowed.", 413)
    path = new_file("image")
    path.write_bytes(content)
    return path


def _check_arguments(scope: Scope, path: str, name: str | None, content: Any) -> None:
    """Raise unless there is such an endpoint, and it is given what it needs."""
    if not isinstance(content, dict):
        raise Refused("The request must be a JSON object.", 400)
    functions, index = scope["app"].get_blocks().fns, content.get("fn_index")
    is_v2 = path.startswith(f"{API}/call/v2/")
    if isinstance(index, int) and not is_v2:
        name = None  # gradio heeds the index: its page asks "/run/predict" for all that does not wait in the queue
    # gradio itself lets programs call by name what only its page should
    offered = [one for one in functions.values() if one.api_visibility != "private"]
    found = [one for one in offered if one.api_name == name] if name else []
    if name and not found:
        raise Refused(f"There is no endpoint {name!r:.100}.", 404)
    if is_v2:
        try:
            inspect.signature(found[0].fn).bind(**content)
        except TypeError as error:
            raise Refused(f"{name}: {error}.") from None
        return
    function = found[0] if found else functions.get(index if type(index) is int else None)
    if function is None:
        raise Refused(f"There is no function {index!r:.100}.", 404)  # gradio would fail, and log what it was sent
    given, data = sum(not one.skip_api for one in function.inputs), content.get("data")
    if not isinstance(data, list) or len(data) < given:
        got = f"a list of {len(data)}" if isinstance(data, list) else "none"
        raise Refused(f"{name or 'This'} needs `data`, a list of {given} values. Got {got}.")


def _stored(scope: Scope, receive: Receive, store: Store) -> Receive:
    """Return a `receive` that counts what arrives; what there is no room for is refused before it does."""
    length = Headers(scope=scope).get("content-length", "")
    if not length.isdigit():
        raise Refused("Say how long the request is (Content-Length).", 411)
    try:
        store.check(int(length))
    except DataError as error:
        raise Refused(str(error), 507) from None

    async def stored() -> Message:
        message = await receive()
        store.take(len(message.get("body", b"")))
        return message

    return stored


def _limited(scope: Scope, receive: Receive, limit: int) -> Receive:
    """Return a `receive` that refuses a body of more than so many bytes, by its header at once."""
    said = Headers(scope=scope).get("content-length", "0")
    too_large = Refused(f"The request has more than the {limit / MEBIBYTE:,.0f} MiB that are allowed.", 413)
    if not said.isdigit() or int(said) > limit:
        raise too_large
    total = 0

    async def limited() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > limit:
            raise too_large
        return message

    return limited


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused("The request was broken off.", 400)
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _replaced(scope: Scope, body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives this body, and then what else comes; the header is told its length."""
    headers = MutableHeaders(scope=scope)
    headers["content-length"] = str(len(body))
    del headers["transfer-encoding"]
    is_given = False

    async def replaced() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaced
