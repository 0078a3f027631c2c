"""Exercise 02, generative models: divergences, counting, sampling by inversion, what a kind of model can answer, and two fits.

Sizes: B distributions on K outcomes, N examples, S states, G points of a grid. Distributions are tables, so that all answers are
numbers. No outcome lies so near an edge that rounding could put it on the other side.

Tolerances: over 100 seeds the reference in float32 is within 2e-6 of `1 + |right answer|`.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gencourse.grading.questions import Check, Drawn, Inputs, Measure, Question, told


def _tables(rng: np.random.Generator, B: int, K: int) -> np.ndarray:
    """Distributions that are far from uniform, none of whose entries is small."""
    p = rng.dirichlet(np.full(K, 1.2), B) + 0.02
    return p / p.sum(1, keepdims=True)


# --- 2.1 the divergence, both ways ------------------------------------------------------------------------------------


def _terms(p: Tensor, q: Tensor) -> Tensor:
    """Of KL(p || q), (B, K): 0 where p is 0, infinite where q alone is."""
    return torch.where(p > 0, p * (torch.where(p > 0, p, 1.0) / q).log(), 0.0)


def _both_of(terms: Callable = _terms, total: Callable = lambda terms: terms.sum(1), order: tuple[int, int] = (0, 1)) -> Callable:
    """Both divergences, their terms or how they are added replaced."""

    def kl_both_ways(p: Tensor, q: Tensor) -> Tensor:
        found = [total(terms(p, q)), total(terms(q, p))]
        return torch.stack([found[place] for place in order], dim=-1)

    return kl_both_ways


_both = _both_of()


def _middle(p: Tensor, q: Tensor) -> Tensor:
    """Terms of the divergence from the mean of both."""
    return _terms(p, (p + q) / 2)


def _where_both(p: Tensor, q: Tensor) -> Tensor:
    """Outcomes that one of the two rules out are left out."""
    terms = _terms(p, q)
    return torch.where(terms.isfinite(), terms, 0.0)


def _with_zeros(rng: np.random.Generator) -> Inputs:
    """In the rows p has zeros, q has zeros, both have them in the same places, each has its own, and none has any."""
    p, q = _tables(rng, 5, 6), _tables(rng, 5, 6)
    a, b, c = (rng.permutation(6)[:2] for _ in range(3))
    p[0, a], q[1, b], p[2, c], q[2, c] = 0, 0, 0, 0
    p[3, a[0]], q[3, (a[0] + 1) % 6] = 0, 0
    order = rng.permutation(5)
    p, q = p[order], q[order]
    return {"p": p / p.sum(1, keepdims=True), "q": q / q.sum(1, keepdims=True)}


KL: Question = Question(
    id="2.1",
    title="The divergence, both ways",
    function="kl_both_ways",
    returns="(B, 2)",
    reference=_both,
    example={"p": [[0.5, 0.5], [0.5, 0.5]], "q": [[0.25, 0.75], [0.5, 0.5]]},
    checks=(
        Check("values", 2, lambda rng: {"p": _tables(rng, 7, 5), "q": _tables(rng, 7, 5)}),
        Check("zeros", 2, _with_zeros),
    ),
    mistakes={
        "columns exchanged": _both_of(order=(1, 0)),
        "forwards twice": _both_of(order=(0, 0)),
        "backwards twice": _both_of(order=(1, 1)),
        "sign": _both_of(lambda p, q: -_terms(p, q)),
        "weights of the other": _both_of(lambda p, q: q * (p / q).log()),
        "no weights": _both_of(lambda p, q: (p / q).log()),
        "ratio without logarithm": _both_of(lambda p, q: p * p / q),
        "cross-entropy": _both_of(lambda p, q: torch.where(p > 0, -p * q.log(), 0.0)),
        "mean over the outcomes": _both_of(total=lambda terms: terms.mean(1)),
        "mean over the batch": lambda p, q: _both(p, q).mean(0).expand(len(p), 2),
        "bits": lambda p, q: _both(p, q) / math.log(2),
        "absolute terms": _both_of(total=lambda terms: terms.abs().sum(1)),
        "distance from the middle": _both_of(_middle),
        "softmax of probabilities": _both_of(lambda p, q: _terms(p.softmax(1), q.softmax(1))),
        "0 log 0": _both_of(lambda p, q: p * (p / q).log()),
        "0 times the other's logarithm": _both_of(lambda p, q: torch.xlogy(p, p) - p * q.log()),
        "sum of both": lambda p, q: _both(p, q).sum(1, keepdim=True).expand(-1, 2),
        "cut off": _both_of(lambda p, q: _terms(p.clamp(min=1e-12), q.clamp(min=1e-12))),
        "small number added": _both_of(lambda p, q: p * ((p + 1e-8) / (q + 1e-8)).log()),
        "what is impossible left out": _both_of(_where_both),
        "all zeros are infinite": _both_of(lambda p, q: torch.where((p > 0) & (q > 0), _terms(p, q), torch.inf)),
    },
)

# --- 2.2 a model that counts ------------------------------------------------------------------------------------------


def _numbers(x: Tensor) -> Tensor:
    """The number that each pattern is in binary, the first pixel worth most."""
    return (x @ (2.0 ** torch.arange(x.shape[1] - 1, -1, -1)).to(x)).long()


def _counted_of(
    number: Callable = _numbers,
    pseudo: Callable = lambda alpha, count: alpha,
    total: Callable = lambda N, alpha, S: N + alpha * S,
    end: Callable = lambda p: p,
) -> Callable:
    """The table, one part replaced."""

    def count(x: Tensor, alpha: Tensor) -> Tensor:
        S = 2 ** x.shape[1]
        counts = torch.bincount(number(x), minlength=S).to(x)
        return end((counts + pseudo(alpha, counts)) / total(len(x), alpha, S))

    return count


_counted = _counted_of()


def _pixel_by_pixel(x: Tensor, alpha: Tensor) -> Tensor:
    """Each pixel's frequency by itself, then the product."""
    one = (x.sum(0) + alpha) / (len(x) + 2 * alpha)
    every = _binary(x.shape[1]).to(x)
    return (every * one + (1 - every) * (1 - one)).prod(1)


