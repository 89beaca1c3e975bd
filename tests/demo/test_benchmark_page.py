"""Methods by metrics, method by method: the numbers of `benchmark`, and what is offered where."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest

from cxr_estimator.benchmark import benchmark, metrics_of
from cxr_estimator.demo._analysis import methods_on_offer
from cxr_estimator.demo._archives import Limits
from cxr_estimator.demo._background import NAME
from cxr_estimator.demo._benchmark import (
    MOST_IMAGES,
    Images,
    metrics_on_offer,
    phantom_images,
    run,
    uploaded_images,
    wide,
)
from cxr_estimator.demo._benchmark_tab import _alternative, _measured, _metrics, _notes
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._running import Turn
from cxr_estimator.demo._settings import Settings
from cxr_estimator.errors import DataError, InvalidParameterError
from cxr_estimator.metrics import METRICS
from tests.demo.archives import png, write_zip

LIMITS = Limits.of(Settings())
METHODS_ASKED, METRICS_ASKED = ["grad_cam", "hi_res_cam"], ["deletion_auc", "relevance_mass", "sparsity_90"]


@pytest.fixture(scope="module")
def tiny(fitted):
    return Served("tiny", fitted)


@pytest.fixture(scope="module")
def images(tiny):
    return phantom_images(tiny, 6)


def test_method_by_method_gives_the_table_of_benchmark(tiny, images):
    tables, shares = [], []
    found = run(
        tiny,
        images,
        METHODS_ASKED,
        METRICS_ASKED,
        on_table=tables.append,
        progress=lambda done, total: shares.append(done / total),
    )
    expected = benchmark(
        tiny.clf, images.X, images.y, methods=METHODS_ASKED, metrics=METRICS_ASKED, masks=images.masks, random_state=0
    )
    pd.testing.assert_frame_equal(found.drop(columns="seconds_per_image"), expected.drop(columns="seconds_per_image"))
    assert [one["method"].unique().tolist() for one in tables] == [["grad_cam"], METHODS_ASKED]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_table_for_people_has_intervals_and_ranks(tiny, images):
    found = run(tiny, images, METHODS_ASKED, METRICS_ASKED)
    shown = wide(found)
    assert shown["method"].tolist() == ["Grad-CAM", "HiResCAM"]
    assert list(shown.columns)[1:4] == ["deletion AUC gain ↑", "relevance mass ↑", "sparsity 90 ↓"]
    first = found[(found["bucket"] == "all") & (found["method"] == "grad_cam")].iloc[0]
    text = f"{first['value']:.3f} [{first['low']:.3f}, {first['high']:.3f}], rank {first['rank']:.0f}"
    assert shown.iloc[0, 1] == text
    sick = sum(mask.any() for mask in images.masks)
    assert f"{6 - sick} undefined" in shown.iloc[0, 2]
    assert f"{sick} have a finding" in _notes(images)
    assert "Best by" in _alternative(found)


def test_what_is_offered(tiny):
    with_masks, without = metrics_on_offer(has_masks=True), metrics_on_offer(has_masks=False)
    assert set(with_masks) - set(without) == {name for name, metric in METRICS.items() if "mask" in metric.needs}
    assert not {"max_sensitivity", "ssim"} & set(with_masks)
    assert metrics_of(has_masks=False)["iou"] == "ground-truth masks"
    assert metrics_of(has_masks=True)["ssim"] == "a second explanation"
    offered = methods_on_offer(tiny.clf)
    assert "attention_rollout" not in offered
    assert offered.index("grad_cam") < offered.index("occlusion") < offered.index("lime")
    assert _metrics("upload", ["iou", "gini"])["value"] == ["gini"]


def test_phantoms_have_labels_only_where_the_model_knows_them(tiny, three_classes):
    found = phantom_images(tiny, 4)
    assert set(found.y) == {"NORMAL", "PNEUMONIA"}
    assert [bool(mask.any()) for mask in found.masks] == [label == "PNEUMONIA" for label in found.y]
    assert phantom_images(Served("colours", three_classes[2]), 2).y is None
    with pytest.raises(InvalidParameterError, match="'n'"):
        phantom_images(tiny, MOST_IMAGES + 1)


def test_a_zip_file_with_a_folder_per_class(tiny, tmp_path):
    entries = [(f"data/{label}/{i}.png", png(i)) for label in ("NORMAL", "PNEUMONIA") for i in range(3)]
    entries += [("NORMAL/broken.png", b"nothing"), ("other/a.png", png()), ("NORMAL/../x.png", png())]
    path = write_zip(tmp_path / "images.zip", entries)
    with uploaded_images(tiny, path, 4, LIMITS) as found:
        assert found.y == ["NORMAL", "PNEUMONIA", "NORMAL", "PNEUMONIA"]
        assert found.masks is None
        assert [name for name, _ in found.left_out] == ["broken.png", "x.png", "other"]
        table = run(tiny, found, ["grad_cam"], ["sparsity_90"])
        places = [str(place) for place in found.X]
        assert "broken.png" in _notes(found)
    assert table["n_images"].max() == 4
    expected = benchmark(tiny.clf, [_pixels(i // 2) for i in range(4)], methods=["grad_cam"], metrics=["sparsity_90"])
    assert table["value"][0] == pytest.approx(expected["value"][0])
    assert not any("NORMAL" in place or "PNEUMONIA" in place for place in places)
    assert not any(map(_exists, places))


def test_zip_files_that_will_not_do(tiny, tmp_path):
    wrong = write_zip(tmp_path / "wrong.zip", [("cats/a.png", png()), ("b.png", png())])
    with (
        pytest.raises(DataError, match=r"must be called NORMAL, PNEUMONIA.*called \(no folder\), cats"),
        uploaded_images(tiny, wrong, 4, LIMITS),
    ):
        pass
    for path in (None, tmp_path / "gone.zip"):
        with pytest.raises(DataError, match="one folder per class"), uploaded_images(tiny, path, 4, LIMITS):
            pass


def test_bad_requests(tiny, images):
    with pytest.raises(DataError, match="a metric at least"):
        run(tiny, images, ["grad_cam"], [])
    with pytest.raises(DataError, match="phantoms tell and uploads do not"):
        run(tiny, Images(images.X, images.y), ["grad_cam"], ["iou"])
    with pytest.raises(InvalidParameterError, match="'metric'"):
        run(tiny, images, ["grad_cam"], ["max_sensitivity"])
    with pytest.raises(InvalidParameterError, match="'method'"):
        run(tiny, images, ["attention_rollout"], ["gini"])
    with pytest.raises(InvalidParameterError, match="'target'"):
        run(tiny, images, ["grad_cam"], ["gini"], target="cat")


def test_the_page_fills_and_cancels(tiny, images):
    import contextlib

    turn, before = Turn(), set(threading.enumerate())
    steps = list(_measured(turn, 0, tiny, contextlib.nullcontext(images), METHODS_ASKED, ["sparsity_90"], "predicted"))
    assert "Done. 2 of 2 methods measured." in steps[-1][0]
    assert steps[-1][2]["method"].tolist() == ["Grad-CAM", "HiResCAM"]
    assert steps[-1][3]["visible"]
    slow = _measured(turn, 0, tiny, contextlib.nullcontext(images), ["lime", "rise"], ["sparsity_90"], "predicted")
    next(slow)
    next(slow)
    turn.cancel()
    assert "Cancelled. 0 of 2" in list(slow)[-1][0]
    assert not [one for one in set(threading.enumerate()) - before if one.name == NAME]


def _pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 30), dtype=np.uint8)


def _exists(place):
    from pathlib import Path

    return Path(place).exists()
