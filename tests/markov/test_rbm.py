"""The restricted Boltzmann machine against sums over all states of both sides."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from gencourse import data
from gencourse.checks import (
    assert_detailed_balance,
    assert_every_parameter_learns,
    assert_leaves_unchanged,
    assert_sampler_matches,
    every_example,
    expected_contrast,
    gibbs_matrix,
)
from gencourse.markov.chains import second_eigenvalue
from gencourse.markov.rbm import RBM
from gencourse.space import Space
from gencourse.train import fit, linear, sgd

SPACE = Space((1, 2, 3), 2)
X = every_example(SPACE)
QUIET = {"device": "cpu", "progress": False}


def machine(space=SPACE, scale=1.0, **options):
    model = RBM(space, **{"hidden": 4, **options}).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(scale * torch.randn_like(p))
    return model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def hidden_states(model):
    return every_example(Space((model.hidden,), 2))


def all_energies(model, y=None):
    """E of every image with every hidden state, `(64, 2^hidden)`, written out in sums over single units."""
    h, v = hidden_states(model).double(), X.flatten(1).double()
    if y is not None:
        v = torch.cat([v, F.one_hot(torch.full((len(v),), y), model.classes).double()], 1)
    energy = torch.zeros(len(v), len(h), dtype=torch.float64)
    for i in range(v.shape[1]):
        energy -= model.visible_bias[i] * v[:, i, None]
        for j in range(model.hidden):
            energy -= model.weight[i, j] * v[:, i, None] * h[None, :, j]
    for j in range(model.hidden):
        energy -= model.hidden_bias[j] * h[None, :, j]
    return energy.detach()


def test_energy_and_free_energy_are_the_sums():
    model = machine()
    energies = all_energies(model)
    for index in (0, 5, 15):
        h = hidden_states(model)[index].expand(len(X), -1)
        assert torch.allclose(model.energy(X, h), energies[:, index], rtol=0, atol=1e-12)
    assert torch.allclose(model.free_energy(X), -torch.logsumexp(-energies, 1), rtol=0, atol=1e-12)


def test_conditionals_are_those_of_the_joint():
    model = machine()
    joint = torch.softmax(-all_energies(model).flatten(), 0).view(64, -1)
    h, v = hidden_states(model).double(), X.flatten(1).double()
    given_v = joint / joint.sum(1, keepdim=True)
    given_h = joint / joint.sum(0, keepdim=True)
    assert torch.allclose(torch.sigmoid(model.hidden_logits(X)), given_v @ h, rtol=0, atol=1e-12)
    assert torch.allclose(torch.sigmoid(model.visible_logits(h)), given_h.T @ v, rtol=0, atol=1e-12)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("hidden", [1, 4, 9])
def test_log_z_over_images_is_log_z_over_hidden_units(hidden, classes):
    model = machine(hidden=hidden, classes=classes)
    over = [model.log_partition(over_hidden=side) for side in (True, False)]
    energies = torch.cat([all_energies(model, y).flatten() for y in (range(classes) if classes else [None])])
    for log_z in (*over, model.log_partition()):
        assert float(log_z) == pytest.approx(float(torch.logsumexp(-energies, 0)), abs=1e-11)
    assert model.log_prob(X).exp().sum().item() == pytest.approx(1, abs=1e-11)


def test_a_sum_in_pieces_is_the_sum():
    model = machine(Space((1, 4, 4), 2), scale=0.5, hidden=15)  # 2^16 images and 2^15 hidden states, in pieces of 2^14
    over = [float(model.log_partition(over_hidden=side)) for side in (True, False)]
    assert over[0] == pytest.approx(over[1], abs=1e-10)


# --- Labels ----------------------------------------------------------------------------------------------------------


def test_p_of_the_label_is_normalised_and_equals_the_enumeration():
    model = machine(classes=3)
    joint = torch.stack([torch.logsumexp(-all_energies(model, y), 1) for y in range(3)], 1)  # (64, 3)
    log_p = model.class_log_probs(X)
    assert torch.allclose(log_p.exp().sum(1), torch.ones(64).double(), rtol=0, atol=1e-12)
    assert torch.allclose(log_p, torch.log_softmax(joint, 1), rtol=0, atol=1e-12)
    assert torch.allclose(model.free_energy(X), -torch.logsumexp(joint, 1), rtol=0, atol=1e-12)


def test_images_given_a_label_sum_to_one_and_labels_have_their_share():
    model = machine(classes=3)
    total = 0.0
    for y in range(3):
        labels = torch.full((64,), y)
        assert model.log_prob(X, labels).exp().sum().item() == pytest.approx(1, abs=1e-12)
        share = float((model.log_partition(labels[:1]) - model.log_partition()).exp())
        joint = model.log_prob(X) + model.class_log_probs(X)[:, y]
        assert share == pytest.approx(float(joint.exp().sum()), abs=1e-12)
        total += share
    assert total == pytest.approx(1, abs=1e-12)


def test_samples_with_and_without_a_label_follow_the_probabilities():
    model = machine(classes=3, scale=0.7, sweeps=40)
    assert_sampler_matches(model.sample(20_000, generator=seeded()), model.log_prob(X), SPACE)
    labels = torch.full((20_000,), 2)
    assert_sampler_matches(model.sample(20_000, labels, generator=seeded(1)), model.log_prob(X, labels[:64]), SPACE)


def test_annealing_given_a_label_finds_its_share_of_z():
    model = machine(classes=3, temperatures=50)
    for y in (0, 2):
        label = torch.tensor([y])
        estimate = model.estimate_log_partition(label, chains=1000, generator=seeded())
        assert abs(estimate.log_z - float(model.log_partition(label))) < 4 * estimate.standard_error < 0.1
    given = torch.tensor([0, 2, 2, 1])
    estimates = model.log_prob_estimate(X[:4], given, samples=2000, generator=seeded())
    assert torch.allclose(estimates, model.log_prob(X[:4], given), rtol=0, atol=0.05)


def test_wrong_labels_get_a_sentence():
    model = machine(classes=3)
    with pytest.raises(ValueError, match=r"integers 0\.\.2"):
        model.free_energy(X[:2], torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="needs labels as its context"):
        model.eval().contrast(X)
    with pytest.raises(ValueError, match="needs labels"):
        model.train().contrast(X)
    with pytest.raises(ValueError, match=r"has no classes; RBM\(space, classes=10\)"):
        machine().class_log_probs(X)
    with pytest.raises(ValueError, match="takes no context"):
        machine().free_energy(X, torch.zeros(64).long())


# --- The chain -------------------------------------------------------------------------------------------------------


def test_gibbs_sampling_leaves_the_model_s_distribution_unchanged():
    model = machine()
    matrix, log_p = gibbs_matrix(model), model.log_prob(X)
    assert_leaves_unchanged(matrix, log_p)
    assert_detailed_balance(matrix, log_p)


@pytest.mark.parametrize(("start", "steps"), [(0, 1), (41, 1), (41, 2)])
def test_gibbs_sampling_draws_from_its_row_of_the_matrix(start, steps):
    model = machine()
    row = torch.linalg.matrix_power(gibbs_matrix(model), steps)[start]
    drawn = model.gibbs(X[start].expand(20_000, -1, -1, -1), steps, generator=seeded())
    assert_sampler_matches(drawn, row.log(), SPACE)


def test_no_step_changes_nothing_and_labels_are_held():
    model = machine(classes=3)
    assert torch.equal(model.gibbs(X, 0), X)
    v = model.visible(X, torch.arange(64) % 3)
    held = model._gibbs(v, 3, held=True, generator=seeded())
    free = model._gibbs(v, 3, generator=seeded())
    assert torch.equal(held[:, 6:], v[:, 6:])
    assert not torch.equal(free[:, 6:], v[:, 6:])
    assert torch.equal(free[:, 6:].sum(1), torch.ones(64).double())


# --- Learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chains", [0, 7])
@pytest.mark.parametrize("classes", [0, 3])
def test_the_loss_is_the_gap_of_free_energies_and_so_is_its_gradient(chains, classes):
    model = machine(chains=chains, classes=classes).train()
    x, y = X[torch.randint(64, (5,))], torch.randint(3, (5,)) if classes else None
    model.contrast(x, y)  # the first batch sets the base rate and starts the chains
    before = model.chain.clone()
    state = torch.get_rng_state()
    loss = model.contrast(x, y)
    gradients = torch.autograd.grad(loss.mean(), list(model.parameters()))
    torch.set_rng_state(state)
    with torch.no_grad():  # the same states once more
        v = model.visible(x, y)
        if not chains:
            h = (torch.rand(5, 4, dtype=torch.float64) < torch.sigmoid(model._hidden(v))).double()
            v_ = model._draw_visible(model.visible_logits(h))
        else:
            v_ = model.chain.clone()
            assert not torch.equal(v_, before)
    gap = model._free_energy(v) - model._free_energy(v_).mean()
    assert torch.allclose(loss, gap, rtol=0, atol=1e-12)
    for a, b in zip(gradients, torch.autograd.grad(gap.mean(), list(model.parameters())), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chains", [0, 7])
@pytest.mark.parametrize("classes", [0, 3])
def test_the_gradient_by_the_rule_is_autograd_s(chains, classes):
    model = machine(chains=chains, classes=classes, k=2).train()
    x, y = X[torch.randint(64, (5,))], torch.randint(3, (5,)) if classes else None
    model.contrast(x, y)  # the first batch sets the base rate and starts the chains
    model.hidden_bias.requires_grad_(False)  # what does not learn has no gradient
    twin, state = copy.deepcopy(model), torch.get_rng_state()
    (move,) = twin.moves()
    loss, gradients = move.gradient(x, y)
    torch.set_rng_state(state)
    expected = model.contrast(x, y).mean()
    assert torch.allclose(loss, expected, rtol=0, atol=1e-12)
    assert torch.equal(twin.chain, model.chain)
    for a, b in zip(gradients, torch.autograd.grad(expected, [model.weight, model.visible_bias]), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)
    assert [p is q for p, q in zip(move.learns, (twin.weight, twin.visible_bias), strict=True)] == [True, True]


def test_the_loss_of_each_example_has_its_own_gradient():
    model = machine(chains=3).train()
    model.contrast(X[:4])
    weights = torch.randn(4, dtype=torch.float64)
    loss = model.contrast(X[:4])
    gradient = torch.autograd.grad(loss @ weights, [model.weight])[0]
    gap = model.free_energy(X[:4]) - model._free_energy(model.chain).mean()
    assert torch.allclose(gradient, torch.autograd.grad(gap @ weights, [model.weight])[0], rtol=0, atol=1e-12)


def test_the_mean_over_the_model_of_the_gap_s_gradient_is_the_likelihood_s():
    """With the model's own distribution in place of a chain: grad F at the data less its mean."""
    model, x = machine(), X[torch.randint(64, (9,))]
    names = dict(model.named_parameters())
    exact = torch.autograd.grad(model.log_prob(x).mean(), list(names.values()))
    p = model.log_prob(X).exp().detach()
    rule = torch.autograd.grad((p * model.free_energy(X)).sum() - model.free_energy(x).mean(), list(names.values()))
    for a, b in zip(exact, rule, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-10)


