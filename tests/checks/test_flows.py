"""The checks of flows find the mistakes that are made in them, each in a bijection that is right but for one."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gencourse.checks import (
    assert_bijection,
    assert_every_coordinate_bends,
    assert_every_parameter_learns,
    assert_points_match_density,
    gaussian_nll,
)
from gencourse.flows.base import Flow
from gencourse.flows.bijections import ActNorm, AdditiveCoupling, AffineCoupling, Composition, Halves, InvertibleLinear
from gencourse.flows.networks import FlatNetwork
from gencourse.flows.realnvp import RealNVP
from gencourse.space import Space


def shaken(module, scale=0.3):
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn_like(p))
    return module


class WrongSign(AffineCoupling):
    def forward(self, x):
        z, log_det = super().forward(x)
        return z, -log_det


class WrongSignOfBoth(WrongSign):
    """The two cancel, and so only a Jacobian finds them."""

    def inverse(self, z):
        x, log_det = super().inverse(z)
        return x, -log_det


class OneSign(AffineCoupling):
    """The inverse has forward's log-determinant."""

    def inverse(self, z):
        x, log_det = super().inverse(z)
        return x, -log_det


class OverTheBatch(AffineCoupling):
    def forward(self, x):
        z, log_det = super().forward(x)
        return z, log_det.sum().expand(len(x))


class MeanOverDimensions(AffineCoupling):
    def forward(self, x):
        z, log_det = super().forward(x)
        return z, log_det / 2


class FromTheWrongHalf(AffineCoupling):
    """The inverse asks the network about the half that was changed."""

    def inverse(self, z):
        kept, changed = self.parts.apart(z)
        log_scale, shift = self.scale_and_shift(changed)
        return self.parts.join(kept, (changed - shift) * torch.exp(-log_scale)), -self.parts.total(log_scale)


class ShiftFirst(AffineCoupling):
    """The inverse undoes in the order of doing."""

    def inverse(self, z):
        kept, changed = self.parts.apart(z)
        log_scale, shift = self.scale_and_shift(kept)
        return self.parts.join(kept, changed * torch.exp(-log_scale) - shift), -self.parts.total(log_scale)


@pytest.mark.parametrize(
    "wrong", [WrongSign, WrongSignOfBoth, OneSign, OverTheBatch, MeanOverDimensions, FromTheWrongHalf, ShiftFirst]
)
def test_a_wrong_coupling_is_found(wrong):
    x = torch.randn(5, 4)
    network = shaken(FlatNetwork((2,), (4,), (8,)))
    assert_bijection(AffineCoupling(network, Halves()), x)
    with pytest.raises(AssertionError):
        assert_bijection(wrong(network, Halves()), x)


class OnePlace(InvertibleLinear):
    """The log-determinant of the 1x1 convolution without its H * W."""

    def _log_det(self, x):
        return self.log_scale.sum().expand(len(x))


class OnePlaceOfNorm(ActNorm):
    def _log_det(self, x):
        return self.log_scale.sum().expand(len(x))


class LowerFactor(InvertibleLinear):
    """The diagonal of the triangle that has ones: log |det L| in the place of log |det U|."""

    def _log_det(self, x):
        return 0 * super()._log_det(x)


@pytest.mark.parametrize(
    ("right", "wrong"), [(InvertibleLinear(3), OnePlace(3)), (ActNorm((3, 1, 1)), OnePlaceOfNorm((3, 1, 1)))], ids=str
)
def test_a_forgotten_number_of_places_is_found(right, wrong):
    x = torch.randn(4, 3, 2, 3)
    shaken(right)
    wrong.load_state_dict(right.state_dict())
    assert_bijection(right, x)
    with pytest.raises(AssertionError, match="log_det is"):
        assert_bijection(wrong, x)


def test_the_wrong_factor_s_determinant_is_found():
    with pytest.raises(AssertionError, match="log_det is"):
        assert_bijection(shaken(LowerFactor(3)), torch.randn(4, 3))


class WithoutUpper(InvertibleLinear):
    """A matrix that forgets one of its factors, and is a bijection all the same."""

    @property
    def factors(self):
        P, L, U = super().factors
        return P, L, torch.diag(U.diagonal())


