"""Layer-wise relevance propagation: in a slower, less complicated way, by identities, and against captum."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule
from torch import nn

from cxr_estimator.attribution import Problem, TargetRule
from cxr_estimator.attribution.lrp import lrp, without_rules
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from cxr_estimator.thresholds import number_point
from tests.attribution.networks import POSITIVE

LOW, HIGH = -2.0, 2.0  # black and white, normalised by MEAN and STD
MEAN, STD = (0.5,), (0.25,)
RULES = [
    {"rule": rule, "bias": bias, **options}
    for rule, options in [
        ("composite", {"gamma": 0.5}),
        ("epsilon", {"epsilon": 0.01}),
        ("alpha_beta", {"epsilon": 1e-9}),
        ("alpha_beta", {"beta": 0.0, "epsilon": 1e-9}),
    ]
    for bias in ("share", "absorb")
]


class Tiny(nn.Module):
    """One of everything: two convolutions with one batch norm, one ReLU used twice, a residual, both poolings."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.BatchNorm2d(3)
        self.head = nn.Linear(12, 1)
        for norm in (self.norm, self.last):
            for values in (norm.weight, norm.bias, norm.running_mean):
                values.data.normal_()
            norm.running_var.data.uniform_(0.5, 2)

    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))  # merged
        shortcut = x
        x = self.second(x)
        x += shortcut
        x = F.avg_pool2d(F.max_pool2d(x, 2), 2)
        x = self.relu(self.last(x))  # stands alone
        return self.head(x.flatten(1))


def dense(function, shape):
    """The matrix of a linear function, column by column."""
    columns = []
    for i in range(int(np.prod(shape))):
        unit = torch.zeros(int(np.prod(shape)))
        unit[i] = 1.0
        columns.append(function(unit.view(1, *shape)).flatten())
    return torch.stack(columns, dim=1).detach().double().numpy()


def handed_back(x, W, b, R, kind, options):
    """The relevance of the inputs x of y = W x + b, output by output and input by input."""
    found = np.zeros(len(x))
    for j in range(len(R)):
        c = [W[j, i] * x[i] for i in range(len(x))]
        z = sum(c) + b[j]
        if kind == "box":
            c = [W[j, i] * x[i] - LOW * max(W[j, i], 0) - HIGH * min(W[j, i], 0) for i in range(len(x))]
            parts, own = [value / sum(c) for value in c], 0.0
        elif kind == "alpha_beta":
            up = sum(value for value in [*c, b[j]] if value > 0)
            down = sum(value for value in [*c, b[j]] if value < 0)
            beta = options.get("beta", 1.0)
            parts = [(1 + beta) * v / up if v > 0 else -beta * v / down if v < 0 else 0.0 for v in [*c, b[j]]]
            *parts, own = parts
        else:
            gamma = options.get("gamma", 0.0) if kind == "gamma" else 0.0
            epsilon = options.get("epsilon", 1e-6)
            boosted = [(1 + gamma) * value if value * z > 0 else value for value in [*c, b[j]]]
            total = sum(boosted) + (epsilon if z >= 0 else -epsilon)
            *parts, own = [value / total for value in boosted]
        size = sum(abs(value) for value in c)
        for i in range(len(x)):
            shared = own * abs(c[i]) / size if options["bias"] == "share" and size > 0 else 0.0
            found[i] += (parts[i] + shared) * R[j]
    return found


