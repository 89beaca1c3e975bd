"""The report as tables, text, JSON, Markdown and HTML."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import evaluate
from cxr_estimator.errors import CXRError, DataError
from cxr_estimator.evaluation._writing import body
from cxr_estimator.evaluation.plots import PLOTS
from cxr_estimator.statistics import Estimate
from tests.evaluation.conftest import IMAGES, judging

EVIL = "<script>alert(1)</script>|*x*"


@pytest.fixture(scope="module")
def texts(report):
    """The report in every format, by suffix."""
    return {
        ".html": report.to_html(), ".md": report.to_markdown(), ".json": report.to_json(), ".csv": report.to_csv(),
        ".txt": f"{report}\n",
    }  # fmt: skip


class Page(HTMLParser):
    """The tags of a page, its texts, and the cells of its tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.sources = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


def test_frame_is_tidy_and_headed_by_the_classes(report):
    frame = report.to_frame()
    assert frame.columns.tolist() == ["operating_point", "class", "figure", "value", "low", "high"]
    assert frame.iloc[:2][["class", "figure", "value"]].to_numpy().tolist() == [
        ["NORMAL", "prevalence", 0.4],
        ["PNEUMONIA", "prevalence", 0.6],
    ]
    assert not frame.duplicated(["operating_point", "class", "figure"]).any()
    row = frame.set_index(["operating_point", "figure"]).loc[("screening", "specificity")]
    assert (row["value"], row["low"], row["high"]) == report.decisions["screening"].estimates["specificity"]
    expected = 2 + len(report.overall) + sum(len(one.estimates) for one in report.decisions.values())
    assert len(frame) == expected


def test_frame_of_several_classes(several_report):
    frame = several_report.to_frame()
    support = frame[frame["figure"] == "support"]
    assert dict(zip(support["class"], support["value"], strict=True)) == several_report.support
    assert len(frame[frame["figure"] == "recall"]) == 3


def test_json_is_plain(report, several_report):
    for one in (report, several_report):
        found = json.loads(one.to_json())
        assert found == one.to_dict()
        assert found["classes"] == list(one.classes)
        assert sum(map(sum, found["confusion"])) == one.n_images
    found = report.to_dict()
    assert found["operating_points"]["screening"]["transfer"][0]["verdict"] == "as promised"
    assert found["metrics"]["calibration_error"]["low"] is None
    assert found["subgroups"][0]["value"] == "F"


def test_csv_is_the_frame(report):
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert len(rows) == len(report.to_frame())
    assert float(rows[-1]["value"]) == pytest.approx(report.to_frame()["value"].iloc[-1])


def test_class_order_and_prevalence_head_every_table(report, texts):
    heading = "classes in order: NORMAL 40.0% (80), PNEUMONIA 60.0% (120); positive label: PNEUMONIA"
    assert report.heading == heading
    assert str(report).splitlines()[:2] == ["200 images of 100 patients; 0 unreadable", heading]
    n_tables = len(re.findall("^## ", report.to_markdown(), flags=re.MULTILINE))
    assert n_tables == 6
    assert texts[".txt"].count(heading) == n_tables + 1
    assert texts[".md"].count(heading) == n_tables
    assert texts[".html"].count(heading) == n_tables + 1
    assert Page(texts[".html"]).tags.count("table") == n_tables


def test_every_figure_stands_in_every_format(report, texts):
    for text in (texts[".txt"], texts[".md"], texts[".html"]):
        for one in report.decisions.values():
            for estimate in one.estimates.values():
                assert f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})" in text
            for count in one.confusion.ravel():
                assert re.search(rf"\b{count}\b", text)
        assert f"{report.overall['auroc'].value:.3f}" in text
        assert "as promised" in text


def test_page_is_one_file_with_its_pictures(texts, several_report):
    for text, n_pictures in ((texts[".html"], len(PLOTS)), (several_report.to_html(), 3)):
        page = Page(text)
        assert len(page.sources) == n_pictures
        for source in page.sources:
            assert source.startswith("data:image/png;base64,")
            with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as picture:
                assert picture.width > 400
        assert "script" not in page.tags
        assert any("not a medical device" in text for text in page.texts)


