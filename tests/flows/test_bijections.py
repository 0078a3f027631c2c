"""Every bijection against autograd, in float64, both ways; and what each is said to do."""

import math

import pytest
import torch
from torch import nn

from gencourse.checks import assert_bijection, gaussian_nll
from gencourse.flows.base import Flow
from gencourse.flows.bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Composition,
    Diagonal,
    Flatten,
    Halves,
    InvertibleLinear,
    Logit,
    Mask,
    Permutation,
    Split,
    Squeeze,
    checkerboard,
    undo,
)
from gencourse.flows.networks import ConvNetwork, FlatNetwork
from gencourse.space import Space
from gencourse.train import fit

POINTS, IMAGES = (5,), (2, 4, 6)  # images that are not square, channels that are not one


def scrambled(module, scale=0.3):
    """The module in float64 with weights far from where it begins."""
    module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn_like(p))
    return module


def numbers(shape, n=6):
    return torch.randn(n, *shape, dtype=torch.float64)


def flat(inputs, outputs):
    return FlatNetwork((inputs,), (outputs,), (16,))


BIJECTIONS = {
    "additive, halves": (lambda: AdditiveCoupling(flat(3, 2), Halves()), POINTS),
    "additive, other half": (lambda: AdditiveCoupling(flat(2, 3), Halves(swap=True)), POINTS),
    "additive, mask": (lambda: AdditiveCoupling(flat(5, 5), Mask(torch.tensor([1, 0, 0, 1, 0]))), POINTS),
    "affine, halves": (lambda: AffineCoupling(flat(3, 4), Halves()), POINTS),
    "affine, other half": (lambda: AffineCoupling(flat(2, 6), Halves(swap=True)), POINTS),
    "affine, mask": (lambda: AffineCoupling(flat(5, 10), Mask(torch.tensor([0, 1, 1, 0, 1]))), POINTS),
    "affine, checkerboard": (lambda: AffineCoupling(ConvNetwork(2, 4, 6, blocks=1), Mask(checkerboard(IMAGES))), IMAGES),
    "affine, other squares": (lambda: AffineCoupling(ConvNetwork(2, 4, 6), Mask(checkerboard(IMAGES, flip=True))), IMAGES),
    "affine, channels": (lambda: AffineCoupling(ConvNetwork(1, 2, 6), Halves(swap=True)), IMAGES),
    "diagonal": (lambda: Diagonal(IMAGES), IMAGES),
    "actnorm of points": (lambda: ActNorm(POINTS), POINTS),
    "actnorm of channels": (lambda: ActNorm((2, 1, 1)), IMAGES),
    "actnorm of pixels": (lambda: ActNorm(IMAGES), IMAGES),
    "permutation": (lambda: Permutation([2, 0, 1, 4, 3]), POINTS),
    "permutation of channels": (lambda: Permutation([1, 0]), IMAGES),
    "matrix": (lambda: InvertibleLinear(5), POINTS),
    "1x1 convolution": (lambda: InvertibleLinear(2), IMAGES),
    "squeeze": (Squeeze, IMAGES),
    "flatten": (lambda: Flatten(IMAGES), IMAGES),
    "split": (lambda: Split(IMAGES, Composition([ActNorm((1, 1, 1)), Flatten((1, 4, 6))])), IMAGES),
    "composition": (
        lambda: Composition([Squeeze(), InvertibleLinear(8), AffineCoupling(ConvNetwork(4, 8, 6), Halves()), ActNorm((8, 1, 1))]),
        IMAGES,
    ),
}


@pytest.mark.parametrize(("make", "shape"), BIJECTIONS.values(), ids=BIJECTIONS)
def test_inverse_and_log_determinant_are_autograd_s(make, shape):
    assert_bijection(scrambled(make()), numbers(shape), atol=1e-9)


@pytest.mark.parametrize(("make", "shape"), BIJECTIONS.values(), ids=BIJECTIONS)
def test_what_is_undone_is_the_inverse_s_x(make, shape):
    bijection, x = scrambled(make()), numbers(shape)
    z, _ = bijection(x)
    assert torch.allclose(undo(bijection, z), x, atol=1e-9)
    assert torch.allclose(bijection.undo(z), bijection.inverse(z)[0], atol=1e-12)


def test_a_module_with_an_inverse_alone_is_undone_too():
    class Double(nn.Module):
        def inverse(self, z):
            return z / 2, torch.full((len(z),), -z[0].numel() * math.log(2), dtype=z.dtype)

    z = numbers(POINTS)
    assert torch.equal(Composition([Double(), Permutation([1, 0, 2, 3, 4])]).undo(z), z[:, [1, 0, 2, 3, 4]] / 2)


