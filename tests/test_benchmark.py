"""Methods side by side."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cxr_estimator.benchmark import benchmark
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError
from cxr_estimator.metrics import measure

METHODS = ("grad_cam", "occlusion")
METRICS = {"deletion": ("deletion_auc", {"steps": 4}), "sparsity": "sparsity_90", "mass": "relevance_mass"}
FAST = {"n_references": 2, "n_resamples": 50}


@pytest.fixture(scope="module")
def request_of(fitted, phantoms):
    """A function that runs a small benchmark."""

    def run(rows=slice(0, 12), **changes):
        options = {
            "methods": METHODS,
            "metrics": METRICS,
            "groups": phantoms.groups[rows],
            "masks": phantoms.lung_masks[rows],
            "batch_size": 5,
            **FAST,
        }
        return benchmark(fitted, phantoms.X[rows], phantoms.y[rows], **{**options, **changes})

    return run


@pytest.fixture(scope="module")
def table(request_of):
    return request_of(slice(0, 40))


def test_the_table_is_tidy(table, phantoms):
    assert list(table.columns) == [
        "method", "metric", "bucket", "value", "low", "high", "n_images", "n_undefined", "n_patients",
        "greater_is_better", "is_gain", "seconds_per_image", "rank",
    ]  # fmt: skip
    whole = table[table["bucket"] == "all"]
    assert len(whole) == len(METHODS) * len(METRICS)
    assert (whole["n_images"] == 40).all()
    assert (whole["n_patients"] == len(set(phantoms.groups[:40].tolist()))).all()
    assert ((whole["low"] <= whole["value"]) & (whole["value"] <= whole["high"])).all()
    assert (whole["seconds_per_image"] > 0).all()
    assert set(table["bucket"]) <= {"all", "TP", "FP", "FN", "TN"}
    for _, group in table[table["bucket"] != "all"].groupby(["method", "metric"]):
        assert group["n_images"].sum() == 40
    by_metric = whole.set_index(["metric", "method"])
    assert by_metric.loc["deletion", "greater_is_better"].all()  # a gain
    assert not by_metric.loc["sparsity", "greater_is_better"].any()
    sparsity = by_metric.loc["sparsity"]
    assert sparsity["value"].idxmin() == sparsity["rank"].idxmin()


def test_values_are_those_of_measure(fitted, phantoms, explained, request_of):
    explanation, context = explained(slice(0, 6))
    table = request_of(slice(0, 6), target="PNEUMONIA", random_state=0).set_index(["method", "metric", "bucket"])
    expected = measure("deletion_auc", explanation, context, steps=4, n_references=2)
    np.testing.assert_allclose(table.loc[("occlusion", "deletion", "all"), "value"], expected.mean(), atol=1e-6)


def test_a_stopped_run_is_taken_up(request_of, fitted, tmp_path, table):
    def stop(done, total):
        assert total == 40
        if done >= 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        request_of(slice(0, 40), folder=tmp_path, progress=stop)
    parts = sorted(tmp_path.glob("part-*.csv"))
    assert 1 <= len(parts) <= 4
    times = [part.stat().st_mtime_ns for part in parts]
    told = []
    resumed = request_of(slice(0, 40), folder=tmp_path, progress=lambda done, total: told.append(done))
    assert told[0] >= 5  # it began where the other one ended
    assert [part.stat().st_mtime_ns for part in parts] == times
    pd.testing.assert_frame_equal(
        resumed.drop(columns="seconds_per_image"), table.drop(columns="seconds_per_image"), rtol=1e-5, atol=1e-6
    )
    again = request_of(slice(0, 40), folder=tmp_path)  # nothing is left to do
    pd.testing.assert_frame_equal(again, resumed)


def test_the_folder_holds_no_names_and_only_one_benchmark(request_of, tmp_path, phantoms):
    request_of(slice(0, 5), folder=tmp_path)
    text = " ".join(path.read_text() for path in tmp_path.iterdir())
    assert not any(str(group) in text for group in set(phantoms.groups[:5].tolist()) if len(str(group)) > 3)
    with pytest.raises(DataError, match="another benchmark"):
        request_of(slice(0, 6), folder=tmp_path)
    with pytest.raises(DataError, match="another benchmark"):
        request_of(slice(1, 6), folder=tmp_path)  # as many, but others
    with pytest.raises(DataError, match="another benchmark"):
        request_of(slice(0, 5), folder=tmp_path, n_references=3)
    (tmp_path / "benchmark.json").write_text(json.dumps({"format": "something else"}))
    with pytest.raises(DataError, match="another benchmark"):
        request_of(slice(0, 5), folder=tmp_path)


def test_without_labels_there_are_no_buckets(fitted, phantoms):
    table = benchmark(fitted, phantoms.X[:4], methods=["grad_cam"], metrics=["gini"], n_resamples=20)
    assert set(table["bucket"]) == {"all"}
    assert (table["n_patients"] == 4).all()


def test_several_classes(three_classes):
    X, y, clf = three_classes
    table = benchmark(clf, X[:9], y[:9], methods=["grad_cam"], metrics=["gini"], n_resamples=20)
    assert set(table["bucket"]) <= {"all", "right", "wrong"}


def test_undefined_values_are_counted(request_of, phantoms):
    masks = phantoms.lung_masks[:6].copy()
    masks[:2] = False
    table = request_of(slice(0, 6), masks=masks, methods=["occlusion"], target="PNEUMONIA")
    mass = table[(table["metric"] == "mass") & (table["bucket"] == "all")].iloc[0]
    assert mass["n_undefined"] == 2
    assert mass["n_images"] == 6
    masks[:] = False
    table = request_of(slice(0, 6), masks=masks, methods=["occlusion"])
    assert table.loc[table["metric"] == "mass", ["value", "low", "high", "rank"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"methods": "grad_cam"}, "a list of methods"),
        ({"methods": []}, "a list of methods"),
        ({"methods": ["gradcam"]}, "Did you mean 'grad_cam'"),
        ({"metrics": "aopc"}, "a list of metrics"),
        ({"metrics": ["aop"]}, "Did you mean 'aopc'"),
        ({"metrics": {"a": ("aopc", {"stepps": 3})}}, "Did you mean 'steps'"),
        ({"metrics": ["ssim"]}, "agreement is between two"),
        ({"masks": None}, "'masks' parameter"),
        ({"groups": [1, 2]}, "one entry for each of the 12 images"),
        ({"n_resamples": 0}, "n_resamples"),
        ({"target": "FRACTURE"}, "target"),
    ],
)
def test_bad_requests_fail_before_any_work(request_of, changes, match):
    with pytest.raises((InvalidParameterError, DataError), match=match):
        request_of(**changes)


def test_other_estimators_are_refused(phantoms):
    with pytest.raises(InvalidTypeError, match="a CXRClassifier"):
        benchmark("model", phantoms.X)
