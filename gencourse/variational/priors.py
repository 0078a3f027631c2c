"""Priors p(z) that learn: what may stand in the place of N(0, I).

    VAE(space, latent=8, prior=partial(MixtureOfGaussians, components=30))
    VAE(space, latent=8, prior=VampPrior(space, images, components=50))
    VAE(space, latent=8, prior=RealNVP(Space((8,))))          any other density of points in R^8 does as well

A prior is an object with `log_prob(z)`, `(B, latent)` -> `(B,)` nats, and `sample(n, generator=)`, `(n, latent)`. If it is a
module, it learns together with the encoder and the decoder.

The mean over the data of KL(q(z | x) || p(z)) is I(x; z) + KL(q(z) || p(z)) with q(z) = E_x[q(z | x)], the aggregate posterior
(Hoffman and Johnson, 2016). A prior that learns can take away the second term, and no more.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from gencourse.arguments import positive_integer
from gencourse.distributions import sample
from gencourse.networks import full_precision
from gencourse.space import Space


class Prior(Protocol):
    """What a VAE asks of its prior."""

    def log_prob(self, z: Tensor) -> Tensor:
        """`(B, latent)` -> `(B,)` nats."""
        ...

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`(n, latent)`."""
        ...


class MixtureOfGaussians(nn.Module):
    """sum_k pi_k N(mu_k, diag sigma_k^2), all of it learned.

    Args:
        latent: the dimension of z.
        components: K.
    """

    def __init__(self, latent: int, *, components: int = 30) -> None:
        super().__init__()
        self.latent = positive_integer("MixtureOfGaussians: latent", latent)
        self.components = positive_integer("MixtureOfGaussians: components", components)
        self.logits = nn.Parameter(torch.zeros(self.components))
        self.mu = nn.Parameter(torch.randn(self.components, self.latent))
        self.log_sigma = nn.Parameter(torch.zeros(self.components, self.latent))

    def log_prob(self, z: Tensor) -> Tensor:
        """`(..., latent)` -> `(...)` nats: the logsumexp over the components."""
        logits, mu, log_sigma = self._parameters_in_full()
        u = (z.unsqueeze(-2) - mu) * torch.exp(-log_sigma)  # (..., K, latent)
        each = -0.5 * u.square().sum(-1) - log_sigma.sum(-1) - 0.5 * self.latent * math.log(2 * math.pi)  # (..., K)
        return torch.logsumexp(torch.log_softmax(logits, 0) + each, dim=-1)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`(n, latent)`: a component, then a draw from it."""
        logits, mu, log_sigma = self._parameters_in_full()
        which = sample(Categorical(logits=logits), n, generator=generator)  # (n,)
        eps = torch.randn(n, self.latent, generator=generator, device=mu.device, dtype=mu.dtype)
        return mu[which] + torch.exp(log_sigma[which]) * eps

    def _parameters_in_full(self) -> tuple[Tensor, Tensor, Tensor]:
        return full_precision(self.logits), full_precision(self.mu), full_precision(self.log_sigma)


class VampPrior(nn.Module):
    """The mean of the posteriors of K pseudo-inputs that are learned: p(z) = 1/K sum_k q(z | u_k) (Tomczak and Welling, 2018).

    The best prior of a VAE is its aggregate posterior, the mean over all images; this is one over a few. Pseudo-inputs of grey
    levels are kept as logits and go through a sigmoid, so that they stay between 0 and 1.

    Args:
        space: the VAE's.
        images: where the pseudo-inputs start: `components` of these, `(N, *space.shape)`, drawn by torch's generator.
        components: K.

    Raises:
        ValueError: if there are fewer images than components.
    """

    def __init__(self, space: Space, images: Tensor, *, components: int = 50) -> None:
        super().__init__()
        self.space, self.components = space, positive_integer("VampPrior: components", components)
        space.validate(images)
        if len(images) < self.components:
            raise ValueError(f"VampPrior: {self.components} components need as many images to start at, not {len(images)}.")
        start = images[torch.randperm(len(images))[: self.components]]
        self.pseudo = nn.Parameter(4 * (space.to_unit(start) - 0.5) if space.is_discrete else start.clone())
        self.encode: Callable[[Tensor], Any] | None = None

    def follow(self, vae: Any) -> None:
        """Called by the VAE that takes this prior, whose `encode_unit` makes q(z | u) of pseudo-inputs.

        Raises:
            ValueError: if it is of another space.
        """
        if vae.space != self.space:
            raise ValueError(f"VampPrior: its pseudo-inputs are of {self.space}, but the model's images of {vae.space}.")
        self.encode = vae.encode_unit  # a method, so that the model is no part of its part

    @property
    def pseudo_inputs(self) -> Tensor:
        """u_1, ..., u_K: `(K, *space.shape)`, grey levels scaled to [0, 1], points as they are."""
        return torch.sigmoid(self.pseudo) if self.space.is_discrete else self.pseudo

    def log_prob(self, z: Tensor) -> Tensor:
        """`(..., latent)` -> `(...)` nats."""
        each = self._posterior(self.pseudo_inputs).log_prob(z.unsqueeze(-2))  # (..., K)
        return torch.logsumexp(each, dim=-1) - math.log(self.components)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`(n, latent)`: a pseudo-input, then a draw from its posterior."""
        like = self.pseudo
        which = sample(Categorical(logits=torch.zeros(self.components, device=like.device)), n, generator=generator)
        z, log_share = self._posterior(self.pseudo_inputs[which]).draws(1, generator)  # (N, n, latent)
        if log_share is None:
            return z[0]
        part = sample(Categorical(logits=log_share.T), generator=generator)  # (n,): which of a mixture's components
        return z[part, torch.arange(n, device=z.device)]

    def _posterior(self, u: Tensor) -> Any:
        if self.encode is None:
            raise ValueError("VampPrior: it belongs to no VAE yet; build one with VAE(space, prior=...).")
        return self.encode(u)
