"""Exercise 17, evaluation: distances between sets, precision and recall, what people answer, and a metric that is fooled.

Sizes: N and M examples of D features, K classes, R raters who see I images each, S resamples.

Tolerances: over 100 seeds the reference in float32 is within 4e-6 of `1 + |right answer|`. Fréchet's distance of Gaussians that
have no extent in most directions takes roots of zeros, which rounding makes 3e-4, in float32 as students compute it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gencourse.grading.questions import Check, Inputs, Measure, Question, told
from gencourse.metrics.parzen import parzen_log_prob


def _told_apart(
    draw: Callable[[np.random.Generator], dict[str, Any]], question: Callable[[], Question], but: tuple[str, ...] = ()
) -> Callable[[np.random.Generator], dict[str, Any]]:
    """Draws until no two mistakes give the same answer, nor one the right answer: single numbers coincide now and then.
    No single number is one of three digits.

    The mistakes in `but` are right here.
    """

    def drawn(rng: np.random.Generator) -> dict[str, Any]:
        asked = question()
        functions = [asked.reference, *(function for name, function in asked.mistakes.items() if name not in but)]
        while True:
            inputs = draw(rng)
            answers = [_answer(function, inputs) for function in functions]
            pairs = ((a, b) for place, a in enumerate(answers) for b in answers[:place] if a.shape == b.shape)
            if all(np.abs(a - b).max() > 1e-3 * (1 + np.abs(a).max()) for a, b in pairs) and not _is_round(answers[0]):
                return inputs

    return drawn


def _answer(function: Callable, inputs: dict[str, Any]) -> np.ndarray:
    """What a reference or a mistake says of inputs as they are drawn."""
    return function(*(torch.tensor(array, dtype=torch.float32) for array in inputs.values())).double().numpy()


def _is_round(answer: np.ndarray) -> bool:
    """Whether three digits say all of a single number."""
    return answer.size == 1 and abs(float(answer) - float(f"{float(answer):.3g}")) < 1.5e-4 * (1 + abs(float(answer)))


# --- 17.1 the Inception score -----------------------------------------------------------------------------------------


def _tables(rng: np.random.Generator, N: int, K: int, sure: bool = False) -> dict[str, Any]:
    """What a classifier says of each image; `sure` leaves some classes without any probability."""
    p = rng.dirichlet(rng.uniform(0.3, 1.2, K), N) + 0.01
    p[rng.random((N, K)) < (0.3 if sure else 0)] = 0
    p[:, 0] += 0.01
    return {"p": p / p.sum(1, keepdims=True)}


def _log(p: Tensor) -> Tensor:
    return torch.where(p > 0, p, 1.0).log()


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Terms of KL(p || q), (N, K)."""
    return p * (_log(p) - _log(q))


def _entropy(p: Tensor) -> Tensor:
    return -(p * _log(p)).sum(-1)


def _inception(p: Tensor) -> Tensor:
    return _divergence(p, p.mean(0)).sum(1).mean().exp()


INCEPTION: Question = Question(
    id="17.1",
    title="The Inception score",
    function="inception_score",
    returns="()",
    reference=_inception,
    example={"p": [[1.0, 0.0], [0.5, 0.5]]},
    checks=(
        Check("values", 2, _told_apart(lambda rng: _tables(rng, N=20, K=5), lambda: INCEPTION)),
        Check("classes that are ruled out", 1, lambda rng: _tables(rng, N=16, K=6, sure=True)),
    ),
    mistakes={
        "no exponential": lambda p: _inception(p).log(),
        "mean of the exponentials": lambda p: _divergence(p, p.mean(0)).sum(1).exp().mean(),
        "sum over the images": lambda p: _divergence(p, p.mean(0)).sum(1).sum().exp(),
        "mean over the classes": lambda p: _divergence(p, p.mean(0)).mean(1).mean().exp(),
        "divergence the other way": lambda p: (p.mean(0) * (_log(p.mean(0)) - _log(p))).sum(1).mean().exp(),
        "entropy of each image": lambda p: _entropy(p).mean().exp(),
        "entropy of the mean": lambda p: _entropy(p.mean(0)).exp(),
        "entropies added": lambda p: (_entropy(p.mean(0)) + _entropy(p).mean()).exp(),
        "sign": lambda p: 1 / _inception(p),
        "uniform for the mean": lambda p: _divergence(p, torch.full_like(p, 1 / p.shape[1])).sum(1).mean().exp(),
        "mean of the logarithms": lambda p: (p * (_log(p) - _log(p).mean(0))).sum(1).mean().exp(),
        "bits": lambda p: (_inception(p).log() / np.log(2)).exp(),
        "images and classes exchanged": lambda p: _inception(p.T),
        "most probable class": lambda p: _entropy(_votes(p).mean(0)).exp(),
    },
)


