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

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.arguments import non_negative_integer, positive_integer
from gencourse.markov.base import EnergyModel, bernoulli, log_odds, one_of
from gencourse.markov.rbm_likelihood import Annealed, exact_log_partition, pseudo_nll
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

    def _free_energy(self, v: Tensor, logits: Tensor | None = None) -> Tensor:
        return -(v @ self._b) - F.softplus(self._hidden(v) if logits is None else logits).sum(1)

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
        label = one_of(self.class_log_probs(x), generator) if self.classes and context is None else context
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
        drawn = F.one_hot(one_of(label, generator), self.classes).to(logits.dtype)
        return torch.cat([bernoulli(pixels, generator), drawn if held is None else held[:, self.space.dim :]], 1)

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
        log_z = exact_log_partition(
            self, self.hidden <= self.space.dim if over_hidden is None else over_hidden
        )  # (classes or 1,)
        return log_z.logsumexp(0) if context is None else log_z @ one_hot(context, self.classes, len(context), log_z, "RBM").T

    def annealed(self, context: Tensor | None = None, *, base: Tensor | None = None) -> Annealed:
        """The path of annealing, over states `(n, visible)`; with `context`, one label `()` or `(1,)`, over images of that label.

        Args:
            base: logits of the independent units it starts from, `(visible,)`; None takes those of the training data.
        """
        held = None if context is None else one_hot(context.view(-1)[:1], self.classes, 1, self._b, "RBM")
        return Annealed(self, full_precision(self.base if base is None else base).to(self._b.dtype), held)

    # --- Learning --------------------------------------------------------------------------------------------------------

    def moves(self) -> list[Move]:
        """One move: the data's free energy down, that of the chain's states up. In evaluation mode, `pseudo_nll`.

        That follows the likelihood loosely, and may be best long before the likelihood is. So the recipes let the rate fall to
        zero and keep the last weights (`keep_best=False`).
        """
        return [Move("pcd" if self.chains else "cd", self.contrast, self.parameters(), gradient=self.contrast_and_gradient)]

    def contrast(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """F(x) less the mean of F over the states that k Gibbs steps lead to, `(B,)`; no gradient flows through these.

        The gradient is exact for the states drawn: hidden units count with their probabilities, not as draws.
        """
        if not self.training:
            return self.pseudo_nll(x, context)
        v, _, dreamt = self._dream(x, context)
        return self._free_energy(v) - self._free_energy(dreamt).mean()

    @torch.no_grad()
    def contrast_and_gradient(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The mean of `contrast`, `()`, and its gradient by what learns: statistics of the dream less those of the data.

        The same as autograd's in less time: F, its gradient and Gibbs sampling share the hidden units' logits.
        """
        v, logits, dreamt = self._dream(x, context)
        dreamt_logits = self._hidden(dreamt)
        loss = (self._free_energy(v, logits) - self._free_energy(dreamt, dreamt_logits).mean()).mean()
        share = v.new_full((len(v),), 1 / len(v))  # of each image in the mean
        seen = -share.unsqueeze(1) * torch.sigmoid(logits)  # (B, hidden)
        imagined = torch.sigmoid(dreamt_logits) * (share.sum() / len(dreamt))
        with torch.autocast(v.device.type, enabled=False):  # sums over images stay in full precision
            weight = torch.mm(v.T, seen).addmm_(dreamt.T, imagined)
            visible_bias = dreamt.sum(0) * (share.sum() / len(dreamt)) - share @ v
        gradient = (weight, visible_bias, seen.sum(0) + imagined.sum(0))
        return loss, [g for p, g in zip(self.parameters(), gradient, strict=True) if p.requires_grad]

    @torch.no_grad()
    def _dream(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The visible units of the data, their hidden logits, and the states that k Gibbs steps lead to."""
        v = self.visible(x, context)
        self._start(v)
        logits = self._hidden(v)  # (B, hidden): the first half of the first step, and of F(v)
        if self.chains:
            dreamt = self._gibbs(full_precision(self.chain), self.k)
            self.chain.copy_(dreamt)
        else:
            dreamt = self._gibbs(self._draw_visible(self.visible_logits(bernoulli(logits))), self.k - 1)
        return v, logits, dreamt

    def _start(self, v: Tensor) -> None:
        self._known = self._known or bool(self.started)
        if self._known or not len(v):
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
        self._known = True

    def pseudo_nll(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Minus the sum of log p(v_i | all other pixels), `(B,)` nats: what can be watched without Z (Besag, 1975).

        With a label given, also minus log p(y | x).
        """
        if self.classes and context is None:
            raise ValueError("RBM.pseudo_nll: a model with classes needs labels as its context.")
        total = pseudo_nll(self, self.visible(x, context))
        return total if context is None else total - self.class_log_probs(x).gather(1, context.long().unsqueeze(1)).squeeze(1)


_PCD = {"batch_size": 100, "lr": 0.1, "schedule": linear, "optimizer": partial(sgd, decay=1e-3), "keep_best": False}
_LONG = {"steps": 30_000, **_PCD}
_WIDE, _LABELLED = {"hidden": 200, "chains": 100, "temperatures": 5000}, {"hidden": 64, "chains": 100, "classes": 10}
RECIPES = (
    Recipe("binary_digits", "binary_digits", {"hidden": 64, "chains": 100}, _LONG, band=17.0, samples=100),
    Recipe(
        "binary_digits_exact", "binary_digits", {"hidden": 20, "chains": 100}, {**_LONG, "optimizer": sgd}, band=18.2, samples=100
    ),
    Recipe("binary_digits_200", "binary_digits", _WIDE, {**_PCD, "steps": 20_000}, band=16.6, samples=100),
    Recipe("binary_digits_labels", "binary_digits", _LABELLED, {**_LONG, "conditional": True}, samples=100),
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
