"""MADE, the masked autoencoder for distribution estimation (Germain, Gregor, Murray and Larochelle, 2015,
https://arxiv.org/abs/1502.03509).

An ordinary autoencoder becomes autoregressive when every path from input j to output i with j >= i is cut. Give every
unit a degree: pixel i its place in the ordering, 1 .. D, each hidden unit a number in 1 .. D - 1: how many pixels of the
ordering it may know. A connection stays where knowledge only grows (Eqs. 12 and 13 of the paper):

    into a hidden unit      mask = 1 if degree(to) >= degree(from)
    into an output          mask = 1 if degree(to) >  degree(from)

One pass then gives all D conditionals. The same weights may serve many masks: other hidden degrees, and other orderings
of the pixels. Their average is again a distribution, p(x) = 1/M sum_m p_m(x), and a better one than most of its terms.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from gencourse.arguments import positive_integer, probability, widths
from gencourse.autoregressive.flat import FlatAutoregressive
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine


class MaskedLinear(nn.Linear):
    """A linear layer whose mask is given with its input. It multiplies at use: no mask ever changes a weight."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """`(B, in)`, `(out, in)` -> `(B, out)`."""
        return F.linear(x, self.weight * mask, self.bias)


class MADE(FlatAutoregressive):
    """A MADE with rectified hidden units.

    With several masks it is the mixture of their distributions: `log_prob` averages their probabilities, `sample` takes
    one of them for each image. `conditionals` and `order` are those of one mask, the first, or inside
    `with model.using(k):` the k-th; so everything said about a single MADE holds there for each of them.

    Args:
        space: images of integers.
        hidden: the widths of the hidden layers.
        masks: how many sets of masks share the weights.
        orderings: the orders in which the masks take the pixels, used in turn. A number: the natural order (row by row)
            and others drawn at random; or the orders themselves, permutations of 0 .. D-1. By default one a mask.
        dropout: the probability with which a hidden unit is left out in training.
        direct: connect the inputs to the outputs too, masked like the rest.
        seed: of the degrees and the random orderings.

    Attributes:
        degrees: `(masks, D + sum(hidden))`, of the pixels and then of each hidden layer's units.
    """

    degrees: Tensor

    def __init__(
        self,
        space: Space,
        *,
        hidden: tuple[int, ...] = (500,),
        masks: int = 1,
        orderings: int | Sequence[Sequence[int]] | None = None,
        dropout: float = 0.0,
        direct: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(space)
        self.hidden, self.masks = widths("MADE: hidden", hidden), positive_integer("MADE: masks", masks)
        self.dropout, self.active = probability("MADE: dropout", dropout), 0
        generator = torch.Generator().manual_seed(seed)
        with torch.device("cpu"):  # where the generator is, whatever torch's default device
            orders = self._orders(self.masks if orderings is None else orderings, generator)
            drawn = torch.stack([self._draw_degrees(orders[k % len(orders)], generator) for k in range(self.masks)])
        sizes = (space.dim, *self.hidden)
        self.layers = nn.ModuleList(MaskedLinear(before, after) for before, after in pairwise(sizes))
        self.output = MaskedLinear(sizes[-1], space.dim * self.outputs)
        self.register_buffer("degrees", drawn.to(self.output.weight.device), persistent=False)
        self.direct = MaskedLinear(space.dim, space.dim * self.outputs, bias=False) if direct else None
        self._latest: tuple[tuple, list[Tensor]] | None = None

    @property
    def order(self) -> Tensor:
        """The order of the mask in use, `(D,)` flat indices."""
        return self.degrees[self.active, : self.space.dim].argsort().cpu()

    @contextmanager
    def using(self, mask: int) -> Iterator[None]:
        """Inside the block, `conditionals` and `order` are those of this mask."""
        if not 0 <= mask < self.masks:
            raise ValueError(f"MADE: there are masks 0..{self.masks - 1}, no mask {mask}.")
        before, self.active = self.active, mask
        try:
            yield
        finally:
            self.active = before

    def connections(self) -> list[Tensor]:
        """The masks in use, of the weights' type: of each hidden layer `(to, from)`, of the output, of the direct weights."""
        weight = self.output.weight
        key = (self.active, weight.device, weight.dtype)
        if self._latest is None or self._latest[0] != key:  # only the latest are kept: they are as large as the weights
            with torch.inference_mode(False):  # what is made in inference mode could never serve in training
                pixels, *hidden = self.degrees[self.active].split((self.space.dim, *self.hidden))
                masks = [after[:, None] >= before for before, after in pairwise([pixels, *hidden])]
                masks += [(pixels[:, None] > before).repeat_interleave(self.outputs, 0) for before in (hidden[-1], pixels)]
                self._latest = key, [mask.to(weight.dtype) for mask in masks]
        return self._latest[1]

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """All conditionals of the mask in use, batch `(B, *space.shape)`, in one pass."""
        self._unconditional(context)
        *masks, to_output, past = self.connections()
        h = inputs = self.unit(x)  # (B, D)
        for layer, mask in zip(self.layers, masks, strict=True):
            h = F.dropout(F.relu(layer(h, mask)), self.dropout, self.training)
        logits = self.output(h, to_output)  # (B, D * outputs)
        if self.direct is not None:
            logits = logits + self.direct(inputs, past)
        return self.distribution(logits.view(len(x), self.space.dim, self.outputs))

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The exact log-probability, `(B,)` nats; of the mixture, where there are several masks."""
        if self.masks == 1:
            return super().log_prob(x, context)
        each = []
        for k in range(self.masks):
            with self.using(k):
                each.append(super().log_prob(x, context))
        return torch.logsumexp(torch.stack(each), 0) - math.log(self.masks)

    def moves(self) -> list[Move]:
        """Lower the negative log-likelihood of one mask a batch, drawn at random; that of the mixture in validation.

        The mask comes from torch's own generator, which `fit` seeds by the step: a resumed run draws the same ones.
        """

        def nll(x: Tensor, context: Tensor | None = None) -> Tensor:
            if not self.training:
                return -self.log_prob(x, context)
            with self.using(int(torch.randint(self.masks, ())) if self.masks > 1 else 0):
                return -super(MADE, self).log_prob(x, context)

        return [Move("nll", nll, self.parameters())]

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        given: Tensor | None = None,
        mask: Tensor | None = None,
        cached: bool = True,
    ) -> Tensor:
        """Draw `n` images, `(n, *space.shape)`, as in `Autoregressive.sample`, each with a mask of its own, drawn at random."""
        if self.masks == 1:
            return super().sample(n, context, generator=generator, given=given, mask=mask, cached=cached)
        with self.evaluation(n):
            kept, known = self._known(n, given, mask)  # (n, D) each
            which = torch.randint(self.masks, (n,), generator=generator, device=self.device)
            x = torch.empty(n, *self.space.shape, dtype=torch.long, device=self.device)
            for k in which.unique().tolist():
                rows = which == k
                parts = {} if mask is None else {"given": kept[rows].view_as(x[rows]), "mask": known[rows].view_as(x[rows])}
                with self.using(k):
                    x[rows] = super().sample(int(rows.sum()), context, generator=generator, cached=cached, **parts)
            return x

    def start_cache(self, n: int, context: Tensor | None = None) -> "_Growing":
        """The hidden units that are final: drawing an image with them costs as much as one pass, not D of them."""
        self._unconditional(context)
        return _Growing(self, n)

    def _orders(self, orderings: int | Sequence[Sequence[int]], generator: torch.Generator) -> list[Tensor]:
        dim = self.space.dim
        if not isinstance(orderings, Iterable):
            count = positive_integer("MADE: orderings, unless they are the orders themselves,", orderings)
            return [super().order, *(torch.randperm(dim, generator=generator) for _ in range(count - 1))]
        orders = [torch.as_tensor(list(order), dtype=torch.long) for order in orderings]
        if not orders or any(not torch.equal(order.sort().values, torch.arange(dim)) for order in orders):
            raise ValueError(f"MADE: each of the orderings must be a permutation of 0..{dim - 1}.")
        return orders

    def _draw_degrees(self, order: Tensor, generator: torch.Generator) -> Tensor:
        """Degrees of the pixels, their places in the order; and of hidden units, spread evenly over 1 .. D - 1 and shuffled.

        The paper draws the latter independently, which leaves some degrees out by chance, and those pixels less seen.
        """
        degrees = [order.argsort() + 1]
        for width in self.hidden:
            even = torch.arange(width) * (self.space.dim - 1) // width + 1
            degrees.append(even[torch.randperm(width, generator=generator)])
        return torch.cat(degrees)


class _Growing:
    """Hidden units become final, layer by layer, as pixels become known: those of degree t with the t-th pixel.

    Pixels and units that are not final are zero, so no weight needs its mask; and each is used once an image.
    """

    def __init__(self, model: MADE, n: int) -> None:
        dim, like, top = model.space.dim, model.output.bias, model.levels - 1
        degrees = model.degrees[model.active].split((dim, *model.hidden))
        self.h = [like.new_zeros(n, len(d)) for d in degrees]  # the first is the pixels, as grey levels
        self.layers: list[dict[int, tuple[Tensor, ...]]] = []  # of each, by degree: the units that have it, weights, biases
        for layer, d in zip(model.layers, degrees[1:], strict=True):
            units, (present, counts) = d.argsort(), d.unique(return_counts=True)
            weight, bias = layer.weight[units], layer.bias[units]  # type: ignore[index]
            if not self.layers:
                weight /= top  # so that no pixel need be
            parts = zip(*(part.split(counts.tolist()) for part in (units, weight, bias)), strict=True)
            self.layers.append(dict(zip(present.tolist(), parts, strict=True)))
        self.seen, V = self.h[-1], model.output.weight  # what the outputs see: the last units, and the pixels where they may
        if model.direct is not None:
            self.seen, V = torch.cat([self.h[0], self.seen], dim=1), torch.cat([model.direct.weight, V], dim=1)
            V[:, :dim] /= top
            self.h[0], self.h[-1] = self.seen[:, :dim], self.seen[:, dim:]
        self.V, self.b = V.view(dim, model.outputs, -1), like.view(dim, model.outputs)
        self.t, self.previous = 0, -1

    def logits(self, x: Tensor, i: int) -> Tensor:
        if self.t:
            self.h[0][:, self.previous] = x.flatten(1)[:, self.previous]
        for layer, below, above in zip(self.layers, self.h, self.h[1:], strict=False):
            if self.t in layer:
                units, weight, bias = layer[self.t]
                above.index_copy_(1, units, F.relu(F.linear(below, weight, bias)).to(above.dtype))
        self.t, self.previous = self.t + 1, i
        return F.linear(self.seen, self.V[i], self.b[i])


_DIGITS = {"batch_size": 100, "lr": 3e-3, "schedule": cosine, "ema": 0.999}

RECIPES = (
    Recipe("binary_digits", "binary_digits", {"dropout": 0.5}, {"steps": 3000, **_DIGITS}, band=17.6, quick=True),
    Recipe(
        "binary_digits_ensemble",
        "binary_digits",
        {"hidden": (500, 500), "masks": 8, "dropout": 0.5},
        {"steps": 5000, **_DIGITS},
        band=17.4,
    ),
    Recipe(
        "binarized_mnist",
        "binarized_mnist",
        {"hidden": (8000, 8000), "masks": 32},
        {"steps": 25_000, "batch_size": 512, "lr": 5e-4, "schedule": cosine, "ema": 0.999},
        band=87.0,
        needs="a GPU, ten minutes",
    ),
)
