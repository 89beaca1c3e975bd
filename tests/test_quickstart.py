"""The main job from end to end."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import CXRClassifier, Explanation, evaluate, load_image_folder, make_phantoms, patient_split
from cxr_estimator.metrics import Context, measure
from cxr_estimator.quickstart import run


def test_on_phantoms(tmp_path):
    text = run(None, str(tmp_path), image_size=48, max_epochs=3, n_phantoms=200, verbose=False)
    assert text == (tmp_path / "summary.md").read_text()
    summary = json.loads((tmp_path / "summary.json").read_text())
    clf = CXRClassifier.load(tmp_path / "model")
    assert list(clf.operating_points_) == ["default", "screening"]

    # what the summary says can be computed again from the saved model
    data = make_phantoms(200, 48, random_state=0)
    test = patient_split(data.y, data.groups, random_state=0)[2]
    report = evaluate(clf, data.X[test], data.y[test], data.groups[test])
    assert summary["evaluation"] == json.loads(json.dumps(report.to_dict()))
    assert str(report) in text
    masks = data.lesion_masks[test]
    found = (clf.predict(data.X[test]) == "PNEUMONIA") & masks.any(axis=(1, 2))
    mass = measure("relevance_mass", clf.explain(data.X[test][found]), Context(mask=masks[found]))
    assert summary["heat_maps"]["n_images"] == found.sum() > 0
    assert summary["heat_maps"]["inside"]["value"] == pytest.approx(mass.mean(), abs=1e-4)
    assert summary["heat_maps"]["area"] == pytest.approx(masks[found].mean())
    figures = re.findall(r"\((figures/[^)]+)\)", text)
    assert len(figures) >= 3
    for figure in figures:
        with Image.open(tmp_path / figure) as image:
            assert image.info["dpi"] == pytest.approx((150, 150), abs=1)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == len(clf.history_) + 1


def test_folder_of_three_colour_classes(three_classes, tmp_path):
    """No positive label, no masks, no known patients: what is left still works."""
    X, y, _ = three_classes
    for i, (image, label) in enumerate(zip(X, y, strict=True)):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "data" / label / f"{i}.png")
    with pytest.warns(UserWarning, match="No patients are known"):
        text = run(
            tmp_path / "data", tmp_path / "out", backbone="plain_cnn", image_size=24, max_epochs=2, verbose=False
        )
    assert "macro AUROC" in text
    assert "patients unknown" in text
    assert "Heat maps against lesions" not in text
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["heat_maps"] is None


def test_positive_label_is_the_abnormal_one(phantoms, tmp_path):
    for i, (image, label) in enumerate(zip(phantoms.X, phantoms.y, strict=True)):
        name = "normal" if label == "NORMAL" else "abnormal_shadow"
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "data" / name / f"IM-{phantoms.groups[i][1:]}-{i}.png")
    text = run(tmp_path / "data", tmp_path / "out", backbone="plain_cnn", image_size=32, max_epochs=1, verbose=False)
    assert "positive label: abnormal_shadow" in text


# -- real radiographs


def test_real_radiographs_from_end_to_end(real_sample, tmp_path):
    """Train, threshold, evaluate, explain, save, load on 240 real radiographs of both classes."""
    X, y, groups = real_sample
    train, validation, test = patient_split(y, groups, fractions=(0.6, 0.2, 0.2))
    clf = CXRClassifier("plain_cnn", image_size=64, max_epochs=12, pos_label="PNEUMONIA", random_state=0)
    clf.fit(X[train], y[train], groups=groups[train])
    clf.set_threshold("youden", X=X[validation], y=y[validation])
    report = evaluate(clf, X[test], y[test], groups[test], n_resamples=100)
    assert report.metrics["auroc"].value > 0.85
    explanation = clf.explain(X[test][:4], y[test][:4])
    assert explanation.to_original(0).shape == (224, 224)
    explanation.plot(0).savefig(tmp_path / "figure.png")
    explanation.save(tmp_path / "map")
    assert (Explanation.load(tmp_path / "map").values == explanation.values).all()
    again = CXRClassifier.load(clf.save(tmp_path / "model"))
    assert (again.predict_proba(X[test]) == clf.predict_proba(X[test])).all()


def test_real_radiographs_three_classes(real_data_dir):
    """Normal, bacterial and viral, which the file names tell."""
    data = load_image_folder(real_data_dir, label_pattern=r"_(bacteria|virus)_")
    of_class = [np.flatnonzero(data.y == name) for name in ("NORMAL", "bacteria", "virus")]
    rows = np.concatenate([each[:120] for each in of_class])
    others = np.concatenate([each[-30:] for each in of_class])
    clf = CXRClassifier("plain_cnn", image_size=48, max_epochs=8, random_state=0)
    clf.fit(data.X[rows], data.y[rows], groups=data.groups[rows])
    report = evaluate(clf, data.X[others], data.y[others], data.groups[others], n_resamples=10)
    assert report.classes == ("NORMAL", "bacteria", "virus")
    assert report.metrics["macro_auroc"].value > 0.7