def _votes(p: Tensor) -> Tensor:
    """1 for the most probable class of each image."""
    return (p == p.amax(1, keepdim=True)).to(p)


# --- 17.2 Fréchet's distance ------------------------------------------------------------------------------------------


def _gaussians(rng: np.random.Generator, D: int, rank: int) -> dict[str, Any]:
    """Two Gaussians whose covariances have this rank and do not commute."""
    A, B = rng.standard_normal((2, D, rank))
    C1, C2 = (F @ F.T * s for F, s in ((A, 1.5), (B, 0.8)))
    m1, m2 = rng.standard_normal((2, D))
    ridge = 0.3 * np.eye(D) if rank == D else 0
    return {"m1": m1, "C1": C1 + ridge, "m2": m2, "C2": C2 + ridge}


def _root(C: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(C.double())
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _cross(C1: Tensor, C2: Tensor) -> Tensor:
    """The trace of the root of C1 C2: the sum of the singular values of the two roots' product."""
    return torch.linalg.matrix_norm(_root(C1) @ _root(C2), "nuc")


def _frechet_of(
    cross: Callable = _cross,
    means: Callable = lambda off: off @ off,
    spreads: Callable = lambda C1, C2: C1.trace() + C2.trace(),
    weight: float = -2.0,
    end: Callable = lambda squared: squared,
) -> Callable:
    """The squared distance, one part replaced."""

    def frechet(m1: Tensor, C1: Tensor, m2: Tensor, C2: Tensor) -> Tensor:
        return end(means(m1 - m2) + spreads(C1, C2) + weight * cross(C1, C2)).to(m1)

    return frechet


_frechet = _frechet_of()


def _roots_of_eigenvalues(product: Tensor) -> Tensor:
    """As a function for symmetric matrices says, which looks at one triangle only."""
    return torch.linalg.eigvalsh(product.double()).clamp(min=0).sqrt().sum()


FRECHET: Question = Question(
    id="17.2",
    title="Fréchet's distance of two Gaussians",
    function="frechet",
    returns="()",
    reference=_frechet,
    example={"m1": [0.0, 0.0], "C1": [[1.0, 0.0], [0.0, 4.0]], "m2": [1.0, 0.0], "C2": [[4.0, 0.0], [0.0, 9.0]]},
    checks=(
        Check("values", 3, _told_apart(lambda rng: _gaussians(rng, D=4, rank=4), lambda: FRECHET), rtol=1e-4, atol=1e-4),
        Check("directions without extent", 1, lambda rng: _gaussians(rng, D=10, rank=3), rtol=2e-3, atol=2e-2),
    ),
    mistakes={
        "roots multiplied": _frechet_of(lambda C1, C2: (_root(C1) @ _root(C2)).trace()),
        "root entry by entry": _frechet_of(lambda C1, C2: (C1 @ C2).diagonal().clamp(min=0).sqrt().sum()),
        "entry by entry throughout": _frechet_of(lambda C1, C2: (C1 * C2).diagonal().clamp(min=0).sqrt().sum()),
        "no root": _frechet_of(lambda C1, C2: (C1 @ C2).trace()),
        "root of the trace": _frechet_of(lambda C1, C2: (C1 @ C2).trace().sqrt()),
        "root of the determinant": _frechet_of(lambda C1, C2: torch.det(C1 @ C2).clamp(min=0).sqrt()),
        "one triangle": _frechet_of(lambda C1, C2: _roots_of_eigenvalues(C1 @ C2)),
        "product made symmetric": _frechet_of(lambda C1, C2: _roots_of_eigenvalues((C1 @ C2 + C2 @ C1) / 2)),
        "root taken twice": _frechet_of(lambda C1, C2: torch.linalg.svdvals((_root(C1) @ _root(C2)).double()).sqrt().sum()),
        "cross term once": _frechet_of(weight=-1.0),
        "cross term added": _frechet_of(weight=2.0),
        "no cross term": _frechet_of(weight=0.0),
        "distance for its square": _frechet_of(end=lambda squared: squared.clamp(min=0).sqrt()),
        "means not squared": _frechet_of(means=lambda off: off.norm()),
        "means alone": lambda m1, C1, m2, C2: (m1 - m2) @ (m1 - m2) + 0 * (C1 + C2).sum(),
        "covariances alone": _frechet_of(means=lambda off: 0 * off.sum()),
        "mean over the features": lambda m1, C1, m2, C2: _frechet(m1, C1, m2, C2) / len(m1),
        "difference of the covariances": lambda m1, C1, m2, C2: ((m1 - m2) ** 2).sum() + ((C1 - C2) ** 2).sum(),
    },
)

# --- 17.3 the kernel's distance ---------------------------------------------------------------------------------------


def _two_sets(rng: np.random.Generator, N: int, M: int, D: int, shift: float) -> dict[str, Any]:
    x, y = rng.standard_normal((N, D)), 0.8 * rng.standard_normal((M, D)) + shift
    return {"x": x, "y": y, "width": float(rng.choice([0.8, 1.25, 1.5, 1.8]))}


def _below_zero(rng: np.random.Generator) -> dict[str, Any]:
    """Two sets of one distribution, whose estimate comes out negative."""
    while True:
        inputs = _two_sets(rng, 7, 9, 2, 0.0)
        inputs["y"] = rng.permutation(np.concatenate([inputs["x"], inputs["x"][:2]])) + 0.3 * rng.standard_normal((9, 2))
        if _answer(_mmd, inputs) < -0.02:
            return inputs


def _kernel(x: Tensor, y: Tensor, width: Tensor) -> Tensor:
    return (-(x[:, None] - y).square().sum(-1) / (2 * width * width)).exp()


def _pairs(k: Tensor) -> Tensor:
    """The mean over the pairs of different ones."""
    n = len(k)
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))


