"""What a code costs and what it loses: the two terms of the bound, kept apart (Higgins et al., 2017; Alemi et al., 2018).

    rate       R = E_x KL(q(z | x) || p(z))              nats that z holds of an image
    distortion D = -E_x E_q[log p(x | z)]                nats that are still missing when z is known

The negative ELBO is R + D. `VAE(beta=...)` lowers beta R + D, and so chooses where on the curve between the two a model stands:
beta above 1 buys a cheaper code with worse pictures. Two models with the same ELBO may do quite different things.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gencourse.arguments import non_negative, positive_integer
from gencourse.variational.vae import VAE


@dataclass(frozen=True)
class RateDistortion:
    """Means over images, in nats: the negative ELBO is their sum."""

    rate: float
    distortion: float


@torch.no_grad()
def rate_distortion(
    model: VAE, x: Tensor, *, samples: int = 100, chunk: int = 20, generator: torch.Generator | None = None
) -> RateDistortion:
    """Rate and distortion of the images `x` `(N, *space.shape)`, by `samples` draws of z for each, `chunk` at a time."""
    samples = positive_integer("rate_distortion: samples", samples)
    rate = distortion = 0.0
    with model.evaluation():
        for first in range(0, samples, chunk):
            n = min(chunk, samples - first)
            reconstruction, kl = model.elbo_terms(x, samples=n, generator=generator)
            rate += float(kl.double().mean()) * n / samples
            distortion -= float(reconstruction.double().mean()) * n / samples
    return RateDistortion(rate, distortion)


@torch.no_grad()
def code_information(
    model: VAE, x: Tensor, *, samples: int = 10, generator: torch.Generator | None = None
) -> tuple[float, float]:
    """The two parts of the rate: I(x; z), and KL(q(z) || p(z)) of the aggregate posterior q(z) = 1/N sum_n q(z | x_n).

    Their sum is the rate (Hoffman and Johnson, 2016). The first is at most log N. Both in nats, by `samples` draws for each of
    the N images `x`; each draw is looked at under all N posteriors.

    Args:
        x: `(N, *space.shape)`, a few hundred: the cost grows as N^2.
    """
    samples = positive_integer("code_information: samples", samples)
    information = aggregate = 0.0
    with model.evaluation():
        q = model.encode(x)
        for _ in range(samples):
            z, log_share = q.draws(1, generator)  # (K, N, latent)
            share = 1.0 if log_share is None else log_share.exp()
            log_q = q.log_prob(z)  # (K, N)
            log_all = torch.logsumexp(q.log_prob(z.unsqueeze(-2)), dim=-1) - math.log(len(x))  # (K, N, N) -> (K, N)
            information += float(((log_q - log_all) * share).double().sum()) / len(x) / samples
            aggregate += float(((log_all - model.log_prior(z)) * share).double().sum()) / len(x) / samples
    return information, aggregate


@torch.no_grad()
def active_units(
    model: VAE, x: Tensor, *, threshold: float = 0.01, samples: int = 100, generator: torch.Generator | None = None
) -> int:
    """How many coordinates of z tell images apart: those whose mean under q(z | x) has a variance over x above the threshold.

    (Burda et al., 2016, Section 5.2.) The means are over `samples` draws; what these add to the variance is taken off again.
    """
    threshold, samples = non_negative("active_units: threshold", threshold), positive_integer("active_units: samples", samples)
    with model.evaluation():
        z, log_share = model.encode(x).draws(samples, generator)  # (N, B, latent)
    z = z.double()
    share = torch.ones_like(z[..., :1]) if log_share is None else log_share.double().exp().unsqueeze(-1)
    mean = (share * z).sum(0) / samples  # (B, latent)
    noise = ((share * z.square()).sum(0) / samples - mean.square()) / samples
    return int((mean.var(0) - noise.mean(0) > threshold).sum())