def test_the_logit_too():
    assert_bijection(Logit(0.01), torch.rand(6, 2, 3, dtype=torch.float64), atol=1e-9)
    with pytest.raises(ValueError, match=r"alpha must lie between 0 and 0\.5, not 0\.5"):
        Logit(0.5)


def test_the_logit_s_log_determinant_is_finite_far_out():
    _, log_det = Logit(0.01).inverse(torch.tensor([[800.0, -800.0]]))
    assert float(log_det) == pytest.approx(-1600 - 2 * math.log(0.98), abs=1e-3)


@pytest.mark.parametrize("name", ["additive, halves", "additive, mask", "permutation", "squeeze", "flatten"])
def test_volumes_stay_exactly(name):
    make, shape = BIJECTIONS[name]
    bijection = scrambled(make())
    assert (bijection(numbers(shape))[1] == 0).all()
    assert (bijection.inverse(bijection(numbers(shape))[0])[1] == 0).all()


@pytest.mark.parametrize("name", ["permutation", "permutation of channels", "squeeze", "flatten"])
def test_a_rearrangement_keeps_every_number(name):
    make, shape = BIJECTIONS[name]
    x = numbers(shape)
    z, _ = make()(x)
    assert torch.equal(z.flatten(1).sort(1).values, x.flatten(1).sort(1).values)
    assert torch.equal(make().inverse(z)[0], x)


def test_a_squeeze_makes_channels_of_blocks():
    x = torch.arange(16).view(1, 1, 4, 4).double()
    z, _ = Squeeze()(x)
    assert z.shape == (1, 4, 2, 2)
    assert z[0, :, 0, 0].tolist() == [0, 1, 4, 5]


def test_a_checkerboard_alternates_along_rows_and_columns():
    assert checkerboard((2, 3)).int().tolist() == [[1, 0, 1], [0, 1, 0]]
    assert torch.equal(checkerboard((3, 4, 5), flip=True), ~checkerboard((4, 5)).expand(3, 4, 5))
    assert checkerboard((5,)).int().tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("name", [name for name in BIJECTIONS if name.startswith(("additive", "affine"))])
def test_a_coupling_leaves_what_it_keeps_and_changes_all_the_rest(name):
    make, shape = BIJECTIONS[name]
    coupling, x = scrambled(make()), numbers(shape)
    same = (coupling(x)[0] == x).all(0)
    kept, _ = coupling.parts.apart(torch.ones(1, *shape))
    expected = coupling.parts.join(kept, torch.zeros_like(coupling.parts.apart(torch.ones(1, *shape))[1]))[0].bool()
    assert torch.equal(same, expected)
    assert 0 < int(same.sum()) < same.numel()


def test_the_scale_of_an_affine_coupling_is_bounded_and_begins_at_one():
    coupling = AffineCoupling(flat(3, 4), Halves(), bound=1.5)
    x = numbers(POINTS).float()
    assert float(coupling(x)[1].detach().abs().max()) < 0.1
    with torch.no_grad():
        for p in coupling.parameters():
            p.mul_(1e4)
    log_scale, _ = coupling.scale_and_shift(1e3 * x[:, :3])
    assert float(log_scale.detach().abs().max()) == pytest.approx(1.5)


def test_the_1x1_convolution_counts_each_place():
    linear = scrambled(InvertibleLinear(3))
    expected = torch.linalg.slogdet(linear.weight).logabsdet
    assert torch.allclose(linear(numbers((3,)))[1], expected, atol=1e-12)
    assert torch.allclose(linear(numbers((3, 4, 5)))[1], 20 * expected, atol=1e-11)
    x = numbers((3, 4, 5))
    assert torch.allclose(linear(x)[0], torch.einsum("ij,bjhw->bihw", linear.weight, x), atol=1e-12)


def test_the_matrix_is_at_first_a_rotation_and_its_factors_are_triangles():
    linear = InvertibleLinear(6).double()
    assert torch.allclose(linear.weight @ linear.weight.T, torch.eye(6, dtype=torch.float64), atol=1e-5)
    P, L, U = scrambled(linear).factors
    assert torch.equal(P @ P.T, torch.eye(6, dtype=torch.float64))
    assert torch.equal(L, L.tril())
    assert torch.equal(U, U.triu())
    assert (L.diagonal() == 1).all()


def test_every_factor_of_the_matrix_learns():
    linear = InvertibleLinear(4)
    z, log_det = linear(torch.randn(32, 4))
    gradients = torch.autograd.grad((z**2).sum() - log_det.sum(), list(linear.parameters()))
    assert int((gradients[0] != 0).sum()) == 6  # the triangle below the diagonal
    assert int((gradients[1] != 0).sum()) == 6
    assert int((gradients[2] != 0).sum()) == 4