def _binary(D: int) -> Tensor:
    """All patterns of D pixels in the order of their numbers, (2^D, D)."""
    return (torch.arange(2**D)[:, None] >> torch.arange(D - 1, -1, -1)) & 1


def _patterns(rng: np.random.Generator, N: int, D: int, alpha: float) -> Drawn:
    """Patterns of which some are frequent and some are never seen; read backwards they would be others."""
    while True:
        number = rng.choice(2**D, N, p=rng.dirichlet(np.full(2**D, 0.4)))
        x = _binary(D).numpy()[number].astype(float)
        counts = np.bincount(number, minlength=2**D)
        backwards = np.bincount((x @ 2.0 ** np.arange(D)).astype(int), minlength=2**D)
        if (counts == 0).sum() >= 3 and len(set(counts)) >= 4 and (counts != backwards).sum() >= 4 and counts[[0, -1]].any():
            return {"x": x, "alpha": alpha}


COUNTING = Question(
    id="2.2",
    title="A model that counts",
    function="count_patterns",
    returns="(2^D,)",
    reference=_counted,
    example={"x": [[0, 1], [1, 1], [1, 1], [0, 0]], "alpha": 0.5},
    checks=(
        Check("counted", 1, lambda rng: _patterns(rng, 37, 4, 0.0)),
        Check("with a pseudo-count", 2, lambda rng: _patterns(rng, 29, 4, float(rng.choice([0.25, 0.5, 1.5, 2.0])))),
    ),
    mistakes={
        "first pixel worth least": _counted_of(lambda x: _numbers(x.flip(1))),
        "ones counted as zeros": _counted_of(lambda x: _numbers(1 - x)),
        "pixels one by one": _pixel_by_pixel,
        "counts": _counted_of(total=lambda N, alpha, S: 1.0),
        "divided by the states": _counted_of(total=lambda N, alpha, S: S),
        "divided by the patterns that were seen": lambda x, alpha: _counted(x.unique(dim=0), alpha),
        "largest is one": _counted_of(end=lambda p: p / p.max()),
        "softmax of the counts": _counted_of(total=lambda N, alpha, S: 1.0, end=lambda p: p.softmax(0)),
        "logarithm": _counted_of(end=lambda p: (p + 1e-12).log()),
        "in the order of frequency": _counted_of(end=lambda p: p.sort(descending=True).values),
        "cumulative": _counted_of(end=lambda p: p.cumsum(0)),
        "no pseudo-count": _counted_of(pseudo=lambda alpha, counts: 0.0, total=lambda N, alpha, S: N),
        "pseudo-count not in the total": _counted_of(total=lambda N, alpha, S: N),
        "pseudo-count once in the total": _counted_of(total=lambda N, alpha, S: N + alpha),
        "pixels for patterns in the total": lambda x, alpha: _counted_of(total=lambda N, alpha, S: N + alpha * x.shape[1])(
            x, alpha
        ),
        "one for alpha": lambda x, alpha: _counted(x, (alpha > 0).to(x)),
        "unseen patterns only": _counted_of(pseudo=lambda alpha, counts: alpha * (counts == 0), end=lambda p: p / p.sum()),
        "patterns that were seen only": _counted_of(pseudo=lambda alpha, counts: alpha * (counts > 0), end=lambda p: p / p.sum()),
    },
)

# --- 2.3 sampling by inversion ----------------------------------------------------------------------------------------


def _invert_of(
    mass: Callable = lambda edges, weight: weight / weight.sum(),
    uniform: Callable = lambda u: u,
    place: Callable = lambda low, high, rest, u: low + rest * (high - low),
    above: bool = True,
) -> Callable:
    """The draw, one part replaced: how much a bin has, which uniform numbers are used, where in the bin it falls.

    Args:
        above: whether the sum of masses must be above u, or may be u.
    """

    def sample(edges: Tensor, weight: Tensor, u: Tensor) -> Tensor:
        p, u = mass(edges, weight), uniform(u)
        F = p.cumsum(0)
        k = torch.searchsorted(F.contiguous(), u.contiguous(), right=above).clamp(max=len(p) - 1)
        rest = (u - (F - p)[k]) / p[k]
        return place(edges[k], edges[k + 1], rest, u)

    return sample


_invert = _invert_of()


def _by_density(edges: Tensor, weight: Tensor) -> Tensor:
    mass = weight * edges.diff()
    return mass / mass.sum()


def _straight_line(edges: Tensor, weight: Tensor, u: Tensor) -> Tensor:
    """Between the least and the largest edge, whatever the weights."""
    return edges[0] + u * (edges[-1] - edges[0])


