"""A VAE whose z is N categorical variables of K states, and ways to train it (Jang et al., 2017; Maddison et al., 2017).

    z_n ~ uniform on K states, n = 1..N        x ~ p(x | z), a neural network of the one-hot z

No small change of the encoder's logits changes a draw a little, so the reparameterisation of a Gaussian is not to be had. With
few states everything can be summed, though: p(x) = K^-N sum_z p(x | z) is exact, and so is the bound and its gradient. What
estimates a gradient from draws can therefore be measured here against the truth.

    exact_log_prob       lowers -log p(x) itself            the sum over all z; the encoder does not learn
    exact_elbo           lowers the exact negative ELBO     the sum over all z
    GumbelSoftmax        a draw that is relaxed to the inside of the simplex: biased, little noise
    StraightThrough      a hard draw with the relaxed one's gradient: biased
    ScoreFunction        log q(z | x) times the gain over a baseline: unbiased, much noise (Williams, 1992)

An estimator is a function or a module, `estimator(model, x, generator=None)`, of losses `(B,)` whose gradient is followed.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent

from gencourse.arguments import positive, positive_integer, probability, widths
from gencourse.distributions import pixel_by_pixel, sample
from gencourse.kinds import Approximate
from gencourse.networks import full_precision, mlp
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine

#: How many states of z are summed over at most.
MAX_STATES = 4096

Estimator = Callable[..., Tensor]


def exact_log_prob(model: "CategoricalVAE", x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """-log p(x), `(B,)` nats: no bound, no encoder."""
    return -model.log_prob(x)


def exact_elbo(model: "CategoricalVAE", x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The negative ELBO, `(B,)` nats, summed over all z."""
    return -model.exact_elbo(x)


def annealed(step: int, *, steps: int = 2500, rate: float = 1.5, least: float = 0.3) -> float:
    """A temperature that falls from 1 as exp(-rate * step / steps), to `least` and not below."""
    return max(least, math.exp(-rate * step / steps))


class GumbelSoftmax(nn.Module):
    """The relaxed draw softmax((log pi + g) / tau), with g from the Gumbel distribution (Jang et al., 2017, Eq. 2).

    At tau -> 0 it is a one-hot draw from pi (the largest of log pi + g is state k with probability pi_k), and its gradient has
    a variance without bound; at a large tau its gradient is that of another function. The KL stays that of the categorical.

    Args:
        temperature: tau, a number, or a function of the step, which counts the losses of training from 0.
    """

    step: Tensor

    def __init__(self, *, temperature: float | Callable[[int], float] = annealed) -> None:
        super().__init__()
        if not callable(temperature):
            temperature = positive(f"{type(self).__name__}: temperature", temperature)
        self.temperature = temperature
        self.register_buffer("step", torch.tensor(0))

    def forward(self, model: "CategoricalVAE", x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The negative ELBO at the relaxed z, `(B,)` nats; in evaluation mode that of the model itself."""
        if not model.training:
            return model.negative_elbo(x)
        tau = self.temperature(int(self.step)) if callable(self.temperature) else self.temperature
        self.step += 1
        log_pi = model.log_pi(x)
        z = self.draw(log_pi, tau, generator)
        return model.kl(log_pi) - model.decode(z).log_prob(model.as_value(x))

    def draw(self, log_pi: Tensor, tau: float, generator: torch.Generator | None) -> Tensor:
        """`(B, N, K)`, inside the simplex."""
        return torch.softmax((log_pi + gumbel(log_pi, generator)) / tau, dim=-1)


class StraightThrough(GumbelSoftmax):
    """The hard draw, a one-hot vector, in the forward pass; the relaxed one's gradient in the backward pass (Section 2.2)."""

    def draw(self, log_pi: Tensor, tau: float, generator: torch.Generator | None) -> Tensor:
        """`(B, N, K)`, one-hot."""
        soft = super().draw(log_pi, tau, generator)
        hard = F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)
        return hard + soft - soft.detach()


