"""Exercise 11: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import itertools
import math

import numpy as np
import pytest
import torch
from experiment_tests import assert_told, assert_trained_to_full_points
from question_tests import assert_full_points, assert_keeps, ids, result
from torch import distributions as D
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

from gencourse.grading.questions.q11_boltzmann_machines import (
    ANNEALING,
    CONTRAST,
    ENERGY,
    EXPERIMENT,
    FREE_ENERGY,
    LABELS,
    LOG_Z,
    SWEEP,
)

# Right answers by other routes than the reference's.


def binary(n, like):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=like.dtype)


def energy_loop(s, J, b):
    U = s.shape[1]
    return [
        -sum(float(b[i] * row[i]) for i in range(U))
        - sum(float(J[i, j] * row[i] * row[j]) for i in range(U) for j in range(i + 1, U))
        for row in s
    ]


def energy_triangle(s, J, b):
    return -(s * b).sum(-1) - torch.einsum("ni,ij,nj->n", s, torch.triu(J, 1), s)


def energy_numpy(s, J, b):
    s, J, b = (t.numpy().astype(np.float64) for t in (s, J, b))
    return -s @ b - np.einsum("ni,ij,nj->n", s, J, s) / 2


def free_energy_logsigmoid(v, W, b, c):
    return -(v * b).sum(1) + logsigmoid(-(v @ W + c)).sum(1)


def free_energy_logaddexp(v, W, b, c):
    logits = (torch.einsum("nd,dh->nh", v, W) + c).double()
    return -torch.mv(v, b).double() - torch.logaddexp(logits, torch.zeros_like(logits)).sum(-1)


def free_energy_enumerated(v, W, b, c):
    h = binary(len(c), c).double()
    minus_energy = (v @ b)[:, None] + h @ c.double() + (v @ W).double() @ h.T
    return -torch.logsumexp(minus_energy, dim=1)


def log_z_free_energy(W, b, c):
    """Over the pixels, whichever side is smaller."""
    v = binary(len(b), b)
    return torch.logsumexp(-free_energy_logsigmoid(v, W, b, c), dim=0)


def log_z_hidden(W, b, c):
    h = binary(len(c), c).double()
    return (h @ c.double() + softplus(h @ W.T.double() + b).sum(1)).logsumexp(0)


def log_z_numpy(W, b, c):
    W, b, c = (t.numpy().astype(np.float64) for t in (W, b, c))
    if len(b) < len(c):
        W, b, c = W.T, c, b
    terms = [np.dot(c, h) + np.logaddexp(0, b + W @ np.array(h)).sum() for h in itertools.product([0, 1], repeat=len(c))]
    return np.logaddexp.reduce(terms)


def sweep_in_place(s, J, b, u):
    for i in range(len(b)):
        s[:, i] = u[:, i] < torch.sigmoid(s @ J[:, i] + b[i])
    return s


def sweep_row_by_row(s, J, b, u):
    rows = []
    for state, uniform in zip(s.tolist(), u.tolist(), strict=True):
        for i in range(len(state)):
            logit = float(b[i]) + sum(float(J[i, j]) * state[j] for j in range(len(state)))
            state[i] = int(uniform[i] < 1 / (1 + math.exp(-logit)))
        rows.append(state)
    return rows


def sweep_energies(s, J, b, u):
    """Each unit by the energies of the state with it and without it."""
    s = s.double()
    for i in range(s.shape[1]):
        on, off = s.clone(), s.clone()
        on[:, i], off[:, i] = 1, 0
        p = torch.stack([-energy_triangle(state, J.double(), b.double()) for state in (off, on)], 1).softmax(1)[:, 1]
        s[:, i] = (u[:, i] < p).double()
    return s.bool()


def contrast_outer(v, W, b, c, u, w):
    p = torch.sigmoid(v @ W + c)
    h = (u < p).float()
    dream = (w < torch.sigmoid(h @ W.T + b)).float()
    p_dream = torch.sigmoid(dream @ W + c)
    each = v[:, :, None] * p[:, None, :] - dream[:, :, None] * p_dream[:, None, :]
    return torch.vstack([each.mean(0), p.mean(0) - p_dream.mean(0)])


def contrast_autograd(v, W, b, c, u, w):
    """Minus the gradient of the free energies' difference, the dream held fast."""
    W, c = W.detach().clone().requires_grad_(), c.detach().clone().requires_grad_()
    with torch.no_grad():
        h = torch.where(u < torch.sigmoid(c + v @ W), 1.0, 0.0)
        dream = torch.where(w < torch.sigmoid(b + h @ W.T), 1.0, 0.0)
    gap = (free_energy_logsigmoid(v, W, b, c) - free_energy_logsigmoid(dream, W, b, c)).mean()
    of_W, of_c = torch.autograd.grad(gap, (W, c))
    return -torch.cat([of_W, of_c[None]])


