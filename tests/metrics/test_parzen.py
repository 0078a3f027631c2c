"""The Parzen estimate equals its formula, and misleads as the literature says."""

import math

import pytest
import torch
from sklearn.cluster import KMeans

from gencourse.data import load
from gencourse.metrics import pairs
from gencourse.metrics.parzen import parzen_estimate, parzen_log_prob


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("block", [pairs.BLOCK, 10])
def test_log_prob_equals_the_mixture_written_out(block, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", block)
    x, samples, sigma = randn(7, 3), randn(5, 3, seed=1), 0.4
    expected = []
    for point in x.tolist():
        squares = [sum((p - q) ** 2 for p, q in zip(point, sample, strict=True)) for sample in samples.tolist()]
        densities = [math.exp(-square / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi)) ** 3 for square in squares]
        expected.append(math.log(sum(densities) / 5))
    assert parzen_log_prob(x, samples, sigma).tolist() == pytest.approx(expected, abs=1e-10)


def test_the_density_has_mass_one():
    samples = torch.tensor([[-1.0], [0.5], [2.0]])
    x = torch.linspace(-12, 12, 2401)[:, None]
    assert float(parzen_log_prob(x, samples, 0.7).exp().sum() * 0.01) == pytest.approx(1, abs=1e-6)


def test_far_points_do_not_underflow():
    found = float(parzen_log_prob(torch.tensor([[100.0]]), torch.zeros(2, 1), 0.1))
    assert found == pytest.approx(-500_000 - math.log(0.1 * math.sqrt(2 * math.pi)), abs=1e-9)


def test_images_are_points_of_as_many_dimensions_as_pixels():
    x, samples = randn(4, 1, 2, 2), randn(3, 1, 2, 2, seed=1)
    torch.testing.assert_close(parzen_log_prob(x, samples, 0.3), parzen_log_prob(x.flatten(1), samples.flatten(1), 0.3))


def test_sigma_is_the_validation_datas_choice_and_the_estimate_the_test_datas():
    samples, valid, test = randn(300, 1), randn(500, 1, seed=1), 3 * randn(200, 1, seed=2)
    sigmas = [0.03, 0.1, 0.3, 1.0, 3.0]
    found = parzen_estimate(samples, test, valid, sigmas=sigmas[::-1])
    scores = [float(parzen_log_prob(valid, samples, s).mean()) for s in sigmas]
    assert found.sigma == sigmas[scores.index(max(scores))]
    values = parzen_log_prob(test, samples, found.sigma)
    assert found.log_likelihood.mean == pytest.approx(float(values.mean()))
    assert found.log_likelihood.standard_error == pytest.approx(float(values.std()) / math.sqrt(200))


def test_in_one_dimension_it_is_right():
    """3000 samples of N(0, 1): the estimate is minus the entropy, up to its standard error and a bias well below it."""
    estimate = parzen_estimate(randn(3000, 1), randn(1000, 1, seed=1), randn(500, 1, seed=2)).log_likelihood
    assert abs(estimate.mean + 0.5 * math.log(2 * math.pi * math.e)) < 4 * estimate.standard_error


def test_in_sixty_four_a_model_that_always_draws_the_mean_beats_the_truth():
    """The data are N(0, I). One window on the mean, of width 1, is the true density itself and cannot be beaten: minus the
    entropy, -90.8 nats. A hundred draws from the true distribution lie sqrt(128) from each example and score far less."""
    d = 64
    test, valid = randn(1000, d, seed=1), randn(500, d, seed=2)
    truth = parzen_estimate(randn(100, d), test, valid).log_likelihood
    collapsed = parzen_estimate(torch.zeros(100, d), test, valid).log_likelihood
    entropy = d / 2 * math.log(2 * math.pi * math.e)
    # a tenth: the grid's widths are a quarter apart, and at 1.12 instead of 1 costs 64 (ln s + (1/s^2 - 1)/2) = 0.8 nats
    assert collapsed.mean == pytest.approx(-entropy, abs=1.0)
    assert collapsed.mean - truth.mean > 10


def test_on_digits_the_centres_of_k_means_beat_training_images():
    """What no generative model could do better than, draws from the data themselves, loses to blurred averages."""
    digits = load("digits")
    train, valid, test = (digits.space.to_unit(part).flatten(1) for part in (digits.train, digits.valid, digits.test))
    centres = torch.from_numpy(KMeans(100, n_init=1, random_state=0).fit(train.numpy()).cluster_centers_)
    copies = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:100]]
    found = {name: parzen_estimate(x, test, valid).log_likelihood for name, x in (("k-means", centres), ("copies", copies))}
    assert found["k-means"].mean > found["copies"].mean + 5 * found["copies"].standard_error


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: parzen_log_prob(torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 2), 1.0), TypeError, "use space.to_unit"),
        (lambda: parzen_log_prob(torch.zeros(2, 2), torch.zeros(0, 2), 1.0), ValueError, "need samples and examples"),
        (lambda: parzen_log_prob(torch.zeros(2, 2), torch.zeros(2, 2), 0.0), ValueError, "need positive widths"),
        (lambda: parzen_log_prob(torch.zeros(2, 2), torch.zeros(2, 3), 1.0), ValueError, "examples of one shape"),
        (
            lambda: parzen_estimate(randn(50, 2), randn(50, 2), randn(50, 2, seed=1), sigmas=(1e-3, 1e-2)),
            ValueError,
            "best sigma, 0.01, is at an end",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
