"""Exercise 16: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import math

import numpy as np
import pytest
import torch
from experiment_tests import assert_told, assert_trained_to_full_points
from question_tests import assert_full_points, assert_keeps, ids
from torch import nn
from torch.nn import functional as F

from gencourse.grading.inside import harness
from gencourse.grading.questions.q16_gan_applications import (
    CONVOLUTION,
    CYCLE,
    EXPERIMENT,
    FIELD,
    LAYOUT,
    MATCHING,
    PIX2PIX,
    U_NET,
)

# Right answers by other routes than the reference's.


def field_by_gradients(kernels, strides):
    """Which pixels move a number in the middle: the field, measured."""
    sides = []
    for n in range(1, len(kernels) + 1):
        net = nn.Sequential(*[nn.Conv1d(1, 1, int(k), int(s)) for k, s in zip(kernels[:n], strides[:n], strict=True)])
        for p in net.parameters():
            nn.init.constant_(p, 1.0)
        x = torch.zeros(1, 1, 700, requires_grad=True)
        y = net(x)
        y[0, 0, y.shape[2] // 2].backward()
        sides.append(int((x.grad != 0).sum()))
    return sides


def field_backwards(kernels, strides):
    """From the output down: r = (r - 1) s + k."""
    sides = []
    for n in range(1, len(kernels) + 1):
        side = 1
        for k, s in zip(kernels[:n].flip(0).tolist(), strides[:n].flip(0).tolist(), strict=True):
            side = (side - 1) * s + k
        sides.append(side)
    return np.array(sides)


def u_net_recursive(x, down, up, skip):
    if len(down) == 0:
        return x
    below = u_net_recursive(torch.tanh(down[0] * (x[:, ::2] + x[:, 1::2]) / 2), down[1:], up[1:], skip[1:])
    return up[0] * torch.stack([below, below], 2).flatten(1) + skip[0] * x


def u_net_library(x, down, up, skip):
    maps = [x[:, None].double()]
    for d in down:
        maps.append(torch.tanh(F.avg_pool1d(maps[-1], 2) * d))
    g = maps[-1]
    for level in range(len(down) - 1, -1, -1):
        g = F.interpolate(g, scale_factor=2, mode="nearest") * up[level] + maps[level] * skip[level]
    return g[:, 0]


def pix2pix_library(logits, fake, real, weight):
    rows = []
    for each, a, b in zip(logits, fake, real, strict=True):
        rows.append(F.binary_cross_entropy_with_logits(each, torch.ones_like(each)) + weight * F.l1_loss(a, b))
    return torch.stack(rows)


def pix2pix_logarithm(logits, fake, real, weight):
    game = -torch.log(torch.sigmoid(logits.double())).flatten(1).mean(1)
    return game + weight * abs(fake - real).flatten(1).mean(-1)


def cycle_linear(x, y, A, C, weight):
    def G(v):
        return F.linear(v, A).tanh()

    def back(v):
        return F.linear(v, C).tanh()

    return weight * ((back(G(x)) - x).abs() + (G(back(y)) - y).abs()).mean(-1)


def cycle_loop(x, y, A, C, weight):
    def go(v, W):
        return torch.tanh(torch.mv(W, v))

    return [weight * (F.l1_loss(go(go(a, A), C), a) + F.l1_loss(go(go(b, C), A), b)) for a, b in zip(x, y, strict=True)]


def matching_library(right, wrong, fake):
    def cross_entropy(logit, target):
        return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, target), reduction="none")

    d = cross_entropy(right, 1.0) + (cross_entropy(wrong, 0.0) + cross_entropy(fake, 0.0)) / 2
    return torch.stack((d, cross_entropy(fake, 1.0)))


def matching_logsigmoid(right, wrong, fake):
    s = F.logsigmoid
    return [-s(right) - 0.5 * s(-wrong) - 0.5 * s(-fake), -s(fake)]


def convolution_loop(objects, relations, triples, W_s, W_o):
    inbox = [[] for _ in objects]
    for (s, o), r in zip(triples.int().tolist(), relations, strict=True):
        three = torch.cat([objects[s], r, objects[o]])
        inbox[s].append(torch.relu(W_s @ three))
        inbox[o].append(torch.relu(W_o @ three))
    return torch.stack([torch.stack(box).mean(0) if box else v for box, v in zip(inbox, objects, strict=True)])


def convolution_scatter(objects, relations, triples, W_s, W_o):
    s, o = triples[:, 0].long(), triples[:, 1].long()
    three = torch.hstack([objects[s], relations, objects[o]])
    who, what = torch.cat([s, o]), torch.cat([F.linear(three, W_s), F.linear(three, W_o)]).clamp(min=0)
    index = who[:, None].expand_as(what)
    return objects.clone().scatter_reduce(0, index, what, "mean", include_self=False)


def layout_loop(vectors, boxes, xs, ys):
    found = torch.zeros(vectors.shape[1], len(ys), len(xs))
    for vector, (x0, y0, x1, y1) in zip(vectors, boxes.tolist(), strict=True):
        for i, y in enumerate(ys.tolist()):
            for j, x in enumerate(xs.tolist()):
                if x0 < x < x1 and y0 < y < y1:
                    found[:, i, j] = found[:, i, j] + vector
    return found


def layout_outer(vectors, boxes, xs, ys):
    across = (xs[None] > boxes[:, 0:1]).float() * (xs[None] <= boxes[:, 2:3]).float()
    along = (ys[None] > boxes[:, 1:2]).float() * (ys[None] <= boxes[:, 3:4]).float()
    return (vectors[:, :, None, None] * along[:, None, :, None] * across[:, None, None, :]).sum(0)


@pytest.mark.parametrize(
    ("question", "function"),
    [
        *[(FIELD, function) for function in (field_by_gradients, field_backwards)],
        *[(U_NET, function) for function in (u_net_recursive, u_net_library)],
        *[(PIX2PIX, function) for function in (pix2pix_library, pix2pix_logarithm)],
        *[(CYCLE, function) for function in (cycle_linear, cycle_loop)],
        *[(MATCHING, function) for function in (matching_library, matching_logsigmoid)],
        *[(CONVOLUTION, function) for function in (convolution_loop, convolution_scatter)],
        *[(LAYOUT, function) for function in (layout_loop, layout_outer)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function):
    assert_full_points(question, function, 20)


def test_what_a_mistake_costs():
    assert_keeps(U_NET, "no gradient", 3)
    assert_keeps(MATCHING, "logarithm of a sigmoid", 2)
    assert_keeps(CONVOLUTION, "to the subject only", 0)
    assert_keeps(CYCLE, "wrong way round", 0)


# What the references claim, from first principles.


def of(question, **inputs):
    return harness.run(question.reference, inputs, dtype="float64", twice=False)["value"]


GENERATOR = np.random.default_rng(5)


def test_the_patch_of_the_paper_sees_seventy_pixels():
    """Isola et al. (2017): the 70 x 70 PatchGAN, convolutions of 4 with strides 2, 2, 2, 1, 1."""
    fields = of(FIELD, kernels=np.full(5, 4.0), strides=np.array([2.0, 2, 2, 1, 1]))
    assert fields.tolist() == [4, 10, 22, 46, 70]


def test_a_u_net_whose_way_up_undoes_the_way_down_passes_what_its_skips_let_through():
    x = GENERATOR.standard_normal((3, 8))
    pooled = np.tanh(0.01 * x.reshape(3, 4, 2).mean(2)) / 0.01  # almost linear
    off = x - pooled.repeat(2, 1)
    through = of(U_NET, x=x, down=np.array([0.01]), up=np.array([-100.0]), skip=np.array([1.0]))
    assert np.allclose(through, off, rtol=0, atol=1e-9)  # what the pairs' means do not have
    assert np.allclose(off.reshape(3, 4, 2).mean(2), 0, atol=1e-3)


def test_maps_that_undo_each_other_have_no_cycle_loss_and_need_not_be_the_right_ones():
    x = GENERATOR.uniform(-0.01, 0.01, (4, 3))  # tanh is almost the identity there
    turn = np.linalg.qr(GENERATOR.standard_normal((3, 3)))[0]
    loss = of(CYCLE, x=x, y=x[::-1].copy(), A=turn, C=turn.T, weight=np.array(1.0))
    assert np.abs(loss).max() < 1e-5
    assert np.abs(np.tanh(x @ turn.T) - x).mean() > 1e-3  # and it is no identity


def test_the_best_discriminator_of_captions_knows_both_ratios():
    """Lowering the loss over three kinds of pairs on one outcome: D = p / (p + (q_wrong + q_fake) / 2)."""
    p, wrong, fake = GENERATOR.dirichlet(np.ones(3))
    logits = np.linspace(-6, 6, 4001)
    d = lambda a: of(MATCHING, right=a, wrong=a, fake=a)[0]  # noqa: E731
    zero = np.zeros_like(logits)
    soft = np.logaddexp(0, logits)
    parts = of(MATCHING, right=logits, wrong=zero - 700, fake=zero - 700)[0]  # the right pairs alone
    assert np.allclose(d(logits), parts + soft, rtol=1e-12)
    total = p * parts + (wrong / 2 + fake / 2) * soft
    best = logits[total.argmin()]
    assert best == pytest.approx(math.log(p / ((wrong + fake) / 2)), abs=0.004)


def test_a_step_of_graph_convolution_does_not_depend_on_the_order_of_triples_or_objects():
    inputs = CONVOLUTION.draw(3)["values"]
    inputs = {name: array.astype(float) for name, array in inputs.items()}
    once = of(CONVOLUTION, **inputs)
    order = GENERATOR.permutation(len(inputs["triples"]))
    again = of(CONVOLUTION, **{**inputs, "triples": inputs["triples"][order], "relations": inputs["relations"][order]})
    assert np.allclose(once, again, rtol=0, atol=1e-12)
    names = GENERATOR.permutation(len(once))  # object i is called names[i] now
    objects = np.empty_like(inputs["objects"])
    objects[names] = inputs["objects"]
    renamed = of(CONVOLUTION, **{**inputs, "objects": objects, "triples": names[inputs["triples"].astype(int)]})
    assert np.allclose(renamed[names], once, rtol=0, atol=1e-12)


def test_the_mass_of_a_layout_is_that_of_its_boxes():
    inputs = {name: array.astype(float) for name, array in LAYOUT.draw(1)["values"].items()}
    W, H = np.diff(inputs["xs"]).mean(), np.diff(inputs["ys"]).mean()
    x0, y0, x1, y1 = inputs["boxes"].T
    pixels = np.round((x1 - x0) / W) * np.round((y1 - y0) / H)
    fuzzy = of(LAYOUT, **inputs).sum((1, 2)) - inputs["vectors"].T @ pixels
    assert np.abs(fuzzy).max() <= np.abs(inputs["vectors"]).sum() * (len(inputs["xs"]) + len(inputs["ys"]))
    count = of(LAYOUT, **{**inputs, "vectors": np.ones((len(x0), 1))})[0]
    assert count.max() > 1  # boxes overlap, and both count
    assert set(np.unique(count)) <= set(range(len(x0) + 1))


# 16.8: other networks, other optimisers, no network.


def network(activation=nn.Tanh, hidden=(24,), steps=700, lr=0.02, optimiser=torch.optim.Adam):
    def fit(x, y, at):
        torch.manual_seed(0)
        layers, width = [], 1
        for size in hidden:
            layers, width = [*layers, nn.Linear(width, size), activation()], size
        net = nn.Sequential(*layers, nn.Linear(width, 1))
        trainer = optimiser(net.parameters(), lr=lr)
        for step in range(steps):
            trainer.param_groups[0]["lr"] = lr * (1 - step / steps)
            trainer.zero_grad()
            F.l1_loss(net(x[:, None])[:, 0], y).backward()
            trainer.step()
        return net(at[:, None])[:, 0].detach()

    return fit


def running_median(x, y, at):
    order = x.argsort()
    x, y = x[order], y[order]
    middle = torch.searchsorted(x, at).clamp(40, len(x) - 40)
    return torch.stack([y[m - 40 : m + 40].median() for m in middle])


@pytest.mark.parametrize(
    "fit",
    [
        EXPERIMENT.reference,
        network(),
        pytest.param(network(nn.ReLU, (64, 64), lr=0.005, optimiser=torch.optim.AdamW), id="ReLU, deep, AdamW"),
        pytest.param(network(nn.SiLU, (48,), lr=0.01, optimiser=torch.optim.RMSprop), id="SiLU, RMSprop"),
        running_median,
    ],
    **ids,
)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(2))


def test_what_is_wrong_with_a_median_is_told():
    for name in ("squared error", "one number for all", "out of order"):
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], name, range(3))
    for name in ("straight line", "nearest point", "few steps", "small learning rate", "a high quantile"):
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], None, [0])


def test_the_median_that_is_asked_for_is_that_of_the_data():
    (inputs,) = EXPERIMENT.draw(7).values()
    below = []
    for place, median in zip(inputs["at"], inputs["_median"], strict=True):
        near = np.abs(inputs["x"] - place) < 0.1
        below.append((inputs["y"][near] < median).mean())
    assert np.mean(below) == pytest.approx(0.5, abs=0.03)
    assert (inputs["_mean"] > inputs["_median"] + 0.1).all()
