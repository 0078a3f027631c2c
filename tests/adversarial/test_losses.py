"""The losses equal their formulas, values and gradients, wherever logits may go."""

import math

import pytest
import torch
from torch import Tensor, nn

from gencourse.adversarial import losses
from gencourse.adversarial.losses import began, began_balance, clip_weights, gradient_penalty, least_squares

LOGITS = torch.linspace(-30, 30, 241, dtype=torch.float64)


def log_sigmoid(a: float) -> float:
    """log(1 / (1 + exp(-a))), to the last bit but one, from the standard library."""
    return -math.log1p(math.exp(-a)) if a > 0 else a - math.log1p(math.exp(a))


def sigmoid(a: float) -> float:
    return math.exp(log_sigmoid(a))


def hinge(t: float) -> float:
    return max(0.0, t)


# name -> loss, d of a real example, d of a generated one, g, and the derivatives of the three
FORMULAS = {
    "minimax": (
        losses.minimax,
        (lambda a: -log_sigmoid(a), lambda a: -log_sigmoid(-a), lambda a: log_sigmoid(-a)),
        (lambda a: -sigmoid(-a), lambda a: sigmoid(a), lambda a: -sigmoid(a)),
    ),
    "non_saturating": (
        losses.non_saturating,
        (lambda a: -log_sigmoid(a), lambda a: -log_sigmoid(-a), lambda a: -log_sigmoid(a)),
        (lambda a: -sigmoid(-a), lambda a: sigmoid(a), lambda a: -sigmoid(-a)),
    ),
    "least_squares": (
        least_squares(a=-1, b=2, c=0.5),
        (lambda a: (a - 2) ** 2 / 2, lambda a: (a + 1) ** 2 / 2, lambda a: (a - 0.5) ** 2 / 2),
        (lambda a: a - 2, lambda a: a + 1, lambda a: a - 0.5),
    ),
    "wasserstein": (
        losses.wasserstein,
        (lambda a: -a, lambda a: a, lambda a: -a),
        (lambda a: -1, lambda a: 1, lambda a: -1),
    ),
    "hinge": (
        losses.hinge,
        (lambda a: hinge(1 - a), lambda a: hinge(1 + a), lambda a: -a),
        (lambda a: -float(a < 1), lambda a: float(a > -1), lambda a: -1),
    ),
}


def table(formula, logits: Tensor) -> Tensor:
    return torch.tensor([formula(float(a)) for a in logits], dtype=torch.float64)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-14), (torch.float32, 5e-7)])  # a few units in the last place
def test_values_and_gradients_equal_the_formulas(name, dtype, rtol):
    loss, values, derivatives = FORMULAS[name]
    real, fake, alone = (LOGITS.to(dtype).clone().requires_grad_() for _ in range(3))
    d, g = loss.d_loss(real, fake.flip(0)), loss.g_loss(alone)
    assert d.shape == g.shape == LOGITS.shape
    torch.testing.assert_close(d.double(), table(values[0], LOGITS) + table(values[1], LOGITS).flip(0), rtol=rtol, atol=0)
    torch.testing.assert_close(g.double(), table(values[2], LOGITS), rtol=rtol, atol=0)
    (d.sum() + g.sum()).backward()
    kinks = LOGITS.abs() == 1 if name == "hinge" else torch.zeros_like(LOGITS, dtype=torch.bool)
    for leaf, derivative in zip((real, fake, alone), derivatives, strict=True):
        torch.testing.assert_close(leaf.grad.double()[~kinks], table(derivative, LOGITS)[~kinks], rtol=rtol, atol=0)


def test_minimax_saturates_and_non_saturating_does_not():
    bad = torch.tensor([-30.0], requires_grad=True)  # the discriminator is sure that the sample is not real
    (saturated,) = torch.autograd.grad(losses.minimax.g_loss(bad).sum(), bad)
    (alive,) = torch.autograd.grad(losses.non_saturating.g_loss(bad).sum(), bad)
    assert -1e-12 < float(saturated) < 0  # -exp(-30), small but not rounded to nothing
    assert float(alive) == pytest.approx(-1.0, abs=1e-12)
    a = torch.tensor([-2.0, 0.0, 3.0])
    torch.testing.assert_close(losses.minimax.d_loss(a, a), losses.non_saturating.d_loss(a, a))  # one discriminator
    assert (losses.minimax.g_loss(a) != losses.non_saturating.g_loss(a)).all()  # two generators


def test_the_least_squares_defaults_are_the_0_1_coding():
    a = torch.tensor([-1.0, 0.0, 0.25, 1.0])
    torch.testing.assert_close(least_squares().d_loss(a, a), (a - 1) ** 2 / 2 + a**2 / 2)
    torch.testing.assert_close(least_squares().g_loss(a), (a - 1) ** 2 / 2)


# --- gradient penalty -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (1, 4, 4), (3, 2, 5), (2, 2, 2, 2)])
def test_the_penalty_of_a_linear_critic_is_exact_in_any_rank(shape):
    torch.manual_seed(0)
    w = torch.randn(shape, dtype=torch.float64)
    real, fake = torch.randn(2, 7, *shape, dtype=torch.float64)
    penalty = gradient_penalty(lambda y: (w * y).flatten(1).sum(1) + 5, real, fake)
    assert penalty.shape == (7,)
    torch.testing.assert_close(penalty, ((w.norm() - 1) ** 2).expand(7), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient_penalty(lambda y: (w * y).flatten(1).sum(1), real, fake, target=0.0)[0], (w**2).sum())