def test_bfloat16_does_not_touch_the_matrix():
    linear, x = InvertibleLinear(4), torch.randn(8, 4, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        z, _ = linear(x)
        back, _ = linear.inverse(z)
    assert z.dtype == torch.float32
    assert torch.allclose(back, x, atol=1e-5)


@pytest.mark.parametrize(("shape", "over"), [((5,), (0,)), ((2, 1, 1), (0, 2, 3)), ((2, 4, 6), (0,))], ids=str)
def test_actnorm_gives_its_first_batch_mean_0_and_deviation_1(shape, over):
    norm = ActNorm(shape).double()
    x = 3 + 7 * numbers(POINTS if len(shape) == 1 else IMAGES, 50)
    z, _ = norm(x)
    assert torch.allclose(z.mean(over), torch.zeros(1, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(z.std(over, correction=0), torch.ones(1, dtype=torch.float64), atol=1e-12)


def test_actnorm_looks_at_the_first_training_batch_and_never_again():
    norm = ActNorm((2,))
    assert not norm.initialized
    first, second = 5 * torch.randn(40, 2), 9 + torch.randn(40, 2)
    assert torch.equal(norm.eval()(first)[0], first)  # nothing is set in evaluation
    norm.train()(first)
    kept = norm.log_scale.clone()
    norm(second)
    assert torch.equal(norm.log_scale, kept)
    other = ActNorm((2,))
    other.load_state_dict(norm.state_dict())
    other.train()(second)  # it comes with the weights that it was done
    assert torch.equal(other.log_scale, kept)
    other.load_state_dict(ActNorm((2,)).state_dict())  # ... and that it was not
    assert torch.allclose(other(second)[0].mean(0), torch.zeros(2), atol=1e-4)
    assert other.initialized


def test_actnorm_leaves_the_scale_of_what_does_not_vary():
    norm = ActNorm((2,))
    x = torch.stack([torch.full((10,), 4.0), torch.randn(10)], 1)
    z, log_det = norm(x)
    assert (z[:, 0] == 0).all()
    assert torch.isfinite(log_det).all()
    assert float(norm.log_scale[0].detach()) == 0


class Affine(Flow):
    """ActNorm and a matrix: every affine map whose determinant has the sign of the first one's."""

    def __init__(self, dim):
        super().__init__(Space((dim,)))
        self.bijection = Composition([ActNorm((dim,)), InvertibleLinear(dim)])


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_the_best_affine_flow_is_the_gaussian_of_the_sample_covariance(dim):
    """All along the code path: matrix, bias, log-determinant and prior; the minimum is known in closed form."""
    x = numbers((dim,), 200) @ numbers((dim,), dim) + 3  # correlated
    model = Affine(dim).double()
    model.log_prob(x)  # sets ActNorm
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=1, max_iter=500, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = -model.log_prob(x).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert float(closure().detach()) == pytest.approx(gaussian_nll(x), abs=1e-8)
    normal = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0).view(dim, dim))
    assert torch.allclose(model.log_prob(x), normal.log_prob(x), atol=1e-5)


def test_actnorm_is_the_same_in_a_run_that_was_resumed(tmp_path):
    x = 4 + 3 * torch.randn(200, 2)
    runs = []
    for name, stops in (("once", (6,)), ("resumed", (2, 6))):
        torch.manual_seed(0)
        model = Affine(2)
        for stop in stops:
            settings = {"batch_size": 20, "device": "cpu", "progress": False, "checkpoint_every": 1}
            fit(model, x, steps=stop, out=tmp_path / name, resume=True, **settings)
            model = model if stop == 6 else Affine(2)  # another process begins with fresh weights
        runs.append(model.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert runs[0]["bijection.0.initialized"]


def test_composed_maps_add_their_log_determinants():
    parts = [scrambled(ActNorm((3,))), scrambled(InvertibleLinear(3)), scrambled(Diagonal((3,)))]
    x = numbers((3,))
    total, h = 0, x
    for part in parts:
        h, change = part(h)
        total = total + change
    z, log_det = Composition(parts)(x)
    assert torch.equal(z, h)
    assert torch.equal(log_det, total)


@pytest.mark.parametrize("order", [[0, 0, 1], [1, 2, 3], [0.5, 1, 0]], ids=str)
def test_an_order_that_is_none_is_refused(order):
    with pytest.raises(ValueError, match=r"order must hold each of 0\.\.2 once"):
        Permutation(order)


def test_a_split_needs_an_even_number_of_channels():
    with pytest.raises(ValueError, match="must be even, not 3"):
        Split((3, 2, 2), nn.Identity())
