"""Parameter randomisation by hand, on networks of every kind, and on a trained one."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from cxr_estimator.attribution import Problem
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.inference import evaluating
from cxr_estimator.metrics import Context, measure
from tests.attribution.networks import Linear, positive
from tests.metrics.requests import answering, explained_by

NAME = "parameter_randomisation"
MAP = torch.tensor([[[1.0, -2.0], [3.0, -4.0]]])
X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    """A network of four modules with parameters, in train mode."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5), nn.Linear(5, 1)
    return nn.Sequential(*layers)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(model, before):
    """Return which of the layers have another state."""
    after = model.state_dict()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_by_hand(explain_values, network):
    # three stages: the same order of absolute values, the opposite one, none at all
    answers = [-10 * MAP, torch.tensor([[[4.0, -3.0], [2.0, -1.0]]]), torch.full((1, 2, 2), 3.0)]
    x = torch.zeros(1, 1, 2, 2)
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(3)))
    for count, expected in ((1, 1.0), (2, 0.0), (3, 0.0)):
        context, asked = answering(x, answers, model)
        np.testing.assert_allclose(measure(NAME, explain_values(MAP), context, n_stages=count), [expected], atol=1e-12)
        assert len(asked) == count
    context, asked = answering(x, answers, model)
    assert np.isnan(measure(NAME, explain_values(torch.tensor([[[2.0, -2.0], [2.0, 2.0]]])), context, n_stages=3))


def test_more_stages_than_modules(explain_values):
    context, asked = answering(torch.zeros(1, 1, 2, 2), [MAP], Linear(torch.ones(1, 2, 2)))
    assert measure(NAME, explain_values(MAP), context) == [1.0]
    assert len(asked) == 1


def test_stages_go_from_the_output_to_the_input_and_add_up(explain_values, network):
    before, seen = state(network), []

    def explain(variant):
        model = variant.model
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert variant.target.index.tolist() == [1, 1, 1]
        seen.append(changed(model, before))
        return variant.x[:, 0]

    context = Context(Problem(network, X, positive(3)), explain)
    measure(NAME, explain_values(X[:, 0]), context)
    assert seen == [{"5"}, {"4", "5"}, {"1", "4", "5"}, {"0", "1", "4", "5"}]


def test_the_network_and_the_global_generator_stay_as_they_were(explain_values, network):
    explanation, context = explained_by(explain_values, network.eval(), X, "saliency")
    network.train()
    network[0].weight.requires_grad_(False)
    before, random = state(network), torch.random.get_rng_state()

    def stopped(variant):
        raise KeyboardInterrupt

    measure(NAME, explanation, context)
    with pytest.raises(KeyboardInterrupt):
        measure(NAME, explanation, dataclasses.replace(context, explain=stopped))
    assert not changed(network, before)
    assert all(module.training for module in network.modules())
    assert [parameter.requires_grad for parameter in network.parameters()] == [False] + 7 * [True]
    assert torch.equal(torch.random.get_rng_state(), random)


def test_weights_follow_from_the_seed_alone(explain_values, network):
    def after(seed, x):
        found = []

        def explain(variant):
            found.append(state(variant.model))
            return torch.rand(len(x), 8, 8)

        context = Context(Problem(network, x, positive(len(x)), seed=seed), explain)
        measure(NAME, explain_values(x[:, 0]), context)
        return found

    torch.manual_seed(1)
    first, again, other = after(0, X), after(0, X[1:]), after(1, X)
    for one, two in zip(first, again, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(first[0]["5.weight"], other[0]["5.weight"])


@pytest.mark.parametrize(
    ("name", "size"),
    [("plain_cnn", 32), ("resnet18", 64), ("efficientnet_b0", 64), ("convnextv2_atto", 64),
     ("vit_tiny_patch16_224", 64), ("swin_tiny_patch4_window7_224", 56)],
)  # fmt: skip
def test_networks_of_every_kind_are_randomised_and_still_compute(explain_values, name, size):
    torch.manual_seed(0)
    model = build_backbone(name, num_outputs=1, channels=1, image_size=size)
    before, scores = state(model), []
    x = torch.rand(3, 1, 1, 1) * torch.rand(3, 1, size, size)

    def explain(variant):
        scores.append(variant.score)
        explain.model = variant.model
        return variant.x[:, 0]

    measure(NAME, explain_values(x[:, 0]), Context(Problem(model, x, positive(3)), explain))
    zero = {key for key, value in before.items() if not value.any()}  # have no size to keep, as biases before training
    kept = {key for key, value in explain.model.state_dict().items() if torch.equal(value, before[key])}
    parameters = dict(model.named_parameters())
    assert kept & set(parameters) == zero & set(parameters)
    assert all(key in zero or "running" not in key for key in kept)
    # the size of an output stays within bounds, and it tells images apart, well beyond what rounding does
    scores = torch.stack(scores)
    assert (scores.abs() < 1e4).all()
    assert (scores.std(dim=1) > 1e-4 * scores.abs().mean(dim=1)).all()
    for key in set(parameters) - zero:
        old, new = (tensor.square().mean().sqrt() for tensor in (parameters[key], explain.model.get_parameter(key)))
        if parameters[key].numel() > 1000:
            assert 0.8 < new / old < 1.25


def test_a_map_of_edges_ignores_the_network_and_fails(explained):
    explanation, context = explained(slice(0, 4), method="saliency")

    def edges(variant):
        return variant.x[:, 0].diff(dim=2, prepend=variant.x[:, 0, :, :1])

    of_edges = dataclasses.replace(explanation, values=edges(context.problem).numpy())
    found = measure(NAME, of_edges, dataclasses.replace(context, explain=edges))
    np.testing.assert_allclose(found, 1, rtol=1e-12)


def test_saliency_and_grad_cam_of_a_trained_network_pass_and_guided_backprop_does_not(explained):
    """The finding of the paper, here with 0.1, 0 and 0.5."""
    found = {
        method: measure(NAME, *explained(slice(0, 6), method=method))
        for method in ("saliency", "grad_cam", "guided_backprop")
    }
    assert (found["saliency"] < 0.3).all()
    assert (found["grad_cam"] < 0.3).all()
    assert (found["guided_backprop"] > 0.35).all()


def test_the_lock_of_the_copy_is_held(explain_values, network):
    """Methods that take the lock themselves get it, and what they set is restored to eval mode and frozen."""

    def explain(variant):
        with evaluating(variant.model):
            pass
        assert not variant.model.training
        return variant.x[:, 0]

    measure(NAME, explain_values(X[:, 0]), Context(Problem(copy.deepcopy(network), X, positive(3)), explain))


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_bad_options(explain_values, count):
    context, asked = answering(torch.zeros(1, 1, 2, 2), [], Linear(torch.ones(1, 2, 2)))
    with pytest.raises(InvalidParameterError, match=f"'n_stages' parameter of {NAME} must be"):
        measure(NAME, explain_values(MAP), context, n_stages=count)
    assert not asked