def test_the_mean_update_of_contrastive_divergence_comes_near_the_gradient_as_the_chain_forgets():
    model, x = machine(scale=0.7), X[[3, 3, 17, 40, 63]]
    exact = torch.autograd.grad(model.log_prob(x).mean(), list(model.parameters()))
    exact = torch.cat([part.flatten() for part in exact])
    factor, errors = second_eigenvalue(gibbs_matrix(model)), []
    for k in (1, 2, 5, 10, 11):
        update = expected_contrast(model, x, k)
        update = torch.cat([update[name].flatten() for name, _ in model.named_parameters()])
        errors.append(float((update - exact).norm() / exact.norm()))
    assert errors[0] > 0.02  # CD-1 is another direction
    assert errors == sorted(errors, reverse=True)
    assert errors[4] / errors[3] == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("k", [1, 3])
def test_updates_of_contrastive_divergence_have_that_mean(k):
    model = machine(scale=0.7, k=k).train()
    model._known = True
    x = X[[3, 17, 40, 63]].repeat(10_000, 1, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        gradients = torch.autograd.grad(model.contrast(x).mean(), list(model.parameters()))
    for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        assert torch.allclose(-gradient, expected_contrast(model, x[:4], k)[name], rtol=0, atol=0.01), name  # 4 s.e.: .5 / 200


def test_pseudo_likelihood_is_the_sum_of_the_conditionals():
    for classes in (0, 3):
        model = machine(classes=classes).eval()
        labels = torch.arange(64) % 3 if classes else None
        joint = model.log_prob(X)
        if classes:
            joint = torch.stack([model.log_prob(X) + model.class_log_probs(X)[:, y] for y in range(3)], 1)
        expected = torch.zeros(64).double()
        for i in range(6):
            flipped = torch.arange(64) ^ (1 << (5 - i))
            for n in range(64):
                here, there = (joint[n], joint[flipped[n]]) if not classes else (joint[n, n % 3], joint[flipped[n], n % 3])
                expected[n] += torch.logaddexp(here, there) - here
        if classes:
            expected -= model.class_log_probs(X)[torch.arange(64), labels]
        assert torch.allclose(model.contrast(X, labels), expected, rtol=0, atol=1e-11)


def test_the_first_batch_sets_the_base_rate_and_the_biases_once():
    model = RBM(SPACE, hidden=4, chains=20)
    x = X[:40]
    model.train().contrast(x)
    ones = x.flatten(1).sum(0)
    assert torch.allclose(model.base, torch.log((ones + 1) / (40 - ones + 1)), atol=1e-6)
    assert torch.equal(model.visible_bias, model.base)
    base = model.base.clone()
    model.contrast(1 - x)
    assert torch.equal(model.base, base)
    again = RBM(SPACE, hidden=4, chains=20)
    again.load_state_dict(model.state_dict())
    again.train().contrast(1 - x)
    assert torch.equal(again.base, base)
    own = machine().float()
    bias = own.visible_bias.detach().clone()
    own.train().contrast(x)
    assert torch.equal(own.visible_bias, bias)  # biases that somebody has set stay


@pytest.mark.parametrize("classes", [0, 10])
def test_a_short_training_is_far_better_than_independent_pixels(classes):
    digits = data.load("binary_digits")
    torch.manual_seed(0)
    model = RBM(digits.space, hidden=16, chains=100, classes=classes)
    settings = {"steps": 1500, "batch_size": 100, "lr": 0.1, "schedule": linear, "optimizer": sgd, "conditional": bool(classes)}
    fit(model, digits, **settings, **QUIET)
    with torch.no_grad():
        share = (digits.train.flatten(1).float().sum(0) + 1) / (len(digits.train) + 2)
        test = digits.test.flatten(1).float()
        independent = -float((test * share.log() + (1 - test) * (1 - share).log()).sum(1).mean())
        assert -float(model.log_prob(digits.test).mean()) < independent - 3  # measured: 20.9 to 21.6 against 26.3
        if classes:
            right = model.class_log_probs(digits.test).argmax(1) == digits.test_labels
            assert float(right.double().mean()) > 0.75


@pytest.mark.parametrize("stops", [[1], [6, 13]])
def test_a_killed_run_with_persistent_chains_ends_with_the_same_bits(tmp_path, stops):
    """An exception ends the run at once, like a kill; checkpoints are every second step."""

    class Stop(Exception):
        pass

    bars = data.load("bars_and_stripes")
    settings = {"steps": 20, "batch_size": 5, "lr": 0.1, "schedule": linear, "optimizer": partial(sgd, decay=1e-3)}
    settings |= {"validate_every": 3, "checkpoint_every": 2, "keep_best": False, **QUIET}

    def rbm():
        torch.manual_seed(0)
        return RBM(bars.space, hidden=4, chains=6)

    for stop in stops:

        def fail(step, model, stop=stop):
            if step == stop:
                raise Stop

        with pytest.raises(Stop):
            fit(rbm(), bars, out=tmp_path, resume=True, callback=fail, **settings)
    resumed, whole = rbm(), rbm()
    a = fit(resumed, bars, out=tmp_path, resume=True, **settings)
    b = fit(whole, bars, **settings)
    assert (a.losses, a.valid, a.best_step) == (b.losses, b.valid, b.best_step)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert whole.chain.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_short_weights_compute_in_full_precision(dtype):
    model = machine(classes=3, chains=4).to(dtype)
    double = copy.deepcopy(model).double()
    labels = torch.arange(64) % 3
    assert model.free_energy(X, labels).dtype == torch.float32
    assert torch.allclose(model.free_energy(X, labels).double(), double.free_energy(X, labels), rtol=0, atol=1e-4)
    assert_every_parameter_learns(model.train(), X, labels)
    model.space.validate(model.sample(3, generator=seeded()))


def test_bad_arguments_get_a_sentence():
    with pytest.raises(ValueError, match="needs a space of 2 levels, not Space"):
        RBM(Space((1, 8, 8), 17))
    with pytest.raises(ValueError, match="RBM: hidden must be a positive integer, not 0"):
        RBM(SPACE, hidden=0)
    with pytest.raises(ValueError, match=r"64 pixels and 64 hidden .* too many to enumerate .*estimate_log_partition"):
        RBM(Space((1, 8, 8), 2)).log_prob(torch.zeros(1, 1, 8, 8).long())