def _mmd_of(
    within_x: Callable = _pairs,
    within_y: Callable = _pairs,
    kernel: Callable = _kernel,
    weight: float = -2.0,
    end: Callable = lambda squared: squared,
) -> Callable:
    """The estimate, one part replaced."""

    def mmd(x: Tensor, y: Tensor, width: Tensor) -> Tensor:
        within = within_x(kernel(x, x, width)) + within_y(kernel(y, y, width))
        return end(within + weight * kernel(x, y, width).mean())

    return mmd


_mmd = _mmd_of()


def _wrong_count(k: Tensor) -> Tensor:
    return (k.sum() - k.diagonal().sum()) / k.numel()


KERNEL: Question = Question(
    id="17.3",
    title="The distance by a kernel",
    function="mmd",
    returns="()",
    reference=_mmd,
    example={"x": [[0.0], [1.0]], "y": [[2.0], [3.0]], "width": 1.0},
    checks=(
        Check("values", 2, _told_apart(lambda rng: _two_sets(rng, 8, 6, 3, 0.7), lambda: KERNEL, but=("never negative",))),
        Check("two sets of one distribution", 1, _below_zero),
    ),
    mistakes={
        "diagonal counted": _mmd_of(torch.mean, torch.mean),
        "diagonal counted within x": _mmd_of(within_x=torch.mean),
        "diagonal counted within y": _mmd_of(within_y=torch.mean),
        "divided by all pairs": _mmd_of(_wrong_count, _wrong_count),
        "every pair counted once": _mmd_of(lambda k: _pairs(k) / 2, lambda k: _pairs(k) / 2),
        "between the sets once": _mmd_of(weight=-1.0),
        "between the sets added": _mmd_of(weight=2.0),
        "root": _mmd_of(end=lambda squared: squared.abs().sqrt()),
        "never negative": _mmd_of(end=lambda squared: squared.clamp(min=0)),
        "sign": _mmd_of(end=lambda squared: -squared),
        "distance not squared": _mmd_of(kernel=lambda x, y, width: (-torch.cdist(x, y) / (2 * width**2)).exp()),
        "width not squared": _mmd_of(kernel=lambda x, y, width: _kernel(x, y, width.sqrt())),
        "no 2 in the kernel": _mmd_of(kernel=lambda x, y, width: _kernel(x, y, width / 2**0.5)),
        "width multiplied": _mmd_of(kernel=lambda x, y, width: _kernel(x, y, 1 / width)),
        "kernel of the means": lambda x, y, width: 2 - 2 * _kernel(x.mean(0)[None], y.mean(0)[None], width)[0, 0],
        "mean over the features": _mmd_of(kernel=lambda x, y, width: _kernel(x, y, width * x.shape[1] ** 0.5)),
    },
)

