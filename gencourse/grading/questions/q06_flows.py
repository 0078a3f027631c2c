"""Exercise 06, flows: densities through a map, couplings, 1x1 convolutions, squeezed images, bits per dimension.

Sizes: B examples, D coordinates, images of C channels. A map and its log-determinant are one answer, the second as the last
column of the first, so that each is wrong where the other would be. Maps go from data x to noise z, as in the chapter.

Tolerances: over 100 seeds the reference in float32 is within 1e-6 of `1 + |right answer|`, its gradients within 4e-6. The
tolerances are seven times that or more, and so small that each mistake loses points on every one of 200 seeds.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from gencourse.grading.questions import Check, Hint, Inputs, Measure, Question, told
from gencourse.grading.questions.training import trained

_LOG_2_PI = math.log(2 * math.pi)


def _normal(z: Tensor) -> Tensor:
    """log N(z; 0, 1) of each number."""
    return -0.5 * (z**2 + _LOG_2_PI)


# --- 6.1 one dimension ------------------------------------------------------------------------------------------------


def _monotone(rng: np.random.Generator, B: int, falling: int = 0) -> Inputs:
    """Slopes of the map well away from 1 and 0, the first `falling` of them negative, and data between 0.02 and 0.98."""
    a = rng.uniform(0.3, 0.7, B) ** rng.choice([-1, 1], B)
    a[:falling] *= -1
    return {"x": 1 / (1 + np.exp(-rng.uniform(-3.5, 3.5, B))), "a": a, "b": rng.uniform(0.3, 1.5, B) * rng.choice([-1, 1], B)}


def _noise_of(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return (x.log() - (-x).log1p() - b) / a


def _sigmoid_slope(x: Tensor) -> Tensor:
    """The logarithm of the sigmoid's slope where the sigmoid is x."""
    return x.log() + (-x).log1p()


