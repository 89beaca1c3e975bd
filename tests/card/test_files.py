"""The files of a model card: hostile names, the same bytes each time, what the Hub's own client reads, bad input."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import matplotlib as mpl
import numpy as np
import pytest
import yaml
from huggingface_hub import metadata_load, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results
from PIL import Image

from cxr_estimator import evaluate
from cxr_estimator.audit import AuditReport
from cxr_estimator.card import AUDIT_NAME, CARD_NAME, PICTURE_NAME, ModelCard
from cxr_estimator.checksums import differing, read_sums
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError
from cxr_estimator.statistics import Estimate
from tests.card.reading import (
    MARKDOWN,
    SECTIONS,
    SEEN,
    body_of,
    changed,
    headings,
    metadata_of,
    section,
    tables,
    text_of,
)
from tests.conftest import small_classifier

HOSTILE = ["a|b", "<script>alert(1)</script>", ": x\n# y", "*c* `d` [e](f) ~~g~~ $h$ \\ & &lt;"]


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.SameDataWarning")
@pytest.mark.parametrize("pos_label", [HOSTILE[0], HOSTILE[3]])
def test_labels_mean_nothing_to_markdown_html_or_yaml(pos_label):
    other = HOSTILE[1] if pos_label == HOSTILE[0] else HOSTILE[2]
    y = np.array([pos_label, other] * 20)
    X = np.random.default_rng(0).integers(0, 255, (40, 32, 32), dtype=np.uint8)
    clf = small_classifier(max_epochs=1, pos_label=pos_label).fit(X, y, groups=np.arange(40))
    clf.set_threshold(0.5, name="`p` | <b>")
    report = evaluate(clf, X, y, subgroups={"sex|": np.array(["<i>", "*"] * 20)}, n_resamples=20)
    text = text_of(
        clf, evaluation=report, dataset_name="[a](b) \ud800", evaluation_name="c: |\n- d", tags=(": x\n", "1")
    )
    assert headings(text) == SECTIONS
    allowed = {"text", "text_special", "code_inline", "softbreak", "strong_open", "strong_close", "image"}
    assert {one.type for block in MARKDOWN.parse(body_of(text)) for one in block.children or []} <= allowed
    assert text.count("![") == 1  # the picture
    one_line = {label: " ".join(label.split()) for label in (pos_label, other)}
    rows = tables(section(text, "Data"))[0]
    assert [row[0] for row in rows[1:-1]] == [one_line[label] for label in clf.classes_]
    assert tables(section(text, "Operating points"))[0][1][:2] == ["`p` | <b>", one_line[pos_label]]
    assert all(len({len(row) for row in table}) == 1 for table in tables(text))
    found = huggingface_hub.ModelCard(text)
    assert found.data.tags == ["cxr_estimator", "plain_cnn", ": x", "1"]
    assert found.data.eval_results[0].dataset_name == "c: | - d"


def test_the_same_model_gives_the_same_bytes(fitted, ensemble, report, tmp_path):
    clf = changed(fitted, provenance_=SEEN)
    for model in (clf, ensemble):
        model.save(tmp_path / type(model).__name__)
        loaded = type(model).load(tmp_path / type(model).__name__)
        assert ModelCard().files(loaded) == ModelCard().files(model)
    full = ModelCard(evaluation=report, dataset="user/data")
    assert full.files(clf) == full.files(clf)


def chunks(png):
    """The kinds of the chunks of a PNG file."""
    place, found = 8, []
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        found.append(kind.decode())
        place += length + 12
    return found


def test_the_picture_has_a_fixed_size_and_no_metadata(fitted, report):
    for files in (ModelCard().files(changed(fitted, provenance_=SEEN)), ModelCard(evaluation=report).files(fitted)):
        png = files[PICTURE_NAME]
        assert set(chunks(png)) == {"IHDR", "pHYs", "IDAT", "IEND"}
        assert Image.open(io.BytesIO(png)).size == (840, 690)
        assert f"]({PICTURE_NAME})" in files[CARD_NAME].decode()


def test_the_picture_is_the_same_whatever_the_user_has_set(fitted):
    clf = changed(fitted, provenance_=SEEN)
    usual = ModelCard().files(clf)[PICTURE_NAME]
    with mpl.rc_context({"font.size": 30, "savefig.bbox": "tight", "savefig.dpi": 50, "axes.facecolor": "red"}):
        assert ModelCard().files(clf)[PICTURE_NAME] == usual
        assert mpl.rcParams["font.size"] == 30


def test_the_picture_shows_the_bins(fitted, monkeypatch):
    drawn = []
    monkeypatch.setattr("cxr_estimator.card._picture.bare", lambda ax, title: drawn.append((ax, title)))
    ModelCard().files(changed(fitted, provenance_=SEEN))
    ((ax, title),) = drawn
    (container,) = ax.containers
    np.testing.assert_allclose(container.lines[0].get_xydata(), [[0.1, 0.05], [0.8, 0.9]])
    bars = container.lines[2][0].get_segments()
    np.testing.assert_allclose([[low, high] for (_, low), (_, high) in bars], [[0.01, 0.2], [0.8, 0.97]])
    assert title == "Reliability diagram\n200 images of the internal validation split"


def test_no_picture_where_nothing_was_observed(ensemble, fitted):
    assert list(ModelCard().files(ensemble)) == [CARD_NAME]
    files = ModelCard().files(changed(fitted, provenance_=replace(SEEN, validated=())))
    assert list(files) == [CARD_NAME]
    assert "was not measured" in section(files[CARD_NAME].decode(), "Calibration")
    assert PICTURE_NAME not in files[CARD_NAME].decode()


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.SameDataWarning")
def test_nobody_and_no_place_is_named(phantoms, tmp_path):
    paths = []
    for number, image in enumerate(phantoms.X[:40]):
        paths.append(tmp_path / f"secretname{number}.png")
        Image.fromarray(image).save(paths[-1])
    patients = np.char.add("secretpatient", np.repeat(np.arange(20), 2).astype(str))
    clf = small_classifier(max_epochs=1, cache_dir=tmp_path / "cache", on_error="skip")
    (tmp_path / "secretname0.png").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="1 image"):
        clf.fit(paths, phantoms.y[:40], groups=patients)
    clf.set_params(pretrained=tmp_path / "secretname.safetensors")
    report = evaluate(clf, paths[1:], phantoms.y[1:40], patients[1:], n_resamples=20)
    files = ModelCard(evaluation=report, dataset="user/data").files(clf)
    assert len(files) == 3
    for content in files.values():
        assert b"secret" not in content
        assert str(tmp_path).encode() not in content
    assert "1 more image could not be read." in files[CARD_NAME].decode()


# -- what the Hub reads -----------------------------------------------------------------------------------------------


def test_metadata_is_read_by_the_client(any_model, tmp_path):
    text = text_of(any_model, license="cc-by-4.0", dataset="user/data")
    (tmp_path / CARD_NAME).write_text(text)
    found = metadata_load(tmp_path / CARD_NAME)
    assert found["library_name"] == "cxr_estimator"
    assert found["pipeline_tag"] == "image-classification"
    assert found["tags"] == ["cxr_estimator", "plain_cnn", "chest-x-ray", "medical-imaging"]
    assert found["license"] == "cc-by-4.0"
    assert found["datasets"] == ["user/data"]
    assert found.keys().isdisjoint({"model-index", "metrics", "license_name", "base_model"})
    card = huggingface_hub.ModelCard(text)
    assert card.content == text  # nothing is lost on the way through the client
    assert "license" not in metadata_of(text_of(any_model))


def test_model_index_is_read_by_the_client(fitted, report):
    card = {"dataset": "user/data", "dataset_name": "Data", "evaluation_split": "test", "repo_id": "user/model"}
    found = metadata_of(text_of(fitted, evaluation=report, **card))
    name, results = model_index_to_eval_results(found["model-index"])
    assert name == "model"
    assert {(one.dataset_type, one.dataset_name, one.dataset_split) for one in results} == {
        ("user/data", "Data", "test")
    }
    values = {one.metric_type: one.metric_value for one in results}
    assert values["roc_auc"] == pytest.approx(report.overall["auroc"].value, abs=5e-5)
    assert values["recall"] == pytest.approx(report.metrics["sensitivity"].value, abs=5e-5)
    assert found["metrics"] == list(values)
    auroc = report.overall["auroc"]
    assert results[0].metric_name == f"AUROC (95% interval {auroc.low:.3f} to {auroc.high:.3f})"
    names = {one.metric_type: one.metric_name for one in results}
    assert names["recall"].startswith("sensitivity at default (95% interval ")
    assert names["brier_score"].startswith("Brier (")  # which needs no operating point


def test_undefined_figures_are_left_out_of_the_metadata(fitted, report):
    nothing = Estimate(np.nan, np.nan, np.nan)
    blind = replace(report, overall={**report.overall, "auroc": nothing})
    files = ModelCard(evaluation=blind, dataset="user/data").files(fitted)
    assert list(files) == [CARD_NAME, PICTURE_NAME]
    found = metadata_of(files[CARD_NAME].decode())
    assert "roc_auc" not in found["metrics"]
    assert ".nan" not in files[CARD_NAME].decode()


def test_results_are_read_by_the_client(fitted, report):
    files = ModelCard(evaluation=report, dataset="hf-vision/chest-xray-pneumonia", evaluation_task="test").files(fitted)
    content = files[".eval_results/hf-vision--chest-xray-pneumonia.yaml"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(content))
    assert (entry.dataset_id, entry.task_id) == ("hf-vision/chest-xray-pneumonia", "test")
    assert entry.value == pytest.approx(report.overall["auroc"].value, abs=5e-5)
    assert entry.notes.startswith("AUROC (95% interval ")
    assert entry.notes.endswith("; 80 images of 40 patients")
    assert entry.date is None  # the same model gives the same bytes


def test_results_are_of_the_data_they_were_measured_on(fitted, report):
    for elsewhere in ({"evaluation_name": "Hospital B"}, {}):
        card = {"dataset": "user/data"} if elsewhere else {"dataset_name": "Data"}
        files = ModelCard(evaluation=report, **card, **elsewhere).files(fitted)
        assert not [name for name in files if "eval_results" in name]
        (result,) = metadata_of(files[CARD_NAME].decode())["model-index"][0]["results"]
        assert result["dataset"] == {"type": "other", "name": "Hospital B" if elsewhere else "Data"}
    other = ModelCard(evaluation=report, dataset="user/data", evaluation_dataset="other/data").files(fitted)
    assert ".eval_results/other--data.yaml" in other


def test_the_hub_accepts_the_card(any_model, hub):
    card = huggingface_hub.ModelCard(text_of(any_model, license="mit"))
    card.validate()
    assert len(hub.seen(path="validate-yaml")) == 1


def test_the_hub_accepts_a_card_with_everything(fitted, report, hub):
    card = {"license": "other", "license_name": "terms: |", "dataset": "user/data", "evaluation": report}
    huggingface_hub.ModelCard(text_of(fitted, **card)).validate()
    with pytest.raises(ValueError, match="license"):
        huggingface_hub.ModelCard(text_of(fitted, license="my-own-terms")).validate()


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "error", "said"),
    [
        ({"title": 3}, InvalidTypeError, "'title'"),
        ({"tags": "a"}, InvalidTypeError, "'tags'"),
        ({"tags": (1,)}, InvalidTypeError, "'tags'"),
        ({"license": "MIT License"}, InvalidParameterError, "an identifier of the Hub"),
        ({"license": "other"}, InvalidParameterError, "'license_name'"),
        ({"repo_id": "../x"}, InvalidParameterError, "'repo_id'"),
        ({"dataset": "a/b/c"}, InvalidParameterError, "'dataset'"),
        ({"evaluation_dataset": "a b"}, InvalidParameterError, "'evaluation_dataset'"),
        ({"evaluation_task": None}, InvalidParameterError, "'evaluation_task'"),
        ({"evaluation": {}}, InvalidTypeError, "'evaluation'"),
        ({"explanations": {}}, InvalidTypeError, "'table'"),
        ({"audit": []}, InvalidTypeError, "'audit'"),
        ({"audit": "none"}, InvalidTypeError, "'audit'"),
    ],
)
def test_wrong_parts_are_refused(parts, error, said):
    with pytest.raises(error, match=said):
        ModelCard(**parts)


def test_an_evaluation_of_other_classes_is_refused(three_classes, report):
    with pytest.raises(DataError, match=r"is of the classes \['NORMAL', 'PNEUMONIA'\]"):
        ModelCard(evaluation=report).files(three_classes[2])


def test_an_audit_of_other_classes_is_refused(three_classes):
    report = AuditReport((), ("NORMAL", "PNEUMONIA"), ("grad_cam",), 3, 3, 0, 3)
    with pytest.raises(DataError, match=r"the audit is of the classes \['NORMAL', 'PNEUMONIA'\]"):
        ModelCard(audit=report).files(three_classes[2])


def test_an_audit_stands_beside_the_card_until_the_model_is_saved_anew(fitted, tmp_path):
    report = AuditReport((), ("NORMAL", "PNEUMONIA"), ("grad_cam",), 3, 3, 0, 3)
    fitted.save(tmp_path, card=ModelCard(audit=report))
    assert AuditReport.load(tmp_path).to_dict() == report.to_dict()
    assert AUDIT_NAME in read_sums(tmp_path)
    assert not differing(tmp_path, read_sums(tmp_path))
    fitted.save(tmp_path)
    assert not (tmp_path / AUDIT_NAME).exists()


def test_the_template_is_part_of_the_package():
    import cxr_estimator

    assert (Path(cxr_estimator.__file__).parent / "card" / "card.md.jinja").is_file()
