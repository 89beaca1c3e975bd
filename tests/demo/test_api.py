"""The public endpoints, through gradio's client, MCP and plain HTTP: what they say is what the estimator says."""

from __future__ import annotations

import asyncio
import base64
import json

import httpx
import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from PIL import Image

from cxr_estimator.attribution import METHODS
from cxr_estimator.demo._analysis import N_COPIES
from cxr_estimator.demo._answers import finite
from cxr_estimator.figures import overlay
from cxr_estimator.images import DecodedImage
from cxr_estimator.metrics import METRICS
from cxr_estimator.preprocessing import picture
from cxr_estimator.trust import examine
from tests.demo.asking import ask_by_name, uploaded

ENDPOINTS = {"/models", "/methods", "/predict", "/explain", "/compare", "/batch", "/benchmark", "/replay"}


def as_shown(pixels):
    """The radiograph as pages show it."""
    return picture(DecodedImage(pixels, "film"), longest=1024, shortest=512)


def test_models_says_what_the_model_offers(client, bundled):
    found = client.predict(api_name="/models")
    assert found["offered"] == ["bundled"]
    assert found["labels"] == bundled.classes_.tolist()
    assert found["positive_label"] == bundled.pos_label_
    points = {point["name"]: point for point in found["operating_points"]}
    assert {name: point["threshold"] for name, point in points.items()} == bundled.thresholds_
    kept = bundled.operating_points_["screening"].sensitivity
    assert points["screening"]["sensitivity"] == {"value": kept.value, "low": kept.low, "high": kept.high}
    assert "grad_cam" in found["methods"]
    assert set(found["methods"]) | set(found["methods_that_do_not_work"]) == set(METHODS)
    assert all(found["methods_that_do_not_work"].values())


def test_methods_are_the_tables(client):
    found = client.predict(api_name="/methods")
    assert set(found["methods"]) == set(METHODS)
    assert found["methods"]["lime"]["speed"] == METHODS["lime"].speed
    assert {name: one["greater_is_better"] for name, one in found["metrics"].items()} == {
        name: metric.greater_is_better for name, metric in METRICS.items()
    }


@pytest.mark.parametrize("point", [None, "screening", "rule_in"])
def test_predict_says_what_the_estimator_says(client, bundled, films, point):
    files, X = films
    found = client.predict(handle_file(files[1]), point=point, seed=3, api_name="/predict")
    shares = {one["label"]: one["probability"] for one in found["probabilities"]}
    assert list(shares.values()) == bundled.predict_proba(X[1:])[0].tolist()
    copies = bundled.uncertainty(X[1:], n_samples=N_COPIES, random_state=3).samples[:, 0]
    np.testing.assert_array_equal([one["low"] for one in found["probabilities"]], copies.min(axis=0))
    np.testing.assert_array_equal([one["high"] for one in found["probabilities"]], copies.max(axis=0))
    name = point or bundled.active_point_
    assert found["decision"] == bundled.predict(X[1:], operating_point=name).tolist()
    assert found["threshold"] == bundled.thresholds_[name]
    assert found["operating_point"]["name"] == name
    assert found["is_refused"] is False
    check = bundled.check_images(X[1:])
    assert (found["image_check"], found["image_p_value"]) == (check.sentences[0], check.p_value[0])


def test_a_cut_off_of_ones_own_decides(client, bundled, films):
    files, X = films
    share = bundled.predict_proba(X[1:])[0, bundled.classes_.tolist().index("PNEUMONIA")]
    for cut_off, label in ((share - 0.01, "PNEUMONIA"), (share + 0.01, "NORMAL")):
        found = client.predict(handle_file(files[1]), cut_off=cut_off, api_name="/predict")
        assert found["decision"] == [label]
        assert (found["threshold"], found["operating_point"]) == (cut_off, None)
        assert "sensitivity and specificity are not known" in found["meaning"]


