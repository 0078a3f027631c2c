"""Exercise 14: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from experiment_tests import (
    assert_mistakes_are_told,
    assert_told,
    assert_trained_to_full_points,
)
from question_tests import (
    assert_full_points,
    assert_keeps,
    ids,
    result,
)
from torch import nn

from gencourse.adversarial import latent
from gencourse.grading.questions.q14_dcgan import ANALOGY, EXPERIMENT, SIZES, SLERP, TRANSPOSED

# Right answers by other routes than the reference's.


def sizes_by_building(n, kernel, stride, padding, transposed):
    sizes = []
    for row in zip(n, kernel, stride, padding, transposed, strict=True):
        side, k, s, p, up = (int(v) for v in row)
        layer = (nn.ConvTranspose1d if up else nn.Conv1d)(1, 1, k, stride=s, padding=p)
        sizes.append(layer(torch.zeros(1, 1, side)).shape[-1])
    return sizes


def sizes_by_counting(n, kernel, stride, padding, transposed):
    sizes = []
    for side, k, s, p, up in torch.stack([n, kernel, stride, padding, transposed], 1).long().tolist():
        if up:
            sizes.append(max(i * s + j for i in range(side) for j in range(k)) + 1 - 2 * p)
        else:
            sizes.append(sum(start % s == 0 for start in range(side + 2 * p - k + 1)))
    return torch.tensor(sizes)


def transposed_by_stamps(y, w, stride, padding):
    s, p, k = int(stride), int(padding), w.shape[-1]
    batch, _, height, width = y.shape
    out = torch.zeros(batch, w.shape[1], (height - 1) * s + k, (width - 1) * s + k)
    for i in range(height):
        for j in range(width):
            out[:, :, i * s : i * s + k, j * s : j * s + k] += torch.einsum("bc,cdkl->bdkl", y[:, :, i, j], w)
    return out[:, :, p : out.shape[2] - p, p : out.shape[3] - p]


def transposed_by_zeros(y, w, stride, padding):
    s, p, k = int(stride), int(padding), w.shape[-1]
    batch, channels, height, width = y.shape
    spread = torch.zeros(batch, channels, (height - 1) * s + 1, (width - 1) * s + 1)
    spread[:, :, ::s, ::s] = y
    return F.conv2d(F.pad(spread, [k - 1 - p] * 4), w.flip(2, 3).transpose(0, 1))


def transposed_by_autograd(y, w, stride, padding):
    """The vector-Jacobian product of the convolution."""
    s, p, k = int(stride), int(padding), w.shape[-1]
    x = torch.zeros(len(y), w.shape[1], *((side - 1) * s - 2 * p + k for side in y.shape[2:]), requires_grad=True)
    (gradient,) = torch.autograd.grad(F.conv2d(x, w, stride=s, padding=p), x, y, create_graph=True)
    return gradient


def slerp_by_arccos(z0, z1, t):
    r0, r1, t = z0.norm(dim=1, keepdim=True), z1.norm(dim=1, keepdim=True), t[:, None]
    cosine = ((z0 / r0) * (z1 / r1)).sum(1, keepdim=True).clamp(-1, 1)
    w = torch.arccos(cosine).clamp(min=1e-4)
    direction = (torch.sin((1 - t) * w) * z0 / r0 + torch.sin(t * w) * z1 / r1) / torch.sin(w)
    return ((1 - t) * r0 + t * r1) * direction


def slerp_by_turning(z0, z1, t):
    """In the plane of the two: start at z0 and turn towards the part of z1 that is orthogonal to it."""
    out = []
    for a, b, s in zip(z0.double(), z1.double(), t.double(), strict=True):
        u = a / a.norm()
        rest = b - (b @ u) * u
        across = rest / rest.norm() if rest.norm() > 1e-6 * b.norm() else torch.zeros_like(b)
        w = torch.atan2(rest.norm(), b @ u)
        out.append(((1 - s) * a.norm() + s * b.norm()) * (torch.cos(s * w) * u + torch.sin(s * w) * across))
    return torch.stack(out)


def slerp_library(z0, z1, t):
    return latent.slerp(z0, z1, t[:, None])


def analogy_by_matrix(z, group):
    weights = sum(sign * (group == i) / (group == i).sum() for i, sign in enumerate((1, -1, 1)))
    v = weights @ z
    return v / (v**2).mean().sqrt()


def analogy_library(z, group):
    return latent.to_shell(latent.analogy(*(z[group == i] for i in range(3))))


def analogy_loop(z, group):
    total = torch.zeros(z.shape[1], dtype=torch.float64)
    for i, sign in enumerate((1, -1, 1)):
        rows = [row.double() for row, g in zip(z, group, strict=True) if g == i]
        total = total + sign * sum(rows) / len(rows)
    return total / total.norm() * np.sqrt(z.shape[1])


@pytest.mark.parametrize(
    ("question", "function", "seeds"),
    [
        (SIZES, sizes_by_building, 3),
        (SIZES, sizes_by_counting, 20),
        *[(TRANSPOSED, function, 20) for function in (transposed_by_stamps, transposed_by_zeros, transposed_by_autograd)],
        *[(SLERP, function, 20) for function in (slerp_by_arccos, slerp_library)],
        (SLERP, slerp_by_turning, 20),
        *[(ANALOGY, function, 20) for function in (analogy_by_matrix, analogy_library, analogy_loop)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function, seeds):
    assert_full_points(question, function, seeds)


@pytest.mark.parametrize(
    ("question", "name", "points"),
    [
        (SIZES, "rounded up", 1),
        (SIZES, "transpose padded", 1),
        (TRANSPOSED, "padding ignored", 2),
        (TRANSPOSED, "stride ignored", 1),
        (TRANSPOSED, "mean over channels", 3),
        (SLERP, "length not even", 3),
    ],
    **ids,
)
def test_a_mistake_costs_only_the_parts_that_it_touches(question, name, points):
    assert_keeps(question, name, points)


def test_values_without_a_gradient_keep_their_points():
    def with_numpy(z, group):
        return analogy_by_matrix(z.detach(), group)

    assert result(ANALOGY, with_numpy, 0).points == 2
    assert "no gradient arrives" in result(ANALOGY, with_numpy, 0).sentence


def test_the_transposed_convolution_is_the_transpose():
    """<conv(x), y> = <x, conv_transpose(y)> for the reference, in float64."""
    generator = torch.Generator().manual_seed(0)
    y, w = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((2, 3, 4, 4), (3, 2, 4, 4)))
    up = TRANSPOSED.reference(y, w, torch.tensor(2.0), torch.tensor(1.0))
    x = torch.randn(up.shape, generator=generator, dtype=torch.float64)
    assert (F.conv2d(x, w, stride=2, padding=1) * y).sum().item() == pytest.approx((x * up).sum().item(), abs=1e-10)


def test_the_walk_has_even_length_and_speed():
    z0, z1 = torch.tensor([[3.0, 0.0, 0.0]]).double(), torch.tensor([[-1.0, 1.0, 0.5]]).double()
    t = torch.linspace(0, 1, 11).double()
    path = SLERP.reference(z0.expand(11, 3), z1.expand(11, 3), t)
    assert torch.allclose(path.norm(dim=1), (1 - t) * z0.norm() + t * z1.norm())
    steps = torch.cosine_similarity(path[1:], path[:-1], dim=1).arccos()
    assert torch.allclose(steps, steps[0].expand(10))
    assert torch.allclose(path[0], z0[0]) and torch.allclose(path[-1], z1[0])


def test_one_equal_pair_is_no_excuse_for_the_others():
    """A guard on the whole batch once had full points, as long as all pairs of the batch were equal."""

    def guard(join):
        def slerp(z0, z1, t):
            parallel = join(torch.cosine_similarity(z0, z1, dim=1) > 0.9995)
            return z0 + t[:, None] * (z1 - z0) if parallel else slerp_by_arccos(z0, z1, t)

        return slerp

    assert all(result(SLERP, guard(torch.any), seed).points == 3 for seed in range(20))

    def without_guard(z0, z1, t):
        w = torch.arccos(torch.cosine_similarity(z0, z1, dim=1))[:, None]
        r0, r1 = z0.norm(dim=1, keepdim=True), z1.norm(dim=1, keepdim=True)
        t = t[:, None]
        line = (((1 - t) * w).sin() * z0 / r0 + (t * w).sin() * z1 / r1) / w.sin()
        return ((1 - t) * r0 + t * r1) * line

    assert all(result(SLERP, without_guard, seed).points == 3 for seed in range(40)), "0 / 0 on every draw, or on none"


# 14.5: a convex loss, so all ways that go on long enough end in the same place.


def upsampler_least_squares(small, large):
    stamps = torch.eye(16).reshape(16, 1, 1, 4, 4)
    columns = [F.conv_transpose2d(small[:, None], stamp, stride=2, padding=1).flatten() for stamp in stamps]
    return torch.linalg.lstsq(torch.stack(columns, 1), large.flatten()[:, None]).solution.reshape(4, 4)


def upsampler_by(
    steps=300,
    lr=0.02,
    optimizer=torch.optim.Adam,
    padding=1,
    pairs=lambda small, large: (small, large),
    loss=F.mse_loss,
    start=0.0,
):
    def fit(small, large):
        small, large = pairs(small, large)
        kernel = (start * torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))).requires_grad_()
        descent = optimizer([kernel], lr=lr)
        for _ in range(steps):
            made = F.conv_transpose2d(small[:, None], kernel, stride=2, padding=padding)[:, 0, : large.shape[1], : large.shape[2]]
            descent.zero_grad()
            loss(made, large).backward()
            descent.step()
        return kernel[0, 0]

    return fit


upsampler_sgd = upsampler_by(steps=400, lr=0.3, optimizer=torch.optim.SGD)


@pytest.mark.parametrize("fit", [EXPERIMENT.reference, upsampler_least_squares, upsampler_sgd], **ids)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(5))


def test_a_mistake_of_training_is_named_where_its_numbers_show_it():
    assert_mistakes_are_told(EXPERIMENT, range(5))
    for fit, name in (
        (upsampler_by(padding=0), "shifted by a pixel"),
        (upsampler_by(pairs=lambda small, large: (small, large.flip(1))), "mirrored images"),
        (upsampler_by(pairs=lambda small, large: (small.roll(3, 0), large)), "pairs out of order"),
        (upsampler_by(steps=1, lr=0.5, optimizer=torch.optim.SGD), "one step"),
        (upsampler_by(steps=50, lr=0.001), "small learning rate"),
        (upsampler_by(pairs=lambda small, large: (small, large.flip(0))), None),  # a small kernel, but no small steps
        (upsampler_by(steps=20), None),
        (upsampler_by(steps=20, start=0.3), None),
        (lambda small, large: upsampler_by()(small, large) / 2, None),
        (lambda small, large: torch.randn(4, 4, generator=torch.Generator().manual_seed(0)), None),
    ):
        assert_told(EXPERIMENT, fit, name, range(3))


def test_the_error_on_unseen_images_is_zero_at_the_true_kernel_and_a_hundred_at_none():
    (inputs,) = EXPERIMENT.draw(0).values()
    statistic, true = EXPERIMENT.checks[0].measure.statistic, inputs["_kernel"].astype(float)
    assert statistic(inputs, true) == 0
    assert statistic(inputs, 0 * true) == 100
    # The unseen images are there as products of features alone: on the others the same products are the mean squared error.
    y, other = torch.tensor(inputs["small"]).double(), torch.tensor(true).flip(1).double()
    made = [F.conv_transpose2d(y[:, None], w[None, None], stride=2, padding=1) for w in (other, torch.tensor(true))]
    assert statistic({**inputs, "_unseen": inputs["_squares"]}, other.numpy()) == pytest.approx(
        100 * F.mse_loss(*made).item() / (made[1] ** 2).mean().item(), rel=1e-5
    )
    assert not np.allclose(inputs["_unseen"], inputs["_squares"], rtol=0.1)