def _ordered(edges: Tensor, weight: Tensor, u: Tensor) -> Tensor:
    """Bins sorted by their weight."""
    order = weight.argsort(descending=True)
    sizes = edges.diff()[order]
    return _invert(torch.cat([edges[:1], edges[0] + sizes.cumsum(0)]), weight[order], u)


def _without_adding(edges: Tensor, weight: Tensor, u: Tensor) -> Tensor:
    """The first bin whose own probability is above u."""
    p = weight / weight.sum()
    above = u[:, None] < p
    k = torch.where(above.any(1), above.to(torch.uint8).argmax(1), len(p) - 1)
    return edges[k] + u / p[k].clamp(min=1e-3) * edges.diff()[k]


def _bins(rng: np.random.Generator, K: int, N: int, empty: bool = False) -> Inputs:
    """Bins of different widths and weights that do not add up to 1; uniforms that fall into all bins and not near their edges.

    `empty` leaves the first, the last and one more without weight, and one uniform is exactly 0.
    """
    edges = np.cumsum(rng.permutation(np.linspace(0.4, 2.0, K + 1)) * rng.uniform(0.9, 1.1, K + 1)) - rng.uniform(2, 4)
    weight = rng.permutation(np.linspace(1, 4, K)) * rng.uniform(0.9, 1.1, K)
    if empty:
        weight[[0, int(rng.integers(2, K - 2)), -1]] = 0
    F = np.r_[0, np.cumsum(weight) / weight.sum()]
    k = rng.permutation(np.resize(np.flatnonzero(weight), N))
    u = F[k] + rng.uniform(0.08, 0.92, N) * (F[k + 1] - F[k])
    if empty:
        u[rng.integers(N)] = 0
    return {"edges": edges, "weight": weight, "u": u}


INVERSION = Question(
    id="2.3",
    title="Sampling by inversion",
    function="sample_bins",
    returns="(N,)",
    reference=_invert,
    example={"edges": [0.0, 1.0, 3.0], "weight": [1.0, 3.0], "u": [0.125, 0.625]},
    checks=(
        Check("values", 2, lambda rng: _bins(rng, K=5, N=17)),
        Check("bins without weight", 1, lambda rng: _bins(rng, K=8, N=19, empty=True)),
    ),
    mistakes={
        "weights not normalised": _invert_of(lambda edges, weight: weight),
        "weights taken for densities": _invert_of(_by_density),
        "divided by the widths": _invert_of(lambda edges, weight: weight / edges.diff() / (weight / edges.diff()).sum()),
        "all bins alike": _invert_of(lambda edges, weight: torch.full_like(weight, 1 / len(weight))),
        "softmax of the weights": _invert_of(lambda edges, weight: weight.softmax(0)),
        "counted from above": _invert_of(uniform=lambda u: 1 - u),
        "lower edge": _invert_of(place=lambda low, high, rest, u: low),
        "upper edge": _invert_of(place=lambda low, high, rest, u: high),
        "middle of the bin": _invert_of(place=lambda low, high, rest, u: (low + high) / 2),
        "same uniform in the bin": _invert_of(place=lambda low, high, rest, u: low + u * (high - low)),
        "from the upper edge": _invert_of(place=lambda low, high, rest, u: high - rest * (high - low)),
        "width forgotten": _invert_of(place=lambda low, high, rest, u: low + rest),
        "straight line": _straight_line,
        "not added up": _without_adding,
        "bins in another order": _ordered,
        "0 divided by 0": _invert_of(above=False),
        "zero falls into an empty bin": lambda edges, weight, u: torch.where(u > 0, _invert(edges, weight, u), edges[0]),
    },
)

# --- 2.4 what a model can say -----------------------------------------------------------------------------------------


def _single(a: Tensor, b: Tensor, far: Tensor) -> tuple:
    """Least and largest of log p(a), kind by kind."""
    return (a, a), (a, torch.zeros_like(a)), (-far, torch.zeros_like(a)), (-far, torch.zeros_like(a))


def _ratio(a: Tensor, b: Tensor, far: Tensor) -> tuple:
    """Least and largest of log p(a) - log p(b), kind by kind."""
    return (a - b, a - b), (a, -b), (a - b, a - b), (-far, far)


def _known_of(single: Callable = _single, ratio: Callable = _ratio) -> Callable:
    """What each kind says of log p(a), and of the logarithm of p(a) / p(b): one of them replaced."""

    def what_is_known(kind: Tensor, a: Tensor, b: Tensor, far: Tensor) -> Tensor:
        far = far.expand_as(a)
        said = [torch.stack([*alone, *other], dim=1) for alone, other in zip(single(a, b, far), ratio(a, b, far), strict=True)]
        return torch.stack(said, dim=1)[torch.arange(len(kind)), kind.long()]

    return what_is_known


_known = _known_of()


def _ends(value: float, kind: Tensor, a: Tensor, b: Tensor, far: Tensor) -> Tensor:
    """Something else than `far` where there is no end."""
    right = _known(kind, a, b, far)
    return torch.where(right.abs() == far, value * right.sign(), right)


