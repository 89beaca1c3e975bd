"""The card of the bundled model says what the files of the recipe say, and these are of the model that ships."""

from __future__ import annotations

import json

import audit
import pytest
import study
import train
import write_card

from cxr_estimator import CXRClassifier
from cxr_estimator.audit import CHECKS, AuditReport
from cxr_estimator.card import CARD_NAME, PICTURE_NAME
from cxr_estimator.pretrained import FOLDER


@pytest.fixture(scope="module")
def runs():
    return {path.stem: json.loads(path.read_text()) for path in sorted(write_card.TRAINING.glob("*.json"))}


def test_both_cards_are_up_to_date():
    card = (FOLDER / CARD_NAME).read_text()
    assert write_card.development(write_card.TRAINING, 0).strip() in card, "run recipes/pneumonia/write_card.py"
    assert AuditReport.load(audit.RESULT).to_markdown() in card, "run recipes/pneumonia/write_card.py"
    assert AuditReport.load(FOLDER).to_dict() == AuditReport.load(audit.RESULT).to_dict()
    picture = (FOLDER / PICTURE_NAME).relative_to(write_card.ROOT).as_posix()
    assert (write_card.ROOT / "MODEL_CARD.md").read_text() == card.replace(f"]({PICTURE_NAME})", f"]({picture})")


def test_the_audit_is_of_the_command_as_it_stands():
    report = AuditReport.load(audit.RESULT)
    assert report.note == audit.NOTE
    assert (report.n_images, report.n_patients) == (2 * audit.PATIENTS,) * 2
    assert list(dict.fromkeys(one.name for one in report.checks)) == list(CHECKS), "run recipes/pneumonia/audit.py"
    assert [one.threshold for one in report.checks] == [CHECKS[one.name].limits.doubtful for one in report.checks]
    seen = next(one for one in report.checks if one.name == "seen_in_training")
    assert seen.verdict == "fail", "these images trained the model"


def test_without_an_audit_it_says_what_to_run(monkeypatch, tmp_path):
    monkeypatch.setattr(audit, "RESULT", tmp_path / "audit.json")
    with pytest.raises(SystemExit, match=r"Make it: python recipes/pneumonia/audit\.py"):
        write_card.main()


def test_figures_are_of_the_command_as_it_stands(runs):
    for seed, run in runs.items():
        assert run["seed"] == int(seed)
        assert run["settings"] == train.SETTINGS
        assert run["rules"] == train.RULES
        assert run["n_folds"] == train.FOLDS
        assert set(run["all patients"]["conditions"]) == set(train.CONDITIONS)


def test_figures_are_of_the_model_that_ships(runs):
    clf = CXRClassifier.from_pretrained()
    for name, value in train.SETTINGS.items():
        assert getattr(clf, name) == value
    assert clf.random_state == 0
    for name, point in clf.operating_points_.items():
        assert json.loads(json.dumps(point.to_dict())) == runs["0"]["points"][name]


def test_the_log_names_every_recipe_that_was_tried():
    card = (FOLDER / CARD_NAME).read_text()
    tried = {run["recipe"]["name"] for run in study.runs()}
    assert [name for name in tried if f"| {name} |" not in card] == []
