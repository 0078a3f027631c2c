"""The restricted Boltzmann machine (Smolensky, 1986; Hinton, 2002, https://doi.org/10.1162/089976602760128018).

    E(v, h) = -b.v - c.h - v W h                      binary v and h; no couplings among v or among h
    p(h_j = 1 | v) = sigmoid(c_j + (v W)_j)           so each side is independent given the other
    p(v_i = 1 | h) = sigmoid(b_i + (W h)_i)
    F(v) = -log sum_h exp(-E) = -b.v - sum_j log(1 + exp(c_j + (v W)_j))
    p(v) = exp(-F(v)) / Z

The gradient of log p(v) is minus that of F(v), plus its mean under the model: what is seen becomes likelier, what the model
dreams less so. Contrastive divergence dreams k steps of Gibbs sampling from the data; persistent chains (Tieleman, 2008) go on
dreaming from where they were.

With classes, a label is one more visible unit of K states (Larochelle and Bengio, 2008), and p(y | v) is exact.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.arguments import non_negative_integer, positive_integer
from gencourse.markov.base import LOG_2, EnergyModel, all_states, bernoulli, log_odds
from gencourse.networks import full_precision, one_hot
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, linear, sgd


class RBM(EnergyModel):
    """Binary images and binary hidden units, coupled across and not within.

    The visible biases and the base rate of annealing start from the first batch of training, if the biases are still zero.

    Args:
        space: images of two levels.
        hidden: the number of hidden units.
        classes: the number of classes, if labels are modelled too; they are the `context` then.
        k: Gibbs steps between two gradients.
        chains: persistent ones, kept with the weights; 0 starts anew from each batch of data (contrastive divergence). Several
            processes have chains of their own, of which the first's are kept.
        sweeps: Gibbs sweeps from noise to a sample.
        temperatures: of annealing, in `log_prob_estimate`.

    Raises:
        ValueError: if the space does not have two levels, or a number is out of range.
    """

    base: Tensor
    chain: Tensor
    started: Tensor

    def __init__(
        self,
        space: Space,
        *,
        hidden: int = 64,
        classes: int = 0,
        k: int = 1,
        chains: int = 0,
        sweeps: int = 1000,
        temperatures: int = 1000,
    ) -> None:
        super().__init__(space, sweeps=sweeps, temperatures=temperatures)
        self.hidden, self.classes = positive_integer("RBM: hidden", hidden), non_negative_integer("RBM: classes", classes)
        self.k, self.chains = positive_integer("RBM: k", k), non_negative_integer("RBM: chains", chains)
        visible = space.dim + self.classes
        self.weight = nn.Parameter(0.05 * torch.randn(visible, self.hidden))
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(self.hidden))
        self.register_buffer("base", torch.zeros(visible))  # logits of what annealing starts from
        self.register_buffer("chain", torch.zeros(self.chains, visible))
        self.register_buffer("started", torch.tensor(False))
        self._known = False  # what `started` says, without asking a GPU at every step

    # --- Energies --------------------------------------------------------------------------------------------------------

    def energy(self, x: Tensor, h: Tensor, context: Tensor | None = None) -> Tensor:
        """E(v, h) of images `(B, *space.shape)` and hidden units `(B, hidden)`: `(B,)`."""
        v = self.visible(x, context)
        h = h.to(v.dtype)
        return -v @ self._b - h @ self._c - ((v @ self._w) * h).sum(1)

    def free_energy(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """F of each image, `(B,)` nats; with classes that of image and label, or summed over labels if none are given."""
        if self.classes and context is None:
            return -torch.logsumexp(-self._free_energies(x), 1)
        return self._free_energy(self.visible(x, context))

    def class_log_probs(self, x: Tensor) -> Tensor:
        """log p(y | x), exactly, for each class: `(B, classes)` nats. Z cancels.

        Raises:
            ValueError: if the model has no classes.
        """
        return torch.log_softmax(-self._free_energies(x), 1)

    def hidden_logits(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The logits of p(h_j = 1 | v), `(B, hidden)`."""
        return self._hidden(self.visible(x, context))

    def visible_logits(self, h: Tensor) -> Tensor:
        """The logits of p(v_i = 1 | h) for h `(B, hidden)`: `(B, D)`, and after them the K of the label, if there are classes."""
        return self._b + h.to(self._w.dtype) @ self._w.T

    def visible(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The visible units `(B, D)` as real numbers, and after them the label as one of K, if there are classes.

        Raises:
            TypeError, ValueError: if the kind or shape of `x` is not the space's, or labels are missing, wrong or superfluous.
        """
        v = self.space.validate(x, values=False).flatten(1).to(self._b.dtype)
        if not self.classes:
            self._unconditional(context)
            return v
        return torch.cat([v, one_hot(context, self.classes, len(x), v, "RBM")], 1)

    @property
    def _w(self) -> Tensor:
        return full_precision(self.weight)

    @property
    def _b(self) -> Tensor:
        return full_precision(self.visible_bias)

    @property
    def _c(self) -> Tensor:
        return full_precision(self.hidden_bias)

    def _hidden(self, v: Tensor) -> Tensor:
        return full_precision(torch.addmm(self._c, v, self._w))

    def _free_energy(self, v: Tensor) -> Tensor:
        return -(v @ self._b) - F.softplus(self._hidden(v)).sum(1)

    def _free_energies(self, x: Tensor) -> Tensor:
        """F(x, y) for each y: `(B, classes)`."""
        if not self.classes:
            raise ValueError("this RBM has no classes; RBM(space, classes=10) models labels too.")
        labels = torch.arange(self.classes, device=x.device)
        return torch.stack([self._free_energy(self.visible(x, y.expand(len(x)))) for y in labels], 1)

    # --- The chain -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def gibbs(self, x: Tensor, steps: int, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Images after `steps` sweeps of h ~ p(h | v), v ~ p(v | h) from `x`, `(B, *space.shape)`.

        With classes, labels in `context` are held fast; without them each image starts with a label from p(y | x), which then
        moves with it.
        """
        steps = non_negative_integer("RBM.gibbs: steps", steps)
        self._refuse_nan()
        label = context
        if self.classes and context is None:
            label = self._gumbel(self.class_log_probs(x), generator).argmax(1)
        v = self._gibbs(self.visible(x, label), steps, held=context is not None, generator=generator)
        return v[:, : self.space.dim].round().long().view(x.shape)

    def _gibbs(self, v: Tensor, steps: int, *, held: bool = False, generator: torch.Generator | None = None) -> Tensor:
        for _ in range(steps):
            h = bernoulli(self._hidden(v), generator)
            v = self._draw_visible(self.visible_logits(h), v if held else None, generator)
        return v

    def _draw_visible(self, logits: Tensor, held: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Pixels, and a label of K: drawn from its logits too, or as it is in `held`."""
        logits = full_precision(logits)
        if not self.classes:
            return bernoulli(logits, generator)
        pixels, label = logits.split([self.space.dim, self.classes], 1)
        drawn = F.one_hot(self._gumbel(label, generator).argmax(1), self.classes).to(logits.dtype)
        return torch.cat([bernoulli(pixels, generator), drawn if held is None else held[:, self.space.dim :]], 1)

    @staticmethod
    def _gumbel(logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """Logits whose largest is a draw from the softmax."""
        u = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
        return logits - torch.log(-torch.log1p(-u))

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        noise = bernoulli(self._b.new_zeros(n, self.space.dim), generator).long().view(n, *self.space.shape)
        return self.gibbs(noise, self.sweeps, context, generator=generator)

    # --- The normalising constant ----------------------------------------------------------------------------------------

    def log_partition(self, context: Tensor | None = None, *, over_hidden: bool | None = None) -> Tensor:
        """log Z, `()` nats, exact: a sum over every state of one side, in which the other is summed in closed form.

        Args:
            context: labels `(B,)`: of each, log Z(y), the sum over images alone, `(B,)`; log Z(y) - log Z is log p(y).
            over_hidden: which side is enumerated; None takes the smaller.

        Raises:
            ValueError: if that side has more than 25 units.
        """
        if over_hidden is None:
            over_hidden = self.hidden <= self.space.dim
        log_z = self._over_hidden() if over_hidden else self._over_images()  # (classes or 1,)
        return log_z.logsumexp(0) if context is None else log_z @ one_hot(context, self.classes, len(context), log_z, "RBM").T

    def _over_hidden(self) -> Tensor:
        total = []
        for h in all_states(self.hidden, self._b, what=f"log Z of an RBM with {self.space.dim} pixels and {self.hidden} hidden"):
            logits = self.visible_logits(h)  # (P, visible)
            images = h @ self._c + F.softplus(logits[:, : self.space.dim]).sum(1)  # (P,)
            each = images.unsqueeze(1) + logits[:, self.space.dim :] if self.classes else images.unsqueeze(1)
            total.append(each.logsumexp(0))
        return torch.stack(total).logsumexp(0)

    def _over_images(self) -> Tensor:
        total = []
        for v in all_states(
            self.space.dim, self._b, what=f"log Z of an RBM with {self.space.dim} pixels and {self.hidden} hidden"
        ):
            x = v.long().view(-1, *self.space.shape)
            energies = self._free_energies(x) if self.classes else self._free_energy(v).unsqueeze(1)  # (P, classes or 1)
            total.append(torch.logsumexp(-energies, 0))
        return torch.stack(total).logsumexp(0)

    def annealed(self, context: Tensor | None = None, *, base: Tensor | None = None) -> "Annealed":
        """The path of annealing, over states `(n, visible)`; with `context`, one label `()` or `(1,)`, over images of that label.

        Args:
            base: logits of the independent units it starts from, `(visible,)`; None takes those of the training data.
        """
        held = None
        if context is not None:
            held = one_hot(context.view(-1)[:1], self.classes, 1, self._b, "RBM")
        return Annealed(self, full_precision(self.base if base is None else base).to(self._b.dtype), held)

    @torch.no_grad()
    def log_prob_estimate(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As of every energy model; with `context`, log p(x | y), annealed once for each label that occurs."""
        if context is None:
            return super().log_prob_estimate(x, samples=samples, generator=generator)
        log_p = -self.free_energy(x, context)
        for label in context.unique():
            log_z = self.estimate_log_partition(label, chains=samples, generator=generator).log_z
            log_p = torch.where(context == label, log_p - log_z, log_p)
        return log_p

    # --- Learning --------------------------------------------------------------------------------------------------------

    def moves(self) -> list[Move]:
        """One move: the data's free energy down, that of the chain's states up. In evaluation mode, `pseudo_nll`.

        That follows the likelihood loosely, and may be best long before the likelihood is. So the recipes let the rate fall to
        zero and keep the last weights (`keep_best=False`).
        """
        return [Move("pcd" if self.chains else "cd", self.contrast, self.parameters())]

    def contrast(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """F(x) less the mean of F over the states that k Gibbs steps lead to, `(B,)`; no gradient flows through these.

        The gradient is exact for the states drawn: hidden units count with their probabilities, not as draws.
        """
        if not self.training:
            return self.pseudo_nll(x, context)
        with torch.no_grad():
            v = self.visible(x, context)
            if not self._known:
                self._start(v)
            logits = self._hidden(v)  # (B, hidden): the first half of the first step, and of F(v)
            if self.chains:
                dreamt = self._gibbs(full_precision(self.chain), self.k)
                self.chain.copy_(dreamt)
            else:
                dreamt = self._gibbs(self._draw_visible(self.visible_logits(bernoulli(logits))), self.k - 1)
            dreamt_logits = self._hidden(dreamt)
        return _FreeEnergyGap.apply(self._w, self._b, self._c, v, logits, dreamt, dreamt_logits)

    @torch.no_grad()
    def _start(self, v: Tensor) -> None:
        self._known = True
        if bool(self.started) or not len(v):
            self._known = bool(self.started)
            return
        share, n = v.mean(0), len(v)
        base = log_odds(share, n)
        if self.classes:
            base[self.space.dim :] = torch.log(share[self.space.dim :] * n + 1)
        self.base.copy_(base)
        if not bool(self.visible_bias.any()):
            self.visible_bias.copy_(base)
        self.chain.copy_(self._draw_visible(self.base.expand(self.chains, -1)))
        self.started.fill_(True)

    def pseudo_nll(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Minus the sum of log p(v_i | all other pixels), `(B,)` nats: what can be watched without Z (Besag, 1975).

        With a label given, also minus log p(y | x).
        """
        v = self.visible(x, context) if context is not None or not self.classes else None
        if v is None:
            raise ValueError("RBM.pseudo_nll: a model with classes needs labels as its context.")
        logits, total = self._hidden(v), v.new_zeros(len(v))
        now = F.softplus(logits).sum(1)  # (B,)
        for i in range(self.space.dim):
            flip = 1 - 2 * v[:, i]  # (B,): +1 where the pixel is off
            gain = flip * self._b[i] + F.softplus(logits + flip.unsqueeze(1) * self._w[i]).sum(1) - now  # F(v) - F(flipped)
            total = total + F.softplus(gain)  # -log p(v_i | rest) = log(1 + exp(F(v) - F(flipped)))
        if context is None:
            return total
        return total - self.class_log_probs(x).gather(1, context.long().unsqueeze(1)).squeeze(1)


class _FreeEnergyGap(torch.autograd.Function):
    """F(v) less the mean of F over dreamt states, `(B,)`, both with the hidden logits that Gibbs sampling left behind.

    So the backward pass is the learning rule and nothing else: statistics of the dream less those of the data.
    """

    @staticmethod
    def forward(
        ctx: Any, w: Tensor, b: Tensor, c: Tensor, v: Tensor, logits: Tensor, dreamt: Tensor, dreamt_logits: Tensor
    ) -> Tensor:
        ctx.save_for_backward(v, logits, dreamt, dreamt_logits)
        energy = -(v @ b) - F.softplus(logits).sum(1)
        dreamt_energy = -(dreamt @ b) - F.softplus(dreamt_logits).sum(1)
        return energy - dreamt_energy.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        v, logits, dreamt, dreamt_logits = ctx.saved_tensors
        seen = -gradient.unsqueeze(1) * torch.sigmoid(logits)  # (B, hidden)
        dream = gradient.sum() / len(dreamt)  # every state of the dream has the same share
        imagined = dream * torch.sigmoid(dreamt_logits)
        w = torch.mm(v.T, seen).addmm_(dreamt.T, imagined)
        return w, dream * dreamt.sum(0) - gradient @ v, seen.sum(0) + imagined.sum(0), None, None, None, None


@dataclass
class Annealed:
    """The path from independent units to an RBM, hidden units summed out (Salakhutdinov and Murray, 2008, Section 3).

        log f(v) = ((1 - beta) base + beta b).v + sum_j log(1 + exp(beta (c + v W)_j))

    Args:
        base: logits of the visible units at beta = 0, where each hidden unit counts twice: log Z has `hidden * log 2`.
        held: a label `(1, classes)` held fast, or None.
    """

    model: RBM
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


_PCD = {"batch_size": 100, "lr": 0.1, "schedule": linear, "optimizer": partial(sgd, decay=1e-3), "keep_best": False}
RECIPES = (
    Recipe(
        "binary_digits",
        data="binary_digits",
        options={"hidden": 64, "chains": 100},
        fit={"steps": 30_000, **_PCD},
        band=17.0,
        samples=100,
    ),
    Recipe(
        "binary_digits_exact",
        data="binary_digits",
        options={"hidden": 20, "chains": 100},
        fit={"steps": 30_000, **_PCD, "optimizer": sgd},
        band=18.2,
        samples=100,
    ),
    Recipe(
        "binary_digits_200",
        data="binary_digits",
        options={"hidden": 200, "chains": 100, "temperatures": 5000},
        fit={"steps": 20_000, **_PCD},
        band=16.6,
        samples=100,
    ),
    Recipe(
        "binary_digits_labels",
        data="binary_digits",
        options={"hidden": 64, "chains": 100, "classes": 10},
        fit={"steps": 30_000, **_PCD, "conditional": True},
        metric="nll",
        samples=100,
    ),
    Recipe(
        "binarized_mnist",
        data="binarized_mnist",
        options={"hidden": 500, "k": 25, "temperatures": 10_000},
        fit={"steps": 200_000, "batch_size": 100, "lr": 0.05, "schedule": linear, "optimizer": sgd, "keep_best": False},
        band=90.0,
        samples=100,
        needs="one GPU, half an hour",
    ),
)
