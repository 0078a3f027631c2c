"""Exercise 08: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from experiment_tests import assert_told, assert_trained_to_full_points
from question_tests import assert_full_points, assert_keeps, ids, result
from torch import distributions as D
from torch import nn

from gencourse.grading.questions.q08_autoencoders import (
    ANGLES,
    DENOISED,
    DENOISING,
    EXPERIMENT,
    FINE_TUNING,
    LEAST_LOSS,
    PROJECTOR,
    SIZES,
)

# Right answers by other routes than the reference's.


def projector_eigh(x, K):
    x = x - x.mean(0, keepdim=True)
    vectors = torch.linalg.eigh((x.T @ x).double()).eigenvectors.flip(1)[:, : int(K)]
    return vectors @ vectors.T


def projector_numpy(x, K):
    x = x.numpy().astype(np.float64)
    _, _, Vh = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return sum(np.outer(v, v) for v in Vh[: int(K)])


def projector_trained(x, K):
    """A linear autoencoder, trained: alternating least squares, which stops at the principal subspace."""
    x = (x - x.mean(0)).double()
    W = torch.eye(x.shape[1], int(K)).double() + 0.1
    for _ in range(400):
        W = torch.linalg.qr(x.T @ (x @ W)).Q
    return W @ torch.linalg.inv(W.T @ W) @ W.T


def loss_residual(x, K):
    P = projector_eigh(x, K)
    x = (x - x.mean(0)).double()
    return (x - x @ P).square().sum(1).mean()


def loss_eigenvalues(x, K):
    values = np.linalg.eigvalsh(np.cov(x.numpy().astype(float).T, bias=True))
    return np.sort(values)[::-1][int(K) :].sum()


def loss_difference(x, K):
    singular = torch.linalg.svdvals(x.double() - x.double().mean(0))
    return (x.double().var(0, correction=0).sum()) - (singular[: int(K)] ** 2).mean() * int(K) / len(x)


def angles_scipy(A, B):
    return np.sort(scipy.linalg.subspace_angles(A.numpy().astype(float), B.numpy().astype(float)))


def angles_svd(A, B):
    Q, R = (torch.linalg.svd(M.double(), full_matrices=False).U for M in (A, B))
    return torch.linalg.svdvals(R.T @ Q).clamp(max=1).acos()


def angles_projectors(A, B):
    P, R = (M.double() @ torch.linalg.pinv(M.double()) for M in (A, B))
    squares = torch.linalg.eigvals(P @ R).real.sort(descending=True).values[: A.shape[1]]
    return squares.clamp(0, 1).sqrt().acos()


def denoising_mask(x, W, V, u, rho):
    mask = (u >= rho).float()
    y = torch.einsum("dk,bk->bd", V, torch.einsum("kd,bd->bk", W, mask * x).tanh())
    return nn.functional.mse_loss(y, x, reduction="none").sum(-1)


def denoising_fill(x, W, V, u, rho):
    return (nn.functional.linear(torch.tanh(nn.functional.linear(x.masked_fill(u < rho, 0.0), W)), V) - x).norm(dim=1) ** 2


def denoising_rows(x, W, V, u, rho):
    losses = []
    for row, uniform in zip(x, u, strict=True):
        damaged = torch.stack([value if drawn >= rho else value * 0 for value, drawn in zip(row, uniform, strict=True)])
        losses.append(((V @ torch.tanh(W @ damaged) - row) ** 2).sum())
    return torch.stack(losses)


def denoised_distributions(y, x, sigma):
    log_p = D.Independent(D.Normal(x, sigma), 1).log_prob(y[:, None])
    return (log_p - log_p.logsumexp(1, keepdim=True)).exp() @ x


def denoised_cdist(y, x, sigma):
    return torch.softmax(-0.5 * (torch.cdist(y.double(), x.double()) / sigma) ** 2, -1) @ x.double()


def denoised_loop(y, x, sigma):
    y, x, sigma = y.numpy().astype(float), x.numpy().astype(float), float(sigma)
    rows = []
    for point in y:
        exponents = np.array([-((point - other) ** 2).sum() / (2 * sigma**2) for other in x])
        weights = np.exp(exponents - exponents.max())
        rows.append((weights[:, None] * x).sum(0) / weights.sum())
    return rows


def denoised_expanded(y, x, sigma):
    """|y|^2 is the same for all points, and cancels."""
    y, x = y.double(), x.double()
    return ((y @ x.T - 0.5 * (x * x).sum(1)) / sigma**2).softmax(1) @ x


def sizes_layers(n, k, s, p, o):
    """By running the layers."""
    rows = []
    for N, k_, s_, p_, o_ in zip(*(a.int().tolist() for a in (n, k, s, p, o)), strict=True):
        image = torch.zeros(1, 1, N)
        down, up = nn.Conv1d(1, 1, k_, s_, p_), nn.ConvTranspose1d(1, 1, k_, s_, p_, o_)
        rows.append([down(image).shape[-1], up(image).shape[-1]])
    return rows


def sizes_integers(n, k, s, p, o):
    n, k, s, p, o = (a.long() for a in (n, k, s, p, o))
    return torch.stack([torch.div(n + 2 * p - k, s, rounding_mode="floor") + 1, s * (n - 1) + k + o - 2 * p], 1)


def sizes_numpy(n, k, s, p, o):
    n, k, s, p, o = (a.numpy() for a in (n, k, s, p, o))
    return np.column_stack([np.floor((n + 2 * p - k) / s + 1), (n - 1) * s - 2 * p + (k - 1) + o + 1])


def step_modules(x, labels, E, H, lr_encoder, lr_head):
    encoder, head = nn.Linear(E.shape[1], len(E), bias=False), nn.Linear(len(E), len(H), bias=False)
    with torch.no_grad():
        encoder.weight.copy_(E)
        head.weight.copy_(H)
    groups = [{"params": encoder.parameters(), "lr": float(lr_encoder)}, {"params": head.parameters(), "lr": float(lr_head)}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    nn.functional.cross_entropy(head(torch.tanh(encoder(x))), labels.long()).backward()
    optimizer.step()
    return torch.nn.utils.parameters_to_vector([encoder.weight, head.weight])


def step_by_hand(x, labels, E, H, lr_encoder, lr_head):
    z = torch.tanh(x @ E.T)
    off = ((z @ H.T).softmax(1) - nn.functional.one_hot(labels.long(), len(H))) / len(x)
    of_E = ((off @ H) * (1 - z**2)).T @ x
    return torch.cat([(E - lr_encoder * of_E).reshape(-1), (H - lr_head * off.T @ z).reshape(-1)])


def step_numpy(x, labels, E, H, lr_encoder, lr_head):
    x, E, H = (a.numpy().astype(float) for a in (x, E, H))
    y, z = labels.numpy().astype(int), np.tanh(x @ E.T)
    p = np.exp(z @ H.T)
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(x)), y] -= 1
    of_H, of_E = p.T @ z / len(x), ((p @ H) * (1 - z * z)).T @ x / len(x)
    return np.concatenate([(E - float(lr_encoder) * of_E).ravel(), (H - float(lr_head) * of_H).ravel()])


@pytest.mark.parametrize(
    ("question", "function"),
    [
        *[(PROJECTOR, function) for function in (projector_eigh, projector_numpy, projector_trained)],
        *[(LEAST_LOSS, function) for function in (loss_residual, loss_eigenvalues, loss_difference)],
        *[(ANGLES, function) for function in (angles_scipy, angles_svd, angles_projectors)],
        *[(DENOISING, function) for function in (denoising_mask, denoising_fill, denoising_rows)],
        *[(DENOISED, function) for function in (denoised_distributions, denoised_cdist, denoised_loop, denoised_expanded)],
        *[(SIZES, function) for function in (sizes_layers, sizes_integers, sizes_numpy)],
        *[(FINE_TUNING, function) for function in (step_modules, step_by_hand, step_numpy)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function):
    assert_full_points(question, function, 10)


def test_weights_that_vanish_in_float32_keep_the_points_of_moderate_noise():
    def vanishing(y, x, sigma):
        density = torch.exp(-((y[:, None] - x) ** 2).sum(2) / (2 * sigma**2))
        return density @ x / density.sum(1, keepdim=True)

    for seed in range(5):
        got = result(DENOISED, vanishing, seed)
        assert got.points == 2
        assert "NaN" in got.sentence


def test_what_a_mistake_costs():
    assert_keeps(PROJECTOR, "not centred", 0)
    assert_keeps(FINE_TUNING, "encoder not moved", 0)
    assert_keeps(DENOISED, "nearest", 0)


# What the references claim, from first principles.

GENERATOR = torch.Generator().manual_seed(7)


def normal(*size):
    return torch.randn(*size, generator=GENERATOR, dtype=torch.float64)


def test_no_linear_autoencoder_is_better():
    x = normal(50, 6) @ normal(6, 6) + 3
    K, y = torch.tensor(2.0), x - x.mean(0)
    best = LEAST_LOSS.reference(x, K)
    P = PROJECTOR.reference(x, K)
    assert torch.allclose(P @ P, P, rtol=0, atol=1e-12)
    assert P.trace().item() == pytest.approx(2, abs=1e-12)
    assert (y - y @ P).square().sum(1).mean().item() == pytest.approx(best.item(), rel=1e-12)
    encoder, decoder = normal(2, 6).requires_grad_(), normal(6, 2).requires_grad_()
    optimizer = torch.optim.LBFGS([encoder, decoder], max_iter=2000, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (y - y @ encoder.T @ decoder.T).square().sum(1).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert closure().item() == pytest.approx(best.item(), rel=1e-8)
    assert torch.allclose(decoder.detach() @ encoder.detach(), P, rtol=0, atol=1e-4)


def test_angles_are_found_again_and_belong_to_the_spaces():
    angles = torch.tensor([0.3, 1.1], dtype=torch.float64)
    Q = torch.linalg.qr(normal(6, 6)).Q
    A, B = Q[:, :2], Q[:, :2] * angles.cos() + Q[:, 2:4] * angles.sin()
    for M, N in ((A, B), (B, A), (A @ normal(2, 2), B @ normal(2, 2))):
        assert torch.allclose(ANGLES.reference(M, N), angles, rtol=0, atol=1e-9)


def test_no_reconstruction_has_a_lower_expected_error():
    """Over all noise: a grid in one dimension. Any other function of y does worse; try to move the answer."""
    x, sigma = torch.tensor([[-1.0], [0.5], [1.2]], dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    y = torch.linspace(-4, 4, 4001, dtype=torch.float64)[:, None]
    together = D.Normal(x[:, 0], sigma).log_prob(y).exp() / 3 * (y[1] - y[0])  # (4001, 3): p(n, y) dy
    best = DENOISED.reference(y, x, sigma)

    def expected(answer):
        return (together * (answer - x.T) ** 2).sum()

    assert together.sum().item() == pytest.approx(1, abs=1e-6)
    for direction in (torch.ones_like(y), y.sin(), y.abs()):
        for step in (-0.05, 0.05):
            assert expected(best + step * direction) > expected(best)
    # and the step to it is the score of what is seen, times the variance
    y = y[::100].clone().requires_grad_()
    density = D.Normal(x[:, 0], sigma).log_prob(y).logsumexp(1)
    (score,) = torch.autograd.grad(density.sum(), y)
    assert torch.allclose(DENOISED.reference(y.detach(), x, sigma) - y.detach(), sigma**2 * score, rtol=0, atol=1e-10)


def test_a_step_is_down_the_gradient_by_finite_differences():
    inputs = {name: torch.tensor(array, dtype=torch.float64) for name, array in FINE_TUNING.draw(0)["fine-tuned"].items()}
    x, labels, E, H, lr_encoder, lr_head = inputs.values()
    moved = FINE_TUNING.reference(x, labels, E, H, lr_encoder, lr_head)

    def loss(E, H):
        return nn.functional.cross_entropy(torch.tanh(x @ E.T) @ H.T, labels.long()).item()

    for place in ((0, 1), (2, 3)):
        up, down = E.clone(), E.clone()
        up[place] += 1e-6
        down[place] -= 1e-6
        slope = (loss(up, H) - loss(down, H)) / 2e-6
        assert moved[: E.numel()].view_as(E)[place].item() == pytest.approx((E[place] - lr_encoder * slope).item(), abs=1e-8)
    still = FINE_TUNING.reference(x, labels, E, H, 0 * lr_encoder, lr_head)
    assert torch.equal(still[: E.numel()], E.flatten())


# 8.8: other networks, other optimisers.


def autoencoder(activation=nn.Tanh, hidden=64, steps=1500, lr=0.005, optimiser=torch.optim.Adam, noise=0.0):
    def fit(x, points):
        torch.manual_seed(0)
        n, mean = x.shape[1], x.mean(0)

        def side(first, last):
            return [nn.Linear(first, hidden), activation(), nn.Linear(hidden, hidden), activation(), nn.Linear(hidden, last)]

        network = nn.Sequential(*side(n, 1), *side(1, n))
        trainer = optimiser(network.parameters(), lr=lr)
        for step in range(steps):
            trainer.param_groups[0]["lr"] = lr * (1 - step / steps)
            batch = x[torch.randperm(len(x))[:128]] - mean
            trainer.zero_grad()
            (network(batch + noise * torch.randn_like(batch)) - batch).square().sum(1).mean().backward()
            trainer.step()
        return (network(points - mean) + mean).detach()

    return fit


@pytest.mark.parametrize(
    "fit",
    [
        EXPERIMENT.reference,
        autoencoder(),
        pytest.param(autoencoder(nn.SiLU, 50, optimiser=torch.optim.AdamW, noise=0.1), id="SiLU, AdamW, denoising"),
    ],
    **ids,
)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(2))


def test_what_is_wrong_with_an_autoencoder_is_told():
    for name in ("the mean for all", "points handed back", "linear"):
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], name, range(2))
    for name in ("wide code", "forty points", "points out of order"):
        assert_told(EXPERIMENT, EXPERIMENT.mistakes[name], None, [0])


def test_the_distance_is_least_without_noise():
    (inputs,) = EXPERIMENT.draw(0).values()
    statistic, clean = EXPERIMENT.checks[0].measure.statistic, inputs["_clean"].astype(float)
    assert statistic(inputs, clean) == 0
    assert statistic(inputs, clean + 0.1) == pytest.approx(0.1 * math.sqrt(8), abs=1e-6)
    noise = statistic(inputs, inputs["points"].astype(float))
    assert noise == pytest.approx(0.15 * math.sqrt(8), rel=5 / math.sqrt(2 * 400 * 8))  # five standard errors
