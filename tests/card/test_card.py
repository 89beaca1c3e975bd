"""The model card: what it says to people."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pandas as pd

from cxr_estimator import evaluate
from cxr_estimator.abstention import Abstention
from cxr_estimator.audit import CHECKS, AuditCheck, AuditReport
from cxr_estimator.card import ModelCard
from cxr_estimator.conformal import Conformal
from cxr_estimator.statistics import Estimate
from cxr_estimator.thresholds import OperatingPoint
from tests.card.reading import (
    MARKDOWN,
    SECTIONS,
    SEEN,
    body_of,
    changed,
    headings,
    metadata_of,
    plain,
    section,
    side,
    tables,
    text_of,
)


def test_every_kind_of_model_has_every_section(any_model):
    text = text_of(any_model)
    assert headings(text) == SECTIONS
    assert len(text.splitlines()) <= 150
    assert "**Research and education only, not a medical device.**" in text
    assert "**Not evaluated on images that were kept for it.**" in section(text, "Evaluation")
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
    assert rows["optimiser"] == "AdamW, learning rate 0.01, weight decay 0.05, batches of 16"
    assert rows["input"] == "32 x 32 pixels, grey, stretched to the square"
    best = int(fitted.history_["epoch"][fitted.history_["best"]].iloc[0])
    assert rows["epochs"].startswith(f"{best} of {len(fitted.history_)} trained (at most 8)")
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


def test_a_validation_split_that_chose_nothing(fitted):
    """With `patience=None` it is only reported on."""
    clf = changed(fitted, provenance_=SEEN, patience=None)
    text = text_of(clf)
    assert "The validation split chose nothing. All epochs ran, and the last was taken." in section(text, "Data")
    assert "chose the epoch" not in text
    assert "which chose nothing:" in section(text, "Evaluation")
    assert dict(tables(text)[1][1:])["epochs"].endswith("(at most 8), without early stopping")
    point = replace(fitted.operating_points_["default"], name="rule_in", fingerprint=SEEN.validation.fingerprint)
    ruled = text_of(changed(clf, operating_points_={"rule_in": point}, active_points_=("rule_in",)))
    assert "The validation split chose the operating point rule_in. All epochs ran" in section(ruled, "Data")
    assert "rule_in, so that on others less must be expected" in section(ruled, "Evaluation")


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
    seen = replace(fitted.preprocessing_, crop_pct=0.875, channels=3, mean=(0.5, 0.4, 0.5), std=(0.2,) * 3)
    text = text_of(changed(fitted, provenance_=None, history_=pd.DataFrame(), preprocessing_=seen))
    assert "stretched to the square, of which the middle 87.5% is seen |" in text
    assert "then minus 0.5, 0.4, 0.5, divided by 0.2 |" in text
    assert "bfloat16" not in text  # that was not tried
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
    assert "learned from 40 patients, and compared with 20 others." in said
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


def check_of(name, verdict, sentence, *, value=0.1234, method=None):
    """A check with the family and the threshold of the table."""
    row, interval = CHECKS[name], (value - 0.02, value + 0.02)
    return AuditCheck(name, row.family, method, value, interval, 0.5, verdict, sentence)


AUDIT = AuditReport(
    (
        check_of("label_order", "doubtful", "It *tells* a|b.", value=0.45),
        check_of("gain", "fail", "Hiding <b> what it marks.", value=-0.012, method="grad_cam"),
        check_of("patient_overlap", "not enough data", "Nobody knows.", value=np.nan),
        check_of("border_exchange", "pass", "12 of 400 turn."),
        check_of("completeness", "not enough data", "LIME: too few.", value=np.nan, method="lime"),
    ),
    ("NORMAL", "PNEUMONIA"), ("grad_cam", "lime"), 1400, 200, 0, 9000, "They trained *it*.",
)  # fmt: skip


def test_audit_goes_in(fitted):
    said = section(text_of(fitted, audit=AUDIT), "Audit")
    assert said.strip().startswith(
        "On 1,400 images of 200 patients. They trained \\*it\\*.\n\nFailed: gain, Grad-CAM. "
    )
    assert "Doubtful: label order. Passed: 1. Not enough data: 2. A check passes where" in said
    assert "It fails where the whole 95% interval lies beyond what is allowed" in said
    assert "Passing says that nothing of this was found here" in said
    maps, shortcuts, of_maps, data = tables(said)
    assert maps[1:] == [
        ["Grad-CAM", "✕ withhold", "Hiding <b> what it marks."],
        ["LIME", "! show with warning", "No check that would withhold them had enough data."],
    ]
    rest = ["verdict", "value (95% interval)", "passes", "what was found"]
    border = ["border exchange", "✓ pass", "0.123 (0.103 to 0.143)", "up to 0.5", "12 of 400 turn."]
    gain = ["gain, Grad-CAM", "✕ fail", "-0.012 (-0.032 to 0.008)", "from 0.5", "Hiding <b> what it marks."]
    order = ["label order", "! doubtful", "0.450 (0.430 to 0.470)", "from 0.5", "It *tells* a|b."]
    assert shortcuts == [["shortcuts", *rest], border]
    assert of_maps == [["heat maps", *rest], gain]
    assert data == [["data", *rest], order]
    assert "Not enough data (`audit.json` says why): patient overlap; completeness, LIME." in said
    assert "\n\n\n" not in said


def test_an_audit_without_note_patients_or_missing_data(fitted):
    audit = replace(AUDIT, checks=AUDIT.checks[:1], n_patients=None, note=None)
    said = section(text_of(fitted, audit=audit), "Audit")
    assert said.strip().startswith("On 1,400 images of unknown patients.\n\nDoubtful: label order. A check")
    assert "Not enough data" not in said
    assert len(tables(said)) == 2


def test_development_stands_between_evaluation_and_explanations(fitted):
    text = text_of(fitted, development="### What was tried\n\n| a | b |\n|---|---|\n| x_y | 1 |\n")
    assert headings(text) == [*SECTIONS[:7], "Development", *SECTIONS[7:]]
    assert section(text, "Development").strip().startswith("### What was tried\n\n| a | b |")
    assert "\n\n\n" not in text
    assert "development" not in ModelCard(development="x").to_dict()


def test_a_bundled_model_is_loaded_without_a_name(fitted):
    said = section(text_of(fitted, bundled=True), "How to use it")
    assert "CXRClassifier.from_pretrained()" in said
    assert "\ncxr predict image.png\n" in said


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