def _reported(rng: np.random.Generator, n: int = 3) -> Drawn:
    """Models of all kinds, n of each, and what they report of two images: below 0 but for what is not normalised."""
    kind = rng.permutation(np.arange(4 * n) % 4)
    a, b = -rng.uniform(5, 30, (2, 4 * n))
    a, b = (np.where(kind == 2, rng.permutation(np.resize([1, -1], 4 * n)) * each, each) for each in (a, b))
    a, b = (np.where(kind == 3, 0, each) for each in (a, b))
    return {"kind": kind.astype(float), "a": a, "b": b, "far": float(rng.choice([500, 1000, 2000, 5000]))}


QUERIES = Question(
    id="2.4",
    title="What a model can say",
    function="what_is_known",
    returns="(B, 4)",
    reference=_known,
    example={"kind": [0.0, 1.0, 2.0, 3.0], "a": [-3.0, -3.0, 5.0, 0.0], "b": [-4.0, -4.0, 7.0, 0.0], "far": 100.0},
    checks=(Check("values", 3, _reported),),
    mistakes={
        "a bound taken for exact": _known_of(
            single=lambda a, b, far: ((a, a), (a, a), (-far, 0 * a), (-far, 0 * a)),
            ratio=lambda a, b, far: ((a - b, a - b), (a - b, a - b), (a - b, a - b), (-far, far)),
        ),
        "bounds subtracted": _known_of(ratio=lambda a, b, far: ((a - b, a - b), (a - b, a - b), (a - b, a - b), (-far, far))),
        "least difference of bounds": _known_of(
            ratio=lambda a, b, far: ((a - b, a - b), (a - b, far), (a - b, a - b), (-far, far))
        ),
        "difference of bounds up to 0": _known_of(
            ratio=lambda a, b, far: ((a - b, a - b), (a, 0 * a), (a - b, a - b), (-far, far))
        ),
        "difference of bounds without b": _known_of(
            ratio=lambda a, b, far: ((a - b, a - b), (a, -a), (a - b, a - b), (-far, far))
        ),
        "largest difference of bounds": _known_of(
            ratio=lambda a, b, far: ((a - b, a - b), (a, a - b), (a - b, a - b), (-far, far))
        ),
        "bounds say nothing of a difference": _known_of(
            ratio=lambda a, b, far: ((a - b, a - b), (-far, far), (a - b, a - b), (-far, far))
        ),
        "a bound from above": _known_of(single=lambda a, b, far: ((a, a), (-far, a), (-far, 0 * a), (-far, 0 * a))),
        "no end above": _known_of(single=lambda a, b, far: ((a, a), (a, far), (-far, far), (-far, far))),
        "infinite ends": lambda *inputs: _ends(torch.inf, *inputs),
        "no number at the ends": lambda *inputs: _ends(torch.nan, *inputs),
        "no end above a bound": _known_of(single=lambda a, b, far: ((a, a), (a, far), (-far, 0 * a), (-far, 0 * a))),
        "unnormalised taken for exact": _known_of(single=lambda a, b, far: ((a, a), (a, 0 * a), (a, a), (-far, 0 * a))),
        "unnormalised taken for a bound": _known_of(single=lambda a, b, far: ((a, a), (a, 0 * a), (a, 0 * a), (-far, 0 * a))),
        "normaliser does not cancel": _known_of(ratio=lambda a, b, far: ((a - b, a - b), (a, -b), (-far, far), (-far, far))),
        "bound and unnormalised exchanged": lambda kind, a, b, far: _known(
            torch.where(kind == 1, 2.0, torch.where(kind == 2, 1.0, kind)), a, b, far
        ),
        "samples as an answer": _known_of(ratio=lambda a, b, far: ((a - b, a - b), (a, -b), (a - b, a - b), (0 * a, 0 * a))),
        "samples say nothing above": _known_of(single=lambda a, b, far: ((a, a), (a, 0 * a), (-far, far), (-far, far))),
        "probabilities above 1 for samples": _known_of(single=lambda a, b, far: ((a, a), (a, 0 * a), (-far, 0 * a), (-far, far))),
        "b less a": _known_of(ratio=lambda a, b, far: ((b - a, b - a), (b, -a), (b - a, b - a), (-far, far))),
        "largest first": lambda *inputs: _known(*inputs)[:, [1, 0, 3, 2]],
        "difference first": lambda *inputs: _known(*inputs)[:, [2, 3, 0, 1]],
        "exact difference without b": _known_of(ratio=lambda a, b, far: ((a, a), (a, -b), (a, a), (-far, far))),
    },
)

# --- 2.5 the total variation of samples -------------------------------------------------------------------------------


def _variation_of(
    share: Callable = lambda counts: counts / counts.sum(1, keepdim=True),
    distance: Callable = lambda f, p: 0.5 * (f - p).abs().sum(1),
    floor: Callable = lambda n, p: 0.5 * (2 * p * (1 - p) / (math.pi * n)).sqrt().sum(1),
    end: Callable = lambda tv, floor: (tv, floor),
) -> Callable:
    """The distance and its floor, one part replaced."""

    def variation_and_floor(counts: Tensor, p: Tensor) -> Tensor:
        n = counts.sum(1, keepdim=True)
        return torch.stack(end(distance(share(counts), p), floor(n, p)), dim=1)

    return variation_and_floor


_variation = _variation_of()


def _from_frequencies(counts: Tensor, p: Tensor) -> Tensor:
    """The floor computed from what was drawn."""
    f = counts / counts.sum(1, keepdim=True)
    return torch.stack([_variation(counts, p)[:, 0], _variation(counts, f)[:, 1]], dim=1)


