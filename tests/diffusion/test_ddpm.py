"""DDPM: its bound against closed forms, term by term; densities by the equation; labels, guidance, and images of integers."""

import math

import numpy as np
import pytest
import torch

from gencourse.checks import assert_every_parameter_learns
from gencourse.diffusion import ddpm
from gencourse.diffusion.ddpm import DDPM
from gencourse.diffusion.guidance import NoisyClassifier, classifier_guided
from gencourse.diffusion.likelihood import DiscretizedNormal
from gencourse.diffusion.mixture import ExactNetwork, Mixture
from gencourse.diffusion.networks import ResidualMLP, UNet
from gencourse.diffusion.samplers import DDIM, Ancestral
from gencourse.diffusion.schedule import X0, Cosine, Eps, Linear, V
from gencourse.solvers import RK4
from gencourse.space import Space
from gencourse.train import fit

LINE, PIXELS = Space((1,)), Space((1, 4, 4), levels=5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian_model(s, T=3, **settings):
    """The exact denoiser of data N(0, s^2)."""
    mixture = Mixture([1.0], [[0.0]], [s])
    return DDPM(LINE, steps=T, curve=Linear(), network=ExactNetwork(mixture, Linear()), **settings).double()


def small(space=PIXELS, **settings):
    torch.manual_seed(0)
    model = DDPM(space, **{"steps": 4, "hidden": 16, "blocks": 1, **settings})
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model


def log_normal(x, mean, variance):
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * math.pi * variance))


