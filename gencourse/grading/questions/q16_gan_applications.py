"""Exercise 16, applications of GANs: patches, a U-Net, pix2pix's loss, cycles, captions, scene graphs and layouts.

Sizes: B examples, L layers, N points or objects, T triples, D numbers a vector, images of H x W pixels, patches of h x w logits.
Networks are small and given by their weights, so that all inputs are numbers.

Tolerances: over 200 seeds the reference in float32 is within 2e-6 of `1 + |right answer|`, gradients included; the tolerances
are ten times that and more, and each mistake loses points on every seed.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from gencourse.grading.questions import Check, Inputs, Measure, Question, told
from gencourse.grading.questions.training import trained

# --- 16.1 the receptive field -----------------------------------------------------------------------------------------


def _layers(rng: np.random.Generator, L: int) -> dict:
    """Kernels and strides in an order that is not its own reverse; the strides that count are 1, 2 and 3."""
    while True:
        kernels, strides = rng.choice([3, 4, 5, 7], L), rng.choice([1, 2, 3], L)
        if len(set(strides[:-1])) == 3 and strides[0] > 1 and strides[0] != strides[-1] and kernels[0] != kernels[-1]:
            return {"kernels": kernels, "strides": strides}


def _field_of(
    jump: Callable = lambda s: torch.cat([torch.ones_like(s[:1]), s.cumprod(0)[:-1]]),
    grows: Callable = lambda k: k - 1,
    start: float = 1.0,
) -> Callable:
    """The receptive field layer by layer, one part of the sum replaced."""
    return lambda kernels, strides: start + (grows(kernels) * jump(strides)).cumsum(0)


_field = _field_of()

FIELD = Question(
    id="16.1",
    title="What a patch sees",
    function="receptive_fields",
    returns="(L,)",
    reference=_field,
    example={"kernels": [4, 4, 3], "strides": [2, 2, 1]},
    checks=(Check("values", 3, lambda rng: _layers(rng, L=5)),),
    mistakes={
        "own stride counted": _field_of(jump=lambda s: s.cumprod(0)),
        "strides ignored": _field_of(jump=torch.ones_like),
        "only the layer before": _field_of(jump=lambda s: torch.cat([torch.ones_like(s[:1]), s[:-1]])),
        "strides added": _field_of(jump=lambda s: torch.cat([torch.ones_like(s[:1]), s.cumsum(0)[:-1]])),
        "whole kernel": _field_of(grows=lambda k: k),
        "from zero": _field_of(start=0.0),
        "last layer first": lambda kernels, strides: _field(kernels.flip(0), strides.flip(0)),
        "from the output": lambda kernels, strides: _field(kernels.flip(0), strides.flip(0)).flip(0),
        "last only": lambda kernels, strides: _field(kernels, strides)[-1],
        "area": lambda kernels, strides: _field(kernels, strides) ** 2,
        "size of the map": lambda kernels, strides: strides.cumprod(0) + 0 * kernels,
    },
    harmless={"strides from another draw": "another draw may have the same strides"},
)

# --- 16.2 a U-Net -----------------------------------------------------------------------------------------------------


def _signals(rng: np.random.Generator, B: int, L: int) -> dict:
    """Signals of 3 * 2^L numbers, and three numbers a level, none near another or 0."""
    down, up, skip = (rng.choice([-1, 1], L) * rng.permutation(np.linspace(0.6, 1.5, L)) for _ in range(3))
    return {"x": rng.normal(0, 1.3, (B, 3 * 2**L)), "down": down, "up": up, "skip": skip}


def _pair_means(h: Tensor) -> Tensor:
    return h.unflatten(1, (-1, 2)).mean(2)


def _twice(g: Tensor) -> Tensor:
    return g.repeat_interleave(2, dim=1)


def _u_net_of(
    halve: Callable = _pair_means,
    double: Callable = _twice,
    squash: Callable = torch.tanh,
    carried: Callable = lambda maps, level: maps[level],
    climb: Callable = lambda up, level: up[level],
    mixed: Callable = lambda a, b: a + b,
    last: Callable = lambda g: g,
) -> Callable:
    """The U-Net, one part replaced."""

    def u_net(x: Tensor, down: Tensor, up: Tensor, skip: Tensor) -> Tensor:
        maps = [x]
        for weight in down:
            maps.append(squash(weight * halve(maps[-1])))
        g = maps[-1]
        for level in reversed(range(len(down))):
            g = mixed(climb(up, level) * double(g), skip[level] * carried(maps, level))
        return last(g)

    return u_net


_u_net = _u_net_of()


def _tanh_on_the_way_up(x: Tensor, down: Tensor, up: Tensor, skip: Tensor) -> Tensor:
    return _u_net_of(mixed=lambda a, b: torch.tanh(a + b))(x, down, up, skip)


def _interpolated(g: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(g[:, None], scale_factor=2, mode="linear", align_corners=False)[:, 0]


def _before_squashing(x: Tensor, down: Tensor, up: Tensor, skip: Tensor) -> Tensor:
    maps, raw = [x], [x]
    for weight in down:
        raw.append(weight * _pair_means(maps[-1]))
        maps.append(raw[-1].tanh())
    g = maps[-1]
    for level in reversed(range(len(down))):
        g = up[level] * _twice(g) + skip[level] * raw[level]
    return g


U_NET = Question(
    id="16.2",
    title="Down, across and up",
    function="u_net",
    returns="(B, N)",
    reference=_u_net,
    example={"x": [[1.0, 3.0, -1.0, 1.0]], "down": [1.0, 0.5], "up": [1.0, 2.0], "skip": [0.5, -1.0]},
    checks=(
        Check("values", 3, lambda rng: _signals(rng, B=4, L=3)),
        Check("gradients", 1, lambda rng: _signals(rng, B=3, L=2), ("down", "up", "skip")),
    ),
    mistakes={
        "no skips": _u_net_of(mixed=lambda a, b: a + 0 * b),
        "skips only": _u_net_of(mixed=lambda a, b: 0 * a + b),
        "input at every level": _u_net_of(carried=lambda maps, level: maps[0][:, :: 2**level]),
        "copied end to end": _u_net_of(double=lambda g: torch.cat([g, g], 1)),
        "interpolated": _u_net_of(double=_interpolated),
        "every second number": _u_net_of(halve=lambda h: h[:, ::2]),
        "largest of a pair": _u_net_of(halve=lambda h: h.unflatten(1, (-1, 2)).amax(2)),
        "sum of a pair": _u_net_of(halve=lambda h: h.unflatten(1, (-1, 2)).sum(2)),
        "no tanh": _u_net_of(squash=lambda h: h),
        "ReLU": _u_net_of(squash=relu),
        "tanh on the way up": _tanh_on_the_way_up,
        "skip before tanh": _before_squashing,
        "weights up in the other order": _u_net_of(climb=lambda up, level: up[len(up) - 1 - level]),
        "skips in the other order": lambda x, down, up, skip: _u_net(x, down, up, skip.flip(0)),
        "multiplied": _u_net_of(mixed=lambda a, b: a * b),
        "no gradient": lambda x, down, up, skip: _u_net_of(carried=lambda maps, level: maps[level].detach())(x, down, up, skip),
    },
)

# --- 16.3 pix2pix's loss ----------------------------------------------------------------------------------------------


def _patches(rng: np.random.Generator, B: int, h: int, w: int, C: int, H: int, W: int) -> dict:
    """Patch logits of either sign, pictures in [-1, 1], a weight that is not 1."""
    return {
        "logits": rng.normal(0.3, 1.5, (B, h, w)),
        "fake": rng.uniform(-1, 1, (B, C, H, W)),
        "real": rng.uniform(-1, 1, (B, C, H, W)) * rng.uniform(0.3, 1, (B, 1, 1, 1)),
        "weight": float(rng.choice([3.0, 4.0, 5.0])),
    }


def _pix2pix_of(
    game: Callable = lambda logits: softplus(-logits),
    over: Callable = lambda each: each.mean((1, 2)),
    off: Callable = lambda fake, real: (fake - real).abs().mean((1, 2, 3)),
    mix: Callable = lambda game, off, weight: game + weight * off,
) -> Callable:
    """The generator's loss, one part replaced."""
    return lambda logits, fake, real, weight: mix(over(game(logits)), off(fake, real), weight)


