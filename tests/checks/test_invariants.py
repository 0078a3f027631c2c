import pytest
import scipy.stats
import torch
from scipy.stats import kstest
from torch import nn
from toy_models import Duel, Pixels

from gencourse.autoregressive.made import MADE
from gencourse.checks import (
    assert_bound,
    assert_every_parameter_learns,
    assert_normalized,
    assert_sampler_matches,
    every_example,
)
from gencourse.space import Space

SMALL = Space((1, 2, 2), 3)


def test_every_example_lists_each_image_once_in_order():
    x = every_example(SMALL)
    assert x.shape == (81, 1, 2, 2)
    assert torch.equal(x.flatten(1) @ torch.tensor([27, 9, 3, 1]), torch.arange(81))


@pytest.mark.parametrize("space", [Space((2,)), Space((1, 28, 28), 2)])
def test_what_cannot_be_enumerated_is_refused(space):
    with pytest.raises(ValueError, match="enumerate"):
        every_example(space)


def test_a_normalised_model_passes_in_float32_and_is_not_changed():
    model = Pixels(SMALL)
    assert_normalized(model)
    assert model.logits.dtype == torch.float32


@pytest.mark.parametrize("factor", [1.00001, 0.9, float("nan")])
def test_an_unnormalised_model_is_caught(factor):
    class Wrong(Pixels):
        def log_prob(self, x, context=None):
            return super().log_prob(x) + torch.tensor(factor).log()

    with pytest.raises(AssertionError, match="Wrong is not normalised: its probabilities sum to"):
        assert_normalized(Wrong(SMALL))


def test_a_conditional_model_is_checked_under_its_condition():
    model = Pixels(SMALL, classes=3)
    assert_normalized(model, torch.tensor([2]))


def test_assert_bound_names_the_example_and_the_excess():
    upper = torch.tensor([-1.0, -2.0, -3.0])
    assert_bound(upper, upper)
    assert_bound(upper - 1e-3, upper)
    with pytest.raises(AssertionError, match=r"at example 1: .* by 0\.5 nats"):
        assert_bound(upper + torch.tensor([0.0, 0.5, 0.1]), upper)
    with pytest.raises(AssertionError, match="NaN"):
        assert_bound(upper * float("nan"), upper)


def test_every_parameter_of_a_right_model_learns():
    assert_every_parameter_learns(Pixels(SMALL), every_example(SMALL))
    assert_every_parameter_learns(Duel(), torch.randn(16, 2))


def test_a_forgotten_layer_is_named():
    model = Duel()
    model.forgotten = nn.Linear(2, 2)
    with pytest.raises(AssertionError, match=r"no move changes forgotten\.weight, forgotten\.bias"):
        assert_every_parameter_learns(model, torch.randn(16, 2))


def test_a_detached_layer_is_named():
    class Detached(Duel):
        def g_loss(self, x, context=None):
            return super().g_loss(x) * 0 + self.discriminator(self.generator(torch.randn(len(x), 3)).detach()).squeeze(-1)

    with pytest.raises(AssertionError, match=r"no move changes generator\.weight"):
        assert_every_parameter_learns(Detached(), torch.randn(16, 2))


def test_a_frozen_parameter_is_nobody_s_mistake():
    model = Duel()
    model.generator.bias.requires_grad_(False)
    assert_every_parameter_learns(model, torch.randn(16, 2))


def test_a_gradient_that_is_not_finite_is_named():
    class Root(Pixels):
        def log_prob(self, x, context=None):
            return super().log_prob(x) + (self.logits - self.logits).sum().sqrt()

    with pytest.raises(AssertionError, match=r"gradient of logits in move 'nll' is not finite"):
        assert_every_parameter_learns(Root(SMALL), every_example(SMALL))


def sample_and_probabilities(seed, space=SMALL, n=2000):
    torch.manual_seed(seed)
    model = Pixels(space)
    with torch.no_grad():
        return model.sample(n), model.log_prob(every_example(space)), space


def test_p_values_of_right_samplers_are_uniform():
    p = [assert_sampler_matches(*sample_and_probabilities(seed), significance=0) for seed in range(200)]
    assert kstest(p, "uniform").pvalue > 0.01


def test_a_sampler_that_is_a_little_wrong_is_caught():
    samples, log_prob, space = sample_and_probabilities(0, n=20_000)
    assert_sampler_matches(samples, log_prob, space)
    wrong = samples.clone()
    wrong[:1000, 0, 0, 0] = (wrong[:1000, 0, 0, 0] + 1) % 3  # one sample in twenty
    with pytest.raises(AssertionError, match="chi-squared"):
        assert_sampler_matches(wrong, log_prob, space)


def test_transposed_images_are_caught():
    samples, log_prob, space = sample_and_probabilities(0, n=20_000)
    with pytest.raises(AssertionError, match="chi-squared"):
        assert_sampler_matches(samples.transpose(2, 3), log_prob, space)


def test_one_impossible_image_is_enough():
    space = Space((2,), 2)
    log_prob = torch.tensor([0.5, 0.5, 0.0, 0.0]).log()
    samples = torch.tensor([[0, 0], [0, 1]]).repeat(5000, 1)
    assert_sampler_matches(samples, log_prob, space)
    samples[0] = torch.tensor([1, 1])
    with pytest.raises(AssertionError, match="1 of them have probability zero"):
        assert_sampler_matches(samples, log_prob, space)


@pytest.mark.parametrize(
    ("log_prob", "n", "says"), [(torch.zeros(4), 1000, "sum to 4"), (torch.full((4,), 0.25).log(), 3, "too few")]
)
def test_a_test_that_would_mean_nothing_is_refused(log_prob, n, says):
    with pytest.raises(ValueError, match=says):
        assert_sampler_matches(torch.zeros(n, 2, dtype=torch.long), log_prob, Space((2,), 2))


def test_normalisation_is_checked_without_dropout():
    model = MADE(Space((1, 2, 2), 2), hidden=(16,), dropout=0.9).train()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))
    assert_normalized(model, atol=1e-9)
    assert model.training


def test_the_chi_squared_test_has_one_degree_of_freedom_less_than_there_are_images():
    space = Space((2,), 2)
    log_prob = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    counts = torch.tensor([12, 19, 35, 34])
    samples = every_example(space).repeat_interleave(counts, 0)
    expected = scipy.stats.chisquare(counts.numpy(), [10, 20, 30, 40]).pvalue
    assert assert_sampler_matches(samples, log_prob, space) == pytest.approx(expected, rel=1e-5)
