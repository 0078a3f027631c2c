"""The variational autoencoder (Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114; Rezende et al., 2014).

    z ~ p(z) = N(0, I)          the prior
    x ~ p_theta(x | z)          the decoder, a neural network of z
    q_phi(z | x)                the encoder, N(mu(x), diag sigma(x)^2), which stands in for the posterior

The likelihood p_theta(x) is an integral over z that nobody can do. The evidence lower bound can be computed, and is
what training raises (Eq. (9.9) of the book; slide 70):

    log p_theta(x) >= E_q[log p_theta(x | z)] - KL(q_phi(z | x) || p(z)) = reconstruction - KL
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal, kl_divergence

from gencourse.arguments import non_negative, positive_integer, widths
from gencourse.data import Dataset, dynamically_binarized, load
from gencourse.distributions import DiscretizedLogistic, sample
from gencourse.kinds import Approximate
from gencourse.networks import full_precision, mlp
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine


class VAE(Approximate):
    """A VAE with fully connected encoder and decoder.

    The decoder's distribution follows from the space: Bernoulli pixels on two levels, a discretised logistic on more,
    a Gaussian on real values; the scale of the last two is learned, one for each pixel.

    Args:
        space: images of integers, or points.
        latent: the dimension of z.
        hidden: the widths of the encoder's hidden layers; the decoder has them in reverse.
        beta: the weight of the KL term in training; 1 is the bound, anything else is not (Higgins et al., 2017).
        activation: the class of the hidden units.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 2,
        hidden: tuple[int, ...] = (200, 200),
        beta: float = 1.0,
        activation: type[nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__(space)
        self.latent, self.beta = positive_integer("VAE: latent", latent), non_negative("VAE: beta", beta)
        hidden = widths("VAE: hidden", hidden)
        self.encoder = mlp(space.dim, hidden, 2 * self.latent, activation)
        self.decoder = mlp(self.latent, hidden[::-1], space.dim, activation)
        if space.levels != 2:
            self.log_scale = nn.Parameter(torch.full(space.shape, -1.0))

    def encode(self, x: Tensor) -> Independent:
        """The approximate posterior q(z | x): batch `(B,)`, event `(latent,)`.

        Raises:
            TypeError, ValueError: if the kind or shape of `x` is not the space's; its values are not looked at
                (`space.validate(x)` does).
        """
        mu, log_var = full_precision(self.encoder(self._centred(x))).chunk(2, dim=-1)  # 2 x (B, latent)
        return Independent(Normal(mu, torch.exp(0.5 * log_var), validate_args=False), 1, validate_args=False)

    def decode(self, z: Tensor) -> Distribution:
        """The likelihood p(x | z): batch `z.shape[:-1]`, event `space.shape`."""
        z = z.to(next(self.decoder.parameters()).dtype)
        out = full_precision(self.decoder(z)).view(*z.shape[:-1], *self.space.shape)  # (..., *space.shape)
        pixels: Distribution
        if self.space.levels == 2:
            pixels = Bernoulli(logits=out, validate_args=False)
        elif self.space.levels:
            pixels = DiscretizedLogistic(
                torch.sigmoid(out), full_precision(self.log_scale), self.space.levels, validate_args=False
            )
        else:
            pixels = Normal(out, torch.exp(full_precision(self.log_scale)), validate_args=False)
        return Independent(pixels, len(self.space.shape), validate_args=False)

    @property
    def prior(self) -> Independent:
        """The prior p(z) = N(0, I): event `(latent,)`."""
        weight = next(self.decoder.parameters())
        zero = full_precision(torch.zeros(self.latent, device=weight.device, dtype=weight.dtype))
        return Independent(Normal(zero, torch.ones_like(zero), validate_args=False), 1, validate_args=False)

    def elbo_terms(
        self, x: Tensor, context: Tensor | None = None, *, samples: int = 1, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The two terms of the bound, `(B,)` nats each: reconstruction (estimated by `samples` draws) and KL (exact)."""
        self._unconditional(context)
        samples = positive_integer("samples", samples)
        q = self.encode(x)
        z = _reparameterize(q, samples, generator)  # (S, B, latent)
        reconstruction = self.decode(z).log_prob(self._as_value(x)).mean(0)  # (S, B) -> (B,)
        return reconstruction, kl_divergence(q, self.prior)

    def elbo(
        self, x: Tensor, context: Tensor | None = None, *, samples: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """The evidence lower bound of each example, `(B,)` nats: an unbiased estimate of a bound on `log p(x)`."""
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
        chunk: int = 50,
    ) -> Tensor:
        """Importance sampling with q as the proposal: `log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x)`, `(B,)` nats.

        The mean of the weights is unbiased for p(x), so its log is low on average, by less the larger K = `samples` is
        (Burda et al., 2016, Theorem 1). Weights stay logarithms throughout; `chunk` of them are computed at a time.
        """
        self._unconditional(context)
        samples = positive_integer("samples", samples)
        q = self.encode(x)
        value = self._as_value(x)
        total = torch.full((len(x),), -math.inf, device=q.mean.device, dtype=q.mean.dtype)
        for first in range(0, samples, chunk):
            z = _reparameterize(q, min(chunk, samples - first), generator)  # (S, B, latent)
            log_weight = self.decode(z).log_prob(value) + self.prior.log_prob(z) - q.log_prob(z)  # (S, B)
            total = torch.logaddexp(total, torch.logsumexp(log_weight, dim=0))
        return total - math.log(samples)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        self._unconditional(context)
        like = full_precision(next(self.decoder.parameters()))
        z = torch.randn(n, self.latent, generator=generator, device=like.device, dtype=like.dtype)  # from the prior
        return sample(self.decode(z), generator=generator)

    def decode_mean(self, z: Tensor) -> Tensor:
        """The expected image at each z, `(..., *space.shape)`: grey levels as real numbers."""
        return self.decode(z).mean

    def moves(self) -> list[Move]:
        """One move: lower the negative bound, its KL weighted by `beta`."""

        def negative_elbo(x: Tensor, context: Tensor | None = None) -> Tensor:
            reconstruction, kl = self.elbo_terms(x, context)
            return self.beta * kl - reconstruction

        return [Move("-elbo", negative_elbo, self.parameters())]

    def _centred(self, x: Tensor) -> Tensor:
        """The encoder's input, `(B, D)`: grey levels scaled to [-1, 1]."""
        x = self.space.validate(x, values=False)  # a batch without its channel would broadcast, and be wrong in silence
        return self.space.to_signed(x.flatten(1), next(self.encoder.parameters()).dtype)

    def _as_value(self, x: Tensor) -> Tensor:
        return full_precision(x.to(next(self.decoder.parameters()).dtype))


def _reparameterize(q: Independent, samples: int, generator: torch.Generator | None) -> Tensor:
    """`samples` draws of z = mu + sigma * eps, `(S, B, latent)`; gradients flow to mu and sigma (slide 76)."""
    mu, sigma = q.base_dist.loc, q.base_dist.scale
    eps = torch.randn((samples, *mu.shape), generator=generator, device=mu.device, dtype=mu.dtype)
    return mu + sigma * eps


def _dynamic_mnist() -> Dataset:
    return dynamically_binarized(load("mnist"))


RECIPES = (
    Recipe(
        "binary_digits",
        data="binary_digits",
        options={"latent": 8, "hidden": (200, 200)},
        fit={"steps": 4000, "batch_size": 100, "lr": 1e-3, "schedule": cosine, "ema": 0.999},
        band=17.6,
        quick=True,
    ),
    Recipe(
        "binary_digits_z2",
        data="binary_digits",
        options={"latent": 2, "hidden": (200, 200)},
        fit={"steps": 4000, "batch_size": 100, "lr": 1e-3, "schedule": cosine, "ema": 0.999},
        band=19.8,
        quick=True,
    ),
    Recipe(
        "digits",
        data="digits",
        options={"latent": 8, "hidden": (200, 200)},
        fit={"steps": 4000, "batch_size": 100, "lr": 1e-3, "schedule": cosine, "ema": 0.999},
        metric="bits_per_dim",
    ),
    Recipe(
        "binarized_mnist",
        data="binarized_mnist",
        options={"latent": 50, "hidden": (200, 200)},
        fit={"steps": 200_000, "batch_size": 200, "lr": 1e-3, "schedule": cosine, "ema": 0.9999},
        band=90.0,
        samples=5000,
        needs="one GPU, ten minutes",
    ),
    Recipe(
        "dynamic_mnist",
        data=_dynamic_mnist,
        options={"latent": 50, "hidden": (200, 200)},
        fit={"steps": 200_000, "batch_size": 200, "lr": 1e-3, "schedule": cosine, "ema": 0.9999},
        band=87.5,
        samples=5000,
        needs="one GPU, ten minutes",
    ),
    Recipe(
        "frey_faces",
        data="frey_faces",
        options={"latent": 2, "hidden": (200,)},
        fit={"steps": 20_000, "batch_size": 100, "lr": 1e-3, "schedule": cosine, "ema": 0.999},
        metric="bits_per_dim",
        needs="one GPU, two minutes",
    ),
)