class ScoreFunction(nn.Module):
    """A hard draw, and (log p(x | z) - baseline) grad log q(z | x) for the encoder (Williams, 1992).

    A baseline that does not depend on the draw leaves the mean as it is and lowers the noise: here a moving average of
    log p(x | z) over earlier batches.

    Args:
        decay: of the moving average; None leaves the baseline out.
    """

    baseline: Tensor
    step: Tensor

    def __init__(self, *, decay: float | None = 0.99) -> None:
        super().__init__()
        self.decay = None if decay is None else probability("ScoreFunction: decay", decay)
        self.register_buffer("baseline", torch.tensor(0.0))
        self.register_buffer("step", torch.tensor(0))

    def forward(self, model: "CategoricalVAE", x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The negative ELBO at the draw, `(B,)` nats, with the estimator's gradient; in evaluation mode that of the model."""
        if not model.training:
            return model.negative_elbo(x)
        log_pi = model.log_pi(x)  # (B, N, K)
        z = sample(Categorical(logits=log_pi, validate_args=False), generator=generator)  # (B, N)
        log_likelihood = model.decode(z).log_prob(model.as_value(x))  # (B,)
        log_q = log_pi.gather(-1, z.unsqueeze(-1)).squeeze(-1).sum(-1)  # (B,)
        gain = log_likelihood.detach() - self.baseline
        if self.decay is not None:
            now = log_likelihood.detach().mean().to(self.baseline.dtype)
            self.baseline.copy_(torch.where(self.step == 0, now, torch.lerp(now, self.baseline, self.decay)))
            self.step += 1
        return model.kl(log_pi) - log_likelihood - gain * (log_q - log_q.detach())  # the last term is 0, and has a gradient


def gumbel(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws from the standard Gumbel distribution, -log(-log u), in the shape, type and place of `like`."""
    u = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    u = u.clamp(torch.finfo(u.dtype).tiny, 1 - torch.finfo(u.dtype).eps)
    return -torch.log(-torch.log(u))


class CategoricalVAE(Approximate):
    """A VAE with N categorical latent variables of K states.

    Args:
        space: images of integers, or points.
        variables: N.
        states: K, 2 or more.
        hidden: the widths of the encoder's hidden layers; the decoder has them in reverse. None: both are linear, and with one
            variable the model is a mixture of K products of independent pixels.
        estimator: of the gradient in training: a function such as `exact_elbo`, an object such as `ScoreFunction(decay=0.9)`,
            or, so that each model gets its own, the class (or `functools.partial` of it).
        activation: the class of the hidden units.

    Raises:
        ValueError: if an argument is out of range, or the estimator is exact and there are too many states to sum over.
    """

    def __init__(
        self,
        space: Space,
        *,
        variables: int = 4,
        states: int = 4,
        hidden: tuple[int, ...] | None = (200,),
        estimator: Estimator = exact_elbo,
        activation: type[nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__(space)
        self.variables = positive_integer("CategoricalVAE: variables", variables)
        self.states = positive_integer("CategoricalVAE: states", states)
        if self.states < 2:
            raise ValueError("CategoricalVAE: states must be 2 or more; a variable of one state says nothing.")
        hidden = () if hidden is None else widths("CategoricalVAE: hidden", hidden)
        self.encoder = mlp(space.dim, hidden, self.variables * self.states, activation)
        self.decoder = mlp(self.variables * self.states, hidden[::-1], space.dim, activation)
        if space.levels != 2:
            self.log_scale = nn.Parameter(torch.full(space.shape, -1.0))
        self.estimator: Any = estimator() if isinstance(getattr(estimator, "func", estimator), type) else estimator
        if not callable(self.estimator):
            raise TypeError(
                f"CategoricalVAE: estimator must be a function such as exact_elbo, or GumbelSoftmax, not {estimator!r}."
            )
        if self.estimator in (exact_log_prob, exact_elbo):
            self.all_states()

    def encode(self, x: Tensor) -> Independent:
        """q(z | x), N independent categoricals: batch `(B,)`, event `(N,)` of integers `0 .. K - 1`."""
        return Independent(Categorical(logits=self._logits(x), validate_args=False), 1, validate_args=False)

    def decode(self, z: Tensor) -> Distribution:
        """p(x | z): z `(..., N)` of integers, or `(..., N, K)`, one-hot or relaxed; batch `(...)`, event `space.shape`."""
        if not z.is_floating_point():
            z = F.one_hot(z, self.states)
        out = self._decoded(z)
        return pixel_by_pixel(out, self.space, getattr(self, "log_scale", None))

    def all_states(self) -> Tensor:
        """Every z, `(K^N, N)` int64, the last variable changing fastest.

        Raises:
            ValueError: if there are more than `MAX_STATES`.
        """
        if self.states**self.variables > MAX_STATES:
            raise ValueError(
                f"CategoricalVAE: {self.states}^{self.variables} states of z are too many to sum over ({MAX_STATES} at most); "
                "take log_prob_estimate, or an estimator that draws, such as GumbelSoftmax."
            )
        index = torch.arange(self.states**self.variables, device=self.device)
        places = [self.states**n for n in reversed(range(self.variables))]
        return torch.stack([index // place % self.states for place in places], dim=-1)

    def log_likelihoods(self, x: Tensor) -> Tensor:
        """log p(x | z) of each image and every z, `(B, K^N)` nats."""
        every, value = self.all_states(), self.as_value(x)
        if self.space.levels != 2:
            return self.decode(every.unsqueeze(1)).log_prob(value).T  # (K^N, B) -> (B, K^N)
        logits = self._decoded(F.one_hot(every, self.states)).flatten(1)  # (K^N, D): a matrix product does the same in less time
        return value.flatten(1).to(logits.dtype) @ logits.T - F.softplus(logits).sum(1)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The exact log-probability, `(B,)` nats: log K^-N sum_z p(x | z).

        Raises:
            ValueError: if z has too many states to sum over.
        """
        self._unconditional(context)
        x = self.space.validate(x, values=False)
        return torch.logsumexp(self.log_likelihoods(x), dim=1) - self.variables * math.log(self.states)

    def exact_elbo(self, x: Tensor) -> Tensor:
        """The ELBO, `(B,)` nats, its expectation a sum over all z.

        Raises:
            ValueError: if z has too many states to sum over.
        """
        log_pi = self.log_pi(x)  # (B, N, K)
        every = self.all_states()
        log_q = sum(log_pi[:, n, every[:, n]] for n in range(self.variables))  # (B, K^N)
        reconstruction = (torch.exp(cast(Tensor, log_q)) * self.log_likelihoods(x)).sum(1)
        return reconstruction - self.kl(log_pi)

    def negative_elbo(self, x: Tensor) -> Tensor:
        """What validation looks at, `(B,)` nats: exact where z has few enough states, at one draw else."""
        return -self.exact_elbo(x) if self.states**self.variables <= MAX_STATES else -self.elbo(x)

    def elbo_terms(
        self, x: Tensor, context: Tensor | None = None, *, samples: int = 1, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Reconstruction, by `samples` hard draws, and the exact KL: `(B,)` nats each. Only the second teaches the encoder."""
        self._unconditional(context)
        q = self.encode(x)
        z = sample(q, positive_integer("samples", samples), generator=generator)  # (S, B, N)
        return self.decode(z).log_prob(self.as_value(x)).mean(0), self.kl(q.base_dist.logits)

    def elbo(
        self, x: Tensor, context: Tensor | None = None, *, samples: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """An unbiased estimate of the ELBO, `(B,)` nats; exact: `exact_elbo`."""
        reconstruction, kl = self.elbo_terms(x, context, samples=samples, generator=generator)
        return reconstruction - kl

    @torch.no_grad()
    def log_prob_estimate(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The log-probability, `(B,)` nats: exact where z has few enough states, by `samples` importance weights else."""
        self._unconditional(context)
        samples = positive_integer("samples", samples)
        if self.states**self.variables <= MAX_STATES:
            return self.log_prob(x)
        q, value = self.encode(x), self.as_value(x)
        log_prior = -self.variables * math.log(self.states)
        log_weights = []
        for _ in range(samples):
            z = sample(q, generator=generator)  # (B, N)
            log_weights.append(self.decode(z).log_prob(value) + log_prior - q.log_prob(z))
        return torch.logsumexp(torch.stack(log_weights), dim=0) - math.log(samples)

    def draw_prior(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of z, each state as likely as another, `(n, N)` int64."""
        return torch.randint(self.states, (n, self.variables), generator=generator, device=self.device)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        self._unconditional(context)
        return sample(self.decode(self.draw_prior(n, generator=generator)), generator=generator)

    def moves(self) -> list[Move]:
        """One move: what the estimator says."""

        def loss(x: Tensor, context: Tensor | None = None) -> Tensor:
            self._unconditional(context)
            return self.estimator(self, x)

        return [Move("-elbo", loss, self.parameters())]

    def log_pi(self, x: Tensor) -> Tensor:
        """log q(z_n = k | x), `(B, N, K)`."""
        return torch.log_softmax(self._logits(x), dim=-1)

    def _logits(self, x: Tensor) -> Tensor:
        x = self.space.validate(x, values=False)
        signed = self.space.to_signed(x.flatten(1), next(self.encoder.parameters()).dtype)
        return full_precision(self.encoder(signed)).unflatten(-1, (self.variables, self.states))

    def kl(self, log_pi: Tensor) -> Tensor:
        """KL(q || uniform) = N log K - sum of the entropies, `(B,)`."""
        return (torch.exp(log_pi) * log_pi).sum((-2, -1)) + self.variables * math.log(self.states)

    def _decoded(self, z: Tensor) -> Tensor:
        """One-hot or relaxed z `(..., N, K)` -> the decoder's numbers `(..., *space.shape)`."""
        z = z.flatten(-2).to(next(self.decoder.parameters()).dtype)
        return full_precision(self.decoder(z)).unflatten(-1, self.space.shape)

    def as_value(self, x: Tensor) -> Tensor:
        """The images as the decoder's distribution takes them."""
        return full_precision(x.to(next(self.decoder.parameters()).dtype))


_DIGITS = {"steps": 2500, "batch_size": 100, "lr": 2e-3, "schedule": cosine, "ema": 0.995}

RECIPES = (
    Recipe("binary_digits", "binary_digits", {"variables": 4, "states": 4}, _DIGITS, band=18.5),
    Recipe("binary_digits_log_prob", "binary_digits", {"estimator": exact_log_prob}, _DIGITS, band=18.3),
    Recipe("binary_digits_gumbel", "binary_digits", {"estimator": GumbelSoftmax}, _DIGITS, band=19.0),
    Recipe("binary_digits_straight_through", "binary_digits", {"estimator": StraightThrough}, _DIGITS, band=19.2),
    Recipe("binary_digits_score_function", "binary_digits", {"estimator": ScoreFunction}, _DIGITS, band=19.2),
)