def by_quadrature(model, x0, monkeypatch):
    """`bound` of one point, its expectations done exactly: the terms are quadratic in the noise, and eight nodes are too many."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    monkeypatch.setattr(ddpm, "_randn", lambda like, generator: torch.from_numpy(nodes).view(-1, 1).to(like))
    found = model.bound(torch.full((8, 1), x0, dtype=torch.float64))
    w = torch.from_numpy(weights / weights.sum())
    return [float(found.prior[0]), *(w @ found.steps).tolist(), float(w @ found.reconstruction)]


@pytest.mark.parametrize("x0", [0.0, 0.3, -1.7])
def test_with_the_exact_reverse_process_the_bound_is_log_p(x0, monkeypatch):
    """Data N(0, 1) stay N(0, 1) at every level, and q(x_(t-1) | x_t) has variance beta_t: nothing is lost."""
    terms = by_quadrature(gaussian_model(1.0, wide=True), x0, monkeypatch)
    assert len(terms) == 4
    assert -sum(terms) == pytest.approx(log_normal(x0, 0.0, 1.0), abs=1e-12)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(("s", "x0"), [(0.6, 0.3), (1.4, -1.1)])
def test_each_term_of_the_bound_is_its_definition(s, x0, wide, monkeypatch):
    """Against the expectations of differences of log-densities under q, by quadrature, with formulas written anew."""
    model, T = gaussian_model(s, wide=wide), 3
    terms = by_quadrature(model, x0, monkeypatch)
    abar = np.exp([0.0, *(-(0.1 * u + 19.9 * u * u / 2) for u in (1 / 3, 2 / 3, 1.0))])
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()

    def reverse(xt, t):
        guess = xt * np.sqrt(abar[t]) * s**2 / (abar[t] * s**2 + 1 - abar[t])
        alpha = abar[t] / abar[t - 1]
        mean = (np.sqrt(abar[t - 1]) * (1 - alpha) * guess + np.sqrt(alpha) * (1 - abar[t - 1]) * xt) / (1 - abar[t])
        return mean, 1 - alpha if wide or t == 1 else (1 - alpha) * (1 - abar[t - 1]) / (1 - abar[t])

    xT = math.sqrt(abar[T]) * x0 + math.sqrt(1 - abar[T]) * nodes
    expected = [weights @ (log_normal(xT, math.sqrt(abar[T]) * x0, 1 - abar[T]) - log_normal(xT, 0.0, 1.0))]
    for t in range(2, T + 1):
        xt = math.sqrt(abar[t]) * x0 + math.sqrt(1 - abar[t]) * nodes[:, None]
        alpha = abar[t] / abar[t - 1]
        mean = (math.sqrt(abar[t - 1]) * (1 - alpha) * x0 + math.sqrt(alpha) * (1 - abar[t - 1]) * xt) / (1 - abar[t])
        variance = (1 - alpha) * (1 - abar[t - 1]) / (1 - abar[t])
        before = mean + math.sqrt(variance) * nodes
        gap = log_normal(before, mean, variance) - log_normal(before, *reverse(xt, t))
        expected.append(weights @ gap @ weights)
    x1 = math.sqrt(abar[1]) * x0 + math.sqrt(1 - abar[1]) * nodes
    expected.append(-weights @ log_normal(x0, *reverse(x1, 1)))
    assert terms == pytest.approx(expected, abs=1e-11)


def test_where_the_reverse_process_is_exact_every_path_has_the_same_weight():
    x = torch.tensor([[0.2], [-1.4]], dtype=torch.float64)
    estimate = gaussian_model(1.0, T=7, wide=True).log_prob_estimate(x, samples=1, generator=seeded())
    assert torch.allclose(estimate, torch.from_numpy(log_normal(x[:, 0].numpy(), 0.0, 1.0)), atol=1e-12)


def test_importance_sampling_finds_what_the_bound_loses():
    """For data N(0, .36) and beta tilde the chain is a Gaussian whose variance a recursion gives."""
    s, T = 0.6, 3
    model, x = gaussian_model(s, T, wide=False), torch.tensor([[0.4]], dtype=torch.float64)
    variance, abar = 1.0, model.schedule.alpha_bar.tolist()
    for t in range(T, 0, -1):
        gain = math.sqrt(abar[t]) * s**2 / (abar[t] * s**2 + 1 - abar[t])
        slope = (
            math.sqrt(abar[t - 1]) * (1 - abar[t] / abar[t - 1]) * gain + math.sqrt(abar[t] / abar[t - 1]) * (1 - abar[t - 1])
        ) / (1 - abar[t])
        variance = slope**2 * variance + float(model.schedule.beta_tilde[t] if t > 1 else model.schedule.beta[1])
    exact = log_normal(0.4, 0.0, variance)
    bounds = model.elbo(x.expand(20_000, 1), generator=seeded())
    weights = model.log_prob_estimate(x.expand(20_000, 1), generator=seeded()).exp()
    assert float(weights.mean().log()) == pytest.approx(exact, abs=5 * float(weights.std() / weights.mean()) / math.sqrt(20_000))
    assert float(bounds.mean()) < exact - 5 * float(bounds.std()) / math.sqrt(20_000)


def test_the_probabilities_of_all_images_sum_to_one():
    """Weights p(x_(0:T)) / q(x_(1:T) | x_0) have the mean p(x_0), whatever the network: added over x_0, they come to one."""
    space = Space((1, 1, 1), levels=3)
    for wide in (False, True):
        model = small(space, steps=3, wide=wide)
        x = torch.arange(3).view(3, 1, 1, 1).repeat_interleave(20_000, 0)
        weights = model.log_prob_estimate(x, generator=seeded()).double().exp().view(3, -1)
        error = float((weights.var(1) / 20_000).sum().sqrt())
        assert error < 0.02
        assert float(weights.mean(1).sum()) == pytest.approx(1.0, abs=5 * error)


def test_masses_of_grey_levels_are_differences_of_the_normal_distribution_and_sum_to_one():
    loc = torch.tensor([-3.0, -1.0, -0.2, 0.0, 0.7, 2.5], dtype=torch.float64)
    for scale in (0.01, 0.3, 4.0):
        pixels = DiscretizedNormal(loc, torch.tensor(scale, dtype=torch.float64), 5)
        log_masses = torch.stack([pixels.log_prob(torch.full((6,), level)) for level in range(5)])
        assert torch.isfinite(log_masses).all()
        assert torch.allclose(log_masses.exp().sum(0), torch.ones(6, dtype=torch.float64), atol=1e-13)
        edges = torch.tensor([-math.inf, -0.75, -0.25, 0.25, 0.75, math.inf], dtype=torch.float64)
        cumulative = torch.special.ndtr((edges[:, None] - loc) / scale)
        assert torch.allclose(log_masses.exp(), cumulative.diff(dim=0), atol=1e-14)


def test_far_tails_of_the_masses_keep_their_logarithms_and_gradients():
    loc = torch.tensor([-1.0, 1.0], dtype=torch.float64, requires_grad=True)
    log_mass = DiscretizedNormal(loc, torch.tensor(0.01, dtype=torch.float64), 5).log_prob(torch.tensor([3, 1]))
    z = 125.0  # the near edge, in standard deviations; log of the tail is -z^2 / 2 - log(z sqrt(2 pi)) up to 1 / z^2
    assert torch.allclose(
        log_mass, torch.full((2,), -z * z / 2 - math.log(z * math.sqrt(2 * math.pi)), dtype=torch.float64), atol=1e-4
    )
    (gradient,) = torch.autograd.grad(log_mass.sum(), loc)
    assert torch.allclose(gradient, torch.tensor([z, -z], dtype=torch.float64) / 0.01, rtol=1e-3)


def test_the_simple_loss_of_the_exact_denoiser_is_its_floor():
    s, model = 0.7, gaussian_model(0.7, T=5)
    abar = model.schedule.alpha_bar[1:]
    floor = float((abar * s**2 / (abar * s**2 + 1 - abar)).mean())
    torch.manual_seed(0)
    losses = model.loss(s * torch.randn(40_000, 1, dtype=torch.float64))
    assert float(losses.mean()) == pytest.approx(floor, abs=5 * float(losses.std()) / 200)


def test_the_equation_gives_the_exact_log_density_of_a_mixture():
    mixture = Mixture([0.5, 0.3, 0.2], [[-1.5, 0.0], [1.0, 1.0], [1.0, -1.0]], [0.15, 0.3, 0.2])
    curve = Linear(end=40.0)  # until nothing is left: the prior is the noisy data's density to 1e-8
    model = DDPM(Space((2,)), steps=1000, curve=curve, network=ExactNetwork(mixture, curve)).double()
    x = mixture.sample(20, generator=seeded())
    errors = [float((model.ode_log_prob(x, solver=RK4(steps)) - mixture.log_prob(x)).abs().mean()) for steps in (8, 40)]
    assert errors[1] < 1e-4  # what the levels below the first leave, and the solver's error before it
    assert errors[0] > 20 * errors[1]


@pytest.mark.parametrize("predicts", [Eps, X0, V])
def test_points_in_other_units_have_the_density_of_other_units(predicts):
    a, b = (small(Space((2,)), scale=scale, predicts=predicts).double() for scale in (1.0, 3.0))
    x = torch.randn(5, 2, dtype=torch.float64)
    for judge in (
        lambda model, x: model.elbo(x, generator=seeded()),
        lambda model, x: model.log_prob_estimate(x, samples=3, generator=seeded()),
        lambda model, x: model.ode_log_prob(x, solver=RK4(4)),
    ):
        assert torch.allclose(judge(a, x), judge(b, 3 * x) + 2 * math.log(3), atol=1e-9)
    assert torch.allclose(3 * a.sample(4, generator=seeded()), b.sample(4, generator=seeded()), atol=1e-12)


@pytest.mark.parametrize("predicts", [Eps, X0, V])
def test_the_loss_is_zero_for_whom_nothing_is_hidden(predicts):
    """With one data point, what was added can be read off x_t in any dress."""
    curve = Linear()

    class Knows(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.point = torch.nn.Parameter(torch.tensor([0.4, -0.8], dtype=torch.float64))

        def forward(self, y, u, condition):
            alpha_bar = torch.exp(curve.log_alpha_bar(u)).unsqueeze(1)
            signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
            return predicts.of(self.point.expand_as(y), (y - signal * self.point) / noise, signal, noise)

    model = DDPM(Space((2,)), network=Knows(), predicts=predicts, curve=curve, steps=50).double()
    assert float(model.loss(torch.tensor([[0.4, -0.8]], dtype=torch.float64).expand(64, 2)).max().detach()) < 1e-18
    assert torch.allclose(model.sample(3), torch.tensor([0.4, -0.8], dtype=torch.float64), atol=1e-9)


# --- labels and guidance ----------------------------------------------------------------------------------------------


def conditional(**settings):
    return small(classes=3, **settings).eval()


def test_a_weight_of_one_is_the_label_s_model_and_of_zero_the_one_without():
    model, y, labels = conditional(), torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    t = torch.tensor(3.0)
    one, none, two, free = (
        model.denoiser(context, 6, guidance=w)(y, t) for context, w in ((labels, 1), (labels, 0), (labels, 2), (None, 1))
    )
    assert torch.allclose(none, free, atol=1e-5)
    assert not torch.allclose(one, free, atol=1e-2)
    points = small(Space((2,)), classes=3)
    y = torch.randn(6, 2)
    one, none, two = (points.denoiser(labels, 6, guidance=w)(y, t) for w in (1, 0, 2))
    assert torch.allclose(two, none + 2 * (one - none), atol=1e-5)


def test_hidden_labels_teach_the_model_without_them():
    """With drop_label near 1 the label's own weights get a gradient from next to no example, without any from none at all."""
    x, labels = torch.randint(5, (400, 1, 4, 4)), torch.randint(3, (400,))
    for drop, share in ((0.0, 1.0), (0.5, 0.5)):
        model = conditional(drop_label=drop)
        seen = []
        model.network.level.label.register_forward_hook(lambda module, given, out, seen=seen: seen.append(given[0]))
        torch.manual_seed(0)
        model.loss(x, labels)
        (rows,) = seen
        kept = rows.sum(1)
        assert set(kept.tolist()) <= {0.0, 1.0}
        assert float(kept.mean()) == pytest.approx(share, abs=5 * 0.5 / 20 if drop else 0)
        assert torch.equal(rows[kept > 0].argmax(1), labels[kept > 0])


