"""Exercise 12, generative stochastic networks: corruption, reconstruction, the chain they make, and where it settles.

Sizes: B images of D pixels, each 0 or 1, S states, K steps. A reconstruction is one layer here, `sigmoid(W x~ + b)` pixel by
pixel. Randomness is given as uniform numbers, none of them so near a threshold that rounding could turn a pixel.

Tolerances: over 100 seeds the reference in float32 is within 1e-6 of `1 + |right answer|`, its gradients within 2e-6, and the
stationary distribution of a slow chain, which divides rounding by 1 minus the second eigenvalue, within 2e-5.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gencourse.grading.questions import Check, Inputs, Measure, Question, told
from gencourse.grading.questions.training import trained


def _apart(rng: np.random.Generator, shape: tuple[int, ...], *thresholds: np.ndarray | float) -> np.ndarray:
    """Uniform numbers that stay 0.01 away from each of the thresholds."""
    u = rng.uniform(0, 1, shape)
    while True:
        near = np.any([np.abs(u - threshold) < 0.01 for threshold in thresholds], axis=0)
        if not near.any():
            return u
        u[near] = rng.uniform(0, 1, int(near.sum()))


def _rates(rng: np.random.Generator) -> dict[str, Any]:
    """How often a pixel is replaced, and how often by 1: never as often as not, and no two draws' nearly equal."""
    return {"rho": float(rng.choice([0.25, 0.35, 0.45, 0.55])), "salt": float(rng.choice([0.2, 0.4, 0.65, 0.8]))}


def _just_beside(rng: np.random.Generator, probability: np.ndarray | float, shape: tuple[int, ...]) -> np.ndarray:
    """A little above or below, between 0 and 1: whoever takes another probability decides otherwise."""
    side = np.where(np.abs(probability - 0.5) < 0.46, rng.choice([-1, 1], shape), np.sign(0.5 - probability))
    return probability + 0.03 * side


# --- 12.1 corruption --------------------------------------------------------------------------------------------------


def _to_corrupt(rng: np.random.Generator, *shape: int) -> dict[str, Any]:
    """Images and uniforms. A quarter of the pixels is hit or missed narrowly, of another quarter the coin falls narrowly."""
    rates = _rates(rng)
    rho, salt = rates["rho"], rates["salt"]
    u, v = (_apart(rng, shape, rho, salt, rho / 2) for _ in range(2))
    kind, x = rng.integers(0, 4, shape), rng.integers(0, 2, shape)
    u = np.where(kind == 0, _just_beside(rng, rho, shape), np.where(kind == 1, 0.4 * rho, u))
    v = np.where(kind == 1, _just_beside(rng, salt, shape), v)
    x = np.where(kind == 0, v >= salt, x)  # so that it shows whether the pixel is hit
    if ((v < min(rho, salt)) & (u >= salt)).sum() < 2:  # so that v for both is not the same as v for u
        return _to_corrupt(rng, *shape)
    return {"x": x.astype(float), "u": u, "v": v, **rates}


def _corrupt(x: Tensor, u: Tensor, v: Tensor, rho: Tensor, salt: Tensor) -> Tensor:
    return torch.where(u < rho, (v < salt).to(x), x)


def _corrupt_of(hit: Callable = lambda u, v, rho, salt: u < rho, put: Callable = lambda x, u, v, rho, salt: v < salt) -> Callable:
    """The corruption, which pixels are hit or what is put there replaced."""

    def corrupt(x: Tensor, u: Tensor, v: Tensor, rho: Tensor, salt: Tensor) -> Tensor:
        return torch.where(hit(u, v, rho, salt), put(x, u, v, rho, salt).to(x), x)

    return corrupt


