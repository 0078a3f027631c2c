"""Exercise 18, diffusion: the noise's schedule, the way back, one quantity in three dresses, guidance, and flow matching.

Sizes: B points of D numbers, T steps, K steps of a solver. Steps are counted from 1 to T, as in the formulas, and come as whole
numbers in a tensor of real ones. All noise is given.

Tolerances: over 100 seeds the reference in float32 is within 2e-6 of `1 + |right answer|`, its gradients within 3e-6.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from gencourse.grading.questions import Check, Inputs, Measure, Question, told
from gencourse.grading.questions.training import trained


def _steps(rng: np.random.Generator, T: int, least: int = 1, more: int = 2) -> np.ndarray:
    """Each step from `least` to T once, and the first of them a few times more; in no order."""
    return rng.permutation([*range(least, T + 1), *[least] * more]).astype(float)


def _rates(rng: np.random.Generator, T: int) -> np.ndarray:
    """The betas, in no order, and none like the next."""
    return rng.permutation(np.linspace(0.06, 0.4, T) + rng.uniform(-0.02, 0.02, T))


def _kept(betas: Tensor) -> Tensor:
    """What is left of the variance after each step, (T,)."""
    return (1 - betas).cumprod(0)


def _before(kept: Tensor) -> Tensor:
    """The same, a step earlier: 1 at first."""
    return torch.cat([torch.ones_like(kept[:1]), kept[:-1]])


def _at(table: Tensor, t: Tensor, later: int = 0) -> Tensor:
    """The table's entry for each step, (B, 1)."""
    return table[(t.long() - 1 + later).clamp(max=len(table) - 1), None]


# --- 18.1 noise, all at once ------------------------------------------------------------------------------------------


def _to_noise(rng: np.random.Generator, T: int, D: int) -> Inputs:
    t = _steps(rng, T)
    return {"x0": rng.standard_normal((len(t), D)), "t": t, "eps": rng.standard_normal((len(t), D)), "betas": _rates(rng, T)}


def _noised_of(
    table: Callable = _kept,
    signal: Callable = torch.sqrt,
    noise: Callable = lambda kept: (1 - kept).sqrt(),
    step: Callable = lambda t, betas: t,
    later: int = 0,
) -> Callable:
    """The noised points, one part replaced."""

    def q_sample(x0: Tensor, t: Tensor, eps: Tensor, betas: Tensor) -> Tensor:
        kept = _at(table(betas), step(t, betas), later)
        return signal(kept) * x0 + noise(kept) * eps

    return q_sample


_noised = _noised_of()

NOISING = Question(
    id="18.1",
    title="All the noise at once",
    function="q_sample",
    returns="(B, D)",
    reference=_noised,
    example={"x0": [[2.0, -1.0]], "t": [2], "eps": [[1.0, 1.0]], "betas": [0.36, 0.4375, 0.5]},
    checks=(Check("values", 3, lambda rng: _to_noise(rng, T=6, D=3)),),
    mistakes={
        "alpha for alpha-bar": _noised_of(lambda betas: 1 - betas),
        "beta for alpha": _noised_of(lambda betas: betas.cumprod(0)),
        "sum for product": _noised_of(lambda betas: (1 - betas.cumsum(0)).clamp(min=0)),
        "variance for standard deviation": _noised_of(noise=lambda kept: 1 - kept),
        "signal without its root": _noised_of(signal=lambda kept: kept),
        "no roots": _noised_of(signal=lambda kept: kept, noise=lambda kept: 1 - kept),
        "weights add up to one": _noised_of(noise=lambda kept: 1 - kept.sqrt()),
        "signal and noise exchanged": lambda x0, t, eps, betas: _noised(eps, t, x0, betas),
        "one factor too many": _noised_of(later=1),
        "one factor too few": _noised_of(lambda betas: _before(_kept(betas))),
        "all steps": _noised_of(step=lambda t, betas: 0 * t + len(betas)),
        "one step for all": _noised_of(step=lambda t, betas: t[:1].expand_as(t)),
        "counted from the end": _noised_of(lambda betas: _kept(betas.flip(0)).flip(0)),
        "signal not scaled": _noised_of(signal=torch.ones_like),
        "noise not scaled": _noised_of(noise=torch.ones_like),
    },
)

# --- 18.2 the way back, where it started known ------------------------------------------------------------------------


