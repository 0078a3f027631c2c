"""What can be known of the likelihood of a restricted Boltzmann machine, whose normalising constant is a sum over all states.

    Z = sum_h exp(c.h) prod_i (1 + exp(b_i + (W h)_i)) = sum_v exp(-F(v))

Each sum is over the states of one side; the other side is summed in closed form, since its units are independent given these.
So Z is exact where one side is small. Elsewhere there is a path to anneal along, and the pseudo-likelihood, which needs no Z.
A `model` is an `RBM`.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gencourse.markov.base import LOG_2, all_states, bernoulli


def exact_log_partition(model: Any, over_hidden: bool) -> Tensor:
    """log Z of each class, `(classes or 1,)` nats, by a sum over every state of the hidden units, or of the images.

    Raises:
        ValueError: if that side has more than 25 units.
    """
    D, what = model.space.dim, f"log Z of an RBM with {model.space.dim} pixels and {model.hidden} hidden"
    total = []
    for states in all_states(model.hidden if over_hidden else D, model._b, what=what):  # (P, hidden), or (P, D)
        if over_hidden:
            logits = model.visible_logits(states)  # (P, visible)
            images = states @ model._c + F.softplus(logits[:, :D]).sum(1)  # (P,)
            each = images.unsqueeze(1) + logits[:, D:] if model.classes else images.unsqueeze(1)
        elif model.classes:
            each = -model._free_energies(states.long().view(-1, *model.space.shape))
        else:
            each = -model._free_energy(states).unsqueeze(1)
        total.append(each.logsumexp(0))
    return torch.stack(total).logsumexp(0)


def pseudo_nll(model: Any, v: Tensor) -> Tensor:
    """Minus the sum of log p(v_i | all other units) over the pixels of visible units v `(B, visible)`: `(B,)` nats."""
    logits, total = model._hidden(v), v.new_zeros(len(v))
    now = F.softplus(logits).sum(1)  # (B,)
    for i in range(model.space.dim):
        flip = 1 - 2 * v[:, i]  # (B,): +1 where the pixel is off
        gain = flip * model._b[i] + F.softplus(logits + flip.unsqueeze(1) * model._w[i]).sum(1) - now  # F(v) - F(flipped)
        total = total + F.softplus(gain)  # -log p(v_i | rest) = log(1 + exp(F(v) - F(flipped)))
    return total


@dataclass
class Annealed:
    """The path from independent units to an RBM, hidden units summed out (Salakhutdinov and Murray, 2008, Section 3).

        log f(v) = ((1 - beta) base + beta b).v + sum_j log(1 + exp(beta (c + v W)_j))

    Args:
        base: logits of the visible units at beta = 0, where each hidden unit counts twice: log Z has `hidden * log 2`.
        held: a label `(1, classes)` held fast, or None.
    """

    model: Any
    base: Tensor
    held: Tensor | None = None

    def log_start(self) -> Tensor:
        """log Z of the independent units, `()`."""
        dim = self.model.space.dim
        log_z = F.softplus(self.base[:dim]).sum() + self.model.hidden * LOG_2
        if self.held is not None:
            return log_z + self.base[dim:] @ self.held[0]
        return log_z + self.base[dim:].logsumexp(0) if self.model.classes else log_z

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` states of the independent units, `(n, visible)`."""
        return self.model._draw_visible(self.base.expand(n, -1), self._held(n), generator)

    def log_density(self, state: Tensor, betas: Tensor) -> Tensor:
        """log f of each state at each of K betas, `(K, n)`."""
        betas = betas.view(-1, 1)
        linear = (1 - betas) * (state @ self.base) + betas * (state @ self.model._b)  # (K, n)
        return linear + F.softplus(betas.unsqueeze(2) * self.model._hidden(state)).sum(2)

    def step(self, state: Tensor, beta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """h given v and v given h, both at `beta`."""
        h = bernoulli(beta * self.model._hidden(state), generator)
        logits = (1 - beta) * self.base + beta * self.model.visible_logits(h)
        return self.model._draw_visible(logits, self._held(len(state)), generator)

    def _held(self, n: int) -> Tensor | None:
        if self.held is None:
            return None
        return torch.cat([self.base.new_zeros(1, self.model.space.dim), self.held], 1).expand(n, -1)
