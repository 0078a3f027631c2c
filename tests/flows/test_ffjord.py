"""FFJORD against what is known of differential equations: traces, matrix exponentials, orders of convergence, determinants."""

import itertools
import math

import pytest
import torch
from torch import nn

from gencourse.checks import (
    assert_bijection,
    assert_density_integrates,
    assert_every_parameter_learns,
    assert_points_match_density,
)
from gencourse.data.toys import Checkerboard
from gencourse.flows.ffjord import (
    FFJORD,
    TanhField,
    gaussian,
    rademacher,
    unit_vectors,
    value_and_trace,
)
from gencourse.solvers import RK4, Adaptive
from gencourse.space import Space
from gencourse.train import fit


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def field(dim=3, hidden=(16, 16)):
    """A field with weights far from where it begins, in float64."""
    network = TanhField(dim, hidden).double()
    nn.init.normal_(network.last.weight, std=0.4)
    nn.init.normal_(network.last.bias, std=0.4)
    return network


def model(dim=2, **settings):
    flow = FFJORD(Space((dim,)), field=field(dim), **settings).double().eval()
    with torch.no_grad():
        flow.norm.log_scale.fill_(-0.3)
        flow.norm.bias.fill_(0.2)
    return flow


class Plain(nn.Module):
    """A field without a `jvp` of its own."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, t, z):
        return self.network(t, z)


class Linear(nn.Module):
    """dz/dt = A z."""

    def __init__(self, A):
        super().__init__()
        self.A = nn.Parameter(A)

    def forward(self, t, z):
        return z @ self.A.T


def jacobians(network, t, z):
    return torch.stack([torch.autograd.functional.jacobian(lambda y: network(t, y[None])[0], one) for one in z])  # (B, D, D)


@pytest.mark.parametrize("wrap", [lambda network: network, Plain], ids=["by hand", "by torch"])
def test_the_exact_trace_is_autograd_s(wrap):
    network, z = field(), torch.randn(5, 3, dtype=torch.float64)
    value, trace = value_and_trace(wrap(network), 0.3, z, unit_vectors(z))
    assert torch.allclose(value, network(0.3, z), atol=1e-14)
    assert torch.allclose(trace, jacobians(network, 0.3, z).diagonal(dim1=1, dim2=2).sum(1), atol=1e-13)


@pytest.mark.parametrize("wrap", [lambda network: network, Plain], ids=["by hand", "by torch"])
def test_the_mean_over_all_signs_is_the_exact_trace(wrap):
    """Hutchinson's estimator is unbiased: for signs, its expectation is a sum of 2^D terms."""
    network, z = field(), torch.randn(4, 3, dtype=torch.float64)
    J = jacobians(network, 0.5, z)
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)  # (8, D)
    estimates = torch.stack([value_and_trace(wrap(network), 0.5, z, v.expand(1, 4, 3))[1] for v in every])
    assert torch.allclose(estimates.mean(0), J.diagonal(dim1=1, dim2=2).sum(1), atol=1e-13)
    S = (J + J.mT) / 2
    off = (S**2).sum((1, 2)) - (S.diagonal(dim1=1, dim2=2) ** 2).sum(1)
    assert torch.allclose(estimates.var(0, correction=0), 2 * off, atol=1e-12)


@pytest.mark.parametrize(("draw", "diagonal"), [(rademacher, 0.0), (gaussian, 1.0)], ids=["signs", "normal"])
def test_random_directions_have_the_variance_of_the_formula(draw, diagonal):
    J = torch.tensor([[1.0, 2.0, -1.0], [0.5, -2.0, 0.3], [0.0, 1.5, 3.0]], dtype=torch.float64)
    z = torch.randn(100_000, 3, dtype=torch.float64, generator=seeded())
    with torch.no_grad():
        _, trace = value_and_trace(Linear(J), 0.0, z, draw(z, seeded(1)))
    S = (J + J.T) / 2
    squares = float((S.diagonal() ** 2).sum())
    variance = 2 * (float((S**2).sum()) - squares) + diagonal * 2 * squares
    assert float(trace.mean()) == pytest.approx(2.0, abs=5 * math.sqrt(variance / 1e5))
    assert float(trace.var()) == pytest.approx(variance, rel=0.05)


