"""Exercise 10, latent space: rate and distortion, IWAE, richer priors, categorical latents, disentanglement.

Sizes: B examples of D pixels, L latent variables, S samples, M components, K categories, F factors. Samples come first, `(S, B)`;
log-densities are sums over the latent variables, in nats.

Tolerances: over 100 seeds the reference in float32 is within 2e-6 of `1 + |right answer|`, its gradients within 5e-6.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from gencourse.grading.questions import Check, Inputs, Measure, Question, told
from gencourse.grading.questions.training import trained

_LOG_2_PI = math.log(2 * math.pi)


def _normal(z: Tensor, mu: Tensor, sd: Tensor) -> Tensor:
    """log N(z; mu, sd^2) of each number."""
    return -0.5 * (((z - mu) / sd) ** 2 + _LOG_2_PI) - sd.log()


# --- 10.1 rate and distortion -----------------------------------------------------------------------------------------


def _encoded(rng: np.random.Generator, B: int, D: int, L: int) -> Inputs:
    return {
        "x": rng.integers(0, 2, (B, D)).astype(float),
        "logits": 2 * rng.standard_normal((B, D)),
        "mu": rng.uniform(0.5, 2.0, (B, L)) * rng.choice([-1, 1], (B, L)),
        "log_var": rng.uniform(-2.5, -0.5, (B, L)),
        "beta": float(rng.choice([0.25, 0.5, 2.0, 3.0, 4.0])),
    }


def _distortion(x: Tensor, logits: Tensor) -> Tensor:
    return (softplus(logits) - x * logits).sum(1)


def _rate(mu: Tensor, log_var: Tensor) -> Tensor:
    return 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum(1)


def _rate_distortion_of(
    distortion: Callable = _distortion,
    rate: Callable = _rate,
    loss: Callable = lambda d, r, beta: d + beta * r,
    columns: Callable = lambda d, r, loss: torch.stack([d, r, loss], dim=1),
) -> Callable:
    """The three numbers, one part replaced."""

    def terms(x: Tensor, logits: Tensor, mu: Tensor, log_var: Tensor, beta: Tensor) -> Tensor:
        d, r = distortion(x, logits), rate(mu, log_var)
        return columns(d, r, loss(d, r, beta))

    return terms


RATE = Question(
    id="10.1",
    title="Rate and distortion",
    function="rate_distortion",
    returns="(B, 3)",
    reference=_rate_distortion_of(),
    example={"x": [[1, 0]], "logits": [[2.0, -1.0]], "mu": [[1.0, -1.0]], "log_var": [[0.0, -1.0]], "beta": 1.5},
    checks=(Check("values", 2, lambda rng: _encoded(rng, B=5, D=7, L=3)),),
    mistakes={
        "beta at the distortion": _rate_distortion_of(loss=lambda d, r, beta: beta * d + r),
        "beta squared": _rate_distortion_of(loss=lambda d, r, beta: d + beta**2 * r),
        "beta left out": _rate_distortion_of(loss=lambda d, r, beta: d + r + 0 * beta),
        "beta in the rate": _rate_distortion_of(columns=lambda d, r, loss: torch.stack([d, loss - d, loss], dim=1)),
        "rate subtracted": _rate_distortion_of(loss=lambda d, r, beta: d - beta * r),
        "the bound": _rate_distortion_of(loss=lambda d, r, beta: -d - beta * r),
        "log-likelihood for distortion": _rate_distortion_of(lambda x, logits: -_distortion(x, logits)),
        "rate without its half": _rate_distortion_of(rate=lambda mu, log_var: 2 * _rate(mu, log_var)),
        "sign of the log-variance": _rate_distortion_of(rate=lambda mu, v: 0.5 * (mu**2 + v.exp() + v - 1).sum(1)),
        "log-variance for log-deviation": _rate_distortion_of(rate=lambda mu, v: _rate(mu, 2 * v)),
        "variance for its logarithm": _rate_distortion_of(rate=lambda mu, v: 0.5 * (mu**2 + v.abs() - v.abs().log() - 1).sum(1)),
        "one missing": _rate_distortion_of(rate=lambda mu, v: 0.5 * (mu**2 + v.exp() - v).sum(1)),
        "mean over the latent variables": _rate_distortion_of(rate=lambda mu, v: _rate(mu, v) / mu.shape[1]),
        "mean over the pixels": _rate_distortion_of(lambda x, logits: _distortion(x, logits) / x.shape[1]),
        "squared error": _rate_distortion_of(lambda x, logits: ((logits.sigmoid() - x) ** 2).sum(1)),
        "ones only": _rate_distortion_of(lambda x, logits: (x * softplus(-logits)).sum(1)),
        "columns exchanged": _rate_distortion_of(columns=lambda d, r, loss: torch.stack([r, d, loss], dim=1)),
        "mean over the batch": lambda *at: _rate_distortion_of()(*at).mean(0).expand(len(at[0]), 3),
    },
)

# --- 10.2 IWAE --------------------------------------------------------------------------------------------------------


def _log_weights(rng: np.random.Generator, S: int, B: int) -> Inputs:
    """Log-densities whose ratios differ a lot within each example."""
    log_q = rng.normal(-4, 1, (S, B))
    return {"log_joint": log_q + rng.normal(-6, 1.5, (S, B)), "log_q": log_q}


def _small_densities(rng: np.random.Generator, S: int, B: int) -> Inputs:
    """The same of images, whose densities are small beyond float32, and each example's differently."""
    inputs = _log_weights(rng, S, B)
    return {**inputs, "log_joint": inputs["log_joint"] - rng.permutation(np.linspace(150, 700, B))}