def _to_return(rng: np.random.Generator, T: int, D: int, least: int) -> Inputs:
    t = _steps(rng, T, least)
    x0, x_t = rng.standard_normal((2, len(t), D))
    return {"x0": x0, "x_t": x_t, "t": t, "betas": _rates(rng, T)}


def _posterior_of(
    table: Callable = _kept,
    before: Callable = lambda kept, t: _at(_before(kept), t),
    of_x0: Callable = lambda alpha, kept, earlier: earlier.sqrt() * (1 - alpha) / (1 - kept),
    of_x_t: Callable = lambda alpha, kept, earlier: alpha.sqrt() * (1 - earlier) / (1 - kept),
    variance: Callable = lambda alpha, kept, earlier: (1 - earlier) / (1 - kept) * (1 - alpha),
    arrange: Callable = lambda mean, variance: torch.cat([mean, variance], dim=1),
    later: int = 0,
) -> Callable:
    """Mean and variance, one part replaced: a weight of alpha, alpha-bar and the alpha-bar of a step before, (B, 1) each."""

    def posterior(x0: Tensor, x_t: Tensor, t: Tensor, betas: Tensor) -> Tensor:
        kept, steps = table(betas), t + later
        at = _at(1 - betas, steps), _at(kept, steps), before(kept, steps)
        return arrange(of_x0(*at) * x0 + of_x_t(*at) * x_t, variance(*at))

    return posterior


_posterior = _posterior_of()

POSTERIOR = Question(
    id="18.2",
    title="One step back, if the start is known",
    function="posterior",
    returns="(B, D + 1)",
    reference=_posterior,
    example={"x0": [[1.0, 0.0]], "x_t": [[0.0, 1.0]], "t": [2], "betas": [0.36, 0.4375, 0.5]},
    checks=(
        Check("from t = 2 on", 3, lambda rng: _to_return(rng, T=6, D=3, least=2)),
        Check("t = 1 too", 1, lambda rng: _to_return(rng, T=6, D=3, least=1)),
    ),
    mistakes={
        "beta for the variance": _posterior_of(variance=lambda alpha, kept, earlier: 1 - alpha),
        "standard deviation": _posterior_of(
            variance=lambda alpha, kept, earlier: ((1 - earlier) / (1 - kept) * (1 - alpha)).sqrt()
        ),
        "logarithm of the variance": _posterior_of(
            variance=lambda alpha, kept, earlier: ((1 - earlier) / (1 - kept) * (1 - alpha)).log()
        ),
        "weights exchanged": lambda x0, x_t, t, betas: _posterior(x_t, x0, t, betas),
        "alpha-bar of t for that of t - 1": _posterior_of(before=lambda kept, t: _at(kept, t)),
        "round the corner at t = 1": _posterior_of(before=lambda kept, t: kept[t.long() - 2, None]),
        "not divided": _posterior_of(
            of_x0=lambda alpha, kept, earlier: earlier.sqrt() * (1 - alpha),
            of_x_t=lambda alpha, kept, earlier: alpha.sqrt() * (1 - earlier),
        ),
        "alpha-bar without its root": _posterior_of(of_x0=lambda alpha, kept, earlier: earlier * (1 - alpha) / (1 - kept)),
        "alpha without its root": _posterior_of(of_x_t=lambda alpha, kept, earlier: alpha * (1 - earlier) / (1 - kept)),
        "alpha for alpha-bar": _posterior_of(lambda betas: 1 - betas),
        "alpha-bar for alpha": _posterior_of(of_x_t=lambda alpha, kept, earlier: kept.sqrt() * (1 - earlier) / (1 - kept)),
        "a step too far": _posterior_of(later=1),
        "x0 alone": _posterior_of(of_x_t=lambda alpha, kept, earlier: 0 * alpha),
        "x_t alone": _posterior_of(of_x0=lambda alpha, kept, earlier: 0 * alpha),
        "without x_t": _posterior_of(
            of_x0=lambda alpha, kept, earlier: earlier.sqrt(),
            of_x_t=lambda alpha, kept, earlier: 0 * alpha,
            variance=lambda alpha, kept, earlier: 1 - earlier,
        ),
        "variance first": _posterior_of(arrange=lambda mean, variance: torch.cat([variance, mean], dim=1)),
    },
)

# --- 18.3 three dresses -----------------------------------------------------------------------------------------------


