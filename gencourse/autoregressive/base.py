"""What all autoregressive models share: the chain rule, p(x) = prod_i p(x_i | x_1 .. x_{i-1}), read in both directions.

A model says its `conditionals`, all of them at once for a given image. Training reads them as a likelihood; sampling
draws them one by one. Because both follow from the same method, they cannot disagree.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution

from gencourse.kinds import Tractable
from gencourse.space import Space


class Cache(Protocol):
    """Earlier activations, kept while an image is drawn."""

    def logits(self, x: Tensor, i: int) -> Tensor:
        """What `inverse_cdf` draws pixel `i` (a flat index) from, `(n, 1)` or `(n, levels)`.

        Called once for every i in the model's order, known pixels included; when it is called, all earlier pixels of
        `x` are final and the later ones are zero.
        """
        ...


class Autoregressive(Tractable):
    """A product of conditionals, one a pixel (and colour channel), in a fixed order.

    Subclasses implement `conditionals`, and `start_cache` if activations can be kept between pixels.
    """

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        if space.levels is None:
            raise ValueError(f"{type(self).__name__} needs grey levels, but {space} is real-valued.")
        self.levels: int = space.levels

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """The conditionals p(x_i | x_<i) of all pixels, each given the earlier pixels of `x`: batch `(B, *space.shape)`."""
        raise TypeError(f"{type(self).__name__} must implement conditionals.")

    @property
    def order(self) -> Tensor:
        """The order of the chain rule: flat indices of `(C, H, W)`, `(D,)`, on the CPU.

        By default row by row from the top left corner, and red, green, blue within a pixel.
        """
        index = torch.arange(self.space.dim, device="cpu").view(self.space.shape[0], -1)  # (C, H*W)
        return index.T.flatten()

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The exact log-probability, `(B,)` nats: the conditionals' logarithms, summed over pixels and channels.

        Raises:
            TypeError, ValueError: if the kind or shape of `x` is not the space's. Its values are not looked at: `fit` and `nll`
                do, and `space.validate(x)`.
        """
        self.space.validate(x, values=False)
        return log_prob_of(self.conditionals(x, context), x).flatten(1).sum(1)

    def start_cache(self, n: int, context: Tensor | None = None) -> Cache | None:
        """What keeps activations while `n` images are drawn; None if the model keeps none."""
        return None

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
        """Draw `n` images, pixel by pixel, `(n, *space.shape)` int64.

        Args:
            n: how many.
            context: conditions, one an image.
            generator: of the one uniform number that each pixel takes; the same generator gives the same images,
                cached or not, but for ties within rounding.
            given, mask: complete these images, `(n, *shape)` or `(1, *shape)`: where the mask, broadcast to them, is
                True, their pixels are kept. (Only earlier pixels influence a drawn one: this is not the posterior
                given all the known pixels, unless they come first in the order.)
            cached: reuse earlier activations, where the model can; False computes all conditionals anew for each pixel,
                as on slide 28.

        Raises:
            ValueError: if only one of `given` and `mask` is there, or they do not fit.
            FloatingPointError: if the model's probabilities are NaN, as those of NaN weights are.
        """
        with self.evaluation(n):
            x = torch.zeros(n, *self.space.shape, dtype=torch.long, device=self.device)
            pixels = x.view(n, self.space.dim).split(1, dim=1)  # D x (n, 1), parts of x
            u = torch.rand(n, self.space.dim, generator=generator, device=self.device).split(1, dim=1)  # one number a pixel
            kept, known = self._known(n, given, mask)
            with torch.inference_mode():  # notes less than `no_grad` at each of many small operations, and is a sixth faster
                cache = self.start_cache(n, context) if cached and n else None
                largest = torch.zeros(n, 1, device=self.device)
                for i in self.order.tolist():
                    if cache is not None:
                        logits = cache.logits(x, i)
                    elif not bool(known[:, i].all()):
                        logits = logits_of(self.conditionals(x, context), i)
                    else:  # nothing to draw, nothing to remember
                        pixels[i].copy_(kept[:, i : i + 1])
                        continue
                    largest = torch.maximum(largest, logits)  # NaN once one of them is
                    pixels[i].copy_(inverse_cdf(logits, u[i]))
                    if mask is not None:
                        pixels[i].copy_(torch.where(known[:, i : i + 1], kept[:, i : i + 1], pixels[i]))
            if bool(largest.isnan().any()):
                name = type(self).__name__
                raise FloatingPointError(f"{name}.sample: the probabilities are NaN; are all the model's weights finite numbers?")
            return x

    def _known(self, n: int, given: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The pixels to keep and where they are, `(n, D)` each."""
        if (given is None) != (mask is None):
            raise ValueError(f"{type(self).__name__}.sample: completing images takes both `given` and `mask`.")
        if given is None or mask is None:
            nothing = torch.zeros(n, self.space.dim, dtype=torch.long, device=self.device)
            return nothing, nothing.bool()
        self.space.validate(given)
        shape = (n, *self.space.shape)
        try:
            kept, known = given.to(self.device).long().expand(shape), mask.to(self.device).bool().expand(shape)
        except RuntimeError:
            raise ValueError(
                f"{type(self).__name__}.sample: `given` {tuple(given.shape)} and `mask` {tuple(mask.shape)} "
                f"must broadcast to {shape}."
            ) from None
        return kept.reshape(n, -1), known.reshape(n, -1)


def log_prob_of(conditionals: Distribution, x: Tensor) -> Tensor:
    """Log-probabilities of the pixels of `x` under their conditionals, `(B, *shape)` nats."""
    value = x.to(conditionals.logits.dtype) if isinstance(conditionals, Bernoulli) else x
    return conditionals.log_prob(value)


def logits_of(conditionals: Distribution, i: int) -> Tensor:
    """What `inverse_cdf` draws pixel `i` (a flat index) from: a Bernoulli's logit, `(B, 1)`, or log-masses, `(B, levels)`."""
    if isinstance(conditionals, Bernoulli):
        return conditionals.logits.flatten(1)[:, i : i + 1]
    if isinstance(conditionals, Categorical):
        return conditionals.logits.flatten(1, -2)[:, i]
    return conditionals.log_masses(i)  # type: ignore[attr-defined]


def log_masses_of(conditionals: Distribution, i: int) -> Tensor:
    """Log-probabilities of every level of pixel `i` (a flat index), `(B, levels)`."""
    logits = logits_of(conditionals, i)
    return F.logsigmoid(torch.cat([-logits, logits], dim=-1)) if logits.shape[-1] == 1 else logits


def inverse_cdf(logits: Tensor, u: Tensor) -> Tensor:
    """The level at which the cumulative probability first exceeds u: `(B, 1)` or `(B, levels)`, `(B, 1)` -> `(B, 1)`.

    Args:
        logits: log-probabilities of the levels, up to a constant; or, of two levels, log p(1)/p(0) alone.
        u: uniform on [0, 1).
    """
    if logits.shape[-1] == 1:
        return u >= torch.sigmoid(-logits.float())
    cumulative = logits.double().softmax(-1).cumsum(-1)  # rounding differs between ways to compute; double hides most of it
    return (u.double() * cumulative[:, -1:] >= cumulative[:, :-1]).sum(-1, keepdim=True)
