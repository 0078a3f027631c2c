"""Exercise 11, Boltzmann machines: energies, free energies, log Z, Gibbs sampling, contrastive divergence, annealing, labels.

Sizes: B images of D pixels, H hidden units, U units in all, K classes. A restricted machine has the energy
`E(v, h) = -b.v - c.h - v W h` with W `(D, H)`, as in the chapter. Randomness is given as uniform numbers, none of them so near
a probability that rounding could turn a unit.

Tolerances: over 100 seeds the reference in float32 is within 1e-6 of `1 + |right answer|`, its gradients within 3e-6.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from gencourse.grading.questions import Check, Inputs, Measure, Question, told
from gencourse.grading.questions.training import lowest


def _binary(D: int) -> np.ndarray:
    """All states of D units, (2^D, D)."""
    return np.array(np.meshgrid(*[[0.0, 1.0]] * D, indexing="ij")).reshape(D, -1).T


def _all_states(like: Tensor) -> Tensor:
    """The same as a tensor: a row for each state of as many units as `like` has numbers."""
    return torch.tensor(_binary(len(like)), dtype=like.dtype)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _apart(rng: np.random.Generator, *probabilities: np.ndarray) -> np.ndarray:
    """Uniform numbers that stay 0.01 away from each of the probabilities."""
    u = rng.uniform(0, 1, probabilities[0].shape)
    while True:
        near = np.any([np.abs(u - p) < 0.01 for p in probabilities], axis=0)
        if not near.any():
            return u
        u[near] = rng.uniform(0, 1, int(near.sum()))


def _bits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 2, shape).astype(float)


def _machine(rng: np.random.Generator, D: int, H: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Weights and biases of a restricted machine, all of a size that matters."""
    return {
        "W": scale * rng.standard_normal((D, H)),
        "b": scale * rng.standard_normal(D),
        "c": scale * rng.standard_normal(H),
    }


# --- 11.1 energy ------------------------------------------------------------------------------------------------------


def _coupled_units(rng: np.random.Generator, B: int, U: int, at_least: int = 3) -> Inputs:
    """States with some units on, and symmetric couplings with zeros on the diagonal."""
    s = _bits(rng, B, U)
    for row in s:
        while row.sum() < at_least or row.sum() == U:
            row[:] = _bits(rng, U)
    J = rng.standard_normal((U, U))
    return {"s": s, "J": np.triu(J, 1) + np.triu(J, 1).T, "b": rng.standard_normal(U)}


def _energy(s: Tensor, J: Tensor, b: Tensor) -> Tensor:
    return -s @ b - 0.5 * ((s @ J) * s).sum(1)


def _energy_of(couplings: float = 0.5, biases: float = 1.0) -> Callable:
    return lambda s, J, b: -biases * (s @ b) - couplings * ((s @ J) * s).sum(1)


ENERGY = Question(
    id="11.1",
    title="The energy of a Boltzmann machine",
    function="energy",
    returns="(B,)",
    reference=_energy,
    example={
        "s": [[1, 1, 0], [1, 1, 1]],
        "J": [[0.0, 2.0, -1.0], [2.0, 0.0, 3.0], [-1.0, 3.0, 0.0]],
        "b": [0.5, 1.0, -2.0],
    },
    checks=(Check("values", 2, lambda rng: _coupled_units(rng, B=6, U=7)),),
    mistakes={
        "each pair twice": _energy_of(couplings=1.0),
        "each pair half": _energy_of(couplings=0.25),
        "sign": lambda *at: -_energy(*at),
        "sign of the couplings": _energy_of(couplings=-0.5),
        "sign of the biases": _energy_of(biases=-1.0),
        "no biases": _energy_of(biases=0.0),
        "no couplings": _energy_of(couplings=0.0),
        "half of the biases too": _energy_of(biases=0.5),
        "exponential": lambda *at: (-_energy(*at)).exp(),
        "spins": lambda s, J, b: _energy(2 * s - 1, J, b),
        "all couplings, whatever is on": lambda s, J, b: -s @ b - 0.5 * J.sum() + 0 * s[:, 0],
        "one neighbour is enough": lambda s, J, b: -s @ b - 0.5 * (s @ J).sum(1),
        "mean over the pairs": lambda s, J, b: -s @ b - ((s @ J) * s).sum(1) / (len(b) * (len(b) - 1)),
        "sum over the batch": lambda *at: _energy(*at).sum(),
        "mean over the batch": lambda *at: _energy(*at).mean(),
    },
)

# --- 11.2 free energy -------------------------------------------------------------------------------------------------


def _images(rng: np.random.Generator, B: int, D: int, H: int, scale: float = 1.0) -> Inputs:
    return {"v": _bits(rng, B, D), **_machine(rng, D, H, scale)}


