"""Families of approximate posteriors q(z | x): what the head of an encoder may mean.

    VAE(space, latent=8)                                                         one Gaussian with a diagonal covariance
    VAE(space, latent=8, posterior=partial(MixtureOfGaussians, components=4))    four of them, and how much each counts
    VAE(space, latent=8, posterior=Coupling)                                     a Gaussian bent by couplings that see x

A family is an object that says how many numbers of the head it needs, `family.outputs`, and makes of a head `(B, outputs)` a
distribution `q = family(head)` with

    q.log_prob(z)                    (..., B, latent) -> (..., B) nats
    q.draws(samples, generator)      z (N, B, latent), reparameterised, and log_share: None or (N, B)

The shares say how much a draw counts. A mean under q is `1/samples sum_n exp(log_share_n) f(z_n)`, with equal shares (None) the
plain mean. A mixture draws `samples` from *each* of its K components, N = samples * K, and gives them the components' weights
as shares: the sum over components is exact, and the weights get a gradient without any drawing of a component.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gencourse.arguments import least_integer, positive_integer, widths
from gencourse.networks import full_precision, mlp


class DiagonalGaussian(Independent):
    """N(mu, diag sigma^2), `torch.distributions.Independent` in all but its `draws` and `kl_to_standard`."""

    def draws(self, samples: int, generator: torch.Generator | None = None) -> tuple[Tensor, None]:
        """z = mu + sigma * eps, `(samples, B, latent)`, with equal shares; gradients flow to mu and sigma (slide 76)."""
        mu, sigma = self.base_dist.loc, self.base_dist.scale
        eps = torch.randn((samples, *mu.shape), generator=generator, device=mu.device, dtype=mu.dtype)
        return mu + sigma * eps, None

    def kl_to_standard(self) -> Tensor:
        """KL(q || N(0, I)), `(B,)` nats, in closed form (Kingma and Welling, 2014, Appendix B)."""
        mu, variance = self.base_dist.loc, self.base_dist.scale.square()
        return (0.5 * (variance + mu.square() - 1 - variance.log())).sum(-1)


class Gaussian:
    """The family of the plain VAE: the head is mu and log sigma^2 (Kingma and Welling, 2014, Appendix C.2)."""

    def __init__(self, latent: int) -> None:
        self.latent = positive_integer("Gaussian: latent", latent)
        self.outputs = 2 * self.latent

    def __call__(self, head: Tensor) -> DiagonalGaussian:
        """`(B, 2 latent)` -> batch `(B,)`, event `(latent,)`."""
        return _gaussian(*head.chunk(2, dim=-1))


class GaussianMixture(MixtureSameFamily):
    """sum_k pi_k N(mu_k, diag sigma_k^2): batch `(B,)`, event `(latent,)`; `log_prob` is the logsumexp over all components."""

    def draws(self, samples: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """`samples` of each component: z `(samples * K, B, latent)` and log pi_k(x), `(samples * K, B)`."""
        gaussians: Any = self.component_distribution.base_dist  # type: ignore[attr-defined]
        mu, sigma = (part.transpose(0, 1) for part in (gaussians.loc, gaussians.scale))  # 2 x (K, B, latent)
        eps = torch.randn((samples, *mu.shape), generator=generator, device=mu.device, dtype=mu.dtype)
        log_pi = self.mixture_distribution.logits.T.expand(samples, *mu.shape[:2])  # (S, K, B)
        return (mu + sigma * eps).flatten(0, 1), log_pi.flatten(0, 1)


class MixtureOfGaussians(nn.Module):
    """K Gaussians: the head is K times mu and log sigma^2, and K logits (Morningstar et al., 2021, Section 3).

    The bound becomes sum_k pi_k(x) E_{N_k}[log p(x, z) - log q(z | x)], where log q is that of the whole mixture. The weight of
    the drawn component alone in its place would still give a bound, a looser one.

    Args:
        latent: the dimension of z.
        components: K.
    """

    def __init__(self, latent: int, *, components: int = 4) -> None:
        super().__init__()
        self.latent = positive_integer("MixtureOfGaussians: latent", latent)
        self.components = positive_integer("MixtureOfGaussians: components", components)
        self.outputs = self.components * (2 * self.latent + 1)

    def forward(self, head: Tensor) -> GaussianMixture:
        """`(B, K (2 latent + 1))` -> batch `(B,)`, event `(latent,)`."""
        logits, numbers = head.split([self.components, self.outputs - self.components], dim=-1)
        mu, log_var = numbers.unflatten(-1, (self.components, 2 * self.latent)).chunk(2, dim=-1)  # 2 x (B, K, latent)
        return GaussianMixture(Categorical(logits=logits, validate_args=False), _gaussian(mu, log_var), validate_args=False)


class Coupling(nn.Module):
    """A Gaussian z0, bent by affine couplings whose networks see numbers of the head beside z (Rezende and Mohamed, 2015).

    log q(z | x) = log N(z0; mu, sigma) - sum of the log-determinants. With couplings that did not see x this would be a prior:
    the decoder and the prior could undo one map for all x, and the posterior would be no richer than a Gaussian.

    Args:
        latent: the dimension of z, 2 or more.
        layers: how many couplings; the two halves of z take turns.
        hidden: the widths of the hidden layers of each coupling's network.
        context: how many numbers of the head they see.
    """

    def __init__(self, latent: int, *, layers: int = 4, hidden: tuple[int, ...] = (32,), context: int = 16) -> None:
        super().__init__()
        self.latent = least_integer("Coupling: latent", latent, 2)
        self.context = positive_integer("Coupling: context", context)
        self.outputs = 2 * self.latent + self.context
        self.kept, changed = self.latent // 2, self.latent - self.latent // 2
        hidden, layers = widths("Coupling: hidden", hidden), positive_integer("Coupling: layers", layers)
        self.networks = nn.ModuleList(mlp(self.kept + self.context, hidden, 2 * changed, nn.Tanh) for _ in range(layers))
        with torch.no_grad():
            for network in self.networks:
                network[-1].weight.mul_(0.1)  # type: ignore[index]  # it begins near the identity

    def forward(self, head: Tensor) -> "BentGaussian":
        """`(B, 2 latent + context)` -> batch `(B,)`, event `(latent,)`."""
        mu, log_var, context = head.split([self.latent, self.latent, self.context], dim=-1)
        return BentGaussian(_gaussian(mu, log_var), self, context)

    def bend(self, z0: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """z0 `(..., B, latent)` -> z and the log-determinant `(..., B)`; `context` is `(B, context)`."""
        z, context, log_det = self._together(z0, context)
        for network in self.networks:
            kept, changed = z[..., : self.kept], z[..., self.kept :]
            s, t = self._scale_and_shift(network, kept, context)
            z = torch.cat([kept, changed * torch.exp(s) + t], dim=-1).flip(-1)
            log_det = log_det + s.sum(-1)
        return z, log_det

    def straighten(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """z -> the z0 that `bend` takes to z, and the log-determinant of `bend` there."""
        z0, context, log_det = self._together(z, context)
        for network in reversed(self.networks):
            z0 = z0.flip(-1)
            kept, changed = z0[..., : self.kept], z0[..., self.kept :]
            s, t = self._scale_and_shift(network, kept, context)
            z0 = torch.cat([kept, (changed - t) * torch.exp(-s)], dim=-1)
            log_det = log_det + s.sum(-1)
        return z0, log_det

    def _together(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both in one shape, and a logarithm of 1 for each z."""
        shape = torch.broadcast_shapes(z.shape[:-1], context.shape[:-1])
        return z.expand(*shape, -1), context.expand(*shape, -1), z.new_zeros(shape)

    def _scale_and_shift(self, network: nn.Module, kept: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """s and t of what changes; e^s is between e^-2 and e^2."""
        inputs = torch.cat([kept, context], dim=-1).to(next(network.parameters()).dtype)
        raw, t = full_precision(network(inputs)).chunk(2, dim=-1)
        return 2 * torch.tanh(raw / 2), t


class BentGaussian:
    """q(z | x) of a `Coupling`: z = f(z0; x) with z0 from a Gaussian; batch `(B,)`, event `(latent,)`."""

    def __init__(self, base: DiagonalGaussian, couplings: Coupling, context: Tensor) -> None:
        self.base, self.couplings, self.context = base, couplings, context
        self._last: tuple[Tensor, Tensor] | None = None

    def draws(self, samples: int, generator: torch.Generator | None = None) -> tuple[Tensor, None]:
        """z `(samples, B, latent)`, with equal shares. Their log-density is kept for `log_prob`, which need not invert."""
        z0, _ = self.base.draws(samples, generator)
        z, log_det = self.couplings.bend(z0, self.context)
        self._last = (z, self.base.log_prob(z0) - log_det)
        return z, None

    def log_prob(self, z: Tensor) -> Tensor:
        """`(..., B, latent)` -> `(..., B)` nats."""
        if self._last is not None and z is self._last[0]:
            return self._last[1]
        z0, log_det = self.couplings.straighten(z, self.context)
        return self.base.log_prob(z0) - log_det


def _gaussian(mu: Tensor, log_var: Tensor) -> DiagonalGaussian:
    return DiagonalGaussian(Normal(mu, torch.exp(0.5 * log_var), validate_args=False), 1, validate_args=False)