def _iwae_of(
    weights: Callable = lambda log_joint, log_q: log_joint - log_q,
    bound: Callable = lambda log_w: log_w.logsumexp(0) - math.log(len(log_w)),
) -> Callable:
    return lambda log_joint, log_q: bound(weights(log_joint, log_q))


IWAE = Question(
    id="10.2",
    title="The importance-weighted bound",
    function="iwae_bound",
    returns="(B,)",
    reference=_iwae_of(),
    example={"log_joint": [[-3.0, -4.0], [-2.0, -7.0], [-5.0, -5.0]], "log_q": [[-1.0, -2.0], [-1.5, -2.0], [-0.5, -1.0]]},
    checks=(
        Check("values", 2, lambda rng: _log_weights(rng, S=7, B=5)),
        Check("small densities", 1, lambda rng: _small_densities(rng, S=6, B=5), rtol=1e-6, atol=2e-3, needs="values"),
    ),
    mistakes={
        "mean of logarithms": _iwae_of(bound=lambda log_w: log_w.mean(0)),
        "number of samples forgotten": _iwae_of(bound=lambda log_w: log_w.logsumexp(0)),
        "number of samples twice": _iwae_of(bound=lambda log_w: log_w.logsumexp(0) - 2 * math.log(len(log_w))),
        "number of examples": _iwae_of(bound=lambda log_w: log_w.logsumexp(0) - math.log(log_w.shape[1])),
        "largest weight": _iwae_of(bound=lambda log_w: log_w.max(0).values),
        "sum over the batch": _iwae_of(
            bound=lambda log_w: log_w.logsumexp(1).mean().expand(log_w.shape[1]) - math.log(len(log_w))
        ),
        "one bound for all": _iwae_of(
            bound=lambda log_w: (log_w.flatten().logsumexp(0) - math.log(log_w.numel())).expand(log_w.shape[1])
        ),
        "q multiplied": _iwae_of(weights=lambda log_joint, log_q: log_joint + log_q),
        "q forgotten": _iwae_of(weights=lambda log_joint, log_q: log_joint + 0 * log_q),
        "weights turned over": _iwae_of(weights=lambda log_joint, log_q: log_q - log_joint),
        "first sample": _iwae_of(bound=lambda log_w: log_w[0]),
        "logarithms divided": _iwae_of(weights=lambda log_joint, log_q: log_joint / log_q),
        "mean of each by itself": lambda log_joint, log_q: log_joint.logsumexp(0) - log_q.logsumexp(0),
        "weighted mean of logarithms": _iwae_of(bound=lambda log_w: (log_w.softmax(0) * log_w).sum(0)),
        "no logarithm": _iwae_of(bound=lambda log_w: log_w.exp().mean(0)),
        "negative": _iwae_of(bound=lambda log_w: math.log(len(log_w)) - log_w.logsumexp(0)),
        "bits": lambda *at: _iwae_of()(*at) / math.log(2),
    },
)

# --- 10.3 effective sample size ---------------------------------------------------------------------------------------


def _weights_alone(rng: np.random.Generator, S: int, B: int) -> Inputs:
    return {"log_w": rng.normal(0, 1.2, (S, B)) + rng.permutation(np.linspace(-600, -200, B))}


