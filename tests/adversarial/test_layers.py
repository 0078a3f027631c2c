"""Each layer is its paper's formula, computed a second time by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gencourse.adversarial.layers import (
    ConditionalBatchNorm2d,
    Equalised,
    MinibatchStd,
    PixelNorm,
    ProjectionHead,
    SelfAttention,
    SpectralNorm,
    measure_batch_norm,
    power_iteration,
)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(layer):
    """A layer made with seed 0, in double precision."""
    torch.manual_seed(0)
    return layer().double()


# --- conditional batch norm -------------------------------------------------------------------------------------------


def test_each_class_scales_and_shifts_what_is_normalised_over_all():
    layer = make(lambda: ConditionalBatchNorm2d(3, 2))
    nn.init.normal_(layer.gain.weight), nn.init.normal_(layer.offset.weight)
    y, labels = numbers(6, 3, 4, 5), torch.tensor([0, 1, 1, 0, 1, 1])
    out = layer(y, F.one_hot(labels, 2).double())
    for c in range(3):
        pixels = y[:, c]
        normal = (pixels - pixels.mean()) / (pixels.var(unbiased=False) + 1e-5).sqrt()  # of both classes together
        for label in (0, 1):
            gain, offset = 1 + layer.gain.weight[c, label], layer.offset.weight[c, label]
            torch.testing.assert_close(out[labels == label, c], gain * normal[labels == label] + offset)


def test_it_begins_near_plain_batch_norm_and_has_no_scale_of_its_own():
    layer = make(lambda: ConditionalBatchNorm2d(8, 4))
    y, condition = 3 + 2 * numbers(50, 8, 3, 3), numbers(50, 4)
    assert (layer(y, 0 * condition) - F.batch_norm(y, None, None, training=True)).abs().max() < 1e-12
    assert layer(y, condition).std().item() == pytest.approx(1, abs=0.1)
    assert list(layer.norm.parameters()) == []


def test_measured_statistics_are_those_of_all_batches_together():
    network = make(lambda: nn.Sequential(nn.Identity(), nn.BatchNorm2d(2)))
    network.eval()[1].running_mean.fill_(50.0)
    y = 4 + 3 * numbers(40, 2, 3, 3)
    measure_batch_norm(network, [(part,) for part in y.split(10)])
    norm = network[1]
    torch.testing.assert_close(norm.running_mean, y.mean((0, 2, 3)))
    parts = torch.stack([part.var((0, 2, 3)) for part in y.split(10)])  # of each batch: unbiased, about its own mean
    torch.testing.assert_close(norm.running_var, parts.mean(0))
    assert (norm.momentum, norm.training) == (0.1, False)


def test_a_measurement_that_fails_leaves_the_modes():
    network = make(lambda: nn.Sequential(nn.BatchNorm2d(2)))
    network.eval()
    with pytest.raises(RuntimeError):
        measure_batch_norm(network, [(torch.zeros(2, 3, 1, 1).double(),)])
    assert (network[0].momentum, network[0].training) == (0.1, False)


# --- spectral norm ----------------------------------------------------------------------------------------------------

LAYERS = {
    "linear": lambda: nn.Linear(7, 5),
    "convolution": lambda: nn.Conv2d(3, 6, 3, padding=1),
    "strided": lambda: nn.Conv2d(3, 4, 4, stride=2, padding=1),
    "one output": lambda: nn.Linear(9, 1),
}


@pytest.mark.parametrize("make_layer", LAYERS.values(), ids=LAYERS)
def test_the_largest_singular_value_is_one_once_the_iteration_has_converged(make_layer):
    layer = make(lambda: SpectralNorm(make_layer()))
    for _ in range(500):
        layer.sigma()
    matrix = layer.layer.weight.detach().flatten(1)
    assert layer.sigma().item() == pytest.approx(torch.linalg.svdvals(matrix)[0].item(), rel=1e-9)
    assert torch.linalg.svdvals(layer.weight().detach().flatten(1))[0].item() == pytest.approx(1, abs=1e-9)


def test_the_estimate_climbs_to_the_singular_value_at_the_rate_of_the_next():
    """The tangent of the angle shrinks by (s2/s1)^2 each step, and what is missing of sigma goes with its square."""
    u, s = numbers(3), torch.tensor([3.0, 2.0, 0.5], dtype=torch.float64)
    matrix, estimates = torch.diag(s), []
    for _ in range(10):
        u, v = power_iteration(matrix, u)
        estimates.append((u @ matrix @ v).item())
        assert u.norm().item() == pytest.approx(1) and v.norm().item() == pytest.approx(1)
    assert estimates == sorted(estimates) and estimates[-1] <= 3 + 1e-15
    missing = 3 - torch.tensor(estimates[5:], dtype=torch.float64)
    torch.testing.assert_close(missing[1:] / missing[:-1], torch.full_like(missing[1:], (2 / 3) ** 4), rtol=1e-3, atol=0)


def test_the_gradient_of_sigma_is_the_outer_product_of_the_singular_vectors():
    layer = make(lambda: SpectralNorm(nn.Linear(4, 3)))
    for _ in range(500):
        layer.sigma()
    left, _, right = torch.linalg.svd(layer.layer.weight.detach())
    (gradient,) = torch.autograd.grad(layer.sigma(), layer.layer.weight)
    torch.testing.assert_close(gradient, torch.outer(left[:, 0], right[0]))


def test_the_slope_of_a_linear_layer_is_at_most_one_and_of_a_convolution_at_most_its_kernel():
    x, y = numbers(100, 7), numbers(100, 7, seed=1)
    layer = make(lambda: SpectralNorm(nn.Linear(7, 5)))
    for _ in range(100):
        layer.sigma()
    assert ((layer(x) - layer(y)).norm(dim=1) <= (x - y).norm(dim=1) * (1 + 1e-9)).all()
    convolution = make(lambda: SpectralNorm(nn.Conv2d(1, 4, 3, padding=1))).eval()
    nn.init.ones_(convolution.layer.weight)  # a kernel that adds up: the worst case
    jacobian = torch.autograd.functional.jacobian(lambda v: convolution(v[None]).flatten(), numbers(1, 12, 12))
    assert 1.5 < torch.linalg.svdvals(jacobian.flatten(1))[0] <= 3


def test_u_moves_in_training_alone_and_two_calls_before_the_gradient_are_no_mistake():
    layer = make(lambda: SpectralNorm(nn.Linear(4, 3)))
    layer.layer.weight.data = numbers(3, 4, seed=5)
    before = layer.u.clone()
    layer.eval()(numbers(2, 4))
    assert torch.equal(layer.u, before)
    out = layer.train()(numbers(2, 4)).sum() + layer(numbers(2, 4, seed=1)).sum()
    assert not torch.equal(layer.u, before)
    gradient = torch.autograd.grad(out, layer.layer.weight)[0]
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    assert "u" in layer.state_dict()  # the iteration goes on after a kill


# --- projection -------------------------------------------------------------------------------------------------------


def test_two_classes_logits_differ_linearly_in_the_features_and_in_the_embedding():
    head = make(lambda: ProjectionHead(6, 3))
    h, one_hot = numbers(10, 6), torch.eye(3).double()
    difference = head(h, one_hot[[1]].expand(10, -1)) - head(h, one_hot[[2]].expand(10, -1))
    vectors = head.embed.weight  # (6, 3)
    torch.testing.assert_close(difference, h @ (vectors[:, 1] - vectors[:, 2]))
    with torch.no_grad():
        vectors.mul_(2)
    torch.testing.assert_close(head(h, one_hot[[1]].expand(10, -1)) - head(h, one_hot[[2]].expand(10, -1)), 2 * difference)


def test_the_projection_is_the_optimal_discriminator_where_class_log_odds_are_linear():
    """A world of 7 images and 3 classes: p(c|x) and q(c|x) are softmaxes of linear maps of features r(x).

    The optimal logit is log p(x, c) / q(x, c) = log p(c|x)/q(c|x) + log p(x)/q(x) = <v_c - w_c, r(x)> + something of x alone.
    """
    r, v, w = numbers(7, 2), numbers(2, 3, seed=1), numbers(2, 3, seed=2)
    p_x, q_x = torch.softmax(numbers(7, seed=3), 0), torch.softmax(numbers(7, seed=4), 0)
    p = p_x[:, None] * torch.softmax(r @ v, 1)  # (7, 3), joint
    q = q_x[:, None] * torch.softmax(r @ w, 1)
    best = (p / q).log()
    of_x = p_x.log() - q_x.log() - torch.logsumexp(r @ v, 1) + torch.logsumexp(r @ w, 1)
    torch.testing.assert_close(best, r @ (v - w) + of_x[:, None])
    # the head says exactly that, with features that tell images apart for psi, and r for the classes
    head = make(lambda: ProjectionHead(9, 3))
    with torch.no_grad():
        head.psi.weight.copy_(torch.cat([of_x, torch.zeros(2)])), head.psi.bias.zero_()
        head.embed.weight.copy_(torch.cat([torch.zeros(7, 3), v - w]))
    h = torch.cat([torch.eye(7), r], dim=1).double()
    logits = torch.stack([head(h, torch.eye(3)[[c]].expand(7, -1).double()) for c in range(3)], dim=1)
    torch.testing.assert_close(logits, best)
    loss = (-p * F.logsigmoid(logits) - q * F.logsigmoid(-logits)).sum()  # and no step improves on it
    for gradient in torch.autograd.grad(loss, head.parameters()):
        assert gradient.abs().max() < 1e-12


# --- attention --------------------------------------------------------------------------------------------------------


def test_attention_begins_as_the_identity_and_is_a_mean_over_places():
    layer = make(lambda: SelfAttention(16))
    y = numbers(2, 16, 4, 6)
    assert torch.equal(layer(y), y)
    weights = layer.weights(y)
    assert weights.shape == (2, 24, 6)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 24).double())
    layer.gamma.data.fill_(0.7)
    query, key, value = layer.query(y), F.max_pool2d(layer.key(y), 2), F.max_pool2d(layer.value(y), 2)
    i, j = 2, 5  # one place of the second image, by hand
    scores = torch.stack([query[1, :, i, j] @ key[1, :, a, b] for a in range(2) for b in range(3)])
    parts = torch.stack([value[1, :, a, b] for a in range(2) for b in range(3)])
    attended = layer.out((scores.softmax(0)[:, None] * parts).sum(0)[None, :, None, None])[0, :, 0, 0]
    torch.testing.assert_close(layer(y)[1, :, i, j], y[1, :, i, j] + 0.7 * attended)


# --- the tricks of growing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "fan_in"), [(lambda: nn.Linear(200, 300), 200), (lambda: nn.Conv2d(20, 300, 3), 180)])
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
def test_an_equalised_weight_is_normal_and_in_use_has_the_spread_of_its_fan_in(layer, fan_in, gain):
    equalised = make(lambda: Equalised(layer(), gain))
    stored, used = equalised.layer.weight.detach(), equalised.weight().detach()
    error = 5 / math.sqrt(2 * stored.numel())  # five standard errors of a standard deviation
    assert stored.std().item() == pytest.approx(1, rel=error)
    assert used.std().item() == pytest.approx(gain / math.sqrt(fan_in), rel=error)
    assert not equalised.layer.bias.any()


def test_adam_moves_equalised_weights_by_the_rate_times_their_scale():
    equalised = make(lambda: Equalised(nn.Linear(50, 3)))
    before = equalised.weight().detach()
    optimizer = torch.optim.Adam(equalised.parameters(), lr=1e-3)
    equalised(numbers(4, 50)).square().sum().backward()
    optimizer.step()
    moved = (equalised.weight().detach() - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 1e-3 * math.sqrt(2 / 50)), rtol=1e-4, atol=0)


def test_pixel_norm_leaves_directions_and_a_mean_square_of_one():
    y = 5 * numbers(3, 6, 4, 4)
    out = PixelNorm()(y)
    torch.testing.assert_close(out.square().mean(1), torch.ones(3, 4, 4).double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(F.cosine_similarity(out, y), torch.ones(3, 4, 4).double())
    torch.testing.assert_close(PixelNorm()(3 * y), out, rtol=1e-6, atol=1e-7)
    assert torch.isfinite(PixelNorm()(0 * y)).all()


def test_the_minibatch_deviation_is_that_of_each_group_by_hand():
    y = numbers(8, 3, 2, 2)
    out = MinibatchStd(4)(y)
    assert out.shape == (8, 4, 2, 2) and torch.equal(out[:, :3], y)
    for first in (0, 1):  # images 0, 2, 4, 6 and 1, 3, 5, 7
        members = y[first::2]
        expected = (members.var(0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(out[first::2, 3], expected.expand(4, 2, 2))


@pytest.mark.parametrize("n", [1, 4, 5, 6])
def test_of_images_that_are_alike_the_deviation_is_the_root_of_epsilon(n):
    y = numbers(1, 3, 2, 2).expand(n, -1, -1, -1).clone().requires_grad_()
    out = MinibatchStd(4)(y)
    torch.testing.assert_close(out[:, 3], torch.full((n, 2, 2), 1e-4).double(), rtol=1e-6, atol=0)
    assert torch.isfinite(torch.autograd.grad(out.sum(), y)[0]).all()  # a bare root would have none
