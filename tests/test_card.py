"""The model card: what it says, to people, to Markdown and to the Hub's own client."""

from __future__ import annotations

import copy
import io
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import metadata_load, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results
from markdown_it import MarkdownIt
from PIL import Image

from cxr_estimator import CXRClassifier, evaluate, make_phantoms
from cxr_estimator.abstention import Abstention
from cxr_estimator.card import CARD_NAME, PICTURE_NAME, ModelCard
from cxr_estimator.conformal import Conformal
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError
from cxr_estimator.provenance import Bin, ClassCount, Provenance, Side, Validated
from cxr_estimator.statistics import Estimate
from cxr_estimator.thresholds import OperatingPoint
from tests.conftest import small_classifier

SECTIONS = [
    "How to use it", "Intended use and limits", "Data", "Training", "Operating points", "Calibration", "Evaluation",
    "Quality of explanations", "Audit", "Uncertainty and abstention", "Licence, attribution and citation",
]  # fmt: skip
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
HOSTILE = ["a|b", "<script>alert(1)</script>", ": x\n# y", "*c* `d` [e](f) ~~g~~ $h$ \\ & &lt;"]


def text_of(clf, **card):
    return ModelCard(**card).files(clf)[CARD_NAME].decode()


def body_of(text):
    return text.split("\n---\n", maxsplit=1)[-1]


def metadata_of(text):
    return yaml.safe_load(text.split("---\n")[1])


def section(text, title):
    """The part of the card below a heading."""
    return body_of(text).split(f"\n## {title}\n")[1].split("\n## ")[0]


def plain(block):
    """The text of a line as it is read."""
    return "".join(one.content for one in block.children if one.type in ("text", "code_inline", "text_special"))


def tables(text):
    """Rows of plain cells of each table."""
    found = []
    for block in MARKDOWN.parse(body_of(text)):
        if block.type == "table_open":
            found.append([])
        elif block.type == "tr_open":
            found[-1].append([])
        elif block.type == "inline" and block.level >= 4 and found and block.map is not None:
            found[-1][-1].append(plain(block))
    return found


def headings(text):
    blocks = MARKDOWN.parse(body_of(text))
    return [plain(blocks[i + 1]) for i, one in enumerate(blocks) if one.type == "heading_open" and one.tag == "h2"]


