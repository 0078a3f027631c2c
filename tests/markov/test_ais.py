"""Annealed importance sampling against transfer matrices: the mean of its weights is exact."""

import math

import pytest
import torch

from gencourse.checks import assert_sampler_matches, every_example, expected_weight, gibbs_matrix, sweep_matrix, tempered
from gencourse.markov.ais import ais, anneal, even, reverse_ais
from gencourse.markov.boltzmann import Boltzmann
from gencourse.markov.rbm import RBM
from gencourse.space import Space

SPACE = Space((5,), 2)
STATES = every_example(SPACE).double()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rbm(seed=0, hidden=3, scale=1.0):
    torch.manual_seed(seed)
    model = RBM(SPACE, hidden=hidden).double()
    with torch.no_grad():
        for p in (*model.parameters(), model.base):
            p.copy_(scale * torch.randn_like(p))
    return model


def boltzmann():
    torch.manual_seed(0)
    model = Boltzmann(Space((1, 2, 2), 2), hidden=1).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))
    return model


@pytest.mark.parametrize("count", [2, 3, 10])
@pytest.mark.parametrize("power", [1, 3])
def test_the_mean_weight_of_an_rbm_is_the_ratio_of_the_constants(count, power):
    model = rbm()
    betas = torch.linspace(0, 1, count, dtype=torch.float64) ** power
    matrices = [gibbs_matrix(tempered(model, model.base, float(beta))) for beta in betas[1:-1]]
    path = model.annealed()
    mean = expected_weight(path, STATES, matrices, betas)
    assert math.log(mean) == pytest.approx(float(model.log_partition() - path.log_start()), abs=1e-12)


def test_the_mean_weight_of_a_boltzmann_machine_is_the_ratio_of_the_constants():
    model, base = boltzmann(), torch.randn(5, dtype=torch.float64)
    betas = torch.linspace(0, 1, 6, dtype=torch.float64)
    matrices = []
    for beta in betas[1:-1]:
        at = boltzmann()
        with torch.no_grad():
            at.pairs.mul_(beta)
            at.bias.copy_((1 - beta) * base + beta * at.bias)
        matrices.append(sweep_matrix(at))
    path = model.annealed(base=base)
    mean = expected_weight(path, STATES, matrices, betas)
    assert math.log(mean) == pytest.approx(float(model.log_partition() - path.log_start()), abs=1e-12)


def test_the_path_begins_at_independent_units_and_ends_at_the_model():
    model = rbm()
    path = model.annealed()
    log_f = path.log_density(STATES, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.allclose(log_f[0], STATES @ model.base + 3 * math.log(2), rtol=0, atol=1e-12)
    assert float(log_f[0].logsumexp(0)) == pytest.approx(float(path.log_start()), abs=1e-12)
    assert torch.allclose(log_f[1], -model.free_energy(STATES.long()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_a_step_draws_from_its_row_of_the_matrix(beta):
    model = rbm()
    path, row = model.annealed(), gibbs_matrix(tempered(model, model.base, beta))[19]
    drawn = path.step(STATES[19].expand(20_000, -1), torch.tensor(beta, dtype=torch.float64), seeded())
    assert_sampler_matches(drawn.long(), row.log(), SPACE)
    log_p = path.log_density(STATES, torch.tensor([0.0], dtype=torch.float64))[0] - path.log_start()
    assert_sampler_matches(path.draw(20_000, seeded(1)).long(), log_p, SPACE)


def test_a_weight_is_of_the_states_that_were_drawn():
    """Annealing in two steps, played by hand: the state before each step is weighed, at its beta and at the next."""
    model, betas = rbm(), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    path = model.annealed()
    start = path.draw(6, seeded(3))
    log_w, _ = anneal(path, start, betas, generator=seeded(4))
    middle = path.step(start, betas[1], seeded(4))
    f_start, f_middle = path.log_density(start, betas), path.log_density(middle, betas)
    assert torch.allclose(log_w, f_start[1] - f_start[0] + f_middle[2] - f_middle[1], rtol=0, atol=1e-12)


def test_95_of_100_estimates_are_within_three_standard_errors():
    model = rbm(scale=2.0)
    truth, hits = float(model.log_partition()), 0
    for seed in range(100):
        estimate = ais(model.annealed(), chains=100, temperatures=30, generator=seeded(seed))
        low, high = estimate.interval()
        hits += low < truth < high
    assert hits >= 95  # measured: 100 of 100; a Gaussian's would be 99.7


def test_the_standard_error_is_how_much_estimates_differ():
    model = rbm(scale=2.0)
    estimates = [ais(model.annealed(), chains=100, temperatures=30, generator=seeded(seed)) for seed in range(100)]
    spread = float(torch.tensor([e.log_z for e in estimates]).std())
    told = float(torch.tensor([e.standard_error for e in estimates]).mean())
    assert told == pytest.approx(spread, rel=0.3)  # the s.e. of a standard deviation of 100 is 7 %


def test_longer_annealing_has_a_smaller_error():
    model = rbm(scale=2.0)
    errors = [ais(model.annealed(), temperatures=t, generator=seeded()).standard_error for t in (3, 30, 300)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_forward_is_low_on_average_and_reverse_is_high():
    model = rbm(scale=3.0)
    truth, p = float(model.log_partition()), model.log_prob(STATES.long()).exp().detach()
    samples = STATES[torch.multinomial(p, 20_000, replacement=True, generator=seeded())]
    forward = ais(model.annealed(), chains=20_000, temperatures=3, generator=seeded(1))
    backward = reverse_ais(model.annealed(), samples, temperatures=3, generator=seeded(2))
    for estimate in (forward, backward):  # all chains together find it
        assert abs(estimate.log_z - truth) < 4 * estimate.standard_error < 0.2
    mean = [float(e.log_weights.mean()) for e in (forward, backward)]  # one chain at a time
    assert mean[0] < truth - 0.1
    assert mean[1] > truth + 0.1


def test_weights_that_would_overflow_do_not():
    model = rbm()
    with torch.no_grad():
        model.visible_bias += 1000.0
    estimate = ais(model.annealed(), temperatures=300, generator=seeded())
    assert float(model.log_partition()) > 4900
    assert estimate.log_z == pytest.approx(float(model.log_partition()), abs=0.5)
    assert math.isfinite(estimate.standard_error)


def test_the_estimate_of_a_likelihood_follows_its_generator_and_comes_near_the_exact_one():
    model = rbm(scale=2.0)
    x = every_example(SPACE)
    a, b, c = (model.log_prob_estimate(x, samples=50, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.allclose(a, model.log_prob(x), rtol=0, atol=0.05)
    machine = boltzmann()
    images = every_example(machine.space)
    assert torch.allclose(machine.log_prob_estimate(images, generator=seeded()), machine.log_prob(images), rtol=0, atol=0.05)


def test_betas_are_checked():
    assert torch.equal(even(4), torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64))
    path = rbm().annealed()
    for betas in ([0.0, 0.5], [0.1, 1.0], [0.0, 0.6, 0.5, 1.0], [1.0]):
        with pytest.raises(ValueError, match="betas must rise from 0 to 1"):
            ais(path, betas=torch.tensor(betas))
    with pytest.raises(ValueError, match="temperatures must be a positive integer"):
        ais(path, temperatures=0)
    with pytest.raises(ValueError, match="chains must be a positive integer"):
        ais(path, chains=0)