_pix2pix = _pix2pix_of()

PIX2PIX = Question(
    id="16.3",
    title="What the translator lowers",
    function="translation_loss",
    returns="(B,)",
    reference=_pix2pix,
    example={"logits": [[[0.0, 2.0]]], "fake": [[[[0.5, -0.5]]]], "real": [[[[1.0, 0.0]]]], "weight": 10.0},
    checks=(
        Check("values", 2, lambda rng: _patches(rng, B=5, h=2, w=3, C=3, H=4, W=2)),
        Check("gradients", 1, lambda rng: _patches(rng, B=3, h=3, w=2, C=2, H=3, W=4), ("logits", "fake")),
    ),
    mistakes={
        "minimax": _pix2pix_of(game=lambda logits: -softplus(logits)),
        "the discriminator's side": _pix2pix_of(game=softplus),
        "logits for a loss": _pix2pix_of(game=lambda logits: -logits),
        "probability": _pix2pix_of(game=lambda logits: -logits.sigmoid()),
        "least squares": _pix2pix_of(game=lambda logits: (logits - 1) ** 2),
        "sum over the patches": _pix2pix_of(over=lambda each: each.sum((1, 2))),
        "one verdict from the mean logit": lambda logits, *rest: _pix2pix(logits.mean((1, 2), keepdim=True), *rest),
        "worst patch": _pix2pix_of(over=lambda each: each.amax((1, 2))),
        "squared error": _pix2pix_of(off=lambda fake, real: ((fake - real) ** 2).mean((1, 2, 3))),
        "sum over the pixels": _pix2pix_of(off=lambda fake, real: (fake - real).abs().sum((1, 2, 3))),
        "no absolute value": _pix2pix_of(off=lambda fake, real: (fake - real).mean((1, 2, 3))),
        "size of the fake": _pix2pix_of(off=lambda fake, real: fake.abs().mean((1, 2, 3))),
        "weight on the game": _pix2pix_of(mix=lambda game, off, weight: weight * game + off),
        "weight on both": _pix2pix_of(mix=lambda game, off, weight: weight * (game + off)),
        "no weight": _pix2pix_of(mix=lambda game, off, weight: game + off),
        "no game": _pix2pix_of(mix=lambda game, off, weight: 0 * game + weight * off),
        "game alone": _pix2pix_of(mix=lambda game, off, weight: game + 0 * off),
        "mean over the batch": lambda *at: _pix2pix(*at).mean(),
        "no gradient": lambda logits, fake, real, weight: _pix2pix(logits, fake.detach(), real, weight),
    },
)

