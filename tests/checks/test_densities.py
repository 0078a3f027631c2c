"""The checks of densities and bijections: right ones pass, and a wrong sign, a forgotten term or a wrong inverse does not."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from gencourse.checks import assert_density_integrates, assert_invertible, assert_log_det
from gencourse.kinds import Tractable
from gencourse.space import Space


class Coupling:
    """z = (a, b exp(s(a)) + t(a)), its log-determinant times `sign`, its inverse off by `shift`."""

    def __init__(self, sign=1.0, shift=0.0, inverse_sign=-1.0):
        self.sign, self.shift, self.inverse_sign = sign, shift, inverse_sign

    def forward(self, x):
        a, b = x.unbind(1)
        return torch.stack([a, b * torch.exp(0.5 * torch.sin(a) - 0.3) + a**2 / 4], 1), self.sign * (0.5 * torch.sin(a) - 0.3)

    def inverse(self, z):
        a, b = z.unbind(1)
        scale = 0.5 * torch.sin(a) - 0.3
        return torch.stack([a, (b - a**2 / 4) * torch.exp(-scale) + self.shift], 1), self.inverse_sign * scale


class Flow(Tractable):
    def __init__(self, bijection, space=Space((2,)), constant=0.0):  # noqa: B008
        super().__init__(space)
        self.bijection, self.constant = bijection, constant
        self.weight = nn.Parameter(torch.zeros(()))

    def log_prob(self, x, context=None):
        z, log_det = self.bijection.forward(x)
        return -0.5 * (z**2).sum(1) - z.shape[1] / 2 * math.log(2 * math.pi) + log_det + self.constant


class Line:
    def forward(self, x):
        return 2 * x, x.new_full((len(x),), math.log(2))


X = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_right_coupling_passes_everything():
    assert_invertible(Coupling(), X, atol=1e-12)
    assert_log_det(Coupling(), X, atol=1e-12)
    assert_density_integrates(Flow(Coupling()), reach=20.0, points=800, atol=1e-5)
    assert_density_integrates(Flow(Line(), Space((1,))), atol=1e-6)


def test_a_wrong_sign_is_found():
    with pytest.raises(AssertionError, match=r"log_det is .* but the logarithm of the Jacobian's determinant is"):
        assert_log_det(Coupling(sign=-1.0), X)
    with pytest.raises(AssertionError, match=r"integrates to \d.*, not 1"):
        assert_density_integrates(Flow(Coupling(sign=-1.0)))
    with pytest.raises(AssertionError, match="each other's negative"):
        assert_invertible(Coupling(inverse_sign=1.0), X)


@pytest.mark.parametrize("constant", [0.01, -0.01, math.log(2 * math.pi), float("nan")])
def test_a_forgotten_constant_is_found(constant):
    with pytest.raises(AssertionError, match="integrates to"):
        assert_density_integrates(Flow(Coupling(), constant=constant))


@pytest.mark.parametrize("shift", [1e-5, -1.0, float("nan")])
def test_a_wrong_inverse_is_found(shift):
    with pytest.raises(AssertionError, match="away from x"):
        assert_invertible(Coupling(shift=shift), X)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_jacobian_is_taken_whatever_the_grad_mode(mode):
    with mode():
        assert_log_det(Coupling(), X)
        with pytest.raises(AssertionError, match="log_det"):
            assert_log_det(Coupling(sign=-1.0), X)


def test_a_determinant_of_images_is_that_of_all_their_numbers():
    class Scale:
        def forward(self, x):
            return 3 * x, x.new_full((len(x),), x[0].numel() * math.log(3))

    x = torch.randn(4, 2, 3, 2, dtype=torch.float64)
    assert_log_det(Scale(), x)
    bad = Coupling()
    bad.forward = lambda x: (x, torch.zeros(()))
    with pytest.raises(ValueError, match=r"log_det \(50,\)"):
        assert_log_det(bad, X)


@pytest.mark.parametrize("space", [Space((1, 2, 2), 4), Space((3,))], ids=str)
def test_other_spaces_are_refused(space):
    with pytest.raises(ValueError, match="one or two dimensions"):
        assert_density_integrates(Flow(Coupling(), space))


def test_the_package_of_checks_needs_no_family():
    program = "import sys, gencourse.checks; print(*[m for m in sys.modules if m.startswith('gencourse.autoregressive')])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split() == []