def _ess_of(
    weights: Callable = lambda log_w: log_w.softmax(0), size: Callable = lambda w: w.sum(0) ** 2 / (w**2).sum(0)
) -> Callable:
    return lambda log_w: size(weights(log_w))


SAMPLE_SIZE = Question(
    id="10.3",
    title="How many samples count",
    function="effective_sample_size",
    returns="(B,)",
    reference=_ess_of(),
    example={"log_w": [[0.0, -1.0], [0.0, -2.0], [-1.0, 1.0]]},
    checks=(Check("values", 2, lambda rng: _weights_alone(rng, S=9, B=6), rtol=2e-4, atol=1e-4),),
    mistakes={
        "squares not summed": _ess_of(size=lambda w: 1 / w.max(0).values),
        "share": lambda log_w: _ess_of()(log_w) / len(log_w),
        "over the batch": lambda log_w: (1 / (log_w.softmax(1) ** 2).sum(1)).mean().expand(log_w.shape[1]),
        "normalised over all": lambda log_w: 1 / ((log_w.flatten().softmax(0).view_as(log_w) ** 2).sum(0) + 1e-6),
        "perplexity": _ess_of(size=lambda w: (-(w * (w + 1e-30).log()).sum(0)).exp()),
        "turned over": lambda log_w: 1 / _ess_of()(log_w),
        "number of samples": lambda log_w: torch.full_like(log_w[0], len(log_w)),
        "mean of squares": _ess_of(size=lambda w: 1 / (w**2).mean(0)),
        "root": lambda log_w: _ess_of()(log_w).sqrt(),
        "weights not normalised": _ess_of(weights=lambda log_w: log_w.exp(), size=lambda w: 1 / ((w**2).sum(0) + 1e-6)),
    },
)

# --- 10.4 KL to a mixture ---------------------------------------------------------------------------------------------


def _under_a_mixture(rng: np.random.Generator, S: int, B: int, L: int, M: int) -> Inputs:
    """Draws of each q, and a mixture whose components overlap and have different weights; it is denser than q at some draw."""
    while True:
        mu, sd = 1.5 * rng.standard_normal((B, L)), rng.uniform(0.4, 0.9, (B, L))
        inputs = {
            "z": mu + sd * rng.standard_normal((S, B, L)),
            "mu": mu,
            "sd": sd,
            "weights": rng.dirichlet(np.full(M, 2.0)) * 0.8 + 0.2 / M,
            "means": 1.5 * rng.standard_normal((M, L)),
            "sds": rng.uniform(0.5, 0.8, (M, L)) ** rng.choice([-1, 1], (M, L)),
        }
        z, of_q, of_p = (
            [torch.tensor(inputs[name]) for name in names] for names in (["z"], ["mu", "sd"], ["weights", "means", "sds"])
        )
        if (_log_q(*z, *of_q) - _log_mixture(*z, *of_p)).min() < -0.2:
            return inputs


def _log_mixture(z: Tensor, weights: Tensor, means: Tensor, sds: Tensor) -> Tensor:
    return (weights.log() + _normal(z[..., None, :], means, sds).sum(-1)).logsumexp(-1)


def _log_q(z: Tensor, mu: Tensor, sd: Tensor) -> Tensor:
    return _normal(z, mu, sd).sum(-1)


def _kl_of(
    log_q: Callable = _log_q,
    log_p: Callable = _log_mixture,
    estimate: Callable = lambda log_q, log_p: (log_q - log_p).mean(0),
) -> Callable:
    """The estimate of the divergence, one part replaced."""
    return lambda z, mu, sd, weights, means, sds: estimate(log_q(z, mu, sd), log_p(z, weights, means, sds))


