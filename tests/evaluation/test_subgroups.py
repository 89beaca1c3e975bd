"""The table of subgroups."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cxr_estimator import evaluate
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError
from tests.evaluation.conftest import IMAGES

ROWS = np.arange(200)


def test_a_subgroup_has_the_figures_of_its_images(two):
    clf, y, patients = two
    sex = np.where(ROWS % 20 < 10, "F", "M")
    table = evaluate(clf, IMAGES, y, patients, subgroups={"sex": sex}, n_resamples=50).subgroups
    assert table["value"].tolist() == ["F", "M"]
    for value, row in zip("FM", table.to_dict("records"), strict=True):
        part = sex == value
        alone = evaluate(clf, IMAGES[part], y[part], patients[part], n_resamples=50)
        assert (row["n_images"], row["n_patients"]) == (alone.n_images, alone.n_patients)
        assert row["prevalence"] == alone.prevalence["PNEUMONIA"]
        assert row["too_few"] == ""
        for figure in ("auroc", "sensitivity", "specificity"):
            assert tuple(row[f"{figure}{end}"] for end in ("", "_low", "_high")) == alone.metrics[figure]


def test_too_few_patients_are_nan_and_counted(two):
    clf, y, patients = two
    site = np.where(np.isin(ROWS, [0, 1, 2, 3, *range(100, 120)]), "small", "large")  # 2 normal, 10 sick patients
    report = evaluate(clf, IMAGES, y, patients, subgroups={"site": site}, n_resamples=20)
    row = report.subgroups.set_index("value").loc["small"]
    assert (row["n_images"], row["n_patients"]) == (24, 12)
    assert row["too_few"] == "auroc, specificity"
    assert np.isnan(row[["auroc", "specificity", "specificity_low"]].astype(float)).all()
    assert 0 < row["sensitivity"] <= 1
    assert "1 of 2 subgroups have fewer than 5 patients for some figures." in report.notes
    assert "too few patients" in str(report)


def test_missing_values_are_a_subgroup(two):
    clf, y, patients = two
    frame = pd.DataFrame({"sex": ["F", "M", None, "F"] * 50, "age": [1.0, 2.0, np.nan, np.nan] * 50})
    table = evaluate(clf, IMAGES, y, patients, subgroups=frame, n_resamples=20).subgroups
    counts = table.set_index(["subgroup", "value"])["n_images"].to_dict()
    assert counts == {
        ("sex", "(missing)"): 50, ("sex", "F"): 100, ("sex", "M"): 50,
        ("age", "(missing)"): 100, ("age", "1.0"): 50, ("age", "2.0"): 50,
    }  # fmt: skip


def test_several_classes_have_other_figures(three):
    clf, y, patients = three
    half = np.where(ROWS < 100, "a", "b")
    report = evaluate(clf, IMAGES, y, patients, subgroups={"half": half}, n_resamples=20)
    alone = evaluate(clf, IMAGES[:100], y[:100], patients[:100], n_resamples=20)
    row = report.subgroups.iloc[0]
    for figure in ("macro_auroc", "accuracy", "balanced_accuracy"):
        assert row[figure] == alone.metrics[figure].value
    assert "prevalence" not in report.subgroups


def test_bad_subgroups(two):
    clf, y, patients = two
    with pytest.raises(InvalidTypeError, match="a dict or a DataFrame of name to one value per image"):
        evaluate(clf, IMAGES, y, patients, subgroups=["F"] * 200)
    with pytest.raises(DataError, match="'sex' must have one value for each of the 200 images"):
        evaluate(clf, IMAGES, y, patients, subgroups={"sex": ["F"]})
    with pytest.raises(InvalidParameterError, match="at most 50 values"):
        evaluate(clf, IMAGES, y, patients, subgroups={"patient": patients})
    with pytest.raises(DataError, match="two subgroups are called '1'"):
        evaluate(clf, IMAGES, y, patients, subgroups={1: y, "1": y})