def test_explain_says_what_the_estimator_says(client, bundled, films):
    files, X = films
    found, drawn = client.predict(
        handle_file(files[1]), target="PNEUMONIA", colour_map="viridis", opacity=0.3, api_name="/explain"
    )
    ((made, cards),) = examine(bundled, X[1:], ["grad_cam"], target="PNEUMONIA", random_state=0)
    explanation, card = made["grad_cam"], cards["grad_cam"][0]
    assert found["explanation"]["score"] == explanation.score[0]
    assert found["explanation"]["explained_label"] == "PNEUMONIA"
    told = found["explanation"]["trust_card"]
    assert (told["verdict"], told["sentence"]) == (card.verdict, card.sentence)
    assert told["checks"] == finite([check._asdict() for check in card.checks])
    assert told["deletion"]["gain"] == card.gain
    assert told["deletion"]["probability"] == card.deletion.curve.tolist()
    with Image.open(drawn) as image:
        expected = overlay(explanation, cmap="viridis", opacity=0.3, image=as_shown(X[1]))
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_a_withheld_map_comes_without_its_picture_unless_asked_for(client, films):
    file = handle_file(films[0][0])
    found, drawn = client.predict(file, method="saliency", api_name="/explain")
    assert found["explanation"]["is_withheld"] is True
    assert found["explanation"]["trust_card"]["verdict"] == "withhold"
    assert drawn is None
    stamped = client.predict(file, method="saliency", show_withheld=True, api_name="/explain")[1]
    plain = client.predict(file, method="saliency", check=False, api_name="/explain")[1]
    with Image.open(stamped) as one, Image.open(plain) as other:
        assert 0.005 < (np.asarray(one) != np.asarray(other)).any(axis=2).mean() < 0.3  # the stamp


def test_a_map_that_is_not_checked_says_so(client, bundled, films):
    files, X = films
    found, drawn = client.predict(handle_file(files[0]), method="saliency", check=False, api_name="/explain")
    told = found["explanation"]
    assert (told["is_checked"], told["is_withheld"], told["trust_card"]) == (False, False, None)
    explanation = bundled.explain(X[:1], method="saliency", target=told["explained_label"])
    assert told["score"] == explanation.score[0]
    with Image.open(drawn) as image:
        np.testing.assert_array_equal(np.asarray(image), overlay(explanation, opacity=0.6, image=as_shown(X[0])))


def test_an_unfit_image_is_refused_without_a_probability(client, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)).save(tmp_path / "noise.png")
    file = handle_file(tmp_path / "noise.png")
    found = client.predict(file, api_name="/predict")
    assert (found["is_refused"], found["probabilities"], found["decision"]) == (True, [], [])
    assert found["image_check"]
    explained, drawn = client.predict(file, api_name="/explain")
    assert (explained["explanation"], drawn) == (None, None)
    assert explained["probabilities"] == []


def test_answers_are_finite():
    assert finite({"a": [np.float32("nan"), (float("inf"), np.int64(3))], 1: "x", "b": np.bool_(True)}) == {
        "a": [None, [None, 3]],
        "1": "x",
        "b": True,
    }


WRONG = [
    ({"model": 3}, "'model' parameter"),
    ({"model": "no"}, "There is no model 'no'"),
    ({"point": "nowhere"}, "'default', 'rule_in', 'screening'"),
    ({"point": ["screening"]}, "'point' parameter"),
    ({"cut_off": 1.5}, "'cut_off' parameter"),
    ({"cut_off": "0.5"}, "'cut_off' parameter"),
    ({"cut_off": float("nan")}, "'cut_off' parameter"),
    ({"cut_off": True}, "'cut_off' parameter"),
    ({"seed": -1}, "'seed' parameter"),
    ({"seed": 10**40}, "'seed' parameter"),
    ({"seed": 0.5}, "'seed' parameter of this endpoint must be an integer"),
    ({"seed": None}, "'seed' parameter"),
    ({"image": None}, "`image` must be a file"),
    ({"image": "x.png"}, "`image` must be a file"),
    ({"image": [1]}, "`image` must be a file"),
    ({"unknown": 1}, "unknown"),
]
WRONG_MAP = [
    ({"method": "magic"}, "grad_cam"),
    ({"method": None}, "'method' parameter"),
    ({"target": "BROKEN_RIB"}, "'predicted', 'NORMAL', 'PNEUMONIA'"),
    ({"target": {}}, "'target' parameter"),
    ({"colour_map": "rainbow!"}, "'cmap' parameter"),
    ({"colour_map": 1}, "'colour_map' parameter"),
    ({"opacity": float("inf")}, "'opacity' parameter"),
    ({"opacity": -0.1}, "'opacity' parameter"),
    ({"check": "no"}, "'check' parameter"),
    ({"show_withheld": 1}, "'show_withheld' parameter"),
    ({"receipt": None}, "'receipt' parameter"),
]