def contrast_numpy(v, W, b, c, u, w):
    v, W, b, c, u, w = (t.numpy().astype(np.float64) for t in (v, W, b, c, u, w))
    p = 1 / (1 + np.exp(-(c + v @ W)))
    dream = w < 1 / (1 + np.exp(-(b + (u < p) @ W.T)))
    p_dream = 1 / (1 + np.exp(-(c + dream @ W)))
    return np.concatenate([v.T @ p - dream.T @ p_dream, (p - p_dream).sum(0, keepdims=True)]) / len(v)


def ais_machines(states, betas, W, b, c, base):
    """Each density is minus the free energy of a machine with tempered weights."""
    log_w = torch.zeros(states.shape[1], dtype=torch.float64)
    for t in range(len(states)):
        for sign, beta in ((1, betas[t + 1].double()), (-1, betas[t].double())):
            mixed = (1 - beta) * base + beta * b
            log_w -= sign * free_energy_logaddexp(states[t].double(), (beta * W).double(), mixed.double(), (beta * c).double())
    log_z0 = torch.log1p(base.exp()).sum() + len(c) * math.log(2)
    return log_z0 + torch.logsumexp(log_w, 0) - math.log(len(log_w))


def ais_all_at_once(states, betas, W, b, c, base):
    lower, upper = betas[:-1, None], betas[1:, None]
    logits = states @ W + c  # (T, N, H)
    rest = softplus(upper[..., None] * logits).sum(2) - softplus(lower[..., None] * logits).sum(2)
    log_w = ((upper - lower) * (states @ (b - base)) + rest).sum(0)
    return log_w.max() + (log_w - log_w.max()).exp().mean().log() + softplus(torch.cat([base, torch.zeros_like(c)])).sum()


def ais_loop(states, betas, W, b, c, base):
    states, betas, W, b, c, base = (t.numpy().astype(np.float64) for t in (states, betas, W, b, c, base))
    log_w = []
    for chain in range(states.shape[1]):
        total = 0.0
        for t in range(states.shape[0]):
            v = states[t, chain]
            for sign, beta in ((1, betas[t + 1]), (-1, betas[t])):
                total += sign * ((1 - beta) * v @ base + beta * v @ b + np.logaddexp(0, beta * (c + v @ W)).sum())
        log_w.append(total)
    return np.logaddexp.reduce(log_w) - np.log(len(log_w)) + np.logaddexp(0, base).sum() + len(c) * np.log(2)


def labels_loop(v, W, U, c, d):
    columns = [d[y] + softplus(c + v @ W + U[y]).sum(1) for y in range(len(d))]
    scores = torch.stack(columns, dim=1)
    return scores - torch.logsumexp(scores, dim=1, keepdim=True)


def labels_categorical(v, W, U, c, d):
    scores = [-free_energy_logaddexp(v, W, torch.zeros(v.shape[1]), c + U[y]) + d[y] for y in range(len(d))]
    return D.Categorical(logits=torch.stack(scores, 1)).logits


