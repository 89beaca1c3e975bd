"""Training that is interrupted: after every single step, while saving, and by SIGKILL at random moments."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from cxr_estimator import CXRClassifier, checkpoints, make_phantoms
from cxr_estimator.errors import BatchSizeWarning, CheckpointWarning, InvalidParameterError, NotEnoughMemoryError
from cxr_estimator.inference import BatchLimit
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.training import TrainingData, TrainingSettings, train

SETTINGS = TrainingSettings(
    max_epochs=3, batch_size=8, learning_rate=3e-3, weight_decay=0.01, label_smoothing=0.1,
    patience=3, augment="strong", seed=0, device=torch.device("cpu"),
)  # fmt: skip


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def every_step(monkeypatch):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)


def some_data(seed, n=20):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)
    return TrainingData(pixels, rng.integers(0, 2, n), rng.random(n).astype(np.float32))


def new_model():
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 1)
    )
    return model.to(memory_format=torch.channels_last)


def run(folder, progress=None, data=0, **changes):
    model = new_model()
    settings = dataclasses.replace(SETTINGS, **changes)
    history = train(model, Preprocessing(8), some_data(data), some_data(1, 9), settings, progress, folder)
    return model.state_dict(), [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def stop_after(calls):
    def progress(steps, row):
        nonlocal calls
        calls -= 1
        if calls < 0:
            raise Killed

    return progress


def assert_equal(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(tensor, other[0][name]) for name, tensor in one[0].items())


def test_interrupted_at_every_step_and_epoch_it_ends_as_if_it_were_not(tmp_path):
    unbroken = run(None)
    for calls in range(3 * (3 + 1) + 1):
        folder = tmp_path / str(calls)
        with pytest.raises(Killed):
            run(folder, stop_after(calls))
        with contextlib.suppress(Killed):  # and once more, soon after
            run(folder, stop_after(2))
        assert_equal(run(folder), unbroken)


def test_without_patience_an_interrupted_run_ends_as_if_it_were_not(tmp_path):
    unbroken = run(None, patience=None)
    for calls in (2, 5, 9):
        folder = tmp_path / str(calls)
        with pytest.raises(Killed):
            run(folder, stop_after(calls), patience=None)
        assert_equal(run(folder, patience=None), unbroken)
        assert_equal(run(folder, patience=None), unbroken)  # finished


def test_interrupted_while_saving(tmp_path, monkeypatch):
    unbroken = run(None)
    original, left = os.replace, [5]

    def replace(source, target):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        original(source, target)

    monkeypatch.setattr("cxr_estimator.serialization.os.replace", replace)
    with pytest.raises(Killed):
        run(tmp_path)
    assert_equal(run(tmp_path), unbroken)


def test_progress_begins_where_the_run_stood(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, stop_after(6))
    calls = []
    run(tmp_path, lambda steps, row: calls.append(steps))
    assert calls[0] > 0
    assert sum(calls) == 9


def test_a_finished_run_returns_at_once_and_keeps_only_its_weights(tmp_path):
    first = run(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    assert all(name.startswith("model.") for name in load_file(path))
    calls = []
    assert_equal(run(tmp_path, lambda steps, row: calls.append(steps)), first)
    assert calls == [9]


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"data": 2}, {"learning_rate": 1e-3}, {"max_epochs": 4}, {"patience": None}]
)
def test_other_runs_in_the_same_folder_are_left_alone(tmp_path, changes):
    with pytest.raises(Killed):
        run(tmp_path, stop_after(7))
    assert_equal(run(tmp_path, **changes), run(None, **changes))
    assert_equal(run(tmp_path), run(None))


def test_a_run_with_other_dropout_is_another_one(tmp_path):
    run(tmp_path)
    calls = []
    run(tmp_path, lambda steps, row: calls.append(steps), dropout=0.2)
    assert len(calls) > 1


def test_a_full_disk_does_not_end_the_run(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    unbroken = run(None)
    monkeypatch.setattr("cxr_estimator.serialization.os.fsync", full)
    with pytest.warns(CheckpointWarning, match="No space left on device"):
        assert_equal(run(tmp_path), unbroken)
    assert list(tmp_path.iterdir()) == []


# -- out of memory -----------------------------------------------------------------------------------------------------


class Greedy(nn.Module):
    """Passes its input on, unless that is more than three images."""

    def forward(self, x):
        if len(x) > 3 and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x


def test_out_of_memory_accumulates_gradients_over_smaller_batches(monkeypatch):
    """Without batch norm and dropout, parts of a batch give the gradient of the whole."""

    def trained(*layers):
        torch.manual_seed(3)
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 1))
        train(model, Preprocessing(8), some_data(0), None, dataclasses.replace(SETTINGS, augment="none"))
        return model[-1].weight

    expected = trained()
    with pytest.warns(BatchSizeWarning) as said:
        found = trained(Greedy())
    assert [str(warning.message)[-13:] for warning in said] == ["batches of 4.", "batches of 2."]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("n", "sizes"), [(25, [16, 9]), (11, [8, 4, 2])])
def test_no_part_of_a_batch_is_a_single_image(n, sizes, monkeypatch):
    """Batch norm behind a global pooling cannot train on one image: 9 images at 8 at once are 4 and 5."""
    seen = []

    class Pooled(nn.Module):
        def forward(self, x):
            if len(x) > (8 if n == 25 else 3):
                raise torch.OutOfMemoryError("CUDA out of memory")
            seen.append(len(x))
            return x.mean(dim=(2, 3))

    torch.manual_seed(3)
    model = nn.Sequential(Pooled(), nn.BatchNorm1d(1), nn.Linear(1, 1))
    settings = dataclasses.replace(SETTINGS, batch_size=sizes[0], max_epochs=1)
    with pytest.warns(BatchSizeWarning):
        train(model, Preprocessing(8), some_data(0, n), None, settings)
    assert min(seen) >= 2
    assert sum(seen) == n


def test_training_needs_room_for_two_images(monkeypatch):
    def full(self, x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Greedy, "forward", full)
    model = nn.Sequential(Greedy(), nn.Flatten(), nn.Linear(64, 1))
    with pytest.warns(BatchSizeWarning), pytest.raises(NotEnoughMemoryError, match="even for 2 images at once"):
        train(model, Preprocessing(8), some_data(0), None, SETTINGS)


def test_the_smaller_batch_is_remembered_by_the_checkpoint(tmp_path, monkeypatch):
    sizes = []
    original = BatchLimit.run

    def noting(self, work):
        sizes.append(self.size)
        return original(self, work)

    monkeypatch.setattr(BatchLimit, "run", noting)

    def go(progress=None):
        torch.manual_seed(3)
        model = nn.Sequential(Greedy(), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 1))
        train(model, Preprocessing(8), some_data(0), None, SETTINGS, progress, tmp_path)

    with pytest.warns(BatchSizeWarning), pytest.raises(Killed):
        go(stop_after(4))
    sizes.clear()
    go()
    assert set(sizes) == {2}


# -- the classifier, killed --------------------------------------------------------------------------------------------

KILLS = 8
# what `fit` imports, so that no child spends its time on that
PRELOADED = ["cxr_estimator.classifier", "timm", "sklearn.cluster", "sklearn.isotonic", "sklearn.linear_model"]


def make_classifier(folder):
    return CXRClassifier(
        "plain_cnn", image_size=32, max_epochs=5, patience=5, batch_size=16, validation_fraction=0.2, random_state=0,
        threshold="youden", checkpoint_dir=folder / "checkpoints", cache_dir=folder / "cache", n_jobs=2,
    )  # fmt: skip


def fit_and_save(folder, paths, y, groups, pipe):
    """Run in a process of its own: fit, then write weights and decision to result.safetensors."""
    torch.set_num_threads(1)
    checkpoints.INTERVAL = 0.0
    pipe.send("ready")
    clf = make_classifier(folder).fit(paths, y, groups=groups)
    rows = clf.history_.drop(columns="seconds").fillna(-1.0).astype(float).to_numpy()
    extra = {"history": torch.tensor(rows.tolist()), "threshold": torch.tensor(clf.threshold_, dtype=torch.float64)}
    weights = {name: tensor.contiguous() for name, tensor in clf.model_.state_dict().items()}
    save_file(weights | extra, folder / "part")
    os.replace(folder / "part", folder / "result.safetensors")


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory):
    data = make_phantoms(96, 40, random_state=0)
    folder = tmp_path_factory.mktemp("radiographs")
    paths = [str(folder / f"{number}.png") for number in range(len(data.X))]
    for path, image in zip(paths, data.X, strict=True):
        Image.fromarray(image).save(path)
    return paths, data.y, data.groups


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_at_random_moments_it_ends_bit_equal(tmp_path, radiographs):
    """At moments from each eighth of what may be waited, in random order: reading, training and saving all get some."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    rng = np.random.default_rng(int(os.environ.get("CXR_KILL_SEED", "0")))

    def attempt(folder, seconds=None):
        """Fit in a child; kill it so many seconds after it began. Return how long it ran."""
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=fit_and_save, args=(folder, *radiographs, sender))
        child.start()
        assert receiver.poll(120)
        started = time.monotonic()
        child.join(seconds)
        took = time.monotonic() - started
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        return took

    (tmp_path / "unbroken").mkdir()
    duration = attempt(tmp_path / "unbroken")
    expected = load_file(tmp_path / "unbroken" / "result.safetensors")
    kills = runs = 0
    moments = itertools.chain.from_iterable(rng.permutation(KILLS) + rng.random(KILLS) for _ in itertools.count())
    while kills < KILLS or runs < 2:  # a slow machine may see all of them in the first run
        runs += 1
        folder = tmp_path / str(runs)
        folder.mkdir()
        while not (folder / "result.safetensors").exists():
            attempt(folder, 0.6 * duration * float(next(moments)) / KILLS)
            kills += not (folder / "result.safetensors").exists()
        found = load_file(folder / "result.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_clones_in_a_cross_validation_never_resume_one_another(tmp_path, radiographs):
    """Folds and grid points share one folder: each has its own checkpoint, and results are those without it."""
    from sklearn.base import clone
    from sklearn.model_selection import GroupKFold, cross_val_predict

    paths, y, groups = radiographs
    clf = make_classifier(tmp_path).set_params(max_epochs=1, validation_fraction=0.0, threshold=0.5)
    options = {"groups": groups, "cv": GroupKFold(3), "method": "predict_proba"}
    plain = clone(clf).set_params(checkpoint_dir=None, cache_dir=None)
    expected = cross_val_predict(plain, paths, y, **options)
    np.testing.assert_array_equal(cross_val_predict(clf, paths, y, **options), expected)
    assert len(list((tmp_path / "checkpoints").glob("*.safetensors"))) == 3
    np.testing.assert_array_equal(cross_val_predict(clf, paths, y, **options), expected)  # now from the finished ones


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_a_run_without_a_seed_cannot_be_resumed(tmp_path, random_state, radiographs):
    clf = make_classifier(tmp_path).set_params(random_state=random_state)
    with pytest.raises(InvalidParameterError, match=r"'random_state'.* an integer where checkpoint_dir is set"):
        clf.fit(*radiographs[:2])
