"""What the answers of a model follow from, and a digest of it that tells one model from another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cxr_estimator._digest import digest_of

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier


def of_network(clf: CXRClassifier) -> list[Any]:
    """Return what probabilities and maps follow from: weights, preprocessing, classes, background, calibration."""
    calibration = None if clf.calibration_ is None else clf.calibration_.to_dict()
    seen = clf.preprocessing_.to_dict()
    return [clf.model_.state_dict(), seen, clf.classes_.tolist(), clf.background_, clf.backbone, calibration]


def of_model(clf: CXRClassifier) -> list[Any]:
    """Return what all answers of a model follow from: that of its network, and how it decides."""
    points = [(name, clf.operating_points_[name].score) for name in clf.active_points_]
    return [*of_network(clf), clf.pos_label_, points]


def network_digest(clf: CXRClassifier) -> str:
    """Return the SHA-256 (hex) of `of_network`: the same whatever the operating point, the machine and the device."""
    return digest_of(of_network(clf))