def labels_one_machine(v, W, U, c, d):
    """The label as K more pixels of one machine."""
    K, rows = len(d), []
    for image in v:
        pairs = torch.cat([image.expand(K, -1), torch.eye(K)], dim=1)
        F = free_energy_logsigmoid(pairs, torch.cat([W, U]), torch.cat([torch.zeros(v.shape[1]), d]), c)
        rows.append((-F).log_softmax(0))
    return rows


@pytest.mark.parametrize(
    ("question", "function"),
    [
        *[(ENERGY, function) for function in (energy_loop, energy_triangle, energy_numpy)],
        *[(FREE_ENERGY, function) for function in (free_energy_logsigmoid, free_energy_logaddexp, free_energy_enumerated)],
        *[(LOG_Z, function) for function in (log_z_free_energy, log_z_hidden, log_z_numpy)],
        *[(SWEEP, function) for function in (sweep_in_place, sweep_row_by_row, sweep_energies)],
        *[(CONTRAST, function) for function in (contrast_outer, contrast_autograd, contrast_numpy)],
        *[(ANNEALING, function) for function in (ais_machines, ais_all_at_once, ais_loop)],
        *[(LABELS, function) for function in (labels_loop, labels_categorical, labels_one_machine)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function):
    assert_full_points(question, function, 10)


def test_formulas_that_overflow_keep_the_points_of_moderate_numbers():
    def overflowing_free_energy(v, W, b, c):
        return -v @ b - torch.log(1 + torch.exp(c + v @ W)).sum(1)

    def overflowing_log_z(W, b, c):
        return torch.exp(-free_energy_logsigmoid(binary(len(b), b), W, b, c)).sum().log()

    def overflowing_ais(states, betas, W, b, c, base):
        log_w = -sum(
            free_energy_logsigmoid(v, low * W, (1 - low) * base + low * b, low * c) * -1
            + free_energy_logsigmoid(v, high * W, (1 - high) * base + high * b, high * c)
            for v, low, high in zip(states, betas[:-1], betas[1:], strict=True)
        )
        return softplus(base).sum() + len(c) * math.log(2) + log_w.exp().mean().log()

    for question, function in ((FREE_ENERGY, overflowing_free_energy), (LOG_Z, overflowing_log_z), (ANNEALING, overflowing_ais)):
        for seed in range(5):
            assert result(question, function, seed).points == 2, question.id


def test_what_a_mistake_costs():
    assert_keeps(FREE_ENERGY, "most probable hidden units", 0)
    assert_keeps(LOG_Z, "other side all on", 0)


# What the references claim, from first principles.

GENERATOR = torch.Generator().manual_seed(5)


def normal(*size):
    return torch.randn(*size, generator=GENERATOR, dtype=torch.float64)


def test_a_sweep_leaves_the_machines_distribution_as_it_is():
    """The mean over the uniforms of where a sweep leads is a matrix; p times it is p, with p from the energies."""
    U, J, b = 4, normal(4, 4), normal(4)
    J = J.triu(1) + J.triu(1).T
    states = binary(U, b)
    p = (-ENERGY.reference(states, J, b)).softmax(0)
    # a grid of uniforms, the middles of fine cells: each unit's threshold is found to half a cell
    n = 12
    cells = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    u = torch.cartesian_prod(*[cells] * U)
    moved = torch.zeros(len(states), len(states), dtype=torch.float64)
    for i, state in enumerate(states):
        ends = SWEEP.reference(state.expand(len(u), -1), J, b, u) @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)
        moved[i] = torch.bincount(ends.long(), minlength=len(states)) / len(u)
    assert torch.allclose(p @ moved, p, rtol=0, atol=U * 0.5 / n)
    assert (p @ moved - p).abs().max() < 0.5 * (p - 1 / len(p)).abs().max()  # and by far nearer than no idea at all


def test_log_z_and_free_energy_are_sums_of_energies():
    W, b, c = normal(5, 3), normal(5), normal(3)
    v, h = binary(5, b), binary(3, c)
    minus_energy = (v @ b)[:, None] + h @ c + v @ W @ h.T  # (32, 8), as the energy is written
    assert torch.allclose(FREE_ENERGY.reference(v, W, b, c), -minus_energy.logsumexp(1), rtol=0, atol=1e-12)
    assert LOG_Z.reference(W, b, c).item() == pytest.approx(minus_energy.flatten().logsumexp(0).item(), abs=1e-12)
    assert LOG_Z.reference(W.T, c, b).item() == pytest.approx(LOG_Z.reference(W, b, c).item(), abs=1e-12)


def test_the_mean_weight_of_annealing_is_the_ratio_of_the_constants():
    """With every chain that there is, weighted by its probability: exact draws, then Gibbs steps as matrices."""
    W, b, c, base = normal(3, 2), normal(3), normal(2), normal(3)
    betas = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    v, h = binary(3, b), binary(2, c)
    at = 0.3
    of_h = (at * (c + v @ W)).sigmoid()
    h_given_v = torch.where(h[None] == 1, of_h[:, None], 1 - of_h[:, None]).prod(-1)
    of_v = ((1 - at) * base + at * (b + h @ W.T)).sigmoid()
    v_given_h = torch.where(v[None] == 1, of_v[:, None], 1 - of_v[:, None]).prod(-1)
    chains = (v @ base).softmax(0)[:, None] * (h_given_v @ v_given_h)  # p(v_0, v_1)
    total = 0.0
    for i in range(8):
        for j in range(8):
            one = ANNEALING.reference(torch.stack([v[i], v[j]])[:, None], betas, W, b, c, base)
            total += float(chains[i, j]) * math.exp(one)
    assert math.log(total) == pytest.approx(LOG_Z.reference(W, b, c).item(), abs=1e-10)


def test_class_probabilities_are_those_of_the_joint_distribution():
    v, W, U, c, d = binary(3, normal(1)), normal(3, 2), normal(4, 2), normal(2), normal(4)
    h = binary(2, c)
    joint = (d[None, :, None] + (h @ c)[None, None] + (v @ W @ h.T)[:, None] + (U @ h.T)[None]).logsumexp(2)
    assert torch.allclose(LABELS.reference(v, W, U, c, d).exp(), joint.softmax(1), rtol=0, atol=1e-12)


def test_contrastive_divergence_of_the_model_itself_is_zero_on_average():
    """Data drawn from the machine: the dream has the data's distribution, and nothing is left to learn."""
    W, b, c = normal(3, 2), normal(3), normal(2)
    v, n = binary(3, b), 40_000
    p = (-FREE_ENERGY.reference(v, W, b, c)).softmax(0)
    data = v[torch.multinomial(p, n, replacement=True, generator=GENERATOR)]
    u, w = (torch.rand(n, k, generator=GENERATOR, dtype=torch.float64) for k in (2, 3))
    update = CONTRAST.reference(data, W, b, c, u, w)
    assert update.shape == (4, 2)
    assert update.abs().max() < 5 / math.sqrt(n)  # five standard errors of a number between -1 and 1


# 11.8: other ways to train.


def by_exact_gradient(hidden=12, optimiser=torch.optim.Adam, lr=0.05, steps=600):
    def fit(x, states):
        torch.manual_seed(0)
        D = x.shape[1]
        W = (0.1 * torch.randn(D, hidden)).requires_grad_()
        b, c = torch.logit(x.mean(0).clamp(0.01, 0.99)).requires_grad_(), torch.zeros(hidden, requires_grad=True)
        trainer = optimiser([W, b, c], lr=lr, weight_decay=1e-3)
        for step in range(steps):
            trainer.param_groups[0]["lr"] = lr * (1 - step / steps)
            log_z = torch.logsumexp(-free_energy_logsigmoid(states, W, b, c), 0)
            trainer.zero_grad()
            (free_energy_logsigmoid(x, W, b, c).mean() + log_z).backward()
            trainer.step()
        F = free_energy_logsigmoid(states, W, b, c).detach()
        return -F - torch.logsumexp(-F, 0)

    return fit


def by_persistent_chains(x, states):
    torch.manual_seed(0)
    W, b, c = 0.1 * torch.randn(x.shape[1], 12), torch.logit(x.mean(0).clamp(0.01, 0.99)), torch.zeros(12)
    chain, steps = x[:100].clone(), 3000
    for step in range(steps):
        v = x[torch.randint(len(x), (100,))]
        chain = torch.bernoulli(torch.sigmoid(b + torch.bernoulli(torch.sigmoid(c + chain @ W)) @ W.T))
        p, p_chain, lr = torch.sigmoid(c + v @ W), torch.sigmoid(c + chain @ W), 0.1 * (1 - step / steps)
        W += lr * ((v.T @ p - chain.T @ p_chain) / 100 - 0.001 * W)
        b += lr * (v - chain).mean(0)
        c += lr * (p - p_chain).mean(0)
    return (-free_energy_logsigmoid(states, W, b, c)).log_softmax(0)


@pytest.mark.parametrize(
    "fit", [EXPERIMENT.reference, by_exact_gradient(), by_exact_gradient(24, torch.optim.AdamW), by_persistent_chains], **ids
)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(2))


