"""What is said of a chain, against chains whose memory is known."""

import math

import pytest
import torch

from gencourse import data
from gencourse.markov import chains
from gencourse.metrics.classifier import scored_classifier


def autoregression(phi, count=4, steps=20_000, seed=0):
    """x_t = phi x_{t-1} + noise, from its stationary distribution: rho_t = phi^t."""
    noise = torch.randn(count, steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = noise.clone()
    x[:, 0] /= math.sqrt(1 - phi**2)
    for t in range(1, steps):
        x[:, t] += phi * x[:, t - 1]
    return x


def walk(p, q, steps=5000, count=8, seed=0):
    """A chain on 0 and 1 that leaves 0 with probability p and 1 with probability q."""
    matrix = torch.tensor([[1 - p, p], [q, 1 - q]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)

    def step(state):
        return (torch.rand(state.shape, generator=generator, dtype=torch.float64) < matrix[state, 1]).long()

    return matrix, chains.trajectory(step, torch.zeros(count, dtype=torch.long), steps)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.4])
def test_the_memory_of_an_autoregression_is_known(phi):
    x = autoregression(phi)
    rho = chains.autocorrelation(x)
    assert rho[0] == pytest.approx(1, abs=1e-3)
    assert torch.allclose(rho[:6], torch.tensor([phi**t for t in range(6)], dtype=torch.float64), atol=0.05)
    expected = max(1.0, (1 + phi) / (1 - phi))
    assert chains.autocorrelation_time(x) == pytest.approx(expected, rel=0.15)
    assert chains.effective_draws(x) == pytest.approx(80_000 / expected, rel=0.15)


def test_autocorrelation_is_the_sum_over_pairs():
    x = autoregression(0.7, count=1, steps=50)
    centred = x[0] - x[0].mean()
    total = (centred**2).sum() / 50
    direct = torch.stack([(centred[: 50 - t] * centred[t:]).sum() for t in range(50)]) / 49
    within = (centred**2).sum() / 49
    assert torch.allclose(chains.autocorrelation(x), 1 - (within - direct) / total, rtol=0, atol=1e-12)


def test_chains_that_stay_apart_remember_and_disagree():
    together = autoregression(0.5, steps=2000)
    apart = together + 3 * torch.arange(4.0).double().view(4, 1)
    assert chains.split_r_hat(together) == pytest.approx(1, abs=0.01)
    assert chains.split_r_hat(apart) > 2
    assert chains.effective_draws(apart) < 100 < 1000 < chains.effective_draws(together)


def test_a_drift_within_one_chain_is_seen_by_its_halves():
    x = autoregression(0.5, count=1, steps=2000)
    assert chains.split_r_hat(x) == pytest.approx(1, abs=0.02)
    assert chains.split_r_hat(x + 0.005 * torch.arange(2000.0)) > 1.5


def test_split_r_hat_in_a_case_done_by_hand():
    x = torch.tensor([[0.0, 2, 0, 2, 4, 6, 4, 6]])  # halves with means 1 and 5, each of variance 4 / 3
    within, between = 4 / 3, 8.0
    assert chains.split_r_hat(x) == pytest.approx(math.sqrt((0.75 * within + between) / within), abs=1e-12)


def test_what_never_moves_is_worth_nothing():
    assert chains.autocorrelation_time(torch.ones(3, 20)) == math.inf
    assert chains.effective_draws(torch.ones(3, 20)) == 0
    assert math.isnan(chains.split_r_hat(torch.ones(3, 20)))
    assert chains.split_r_hat(torch.arange(3.0).view(3, 1).expand(3, 20)) == math.inf


@pytest.mark.parametrize(("p", "q"), [(0.1, 0.3), (0.02, 0.05), (0.9, 0.8)])
def test_a_walk_between_two_states_by_its_matrix_and_by_its_draws(p, q):
    matrix, labels = walk(p, q)
    shares = torch.tensor([q, p], dtype=torch.float64) / (p + q)
    assert torch.allclose(chains.stationary(matrix), shares, rtol=0, atol=1e-12)
    assert chains.second_eigenvalue(matrix) == pytest.approx(abs(1 - p - q), abs=1e-12)
    assert torch.allclose(chains.classes_visited(labels, 3).mean(0)[:2], shares, atol=0.03)
    assert not chains.classes_visited(labels, 3)[:, 2].any()
    assert float(chains.label_changes(labels).mean()) == pytest.approx(2 * p * q / (p + q), rel=0.1)
    expected = max(1.0, (2 - p - q) / (p + q))
    assert chains.autocorrelation_time(labels.double()) == pytest.approx(expected, rel=0.2)


def test_a_trajectory_leaves_its_start_out_and_keeps_the_order():
    states = chains.trajectory(lambda x: x + 1, torch.tensor([[10], [20]]), 3)
    assert torch.equal(states, torch.tensor([[[11], [12], [13]], [[21], [22], [23]]]))


def test_labels_of_chains_are_those_of_their_images():
    digits = data.load("binary_digits")
    classifier = scored_classifier(digits, steps=20)
    images = digits.test[:12].view(3, 4, 1, 8, 8)
    assert torch.equal(chains.chain_labels(classifier, images), classifier.predict(digits.test[:12]).view(3, 4))


def test_wrong_shapes_get_a_sentence():
    with pytest.raises(ValueError, match=r"\(chains, steps\) with 8 steps or more, not \(7,\)"):
        chains.split_r_hat(torch.zeros(7))
    with pytest.raises(ValueError, match="each of its rows"):
        chains.stationary(torch.tensor([[0.5, 0.2], [0.5, 0.8]]))