# --- 17.4 precision and recall ----------------------------------------------------------------------------------------


def _neighbourhoods(rng: np.random.Generator, N: int, M: int, ks: tuple[int, ...]) -> dict[str, Any]:
    """Distances of points of the plane: the fakes lie off by something, and are wider or narrower.

    Neither share is nearly all or nearly nothing.
    """
    real = rng.standard_normal((N, 2))
    fake = rng.uniform(0.4, 1.4) * rng.standard_normal((M, 2)) + rng.uniform(0.2, 0.9) * rng.choice([-1, 1], 2)

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None] - b, axis=-1)

    k = float(rng.choice(ks))
    inputs = {"real": distances(real, real), "fake": distances(fake, fake), "across": distances(real, fake), "k": k}
    shares = _answer(_coverage, inputs)
    return inputs if shares.min() > 0.1 and shares.max() < 0.95 else _neighbourhoods(rng, N, M, ks)


def _radius(within: Tensor, k: Tensor, itself: int = 1) -> Tensor:
    """How far away each one's k-th neighbour is: the first is itself."""
    return within.sort(1).values[:, int(k) - 1 + itself]


def _coverage_of(
    radius: Callable = _radius,
    inside: Callable = lambda across, r: across <= r,
    any_of: Callable = lambda hit: hit.any(0),
    arrange: Callable = lambda precision, recall: torch.stack([precision, recall]),
) -> Callable:
    """Precision and recall, one part replaced: `inside` says which pairs are neighbours, by the radius of the row."""

    def precision_recall(real: Tensor, fake: Tensor, across: Tensor, k: Tensor) -> Tensor:
        precision = any_of(inside(across, radius(real, k)[:, None])).to(across).mean()
        recall = any_of(inside(across.T, radius(fake, k)[:, None])).to(across).mean()
        return arrange(precision, recall)

    return precision_recall


_coverage = _coverage_of()


def _others_ball(real: Tensor, fake: Tensor, across: Tensor, k: Tensor) -> Tensor:
    """Whether a sample has a real one within its own radius, and the other way round."""
    r, f = _radius(real, k)[:, None], _radius(fake, k)
    return torch.stack([(across <= f).any(0).to(across).mean(), (across <= r).any(1).to(across).mean()])


def _nearest_only(real: Tensor, fake: Tensor, across: Tensor, k: Tensor) -> Tensor:
    """Whether the nearest of the others has the point in its ball."""
    r, f = _radius(real, k), _radius(fake, k)
    precision, recall = across.amin(0) <= r[across.argmin(0)], across.amin(1) <= f[across.argmin(1)]
    return torch.stack([precision.to(across).mean(), recall.to(across).mean()])


PRECISION: Question = Question(
    id="17.4",
    title="Precision and recall",
    function="precision_recall",
    returns="(2,)",
    reference=_coverage,
    example={
        "real": [[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]],
        "fake": [[0.0, 4.0], [4.0, 0.0]],
        "across": [[0.5, 4.5], [0.5, 3.5], [2.5, 1.5]],
        "k": 1.0,
    },
    checks=(
        Check("values", 2, _told_apart(lambda rng: _neighbourhoods(rng, 37, 29, (2, 3, 5)), lambda: PRECISION)),
        Check("more samples than real ones", 1, lambda rng: _neighbourhoods(rng, 23, 47, (2, 3, 4))),
        Check("the next neighbour, k = 1", 1, lambda rng: _neighbourhoods(rng, 31, 43, (1,))),
    ),
    mistakes={
        "own neighbour": _coverage_of(partial(_radius, itself=0)),
        "k too large": _coverage_of(partial(_radius, itself=2)),
        "precision and recall exchanged": _coverage_of(arrange=lambda precision, recall: torch.stack([recall, precision])),
        "the other's ball": _others_ball,
        "nearest only": _nearest_only,
        "all balls": _coverage_of(any_of=lambda hit: hit.all(0)),
        "share of the balls": _coverage_of(any_of=lambda hit: hit.to(torch.get_default_dtype()).mean(0)),
        "mean radius for all": _coverage_of(lambda within, k: _radius(within, k).mean().expand(len(within))),
        "mean of k distances": _coverage_of(lambda within, k: within.sort(1).values[:, 1 : int(k) + 1].mean(1) * 0.999),
        "half the radius": _coverage_of(lambda within, k: _radius(within, k) / 2),
        "outside": _coverage_of(inside=lambda across, r: across > r),
        "failures": _coverage_of(any_of=lambda hit: ~hit.any(0)),
        "radius to the other set": lambda real, fake, across, k: _coverage_of()(
            torch.cat([0 * across[:, :1], across], dim=1), torch.cat([0 * across.T[:, :1], across.T], dim=1), across, k
        ),
    },
)

