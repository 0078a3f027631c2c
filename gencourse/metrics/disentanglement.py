"""Does one latent variable stand for one factor? Scores of codes whose factors are known (slides 86 and 88).

    MIG    the mutual information gap (Chen et al., 2018, https://arxiv.org/abs/1802.04942)
    DCI    disentanglement, completeness, informativeness (Eastwood and Williams, 2018, https://openreview.net/forum?id=By-7dz-AZ)

Both need the factors, which nobody has of photographs: they judge models on worlds that are drawn. They do not say the same, and
neither says whether the pictures are good. Codes that hold every factor, mixed by a rotation, score low: that is their point.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.arguments import least_integer


def entropy(counts: Tensor) -> float:
    """The entropy of a table of counts or probabilities of any shape, nats."""
    p = counts.double().flatten()
    p = p[p > 0] / p.sum()
    return float(-(p * p.log()).sum())


def mutual_information(joint: Tensor) -> float:
    """I(a; b) = H(a) + H(b) - H(a, b) of a table `(A, B)` of counts or probabilities, nats; 0 or more."""
    if joint.dim() != 2 or not bool((joint >= 0).all()) or not float(joint.sum()) > 0:
        raise ValueError(f"mutual_information needs a table (A, B) of counts, none of them negative, not {tuple(joint.shape)}.")
    return max(0.0, entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint))


def information_table(codes: Tensor, factors: Tensor, *, bins: int = 20, kl: Tensor | None = None, dead: float = 0.01) -> Tensor:
    """The mutual information of each latent variable with each factor, `(D, F)` nats, float64.

    A latent variable is cut into `bins` bins that hold as many examples each; equal values stay together.

    Args:
        codes: `(N, D)` real numbers, such as the means of q(z | x).
        factors: `(N, F)` integers.
        kl: `(D,)` nats, the mean KL(q(z_d | x) || p(z_d)) of each latent variable: those below `dead` count as saying nothing.
            Binning would blow the noise of a dead variable up to information.

    Raises:
        ValueError, TypeError: if the shapes do not fit, or factors are no integers.
    """
    codes, factors = _checked(codes, factors)
    bins = least_integer("information_table: bins", bins, 2)
    if kl is not None and kl.shape != codes.shape[1:]:
        raise ValueError(
            f"information_table: kl must have one number a latent variable, ({codes.shape[1]},), not {tuple(kl.shape)}."
        )
    table = torch.zeros(codes.shape[1], factors.shape[1], dtype=torch.float64, device="cpu")
    for d in range(codes.shape[1]):
        if kl is not None and float(kl[d]) < dead:
            continue
        binned = _quantile_bins(codes[:, d], bins)
        for f in range(factors.shape[1]):
            values = torch.unique(factors[:, f], return_inverse=True)[1]
            joint = torch.zeros(bins, int(values.max()) + 1, dtype=torch.float64, device="cpu")
            joint.index_put_((binned, values), torch.ones(len(values), dtype=torch.float64, device="cpu"), accumulate=True)
            table[d, f] = mutual_information(joint)
    return table


def gaps(information: Tensor, entropies: Tensor) -> Tensor:
    """The gap of each factor, `(F,)`: (the largest - the second largest I(z_d; v_f)) / H(v_f).

    Args:
        information: `(D, F)` nats.
        entropies: `(F,)` nats, of the factors.
    """
    if information.dim() != 2 or len(information) < 2:
        raise ValueError(f"a gap needs two latent variables or more, but the table has shape {tuple(information.shape)}.")
    first, second = information.topk(2, dim=0).values
    return (first - second) / entropies


def mig(codes: Tensor, factors: Tensor, *, bins: int = 20, kl: Tensor | None = None) -> float:
    """The mutual information gap, the mean of `gaps` over factors: 1 where one variable holds all of a factor and no other any.

    Arguments as of `information_table`. A variable with fewer bins than a factor has values cannot hold all of it.
    """
    information = information_table(codes, factors, bins=bins, kl=kl)
    entropies = [entropy(torch.unique(column, return_counts=True)[1]) for column in factors.cpu().unbind(1)]
    if not all(h > 0 for h in entropies):
        raise ValueError("mig: a factor has the same value in every example, so there is nothing to know of it.")
    return float(gaps(information, torch.tensor(entropies, dtype=torch.float64, device="cpu")).mean())


class DCI(NamedTuple):
    """Disentanglement: each variable for one factor. Completeness: each factor in one variable. Informativeness: the accuracy."""

    disentanglement: float
    completeness: float
    informativeness: float


def importance_scores(importance: Tensor) -> tuple[float, float]:
    """Disentanglement and completeness of a table `(D, F)` of how much each variable matters for each factor.

    D = sum_d rho_d (1 - H(row d) / log F),    rho_d the share of row d in the table
    C = sum_f rho_f (1 - H(column f) / log D)
    """
    table = importance.double()
    if table.dim() != 2 or min(table.shape) < 2 or not float(table.sum()) > 0:
        raise ValueError(f"importances are a table of two variables and two factors or more, not {tuple(table.shape)}.")
    rows, columns = table.sum(1) / table.sum(), table.sum(0) / table.sum()
    d = sum(
        float(share) * (1 - entropy(row) / math.log(table.shape[1])) for share, row in zip(rows, table, strict=True) if share > 0
    )
    c = sum(
        float(share) * (1 - entropy(column) / math.log(table.shape[0]))
        for share, column in zip(columns, table.T, strict=True)
        if share > 0
    )
    return d, c


def dci(codes: Tensor, factors: Tensor, *, trees: int = 20, depth: int = 8, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness, by a small random forest that reads each factor off the codes.

    Its trees choose among all variables at each cut: were they shown some, they would use others than the one that knows best.
    Half of the examples train the forest, the others say how accurate it is.

    Args:
        codes: `(N, D)`.
        factors: `(N, F)` integers.
    """
    from sklearn.ensemble import RandomForestClassifier

    codes, factors = _checked(codes, factors)
    seed = arguments.seed("dci: seed", seed)
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    columns, accuracies = [], []
    for f in range(factors.shape[1]):
        forest = RandomForestClassifier(n_estimators=trees, max_depth=depth, max_features=None, random_state=seed % 2**32)
        forest.fit(codes[train].numpy(), factors[train, f].numpy())
        columns.append(torch.from_numpy(forest.feature_importances_))
        accuracies.append(float(forest.score(codes[test].numpy(), factors[test, f].numpy())))
    d, c = importance_scores(torch.stack(columns, dim=1))
    return DCI(d, c, sum(accuracies) / len(accuracies))


def _checked(codes: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    if codes.dim() != 2 or factors.dim() != 2 or len(codes) != len(factors) or len(codes) < 2:
        raise ValueError(
            f"codes (N, D) and factors (N, F) must be of the same examples, not {tuple(codes.shape)}, {tuple(factors.shape)}."
        )
    if factors.is_floating_point():
        raise TypeError(
            f"factors must be integers, one for each value they take, not {factors.dtype}; cut scales into bins first."
        )
    if not bool(torch.isfinite(codes).all()):
        raise ValueError("the codes contain NaN or infinite values.")
    return codes.detach().double().cpu(), factors.cpu()


def _quantile_bins(z: Tensor, bins: int) -> Tensor:
    """The bin of each number, `(N,)` 0..bins-1: by its rank, with equal numbers in one bin."""
    z = z.contiguous()
    ordered = torch.sort(z).values
    rank = torch.searchsorted(ordered, z)  # of the first of equal ones
    return (rank * bins).div(len(z), rounding_mode="floor")