def _samplers(rng: np.random.Generator, B: int, K: int) -> Inputs:
    """What samplers drew that are more or less wrong, each another number of times."""
    p = _tables(rng, 1, K)[0]
    wrong = 0.6 * p + 0.4 * _tables(rng, B, K)
    n = rng.permutation(np.arange(B) * 37 + 40)
    counts = np.stack([rng.multinomial(times, one) for times, one in zip(n, wrong, strict=True)])
    return {"counts": counts.astype(float), "p": p}


VARIATION = Question(
    id="2.5",
    title="The total variation of samples",
    function="variation_and_floor",
    returns="(B, 2)",
    reference=_variation,
    example={"counts": [[3.0, 1.0], [1.0, 4.0]], "p": [0.5, 0.5]},
    checks=(Check("values", 3, lambda rng: _samplers(rng, B=6, K=8)),),
    mistakes={
        "no half": _variation_of(distance=lambda f, p: (f - p).abs().sum(1)),
        "mean over the outcomes": _variation_of(distance=lambda f, p: (f - p).abs().mean(1)),
        "largest difference": _variation_of(distance=lambda f, p: (f - p).abs().amax(1)),
        "differences not absolute": _variation_of(distance=lambda f, p: 0.5 * (f - p).sum(1)),
        "squared differences": _variation_of(distance=lambda f, p: 0.5 * (f - p).square().sum(1)),
        "divergence": _variation_of(distance=lambda f, p: torch.where(f > 0, f * ((f + (f == 0)) / p).log(), 0.0).sum(1)),
        "counts": _variation_of(share=lambda counts: counts),
        "divided by the outcomes": _variation_of(share=lambda counts: counts / counts.shape[1]),
        "divided by all draws": _variation_of(share=lambda counts: counts / counts.sum()),
        "divided by the largest": _variation_of(share=lambda counts: counts / counts.amax(1, keepdim=True)),
        "floor first": _variation_of(end=lambda tv, floor: (floor, tv)),
        "floor taken off": _variation_of(end=lambda tv, floor: (tv - floor, floor)),
        "floor without its half": _variation_of(floor=lambda n, p: (2 * p * (1 - p) / (math.pi * n)).sqrt().sum(1)),
        "standard deviations": _variation_of(floor=lambda n, p: 0.5 * (p * (1 - p) / n).sqrt().sum(1)),
        "variances": _variation_of(floor=lambda n, p: 0.5 * (2 * p * (1 - p) / (math.pi * n)).sum(1)),
        "root of the sum": _variation_of(floor=lambda n, p: 0.5 * (2 * p * (1 - p) / (math.pi * n)).sum(1).sqrt()),
        "without 1 - p": _variation_of(floor=lambda n, p: 0.5 * (2 * p / (math.pi * n)).sqrt().sum(1)),
        "floor of all draws": _variation_of(
            floor=lambda n, p: 0.5 * (2 * p * (1 - p) / (math.pi * n.sum()) + 0 * n).sqrt().sum(1)
        ),
        "no pi": _variation_of(floor=lambda n, p: 0.5 * (2 * p * (1 - p) / n).sqrt().sum(1)),
        "frequencies for the truth": _from_frequencies,
        "divided by the column": _variation_of(share=lambda counts: counts / counts.sum(0)),
        "one draw": _variation_of(floor=lambda n, p: 0.5 * (2 * p * (1 - p) / math.pi + 0 * n).sqrt().sum(1)),
    },
)

# --- 2.6 what a code costs --------------------------------------------------------------------------------------------


def _log(p: Tensor) -> Tensor:
    """0 where p is 0, since it is multiplied by p."""
    return torch.where(p > 0, p, 1.0).log()


def _costs_of(
    model: Callable = lambda logits: logits.log_softmax(1),
    entropy: Callable = lambda p: -(p * _log(p)).sum(1),
    cross: Callable = lambda p, log_q: -(p * log_q).sum(1),
    end: Callable = lambda least, cost: (least, cost, cost - least),
) -> Callable:
    """Entropy, cross-entropy and divergence, one part replaced."""

    def code_costs(p: Tensor, logits: Tensor) -> Tensor:
        return torch.stack(end(entropy(p), cross(p, model(logits))), dim=1)

    return code_costs


_costs = _costs_of()


def _models(rng: np.random.Generator, B: int, K: int, sure: bool = False) -> Inputs:
    """Distributions, some outcomes ruled out, and models of them; `sure` ones give some outcomes less than exp(-800)."""
    p = _tables(rng, B, K)
    p[np.arange(B), rng.integers(0, K, B)] = 0
    logits = 1.5 * rng.standard_normal((B, K)) + rng.uniform(-2, 2, (B, 1))
    if sure:
        logits[1:] += np.array([rng.permutation(np.linspace(-900, 900, K)) for _ in range(B - 1)])
    return {"p": p / p.sum(1, keepdims=True), "logits": logits}


