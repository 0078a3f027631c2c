"""Exercise 01, unsupervised learning: k-means and its start, principal components, densities from a histogram, kernels and EM.

Sizes: N points of D features, M other points, K clusters or components. No point lies so near a border that rounding could put
it on the other side.

Tolerances: over 100 seeds the reference in float32 is within 2e-6 of `1 + |right answer|`. Principal components lose a digit
where variances are near each other, and points that are fifty standard deviations away two, which is where theirs are wider.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gencourse.grading.questions import Check, Drawn, Inputs, Measure, Question, alike, told

# --- 1.1 a step of k-means --------------------------------------------------------------------------------------------


def _squared(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances of all pairs, (N, K)."""
    return (x[:, None] - y).square().sum(-1)


def _one_hot(index: Tensor, K: int) -> Tensor:
    return (index[:, None] == torch.arange(K)).float()


def _nearest(x: Tensor, centres: Tensor) -> Tensor:
    return _one_hot(_squared(x, centres).argmin(1), len(centres))


def _kmeans_of(
    member: Callable = _nearest,
    counts: Callable = lambda weight: weight,
    mean: Callable = lambda total, count: total / count.clamp(min=1e-9),
    empty: Callable = lambda x, centres: centres,
) -> Callable:
    """One step, one part replaced: who belongs to whom (N, K), what a point counts, how they are averaged, what has no points."""

    def step(x: Tensor, weight: Tensor, centres: Tensor) -> Tensor:
        of_centre = member(x, centres).to(x) * counts(weight)[:, None]
        count = of_centre.sum(0)[:, None]
        return torch.where(count > 0, mean(of_centre.T @ x, count), empty(x, centres))

    return step


_kmeans = _kmeans_of()


def _unevenly(x: Tensor, weight: Tensor, centres: Tensor) -> Tensor:
    """Sums with weights, divided by the number of points."""
    member = _nearest(x, centres).to(x)
    count = member.sum(0)[:, None]
    return torch.where(count > 0, (member * weight[:, None]).T @ x / count.clamp(min=1), centres)


def _medians(x: Tensor, weight: Tensor, centres: Tensor) -> Tensor:
    of = _squared(x, centres).argmin(1)
    repeated = x.repeat_interleave(weight.long(), 0), of.repeat_interleave(weight.long())
    found = [repeated[0][repeated[1] == k] for k in range(len(centres))]
    return torch.stack(
        [points.median(0).values if len(points) else centre for points, centre in zip(found, centres, strict=True)]
    )


def _without_points(x: Tensor, weight: Tensor, centres: Tensor) -> Tensor:
    """The centres that have points; the others are left out."""
    return _kmeans(x, weight, centres)[_nearest(x, centres).sum(0) > 0]


def _repeated(x: Tensor, weight: Tensor, centres: Tensor) -> Tensor:
    """As many steps as it takes."""
    for _ in range(50):
        centres = _kmeans(x, weight, centres)
    return centres


def _clouds(rng: np.random.Generator, N: int, K: int, D: int, empty: bool = False) -> Inputs:
    """Points around their centres, and centres that have left them somewhat; `empty` adds one far from everything.

    Two more steps would each move them again.
    """
    while True:
        true = 2.0 * rng.standard_normal((K, D)) + rng.uniform(1, 2, D)
        of = rng.permutation(np.arange(N) % K)
        x = true[of] + 1.2 * rng.standard_normal((N, D))
        centres = true + 1.2 * rng.standard_normal((K, D))
        if empty:
            centres = np.insert(centres, rng.integers(0, K + 1), rng.choice([-1, 1], D) * rng.uniform(14, 20, D), axis=0)
        off = x[:, None] - centres
        squared = np.sort((off**2).sum(-1), axis=1)
        nearest = (off**2).sum(-1).argmin(1)
        sure = (squared[:, 1] - squared[:, 0]).min() > 0.02
        used = np.bincount(nearest, minlength=len(centres))
        all_used = (used >= 2).sum() == K
        other = (nearest != np.abs(off).sum(-1).argmin(1)).any() and (nearest != (off[..., 0] ** 2).argmin(1)).any()
        weight = rng.integers(1, 6, N)
        uneven = all(len(set(weight[nearest == k])) > 1 for k in np.flatnonzero(used))
        if sure and all_used and other and uneven:
            inputs = {"x": x, "weight": weight.astype(float), "centres": centres}
            given = [torch.from_numpy(array) for array in inputs.values()]
            once = _kmeans(*given)
            twice = _kmeans(*given[:2], once)
            if bool((once != twice).any() and (twice != _kmeans(*given[:2], twice)).any()):
                return inputs


KMEANS = Question(
    id="1.1",
    title="A step of k-means",
    function="kmeans_step",
    returns="(K, D)",
    reference=_kmeans,
    example={"x": [[0.0], [1.0], [5.0]], "weight": [1.0, 3.0, 2.0], "centres": [[0.0], [4.0]]},
    checks=(
        Check("values", 2, lambda rng: _clouds(rng, N=23, K=4, D=3)),
        Check("a centre without points", 1, lambda rng: _clouds(rng, N=21, K=4, D=2, empty=True)),
    ),
    mistakes={
        "weights ignored": _kmeans_of(counts=lambda weight: torch.ones_like(weight)),
        "divided by the number of points": _unevenly,
        "weights squared": _kmeans_of(counts=lambda weight: weight**2),
        "sum for the mean": _kmeans_of(mean=lambda total, count: total),
        "farthest centre": _kmeans_of(lambda x, centres: _one_hot(_squared(x, centres).argmax(1), len(centres))),
        "distances along the axes": _kmeans_of(
            lambda x, centres: _one_hot((x[:, None] - centres).abs().sum(-1).argmin(1), len(centres))
        ),
        "largest product": _kmeans_of(lambda x, centres: _one_hot((x @ centres.T).argmax(1), len(centres))),
        "first feature only": _kmeans_of(lambda x, centres: _one_hot(_squared(x[:, :1], centres[:, :1]).argmin(1), len(centres))),
        "each centre's nearest point": _kmeans_of(lambda x, centres: _one_hot(_squared(x, centres).argmin(0), len(x)).T),
        "shared among the centres": _kmeans_of(lambda x, centres: (-_squared(x, centres)).softmax(1)),
        "median": _medians,
        "two steps": lambda x, weight, centres: _kmeans(x, weight, _kmeans(x, weight, centres)),
        "until it stands still": _repeated,
        "half a step": lambda x, weight, centres: (_kmeans(x, weight, centres) + centres) / 2,
        "centre counted too": _kmeans_of(mean=lambda total, count: total / (count + 1)),
        "empty becomes NaN": _kmeans_of(empty=lambda x, centres: centres * torch.nan),
        "empty goes to the origin": _kmeans_of(empty=lambda x, centres: 0 * centres),
        "empty goes to the mean": _kmeans_of(empty=lambda x, centres: x.mean(0).expand_as(centres)),
        "empty is left out": _without_points,
    },
)

