"""Memorisation: who copies, who does not, and who only looks innocent."""

import pytest
import torch

from gencourse.data import load
from gencourse.metrics.memorisation import copies, distance_ratios, memorisation


def randn(n, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ratios_by_hand():
    train, held_out = torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([[4.0], [5.0]])
    ratios = distance_ratios(torch.tensor([[2.0], [4.0]]), train, held_out)
    assert ratios.shape == (2, 2)
    # the nearest training example is 1.0, in one part or the other; each part's own nearest is what its column has
    assert ratios[0].min() == 0.5 and ratios[1].min() == torch.inf
    assert distance_ratios(torch.tensor([[7.0]]), torch.tensor([[7.0], [9.0]]), torch.tensor([[7.0], [3.0]])).tolist() == [[1.0]]


def test_a_sampler_that_has_not_copied_is_innocent():
    """Over 40 draws of everything, so that no set is special: 1/2 and 1/20 on average."""
    scores = [
        memorisation(randn(100, seed=3 * s), randn(400, seed=3 * s + 1), randn(100, seed=3 * s + 2), seed=s) for s in range(40)
    ]
    nearer = torch.tensor([score.nearer for score in scores], dtype=torch.float64)
    near = torch.tensor([score.copies for score in scores], dtype=torch.float64)
    assert abs(float(nearer.mean()) - 0.5) < 3.5 * float(nearer.std()) / 40**0.5 < 0.05
    assert abs(float(near.mean()) - 0.05) < 3.5 * float(near.std()) / 40**0.5 < 0.03


def test_a_memoriser_is_caught_whole_and_in_part():
    train, held_out = randn(400, seed=1), randn(100, seed=2)
    whole, half = train[:100], torch.cat([train[:50], randn(50, seed=3)])
    assert memorisation(whole, train, held_out).copies == 1.0
    assert memorisation(half, train, held_out).copies == pytest.approx(0.525, abs=0.06)
    # a quarter of the training set is in each part, and the rest are as near to either: 1/4 + 3/4 * 1/2
    assert memorisation(train, train, held_out).nearer == pytest.approx(0.625, abs=0.05)


def test_a_copy_with_a_little_noise_is_one_still():
    train, held_out = randn(400, seed=1), randn(100, seed=2)
    assert memorisation(train[:100] + 1e-3 * randn(100, seed=5), train, held_out).copies == 1.0


def test_noise_looks_innocent():
    far = 50 + randn(100, seed=4)
    assert memorisation(far, randn(400, seed=1), randn(100, seed=2)).copies == 0.0


def test_the_limit_leaves_out_a_twentieth_of_the_held_out_examples_themselves():
    digits = load("digits")
    assert float(copies(digits.test, digits.train, digits.test).mean()) == pytest.approx(0.05, abs=1e-12)  # 18 of 360
    assert float(copies(digits.train, digits.train, digits.test).mean()) == 1.0
    assert float(copies(digits.valid, digits.train, digits.test).mean()) < 0.12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: memorisation(randn(5), randn(4), randn(6)), "6 held-out and 4 training"),
        (lambda: memorisation(randn(5), randn(4), randn(0)), "0 held-out"),
        (lambda: memorisation(randn(5, 2), randn(4), randn(3)), "examples of one shape"),
        (lambda: copies(randn(5), randn(4), randn(3), quantile=1.0), r"probability in \[0, 1\)"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