CORRUPTION = Question(
    id="12.1",
    title="Salt and pepper",
    function="corrupt",
    returns="(B, D)",
    reference=_corrupt,
    example={"x": [[0, 1, 1, 0]], "u": [[0.1, 0.1, 0.6, 0.2]], "v": [[0.1, 0.9, 0.1, 0.7]], "rho": 0.4, "salt": 0.3},
    checks=(Check("values", 2, lambda rng: _to_corrupt(rng, 8, 12)),),
    mistakes={
        "the others are hit": _corrupt_of(hit=lambda u, v, rho, salt: u > rho),
        "flipped": _corrupt_of(put=lambda x, *at: 1 - x),
        "salt for pepper": _corrupt_of(put=lambda x, u, v, rho, salt: v > salt),
        "always salt": _corrupt_of(put=lambda x, *at: torch.ones_like(x)),
        "always pepper": _corrupt_of(put=lambda x, *at: torch.zeros_like(x)),
        "a fair coin": _corrupt_of(put=lambda x, u, v, rho, salt: v < 0.5),
        "grey": _corrupt_of(put=lambda x, u, v, rho, salt: v),
        "salt itself": _corrupt_of(put=lambda x, u, v, rho, salt: salt.expand_as(x)),
        "v decides both": _corrupt_of(hit=lambda u, v, rho, salt: v < rho),
        "u and v exchanged": lambda x, u, v, rho, salt: _corrupt(x, v, u, rho, salt),
        "rho and salt exchanged": lambda x, u, v, rho, salt: _corrupt(x, u, v, salt, rho),
        "once an image": _corrupt_of(hit=lambda u, v, rho, salt: (u[:, :1] < rho).expand_as(u)),
        "once for all images": _corrupt_of(hit=lambda u, v, rho, salt: (u[:1] < rho).expand_as(u)),
        "probabilities": lambda x, u, v, rho, salt: (1 - rho) * x + rho * salt + 0 * u,
        "half as often": _corrupt_of(hit=lambda u, v, rho, salt: u < rho / 2),
    },
)

# --- 12.2 its probability ---------------------------------------------------------------------------------------------


def _binary(D: int) -> np.ndarray:
    """All images of D pixels, (2^D, D)."""
    return np.array(np.meshgrid(*[[0.0, 1.0]] * D, indexing="ij")).reshape(D, -1).T


def _some_states(rng: np.random.Generator, S: int, D: int) -> Inputs:
    return {"states": rng.permutation(_binary(D))[:S], **_rates(rng)}


def _ones(states: Tensor, rho: Tensor, salt: Tensor) -> Tensor:
    """How probable a 1 is in the corrupted image, pixel by pixel, (S, D)."""
    return (1 - rho) * states + rho * salt


def _all_pixels(one: Tensor, states: Tensor) -> Tensor:
    """How probable each state is, (S, S): the row says with which probabilities of its pixels, the column which state."""
    return torch.where(states == 1, one[:, None], 1 - one[:, None]).prod(-1)


def _corruption_of(ones: Callable = _ones, pixels: Callable = _all_pixels) -> Callable:
    return lambda states, rho, salt: pixels(ones(states, rho, salt), states)


_corruption = _corruption_of()


def _changes_only(one: Tensor, states: Tensor) -> Tensor:
    each = torch.where(states == 1, one[:, None], 1 - one[:, None])
    return torch.where(states == states[:, None], torch.ones_like(each), each).prod(-1)


CORRUPTION_MATRIX = Question(
    id="12.2",
    title="How probable a corruption is",
    function="corruption_matrix",
    returns="(S, S)",
    reference=_corruption,
    example={"states": [[0, 0], [1, 0]], "rho": 0.5, "salt": 0.3},
    checks=(Check("values", 2, lambda rng: _some_states(rng, S=9, D=4), rtol=1e-4, atol=3e-6),),
    mistakes={
        "transposed": lambda *at: _corruption(*at).T,
        "hit pixels always change": _corruption_of(lambda states, rho, salt: states + rho * (1 - 2 * states) + 0 * salt),
        "staying by chance forgotten": lambda states, rho, salt: torch.where(
            states == states[:, None], 1 - rho, rho * torch.where(states == 1, salt, 1 - salt)
        ).prod(-1),
        "salt for pepper": lambda states, rho, salt: _corruption(states, rho, 1 - salt),
        "a fair coin": lambda states, rho, salt: _corruption(states, rho, 0 * salt + 0.5),
        "rho and salt exchanged": lambda states, rho, salt: _corruption(states, salt, rho),
        "every pixel hit": _corruption_of(lambda states, rho, salt: 0 * states + salt),
        "logarithm": lambda *at: _corruption(*at).log(),
        "mean over the pixels": _corruption_of(
            pixels=lambda one, states: torch.where(states == 1, one[:, None], 1 - one[:, None]).mean(-1)
        ),
        "sum over the pixels": _corruption_of(
            pixels=lambda one, states: torch.where(states == 1, one[:, None], 1 - one[:, None]).sum(-1)
        ),
        "changed pixels only": _corruption_of(pixels=_changes_only),
        "ones only": _corruption_of(pixels=lambda one, states: torch.where(states == 1, one[:, None], 1.0).prod(-1)),
        "normalised": lambda *at: _corruption(*at) / _corruption(*at).sum(1, keepdim=True),
        "rows only": lambda states, rho, salt: _ones(states, rho, salt).prod(-1, keepdim=True).expand(-1, len(states)),
    },
)

