"""The variational autoencoder (Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114; Rezende et al., 2014).

    z ~ p(z) = N(0, I)          the prior
    x ~ p_theta(x | z)          the decoder, a neural network of z
    q_phi(z | x)                the encoder, N(mu(x), diag sigma(x)^2), which stands in for the posterior

The likelihood p_theta(x) is an integral over z that nobody can do. The evidence lower bound can be computed, and is
what training raises (Eq. (9.9) of the book; slide 70):

    log p_theta(x) >= E_q[log p_theta(x | z)] - KL(q_phi(z | x) || p(z)) = reconstruction - KL

Another prior or another family of posteriors is one argument: see `gencourse.variational.priors` and `.posteriors`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from gencourse.arguments import non_negative, positive_integer, widths
from gencourse.data import Dataset, dynamically_binarized, load
from gencourse.distributions import pixel_by_pixel, sample
from gencourse.kinds import Approximate
from gencourse.networks import full_precision, mlp
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine
from gencourse.variational import posteriors, priors


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
        prior: p(z), an object with `log_prob(z)` and `sample(n, generator=)` over points of `latent` numbers, such as those of
            `priors` and any flow of points; or a function, which is given `latent` and makes one. None is N(0, I).
        posterior: the family of q(z | x), one of `posteriors` or a function that makes one from `latent`.
        networks: makes encoder and decoder in place of the fully connected ones, from the number of the encoder's outputs. The
            encoder maps `(B, D)` in [-1, 1] to these, the decoder `(..., latent)` to `(..., D)`. See `conv_vae`.

    Raises:
        ValueError, TypeError: if an argument is out of range, or the prior or posterior is none, or of another dimension.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 2,
        hidden: tuple[int, ...] = (200, 200),
        beta: float = 1.0,
        activation: type[nn.Module] = nn.Tanh,
        prior: priors.Prior | Callable[[int], priors.Prior] | None = None,
        posterior: Any = posteriors.Gaussian,
        networks: Callable[[int], tuple[nn.Module, nn.Module]] | None = None,
    ) -> None:
        super().__init__(space)
        self.latent, self.beta = positive_integer("VAE: latent", latent), non_negative("VAE: beta", beta)
        hidden = widths("VAE: hidden", hidden)
        self.family = _made(posterior, self.latent, ("outputs", "__call__"), "posterior")
        if networks is None:
            self.encoder: nn.Module = mlp(space.dim, hidden, self.family.outputs, activation)
            self.decoder: nn.Module = mlp(self.latent, hidden[::-1], space.dim, activation)
        else:
            self.encoder, self.decoder = networks(self.family.outputs)
        if space.levels != 2:
            self.log_scale = nn.Parameter(torch.full(space.shape, -1.0))
        self.learned_prior: Any = None if prior is None else _made(prior, self.latent, ("log_prob", "sample"), "prior")
        if self.learned_prior is not None and hasattr(self.learned_prior, "follow"):  # a prior made of the encoder
            self.learned_prior.follow(self)

    def encode(self, x: Tensor) -> Any:
        """The approximate posterior q(z | x): batch `(B,)`, event `(latent,)`; what it can do is said in `posteriors`.

        Raises:
            TypeError, ValueError: if the kind or shape of `x` is not the space's; its values are not looked at
                (`space.validate(x)` does).
        """
        return self.family(full_precision(self.encoder(self._centred(x))))

    def encode_unit(self, u: Tensor) -> Any:
        """q(z | u) of images between the integers: `u` `(B, *space.shape)` has grey levels scaled to [0, 1], or is of points."""
        signed = (2 * u - 1 if self.space.is_discrete else u).to(next(self.encoder.parameters()).dtype)
        return self.family(full_precision(self.encoder(signed.flatten(1))))

    def decode(self, z: Tensor) -> Distribution:
        """The likelihood p(x | z): batch `z.shape[:-1]`, event `space.shape`."""
        z = z.to(next(self.decoder.parameters()).dtype)
        out = full_precision(self.decoder(z)).view(*z.shape[:-1], *self.space.shape)  # (..., *space.shape)
        return pixel_by_pixel(out, self.space, getattr(self, "log_scale", None))

    @property
    def prior(self) -> Any:
        """The prior p(z): N(0, I) with event `(latent,)`, or what was given in its place."""
        if self.learned_prior is not None:
            return self.learned_prior
        weight = next(self.decoder.parameters())
        zero = full_precision(torch.zeros(self.latent, device=weight.device, dtype=weight.dtype))
        return Independent(Normal(zero, torch.ones_like(zero), validate_args=False), 1, validate_args=False)

    def elbo_terms(
        self, x: Tensor, context: Tensor | None = None, *, samples: int = 1, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The two terms of the bound, `(B,)` nats each: reconstruction and KL, whose difference is the ELBO.

        The reconstruction is estimated by `samples` draws from q (of each component, if it is a mixture). The KL is exact for a
        Gaussian and N(0, I), and the mean of log q - log p at the same draws else.
        """
        self._unconditional(context)
        samples = positive_integer("samples", samples)
        q = self.encode(x)
        z, log_share = q.draws(samples, generator)  # (N, B, latent)
        reconstruction = _mean(self.decode(z).log_prob(self._as_value(x)), log_share, samples)  # (N, B) -> (B,)
        if self.learned_prior is None and isinstance(q, posteriors.DiagonalGaussian):
            return reconstruction, q.kl_to_standard()
        return reconstruction, _mean(q.log_prob(z) - self.log_prior(z), log_share, samples)

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
        (Burda et al., 2016, Theorem 1). Weights stay logarithms throughout; `chunk` of them are computed at a time. A mixture
        draws `samples` from each of its components.
        """
        self._unconditional(context)
        samples = positive_integer("samples", samples)
        q, value = self.encode(x), self._as_value(x)
        total = torch.full((len(x),), -math.inf, device=value.device)
        for first in range(0, samples, chunk):
            log_weights = self._log_weights(q, value, min(chunk, samples - first), generator)  # (N, B)
            total = torch.logaddexp(total.to(log_weights.dtype), torch.logsumexp(log_weights, dim=0))
        return total - math.log(samples)

    def log_weights(self, x: Tensor, *, samples: int, generator: torch.Generator | None = None) -> Tensor:
        """`log p(x, z_n) - log q(z_n | x)` plus the share of each draw, `(N, B)` nats, reparameterised: gradients flow.

        The sum over n of their exponentials, divided by `samples`, is unbiased for p(x). N is `samples`, times the number of
        components if q is a mixture.
        """
        return self._log_weights(self.encode(x), self._as_value(x), positive_integer("samples", samples), generator)

    def _log_weights(self, q: Any, value: Tensor, samples: int, generator: torch.Generator | None) -> Tensor:
        z, log_share = q.draws(samples, generator)  # (N, B, latent)
        log_weight = self.decode(z).log_prob(value) + self.log_prior(z) - q.log_prob(z)  # (N, B)
        return log_weight if log_share is None else log_weight + log_share

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z): `(..., latent)` -> `(...)` nats."""
        if self.learned_prior is None:
            return self.prior.log_prob(z)
        return full_precision(self.learned_prior.log_prob(z.flatten(0, -2))).view(z.shape[:-1])

    def draw_prior(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of z from the prior, `(n, latent)`."""
        if self.learned_prior is not None:
            return self.learned_prior.sample(n, generator=generator)
        like = full_precision(next(self.decoder.parameters()))
        return torch.randn(n, self.latent, generator=generator, device=like.device, dtype=like.dtype)

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        self._unconditional(context)
        return sample(self.decode(self.draw_prior(n, generator=generator)), generator=generator)

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


def _mean(values: Tensor, log_share: Tensor | None, samples: int) -> Tensor:
    """The mean under q of values `(N, B)` at its draws, `(B,)`."""
    return values.mean(0) if log_share is None else (torch.exp(log_share) * values).sum(0) / samples


def _made(given: Any, latent: int, needs: tuple[str, ...], what: str) -> Any:
    """The prior or posterior that was given, or that the function that was given makes."""
    if callable(given) and (isinstance(given, type) or not all(hasattr(given, name) for name in needs)):
        given = given(latent)
    missing = [name for name in needs if not hasattr(given, name)]
    if missing:
        raise TypeError(f"VAE: {what} must be one of gencourse.variational.{what}s, such as MixtureOfGaussians, not {given!r}.")
    dimension = given.space.dim if isinstance(getattr(given, "space", None), Space) and what == "prior" else latent
    dimension = getattr(given, "latent", dimension)
    if dimension != latent and not hasattr(given, "follow"):
        raise ValueError(f"VAE: the {what} is of {dimension} numbers, but z has latent={latent}.")
    return given


def _dynamic_mnist() -> Dataset:
    return dynamically_binarized(load("mnist"))


def _pseudo_digits(latent: int) -> priors.VampPrior:
    digits = load("binary_digits")
    return priors.VampPrior(digits.space, digits.train, components=50)


_PLAIN = {"steps": 4000, "batch_size": 100, "lr": 1e-3, "schedule": cosine, "ema": 0.999}
_RICHER = {"steps": 3000, "batch_size": 100, "lr": 2e-3, "schedule": cosine, "ema": 0.995}
_MNIST: dict[str, Any] = {
    "options": {"latent": 50, "hidden": (200, 200)},
    "fit": {"steps": 200_000, "batch_size": 200, "lr": 1e-3, "schedule": cosine, "ema": 0.9999},
    "samples": 5000,
    "needs": "one GPU, ten minutes",
}
RECIPES = (
    Recipe("binary_digits", "binary_digits", {"latent": 8, "hidden": (200, 200)}, _PLAIN, band=17.6, quick=True),
    Recipe("binary_digits_z2", "binary_digits", {"latent": 2, "hidden": (200, 200)}, _PLAIN, band=19.8, quick=True),
    Recipe(
        "mixture_prior", "binary_digits", {"latent": 8, "hidden": (200,), "prior": priors.MixtureOfGaussians}, _RICHER, band=17.3
    ),
    Recipe("vampprior", "binary_digits", {"latent": 8, "hidden": (200,), "prior": _pseudo_digits}, _RICHER, band=17.3),
    Recipe(
        "mixture_posterior_z2",
        data="binary_digits",
        options={"latent": 2, "hidden": (200,), "posterior": posteriors.MixtureOfGaussians},
        fit=_RICHER,
        band=19.7,
        samples=250,  # of each of four components
    ),
    Recipe("digits", "digits", {"latent": 8, "hidden": (200, 200)}, _PLAIN, metric="bits_per_dim"),
    Recipe("binarized_mnist", "binarized_mnist", band=90.0, **_MNIST),
    Recipe("dynamic_mnist", _dynamic_mnist, band=87.5, **_MNIST),
    Recipe(
        "frey_faces",
        data="frey_faces",
        options={"latent": 2, "hidden": (200,)},
        fit={"steps": 20_000, "batch_size": 100, "lr": 1e-3, "schedule": cosine, "ema": 0.999},
        metric="bits_per_dim",
        needs="one GPU, two minutes",
    ),
)