def side(first, second, *, patients=True, sketch=()):
    """A side of the split with so many images of two classes, two of each patient."""
    counts = [
        ClassCount(label, n, n // 2 if patients else None) for label, n in (("NORMAL", first), ("PNEUMONIA", second))
    ]
    n = first + second
    return Side(n, n // 2 if patients else None, tuple(counts), sketch)


SEEN = Provenance(
    training=side(600, 1800, sketch=("00aa" * 4, "ffff" * 4)),
    validation=side(60, 140, sketch=("1234" * 4,)),
    validated=(
        Validated(
            "PNEUMONIA",
            Estimate(0.9512, 0.9, 0.98),
            (Bin(0.1, 0.05, 0.01, 0.2, 100), Bin(0.8, 0.9, 0.8, 0.97, 100)),
        ),
    ),
    n_unreadable=3,
    seconds=1234.5,
    versions={"python": "3.11.0", "torch": "2.6.0"},
)  # fmt: skip


def changed(clf, **attributes):
    clf = copy.copy(clf)
    for name, value in attributes.items():
        setattr(clf, name, value)
    return clf


@pytest.fixture(scope="module")
def labels():
    """A classifier of three labels that may go together."""
    rng = np.random.default_rng(0)
    y = pd.DataFrame(rng.integers(0, 2, (40, 3)).astype(float), columns=["Edema", "Effusion", "Mass"])
    X = rng.integers(0, 255, (40, 32, 32), dtype=np.uint8)
    clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, validation_fraction=0.2, random_state=0)
    return clf.fit(X, y, groups=np.arange(40))


@pytest.fixture(scope="module")
def report(fitted):
    """An evaluation on others, with subgroups."""
    phantoms = make_phantoms(80, 32, random_state=1)
    sex = np.where(np.arange(80) % 4 < 2, "F", "M")
    return evaluate(fitted, phantoms.X, phantoms.y, phantoms.groups, subgroups={"sex": sex}, n_resamples=50)


@pytest.fixture(params=["fitted", "several", "labels", "ensemble"])
def any_model(request):
    if request.param == "several":
        return request.getfixturevalue("three_classes")[2]
    return request.getfixturevalue(request.param)


# -- what it says -----------------------------------------------------------------------------------------------------


def test_every_kind_of_model_has_every_section(any_model):
    text = text_of(any_model)
    assert headings(text) == SECTIONS
    assert len(text.splitlines()) <= 150
    assert "**Research and education only, not a medical device.**" in text
    assert "**Not evaluated on images it has not seen.**" in section(text, "Evaluation")
    assert "Not measured." in section(text, "Quality of explanations")
    assert "Not audited yet" in section(text, "Audit")
    assert "none was chosen" in section(text, "Licence, attribution and citation")
    assert "one institution" in section(text, "Intended use and limits")
    for label in any_model.classes_:
        assert str(label) in section(text, "Data")
    assert all(len({len(row) for row in table}) == 1 and len(table) > 1 for table in tables(text))
    assert "\n\n\n" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_what_it_says_of_an_image(fitted, three_classes, labels, ensemble):
    assert "whether it is PNEUMONIA (the positive label) or NORMAL." in text_of(fitted)
    assert "one of 3 classes: blue, green, red." in text_of(three_classes[2])
    assert "which of 3 labels it has: Edema, Effusion, Mass." in text_of(labels)
    assert "ensemble of 3 (plain_cnn, 32 x 32 pixels)" in text_of(ensemble)


def test_data_by_hand(fitted):
    said = section(text_of(changed(fitted, provenance_=SEEN)), "Data")
    assert "| NORMAL | 600 (25.0%) | 300 | 60 (30.0%) | 30 |" in said
    assert "| PNEUMONIA | 1,800 (75.0%) | 900 | 140 (70.0%) | 70 |" in said
    assert "| all | 2,400 | 1,200 | 200 | 100 |" in said
    assert "3 more images could not be read." in said
    assert "chose the epoch." in said
    assert "begins with 00aa00aa00aa00aa." in said
    without = replace(SEEN, training=side(3, 5, patients=False), validation=None, validated=(), n_unreadable=1)
    said = section(text_of(changed(fitted, provenance_=without)), "Data")
    assert "| NORMAL | 3 (37.5%) | unknown |" in said
    assert "There was no validation split" in said
    assert "1 more image could not be read." in said
    assert "fingerprint" not in said


def test_training_by_hand(fitted):
    rows = dict(tables(text_of(changed(fitted, provenance_=SEEN)))[1][1:])
    assert rows["optimiser"] == "AdamW, learning rate 0.001, weight decay 0.05, batches of 16"
    assert rows["input"] == "32 x 32 pixels, grey, stretched to the square"
    best = int(fitted.history_["epoch"][fitted.history_["best"]].iloc[0])
    assert rows["epochs"].startswith(f"{best} of {len(fitted.history_)} trained (at most 3)")
    assert rows["loss"] == "cross-entropy, label smoothing 0.05, class weights: none"
    assert rows["first weights"] == "random"
    assert rows["seed"] == "0"
    assert rows["duration"] == "1,234 s"
    assert rows["versions"] == "python 3.11.0, torch 2.6.0"
    weighted = changed(fitted, class_weights_=np.array([1.6, 2 / 3]), random_state=np.random.RandomState(0))
    rows = dict(tables(text_of(weighted))[1][1:])
    assert rows["loss"].endswith("class weights: NORMAL 1.6, PNEUMONIA 0.667")
    assert rows["seed"] == "not fixed"


def test_operating_points_by_hand(fitted):
    point = OperatingPoint(
        "rule_in", "specificity", 1.5, "PNEUMONIA", {"at_least": 0.9}, (1.25, 1.75), Estimate(0.8, 0.7, 0.9),
        Estimate(0.92, 0.85, 0.97), 200, 100, ("1234" * 4,),
    )  # fmt: skip
    points = {**fitted.operating_points_, "rule_in": point}
    clf = changed(fitted, operating_points_=points, active_points_=("rule_in",), provenance_=SEEN)
    text = text_of(clf)
    said = section(text, "Operating points")
    assert "`predict` uses rule_in." in said
    first, second = tables(said)[0][1:]
    assert first == [
        "rule_in", "PNEUMONIA", "0.818", "1.500 (1.250 to 1.750)", "specificity>=0.9", "0.800 (0.700 to 0.900)",
        "0.920 (0.850 to 0.970)", "200 images of 100 patients",
    ]  # fmt: skip
    assert "on others expect a little less" in said
    assert "expect" not in section(text_of(fitted), "Operating points")  # nothing was measured
    assert second == ["default", "PNEUMONIA", "0.500", "0.000", "number", *["not measured"] * 3]
    assert "chose the epoch and the operating point rule_in." in section(text, "Data")


def test_several_classes_decide_the_likeliest_and_points_are_asked(three_classes):
    X, y, clf = three_classes
    assert "None: the likeliest class is decided." in section(text_of(clf), "Operating points")
    clf = changed(clf, operating_points_=dict(clf.operating_points_))
    clf.set_threshold(0.25, label="red").calibrate(X, y)
    said = section(text_of(clf), "Operating points")
    assert "`flag` asks a point." in said
    assert tables(said)[0][1][:3] == ["red", "red", "depends on all classes"]


def test_calibration_is_told(fitted, phantoms):
    assert "Not calibrated" in section(text_of(fitted), "Calibration")
    clf = copy.copy(fitted).calibrate(phantoms.X, phantoms.y, groups=phantoms.groups, prevalence=0.1)
    said = section(text_of(clf), "Calibration")
    assert (
        "Calibrated by temperature (one number that all log-odds are divided by), on 80 images of 40 patients." in said
    )
    assert "shifted to another prevalence" in said


def test_validation_is_called_what_it_is(fitted):
    said = section(text_of(changed(fitted, provenance_=SEEN)), "Evaluation")
    assert "internal validation split (200 images of 100 patients), which chose the epoch" in said
    assert "| PNEUMONIA | 0.951 (0.900 to 0.980) |" in said


def test_members_of_an_ensemble(ensemble):
    text = text_of(ensemble)
    rows = tables(section(text, "Data"))[1]
    assert [row[0] for row in rows[1:]] == ["0", "1", "2"]
    for row, member in zip(rows[1:], ensemble.estimators_, strict=True):
        seen = member.provenance_
        assert row[2] == f"{seen.training.n_images} images of {seen.training.n_patients} patients"
        assert row[4].startswith(f"PNEUMONIA: {seen.validated[0].auroc.value:.3f} (")
    seeds = "; ".join(str(member.random_state) for member in ensemble.estimators_)
    assert f"| seed | {seeds} |" in section(text, "Training")
    assert "CXREnsemble.from_pretrained" in text
    assert "cxr predict" not in text  # the commands take single models


def test_a_network_from_elsewhere_claims_no_training(fitted):
    text = text_of(changed(fitted, provenance_=None, history_=pd.DataFrame()))
    assert "is not known" in section(text, "Data")
    assert "AdamW" not in text
    assert "plain_cnn" in section(text, "Training")


def test_prediction_sets_abstention_and_unusual_images(fitted, labels):
    said = section(text_of(changed(fitted, ood_=None)), "Uncertainty and abstention")
    assert "`predict_set`): none." in said
    assert "every image is answered." in said
    assert "not recognised" in said
    sets = Conformal("lac", np.zeros((50, 1), np.float32), np.zeros(50, np.int64), 60)
    silent = Abstention(
        ("probability",), 0.1, {}, "default", False, False, 0.5, Estimate(0.8, 0.7, 0.9), Estimate(0.05, 0.02, 0.1),
        0.12, None, None, 60, 50, 0, (),
    )  # fmt: skip
    ood = SimpleNamespace(n_patients=40, reference=np.zeros(20))
    said = section(
        text_of(changed(fitted, conformal_=sets, abstention_=silent, ood_=ood)), "Uncertainty and abstention"
    )
    assert "split conformal (lac), compared with 60 images of 50 patients." in said
    assert "Of 60 images of 50 patients, 80.0% were answered, 5.0% (2.0% to 10.0%) of them wrongly" in said
    assert "had all been, 12.0% would have been wrong." in said
    assert "learned from 40 patients and 20 others." in said
    assert "predict_set" not in text_of(labels)


def test_an_evaluation_goes_in(fitted, report):
    text = text_of(fitted, evaluation=report, evaluation_name="Hospital B", evaluation_split="test")
    said = section(text, "Evaluation")
    assert (
        "On Hospital B, part test: 80 images of 40 patients, 0 unreadable; classes in order: NORMAL 50.0% (40)" in said
    )
    assert "Not evaluated" not in text
    figures, points, confusion, *others = tables(said)
    assert figures[1][:2] == [
        "AUROC",
        str(report.overall["auroc"]).replace("[", "(").replace(",", " to").replace("]", ")"),
    ]
    assert [row[0] for row in points[4:6]] == ["sensitivity", "specificity"]
    assert [[int(cell) for cell in row[1:]] for row in confusion[1:]] == report.confusion.tolist()
    assert [row[:2] for row in others[-1][1:]] == [["sex", "F"], ["sex", "M"]]
    assert "subgroups such as" not in text
    assert "subgroups such as" in text_of(fitted)
    assert len(body_of(text).splitlines()) <= 170
    noted = text_of(fitted, evaluation=replace(report, notes=("Beware *this*.",)))
    assert "\n- Beware \\*this\\*.\n" in section(noted, "Evaluation")


def test_long_tables_are_cut_and_say_so(fitted, report):
    many = pd.concat([report.subgroups] * 20, ignore_index=True)
    said = section(text_of(fitted, evaluation=replace(report, subgroups=many)), "Evaluation")
    assert len(tables(said)[-1]) == 31
    assert "And 10 more rows." in said


def test_labels_have_a_row_each_and_no_matrices(labels):
    rng = np.random.default_rng(1)
    X, y = rng.integers(0, 255, (20, 32, 32), dtype=np.uint8), rng.integers(0, 2, (20, 3))
    text = text_of(labels, evaluation=evaluate(labels, X, y, n_resamples=20))
    said = section(text, "Evaluation")
    assert "Confusion" not in said
    assert metadata_of(text)["metrics"] == ["roc_auc", "precision", "recall", "f1"]
    counts = {one.label: f"{one.n_images}" for one in labels.provenance_.training.classes}
    assert {row[0]: row[1] for row in tables(section(text, "Data"))[0][1:-1]} == counts
    assert [row[0] for row in tables(said)[-1][1:]] == ["Edema", "Effusion", "Mass"]


def test_quality_of_explanations_goes_in(fitted):
    row = {
        "method": "grad_cam", "metric": "deletion_auc", "bucket": "all", "value": 0.1234, "low": 0.1, "high": 0.15,
        "n_images": 30, "n_patients": 20, "n_undefined": 0, "greater_is_better": True, "is_gain": True, "rank": 1.0,
    }  # fmt: skip
    undefined = {"value": np.nan, "low": np.nan, "high": np.nan, "n_undefined": 30}
    rows = [
        row,
        row | {"method": "lime", "value": 0.05, "low": np.nan, "high": np.nan, "n_undefined": 2, "rank": 2.0},
        row | {"metric": "entropy", "greater_is_better": False, "is_gain": False, **undefined},
        row | {"bucket": "TP", "value": 0.9},
    ]
    said = section(text_of(fitted, explanations=pd.DataFrame(rows)), "Quality of explanations")
    assert "On 30 images of 20 patients" in said
    assert tables(said)[0] == [
        ["method", "deletion AUC gain ↑", "entropy ↓"],
        ["Grad-CAM", "0.123 (0.100 to 0.150)", "undefined"],
        ["LIME", "0.050, 2 undefined", "not measured"],
    ]


def test_audit_goes_in(fitted):
    check = {"name": "randomisation", "value": 0.1234, "threshold": 0.5, "verdict": "pass"}
    checks = [
        SimpleNamespace(**check, interval=(0.1, 0.2), sentence="Maps change | with weights."),
        SimpleNamespace(**check | {"threshold": None}, interval=None, sentence="x"),
    ]
    found = tables(section(text_of(fitted, audit=checks), "Audit"))[0]
    assert found[1:] == [
        ["randomisation", "0.123", "0.1 to 0.2", "0.5", "pass", "Maps change | with weights."],
        ["randomisation", "0.123", "none", "none", "pass", "x"],
    ]


def test_licence_attribution_and_citation(fitted):
    card = {
        "license": "other", "license_name": "our-terms", "license_link": "https://example.org/our_terms",
        "attribution": "Kermany et al., CC BY 4.0, https://example.org/a_b",
        "citation": "@misc{a,\n note={```\n# no}\n}", "population": "one hospital, 2019",
        "title": "A *title*", "repo_id": "user/my_model",
    }  # fmt: skip
    text = text_of(fitted, **card)
    said = section(text, "Licence, attribution and citation")
    assert "**Licence**: our-terms (https://example.org/our_terms)." in said
    assert "https://example.org/a_b" in said
    fences = [one for one in MARKDOWN.parse(body_of(text)) if one.type == "fence"]
    assert [one.info for one in fences] == ["python", "sh", "bibtex"]
    assert fences[-1].content == card["citation"] + "\n"
    assert 'from_pretrained("user/my_model")' in fences[0].content
    assert "one hospital, 2019" in section(text, "Intended use and limits")
    assert plain(MARKDOWN.parse(body_of(text))[1]) == "A *title*"
    found = huggingface_hub.ModelCard(text).data
    assert (found.license, found.license_name, found.license_link) == ("other", "our-terms", card["license_link"])


# -- what could go wrong with it --------------------------------------------------------------------------------------


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
    monkeypatch.setattr("cxr_estimator._card_picture.bare", lambda ax, title: drawn.append((ax, title)))
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
        ({"audit": [object()]}, InvalidTypeError, "'audit'"),
        ({"audit": "none"}, InvalidTypeError, "'audit'"),
    ],
)
def test_wrong_parts_are_refused(parts, error, said):
    with pytest.raises(error, match=said):
        ModelCard(**parts)


def test_an_evaluation_of_other_classes_is_refused(three_classes, report):
    with pytest.raises(DataError, match=r"is of the classes \['NORMAL', 'PNEUMONIA'\]"):
        ModelCard(evaluation=report).files(three_classes[2])


def test_the_template_is_part_of_the_package():
    import cxr_estimator

    assert (Path(cxr_estimator.__file__).parent / "card.md.jinja").is_file()