def behind_a_norm(x, w, b, R, options):
    """The relevance of the inputs of a batch norm that stands alone, four positions to a channel."""
    epsilon = options.get("epsilon", 1e-6)
    found = np.zeros(len(x))
    for channel in range(len(x) // 4):
        places = range(4 * channel, 4 * channel + 4)
        z = {j: w[j] * x[j] + b[j] for j in places}
        factor = {j: R[j] / (z[j] + (epsilon if z[j] >= 0 else -epsilon)) for j in places}
        lost = sum(factor[j] * b[j] for j in places)
        size = sum(abs(w[j] * x[j]) for j in places)
        for j in places:
            share = lost * abs(w[j] * x[j]) / size if options["bias"] == "share" else 0.0
            found[j] = factor[j] * w[j] * x[j] + share
    return found


def slowly(net, x, options):
    """The relevance of one image (1, 1, 8, 8), with every layer as a matrix."""
    hidden = "gamma" if options["rule"] == "composite" else options["rule"]
    image = "box" if options["rule"] == "composite" else options["rule"]
    plain = "alpha_beta" if options["rule"] == "alpha_beta" else "epsilon"

    scale, stretch = (norm.weight / torch.sqrt(norm.running_var + norm.eps) for norm in (net.norm, net.last))
    W1 = dense(lambda u: F.conv2d(u, net.first.weight * scale.view(-1, 1, 1, 1), padding=1), (1, 8, 8))
    b1 = ((net.first.bias - net.norm.running_mean) * scale + net.norm.bias).repeat_interleave(64).detach().numpy()
    W2 = dense(lambda u: F.conv2d(u, net.second.weight, padding=1), (3, 8, 8))
    mean = dense(lambda u: F.avg_pool2d(u, 2), (3, 4, 4))
    W3 = np.diag(stretch.repeat_interleave(4).detach().double().numpy())
    b3 = (net.last.bias - net.last.running_mean * stretch).repeat_interleave(4).detach().numpy()

    pixels = x.flatten().double().numpy()
    one = np.maximum(W1 @ pixels + b1, 0)
    two = W2 @ one
    both = torch.from_numpy(one + two).view(1, 3, 8, 8)
    top, winner = F.max_pool2d(both, 2, return_indices=True)
    top = top.flatten().numpy()
    pooled = mean @ top
    last = np.maximum(W3 @ pooled + b3, 0)
    score = net.head(torch.from_numpy(last).float()).item()

    R = handed_back(last, *(p.detach().double().numpy() for p in net.head.parameters()), [score], plain, options)
    R = behind_a_norm(pooled, np.diag(W3), b3, R, options)
    R = handed_back(top, mean, np.zeros(12), R, "epsilon", {"bias": "absorb", "epsilon": 0.0})
    spread = torch.zeros(1, 3, 64, dtype=torch.float64)
    spread.scatter_(2, winner.flatten(2), torch.from_numpy(R).view(1, 3, 16))
    share = spread.flatten().numpy() / (one + two)  # to each summand what it is
    R = one * share + handed_back(one, W2, np.zeros(192), two * share, hidden, options)
    return score, handed_back(pixels, W1, b1, R, image, options)


@pytest.mark.parametrize("options", RULES, ids=str)
def test_equals_a_slower_way(options):
    torch.manual_seed(3)
    net = Tiny().eval()
    x = torch.rand(1, 1, 8, 8) * 4 - 2
    problem = Problem(net, x, POSITIVE, mean=MEAN, std=STD)
    found = lrp(problem, **options)
    score, expected = slowly(net, x, options)
    assert problem.score.item() == pytest.approx(score, rel=1e-5)
    assert found.difference.item() == pytest.approx(score, rel=1e-5)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.values.flatten().numpy() / scale, expected / scale, atol=1e-4)


@pytest.fixture(scope="module", params=["plain_cnn", "resnet18", "densenet121"])
def network(request):
    """A network whose batch norms have seen data."""
    torch.manual_seed(0)
    model = build_backbone(request.param, num_outputs=3, channels=1, image_size=64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.rand(8, 1, 64, 64) * 4 - 2)
    return model.eval()


def explained(model, *, seed=1, **options):
    torch.manual_seed(seed)
    x = torch.rand(2, 1, 64, 64) * 4 - 2
    problem = Problem(model, x, TargetRule(None, index=torch.tensor([2, 0])), mean=MEAN, std=STD)
    return problem, lrp(problem, **options)


def test_the_map_sums_to_the_score(network):
    problem, found = explained(network)
    torch.testing.assert_close(found.difference, problem.score)
    torch.testing.assert_close(found.values.sum(dim=(1, 2)), problem.score, rtol=1e-3, atol=1e-4)


def test_what_the_biases_take_is_lost_where_it_is_not_shared(network):
    problem, found = explained(network, bias="absorb")
    missing = (found.values.sum(dim=(1, 2)) - problem.score).abs() / problem.score.abs()
    assert (missing > 0.01).all()


def input_times_gradient(problem):
    _, gradient = problem.gradients(problem.x, torch.arange(len(problem)))
    return (problem.x * gradient).sum(dim=1)


def assert_same_maps(one, other):
    scale = other.abs().amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(one / scale, other / scale, atol=2e-4, rtol=0.0)


def test_with_a_small_epsilon_it_is_input_times_gradient(network):
    """A known identity of ReLU networks, also with biases as long as these keep their share."""
    problem, found = explained(network, rule="epsilon", epsilon=1e-12, bias="absorb")
    assert_same_maps(found.values, input_times_gradient(problem))


def test_without_biases_nothing_is_lost():
    torch.manual_seed(0)
    model = build_backbone("resnet18", num_outputs=3, channels=1, image_size=64).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # means of 0 and biases of 0, as they are built
            module.weight.data.uniform_(0.5, 1.5)
    model.fc.bias.data.zero_()
    problem, found = explained(model, rule="epsilon", epsilon=1e-12)
    assert_same_maps(found.values, input_times_gradient(problem))
    for bias in ("share", "absorb"):
        problem, found = explained(model, bias=bias)
        torch.testing.assert_close(found.values.sum(dim=(1, 2)), problem.score, rtol=1e-3, atol=1e-5)