# --- 17.5 what raters answer ------------------------------------------------------------------------------------------


def _raters(rng: np.random.Generator, R: int, I: int) -> dict[str, Any]:  # noqa: E741
    """Raters who tell real from fake more or less well; each has seen some of both, and not as many."""
    real = np.array([rng.permutation([1.0] * n + [0.0] * (I - n)) for n in rng.integers(3, I - 2, R)])
    wrong = rng.random((R, I)) < np.where(real > 0, rng.uniform(0.1, 0.4, (R, 1)), rng.uniform(0.2, 0.7, (R, 1)))
    wrong[:, :2] = [True, False]
    return {"said": np.where(wrong, 1 - real, real), "real": real}


def _errors_of(
    overall: Callable = lambda wrong, real, said: wrong.mean(1),
    on_real: Callable = lambda wrong, real, said: (wrong * real).sum(1) / real.sum(1),
    on_fake: Callable = lambda wrong, real, said: (wrong * (1 - real)).sum(1) / (1 - real).sum(1),
    order: tuple[int, ...] = (0, 1, 2),
) -> Callable:
    """The three rates, one part replaced."""

    def error_rates(said: Tensor, real: Tensor) -> Tensor:
        wrong = (said != real).to(real)
        rates = [rate(wrong, real, said) for rate in (overall, on_real, on_fake)]
        return torch.stack([rates[place] for place in order], dim=1)

    return error_rates


_errors = _errors_of()

RATERS = Question(
    id="17.5",
    title="How often people are wrong",
    function="error_rates",
    returns="(R, 3)",
    reference=_errors,
    example={"said": [[1, 1, 0, 1]], "real": [[1, 0, 1, 1]]},
    checks=(Check("values", 3, lambda rng: _raters(rng, R=9, I=14)),),
    mistakes={
        "share of right answers": lambda said, real: 1 - _errors(said, real),
        "real and fake exchanged": _errors_of(order=(0, 2, 1)),
        "overall last": _errors_of(order=(1, 2, 0)),
        "mean of the two rates": _errors_of(
            overall=lambda wrong, real, said: (
                ((wrong * real).sum(1) / real.sum(1) + (wrong * (1 - real)).sum(1) / (1 - real).sum(1)) / 2
            )
        ),
        "divided by all images": _errors_of(
            on_real=lambda wrong, real, said: (wrong * real).mean(1),
            on_fake=lambda wrong, real, said: (wrong * (1 - real)).mean(1),
        ),
        "among those called so": _errors_of(
            on_real=lambda wrong, real, said: (wrong * said).sum(1) / said.sum(1).clamp(min=1),
            on_fake=lambda wrong, real, said: (wrong * (1 - said)).sum(1) / (1 - said).sum(1).clamp(min=1),
        ),
        "share called real": _errors_of(overall=lambda wrong, real, said: said.mean(1)),
        "fakes alone": _errors_of(overall=lambda wrong, real, said: (wrong * (1 - real)).sum(1) / (1 - real).sum(1)),
        "counts": lambda said, real: torch.stack(
            [(said != real).to(real).sum(1), ((said != real) * real).sum(1), ((said != real) * (1 - real)).sum(1)], dim=1
        ),
        "raters together": lambda said, real: _errors(said.reshape(1, -1), real.reshape(1, -1)).expand(len(said), 3),
        "sum over the images": _errors_of(overall=lambda wrong, real, said: wrong.sum(1)),
    },
)

# --- 17.6 how sure that is --------------------------------------------------------------------------------------------


def _to_resample(rng: np.random.Generator, R: int, I: int, S: int) -> dict[str, Any]:  # noqa: E741
    """Raters of very different ability, and which of them stand in each resample."""
    wrong = rng.random((R, I)) < rng.permutation(np.linspace(0.1, 0.8, R))[:, None]
    level = float(rng.choice([0.6, 0.7, 0.8, 0.9]))
    return {"wrong": wrong.astype(float), "drawn": rng.integers(0, R, (S, R)).astype(float), "level": level}


def _rates(wrong: Tensor, drawn: Tensor) -> Tensor:
    """The error rate of each resample, (S,)."""
    return wrong.mean(1)[drawn.long()].mean(1)


