"""Generative stochastic networks (Bengio et al., 2014, https://arxiv.org/abs/1306.1091): learn the step of a Markov chain.

    x~ ~ C(x~ | x)              corruption: noise that somebody chose, such as salt and pepper
    x' ~ P_theta(x' | x~)       reconstruction: a network's guess at what was there, drawn and not averaged

The two make one step, x -> x~ -> x'. Only the second is learned, as an ordinary prediction: lower -log P_theta(x | x~) for
data x that one has spoiled oneself. Where the reconstruction is Bayes' posterior, the chain's stationary law is the data's
distribution, whatever the noise (Eq. (12.5) of the book; Bengio et al., 2013, https://arxiv.org/abs/1305.6663).

A network that gives each pixel a distribution of its own cannot be that posterior, and far from the data it has seen nothing.
`walkback` lets the chain walk a few steps in training and asks for the original x from wherever it has got to.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from gencourse.arguments import non_negative_integer, positive_integer, widths
from gencourse.distributions import pixel_by_pixel, sample
from gencourse.kinds import Implicit
from gencourse.markov.chains import trajectory
from gencourse.markov.corruption import Corruption, GaussianNoise, SaltAndPepper
from gencourse.networks import full_precision, mlp
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine


class GSN(Implicit):
    """A chain of reconstructions, whose step is learned and whose stationary law is the model.

    The reconstruction's distribution follows from the space, a pixel at a time: Bernoulli on two levels, a discretised
    logistic on more, a Gaussian on points; the scale of the last two is learned.

    Args:
        space: images of integers, or points.
        corruption: the noise C, a function `(x, space, generator) -> x~`; None takes `SaltAndPepper(0.1)` on grey levels and
            `GaussianNoise(0.3)` on points.
        network: a module from the noisy example, scaled to [-1, 1], `(B, D) -> (B, D)`: logits on two levels, means on points;
            None takes a fully connected one.
        hidden: widths of its hidden layers.
        walkback: how many further steps the chain walks in training; 0 is plain denoising.
        burn_in: the steps that `sample` takes from pure noise.
        activation: the class of the hidden units.
    """

    def __init__(
        self,
        space: Space,
        *,
        corruption: Corruption | None = None,
        network: nn.Module | None = None,
        hidden: tuple[int, ...] = (300, 300),
        walkback: int = 0,
        burn_in: int = 200,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__(space)
        if corruption is not None and not callable(corruption):
            raise TypeError(f"GSN: corruption must be a function such as SaltAndPepper(0.1), not {corruption!r}.")
        self.corruption = corruption or (SaltAndPepper(0.1) if space.is_discrete else GaussianNoise(0.3))
        self.walkback = non_negative_integer("GSN: walkback", walkback)
        self.burn_in = positive_integer("GSN: burn_in", burn_in)
        hidden = widths("GSN: hidden", hidden)
        self.network = network or mlp(space.dim, hidden, space.dim, activation)
        if space.levels != 2:
            self.log_scale = nn.Parameter(torch.full(space.shape, -1.0))

    def corrupt(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """x~ from C(x~ | x), the shape of `x`.

        Raises:
            TypeError, ValueError: if the kind or shape of `x`, or of what the corruption makes of it, is not the space's.
        """
        noisy = self.corruption(self.space.validate(x, values=False), self.space, generator)
        if noisy.shape != x.shape:
            raise ValueError(f"GSN: the corruption must keep the shape {tuple(x.shape)}, but gave {tuple(noisy.shape)}.")
        return noisy

    def reconstruct(self, noisy: Tensor) -> Independent:
        """P(x | x~), a factor for each pixel: batch `(B,)`, event `space.shape`.

        Raises:
            TypeError, ValueError: if the kind or shape of `noisy` is not the space's, or the network gives another shape.
        """
        noisy = self.space.validate(noisy, values=False)
        dtype = next(self.network.parameters()).dtype
        out = full_precision(self.network(self.space.to_signed(noisy.flatten(1), dtype)))
        if out.shape != (len(noisy), self.space.dim):
            raise ValueError(f"GSN: the network must give ({len(noisy)}, {self.space.dim}) numbers, not {tuple(out.shape)}.")
        out = out.view(len(noisy), *self.space.shape)  # (B, *space.shape)
        return pixel_by_pixel(out, self.space, getattr(self, "log_scale", None))

    @torch.no_grad()
    def step(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """One step of the chain, x -> x~ -> x': both are drawn; `(B, *space.shape)`, in evaluation mode."""
        with self.evaluation():
            return self._step(x, generator)

    @torch.no_grad()
    def chain(self, x: Tensor, steps: int, *, generator: torch.Generator | None = None) -> Tensor:
        """The states after each of `steps` steps from `x`, one chain an example: `(B, steps, *space.shape)`."""
        with self.evaluation():
            return trajectory(partial(self._step, generator=generator), x, steps)

    @torch.no_grad()
    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Where a chain that knows no data begins: `n` examples of independent, uniform pixels, or of N(0, I)."""
        shape = (n, *self.space.shape)
        if self.space.levels is None:
            weight = full_precision(next(self.parameters()))
            return torch.randn(shape, generator=generator, device=self.device, dtype=weight.dtype)
        return torch.randint(self.space.levels, shape, generator=generator, device=self.device)

    def denoising_nll(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """What training lowers: `-log P(x | x~)`, `(B,)` nats, the mean over the walk (Eq. (12.3) of the book).

        The walk is x~_0 from C(. | x), then `walkback` times a step of the chain: x_k from P(. | x~_(k-1)), x~_k from C(. | x_k).
        The target is the x that it began with, at every step. No gradient goes through what is drawn.
        """
        state, total = x, torch.zeros((), device=x.device)
        for k in range(self.walkback + 1):
            guess = self.reconstruct(self.corrupt(state, generator=generator))
            total = total - guess.log_prob(self._as_value(x))
            if k < self.walkback:
                with torch.no_grad():
                    state = sample(guess, generator=generator)
        return total / (self.walkback + 1)

    def moves(self) -> list[Move]:
        """One move: lower `denoising_nll`. It is not validated, for it judges a step, and the model is the chain's limit."""

        def denoise(x: Tensor, context: Tensor | None = None) -> Tensor:
            self._unconditional(context)
            return self.denoising_nll(x)

        return [Move("denoising", denoise, self.parameters(), validate=False)]

    def _step(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return sample(self.reconstruct(self.corrupt(x, generator=generator)), generator=generator)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        self._unconditional(context)
        x = self.noise(n, generator=generator)
        for _ in range(self.burn_in):
            x = self._step(x, generator)
        return x

    def _as_value(self, x: Tensor) -> Tensor:
        return full_precision(x.to(next(self.network.parameters()).dtype))


RECIPES = (
    Recipe(
        "binary_digits",
        data="binary_digits",
        options={"corruption": SaltAndPepper(0.05), "walkback": 3},
        fit={
            "steps": 1500,
            "batch_size": 100,
            "lr": 3e-3,
            "schedule": cosine,
            "ema": 0.995,
            "optimizer": partial(torch.optim.AdamW, weight_decay=0.01),
        },
        metric="frechet_ratio",
        band=2.0,
        samples=1080,
        quick=True,
    ),
    Recipe(
        "mnist",
        data="mnist",
        options={"corruption": SaltAndPepper(0.4), "hidden": (2000, 2000), "walkback": 5},
        fit={"steps": 100_000, "batch_size": 100, "lr": 1e-3, "schedule": cosine, "ema": 0.9999},
        metric="frechet_ratio",
        samples=1000,
        needs="one GPU, ten minutes",
    ),
)
