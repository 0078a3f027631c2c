"""Precision, recall, density and coverage where every ball can be counted by hand."""

import pytest
import torch

from gencourse.metrics import pairs
from gencourse.metrics.precision_recall import density_coverage, expected_coverage, precision_recall

LINE = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0], [11.0], [12.0], [13.0]])


def test_half_the_support_has_precision_one_and_recall_half():
    assert precision_recall(LINE, LINE[:4].repeat_interleave(2, 0), k=2) == (1.0, 0.5)


def test_the_other_way_round_they_change_places():
    real, fake = LINE[:4].repeat_interleave(2, 0), LINE
    assert precision_recall(real, fake, k=2) == (0.5, 1.0)


def test_the_same_set_scores_one_and_a_far_one_zero():
    assert precision_recall(LINE, LINE) == (1.0, 1.0)
    assert precision_recall(LINE, LINE + 100) == (0.0, 0.0)


def test_the_radius_is_the_kth_neighbours_distance_edge_included():
    """Real points 0, 1, 3 have radii 1, 1, 2 for k = 1 and 3, 2, 3 for k = 2."""
    real = torch.tensor([[0.0], [1.0], [3.0]])
    fake = torch.tensor([[-1.0], [-1.01], [5.0], [5.01]])
    assert precision_recall(real, fake, k=1).precision == pytest.approx(0.5)
    assert precision_recall(real, fake, k=2).precision == pytest.approx(1.0)


def test_doubled_examples_are_each_others_neighbours():
    """A copied point has a ball of radius 0, which holds the point itself and nothing else."""
    real = torch.tensor([[0.0], [0.0], [5.0], [5.0]])
    assert precision_recall(real, torch.tensor([[0.0], [0.1]]), k=1).precision == pytest.approx(0.5)


def test_blocks_of_rows_change_nothing(monkeypatch):
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(60, 5, generator=g), 0.5 * torch.randn(50, 5, generator=g)
    whole = precision_recall(real, fake)
    monkeypatch.setattr(pairs, "BLOCK", 130)  # two rows at a time
    assert precision_recall(real, fake) == whole
    # written out, in float64
    d = (real.double()[:, None] - fake.double()[None]).square().sum(-1)
    radius = (real.double()[:, None] - real.double()[None]).square().sum(-1).sort(1).values[:, 3]
    assert whole.precision == pytest.approx(float((d <= radius[:, None]).any(0).double().mean()))
    assert 0 < whole.recall < whole.precision  # narrow samples: good, but not everything


@pytest.mark.parametrize("k", [0, 8, 1.5, True])
def test_a_wrong_k_is_named(k):
    with pytest.raises(ValueError, match="k must be an integer from 1 to 7"):
        precision_recall(LINE, LINE, k=k)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"expects \(N, F\) and \(M, F\)"):
        precision_recall(LINE, torch.zeros(8, 2))


def test_density_counts_balls_and_coverage_the_balls_that_hold_a_sample():
    """Real points 0, 1, 3 have for k = 1 the radii 1, 1, 2: the balls [-1, 1], [0, 2], [1, 5]."""
    real = torch.tensor([[0.0], [1.0], [3.0]])
    assert density_coverage(real, torch.tensor([[1.0]]), k=1) == (3.0, 1.0)
    assert density_coverage(real, torch.tensor([[4.0], [9.0]]), k=1) == (0.5, pytest.approx(1 / 3))
    assert density_coverage(real, torch.tensor([[0.5]]), k=1) == (2.0, pytest.approx(2 / 3))
    assert density_coverage(real, torch.tensor([[1.0]]), k=2) == (1.5, 1.0)  # the same three balls and more, over k


@pytest.mark.parametrize(("n", "m", "k"), [(60, 40, 3), (40, 80, 5)])
def test_equal_distributions_have_density_one_and_the_coverage_that_counting_gives(n, m, k):
    scores = []
    for seed in range(150):
        g = torch.Generator().manual_seed(seed)
        real, fake = torch.randn(n, 4, generator=g), torch.randn(m, 4, generator=g)
        scores.append(density_coverage(real, fake, k=k))
    density, coverage = torch.tensor(scores, dtype=torch.float64).T
    assert abs(float(density.mean()) - 1) < 3.5 * float(density.std()) / 150**0.5 < 0.05
    assert abs(float(coverage.mean()) - expected_coverage(n, m, k)) < 3.5 * float(coverage.std()) / 150**0.5 < 0.03


def test_the_expected_coverage_by_counting_orders():
    """Of 2 other real examples and 2 samples in random order the nearest is real with probability 1/2, both with 1/6."""
    assert expected_coverage(3, 2, 1) == pytest.approx(1 / 2)
    assert expected_coverage(3, 2, 2) == pytest.approx(5 / 6)


def test_one_stray_real_example_fools_precision_and_not_coverage():
    """Its ball holds everything: bad samples are precise. They cover that one ball of 51."""
    g = torch.Generator().manual_seed(0)
    real = torch.cat([torch.randn(50, 3, generator=g), torch.full((1, 3), 40.0)])
    bad = 10 + torch.randn(60, 3, generator=g)
    assert precision_recall(real, bad).precision == 1.0
    assert density_coverage(real, bad).coverage == pytest.approx(1 / 51)
    assert density_coverage(real, bad).density == pytest.approx(1 / 5)


def test_more_members_than_a_block_holds_change_neither(monkeypatch):
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(60, 5, generator=g), 0.5 * torch.randn(50, 5, generator=g)
    whole = density_coverage(real, fake)
    monkeypatch.setattr(pairs, "BLOCK", 130)
    assert density_coverage(real, fake) == whole


def test_wrong_arguments_of_density_and_coverage_are_named():
    with pytest.raises(ValueError, match=r"density_coverage: k must be an integer from 1 to 7, not 8"):
        density_coverage(LINE, LINE, k=8)
    with pytest.raises(ValueError, match=r"there are no samples"):
        density_coverage(LINE, LINE[:0])