MIXTURE = Question(
    id="10.4",
    title="KL to a mixture",
    function="kl_to_mixture",
    returns="(B,)",
    reference=_kl_of(),
    example={
        "z": [[[0.5], [1.0]], [[-0.5], [2.0]]],
        "mu": [[0.0], [1.5]],
        "sd": [[1.0], [0.5]],
        "weights": [0.25, 0.75],
        "means": [[0.0], [2.0]],
        "sds": [[1.0], [0.5]],
    },
    checks=(Check("values", 2, lambda rng: _under_a_mixture(rng, S=6, B=4, L=3, M=4)),),
    mistakes={
        "sign": _kl_of(estimate=lambda log_q, log_p: (log_p - log_q).mean(0)),
        "mixture weights forgotten": _kl_of(log_p=lambda z, weights, *at: _log_mixture(z, 0 * weights + 1, *at)),
        "mixture weights the same": _kl_of(log_p=lambda z, weights, *at: _log_mixture(z, 0 * weights + 1 / len(weights), *at)),
        "mean of logarithms": _kl_of(
            log_p=lambda z, weights, means, sds: (weights * _normal(z[..., None, :], means, sds).sum(-1)).sum(-1)
        ),
        "mixture in each dimension": _kl_of(
            log_p=lambda z, weights, means, sds: (
                (weights.log()[:, None] + _normal(z[..., None, :], means, sds)).logsumexp(-2).sum(-1)
            )
        ),
        "most probable component": _kl_of(
            log_p=lambda z, weights, means, sds: (weights.log() + _normal(z[..., None, :], means, sds).sum(-1)).amax(-1)
        ),
        "standard normal prior": _kl_of(
            log_p=lambda z, weights, means, sds: (
                _normal(z, 0 * z, 0 * z + 1).sum(-1) + 0 * (weights.sum() + means.sum() + sds.sum())
            )
        ),
        "sd for variance": _kl_of(log_p=lambda z, weights, means, sds: _log_mixture(z, weights, means, sds.sqrt())),
        "sd of q for variance": _kl_of(log_q=lambda z, mu, sd: _log_q(z, mu, sd.sqrt())),
        "entropy of q in closed form left out": _kl_of(estimate=lambda log_q, log_p: -log_p.mean(0)),
        "q not normalised": _kl_of(log_q=lambda z, mu, sd: _log_q(z, mu, sd) + sd.log().sum(-1)),
        "prior not normalised": _kl_of(
            log_p=lambda z, weights, means, sds: (
                weights.log() + (_normal(z[..., None, :], means, sds) + sds.log()).sum(-1)
            ).logsumexp(-1)
        ),
        "2 pi in q alone": _kl_of(log_p=lambda z, *at: _log_mixture(z, *at) + 0.5 * z.shape[-1] * _LOG_2_PI),
        "sum over the samples": _kl_of(estimate=lambda log_q, log_p: (log_q - log_p).sum(0)),
        "mean over the latent variables": lambda z, *at: _kl_of()(z, *at) / z.shape[-1],
        "absolute values": _kl_of(estimate=lambda log_q, log_p: (log_q - log_p).abs().mean(0)),
        "logarithm of a mean ratio": _kl_of(estimate=lambda log_q, log_p: (log_q - log_p).logsumexp(0) - math.log(len(log_q))),
        "mean over the batch": lambda *at: _kl_of()(*at).mean().expand(at[0].shape[1]),
    },
    harmless={
        "logsumexp: one maximum over axis 0 too": "all examples are of one size",
        "logsumexp: one maximum over axis 1 too": "all examples are of one size",
        "logsumexp: one maximum over everything": "all examples are of one size",
    },
)

# --- 10.5 VampPrior ---------------------------------------------------------------------------------------------------


def _pseudo(rng: np.random.Generator, B: int, D: int, L: int, M: int) -> Inputs:
    """Codes, pseudo-inputs kept as logits, and an encoder of one layer for mean and log-variance."""
    return {
        "z": rng.standard_normal((B, L)),
        "logits": 2 * rng.standard_normal((M, D)),
        "W": rng.standard_normal((L, D)),
        "V": 0.5 * rng.standard_normal((L, D)),
    }


def _vamp_of(
    inputs: Callable = lambda logits: logits.sigmoid(),
    sd: Callable = lambda log_var: (0.5 * log_var).exp(),
    together: Callable = lambda log_p: log_p.logsumexp(1) - math.log(log_p.shape[1]),
    density: Callable = _normal,
    dims: Callable = lambda each: each.sum(2),
) -> Callable:
    """The prior's log-density, one part replaced."""

    def log_prior(z: Tensor, logits: Tensor, W: Tensor, V: Tensor) -> Tensor:
        u = inputs(logits)  # (M, D)
        return together(dims(density(z[:, None], u @ W.mT, sd(u @ V.mT))))  # (B, M, L) -> (B, M) -> (B,)

    return log_prior