# --- 1.2 where k-means starts -----------------------------------------------------------------------------------------


def _start_of(near: Callable = lambda squared: squared.amin(1), end: Callable = lambda near: near / near.sum()) -> Callable:
    """The probabilities, how far a point is from the centres or what is made of that replaced."""
    return lambda x, centres: end(near(_squared(x, centres)))


_start = _start_of()


def _some_chosen(rng: np.random.Generator, N: int, D: int, K: int) -> Inputs:
    """Points, the first few centres among them: which of them is nearest differs, and none is nearest to all."""
    while True:
        x = 1.5 * rng.standard_normal((N, D)) + rng.uniform(-1, 1, D)
        centres = x[rng.permutation(N)[:K]]
        squared = np.square(x[:, None] - centres).sum(-1)
        often = np.bincount(squared.argmin(1), minlength=K)
        largest = np.sort(squared.min(1))
        if often.min() >= 2 and 0.1 < largest[-1] - largest[-2] < 4:  # or its softmax is the farthest point for certain
            return {"x": x, "centres": centres}


SEEDING = Question(
    id="1.2",
    title="Where k-means starts",
    function="next_centre",
    returns="(N,)",
    reference=_start,
    example={"x": [[0.0], [1.0], [3.0], [8.0]], "centres": [[0.0], [8.0]]},
    checks=(Check("values", 2, lambda rng: _some_chosen(rng, N=13, D=3, K=4), rtol=1e-4, atol=3e-6),),
    mistakes={
        "distance not squared": _start_of(lambda squared: squared.amin(1).sqrt()),
        "squared twice": _start_of(lambda squared: squared.amin(1) ** 2),
        "farthest of the centres": _start_of(lambda squared: squared.amax(1)),
        "mean over the centres": _start_of(lambda squared: squared.mean(1)),
        "product over the centres": _start_of(lambda squared: squared.prod(1)),
        "last centre only": _start_of(lambda squared: squared[:, -1]),
        "first centre only": _start_of(lambda squared: squared[:, 0]),
        "middle of the centres": lambda x, centres: _start(x, centres.mean(0, keepdim=True)),
        "not normalised": _start_of(end=lambda near: near),
        "largest is one": _start_of(end=lambda near: near / near.max()),
        "squares add up to one": _start_of(end=lambda near: near / near.norm()),
        "softmax": _start_of(end=lambda near: near.softmax(0)),
        "near ones preferred": _start_of(end=lambda near: (-near).softmax(0)),
        "farthest point for certain": _start_of(end=lambda near: _one_hot(near.argmax()[None], len(near))[0]),
        "all but the centres alike": _start_of(end=lambda near: (near > 1e-9).float() / (near > 1e-9).sum()),
        "all pairs": lambda x, centres: _squared(x, centres) / _squared(x, centres).sum(),
    },
)

# --- 1.3 principal components -----------------------------------------------------------------------------------------


def _how_many(variances: Tensor, share: Tensor) -> int:
    """The least number of components, the largest first, that keep the share."""
    return int((variances.cumsum(0) / variances.sum() < share).sum()) + 1


