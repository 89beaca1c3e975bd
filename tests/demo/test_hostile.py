"""Hostile visitors, over HTTP: a clear message, nothing of the server, and the next visitor is served."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image

import cxr_estimator
from cxr_estimator.hub import push
from tests.demo.asking import META, ask, ask_by_name, upload, uploaded
from tests.dicom_files import content_of, dataset, deflated_file, no_image

PACKAGE = os.path.dirname(cxr_estimator.__file__)
HTML = b"<html><script>alert(1)</script></html>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


def png(width=64, height=64):
    """The bytes of a black PNG."""
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(width, height):
    """A PNG of a few bytes whose header promises more."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def check_says_nothing(server, text):
    """Raise if an answer tells what only the server knows."""
    for secret in ("Traceback", PACKAGE, os.getcwd(), "site-packages", "hf_alice"):
        assert secret not in text, f"{secret} in {text}"
    assert str(server.folder) not in text


@pytest.fixture
def served(server, films):
    """The server; after the test it must still answer."""
    yield server
    answer = ask_by_name(server.url, "predict", image=uploaded(server.url, films[0][1].read_bytes()))
    assert answer.data[0]["probabilities"]


BAD_FILES = {
    "empty": (b"", "film.png", "empty"),
    "truncated": (png(300, 300)[:60], "film.png", ""),
    "html": (HTML, "film.png", ""),
    "svg": (SVG, "film.png", ""),
    "text as DICOM": (b"hello", "film.dcm", ""),
    "bomb": (bomb(60_000, 60_000), "film.png", "50,000,000"),
    "10,000 x 10,000": (png(10_000, 10_000), "film.png", "50,000,000"),
    "DICOM without pixels": (content_of(no_image()), "film.dcm", ""),
    "inflating DICOM": (deflated_file(b"", bytes(1 << 20), 300), "film.dcm", ""),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_told_of(served, kind):
    content, name, said = BAD_FILES[kind]
    answer = ask_by_name(served.url, "predict", image=uploaded(served.url, content, name))
    assert answer.data is None
    assert answer.error.startswith("This file cannot be used: ")
    assert said in answer.error
    check_says_nothing(served, answer.text)


def test_content_decides_and_not_the_extension(served):
    answer = ask_by_name(served.url, "predict", image=uploaded(served.url, png(), "film.dcm"))
    assert answer.data[0]["is_unusual"]


def test_a_file_over_the_limit_is_not_taken(served):
    response = upload(served.url, bytes((4 << 20) + 1))
    assert response.status_code == 413
    assert "maximum allowed size" in response.text
    check_says_nothing(served, response.text)


def test_a_large_question_is_not_taken(served):
    response = httpx.post(f"{served.url}/gradio_api/call/predict", content=b" " * (17 << 20))
    assert response.status_code == 413
    parts = (b" " * (1 << 20) for _ in range(18))  # which tell no length before
    assert httpx.post(f"{served.url}/gradio_api/call/predict", content=parts).status_code == 413


def test_identifiers_of_a_dicom_file_are_in_no_answer_file_name_or_log(served):
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16)
    names = {"PatientName": "Doe^Identified", "PatientID": "ID-4711-X", "InstitutionName": "Identified Clinic"}
    texts = []
    for content in (content_of(dataset(pixels, stored=12, **names)), content_of(dataset(pixels, **names))[:-99]):
        file = uploaded(served.url, content, "film.dcm")
        texts += [ask_by_name(served.url, endpoint, image=file).text for endpoint in ("predict", "explain")]
    texts += [path.name for path in served.folder.rglob("*")] + [served.log.read_text()]
    for text in texts:
        assert "Identified" not in text
        assert "4711" not in text