def test_the_points_lie_uniformly_on_the_lines_one_number_an_example():
    """A quadratic critic |y|^2 / 2 has gradient y, so the penalty with target 0 gives the place on a line from 0 to e."""
    n = 20_000
    real, fake = torch.zeros(n, 2, 2, dtype=torch.float64), torch.full((n, 2, 2), 0.5, dtype=torch.float64)  # |fake| = 1
    generator = torch.Generator().manual_seed(0)
    t = gradient_penalty(lambda y: 0.5 * (y**2).flatten(1).sum(1), real, fake, target=0.0, generator=generator).sqrt()
    # One number an entry would give |y|^2 = mean of four squares; normal mixing would leave [0, 1].
    assert 0 <= t.min() < 1e-3
    assert 1 - 1e-3 < t.max() <= 1
    ecdf_gap = (t.sort().values - (torch.arange(n) + 0.5) / n).abs().max()
    assert ecdf_gap < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov at 0.1 %


def test_the_penalty_teaches_the_critic_and_not_the_generator():
    critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    real, fake = torch.randn(2, 5, 2, dtype=torch.float64).unbind(0)
    fake.requires_grad_()

    def penalty() -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return gradient_penalty(lambda y: critic(y).squeeze(1), real, fake, generator=generator).sum()

    weight, h = critic[0].weight, 1e-6
    (gradient,) = torch.autograd.grad(penalty(), weight)
    with torch.no_grad():
        weight[3, 1] += h
        above = penalty().item()
        weight[3, 1] -= 2 * h
        below = penalty().item()
    assert gradient[3, 1].item() == pytest.approx((above - below) / (2 * h), rel=1e-6)
    assert torch.autograd.grad(penalty(), fake, allow_unused=True) == (None,)


def test_the_penalty_works_where_gradients_are_switched_off():
    with torch.no_grad():
        penalty = gradient_penalty(lambda y: 2 * y.sum(1), torch.ones(2, 1), torch.zeros(2, 1))
    assert penalty.tolist() == pytest.approx([1.0, 1.0])


def test_a_short_batch_is_refused():
    with pytest.raises(ValueError, match=r"one by one, but their shapes are \(4, 2\) and \(1, 2\)"):
        gradient_penalty(lambda y: y.sum(1), torch.zeros(4, 2), torch.zeros(1, 2))


# --- clipping and BEGAN -----------------------------------------------------------------------------------------------


def test_clipping_bounds_every_weight_and_leaves_the_small_ones():
    net = nn.Linear(50, 3)
    before = net.weight.detach().clone()
    clip_weights(net.parameters(), 0.05)
    assert torch.equal(net.weight, before.clamp(-0.05, 0.05))
    assert (before.abs() > 0.05).any()
    with pytest.raises(ValueError, match="must be positive, not 0"):
        clip_weights(net.parameters(), 0)


def test_began_s_losses_and_its_control_of_k():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.25, 0.75])
    loss = began(0.5)
    assert loss.d_loss(real, fake).tolist() == pytest.approx([0.875, 2.625])
    assert loss.g_loss(fake).tolist() == pytest.approx([0.25, 0.75])
    k, M = began_balance(torch.tensor(0.5), real, fake, gamma=0.5, step=0.1)
    assert float(k) == pytest.approx(0.5 + 0.1 * (0.5 * 2 - 0.5))
    assert float(M) == pytest.approx(2 + 0.5)
    # Samples that are reconstructed too badly push k down; it stays in [0, 1].
    assert float(began_balance(torch.tensor(0.01), real, 10 * fake, gamma=0.5, step=0.1)[0]) == 0
    assert float(began_balance(torch.tensor(0.99), 100 * real, fake, gamma=0.5, step=0.1)[0]) == 1
    with pytest.raises(ValueError, match="gamma is a ratio"):
        began_balance(0.0, real, fake, gamma=2)


def test_began_s_k_rests_where_the_errors_are_in_the_ratio_gamma():
    """The more weight k has, the worse D reconstructs samples. Where L(G) = 0.2 + 0.8 k, control ends at L(G) = gamma L(x)."""
    k = torch.tensor(0.0)
    for _ in range(5000):
        fake = torch.tensor([0.2 + 0.8 * float(k)])
        k, M = began_balance(k, torch.tensor([1.0]), fake, gamma=0.6, step=0.01)
    assert float(k) == pytest.approx(0.5, abs=1e-4)  # 0.2 + 0.8 k = 0.6
    assert float(M) == pytest.approx(1.0, abs=1e-4)


def test_r1_is_the_squared_slope_at_the_real_examples_and_sends_a_gradient_to_the_weights():
    w = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64, requires_grad=True)
    real = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    penalty = losses.r1_penalty(real, (real * w).flatten(1).sum(1))  # linear: |w|^2 everywhere
    torch.testing.assert_close(penalty, w.square().sum().expand(6))
    torch.testing.assert_close(torch.autograd.grad(penalty.mean(), w)[0], 2 * w)
    torch.testing.assert_close(losses.r1_penalty(real, real.square().flatten(1).sum(1)), 4 * real.square().flatten(1).sum(1))
    with pytest.raises(ValueError, match=r"call real\.requires_grad_\(\) before"):
        losses.r1_penalty(real.detach(), real.flatten(1).sum(1))
