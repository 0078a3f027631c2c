import math

import pytest
import torch
from torch.distributions import Normal
from toy_models import Duel, OneCoin, Pixels

from gencourse.kinds import Tractable
from gencourse.metrics.likelihood import Estimate, effective_sample_size, log_mean_exp, nll
from gencourse.space import Space


def test_nll_of_a_known_model_is_exact():
    model = Pixels(Space((2,), 2))
    with torch.no_grad():
        model.logits.copy_(torch.tensor([[[0.25, 0.75], [0.5, 0.5]]]).log())
    x = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]])
    values = [-math.log(0.25 * 0.5), -math.log(0.75 * 0.5), -math.log(0.75 * 0.5), -math.log(0.25 * 0.5)]
    mean = sum(values) / 4
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 3)
    for batch_size in (1, 3, 200):
        found = nll(model, x, batch_size=batch_size)
        assert found.mean == pytest.approx(mean, abs=1e-6)
        assert found.standard_error == pytest.approx(deviation / 2, abs=1e-6)
        assert found.n == 4


def test_nll_in_bits_per_dim_of_the_uniform_model():
    model = Pixels(Space((1, 2, 2), 256))
    with torch.no_grad():
        model.logits.zero_()
    found = nll(model, torch.randint(256, (50, 1, 2, 2))).bits_per_dim(model.space)
    assert found.mean == pytest.approx(8, abs=1e-6)
    assert found.standard_error == pytest.approx(0, abs=1e-6)


def test_nll_passes_each_example_its_own_context():
    model = Pixels(Space((1,), 3), classes=3)
    with torch.no_grad():
        model.logits.copy_(torch.eye(3).unsqueeze(1) * 50)  # class c draws c
    x = torch.tensor([[0], [1], [2], [1]])
    assert nll(model, x, x.flatten(), batch_size=3).mean == pytest.approx(0, abs=1e-6)


def test_an_estimated_nll_uses_the_samples_and_the_seed():
    x = torch.tensor([[0], [1]] * 100)
    a, b, c = (nll(OneCoin(), x, samples=10, seed=seed) for seed in (0, 0, 1))
    assert a == b
    assert a != c
    assert nll(OneCoin(), x, samples=10**9).mean == pytest.approx(math.log(2), abs=1e-6)


def test_every_part_keeps_its_mode_even_when_the_model_fails():
    model = Duel()

    class Moody(Pixels):
        def log_prob(self, x, context=None):
            assert not self.training
            raise RuntimeError("no")

    model = Moody(Space((1,), 2)).train()
    model.part = torch.nn.Linear(1, 1).eval()
    with pytest.raises(RuntimeError, match="no"):
        nll(model, torch.zeros(1, 1, dtype=torch.long))
    assert model.training
    assert not model.part.training


@pytest.mark.parametrize(
    ("model", "x", "error", "says"),
    [
        (Duel(), torch.zeros(1, 2), TypeError, "Duel is implicit"),
        (OneCoin(), torch.zeros(0, 1, dtype=torch.long), ValueError, "no examples"),
        (OneCoin(), torch.zeros(1, 2, dtype=torch.long), ValueError, "(1, 2)"),
        (OneCoin(), torch.full((1, 1), 2), ValueError, "2..2"),
    ],
)
def test_a_bad_input_is_named(model, x, error, says):
    with pytest.raises(error) as caught:
        nll(model, x)
    assert says in str(caught.value)


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_log_mean_exp_is_stable(shift):
    w = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64)
    found = log_mean_exp(w.log() + shift)
    assert torch.allclose(found, torch.tensor([2.0, 4.0], dtype=torch.float64).log() + shift, rtol=0, atol=1e-11)
    assert torch.allclose(log_mean_exp(w.log() + shift, dim=1).exp() if shift == 0 else w.mean(1), w.mean(1))


def test_effective_sample_size_between_one_and_all():
    assert float(effective_sample_size(torch.full((50,), -1e4, dtype=torch.float64))) == pytest.approx(50)
    one = torch.full((50,), -1e4, dtype=torch.float64)
    one[7] = 0
    assert float(effective_sample_size(one)) == pytest.approx(1)
    w = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert float(effective_sample_size(w.log())) == pytest.approx(36 / 14)
    assert effective_sample_size(torch.zeros(4, 5), dim=1).tolist() == pytest.approx([5] * 4)


def test_an_estimate_reads_well():
    assert str(Estimate(17.123, 0.3, 360)) == "17.12 ± 0.30"


class Dequantised(Tractable):
    """A model that draws noise for its likelihood, as a flow does on integers: one Gaussian over all pixels."""

    def __init__(self, space):
        super().__init__(space)
        self.mu = torch.nn.Parameter(torch.tensor(0.5))

    def log_prob(self, x, context=None):
        y, log_det = self.space.dequantize(x)
        return Normal(self.mu, 0.2).log_prob(y).flatten(1).sum(1) + log_det


def test_a_model_that_draws_noise_is_measured_alike_every_time():
    model, x = Dequantised(Space((1, 2, 2), 4)), torch.randint(4, (50, 1, 2, 2))
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = nll(model, x)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"
    torch.rand(3)
    assert nll(model, x) == first
    assert nll(model, x, seed=1) != first
    assert abs(nll(model, x, seed=1).mean - first.mean) < 5 * first.standard_error


def test_a_mean_over_many_examples_is_taken_in_float64():
    class Known(Pixels):
        def log_prob(self, x, context=None):
            return -torch.tensor([2.0**24, 1.0, 1.0])  # in float32 the ones would be lost

    assert nll(Known(Space((1,), 2)), torch.zeros(3, 1, dtype=torch.long)).mean == (2**24 + 2) / 3
