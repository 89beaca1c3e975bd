"""What the guard refuses on its own, without a server."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cxr_estimator.demo import _folder
from cxr_estimator.demo._guard import Guard
from cxr_estimator.demo._settings import Settings


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """A client of an app that takes any upload, behind a guard with room for 200,000 bytes."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    _folder.private_folder.cache_clear()

    async def take(request: Request):
        return PlainTextResponse(str(len(await request.body())))

    app = Starlette(routes=[Route("/gradio_api/upload", take, methods=["POST"])])
    guard = Guard(app, Settings(max_stored_bytes=200_000))

    async def post(content):
        transport = httpx.ASGITransport(guard, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return await client.post("/gradio_api/upload", content=content)

    yield post
    _folder.private_folder.cache_clear()


def test_uploads_without_end_are_not_taken(ask):
    answers = [asyncio.run(ask(bytes(150_000))) for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 507]
    assert "Try again later" in answers[1].text


def test_an_upload_tells_its_length(ask):
    async def parts():
        yield b"x"

    assert asyncio.run(ask(parts())).status_code == 411