VAMP = Question(
    id="10.5",
    title="The VampPrior",
    function="vamp_log_prior",
    returns="(B,)",
    reference=_vamp_of(),
    example={"z": [[0.5], [-1.0]], "logits": [[0.0, 2.0], [-1.0, 1.0], [1.0, 1.0]], "W": [[1.0, -2.0]], "V": [[0.5, -1.0]]},
    checks=(
        Check("values", 2, lambda rng: _pseudo(rng, B=5, D=6, L=3, M=4)),
        Check("gradients", 1, lambda rng: _pseudo(rng, B=6, D=5, L=2, M=3), ("logits", "W", "V"), rtol=1e-4, atol=3e-4),
    ),
    mistakes={
        "number of pseudo-inputs forgotten": _vamp_of(together=lambda log_p: log_p.logsumexp(1)),
        "number of examples": _vamp_of(together=lambda log_p: log_p.logsumexp(1) - math.log(len(log_p))),
        "mean of logarithms": _vamp_of(together=lambda log_p: log_p.mean(1)),
        "nearest component": _vamp_of(together=lambda log_p: log_p.amax(1) - math.log(log_p.shape[1])),
        "no sigmoid": _vamp_of(inputs=lambda logits: logits),
        "tanh": _vamp_of(inputs=torch.tanh),
        "pseudo-inputs cut off": _vamp_of(inputs=lambda logits: logits.sigmoid().detach()),
        "components cut off": lambda z, logits, W, V: _vamp_of()(z, logits.detach(), W.detach(), V.detach()) + 0 * z.sum(),
        "log-variance for log-deviation": _vamp_of(sd=torch.exp),
        "log-variance for variance": _vamp_of(sd=lambda log_var: log_var.abs().sqrt()),
        "variance for deviation": _vamp_of(sd=lambda log_var: log_var.exp() ** 2),
        "one width": _vamp_of(sd=lambda log_var: (0 * log_var).exp()),
        "2 pi missing": _vamp_of(density=lambda z, mu, sd: _normal(z, mu, sd) + 0.5 * _LOG_2_PI),
        "not normalised": _vamp_of(density=lambda z, mu, sd: _normal(z, mu, sd) + sd.log()),
        "mean over the latent variables": _vamp_of(dims=lambda each: each.mean(2)),
        "mixture in each dimension": lambda z, logits, W, V: (
            _normal(z[:, None], logits.sigmoid() @ W.mT, (0.5 * logits.sigmoid() @ V.mT).exp()).logsumexp(1)
            - math.log(len(logits))
        ).sum(1),
        "over the batch": lambda z, logits, W, V: (
            _vamp_of(together=lambda log_p: log_p.logsumexp(0).mean().expand(len(log_p)))(z, logits, W, V) - math.log(len(z))
        ),
        "mean over the batch": lambda *at: _vamp_of()(*at).mean().expand(len(at[0])),
    },
    harmless={
        "logsumexp: one maximum over axis 0 too": "all examples are of one size",
        "logsumexp: one maximum over everything": "all examples are of one size",
    },
)

# --- 10.6 Gumbel-softmax ----------------------------------------------------------------------------------------------


def _to_relax(rng: np.random.Generator, B: int, K: int) -> dict[str, Any]:
    return {
        "logits": rng.standard_normal((B, K)),
        "u": rng.uniform(0.05, 0.95, (B, K)),
        "tau": float(rng.choice([0.4, 0.6, 1.5, 2.0])),
    }


def _gumbel(u: Tensor) -> Tensor:
    return -(-u.log()).log()


def _relaxed_of(
    noise: Callable = _gumbel,
    inside: Callable = lambda logits, g, tau: (logits + g) / tau,
    outside: Callable = lambda y: y.softmax(1),
) -> Callable:
    return lambda logits, u, tau: outside(inside(logits, noise(u), tau))