def test_labels_are_text_in_every_format(report):
    """Whatever a class, an operating point or a subgroup is called."""
    subgroups = report.subgroups.assign(value=[EVIL, "M"])
    decisions = {EVIL: replace(report.decisions["screening"], rule=EVIL, classes=("NORMAL", EVIL))}
    evil = replace(
        report, classes=("NORMAL", EVIL), prevalence={"NORMAL": 0.4, EVIL: 0.6}, pos_label=EVIL,
        decisions=decisions, subgroups=subgroups, notes=(EVIL,),
    )  # fmt: skip
    page = Page(evil.to_html())
    assert "script" not in page.tags
    assert any(EVIL in text for text in page.texts)
    lines = evil.to_markdown().splitlines()
    assert not any("<script" in line for line in lines)
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("| sex")}
    (head,) = [line for line in lines if line.startswith("| subgroup")]
    assert widths == {head.count("|")}
    assert json.loads(evil.to_json())["pos_label"] == EVIL


def test_no_patient_is_named(texts):
    for text in texts.values():
        assert not re.search(r"patient\d", text)


def test_undefined_figures_are_said(two):
    clf, y, patients = two
    sick = np.flatnonzero(y == "PNEUMONIA")
    report = evaluate(clf, IMAGES[sick], y[sick], patients[sick], n_resamples=5)
    assert "undefined" in report.to_markdown()
    assert json.loads(report.to_json())["operating_points"]["default"]["figures"]["specificity"]["value"] is None


def test_nothing_decided_positive_is_undefined_not_zero(two):
    clf, y, patients = two
    clf = judging(clf, np.full(200, -9.0))
    report = evaluate(clf, IMAGES, y, patients, n_resamples=5)
    assert np.isnan(report.metrics["precision"].value)
    assert np.isnan(report.metrics["mcc"].value)
    assert report.metrics["f1"].value == 0.0
    assert "precision at 'default' is undefined (NaN): no image is decided so." in report.notes


def test_save(report, texts, tmp_path):
    for suffix, text in texts.items():
        path = report.save(tmp_path / "new" / f"report{suffix}")
        assert path.read_text(encoding="utf-8") == text, suffix
    folder = report.save(tmp_path / "all")
    pictures = {f"{name}.png" for name in PLOTS}
    tables = {"report.html", "report.md", "report.json", "report.csv", "subgroups.csv"}
    assert {path.name for path in folder.iterdir()} == pictures | tables
    with pytest.raises(DataError, match="is a folder"):
        report.save(_made(tmp_path / "folder.html"))
    with pytest.raises(CXRError):
        report.save(folder / "report.csv" / "inside")


def _made(path):
    path.mkdir()
    return path


def test_an_exact_figure_has_no_brackets(report):
    exact = replace(report, overall={"brier": Estimate(0.25, 0.25, 0.25)})
    assert re.search(r"Brier\s+0\.250$", str(exact), flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["meaning", "figure", "value"])
def test_operating_points_may_be_called_anything(report, name):
    named = replace(report, decisions={name: report.decisions["screening"]})
    sensitivity = named.decisions[name].estimates["sensitivity"].value
    for text in (str(named), named.to_markdown()):
        assert re.search(rf"sensitivity\W+{sensitivity:.3f}", text)


def test_no_value_passes_for_the_rule_of_a_table(two):
    clf, y, patients = two
    values = np.where(np.arange(200) % 20 < 10, "<script>alert(1)</script>", "b")
    report = evaluate(clf, IMAGES, y, patients, subgroups={"---": values}, n_resamples=10)
    assert "<script>alert" not in report.to_markdown()
    assert "<script>alert" not in report.to_html()


def test_a_body_without_operating_points_stands_in_another_page(report):
    whole, rest = str(body(report)), str(body(report, level=3, points=False))
    for title in ("Operating points", "Confusion matrix at screening", "Promised where a point was chosen"):
        assert title in whole
        assert title not in rest
    for title in ("Without a threshold", "Subgroups", "Pictures"):
        assert f"<h2>{title}" in whole
        assert f"<h3>{title}" in rest
    assert "<h2>" not in rest