COSTS = Question(
    id="2.6",
    title="What a code costs",
    function="code_costs",
    returns="(B, 3)",
    reference=_costs,
    example={"p": [[0.5, 0.5, 0.0]], "logits": [[0.0, 1.0, 0.0]]},
    checks=(
        Check("values", 2, lambda rng: _models(rng, 6, 5)),
        Check("sure models", 1, lambda rng: _models(rng, 7, 5, sure=True)),
    ),
    mistakes={
        "entropy of the model": lambda p, logits: _costs_of(
            entropy=lambda p: -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
        )(p, logits),
        "cross-entropy the other way": _costs_of(cross=lambda p, log_q: -(log_q.exp() * (p + 1e-9).log()).sum(1)),
        "logits for logarithms": _costs_of(lambda logits: logits),
        "sigmoid": _costs_of(lambda logits: torch.nn.functional.logsigmoid(logits)),
        "softmax over the batch": _costs_of(lambda logits: logits.log_softmax(0)),
        "softmax without logarithm": _costs_of(lambda logits: logits.softmax(1)),
        "softmax twice": _costs_of(lambda logits: logits.softmax(1).log_softmax(1)),
        "sign": lambda p, logits: -_costs(p, logits),
        "entropy with the wrong sign": _costs_of(entropy=lambda p: (p * _log(p)).sum(1)),
        "divergence with the wrong sign": _costs_of(end=lambda least, cost: (least, cost, least - cost)),
        "sum for the divergence": _costs_of(end=lambda least, cost: (least, cost, cost + least)),
        "divergence in the middle": _costs_of(end=lambda least, cost: (least, cost - least, cost)),
        "cross-entropy first": _costs_of(end=lambda least, cost: (cost, least, cost - least)),
        "bits": lambda p, logits: _costs(p, logits) / math.log(2),
        "mean over the outcomes": lambda p, logits: _costs(p, logits) / p.shape[1],
        "most probable outcome": _costs_of(cross=lambda p, log_q: -log_q.gather(1, p.argmax(1, keepdim=True))[:, 0]),
        "0 log 0": _costs_of(entropy=lambda p: -(p * p.log()).sum(1)),
        "logarithm of the softmax": _costs_of(lambda logits: logits.softmax(1).log()),
        "small number added": _costs_of(lambda logits: (logits.softmax(1) + 1e-12).log()),
    },
)

# --- 2.7 two fits -----------------------------------------------------------------------------------------------------


def _exponents(grid: Tensor, means: Tensor, sds: Tensor) -> Tensor:
    """Of every candidate on the grid, (A, S, G)."""
    return -0.5 * ((grid - means[:, None, None]) / sds[:, None]) ** 2


def _gaussians(grid: Tensor, means: Tensor, sds: Tensor) -> Tensor:
    """log q of every candidate on the grid, (A, S, G)."""
    return _exponents(grid, means, sds).log_softmax(-1)


def _forward(p: Tensor, log_q: Tensor) -> Tensor:
    return -(p * log_q).sum(-1)  # the entropy of p is the same for all


def _reverse(p: Tensor, log_q: Tensor) -> Tensor:
    return (log_q.exp() * (log_q - p.log())).sum(-1)


