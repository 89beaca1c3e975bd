"""Classifiers whose logits are known."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from cxr_estimator import evaluate


def judging(clf, logits):
    """A copy of a fitted classifier that gives these logits (N,) or (N, K) to the images 0, 1, ..."""
    logits = np.asarray(logits, dtype=np.float32).reshape(len(logits), -1)
    clf = copy.copy(clf)
    clf.operating_points_ = dict(clf.operating_points_)
    clf._logits = lambda X: logits[np.asarray(X)]
    return clf


@pytest.fixture(scope="session")
def two(fitted):
    """A classifier that is right for most of 200 images of 100 patients, their labels and patients."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.where(np.arange(100) < 40, "NORMAL", "PNEUMONIA"), 2)
    log_odds = rng.normal(0, 1.5, 200) + np.where(y == "PNEUMONIA", 2.0, -1.5)
    return judging(fitted, log_odds), y, np.repeat(np.char.add("patient", np.arange(100).astype(str)), 2)


@pytest.fixture(scope="session")
def three(three_classes):
    """The same for three classes."""
    rng = np.random.default_rng(0)
    _, _, clf = three_classes
    target = np.repeat(np.arange(100) % 3, 2)
    logits = rng.normal(size=(200, 3))
    logits[np.arange(200), target] += 1.5
    return judging(clf, logits), clf.classes_[target], np.repeat(np.arange(100), 2)


@pytest.fixture(scope="session")
def report(two):
    """The report on two classes, with two operating points and subgroups."""
    clf, y, patients = two
    clf = judging(clf, clf._logits(np.arange(200)))
    clf.set_threshold("sensitivity", at_least=0.95, X=np.arange(200), y=y, name="screening")
    sex = np.where(np.arange(200) % 20 < 10, "F", "M")
    return evaluate(clf, np.arange(200), y, patients, subgroups={"sex": sex}, n_resamples=100)


@pytest.fixture(scope="session")
def several_report(three):
    """The report on three classes."""
    clf, y, patients = three
    return evaluate(clf, np.arange(200), y, patients, n_resamples=100)