# --- 12.3 what the clean image was ------------------------------------------------------------------------------------


def _prior_and_corruption(rng: np.random.Generator, S: int, empty: int = 0) -> Inputs:
    """A distribution, `empty` states of it without mass, and a corruption that is not symmetric."""
    p = rng.dirichlet(np.full(S, 1.5)) + 0.02
    p[rng.permutation(S)[:empty]] = 0
    return {"p": p / p.sum(), "C": rng.dirichlet(np.full(S, 0.7), S)}


def _posterior(p: Tensor, C: Tensor) -> Tensor:
    joint = (p[:, None] * C).T  # (S of x~, S of x)
    return joint / joint.sum(1, keepdim=True)


POSTERIOR = Question(
    id="12.3",
    title="What the clean image was",
    function="denoising_posterior",
    returns="(S, S)",
    reference=_posterior,
    example={"p": [0.5, 0.25, 0.25], "C": [[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]]},
    checks=(
        Check("values", 2, lambda rng: _prior_and_corruption(rng, S=6), rtol=1e-4, atol=1e-5),
        Check("states without mass", 1, lambda rng: _prior_and_corruption(rng, S=7, empty=2), rtol=1e-4, atol=1e-5),
    ),
    mistakes={
        "transposed": lambda *at: _posterior(*at).T,
        "no prior": lambda p, C: _posterior(torch.ones_like(p), C),
        "not normalised": lambda p, C: (p[:, None] * C).T,
        "normalised over the noisy image": lambda p, C: C.T + 0 * p,
        "the corruption again": lambda p, C: C + 0 * p,
        "probability of the noisy image for all": lambda p, C: (p @ C)[:, None].expand_as(C),
        "prior for all": lambda p, C: p.expand_as(C),
        "divided by the prior": lambda p, C: (C / (p[:, None] + 1e-9)).T / (C / (p[:, None] + 1e-9)).T.sum(1, keepdim=True),
        "prior squared": lambda p, C: _posterior(p**2, C),
        "softmax of probabilities": lambda p, C: (p[:, None] * C).T.softmax(1),
        "logarithm": lambda *at: (_posterior(*at) + 1e-12).log(),
        "row and column of C exchanged": lambda p, C: _posterior(p, C.T),
    },
)

# --- 12.4 one step ----------------------------------------------------------------------------------------------------


def _layer(rng: np.random.Generator, D: int) -> dict[str, np.ndarray]:
    return {"W": 1.5 * rng.standard_normal((D, D)), "b": rng.standard_normal(D)}


def _to_draw(rng: np.random.Generator, one: np.ndarray) -> np.ndarray:
    """Uniforms for these probabilities: half of them decide narrowly, some against all odds."""
    kind = rng.integers(0, 8, one.shape)
    against = np.where(one > 0.5, (one + 1) / 2, one / 2)
    against = np.where(np.abs(one - 0.5) < 0.49, against, 0.5)  # no number that float32 takes for 0 or 1
    return np.where(kind < 4, _just_beside(rng, one, one.shape), np.where(kind == 4, against, _apart(rng, one.shape, one)))


def _on_the_way(rng: np.random.Generator, B: int, D: int) -> Inputs:
    """All that one step takes."""
    layer = _layer(rng, D)
    x, u, v, rho, salt = _to_corrupt(rng, B, D).values()
    noisy = np.where(u < rho, v < salt, x)
    w = _to_draw(rng, 1 / (1 + np.exp(-noisy @ layer["W"].T - layer["b"])))
    return {"x": x, **layer, "u": u, "v": v, "w": w, "rho": rho, "salt": salt}