def test_labels_are_learned(tmp_path):
    """Two classes of points: with its label, a sample is where the label's points are; without, it is at both places."""
    labels = torch.arange(512) % 2
    x = torch.where(labels == 0, -1.0, 1.0).unsqueeze(1) + 0.1 * torch.randn(512, 1, generator=seeded())
    torch.manual_seed(0)
    model = DDPM(LINE, steps=20, hidden=32, blocks=1, classes=2, drop_label=0.3)
    fit(model, (x, labels), steps=400, batch_size=128, lr=1e-2, ema=0.98, device="cpu", progress=False)
    asked = torch.arange(200) % 2
    given = model.sample(200, asked, generator=seeded())
    assert float(((given[:, 0] > 0).long() == asked).float().mean()) > 0.97
    free = model.sample(400, generator=seeded())
    assert 0.3 < float((free > 0).float().mean()) < 0.7


@pytest.mark.parametrize("context", [torch.tensor([0, 3]), torch.tensor([0]), torch.tensor([0.0, 1.0])], ids=str)
def test_labels_of_the_wrong_form_are_one_clear_sentence(context):
    with pytest.raises(ValueError, match=r"DDPM.*labels"):
        conditional().sample(2, context)
    with pytest.raises(ValueError, match="unconditional"):
        small().sample(2, torch.tensor([0, 1]))


