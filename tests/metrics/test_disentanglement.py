"""The scores on tables computed by hand, and on codes that hold the factors, hold them mixed, or hold nothing."""

import math

import pytest
import torch

from gencourse.metrics.disentanglement import dci, entropy, gaps, importance_scores, information_table, mig, mutual_information


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def factors():
    """All 1536 combinations of five factors, with 2, 4, 8, 8 and 3 values."""
    return torch.cartesian_prod(*(torch.arange(n) for n in (2, 4, 8, 8, 3)))


@pytest.fixture(scope="module")
def rotated(factors):
    z = (factors - factors.double().mean(0)) / factors.double().std(0)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=seeded(0))).Q
    return z @ rotation


def test_mutual_information_of_tables_by_hand():
    assert mutual_information(torch.eye(4)) == pytest.approx(math.log(4), abs=1e-12)
    assert mutual_information(torch.outer(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 5.0, 1.0]))) == pytest.approx(0, abs=1e-12)
    # a fair coin, read rightly three times in four: log 2 - H(1/4)
    wanted = math.log(2) + 0.25 * math.log(0.25) + 0.75 * math.log(0.75)
    assert mutual_information(torch.tensor([[3, 1], [1, 3]])) == pytest.approx(wanted, abs=1e-12)


def test_entropy_counts_no_empty_cells_and_needs_no_normalising():
    assert entropy(torch.tensor([5, 5, 0])) == pytest.approx(math.log(2), abs=1e-12)
    assert entropy(torch.tensor([0.25, 0.75])) == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75), abs=1e-12)


def test_the_gap_of_a_table_by_hand():
    table = torch.tensor([[1.0, 0.2], [0.4, 0.1], [0.1, 0.5]], dtype=torch.float64)
    assert gaps(table, torch.tensor([2.0, 1.0], dtype=torch.float64)).tolist() == pytest.approx([0.3, 0.3], abs=1e-12)


def test_the_table_of_codes_by_hand():
    """Eight examples, two bins: the lower half of z_0 is factor 0; z_1 reads it rightly three times in four."""
    factor = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]).unsqueeze(1)
    codes = torch.tensor([[1, 0], [2, 1], [3, 2], [4, 7], [5, 5], [6, 4], [7, 6], [8, 3]], dtype=torch.float64)
    information = information_table(codes, factor, bins=2)
    wanted = [math.log(2), math.log(2) + 0.25 * math.log(0.25) + 0.75 * math.log(0.75)]
    assert information.flatten().tolist() == pytest.approx(wanted, abs=1e-12)
    assert mig(codes, factor, bins=2) == pytest.approx((wanted[0] - wanted[1]) / math.log(2), abs=1e-12)


def test_true_factors_score_one_in_any_order_sign_and_scale(factors):
    codes = torch.exp(-0.3 * factors[:, [3, 0, 4, 1, 2]].double())
    assert mig(codes, factors) == pytest.approx(1, abs=1e-9)
    assert dci(codes, factors) == pytest.approx((1, 1, 1), abs=0.02)


def test_mixed_factors_lose_the_gap_and_keep_the_information(factors, rotated):
    score = dci(rotated, factors)
    assert 0.05 < mig(rotated, factors) < 0.3
    assert score.disentanglement < 0.6
    assert score.completeness < 0.6
    assert score.informativeness > 0.75


def test_noise_scores_next_to_nothing(factors):
    noise = torch.randn(len(factors), 5, dtype=torch.float64, generator=seeded(1))
    assert mig(noise, factors) < 0.02
    score = dci(noise, factors)
    assert score.disentanglement < 0.1
    assert score.informativeness < 0.4


def test_two_copies_of_a_factor_have_no_gap(factors):
    codes = torch.cat([factors, factors], dim=1).double()
    assert mig(codes, factors) == pytest.approx(0, abs=1e-9)


def test_a_dead_variable_says_nothing(factors):
    """Its tiny values follow a factor, and bins do not see how tiny they are."""
    codes = torch.cat([factors.double(), 1e-6 * factors[:, :1].double()], dim=1)
    kl = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.009])
    assert mig(codes, factors) == pytest.approx(0.8, abs=1e-9)
    assert mig(codes, factors, kl=kl) == pytest.approx(1, abs=1e-9)
    assert information_table(codes, factors, kl=kl)[5].tolist() == [0] * 5


def test_importance_scores_by_hand():
    assert importance_scores(torch.eye(3)) == pytest.approx((1, 1), abs=1e-12)
    assert importance_scores(torch.ones(3, 4)) == pytest.approx((0, 0), abs=1e-12)
    # one variable for both factors; the other idle: complete, not disentangled
    assert importance_scores(torch.tensor([[1.0, 1.0], [0.0, 0.0]])) == pytest.approx((0, 1), abs=1e-12)
    # two variables share one factor of two
    assert importance_scores(torch.tensor([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx((1, 0), abs=1e-12)
    # rows weigh as much as they matter: three quarters at 1, one quarter at 0
    assert importance_scores(torch.tensor([[6.0, 0.0], [1.0, 1.0]]))[0] == pytest.approx(0.75, abs=1e-12)


@pytest.mark.parametrize(
    ("codes", "factors", "says"),
    [
        (torch.zeros(5, 2), torch.zeros(4, 2, dtype=torch.long), "of the same examples"),
        (torch.zeros(5), torch.zeros(5, 2, dtype=torch.long), "of the same examples"),
        (torch.full((5, 2), math.nan), torch.zeros(5, 2, dtype=torch.long), "NaN"),
        (torch.zeros(5, 2), torch.zeros(5, 2, dtype=torch.long), "the same value in every example"),
        (torch.zeros(5, 1), torch.arange(5).unsqueeze(1), "two latent variables"),
    ],
)
def test_wrong_input_is_told(codes, factors, says):
    with pytest.raises(ValueError, match=says):
        mig(codes, factors)


def test_factors_must_be_integers():
    with pytest.raises(TypeError, match="factors must be integers"):
        mig(torch.zeros(5, 2), torch.zeros(5, 2))
