"""Denoising diffusion probabilistic models (Ho, Jain and Abbeel, 2020, https://arxiv.org/abs/2006.11239; Sohl-Dickstein et al.,
2015).

    q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I)       noise is added, by a rule that nobody has to learn
    p(x_(t-1) | x_t) = N(mu(x_t, t), sigma_t^2 I)            a network takes it away, a little at a time

It is a hierarchical VAE whose T latents have the size of the data and whose encoder is fixed. So it has the VAE's bound:

    -log p(x_0) <= KL(q(x_T | x_0) || N(0, I)) + sum_(t=2)^T E KL(q(x_(t-1) | x_t, x_0) || p(x_(t-1) | x_t)) - E log p(x_0 | x_1)

Every KL is between Gaussians. mu is the mean of q(x_(t-1) | x_t, x_0) with the network's guess in the place of x_0, and a guess
of x_0 is one of the noise. Without the factors in front of its terms the bound is the loss that gives the better pictures:

    E_(t, eps) |eps - eps(sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, t)|^2
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from gencourse.arguments import positive, positive_integer, probability
from gencourse.data.toys import Checkerboard
from gencourse.diffusion.batches import even_times, hide_labels, label_rows
from gencourse.diffusion.guidance import NoisyClassifier, classifier_free, classifier_guided
from gencourse.diffusion.likelihood import DiscretizedNormal, flow_log_density
from gencourse.diffusion.networks import UNet, made
from gencourse.diffusion.samplers import DDIM, Ancestral, Denoiser, Sampler, velocity
from gencourse.diffusion.schedule import Cosine, Curve, Dress, Eps, Linear, Schedule
from gencourse.kinds import Approximate
from gencourse.metrics.likelihood import log_mean_exp
from gencourse.networks import full_precision
from gencourse.recipes import Recipe
from gencourse.solvers import RK4, Solver
from gencourse.space import Space
from gencourse.train import Move, cosine


class Bound(NamedTuple):
    """The terms of the negative bound, nats: `prior` `(B,)`, `steps` `(B, T - 1)` for t = 2 .. T, `reconstruction` `(B,)`."""

    prior: Tensor
    steps: Tensor
    reconstruction: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum, `(B,)`."""
        return self.prior + self.steps.sum(1) + self.reconstruction