def _values(best: Tensor, means: Tensor, sds: Tensor) -> Tensor:
    return torch.stack([means[best // len(sds)], sds[best % len(sds)]])


def _fits_of(
    forward: Callable = _forward,
    reverse: Callable = _reverse,
    candidates: Callable = _gaussians,
    choose: Callable = lambda divergence: divergence.argmin(),
    order: tuple[int, int] = (0, 1),
    read: Callable = _values,
) -> Callable:
    """The mean and the standard deviation of the best candidates, one part replaced."""

    def two_fits(p: Tensor, grid: Tensor, means: Tensor, sds: Tensor) -> Tensor:
        log_q, found = candidates(grid, means, sds), []
        for one in p:
            best = [read(choose(divergence(one, log_q)), means, sds) for divergence in (forward, reverse)]
            found.append(torch.stack([best[place] for place in order]))
        return torch.stack(found).to(p)

    return two_fits


_fits = _fits_of()


def _one_by_one(divergence: Tensor) -> Tensor:
    """The best mean with the first standard deviation, and the best standard deviation with the first mean."""
    return divergence[:, 0].argmin() * divergence.shape[1] + divergence[0].argmin()


def _densities(grid: Tensor, means: Tensor, sds: Tensor) -> Tensor:
    """The Gaussians' log-densities, which the grid cuts off."""
    return torch.distributions.Normal(means[:, None, None], sds[:, None]).log_prob(grid)


def _by_moments(p: Tensor, grid: Tensor, means: Tensor, sds: Tensor) -> Tensor:
    """For the first fit the candidates that are nearest to the distribution's own mean and standard deviation."""
    mean = p @ grid
    sd = (p * (grid - mean[:, None]).square()).sum(1).sqrt()
    near = [listed[(listed - own[:, None]).abs().argmin(1)] for listed, own in ((means, mean), (sds, sd))]
    return torch.stack([torch.stack(near, dim=1), _fits(p, grid, means, sds)[:, 1]], dim=1)


def _squared_error(p: Tensor, log_q: Tensor) -> Tensor:
    return (log_q.exp() - p).square().sum(-1)


def _absolute_error(p: Tensor, log_q: Tensor) -> Tensor:
    return (log_q.exp() - p).abs().sum(-1)


def _two_hills(rng: np.random.Generator, grid: np.ndarray, log_q: Tensor) -> np.ndarray:
    """Two hills of different height and width, of which no two candidates are about as good, (G,)."""
    while True:
        side, share = rng.choice([-1, 1]), rng.uniform(0.55, 0.7)
        at, width = side * rng.uniform(2.3, 3.2, 2) * [1, -1], rng.permutation([rng.uniform(0.5, 0.65), rng.uniform(0.75, 1.0)])
        hills = np.exp(-0.5 * ((grid[:, None] - at) / width) ** 2) / width
        p = hills @ [share, 1 - share] + 1e-6
        p /= p.sum()
        found = [divergence(torch.from_numpy(p), log_q).flatten().sort().values for divergence in (_forward, _reverse)]
        if all(each[1] > each[0] + 1e-3 for each in found):
            return p


def _to_fit(rng: np.random.Generator, B: int) -> Inputs:
    """Such distributions, and candidates in no order; no two mistakes choose the same for all."""
    while True:
        middle, scale = rng.uniform(-3, 3), rng.uniform(0.7, 1.5)
        grid, means, sds = (
            np.linspace(-6, 6, 61),
            rng.permutation(np.linspace(-4, 4, 25)),
            rng.permutation(np.linspace(0.4, 3.2, 15)),
        )
        log_q = _gaussians(*map(torch.from_numpy, (grid, means, sds)))
        p = np.stack([_two_hills(rng, grid, log_q) for _ in range(B)])
        inputs = {"p": p, "grid": middle + scale * grid, "means": middle + scale * means, "sds": scale * sds}
        given = [torch.tensor(array, dtype=torch.float32) for array in inputs.values()]
        answers = [function(*given) for function in (_fits, *FITS.mistakes.values())]
        if all(not torch.equal(a, b) for place, a in enumerate(answers) for b in answers[:place]):
            return inputs


FITS: Question = Question(
    id="2.7",
    title="Two fits",
    function="two_fits",
    returns="(B, 2, 2)",
    reference=_fits,
    example={"p": [[0.5, 0.25, 0.25]], "grid": [0.0, 1.0, 2.0], "means": [0.0, 1.0], "sds": [0.5, 1.0]},
    checks=(Check("values", 3, lambda rng: _to_fit(rng, B=6)),),
    mistakes={
        "fits exchanged": _fits_of(order=(1, 0)),
        "forwards twice": _fits_of(order=(0, 0)),
        "backwards twice": _fits_of(order=(1, 1)),
        "standard deviation first": lambda *inputs: _fits(*inputs).flip(2),
        "transposed": lambda *inputs: _fits(*inputs).mT,
        "largest divergence": _fits_of(choose=lambda divergence: divergence.argmax()),
        "variance for the standard deviation": _fits_of(candidates=lambda grid, means, sds: _gaussians(grid, means, sds.sqrt())),
        "not normalised": _fits_of(candidates=_exponents),
        "densities as they are": _fits_of(candidates=_densities),
        "densities times the spacing": _fits_of(candidates=lambda *at: _densities(*at) + (at[0][1] - at[0][0]).log()),
        "moments": _by_moments,
        "no half": _fits_of(candidates=lambda grid, means, sds: _gaussians(grid, means, sds / math.sqrt(2))),
        "normalised over the candidates": _fits_of(
            candidates=lambda *at: _exponents(*at).flatten(0, 1).log_softmax(0).reshape_as(_exponents(*at))
        ),
        "entropy of q forgotten": _fits_of(reverse=lambda p, log_q: -(log_q.exp() * p.log()).sum(-1)),
        "0 log 0": _fits_of(
            forward=lambda p, log_q: (p * (p / log_q.float().exp()).log()).sum(-1),
            reverse=lambda p, log_q: (log_q.float().exp() * (log_q.float().exp().log() - p.log())).sum(-1),
        ),
        "squared error": _fits_of(_squared_error, _squared_error),
        "total variation": _fits_of(_absolute_error, _absolute_error),
        "number for the value": _fits_of(read=lambda best, means, sds: torch.stack([best // len(sds), best % len(sds)])),
        "one after the other": _fits_of(choose=_one_by_one),
    },
    harmless={
        f"log_softmax: one maximum over {what}": "next to its mean the exponent of every candidate is about 0"
        for what in ("axis 0 too", "axis 1 too", "everything")
    },
)

# --- 2.8 learn a distribution -----------------------------------------------------------------------------------------

_PIXELS = 8


def _prototypes(rng: np.random.Generator, N: int = 150) -> Inputs:
    """Copies of four patterns with some pixels turned, and all patterns there are, in no order.

    For the grader how probable each pattern is, what a new one costs at least, and how much more by counts with the pseudo-count
    that is best for these patterns.
    """
    states = rng.permutation(_binary(_PIXELS).numpy()).astype(float)
    far = np.zeros((4, 4))
    while far[np.triu_indices(4, 1)].min() < 3:
        own = rng.integers(0, 2, (4, _PIXELS))
        far = np.abs(own[:, None] - own).sum(-1)
    share, turned = rng.dirichlet(np.full(4, 8.0)), np.abs(states[:, None] - own).sum(-1)
    p = (0.08**turned * 0.92 ** (_PIXELS - turned)) @ share
    p /= p.sum()
    drawn = rng.choice(len(states), N, p=p)
    tables = np.bincount(drawn, minlength=len(states)) + np.geomspace(0.02, 1, 40)[:, None]
    wasted = (p * np.log(p * tables.sum(1, keepdims=True) / tables)).sum(1)
    return {"x": states[drawn], "states": states, "_p": p, "_least": -(p * np.log(p)).sum(), "_table": wasted.min()}


def _distribution(answer: np.ndarray) -> torch.distributions.Categorical:
    """What the numbers say, if they are divided by their sum; what is below 0 counts as 0."""
    return torch.distributions.Categorical(torch.from_numpy(np.clip(answer, 0, 1e30) + 1e-30))


def _cost(inputs: Inputs, answer: np.ndarray) -> float:
    """How much more new patterns cost than by the true distribution: nats."""
    said = _distribution(answer)
    every = said.log_prob(torch.arange(len(answer))).numpy()
    return float(-inputs["_p"].astype(float) @ every - inputs["_least"].astype(float))


def _beyond_a_table(inputs: Inputs, answer: np.ndarray) -> float:
    """How much more new patterns cost than by counts with the best pseudo-count: nats, negative if they cost less."""
    return _cost(inputs, answer) - float(inputs["_table"])


def _turns(x: Tensor, states: Tensor) -> Tensor:
    """How many pixels of each state differ from each pattern, (S, N)."""
    return (states[:, None] != x).sum(-1).to(x)


def _copies(x: Tensor, states: Tensor, rate: float, leave_out: bool = False) -> Tensor:
    """The mean over the patterns of the probability that copying one, each pixel turned at this rate, gives a state."""
    turned = _turns(x, states)
    each = rate**turned * (1 - rate) ** (x.shape[1] - turned)
    return each.fill_diagonal_(0).sum(1) / (len(x) - 1) if leave_out else each.mean(1)


def _rate(x: Tensor) -> float:
    return max((0.005, 0.01, 0.02, 0.035, 0.05, 0.07, 0.1), key=lambda rate: float(_copies(x, x, rate, True).log().sum()))


def _learned(x: Tensor, states: Tensor) -> Tensor:
    return _copies(x, states, _rate(x))


def _add(alpha: float) -> Callable:
    """A table of counts."""

    def learn(x: Tensor, states: Tensor) -> Tensor:
        counts = (_turns(x, states) == 0).sum(1).to(x) + alpha
        return counts / counts.sum()

    return learn


def _independent(x: Tensor, states: Tensor) -> Tensor:
    one = x.mean(0)
    return (states * one + (1 - states) * (1 - one)).prod(1)


def _rules_out(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether patterns that do occur now and then have next to no probability."""
    p = inputs["_p"].astype(float)
    return bool(p[_distribution(answer).probs.numpy() < 1e-6].sum() > 0.02)


def _spreads(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether much of the probability is on patterns that have less than a fifth of it."""
    own = _distribution(answer).probs.numpy()
    return bool(own[inputs["_p"].astype(float) < 0.2 * own].sum() > 0.15)


def _out_of_order(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether the numbers would do if they stood elsewhere, and are far from it as they stand."""
    ranked = {**inputs, "_p": np.sort(inputs["_p"])}
    return _cost(inputs, answer) > 2 and _cost(ranked, np.sort(answer)) < 0.3


_HINTS = (
    told("2.8", "logarithms", when=lambda inputs, answer: bool((answer <= 0).all())),
    told("2.8", "states in another order", when=_out_of_order),
    told("2.8", "counts alone", when=_rules_out),
    told("2.8", "pseudo-count of 1", when=_spreads),
)


def _learning(name: str, statistic: Callable, at_most: float) -> Measure:
    return Measure(
        name,
        statistic,
        at_most,
        lambda inputs: (len(inputs["states"]),),
        "return probabilities in the order of the states; spread the counts to patterns that are alike, and let patterns "
        "that were not counted say how far.",
        " nats",
        _HINTS,
    )


_ABOVE_LEAST = _learning("what new patterns cost above the least possible", _cost, 0.52)
_ABOVE_TABLE = _learning("what new patterns cost above the best table of counts", _beyond_a_table, -0.03)


# Nats a pattern, least to most of 200 draws: copies with turned pixels 0.08 to 0.28, which is 0.05 to 0.25 less than the best
# pseudo-count costs, mixtures of eight 0.07 to 0.15, a pseudo-count of 1 0.54 to 0.74.
EXPERIMENT = Question(
    id="2.8",
    title="Learn a distribution",
    function="learn_distribution",
    returns="(S,)",
    reference=_learned,
    example={"x": [[0.0, 1.0], [1.0, 1.0]], "states": [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]},
    checks=(
        Check("better than add one", 3, _prototypes, measure=_ABOVE_LEAST),
        Check("better than counting", 1, _prototypes, measure=_ABOVE_TABLE, of="better than add one"),
    ),
    mistakes={
        "logarithms": lambda x, states: _learned(x, states).log(),
        "counts alone": _add(0.0),
        "pseudo-count of 1": _add(1.0),
        "large pseudo-count": _add(10.0),
        "independent pixels": _independent,
        "far too many turns": lambda x, states: _copies(x, states, 0.25),
        "nearest pattern only": lambda x, states: 0.08 ** _turns(x, states).amin(1),
        "some of the patterns": lambda x, states: _add(0.2)(x[:30], states),
        "states in another order": lambda x, states: _learned(x, states.flip(0)),
        "sorted": lambda x, states: _learned(x, states).sort(descending=True).values,
    },
    seconds=30.0,
)

QUESTIONS = (KL, COUNTING, INVERSION, QUERIES, VARIATION, COSTS, FITS, EXPERIMENT)
