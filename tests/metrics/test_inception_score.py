"""The inception score: a mutual information, its bounds, and who beats the test set."""

import math

import pytest
import torch
from scipy.special import log_softmax

from gencourse.data import load
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.inception_score import inception_score, mutual_information


def logits(n=50, k=4, scale=3.0, seed=0):
    return scale * torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_kl(values):
    """The paper's formula, the mean divergence of p(y|x) from p(y), by NumPy."""
    log_p = log_softmax(values.numpy(), axis=1)
    p = torch.tensor(log_p).exp()
    return math.exp(float((p * (torch.tensor(log_p) - p.mean(0).log())).sum(1).mean()))


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_exponential_of_the_mean_divergence_and_of_the_mutual_information(seed):
    values = logits(seed=seed)
    assert inception_score(values).score == pytest.approx(by_kl(values), rel=1e-12)
    joint = values.softmax(1) / len(values)  # p(x, y) with x uniform over the samples
    independent = joint.sum(1, keepdim=True) * joint.sum(0)
    assert float(mutual_information(values)) == pytest.approx(float((joint * (joint / independent).log()).sum()), rel=1e-12)


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 10.0, 1000.0])
def test_it_lies_between_one_and_the_number_of_classes(scale):
    for seed in range(20):
        assert 1 - 1e-12 <= inception_score(logits(30, 5, scale, seed)).score <= 5 + 1e-12


def test_the_bounds_are_reached():
    certain = 1e4 * torch.eye(5)
    assert inception_score(certain.repeat(7, 1)).score == pytest.approx(5, abs=1e-12)
    assert inception_score(certain[:2].repeat(7, 1)).score == pytest.approx(2, abs=1e-12)  # two classes of five
    assert inception_score(certain[:1].repeat(7, 1)).score == pytest.approx(1, abs=1e-12)
    assert inception_score(torch.zeros(7, 5)).score == pytest.approx(1, abs=1e-12)


def test_a_constant_in_the_logits_and_the_order_of_the_samples_mean_nothing():
    values = logits()
    assert inception_score(values + 100).score == pytest.approx(inception_score(values).score, rel=1e-10)
    assert inception_score(values.flip(0)).score == pytest.approx(inception_score(values).score, rel=1e-12)


def test_splits_are_scored_apart():
    values = logits(61)
    parts = torch.tensor([inception_score(part).score for part in values.tensor_split(4)], dtype=torch.float64)
    score = inception_score(values, splits=4)
    assert score.score == pytest.approx(float(parts.mean()), rel=1e-12)
    assert score.standard_error == pytest.approx(float(parts.std()) / 2, rel=1e-12)
    assert inception_score(values).standard_error == math.inf


def test_one_image_of_each_class_again_and_again_beats_the_test_set():
    """On this processor 6.66 and 7.51; noise 1.58."""
    digits = load("digits")
    classifier = scored_classifier(digits)
    ten = torch.stack([digits.train[digits.train_labels == k][0] for k in range(10)]).repeat(36, 1, 1, 1)
    noise = torch.randint(0, 17, (360, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    test, repeated, nothing = (inception_score(classifier.logits(x)).score for x in (digits.test, ten, noise))
    assert test == pytest.approx(6.66, abs=0.25)
    assert repeated > test + 0.4
    assert nothing < 2.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inception_score(torch.zeros(5)), r"logits \(N, K\)"),
        (lambda: inception_score(torch.zeros(0, 5)), r"not \(0, 5\)"),
        (lambda: inception_score(torch.full((3, 5), math.nan)), "NaN"),
        (lambda: inception_score(torch.zeros(3, 5), splits=4), "3 samples cannot be cut into 4 parts"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