class Sequence(nn.Module):
    """What captum can do: each module once, and no `nn.Flatten`."""

    def __init__(self):
        super().__init__()
        self.one, self.relu_one = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.two, self.relu_two = nn.Conv2d(4, 6, 3, stride=2), nn.ReLU()
        self.head = nn.Linear(6 * 7 * 7, 2)

    def forward(self, x):
        x = self.relu_one(self.one(x))
        x = self.relu_two(self.two(x))
        return self.head(x.flatten(1))


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"rule": "epsilon", "epsilon": 1e-3}, lambda: EpsilonRule(epsilon=1e-3)),
        ({"rule": "alpha_beta", "beta": 0.0, "epsilon": 1e-9}, Alpha1_Beta0_Rule),
    ],
)
def test_equals_captum(options, rule):
    torch.manual_seed(0)
    net = Sequence().eval()
    for layer in net.children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.bias.data.abs_()  # captum counts negative biases among what speaks for an output
    x = torch.rand(3, 1, 16, 16)  # captum's rule takes inputs to be >= 0
    index = torch.tensor([0, 1, 1])
    ours = lrp(Problem(net, x, TargetRule(None, index=index)), **options, bias="absorb").values
    for layer in net.children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.rule = rule()
    theirs = captum.attr.LRP(net).attribute(x.requires_grad_(), target=index)[:, 0].detach()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1)),
        nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.Flatten(),
                      nn.Linear(72, 1)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 1)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 5, bias=False), nn.BatchNorm1d(5), nn.LeakyReLU(), nn.Linear(5, 1)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.LeakyReLU(), nn.BatchNorm1d(5), nn.Linear(5, 1)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False), nn.Flatten(), nn.Linear(72, 1)),
    ],
    ids=["pooled image", "norms before and after", "ReLU before the norm", "dense with norm",
         "dense before a norm", "norm without weights"],
)  # fmt: skip
def test_any_order_of_layers(net):
    """Nothing is merged that must not be, and the image may be read by any layer."""
    torch.manual_seed(0)
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # they were made before the seed was set
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    problem = Problem(net.eval(), torch.randn(2, 1, 8, 8), TargetRule(None, index=torch.tensor([1, 0])))
    found = lrp(problem, rule="epsilon", epsilon=1e-12, bias="absorb")
    assert_same_maps(found.values, input_times_gradient(problem))
    for rule in ("composite", "epsilon"):
        torch.testing.assert_close(lrp(problem, rule=rule).values.sum(dim=(1, 2)), problem.score, rtol=1e-3, atol=1e-4)
    assert without_rules(net) is None


def test_a_margin_is_explained_without_its_constant():
    torch.manual_seed(0)
    net, x = Tiny().eval(), torch.rand(2, 1, 8, 8)
    index = torch.tensor([1, 0])
    point = number_point(0.7, name="x", caller="t")
    margin = Problem(net, x, TargetRule(point, index=index, margin=True))
    decided = Problem(net, x, TargetRule(point, index=index))
    torch.testing.assert_close(lrp(margin).difference, decided.score)
    assert (margin.score != decided.score).all()
    torch.testing.assert_close(lrp(margin).values, lrp(decided).values)


def test_all_pixels_of_a_black_image_have_relevance_by_the_box():
    """A black pixel is far from white, which counts; input x gradient has nothing for values of 0."""
    torch.manual_seed(0)
    net, black = Tiny().eval(), torch.zeros(1, 1, 8, 8)
    assert lrp(Problem(net, black, POSITIVE), rule="epsilon").values.abs().max() == 0
    found = lrp(Problem(net, black, POSITIVE))
    assert found.values.std() > 0
    torch.testing.assert_close(found.values.sum(), found.difference[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("vgg11_bn", None),
        ("resnet50d", None),
        ("densenet121", None),
        ("plain_cnn", None),
        ("resnet50_gn", "GroupNorm"),
        ("seresnet50", "Sigmoid"),
        ("convnextv2_atto", "GELU, GlobalResponseNorm, LayerNorm2d"),
        ("tf_efficientnetv2_s", "SiLU, Sigmoid"),
    ],
)
def test_the_layers_decide_whether_it_works(name, layers):
    with torch.device("meta"):
        obstacle = without_rules(build_backbone(name, num_outputs=1, channels=1, image_size=64))
    expected = None if layers is None else f"it has layers without a propagation rule: {layers}"
    assert obstacle == expected


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rule": "gamma"}, InvalidParameterError, "'rule' parameter of lrp must be one of 'composite', 'epsilon'"),
        ({"bias": "keep"}, InvalidParameterError, "'bias' parameter of lrp must be one of 'share', 'absorb'"),
        ({"epsilon": 0}, InvalidParameterError, "'epsilon' parameter of lrp must be a number >= 1e-12"),
        ({"gamma": -1.0}, InvalidParameterError, "'gamma' parameter of lrp must be a number >= 0"),
        ({"beta": -0.5}, InvalidParameterError, "'beta' parameter of lrp must be a number >= 0"),
        ({"beta": "1"}, InvalidTypeError, "'beta' parameter of lrp must be a number >= 0"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        lrp(Problem(Tiny().eval(), torch.rand(1, 1, 8, 8), POSITIVE), **options)
