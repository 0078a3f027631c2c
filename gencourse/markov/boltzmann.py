"""The Boltzmann machine (Ackley, Hinton and Sejnowski, 1985, https://doi.org/10.1207/s15516709cog0901_7).

    E(s) = -b.s - sum_{i<j} J_ij s_i s_j      binary units s, some seen (v), some hidden (h); J symmetric, no unit with itself
    p(s) = exp(-E(s)) / Z                     and p(v) sums it over h
    p(s_i = 1 | the others) = sigmoid(b_i + sum_j J_ij s_j)

The gradient of log p(v) for J_ij is the mean of s_i s_j with v clamped to the data, less its mean when the machine runs free:
what fires together in the world and not yet in the machine is coupled more strongly. Both means are sums over all states of
what is not clamped, so this file enumerates them while they are few, and runs chains for the free ones where they are not.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.arguments import non_negative_integer, positive_integer
from gencourse.data import Dataset, load
from gencourse.markov.base import EnergyModel, all_states, bernoulli
from gencourse.networks import full_precision
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, linear


class Boltzmann(EnergyModel):
    """Binary units, seen and hidden, each coupled with all others.

    Units are numbered: the pixels first, then the hidden ones. Probabilities of images sum over the states of the hidden units.

    Args:
        space: images of two levels.
        hidden: the number of hidden units.
        chains: how many chains give the free means in training; 0 sums over every state instead. They are kept with the weights.
        k: sweeps of these chains between two gradients.
        sweeps: Gibbs sweeps from noise to a sample.
        temperatures: of annealing, in `log_prob_estimate`.

    Raises:
        ValueError: if the space does not have two levels, or a number is out of range.
    """

    base: Tensor
    chain: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(
        self, space: Space, *, hidden: int = 0, chains: int = 0, k: int = 1, sweeps: int = 1000, temperatures: int = 1000
    ) -> None:
        super().__init__(space, sweeps=sweeps, temperatures=temperatures)
        self.hidden = non_negative_integer("Boltzmann: hidden", hidden)
        self.chains, self.k = non_negative_integer("Boltzmann: chains", chains), positive_integer("Boltzmann: k", k)
        self.units = space.dim + self.hidden
        rows, columns = torch.triu_indices(self.units, self.units, 1)
        self.pairs = nn.Parameter(0.05 * torch.randn(len(rows)))  # J_ij for i < j, each coupling once
        self.bias = nn.Parameter(torch.zeros(self.units))
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("chain", torch.randint(2, (self.chains, self.units)).to(self.bias.dtype))

    @property
    def couplings(self) -> Tensor:
        """J, `(units, units)`: symmetric, with zeros on its diagonal."""
        pairs = full_precision(self.pairs)
        upper = pairs.new_zeros(self.units, self.units).index_put((self.rows, self.columns), pairs)
        return upper + upper.T

    @property
    def _b(self) -> Tensor:
        return full_precision(self.bias)

    def energy(self, states: Tensor) -> Tensor:
        """E of states of all units, `(..., units)`: `(...)`."""
        states = states.to(self._b.dtype)
        return -states @ self._b - 0.5 * ((states @ self.couplings) * states).sum(-1)

    def fields(self, states: Tensor) -> Tensor:
        """The logits of p(s_i = 1 | the others) for each unit, `(..., units)`."""
        return self._b + states.to(self._b.dtype) @ self.couplings

    def completions(self, x: Tensor) -> Tensor:
        """Each image with every state of the hidden units, `(B, 2^hidden, units)`.

        Raises:
            ValueError: if there are more than 25 hidden units.
        """
        v = self.space.validate(x, values=False).flatten(1).to(self._b.dtype)
        h = torch.cat(list(all_states(self.hidden, v, what=f"the probability of an image with {self.hidden} hidden units")))
        return torch.cat([v.unsqueeze(1).expand(-1, len(h), -1), h.unsqueeze(0).expand(len(v), -1, -1)], 2)

    def free_energy(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """-log of the sum of exp(-E) over the hidden units, `(B,)` nats."""
        self._unconditional(context)
        return -torch.logsumexp(-self.energy(self.completions(x)), 1)

    def log_partition(self, context: Tensor | None = None) -> Tensor:
        """log Z, `()` nats, summed over all states of all units.

        Raises:
            ValueError: if there are more than 25 units.
        """
        self._unconditional(context)
        pieces = all_states(self.units, self._b, what=f"log Z of a Boltzmann machine of {self.units} units")
        return torch.stack([torch.logsumexp(-self.energy(states), 0) for states in pieces]).logsumexp(0)

    # --- The chain -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def gibbs(self, states: Tensor, steps: int, *, clamped: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """States `(B, units)` after `steps` sweeps, in each of which every unit is drawn anew given the others, in order.

        Args:
            clamped: leave the pixels as they are, and draw the hidden units alone.
        """
        steps = non_negative_integer("Boltzmann.gibbs: steps", steps)
        self._refuse_nan()
        return _sweeps(states, self._b, self.couplings, steps, self.space.dim if clamped else 0, generator)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        self._unconditional(context)
        noise = bernoulli(self._b.new_zeros(n, self.units), generator)
        states = self.gibbs(noise, self.sweeps, generator=generator)
        return states[:, : self.space.dim].long().view(n, *self.space.shape)

    def annealed(self, context: Tensor | None = None, *, base: Tensor | None = None) -> "Annealed":
        """The path of annealing, over states `(n, units)`.

        Args:
            base: logits of the independent units that it starts from, `(units,)`; None takes 0, where all states are alike.
        """
        self._unconditional(context)
        return Annealed(self, torch.zeros_like(self._b) if base is None else base.to(self._b.dtype))

    # --- Learning --------------------------------------------------------------------------------------------------------

    def moves(self) -> list[Move]:
        """One move, the learning rule. In evaluation mode, without chains, it is the exact negative log-likelihood."""
        return [Move("clamped - free", self.clamped_less_free, self.parameters(), validate=not self.chains)]

    def clamped_less_free(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The mean energy with x clamped, less that of the machine running free, `(B,)`.

        Probabilities and chains are held fast, so its gradient is the learning rule: minus the clamped means of s_i and s_i s_j,
        plus the free ones.
        """
        if not self.training and not self.chains:
            return -self.log_prob(x, context)
        self._unconditional(context)
        clamped = self._mean_energy(self.completions(x))  # (B,)
        if self.chains:
            with torch.no_grad():
                self.chain.copy_(_sweeps(full_precision(self.chain), self._b, self.couplings, self.k, 0, None))
            return clamped - self.energy(self.chain).mean()
        free = torch.cat(list(all_states(self.units, self._b, what=f"training {self.units} units without chains")))
        return clamped - self._mean_energy(free)

    def _mean_energy(self, states: Tensor) -> Tensor:
        """Over the next-to-last dimension of `(..., S, units)`, by the probabilities that these energies give: `(...)`."""
        energy = self.energy(states)  # (..., S)
        return (torch.softmax(-energy.detach(), -1) * energy).sum(-1)


