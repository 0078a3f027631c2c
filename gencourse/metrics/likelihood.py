"""Likelihoods of a test set, with their standard errors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.kinds import Approximate, GenerativeModel, Tractable
from gencourse.space import Space


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` examples and its standard error, which says how far another test set of that size might move it."""

    mean: float
    standard_error: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.standard_error:.2f}"

    def bits_per_dim(self, space: Space) -> "Estimate":
        """The same negative log-likelihood in bits per dimension, where this one is in nats per image."""
        scale = float(space.bits_per_dim(torch.tensor(-1.0, dtype=torch.float64, device="cpu")))
        return Estimate(self.mean * scale, self.standard_error * scale, self.n)


def nll(
    model: GenerativeModel,
    x: Tensor,
    context: Tensor | None = None,
    *,
    samples: int = 1000,
    batch_size: int = 200,
    seed: int = 0,
) -> Estimate:
    """The mean negative log-likelihood of `x` `(N, *shape)`, in nats per image: the mean of `nlls`, which says what it is.

    Raises:
        TypeError: if the model is implicit and has no likelihood.
        ValueError: if `x` is empty or not of the model's space, or `seed` is no integer.
    """
    values = nlls(model, x, context, samples=samples, batch_size=batch_size, seed=seed)
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Estimate(float(values.mean()), error, len(values))


@torch.no_grad()
def nlls(
    model: GenerativeModel,
    x: Tensor,
    context: Tensor | None = None,
    *,
    samples: int = 1000,
    batch_size: int = 200,
    seed: int = 0,
) -> Tensor:
    """The negative log-likelihood of each of `x` `(N, *shape)`, in nats, `(N,)` float64.

    Exact for a `Tractable` model; for an `Approximate` one the model's own estimate with `samples` draws, from `seed`. A model
    that draws noise for its `log_prob`, as one that dequantises does, draws it from `seed` too: the same call gives the same
    numbers, and leaves the caller's random state as it was. The model is evaluated on its device, in evaluation mode; its mode
    is restored.

    Raises:
        TypeError: if the model is implicit and has no likelihood.
        ValueError: if `x` is empty or not of the model's space, or `seed` is no integer.
    """
    if not isinstance(model, Tractable | Approximate):
        raise TypeError(f"{type(model).__name__} is implicit: it has samples but no likelihood.")
    model.space.validate(x)
    if len(x) == 0:
        raise ValueError("nll: there are no examples.")
    seed = arguments.seed("nll: seed", seed)
    generator = torch.Generator(device=model.device).manual_seed(seed)
    parts = []
    devices = [model.device] if model.device.type == "cuda" else []
    with model.evaluation(), torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        for first in range(0, len(x), batch_size):
            batch = x[first : first + batch_size].to(model.device)
            condition = None if context is None else context[first : first + batch_size].to(model.device)
            if isinstance(model, Tractable):
                parts.append(-model.log_prob(batch, condition))
            else:
                parts.append(-model.log_prob_estimate(batch, condition, samples=samples, generator=generator))
    return torch.cat(parts).double()


def log_mean_exp(log_w: Tensor, dim: int = 0) -> Tensor:
    """`log(mean(exp(log_w)))` along `dim`, without overflow or underflow; the shape of `log_w` without that dimension.

    >>> log_mean_exp(torch.tensor([-1000.0, -1000.0]))
    tensor(-1000.)
    """
    return torch.logsumexp(log_w, dim) - math.log(log_w.shape[dim])


def effective_sample_size(log_w: Tensor, dim: int = 0) -> Tensor:
    """How many equal weights would be as good: `(sum w)^2 / sum w^2`, between 1 and K (Kish, 1965).

    Of weights `log_w` `(K, ...)` along `dim`; the shape of `log_w` without that dimension.

    >>> effective_sample_size(torch.zeros(8)).round(decimals=4)
    tensor(8.)
    """
    return torch.exp(2 * torch.logsumexp(log_w, dim) - torch.logsumexp(2 * log_w, dim))
