"""The fit loop."""

from __future__ import annotations

import copy
import dataclasses
import threading

import numpy as np
import pytest
import torch

from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import TrainingError
from cxr_estimator.optimisation import classification_loss
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.training import (
    TrainingData,
    TrainingSettings,
    seeded,
    steps_per_epoch,
    train,
)

PREPROCESSING = Preprocessing(16)
SETTINGS = TrainingSettings(
    max_epochs=4, batch_size=8, learning_rate=3e-3, weight_decay=0.01, label_smoothing=0.0,
    patience=4, augment="light", seed=0, device=torch.device("cpu"),
)  # fmt: skip


def bright_or_dark(n: int, seed: int = 0, n_classes: int = 2) -> TrainingData:
    rng = np.random.default_rng(seed)
    target = np.arange(n) % n_classes
    pixels = rng.integers(0, 80, (n, 1, 16, 16)) + (target * 80)[:, None, None, None]
    return TrainingData(pixels.astype(np.uint8), target.astype(np.int64), np.ones(n, dtype=np.float32))


def run(data=None, validation=None, progress=None, outputs=1, **changes):
    with seeded(1, SETTINGS.device):
        model = build_backbone("plain_cnn", num_outputs=outputs, channels=1, image_size=16)
    settings = dataclasses.replace(SETTINGS, **changes)
    return model, train(model, PREPROCESSING, data or bright_or_dark(33), validation, settings, progress)


def test_it_learns_and_keeps_history():
    validation = bright_or_dark(16, seed=1)
    model, history = run(validation=validation)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert max(row["val_auroc"] for row in history) == 1.0
    assert sum(row["best"] for row in history) == 1
    assert not model.training


@pytest.mark.parametrize("augment", ["none", "strong"])
def test_exactly_repeatable_and_global_generator_untouched(augment):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, rows = run(augment=augment)
    torch.manual_seed(99)
    second, again = run(augment=augment)
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in again]
    torch.manual_seed(7)
    train(copy.deepcopy(first), PREPROCESSING, bright_or_dark(16), None, SETTINGS)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_other_weights():
    assert not torch.equal(run(seed=0)[0].head.weight, run(seed=1)[0].head.weight)


def test_early_stopping_keeps_the_best_epoch():
    """Labels that cannot be learned: the best epoch comes early, and its weights are what is left."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 1, 16, 16), dtype=np.uint8)
    noise = TrainingData(pixels, rng.integers(0, 2, 24), np.ones(24, np.float32))
    model, history = run(validation=noise, patience=2, max_epochs=30)
    best = next(row for row in history if row["best"])
    assert len(history) == best["epoch"] + 2 < 30
    assert best["val_auroc"] == max(row["val_auroc"] for row in history)
    model.eval()
    logits = model((torch.from_numpy(noise.pixels).float() / 255 - 0.5) / 0.25)
    loss = classification_loss(logits, torch.from_numpy(noise.target)).mean().item()
    assert loss == pytest.approx(best["val_loss"], abs=1e-4)


def test_without_validation_all_epochs_run():
    _, history = run()
    assert len(history) == 4
    assert all(np.isnan(row["val_auroc"]) for row in history)
    assert [row["best"] for row in history] == [False, False, False, True]


def test_without_patience_all_epochs_run_and_validation_chooses_nothing():
    """The same weights as without any validation images, which are judged all the same."""
    contrary = bright_or_dark(24, seed=1)
    contrary = dataclasses.replace(contrary, target=1 - contrary.target)
    model, history = run(validation=contrary, patience=None, max_epochs=6)
    alone, _ = run(max_epochs=6)
    assert [row["best"] for row in history] == [False] * 5 + [True]
    first, last = ((row["val_auroc"], -row["val_loss"]) for row in (history[0], history[-1]))
    assert first > last  # another epoch would have been chosen
    for own, other in zip(model.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(own, other)
    model.eval()
    logits = model((torch.from_numpy(contrary.pixels).float() / 255 - 0.5) / 0.25)
    loss = classification_loss(logits, torch.from_numpy(contrary.target)).mean().item()
    assert loss == pytest.approx(history[-1]["val_loss"], abs=1e-4)


def test_progress_counts_every_step_and_epoch():
    calls = []
    run(progress=lambda steps, row: calls.append((steps, row)))
    assert sum(steps for steps, _ in calls) == 4 * steps_per_epoch(33, 8)
    assert sum(row is not None for _, row in calls) == 4


def test_several_classes():
    validation = bright_or_dark(15, seed=1, n_classes=3)
    _, history = run(bright_or_dark(30, n_classes=3), validation, outputs=3, max_epochs=8, patience=8)
    assert max(row["val_auroc"] for row in history) > 0.9


def test_weights_of_zero_silence_images():
    data = bright_or_dark(32)
    wrong = dataclasses.replace(data, target=np.where(np.arange(32) < 16, 1 - data.target, data.target))
    silenced = dataclasses.replace(wrong, weight=np.repeat(np.float32([0.0, 2.0]), 16))
    validation = bright_or_dark(16, seed=1)
    _, history = run(silenced, validation, max_epochs=6, patience=6)
    assert max(row["val_auroc"] for row in history) == 1.0


@pytest.mark.parametrize(("n", "batches"), [(7, 1), (8, 1), (9, 1), (10, 2), (17, 2), (1, 1)])
def test_a_last_batch_of_one_is_left_out(n, batches):
    assert steps_per_epoch(n, 8) == batches


def test_divergence_is_an_error():
    with pytest.raises(TrainingError, match=r"Training diverged: the loss became .* A lower learning_rate helps"):
        run(learning_rate=1e30, max_epochs=20)


def test_two_trainings_at_once_do_not_disturb_each_other():
    alone = run(max_epochs=2)[0].head.weight
    results = []
    threads = [threading.Thread(target=lambda: results.append(run(max_epochs=2)[0].head.weight)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert all(torch.equal(weight, alone) for weight in results)
