"""The endpoints for several models, images or methods, and for receipts: what they say is what the estimator says."""

from __future__ import annotations

import ast
import base64
import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from cxr_estimator import make_phantoms
from cxr_estimator.benchmark import benchmark
from cxr_estimator.comparison import compare_explanations
from cxr_estimator.demo import Settings
from cxr_estimator.demo._api import Endpoints
from cxr_estimator.demo._examples import example_file
from cxr_estimator.demo._models import Models
from cxr_estimator.demo._shared import App
from cxr_estimator.receipts import Receipt, replay
from tests.demo.asking import ask_by_name, uploaded
from tests.demo.test_api import tools
from tests.model_folders import contents


def test_compare_says_what_the_estimator_says(client, bundled, films):
    files, X = films
    found, figure = client.predict(
        handle_file(files[0]), point_a="screening", point_b="rule_in", target="PNEUMONIA", api_name="/compare"
    )
    assert [one["decision"] for one in found["judgements"]] == [
        bundled.predict(X[:1], operating_point=point).tolist() for point in ("screening", "rule_in")
    ]
    made = bundled.explain(X[:1], target="PNEUMONIA", random_state=0)
    assert [one["score"] for one in found["explanations"]] == [float(made.score[0])] * 2
    expected = compare_explanations(made, made).agreement
    names = [one["name"] for one in found["to_verify"]]
    assert names == ["focus on anatomy", "models agree", "confidence", "no artefacts"]
    assert found["agreement"] == pytest.approx({name: values[0] for name, values in expected.items()})
    with Image.open(figure) as drawn:
        assert drawn.size == (1530, 1110)