def _far(rng: np.random.Generator, B: int, D: int, H: int) -> Inputs:
    """Logits of hidden units far from zero on both sides, where an exponential in float32 overflows, and for every image."""
    inputs = dict(_images(rng, B, D, H))
    inputs["c"] = rng.choice([-1, 1], H) * rng.uniform(150, 250, H)
    inputs["c"][:2] = np.abs(inputs["c"][:2]) * [1, -1]
    return inputs


def _free_energy(v: Tensor, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return -v @ b - softplus(c + v @ W).sum(1)


def _free_energy_of(hidden: Callable, biases: float = 1.0) -> Callable:
    """Of the hidden units' logits, (B, H), what they take off the free energy, (B,)."""
    return lambda v, W, b, c: -biases * (v @ b) - hidden(c + v @ W)


FREE_ENERGY = Question(
    id="11.2",
    title="Free energy",
    function="free_energy",
    returns="(B,)",
    reference=_free_energy,
    example={"v": [[1, 0, 1]], "W": [[1.0, 0.5], [2.0, -1.0], [-1.0, 0.5]], "b": [0.5, 1.0, -1.0], "c": [0.5, -1.0]},
    checks=(
        Check("values", 2, lambda rng: _images(rng, B=5, D=6, H=4)),
        Check("large logits", 1, lambda rng: _far(rng, B=5, D=6, H=5), rtol=1e-6, atol=2e-3, needs="values"),
    ),
    mistakes={
        "unstable": _free_energy_of(lambda logits: (1 + logits.exp()).log().sum(1)),
        "sign": lambda *at: -_free_energy(*at),
        "sign of the hidden part": _free_energy_of(lambda logits: -softplus(logits).sum(1)),
        "sign of the logits": _free_energy_of(lambda logits: softplus(-logits).sum(1)),
        "sign of the biases": _free_energy_of(lambda logits: softplus(logits).sum(1), biases=-1.0),
        "b missing": _free_energy_of(lambda logits: softplus(logits).sum(1), biases=0.0),
        "c missing": lambda v, W, b, c: _free_energy(v, W, b, 0 * c),
        "W missing": lambda v, W, b, c: _free_energy(v, 0 * W, b, c),
        "most probable hidden units": _free_energy_of(lambda logits: logits.clamp(min=0).sum(1)),
        "mean hidden units": _free_energy_of(lambda logits: (logits.sigmoid() * logits).sum(1)),
        "hidden units on": _free_energy_of(lambda logits: logits.sum(1)),
        "softplus of the sum": _free_energy_of(lambda logits: softplus(logits.sum(1))),
        "sigmoid for softplus": _free_energy_of(lambda logits: logits.sigmoid().sum(1)),
        "mean over the hidden units": _free_energy_of(lambda logits: softplus(logits).mean(1)),
        "hidden units count half": _free_energy_of(lambda logits: (softplus(logits) - math.log(2)).sum(1)),
        "softplus of the visible side too": lambda v, W, b, c: -softplus(v * b).sum(1) - softplus(c + v @ W).sum(1),
        "exponential": lambda *at: (-_free_energy(*at)).exp(),
        "sum over the batch": lambda *at: _free_energy(*at).sum(),
        "mean over the batch": lambda *at: _free_energy(*at).mean(),
    },
)

# --- 11.3 log Z -------------------------------------------------------------------------------------------------------


def _log_z_over_hidden(W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    h = _all_states(c)  # (2^H, H)
    return (h @ c + softplus(b + h @ W.T).sum(1)).logsumexp(0)


def _log_z(W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    if len(c) > len(b):
        W, b, c = W.T, c, b
    return _log_z_over_hidden(W, b, c)


def _large(rng: np.random.Generator, D: int, H: int) -> Inputs:
    """Biases for which Z is far above what float32 can hold."""
    machine = _machine(rng, D, H)
    machine["b"] = rng.uniform(20, 40, D)
    return machine


def _log_z_of(terms: Callable, together: Callable = lambda log_terms: log_terms.logsumexp(0)) -> Callable:
    """Over all states of the smaller side: `terms` of the states, the weights from the other side, its biases, its own biases."""

    def log_z(W: Tensor, b: Tensor, c: Tensor) -> Tensor:
        if len(c) > len(b):
            W, b, c = W.T, c, b
        return together(terms(_all_states(c), W, b, c))

    return log_z


def _terms(h: Tensor, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return h @ c + softplus(b + h @ W.T).sum(1)


LOG_Z = Question(
    id="11.3",
    title="The logarithm of Z",
    function="log_partition",
    returns="()",
    reference=_log_z,
    example={"W": [[1.0], [-2.0]], "b": [0.5, 1.0], "c": [-0.5]},
    checks=(
        Check("few hidden units", 1, lambda rng: _machine(rng, D=13, H=4)),
        Check("few pixels", 1, lambda rng: _machine(rng, D=4, H=13)),
        Check("a large Z", 1, lambda rng: _large(rng, D=7, H=5), rtol=1e-6, atol=1e-3, needs="few hidden units"),
    ),
    mistakes={
        "unstable": _log_z_of(_terms, lambda log_terms: log_terms.exp().sum().log()),
        "mean for sum": _log_z_of(_terms, lambda log_terms: log_terms.logsumexp(0) - math.log(len(log_terms))),
        "mean of logarithms": _log_z_of(_terms, lambda log_terms: log_terms.mean()),
        "sum of logarithms": _log_z_of(_terms, lambda log_terms: log_terms.sum()),
        "largest term only": _log_z_of(_terms, lambda log_terms: log_terms.max()),
        "sign of the energies": lambda W, b, c: _log_z(-W, -b, -c),
        "minus log Z": lambda *at: -_log_z(*at),
        "Z": lambda *at: _log_z(*at).exp(),
        "own biases missing": _log_z_of(lambda h, W, b, c: _terms(h, W, b, 0 * c)),
        "other side's biases missing": _log_z_of(lambda h, W, b, c: _terms(h, W, 0 * b, c)),
        "other side all on": _log_z_of(lambda h, W, b, c: h @ c + (b + h @ W.T).sum(1)),
        "other side most probable": _log_z_of(lambda h, W, b, c: h @ c + (b + h @ W.T).clamp(min=0).sum(1)),
        "other side's mean": _log_z_of(lambda h, W, b, c: h @ c + ((b + h @ W.T).sigmoid() * (b + h @ W.T)).sum(1)),
        "other side counts half": _log_z_of(lambda h, W, b, c: _terms(h, W, b, c) - len(b) * math.log(2)),
        "one side only": _log_z_of(lambda h, W, b, c: h @ c + 0 * W.sum()),
        "no couplings": lambda W, b, c: softplus(b).sum() + softplus(c).sum() + 0 * W.sum(),
        "bits": lambda *at: _log_z(*at) / math.log(2),
    },
    harmless={"logsumexp: one maximum over everything": "there is one sum only"},
)

# --- 11.4 a sweep -----------------------------------------------------------------------------------------------------


def _to_sweep(rng: np.random.Generator, B: int, U: int) -> Inputs:
    """States, couplings, and uniforms that keep away from each unit's probability when its turn comes."""
    inputs = dict(_coupled_units(rng, B, U, at_least=1))
    s, u = inputs["s"].copy(), np.zeros((B, U))
    for i in range(U):
        p = _sigmoid(inputs["b"][i] + s @ inputs["J"][i])
        u[:, i] = _apart(rng, p)
        s[:, i] = u[:, i] < p
    return {**inputs, "u": u}


def _sweep_of(
    order: Callable = range,
    reads: Callable = lambda s, now: now,
    draw: Callable = lambda logit, u: (u < logit.sigmoid()).to(logit),
    couplings: float = 1.0,
    biases: float = 1.0,
) -> Callable:
    """The sweep, one part replaced: `reads` says whether a unit sees the old state s or the state as it is now."""

    def sweep(s: Tensor, J: Tensor, b: Tensor, u: Tensor) -> Tensor:
        now = s
        for i in order(len(b)):
            drawn = draw(biases * b[i] + couplings * reads(s, now) @ J[i], u[:, i])
            now = torch.cat([now[:, :i], drawn[:, None], now[:, i + 1 :]], dim=1)
        return now

    return sweep


SWEEP = Question(
    id="11.4",
    title="A Gibbs sweep",
    function="gibbs_sweep",
    returns="(B, U)",
    reference=_sweep_of(),
    example={
        "s": [[1, 1, 0]],
        "J": [[0.0, 2.0, -1.0], [2.0, 0.0, 3.0], [-1.0, 3.0, 0.0]],
        "b": [-1.0, 1.0, -2.0],
        "u": [[0.8, 0.9, 0.4]],
    },
    checks=(Check("values", 2, lambda rng: _to_sweep(rng, B=24, U=7)),),
    mistakes={
        "all units at once": _sweep_of(reads=lambda s, now: s),
        "last unit first": _sweep_of(order=lambda U: reversed(range(U))),
        "first unit only": _sweep_of(order=lambda U: range(1)),
        "last unit left out": _sweep_of(order=lambda U: range(U - 1)),
        "drawn the wrong way": _sweep_of(draw=lambda logit, u: (u > logit.sigmoid()).to(logit)),
        "most probable": _sweep_of(draw=lambda logit, u: (logit > 0).to(logit) + 0 * u),
        "probabilities": _sweep_of(draw=lambda logit, u: logit.sigmoid() + 0 * u),
        "no sigmoid": _sweep_of(draw=lambda logit, u: (u < logit).to(logit)),
        "half of the couplings": _sweep_of(couplings=0.5),
        "twice the couplings": _sweep_of(couplings=2.0),
        "sign of the couplings": _sweep_of(couplings=-1.0),
        "sign of the energy": _sweep_of(couplings=-1.0, biases=-1.0),
        "no biases": _sweep_of(biases=0.0),
        "one uniform for all units": lambda s, J, b, u: _sweep_of()(s, J, b, u[:, :1].expand_as(u)),
        "two sweeps": lambda s, J, b, u: _sweep_of()(_sweep_of()(s, J, b, u), J, b, u),
    },
)

# --- 11.5 contrastive divergence --------------------------------------------------------------------------------------


def _to_contrast(rng: np.random.Generator, B: int, D: int, H: int) -> Inputs:
    """Images and uniforms; all pixels of a column the same would hide what belongs to which image.

    A second step with the same uniforms leads elsewhere for three of the images at least; so do hidden units
    that are not drawn, and pixels without their biases.
    """
    while True:
        inputs = dict(_images(rng, B, D, H))
        hidden = _sigmoid(inputs["c"] + inputs["v"] @ inputs["W"])
        u = _apart(rng, hidden)
        visible = _sigmoid(inputs["b"] + (u < hidden) @ inputs["W"].T)
        w = _apart(rng, visible)
        others = (u < _sigmoid(inputs["c"] + (w < visible) @ inputs["W"]), hidden, hidden > 0.5)
        dreams = [w < _sigmoid(inputs["b"] + other @ inputs["W"].T) for other in others]
        dreams += [w < _sigmoid((u < hidden) @ inputs["W"].T)]
        if all((dream != (w < visible)).any(1).sum() >= 3 for dream in dreams):
            return {**inputs, "u": u, "w": w}


def _on(logits: Tensor, u: Tensor) -> Tensor:
    return (u < logits.sigmoid()).to(logits)


def _contrast_of(
    first: Callable = lambda logits, u: logits.sigmoid(),
    hidden: Callable = _on,
    visible: Callable = _on,
    last: Callable = lambda p0, p1, u: p1,
    signs: tuple[float, float] = (1.0, -1.0),
    mean: Callable = lambda total, B: total / B,
    biases: bool = True,
    dreamt: Callable = lambda v, v1: v1,
) -> Callable:
    """CD-1, one part replaced: the update of W, and in a last row that of c."""

    def contrast(v: Tensor, W: Tensor, b: Tensor, c: Tensor, u: Tensor, w: Tensor) -> Tensor:
        logits = c + v @ W
        p0 = first(logits, u)
        v1 = visible((b if biases else 0 * b) + hidden(logits, u) @ W.T, w)
        p1 = last(p0, (c + v1 @ W).sigmoid(), u)
        one = torch.ones_like(v[:, :1])
        positive = torch.cat([v, one], dim=1).T @ p0
        negative = torch.cat([dreamt(v, v1), one], dim=1).T @ p1
        return mean(signs[0] * positive + signs[1] * negative, len(v))

    return contrast


CONTRAST = Question(
    id="11.5",
    title="Contrastive divergence",
    function="cd_update",
    returns="(D + 1, H)",
    reference=_contrast_of(),
    example={
        "v": [[1, 0], [1, 1]],
        "W": [[1.0, -0.5, 0.5], [-2.0, 1.0, 0.0]],
        "b": [0.5, -1.0],
        "c": [-0.5, 0.5, 1.0],
        "u": [[0.4, 0.6, 0.9], [0.7, 0.3, 0.2]],
        "w": [[0.9, 0.1], [0.4, 0.8]],
    },
    checks=(Check("values", 3, lambda rng: _to_contrast(rng, B=16, D=6, H=4)),),
    mistakes={
        "sign": _contrast_of(signs=(-1.0, 1.0)),
        "both added": _contrast_of(signs=(1.0, 1.0)),
        "data's half only": _contrast_of(signs=(1.0, 0.0)),
        "dream's half only": _contrast_of(signs=(0.0, -1.0)),
        "probabilities for the dreamt pixels": _contrast_of(visible=lambda logits, w: logits.sigmoid() + 0 * w),
        "probabilities for the hidden units": _contrast_of(hidden=lambda logits, u: logits.sigmoid() + 0 * u),
        "most probable hidden units": _contrast_of(hidden=lambda logits, u: (logits > 0).to(logits)),
        "most probable pixels": _contrast_of(visible=lambda logits, w: (logits > 0).to(logits)),
        "drawn hidden units in the data's half": _contrast_of(first=_on),
        "drawn the wrong way": _contrast_of(
            hidden=lambda logits, u: (u > logits.sigmoid()).to(logits),
            visible=lambda logits, w: (w > logits.sigmoid()).to(logits),
        ),
        "hidden units of the data in both halves": _contrast_of(last=lambda p0, p1, u: p0),
        "drawn hidden units in the dream's half": _contrast_of(last=lambda p0, p1, u: (u < p1).to(p1)),
        "data's pixels in both halves": _contrast_of(dreamt=lambda v, v1: v),
        "sum over the batch": _contrast_of(mean=lambda total, B: total),
        "b missing": _contrast_of(biases=False),
        "c missing": lambda v, W, b, c, u, w: _contrast_of()(v, W, b, 0 * c, u, w),
        "two steps": lambda v, W, b, c, u, w: _two_steps(v, W, b, c, u, w),
        "bias of the hidden units not moved": lambda *at: torch.cat([_contrast_of()(*at)[:-1], 0 * at[3][None]]),
        "bias first": lambda *at: _contrast_of()(*at).roll(1, 0),
    },
)


def _two_steps(v: Tensor, W: Tensor, b: Tensor, c: Tensor, u: Tensor, w: Tensor) -> Tensor:
    """CD-2, whose second step has the uniforms of the first."""
    dream = _on(b + _on(c + v @ W, u) @ W.T, w)
    dream = _on(b + _on(c + dream @ W, u) @ W.T, w)
    p, q, one = (c + v @ W).sigmoid(), (c + dream @ W).sigmoid(), torch.ones_like(v[:, :1])
    return (torch.cat([v, one], dim=1).T @ p - torch.cat([dream, one], dim=1).T @ q) / len(v)


# --- 11.6 annealing ---------------------------------------------------------------------------------------------------


def _on_the_path(rng: np.random.Generator, n: int, D: int, H: int, T: int, scale: float = 1.0) -> Inputs:
    """Chains along a path: independent draws in place of steps, since the weights do not ask how states came about.

    The mean of the chains' products is not nearly the product of the means.
    """
    while True:
        even = np.linspace(0, 1, T + 1)
        even[1:-1] += rng.uniform(-0.3, 0.3, T - 1) / T
        inputs = {"states": _bits(rng, T, n, D), "betas": even, **_machine(rng, D, H, scale), "base": rng.standard_normal(D)}
        at = [torch.tensor(value) for value in inputs.values()]
        right, other = float(_ais(*at)), float(_mean_at_each(*at))
        if abs(other - right) > 0.003 * (1 + abs(right)):
            return inputs


def _log_f(v: Tensor, beta: Tensor, W: Tensor, b: Tensor, c: Tensor, base: Tensor) -> Tensor:
    """The logarithm of the unnormalised density on the way from independent pixels to the machine, (n,)."""
    return (1 - beta) * (v @ base) + beta * (v @ b) + softplus(beta * (c + v @ W)).sum(1)


def _start(W: Tensor, b: Tensor, c: Tensor, base: Tensor) -> Tensor:
    return softplus(base).sum() + len(c) * math.log(2)


def _ais_of(
    log_f: Callable = _log_f,
    start: Callable = _start,
    together: Callable = lambda log_w: log_w.logsumexp(0) - math.log(len(log_w)),
    state: Callable = lambda states, t: states[t],
    steps: Callable = range,
    sign: float = 1.0,
) -> Callable:
    """The estimate of log Z, one part replaced."""

    def ais(states: Tensor, betas: Tensor, W: Tensor, b: Tensor, c: Tensor, base: Tensor) -> Tensor:
        log_w = 0 * states[0, :, 0]
        for t in steps(len(states)):
            v = state(states, t)
            log_w = log_w + log_f(v, betas[t + 1], W, b, c, base) - log_f(v, betas[t], W, b, c, base)
        return start(W, b, c, base) + together(sign * log_w)

    return ais


_ais = _ais_of()


def _mean_at_each(states: Tensor, betas: Tensor, *machine: Tensor) -> Tensor:
    """The chains' ratios averaged at each temperature, before they are multiplied."""
    ratios = [_log_f(v, betas[t + 1], *machine) - _log_f(v, betas[t], *machine) for t, v in enumerate(states)]
    return _start(*machine) + sum(ratio.logsumexp(0) - math.log(len(ratio)) for ratio in ratios)


ANNEALING = Question(
    id="11.6",
    title="Annealed importance sampling",
    function="ais_log_partition",
    returns="()",
    reference=_ais,
    example={
        "states": [[[1, 0], [0, 0]], [[1, 1], [0, 1]]],
        "betas": [0.0, 0.4, 1.0],
        "W": [[1.0], [-2.0]],
        "b": [0.5, 1.0],
        "c": [-0.5],
        "base": [1.0, -1.0],
    },
    checks=(
        Check("values", 2, lambda rng: _on_the_path(rng, n=6, D=5, H=3, T=4)),
        Check("large weights", 1, lambda rng: _large_weights(rng), rtol=1e-6, atol=3e-3, needs="values"),
    ),
    mistakes={
        "unstable": _ais_of(together=lambda log_w: log_w.exp().mean().log()),
        "mean of logarithms": _ais_of(together=lambda log_w: log_w.mean()),
        "mean at each temperature": _mean_at_each,
        "sum for mean": _ais_of(together=lambda log_w: log_w.logsumexp(0)),
        "weights turned over": _ais_of(sign=-1.0),
        "state after the step": _ais_of(state=lambda states, t: states[min(t + 1, len(states) - 1)]),
        "first states only": _ais_of(state=lambda states, t: states[0]),
        "last states only": _ais_of(state=lambda states, t: states[-1]),
        "last temperature left out": _ais_of(steps=lambda T: range(T - 1)),
        "first temperature left out": _ais_of(steps=lambda T: range(1, T)),
        "log 2 of the hidden units forgotten": _ais_of(start=lambda W, b, c, base: softplus(base).sum()),
        "start forgotten": _ais_of(start=lambda W, b, c, base: 0.0),
        "start without its biases": _ais_of(start=lambda W, b, c, base: (len(base) + len(c)) * math.log(2)),
        "start with the machine's biases": _ais_of(start=lambda W, b, c, base: softplus(b).sum() + len(c) * math.log(2)),
        "start with c": _ais_of(start=lambda W, b, c, base: softplus(base).sum() + softplus(c).sum()),
        "base does not fade": _ais_of(
            lambda v, beta, W, b, c, base: v @ base + beta * (v @ b) + softplus(beta * (c + v @ W)).sum(1)
        ),
        "b not tempered": _ais_of(
            lambda v, beta, W, b, c, base: (1 - beta) * (v @ base) + v @ b + softplus(beta * (c + v @ W)).sum(1)
        ),
        "c not tempered": _ais_of(
            lambda v, beta, W, b, c, base: (1 - beta) * (v @ base) + beta * (v @ b) + softplus(c + beta * (v @ W)).sum(1)
        ),
        "biases tempered twice": _ais_of(
            lambda v, beta, W, b, c, base: (1 - beta) * (v @ base) + beta**2 * (v @ b) + softplus(beta * (c + v @ W)).sum(1)
        ),
        "softplus tempered": _ais_of(
            lambda v, beta, W, b, c, base: (1 - beta) * (v @ base) + beta * (v @ b + softplus(c + v @ W).sum(1))
        ),
        "even temperatures": lambda states, betas, *rest: _ais(states, torch.linspace(0, 1, len(betas)).to(betas), *rest),
        "minus log Z": lambda *at: -_ais(*at),
    },
    harmless={"logsumexp: one maximum over everything": "there is one sum only"},
)


def _large_weights(rng: np.random.Generator) -> Inputs:
    """Weights whose exponential float32 cannot hold, for every chain."""
    inputs = dict(_on_the_path(rng, n=5, D=6, H=4, T=5))
    inputs["b"] = rng.uniform(60, 90, 6)
    inputs["states"][..., :3] = 1
    return inputs


# --- 11.7 labels ------------------------------------------------------------------------------------------------------


def _with_labels(rng: np.random.Generator, B: int, D: int, H: int, K: int) -> Inputs:
    return {
        "v": _bits(rng, B, D),
        "W": rng.standard_normal((D, H)),
        "U": 1.5 * rng.standard_normal((K, H)),
        "c": rng.standard_normal(H),
        "d": rng.standard_normal(K),
    }


def _label_scores(v: Tensor, W: Tensor, U: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return d + softplus((c + v @ W)[:, None] + U).sum(2)  # (B, K)


def _labels_of(
    scores: Callable = _label_scores, normal: Callable = lambda scores: scores - scores.logsumexp(1, keepdim=True)
) -> Callable:
    return lambda *at: normal(scores(*at))


LABELS = Question(
    id="11.7",
    title="What the label is",
    function="class_log_probs",
    returns="(B, K)",
    reference=_labels_of(),
    example={
        "v": [[1, 0]],
        "W": [[1.0, -0.5], [2.0, 0.5]],
        "U": [[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]],
        "c": [0.5, -1.0],
        "d": [0.0, 0.5, 1.0],
    },
    checks=(Check("values", 2, lambda rng: _with_labels(rng, B=5, D=6, H=4, K=3)),),
    mistakes={
        "not normalised": _labels_of(normal=lambda scores: scores),
        "probabilities": _labels_of(normal=lambda scores: scores.softmax(1)),
        "normalised over the batch": _labels_of(normal=lambda scores: scores - scores.logsumexp(0)),
        "energies for their negatives": _labels_of(normal=lambda scores: (-scores).log_softmax(1)),
        "d missing": lambda v, W, U, c, d: _labels_of()(v, W, U, c, 0 * d),
        "c missing": lambda v, W, U, c, d: _labels_of()(v, W, U, 0 * c, d),
        "image missing": lambda v, W, U, c, d: _labels_of()(v, 0 * W, U, c, d),
        "sign of d": lambda v, W, U, c, d: _labels_of()(v, W, U, c, -d),
        "outside of the softplus": _labels_of(lambda v, W, U, c, d: d + ((c + v @ W)[:, None] + U).sum(2)),
        "mean hidden units of the image alone": _labels_of(lambda v, W, U, c, d: d + (c + v @ W).sigmoid() @ U.T),
        "most probable hidden units": _labels_of(lambda v, W, U, c, d: d + ((c + v @ W)[:, None] + U).clamp(min=0).sum(2)),
        "softplus of the sum": _labels_of(lambda v, W, U, c, d: d + softplus(((c + v @ W)[:, None] + U).sum(2))),
        "mean over the hidden units": _labels_of(lambda v, W, U, c, d: d + softplus((c + v @ W)[:, None] + U).mean(2)),
        "d in the hidden units": _labels_of(lambda v, W, U, c, d: softplus((c + v @ W)[:, None] + U + d[:, None]).sum(2)),
        "bits": lambda *at: _labels_of()(*at) / math.log(2),
    },
    harmless={
        "logsumexp: one maximum over axis 0 too": "the scores of all images are of one size",
        "logsumexp: one maximum over everything": "the scores of all images are of one size",
    },
)

# --- 11.8 train one ---------------------------------------------------------------------------------------------------


def _patterns(rng: np.random.Generator, N: int = 600, D: int = 10) -> Inputs:
    """Images near one of three patterns, each pixel wrong now and then; all images that there are, in no order.

    For the grader the true log-probability of each.
    """
    x = _binary(D)
    while True:
        patterns = x[rng.choice(len(x), 3, replace=False)]
        if (np.abs(patterns[:, None] - patterns).sum(-1) + D * np.eye(3)).min() >= 4:
            break
    p = np.zeros(len(x))
    for share, wrong, pattern in zip(rng.dirichlet(np.full(3, 6.0)), rng.uniform(0.06, 0.12, (3, D)), patterns, strict=True):
        p += share * np.where(x == pattern, 1 - wrong, wrong).prod(1)
    order = rng.permutation(len(x))
    return {"x": x[rng.choice(len(x), N, p=p)], "states": x[order], "_log_p": np.log(p[order])}


def _divergence(inputs: Inputs, answer: np.ndarray) -> float:
    """The KL divergence from the truth, for numbers that need not add up to one: the sum of p log(p / q) - p + q.

    It is 0 or more, and 0 at the truth alone, whatever the answer adds up to: too much mass costs as too little does.
    """
    log_p = inputs["_log_p"].astype(float)
    with np.errstate(over="ignore"):
        divergence = (np.exp(log_p) * (log_p - answer - 1) + np.exp(answer)).sum()
    return min(float(divergence), 1000.0)  # what is worse has too many digits to be read


def _weights_of(x: Tensor, states: Tensor, hidden: int, decay: float, steps: int, every: int = 1) -> tuple[Tensor, ...]:
    """W, b and c of the greatest likelihood, by the exact gradient: the states are few enough to be summed."""
    generator = torch.Generator().manual_seed(0)
    D = x.shape[1]
    share = (x.sum(0) + 1) / (len(x) + 2)
    W = 0.3 * torch.randn(D, hidden, generator=generator).to(x)
    x = x[::every]

    def loss(W: Tensor, b: Tensor, c: Tensor) -> Tensor:
        at_data, everywhere = _free_energy(x, W, b, c), _free_energy(states, W, b, c)
        return at_data.mean() + (-everywhere).logsumexp(0) + decay * (W**2).sum()

    return lowest(loss, W, share.logit(), torch.zeros(hidden).to(x), steps=steps)


def _model_of(
    hidden: int = 12,
    decay: float = 0.002,
    steps: int = 60,
    every: int = 1,
    answer: Callable = lambda minus_free: minus_free.log_softmax(0),
) -> Callable:
    """The training of a machine, one part replaced."""

    def fit(x: Tensor, states: Tensor) -> Tensor:
        return answer(-_free_energy(states, *_weights_of(x, states, hidden, decay, steps, every)))

    return fit


def _contrasted(sign: float = 1.0, steps: int = 1000, rate: float = 0.1) -> Callable:
    """The training by CD-1, with sixteen hidden units, one part replaced."""

    def fit(x: Tensor, states: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)

        def uniform(like: Tensor) -> Tensor:
            return torch.rand(like.shape, generator=generator).to(like)

        W, c = 0.1 * torch.randn(x.shape[1], 16, generator=generator).to(x), torch.zeros(16).to(x)
        b = ((x.sum(0) + 1) / (len(x) + 2)).logit()
        for step in range(steps):
            v = x[torch.randint(len(x), (50,), generator=generator)]
            p0 = (c + v @ W).sigmoid()
            v1 = (b + (uniform(p0) < p0).to(x) @ W.T).sigmoid()
            v1 = (uniform(v1) < v1).to(x)
            p1, lr = (c + v1 @ W).sigmoid(), sign * rate * (1 - step / steps)
            W = W + lr * ((v.T @ p0 - v1.T @ p1) / len(v) - 0.001 * W)
            b, c = b + lr * (v - v1).mean(0), c + lr * (p0 - p1).mean(0)
        return (-_free_energy(states, W, b, c)).log_softmax(0)

    return fit


def _independent(x: Tensor, states: Tensor) -> Tensor:
    share = (x.sum(0) + 1) / (len(x) + 2)
    return states @ share.log() + (1 - states) @ (1 - share).log()


def _counted(x: Tensor, states: Tensor) -> Tensor:
    often = (states[:, None] == x).all(2).sum(1).to(x)
    return ((often + 0.1) / (often + 0.1).sum()).log()


def _mass(answer: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(answer.astype(float)).sum())


def _pixels_alone(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether the answer is a sum over the pixels."""
    basis = np.column_stack([inputs["states"].astype(float), np.ones(len(answer))])
    rest = answer - basis @ np.linalg.lstsq(basis, answer, rcond=None)[0]
    return bool(np.ptp(answer) > 0 and np.abs(rest).max() < 0.01 * np.ptp(answer))


_HINTS = (
    told("11.8", "minus the logarithm", mended=lambda answer: -answer),
    told("11.8", "probability for its logarithm", mended=lambda answer: np.log(np.maximum(answer, 1e-12))),
    told("11.8", "bits", mended=lambda answer: answer * math.log(2)),
    told("11.8", "independent pixels", when=_pixels_alone),
    told(
        "11.8",
        "log Z forgotten",
        when=lambda inputs, answer: not 0.5 < _mass(answer) < 2 and np.ptp(answer) > 1,
    ),
)


def _machine_measure(at_most: float) -> Measure:
    return Measure(
        "the KL divergence of your machine",
        _divergence,
        at_most,
        lambda inputs: (len(inputs["states"]),),
        "twelve hidden units or more, small random couplings to begin with, and steps until nothing changes; pixels and hidden "
        "units of the dream are drawn, not averaged; the answer is minus the free energy less log Z, which the states give.",
        " nats",
        _HINTS,
    )


EXPERIMENT = Question(
    id="11.8",
    title="Train a restricted Boltzmann machine",
    function="fit_rbm",
    returns="(S,)",
    reference=_model_of(),
    example={"x": [[0.0, 1.0], [1.0, 1.0]], "states": [[0.0, 1.0], [0.0, 0.0]]},
    checks=(
        Check("trained", 3, _patterns, measure=_machine_measure(0.16)),
        Check("close to the best", 1, _patterns, measure=_machine_measure(0.12), of="trained"),
    ),
    mistakes={
        "minus the logarithm": _model_of(answer=lambda minus_free: -minus_free.log_softmax(0)),
        "probability for its logarithm": _model_of(answer=lambda minus_free: minus_free.softmax(0)),
        "bits": _model_of(answer=lambda minus_free: minus_free.log_softmax(0) / math.log(2)),
        "log Z forgotten": _model_of(answer=lambda minus_free: minus_free),
        "independent pixels": _independent,
        "counted": _counted,
        "one hidden unit": _model_of(hidden=1),
        "few images": _model_of(every=25),
        "sign of the update": _contrasted(sign=-1.0, steps=300),
        "few steps": _contrasted(steps=20),
        "small learning rate": _contrasted(rate=0.0005),
        "states out of order": _model_of(answer=lambda minus_free: minus_free.log_softmax(0).flip(0)),
    },
    seconds=60.0,
)

QUESTIONS = (ENERGY, FREE_ENERGY, LOG_Z, SWEEP, CONTRAST, ANNEALING, LABELS, EXPERIMENT)