def _sweeps(s: Tensor, b: Tensor, couplings: Tensor, steps: int, first: int, generator: torch.Generator | None) -> Tensor:
    """`steps` times, each unit from number `first` on is drawn given all others as they are now."""
    s = s.to(b.dtype).clone()
    for _ in range(steps):
        u = torch.rand(s.shape, generator=generator, device=s.device, dtype=s.dtype)
        for i in range(first, len(b)):
            s[:, i] = (u[:, i] < torch.sigmoid(b[i] + s @ couplings[:, i])).to(s.dtype)  # J_ii = 0: the unit's own state is out
    return s


@dataclass
class Annealed:
    """The path from independent units to the whole machine: `log f(s) = (1 - beta) base.s - beta E(s)`."""

    model: Boltzmann
    base: Tensor

    def log_start(self) -> Tensor:
        """log Z of the independent units, `()`."""
        return F.softplus(self.base).sum()

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` states of the independent units, `(n, units)`."""
        return bernoulli(self.base.expand(n, -1), generator)

    def log_density(self, state: Tensor, betas: Tensor) -> Tensor:
        """log f of each state at each of K betas, `(K, n)`."""
        betas = betas.view(-1, 1)
        return (1 - betas) * (state @ self.base) - betas * self.model.energy(state)

    def step(self, state: Tensor, beta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One sweep at `beta`."""
        b = (1 - beta) * self.base + beta * self.model._b
        return _sweeps(state, b, beta * self.model.couplings, 1, 0, generator)


def centre() -> Dataset:
    """Twelve pixels from the centre of `binary_digits`, 4 by 3: few enough to enumerate every image."""
    digits = load("binary_digits")
    train, valid, test = (part[:, :, 2:6, 3:6].contiguous() for part in (digits.train, digits.valid, digits.test))
    return Dataset("digits_centre", Space((1, 4, 3), 2), train, valid, test)


_FIT = {"batch_size": 1257, "lr": 0.1, "schedule": linear}
RECIPES = (
    Recipe("digits_centre", data=centre, options={"hidden": 2}, fit={"steps": 300, **_FIT}, band=6.75, samples=100, quick=True),
    Recipe("digits_centre_visible", data=centre, options={"hidden": 0}, fit={"steps": 300, **_FIT}, band=6.85, samples=100),
    Recipe(
        "bars_and_stripes",
        data="bars_and_stripes",
        options={"hidden": 2},
        fit={"steps": 1000, "batch_size": 14, "lr": 0.1, "schedule": linear},
        samples=100,
    ),
)
