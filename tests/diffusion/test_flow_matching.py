"""Flow matching: the mean velocity against Bayes' rule and the continuity equation, densities against exact ones."""

import math

import pytest
import torch

from gencourse.checks import assert_every_parameter_learns
from gencourse.diffusion.flow_matching import FlowMatching
from gencourse.diffusion.mixture import Mixture
from gencourse.solvers import RK4, Euler
from gencourse.space import Space
from gencourse.train import fit

LINE, PIXELS = Space((1,)), Space((1, 4, 4), levels=5)
MIXTURE = Mixture([0.7, 0.3], [[-1.0], [1.5]], [0.4, 0.3])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def along(mixture, t):
    """The mixture's noisy version (1 - t) x + t eps, which is a mixture too."""
    return Mixture(mixture.weights, (1 - t) * mixture.means, torch.sqrt((1 - t) ** 2 * mixture.sds**2 + t**2))


def velocity(mixture, x, t):
    """E[eps - x_0 | x_t = x]: in each component eps - x_0 and x_t are jointly Gaussian; the shares are Bayes' rule."""
    noisy = along(mixture, t)
    gain = (t - (1 - t) * mixture.sds**2) / noisy.sds**2  # covariance over variance
    each = -mixture.means[:, 0] + gain * (x - noisy.means[:, 0])  # (B, K), on the line
    return (noisy.shares(x) * each).sum(1, keepdim=True)


class Exact(torch.nn.Module):
    """The mean velocity, one time for the whole batch."""

    def __init__(self, mixture):
        super().__init__()
        self.mixture = mixture
        self.means = torch.nn.Parameter(mixture.means.clone())

    def forward(self, y, t, condition=None):
        return torch.stack([velocity(self.mixture, y, one) for one in t[:1]])[0]


def exact_model(mixture=MIXTURE):
    return FlowMatching(LINE, network=Exact(mixture)).double()


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_the_marginal_velocity_of_a_discrete_world_is_the_mean_of_the_conditional_ones(t):
    """Data on three points: given x_t, each was the start with a probability by Bayes' rule, and then eps is known."""
    points, weights = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64), torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)
    eps = (x - (1 - t) * points) / t  # what it must have been
    shares = torch.softmax(weights.log() - 0.5 * eps**2, dim=1)
    mean = (shares * (eps - points)).sum(1, keepdim=True)
    narrow = Mixture(weights, points.unsqueeze(1), torch.full((3,), 1e-6))
    assert torch.allclose(velocity(narrow, x, torch.tensor(t, dtype=torch.float64)), mean, atol=1e-9)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.8])
def test_velocity_noise_data_and_score_are_one_quantity(t):
    x, time = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1), torch.tensor(t, dtype=torch.float64)
    v = velocity(MIXTURE, x, time)
    score = along(MIXTURE, time).score(x)
    eps, x0 = x + (1 - t) * v, x - t * v
    assert torch.allclose(score, -eps / t, atol=1e-11)
    assert torch.allclose(v, eps - x0, atol=1e-13)
    alpha = (1 - t) ** 2 / ((1 - t) ** 2 + t**2)  # the same share of signal, where variances are kept
    scale = math.sqrt((1 - t) ** 2 + t**2)
    assert torch.allclose(MIXTURE.eps(x / scale, alpha), eps, atol=1e-11)


def test_the_density_of_the_paths_is_carried_by_the_mean_velocity():
    """The continuity equation dp/dt + d(p v)/dx = 0, with derivatives by autograd."""
    t = torch.tensor(0.4, dtype=torch.float64)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(1)

    def p(x, t):
        return along(MIXTURE, t).log_prob(x).exp()

    _, by_time = torch.func.jvp(lambda t: p(x, t), (t,), (torch.ones_like(t),))
    _, by_place = torch.func.jvp(lambda x: p(x, t) * velocity(MIXTURE, x, t)[:, 0], (x,), (torch.ones_like(x),))
    assert torch.allclose(by_time, -by_place, atol=1e-12)
    assert float(by_time.abs().max()) > 0.05


def test_with_the_exact_velocity_density_and_samples_are_the_data_s():
    model, x = exact_model(), MIXTURE.sample(20, generator=seeded())
    errors = [float((model.log_prob(x, solver=RK4(steps)) - MIXTURE.log_prob(x)).detach().abs().max()) for steps in (10, 40)]
    assert errors[1] < 1e-4
    assert errors[1] < errors[0] / 30
    y = model.sample(50, generator=seeded(1), solver=RK4(40))
    noise = torch.randn(50, 1, generator=seeded(1), dtype=torch.float64)
    quantiles = (MIXTURE.weights * torch.special.ndtr((y - MIXTURE.means[:, 0]) / MIXTURE.sds)).sum(1)
    assert torch.allclose(quantiles, torch.special.ndtr(noise[:, 0]), atol=1e-4)