@pytest.mark.parametrize(
    ("endpoint", "wrong", "said"), [("predict", *one) for one in WRONG] + [("explain", *one) for one in WRONG_MAP]
)
def test_a_wrong_argument_is_named(app_url, films, endpoint, wrong, said):
    answer = ask_by_name(app_url, endpoint, **{"image": uploaded(app_url, films[0][0].read_bytes()), **wrong})
    assert answer.data is None
    assert said in answer.error
    assert "Traceback" not in answer.text


def test_a_missing_argument_is_named(app_url):
    assert ask_by_name(app_url, "predict").error == "predict: missing a required argument: 'image'."
    short = httpx.post(f"{app_url}/gradio_api/call/predict", json={"data": [None]})
    assert short.json()["detail"] == "predict needs `data`, a list of 5 values. Got a list of 1."
    for name in ("nothing-there", "judge", "nothing"):  # the last two are functions of the page
        assert ask_by_name(app_url, name).status == 404
        assert httpx.post(f"{app_url}/gradio_api/call/{name}", json={"data": [None] * 20}).status_code == 404


def test_the_client_tells_the_reason(client, films):
    with pytest.raises(AppError, match="'default', 'rule_in', 'screening'"):
        client.predict(handle_file(films[0][0]), point="x", api_name="/predict")


def test_only_the_endpoints_are_public_and_each_argument_is_described(app_url):
    named = httpx.get(f"{app_url}/gradio_api/info").json()["named_endpoints"]
    assert set(named) == ENDPOINTS
    for endpoint in named.values():
        assert len(endpoint["description"]) > 80
    schema = httpx.get(f"{app_url}/gradio_api/mcp/schema").json()
    assert {f"/{tool['name']}" for tool in schema} == ENDPOINTS
    for tool in schema:
        for name, argument in tool["inputSchema"]["properties"].items():
            assert argument["description"].endswith("."), (tool["name"], name)


def tools(app_url, work):
    """Return what `work(session)` returns, in a session of MCP."""

    async def run():
        tools = streamable_http_client(f"{app_url}/gradio_api/mcp/")
        async with tools as streams, ClientSession(*streams[:2]) as session:
            await session.initialize()
            return await work(session)

    return asyncio.run(run())


def test_the_same_functions_are_tools(app_url, client, films):
    path = films[0][1]
    address = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()

    async def work(session):
        listed = (await session.list_tools()).tools
        judged = await session.call_tool("predict", {"image": address, "point": "screening"})
        explained = await session.call_tool("explain", {"image": address})
        return listed, judged, explained

    listed, judged, explained = tools(app_url, work)
    schemas = {tool.name: tool.inputSchema for tool in listed}
    assert {f"/{name}" for name in schemas} == ENDPOINTS
    assert schemas["explain"]["required"] == ["image"]
    assert not judged.isError
    expected = client.predict(handle_file(path), point="screening", api_name="/predict")
    assert judged.content[0].text == str(expected)
    assert [part.type for part in explained.content] == ["text", "image", "text"]
    assert base64.b64decode(explained.content[1].data).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "image",
    [
        "http://127.0.0.1:9/film.png",
        "https://example.com/film.png",
        "file:///etc/passwd",
        "ftp://localhost/film.png",
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        "data:image/png,x",
        "data:image/png;base64,*",
        "http://localhost/gradio_api/file=/etc/passwd",
    ],
)
def test_a_tool_reads_and_fetches_nothing_else(app_url, image):
    async def work(session):
        with pytest.raises(McpError) as caught:
            await session.call_tool("predict", {"image": image})
        return caught.value.error.message

    assert json.dumps("Traceback") not in (said := tools(app_url, work))
    assert "upload" in said or "address" in said
