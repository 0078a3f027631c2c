"""The Parzen-window estimate of a sampler's likelihood, which the first GAN papers report, and which misleads.

Put a Gaussian of width sigma on each of S samples, and call the mixture's density the model's (Breuleux, Bengio and
Vincent, 2011; Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661, Section 5). In many dimensions no affordable number of
samples is enough: the estimate stays far from the truth, and it ranks models wrongly. A sampler that always draws the
mean, or the centres of k-means, beats the true distribution (Theis et al., 2016, https://arxiv.org/abs/1511.01844). It is here so
that this can be seen. Judge no model by it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gencourse.metrics.likelihood import Estimate
from gencourse.metrics.pairs import as_rows, squared_distances

# Widths for pixels in [0, 1], a quarter apart.
SIGMAS = tuple(float(s) for s in torch.logspace(-2, 0.5, 26, dtype=torch.float64, device="cpu"))


@dataclass(frozen=True)
class ParzenEstimate:
    """The mean log-likelihood of the test examples in nats, its standard error, and the width that was chosen."""

    log_likelihood: Estimate
    sigma: float


def parzen_log_prob(x: Tensor, samples: Tensor, sigma: float) -> Tensor:
    """The log-density of the Parzen window at each example, `(N,)` nats, float64.

        log 1/S sum_s N(x; samples_s, sigma^2 I)

    Args:
        x, samples: `(N, ...)` and `(S, ...)`, points, or images scaled to [0, 1] by `space.to_unit`.

    Raises:
        TypeError: if the values are integers, whose density would be in other units than anyone else's.
        ValueError: if there are no samples, the shapes differ, or sigma is not positive.
    """
    _check(x, samples, (sigma,))
    (result,) = _log_probs(x, samples, (sigma,))
    return result


def parzen_estimate(samples: Tensor, test: Tensor, valid: Tensor, *, sigmas: Sequence[float] = SIGMAS) -> ParzenEstimate:
    """The Parzen estimate of a sampler on test examples, with the sigma that is best on the validation examples.

    Higher is better, and neither much nor little follows from it: see the top of this module.

    Args:
        samples, test, valid: `(S, ...)`, `(N, ...)`, `(V, ...)`: points, or images scaled to [0, 1] by `space.to_unit`.
        sigmas: the widths to try, in the same units.

    Raises:
        TypeError: if the values are integers.
        ValueError: if the best sigma is the first or last, so that the best one may lie outside; or as `parzen_log_prob`.
    """
    sigmas = sorted(sigmas)
    _check(test, samples, sigmas)
    _check(valid, samples, sigmas)
    scores = [float(log_prob.mean()) for log_prob in _log_probs(valid, samples, sigmas)]
    best = max(range(len(sigmas)), key=scores.__getitem__)
    if len(sigmas) > 1 and best in (0, len(sigmas) - 1):
        raise ValueError(f"parzen_estimate: the best sigma, {sigmas[best]:.4g}, is at an end of those tried; try a wider range.")
    values = parzen_log_prob(test, samples, sigmas[best])
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return ParzenEstimate(Estimate(float(values.mean()), error, len(values)), sigmas[best])


def _log_probs(x: Tensor, samples: Tensor, sigmas: Sequence[float]) -> list[Tensor]:
    """The log-densities under each sigma, `(N,)` each; the distances are computed once."""
    dim, parts = as_rows(x).shape[1], []
    for block in squared_distances(x, samples):
        parts.append(torch.stack([torch.logsumexp(-block / (2 * s**2), dim=1) for s in sigmas]))
    log_norm = [math.log(len(samples)) + dim / 2 * math.log(2 * math.pi * s**2) for s in sigmas]
    return [row - constant for row, constant in zip(torch.cat(parts, dim=1), log_norm, strict=True)]


def _check(x: Tensor, samples: Tensor, sigmas: Sequence[float]) -> None:
    if not (x.is_floating_point() and samples.is_floating_point()):
        raise TypeError(f"Parzen windows are densities of real values, not of {x.dtype} and {samples.dtype}; use space.to_unit.")
    if not len(samples) or not len(x):
        raise ValueError(f"Parzen windows need samples and examples, not {len(samples)} and {len(x)}.")
    if not sigmas or not all(0 < s < math.inf for s in sigmas):
        raise ValueError(f"Parzen windows need positive widths, not {list(sigmas)}.")
