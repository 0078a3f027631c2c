"""The importance-weighted autoencoder (Burda, Grosse and Salakhutdinov, 2016, https://arxiv.org/abs/1509.00519).

The same encoder, decoder and prior as the VAE, trained by a tighter bound. With K draws from q(z | x) and their weights
w_k = p(x, z_k) / q(z_k | x),

    L_K(x) = E[log 1/K sum_k w_k] <= log p(x),        L_1 = ELBO <= L_2 <= ... -> log p(x)        (Theorem 1)

The mean of the weights is unbiased for p(x); by Jensen's inequality its logarithm is low on average, and the less so the
smaller its variance. What is gained for the decoder is lost for the encoder: the signal-to-noise ratio of its gradient falls as
1/sqrt(K) (Rainforth et al., 2018).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from gencourse.arguments import least_integer, positive_integer
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine
from gencourse.variational import posteriors
from gencourse.variational.vae import VAE


class IWAE(VAE):
    """A VAE trained by the bound L_K. Everything else is the VAE's, `elbo` and `log_prob_estimate` too.

    Args:
        space: images of integers, or points.
        samples: K, the draws of each training example; 1 is the VAE with its KL estimated.
        latent, hidden, activation, prior, posterior: as of the `VAE`.
    """

    def __init__(
        self,
        space: Space,
        *,
        samples: int = 5,
        latent: int = 2,
        hidden: tuple[int, ...] = (200, 200),
        activation: type[nn.Module] = nn.Tanh,
        prior: Any = None,
        posterior: Any = posteriors.Gaussian,
    ) -> None:
        super().__init__(space, latent=latent, hidden=hidden, activation=activation, prior=prior, posterior=posterior)
        self.samples = positive_integer("IWAE: samples", samples)

    def bound(self, x: Tensor, *, samples: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """An unbiased estimate of L_K, `(B,)` nats, from K = `samples` draws (by default, those of training).

        The gradient goes through the draws. It is the mean of the gradients of the log-weights, each counted by its share of
        the sum of the weights (Eq. 13 of the paper).
        """
        samples = self.samples if samples is None else positive_integer("samples", samples)
        log_weights = self.log_weights(x, samples=samples, generator=generator)  # (N, B)
        return torch.logsumexp(log_weights, dim=0) - math.log(samples)

    def moves(self) -> list[Move]:
        """One move: lower -L_K."""

        def negative_bound(x: Tensor, context: Tensor | None = None) -> Tensor:
            self._unconditional(context)
            return -self.bound(x)

        return [Move("-bound", negative_bound, self.parameters())]


def gradient_signal_to_noise(
    model: VAE, x: Tensor, *, samples: int, repeats: int = 100, generator: torch.Generator | None = None
) -> tuple[float, float]:
    """|mean| / standard deviation of the gradient of L_K over draws: the median over the weights of encoder and decoder.

    Rainforth et al. (2018, Section 3) prove that the encoder's falls as 1/sqrt(K) and the decoder's rises as sqrt(K).

    Args:
        x: the batch `(B, *space.shape)` whose mean bound is differentiated.
        samples: K.
        repeats: from how many gradients, 2 or more.
    """
    repeats = least_integer("gradient_signal_to_noise: repeats", repeats, 2)
    ratios = []
    parts = [list(part.parameters()) for part in (model.encoder, model.decoder)]
    sums = [[torch.zeros(2, *p.shape, dtype=torch.float64, device=p.device) for p in part] for part in parts]
    for _ in range(repeats):
        log_weights = model.log_weights(x, samples=samples, generator=generator)
        bound = (torch.logsumexp(log_weights, dim=0) - math.log(samples)).mean()
        gradients = iter(torch.autograd.grad(bound, [p for part in parts for p in part]))
        for part in sums:
            for total in part:
                g = next(gradients).double()
                total += torch.stack([g, g.square()])
    for part in sums:
        first, second = torch.cat([total.flatten(1) for total in part], dim=1) / repeats  # 2 x (weights,)
        sd = torch.sqrt((second - first.square()).clamp(min=0) * repeats / (repeats - 1))
        ratios.append(float((first.abs() / sd)[sd > 0].median()))
    return ratios[0], ratios[1]


RECIPES = (
    Recipe(
        "binary_digits",
        data="binary_digits",
        options={"samples": 5, "latent": 8, "hidden": (200,)},
        fit={"steps": 3000, "batch_size": 100, "lr": 2e-3, "schedule": cosine, "ema": 0.995},
        band=17.6,
    ),
)