def test_what_is_wrong_with_a_machine_is_told():
    named = ("minus the logarithm", "probability for its logarithm", "bits", "independent pixels", "log Z forgotten")
    for name in named:
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], name, range(2))
    for name in ("counted", "one hidden unit", "few images", "states out of order"):
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], None, [0])
    assert_told(EXPERIMENT, EXPERIMENT.mistakes["few steps"], "independent pixels", [0])  # which it is still


def test_the_divergence_is_least_at_the_truth():
    (inputs,) = EXPERIMENT.draw(0).values()
    statistic, true = EXPERIMENT.checks[0].measure.statistic, inputs["_log_p"].astype(float)
    assert np.exp(true).sum() == pytest.approx(1, abs=1e-6)
    assert statistic(inputs, true) == pytest.approx(0, abs=1e-9)
    for shift in (-0.3, 0.3):  # times c, a distribution that adds up to 1 is c - 1 - log c away
        assert statistic(inputs, true + shift) == pytest.approx(math.exp(shift) - 1 - shift, abs=1e-6)
    uniform = np.full(len(true), -math.log(len(true)))
    entropy = -(np.exp(true) * true).sum()
    assert statistic(inputs, uniform) == pytest.approx(math.log(len(true)) - entropy, abs=1e-6)
    assert statistic(inputs, true + 1000) == 1000


def test_the_exact_gradient_is_what_contrastive_divergence_aims_at():
    """The mean of the update over the machine's own dreams, after infinitely many steps, is the gradient of the likelihood."""
    W, b, c = (t.requires_grad_() for t in (normal(3, 2), normal(3), normal(2)))
    v = binary(3, normal(1))
    data = v[[0, 3, 5, 5]]
    log_p = -FREE_ENERGY.reference(data, W, b, c).mean() - LOG_Z.reference(W, b, c)
    (of_W,) = torch.autograd.grad(log_p, W)
    with torch.no_grad():
        model = (-FREE_ENERGY.reference(v, W, b, c)).softmax(0)
        at_data, at_model = torch.sigmoid(c + data @ W), torch.sigmoid(c + v @ W)
        assert torch.allclose(of_W, data.T @ at_data / 4 - (v * model[:, None]).T @ at_model, rtol=0, atol=1e-12)
        # and the hidden units' probabilities are those of the energy
        on = -binary_cross_entropy_with_logits(c + data @ W, torch.ones(4, 2, dtype=torch.float64), reduction="none")
        assert torch.allclose(on.exp(), at_data, rtol=0, atol=1e-12)