def test_one_step_is_enough_where_paths_do_not_cross():
    """A single data point, and data that are the noise times a factor, though not if the factor turns the paths."""
    point = exact_model(Mixture([1.0], [[0.7]], [1e-6]))
    y = point.sample(10, solver=Euler(1), generator=seeded())
    assert torch.allclose(y, torch.full((10, 1), 0.7, dtype=torch.float64), atol=1e-5)
    straight = exact_model(Mixture([1.0], [[0.7]], [0.5])).sample(10, solver=Euler(1), generator=seeded())
    assert torch.allclose(straight, torch.full((10, 1), 0.7, dtype=torch.float64), atol=1e-9)  # all at the mean: one is too few


def test_the_loss_of_the_exact_velocity_is_its_floor():
    """Var(eps - x | x_t) = s^2 / ((1 - t)^2 s^2 + t^2) for data N(0, s^2), whose mean over t is (pi / 2) s."""
    s = 0.6

    class Gaussian(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.s = torch.nn.Parameter(torch.tensor(s, dtype=torch.float64))

        def forward(self, y, t, condition=None):
            t = t.unsqueeze(1)
            return (t - (1 - t) * s**2) / ((1 - t) ** 2 * s**2 + t**2) * y

    torch.manual_seed(0)
    losses = FlowMatching(LINE, network=Gaussian()).double().loss(s * torch.randn(40_000, 1, dtype=torch.float64))
    assert float(losses.detach().mean()) == pytest.approx(math.pi / 2 * s, abs=5 * float(losses.detach().std()) / 200)


def test_points_in_other_units_have_the_density_of_other_units():
    models = []
    for scale in (1.0, 3.0):
        torch.manual_seed(0)
        models.append(FlowMatching(Space((2,)), hidden=16, blocks=1, scale=scale, steps=3).double())
    x = torch.randn(5, 2, dtype=torch.float64)
    assert torch.allclose(models[0].log_prob(x), models[1].log_prob(3 * x) + 2 * math.log(3), atol=1e-12)
    a, b = (model.sample(5, generator=seeded()) for model in models)
    assert torch.allclose(3 * a, b, atol=1e-12)


def test_a_weight_of_one_is_the_label_s_model_and_of_zero_the_one_without():
    torch.manual_seed(0)
    model = FlowMatching(Space((2,)), hidden=16, blocks=1, classes=3)
    x, labels = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    one, none, two, free = (
        model.velocity(context, 6, guidance=w)(0.4, x) for context, w in ((labels, 1), (labels, 0), (labels, 2), (None, 1))
    )
    assert torch.allclose(none, free, atol=1e-6)
    assert torch.allclose(two, none + 2 * (one - none), atol=1e-6)
    with pytest.raises(ValueError, match=r"FlowMatching.*labels"):
        model.sample(2, torch.tensor([0, 3]))
    assert_every_parameter_learns(model, x, labels)


def test_images_are_integers_and_their_bound_has_the_scale_s_determinant():
    torch.manual_seed(0)
    model = FlowMatching(PIXELS, hidden=16, blocks=1, steps=2)
    PIXELS.validate(model.sample(6))
    with torch.no_grad():  # without a velocity the density is N(0, I) of what is scaled to [-1, 1]
        model.network.last[-1].weight.zero_()
    x = torch.randint(5, (400, 1, 4, 4))
    bound = model.double().log_prob(x).mean()
    u = (x.double().unsqueeze(-1) + (torch.arange(50, dtype=torch.float64) + 0.5) / 50) / 5  # the mean over the noise
    normal = -0.5 * ((2 * u - 1) ** 2 + math.log(2 * math.pi)).mean(-1).flatten(1).sum(1) + 16 * math.log(2 / 5)
    assert float(bound.detach()) == pytest.approx(float(normal.mean()), abs=0.1)
    with pytest.raises(ValueError, match="unconditional"):
        model.sample(2, torch.tensor([0, 1]))


def test_a_flow_learns_two_heaps_of_points():
    x = torch.cat([-1 + 0.2 * torch.randn(300, 1, generator=seeded()), 1 + 0.2 * torch.randn(300, 1, generator=seeded(1))])
    torch.manual_seed(0)
    model = FlowMatching(LINE, hidden=32, blocks=1)
    fit(model, x, steps=300, batch_size=128, lr=1e-2, ema=0.98, device="cpu", progress=False)
    y = model.sample(1000, generator=seeded(2), solver=Euler(20))
    assert 0.4 < float((y > 0).float().mean()) < 0.6
    assert float((y.abs() - 1).square().mean().sqrt()) < 0.32


@pytest.mark.parametrize("settings", [{"steps": 0}, {"hidden": 0}, {"classes": 0}, {"drop_label": -0.1}, {"scale": 0.0}], ids=str)
def test_arguments_are_checked(settings):
    with pytest.raises(ValueError, match=f": {next(iter(settings))} must be"):
        FlowMatching(LINE, **settings)
