"""A world small enough to know: any model of a few patterns, measured against the truth and not against examples.

`bars_and_stripes` is 14 patterns of 3x3 pixels, each as frequent as another, among 512 images. So the entropy of the data is
known, and log p(x) of the 14 patterns says all about a density: its KL divergence from the data, how much of it lies on no
pattern, and its total variation from the data. `density` finds these numbers, and says how:

    exact       log_prob, or a sum over all states of what is hidden
    quadrature  the integral over a latent of one or two dimensions, on a grid
    chain       the law at which a chain settles, from its transition matrix
    estimate    importance sampling, with a standard error: flows (over the noise of dequantisation) and diffusion (over paths)

A sampler of any kind is judged by `samples`, with what as many draws from the data themselves would score beside it.
"""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencourse.arguments import least_integer, positive_integer
from gencourse.arguments import seed as checked_seed
from gencourse.checks.gsn import transition_matrix
from gencourse.checks.invariants import every_example
from gencourse.kinds import GenerativeModel, Implicit, Tractable
from gencourse.markov.base import EnergyModel
from gencourse.markov.chains import stationary
from gencourse.markov.gsn import GSN
from gencourse.metrics.likelihood import effective_sample_size, log_mean_exp
from gencourse.variational.categorical import CategoricalVAE
from gencourse.variational.vae import VAE


class World(NamedTuple):
    """The patterns of a world, `(K, *shape)` int64, and how frequent each is, `(K,)` float64."""

    patterns: Tensor
    shares: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "World":
        """That of examples `(N, *shape)`: what is different among them, and the share of each."""
        patterns, counts = torch.unique(x.long().cpu(), dim=0, return_counts=True)
        return cls(patterns, counts.double() / len(x))

    @property
    def entropy(self) -> float:
        """Of the patterns, in nats."""
        return -float(torch.xlogy(self.shares, self.shares).sum())


class Samples(NamedTuple):
    """What draws say of a sampler.

    Attributes:
        tv: the total variation between the shares of the draws and the data, between 0 and 1.
        floor: what it would be, in expectation, of as many draws from the data.
        off: the share of draws that are no pattern.
        covered: how many of the patterns occur.
        counts: how often each occurs, `(K,)`.
    """

    tv: float
    floor: float
    off: float
    covered: int
    counts: Tensor


class Density(NamedTuple):
    """What the probabilities of the patterns say of a model.

    Attributes:
        kind: "exact", "quadrature", "chain" or "estimate".
        kl: KL(data || model), nats.
        error: of `kl`: the standard error of an estimate, what half as fine a grid changes, 0 else.
        bound: the same with the model's bound in place of its log-probability; None without one.
        off: the model's probability of no pattern.
        tv: the total variation between model and data.
        log_p: of each pattern, `(K,)` nats.
    """

    kind: str
    kl: float
    error: float
    bound: float | None
    off: float
    tv: float
    log_p: Tensor


def tv_floor(n: int, shares: Tensor) -> float:
    """The expected total variation between a distribution and `n` draws from it: Eq. (2.12) of the book.

    Each share q adds half the mean absolute deviation of a binomial count from n q, which has a closed form (De Moivre, 1730).

    >>> round(tv_floor(1, torch.tensor([0.5, 0.5])), 6)
    0.5
    """
    n, q = positive_integer("tv_floor: n", n), shares.double()
    m = torch.floor(n * q) + 1  # the first count above the mean
    log_choose = math.lgamma(n + 1) - torch.lgamma(m + 1) - torch.lgamma((n - m + 1).clamp(min=0.5))
    deviation = 2 * m * torch.exp(log_choose + m * q.log() + torch.xlogy(n - m + 1, 1 - q))
    return float(torch.where((q > 0) & (q < 1), deviation, 0.0).sum()) / (2 * n)


def samples(x: Tensor, world: World) -> Samples:
    """Judge draws `(n, *shape)` of a sampler.

    Raises:
        ValueError: if the shapes differ, or there are none.
    """
    if x.shape[1:] != world.patterns.shape[1:] or len(x) == 0:
        raise ValueError(f"samples: expected draws (n, {', '.join(map(str, world.patterns.shape[1:]))}), not {tuple(x.shape)}.")
    same = (x.long().cpu().flatten(1)[:, None] == world.patterns.flatten(1)).all(-1)  # (n, K)
    counts = same.sum(0)
    off = 1 - float(counts.sum()) / len(x)
    tv = 0.5 * (float((counts / len(x) - world.shares).abs().sum()) + off)
    return Samples(tv, tv_floor(len(x), world.shares), off, int((counts > 0).sum()), counts)


