"""What both Boltzmann machines share: binary units, sums over their states, and a density known up to a constant.

    p(x) = exp(-F(x)) / Z        F is the free energy; Z sums exp(-F) over every image there is

An energy model knows F and not Z. Where one side is small, Z is summed; elsewhere annealed importance sampling estimates it.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from gencourse.arguments import non_negative_integer, positive_integer
from gencourse.kinds import Approximate
from gencourse.markov.ais import LogPartition, Path, ais
from gencourse.space import Space

MOST_UNITS = 25  # 2^25 states, summed in pieces, take some seconds


class EnergyModel(Approximate):
    """A density over binary images, known up to its normalising constant.

    Args:
        space: images of two levels.
        sweeps: Gibbs sweeps from noise to a sample.
        temperatures: of annealing, in `log_prob_estimate`.

    Raises:
        ValueError: if the space does not have two levels.
    """

    def __init__(self, space: Space, *, sweeps: int = 1000, temperatures: int = 1000) -> None:
        super().__init__(space)
        name = type(self).__name__
        if space.levels != 2:
            raise ValueError(f"{name} has binary units: it needs a space of 2 levels, not {space}.")
        self.sweeps = non_negative_integer(f"{name}: sweeps", sweeps)
        self.temperatures = positive_integer(f"{name}: temperatures", temperatures)

    def free_energy(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """F(x) of each image, `(B,)` nats: minus the log of its unnormalised probability."""
        raise TypeError(f"{type(self).__name__} must implement free_energy.")

    def log_partition(self, context: Tensor | None = None) -> Tensor:
        """The exact log Z, `()` nats, by enumeration."""
        raise TypeError(f"{type(self).__name__} must implement log_partition.")

    def annealed(self, context: Tensor | None = None) -> Path:
        """The path of distributions on which `estimate_log_partition` anneals."""
        raise TypeError(f"{type(self).__name__} must implement annealed.")

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The exact log-probability of each image, `(B,)` nats, where Z can be summed.

        Raises:
            ValueError: if there are too many states to sum over.
        """
        return -self.free_energy(x, context) - self.log_partition(context)

    @torch.no_grad()
    def estimate_log_partition(
        self,
        context: Tensor | None = None,
        *,
        chains: int = 100,
        temperatures: int | None = None,
        generator: torch.Generator | None = None,
    ) -> LogPartition:
        """log Z by annealed importance sampling, with its standard error.

        Args:
            chains: how many weights are averaged.
            temperatures: how many steps of annealing each takes; None takes the model's.
        """
        return ais(self.annealed(context), chains=chains, temperatures=temperatures or self.temperatures, generator=generator)

    @torch.no_grad()
    def log_prob_estimate(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The log-probability of each image, `(B,)` nats, with log Z from `samples` annealed chains.

        The estimate of Z is unbiased, so that of log Z is low on average, and these values are high: they look better than
        the model is, by less the longer the annealing. With `context`, log p(x | y), annealed once for each label that occurs.
        """
        log_p = -self.free_energy(x, context)
        if context is None:
            return log_p - self.estimate_log_partition(chains=samples, generator=generator).log_z
        for label in context.unique():
            log_z = self.estimate_log_partition(label, chains=samples, generator=generator).log_z
            log_p = torch.where(context == label, log_p - log_z, log_p)
        return log_p

    def _refuse_nan(self) -> None:
        if any(bool(p.isnan().any()) for p in self.parameters()):
            raise FloatingPointError(f"there is nothing to draw: weights of this {type(self).__name__} are NaN.")


def bernoulli(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Binary units drawn from their logits, as 0.0 and 1.0 in the logits' shape and type."""
    u = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
    return (u < torch.sigmoid(logits)).to(logits.dtype)


def one_of(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One of K drawn from logits `(B, K)`, `(B,)`: the largest, each with noise from the Gumbel distribution."""
    u = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
    return (logits - torch.log(-torch.log1p(-u))).argmax(1)


def all_states(units: int, like: Tensor, *, what: str, piece: int = 2**14) -> Iterator[Tensor]:
    """All states of so many binary units, the last changing fastest, in pieces of `(P, units)` on the device of `like`.

    Raises:
        ValueError: if there are more than 2^25 of them; `what` begins the sentence.
    """
    if units > MOST_UNITS:
        raise ValueError(
            f"{what} would be a sum over 2^{units} states, too many to enumerate (up to 2^{MOST_UNITS}); "
            "estimate_log_partition anneals instead."
        )
    shifts = torch.arange(units - 1, -1, -1, device=like.device)
    edges = [*range(0, 2**units, piece), 2**units]
    for first, last in pairwise(edges):
        numbers = torch.arange(first, last, device=like.device)
        yield (numbers.unsqueeze(1) >> shifts & 1).to(like.dtype)


def log_odds(share: Tensor, n: int) -> Tensor:
    """The logits of the shares of ones among `n` examples, each as if one more 0 and one more 1 had been seen."""
    ones = share * n
    return torch.log(ones + 1) - torch.log(n - ones + 1)


LOG_2 = math.log(2)