def _logits(noisy: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return noisy @ W.T + b


def _draws(logits: Tensor, w: Tensor) -> Tensor:
    return (w < logits.sigmoid()).to(logits)


def _step_of(
    noise: Callable = _corrupt,
    logits: Callable = _logits,
    draw: Callable = _draws,
    end: Callable = lambda drawn, x, noisy, u, rho: drawn,
) -> Callable:
    """One step of the chain, one part replaced."""

    def step(x: Tensor, W: Tensor, b: Tensor, u: Tensor, v: Tensor, w: Tensor, rho: Tensor, salt: Tensor) -> Tensor:
        noisy = noise(x, u, v, rho, salt)
        return end(draw(logits(noisy, W, b), w), x, noisy, u, rho)

    return step


_step = _step_of()

STEP = Question(
    id="12.4",
    title="One step of the chain",
    function="chain_step",
    returns="(B, D)",
    reference=_step,
    example={
        "x": [[1, 1, 0]],
        "W": [[2.0, 0.0, 0.0], [1.0, -2.0, 0.0], [0.0, 1.0, 1.0]],
        "b": [0.0, 0.5, -1.0],
        "u": [[0.9, 0.1, 0.8]],
        "v": [[0.2, 0.9, 0.1]],
        "w": [[0.7, 0.9, 0.2]],
        "rho": 0.4,
        "salt": 0.3,
    },
    checks=(Check("values", 2, lambda rng: _on_the_way(rng, B=24, D=8)),),
    mistakes={
        "probabilities": _step_of(draw=lambda logits, w: logits.sigmoid()),
        "most probable": _step_of(draw=lambda logits, w: logits > 0, end=lambda drawn, x, *at: drawn.to(x)),
        "not corrupted": _step_of(noise=lambda x, *at: x),
        "corrupted only": _step_of(end=lambda drawn, x, noisy, u, rho: noisy),
        "drawn the wrong way": _step_of(draw=lambda logits, w: (w > logits.sigmoid()).to(logits)),
        "no sigmoid": _step_of(draw=lambda logits, w: (w < logits).to(logits)),
        "W transposed": _step_of(logits=lambda noisy, W, b: noisy @ W + b),
        "b missing": _step_of(logits=lambda noisy, W, b: noisy @ W.T),
        "hit pixels only": _step_of(end=lambda drawn, x, noisy, u, rho: torch.where(u < rho, drawn, x)),
        "pixels that were not hit only": _step_of(end=lambda drawn, x, noisy, u, rho: torch.where(u < rho, noisy, drawn)),
        "u for w": lambda x, W, b, u, v, w, rho, salt: _step(x, W, b, u, v, u, rho, salt),
        "v for w": lambda x, W, b, u, v, w, rho, salt: _step(x, W, b, u, v, v, rho, salt),
        "probabilities corrupted": _step_of(noise=lambda x, u, v, rho, salt: (1 - rho) * x + rho * salt),
        "salt for pepper": lambda x, W, b, u, v, w, rho, salt: _step(x, W, b, u, 1 - v, w, rho, 1 - salt),
        "corrupted afterwards": lambda x, W, b, u, v, w, rho, salt: _corrupt(_draws(_logits(x, W, b), w), u, v, rho, salt),
    },
)

# --- 12.5 its transition matrix ---------------------------------------------------------------------------------------


def _chain(rng: np.random.Generator, D: int) -> Inputs:
    """All states in no order, a corruption that is not symmetric, and a layer."""
    states = rng.permutation(_binary(D))
    return {"states": states, "C": rng.dirichlet(np.full(len(states), 0.5), len(states)), **_layer(rng, D)}


def _reconstructions(states: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return _all_pixels(_logits(states, W, b).sigmoid(), states)


def _transition(states: Tensor, C: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return C @ _reconstructions(states, W, b)


def _each_pixel(states: Tensor, W: Tensor, b: Tensor) -> Tensor:
    one = _logits(states, W, b).sigmoid()
    return torch.where(states == 1, one[:, None], 1 - one[:, None])  # (S, S, D)


TRANSITION = Question(
    id="12.5",
    title="Its transition matrix",
    function="transition_matrix",
    returns="(S, S)",
    reference=_transition,
    example={"states": [[0.0], [1.0]], "C": [[0.75, 0.25], [0.5, 0.5]], "W": [[2.0]], "b": [-1.0]},
    checks=(Check("values", 2, lambda rng: _chain(rng, D=3), rtol=1e-4, atol=1e-5),),
    mistakes={
        "reconstructed first": lambda states, C, W, b: _reconstructions(states, W, b) @ C,
        "transposed": lambda *at: _transition(*at).T,
        "corruption transposed": lambda states, C, W, b: C.T @ _reconstructions(states, W, b),
        "reconstruction transposed": lambda states, C, W, b: C @ _reconstructions(states, W, b).T,
        "W transposed": lambda states, C, W, b: _transition(states, C, W.T, b),
        "b missing": lambda states, C, W, b: _transition(states, C, W, 0 * b),
        "no corruption": lambda states, C, W, b: _reconstructions(states, W, b) + 0 * C,
        "no reconstruction": lambda states, C, W, b: C + 0 * _reconstructions(states, W, b),
        "mean over the pixels": lambda states, C, W, b: C @ _each_pixel(states, W, b).mean(-1),
        "sum over the pixels": lambda states, C, W, b: C @ _each_pixel(states, W, b).sum(-1),
        "sum of logarithms": lambda states, C, W, b: C @ _reconstructions(states, W, b).log(),
        "mean probabilities": lambda states, C, W, b: _all_pixels(C @ _logits(states, W, b).sigmoid(), states),
        "mean noisy image": lambda states, C, W, b: _all_pixels(_logits(C @ states, W, b).sigmoid(), states),
        "ones only": lambda states, C, W, b: C @ torch.where(states == 1, _logits(states, W, b).sigmoid()[:, None], 1.0).prod(-1),
        "entry by entry": lambda states, C, W, b: C * _reconstructions(states, W, b),
    },
)

# --- 12.6 where it settles --------------------------------------------------------------------------------------------


def _mixes(rng: np.random.Generator, S: int) -> Inputs:
    """A chain that has forgotten its start after ten steps, and does not spend the same time everywhere."""
    return {"T": 0.5 * rng.dirichlet(np.full(S, 2.0), S) + 0.5 * rng.dirichlet(np.full(S, 0.7))}


def _two_groups(rng: np.random.Generator, S: int, leak: float) -> Inputs:
    """A chain that leaves the first group of states with a probability of about `leak`, and the other three times as often."""
    first = rng.integers(2, S // 2 + 1)
    T = np.zeros((S, S))
    T[:first, :first], T[first:, first:] = rng.dirichlet(np.ones(first), first), rng.dirichlet(np.ones(S - first), S - first)
    away = leak * rng.uniform(0.9, 1.1, (S, 1)) * np.where(np.arange(S) < first, 1, 3)[:, None]
    other = np.where(T > 0, 0.0, rng.uniform(0.5, 1, (S, S)))
    T = (1 - away) * T + away * other / other.sum(1, keepdims=True)
    order = rng.permutation(S)
    return {"T": T[order][:, order]}


def _stationary(T: Tensor) -> Tensor:
    S = len(T)
    left = torch.cat([T.T.double() - torch.eye(S, dtype=torch.float64), torch.ones(1, S, dtype=torch.float64)])
    right = torch.zeros(S + 1, dtype=torch.float64)
    right[-1] = 1
    return torch.linalg.lstsq(left, right[:, None]).solution[:, 0].to(T)


def _after(steps: int) -> Callable:
    return lambda T: torch.linalg.matrix_power(T, steps).mean(0)


def _second(T: Tensor) -> Tensor:
    values, vectors = torch.linalg.eig(T.T.double())
    second = vectors[:, values.abs().argsort(descending=True)[1]].real
    return (second.abs() / second.abs().sum()).to(T)


STATIONARY = Question(
    id="12.6",
    title="Where the chain settles",
    function="stationary",
    returns="(S,)",
    reference=_stationary,
    example={"T": [[0.75, 0.25], [0.5, 0.5]]},
    checks=(
        Check("a chain that forgets soon", 1, lambda rng: _mixes(rng, S=6), rtol=1e-4, atol=2e-5),
        Check("a chain that forgets late", 1, lambda rng: _two_groups(rng, S=8, leak=0.003), rtol=2e-3, atol=1e-3),
    ),
    mistakes={
        "right eigenvector": lambda T: torch.full((len(T),), 1 / len(T)).to(T) + 0 * T[0],
        "columns for rows": lambda T: _stationary(T.T / T.T.sum(1, keepdim=True)),
        "squares add up to one": lambda T: torch.nn.functional.normalize(_stationary(T), dim=0),
        "largest is one": lambda T: _stationary(T) / _stationary(T).max(),
        "sign": lambda T: -_stationary(T),
        "one step": _after(1),
        "ten steps": _after(10),
        "second eigenvector": _second,
        "diagonal": lambda T: T.diagonal() / T.diagonal().sum(),
        "first row": lambda T: T[0].clone(),
        "logarithm": lambda T: _stationary(T).log(),
        "softmax": lambda T: T.mean(0).softmax(0),
    },
)

# --- 12.7 walkback ----------------------------------------------------------------------------------------------------


def _walks(rng: np.random.Generator, K: int, B: int, D: int) -> Inputs:
    """All that K steps take."""
    layer, first = _layer(rng, D), _to_corrupt(rng, K, B, D)
    u, v, rho, salt = (first[name] for name in ("u", "v", "rho", "salt"))
    x = first["x"][0]
    w, state = np.zeros((K, B, D)), x
    for k in range(K):
        one = 1 / (1 + np.exp(-np.where(u[k] < rho, v[k] < salt, state) @ layer["W"].T - layer["b"]))
        w[k] = _to_draw(rng, one)
        state = (w[k] < one).astype(float)
    return {"x": x, **layer, "u": u, "v": v, "w": w, "rho": rho, "salt": salt}


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * logsigmoid(logits) + (1 - target) * logsigmoid(-logits)).sum(-1)


def _walkback_of(
    target: Callable = lambda x, state, noisy, drawn: x,
    goes_on: Callable = lambda x, state, noisy, logits, drawn: drawn,
    noise: Callable = _corrupt,
    cost: Callable = _cross_entropy,
    total: Callable = lambda losses: losses.mean(0),
) -> Callable:
    """The loss of a walk, one part replaced: `total` of the losses (K, B) of all steps."""

    def walkback(x: Tensor, W: Tensor, b: Tensor, u: Tensor, v: Tensor, w: Tensor, rho: Tensor, salt: Tensor) -> Tensor:
        state, losses = x, []
        for U, V, draw in zip(u, v, w, strict=True):
            noisy = noise(state, U, V, rho, salt)
            logits = _logits(noisy, W, b)
            drawn = _draws(logits, draw).detach()
            losses.append(cost(logits, target(x, state, noisy, drawn)))
            state = goes_on(x, state, noisy, logits, drawn)
        return total(torch.stack(losses))

    return walkback


_walkback = _walkback_of()

WALKBACK = Question(
    id="12.7",
    title="Walkback",
    function="walkback_loss",
    returns="(B,)",
    reference=_walkback,
    example={
        "x": [[1, 0]],
        "W": [[2.0, 0.0], [-1.0, 1.0]],
        "b": [0.0, 0.5],
        "u": [[[0.9, 0.1]], [[0.2, 0.8]]],
        "v": [[[0.2, 0.1]], [[0.9, 0.1]]],
        "w": [[[0.3, 0.2]], [[0.5, 0.5]]],
        "rho": 0.4,
        "salt": 0.3,
    },
    checks=(
        Check("values", 2, lambda rng: _walks(rng, K=3, B=6, D=5)),
        Check("gradients", 1, lambda rng: _walks(rng, K=4, B=6, D=4), ("W", "b"), rtol=1e-4, atol=1e-4),
    ),
    mistakes={
        "target is the previous image": _walkback_of(target=lambda x, state, noisy, drawn: state),
        "target is the corrupted image": _walkback_of(target=lambda x, state, noisy, drawn: noisy),
        "target is what was drawn": _walkback_of(target=lambda x, state, noisy, drawn: drawn),
        "back to the start": _walkback_of(goes_on=lambda x, *at: x),
        "corrupted image goes on": _walkback_of(goes_on=lambda x, state, noisy, logits, drawn: noisy),
        "probabilities go on": _walkback_of(goes_on=lambda x, state, noisy, logits, drawn: logits.sigmoid().detach()),
        "most probable goes on": _walkback_of(goes_on=lambda x, state, noisy, logits, drawn: (logits > 0).to(x)),
        "never corrupted": _walkback_of(noise=lambda x, *at: x),
        "corrupted once": lambda x, W, b, u, v, w, rho, salt: _walkback_of(noise=lambda state, *at: state)(
            _corrupt(x, u[0], v[0], rho, salt), W, b, u, v, w, rho, salt
        ),
        "first step only": _walkback_of(total=lambda losses: losses[0]),
        "last step only": _walkback_of(total=lambda losses: losses[-1]),
        "sum over the steps": _walkback_of(total=lambda losses: losses.sum(0)),
        "sign": _walkback_of(total=lambda losses: -losses.mean(0)),
        "mean over the pixels": _walkback_of(cost=lambda logits, target: _cross_entropy(logits, target) / logits.shape[-1]),
        "squared error": _walkback_of(cost=lambda logits, target: ((logits.sigmoid() - target) ** 2).sum(-1)),
        "ones only": _walkback_of(cost=lambda logits, target: -(target * logsigmoid(logits)).sum(-1)),
        "hit pixels only": lambda x, W, b, u, v, w, rho, salt: _hit_only(x, W, b, u, v, w, rho, salt),
        "mean over the batch": lambda *at: _walkback(*at).mean(),
        "sum over the batch": lambda *at: _walkback(*at).sum(),
        "uniforms of the first step again": lambda x, W, b, u, v, w, rho, salt: _walkback(
            x, W, b, u[:1].expand_as(u), v[:1].expand_as(v), w[:1].expand_as(w), rho, salt
        ),
    },
)


def _hit_only(x: Tensor, W: Tensor, b: Tensor, u: Tensor, v: Tensor, w: Tensor, rho: Tensor, salt: Tensor) -> Tensor:
    """The walk, whose loss counts the pixels that a step replaced."""
    state, total = x, 0 * x[:, 0]
    for U, V, draw in zip(u, v, w, strict=True):
        logits = _logits(_corrupt(state, U, V, rho, salt), W, b)
        each = -(x * logsigmoid(logits) + (1 - x) * logsigmoid(-logits))
        total = total + torch.where(rho > U, each, 0 * each).sum(-1)
        state = _draws(logits, draw).detach()
    return total / len(u)


# --- 12.8 train one ---------------------------------------------------------------------------------------------------

_RHO = 0.3
"""How often a pixel is replaced in the experiment, by a fair coin."""


def _prototypes(rng: np.random.Generator, N: int = 2000, D: int = 8) -> Inputs:
    """Images near one of four patterns, each pixel wrong now and then; all noisy images, in no order.

    For the grader how probable each noisy image is, and the probability that each pixel of the clean one was 1.
    """
    x = _binary(D)
    while True:
        patterns = x[rng.choice(len(x), 4, replace=False)]
        if (np.abs(patterns[:, None] - patterns).sum(-1) + D * np.eye(4)).min() >= 3:
            break
    p, wrong = np.zeros(len(x)), rng.uniform(0.03, 0.08, (4, D))
    for share, errs, pattern in zip(rng.dirichlet(np.full(4, 5.0)), wrong, patterns, strict=True):
        p += share * np.where(x == pattern, 1 - errs, errs).prod(1)
    states = rng.permutation(x)
    stays = 1 - _RHO / 2
    together = p * (stays ** (states[:, None] == x).sum(-1)) * ((1 - stays) ** (states[:, None] != x).sum(-1))
    return {
        "x": x[rng.choice(len(x), N, p=p)],
        "states": states,
        "_weight": together.sum(1),
        "_one": together @ x / together.sum(1, keepdims=True),
    }


def _excess(inputs: Inputs, answer: np.ndarray) -> float:
    """What the reconstruction's cross-entropy has above the least that is possible, nats an image: 0 at the truth alone."""
    one = np.clip(inputs["_one"].astype(float), 1e-9, 1 - 1e-9)
    said = np.clip(answer.astype(float), 1e-6, 1 - 1e-6)
    each = one * np.log(one / said) + (1 - one) * np.log((1 - one) / (1 - said))
    return float(inputs["_weight"].astype(float) @ each.sum(1))


def _counted(x: Tensor, states: Tensor) -> Tensor:
    """The reconstruction without a network, which takes a moment only: each given image is as probable as any."""
    distance = (states[:, None] != x).sum(-1)  # (S, N)
    weight = ((len(x[0]) - distance) * np.log(1 - _RHO / 2) + distance * np.log(_RHO / 2)).to(x).softmax(1)
    return 0.999 * weight @ x + 0.0005


def _network_of(
    rate: float = _RHO,
    hidden: int = 32,
    steps: int = 300,
    lr: float = 0.02,
    target: Callable = lambda clean, noisy: clean,
    data: Callable = lambda x: x,
) -> Callable:
    """The training of a small network, one part replaced."""

    def fit(x: Tensor, states: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        x, D = data(x), x.shape[1]

        def uniform(*size: int) -> Tensor:
            return torch.rand(size, generator=generator).to(x)

        def logits(y: Tensor, V: Tensor, c: Tensor, W: Tensor, b: Tensor) -> Tensor:
            return torch.tanh(y @ V + c) @ W + b

        def cost(*weights: Tensor) -> Tensor:
            clean = x[torch.randint(len(x), (256,), generator=generator)]
            noisy = torch.where(uniform(256, D) < rate, (uniform(256, D) < 0.5).to(x), clean)
            return _cross_entropy(logits(noisy, *weights), target(clean, noisy)).mean()

        start = (uniform(D, hidden) - 0.5, uniform(hidden) - 0.5, 0.2 * (uniform(hidden, D) - 0.5), torch.zeros(D).to(x))
        return logits(states, *trained(cost, *start, steps=steps, lr=lr)).sigmoid()

    return fit


def _reported(change: Callable[[Tensor], Tensor]) -> Callable:
    """A good reconstruction, and what is returned of it changed."""
    return lambda x, states: change(_counted(x, states))


def _is_the_same_for_all(inputs: Inputs, answer: np.ndarray) -> bool:
    return bool(np.ptp(answer, axis=0).max() < 0.02)


def _is_zero_or_one(inputs: Inputs, answer: np.ndarray) -> bool:
    return bool(np.isin(answer, (0, 1)).all())


def _copies(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether each pixel is said to be what it is in the noisy image, but for a few."""
    return bool(((answer > 0.5) == (inputs["states"] > 0.5)).mean() > 0.98)


_HINTS = (
    told("12.8", "zeros and ones", when=_is_zero_or_one),
    told("12.8", "same for all", when=_is_the_same_for_all),
    told("12.8", "logits", mended=lambda answer: 1 / (1 + np.exp(-np.clip(answer, -50, 50)))),
    told("12.8", "probability of 0", mended=lambda answer: 1 - answer),
    told("12.8", "noisy image for the clean", when=_copies),
)


def _reconstruction_measure(at_most: float) -> Measure:
    return Measure(
        "your cross-entropy above the least possible",
        _excess,
        at_most,
        lambda inputs: inputs["states"].shape,
        "corrupt the clean images afresh in each step, as often as is said; the loss compares what a network with a hidden layer "
        "says of the corrupted image with the clean one, and has to stand still at the end.",
        " nats",
        _HINTS,
    )


# Nats an image. Networks with a hidden layer of 32 to 64 units, or two (tanh, ReLU, SiLU; Adam, AdamW, RMSprop; 500 to 1500
# steps) reach 0.02 to 0.06; the reference 0.01. Half the rate costs 0.12 at least with a perfect network, and 0.18 with a trained
# one, no hidden layer 0.4, forty of the images 0.24.
EXPERIMENT = Question(
    id="12.8",
    title="Train a reconstruction",
    function="fit_reconstruction",
    returns="(S, D)",
    reference=_counted,
    example={"x": [[0.0, 1.0], [1.0, 1.0]], "states": [[0.0, 1.0]]},
    checks=(
        Check("trained", 3, _prototypes, measure=_reconstruction_measure(0.1)),
        Check("close to the best", 1, _prototypes, measure=_reconstruction_measure(0.07), of="trained"),
    ),
    mistakes={
        "zeros and ones": _reported(lambda one: one.round()),
        "same for all": lambda x, states: x.mean(0).expand_as(states),
        "logits": _reported(lambda one: one.logit()),
        "probability of 0": _reported(lambda one: 1 - one),
        "noisy image for the clean": _network_of(target=lambda clean, noisy: noisy),
        "never corrupted": _network_of(rate=0.0),
        "corrupted half as often": _network_of(rate=_RHO / 2, steps=600),
        "corrupted twice as often": _network_of(rate=2 * _RHO, steps=600),
        "forty images": _network_of(data=lambda x: x[:40], steps=600),
        "few steps": _network_of(steps=15),
        "small learning rate": _network_of(lr=0.0001),
        "states out of order": _reported(lambda one: one.flip(0)),
    },
    seconds=60.0,
)

QUESTIONS = (CORRUPTION, CORRUPTION_MATRIX, POSTERIOR, STEP, TRANSITION, STATIONARY, WALKBACK, EXPERIMENT)
