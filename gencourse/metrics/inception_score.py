"""The inception score: how much a picture tells a classifier about its class (Salimans et al., 2016).

    IS = exp E_x KL(p(y|x) || p(y)) = exp(H[y] - H[y|x]) = exp I(x; y),    p(y) = E_x p(y|x)

https://arxiv.org/abs/1606.03498. A mutual information with K classes lies between 0 and log K, so that the score lies between 1
and K. It is K when the classifier is certain of every picture and every class comes equally often. It never sees a real example:
one perfect picture of each class, repeated, beats the test set (Barratt and Sharma, 2018, https://arxiv.org/abs/1801.01973). The
paper's classifier is Inception trained on ImageNet; with any other the number is of that classifier.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gencourse.arguments import positive_integer


class InceptionScore(NamedTuple):
    """The mean score of the parts, and its standard error, infinite for one part."""

    score: float
    standard_error: float


def mutual_information(logits: Tensor) -> Tensor:
    """What picture and class tell of each other, `H[y] - H[y|x]` in nats, a float64 scalar, from logits `(N, K)`."""
    log_p = torch.log_softmax(_checked(logits), dim=1)
    log_marginal = torch.logsumexp(log_p, dim=0) - math.log(len(log_p))
    return -torch.xlogy(log_marginal.exp(), log_marginal.exp()).sum() - _entropy(log_p).mean()


def inception_score(logits: Tensor, *, splits: int = 1) -> InceptionScore:
    """The inception score of samples from a classifier's logits `(N, K)`, such as `ScoredClassifier.logits`.

    Args:
        splits: how many parts the samples are cut into, in their order. The score of each part has a p(y) of its own, and is the
            larger the fewer samples a part has; the paper takes ten parts of 5000.

    Raises:
        ValueError: if the logits are not finite numbers `(N, K)`, or there are more parts than samples.

    >>> round(inception_score(1000 * torch.eye(4)).score, 6)
    4.0
    """
    logits, splits = _checked(logits), positive_integer("inception_score: splits", splits)
    if splits > len(logits):
        raise ValueError(f"inception_score: {len(logits)} samples cannot be cut into {splits} parts.")
    scores = torch.stack([mutual_information(part).exp() for part in logits.tensor_split(splits)])
    error = float(scores.std()) / math.sqrt(splits) if splits > 1 else math.inf
    return InceptionScore(float(scores.mean()), error)


def _entropy(log_p: Tensor) -> Tensor:
    """Of each row, nats: `(N, K)` -> `(N,)`."""
    return -(log_p.exp() * log_p).nan_to_num(0.0, neginf=0.0).sum(1)


def _checked(logits: Tensor) -> Tensor:
    if logits.dim() != 2 or not len(logits):
        raise ValueError(f"the inception score is of logits (N, K), one row a sample, not {tuple(logits.shape)}.")
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("the logits contain NaN or infinite values.")
    return (logits.cpu() if logits.device.type == "mps" else logits).detach().double()
