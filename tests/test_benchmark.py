"""Methods side by side."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from cxr_estimator import CXRClassifier
from cxr_estimator.attribution import METHODS as METHODS_TABLE
from cxr_estimator.benchmark import benchmark, benchmark_images
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


def one_method(fitted, phantoms, folder, **changes):
    options = {"methods": ["saliency"], "metrics": ["gini"], "folder": folder, "batch_size": 3, "random_state": 0}
    return benchmark_images(fitted, **{"X": phantoms.X[:6], "y": phantoms.y[:6], **options, **changes})


def test_a_calibrated_model_is_another_one(fitted, phantoms, tmp_path):
    """The cut-off that was given as a probability moves on the log-odds, and with it what is explained."""
    one_method(fitted, phantoms, tmp_path)
    calibrated = copy.copy(fitted).calibrate(phantoms.X, phantoms.y)
    assert calibrated.threshold_ == fitted.threshold_
    with pytest.raises(DataError, match=r"another benchmark \(of other model\)"):
        one_method(calibrated, phantoms, tmp_path)


def test_values_of_each_image(fitted, phantoms):
    values = one_method(fitted, phantoms, None, methods=METHODS, metrics=["gini", "aopc"])
    assert list(values.columns) == ["index", "image_id", "bucket", "method", "metric", "value", "seconds"]
    assert not values.duplicated(["index", "method", "metric"]).any()
    assert len(values) == 6 * 2 * 2
    table = benchmark(
        fitted, phantoms.X[:6], phantoms.y[:6], methods=METHODS, metrics=["gini", "aopc"], n_resamples=2
    ).set_index(["method", "metric", "bucket"])["value"]
    for (method, metric), part in values.groupby(["method", "metric"]):
        assert part["value"].mean() == pytest.approx(table[method, metric, "all"])


def test_a_few_patients_give_no_interval(fitted, phantoms):
    options = {"methods": ["saliency"], "metrics": ["gini"], "n_resamples": 20}
    table = benchmark(fitted, phantoms.X[:10], groups=np.arange(10) % 4, **options)
    assert table["value"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)
    table = benchmark(fitted, phantoms.X[:10], groups=np.arange(10) % 5, **options)
    assert table[["low", "high"]].notna().all(axis=None)


def test_masks_go_by_position(request_of, phantoms):
    expected = request_of(slice(0, 6), metrics=["relevance_mass"])
    masks = pd.Series(list(phantoms.lung_masks[:6]), index=[5, 4, 3, 2, 1, 0])
    found = request_of(slice(0, 6), metrics=["relevance_mass"], masks=masks)
    pd.testing.assert_series_equal(found["value"], expected["value"])


@pytest.mark.parametrize("wrong", [0.2, np.nan])
def test_masks_of_numbers_are_refused(request_of, phantoms, wrong):
    masks = [*phantoms.lung_masks[:3], np.where(phantoms.lung_masks[3], wrong, 0.0)]
    with pytest.raises(InvalidTypeError, match=r"'masks\[3\]'.*a bool array"):
        request_of(slice(0, 4), masks=masks)


@pytest.mark.filterwarnings("ignore:The network says:cxr_estimator.errors.BackgroundWarning")
def test_other_inputs_are_another_benchmark(fitted, phantoms, tmp_path):
    mass = {"metrics": ["relevance_mass"], "masks": phantoms.lung_masks[:6]}
    one_method(fitted, phantoms, tmp_path / "masks", **mass)
    with pytest.raises(DataError, match="of other masks"):
        one_method(fitted, phantoms, tmp_path / "masks", **mass | {"masks": ~phantoms.lung_masks[:6]})
    # arrays of more than 1000 numbers, which differ where NumPy prints "..."
    baseline = np.zeros((32, 32), dtype=np.float32)
    one_method(fitted, phantoms, tmp_path / "option", metrics={"a": ("aopc", {"baseline": baseline, "steps": 2})})
    changed = baseline.copy()
    changed[16, 16] = 0.5
    with pytest.raises(DataError, match="of other requests"):
        one_method(fitted, phantoms, tmp_path / "option", metrics={"a": ("aopc", {"baseline": changed, "steps": 2})})
    background = phantoms.X[20:30].copy()
    shap = {"methods": ["gradient_shap"], "target": "PNEUMONIA"}
    one_method(fitted, phantoms, tmp_path / "background", **shap, background=background)
    background[5, 16, 16] += 1
    with pytest.raises(DataError, match="of other settings"):
        one_method(fitted, phantoms, tmp_path / "background", **shap, background=background)


def test_tables_of_pixels_count_by_their_rows(tmp_path, phantoms):
    rows = pd.DataFrame(phantoms.X.reshape(len(phantoms.X), -1))
    clf = CXRClassifier("plain_cnn", image_size=32, image_shape=(32, 32), max_epochs=1, validation_fraction=0)
    clf.fit(rows[:30], phantoms.y[:30])
    one_method(clf, phantoms, tmp_path, X=rows[:6])
    with pytest.raises(DataError, match="of other images"):
        one_method(clf, phantoms, tmp_path, X=rows[6:12])


def test_labels_survive_the_folder(fitted, phantoms, tmp_path):
    metrics = {5: "gini", "NA": "entropy", "nan": "sparsity_90", "": "border_mass", "1.50": "corner_mass"}
    first = one_method(fitted, phantoms, tmp_path, metrics=metrics)
    assert set(first["metric"]) == {"5", "NA", "nan", "", "1.50"}
    pd.testing.assert_frame_equal(one_method(fitted, phantoms, tmp_path, metrics=metrics), first)


def test_undefined_values_survive_the_folder(fitted, phantoms, tmp_path):
    nothing = {"metrics": ["relevance_mass"], "masks": np.zeros((6, *phantoms.X.shape[1:3]), dtype=bool)}
    first = one_method(fitted, phantoms, tmp_path, **nothing)
    assert first["value"].isna().all()
    pd.testing.assert_frame_equal(one_method(fitted, phantoms, tmp_path, **nothing), first)


def test_a_request_that_fails_leaves_the_folder_usable(fitted, phantoms, tmp_path):
    with pytest.raises(InvalidParameterError, match="steps"):
        one_method(fitted, phantoms, tmp_path, metrics={"a": ("aopc", {"steps": -1})})
    one_method(fitted, phantoms, tmp_path, metrics={"a": ("aopc", {"steps": 2})})
    for path in tmp_path.glob("part-*.csv"):
        path.unlink()
    one_method(fitted, phantoms, tmp_path)  # a description without values is of nothing


def test_a_run_is_taken_up_with_smaller_batches(fitted, phantoms, tmp_path):
    def stop(done, total):
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one_method(fitted, phantoms, tmp_path, progress=stop)
    done = len(list(tmp_path.glob("part-*.csv")))
    one_method(fitted, phantoms, tmp_path, batch_size=1)
    assert len(list(tmp_path.glob("part-*.csv"))) > done


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[:-1],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [lines[0].replace("value", "worth"), *lines[1:]],
        lambda lines: [lines[0], lines[1].replace("gini", "aopc"), *lines[2:]],
        lambda lines: [lines[0], "1" + lines[1], *lines[2:]],
        lambda lines: [*lines[:2], "nonsense"],
        lambda lines: [],
        lambda lines: ["\0"],
    ],
)
def test_damaged_parts_are_named(fitted, phantoms, tmp_path, damage):
    whole = one_method(fitted, phantoms, tmp_path, metrics=["gini", "entropy"])
    path = tmp_path / "part-000000.csv"
    path.write_text("\n".join(damage(path.read_text().splitlines())))
    with pytest.raises(DataError, match=r"part-000000\.csv: is damaged\. Delete it"):
        one_method(fitted, phantoms, tmp_path, metrics=["gini", "entropy"])
    path.unlink()
    again = one_method(fitted, phantoms, tmp_path, metrics=["gini", "entropy"])
    assert not path.exists(), "numbers go on from the highest"
    order = ["index", "metric"]
    pd.testing.assert_frame_equal(
        again.sort_values(order, ignore_index=True).drop(columns="seconds"),
        whole.sort_values(order, ignore_index=True).drop(columns="seconds"),
    )


def test_images_that_two_runs_did_count_once(fitted, phantoms, tmp_path):
    whole = one_method(fitted, phantoms, tmp_path)
    (tmp_path / "part-000007.csv").write_bytes((tmp_path / "part-000000.csv").read_bytes())
    pd.testing.assert_frame_equal(one_method(fitted, phantoms, tmp_path), whole)


def test_all_methods_are_judged_on_the_same_images(fitted, phantoms, monkeypatch):
    saliency = METHODS_TABLE["saliency"]

    def nothing_in_the_first(problem, **options):
        attribution = saliency.function(problem, **options)
        maps = attribution.values  # noqa: PD011
        return attribution._replace(values=torch.where(torch.arange(len(maps))[:, None, None] == 0, 0.0, maps))

    monkeypatch.setitem(METHODS_TABLE, "saliency", dataclasses.replace(saliency, function=nothing_in_the_first))
    values = one_method(
        fitted, phantoms, None, methods=["saliency", "occlusion"], metrics=["aopc"], target="PNEUMONIA", batch_size=6
    )
    assert values["value"].notna().all()
    assert values.loc[values["method"] == "saliency", "value"].iloc[0] == 0.0


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
        ({"methods": 5}, "a list of methods"),
        ({"methods": [["grad_cam"]]}, "'method' parameter"),
        ({"metrics": {"a": 5}}, "made of names, or of pairs"),
        ({"metrics": [3]}, "made of names, or of pairs"),
        ({"metrics": {"a": ("aopc", 3)}}, "made of names, or of pairs"),
        ({"metrics": {"1": "aopc", 1: "gini"}}, "differ as text"),
        ({"masks": 3}, "a sequence of masks"),
        ({"relative": "no"}, "True or False"),
        ({"n_references": 0}, "n_references"),
        ({"progress": 3}, "'progress'"),
        ({"folder": 3}, "the path of a folder"),
        ({"folder": "never_made", "random_state": None}, "an integer if there is a folder"),
        ({"metrics": {"a": ("aopc", {"stepps": 3})}}, "Did you mean 'steps'"),
        ({"metrics": ["ssim"]}, "agreement is between two"),
        ({"masks": None}, "'masks' parameter"),
        ({"groups": [1, 2]}, "one entry for each of the 12 images"),
        ({"n_resamples": 0}, "n_resamples"),
        ({"target": "FRACTURE"}, "target"),
    ],
)
def test_bad_requests_fail_before_any_work(request_of, changes, match):
    with pytest.raises((InvalidParameterError, InvalidTypeError, DataError), match=match):
        request_of(**changes)


def test_other_estimators_are_refused(phantoms):
    with pytest.raises(InvalidTypeError, match="a CXRClassifier"):
        benchmark("model", phantoms.X)
