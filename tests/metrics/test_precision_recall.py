"""Precision and recall where every ball can be counted by hand."""

import pytest
import torch

from gencourse.metrics import pairs
from gencourse.metrics.precision_recall import precision_recall

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