class Whole(Flow):
    def __init__(self, *layers, space=Space((2,))):  # noqa: B008
        super().__init__(space)
        self.bijection = Composition(layers)


def test_a_factor_that_is_ignored_is_found():
    x = torch.randn(32, 4)
    whole = [Whole(ActNorm((4,)), kind(4), space=Space((4,))) for kind in (InvertibleLinear, WithoutUpper)]
    assert_every_parameter_learns(whole[0], x)
    assert_bijection(whole[1], x)
    with pytest.raises(AssertionError, match=r"no move changes bijection\.1\.upper"):
        assert_every_parameter_learns(whole[1], x)


def coupling(swap, kind=AffineCoupling, scale=0.3):
    return shaken(kind(FlatNetwork((1,), (2 if kind is AffineCoupling else 1,), (16,)), Halves(swap=swap)), scale)


@pytest.mark.parametrize("kind", [AdditiveCoupling, AffineCoupling])
def test_halves_that_never_take_turns_are_found(kind):
    x = torch.randn(50, 2)
    assert_every_coordinate_bends(Whole(coupling(False, kind), coupling(True, kind)), x)
    for swap, straight in ((False, 0), (True, 1)):
        same = Whole(ActNorm((2,)), coupling(swap, kind), coupling(swap, kind))
        assert_bijection(same, x)  # as a bijection it is right
        with pytest.raises(AssertionError, match=rf"affine function of x in coordinates \[{straight}\]"):
            assert_every_coordinate_bends(same, x)


class Hotter(Whole):
    def sample(self, n, **settings):
        return super().sample(n, temperature=1.2, **settings)


class ForwardForInverse(Whole):
    """Samples by the map from data to noise."""

    def _from_noise(self, z, generator):
        return self.encode(z)[0]


def test_a_sampler_is_held_against_the_density():
    layers = [coupling(False, scale=0.15), coupling(True, scale=0.15)]
    for kind, right in ((Whole, True), (Hotter, False), (ForwardForInverse, False)):
        model = kind(*layers)
        samples = model.sample(20_000, generator=torch.Generator().manual_seed(0))
        if right:
            assert assert_points_match_density(model, samples, reach=10.0) > 1e-4
        else:
            with pytest.raises(AssertionError, match="do not follow"):
                assert_points_match_density(model, samples, reach=10.0)


def test_samples_out_of_reach_and_other_spaces_are_said():
    model = Whole(ActNorm((2,)))
    with pytest.raises(AssertionError, match=r"lie outside of 3\.0"):
        assert_points_match_density(model, 5 + model.sample(100), reach=3.0)
    with pytest.raises(ValueError, match="points in the plane"):
        assert_points_match_density(Whole(ActNorm((3,)), space=Space((3,))), torch.randn(10, 3))


def test_the_gaussian_in_closed_form():
    x = torch.randn(100, 3, dtype=torch.float64) * torch.tensor([1.0, 2.0, 5.0]) - 7
    normal = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0))
    assert gaussian_nll(x) == pytest.approx(-float(normal.log_prob(x).mean()), rel=1e-12)
    assert gaussian_nll(x[:, :1]) == pytest.approx(0.5 * math.log(2 * math.pi * math.e * float(x[:, 0].var(correction=0))))


def test_nothing_is_changed_by_being_checked():
    model = RealNVP(Space((2,)), couplings=2, hidden=(8,)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shaken_once = torch.randn(6, 2)
    assert_bijection(model, shaken_once)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert shaken_once.dtype == torch.float32


class Softplus(nn.Module):
    """A bijection of the line onto a half of it: what a z outside has no x for."""

    def forward(self, x):
        return F.softplus(x), F.logsigmoid(x).sum(1)

    def inverse(self, z):
        x = z + torch.log(-torch.expm1(-z))
        return x, -F.logsigmoid(x).sum(1)


def test_a_map_that_does_not_reach_everywhere_is_found():
    with pytest.raises(AssertionError, match="inverse of Softplus"):
        assert_bijection(Softplus(), torch.randn(8, 2))
