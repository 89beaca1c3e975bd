"""Requests as a visitor's program makes them, without the help of gradio's client."""

from __future__ import annotations

import json
from typing import NamedTuple

import httpx

META = {"_type": "gradio.FileData"}


class Answer(NamedTuple):
    status: int
    data: object  # what the endpoint returned, or None
    error: str | None
    text: str  # all that came


def upload(url, content, name="film.png"):
    """Upload a file; return the response."""
    return httpx.post(f"{url}/gradio_api/upload", files={"files": (name, content)}, timeout=60)


def uploaded(url, content, name="film.png"):
    """Upload a file; return what an endpoint takes for it."""
    response = upload(url, content, name)
    assert response.status_code == 200, response.text
    return {"path": response.json()[0], "meta": META}


def ask(url, endpoint, *data):
    """Call an endpoint with `data` in order."""
    return _answer(url, endpoint, {"data": list(data)}, "call")


def ask_by_name(url, endpoint, **data):
    """Call an endpoint with named arguments; those left out have their defaults."""
    return _answer(url, endpoint, data, "call/v2")


def _answer(url, endpoint, body, route):
    # json.dumps knows NaN, which httpx refuses
    response = httpx.post(
        f"{url}/gradio_api/{route}/{endpoint}",
        content=json.dumps(body),
        headers={"content-type": "application/json"},
        timeout=60,
    )
    if response.status_code != 200:
        return Answer(response.status_code, None, _detail(response), response.text)
    event = response.json()["event_id"]
    text = httpx.get(f"{url}/gradio_api/{route}/{endpoint}/{event}", timeout=60).text
    kinds = dict(part.removeprefix("event: ").split("\ndata: ", 1) for part in text.strip().split("\n\n"))
    if "complete" in kinds:
        return Answer(200, json.loads(kinds["complete"]), None, text)
    return Answer(200, None, (json.loads(kinds["error"]) or {}).get("error"), text)


def _detail(response):
    try:
        return response.json()["detail"]
    except (ValueError, KeyError):
        return None