def test_a_linear_field_is_a_matrix_exponential():
    A = torch.tensor([[0.3, -1.0], [0.8, -0.5]], dtype=torch.float64)
    flow = FFJORD(Space((2,)), field=Linear(A)).double()
    x = torch.randn(6, 2, dtype=torch.float64)
    exact = x @ torch.matrix_exp(A).T
    errors = []
    for steps in (4, 8, 16, 32):
        with flow.using(RK4(steps)):
            z, trace, _ = flow.solve(x, 0.0, 1.0)
        errors.append(float((z - exact).detach().abs().max()))
        assert torch.allclose(trace, torch.tensor(-0.2, dtype=torch.float64), atol=1e-12)  # tr A
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders == pytest.approx([4, 4, 4], abs=0.2)
    assert errors[-1] < 1e-7
    assert float(torch.logdet(torch.matrix_exp(A))) == pytest.approx(-0.2, abs=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_integrated_trace_is_the_determinant_of_the_map(dim):
    flow = model(dim)
    with flow.using(RK4(100)):
        assert_bijection(flow, torch.randn(4, dim), atol=1e-7)


def test_images_too():
    flow = FFJORD(Space((1, 2, 3), 4), field=field(6), directions=unit_vectors).double().eval()
    with flow.using(RK4(60)):
        assert_bijection(flow, torch.rand(3, 1, 2, 3), atol=1e-6)


def test_there_and_back():
    flow, x = model(), torch.randn(7, 2, dtype=torch.float64)
    with flow.using(RK4(64)):
        z, log_det = flow.encode(x)
        back, inverse_log_det = flow.decode(z)
    assert torch.allclose(back, x, atol=1e-9)
    assert torch.allclose(log_det, -inverse_log_det, atol=1e-9)


def test_the_density_integrates_to_one_and_is_that_of_the_samples():
    flow = model(finer=2)
    assert_density_integrates(flow, reach=10.0, points=160)
    samples = flow.sample(10_000, generator=seeded())
    assert_points_match_density(flow, samples, reach=8.0, cells=30, fine=4)


def test_the_way_to_noise_ends_where_encode_does():
    flow, x = model(), torch.randn(3, 2, dtype=torch.float64)
    places, log_det = flow.path(x, points=5)
    assert places.shape == (5, 3, 2)
    z, total = flow.encode(x)
    assert torch.allclose(places[-1], z, atol=1e-6)
    assert torch.allclose(log_det[-1], total, atol=1e-6)
    start, change = flow.norm(x)
    assert torch.equal(places[0], start)
    assert torch.equal(log_det[0], change)


class Recorder(nn.Module):
    """Notes the directions of every evaluation."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, t, z):
        return self.network(t, z)

    def jvp(self, t, z, v):
        self.seen.append(v.clone())
        return self.network.jvp(t, z, v)


@pytest.mark.parametrize("solver", [RK4(5), Adaptive(1e-4, 1e-4)], ids=["rk4", "adaptive"])
def test_the_noise_is_drawn_once_a_solve(solver):
    recorder = Recorder(field(3))
    flow = FFJORD(Space((3,)), field=recorder, directions=rademacher).double()
    x = torch.randn(50, 3, dtype=torch.float64)
    with flow.using(solver):
        for _ in range(2):
            flow.encode(x)
            assert flow.nfe == len(recorder.seen) > 1
            first = recorder.seen[0]
            assert first.shape == (1, 50, 3)
            assert all(torch.equal(first, v) for v in recorder.seen)
            recorder.seen.clear()
        flow.encode(x)
    assert not torch.equal(first, recorder.seen[0])  # and anew for the next


def test_hutchinson_s_likelihood_follows_the_generator_and_is_right_on_average():
    flow = model(3, directions=rademacher)
    x = torch.randn(2, 3, dtype=torch.float64)
    a, b, c = (flow.log_prob(x, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    many = flow.log_prob(x[:1].expand(4000, 3)).detach()
    flow.directions = unit_vectors
    exact = float(flow.log_prob(x[:1]).detach())
    assert float(many.mean()) == pytest.approx(exact, abs=5 * float(many.std()) / math.sqrt(4000))
    assert float(many.std()) > 1e-3


def test_evaluation_uses_a_finer_solver_than_training():
    flow, x = model(steps=3, finer=5), torch.randn(4, 2, dtype=torch.float64)
    flow.train().norm.initialized.fill_(True)
    flow.encode(x)
    assert flow.nfe == 4 * 3
    flow.eval().encode(x)
    assert flow.nfe == 4 * 15
    flow.sample(2)
    assert flow.nfe == 4 * 15
    with flow.using(RK4(1)):
        flow.encode(x)
        assert flow.nfe == 4


def test_an_adaptive_solver_agrees_and_takes_more_evaluations_for_a_smaller_tolerance():
    flow, x = model(), torch.randn(6, 2, dtype=torch.float64)
    with flow.using(RK4(200)):
        exact = flow.log_prob(x)
    errors, evaluations = [], []
    for tolerance in (1e-3, 1e-6, 1e-9):
        with flow.using(Adaptive(tolerance, tolerance)):
            errors.append(float((flow.log_prob(x) - exact).detach().abs().max()))
            evaluations.append(flow.nfe)
    assert evaluations[0] < evaluations[1] < evaluations[2]
    assert errors[0] < 1e-2
    assert errors[2] < 1e-7  # of a tolerance of 1e-9 a step


def test_the_adjoint_s_gradients_are_those_through_the_steps():
    flow, x = model(), torch.randn(6, 2, dtype=torch.float64)
    found = []
    for solver in (RK4(128), Adaptive(1e-9, 1e-9), Adaptive(1e-9, 1e-9, adjoint=True)):
        with flow.using(solver):
            found.append(torch.autograd.grad(flow.log_prob(x).sum(), list(flow.parameters())))
    for others in found[1:]:
        for a, b in zip(found[0], others, strict=True):
            assert torch.allclose(a, b, atol=1e-6)


def test_the_kinetic_energy_is_the_length_of_straight_paths_squared():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.v = nn.Parameter(torch.tensor([3.0, -4.0]))

        def forward(self, t, z):
            return self.v.expand_as(z)

    flow = FFJORD(Space((2,)), field=Constant(), kinetic=0.1)
    z, trace, energy = flow.solve(torch.zeros(2, 2), 0.0, 1.0)
    assert torch.allclose(z, torch.tensor([3.0, -4.0]))
    assert torch.allclose(trace, torch.zeros(2))
    assert torch.allclose(energy, torch.full((2,), 25.0))
    assert torch.allclose(flow.solve(z, 1.0, 0.0)[2], torch.full((2,), 25.0))


def test_kinetic_regularisation_is_for_training_and_slows_the_points_down():
    x = Checkerboard().sample(2000, seeded())
    energies = {}
    for weight in (0.0, 0.5):
        torch.manual_seed(0)
        flow = FFJORD(Space((2,)), hidden=(32,), steps=3, kinetic=weight)
        fit(flow, x, steps=150, batch_size=128, lr=1e-2, device="cpu", progress=False)
        y = flow.eval().norm(x)[0]
        energies[weight] = float(flow.solve(y, 0.0, 1.0)[2].detach().mean())
        assert torch.equal(flow.moves()[0].loss(x[:5], None), -flow.log_prob(x[:5]))
    assert energies[0.5] < 0.7 * energies[0.0]
    flow.train()
    (move,) = flow.moves()
    _, _, energy = flow.solve(flow.norm(x[:5])[0], 0.0, 1.0)
    assert torch.allclose(move.loss(x[:5], None), 0.5 * energy - flow.log_prob(x[:5]), atol=1e-5)


def test_the_regularised_loss_of_images_is_a_bound_on_their_probability_too():
    flow = FFJORD(Space((1, 2, 3), 4), field=field(6), directions=unit_vectors, kinetic=0.5).double().train()
    flow.norm.initialized.fill_(True)
    x = torch.randint(4, (5, 1, 2, 3))
    losses = []
    for kinetic in (0.5, 1e-30):
        flow.kinetic = kinetic
        torch.manual_seed(0)
        losses.append(flow.moves()[0].loss(x, None).detach())
    torch.manual_seed(0)
    assert torch.allclose(losses[1], -flow.log_prob(x).detach(), atol=1e-9)
    assert (losses[0] > losses[1]).all()


@pytest.mark.parametrize("solver", [RK4(8), Adaptive(1e-8, 1e-8)], ids=["rk4", "adaptive"])
@pytest.mark.parametrize("space", [Space((3,)), Space((1, 2, 3), 4)], ids=str)
def test_samples_are_decoded_noise_without_the_trace(space, solver):
    flow = FFJORD(space, field=field(space.dim), directions=rademacher).double().eval()
    with torch.no_grad():
        flow.norm.bias.fill_(0.2)
    with flow.using(solver), torch.no_grad():
        samples = flow.sample(20, generator=seeded())
        y, _ = flow.decode(flow.draw(20, seeded()))
    if space.is_discrete:
        assert torch.equal(samples, space.quantize(y))
    else:
        assert torch.allclose(samples, y, atol=1e-6)


def test_everything_learns_with_noise_and_without():
    for directions in (unit_vectors, rademacher, gaussian):
        flow = FFJORD(Space((2,)), hidden=(8,), directions=directions, kinetic=0.01)
        assert_every_parameter_learns(flow, torch.randn(32, 2))


def test_dimensions_decide_the_directions_unless_they_are_given():
    assert FFJORD(Space((8,))).directions is unit_vectors
    assert FFJORD(Space((9,))).directions is rademacher
    assert FFJORD(Space((2,)), directions=gaussian).directions is gaussian


@pytest.mark.parametrize("settings", [{"steps": 0}, {"finer": 0}, {"hidden": ()}, {"kinetic": -1.0}], ids=str)
def test_arguments_are_checked(settings):
    with pytest.raises(ValueError, match=f"FFJORD: {next(iter(settings))} must be"):
        FFJORD(Space((2,)), **settings)