def _pca_of(
    centre: Callable = lambda x: x.mean(0),
    scale: Callable = lambda x: torch.ones_like(x[0]),
    many: Callable = _how_many,
    project: Callable = lambda off, V, k: off @ V[:, :k] @ V[:, :k].T,
    back: Callable = lambda x, y: x.mean(0),
    of_y: Callable = lambda x, y: x.mean(0),
    order: Callable = lambda x, variances, V: (variances.flip(0), V.flip(1)),
) -> Callable:
    """The reconstruction, one part replaced."""

    def reconstruct(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
        spread = scale(x)
        off = ((x - centre(x)) / spread).double()
        variances, V = torch.linalg.eigh(off.T @ off)
        variances, V = order(x, variances.clamp(min=0), V)
        new = ((y - of_y(x, y)) / spread).double()
        kept = [project(new, V, many(variances, one)) * spread + back(x, y) for one in share]
        return torch.stack(kept).to(y)

    return reconstruct


_pca = _pca_of()


def _of_the_others(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """Mean and components of the points that are reconstructed."""
    return _pca(y, y, share)


def _first_features(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """The features of largest variance in place of components."""
    variances, place = x.var(0).sort(descending=True)
    keep = torch.stack([torch.zeros_like(x[0]).index_fill(0, place[: _how_many(variances, one)], 1.0) for one in share])[:, None]
    return keep * y + (1 - keep) * x.mean(0)


def _stretched(rng: np.random.Generator, N: int, D: int, M: int) -> Inputs:
    """Points whose variances along their components fall step by step; each share lies between what k - 1 and k of them keep."""
    rank = min(D, N - 1)
    U = np.linalg.qr(np.column_stack([np.ones(N), rng.standard_normal((N, rank))]))[0][:, 1:]
    V = np.linalg.qr(rng.standard_normal((D, D)))[0][:, :rank]
    variances = np.cumprod(np.r_[1.0, rng.uniform(0.5, 0.65, rank - 1)])
    kept = np.r_[0.0, np.cumsum(variances) / variances.sum()]
    roots, backwards = (np.cumsum(part) / part.sum() for part in (np.sqrt(variances), variances[::-1]))
    while True:  # until shares of standard deviations, and the smallest first, do not look like other mistakes
        k = rng.permutation(5)[:4]
        share = kept[k] + rng.uniform(0.4, 0.6, 4) * (kept[k + 1] - kept[k])
        if (np.searchsorted(roots, share) != k + 1).any() and (np.searchsorted(backwards, share) < rank - 1).any():
            break
    mean, far = rng.uniform(1, 2, D) * rng.choice([-1, 1], D), np.sqrt(N * variances)
    y = mean + rng.standard_normal((M, rank)) * np.sqrt(variances) @ V.T + 0.3 * rng.standard_normal((M, D)) + 0.4
    return {"x": mean + U * far @ V.T, "y": y, "share": share}


def _more_features(rng: np.random.Generator) -> Inputs:
    return _stretched(rng, N=7, D=9, M=5)


PCA = Question(
    id="1.3",
    title="Principal components, as many as it takes",
    function="reconstruct",
    returns="(S, M, D)",
    reference=_pca,
    example={"x": [[0.0, 0.0], [2.0, 2.0], [1.0, 0.0], [1.0, 2.0]], "y": [[3.0, 0.0]], "share": [0.5, 0.9]},
    checks=(
        Check("values", 3, lambda rng: _stretched(rng, N=15, D=6, M=7), rtol=3e-4, atol=3e-4),
        Check("more features than points", 1, _more_features, rtol=3e-4, atol=3e-4),
    ),
    mistakes={
        "not centred": _pca_of(centre=lambda x: 0 * x[0], back=lambda x, y: 0 * x[0], of_y=lambda x, y: 0 * x[0]),
        "components not centred": _pca_of(centre=lambda x: 0 * x[0]),
        "mean not added again": _pca_of(back=lambda x, y: 0 * x[0]),
        "mean not taken off": _pca_of(of_y=lambda x, y: 0 * x[0]),
        "mean of the new points": _pca_of(back=lambda x, y: y.mean(0), of_y=lambda x, y: y.mean(0)),
        "components of the new points": _of_the_others,
        "smallest first": _pca_of(order=lambda x, variances, V: (variances, V)),
        "smallest directions, largest variances": _pca_of(order=lambda x, variances, V: (variances.flip(0), V)),
        "rows for columns": _pca_of(order=lambda x, variances, V: (variances.flip(0), V.flip(1).T)),
        "one too few": _pca_of(many=lambda variances, share: _how_many(variances, share) - 1),
        "one too many": _pca_of(many=lambda variances, share: _how_many(variances, share) + 1),
        "shares of standard deviations": _pca_of(many=lambda variances, share: _how_many(variances.sqrt(), share)),
        "shares of squared variances": _pca_of(many=lambda variances, share: _how_many(variances**2, share)),
        "share that is lost": _pca_of(many=lambda variances, share: _how_many(variances, 1 - share)),
        "each one's share by itself": _pca_of(
            many=lambda variances, share: max(int((variances / variances.sum() >= 1 - share).sum()), 1)
        ),
        "last component only": _pca_of(project=lambda off, V, k: off @ V[:, k - 1 : k] @ V[:, k - 1 : k].T),
        "what is left over": _pca_of(project=lambda off, V, k: off - off @ V[:, :k] @ V[:, :k].T),
        "everything kept": lambda x, y, share: y.expand(len(share), -1, -1),
        "features scaled": _pca_of(scale=lambda x: x.std(0)),
        "features for components": _first_features,
    },
)

# --- 1.4 a histogram --------------------------------------------------------------------------------------------------


def _within(place: Tensor, bins: Tensor) -> Tensor:
    return torch.minimum(place.clamp(min=0), bins - 1).long()


def _floor(place: Tensor, bins: Tensor) -> Tensor:
    return _within(place.floor(), bins)


def _cells(x: Tensor, low: Tensor, high: Tensor, bins: Tensor, whole: Callable = _floor) -> Tensor:
    """The row and the column of each point's bin, (N, 2)."""
    return whole((x - low) / (high - low) * bins, bins)


def _histogram_of(
    whole: Callable = _floor,
    of: Callable = lambda x, y: x,
    edges: Callable = lambda x, low, high: (low, high),
    total: Callable = lambda N, bins, alpha: N + alpha * bins.prod(),
    area: Callable = lambda side: side.prod(),
    pseudo: Callable = lambda alpha: alpha,
    end: Callable = lambda density: density.log(),
) -> Callable:
    """The log-density, one part replaced."""

    def histogram(x: Tensor, y: Tensor, low: Tensor, high: Tensor, bins: Tensor, alpha: Tensor) -> Tensor:
        low, high = edges(x, low, high)
        points = of(x, y)
        cell = _cells(points, low, high, bins, whole)
        count = torch.zeros(tuple(bins.long())).to(x).index_put(tuple(cell.T), torch.ones(len(points)).to(x), accumulate=True)
        found = count[tuple(_cells(y, low, high, bins, whole).T)] + pseudo(alpha)
        return end(found / total(len(points), bins, alpha) / area((high - low) / bins))

    return histogram


_histogram = _histogram_of()


def _rounded(place: Tensor, bins: Tensor) -> Tensor:
    return _within(place.round(), bins)


def _past_the_edge(place: Tensor, bins: Tensor) -> Tensor:
    """A point on the upper edge falls into the first bin, as if the box were a circle."""
    return (place + 1e-4).floor().remainder(bins).long()


def _below_the_edge(x: Tensor, y: Tensor, low: Tensor, high: Tensor, bins: Tensor, alpha: Tensor) -> Tensor:
    """Points on the upper edge are in no bin: they are not counted, and an empty bin's density is said of them."""
    inside = (x < high - 1e-4).all(1)
    total = len(x) + alpha * bins.prod()
    said = _histogram_of(total=lambda N, bins, alpha: total)(x[inside], y, low, high, bins, alpha)
    empty = (alpha / total / ((high - low) / bins).prod()).log()
    return torch.where((y < high - 1e-4).all(1), said, empty)


def _boxed(rng: np.random.Generator, N: int, M: int, on_the_edge: bool = False) -> Drawn:
    """Points in an oblong box, some bins full and some empty; those asked about lie in both."""
    while True:
        bins = rng.permutation(6)[:2] + 3
        alpha, n = float(rng.choice([0.5, 1.5, 2.0, 3.0])), int(bins.prod())
        low = rng.uniform(-3, -1, 2)
        high = low + rng.permutation([rng.uniform(2.5, 3.5), rng.uniform(5.0, 7.0)])
        cells = rng.dirichlet(np.full(n, 0.25))
        cell_x, cell_y = (np.r_[0, n - 1, cell] for cell in (rng.choice(n, N - 2, p=cells), rng.permutation(n)[: M - 2]))
        x, y = (_inside(rng, cell, bins) for cell in (cell_x, cell_y))
        if on_the_edge:
            for place in (x, y):
                place[2:4, 0] = 1
                place[4:7, 1] = 1
            x[7:9], y[2], y[4] = 1, x[2], 1
        count = np.zeros(bins)
        of_x, of_y = (np.minimum((place * bins).astype(int), bins - 1) for place in (x, y))
        np.add.at(count, tuple(of_x.T), 1)
        found, turned = count[tuple(of_y.T)], count[tuple(np.minimum(of_y[:, ::-1], bins - 1).T)]
        if (found == 0).sum() >= 2 and len(set(found)) >= 3 and (turned != found).sum() >= 2:
            x, y = (low + place * (high - low) for place in (x, y))
            return {"x": x, "y": y, "low": low, "high": high, "bins": bins.astype(float), "alpha": alpha}


def _inside(rng: np.random.Generator, cell: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """A place in each of these bins, not near its sides; the box is the unit square."""
    return (np.column_stack(np.unravel_index(cell, bins)) + rng.uniform(0.05, 0.95, (len(cell), 2))) / bins


HISTOGRAM = Question(
    id="1.4",
    title="A density from a histogram",
    function="histogram_log_prob",
    returns="(M,)",
    reference=_histogram,
    example={
        "x": [[0.1, 0.5], [0.3, 0.7], [0.9, 3.0]],
        "y": [[0.2, 0.6], [0.8, 0.4]],
        "low": [0.0, 0.0],
        "high": [1.0, 4.0],
        "bins": [2.0, 3.0],
        "alpha": 1.0,
    },
    checks=(
        Check("values", 3, lambda rng: _boxed(rng, N=50, M=13)),
        Check("points on the edge", 1, lambda rng: _boxed(rng, N=40, M=14, on_the_edge=True)),
    ),
    mistakes={
        "no area": _histogram_of(area=lambda side: 1.0),
        "multiplied by the area": _histogram_of(area=lambda side: 1 / side.prod()),
        "area of the box": lambda x, y, low, high, bins, alpha: _histogram(x, y, low, high, bins, alpha) - bins.prod().log(),
        "one side for the area": _histogram_of(area=lambda side: side[0]),
        "square of one side": _histogram_of(area=lambda side: side[0] ** 2),
        "counts": _histogram_of(total=lambda N, bins, alpha: 1.0, area=lambda side: 1.0),
        "counts divided by the area": _histogram_of(total=lambda N, bins, alpha: 1.0),
        "no logarithm": _histogram_of(end=lambda density: density),
        "sign": _histogram_of(end=lambda density: -density.log()),
        "bits": _histogram_of(end=lambda density: density.log2()),
        "no pseudo-count": _histogram_of(total=lambda N, bins, alpha: N, pseudo=lambda alpha: 0.0),
        "pseudo-count not in the total": _histogram_of(total=lambda N, bins, alpha: N),
        "pseudo-count once in the total": _histogram_of(total=lambda N, bins, alpha: N + alpha),
        "one side's bins in the total": _histogram_of(total=lambda N, bins, alpha: N + alpha * bins[0]),
        "bins added in the total": _histogram_of(total=lambda N, bins, alpha: N + alpha * bins.sum()),
        "one for alpha": lambda x, y, low, high, bins, alpha: _histogram(x, y, low, high, bins, torch.ones_like(alpha)),
        "features exchanged": lambda x, y, low, high, bins, alpha: _histogram(x, y.flip(1), low, high, bins, alpha),
        "nearest edge": _histogram_of(_rounded),
        "one bin too far": _histogram_of(lambda place, bins: _within(place.floor() + 1, bins)),
        "histogram of the new points": _histogram_of(of=lambda x, y: y),
        "edges from the points": _histogram_of(edges=lambda x, low, high: (x.amin(0), x.amax(0))),
        "upper edge in the first bin": _histogram_of(_past_the_edge),
        "upper edge in no bin": _below_the_edge,
    },
)

# --- 1.5 kernels, each point left out ---------------------------------------------------------------------------------


def _others(log_k: Tensor) -> Tensor:
    """The kernels' logarithms without the diagonal, which becomes -infinity."""
    return log_k.masked_fill(torch.eye(len(log_k), dtype=torch.bool), -torch.inf)


def _half_square(off: Tensor, h: Tensor) -> Tensor:
    """Of the deviations (N, N, D), in bandwidths."""
    return 0.5 * (off / h).square().sum(-1)


def _left_out_of(
    distance: Callable = _half_square,
    norm: Callable = lambda h: (h * math.sqrt(2 * math.pi)).log().sum(),
    who: Callable = _others,
    average: Callable = lambda log_k, N: log_k.logsumexp(1) - math.log(N - 1),
    end: Callable = lambda log_p: log_p,
) -> Callable:
    """The log-density, one part replaced."""

    def leave_one_out(x: Tensor, h: Tensor) -> Tensor:
        return end(average(who(-distance(x[:, None] - x, h)), len(x)) - norm(h))

    return leave_one_out


_left_out = _left_out_of()


def _mean_of_logarithms(log_k: Tensor, N: int) -> Tensor:
    return log_k.masked_fill(log_k == -torch.inf, 0).sum(1) / (N - 1)


def _with_own(x: Tensor, h: Tensor) -> Tensor:
    """The diagonal of the kernels' logarithms is 0 in place of minus infinity."""
    log_k = -_half_square(x[:, None] - x, h) - (h * math.sqrt(2 * math.pi)).log().sum()
    return (log_k * (1 - torch.eye(len(x)).to(x))).logsumexp(1) - math.log(len(x) - 1)


def _bandwidths(rng: np.random.Generator, D: int) -> np.ndarray:
    """Different ones, and none near 1."""
    return rng.permutation(np.linspace(0.35, 0.8, D)) * rng.uniform(0.95, 1.05, D)


def _near_ones(rng: np.random.Generator, N: int, D: int) -> dict[str, np.ndarray]:
    return {"x": rng.standard_normal((N, D)) + rng.uniform(-2, 2, D), "h": _bandwidths(rng, D)}


def _lonely(rng: np.random.Generator) -> Inputs:
    """Two of the points are more than forty bandwidths away from all others, so that their densities underflow in float64."""
    inputs = _near_ones(rng, N=10, D=3)
    way = rng.standard_normal((2, 3))
    way[1] = -way[0] + 0.3 * way[1]
    inputs["x"][[2, 6]] += inputs["h"] * rng.uniform(48, 56, (2, 1)) * way / np.linalg.norm(way, axis=1, keepdims=True)
    return inputs


LEFT_OUT = Question(
    id="1.5",
    title="Kernels, each point left out",
    function="leave_one_out",
    returns="(N,)",
    reference=_left_out,
    example={"x": [[0.0, 0.0], [1.0, 0.0], [3.0, 1.0]], "h": [0.5, 2.0]},
    checks=(
        Check("values", 2, lambda rng: _near_ones(rng, N=9, D=3)),
        Check("points far from all others", 2, _lonely, rtol=1e-4, atol=1e-3),
    ),
    mistakes={
        "sees itself": _left_out_of(who=lambda log_k: log_k, average=lambda log_k, N: log_k.logsumexp(1) - math.log(N)),
        "sees itself, divided by one less": _left_out_of(who=lambda log_k: log_k),
        "divided by all": _left_out_of(average=lambda log_k, N: log_k.logsumexp(1) - math.log(N)),
        "sum of the kernels": _left_out_of(average=lambda log_k, N: log_k.logsumexp(1)),
        "mean of the logarithms": _left_out_of(average=_mean_of_logarithms),
        "nearest neighbour only": _left_out_of(average=lambda log_k, N: log_k.amax(1)),
        "h for a variance": lambda x, h: _left_out(x, h.sqrt()),
        "own logarithm is 0": lambda x, h: _with_own(x, h),
        "h for its square": _left_out_of(lambda off, h: 0.5 * (off.square() / h).sum(-1)),
        "no half": _left_out_of(lambda off, h: (off / h).square().sum(-1)),
        "distance not squared": _left_out_of(lambda off, h: 0.5 * ((off / h).square().sum(-1) + 1e-20).sqrt()),
        "first bandwidth for all": lambda x, h: _left_out(x, h[:1].expand_as(h)),
        "mean bandwidth for all": lambda x, h: _left_out(x, h.mean().expand_as(h)),
        "kernels averaged over the features": _left_out_of(lambda off, h: 0.5 * (off / h).square().mean(-1)),
        "no constant": _left_out_of(norm=lambda h: 0.0),
        "constant of one dimension": _left_out_of(norm=lambda h: h.log().sum() + 0.5 * math.log(2 * math.pi)),
        "no h in the constant": _left_out_of(norm=lambda h: len(h) * 0.5 * math.log(2 * math.pi)),
        "no pi in the constant": _left_out_of(norm=lambda h: h.log().sum()),
        "half of h in the constant": _left_out_of(norm=lambda h: 0.5 * (2 * math.pi * h).log().sum()),
        "h squared in the constant": _left_out_of(norm=lambda h: (h.square() * math.sqrt(2 * math.pi)).log().sum()),
        "constant added": _left_out_of(norm=lambda h: -(h * math.sqrt(2 * math.pi)).log().sum()),
        "no logarithm": _left_out_of(end=lambda log_p: log_p.exp()),
        "sign": _left_out_of(end=lambda log_p: -log_p),
        "bits": _left_out_of(end=lambda log_p: log_p / math.log(2)),
        "mean over the points": _left_out_of(end=lambda log_p: log_p.mean()),
        "sum over the points": _left_out_of(end=lambda log_p: log_p.sum()),
        "unstable": _left_out_of(average=lambda log_k, N: (log_k.exp().sum(1) / (N - 1)).log()),
        "small number added": _left_out_of(average=lambda log_k, N: (log_k.exp().sum(1) / (N - 1) + 1e-12).log()),
    },
)

# --- 1.6 whose point is it --------------------------------------------------------------------------------------------


def _mahalanobis(off: Tensor, cov: Tensor) -> Tensor:
    """Squared, of (N, K, D) and (K, D, D): (N, K)."""
    return (off * torch.linalg.solve(cov, off.unsqueeze(-1)).squeeze(-1)).sum(-1)


def _e_step_of(
    distance: Callable = _mahalanobis,
    half: float = 0.5,
    volume: Callable = lambda cov: -0.5 * torch.logdet(cov),
    prior: Callable = lambda weight: weight.log(),
    end: Callable = lambda log_joint: log_joint.log_softmax(1),
) -> Callable:
    """Their logarithms, one part replaced."""

    def log_responsibilities(x: Tensor, weight: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
        off = (x[:, None] - mean).double()  # (N, K, D)
        C = cov.double()
        return end(prior(weight.double()) + volume(C) - half * distance(off, C)).to(x)

    return log_responsibilities


_e_step = _e_step_of()
_joint = _e_step_of(end=lambda log_joint: log_joint)


def _constant(x: Tensor) -> float:
    return x.shape[1] / 2 * math.log(2 * math.pi)


def _on_the_diagonal(off: Tensor, cov: Tensor) -> Tensor:
    return (off**2 / cov.diagonal(dim1=-2, dim2=-1)).sum(-1)


def _covariances(rng: np.random.Generator, K: int, D: int) -> np.ndarray:
    turn = np.linalg.qr(rng.standard_normal((K, D, D)))[0]
    return np.einsum("kij,kj,klj->kil", turn, rng.uniform(0.4, 2.5, (K, D)), turn)


def _weights(rng: np.random.Generator, K: int) -> np.ndarray:
    """Unequal ones."""
    weight = rng.permutation(np.geomspace(1, 6, K)) * rng.uniform(0.9, 1.1, K)
    return weight / weight.sum()


def _mixed(rng: np.random.Generator, N: int, K: int, D: int) -> Inputs:
    """Components that overlap."""
    return {
        "x": 1.3 * rng.standard_normal((N, D)),
        "weight": _weights(rng, K),
        "mean": rng.standard_normal((K, D)),
        "cov": _covariances(rng, K, D),
    }


def _far_away(rng: np.random.Generator) -> Inputs:
    """Points more than forty standard deviations from every component: all densities underflow, in float64 too.

    Two of the components have the same covariance, and the points lie about as far from either. The third has none of them, so
    that its responsibility underflows as well. The first point lies among the components, so that a logarithm of zero elsewhere
    leaves numbers to tell mistakes apart.
    """
    inputs = dict(_mixed(rng, N=6, K=3, D=2))
    C, mean = inputs["cov"], inputs["mean"]
    C[1], C[2] = C[0], 0.5 * C[0]
    root = np.linalg.cholesky(C[0])
    turn = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    sides = np.array([[0.7, 0], [-0.7, 0], rng.uniform(-0.5, 0.5, 2)])  # in units of standard deviations
    inputs["mean"] = mean[0] + sides @ turn.T @ root.T
    way = np.column_stack([rng.uniform(-0.9, 0.9, 6), rng.choice([-1, 1], 6) * rng.permutation(np.linspace(41, 66, 6))])
    way[0] *= 0.03
    inputs["x"] = mean[0] + way @ turn.T @ root.T
    return inputs


E_STEP = Question(
    id="1.6",
    title="Whose point is it",
    function="log_responsibilities",
    returns="(N, K)",
    reference=_e_step,
    example={
        "x": [[0.0], [2.0]],
        "weight": [0.25, 0.75],
        "mean": [[0.0], [3.0]],
        "cov": [[[1.0]], [[4.0]]],
    },
    checks=(
        Check("values", 2, lambda rng: _mixed(rng, N=8, K=4, D=3)),
        Check("points far from every component", 2, _far_away, rtol=1e-2, atol=1e-2),
    ),
    mistakes={
        "no weights": _e_step_of(prior=lambda weight: 0 * weight),
        "weights without logarithm": _e_step_of(prior=lambda weight: weight),
        "divided by the weights": _e_step_of(prior=lambda weight: -weight.log()),
        "no volume": _e_step_of(volume=lambda cov: torch.zeros(len(cov)).to(cov)),
        "volume with the wrong sign": _e_step_of(volume=lambda cov: 0.5 * torch.logdet(cov)),
        "volume without its half": _e_step_of(volume=lambda cov: -torch.logdet(cov)),
        "volume of the diagonal": _e_step_of(volume=lambda cov: -0.5 * cov.diagonal(dim1=-2, dim2=-1).log().sum(-1)),
        "distance without its half": _e_step_of(half=1.0),
        "covariance not inverted": _e_step_of(lambda off, cov: (off * (cov @ off.unsqueeze(-1)).squeeze(-1)).sum(-1)),
        "covariance for the precision": lambda x, weight, mean, cov: _e_step(x, weight, mean, torch.linalg.inv(cov)),
        "covariance ignored": _e_step_of(lambda off, cov: (off**2).sum(-1)),
        "diagonal only": _e_step_of(_on_the_diagonal),
        "distance not squared": _e_step_of(lambda off, cov: _mahalanobis(off, cov).sqrt()),
        "normalised over the points": _e_step_of(end=lambda log_joint: log_joint.log_softmax(0)),
        "not normalised": lambda x, *rest: _joint(x, *rest) - _constant(x),
        "not normalised, no constant": _joint,
        "densities alone": lambda x, weight, *rest: _joint(x, torch.ones_like(weight), *rest) - _constant(x),
        "no logarithm": _e_step_of(end=lambda log_joint: log_joint.softmax(1)),
        "logarithms divided by their sum": _e_step_of(end=lambda log_joint: log_joint / log_joint.sum(1, keepdim=True)),
        "less the largest": _e_step_of(end=lambda log_joint: log_joint - log_joint.amax(1, keepdim=True)),
        "less the mean": _e_step_of(end=lambda log_joint: log_joint - log_joint.mean(1, keepdim=True)),
        "transposed": lambda *inputs: _e_step(*inputs).T,
        "bits": _e_step_of(end=lambda log_joint: log_joint.log_softmax(1) / math.log(2)),
        "unstable": _e_step_of(end=lambda log_joint: (log_joint.exp() / log_joint.exp().sum(1, keepdim=True)).log()),
        "logarithm of the softmax": _e_step_of(end=lambda log_joint: log_joint.softmax(1).log()),
        "small number added": _e_step_of(end=lambda log_joint: (log_joint.softmax(1) + 1e-12).log()),
    },
)

# --- 1.7 the components anew ------------------------------------------------------------------------------------------


def _about(x: Tensor, mean: Tensor, r: Tensor) -> Tensor:
    """Sums of products of deviations, (K, D, D)."""
    off = x[:, None] - mean  # (N, K, D)
    return torch.einsum("nk,nki,nkj->kij", r, off, off)


def _m_step_of(
    share: Callable = lambda r: r,
    weight: Callable = lambda n: n / n.sum(),
    mean: Callable = lambda x, r, n: r.T @ x / n[:, None],
    centre: Callable = lambda x, mean: mean,
    divide: Callable = lambda n, N: n,
    ridge: Callable = lambda C, ridge: C + ridge * torch.eye(C.shape[-1]).to(C),
) -> Callable:
    """The M-step, one part replaced."""

    def m_step(x: Tensor, r: Tensor, ridge_: Tensor) -> Tensor:
        r = share(r)
        n = r.sum(0)  # (K,)
        m = mean(x, r, n)
        C = ridge(_about(x, centre(x, m), r) / divide(n, len(x))[:, None, None], ridge_)
        return torch.cat([weight(n)[:, None], m, C.flatten(1)], dim=1)

    return m_step


_m_step = _m_step_of()


def _with_squares(x: Tensor, r: Tensor, ridge: Tensor) -> Tensor:
    """Means and weights are right, and the covariance's terms are multiplied by the responsibility twice."""
    right, n = _m_step(x, r, ridge), r.sum(0)
    K, D = r.shape[1], x.shape[1]
    C = _about(x, right[:, 1 : D + 1], r**2) / n[:, None, None] + ridge * torch.eye(D).to(x)
    return torch.cat([right[:, : D + 1], C.reshape(K, -1)], dim=1)


def _soft(rng: np.random.Generator, N: int, K: int, D: int) -> Drawn:
    stretched = rng.standard_normal((N, D)) @ rng.standard_normal((D, D)) + rng.uniform(1, 2, D)
    r = rng.dirichlet(rng.permutation(np.geomspace(0.4, 1.6, K)), N)
    return {"x": stretched, "r": r, "ridge": float(rng.choice([0.05, 0.1, 0.2, 0.35]))}


M_STEP = Question(
    id="1.7",
    title="The components anew",
    function="m_step",
    returns="(K, 1 + D + D * D)",
    reference=_m_step,
    example={"x": [[0.0], [1.0], [4.0]], "r": [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], "ridge": 0.25},
    checks=(Check("values", 3, lambda rng: _soft(rng, N=14, K=3, D=2), rtol=1e-4, atol=1e-4),),
    mistakes={
        "weights are counts": _m_step_of(weight=lambda n: n),
        "weights all alike": _m_step_of(weight=lambda n: torch.full_like(n, 1 / len(n))),
        "means divided by all": _m_step_of(mean=lambda x, r, n: r.T @ x / len(x), centre=lambda x, m: m),
        "sums for means": _m_step_of(mean=lambda x, r, n: r.T @ x),
        "one mean for all": _m_step_of(mean=lambda x, r, n: x.mean(0).expand(len(n), -1)),
        "around the mean of all": _m_step_of(centre=lambda x, mean: x.mean(0).expand_as(mean)),
        "around the origin": _m_step_of(centre=lambda x, mean: 0 * mean),
        "covariances divided by all": _m_step_of(divide=lambda n, N: torch.full_like(n, N)),
        "covariances not divided": _m_step_of(divide=lambda n, N: torch.ones_like(n)),
        "divided by one less": _m_step_of(divide=lambda n, N: n - 1),
        "responsibility squared": _m_step_of(share=lambda r: r**2),
        "responsibility twice in the covariance": _with_squares,
        "most responsible only": _m_step_of(share=lambda r: _one_hot(r.argmax(1), r.shape[1]).to(r)),
        "responsibility ignored": _m_step_of(share=lambda r: torch.full_like(r, 1 / r.shape[1])),
        "no ridge": _m_step_of(ridge=lambda C, ridge: C),
        "ridge everywhere": _m_step_of(ridge=lambda C, ridge: C + ridge),
        "ridge squared": _m_step_of(ridge=lambda C, ridge: C + ridge**2 * torch.eye(C.shape[-1]).to(C)),
        "diagonal only": _m_step_of(ridge=lambda C, ridge: (C + ridge) * torch.eye(C.shape[-1]).to(C)),
        "roots of the covariances": _m_step_of(
            ridge=lambda C, ridge: C.clamp(min=0).sqrt() + ridge * torch.eye(C.shape[-1]).to(C)
        ),
    },
)

# --- 1.8 estimate a density -------------------------------------------------------------------------------------------

_NOISE, _SIDE = 0.22, 40
"""The standard deviation of the points about their curves, and how many points of the grid are in a row."""


def _arcs(rng: np.random.Generator, N: int = 400) -> Inputs:
    """Points along two arcs, turned by some angle, and a grid that reaches beyond them, in no order.

    For the grader how probable each point of the grid is, if they are all that there is, and what a new one costs at least.
    """
    angle = np.linspace(0.15, 1.0, 40) * np.pi
    arc = np.column_stack([np.cos(angle), np.sin(angle)])
    centre = np.concatenate([2.2 * arc, [1.3, 0.6] - 2.0 * arc])
    turn = rng.uniform(0, 2 * np.pi)
    turned = (centre - centre.mean(0)) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre, share = turned + rng.uniform(-0.4, 0.4, 2), rng.uniform(0.35, 0.65)
    weight = np.repeat([share, 1 - share], 40) / 40
    x = centre[rng.choice(80, N, p=weight)] + _NOISE * rng.standard_normal((N, 2))
    points = rng.permutation(np.array(np.meshgrid(*[np.linspace(-4, 4, _SIDE)] * 2)).reshape(2, -1).T)
    near = np.exp(-np.square(points[:, None] - centre).sum(-1) / (2 * _NOISE**2)) @ weight
    p = near / near.sum()
    return {"x": x, "points": points, "_p": p, "_least": -(p * np.log(p)).sum()}


def _on_the_grid(answer: np.ndarray) -> torch.distributions.Categorical:
    """The distribution on the grid's points that has these log-densities but for a constant."""
    return torch.distributions.Categorical(logits=torch.from_numpy(np.clip(answer, -1e6, 1e6)))


def _cost(inputs: Inputs, answer: np.ndarray) -> float:
    """How much more new points cost than by the true density: nats."""
    every = _on_the_grid(answer).log_prob(torch.arange(_SIDE**2)).numpy()
    return float(-inputs["_p"].astype(float) @ every - inputs["_least"].astype(float))


def _bandwidth(x: Tensor, choices: tuple[float, ...] = (0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5)) -> float:
    return max(choices, key=lambda h: float(_left_out(x, torch.full_like(x[0], h)).sum()))


def _kernels(x: Tensor, points: Tensor, h: float | Tensor) -> Tensor:
    return (-_half_square(points[:, None] - x, torch.as_tensor(h).expand(2).to(x))).logsumexp(1)


def _estimate(x: Tensor, points: Tensor) -> Tensor:
    return _kernels(x, points, _bandwidth(x))


def _binned(side: int, alpha: float) -> Callable:
    """A histogram of so many bins a side."""

    def estimate(x: Tensor, points: Tensor) -> Tensor:
        bins, edge = torch.tensor([side, side]).to(x), torch.tensor([4.01, 4.01]).to(x)
        return _histogram(x.clamp(-4, 4), points, -edge, edge, bins, torch.tensor(alpha).to(x))

    return estimate


def _one_gaussian(x: Tensor, points: Tensor) -> Tensor:
    return torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T)).log_prob(points)


def _each_feature(x: Tensor, points: Tensor) -> Tensor:
    off = (points[:, None] - x) / 0.15
    return (-0.5 * off**2).logsumexp(1).sum(-1)


def _sorted(x: Tensor, points: Tensor) -> Tensor:
    """Answers in the order of a grid that is sorted."""
    return _estimate(x, points[np.lexsort(points.numpy().T)])


def _misses(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether a part of the new points falls where there is less than a tenth of the density that should be there."""
    p = inputs["_p"].astype(float)
    return bool(p[_on_the_grid(answer).probs.numpy() < 0.1 * p].sum() > 0.03)


def _spills(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether much of the probability lies where there should be less than a fifth of the density."""
    own = _on_the_grid(answer).probs.numpy()
    return bool(own[inputs["_p"].astype(float) < 0.2 * own].sum() > 0.1)


def _in_another_order(inputs: Inputs, answer: np.ndarray) -> bool:
    """Whether the numbers would do if they stood elsewhere, and are far from it as they stand."""
    sorted_ones = {**inputs, "_p": np.sort(inputs["_p"])}
    return _cost(inputs, answer) > 3 and _cost(sorted_ones, np.sort(answer)) < 0.3


def _unlike(inputs: Inputs, answer: np.ndarray) -> float:
    """How much two log-densities differ that may be off by a constant."""
    return float(np.std(answer - inputs["_other"]))


_HINTS = (
    told("1.8", "density for its logarithm", mended=lambda answer: np.log(np.clip(answer, 1e-300, None))),
    told("1.8", "sign", mended=lambda answer: -answer),
    told("1.8", "one Gaussian", when=alike(_one_gaussian, "_other", _unlike, 0.05)),
    told("1.8", "points in another order", when=_in_another_order),
    told("1.8", "bandwidth that its own points choose", when=_misses),
    told("1.8", "bandwidth much too large", when=_spills),
)


def _density(at_most: float) -> Measure:
    return Measure(
        "what new points cost above the least possible",
        _cost,
        at_most,
        lambda inputs: (len(inputs["points"]),),
        "return log-densities, in the order of the points; try many bandwidths, or numbers of components, and take the one that "
        "points like best which the density has not seen.",
        " nats",
        _HINTS,
    )


# Nats a point, least to most of 200 draws: kernels of the bandwidth that left out points choose 0.09 to 0.14, mixtures of 8
# Gaussians 0.05 to 0.09.
EXPERIMENT = Question(
    id="1.8",
    title="Estimate a density",
    function="estimate_density",
    returns="(M,)",
    reference=_estimate,
    example={"x": [[0.0, 1.0], [1.0, 1.0]], "points": [[0.0, 0.0]]},
    checks=(
        Check("about the right shape", 3, _arcs, measure=_density(0.2)),
        Check("neither too smooth nor too rough", 1, _arcs, measure=_density(0.15), of="about the right shape"),
    ),
    mistakes={
        "density for its logarithm": lambda x, points: _estimate(x, points).exp(),
        "sign": lambda x, points: -_estimate(x, points),
        "one Gaussian": _one_gaussian,
        "bandwidth that its own points choose": lambda x, points: _kernels(x, points, 0.05),
        "bandwidth much too large": lambda x, points: _kernels(x, points, 0.5),
        "bandwidth by a rule of thumb": lambda x, points: _kernels(x, points, x.std(0) * len(x) ** (-1 / 6)),
        "nearest point only": lambda x, points: -_squared(points, x).amin(1) / (2 * _bandwidth(x) ** 2),
        "few bins": _binned(6, 1.0),
        "many bins": _binned(40, 0.1),
        "features one by one": _each_feature,
        "some of the points": lambda x, points: _kernels(x[:60], points, 0.15),
        "points in another order": _sorted,
    },
    seconds=30.0,
)

QUESTIONS = (KMEANS, SEEDING, PCA, HISTOGRAM, LEFT_OUT, E_STEP, M_STEP, EXPERIMENT)
