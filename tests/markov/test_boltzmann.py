"""The Boltzmann machine against sums over all its states."""

import math

import pytest
import torch

from gencourse.checks import (
    assert_detailed_balance,
    assert_leaves_unchanged,
    assert_sampler_matches,
    every_example,
    single_site_matrix,
    sweep_matrix,
)
from gencourse.markov.boltzmann import Boltzmann, centre
from gencourse.space import Space
from gencourse.train import fit, linear

SPACE = Space((1, 2, 2), 2)
PARITY = torch.tensor([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
QUIET = {"device": "cpu", "progress": False}


def machine(space=SPACE, scale=1.0, **options):
    model = Boltzmann(space, **options).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(scale * torch.randn_like(p))
    return model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def log_joint(model):
    """log p of every state of all units, from the energy written out pair by pair."""
    states = every_example(Space((model.units,), 2)).double()
    pairs = dict(zip(zip(*torch.triu_indices(model.units, model.units, 1).tolist(), strict=True), model.pairs, strict=True))
    energy = -(states * model.bias).sum(1)
    for (i, j), coupling in pairs.items():
        energy = energy - coupling * states[:, i] * states[:, j]
    return states, torch.log_softmax(-energy, 0)


def test_couplings_are_symmetric_with_a_zero_diagonal_and_the_energy_counts_each_pair_once():
    model = machine(hidden=2)
    assert torch.equal(model.couplings, model.couplings.T)
    assert not model.couplings.diagonal().any()
    states, log_p = log_joint(model)
    energy = model.energy(states)
    assert torch.allclose(energy - energy[0], log_p[0] - log_p, rtol=0, atol=1e-12)
    assert energy[0] == 0  # all units off


@pytest.mark.parametrize("hidden", [0, 1, 3])
def test_log_prob_is_the_sum_over_hidden_units_and_sums_to_one(hidden):
    model = machine(hidden=hidden)
    _, log_p = log_joint(model)
    by_image = log_p.view(16, 2**hidden).logsumexp(1)  # pixels come first, hidden units change fastest
    assert torch.allclose(model.log_prob(every_example(SPACE)), by_image, rtol=0, atol=1e-12)
    assert by_image.exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("hidden", [0, 2])
def test_the_learning_rule_is_the_gradient_of_the_likelihood(hidden):
    model, x = machine(hidden=hidden), torch.randint(2, (7, *SPACE.shape))
    rule = torch.autograd.grad(model.train().clamped_less_free(x).mean(), list(model.parameters()))
    exact = torch.autograd.grad(-model.log_prob(x).mean(), list(model.parameters()))
    for a, b in zip(rule, exact, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-10)


def test_the_learning_rule_is_clamped_less_free_moments():
    model, x = machine(hidden=2), torch.randint(2, (7, *SPACE.shape))
    states, log_p = log_joint(model)
    rows, columns = torch.triu_indices(model.units, model.units, 1)
    free = log_p.exp() @ (states[:, rows] * states[:, columns])
    clamped = torch.zeros_like(free)
    for image in x.flatten(1):
        fits = (states[:, :4] == image).all(1)
        posterior = torch.softmax(log_p[fits], 0)
        clamped += posterior @ (states[fits][:, rows] * states[fits][:, columns]) / len(x)
    (gradient,) = torch.autograd.grad(model.clamped_less_free(x).mean(), [model.pairs])
    assert torch.allclose(gradient, free - clamped, rtol=0, atol=1e-12)


def test_in_evaluation_mode_the_loss_is_the_exact_one():
    model, x = machine(hidden=1).eval(), torch.randint(2, (5, *SPACE.shape))
    assert torch.equal(model.clamped_less_free(x), -model.log_prob(x))


def test_each_unit_keeps_detailed_balance_and_a_sweep_leaves_the_distribution_unchanged():
    model = machine(hidden=1)
    _, log_p = log_joint(model)
    for unit in range(model.units):
        assert_detailed_balance(single_site_matrix(model, unit), log_p)
    sweep = sweep_matrix(model)
    assert_leaves_unchanged(sweep, log_p)
    with pytest.raises(AssertionError, match="no detailed balance"):
        assert_detailed_balance(sweep, log_p)  # in order, there and back differ


@pytest.mark.parametrize("start", [0, 0b10110])
def test_a_sweep_draws_from_its_row_of_the_matrix(start):
    model = machine(hidden=1)
    row = sweep_matrix(model)[start]
    state = every_example(Space((5,), 2))[start].double()
    drawn = model.gibbs(state.expand(20_000, -1), 1, generator=seeded())
    assert_sampler_matches(drawn.long(), row.log(), Space((5,), 2))


def test_clamped_sampling_keeps_the_pixels_and_draws_the_posterior():
    model = machine(hidden=2)
    states, log_p = log_joint(model)
    fits = (states[:, :4] == torch.tensor([1.0, 0, 1, 1])).all(1)
    begin = torch.cat([torch.tensor([1.0, 0, 1, 1]), torch.zeros(2)]).expand(20_000, -1)
    drawn = model.gibbs(begin, 30, clamped=True, generator=seeded())
    assert torch.equal(drawn[:, :4], begin[:, :4].double())
    assert_sampler_matches(drawn[:, 4:].long(), torch.log_softmax(log_p[fits], 0), Space((2,), 2))


def test_samples_follow_the_probabilities():
    model = machine(hidden=1, sweeps=50)
    assert_sampler_matches(model.sample(20_000, generator=seeded()), model.log_prob(every_example(SPACE)), SPACE)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parity_needs_a_hidden_unit(seed):
    """Of three bits whose sum is even, each pair looks independent: without hidden units nothing better than noise is learned."""
    for hidden in (0, 1):
        torch.manual_seed(seed)
        model = Boltzmann(Space((3,), 2), hidden=hidden).double()
        fit(model, PARITY, steps=500, batch_size=4, lr=0.1, schedule=linear, keep_best=False, **QUIET)
        kl = -float(model.log_prob(PARITY).mean()) - math.log(4)
        if hidden:
            assert kl < 0.05
        else:
            assert kl == pytest.approx(math.log(2), abs=1e-6)


def test_chains_learn_what_enumeration_learns():
    torch.manual_seed(1)
    probabilities = torch.softmax(torch.randn(16), 0)
    x = every_example(SPACE)[torch.multinomial(probabilities, 2000, replacement=True)]
    exact, sampled = machine(scale=0.0), machine(scale=0.0, chains=200)
    for model in (exact, sampled):
        fit(model, x, steps=300, batch_size=2000, lr=0.05, schedule=linear, **QUIET)
    gap = float(exact.log_prob(x).mean() - sampled.log_prob(x).mean())
    assert 0 < gap < 0.01  # only noise is left between them: measured .0004 to .002
    assert float(sampled.log_prob(x).mean()) > -16 * math.log(2) / 4 + 0.1


def test_the_free_chains_are_kept_with_the_weights():
    model = machine(chains=5)
    before = model.chain.clone()
    model.clamped_less_free(torch.randint(2, (3, *SPACE.shape)))
    assert not torch.equal(model.chain, before)
    assert torch.equal(model.state_dict()["chain"], model.chain)


def test_what_is_too_large_says_so():
    with pytest.raises(ValueError, match=r"log Z of a Boltzmann machine of 64 units .* too many to enumerate.*anneals instead"):
        Boltzmann(Space((1, 8, 8), 2)).log_partition()
    with pytest.raises(ValueError, match="with 30 hidden units would be a sum over 2\\^30"):
        Boltzmann(SPACE, hidden=30).free_energy(torch.zeros(1, *SPACE.shape).long())
    with pytest.raises(ValueError, match="needs a space of 2 levels, not Space"):
        Boltzmann(Space((1, 8, 8), 17))
    with pytest.raises(ValueError, match="takes no context"):
        machine().log_prob(torch.zeros(1, *SPACE.shape).long(), torch.zeros(1).long())


def test_the_centre_of_the_digits_is_their_centre():
    from gencourse import data

    small, whole = centre(), data.load("binary_digits")
    assert small.space == Space((1, 4, 3), 2)
    assert torch.equal(small.test, whole.test[:, :, 2:6, 3:6])
    assert len(small.train) == 1257