def test_a_classifier_s_gradient_is_that_of_its_log_probability_and_guides():
    torch.manual_seed(0)
    classifier = NoisyClassifier(Space((2,)), classes=3, hidden=16).double()
    x, labels, u = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0]), torch.tensor(0.3)
    gradient = classifier.gradient(x, u, labels)
    h = 1e-6
    for d in range(2):
        step = h * torch.eye(2, dtype=torch.float64)[d]
        up, down = (
            torch.log_softmax(classifier.logits(x + sign * step, u.double().expand(5)), 1)[torch.arange(5), labels]
            for sign in (1, -1)
        )
        assert torch.allclose(gradient[:, d], ((up - down) / (2 * h)).detach(), atol=1e-7)
    model = small(Space((2,))).double()
    t = torch.tensor(2.0, dtype=torch.float64)
    plain = model.denoiser(None, 5)(x, t)
    guided = model.denoiser(labels, 5, guidance=2.0, classifier=classifier)(x, t)
    expected = classifier_guided(plain, classifier.gradient(x, t / 4, labels), model.schedule.amounts(t, x)[1], 2.0)
    assert torch.allclose(guided, expected, atol=1e-12)
    with pytest.raises(ValueError, match="needs labels"):
        model.sample(5, classifier=classifier)


def test_a_classifier_of_noisy_points_learns():
    labels = torch.arange(512) % 2
    x = torch.where(labels == 0, -1.0, 1.0).unsqueeze(1) + 0.1 * torch.randn(512, 1, generator=seeded())
    torch.manual_seed(0)
    classifier = NoisyClassifier(LINE, classes=2, hidden=16)
    fit(classifier, (x, labels), steps=200, batch_size=128, lr=1e-2, device="cpu", progress=False)
    for u, least, most in ((0.0, 0.99, 1.0), (1.0, 0.4, 0.6)):  # at the end nothing can be told
        log_p = torch.log_softmax(classifier.logits(x if u == 0 else torch.randn(512, 1), torch.full((512,), u)), 1)
        assert least <= float(log_p.exp()[torch.arange(512), labels].mean().detach()) <= most
    assert_every_parameter_learns(classifier, x, labels)
    with pytest.raises(ValueError, match="conditional=True"):
        classifier.moves()[0].loss(x, None)


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network", [None, UNet(PIXELS, channels=8), UNet(PIXELS, channels=4, sizes=3, classes=3)], ids=["mlp", "unet", "three"]
)
def test_images_are_integers_and_everything_learns(network):
    model = DDPM(PIXELS, steps=4, hidden=16, blocks=1, network=network, classes=3 if network and network.level.label else None)
    context = model.example_context(8)
    assert_every_parameter_learns(model, torch.randint(5, (8, 1, 4, 4)), context)
    for sampler in (None, DDIM(2), DDIM(3, eta=1.0), Ancestral(2, wide=True)):
        x = model.sample(8, context, sampler=sampler)
        PIXELS.validate(x)
    x = torch.randint(5, (8, 1, 4, 4))
    assert (model.elbo(x, context) < 0).all()
    assert model.decode(torch.randn(8, 1, 4, 4), context).log_prob(x).shape == (8,)


