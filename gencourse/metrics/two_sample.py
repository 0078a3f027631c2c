"""The classifier two-sample test: samples are as good as real if no classifier tells them from real examples.

A classifier learns to tell half of the samples from half of the real examples and is judged on the other halves. If the two
distributions are one, each of its answers is right with probability 1/2 whatever it has learned, so that the number of right
answers is binomial, and an accuracy beyond 1/2 is evidence against the sampler (Lopez-Paz and Oquab, 2017,
https://arxiv.org/abs/1610.06545). An accuracy near 1/2 shows only that this classifier found nothing.

The nearest neighbour needs no training: an example is given the class of the nearest of all others. Its accuracy on the real
examples and on the samples says apart what is missing and what is wrong (Xu et al., 2018, https://arxiv.org/abs/1806.07755).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.metrics.pairs import squared_distances, two_sets


class TwoSample(NamedTuple):
    """The share of right answers on held-out examples, its exact interval, and what answers they are of.

    `p_value` is the chance of as many right answers or more from a coin.
    """

    accuracy: float
    low: float
    high: float
    p_value: float
    n: int


class NeighbourAccuracy(NamedTuple):
    """Shares of examples whose nearest neighbour is of their own kind: of all, of the real ones, and of the samples."""

    accuracy: float
    real: float
    fake: float


def binomial_interval(right: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a probability from `right` successes in `n` independent trials (Clopper and Pearson, 1934).

    It holds the true probability in at least this share of cases, whatever the probability is.

    Raises:
        ValueError: if `right` is not in 0..n or there are no trials.

    >>> low, high = binomial_interval(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    from scipy.stats import beta

    n = arguments.positive_integer("binomial_interval: n", n)
    right = arguments.non_negative_integer("binomial_interval: right", right)
    if right > n:
        raise ValueError(f"binomial_interval: {right} of {n} trials cannot have been right.")
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, right, n - right + 1)) if right else 0.0
    high = float(beta.ppf(1 - tail, right + 1, n - right)) if right < n else 1.0
    return low, high


def two_sample_test(real: Tensor, fake: Tensor, *, classifier: Any = None, level: float = 0.95, seed: int = 0) -> TwoSample:
    """Train a classifier to tell samples from real examples, and count its right answers on those it has not seen.

    Args:
        real, fake: as many features of each, `(N, F)`. Each set is split in half, at random.
        classifier: what has scikit-learn's `fit(X, y)` and `predict(X)`; None takes logistic regression on standardised features.
        level: of the interval.
        seed: of the split.

    Raises:
        ValueError: if the shapes do not fit, the numbers differ or are below 4.
    """
    from scipy.stats import binomtest

    a, b = two_sets(real, fake, least=4)
    if len(a) != len(b):
        raise ValueError(f"two_sample_test compares equal numbers, so that chance is 1/2, not {len(a)} real and {len(b)} fake.")
    generator = torch.Generator("cpu").manual_seed(arguments.seed("two_sample_test: seed", seed))
    half = len(a) // 2
    shuffled = [x.cpu()[torch.randperm(len(x), generator=generator, device="cpu")] for x in (a, b)]
    x = torch.cat([part[:half] for part in shuffled]).numpy(), torch.cat([part[half:] for part in shuffled]).numpy()
    y = [[1] * half + [0] * half, [1] * (len(a) - half) + [0] * (len(a) - half)]
    predicted = (classifier or _logistic_regression()).fit(x[0], y[0]).predict(x[1])
    n, right = len(y[1]), int((predicted == y[1]).sum())
    low, high = binomial_interval(right, n, level=level)
    return TwoSample(right / n, low, high, float(binomtest(right, n, alternative="greater").pvalue), n)


def neighbour_answers(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the nearest other example is of the same kind: 1, 0, or 1/2 where both are equally near; `(N,)` and `(M,)`.

    The answers depend on each other through their neighbours, so that a binomial interval of their mean is too narrow.
    """
    a, b = two_sets(real, fake)
    own, other = ([_nearest(x, x) for x in (a, b)], [_nearest(a, b), _nearest(b, a)])
    first, second = ((u < v).double() + (u == v).double() / 2 for u, v in zip(own, other, strict=True))
    return first, second


def neighbour_accuracy(real: Tensor, fake: Tensor) -> NeighbourAccuracy:
    """How often the nearest other example, of real `(N, F)` and samples `(M, F)` together, is of the same kind; 1/2 is best.

    The real examples' share is high where the sampler leaves something out, the samples' where it repeats itself. Both are below
    1/2 where samples are copies of these very examples.

    Raises:
        ValueError: if the shapes do not fit, or a set has fewer than two examples.

    >>> neighbour_accuracy(torch.tensor([[0.0], [1.0]]), torch.tensor([[9.0], [9.5]]))
    NeighbourAccuracy(accuracy=1.0, real=1.0, fake=1.0)
    """
    of_real, of_fake = neighbour_answers(real, fake)
    return NeighbourAccuracy(float(torch.cat([of_real, of_fake]).mean()), float(of_real.mean()), float(of_fake.mean()))


def _nearest(x: Tensor, others: Tensor) -> Tensor:
    """The squared distance to the nearest of the others, not counting an example itself, `(N,)`."""
    k = 2 if x is others else 1
    return torch.cat([block.kthvalue(k, dim=1).values for block in squared_distances(x, others)])


def _logistic_regression() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