RELAXED = Question(
    id="10.6",
    title="A Gumbel-softmax sample",
    function="gumbel_softmax",
    returns="(B, K)",
    reference=_relaxed_of(),
    example={"logits": [[0.0, 1.0, -1.0]], "u": [[0.5, 0.2, 0.9]], "tau": 0.5},
    checks=(
        Check("values", 1, lambda rng: _to_relax(rng, B=5, K=4)),
        Check("gradients", 1, lambda rng: _to_relax(rng, B=6, K=3), ("logits",), rtol=1e-4, atol=3e-5, needs="values"),
    ),
    mistakes={
        "temperature multiplied": _relaxed_of(inside=lambda logits, g, tau: (logits + g) * tau),
        "temperature at the logits only": _relaxed_of(inside=lambda logits, g, tau: logits / tau + g),
        "temperature at the noise only": _relaxed_of(inside=lambda logits, g, tau: logits + g / tau),
        "no temperature": _relaxed_of(inside=lambda logits, g, tau: logits + g + 0 * tau),
        "one logarithm": _relaxed_of(noise=lambda u: -u.log()),
        "noise subtracted": _relaxed_of(inside=lambda logits, g, tau: (logits - g) / tau),
        "uniforms for noise": _relaxed_of(noise=lambda u: u),
        "uniforms turned round": _relaxed_of(noise=lambda u: _gumbel(1 - u)),
        "logistic noise": _relaxed_of(noise=lambda u: u.log() - (-u).log1p()),
        "no noise": _relaxed_of(inside=lambda logits, g, tau: (logits + 0 * g) / tau),
        "softmax over the batch": _relaxed_of(outside=lambda y: y.softmax(0)),
        "sigmoid for softmax": _relaxed_of(outside=torch.sigmoid),
        "hard": _relaxed_of(outside=lambda y: torch.nn.functional.one_hot(y.argmax(1), y.shape[1]).to(y) + 0 * y),
        "logarithm": _relaxed_of(outside=lambda y: y.log_softmax(1)),
        "not normalised": _relaxed_of(outside=torch.exp),
        "probabilities for logits": lambda logits, u, tau: _relaxed_of()(logits.softmax(1), u, tau),
        "softmax twice": _relaxed_of(outside=lambda y: y.softmax(1).softmax(1)),
    },
    harmless={
        "softmax: one maximum over axis 0 too": "all examples are of one size",
        "softmax: one maximum over everything": "all examples are of one size",
    },
)

# --- 10.7 the mutual information gap ----------------------------------------------------------------------------------


def _informations(rng: np.random.Generator, L: int, F: int) -> Inputs:
    """A table whose columns have their largest entries in different rows, and entropies well apart."""
    entropies = rng.permutation(np.linspace(0.8, 3.0, F) + rng.uniform(-0.1, 0.1, F))
    table = rng.uniform(0.02, 0.9, (L, F)) * entropies
    return {"information": table, "entropies": entropies}


def _gap_of(
    gaps: Callable = lambda ordered: ordered[0] - ordered[1],
    normal: Callable = lambda gap, entropies, table: gap / entropies,
    total: Callable = lambda gaps: gaps.mean(),
) -> Callable:
    """The gap, one part replaced: `gaps` of the columns of the table, each sorted from large to small."""

    def mig(information: Tensor, entropies: Tensor) -> Tensor:
        ordered = information.sort(dim=0, descending=True).values
        return total(normal(gaps(ordered), entropies, information))

    return mig


GAP = Question(
    id="10.7",
    title="The mutual information gap",
    function="mutual_information_gap",
    returns="()",
    reference=_gap_of(),
    example={"information": [[1.0, 0.25], [0.5, 0.0], [0.0, 1.25]], "entropies": [1.0, 2.0]},
    checks=(Check("values", 2, lambda rng: _informations(rng, L=5, F=3)),),
    mistakes={
        "not normalised": _gap_of(normal=lambda gap, entropies, table: gap + 0 * entropies),
        "normalised by the largest": _gap_of(normal=lambda gap, entropies, table: gap / table.amax(0) + 0 * entropies),
        "normalised by the sum": _gap_of(normal=lambda gap, entropies, table: gap / table.sum(0) + 0 * entropies),
        "mean entropy": _gap_of(normal=lambda gap, entropies, table: gap / entropies.mean()),
        "multiplied": _gap_of(normal=lambda gap, entropies, table: gap * entropies),
        "third for second": _gap_of(gaps=lambda ordered: ordered[0] - ordered[2]),
        "smallest for second": _gap_of(gaps=lambda ordered: ordered[0] - ordered[-1]),
        "mean for second": _gap_of(gaps=lambda ordered: ordered[0] - ordered[1:].mean(0)),
        "second and third": _gap_of(gaps=lambda ordered: ordered[1] - ordered[2]),
        "largest alone": _gap_of(gaps=lambda ordered: ordered[0]),
        "gap between factors": lambda information, entropies: _row_gap(information / entropies),
        "gap between factors, not normalised": lambda information, entropies: _row_gap(information) / entropies.mean(),
        "sum over the factors": _gap_of(total=lambda gaps: gaps.sum()),
        "largest factor": _gap_of(total=lambda gaps: gaps.max()),
        "each factor": _gap_of(total=lambda gaps: gaps),
        "normalised after the mean": lambda information, entropies: (
            _gap_of(normal=lambda gap, *at: gap)(information, entropies) / entropies.sum()
        ),
    },
    harmless={"right to three digits only": "one number may have no more"},
)


def _row_gap(table: Tensor) -> Tensor:
    ordered = table.sort(dim=1, descending=True).values
    return (ordered[:, 0] - ordered[:, 1]).mean()