def _one_d(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return _normal(_noise_of(x, a, b)) - a.abs().log() - _sigmoid_slope(x)


def _one_d_of(log_det: Callable, z: Callable = _noise_of) -> Callable:
    return lambda x, a, b: _normal(z(x, a, b)) + log_det(x, a, b)


def _log_det(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return -a.abs().log() - _sigmoid_slope(x)


def _slope_at_x(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return a.abs().log() + _sigmoid_slope((a * x + b).sigmoid())


ONE_D = Question(
    id="6.1",
    title="A change of variables",
    function="log_density",
    returns="(B,)",
    reference=_one_d,
    example={"x": [0.5, 0.8], "a": [1.0, -2.0], "b": [0.0, 0.0]},
    checks=(
        Check("rising maps", 2, lambda rng: _monotone(rng, B=5)),
        Check("falling maps", 1, lambda rng: _monotone(rng, B=6, falling=3)),
    ),
    mistakes={
        "sign of the log-determinant": _one_d_of(lambda *at: -_log_det(*at)),
        "no log-determinant": _one_d_of(lambda *at: 0),
        "slope of the sigmoid missing": _one_d_of(lambda x, a, b: -a.abs().log()),
        "slope a missing": _one_d_of(lambda x, a, b: -_sigmoid_slope(x)),
        "sign of a": _one_d_of(lambda x, a, b: a.abs().log() - _sigmoid_slope(x)),
        "sign of the sigmoid's slope": _one_d_of(lambda x, a, b: -a.abs().log() + _sigmoid_slope(x)),
        "no absolute value": _one_d_of(lambda x, a, b: -a.log() - _sigmoid_slope(x)),
        "inverse for forward": _one_d_of(lambda x, a, b: _slope_at_x(x, a, b), z=lambda x, a, b: (a * x + b).sigmoid()),
        "forward's slope at x": _one_d_of(_slope_at_x),
        "x for z": _one_d_of(_log_det, z=lambda x, a, b: x),
        "a applied, not undone": _one_d_of(_log_det, z=lambda x, a, b: a * (x.logit() - b)),
        "b added": _one_d_of(_log_det, z=lambda x, a, b: (x.logit() + b) / a),
        "a before b": _one_d_of(_log_det, z=lambda x, a, b: x.logit() / a - b),
        "2 pi missing": lambda *at: _one_d(*at) + 0.5 * _LOG_2_PI,
        "half missing": lambda x, a, b: -(_noise_of(x, a, b) ** 2) - 0.5 * _LOG_2_PI + _log_det(x, a, b),
        "no logarithm": lambda *at: _one_d(*at).exp(),
        "bits": lambda *at: _one_d(*at) / math.log(2),
        "sum over the batch": lambda *at: _one_d(*at).sum(),
        "mean over the batch": lambda *at: _one_d(*at).mean(),
    },
)

# --- 6.2 an affine coupling -------------------------------------------------------------------------------------------


def _coupled(rng: np.random.Generator, name: str, B: int, half: int) -> dict:
    """Points, and a coupling whose raw log-scales reach far beyond the bound."""
    return {
        name: 1.5 * rng.standard_normal((B, 2 * half)),
        "W_s": rng.standard_normal((half, half)),
        "W_t": rng.standard_normal((half, half)),
    }


def _with(z: Tensor, log_det: Tensor) -> Tensor:
    """The log-determinant, (B,) or one number, as the last column."""
    return torch.cat([z, log_det.expand(len(z))[:, None]], dim=1)


def _bounded(raw: Tensor) -> Tensor:
    return 2 * torch.tanh(raw / 2)


def _changed(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    return x * s.exp() + t


def _summed(s: Tensor, raw: Tensor) -> Tensor:
    return s.sum(1)


def _coupling_of(
    bound: Callable = _bounded,
    change: Callable = _changed,
    total: Callable = _summed,
    reads: Callable = lambda kept, changed: kept,
    transposed: bool = False,
    swap: bool = False,
) -> Callable:
    """The coupling, one part replaced. It is the inverse, too, with another change and another total."""

    def coupling(x: Tensor, W_s: Tensor, W_t: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        if swap:
            kept, changed = changed, kept
        at = reads(kept, changed)
        W_s, W_t = (W_s, W_t) if transposed else (W_s.T, W_t.T)
        raw = at @ W_s
        s = bound(raw)
        z = change(changed, s, at @ W_t)
        return _with(torch.cat([z, kept] if swap else [kept, z], dim=1), total(s, raw))

    return coupling


_coupling = _coupling_of()
_COUPLED = {"W_s": [[2.0, 0.0], [1.0, 1.0]], "W_t": [[1.0, 0.0], [1.0, 0.0]]}


def _halves_exchanged(answer: Tensor) -> Tensor:
    z_a, z_b = answer[:, :-1].chunk(2, dim=1)
    return torch.cat([z_b, z_a, answer[:, -1:]], dim=1)


COUPLING = Question(
    id="6.2",
    title="An affine coupling",
    function="coupling",
    returns="(B, D + 1)",
    reference=_coupling,
    example={"x": [[0.5, -1.0, 3.0, 1.0]], **_COUPLED},
    checks=(
        Check("values", 2, lambda rng: _coupled(rng, "x", B=5, half=3)),
        Check("gradients", 1, lambda rng: _coupled(rng, "x", B=6, half=4), ("x", "W_s", "W_t"), rtol=1e-4, atol=1e-3),
    ),
    mistakes={
        "no bound": _coupling_of(bound=lambda raw: raw),
        "another bound": _coupling_of(bound=torch.tanh),
        "raw not halved": _coupling_of(bound=lambda raw: 2 * torch.tanh(raw)),
        "no log-determinant": _coupling_of(total=lambda s, raw: s.sum(1) * 0),
        "sign of the log-determinant": _coupling_of(total=lambda s, raw: -s.sum(1)),
        "mean over dimensions": _coupling_of(total=lambda s, raw: s.mean(1)),
        "mean over all dimensions": _coupling_of(total=lambda s, raw: s.mean(1) / 2),
        "log-determinant once a batch": _coupling_of(total=lambda s, raw: s.sum()),
        "mean over the batch": _coupling_of(total=lambda s, raw: s.sum(1).mean()),
        "log-determinant before the bound": _coupling_of(total=lambda s, raw: raw.sum(1)),
        "scales for log-scales": _coupling_of(total=lambda s, raw: s.exp().sum(1)),
        "determinant for its logarithm": _coupling_of(total=lambda s, raw: s.sum(1).exp()),
        "no exponential": _coupling_of(change=lambda x, s, t: x * s + t),
        "exponent negative": _coupling_of(change=lambda x, s, t: x * (-s).exp() + t),
        "inverse for forward": _coupling_of(
            lambda raw: _bounded(raw), lambda x, s, t: (x - t) * (-s).exp(), lambda s, raw: -s.sum(1)
        ),
        "shift before scale": _coupling_of(change=lambda x, s, t: (x + t) * s.exp()),
        "shift missing": _coupling_of(change=lambda x, s, t: x * s.exp()),
        "shift subtracted": _coupling_of(change=lambda x, s, t: x * s.exp() - t),
        "shift bounded": _coupling_of(change=lambda x, s, t: x * s.exp() + _bounded(t)),
        "reads the changed half": _coupling_of(reads=lambda kept, changed: changed),
        "second half kept": _coupling_of(swap=True),
        "halves exchanged": lambda *at: _halves_exchanged(_coupling(*at)),
        "weights transposed": _coupling_of(transposed=True),
        "weights swapped": lambda x, W_s, W_t: _coupling(x, W_t, W_s),
        "log-determinant cut off": _coupling_of(total=lambda s, raw: s.detach().sum(1)),
    },
)

# --- 6.3 its inverse --------------------------------------------------------------------------------------------------


def _back(z: Tensor, s: Tensor, t: Tensor) -> Tensor:
    return (z - t) * (-s).exp()


def _minus(s: Tensor, raw: Tensor) -> Tensor:
    return -s.sum(1)


def _inverse_of(change: Callable = _back, total: Callable = _minus, bound: Callable = _bounded, **more) -> Callable:
    of = _coupling_of(bound, change, total, **more)
    return lambda z, W_s, W_t: of(z, W_s, W_t)


_inverse = _inverse_of()

INVERSE = Question(
    id="6.3",
    title="Its inverse",
    function="coupling_inverse",
    returns="(B, D + 1)",
    reference=_inverse,
    example={"z": [[0.5, -1.0, 3.0, 1.0]], **_COUPLED},
    checks=(Check("values", 2, lambda rng: _coupled(rng, "z", B=5, half=3)),),
    mistakes={
        "forward for inverse": _inverse_of(_changed, _summed),
        "forward's log-determinant": _inverse_of(total=_summed),
        "no log-determinant": _inverse_of(total=lambda s, raw: s.sum(1) * 0),
        "mean over dimensions": _inverse_of(total=lambda s, raw: -s.mean(1)),
        "log-determinant once a batch": _inverse_of(total=lambda s, raw: -s.sum()),
        "log-determinant before the bound": _inverse_of(total=lambda s, raw: -raw.sum(1)),
        "one over the log-determinant": _inverse_of(total=lambda s, raw: 1 / s.sum(1)),
        "no bound": _inverse_of(bound=lambda raw: raw),
        "scale before shift": _inverse_of(change=lambda z, s, t: z * (-s).exp() - t),
        "shift added": _inverse_of(change=lambda z, s, t: (z + t) * (-s).exp()),
        "multiplied, not divided": _inverse_of(change=lambda z, s, t: (z - t) * s.exp()),
        "divided by the log-scale": _inverse_of(change=lambda z, s, t: (z - t) / s),
        "shift missing": _inverse_of(change=lambda z, s, t: z * (-s).exp()),
        "reads the changed half": _inverse_of(reads=lambda kept, changed: changed),
        "second half kept": _inverse_of(swap=True),
        "halves exchanged": lambda *at: _halves_exchanged(_inverse(*at)),
        "weights transposed": _inverse_of(transposed=True),
        "weights swapped": lambda z, W_s, W_t: _inverse(z, W_t, W_s),
    },
)

# --- 6.4 a 1x1 convolution --------------------------------------------------------------------------------------------


def _factors(rng: np.random.Generator, B: int, C: int, H: int, W: int, negative: int = 0) -> Inputs:
    """Images and the two triangles, the first `negative` numbers of U's diagonal below 0; none of a size near 1."""
    diagonal = rng.uniform(0.4, 0.8, C) ** rng.choice([-1, 1], C)
    while abs(np.log(diagonal).sum()) < 0.2:
        diagonal = rng.uniform(0.4, 0.8, C) ** rng.choice([-1, 1], C)
    diagonal[:negative] *= -1
    return {
        "x": rng.standard_normal((B, C, H, W)),
        "L": np.tril(0.7 * rng.standard_normal((C, C)), -1) + np.eye(C),
        "U": np.triu(0.7 * rng.standard_normal((C, C)), 1) + np.diag(diagonal),
    }


def _log_diagonal(M: Tensor) -> Tensor:
    return M.diagonal().abs().log().sum()


def _conv_of(
    log_det: Callable = lambda x, L, U: x[0, 0].numel() * _log_diagonal(U),
    weight: Callable = lambda L, U: L @ U,
    prior: Callable = lambda z: _normal(z).flatten(1).sum(1),
) -> Callable:
    """The log-density under one 1x1 convolution, one part replaced."""

    def conv(x: Tensor, L: Tensor, U: Tensor) -> Tensor:
        return prior(torch.einsum("dc,bchw->bdhw", weight(L, U), x)) + log_det(x, L, U)

    return conv


_conv = _conv_of()

CONVOLUTION = Question(
    id="6.4",
    title="The log-determinant of a 1\N{MULTIPLICATION SIGN}1 convolution",
    function="conv_log_density",
    returns="(B,)",
    reference=_conv,
    example={"x": [[[[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]]], "L": [[1.0, 0.0], [1.0, 1.0]], "U": [[2.0, 0.0], [0.0, -1.5]]},
    checks=(
        Check("positive diagonal", 2, lambda rng: _factors(rng, B=4, C=3, H=2, W=5)),
        Check("diagonal of both signs", 1, lambda rng: _factors(rng, B=5, C=4, H=3, W=2, negative=1)),
    ),
    mistakes={
        "no places": _conv_of(lambda x, L, U: _log_diagonal(U)),
        "height only": _conv_of(lambda x, L, U: x.shape[2] * _log_diagonal(U)),
        "width only": _conv_of(lambda x, L, U: x.shape[3] * _log_diagonal(U)),
        "channels counted too": _conv_of(lambda x, L, U: x[0].numel() * _log_diagonal(U)),
        "batch counted too": _conv_of(lambda x, L, U: x[:, 0].numel() * _log_diagonal(U)),
        "diagonal of L": _conv_of(lambda x, L, U: x[0, 0].numel() * _log_diagonal(L)),
        "sign of the log-determinant": _conv_of(lambda x, L, U: -x[0, 0].numel() * _log_diagonal(U)),
        "no logarithm": _conv_of(lambda x, L, U: x[0, 0].numel() * U.diagonal().abs().prod()),
        "sum for product": _conv_of(lambda x, L, U: x[0, 0].numel() * U.diagonal().abs().sum().log()),
        "trace for determinant": _conv_of(lambda x, L, U: x[0, 0].numel() * U.diagonal().sum()),
        "mean over the diagonal": _conv_of(lambda x, L, U: x[0, 0].numel() * _log_diagonal(U) / len(U)),
        "all entries of U": _conv_of(lambda x, L, U: x[0, 0].numel() * (U + (U == 0)).abs().log().sum()),
        "factors in the other order": _conv_of(weight=lambda L, U: U @ L),
        "W transposed": _conv_of(weight=lambda L, U: (L @ U).T),
        "inverse of W": _conv_of(weight=lambda L, U: torch.linalg.inv(L @ U)),
        "L missing": _conv_of(weight=lambda L, U: U),
        "x for z": lambda x, L, U: _normal(x).flatten(1).sum(1) + x[0, 0].numel() * _log_diagonal(U),
        "2 pi missing": _conv_of(prior=lambda z: -0.5 * (z**2).flatten(1).sum(1)),
        "2 pi once": _conv_of(prior=lambda z: -0.5 * ((z**2).flatten(1).sum(1) + _LOG_2_PI)),
        "mean over dimensions": _conv_of(prior=lambda z: _normal(z).flatten(1).mean(1)),
        "sum over the batch": lambda *at: _conv(*at).sum(),
    },
)

# --- 6.5 squeeze ------------------------------------------------------------------------------------------------------


def _blocks(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, i, j, H / 2, W / 2)."""
    B, C, H, W = x.shape
    return x.reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 1, 3, 5, 2, 4)


def _squeeze(x: Tensor) -> Tensor:
    return _blocks(x).flatten(1, 3)


def _quadrants(x: Tensor) -> Tensor:
    B, C, H, W = x.shape
    return x.reshape(B, C, 2, H // 2, 2, W // 2).permute(0, 1, 2, 4, 3, 5).flatten(1, 3)


def _corners(x: Tensor, order: tuple[int, ...]) -> Tensor:
    """The four numbers of a block in another order, the channel before them."""
    return _blocks(x).flatten(2, 3)[:, :, list(order)].flatten(1, 2)


def _images(rng: np.random.Generator, *shape: int) -> Inputs:
    return {"x": rng.standard_normal(shape)}


SQUEEZE = Question(
    id="6.5",
    title="Squeeze",
    function="squeeze",
    returns="(B, 4C, H/2, W/2)",
    reference=_squeeze,
    example={"x": [[[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]]]},
    checks=(
        Check("grey images", 1, lambda rng: _images(rng, 3, 1, 4, 6)),
        Check("several channels", 1, lambda rng: _images(rng, 2, 3, 6, 4)),
    ),
    mistakes={
        "channels innermost": lambda x: _blocks(x).permute(0, 2, 3, 1, 4, 5).flatten(1, 3),
        "columns before rows": lambda x: _corners(x, (0, 2, 1, 3)),
        "clockwise": lambda x: _corners(x, (0, 1, 3, 2)),
        "order reversed": lambda x: _corners(x, (3, 2, 1, 0)),
        "diagonal first": lambda x: _corners(x, (0, 3, 1, 2)),
        "reshaped": lambda x: x.reshape(x.shape[0], 4 * x.shape[1], x.shape[2] // 2, x.shape[3] // 2),
        "quadrants": _quadrants,
        "one of four": lambda x: x[:, :, ::2, ::2].clone(),
        "mean of four": lambda x: _blocks(x).mean((2, 3)),
        "largest of four": lambda x: _blocks(x).amax((2, 3)),
        "blocks put into the batch": lambda x: _blocks(x).permute(0, 2, 3, 1, 4, 5).flatten(0, 2),
        "height and width exchanged": lambda x: _squeeze(x.mT),
        "channels last": lambda x: _squeeze(x).permute(0, 2, 3, 1),
    },
)

# --- 6.6 bits per dimension -------------------------------------------------------------------------------------------


def _levels(rng: np.random.Generator, B: int, D: int) -> Inputs:
    """Integer images with zeros among them, noise, and the density of their logits."""
    L = int(rng.integers(5, 40))
    x = rng.integers(0, L, (B, D))
    x[:, rng.integers(D)] = 0
    return {
        "x": x.astype(float),
        "u": rng.uniform(0.02, 0.98, (B, D)),
        "levels": float(L),
        "alpha": rng.uniform(0.02, 0.1),
        "mu": rng.normal(-0.5, 1.0, D),
        "sigma": rng.uniform(0.4, 0.8, D) ** rng.choice([-1, 1], D),
    }


def _terms(x: Tensor, u: Tensor, levels: Tensor, alpha: Tensor, mu: Tensor, sigma: Tensor, y=None) -> tuple[Tensor, Tensor]:
    """log N of the logits, and the logarithm of the logit's slope, both `(B, D)`, nats."""
    v = alpha + (1 - 2 * alpha) * ((x + u) / levels if y is None else y)
    h = v.log() - (-v).log1p()
    return _normal((h - mu) / sigma) - sigma.log(), (1 - 2 * alpha).log() - v.log() - (-v).log1p()


def _bits_of(
    combine: Callable = lambda prior, slope: prior + slope,
    levels_of: Callable = lambda levels, D: levels.log2(),
    y: Callable = lambda x, u, levels: (x + u) / levels,
    reduce: Callable = lambda log_p: log_p.mean(1),
    also: Callable = lambda alpha, sigma: 0,
) -> Callable:
    """Bits per dimension, one part replaced; `also` is added to the log-density of each pixel."""

    def bits(x: Tensor, u: Tensor, levels: Tensor, alpha: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
        prior, slope = _terms(x, u, levels, alpha, mu, sigma, y(x, u, levels))
        return -reduce(combine(prior, slope) + also(alpha, sigma)) / math.log(2) + levels_of(levels, x.shape[1])

    return bits


_bits = _bits_of()


def _without_alpha(x: Tensor, u: Tensor, levels: Tensor, alpha: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    return _bits(x, u, levels, 0 * alpha, mu, sigma)


BITS = Question(
    id="6.6",
    title="Bits per dimension of integers",
    function="bits_per_dim",
    returns="(B,)",
    reference=_bits,
    example={"x": [[0.0, 3.0]], "u": [[0.5, 0.5]], "levels": 4.0, "alpha": 0.2, "mu": [0.0, 0.0], "sigma": [1.0, 2.0]},
    checks=(
        Check("values", 2, lambda rng: _levels(rng, B=5, D=7)),
        Check("gradients", 1, lambda rng: _levels(rng, B=4, D=6), ("mu", "sigma"), rtol=1e-4, atol=1e-4),
    ),
    mistakes={
        "levels forgotten": _bits_of(levels_of=lambda levels, D: 0),
        "levels subtracted": _bits_of(levels_of=lambda levels, D: -levels.log2()),
        "levels in nats": _bits_of(levels_of=lambda levels, D: levels.log()),
        "levels averaged too": _bits_of(levels_of=lambda levels, D: levels.log2() / D),
        "levels for every pixel": _bits_of(levels_of=lambda levels, D: D * levels.log2()),
        "levels minus one": _bits_of(
            y=lambda x, u, levels: (x + u) / (levels - 1) * (1 - 1e-6), levels_of=lambda levels, D: (levels - 1).log2()
        ),
        "no noise": _bits_of(y=lambda x, u, levels: x / levels),
        "middle of the cell": _bits_of(y=lambda x, u, levels: (x + 0.5) / levels),
        "noise subtracted": _bits_of(y=lambda x, u, levels: (x + 1 - u) / levels),
        "logit's slope forgotten": _bits_of(lambda prior, slope: prior),
        "sign of the logit's slope": _bits_of(lambda prior, slope: prior - slope),
        "1 - 2 alpha forgotten": _bits_of(also=lambda alpha, sigma: -(1 - 2 * alpha).log()),
        "alpha forgotten": _without_alpha,
        "sum over dimensions": lambda x, *rest: _bits(x, *rest) * x.shape[1],
        "density summed": _bits_of(reduce=lambda log_p: log_p.sum(1)),
        "nats": lambda *at: _bits(*at) * math.log(2),
        "density in nats": lambda x, u, levels, *rest: _bits(x, u, levels, *rest) * math.log(2) + levels.log2() - levels.log(),
        "sign": lambda *at: -_bits(*at),
        "sigma not normalised": _bits_of(also=lambda alpha, sigma: sigma.log()),
        "2 pi missing": _bits_of(also=lambda alpha, sigma: 0.5 * _LOG_2_PI),
        "sigma is not the variance": lambda x, u, levels, alpha, mu, sigma: _bits(x, u, levels, alpha, mu, sigma.sqrt()),
        "mean over the batch": lambda *at: _bits(*at).mean(),
        "sum over the batch": lambda *at: _bits(*at).sum(),
    },
)

# --- 6.7 several scales -----------------------------------------------------------------------------------------------


def _scales(rng: np.random.Generator, B: int, C: int, H: int, W: int) -> Inputs:
    return {
        "x": rng.standard_normal((B, C, H, W)),
        "a1": rng.normal(0.3, 0.3, 4 * C),
        "a2": rng.normal(-0.3, 0.3, 8 * C),
    }


def _scaled(h: Tensor, a: Tensor) -> Tensor:
    return h * a.exp()[:, None, None]


def _total(h: Tensor) -> Tensor:
    return _normal(h).flatten(1).sum(1)


def _multiscale_of(
    places: Callable = lambda h1, h2: (h1[0, 0].numel(), h2[0, 0].numel()),
    prior: Callable = lambda h1, on, done, z: _total(done) + _total(z),
    scaled: Callable = _scaled,
    swap: bool = False,
    squeeze: Callable = _squeeze,
) -> Callable:
    """The log-density under two scales, one part replaced: `places` are what the sums of a1 and a2 are multiplied by."""

    def multiscale(x: Tensor, a1: Tensor, a2: Tensor) -> Tensor:
        h1 = scaled(squeeze(x), a1)
        on, done = h1.chunk(2, dim=1)
        if swap:
            on, done = done, on
        z = scaled(squeeze(on), a2)
        first, second = places(h1, z)
        return prior(h1, on, done, z) + first * a1.sum() + second * a2.sum()

    return multiscale


_multiscale = _multiscale_of()
_SECOND_LINE = {"a1": [0.0, 0.0, 0.0, 1.0], "a2": [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]}

MULTISCALE = Question(
    id="6.7",
    title="Two scales",
    function="multiscale_log_density",
    returns="(B,)",
    reference=_multiscale,
    example={"x": np.diag([1.0, 2.0, 0.0, 0.0])[None, None].tolist(), **_SECOND_LINE},
    checks=(
        Check("grey images", 2, lambda rng: _scales(rng, B=4, C=1, H=4, W=8)),
        Check("several channels", 1, lambda rng: _scales(rng, B=3, C=3, H=8, W=4)),
    ),
    mistakes={
        "done half forgotten": _multiscale_of(prior=lambda h1, on, done, z: _total(z)),
        "other half forgotten": _multiscale_of(prior=lambda h1, on, done, z: _total(done)),
        "other half counted twice": _multiscale_of(prior=lambda h1, on, done, z: _total(h1) + _total(z)),
        "done half counted twice": _multiscale_of(prior=lambda h1, on, done, z: 2 * _total(done) + _total(z)),
        "second scale not applied": _multiscale_of(prior=lambda h1, on, done, z: _total(h1)),
        "second half goes on": _multiscale_of(swap=True),
        "first log-determinant forgotten": _multiscale_of(lambda h1, z: (0, z[0, 0].numel())),
        "second log-determinant forgotten": _multiscale_of(lambda h1, z: (h1[0, 0].numel(), 0)),
        "no log-determinant": _multiscale_of(lambda h1, z: (0, 0)),
        "no places": _multiscale_of(lambda h1, z: (1, 1)),
        "places before the squeeze": _multiscale_of(lambda h1, z: (4 * h1[0, 0].numel(), 4 * z[0, 0].numel())),
        "places of the first scale for both": _multiscale_of(lambda h1, z: (h1[0, 0].numel(),) * 2),
        "places of the image for both": _multiscale_of(lambda h1, z: (4 * h1[0, 0].numel(),) * 2),
        "sign of the log-determinants": _multiscale_of(lambda h1, z: (-h1[0, 0].numel(), -z[0, 0].numel())),
        "divided by the scales": _multiscale_of(scaled=lambda h, a: _scaled(h, -a)),
        "no exponential": _multiscale_of(scaled=lambda h, a: h * a[:, None, None]),
        "2 pi missing": _multiscale_of(
            prior=lambda h1, on, done, z: -0.5 * ((done**2).flatten(1).sum(1) + (z**2).flatten(1).sum(1))
        ),
        "mean over dimensions": lambda x, a1, a2: _multiscale(x, a1, a2) / x[0].numel(),
        "sum over the batch": lambda *at: _multiscale(*at).sum(),
        "mean over the batch": lambda *at: _multiscale(*at).mean(),
        "image reshaped": _multiscale_of(
            squeeze=lambda x: x.reshape(x.shape[0], 4 * x.shape[1], x.shape[2] // 2, x.shape[3] // 2)
        ),
        "channels innermost": _multiscale_of(squeeze=lambda x: _blocks(x).permute(0, 2, 3, 1, 4, 5).flatten(1, 3)),
    },
)


# --- 6.8 train one ----------------------------------------------------------------------------------------------------

_CELL = (0.125, 0.09)
_WIDTH = 0.3


def _wave(rng: np.random.Generator, N: int = 3000) -> Inputs:
    """Points around a wave that runs aslant through the plane, and where the density is asked: a grid along it, in no order.

    Seen from either axis the wave folds over itself, so that neither coordinate is Gaussian, nor is either given the other: a
    flow has to change both. For the grader the true log-density, and the area of the grid's cells.
    """
    turn = np.pi / 4 + rng.uniform(-0.2, 0.2) + np.pi / 2 * rng.integers(4)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre = rng.uniform(0.7, 1.5, 2) * rng.choice([-1, 1], 2)
    phase = rng.uniform(0, 2 * np.pi)

    def middle(u: np.ndarray) -> np.ndarray:
        return 0.8 * np.sin(1.8 * u + phase)

    u = rng.standard_normal(N)
    v = middle(u) + _WIDTH * rng.standard_normal(N)
    corner = np.meshgrid(np.arange(-28, 28) * _CELL[0], np.arange(-29, 29) * _CELL[1])
    grid = np.stack(corner, -1).reshape(-1, 2)
    grid = rng.permutation(grid + rng.uniform(0, 1, 2) * _CELL)
    log_p = -0.5 * (grid[:, 0] ** 2 + ((grid[:, 1] - middle(grid[:, 0])) / _WIDTH) ** 2) - _LOG_2_PI - math.log(_WIDTH)
    return {"x": np.stack([u, v], 1) @ axes + centre, "points": grid @ axes + centre, "_log_p": log_p}


def _divergence(inputs: Inputs, answer: np.ndarray) -> float:
    """The KL divergence from the true density, for densities that need not add up to one: the sum of p log(p / q) - p + q.

    It is 0 or more, and 0 at the truth alone, whatever the answer adds up to: too much mass costs as too little does.
    """
    log_p, area = inputs["_log_p"].astype(float), _CELL[0] * _CELL[1]
    with np.errstate(over="ignore"):
        divergence = (np.exp(log_p) * (log_p - answer - 1) + np.exp(answer)).sum() * area
    return min(float(divergence), 1000.0)  # what is worse has too many digits to be read


def _flow_log_density(y: Tensor, weights: tuple[Tensor, ...], take_turns: bool) -> tuple[Tensor, Tensor]:
    """log N(z) and the log-determinant, both (N,): four weights a coupling, before them a scale and a shift."""
    first, shift, *rest = weights
    z, log_det = y * first.exp() + shift, first.sum().expand(len(y))
    for layer in range(0, len(rest), 4):
        W, c, V, d = rest[layer : layer + 4]
        swap = take_turns and layer % 8 == 4
        kept, changed = z.flip(1).unbind(1) if swap else z.unbind(1)
        raw, t = (torch.tanh(kept[:, None] * W + c) @ V + d).unbind(1)
        s = _bounded(raw)
        changed = changed * s.exp() + t
        z = torch.stack([changed, kept] if swap else [kept, changed], dim=1)
        log_det = log_det + s
    return _normal(z).sum(1), log_det


def _flow_of(
    loss: Callable = lambda prior, log_det: -(prior + log_det).mean(),
    answer: Callable = lambda prior, log_det: prior + log_det,
    couplings: int = 4,
    hidden: int = 32,
    steps: int = 120,
    lr: float = 0.03,
    take_turns: bool = True,
    data: Callable = lambda x: x,
) -> Callable:
    """The training of a flow of affine couplings, one part replaced."""

    def fit(x: Tensor, points: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(x)

        x = data(x)
        start = [-x.std(0).log(), -x.mean(0) / x.std(0)]
        for _ in range(couplings):
            start += [2 * normal(hidden), normal(hidden), 0.02 * normal(hidden, 2), torch.zeros(2).to(x)]

        def cost(*weights: Tensor) -> Tensor:
            batch = x[torch.randint(len(x), (256,), generator=generator)]
            return loss(*_flow_log_density(batch, weights, take_turns))

        weights = trained(cost, *start, steps=steps, lr=lr)
        return answer(*_flow_log_density(points, weights, take_turns))

    return fit


def _smoothed(x: Tensor, points: Tensor) -> Tensor:
    """The density without a flow, which takes a moment only: a Gaussian around each of the given points."""
    width = 0.1
    squares = torch.cdist(points, x) ** 2
    return (-0.5 * squares / width**2).logsumexp(1) - math.log(len(x)) - _LOG_2_PI - 2 * math.log(width)


def _reported(change: Callable[[Tensor], Tensor]) -> Callable:
    """A good density, and what is returned of it changed."""
    return lambda x, points: change(_smoothed(x, points))


def _once_a_batch(prior: Tensor, log_det: Tensor) -> Tensor:
    return prior + log_det.sum()


_MISTAKES = {
    "log-determinant forgotten": _flow_of(lambda prior, log_det: -prior.mean(), lambda prior, log_det: prior),
    "log-determinant forgotten in the loss": _flow_of(lambda prior, log_det: -prior.mean()),
    "log-determinant forgotten in the answer": _flow_of(answer=lambda prior, log_det: prior),
    "sign of the log-determinant": _flow_of(
        lambda prior, log_det: (log_det - prior).mean(), lambda prior, log_det: prior - log_det
    ),
    "mean over dimensions": _flow_of(
        lambda prior, log_det: -(prior + log_det / 2).mean(), lambda prior, log_det: prior + log_det / 2
    ),
    "log-determinant halved in the loss": _flow_of(lambda prior, log_det: -(prior + log_det / 2).mean()),
    "log-determinant once a batch": _flow_of(lambda *at: -_once_a_batch(*at).mean(), _once_a_batch),
    "halves never take turns": _flow_of(take_turns=False),
    "one Gaussian": _flow_of(couplings=0),
    "density for its logarithm": _reported(lambda log_q: log_q.exp()),
    "minus the logarithm": _reported(lambda log_q: -log_q),
    "bits": _reported(lambda log_q: log_q / math.log(2)),
    "2 pi missing": _reported(lambda log_q: log_q + _LOG_2_PI),
    "points out of order": _reported(lambda log_q: log_q.sort().values),
    "forty points": _flow_of(data=lambda x: x[:40]),
    "few steps": _flow_of(steps=15),
    "small learning rate": _flow_of(lr=0.0001),
}


def _mass(answer: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.exp(answer) * _CELL[0] * _CELL[1]


def _gaussian(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether the answer is a quadratic function of the points."""
    a, b = inputs["points"].T.astype(float)
    basis = np.column_stack([a * a, a * b, b * b, a, b, np.ones(len(a))])
    rest = answer - basis @ np.linalg.lstsq(basis, answer, rcond=None)[0]
    return bool(np.ptp(answer) > 0 and np.abs(rest).max() < 1e-3 * np.ptp(answer))


def _distance_to_gaussian(points: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Of each coordinate's distribution, from the Gaussian of the same mean and variance: Kolmogorov's, the largest gap."""
    mass, gaps = mass / mass.sum(), []
    for a in points.T.astype(float):
        order = a.argsort()
        sd = math.sqrt(mass @ (a - mass @ a) ** 2)
        below = np.cumsum(mass[order]) - mass[order] / 2
        gaps.append(np.abs(below - ndtr((a[order] - mass @ a) / sd)).max())
    return np.array(gaps)


def _one_stays(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether a coordinate is Gaussian under the answer, and is not in truth."""
    true, own = (_distance_to_gaussian(inputs["points"], _mass(log_p)) for log_p in (inputs["_log_p"].astype(float), answer))
    return bool(((own < 0.015) & (true > 0.03)).any())


def _too_much(inputs: Inputs, answer: np.ndarray) -> bool:
    return bool(_mass(answer).sum() > 1.1)


_HINTS = (
    told(
        "6.8", "points out of order", when=lambda inputs, answer: np.array_equal(answer, np.sort(answer)) and np.ptp(answer) > 0
    ),
    told("6.8", "one Gaussian", when=_gaussian),
    told("6.8", "density for its logarithm", mended=lambda answer: np.log(np.maximum(answer, 1e-12))),
    told("6.8", "minus the logarithm", mended=lambda answer: -answer),
    told("6.8", "bits", mended=lambda answer: answer * math.log(2)),
    told("6.8", "2 pi missing", mended=lambda answer: answer - _LOG_2_PI),
    Hint(
        "your density adds up to more than 1: to the logarithm of the noise's density belongs the log-determinant of the map "
        "from data to noise, for each point its own, with its sign.",
        when=_too_much,
    ),
    Hint(
        "your model leaves a coordinate Gaussian, which the points are not along any axis: do the halves take turns, are there "
        "four couplings or more, and does the loss stand still?",
        when=_one_stays,
    ),
)


def _flow_measure(at_most: float) -> Measure:
    return Measure(
        "the KL divergence of your density",
        _divergence,
        at_most,
        lambda inputs: (len(inputs["points"]),),
        "the loss is minus the mean of the noise's log-density plus the whole log-determinant, and it has to stop falling, with "
        "four couplings or more; the answer is that sum for each of the points.",
        " nats",
        _HINTS,
    )


# The divergence in nats. Right flows of 6 or 8 couplings (tanh, ReLU, SiLU; 32 to 64 units; Adam, AdamW, RMSprop; 400 to 1500
# steps), on 2 to 8 draws: mostly 0.01 to 0.1, the worst 0.116. The reference earns all points on 40 draws. Half the
# log-determinant cannot be nearer than 0.193: then z has half the variance in each of two dimensions, whatever the flow. One
# Gaussian 0.6 at least, halves that never take turns 0.5.
EXPERIMENT = Question(
    id="6.8",
    title="Train a flow",
    function="fit_flow",
    returns="(N,)",
    reference=_smoothed,
    example={"x": [[0.0, 0.0], [1.0, 0.0]], "points": [[0.0, 0.0]]},
    checks=(
        Check("trained", 3, _wave, measure=_flow_measure(0.16)),
        Check("close to the best", 1, _wave, measure=_flow_measure(0.12), of="trained"),
    ),
    mistakes=_MISTAKES,
    seconds=60.0,
)

QUESTIONS = (ONE_D, COUPLING, INVERSE, CONVOLUTION, SQUEEZE, BITS, MULTISCALE, EXPERIMENT)