def _normal(level: Tensor) -> Tensor:
    return torch.special.ndtri((1 + level) / 2)


def _interval_of(
    rates: Callable = _rates,
    tails: Callable = lambda level: ((1 - level) / 2, (1 + level) / 2),
    end: Callable = lambda low, high, whole: (low, high),
) -> Callable:
    """The interval, one part replaced."""

    def bootstrap_interval(wrong: Tensor, drawn: Tensor, level: Tensor) -> Tensor:
        seen = rates(wrong, drawn)
        low, high = (seen.quantile(tail.clamp(0, 1)) for tail in tails(level))
        return torch.stack(end(low, high, wrong.mean()))

    return bootstrap_interval


_interval = _interval_of()


def _around(spread: Callable) -> Callable:
    """The rate plus and minus something."""

    def bootstrap_interval(wrong: Tensor, drawn: Tensor, level: Tensor) -> Tensor:
        half = spread(wrong, drawn, level)
        return torch.stack([wrong.mean() - half, wrong.mean() + half])

    return bootstrap_interval


def _each_once(wrong: Tensor, drawn: Tensor) -> Tensor:
    """A rater who is drawn twice counts once."""
    inside = torch.stack([(drawn == rater).any(1) for rater in range(len(wrong))], dim=1).to(wrong)
    return inside @ wrong.mean(1) / inside.sum(1)


INTERVAL: Question = Question(
    id="17.6",
    title="How sure that is",
    function="bootstrap_interval",
    returns="(2,)",
    reference=_interval,
    example={
        "wrong": [[1, 0, 0, 1], [0, 0, 0, 1]],
        "drawn": [[0, 1], [1, 1], [0, 0], [1, 0], [1, 1]],
        "level": 0.5,
    },
    checks=(
        Check("values", 3, _told_apart(lambda rng: _to_resample(rng, 9, 13, 80), lambda: INTERVAL)),
        Check("more raters", 1, lambda rng: _to_resample(rng, 17, 19, 120)),
    ),
    mistakes={
        "one-sided": _interval_of(tails=lambda level: (1 - level, level)),
        "level for what is left": _interval_of(tails=lambda level: (level / 2, 1 - level / 2)),
        "answers resampled": _interval_of(lambda wrong, drawn: wrong.flatten()[drawn.long()].mean(1)),
        "images resampled": _interval_of(lambda wrong, drawn: wrong.mean(0)[drawn.long()].mean(1)),
        "raters as they are": _interval_of(lambda wrong, drawn: wrong.mean(1)),
        "each rater once": _interval_of(_each_once),
        "counts": _interval_of(lambda wrong, drawn: wrong.sum(1)[drawn.long()].mean(1)),
        "share of right answers": _interval_of(lambda wrong, drawn: 1 - _rates(wrong, drawn)),
        "turned round": _interval_of(end=lambda low, high, whole: (2 * whole - high, 2 * whole - low)),
        "high before low": _interval_of(end=lambda low, high, whole: (high, low)),
        "without the rate": _interval_of(end=lambda low, high, whole: (low - whole, high - whole)),
        "smallest and largest": _interval_of(tails=lambda level: (0 * level, 0 * level + 1)),
        "standard error": _around(lambda wrong, drawn, level: _rates(wrong, drawn).std()),
        "normal": _around(lambda wrong, drawn, level: _normal(level) * _rates(wrong, drawn).std()),
        "answers taken for independent": _around(
            lambda wrong, drawn, level: _normal(level) * (wrong.mean() * (1 - wrong.mean()) / wrong.numel()).sqrt()
        ),
    },
)

# --- 17.7 the staircase -----------------------------------------------------------------------------------------------


def _answering(rng: np.random.Generator, K: int) -> dict[str, Any]:
    """Raters who are mostly right, mostly wrong, and in between: some come to the floor, some to the ceiling, and leave again."""
    often = np.array([0.97, 0.9, 0.75, 0.6, 0.3, 0.1])
    right = (rng.random((6, K)) < often[:, None]).astype(float)
    right[0, -6:-3], right[-1, -6:-3], right[:2, :3], right[-2:, :3] = 0, 1, 1, 0
    scalars = {
        "start": [400, 450, 520],
        "up": [30, 45, 55],
        "down": [10, 15, 22],
        "lowest": [330, 350, 370],
        "highest": [570, 590, 610],
    }
    return {"right": rng.permutation(right), **{name: float(rng.choice(values)) for name, values in scalars.items()}}