# --- 10.8 train an encoder --------------------------------------------------------------------------------------------

_GRID = np.linspace(-6.0, 6.0, 601)


def _seen_through(rng: np.random.Generator, M: int = 200, D: int = 4, H: int = 4) -> Inputs:
    """A decoder, and points that it made of one latent variable; for the grader their exact posteriors.

    Each coordinate rises or falls with z all along, so that the posterior has one hill and a Gaussian can be near it.
    """
    W, c = rng.uniform(0.35, 0.8, H) * rng.choice([-1, 1], H), rng.choice([-0.9, -0.3, 0.3, 0.9], H)
    V = rng.uniform(0.5, 1.2, (D, H)) * np.sign(W) * rng.choice([-1, 1], (D, 1))
    d, sigma = rng.choice([-3.0, -1.0, 1.0, 3.0], D), rng.choice([0.5, 1.0])

    def mean(z: np.ndarray) -> np.ndarray:
        return np.tanh(z[:, None] * W + c) @ V.T + d

    points = mean(rng.standard_normal(M)) + sigma * rng.standard_normal((M, D))
    log_joint = -0.5 * _GRID**2 - 0.5 * ((points[:, None] - mean(_GRID)) ** 2).sum(2) / sigma**2
    top = log_joint.max(1, keepdims=True)
    log_posterior = log_joint - top - np.log(np.exp(log_joint - top).sum(1, keepdims=True) * (_GRID[1] - _GRID[0]))
    return {"W": W, "c": c, "V": V, "d": d, "sigma": sigma, "points": points, "_log_posterior": log_posterior}


def _to_posterior(inputs: Inputs, answer: np.ndarray) -> float:
    """The mean over the points of KL(q || exact posterior), nats, on the posterior's own grid and, outside of it, its edges."""
    log_posterior = inputs["_log_posterior"].astype(float)
    steps = np.linspace(-5, 5, 201)
    share = np.exp(-0.5 * steps**2)
    share /= share.sum()
    with np.errstate(over="ignore"):
        sd = np.minimum(np.exp(0.5 * answer[:, 1].astype(float)), 1e6)
    total = 0.0
    for row, mu, width in zip(log_posterior, answer[:, 0].astype(float), sd, strict=True):
        at = mu + width * steps
        beyond = np.abs(at) - 6
        there = np.interp(at, _GRID, row) - np.where(beyond > 0, 6 * beyond + beyond**2 / 2, 0)  # as the prior falls
        total += share @ (-0.5 * steps**2 - 0.5 * _LOG_2_PI - np.log(width) - there)
    return min(total / len(sd), 1000.0)


def _decoded(z: Tensor, W: Tensor, c: Tensor, V: Tensor, d: Tensor) -> Tensor:
    return torch.tanh(z[..., None] * W + c) @ V.mT + d


def _moments(W: Tensor, c: Tensor, V: Tensor, d: Tensor, sigma: Tensor, points: Tensor) -> Tensor:
    """Without an encoder, in a moment: the best Gaussian of each point alone, from the exact posterior's moments and on."""
    z = torch.linspace(-6, 6, 401).to(W)
    log_joint = -0.5 * z**2 - 0.5 * ((points[:, None] - _decoded(z, W, c, V, d)) ** 2).sum(2) / sigma**2
    p = log_joint.softmax(1)
    mean = p @ z
    return torch.stack([mean, ((p * (z - mean[:, None]) ** 2).sum(1)).log()], dim=1)