def test_batch_says_what_the_estimator_says(client, bundled, films, tmp_path):
    files, X = films
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    given = [handle_file(path) for path in (*files, broken)]
    found, table = client.predict(given, point="screening", api_name="/batch")
    rows = {row["file"]: row for row in found["rows"]}
    for path, pixels in zip(files, X, strict=True):
        assert rows[path.name]["probability"] == bundled.predict_proba([pixels])[0, 1]
        assert rows[path.name]["decision"] == bundled.predict([pixels], operating_point="screening")[0]
    assert found["rows"][-1]["status"] == "not read"
    assert found["rows"][-1]["probability"] is None
    with open(table, newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [row["file"] for row in found["rows"]]


def test_benchmark_says_what_the_estimator_says(client, bundled):
    metrics = ["sparsity_90", "relevance_mass"]
    found = client.predict(methods=["grad_cam"], metrics=metrics, n=3, seed=1, api_name="/benchmark")
    data = make_phantoms(3, bundled.image_size, images_per_patient=1, random_state=1)
    expected = benchmark(
        bundled, data.X, data.y, methods=["grad_cam"], metrics=metrics, masks=data.lesion_masks, random_state=1
    )
    values = {(row["metric"], row["bucket"]): row["value"] for row in found["rows"]}
    for _, row in expected.iterrows():
        value = values[row["metric"], row["bucket"]]
        assert value is None if np.isnan(row["value"]) else value == pytest.approx(row["value"])
    assert (found["n_images"], found["left_out"]) == (3, [])


def test_a_receipt_of_explain_is_replayed(client, bundled):
    file = example_file("With an opacity")
    found, _ = client.predict(handle_file(file), point="rule_in", receipt=True, api_name="/explain")
    assert replay(Receipt.from_json(json.dumps(found["receipt"])), file, clf=bundled).is_exact
    again = client.predict(found["receipt"], handle_file(file), api_name="/replay")
    assert again["is_exact"]
    assert again["within_tolerance"]
    assert again["sentence"]
    changed = {**found["receipt"], "score": found["receipt"]["score"] + 1}
    wrong = client.predict(changed, handle_file(file), api_name="/replay")
    assert not wrong["within_tolerance"]
    assert [one["quantity"] for one in wrong["differences"] if not one["is_within"]] == ["score"]


def test_the_overlay_has_the_proportions_of_the_radiograph(client, tmp_path):
    with Image.open(example_file("With an opacity")) as film:
        film.resize((300, 500)).save(tmp_path / "tall.png")
    found, picture = client.predict(handle_file(tmp_path / "tall.png"), check=False, api_name="/explain")
    assert not found["is_refused"]
    with Image.open(picture) as drawn:
        assert drawn.size == (307, 512)


@pytest.mark.parametrize(
    ("endpoint", "wrong", "said"),
    [
        ("compare", {"method": "magic"}, "grad_cam"),
        ("compare", {"model_b": 3}, "'model_b' parameter"),
        ("batch", {"images": []}, "Choose files first"),
        ("batch", {"images": "x"}, "'images' parameter"),
        ("batch", {"images": ["x"]}, "`images` must be a file"),
        ("benchmark", {"n": 33}, "'n' parameter"),
        ("benchmark", {"methods": "grad_cam"}, "'methods' parameter"),
        ("benchmark", {"metrics": ["max_sensitivity"]}, "'metric' parameter"),
        ("replay", {"receipt": {}}, "not a receipt"),
        ("replay", {"receipt": "x"}, "'receipt' parameter"),
    ],
)
def test_a_wrong_argument_is_named(app_url, films, endpoint, wrong, said):
    file = uploaded(app_url, films[0][0].read_bytes())
    given = {"compare": {"image": file}, "replay": {"image": file}}.get(endpoint, {})
    answer = ask_by_name(app_url, endpoint, **{**given, **wrong})
    assert answer.data is None
    assert said in answer.error
    assert "Traceback" not in answer.text


def test_a_receipt_that_would_cost_more_is_refused(client):
    file = handle_file(example_file("With an opacity"))
    found, _ = client.predict(file, method="integrated_gradients", check=False, receipt=True, api_name="/explain")
    receipt = found["receipt"]
    steps = next(name for name in receipt["options"] if "steps" in name)
    for change in ({"batch_size": receipt["batch_size"] + 1}, {"options": {**receipt["options"], steps: 10**6}}):
        with pytest.raises(AppError, match="This app repeats explanations of its own settings"):
            client.predict({**receipt, **change}, file, api_name="/replay")


def test_they_are_tools_too(app_url, films):
    address = "data:image/png;base64," + base64.b64encode(films[0][0].read_bytes()).decode()

    async def work(session):
        explained = await session.call_tool("explain", {"image": address, "check": False, "receipt": True})
        compared = await session.call_tool("compare", {"image": address})
        batch = await session.call_tool("batch", {"images": [address, address]})
        measured = await session.call_tool("benchmark", {"n": 1, "methods": ["grad_cam"], "metrics": ["sparsity_90"]})
        receipt = ast.literal_eval(explained.content[0].text)["receipt"]
        again = await session.call_tool("replay", {"receipt": receipt, "image": address})
        return compared, batch, measured, again

    for answer in (answers := tools(app_url, work)):
        assert not answer.isError, answer.content[0].text
    assert len(ast.literal_eval(answers[1].content[0].text)["rows"]) == 2
    assert ast.literal_eval(answers[3].content[0].text)["is_exact"]


def test_a_receipt_finds_its_model_among_those_on_offer(hub, fitted, receipt, tmp_path):
    sha = hub.store.put("models", "alice/model", contents(fitted.save(tmp_path / "model"))).sha
    settings = Settings(models=("alice/model",), allow_hub=False, device="cpu")
    endpoints = Endpoints(App(settings, Models(settings)))
    made = replace(receipt, model_name="alice/model", model_revision=sha)
    assert endpoints._name_of(made) == "alice/model"
    assert endpoints._name_of(replace(made, model_revision="0" * 40)) == f"alice/model@{'0' * 40}"
    assert endpoints._name_of(replace(made, model_name="bundled", model_revision=None)) == "bundled"