# --- 16.4 cycles ------------------------------------------------------------------------------------------------------


def _two_maps(rng: np.random.Generator, B: int, D: int) -> dict:
    """Unpaired points of two domains of one size, so that a map can be put in the wrong place, and two maps."""
    A, C = (rng.normal(0, 1.2, (D, D)) / math.sqrt(D) for _ in range(2))
    return {
        "x": rng.uniform(-1, 1, (B, D)),
        "y": rng.uniform(-1, 1, (B, D)),
        "A": A,
        "C": C,
        "weight": float(rng.choice([3.0, 4.0, 6.0])),
    }


def _G(x: Tensor, A: Tensor) -> Tensor:
    return torch.tanh(x @ A.T)


def _off(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean(1)


def _cycle(x: Tensor, y: Tensor, A: Tensor, C: Tensor, weight: Tensor) -> Tensor:
    return weight * (_off(_G(_G(x, A), C), x) + _off(_G(_G(y, C), A), y))


def _cycle_by(off: Callable) -> Callable:
    return lambda x, y, A, C, weight: weight * (off(_G(_G(x, A), C), x) + off(_G(_G(y, C), A), y))


CYCLE = Question(
    id="16.4",
    title="There and back",
    function="cycle_loss",
    returns="(B,)",
    reference=_cycle,
    example={"x": [[1.0, 0.0]], "y": [[0.0, 1.0]], "A": [[0.0, 1.0], [1.0, 0.0]], "C": [[0.0, 2.0], [1.0, 0.0]], "weight": 10.0},
    checks=(
        Check("values", 2, lambda rng: _two_maps(rng, B=5, D=4)),
        Check("gradients", 1, lambda rng: _two_maps(rng, B=4, D=3), ("A", "C")),
    ),
    mistakes={
        "wrong way round": lambda x, y, A, C, weight: _cycle(x, y, C, A, weight),
        "first cycle only": lambda x, y, A, C, weight: weight * _off(_G(_G(x, A), C), x) + 0 * y[:, 0],
        "second cycle only": lambda x, y, A, C, weight: weight * _off(_G(_G(y, C), A), y) + 0 * x[:, 0],
        "not back": lambda x, y, A, C, weight: weight * (_off(_G(x, A), x) + _off(_G(y, C), y)),
        "as if paired": lambda x, y, A, C, weight: weight * (_off(_G(x, A), y) + _off(_G(y, C), x)),
        "cycle compared with the other domain": lambda x, y, A, C, weight: (
            weight * (_off(_G(_G(x, A), C), y) + _off(_G(_G(y, C), A), x))
        ),
        "identity loss": lambda x, y, A, C, weight: weight * (_off(_G(y, A), y) + _off(_G(x, C), x)),
        "the same map twice": lambda x, y, A, C, weight: weight * (_off(_G(_G(x, A), A), x) + _off(_G(_G(y, C), C), y)),
        "squared": _cycle_by(lambda a, b: ((a - b) ** 2).mean(1)),
        "sum over the dimensions": _cycle_by(lambda a, b: (a - b).abs().sum(1)),
        "distance": _cycle_by(lambda a, b: (a - b).norm(dim=1)),
        "no absolute value": _cycle_by(lambda a, b: (a - b).mean(1)),
        "mean of the two": lambda *at: _cycle(*at) / 2,
        "weight on one cycle": lambda x, y, A, C, weight: weight * _off(_G(_G(x, A), C), x) + _off(_G(_G(y, C), A), y),
        "no weight": lambda x, y, A, C, weight: _cycle(x, y, A, C, 1 + 0 * weight),
        "W transposed": lambda x, y, A, C, weight: _cycle(x, y, A.T, C.T, weight),
        "no tanh": lambda x, y, A, C, weight: weight * (_off(x @ A.T @ C.T, x) + _off(y @ C.T @ A.T, y)),
        "mean over the batch": lambda *at: _cycle(*at).mean(),
        "no gradient": lambda x, y, A, C, weight: (
            weight * (_off(_G(_G(x, A).detach(), C), x) + _off(_G(_G(y, C).detach(), A), y))
        ),
    },
)

# --- 16.5 captions that match -----------------------------------------------------------------------------------------


def _logits(rng: np.random.Generator, B: int, large: bool = False) -> dict:
    """Logits of real pictures with their captions, of real ones with others, of fakes; either sign of each, in turn."""
    size = rng.uniform(95, 120, (3, B)) if large else rng.uniform(0.3, 2.5, (3, B))
    sign = np.where((np.arange(B) + np.arange(3)[:, None]) % 2 == 0, 1, -1) * rng.choice([-1, 1])
    right, wrong, fake = size * sign + (0 if large else rng.normal(0, 0.2, (3, B)))
    return {"right": right, "wrong": wrong, "fake": fake}


def _matching_of(d: Callable, g: Callable = lambda right, wrong, fake: softplus(-fake)) -> Callable:
    return lambda *logits: torch.stack([d(*logits), g(*logits)])


def _matching_d(right: Tensor, wrong: Tensor, fake: Tensor) -> Tensor:
    return softplus(-right) + (softplus(wrong) + softplus(fake)) / 2


_matching = _matching_of(_matching_d)

MATCHING = Question(
    id="16.5",
    title="Does the caption match?",
    function="matching_losses",
    returns="(2, B)",
    reference=_matching,
    example={"right": [1.0], "wrong": [0.0], "fake": [-1.0]},
    checks=(
        Check("values", 2, lambda rng: _logits(rng, B=6)),
        Check("large logits", 1, lambda rng: _logits(rng, B=4, large=True), needs="values"),
        Check("gradients", 1, lambda rng: _logits(rng, B=4, large=True), ("right", "wrong", "fake"), needs="values"),
    ),
    mistakes={
        "other captions are real": _matching_of(
            lambda right, wrong, fake: (softplus(-right) + softplus(-wrong)) / 2 + softplus(fake)
        ),
        "no other captions": _matching_of(lambda right, wrong, fake: softplus(-right) + softplus(fake) + 0 * wrong),
        "no fakes": _matching_of(lambda right, wrong, fake: softplus(-right) + softplus(wrong) + 0 * fake),
        "not halved": _matching_of(lambda right, wrong, fake: softplus(-right) + softplus(wrong) + softplus(fake)),
        "thirds": _matching_of(lambda right, wrong, fake: (softplus(-right) + softplus(wrong) + softplus(fake)) / 3),
        "one loss for the mean logit": _matching_of(lambda right, wrong, fake: softplus(-right) + softplus((wrong + fake) / 2)),
        "signs": _matching_of(lambda right, wrong, fake: _matching_d(-right, -wrong, -fake)),
        "saturating generator": _matching_of(_matching_d, lambda right, wrong, fake: -softplus(fake)),
        "generator wants to be found out": _matching_of(_matching_d, lambda right, wrong, fake: softplus(fake)),
        "generator by other captions": _matching_of(
            _matching_d, lambda right, wrong, fake: (softplus(-fake) + softplus(-wrong)) / 2
        ),
        "probabilities": _matching_of(
            lambda right, wrong, fake: -right.sigmoid() + (wrong.sigmoid() + fake.sigmoid()) / 2,
            lambda right, wrong, fake: -fake.sigmoid(),
        ),
        "hinge": _matching_of(
            lambda right, wrong, fake: relu(1 - right) + (relu(1 + wrong) + relu(1 + fake)) / 2,
            lambda right, wrong, fake: -fake,
        ),
        "logarithm of a sigmoid": _matching_of(
            lambda right, wrong, fake: (
                -(right.sigmoid() + 1e-8).log() - ((1 - wrong.sigmoid() + 1e-8).log() + (1 - fake.sigmoid() + 1e-8).log()) / 2
            ),
            lambda right, wrong, fake: -(fake.sigmoid() + 1e-8).log(),
        ),
        "maximised": lambda *logits: -_matching(*logits),
        "order": lambda *logits: _matching(*logits).flip(0),
        "mean over the batch": lambda *logits: _matching(*logits).mean(1),
    },
)

# --- 16.6 a step of graph convolution ---------------------------------------------------------------------------------


def _graph(rng: np.random.Generator, N: int, T: int, D: int) -> dict:
    """A graph in which one object has several ways in and out, one only ways in, one none at all."""
    while True:
        triples = np.stack([rng.choice(N - 1, 2, replace=False) for _ in range(T)])
        ins, outs = (np.bincount(triples[:, side], minlength=N) for side in (1, 0))
        together = ins + outs
        if together[: N - 1].min() > 0 and together.max() > 2 and ((outs == 0) & (ins > 1)).any() and (ins[outs > 0] == 0).any():
            break
    scale = 0.8 / math.sqrt(D)
    return {
        "objects": rng.normal(0, 1, (N, D)),
        "relations": rng.normal(0, 1, (T, D)),
        "triples": triples,
        "W_s": rng.normal(0, scale, (D, 3 * D)),
        "W_o": rng.normal(0, scale, (D, 3 * D)),
    }


def _messages(objects: Tensor, relations: Tensor, triples: Tensor, W_s: Tensor, W_o: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    s, o = triples.long().T
    together = torch.cat([objects[s], relations, objects[o]], 1)
    return relu(together @ W_s.T), relu(together @ W_o.T), together


def _gathered(objects: Tensor, sides: list[tuple[Tensor, Tensor]], mean: bool = True) -> Tensor:
    """What arrives at each object, `sides` being who gets it and what: the mean, or the sum; one whom nothing reaches stays."""
    total, count = torch.zeros_like(objects), torch.zeros_like(objects[:, 0])
    for who, what in sides:
        total, count = total.index_add(0, who, what), count.index_add(0, who, torch.ones_like(what[:, 0]))
    each = total / count.clamp(min=1)[:, None] if mean else total
    return torch.where((count > 0)[:, None], each, objects)


def _convolution(objects: Tensor, relations: Tensor, triples: Tensor, W_s: Tensor, W_o: Tensor) -> Tensor:
    (s, o), (to_s, to_o, _) = triples.long().T, _messages(objects, relations, triples, W_s, W_o)
    return _gathered(objects, [(s, to_s), (o, to_o)])


def _convolution_of(sides: Callable, mean: bool = True) -> Callable:
    """The step, with `sides(s, o, to_s, to_o)` saying who gets what."""

    def step(objects: Tensor, relations: Tensor, triples: Tensor, W_s: Tensor, W_o: Tensor) -> Tensor:
        to_s, to_o, _ = _messages(objects, relations, triples, W_s, W_o)
        return _gathered(objects, sides(*triples.long().T, to_s, to_o), mean)

    return step


def _linear_messages(objects: Tensor, relations: Tensor, triples: Tensor, W_s: Tensor, W_o: Tensor) -> Tensor:
    (s, o), (_, _, together) = triples.long().T, _messages(objects, relations, triples, W_s, W_o)
    return _gathered(objects, [(s, together @ W_s.T), (o, together @ W_o.T)])


def _means_of_means(objects: Tensor, relations: Tensor, triples: Tensor, W_s: Tensor, W_o: Tensor) -> Tensor:
    (s, o), (to_s, to_o, _) = triples.long().T, _messages(objects, relations, triples, W_s, W_o)
    nothing = torch.zeros_like(objects)
    a, b = _gathered(nothing, [(s, to_s)]), _gathered(nothing, [(o, to_o)])
    once = _gathered(nothing, [(s, torch.ones_like(to_s)), (o, torch.ones_like(to_o))]) > 0
    return torch.where(once, (a + b) / 2, objects)


def _relu_last(objects: Tensor, relations: Tensor, triples: Tensor, W_s: Tensor, W_o: Tensor) -> Tensor:
    (s, o), (_, _, together) = triples.long().T, _messages(objects, relations, triples, W_s, W_o)
    moved = _gathered(torch.full_like(objects, torch.inf), [(s, together @ W_s.T), (o, together @ W_o.T)])
    return torch.where(moved.isinf(), objects, relu(moved))


CONVOLUTION = Question(
    id="16.6",
    title="A step of graph convolution",
    function="graph_convolution",
    returns="(N, D)",
    reference=_convolution,
    example={
        "objects": [[1.0], [2.0], [3.0]],
        "relations": [[0.5]],
        "triples": [[0, 1]],
        "W_s": [[1.0, 1.0, 1.0]],
        "W_o": [[1.0, 0.0, -1.0]],
    },
    checks=(
        Check("values", 3, lambda rng: _graph(rng, N=6, T=8, D=3)),
        Check("gradients", 1, lambda rng: _graph(rng, N=5, T=7, D=4), ("objects", "relations", "W_s", "W_o")),
    ),
    mistakes={
        "to the subject only": _convolution_of(lambda s, o, to_s, to_o: [(s, to_s)]),
        "to the object only": _convolution_of(lambda s, o, to_s, to_o: [(o, to_o)]),
        "sum": _convolution_of(lambda s, o, to_s, to_o: [(s, to_s), (o, to_o)], mean=False),
        "last message only": lambda objects, relations, triples, W_s, W_o: _last_message(objects, relations, triples, W_s, W_o),
        "mean of two means": _means_of_means,
        "sent to the other end": _convolution_of(lambda s, o, to_s, to_o: [(o, to_s), (s, to_o)]),
        "ends exchanged": lambda objects, relations, triples, W_s, W_o: _convolution(
            objects, relations, triples.flip(1), W_s, W_o
        ),
        "one matrix for both": lambda objects, relations, triples, W_s, W_o: _convolution(
            objects, relations, triples, W_s, W_s + 0 * W_o
        ),
        "relations left out": lambda objects, relations, triples, W_s, W_o: _convolution(
            objects, 0 * relations, triples, W_s, W_o
        ),
        "no ReLU": _linear_messages,
        "ReLU after the mean": _relu_last,
        "untouched objects to zero": lambda objects, *rest: torch.where(
            _touched(objects, rest[1])[:, None], _convolution(objects, *rest), 0 * objects
        ),
        "added to the old": lambda objects, *rest: torch.where(
            _touched(objects, rest[1])[:, None], objects + _convolution(objects, *rest), objects
        ),
        "mean over all triples": lambda objects, relations, triples, W_s, W_o: _over_all(objects, relations, triples, W_s, W_o),
        "no gradient": lambda objects, relations, triples, W_s, W_o: _convolution(objects.detach(), relations, triples, W_s, W_o),
    },
)


def _touched(objects: Tensor, triples: Tensor) -> Tensor:
    return torch.isin(torch.arange(len(objects)), triples.long())


def _last_message(objects: Tensor, relations: Tensor, triples: Tensor, W_s: Tensor, W_o: Tensor) -> Tensor:
    to_s, to_o, _ = _messages(objects, relations, triples, W_s, W_o)
    rows = list(objects)
    for t, (s, o) in enumerate(triples.long().tolist()):
        rows[s], rows[o] = to_s[t], to_o[t]
    return torch.stack(rows)


def _over_all(objects: Tensor, relations: Tensor, triples: Tensor, W_s: Tensor, W_o: Tensor) -> Tensor:
    (s, o), (to_s, to_o, _) = triples.long().T, _messages(objects, relations, triples, W_s, W_o)
    zero = torch.zeros_like(objects)
    total = zero.index_add(0, s, to_s).index_add(0, o, to_o) / len(s)
    return torch.where(_touched(objects, triples)[:, None], total, objects)


# --- 16.7 boxes to a layout -------------------------------------------------------------------------------------------


def _boxes(rng: np.random.Generator, N: int, D: int, H: int, W: int) -> dict:
    """Boxes between the centres of the pixels, anywhere in the plane: two overlap, none is square or in the middle."""
    while True:
        edges_x = np.sort(np.stack([rng.choice(W + 1, 2, replace=False) for _ in range(N)]), 1)
        edges_y = np.sort(np.stack([rng.choice(H + 1, 2, replace=False) for _ in range(N)]), 1)
        cover = np.zeros((H, W))
        for xs, ys in zip(edges_x, edges_y, strict=True):
            cover[slice(*ys), slice(*xs)] += 1
        inner = all(((edges[:, 0] > 0) & (edges[:, 1] < n)).any() for edges, n in ((edges_x, W), (edges_y, H)))
        middle = all((edges.sum(1) == n).all() for edges, n in ((edges_x, W), (edges_y, H)))
        if cover.max() > 1 and (cover == 0).any() and inner and not middle:
            break
    left, top = rng.uniform(-5, 5, 2)
    wide, high = np.exp(rng.uniform(-1, 1, 2))
    off = rng.uniform(-0.3, 0.3, (4, N))  # no centre of a pixel is near an edge
    return {
        "vectors": rng.normal(0, 1, (N, D)),
        "boxes": np.stack(
            [
                left + wide * (edges_x[:, 0] + off[0]),
                top + high * (edges_y[:, 0] + off[1]),
                left + wide * (edges_x[:, 1] + off[2]),
                top + high * (edges_y[:, 1] + off[3]),
            ],
            axis=1,
        ),
        "xs": left + wide * (np.arange(W) + 0.5),
        "ys": top + high * (np.arange(H) + 0.5),
    }


def _covered(boxes: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Whether each pixel's centre lies in each box, `(N, H, W)`."""
    x0, y0, x1, y1 = boxes.T[:, :, None]
    across, along = (x0 <= xs) & (xs < x1), (y0 <= ys) & (ys < y1)
    return (along[:, :, None] & across[:, None, :]).to(boxes)


def _layout(vectors: Tensor, boxes: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    return torch.einsum("nd,nhw->dhw", vectors, _covered(boxes, xs, ys))


def _layout_of(boxes_of: Callable) -> Callable:
    return lambda vectors, boxes, xs, ys: _layout(vectors, boxes_of(boxes), xs, ys)


def _on_top(vectors: Tensor, boxes: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    found = torch.zeros(vectors.shape[1], len(ys), len(xs)).to(vectors)
    for vector, inside in zip(vectors, _covered(boxes, xs, ys), strict=True):
        found = torch.where(inside > 0, vector[:, None, None], found)
    return found


def _mean_where_covered(vectors: Tensor, boxes: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    return _layout(vectors, boxes, xs, ys) / _covered(boxes, xs, ys).sum(0).clamp(min=1)


def _mass_of_one(vectors: Tensor, boxes: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    inside = _covered(boxes, xs, ys)
    return torch.einsum("nd,nhw->dhw", vectors, inside / inside.sum((1, 2), keepdim=True).clamp(min=1))


LAYOUT = Question(
    id="16.7",
    title="From boxes to a layout",
    function="layout",
    returns="(D, H, W)",
    reference=_layout,
    example={
        "vectors": [[1.0, 2.0]],
        "boxes": [[0.0, 0.5, 0.5, 1.0]],
        "xs": [0.25, 0.75],
        "ys": [0.25, 0.75],
    },
    checks=(
        Check("values", 2, lambda rng: _boxes(rng, N=4, D=3, H=6, W=8)),
        Check("gradients", 1, lambda rng: _boxes(rng, N=3, D=2, H=7, W=5), ("vectors",)),
    ),
    mistakes={
        "x and y exchanged": _layout_of(lambda boxes: boxes[:, [1, 0, 3, 2]]),
        "rows and columns exchanged": lambda *at: _layout(*at).mT,
        "centre and size": _layout_of(
            lambda b: torch.cat([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1),
        ),
        "corner and size": _layout_of(lambda b: torch.cat([b[:, :2], b[:, :2] + b[:, 2:]], 1)),
        "upside down": lambda *at: _layout(*at).flip(1),
        "left for right": lambda *at: _layout(*at).flip(2),
        "last on top": _on_top,
        "first on top": lambda vectors, boxes, xs, ys: _on_top(vectors.flip(0), boxes.flip(0), xs, ys),
        "mean of the objects": _mean_where_covered,
        "each of mass one": _mass_of_one,
        "the largest": lambda vectors, boxes, xs, ys: (
            (_covered(boxes, xs, ys)[:, None] * vectors[:, :, None, None]).max(0).values
        ),
        "outside": lambda vectors, boxes, xs, ys: torch.einsum("nd,nhw->dhw", vectors, 1 - _covered(boxes, xs, ys)),
        "either coordinate": lambda vectors, boxes, xs, ys: torch.einsum("nd,nhw->dhw", vectors, _either(boxes, xs, ys)),
        "channels last": lambda *at: _layout(*at).permute(1, 2, 0),
        "no gradient": lambda vectors, boxes, xs, ys: _layout(vectors.detach(), boxes, xs, ys),
    },
)


def _either(boxes: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    x0, y0, x1, y1 = boxes.T[:, :, None]
    across, along = (x0 <= xs) & (xs < x1), (y0 <= ys) & (ys < y1)
    return (along[:, :, None] | across[:, None, :]).to(boxes)


# --- 16.8 what an L1 loss learns --------------------------------------------------------------------------------------


def _skewed(rng: np.random.Generator, N: int = 3000, M: int = 200) -> dict:
    """Points of a bent curve with noise that has a long tail: half of the values at x are below the median, by construction.

    For the grader the median at the places asked for, and how far the mean is above it there.
    """
    phase, bend, width = rng.uniform(0, 2 * math.pi), rng.uniform(1.2, 1.8), rng.uniform(0.3, 0.4)

    def curve(x: np.ndarray) -> np.ndarray:
        return np.sin(bend * x + phase)

    def spread(x: np.ndarray) -> np.ndarray:
        return width * (1 + 0.5 * np.tanh(x))

    x, at = rng.uniform(-2, 2, N), rng.uniform(-1.9, 1.9, M)
    tail = rng.exponential(1, N) ** 1.5  # of median (log 2)^1.5 = 0.577 and mean 1.329
    return {
        "x": x,
        "y": curve(x) + spread(x) * tail,
        "at": at,
        "_median": curve(at) + spread(at) * math.log(2) ** 1.5,
        "_mean": curve(at) + spread(at) * math.gamma(2.5),
    }


def _off_the_median(inputs: Inputs, answer: np.ndarray) -> float:
    return float(np.abs(answer.astype(float) - inputs["_median"].astype(float)).mean())


def _fitted_of(
    loss: Callable = lambda off: off.abs(),
    steps: int = 400,
    lr: float = 0.02,
    hidden: int = 24,
    data: Callable = lambda x, y: (x, y),
) -> Callable:
    """The training of a small network, one part replaced."""

    def fit(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)

        def curve(x: Tensor, V: Tensor, b: Tensor, w: Tensor, c: Tensor) -> Tensor:
            return torch.tanh(x[:, None] * V + b) @ w + c

        def cost(*weights: Tensor) -> Tensor:
            some = torch.randint(len(x), (500,), generator=generator)
            return loss(y[some] - curve(x[some], *weights)).mean()

        start = [(torch.rand(size, generator=generator) - 0.5).to(x) for size in ((hidden,), (hidden,), (hidden,), (1,))]
        return curve(at, *trained(cost, *[s * k for s, k in zip(start, (3, 4, 1, 1), strict=True)], steps=steps, lr=lr))

    return fit


def _near_the_mean(inputs: Inputs, answer: np.ndarray) -> bool:
    mean, answer = inputs["_mean"].astype(float), answer.astype(float)
    return bool(np.abs(answer - mean).mean() < 0.09)


def _is_constant(inputs: Inputs, answer: np.ndarray) -> bool:
    return bool(np.ptp(answer) < 0.05)


def _nearest(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    return y[(at[:, None] - x).abs().argmin(1)]


def _window(x: Tensor, y: Tensor, at: Tensor, n: int = 60) -> Tensor:
    """The median of the nearest points: no network, and a moment only."""
    return y[(at[:, None] - x).abs().topk(n, largest=False).indices].median(1).values


_HINTS = (
    told("16.8", "squared error", when=_near_the_mean),
    told("16.8", "one number for all", when=_is_constant),
    told("16.8", "out of order", when=lambda inputs, answer: _sorted_is_better(inputs, answer)),
)


def _sorted_is_better(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether the values would do, in the order of the places."""
    put = np.empty(len(answer))
    put[np.argsort(inputs["at"])] = answer.astype(float)
    return _off_the_median(inputs, put) <= 0.09


def _measure(at_most: float) -> Measure:
    return Measure(
        "your distance from the median",
        _off_the_median,
        at_most,
        lambda inputs: inputs["at"].shape,
        "lower the mean absolute error of a network that can bend, over all points, until it stands still.",
        "",
        _HINTS,
    )


EXPERIMENT = Question(
    id="16.8",
    title="What an absolute error learns",
    function="fit_l1",
    returns="(M,)",
    reference=_window,
    example={"x": [0.0, 0.5, 1.0, 0.5], "y": [1.0, 2.0, 5.0, 2.5], "at": [0.5]},
    checks=(
        Check("trained", 3, _skewed, measure=_measure(0.12)),
        Check("close to the median", 1, _skewed, measure=_measure(0.08), of="trained"),
    ),
    mistakes={
        "squared error": _fitted_of(lambda off: off**2),
        "one number for all": lambda x, y, at: y.median().expand_as(at).clone(),
        "straight line": lambda x, y, at: (
            torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], 1), y[:, None]).solution[:, 0]
            @ torch.stack([at, torch.ones_like(at)])
        ),
        "nearest point": _nearest,
        "few steps": _fitted_of(steps=12),
        "small learning rate": _fitted_of(lr=0.0003),
        "a high quantile": _fitted_of(lambda off: torch.maximum(0.75 * off, -0.25 * off)),
        "out of order": lambda x, y, at: _window(x, y, at.sort().values),
    },
    seconds=60.0,
)

QUESTIONS = (FIELD, U_NET, PIX2PIX, CYCLE, MATCHING, CONVOLUTION, LAYOUT, EXPERIMENT)
