"""Exercise 08, autoencoders: the best linear one, what it loses, denoising, sizes of layers, a classifier on an encoder.

Sizes: B or N examples of D numbers, codes of K, C classes. Errors are sums over the numbers of an example, never means.

Tolerances: over 100 seeds the reference in float32 is within 3e-6 of `1 + |right answer|`, its gradients within 5e-6, angles
within 1e-5, since none is near 0.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gencourse.grading.questions import Check, Inputs, Measure, Question, told
from gencourse.grading.questions.training import trained


def _orthonormal(rng: np.random.Generator, D: int, K: int | None = None) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((D, D)))[0][:, :K]


# --- 8.1 the principal subspace ---------------------------------------------------------------------------------------


def _cloud(rng: np.random.Generator, N: int, D: int) -> Inputs:
    """Points around a centre far from zero, with variances well apart along axes of no particular direction."""
    widths = 2.0 ** -np.arange(D) * rng.uniform(1.8, 2.2, D)
    points = rng.standard_normal((N, D))
    points = (points - points.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T, bias=True))).T  # exactly white
    centre = rng.uniform(1.0, 2.0, D) * rng.choice([-1, 1], D)
    return {"x": points * widths @ _orthonormal(rng, D).T + centre, "K": float(rng.integers(2, D - 1))}


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(0)


def _axes(x: Tensor, center: Callable = _centred) -> Tensor:
    """The principal axes as columns, by falling variance."""
    return torch.linalg.svd(center(x), full_matrices=False).Vh.mT


def _projector_of(pick: Callable = lambda V, K: V[:, :K], center: Callable = _centred) -> Callable:
    def projector(x: Tensor, K: Tensor) -> Tensor:
        V = pick(_axes(x, center), int(K))
        return V @ V.mT

    return projector


_projector = _projector_of()


def _widths(x: Tensor) -> Tensor:
    return torch.linalg.svdvals(_centred(x))


PROJECTOR = Question(
    id="8.1",
    title="The best linear autoencoder",
    function="best_linear",
    returns="(D, D)",
    reference=_projector,
    example={"x": [[3.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 1.0], [4.0, 4.0, 1.0]], "K": 1.0},
    checks=(
        Check("tall data", 2, lambda rng: _cloud(rng, N=40, D=5)),
        Check("many dimensions", 1, lambda rng: _cloud(rng, N=30, D=7)),
    ),
    mistakes={
        "not centred": _projector_of(center=lambda x: x),
        "least variance": _projector_of(pick=lambda V, K: V[:, len(V) - K :]),
        "the rest": _projector_of(pick=lambda V, K: V[:, K:]),
        "one component more": lambda x, K: _projector(x, K + 1),
        "one component fewer": lambda x, K: _projector(x, K - 1),
        "covariance": lambda x, K: _centred(x).mT @ _centred(x) / len(x) + 0 * K,
        "scaled by the variances": lambda x, K: _scaled_projector(x, K),
        "standardised": _projector_of(center=lambda x: (x - x.mean(0)) / x.std(0)),
        "centred by examples": _projector_of(center=lambda x: x - x.mean(1, keepdim=True)),
        "coordinates for components": lambda x, K: torch.diag((torch.arange(x.shape[1]) < K).to(x)) + 0 * x.mT @ x,
        "identity": lambda x, K: torch.eye(x.shape[1]).to(x) + 0 * K,
    },
)


def _scaled_projector(x: Tensor, K: Tensor) -> Tensor:
    V = _axes(x)[:, : int(K)]
    return (V * (_widths(x)[: int(K)] ** 2 / len(x))) @ V.mT


# --- 8.2 what it loses ------------------------------------------------------------------------------------------------


def _loss_of(pick: Callable = lambda variances, K: variances[K:].sum(), center: Callable = _centred) -> Callable:
    """Of the variances along the principal axes, by falling size, what `pick` makes of them."""

    def loss(x: Tensor, K: Tensor) -> Tensor:
        return pick(torch.linalg.svdvals(center(x)) ** 2 / len(x), int(K))

    return loss


LEAST_LOSS = Question(
    id="8.2",
    title="What it cannot keep",
    function="least_loss",
    returns="()",
    reference=_loss_of(),
    example={"x": [[3.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 1.0], [4.0, 4.0, 1.0]], "K": 1.0},
    checks=(Check("values", 2, lambda rng: _cloud(rng, N=24, D=5), rtol=1e-4, atol=1e-5),),
    mistakes={
        "kept for dropped": _loss_of(lambda variances, K: variances[:K].sum()),
        "largest for smallest": _loss_of(lambda variances, K: variances[: len(variances) - K].sum()),
        "all of it": _loss_of(lambda variances, K: variances.sum() + 0 * K),
        "first that is dropped": _loss_of(lambda variances, K: variances[K]),
        "one more kept": _loss_of(lambda variances, K: variances[K + 1 :].sum()),
        "one fewer kept": _loss_of(lambda variances, K: variances[max(K - 1, 0) :].sum()),
        "not centred": _loss_of(center=lambda x: x),
        "divided by N - 1": lambda x, K: _loss_of()(x, K) * len(x) / (len(x) - 1),
        "sum over the examples": lambda x, K: _loss_of()(x, K) * len(x),
        "mean over the dimensions": lambda x, K: _loss_of()(x, K) / x.shape[1],
        "standard deviations": _loss_of(lambda variances, K: variances[K:].sqrt().sum()),
        "root": _loss_of(lambda variances, K: variances[K:].sum().sqrt()),
        "singular values": lambda x, K: _widths(x)[int(K) :].sum(),
        "share": _loss_of(lambda variances, K: variances[K:].sum() / variances.sum()),
        "half": _loss_of(lambda variances, K: variances[K:].sum() / 2),
    },
    harmless={"right to three digits only": "one number may have no more"},
)

# --- 8.3 angles between subspaces -------------------------------------------------------------------------------------


def _two_subspaces(rng: np.random.Generator, D: int, K: int) -> Inputs:
    """Bases that are not orthonormal, of subspaces at angles well apart, none near 0 or a right angle."""
    angles = np.sort(rng.uniform(0.2, 0.4, K)) + np.linspace(0, 0.9, K)
    turn = _orthonormal(rng, D)
    A, rest = turn[:, :K], turn[:, K : 2 * K]
    B = A * np.cos(angles) + rest * np.sin(angles)

    def mixed(basis: np.ndarray) -> np.ndarray:
        return basis @ (_orthonormal(rng, K) * rng.uniform(0.6, 1.6, K)) @ _orthonormal(rng, K)

    return {"A": mixed(A), "B": mixed(B)}


def _basis(A: Tensor) -> Tensor:
    return torch.linalg.qr(A).Q


def _angles_of(
    basis: Callable = _basis, angle: Callable = lambda cosines: torch.arccos(cosines.clamp(-1, 1)), read: Callable = lambda a: a
) -> Callable:
    return lambda A, B: read(angle(torch.linalg.svdvals(basis(A).mT @ basis(B))))


ANGLES = Question(
    id="8.3",
    title="Angles between subspaces",
    function="principal_angles",
    returns="(K,)",
    reference=_angles_of(),
    example={"A": [[2.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]], "B": [[1.0, 0.0], [0.0, 0.5], [1.0, 0.0], [0.0, 1.0]]},
    checks=(Check("values", 2, lambda rng: _two_subspaces(rng, D=7, K=3), rtol=1e-4, atol=1e-4),),
    mistakes={
        "no orthonormal bases": _angles_of(basis=lambda A: A),
        "columns scaled only": _angles_of(basis=lambda A: torch.nn.functional.normalize(A, dim=0)),
        "cosines": _angles_of(angle=lambda cosines: cosines),
        "sines": _angles_of(angle=lambda cosines: (1 - cosines.clamp(0, 1) ** 2).sqrt()),
        "arcsine": _angles_of(angle=lambda cosines: torch.arcsin(cosines.clamp(-1, 1))),
        "squared cosines": _angles_of(angle=lambda cosines: torch.arccos(cosines.clamp(0, 1) ** 2)),
        "degrees": _angles_of(read=torch.rad2deg),
        "falling": _angles_of(read=lambda a: a.flip(0)),
        "angles of the basis vectors": lambda A, B: torch.arccos(
            (torch.nn.functional.normalize(A, dim=0) * torch.nn.functional.normalize(B, dim=0)).sum(0).clamp(-1, 1)
        ),
        "angles of an orthonormal basis": lambda A, B: torch.arccos((_basis(A) * _basis(B)).sum(0).clamp(-1, 1)),
        "largest for all": _angles_of(read=lambda a: a.max().expand_as(a)),
        "mean for all": _angles_of(read=lambda a: a.mean().expand_as(a)),
    },
)

# --- 8.4 denoising ----------------------------------------------------------------------------------------------------


def _to_damage(rng: np.random.Generator, B: int, D: int, K: int) -> Inputs:
    """Examples, of which no number is near 0; uniforms far from the rate, half of them narrowly."""
    rho = float(rng.choice([0.25, 0.4, 0.55, 0.7]))
    u = rng.uniform(0, 1, (B, D))
    u = np.where(rng.integers(0, 2, (B, D)) == 0, rho + 0.03 * rng.choice([-1, 1], (B, D)), u)
    u = np.where(np.abs(u - rho) < 0.01, rho + 0.02, u)
    return {
        "x": rng.uniform(0.3, 1.5, (B, D)) * rng.choice([-1, 1], (B, D)),
        "W": 0.8 * rng.standard_normal((K, D)),
        "V": rng.standard_normal((D, K)),
        "u": u,
        "rho": rho,
    }


def _blanked(x: Tensor, u: Tensor, rho: Tensor) -> Tensor:
    return torch.where(u < rho, torch.zeros_like(x), x)


def _denoising_of(
    damage: Callable = _blanked,
    target: Callable = lambda x, damaged: x,
    code: Callable = lambda damaged, W: torch.tanh(damaged @ W.mT),
    cost: Callable = lambda off: (off**2).sum(1),
) -> Callable:
    """The loss of a denoising autoencoder, one part replaced."""

    def loss(x: Tensor, W: Tensor, V: Tensor, u: Tensor, rho: Tensor) -> Tensor:
        damaged = damage(x, u, rho)
        return cost(code(damaged, W) @ V.mT - target(x, damaged))

    return loss


_denoising = _denoising_of()


def _of_blanked(x: Tensor, W: Tensor, V: Tensor, u: Tensor, rho: Tensor, blanked: bool = True) -> Tensor:
    off = torch.tanh(_blanked(x, u, rho) @ W.mT) @ V.mT - x
    return torch.where((u < rho) == blanked, off**2, 0 * off).sum(1)


DENOISING = Question(
    id="8.4",
    title="The loss of a denoising autoencoder",
    function="denoising_loss",
    returns="(B,)",
    reference=_denoising,
    example={"x": [[1.0, -2.0]], "W": [[1.0, 0.5]], "V": [[2.0], [-1.0]], "u": [[0.2, 0.9]], "rho": 0.5},
    checks=(
        Check("values", 2, lambda rng: _to_damage(rng, B=6, D=7, K=3)),
        Check("gradients", 1, lambda rng: _to_damage(rng, B=5, D=6, K=3), ("W", "V"), rtol=1e-4, atol=1e-3),
    ),
    mistakes={
        "target damaged": _denoising_of(target=lambda x, damaged: damaged),
        "nothing damaged": _denoising_of(damage=lambda x, u, rho: x),
        "the others blanked": _denoising_of(damage=lambda x, u, rho: torch.where(u < rho, x, torch.zeros_like(x))),
        "scaled as in dropout": _denoising_of(damage=lambda x, u, rho: _blanked(x, u, rho) / (1 - rho)),
        "mean of what is left": _denoising_of(damage=lambda x, u, rho: (1 - rho) * x + 0 * u),
        "noise added": _denoising_of(damage=lambda x, u, rho: x + rho * u),
        "once an example": _denoising_of(damage=lambda x, u, rho: _blanked(x, u[:, :1].expand_as(u), rho)),
        "once for all examples": _denoising_of(damage=lambda x, u, rho: _blanked(x, u[:1].expand_as(u), rho)),
        "mean over the dimensions": _denoising_of(cost=lambda off: (off**2).mean(1)),
        "half": _denoising_of(cost=lambda off: (off**2).sum(1) / 2),
        "root": _denoising_of(cost=lambda off: (off**2).sum(1).sqrt()),
        "absolute error": _denoising_of(cost=lambda off: off.abs().sum(1)),
        "no tanh": _denoising_of(code=lambda damaged, W: damaged @ W.mT),
        "blanked numbers only": _of_blanked,
        "numbers that were left only": lambda x, W, V, u, rho: _of_blanked(x, W, V, u, rho, blanked=False),
        "code damaged": lambda x, W, V, u, rho: ((_blanked(torch.tanh(x @ W.mT), u[:, : len(W)], rho) @ V.mT - x) ** 2).sum(1),
        "mean over the batch": lambda *at: _denoising(*at).mean(),
        "sum over the batch": lambda *at: _denoising(*at).sum(),
    },
)

# --- 8.5 the best denoiser --------------------------------------------------------------------------------------------


def _noisy_points(rng: np.random.Generator, B: int, N: int, D: int) -> Inputs:
    """Points that may be meant, and noisy ones between them, so that several count."""
    x = rng.uniform(-2, 2, (N, D))
    near = x[rng.integers(0, N, (2, B))].mean(0)
    return {"y": near + 0.3 * rng.standard_normal((B, D)), "x": x, "sigma": rng.choice([0.6, 0.7, 0.8, 0.9])}


def _far_points(rng: np.random.Generator, B: int) -> Inputs:
    """Little noise: all densities are so small that float32 has no number for them, and of different examples differently small.

    Six points on the axes of four dimensions, turned. The noisy ones lie near the middle of two that are not opposite to each
    other, so that these two count and no third.
    """
    sigma, turn = rng.choice([0.04, 0.05]), _orthonormal(rng, 4)
    radii = np.array([1.3, 1.4, 1.85, 1.95, 1.6, 1.65]) + rng.uniform(-0.03, 0.03, 6)
    x = np.concatenate([np.eye(4), -np.eye(4)[:2]]) * radii[:, None] @ turn
    pairs = [(0, 1), (2, 3), *[((0, 2), (1, 3), (4, 1), (5, 2))[i] for i in rng.permutation(4)]][:B]
    first, second = (x[list(side)] for side in zip(*pairs, strict=True))
    apart = np.linalg.norm(second - first, axis=1, keepdims=True)
    towards = rng.uniform(0.2, 0.7, (B, 1)) * rng.choice([-1, 1], (B, 1)) * sigma**2 / apart
    order = rng.permutation(B)
    return {"y": ((first + second) / 2 + towards * (second - first) / apart)[order], "x": x[rng.permutation(6)], "sigma": sigma}


def _squares(y: Tensor, x: Tensor) -> Tensor:
    return ((y[:, None] - x) ** 2).sum(2)  # (B, N)


def _denoised_of(
    logits: Callable = lambda squares, sigma: -squares / (2 * sigma**2),
    weights: Callable = lambda logits: logits.softmax(1),
    read: Callable = lambda weights, x, y: weights @ x,
) -> Callable:
    """The posterior mean, one part replaced."""
    return lambda y, x, sigma: read(weights(logits(_squares(y, x), sigma)), x, y)


DENOISED = Question(
    id="8.5",
    title="The best denoiser",
    function="denoise",
    returns="(B, D)",
    reference=_denoised_of(),
    example={"y": [[0.5, 0.0], [0.0, 2.0]], "x": [[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]], "sigma": 1.0},
    checks=(
        Check("values", 2, lambda rng: _noisy_points(rng, B=5, N=7, D=3)),
        Check("little noise", 1, lambda rng: _far_points(rng, B=5), rtol=1e-3, atol=3e-3, needs="values"),
    ),
    mistakes={
        "nearest": _denoised_of(weights=lambda logits: torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits)),
        "sigma for its square": _denoised_of(lambda squares, sigma: -squares / (2 * sigma)),
        "half missing": _denoised_of(lambda squares, sigma: -squares / sigma**2),
        "distance for its square": _denoised_of(lambda squares, sigma: -squares.sqrt() / (2 * sigma**2)),
        "mean over the dimensions": lambda y, x, sigma: _denoised_of(lambda s, sd: -s / (2 * sd**2) / x.shape[1])(y, x, sigma),
        "sign": _denoised_of(lambda squares, sigma: squares / (2 * sigma**2)),
        "no noise given": _denoised_of(lambda squares, sigma: -squares / 2 + 0 * sigma),
        "normalised over the batch": _denoised_of(weights=lambda logits: logits.softmax(0)),
        "not normalised": _denoised_of(weights=lambda logits: logits.exp()),
        "mean of the points": _denoised_of(weights=lambda logits: (0 * logits).softmax(1)),
        "noisy points handed back": _denoised_of(read=lambda weights, x, y: y + 0 * weights @ x),
        "the step alone": _denoised_of(read=lambda weights, x, y: weights @ x - y),
        "the score": lambda y, x, sigma: (_denoised_of()(y, x, sigma) - y) / sigma**2,
        "half of the way": _denoised_of(read=lambda weights, x, y: (weights @ x + y) / 2),
        "weights of the inverse square": _denoised_of(weights=lambda logits: (-1 / logits) / (-1 / logits).sum(1, keepdim=True)),
    },
)

# --- 8.6 sizes --------------------------------------------------------------------------------------------------------


def _layers(rng: np.random.Generator, L: int) -> Inputs:
    """Layers whose convolution leaves a remainder in half of the cases, and whose maps have a size of one at least."""
    rows: list[tuple[Any, ...]] = []
    while len(rows) < L:
        n, k, s = rng.integers(5, 40), rng.integers(2, 6), rng.integers(2, 4)
        p, o = rng.integers(1, k), rng.integers(0, s)
        remainder = (n + 2 * p - k) % s
        if bool(remainder) == bool(len(rows) % 2):
            rows.append((n, k, s, p, o))
        if len(rows) == L and not _tell_apart(*np.array(rows).T):
            rows = []
    return dict(zip("nkspo", np.array(rows, dtype=float).T, strict=True))


def _tell_apart(n: np.ndarray, k: np.ndarray, s: np.ndarray, p: np.ndarray, o: np.ndarray) -> bool:
    """Whether each number matters, one step too few is not the same as padding on one side, nor n / s as one place too few."""
    differ = all(np.ptp(number) > 0 for number in (n, k, s, p, o))
    one_side = all(((n + p - k) // s != other).any() for other in ((n + 2 * p - k - 1) // s, (n + 2 * p - k) // s - 1))
    return bool(differ and one_side and (n // s != (n + 2 * p - k) // s).any())


def _down(n: Tensor, k: Tensor, s: Tensor, p: Tensor, o: Tensor) -> Tensor:
    return torch.floor((n + 2 * p - k) / s) + 1


def _up(n: Tensor, k: Tensor, s: Tensor, p: Tensor, o: Tensor) -> Tensor:
    return (n - 1) * s - 2 * p + k + o


def _sizes_of(down: Callable = _down, up: Callable = _up) -> Callable:
    return lambda n, k, s, p, o: torch.stack([down(n, k, s, p, o), up(n, k, s, p, o)], dim=1)


SIZES = Question(
    id="8.6",
    title="Sizes of maps",
    function="map_sizes",
    returns="(L, 2)",
    reference=_sizes_of(),
    example={"n": [8.0, 7.0], "k": [4.0, 3.0], "s": [2.0, 2.0], "p": [1.0, 1.0], "o": [0.0, 1.0]},
    checks=(Check("values", 2, lambda rng: _layers(rng, L=8)),),
    mistakes={
        "not rounded": _sizes_of(down=lambda n, k, s, p, o: (n + 2 * p - k) / s + 1),
        "rounded up": _sizes_of(down=lambda n, k, s, p, o: torch.ceil((n + 2 * p - k) / s) + 1),
        "one missing": _sizes_of(down=lambda n, k, s, p, o: torch.floor((n + 2 * p - k) / s)),
        "kernel too long": _sizes_of(down=lambda n, k, s, p, o: torch.floor((n + 2 * p - k - 1) / s) + 1),
        "padding on one side": _sizes_of(down=lambda n, k, s, p, o: torch.floor((n + p - k) / s) + 1),
        "padding forgotten": _sizes_of(down=lambda n, k, s, p, o: torch.floor((n - k) / s) + 1),
        "stride forgotten": _sizes_of(down=lambda n, k, s, p, o: n + 2 * p - k + 1),
        "divided by the stride": _sizes_of(down=lambda n, k, s, p, o: torch.floor(n / s)),
        "times the stride": _sizes_of(up=lambda n, k, s, p, o: n * s),
        "padding on one side, upwards": _sizes_of(up=lambda n, k, s, p, o: (n - 1) * s - p + k + o),
        "padding added, upwards": _sizes_of(up=lambda n, k, s, p, o: (n - 1) * s + 2 * p + k + o),
        "padding forgotten, upwards": _sizes_of(up=lambda n, k, s, p, o: (n - 1) * s + k + o),
        "one place too many, upwards": _sizes_of(up=lambda n, k, s, p, o: n * s - 2 * p + k + o),
        "kernel forgotten, upwards": _sizes_of(up=lambda n, k, s, p, o: (n - 1) * s - 2 * p + o),
        "output padding forgotten": _sizes_of(up=lambda n, k, s, p, o: (n - 1) * s - 2 * p + k),
        "output padding twice": _sizes_of(up=lambda n, k, s, p, o: (n - 1) * s - 2 * p + k + 2 * o),
        "columns exchanged": lambda *at: _sizes_of()(*at).flip(1),
        "there and back": _sizes_of(up=lambda n, k, s, p, o: _up(_down(n, k, s, p, o), k, s, p, o)),
        "rows for columns": lambda *at: _sizes_of()(*at).mT.reshape(-1, 2),
    },
)

# --- 8.7 a classifier on an encoder -----------------------------------------------------------------------------------


def _labelled(rng: np.random.Generator, B: int, D: int, K: int, C: int, frozen: bool = False) -> Inputs:
    """A batch, an encoder, a softmax layer and the two rates: far apart from each other, and from one draw to the next."""
    return {
        "x": rng.standard_normal((B, D)),
        "labels": rng.permutation(np.arange(B) % C).astype(float),
        "E": 0.7 * rng.standard_normal((K, D)),
        "H": 1.5 * rng.standard_normal((C, K)),
        "lr_encoder": 0.0 if frozen else rng.choice([0.2, 0.3, 0.4, 0.5]),
        "lr_head": rng.choice([1.0, 1.5, 2.0, 2.5]),
    }


def _cross_entropy(E: Tensor, H: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    log_p = (torch.tanh(x @ E.mT) @ H.mT).log_softmax(1)
    return -log_p[torch.arange(len(x)), labels.long()]


def _step_of(
    cost: Callable = lambda E, H, x, labels: _cross_entropy(E, H, x, labels).mean(),
    rates: Callable = lambda lr_encoder, lr_head: (lr_encoder, lr_head),
    in_turn: bool = False,
) -> Callable:
    """One step of gradient descent, one part replaced."""

    def step(x: Tensor, labels: Tensor, E: Tensor, H: Tensor, lr_encoder: Tensor, lr_head: Tensor) -> Tensor:
        of_encoder, of_head = rates(lr_encoder, lr_head)
        with torch.enable_grad():
            leaves = [E.detach().clone().requires_grad_(), H.detach().clone().requires_grad_()]
            gradient = torch.autograd.grad(cost(*leaves, x, labels), leaves)
        moved = H - of_head * gradient[1]
        if in_turn:
            with torch.enable_grad():
                (of_E,) = torch.autograd.grad(cost(leaves[0], moved, x, labels), leaves[:1])
            gradient = (of_E, gradient[1])
        return torch.cat([(E - of_encoder * gradient[0]).flatten(), moved.flatten()])

    return step


def _linear_cost(E: Tensor, H: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    log_p = (x @ E.mT @ H.mT).log_softmax(1)
    return -log_p[torch.arange(len(x)), labels.long()].mean()


def _batch_softmax_cost(E: Tensor, H: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    log_p = (torch.tanh(x @ E.mT) @ H.mT).log_softmax(0)
    return -log_p[torch.arange(len(x)), labels.long()].mean()


def _squared_cost(E: Tensor, H: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    off = (torch.tanh(x @ E.mT) @ H.mT).softmax(1) - torch.nn.functional.one_hot(labels.long(), len(H)).to(x)
    return (off**2).sum(1).mean()


def _double_softmax_cost(E: Tensor, H: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    log_p = (torch.tanh(x @ E.mT) @ H.mT).softmax(1).log_softmax(1)
    return -log_p[torch.arange(len(x)), labels.long()].mean()


FINE_TUNING = Question(
    id="8.7",
    title="Fine-tuning",
    function="fine_tune_step",
    returns="(K D + C K,)",
    reference=_step_of(),
    example={
        "x": [[1.0, -1.0, 0.5], [0.0, 2.0, 1.0]],
        "labels": [0, 1],
        "E": [[0.5, 1.0, 0.0], [1.0, 0.0, -1.0]],
        "H": [[1.0, 0.5], [-1.0, 1.0]],
        "lr_encoder": 0.1,
        "lr_head": 0.7,
    },
    checks=(
        Check("fine-tuned", 2, lambda rng: _labelled(rng, B=6, D=5, K=3, C=3)),
        Check("frozen", 1, lambda rng: _labelled(rng, B=8, D=4, K=3, C=4, frozen=True), needs="fine-tuned"),
    ),
    mistakes={
        "encoder not moved": _step_of(rates=lambda lr_encoder, lr_head: (0 * lr_encoder, lr_head)),
        "head not moved": _step_of(rates=lambda lr_encoder, lr_head: (lr_encoder, 0 * lr_head)),
        "rates exchanged": _step_of(rates=lambda lr_encoder, lr_head: (lr_head, lr_encoder)),
        "one rate for both, the head's": _step_of(rates=lambda lr_encoder, lr_head: (lr_head, lr_head)),
        "one rate for both, the encoder's": _step_of(rates=lambda lr_encoder, lr_head: (lr_encoder, lr_encoder)),
        "uphill": _step_of(rates=lambda lr_encoder, lr_head: (-lr_encoder, -lr_head)),
        "head first": _step_of(in_turn=True),
        "sum over the batch": _step_of(lambda *at: _cross_entropy(*at).sum()),
        "no tanh": _step_of(_linear_cost),
        "softmax over the batch": _step_of(_batch_softmax_cost),
        "squared error": _step_of(_squared_cost),
        "softmax twice": _step_of(_double_softmax_cost),
        "the gradient": lambda x, labels, E, H, *rates: (
            torch.cat([E.flatten(), H.flatten()]) - _step_of()(x, labels, E, H, 0 * rates[0] + 1, 0 * rates[1] + 1)
        ),
        "head's weights first": lambda *at: _step_of()(*at).roll(at[3].numel()),
        "weights of columns": lambda x, labels, E, H, *rates: _columns(_step_of()(x, labels, E, H, *rates), E, H),
    },
    harmless={
        "log_softmax: one maximum over axis 0 too": "the logits of all examples are of one size",
        "log_softmax: one maximum over everything": "the logits of all examples are of one size",
    },
)


def _columns(moved: Tensor, E: Tensor, H: Tensor) -> Tensor:
    first = moved[: E.numel()].view_as(E)
    return torch.cat([first.mT.flatten(), moved[E.numel() :].view_as(H).mT.flatten()])


# --- 8.8 train one ----------------------------------------------------------------------------------------------------

_NOISE = 0.15


def _ribbon(rng: np.random.Generator, N: int = 1000, M: int = 400, D: int = 8) -> Inputs:
    """Points near a curve that winds through four of eight dimensions, and others to be reconstructed; for the grader, without
    the noise."""
    phase, centre = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.5, D) * rng.choice([-1, 1], D)
    axes = _orthonormal(rng, D, 4)

    def curve(t: np.ndarray) -> np.ndarray:
        wave = [t, np.sin(1.5 * t + phase), np.cos(1.5 * t + phase), 0.5 * np.sin(3 * t)]
        return np.stack(wave, 1) @ axes.T + centre

    learn, ask = curve(rng.uniform(-2, 2, N)), curve(rng.uniform(-2, 2, M))
    return {
        "x": learn + _NOISE * rng.standard_normal((N, D)),
        "points": ask + _NOISE * rng.standard_normal((M, D)),
        "_clean": ask,
    }


def _distance(inputs: Inputs, answer: np.ndarray) -> float:
    """The root of the mean squared distance from the points without their noise."""
    with np.errstate(over="ignore"):
        squares = ((answer.astype(float) - inputs["_clean"].astype(float)) ** 2).sum(1)
    return min(float(np.sqrt(squares.mean())), 1000.0)


def _smoothed(x: Tensor, points: Tensor) -> Tensor:
    """The reconstruction without a network, which takes a moment only: the neighbourhood's own line, and the place on it.

    The line is the first principal axis of the hundred nearest points, through their weighted mean; found again around where
    the point then lies.
    """
    y = points
    for _ in range(3):
        cloud = x[torch.cdist(y, x).topk(100, largest=False).indices]  # (M, 100, D)
        weight = (-((cloud - y[:, None]) ** 2).sum(2) / (2 * 0.35**2)).softmax(1)[..., None]
        middle = (weight * cloud).sum(1, keepdim=True)
        along = torch.linalg.svd(weight.sqrt() * (cloud - middle), full_matrices=False).Vh[:, :1].mT  # (M, D, 1)
        y = (middle + (points[:, None] - middle) @ along @ along.mT)[:, 0]
    return y


def _autoencoder_of(
    code: int = 1,
    hidden: int = 64,
    steps: int = 1000,
    lr: float = 0.005,
    data: Callable = lambda x: x,
    bent: bool = True,
) -> Callable:
    """The training of an autoencoder with one hidden layer on either side, one part replaced."""

    def fit(x: Tensor, points: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        x, D = data(x), x.shape[1]
        middle = x.mean(0)
        sizes = (D, hidden, code, hidden, D)
        start = []
        for inwards, outwards in itertools.pairwise(sizes):
            start += [
                torch.randn(inwards, outwards, generator=generator).to(x) / math.sqrt(inwards),
                0.5 * torch.randn(outwards, generator=generator).to(x),
            ]

        def through(y: Tensor, *weights: Tensor) -> Tensor:
            h = y - middle
            for layer in range(4):
                h = h @ weights[2 * layer] + weights[2 * layer + 1]
                h = torch.tanh(h) if bent and layer in (0, 2) else h
            return h + middle

        def cost(*weights: Tensor) -> Tensor:
            batch = x[torch.randint(len(x), (128,), generator=generator)]
            return ((through(batch, *weights) - batch) ** 2).sum(1).mean()

        return through(points, *trained(cost, *start, steps=steps, lr=lr))

    return fit


def _linear(x: Tensor, points: Tensor) -> Tensor:
    """The best linear autoencoder with one number as its code."""
    return (points - x.mean(0)) @ _projector(x, torch.tensor(1)) + x.mean(0)


def _reported(change: Callable[[Tensor], Tensor]) -> Callable:
    """A good reconstruction, and what is returned of it changed."""
    return lambda x, points: change(_smoothed(x, points))


def _handed_back(inputs: Inputs, answer: np.ndarray) -> bool:
    return bool(np.abs(answer - inputs["points"]).max() < 0.05)


def _straight(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether all answers lie on a line."""
    sizes = np.linalg.svd(answer - answer.mean(0), compute_uv=False)
    return bool(sizes[0] > 0 and sizes[1] < 0.02 * sizes[0])