ELSEWHERE = [
    "/etc/passwd",
    "file:///etc/passwd",
    "../../../etc/passwd",
    "etc/passwd",
    "http://localhost/film.png",
    "http://127.0.0.1:1/film.png",
    "http://169.254.169.254/latest/meta-data",
    "https://example.com/film.png",
    "ftp://localhost/film.png",
    "/gradio_api/file=/etc/passwd",
    f"{PACKAGE}/py.typed",
    "/proc/self/environ",
    "\0",
    "x" * 5000,
    "",
    7,
    ["/etc/passwd"],
    {"path": "/etc/passwd"},
]


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path)[:40].replace("\0", "NUL"))
def test_no_file_is_read_but_an_uploaded_one(server, path, marked):
    file = {"path": path, **({"meta": META} if marked else {})}
    for answer in (
        ask(server.url, "predict", file, None, None, None, 0),
        ask_by_name(server.url, "predict", image=file),
    ):
        assert answer.data is None
        assert "uploaded here" in answer.error
        check_says_nothing(server, answer.text.replace(PACKAGE, "") if PACKAGE in str(path) else answer.text)


def test_nor_by_way_of_the_page(server, films):
    """What the browser sends names functions by number; private ones, too."""
    count = len(httpx.get(f"{server.url}/config").json()["dependencies"])
    assert count >= 4
    for number in range(count):
        data = [{"path": "/etc/passwd", "meta": META}] * 20
        body = {"data": data, "fn_index": number, "session_hash": "visitor"}
        response = httpx.post(f"{server.url}/gradio_api/queue/join", json=body)
        assert response.status_code == 422
        assert "uploaded here" in response.json()["detail"][0]["message"]


def test_an_upload_cannot_be_guessed_listed_or_left(served, films):
    path = uploaded(served.url, films[0][0].read_bytes())["path"]
    assert httpx.get(f"{served.url}/gradio_api/file={path}").status_code == 200
    folder, name = os.path.split(path)
    for other in (
        folder,
        os.path.dirname(folder),
        f"{os.path.dirname(folder)}/{'0' * 64}/{name}",
        f"{folder}/../../log.txt",
    ):
        assert httpx.get(f"{served.url}/gradio_api/file={quote(other)}").status_code == 403
    gone = ask_by_name(
        served.url, "predict", image={"path": f"{os.path.dirname(folder)}/{'0' * 64}/{name}", "meta": META}
    )
    assert "deleted meanwhile" in gone.error
    out = ask_by_name(served.url, "predict", image={"path": f"{folder}/../../../log.txt", "meta": META})
    assert "uploaded here" in out.error


@pytest.mark.parametrize(
    "route",
    [
        "file=/etc/passwd",
        "file=/proc/self/environ",
        "file=../../../../etc/passwd",
        "file=%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "file=file:///etc/passwd",
        "file=http://127.0.0.1:1/x",
        "file=https://example.com/x.png",
        "file=//example.com/x.png",
        f"file={PACKAGE}/py.typed",
        "file/etc/passwd",
        "proxy=http://127.0.0.1:1/",
        "proxy=https://huggingface.co/",
        "deep_link?session_hash=x",
        "stream/x/1/1/playlist.m3u8",
        "run-history/buckets",
    ],
)
def test_no_route_leads_to_other_files_or_hosts(server, route):
    response = httpx.get(f"{server.url}/gradio_api/{route}")
    assert response.status_code in (403, 404)
    check_says_nothing(server, response.text.replace(PACKAGE, ""))


@pytest.mark.parametrize(
    "route", ["component_server", "process_recording", "vibe-edit/", "vibe-code/", "undo-vibe-edit"]
)
def test_routes_that_the_app_does_not_need_are_closed(server, route):
    assert httpx.post(f"{server.url}/gradio_api/{route}", json={}).status_code == 403


def test_the_queue_cannot_be_passed_by(server):
    response = httpx.post(f"{server.url}/gradio_api/run/predict", json={"data": [None, None, None, None, 0]})
    assert response.status_code == 404


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"null", b"[" * 100_000, b'{"data": {}}', b'{"data": []}', b"\xff"]
)
def test_a_question_that_is_none_is_told_of(server, body):
    response = httpx.post(f"{server.url}/gradio_api/call/predict", content=body)
    assert response.status_code in (400, 422)
    assert response.json()["detail"]
    check_says_nothing(server, response.text)