def _encoder_of(
    prior: float = 1.0,
    steps: int = 500,
    lr: float = 0.015,
    draws: int = 8,
    points_made: int = 1000,
    moved: bool = True,
) -> Callable:
    """The training of an encoder by the bound, one part replaced."""

    def fit(W: Tensor, c: Tensor, V: Tensor, d: Tensor, sigma: Tensor, points: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(W)

        x, hidden = _decoded(normal(points_made), W, c, V, d) + sigma * normal(points_made, len(d)), 32
        middle, width = x.mean(0), x.std(0)

        def encode(y: Tensor, A: Tensor, a: Tensor, B: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            out = torch.tanh((y - middle) / width @ A + a) @ B + b
            return out[:, 0], out[:, 1]

        def cost(*weights: Tensor) -> Tensor:
            batch = x[torch.randint(len(x), (128,), generator=generator)]
            mu, log_var = encode(batch, *weights)
            z = mu + (0.5 * log_var).exp() * normal(draws, len(mu))
            z = z if moved else z.detach()
            off = 0.5 * ((batch - _decoded(z, W, c, V, d)) ** 2).sum(2).mean(0) / sigma**2
            return (off + prior * 0.5 * (mu**2 + log_var.exp() - log_var - 1)).mean()

        start = (normal(x.shape[1], hidden) / 2, normal(hidden) / 2, 0.1 * normal(hidden, 2), torch.zeros(2).to(x))
        return torch.stack(encode(points, *trained(cost, *start, steps=steps, lr=lr)), dim=1)

    return fit


def _reported(change: Callable[[Tensor], Tensor]) -> Callable:
    """A good answer, and what is returned of it changed."""
    return lambda *at: change(_moments(*at))


def _same_for_all(inputs: Inputs, answer: np.ndarray) -> bool:
    return bool(np.ptp(answer[:, 0]) < 0.05)


def _too_sure(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether the means are good, and the widths far too small."""
    p = np.exp(inputs["_log_posterior"].astype(float)) * (_GRID[1] - _GRID[0])
    mean = p @ _GRID
    sd = np.sqrt(p @ _GRID**2 - mean**2)
    return bool(np.median(np.abs(answer[:, 0] - mean) / sd) < 1 and np.median(np.exp(0.5 * answer[:, 1]) / sd) < 0.25)


_HINTS = (
    told("10.8", "prior for all", when=_same_for_all),
    told(
        "10.8",
        "standard deviation for log-variance",
        mended=lambda a: np.stack([a[:, 0], 2 * np.log(np.maximum(a[:, 1], 1e-9))], 1),
    ),
    told("10.8", "variance for log-variance", mended=lambda a: np.stack([a[:, 0], np.log(np.maximum(a[:, 1], 1e-9))], 1)),
    told("10.8", "log-deviation for log-variance", mended=lambda a: np.stack([a[:, 0], 2 * a[:, 1]], 1)),
    told("10.8", "columns exchanged", mended=lambda a: a[:, ::-1]),
    told("10.8", "no KL", when=_too_sure),
)


def _encoder_measure(at_most: float) -> Measure:
    return Measure(
        "the mean KL divergence of your q from the exact posterior",
        _to_posterior,
        at_most,
        lambda inputs: (len(inputs["points"]), 2),
        "the loss is the squared error of the decoded draw over twice the variance, summed over the dimensions, plus the whole "
        "KL to the prior; draws are mu + sigma times noise, so that gradients reach both; and it has to stand still.",
        " nats",
        _HINTS,
    )


EXPERIMENT = Question(
    id="10.8",
    title="Train an encoder",
    function="fit_encoder",
    returns="(M, 2)",
    reference=_moments,
    example={
        "W": [1.0, -0.5],
        "c": [0.0, 0.5],
        "V": [[1.0, 0.5], [0.5, -1.0]],
        "d": [6.0, -7.0],
        "sigma": 3.0,
        "points": [[6.5, -6.5]],
    },
    checks=(
        Check("trained", 3, _seen_through, measure=_encoder_measure(0.2)),
        Check("close to the best", 1, _seen_through, measure=_encoder_measure(0.12), of="trained"),
    ),
    mistakes={
        "prior for all": lambda *at: torch.zeros(len(at[-1]), 2).to(at[0]),
        "standard deviation for log-variance": _reported(lambda a: torch.stack([a[:, 0], (0.5 * a[:, 1]).exp()], 1)),
        "variance for log-variance": _reported(lambda a: torch.stack([a[:, 0], a[:, 1].exp()], 1)),
        "log-deviation for log-variance": _reported(lambda a: torch.stack([a[:, 0], 0.5 * a[:, 1]], 1)),
        "columns exchanged": _reported(lambda a: a.flip(1)),
        "points out of order": _reported(lambda a: a.flip(0)),
        "no KL": _encoder_of(prior=0.0),
        "KL four times": _encoder_of(prior=4.0),
        "gradients cut off": _encoder_of(moved=False),
        "few points": _encoder_of(points_made=4),
        "few steps": _encoder_of(steps=15),
        "small learning rate": _encoder_of(lr=0.00001),
    },
    harmless={
        "c from another draw": "what it does to one hidden unit, it may undo at another",
        "d from another draw": "what it does to one coordinate, it may undo at another",
    },
    seconds=60.0,
)

QUESTIONS = (RATE, IWAE, SAMPLE_SIZE, MIXTURE, VAMP, RELAXED, GAP, EXPERIMENT)
