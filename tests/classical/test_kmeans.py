"""Lloyd's algorithm and its starts."""

import math
from itertools import pairwise, product

import pytest
import sklearn.cluster
import torch

from gencourse.classical.kmeans import KMeans, lloyd, objective, plus_plus, random_start


def generator(seed):
    return torch.Generator().manual_seed(seed)


def blobs(n=300, D=3, K=4, seed=0):
    """Points around K places that overlap."""
    g = generator(seed)
    places = 2 * torch.randn(K, D, generator=g, dtype=torch.float64)
    return places[torch.randint(K, (n,), generator=g)] + torch.randn(n, D, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("K", [1, 2, 5, 20])
@pytest.mark.parametrize("start", [random_start, plus_plus])
def test_no_half_step_raises_the_objective_and_it_ends_where_nothing_can_improve(K, start):
    x = blobs()
    run = lloyd(x, start(x, K, generator=generator(1)))
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(run.history))
    labels = run.assign(x)
    assert run.history[-1] == pytest.approx(objective(x, run.centres, labels), rel=1e-12)
    squares = (x[:, None] - run.centres).square().sum(2)
    assert torch.equal(labels, squares.argmin(1))
    for k in range(K):
        assert torch.allclose(run.centres[k], x[labels == k].mean(0), rtol=0, atol=1e-12)


def test_it_goes_the_way_of_scikit_learn_from_the_same_start():
    x = blobs(n=400, D=5, K=6)
    for seed in range(5):
        start = random_start(x, 6, generator=generator(seed))
        run = lloyd(x, start)
        other = sklearn.cluster.KMeans(6, init=start.numpy(), n_init=1, algorithm="lloyd", tol=0, max_iter=1000).fit(x.numpy())
        assert torch.allclose(run.centres, torch.from_numpy(other.cluster_centers_), rtol=0, atol=1e-9)
        assert run.history[-1] == pytest.approx(other.inertia_, rel=1e-10)
        assert run.assign(x).tolist() == other.labels_.tolist()


def test_a_few_points_by_hand():
    x = torch.tensor([[0.0], [1.0], [5.0], [9.0]])
    run = lloyd(x, torch.tensor([[0.0], [1.0]]))
    # 0 | 1 5 9 at squares 0 + 0 + 16 + 64; centres 0 and 5: 16 + 0 + 16; 0 1 | 5 9: 1 + 16; centres 0.5 and 7: 0.5 + 8
    assert run.history == (80.0, 32.0, 17.0, 8.5)
    assert run.centres.flatten().tolist() == [0.5, 7.0]
    assert run.assign(torch.tensor([[3.0], [4.0]])).tolist() == [0, 1]


def test_the_best_of_many_starts_is_the_best_partition_there_is():
    x = blobs(n=8, D=2, K=3, seed=3)
    least = math.inf
    for parts in product(range(3), repeat=8):
        labels = torch.tensor(parts)
        centres = torch.stack([x[labels == k].mean(0) if (labels == k).any() else x[0] for k in range(3)])
        least = min(least, objective(x, centres, labels))
    assert KMeans.fit(x, 3, starts=60, generator=generator(0)).history[-1] == pytest.approx(least, rel=1e-12)


def test_a_centre_without_points_stays_where_it_is():
    x = torch.tensor([[0.0], [1.0]])
    run = lloyd(x, torch.tensor([[0.5], [100.0]]))
    assert run.centres.tolist() == [[0.5], [100.0]]


def test_plus_plus_draws_in_proportion_to_the_squared_distance():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    g, n = generator(0), 2000
    counts = torch.zeros(3, 3)
    for _ in range(n):
        first, second = plus_plus(x, 2, generator=g).flatten().tolist()
        counts[[0, 1, 3].index(int(first)) if first < 3 else 2, [0.0, 1.0, 3.0].index(second)] += 1
    # the first is uniform; then 0: 1 to 9, 1: 1 to 4, 3: 9 to 4
    exact = torch.tensor([[0, 1 / 10, 9 / 10], [1 / 5, 0, 4 / 5], [9 / 13, 4 / 13, 0]]) / 3
    error = (exact * (1 - exact) / n).sqrt()
    assert ((counts / n - exact).abs() <= 4.5 * error).all()


def test_plus_plus_begins_better_than_at_random():
    x = blobs(n=500, D=2, K=12)
    begun = {}
    for start in (random_start, plus_plus):
        values = []
        for seed in range(40):
            centres = start(x, 12, generator=generator(seed))
            values.append(objective(x, centres, KMeans(centres).assign(x)))
        begun[start] = sum(values) / len(values)
    assert begun[plus_plus] < 0.9 * begun[random_start]


def test_random_starts_are_different_points_and_the_same_seed_draws_the_same():
    x = blobs(n=10)
    for seed in range(20):
        start = random_start(x, 10, generator=generator(seed))
        assert len(start.unique(dim=0)) == 10
    one, two = (KMeans.fit(x, 3, generator=generator(5)) for _ in range(2))
    assert torch.equal(one.centres, two.centres) and one.history == two.history


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda x: KMeans.fit(x, 0), ValueError, "K must be a positive integer, not 0"),
        (lambda x: KMeans.fit(x, 2.5), ValueError, "K must be a positive integer, not 2.5"),
        (lambda x: KMeans.fit(x, 6), ValueError, "needs 6 points or more, not 5"),
        (lambda x: KMeans.fit(x, 2, starts=0), ValueError, "starts must be a positive integer"),
        (lambda x: KMeans.fit(x.long(), 2), TypeError, "tensor of floats, not torch.int64"),
        (lambda x: KMeans.fit(x.numpy(), 2), TypeError, "tensor of floats, not ndarray"),
        (lambda x: KMeans.fit(x[0], 1), ValueError, r"points \(N, D\), but the tensor has shape \(2,\)"),
        (lambda x: KMeans.fit(x * math.nan, 2), ValueError, "NaN or infinite"),
        (lambda x: KMeans.fit(torch.zeros(5, 2), 2), ValueError, "only 1 different points, fewer than K = 2"),
        (lambda x: random_start(x, 6), ValueError, "needs 6 points or more"),
        (lambda x: lloyd(x, torch.zeros(2, 3)), ValueError, r"points \(N, 2\), but the tensor has shape \(2, 3\)"),
        (lambda x: lloyd(x, x[:2], steps=0), ValueError, "steps must be a positive integer"),
        (lambda x: KMeans.fit(x, 2).assign(torch.zeros(3, 1)), ValueError, r"points \(N, 2\)"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(blobs(n=5, D=2))
