"""The card of the bundled model says what the files of the recipe say, and these are of the model that ships."""

from __future__ import annotations

import json

import pytest
import study
import train
import write_card

from cxr_estimator import CXRClassifier
from cxr_estimator.card import CARD_NAME, PICTURE_NAME
from cxr_estimator.pretrained import FOLDER


@pytest.fixture(scope="module")
def runs():
    return {path.stem: json.loads(path.read_text()) for path in sorted(write_card.TRAINING.glob("*.json"))}


def test_both_cards_are_up_to_date():
    card = (FOLDER / CARD_NAME).read_text()
    assert write_card.development(write_card.TRAINING, 0).strip() in card, "run recipes/pneumonia/write_card.py"
    picture = (FOLDER / PICTURE_NAME).relative_to(write_card.ROOT).as_posix()
    assert (write_card.ROOT / "MODEL_CARD.md").read_text() == card.replace(f"]({PICTURE_NAME})", f"]({picture})")


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
    tried = {json.loads(path.read_text())["recipe"]["name"] for path in study.RESULTS.glob("*.json")}
    assert [name for name in tried if f"| {name} |" not in card] == []
