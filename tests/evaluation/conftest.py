"""Classifiers whose logits are known."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cxr_estimator import evaluate

# image i: a quarter of grey i, one of black and one of white, which a network can compare it with
IMAGES = np.zeros((200, 32, 32), dtype=np.uint8)
IMAGES[:, :16, :16] = np.arange(200)[:, None, None]
IMAGES[:, 16:, 16:] = 255


def pytest_collection_modifyitems(items):
    """Let the tests here choose points on the images that they evaluate; one of them asks for the warning."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::cxr_estimator.errors.SameDataWarning"))


class Known(nn.Module):
    """A network that gives image i of `IMAGES` the logits in row i of a table."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("logits", torch.as_tensor(np.asarray(logits), dtype=torch.float32))

    def forward(self, x):
        near, far = x.shape[-1] // 4, 3 * x.shape[-1] // 4
        grey, black, white = x[:, 0, near, near], x[:, 0, far, near], x[:, 0, far, far]
        return self.logits[(255 * (grey - black) / (white - black)).round().long()]


def judging(clf, logits):
    """A copy of a fitted classifier that gives these logits (200,) or (200, K) to `IMAGES`."""
    clf = copy.copy(clf)
    clf.model_ = Known(np.asarray(logits).reshape(200, -1))
    clf.operating_points_ = dict(clf.operating_points_)
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
    clf = judging(clf, clf.model_.logits)
    clf.set_threshold("sensitivity", at_least=0.95, X=IMAGES, y=y, groups=patients, name="screening")
    sex = np.where(np.arange(200) % 20 < 10, "F", "M")
    return evaluate(clf, IMAGES, y, patients, subgroups={"sex": sex}, n_resamples=100)


@pytest.fixture(scope="session")
def several_report(three):
    """The report on three classes."""
    clf, y, patients = three
    return evaluate(clf, IMAGES, y, patients, n_resamples=100)