def _staircase_of(
    step: Callable = lambda right, up, down: torch.where(right > 0, -down, up),
    bound: Callable = lambda time, lowest, highest: time.clamp(lowest, highest),
    end: Callable = lambda times, lowest, highest: times[:-1],
) -> Callable:
    """The exposure of each image, one part replaced."""

    def staircase(right: Tensor, start: Tensor, up: Tensor, down: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        times = [start.expand(len(right))]
        for answer in right.T:
            times.append(bound(times[-1] + step(answer, up, down), lowest, highest))
        return torch.stack(end(times, lowest, highest), dim=1)

    return staircase


_staircase = _staircase_of()


def _three_right(right: Tensor, start: Tensor, up: Tensor, down: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Down after three right answers in a row, as other staircases go."""
    times, row = [start.expand(len(right))], torch.zeros_like(right[:, 0])
    for answer in right.T:
        row = (row + 1) * answer
        move = torch.where(answer > 0, torch.where(row == 3, -down, 0 * down), up)
        row = torch.where(row == 3, 0 * row, row)
        times.append((times[-1] + move).clamp(lowest, highest))
    return torch.stack(times[:-1], dim=1)


def _stays(right: Tensor, start: Tensor, up: Tensor, down: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """A step that would leave the bounds is not taken."""
    times = [start.expand(len(right))]
    for answer in right.T:
        next_one = times[-1] + torch.where(answer > 0, -down, up)
        times.append(torch.where((next_one < lowest) | (next_one > highest), times[-1], next_one))
    return torch.stack(times[:-1], dim=1)


STAIRCASE = Question(
    id="17.7",
    title="A staircase of exposures",
    function="staircase",
    returns="(R, K)",
    reference=_staircase,
    example={"right": [[1, 1, 0, 1]], "start": 500.0, "up": 20.0, "down": 5.0, "lowest": 493.0, "highest": 700.0},
    checks=(Check("values", 3, lambda rng: _answering(rng, K=40)),),
    mistakes={
        "longer after a right answer": _staircase_of(lambda right, up, down: torch.where(right > 0, up, -down)),
        "up and down exchanged": _staircase_of(lambda right, up, down: torch.where(right > 0, -up, down)),
        "up both ways": _staircase_of(lambda right, up, down: torch.where(right > 0, -up, up)),
        "down both ways": _staircase_of(lambda right, up, down: torch.where(right > 0, -down, down)),
        "no bounds": _staircase_of(bound=lambda time, lowest, highest: time),
        "no floor": _staircase_of(bound=lambda time, lowest, highest: time.clamp(max=highest)),
        "no ceiling": _staircase_of(bound=lambda time, lowest, highest: time.clamp(min=lowest)),
        "bounds at the end": _staircase_of(
            bound=lambda time, lowest, highest: time,
            end=lambda times, lowest, highest: [time.clamp(lowest, highest) for time in times[:-1]],
        ),
        "stays where it would leave the bounds": _stays,
        "after the answer": _staircase_of(end=lambda times, lowest, highest: times[1:]),
        "start twice": _staircase_of(end=lambda times, lowest, highest: [times[0], *times[:-2]]),
        "wrong answers only": _staircase_of(lambda right, up, down: torch.where(right > 0, 0 * down, up)),
        "right answers only": _staircase_of(lambda right, up, down: torch.where(right > 0, -down, 0 * up)),
        "three in a row": _three_right,
        "steps only": lambda right, start, up, down, lowest, highest: _staircase(right, start, up, down, lowest, highest) - start,
    },
)


# --- 17.8 fool a metric -----------------------------------------------------------------------------------------------

_SIGMA, _M = 0.5, 50
"""The width of the Parzen window, and how many points are asked for."""


def _clouds(rng: np.random.Generator, N: int = 1000, D: int = 8) -> dict[str, Any]:
    """Points of five clouds that lie across the axes; how real points score, the mean over twenty sets of fifty; and centres."""
    centre, share = 2.0 * rng.standard_normal((5, D)), rng.dirichlet(np.full(5, 200.0))
    shape = np.linalg.qr(rng.standard_normal((5, D, D)))[0] * np.linspace(0.2, 1.0, D)

    def points(n: int) -> np.ndarray:
        which = rng.choice(5, n, p=share)
        turned = np.einsum("nij,nj->ni", shape[which], rng.standard_normal((n, D)))
        return centre[which] + turned

    x, test = points(N), points(N).astype(np.float32)
    real = np.mean([_parzen(test, points(_M)) for _ in range(20)])
    return {"x": x, "_test": test, "_real": real, "_centres": _parzen(test, _centres(torch.from_numpy(x)).numpy())}


def _parzen(test: np.ndarray, samples: np.ndarray) -> float:
    """The Parzen score of samples on test points, by the library: nats."""
    x, centres = (torch.from_numpy(np.asarray(points, dtype=np.float64)) for points in (test, samples))
    return float(parzen_log_prob(x, centres, _SIGMA).mean())


def _lacking(inputs: Inputs, answer: np.ndarray) -> float:
    """The share that is missing of the way from real points' score (1) to that of cluster centres (0)."""
    centres, real = float(inputs["_centres"]), float(inputs["_real"])
    return (centres - _parzen(inputs["_test"], answer.clip(-1e6, 1e6))) / (centres - real)


def _centres(x: Tensor, steps: int = 20, start: Tensor | None = None) -> Tensor:
    """The centres that k-means finds from the first points, or from others."""
    centre = x[:_M] if start is None else start
    for _ in range(steps):
        near = torch.nn.functional.one_hot(torch.cdist(x, centre).argmin(1), _M).to(x)  # (N, M)
        count = near.sum(0)[:, None]
        centre = torch.where(count > 0, near.T @ x / count.clamp(min=1), centre)
    return centre


def _random(x: Tensor, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(x)


def _uphill(x: Tensor) -> Tensor:
    """Fifty points, each moved to where the given ones are densest nearby: the mean shift of Parzen's window on them."""
    y = x[:_M]
    for _ in range(50):
        y = (-(torch.cdist(y, x) ** 2) / (2 * _SIGMA**2)).softmax(1) @ x
    return y


def _gaussian(x: Tensor) -> Tensor:
    return x.mean(0) + _random(x, _M, x.shape[1]) @ torch.linalg.cholesky(torch.cov(x.T)).T


def _in_one_place(inputs: Inputs, answer: np.ndarray) -> bool:
    return bool(np.ptp(answer, axis=0).max() < 0.1)


def _given_back(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether the points are some of the given ones."""
    far = np.abs(answer[:, None] - inputs["x"]).max(-1)
    return bool((far.min(1) < 1e-4).mean() > 0.9)


def _crowded(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether many of the points have a copy among the others: they have met where the data are densest."""
    far = np.abs(answer[:, None] - answer).max(-1) + np.eye(len(answer))
    return bool((far.min(1) < 0.05).mean() > 0.5)


_HINTS = (
    told("17.8", "all in one place", when=_in_one_place),
    told("17.8", "given points", when=_given_back),
    told("17.8", "uphill", when=_crowded),
)


def _fooled(at_most: float) -> Measure:
    return Measure(
        "the share of the way from real points' score to that of cluster centres which is left undone",
        _lacking,
        at_most,
        lambda inputs: (_M, inputs["x"].shape[1]),
        "the score is that of test points under windows on yours, so lay a window in the middle of each group of given ones; the "
        "centres of k-means will do, or steps up the score of all the given points.",
        "",
        _HINTS,
    )


EXPERIMENT = Question(
    id="17.8",
    title="Fool a metric",
    function="fool_parzen",
    returns="(50, D)",
    reference=_centres,
    example={"x": [[0.0, 1.0], [1.0, 1.0]]},
    checks=(
        Check("better than real points", 4, _clouds, measure=_fooled(0.5)),
        Check("nearly as good as can be", 1, _clouds, measure=_fooled(0.45), of="better than real points"),
    ),
    mistakes={
        "given points": lambda x: x[:_M],
        "given points, shaken": lambda x: x[:_M] + 0.3 * _random(x, _M, x.shape[1]),
        "all in one place": lambda x: x.mean(0).expand(_M, -1),
        "one Gaussian": _gaussian,
        "uphill": _uphill,
        "drawn to the mean": lambda x: 0.5 * x[:_M] + 0.5 * x.mean(0),
        "a few of the points": lambda x: _centres(x[:60]),
        "centres of pairs": lambda x: (x[:_M] + x[_M : 2 * _M]) / 2,
        "standardised": lambda x: (_centres(x) - x.mean(0)) / x.std(0),
        "random numbers": lambda x: _random(x, _M, x.shape[1]),
    },
    seconds=60.0,
)

QUESTIONS = (INCEPTION, FRECHET, KERNEL, PRECISION, RATERS, INTERVAL, STAIRCASE, EXPERIMENT)
