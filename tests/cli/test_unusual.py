"""What `cxr predict` says of unusual images."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import CXRClassifier
from tests.cli.test_cli import cxr


@pytest.fixture(scope="module")
def watchful(fitted, phantoms, tmp_path_factory):
    """A model that knows 40 ordinary images of 40 patients."""
    folder = tmp_path_factory.mktemp("watchful")
    return CXRClassifier.load(fitted.save(folder)).fit_ood(phantoms.X, groups=phantoms.groups).save(folder)


@pytest.fixture
def images(phantoms, tmp_path):
    for number in range(7):
        Image.fromarray(255 - phantoms.X[number]).save(tmp_path / f"negative_{number}.png")
    Image.fromarray(phantoms.X[10][::-1]).save(tmp_path / "odd_way_up.png")
    Image.fromarray(phantoms.X[9]).save(tmp_path / "ordinary.png")
    (tmp_path / "unreadable.png").write_bytes(b"no picture")
    return tmp_path


def test_columns_and_what_is_said(watchful, images):
    done = cxr("predict", "--model", watchful, images, "--quiet")
    assert done.returncode == 3
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0])[-3:] == ["ood_p_value", "unusual", "error"]
    assert [row["unusual"] for row in rows] == ["True"] * 8 + ["False", ""]
    assert [float(row["ood_p_value"]) for row in rows[:8]] == pytest.approx([1 / 21] * 8)
    assert rows[9]["ood_p_value"] == ""
    assert "unusual: 8 of 10 images (expected: 5%)" in done.stderr
    assert done.stderr.count("Do not rely on the probability.") == 5
    assert done.stderr.count("may be a negative") >= 3
    assert "negative_4.png: This image is unlike those" in done.stderr
    assert done.stderr.count("unreadable: ") == 1
    clf = CXRClassifier.load(watchful)
    proba = clf.predict_proba([str(images / "ordinary.png")])
    np.testing.assert_allclose(float(rows[8]["p_PNEUMONIA"]), proba[0, 1], atol=1e-6)


def test_json_and_a_model_without_statistics(watchful, images, fitted, tmp_path):
    path = images / "ordinary.png"
    (row,) = json.loads(cxr("predict", "--model", watchful, path, "--format", "json", "--quiet").stdout)
    assert row["unusual"] is False
    assert 0 < row["ood_p_value"] <= 1
    done = cxr("predict", "--model", watchful, images / "odd_way_up.png", "--format", "json", "--quiet")
    assert json.loads(done.stdout)[0]["unusual"] is True
    assert "most of all in its orientation or polarity. It is more like them when flipped upside down" in done.stderr
    done = cxr("predict", "--model", fitted.save(tmp_path / "plain"), path, "--format", "json", "--quiet")
    (row,) = json.loads(done.stdout)
    assert "unusual" not in row
    assert "unusual" not in done.stderr
