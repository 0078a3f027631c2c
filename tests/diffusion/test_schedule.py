"""Schedules against Bayes' rule by quadrature, and the four dresses against one another."""

import itertools
import math

import numpy as np
import pytest
import torch

from gencourse.diffusion.mixture import Mixture
from gencourse.diffusion.schedule import X0, Cosine, Eps, Linear, Schedule, Score, V, convert

CURVES = [Linear(), Cosine()]
DRESSES = [Eps, X0, V, Score]


def normal(x, mean, variance):
    return torch.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


@pytest.mark.parametrize("curve", CURVES, ids=str)
@pytest.mark.parametrize(("T", "t", "s"), [(10, 1, None), (10, 4, None), (10, 7, 2), (1000, 600, 599), (3, 3, 1)])
def test_the_way_back_is_bayes_rule(curve, T, t, s):
    """q(x_s | x_t, x_0) is q(x_t | x_s) q(x_s | x_0), made to integrate to one."""
    schedule, x0, xt = Schedule(T, curve), 0.7, -0.4
    s_ = t - 1 if s is None else s
    mean, variance = schedule.posterior(
        torch.tensor([[x0]], dtype=torch.float64), torch.tensor([[xt]], dtype=torch.float64), t, s
    )
    if s_ == 0:
        assert variance == 0
        assert float(mean) == pytest.approx(x0, abs=1e-14)
        return
    abar, abar_s = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[s_])
    reach = 12 * math.sqrt(variance)
    x = torch.linspace(float(mean) - reach, float(mean) + reach, 20_001, dtype=torch.float64)
    joint = normal(xt, math.sqrt(abar / abar_s) * x, 1 - abar / abar_s) * normal(x, math.sqrt(abar_s) * x0, 1 - abar_s)
    joint = joint / joint.sum()
    assert float((joint * x).sum()) == pytest.approx(float(mean), abs=1e-11)
    assert float((joint * (x - mean[0, 0]) ** 2).sum()) == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize("curve", CURVES, ids=str)
@pytest.mark.parametrize("T", [1, 3, 50, 1000])
def test_betas_are_the_steps_of_alpha_bar(curve, T):
    schedule = Schedule(T, curve)
    assert schedule.alpha_bar.dtype == torch.float64
    assert float(schedule.alpha_bar[0]) == 1
    assert float(schedule.beta[0]) == float(schedule.beta_tilde[0]) == 0
    assert torch.allclose(torch.cumprod(1 - schedule.beta, 0), schedule.alpha_bar, atol=0, rtol=1e-11)
    assert ((schedule.beta[1:] > 0) & (schedule.beta[1:] < 1)).all()
    assert (schedule.beta_tilde <= schedule.beta).all()
    assert float(schedule.beta_tilde[1]) == 0
    assert float(schedule.alpha_bar[-1]) < 1.1e-4  # next to nothing is left, however many steps there are
    for t in range(1, T + 1, max(1, T // 7)):
        zero = torch.zeros(1, 1, dtype=torch.float64)
        assert schedule.posterior(zero, zero, t)[1] == pytest.approx(float(schedule.beta_tilde[t]), rel=1e-9)


def test_the_linear_curve_is_the_limit_of_the_paper_s_betas():
    beta = Schedule(1000, Linear()).beta[1:]
    paper = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    assert float((beta / paper - 1).abs().max()) < 0.1
    assert float((beta - paper).abs().max()) < 2.5e-4
    assert float(Schedule(100, Linear()).beta[50]) == pytest.approx(10 * float(paper[500]), rel=0.06)


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_time_is_the_inverse_of_the_curve(curve):
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    value = curve.log_alpha_bar(u)
    assert (value.diff() < 0).all()
    assert float(value[0]) == 0
    assert torch.allclose(curve.time(value), u, atol=1e-9)


def test_the_angle_of_the_cosine_curve_grows_linearly():
    curve = Cosine()
    angle = torch.acos(
        torch.exp(curve.log_alpha_bar(torch.linspace(0, 1, 11, dtype=torch.float64)) / 2) * math.cos(curve._angles[0])
    )
    assert torch.allclose(angle.diff(), angle.diff()[:1].expand(10), atol=1e-9)


def test_q_sample_is_the_closed_form_and_t_may_differ_from_row_to_row():
    schedule, x0, eps = Schedule(20, Cosine()), torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    t = torch.tensor([1, 7, 20])
    xt = schedule.q_sample(x0, t, eps)
    for i, one in enumerate(t.tolist()):
        abar = float(schedule.alpha_bar[one])
        assert torch.allclose(xt[i], math.sqrt(abar) * x0[i] + math.sqrt(1 - abar) * eps[i], atol=1e-6)
        assert torch.allclose(schedule.q_sample(x0, one, eps)[i], xt[i], atol=1e-6)
    assert torch.equal(schedule.q_sample(x0, 0, eps), x0)


@pytest.mark.parametrize(("given", "wanted"), list(itertools.product(DRESSES, repeat=2)))
@pytest.mark.parametrize("alpha_bar", [0.97, 0.5, 0.1])
def test_each_dress_gives_the_others(given, wanted, alpha_bar):
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 50, 3, generator=generator, dtype=torch.float64)
    signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    xt = signal * x0 + noise * eps
    values = {Eps: eps, X0: x0, V: signal * eps - noise * x0, Score: -eps / noise}
    assert torch.allclose(convert(values[given], xt, alpha_bar, given, wanted), values[wanted], atol=1e-12)


def test_v_is_the_derivative_of_x_by_the_angle():
    x0, eps = torch.randn(2, 5, dtype=torch.float64)
    phi = torch.tensor(0.3, dtype=torch.float64)
    _, derivative = torch.func.jvp(lambda phi: torch.cos(phi) * x0 + torch.sin(phi) * eps, (phi,), (torch.ones_like(phi),))
    assert torch.allclose(V.of(x0, eps, torch.cos(phi), torch.sin(phi)), derivative, atol=1e-14)


@pytest.mark.parametrize(("alpha_bar", "s"), [(0.9, 0.6), (0.5, 0.6), (0.1, 1.7)])
def test_the_smallest_error_of_eps_has_a_closed_form(alpha_bar, s):
    """E Var(eps | x_t) = abar s^2 / (abar s^2 + 1 - abar) for data N(0, s^2): the loss's floor is not 0."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    nodes, weights = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    x0, eps = torch.meshgrid(s * nodes, nodes, indexing="ij")
    xt = math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * eps
    best = Mixture([1.0], [[0.0]], [s]).eps(xt.reshape(-1, 1), alpha_bar).view_as(xt)
    error = (weights[:, None] * weights * (eps - best) ** 2).sum()
    assert float(error) == pytest.approx(alpha_bar * s**2 / (alpha_bar * s**2 + 1 - alpha_bar), abs=1e-12)


@pytest.mark.parametrize(("t", "s"), [(0, None), (3, 3), (11, 2), (2.5, 1), (3, -1)])
def test_levels_out_of_order_are_refused(t, s):
    x = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="0 <= s < t <= 10"):
        Schedule(10).posterior(x, x, t, s)


def test_the_number_of_steps_is_checked():
    with pytest.raises(ValueError, match="T must be a positive integer, not 0"):
        Schedule(0)
