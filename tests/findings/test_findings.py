"""The report of a model that looks at the border says so, and everything in it can be checked."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError, SameDataWarning
from cxr_estimator.findings import describe, findings
from cxr_estimator.findings._writing import body, standing_out
from cxr_estimator.statistics import FEWEST_PATIENTS
from cxr_estimator.trust import examine
from tests.test_multilabel import OPTIONS, squares


def bucket(report, name):
    return next(one for one in report.buckets if one.name == name)


def test_a_planted_border_is_seen_in_the_false_positives_and_supported(report):
    wrong = bucket(report, "FP")
    assert wrong.n_patients >= FEWEST_PATIENTS
    assert wrong.figures["border"].low > 0.6  # by chance a third
    (border,) = [one for one in report.hypotheses if one.name == "border"]
    assert border.status == "supported"
    assert any(said.startswith("The maps of false positives have ") for said in border.seen)
    assert border.checks[0].name == "border_exchange"
    assert border.checks[0].verdict == "fail"
    assert border.checks[0].sentence in border.reason
    assert "along the border" in report.of("FP")["description"].iloc[0]


def test_each_bucket_holds_what_it_is_called(report, bordered):
    clf, data = bordered
    said, proba = clf.predict(data.X), clf.predict_proba(data.X)[:, 1]
    for name, truth, decision in (("TP", 1, 1), ("FP", 0, 1), ("FN", 1, 0)):
        own = report.of(name)
        truth, decision = (clf.classes_[k] for k in (truth, decision))
        assert set(own["truth"]) == {truth}
        assert set(own["decision"]) == set(own["explained"]) == {decision}
        assert bucket(report, name).n_in_all == ((data.y == truth) & (said == decision)).sum()
        assert own["shown"].sum() == 2
        assert own["shown"].iloc[:2].all()
    table = report.table
    np.testing.assert_allclose(table["probability"], proba[table["position"]], atol=1e-6)
    assert (table["truth"] == data.y[table["position"]]).all()
    assert (report.explanation.index[table["number"]] == table["position"]).all()
    assert report.n_patients == 40
    assert report.positive == "PNEUMONIA"


def test_figures_are_those_of_trust_cards_and_descriptions(report, bordered):
    clf, data = bordered
    own = report.of("FP").iloc[0]
    (batch,) = examine(clf, data.X[[own["position"]]], ["occlusion"], random_state=0)
    (card,) = batch.cards["occlusion"]
    assert own["gain"] == pytest.approx(card.gain, abs=1e-6)
    assert (own["beaten"], own["verdict"], own["why"]) == (card.deletion.beaten, card.verdict, card.sentence)
    lungs = [data.lung_masks[own["position"]]]
    assert describe(batch.found["occlusion"], lungs)["description"][0] == own["description"]


def test_the_same_request_gives_the_same_report(report, bordered, border_audit):
    clf, data = bordered
    asked = {"method": "occlusion", "audit": border_audit, "masks": data.lung_masks, "n_maps": 10, "n_per_bucket": 2}
    again = findings(clf, data.X, data.y, data.groups, **asked)
    assert again.to_json() == report.to_json()


def test_without_errors_the_buckets_are_empty_and_say_so(fitted, phantoms):
    said = fitted.predict(phantoms.X)
    rows = np.flatnonzero(said == phantoms.y)[:12]
    with pytest.warns(SameDataWarning, match="trained the network"):
        report = findings(fitted, phantoms.X[rows], phantoms.y[rows], n_per_bucket=1, n_maps=1)
    for name, called in (("FP", "false positives"), ("FN", "false negatives")):
        assert bucket(report, name).n_explained == 0
        for text in (str(report), report.to_markdown(), report.to_html()):
            assert f"No {called} among 12 images." in text
        assert f"No {called} among 12 images." in standing_out(report)
    assert "Among these images are" in report.notes[0]
    assert "Patients are unknown" in report.notes[1]
    assert report.n_patients is None
    assert not report.differences
    assert json.loads(report.to_json())["buckets"][1]["figures"]["gain"] == [None, None, None]


def test_several_classes(three_classes):
    X, y, clf = three_classes
    with pytest.warns(SameDataWarning):
        report = findings(clf, X, np.roll(y, 1), n_per_bucket=2, n_maps=6)
    assert [one.name for one in report.buckets] == ["right", "wrong", "random"]
    own = report.of("wrong")
    assert (own["truth"] != own["decision"]).all()
    assert report.positive is None
    assert f"Decided {own['decision'].iloc[0]}, true {own['truth'].iloc[0]}; probability of" in report.to_markdown()


def test_a_class_can_be_explained_in_all_buckets(bordered):
    clf, data = bordered
    report = findings(clf, data.X, data.y, data.groups, target="PNEUMONIA", n_per_bucket=1, n_maps=8)
    assert {one.bucket for one in report.differences} == {"FP", "FN"}
    assert set(report.table["explained"]) == {"PNEUMONIA"}
    assert "explains PNEUMONIA" in str(report)


def test_progress_may_stop_it(bordered):
    clf, data = bordered
    told = []

    def stop(done, total):
        told.append((done, total))
        if done > 80:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        findings(clf, data.X, data.y, progress=stop, n_maps=2, n_per_bucket=2)
    assert told[0][0] == 80
    assert told[0][1] <= 88


def test_what_cannot_be_asked(fitted, ensemble, phantoms, border_audit):
    X, y = phantoms.X[:4], phantoms.y[:4]
    with pytest.raises(InvalidTypeError, match="a member of `estimators_`"):
        findings(ensemble, X, y)
    for options, error in (
        ({"method": "none"}, InvalidParameterError),
        ({"n_per_bucket": 0}, InvalidParameterError),
        ({"n_maps": 0}, InvalidParameterError),
        ({"target": "COVID"}, InvalidParameterError),
        ({"target": ["NORMAL"]}, InvalidParameterError),
        ({"audit": "folder"}, InvalidTypeError),
        ({"audit": replace(border_audit, classes=("A", "B"))}, DataError),
        ({"masks": [None]}, InvalidParameterError),
        ({"groups": [1]}, DataError),
        ({"progress": 1}, InvalidTypeError),
        ({"random_state": -1}, InvalidParameterError),
    ):
        with pytest.raises(error):
            findings(fitted, X, y, **options)
    with pytest.raises(DataError):
        findings(fitted, X, ["other"] * 4)


def test_the_true_label_is_no_target_though_labels_are_given(fitted, phantoms):
    with pytest.raises(InvalidParameterError, match="'target' parameter of findings must be a label"):
        findings(fitted, phantoms.X[:4], phantoms.y[:4], target="true")


def test_a_mask_of_another_size_is_named(fitted, phantoms):
    masks = [*phantoms.lung_masks[:3], np.ones((5, 7), bool)]
    with (
        pytest.warns(SameDataWarning),
        pytest.raises(DataError, match=r"findings: the mask at position 3 has shape \(5, 7\)"),
    ):
        findings(fitted, phantoms.X[:4], phantoms.y[:4], masks=masks, n_maps=4)


def test_where_an_audit_looked_at_other_images_that_is_told(fitted, border_audit):
    data = make_phantoms(6, 32, difficulty=0.0, random_state=9)
    audit = replace(border_audit, note="Of one scanner only.")
    notes = findings(fitted, data.X, data.y, data.groups, audit=audit, n_maps=1, n_per_bucket=1).notes
    assert "Of the audit: Of one scanner only." in notes
    assert any(
        note.startswith("The audit looked at 80 images of 40 patients; it does not say of which") for note in notes
    )


def test_one_image_is_told_in_words_for_one(fitted):
    data = make_phantoms(2, 32, difficulty=0.0, random_state=9)
    said = str(findings(fitted, data.X[:1], data.y[:1], data.groups[:1]))
    assert "1 drawn from 1 image, whatever the outcome; 1 shown." in said
    assert "1 images" not in said


def test_several_labels_per_image_are_refused(phantoms):
    X, y = squares(40)[:2]
    clf = CXRClassifier(**{**OPTIONS, "max_epochs": 1, "validation_fraction": 0}).fit(X, y)
    with pytest.raises(DataError, match="several labels per image"):
        findings(clf, X, y)


def test_images_that_cannot_be_read_are_counted(fitted, tmp_path):
    data = make_phantoms(8, 32, difficulty=0.0, random_state=9)
    for number, pixels in enumerate(data.X):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    clf = deepcopy(fitted).set_params(on_error="skip")
    with pytest.warns(UserWarning, match="could not be used"):
        report = findings(clf, [str(tmp_path / f"{k}.png") for k in range(8)], data.y, data.groups, n_maps=1)
    assert (report.n_images, report.n_unreadable) == (7, 1)
    assert 2 not in set(report.table["position"])
    assert "(1 more could not be read)" in str(report)


# --- the report as files


def test_files(report, tmp_path):
    (tmp_path / "out" / "pictures").mkdir(parents=True)
    (tmp_path / "out" / "pictures" / "tp_99.png").write_bytes(b"of an earlier run")
    (tmp_path / "out" / "pictures" / "mine.png").write_bytes(b"not ours")
    folder = report.save(tmp_path / "out")
    assert not (folder / "pictures" / "tp_99.png").exists()
    (folder / "pictures" / "mine.png").unlink()
    found = json.loads((folder / "findings.json").read_text())
    assert found["format"] == "cxr_estimator.findings"
    assert [one["name"] for one in found["buckets"]] == ["TP", "FP", "FN", "random"]
    assert len(found["images"]) == len(report.table)
    assert found["hypotheses"][0]["checks"][0]["name"] in found["hypotheses"][0]["reason"].lower().replace(" ", "_")
    page, text = (folder / "findings.html").read_text(), (folder / "findings.md").read_text()
    pictures = sorted(one.name for one in (folder / "pictures").iterdir())
    assert len(pictures) == 8
    assert page.count("data:image/png") == 8
    for name in pictures:
        assert f"](pictures/{name})" in text
    for said in ("Research and education only", "shows radiographs"):
        assert said in page
        assert said in text
    assert "](" not in report.to_markdown()
    assert "shows radiographs" not in report.to_markdown()
    assert "http" not in page
    for one in report.hypotheses:
        assert one.meaning in page
        assert one.meaning in text


def test_nothing_names_a_patient(report, bordered):
    _, data = bordered
    for written in (report.to_json(), report.to_html(), report.to_markdown(), str(report)):
        assert not any(str(patient) in written for patient in set(data.groups))


def test_the_body_stands_in_another_page(report):
    part = body(report, level=3)
    assert "<h3>What may be behind it</h3>" in part
    assert "<h4>False positives</h4>" in part
    assert "<html" not in part


def test_pictures_show_the_radiograph_beside_its_map(report):
    shown = report.picture(0)
    assert shown.shape == (256, 2 * 256 + 4, 3)
    grey, over = shown[:, :256], shown[:, -256:]
    assert (grey[..., 0] == grey[..., 2]).all()
    assert (over != grey).any()
    assert (over == (120, 220, 255)).all(axis=2).any(), "the outline of the lungs"
    assert (over == (140, 255, 140)).all(axis=2).any(), "what is called the diaphragm"
    without = replace(report, lungs=(None,) * len(report.lungs)).picture(0)
    assert not (without == (140, 255, 140)).all(axis=2).any()