def _to_dress(rng: np.random.Generator, B: int, D: int) -> Inputs:
    """Noise levels, none of them so near a half that signal and noise weigh the same."""
    abar = rng.permutation(np.linspace(0.1, 0.4, B // 2).tolist() + np.linspace(0.6, 0.9, B - B // 2).tolist())
    x_t, eps = rng.standard_normal((2, B, D))
    return {"x_t": x_t, "eps": eps, "abar": abar + rng.uniform(-0.02, 0.02, B)}


def _dressed_of(
    x0: Callable = lambda x_t, eps, signal, noise: (x_t - noise * eps) / signal,
    score: Callable = lambda x_t, eps, signal, noise: -eps / noise,
    v: Callable = lambda x0, x_t, eps, signal, noise: signal * eps - noise * x0,
    arrange: Callable = lambda x0, score, v: torch.stack([x0, score, v]),
) -> Callable:
    """The three, one of them replaced; `signal` and `noise` are the roots of alpha-bar and of what it lacks to 1, (B, 1)."""

    def dresses(x_t: Tensor, eps: Tensor, abar: Tensor) -> Tensor:
        at = x_t, eps, abar.sqrt()[:, None], (1 - abar).sqrt()[:, None]
        start = x0(*at)
        return arrange(start, score(*at), v((x_t - at[3] * eps) / at[2], *at))

    return dresses


_dressed = _dressed_of()

DRESSES = Question(
    id="18.3",
    title="One quantity in three dresses",
    function="dresses",
    returns="(3, B, D)",
    reference=_dressed,
    example={"x_t": [[1.0, 2.0]], "eps": [[1.0, -1.0]], "abar": [0.64]},
    checks=(Check("values", 4, lambda rng: _to_dress(rng, B=6, D=3)),),
    mistakes={
        "sign of the score": _dressed_of(score=lambda x_t, eps, signal, noise: eps / noise),
        "score divided by the variance": _dressed_of(score=lambda x_t, eps, signal, noise: -eps / noise**2),
        "score not divided": _dressed_of(score=lambda x_t, eps, signal, noise: -eps),
        "score multiplied": _dressed_of(score=lambda x_t, eps, signal, noise: -eps * noise),
        "score of the noise alone": _dressed_of(score=lambda x_t, eps, signal, noise: -x_t),
        "x0 not divided": _dressed_of(x0=lambda x_t, eps, signal, noise: x_t - noise * eps),
        "x0 divided by alpha-bar": _dressed_of(x0=lambda x_t, eps, signal, noise: (x_t - noise * eps) / signal**2),
        "variance for standard deviation": _dressed_of(x0=lambda x_t, eps, signal, noise: (x_t - noise**2 * eps) / signal),
        "sign of the noise in x0": _dressed_of(x0=lambda x_t, eps, signal, noise: (x_t + noise * eps) / signal),
        "noise not scaled in x0": _dressed_of(x0=lambda x_t, eps, signal, noise: (x_t - eps) / signal),
        "signal and noise exchanged": lambda x_t, eps, abar: _dressed(x_t, eps, 1 - abar),
        "sign of v": _dressed_of(v=lambda x0, x_t, eps, signal, noise: noise * x0 - signal * eps),
        "weights of v exchanged": _dressed_of(v=lambda x0, x_t, eps, signal, noise: noise * eps - signal * x0),
        "v adds up": _dressed_of(v=lambda x0, x_t, eps, signal, noise: signal * eps + noise * x0),
        "v of x_t": _dressed_of(v=lambda x0, x_t, eps, signal, noise: signal * eps - noise * x_t),
        "score first": _dressed_of(arrange=lambda x0, score, v: torch.stack([score, x0, v])),
        "v first": _dressed_of(arrange=lambda x0, score, v: torch.stack([v, x0, score])),
    },
)

# --- 18.4 one step of the sampler -------------------------------------------------------------------------------------


def _to_step(rng: np.random.Generator, T: int, D: int, least: int) -> Inputs:
    t = _steps(rng, T, least)
    x_t, eps, z = rng.standard_normal((3, len(t), D))
    return {"x_t": x_t, "eps": eps, "t": t, "z": z, "betas": _rates(rng, T)}


def _sampled_of(
    table: Callable = _kept,
    weight: Callable = lambda beta, kept: beta / (1 - kept).sqrt(),
    scale: Callable = lambda beta, kept: (1 - beta).sqrt(),
    sigma: Callable = lambda beta, kept, earlier: beta.sqrt(),
    noisy: Callable = lambda t, betas: t > 1,
    sign: float = -1.0,
    later: int = 0,
) -> Callable:
    """One step, one part replaced: of beta, alpha-bar and the alpha-bar of a step before, (B, 1) each."""

    def ddpm_step(x_t: Tensor, eps: Tensor, t: Tensor, z: Tensor, betas: Tensor) -> Tensor:
        beta, kept, earlier = _at(betas, t, later), _at(table(betas), t, later), _at(_before(table(betas)), t, later)
        mean = (x_t + sign * weight(beta, kept) * eps) / scale(beta, kept)
        return mean + noisy(t, betas)[:, None] * sigma(beta, kept, earlier) * z

    return ddpm_step


_sampled = _sampled_of()


def _noise_within(x_t: Tensor, eps: Tensor, t: Tensor, z: Tensor, betas: Tensor) -> Tensor:
    beta = _at(betas, t)
    return _sampled(x_t + (t > 1)[:, None] * beta.sqrt() * z, eps, t, 0 * z, betas)


STEP = Question(
    id="18.4",
    title="One step of the sampler",
    function="ddpm_step",
    returns="(B, D)",
    reference=_sampled,
    example={"x_t": [[1.0, -1.0]], "eps": [[0.5, 0.0]], "t": [2], "z": [[1.0, -2.0]], "betas": [0.36, 0.4375, 0.5]},
    checks=(
        Check("from t = 2 on", 3, lambda rng: _to_step(rng, T=6, D=3, least=2)),
        Check("the last step too", 1, lambda rng: _to_step(rng, T=6, D=3, least=1)),
    ),
    mistakes={
        "noise at the last step": _sampled_of(noisy=lambda t, betas: t > 0),
        "no noise at the step T": _sampled_of(noisy=lambda t, betas: t < len(betas)),
        "no noise": _sampled_of(noisy=lambda t, betas: t < 0),
        "variance for standard deviation": _sampled_of(sigma=lambda beta, kept, earlier: beta),
        "variance of the posterior": _sampled_of(sigma=lambda beta, kept, earlier: ((1 - earlier) / (1 - kept) * beta).sqrt()),
        "all the noise": _sampled_of(sigma=lambda beta, kept, earlier: (1 - kept).sqrt()),
        "sign of the noise taken off": _sampled_of(sign=1.0),
        "1 - alpha-bar without its root": _sampled_of(weight=lambda beta, kept: beta / (1 - kept)),
        "root of beta": _sampled_of(weight=lambda beta, kept: beta.sqrt() / (1 - kept).sqrt()),
        "all noise taken off": _sampled_of(weight=lambda beta, kept: (1 - kept).sqrt()),
        "alpha-bar for beta": _sampled_of(weight=lambda beta, kept: (1 - beta) / (1 - kept).sqrt()),
        "alpha for alpha-bar": _sampled_of(lambda betas: 1 - betas),
        "alpha-bar for alpha": _sampled_of(scale=lambda beta, kept: kept.sqrt()),
        "alpha without its root": _sampled_of(scale=lambda beta, kept: 1 - beta),
        "not scaled up": _sampled_of(scale=lambda beta, kept: torch.ones_like(beta)),
        "noise scaled up": _noise_within,
        "a step too far": _sampled_of(later=1),
    },
)

# --- 18.5 guidance ----------------------------------------------------------------------------------------------------


def _to_guide(rng: np.random.Generator, D: int) -> Inputs:
    """Every weight once, 0 and 1 among them."""
    w = rng.permutation([0.0, 0.25, 1.0, 1.75, 3.0, 4.0, 7.0])
    conditional, unconditional = rng.standard_normal((2, len(w), D))
    return {"conditional": conditional, "unconditional": unconditional, "w": w}


def _guided_of(weights: Callable) -> Callable:
    """The combination by other weights, of the conditional noise and of the unconditional one."""

    def guided(conditional: Tensor, unconditional: Tensor, w: Tensor) -> Tensor:
        yes, no = weights(w[:, None])
        return yes * conditional + no * unconditional

    return guided


GUIDANCE = Question(
    id="18.5",
    title="Guidance without a classifier",
    function="guided",
    returns="(B, D)",
    reference=_guided_of(lambda w: (w, 1 - w)),
    example={"conditional": [[1.0, 2.0]], "unconditional": [[0.0, 3.0]], "w": [2.0]},
    checks=(Check("values", 2, lambda rng: _to_guide(rng, D=3)),),
    mistakes={
        "weights exchanged": _guided_of(lambda w: (1 - w, w)),
        "1 + w": _guided_of(lambda w: (1 + w, -w)),
        "1 + w, weights exchanged": _guided_of(lambda w: (-w, 1 + w)),
        "unconditional in full": _guided_of(lambda w: (w, 1 + 0 * w)),
        "difference alone": _guided_of(lambda w: (w, -w)),
        "conditional alone": _guided_of(lambda w: (1 + 0 * w, 0 * w)),
        "conditional scaled": _guided_of(lambda w: (w, 0 * w)),
        "averaged": _guided_of(lambda w: (w / (1 + w), 1 / (1 + w))),
        "between the two only": _guided_of(lambda w: (w.clamp(max=1), 1 - w.clamp(max=1))),
        "away from the condition": _guided_of(lambda w: (-w, 1 + 0 * w)),
        "pulled from the conditional": _guided_of(lambda w: (1 + 0 * w, w)),
        "one weight for all": _guided_of(lambda w: (w[:1], 1 - w[:1])),
    },
)

# --- 18.6 flow matching -----------------------------------------------------------------------------------------------


def _field(rng: np.random.Generator, D: int) -> dict[str, np.ndarray]:
    """A velocity that is linear in the point and in time."""
    return {"A": 0.7 * rng.standard_normal((D, D)), "a": rng.standard_normal(D), "b": rng.standard_normal(D)}


def _to_match(rng: np.random.Generator, B: int, D: int) -> Inputs:
    x, z = rng.standard_normal((2, B, D))
    t = rng.permutation(np.linspace(0.05, 0.45, B // 2).tolist() + np.linspace(0.6, 0.95, B - B // 2).tolist())
    return {"x": x, "z": z, "t": t, **_field(rng, D)}


def _moves(y: Tensor, t: Tensor, A: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return y @ A.T + t * a + b


def _matched_of(
    where: Callable = lambda x, z, t: z + t * (x - z),
    target: Callable = lambda x, z, t: x - z,
    field: Callable = _moves,
    cost: Callable = lambda off: (off * off).sum(1),
) -> Callable:
    """The loss, one part replaced."""

    def flow_loss(x: Tensor, z: Tensor, t: Tensor, A: Tensor, a: Tensor, b: Tensor) -> Tensor:
        t = t[:, None]
        return cost(field(where(x, z, t), t, A, a, b) - target(x, z, t))

    return flow_loss


_matched = _matched_of()

MATCHING = Question(
    id="18.6",
    title="Flow matching",
    function="flow_loss",
    returns="(B,)",
    reference=_matched,
    example={
        "x": [[2.0, 0.0]],
        "z": [[0.0, -1.0]],
        "t": [0.25],
        "A": [[1.0, 0.0], [2.0, -1.0]],
        "a": [0.0, 1.0],
        "b": [0.5, 0.5],
    },
    checks=(
        Check("values", 2, lambda rng: _to_match(rng, B=6, D=3)),
        Check("gradients", 1, lambda rng: _to_match(rng, B=7, D=4), ("A", "a", "b"), rtol=1e-4, atol=1e-4),
    ),
    mistakes={
        "path from data to noise": _matched_of(where=lambda x, z, t: x + t * (z - x)),
        "target from data to noise": _matched_of(target=lambda x, z, t: z - x),
        "all from data to noise": lambda x, z, t, A, a, b: _matched(z, x, t, A, a, b),
        "diffusion's path": _matched_of(where=lambda x, z, t: t.sqrt() * x + (1 - t).sqrt() * z),
        "target is the data": _matched_of(target=lambda x, z, t: x),
        "target is the noise": _matched_of(target=lambda x, z, t: z),
        "target is the point": _matched_of(target=lambda x, z, t: z + t * (x - z)),
        "target is what is left": _matched_of(target=lambda x, z, t: (1 - t) * (x - z)),
        "velocity at the data": _matched_of(where=lambda x, z, t: x),
        "velocity at the noise": _matched_of(where=lambda x, z, t: z),
        "velocity without time": _matched_of(field=lambda y, t, A, a, b: _moves(y, 0 * t, A, a, b)),
        "A transposed": _matched_of(field=lambda y, t, A, a, b: _moves(y, t, A.T, a, b)),
        "b missing": _matched_of(field=lambda y, t, A, a, b: _moves(y, t, A, a, 0 * b)),
        "mean over the coordinates": _matched_of(cost=lambda off: (off * off).mean(1)),
        "half": _matched_of(cost=lambda off: (off * off).sum(1) / 2),
        "not squared": _matched_of(cost=lambda off: off.norm(dim=1)),
        "mean over the batch": _matched_of(cost=lambda off: (off * off).sum(1).mean()),
    },
)

# --- 18.7 along the velocity ------------------------------------------------------------------------------------------


def _to_follow(rng: np.random.Generator, B: int, D: int, K: int) -> Inputs:
    """Times that are not evenly spaced, from 0.1 or later on for a single step."""
    steps = rng.permutation(np.linspace(1, 3, K)) + rng.uniform(-0.2, 0.2, K)
    times = np.array([0.0, *np.cumsum(steps)]) / steps.sum()
    times = rng.uniform(0.15, 0.4) + 0.5 * times if K == 1 else times
    return {"z": rng.standard_normal((B, D)), "times": times, **_field(rng, D)}


def _followed_of(
    seen: Callable = lambda start, end: start,
    size: Callable = lambda start, end, times: end - start,
    legs: Callable = lambda times: list(pairwise(times)),
    begin: Callable = lambda y, z: y,
    sign: float = 1.0,
) -> Callable:
    """The point at the end, one part replaced."""

    def euler(z: Tensor, times: Tensor, A: Tensor, a: Tensor, b: Tensor) -> Tensor:
        y = z
        for start, end in legs(times):
            y = y + sign * size(start, end, times) * _moves(begin(y, z), seen(start, end), A, a, b)
        return y

    return euler


_followed = _followed_of()


def _heun(z: Tensor, times: Tensor, A: Tensor, a: Tensor, b: Tensor) -> Tensor:
    y = z
    for start, end in pairwise(times):
        first = _moves(y, start, A, a, b)
        y = y + (end - start) * (first + _moves(y + (end - start) * first, end, A, a, b)) / 2
    return y


FLOW = Question(
    id="18.7",
    title="From noise to data",
    function="euler",
    returns="(B, D)",
    reference=_followed,
    example={
        "z": [[1.0, 0.0]],
        "times": [0.0, 0.5, 1.0],
        "A": [[0.0, -1.0], [1.0, 0.0]],
        "a": [1.0, 0.0],
        "b": [0.0, 0.5],
    },
    checks=(
        Check("one step", 1, lambda rng: _to_follow(rng, B=4, D=3, K=1)),
        Check("several steps", 2, lambda rng: _to_follow(rng, B=4, D=3, K=4), rtol=1e-4, atol=1e-4),
    ),
    mistakes={
        "velocity at the end of the step": _followed_of(seen=lambda start, end: end),
        "velocity in the middle of the step": _followed_of(seen=lambda start, end: (start + end) / 2),
        "Heun's step": _heun,
        "time stands still": _followed_of(seen=lambda start, end: 0 * start),
        "equal steps": _followed_of(size=lambda start, end, times: (times[-1] - times[0]) / (len(times) - 1)),
        "time for the step": _followed_of(size=lambda start, end, times: end),
        "steps of one": _followed_of(size=lambda start, end, times: 1 + 0 * end),
        "backwards": _followed_of(sign=-1.0),
        "in the other order": _followed_of(legs=lambda times: list(zip(times[1:].flip(0), times[:-1].flip(0), strict=True))),
        "velocity at the start point": _followed_of(begin=lambda y, z: z),
        "all in one step": _followed_of(legs=lambda times: [(times[0], times[-1])]),
        "last step left out": _followed_of(legs=lambda times: list(pairwise(times[:-1]))),
        "first step only": _followed_of(legs=lambda times: [(times[0], times[1])]),
        "the velocity itself": lambda z, times, A, a, b: _moves(z, times[0], A, a, b),
        "the way without the start": lambda z, times, A, a, b: _followed(z, times, A, a, b) - z,
        "A transposed": lambda z, times, A, a, b: _followed(z, times, A.T, a, b),
    },
)

# --- 18.8 train a denoiser --------------------------------------------------------------------------------------------


def _three(rng: np.random.Generator, N: int = 2000, Q: int = 500) -> Inputs:
    """Points around three places of the plane; points noised to any level, and for the grader what is best said of them."""
    turn = rng.uniform(0, 2 * np.pi) + np.array([0.0, 2.1, 4.2]) + rng.uniform(-0.3, 0.3, 3)
    centre = rng.uniform(1.3, 1.8, (3, 1)) * np.column_stack([np.cos(turn), np.sin(turn)])
    width, share = rng.uniform(0.15, 0.25, 3), rng.dirichlet(np.full(3, 8.0))

    def points(n: int) -> np.ndarray:
        which = rng.choice(3, n, p=share)
        return centre[which] + width[which, None] * rng.standard_normal((n, 2))

    x, abar = points(N), rng.uniform(0.1, 0.9, Q)
    signal, noise = np.sqrt(abar)[:, None], np.sqrt(1 - abar)[:, None]
    x_t = (signal * points(Q) + noise * rng.standard_normal((Q, 2))).astype(np.float32).astype(float)
    spread = signal**2 * width**2 + noise**2  # (Q, 3)
    off = x_t[:, None] - signal[:, :, None] * centre  # (Q, 3, 2)
    weight = share * np.exp(-(off**2).sum(-1) / (2 * spread)) / spread
    weight /= weight.sum(1, keepdims=True)
    eps = noise * (weight[:, :, None] * off / spread[:, :, None]).sum(1)
    score, x0 = -eps / noise, (x_t - noise * eps) / signal
    best = {"_eps": eps, "_score": score, "_x0": x0, "_v": signal * eps - noise * x0, "_part": noise * eps}
    return {"x": x, "x_t": x_t, "abar": abar, **best}


def _smoothed(x: Tensor, x_t: Tensor, abar: Tensor) -> Tensor:
    """The noise without a network, which takes a moment only: each given point is as probable as any, and a little wide."""
    signal, noise = abar.sqrt()[:, None], (1 - abar).sqrt()[:, None]
    spread = (0.08 * signal) ** 2 + noise**2
    far = (x_t**2).sum(1, keepdim=True) - 2 * signal * (x_t @ x.T) + signal**2 * (x**2).sum(1)
    return noise * (x_t - signal * ((-far / (2 * spread)).softmax(1) @ x)) / spread


def _reported(change: Callable = lambda eps, x_t, signal, noise: eps) -> Callable:
    """A good answer, and what is returned of it changed."""

    def fit(x: Tensor, x_t: Tensor, abar: Tensor) -> Tensor:
        return change(_smoothed(x, x_t, abar), x_t, abar.sqrt()[:, None], (1 - abar).sqrt()[:, None])

    return fit


def _network_of(
    hidden: int = 48,
    steps: int = 400,
    lr: float = 0.02,
    levels: Callable = lambda u: 0.1 + 0.8 * u,
    noised: Callable = lambda x0, eps, kept: kept.sqrt() * x0 + (1 - kept).sqrt() * eps,
    sees: Callable = lambda x_t, kept: torch.cat([x_t, kept], dim=1),
    target: Callable = lambda x0, eps: eps,
    data: Callable = lambda x: x,
) -> Callable:
    """The training of a small network, one part replaced; `kept` is alpha-bar, (B, 1)."""

    def fit(x: Tensor, x_t: Tensor, abar: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        x, D = data(x), x.shape[1]
        width = sees(x_t[:1], abar[:1, None]).shape[1]

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(x)

        def said(y: Tensor, V: Tensor, c: Tensor, W: Tensor, b: Tensor) -> Tensor:
            return torch.tanh(y @ V + c) @ W + b

        def cost(*weights: Tensor) -> Tensor:
            x0, eps = x[torch.randint(len(x), (512,), generator=generator)], normal(512, D)
            kept = levels(torch.rand(512, 1, generator=generator).to(x))
            return ((said(sees(noised(x0, eps, kept), kept), *weights) - target(x0, eps)) ** 2).sum(1).mean()

        start = (normal(width, hidden), normal(hidden), 0.1 * normal(hidden, D), torch.zeros(D).to(x))
        return said(sees(x_t, abar[:, None]), *trained(cost, *start, steps=steps, lr=lr))

    return fit


def _linear(x: Tensor, x_t: Tensor, abar: Tensor) -> Tensor:
    """The noise as a linear function of point and alpha-bar, by least squares."""
    generator = torch.Generator().manual_seed(0)
    eps, kept = torch.randn(x.shape, generator=generator).to(x), 0.1 + 0.8 * torch.rand(len(x), 1, generator=generator).to(x)

    def seen(y: Tensor, level: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(level), y, level], dim=1)

    noisy = kept.sqrt() * x + (1 - kept).sqrt() * eps
    return seen(x_t, abar[:, None]) @ torch.linalg.lstsq(seen(noisy, kept), eps).solution


def _off(inputs: Inputs, answer: np.ndarray, truth: str = "_eps") -> float:
    """How far an answer is from the best, the mean squared distance over the noised points: 0 at the truth alone."""
    with np.errstate(over="ignore"):
        return float(np.square(inputs[truth].astype(float) - answer).sum(axis=1).mean())


def _is(truth: str) -> Callable:
    """Whether an answer is another dress of the best, as near to it as a training comes."""
    return lambda inputs, answer: _off(inputs, answer, truth) < _SIZE * np.square(inputs[truth]).sum(1).mean()


_SIZE = 0.1
"""How near, of the mean square of the other dress."""


def _is_linear(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether the answer is the same linear function of point and alpha-bar for all."""
    seen = np.column_stack([np.ones(len(answer)), inputs["x_t"], inputs["abar"]]).astype(float)
    left = answer - seen @ np.linalg.lstsq(seen, answer, rcond=None)[0]
    return bool(np.abs(left).max() < 0.01)


def _shrunk(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether the answer is the best noise times its weight in the noisy point."""
    return _off(inputs, answer, "_part") < 0.06 < _off(inputs, answer)


_HINTS = (
    told("18.8", "sign", mended=lambda answer: -answer),
    told("18.8", "noise as it stands in the point", when=_shrunk),
    told("18.8", "x0 for the noise", when=_is("_x0")),
    told("18.8", "score for the noise", when=_is("_score")),
    told("18.8", "v for the noise", when=_is("_v")),
    told("18.8", "straight line", when=_is_linear),
)


def _denoiser_measure(at_most: float) -> Measure:
    return Measure(
        "the mean squared distance of your noise from the best",
        _off,
        at_most,
        lambda inputs: inputs["x_t"].shape,
        "draw points, noise and alpha-bar afresh in each step, noise with roots; the network has a hidden layer and sees "
        "alpha-bar; the loss has to stand still at the end.",
        hints=_HINTS,
    )


# The mean squared distance, over both coordinates. Networks with a hidden layer of 64 units, or two (tanh, ReLU, SiLU; Adam,
# AdamW; eps or v) reach 0.02 to 0.06 in 1500 to 3000 steps; the reference 0.001. The variance for its root costs 0.09 at least,
# one level or none 0.18, a network without a hidden layer 0.43, nothing 1.3.
EXPERIMENT = Question(
    id="18.8",
    title="Train a denoiser",
    function="fit_denoiser",
    returns="(Q, 2)",
    reference=_reported(),
    example={"x": [[0.0, 1.0], [1.0, 1.0]], "x_t": [[0.5, 1.0]], "abar": [0.5]},
    checks=(
        Check("trained", 4, _three, measure=_denoiser_measure(0.15)),
        Check("close to the best", 1, _three, measure=_denoiser_measure(0.07), of="trained"),
    ),
    mistakes={
        "sign": _reported(lambda eps, x_t, signal, noise: -eps),
        "x0 for the noise": _reported(lambda eps, x_t, signal, noise: (x_t - noise * eps) / signal),
        "score for the noise": _reported(lambda eps, x_t, signal, noise: -eps / noise),
        "v for the noise": _reported(lambda eps, x_t, signal, noise: (eps - noise * x_t) / signal),
        "noise as it stands in the point": _reported(lambda eps, x_t, signal, noise: noise * eps),
        "level not seen": _network_of(sees=lambda x_t, kept: x_t),
        "one level": _network_of(levels=lambda u: 0.5 + 0 * u),
        "variance for standard deviation": _network_of(noised=lambda x0, eps, kept: kept.sqrt() * x0 + (1 - kept) * eps),
        "never noised": _network_of(noised=lambda x0, eps, kept: x0),
        "straight line": _linear,
        "few points": _network_of(data=lambda x: x[:2], steps=800),
        "few steps": _network_of(steps=15),
        "small learning rate": _network_of(lr=0.0001),
        "points out of order": lambda x, x_t, abar: _smoothed(x, x_t, abar).flip(0),
    },
    seconds=60.0,
)

QUESTIONS = (NOISING, POSTERIOR, DRESSES, STEP, GUIDANCE, MATCHING, FLOW, EXPERIMENT)