@torch.no_grad()
def density(model: GenerativeModel, world: World, *, draws: int = 2000, points: int = 400, seed: int = 0) -> Density | None:
    """What the model's probabilities say of it, in float64; None for one that has none.

    Args:
        model: of an enumerable space, without a condition; it is copied, not changed.
        draws: of importance sampling for each pattern.
        points: of the quadrature, in each dimension of the latent.
        seed: of what is drawn.

    Raises:
        ValueError: if a VAE's latent has more than two dimensions.
    """
    draws, points = positive_integer("density: draws", draws), least_integer("density: points", points, 4)
    if isinstance(model, GSN):
        return _chain(model, world)
    if isinstance(model, Implicit):
        return None
    double: Any = copy.deepcopy(model).to("cpu", torch.float64).eval()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(checked_seed("density: seed", seed))
        if isinstance(double, VAE):
            fine, coarse = (_by_quadrature(double, world.patterns, n) for n in (points, points // 2))
            error = abs(float(world.shares @ (fine - coarse)))
            return _density("quadrature", fine, world, error, double.elbo(world.patterns, samples=draws))
        if isinstance(double, CategoricalVAE):
            return _density("exact", double.log_prob(world.patterns), world, 0.0, double.exact_elbo(world.patterns))
        if isinstance(double, EnergyModel) or _repeats_itself(double, world.patterns):
            return _density("exact", double.log_prob(world.patterns), world)
        log_w = torch.cat([_draws(double, world.patterns, n) for n in _pieces(draws, 100)])  # (draws, K)
    log_p = log_mean_exp(log_w)
    variance = 1 / effective_sample_size(log_w) - 1 / draws  # of log p, by the delta method
    return _density("estimate", log_p, world, float((world.shares**2 * variance).sum()) ** 0.5, log_w.mean(0))


def _density(kind: str, log_p: Tensor, world: World, error: float = 0.0, bound: Tensor | None = None) -> Density:
    q, p = world.shares, log_p.exp()
    off = 1 - float(p.sum())
    kl, by_bound = (None if v is None else -world.entropy - float(q @ v) for v in (log_p, bound))
    assert kl is not None
    return Density(kind, kl, error, by_bound, off, 0.5 * (float((p - q).abs().sum()) + max(off, 0.0)), log_p)


def _draws(model: Any, x: Tensor, n: int) -> Tensor:
    """The logarithms of n unbiased estimates of p(x), `(n, K)`."""
    many = x.repeat(n, *[1] * (x.dim() - 1))
    found = model.log_prob(many) if isinstance(model, Tractable) else model.log_prob_estimate(many, samples=1)
    return found.view(n, len(x))


def _pieces(n: int, most: int) -> list[int]:
    return [min(most, n - first) for first in range(0, n, most)]


def _repeats_itself(model: GenerativeModel, x: Tensor) -> bool:
    """Whether the log-probability draws nothing."""
    return isinstance(model, Tractable) and torch.equal(model.log_prob(x), model.log_prob(x))


def _by_quadrature(model: VAE, x: Tensor, points: int, reach: float = 8.0) -> Tensor:
    """The log of the integral of p(x | z) p(z) over z, `(K,)`, by the trapezoidal rule on [-reach, reach] in each dimension."""
    if model.latent > 2:
        raise ValueError(f"the density of a VAE is a quadrature for latent=1 or 2, and this one has {model.latent}.")
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * model.latent).view(-1, model.latent)
    parts = [
        torch.logsumexp(model.decode(z).log_prob(x.double().unsqueeze(1)) + model.log_prior(z), 1) for z in grid.split(20_000)
    ]
    return torch.logsumexp(torch.stack(parts), 0) + model.latent * math.log(2 * reach / (points - 1))


def _chain(model: GSN, world: World) -> Density:
    settled = stationary(transition_matrix(model)).clamp(min=1e-300)  # in the order of `every_example`
    images = every_example(model.space).flatten(1)
    places = (world.patterns.flatten(1)[:, None] == images).all(-1).double().argmax(1)
    return _density("chain", settled[places].log(), world)
