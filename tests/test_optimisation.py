"""Loss, learning rate, weight decay and weight average, by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cxr_estimator.optimisation import WeightAverage, classification_loss, parameter_groups, rate_share


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_loss_is_two_class_cross_entropy(smoothing):
    z, target = torch.tensor([[0.3], [-2.0], [1.5]]), torch.tensor([1, 0, 0])
    both = torch.cat([torch.zeros_like(z), z], dim=1)
    expected = F.cross_entropy(both, target, label_smoothing=smoothing, reduction="none")
    assert torch.allclose(classification_loss(z, target, smoothing), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_of_several_labels_is_the_mean_over_those_known(smoothing):
    z = torch.tensor([[0.3, -2.0, 1.5], [0.0, 1.0, 2.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0, float("nan")], [float("nan")] * 3])
    losses = classification_loss(z, target, smoothing)
    alone = [classification_loss(z[:1, k : k + 1], torch.tensor([value]), smoothing) for k, value in ((0, 1), (1, 0))]
    assert torch.allclose(losses[0, :2], torch.cat(alone) / 3)
    assert losses[0, 2] == 0
    assert (losses[1] == 0).all()
    losses.sum().backward()
    assert (z.grad[0, :2] != 0).all()
    assert z.grad[0, 2] == 0
    assert (z.grad[1] == 0).all()


def test_schedule_warms_up_then_falls():
    rates = [rate_share(step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(one >= other for one, other in pairwise(rates[5:]))
    assert 0.01 <= rates[-1] < 0.02


def test_average_by_hand():
    """Weights 1, 2, 4 with decay 0.5: (0.25 * 1 + 0.5 * 2 + 1 * 4) / 1.75."""
    model = nn.BatchNorm1d(1)
    average = WeightAverage(model, total_steps=10**6, decay=0.5)
    for value in (1.0, 2.0, 4.0):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)
        model.num_batches_tracked += 1
        average.update(model)
    assert average.model.weight.item() == pytest.approx(5.25 / 1.75)
    assert average.model.running_mean.item() == pytest.approx(5.25 / 1.75)  # batch-norm statistics follow
    assert average.model.num_batches_tracked == 3
    assert not average.model.training


def test_average_has_a_shorter_memory_in_short_runs():
    assert WeightAverage(nn.Linear(1, 1), total_steps=100).decay == pytest.approx(0.9)
    assert WeightAverage(nn.Linear(1, 1), total_steps=10**6).decay == 0.998
    assert WeightAverage(nn.Linear(1, 1), total_steps=1).decay == 0.5


def test_only_weights_decay():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    decayed, others = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert decayed["params"] == [model[0].weight]
    assert len(others["params"]) == 3