def _same(inputs: Inputs, answer: np.ndarray) -> bool:
    return bool(np.ptp(answer, axis=0).max() < 0.02)


_HINTS = (
    told("8.8", "the mean for all", when=_same),
    told("8.8", "points handed back", when=_handed_back),
    told("8.8", "linear", when=_straight),
)


def _autoencoder_measure(at_most: float) -> Measure:
    return Measure(
        "the distance of your reconstructions from the points without noise",
        _distance,
        at_most,
        lambda inputs: inputs["points"].shape,
        "the code has to be one number, on either side of it a network that bends with fifty units or more, and the loss has to "
        "stand still at the end; a wider code keeps the noise, a straight network cannot follow the curve.",
        "",
        _HINTS,
    )


EXPERIMENT = Question(
    id="8.8",
    title="Train an autoencoder",
    function="fit_autoencoder",
    returns="(M, D)",
    reference=_smoothed,
    example={"x": np.eye(128, 2), "points": [[0.5, 0.5]]},
    checks=(
        Check("trained", 3, _ribbon, measure=_autoencoder_measure(0.24)),
        Check("close to the best", 1, _ribbon, measure=_autoencoder_measure(0.19), of="trained"),
    ),
    mistakes={
        "the mean for all": lambda x, points: x.mean(0).expand_as(points),
        "points handed back": lambda x, points: points.clone(),
        "linear": _linear,
        "a straight network": _autoencoder_of(bent=False),
        "wide code": _autoencoder_of(code=8),
        "forty points": _autoencoder_of(data=lambda x: x[:40]),
        "few steps": _autoencoder_of(steps=20),
        "small learning rate": _autoencoder_of(lr=0.00001, steps=300),
        "points out of order": _reported(lambda y: y.flip(0)),
        "code not decoded": _reported(lambda y: (y - y.mean(0)) @ _axes(y)[:, :1] @ torch.ones(1, y.shape[1]).to(y)),
        "centre forgotten": _reported(lambda y: y - y.mean(0)),
    },
    seconds=60.0,
)

QUESTIONS = (PROJECTOR, LEAST_LOSS, ANGLES, DENOISING, DENOISED, SIZES, FINE_TUNING, EXPERIMENT)