@pytest.mark.parametrize("index", [-1, 10**9, True, "9", 9.0, None, {}, []])
def test_a_function_that_is_none_is_told_of(server, index):
    body = {"data": [], "fn_index": index, "session_hash": "visitor"}
    response = httpx.post(f"{server.url}/gradio_api/queue/join", json=body)
    assert response.status_code == 404
    assert "no function" in response.json()["detail"]
    assert "Received inputs" not in server.log.read_text()


@pytest.mark.parametrize(("name", "content"), [("x.html", HTML), ("x.svg", SVG), ("x.xhtml", HTML), ("x", HTML)])
def test_an_uploaded_page_is_not_shown_as_one(server, name, content):
    path = uploaded(server.url, content, name)["path"]
    headers = httpx.get(f"{server.url}/gradio_api/file={quote(path)}").headers
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox")
    assert "no-store" in headers["cache-control"]


def test_names_of_uploads_lead_nowhere(server):
    for name in ("../../evil.png", "/etc/evil.png", "..", "a\\..\\evil.png"):
        response = upload(server.url, b"x", name)
        if response.status_code == 200:
            assert os.path.realpath(response.json()[0]).startswith(f"{server.folder}{os.sep}cxr_demo_")
        else:
            check_says_nothing(server, response.text)


IDS = [
    "../../etc",
    "/etc/passwd",
    "user/model@../..",
    "user/model@",
    "user/../..",
    "file:///etc/passwd",
    "https://huggingface.co/user/model",
    "cxr_estimator",
    "tests/hub",
    ".",
    "",
    "~",
    "user/model/more",
    "a" * 10_000,
    "usér/mödel",
    "user/mo\ndel",
    "user/model@" + "0" * 40,
    "\0",
]


@pytest.mark.parametrize("name", IDS, ids=lambda name: ascii(name)[:40])
def test_a_model_is_an_offered_one_or_one_on_the_hub(server, hub, films, name):
    answer = ask_by_name(server.url, "models", model=name)
    assert answer.data is None
    assert answer.error
    assert len(answer.error) < 1000
    check_says_nothing(server, answer.text)


def test_a_visitor_has_not_the_operators_rights(server, hub, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    push(tmp_path / "model", "alice/secret", private=True)
    push(tmp_path / "model", "alice/public")
    hub.requests.clear()
    secret = ask_by_name(server.url, "models", model="alice/secret")
    assert secret.data is None
    assert "alice/secret" in secret.error
    assert ask_by_name(server.url, "models", model="alice/public").data[0]["labels"] == fitted.classes_.tolist()
    assert hub.seen()
    assert not [one for one in hub.seen() if "authorization" in {name.lower() for name in one.headers}]


def test_the_page_tells_nothing_of_the_server(server):
    for route in ("/", "/config", "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/mcp/schema"):
        check_says_nothing(server, httpx.get(f"{server.url}{route}").text)


def test_nobody_disturbs_anybody(server, films):
    """Threads with different questions get what each gets alone."""
    files, _ = films
    images = [uploaded(server.url, path.read_bytes()) for path in files]
    questions = [
        ("predict", {"image": images[number % 2], "point": point, "seed": number})
        for number, point in enumerate(("screening", "rule_in", None, "screening"))
    ] + [("explain", {"image": images[0], "method": method, "target": target, "check": False}) for method, target in (
        ("grad_cam", "NORMAL"), ("grad_cam", "PNEUMONIA"), ("saliency", "PNEUMONIA"), ("input_x_gradient", "NORMAL")
    )]  # fmt: skip

    def said(question):
        answer = ask_by_name(server.url, question[0], **question[1])
        return json.dumps(answer.data[0]), answer.error

    alone = [said(question) for question in questions]
    assert len(set(alone)) == len(questions)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(questions)), 2)).tolist()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda number: said(questions[number]), order))
    assert together == [alone[number] for number in order]


def test_the_log_holds_no_upload_and_no_path_of_one(server):
    text = server.log.read_text()
    assert "Received inputs" not in text
    assert "passwd" not in text
