"""What a fitted model knows of where it comes from."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cxr_estimator import CXRClassifier
from cxr_estimator._outputs import Task
from cxr_estimator.errors import CXRError
from cxr_estimator.fingerprints import share_seen
from cxr_estimator.provenance import Bin, ClassCount, Provenance, Side, Validated, validated_labels
from cxr_estimator.roc import delong
from cxr_estimator.statistics import wilson
from tests.conftest import small_classifier

LABELS = ["NORMAL", "PNEUMONIA"]


def test_counts_by_hand():
    target, patients = np.array([0, 0, 1, 1, 1]), np.array(["a", "a", "a", "b", "c"])
    side = Side.of(target, LABELS, patients, ["d" * 64, "c" * 64])
    assert side == Side(5, 3, (ClassCount("NORMAL", 2, 1), ClassCount("PNEUMONIA", 3, 3)), ("c" * 16, "d" * 16))
    assert Side.of(target, LABELS, None, []).classes[1] == ClassCount("PNEUMONIA", 3, None)
    several = np.array([[1.0, np.nan], [1.0, 0.0], [0.0, 1.0]])
    assert [each.n_images for each in Side.of(several, ["a", "b"], None, []).classes] == [2, 1]


def test_reliability_by_hand():
    proba = np.repeat([0.2, 0.9], 25)
    positive = np.array(([True] + 4 * [False]) * 5 + 24 * [True] + [False])
    found = Validated.of("x", np.log(proba / (1 - proba)), positive, None)
    low, high = found.reliability
    assert low == Bin(pytest.approx(0.2), 0.2, *wilson(0.2, 25), 25)
    assert high == Bin(pytest.approx(0.9), 0.96, *wilson(0.96, 25), 25)
    assert Validated.of("x", np.zeros(19), positive[:19], None).reliability == ()


def test_equal_probabilities_share_a_bin_whatever_their_order():
    positive = np.arange(40) < 20
    for order in (positive, positive[::-1]):
        (only,) = Validated.of("x", np.zeros(40), order, None).reliability
        assert (only.proba, only.share, only.n_images) == (0.5, 0.5, 40)


def test_labels_that_are_judged():
    logits, target = np.array([[2.0], [-1.0], [0.5], [-3.0]]), np.array([1, 0, 1, 0])
    options = {"task": Task.BINARY, "patients": None}
    (one,) = validated_labels(logits, target, LABELS, pos_label="NORMAL", **options)
    assert (one.label, one.auroc) == ("NORMAL", delong(-logits[:, 0], target == 0))
    known = np.array([[1.0, np.nan], [0.0, 1.0], [1.0, 0.0], [0.0, np.nan]])
    both = validated_labels(
        np.hstack([logits, logits]), known, ["a", "b"], task=Task.MULTILABEL, pos_label=None, patients=None
    )
    assert [(each.label, each.auroc.value) for each in both] == [("a", 1.0), ("b", 0.0)]


def test_fit_remembers_its_images(fitted, phantoms):
    training, validation = fitted.provenance_.training, fitted.provenance_.validation
    assert training.n_images + validation.n_images == 80
    assert training.n_patients + validation.n_patients == 40
    for label in LABELS:
        n_images = sum(each.n_images for side in (training, validation) for each in side.classes if each.label == label)
        assert n_images == (phantoms.y == label).sum()
    ids = [str(each) for each in fitted._run(phantoms.X).content_ids]
    assert share_seen(training.fingerprint, ids) == share_seen(validation.fingerprint, ids) == 1
    assert not set(training.fingerprint) & set(validation.fingerprint)
    (validated,) = fitted.provenance_.validated
    assert validated.label == "PNEUMONIA"
    best = fitted.history_.loc[fitted.history_["best"], "val_auroc"].iloc[0]
    assert validated.auroc.value == pytest.approx(best, abs=1e-3)
    assert fitted.provenance_.versions["torch"]


def test_without_validation_and_patients(phantoms):
    clf = small_classifier(validation_fraction=0, max_epochs=1).fit(phantoms.X[:20], phantoms.y[:20])
    assert clf.provenance_.validation is None
    assert clf.provenance_.validated == ()
    assert clf.provenance_.training.n_patients is None


def test_comes_back_from_json(fitted, three_classes):
    for clf in (fitted, three_classes[2]):
        text = json.dumps(clf.provenance_.to_dict(), allow_nan=False)
        assert Provenance.from_dict(json.loads(text), clf.classes_.tolist()) == clf.provenance_


def test_an_undefined_area_comes_back(fitted):
    content = fitted.provenance_.to_dict()
    content["validated"][0]["auroc"] = [None, None, None]
    assert math.isnan(Provenance.from_dict(content, LABELS).validated[0].auroc.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.pop("seconds"),
        lambda c: c.update(more=1),
        lambda c: c.update(training=None),
        lambda c: c.update(versions={"torch": 2}),
        lambda c: c.update(n_unreadable=-1),
        lambda c: c["training"].update(n_images="many"),
        lambda c: c["training"].update(fingerprint=[3]),
        lambda c: c["training"]["classes"].pop(),
        lambda c: c["training"]["classes"][0].pop(),
        lambda c: c["validated"][0].update(label="other"),
        lambda c: c["validated"][0].update(auroc=[2, 0, 1]),
        lambda c: c["validated"][0].update(reliability=[[0.5, 0.5]]),
    ],
)
def test_anything_else_is_refused(fitted, spoil):
    content = json.loads(json.dumps(fitted.provenance_.to_dict()))
    spoil(content)
    with pytest.raises((CXRError, LookupError, TypeError, ValueError)):
        Provenance.from_dict(content, LABELS)


def test_survives_saving(fitted, tmp_path):
    assert CXRClassifier.load(fitted.save(tmp_path)).provenance_ == fitted.provenance_
