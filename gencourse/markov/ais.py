"""Annealed importance sampling (Neal, 2001, https://arxiv.org/abs/physics/9803008; for Boltzmann machines, Salakhutdinov and
Murray, 2008).

    f_0, f_1, ..., f_K        unnormalised densities, from one whose Z_0 is known to the one whose Z_K is sought
    s_0 ~ p_0                 an exact draw
    s_k ~ T_k(. | s_{k-1})    any step that leaves p_k unchanged
    w = prod_k f_k(s_{k-1}) / f_{k-1}(s_{k-1})

The mean of w is exactly Z_K / Z_0, for any number of temperatures and however badly the steps mix. Only its variance suffers.
The logarithm of a mean of weights is low on average, so forward annealing gives, in expectation, a lower bound on log Z_K. The
same from samples of p_K backwards gives an upper one: the two bracket what nobody can sum.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gencourse.arguments import positive_integer


class Path(Protocol):
    """Distributions over states `(n, ...)`, from a known one at beta = 0 to the one of interest at beta = 1."""

    def log_start(self) -> Tensor:
        """log Z at beta = 0, `()`."""
        ...

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` exact draws at beta = 0."""
        ...

    def log_density(self, state: Tensor, betas: Tensor) -> Tensor:
        """The log of the unnormalised density of each state at each of K betas, `(K, n)`."""
        ...

    def step(self, state: Tensor, beta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A transition that leaves the distribution at `beta` unchanged."""
        ...


@dataclass(frozen=True)
class LogPartition:
    """An estimate of log Z from weights.

    Attributes:
        log_z: the estimate, in nats.
        log_weights: `(chains,)` float64, of each chain alone.
        standard_error: of `log_z`, in nats, from how the weights differ; the root of the relative variance of their mean. Weights
            that missed something large cannot know it.
    """

    log_z: float
    log_weights: Tensor
    standard_error: float

    def interval(self, errors: float = 3.0) -> tuple[float, float]:
        """`log(Z -+ errors * its standard error)`: where log Z is likely; -inf below if the error exceeds the estimate."""
        spread = errors * self.standard_error
        return self.log_z + (math.log1p(-spread) if spread < 1 else -math.inf), self.log_z + math.log1p(spread)


def even(temperatures: int) -> Tensor:
    """`temperatures` steps of the same size from 0 to 1: `(temperatures + 1,)` float64."""
    return torch.linspace(0, 1, positive_integer("ais: temperatures", temperatures) + 1, dtype=torch.float64, device="cpu")


@torch.no_grad()
def anneal(path: Path, state: Tensor, betas: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Carry states along a path and weigh them on the way.

    Args:
        state: `(n, ...)`, exact draws at the first beta.
        betas: `(K + 1,)`, from 0 to 1 or back.

    Returns:
        `(n,)` float64, the logs of weights whose mean is Z at the last beta by Z at the first; and the states at the end.
    """
    log_w = torch.zeros(len(state), dtype=torch.float64, device=state.device)
    for pair in betas.to(state.device, state.dtype).unfold(0, 2, 1):
        before, after = path.log_density(state, pair)  # of the state as it came, not as it will be
        log_w += (after - before).double()
        state = path.step(state, pair[1], generator)
    return log_w, state


@torch.no_grad()
def ais(
    path: Path,
    *,
    chains: int = 100,
    temperatures: int = 1000,
    betas: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LogPartition:
    """log Z at beta = 1, annealed from beta = 0.

    Args:
        chains: how many weights are averaged.
        temperatures: how many steps each chain takes.
        betas: `(K + 1,)` from 0 to 1, in place of even steps.

    Raises:
        ValueError: if a number is not positive, or `betas` do not rise from 0 to 1.
    """
    betas = _rising(even(temperatures) if betas is None else betas)
    log_w, _ = anneal(path, path.draw(positive_integer("ais: chains", chains), generator), betas, generator=generator)
    return _estimate(float(path.log_start()), log_w, sign=1)


@torch.no_grad()
def reverse_ais(
    path: Path,
    samples: Tensor,
    *,
    temperatures: int = 1000,
    betas: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LogPartition:
    """log Z at beta = 1, annealed from there down to beta = 0: high on average, where `ais` is low.

    Args:
        samples: `(n, ...)` states of the path at beta = 1. They must be the model's own, exact or after a long chain; data would
            give another answer.
        temperatures, betas: as of `ais`; they are taken in reverse.
    """
    betas = _rising(even(temperatures) if betas is None else betas)
    log_w, _ = anneal(path, samples, betas.flip(0), generator=generator)
    return _estimate(float(path.log_start()), log_w, sign=-1)


def _rising(betas: Tensor) -> Tensor:
    if betas.dim() != 1 or len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or not bool((betas.diff() >= 0).all()):
        raise ValueError("ais: betas must rise from 0 to 1, both included.")
    return betas


def _estimate(log_start: float, log_w: Tensor, sign: int) -> LogPartition:
    """Z_1 = Z_0 times the mean of forward weights, or Z_0 by the mean of reverse ones (`sign` -1)."""
    n = len(log_w)
    log_mean = torch.logsumexp(log_w, 0) - math.log(n)
    relative = torch.exp(log_w - log_mean)  # (n,), mean 1
    error = float(relative.std() / math.sqrt(n)) if n > 1 else math.inf
    return LogPartition(log_start + sign * float(log_mean), log_start + sign * log_w, error)