def test_what_is_believed_of_an_image_stays_within_its_greys():
    model = small().eval()
    x = 5 * torch.randn(6, 1, 4, 4)
    for t in range(1, 5):
        signal, noise = model.schedule.amounts(t, x)
        x0 = (x - noise * model.denoiser(None, 6)(x, torch.tensor(float(t)))) / signal
        assert float(x0.detach().abs().max()) <= 1 + 1e-4


def test_densities_of_images_by_the_equation_are_refused():
    with pytest.raises(ValueError, match="gives densities of points"):
        small().ode_log_prob(torch.zeros(1, 1, 4, 4, dtype=torch.long))


@pytest.mark.parametrize("shape", [(1, 5, 4), (3,)])
def test_a_u_net_needs_even_sides(shape):
    with pytest.raises(ValueError, match="sides divisible by 2"):
        UNet(Space(shape, levels=3))


def test_every_pixel_of_a_u_net_s_answer_sees_every_pixel():
    torch.manual_seed(0)
    space = Space((1, 8, 8), levels=17)
    network, y = UNet(space, channels=8).double(), torch.randn(1, 1, 8, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda y: network(y, torch.tensor([0.5], dtype=torch.float64)), y).view(64, 64)
    assert (jacobian != 0).all()


def test_the_waves_are_saved_with_the_weights():
    a, b = (ResidualMLP(Space((2,)), hidden=8, blocks=1, frequencies=4) for _ in range(2))
    assert not torch.equal(a.waves, b.waves)
    b.load_state_dict(a.state_dict())
    y, u = torch.randn(3, 2), torch.rand(3)
    assert torch.equal(a(y, u), b(y, u))


@pytest.mark.parametrize(
    "settings",
    [{"steps": 0}, {"hidden": 0}, {"blocks": 0}, {"classes": 0}, {"drop_label": 1.0}, {"scale": 0.0}, {"frequencies": -1}],
    ids=str,
)
def test_arguments_are_checked(settings):
    with pytest.raises(ValueError, match=f": {next(iter(settings))} must be"):
        DDPM(Space((2,)), **settings)


def test_cosine_is_the_images_curve_and_linear_the_points():
    assert DDPM(PIXELS, steps=2, hidden=4).schedule.curve == Cosine()
    assert DDPM(Space((2,)), steps=2, hidden=4).schedule.curve == Linear()