class DDPM(Approximate):
    """A chain of T Gaussian steps from noise to data, learned by predicting the noise.

    Grey levels are scaled to [-1, 1], and what the network believes in is clamped there when it samples and is judged.
    p(x_0 | x_1) is a Gaussian: of points as it stands; of images discretised, each level's mass being that of the interval around
    it. So the bound is one on a probability, as every other model's of images is. Uniform dequantisation would make a density of
    them, and pay for placing noise that nobody sees; and x_1 is so near the data that rounding it is next to free.

    Args:
        space: images of integers, or points.
        steps: T.
        curve: the schedule, `Linear()` or `Cosine()`; by default the first for points and the second for images.
        network: a module `(y, u, condition) -> (B, *space.shape)`, with u = t / T, or a function that makes one from
            `(space, classes=)`, such as `partial(UNet, channels=32)`; None takes a `ResidualMLP`.
        hidden, blocks, frequencies: of that `ResidualMLP`.
        classes: how many classes `context` distinguishes, labels `(B,)`; None for an unconditional model.
        drop_label: in training, the probability that a label is hidden, so that one network learns p(x | y) and p(x).
        predicts: what the network says: `Eps`, `X0` or `V`.
        wide: sigma_t^2 is beta_t, which gives the better bound; False takes beta tilde_t, which often gives the better samples.
        sampler: how samples are drawn; None takes the chain's own steps, `Ancestral(wide=wide)`.
        guidance: the weight w of the label in sampling; 1 is p(x | y).
        scale: points are divided by it.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        steps: int = 200,
        curve: Curve | None = None,
        network: nn.Module | Callable[..., nn.Module] | None = None,
        hidden: int = 128,
        blocks: int = 3,
        frequencies: int = 0,
        classes: int | None = None,
        drop_label: float = 0.1,
        predicts: Dress = Eps,
        wide: bool = True,
        sampler: Sampler | None = None,
        guidance: float = 1.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__(space)
        self.schedule = Schedule(positive_integer("DDPM: steps", steps), curve or (Cosine() if space.is_discrete else Linear()))
        self.classes = None if classes is None else positive_integer("DDPM: classes", classes)
        self.drop_label, self.scale = probability("DDPM: drop_label", drop_label), positive("DDPM: scale", scale)
        self.predicts, self.wide, self.guidance = predicts, wide, float(guidance)
        self.sampler: Sampler = sampler or Ancestral(wide=wide)
        self.network = made(network, space, self.classes, hidden=hidden, blocks=blocks, frequencies=frequencies)

    # --- learning

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The simple loss, `(B,)`: the squared error of what the network predicts at a random t, summed over dimensions.

        The times of a batch are spread evenly over 1 .. T, each of them uniform (Kingma et al., 2021).
        """
        y, condition = self.centred(x), label_rows(self, self.classes, context, len(x))
        u = even_times(len(y), y.device)
        t = 1 + (u * self.schedule.T).floor().clamp(max=self.schedule.T - 1)  # (B,)
        condition = hide_labels(condition, self.drop_label)
        eps = torch.randn_like(y)
        signal, noise = self.schedule.amounts(t, y)
        target = self.predicts.of(y, eps, signal, noise)
        said = self._said(signal * y + noise * eps, t, condition)
        return (said - target).square().flatten(1).sum(1)

    def moves(self) -> list[Move]:
        """One move: lower the simple loss."""
        return [Move("denoising", self.loss, self.parameters())]

    # --- judging

    def bound(self, x: Tensor, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> Bound:
        """The terms of the negative bound, nats, each with one x_t drawn from q(x_t | x_0): T evaluations of the network."""
        y, eps = self.centred(x), self.denoiser(context, len(x), guidance=1.0)
        signal, noise = self.schedule.amounts(self.schedule.T, y)
        ratio = noise**2
        prior = 0.5 * ((ratio - 1 - ratio.log()) + (signal * y).square()).flatten(1).sum(1)
        kls = []
        for t in range(2, self.schedule.T + 1):
            xt = self.schedule.q_sample(y, t, _randn(y, generator))
            mean, variance = self.schedule.posterior(y, xt, t)
            guess, sigma2 = self._reverse(eps, xt, t)
            extra = 0.5 * self.space.dim * (variance / sigma2 - 1 - math.log(variance / sigma2))
            kls.append((mean - guess).square().flatten(1).sum(1) / (2 * sigma2) + extra)
        x1 = self.schedule.q_sample(y, 1, _randn(y, generator))
        steps = torch.stack(kls, dim=1) if kls else y.new_zeros(len(y), 0)
        return Bound(prior, steps, -self._given_x1(eps, x1).log_prob(self._value(x)) + self._log_scale)

    def elbo(
        self, x: Tensor, context: Tensor | None = None, *, samples: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """The bound on log p(x), `(B,)` nats: the mean of `samples` unbiased estimates."""
        totals = [self.bound(x, context, generator=generator).total for _ in range(positive_integer("samples", samples))]
        return -torch.stack(totals).mean(0)

    @torch.no_grad()
    def log_prob_estimate(
        self, x: Tensor, context: Tensor | None = None, *, samples: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Importance sampling with whole paths x_1 .. x_T from q, `(B,)` nats: `log 1/K sum_k p(x_(0:T)) / q(x_(1:T) | x_0)`.

        With one path it is the bound, with K = `samples` it tends to log p(x). A path takes T evaluations.
        """
        y, eps = self.centred(x), self.denoiser(context, len(x), guidance=1.0)
        log_weights = []
        for _ in range(positive_integer("samples", samples)):
            signal, noise = self.schedule.amounts(self.schedule.T, y)
            z = _randn(y, generator)
            xt = signal * y + noise * z
            log_w = (0.5 * (z**2 - xt**2) + noise.log()).flatten(1).sum(1)
            for t in range(self.schedule.T, 1, -1):
                mean, variance = self.schedule.posterior(y, xt, t)
                guess, sigma2 = self._reverse(eps, xt, t)
                z = _randn(y, generator)
                xt = mean + math.sqrt(variance) * z
                log_ratio = 0.5 * (z**2 - (xt - guess).square() / sigma2 + math.log(variance / sigma2))
                log_w = log_w + log_ratio.flatten(1).sum(1)
            log_weights.append(log_w + self._given_x1(eps, xt).log_prob(self._value(x)) - self._log_scale)
        return log_mean_exp(torch.stack(log_weights))

    def ode_log_prob(
        self, x: Tensor, context: Tensor | None = None, *, solver: Solver | None = None, guidance: float = 1.0
    ) -> Tensor:
        """The exact log-density of what the probability-flow equation draws, `(B,)` nats, up to the solver's error.

        Args:
            x: points. Of images this density would be one of spikes at the grey levels, and no probability.
            solver: by default `RK4(40)`.
        """
        if self.space.is_discrete:
            raise ValueError(f"ode_log_prob gives densities of points, but {self.space} has grey levels; elbo bounds their mass.")
        field = velocity(self.denoiser(context, len(x), guidance=guidance), self.schedule)
        return flow_log_density(field, self.centred(x), solver or RK4(40)) - self._log_scale

    def decode(self, x1: Tensor, context: Tensor | None = None) -> Independent:
        """p(x_0 | x_1): batch `(B,)`, event `space.shape`; `x1` is scaled as the network sees examples."""
        return self._given_x1(self.denoiser(context, len(x1), guidance=1.0), x1)

    # --- sampling

    def draw_prior(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of x_T from N(0, I), `(n, *space.shape)`."""
        weight = full_precision(next(self.network.parameters()))
        return torch.randn((n, *self.space.shape), generator=generator, device=weight.device, dtype=weight.dtype)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        sampler: Sampler | None = None,
        guidance: float | None = None,
        classifier: NoisyClassifier | None = None,
    ) -> Tensor:
        """Draw `n` examples, `(n, *space.shape)`: the last step adds no noise, and images are rounded to the nearest level.

        Args:
            context: labels `(n,)`; None draws from the model without labels.
            sampler: `Ancestral`, `DDIM`, `ProbabilityFlow`; by default the model's.
            guidance: w; by default the model's.
            classifier: guide by its gradient in place of the difference that the label makes to the network.

        Raises:
            ValueError: if `n` is negative, or the labels are not the model's.
        """
        with self.evaluation(n):
            eps = self.denoiser(context, n, guidance=guidance, classifier=classifier)
            y = (sampler or self.sampler)(eps, self.schedule, self.draw_prior(n, generator=generator), generator=generator)
            return self.to_space(y)

    def denoiser(
        self,
        context: Tensor | None,
        n: int,
        *,
        guidance: float | None = None,
        classifier: NoisyClassifier | None = None,
    ) -> Denoiser:
        """eps(x_t, t) for `n` examples, guided, with the x_0 of images clamped to [-1, 1]; what samplers are given."""
        w = self.guidance if guidance is None else float(guidance)
        condition = label_rows(self, self.classes, None if classifier else context, n)
        none = None if condition is None or context is None else torch.zeros_like(condition)

        def denoiser(xt: Tensor, t: Tensor) -> Tensor:
            signal, noise = self.schedule.amounts(t, xt)
            eps = partial(self._eps, xt, t, signal, noise)
            if classifier is not None:
                said = classifier_guided(eps(condition), classifier.gradient(xt, t / self.schedule.T, context), noise, w)
            elif none is not None and w != 1:
                said = classifier_free(eps(none), eps(condition), w)
            else:
                said = eps(condition)
            if not self.space.is_discrete:
                return said
            x0, _ = Eps.parts(said, xt, signal, noise)
            return (xt - signal * x0.clamp(-1, 1)) / noise

        return denoiser

    # --- from examples to what the network sees, and back

    def centred(self, x: Tensor) -> Tensor:
        """The examples as the network sees them: grey levels scaled to [-1, 1], points divided by `scale`."""
        y = self.space.to_signed(self.space.validate(x, values=False), next(self.network.parameters()).dtype)
        return full_precision(y) if self.space.is_discrete else full_precision(y) / self.scale

    def to_space(self, y: Tensor) -> Tensor:
        """The nearest examples of the space; the inverse of `centred`."""
        return self.space.from_signed(y) if self.space.is_discrete else y * self.scale

    def _said(self, xt: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        dtype = next(self.network.parameters()).dtype
        u = (t.to(dtype) / self.schedule.T).expand(len(xt))
        return full_precision(self.network(xt.to(dtype), u, condition))

    def _eps(self, xt: Tensor, t: Tensor, signal: Tensor, noise: Tensor, condition: Tensor | None) -> Tensor:
        return self.predicts.parts(self._said(xt, t, condition), xt, signal, noise)[1]

    def _reverse(self, eps: Denoiser, xt: Tensor, t: int) -> tuple[Tensor, float]:
        """Mean and variance of p(x_(t-1) | x_t)."""
        level = torch.tensor(float(t), dtype=torch.float64, device=xt.device)
        x0, _ = Eps.parts(eps(xt, level), xt, *self.schedule.amounts(level, xt))
        mean, variance = self.schedule.posterior(x0, xt, t)
        return mean, float(self.schedule.beta[t]) if self.wide or t == 1 else variance

    def _given_x1(self, eps: Denoiser, x1: Tensor) -> Independent:
        """p(x_0 | x_1), whose variance is beta_1, for beta tilde_1 is nothing."""
        mean, variance = self._reverse(eps, x1, 1)
        scale = torch.full_like(mean, math.sqrt(variance))
        pixels: Any = Normal(mean, scale, validate_args=False)
        if self.space.levels:
            pixels = DiscretizedNormal(mean, scale, self.space.levels)
        return Independent(pixels, len(self.space.shape), validate_args=False)

    def _value(self, x: Tensor) -> Tensor:
        return x if self.space.is_discrete else self.centred(x)

    @property
    def _log_scale(self) -> float:
        return 0.0 if self.space.is_discrete else self.space.dim * math.log(self.scale)


def _randn(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


RECIPES = (
    Recipe(
        "checkerboard",
        data=partial(Checkerboard().dataset, train=200_000, test=1000),
        options={"steps": 100, "hidden": 128, "blocks": 2, "frequencies": 32, "scale": 2.3, "sampler": Ancestral()},
        fit={"steps": 4000, "batch_size": 256, "lr": 2e-3, "schedule": cosine, "ema": 0.999},
        band=3.85,  # of four paths; one path, the bound, is .1 above it
        samples=4,
    ),
    Recipe(
        "digits",
        data="digits",
        options={"hidden": 256, "classes": 10, "drop_label": 0.3, "sampler": DDIM(50), "guidance": 1.5},
        fit={"steps": 6000, "batch_size": 128, "lr": 2e-3, "schedule": cosine, "ema": 0.999, "conditional": True},
        metric="frechet_ratio",
        band=1.9,
        samples=1080,
        needs="two CPU cores, two minutes",
    ),
    Recipe(
        "mnist",
        data="mnist",
        options={
            "steps": 1000,
            "network": partial(UNet, channels=32, sizes=3),
            "classes": 10,
            "sampler": DDIM(50),
            "guidance": 1.5,
        },
        fit={"steps": 20_000, "batch_size": 128, "lr": 2e-4, "schedule": cosine, "ema": 0.9999, "conditional": True},
        metric="frechet_ratio",
        samples=10_000,
        needs="one GPU, ten minutes",
    ),
)
