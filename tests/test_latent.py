"""Walks keep what they promise on the way, and neighbours are the nearest."""

import math
from itertools import pairwise

import pytest
import torch

from gencourse.latent import analogy, interpolate, lerp, slerp, to_shell
from gencourse.metrics import pairs
from gencourse.metrics.neighbours import nearest_neighbours


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def angle(a, b):
    """Between vectors, exact for small angles too."""
    a, b = a.double() / a.double().norm(), b.double() / b.double().norm()
    return 2 * math.atan2(float((a - b).norm()), float((a + b).norm()))


# Straight and spherical ways


@pytest.mark.parametrize("path", [lerp, slerp])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ends_are_the_ends(path, dtype):
    z0, z1 = randn(20, 64, dtype=dtype), randn(20, 64, seed=1, dtype=dtype) * 3
    torch.testing.assert_close(path(z0, z1, 0.0), z0)
    torch.testing.assert_close(path(z0, z1, 1.0), z1)
    way = interpolate(z0, z1, 7, path)
    assert way.shape == (7, 20, 64) and way.dtype == dtype
    torch.testing.assert_close(way[0], z0)
    torch.testing.assert_close(way[-1], z1)


def test_lerp_is_the_straight_line_and_its_middle_the_mean():
    z0, z1 = randn(64), randn(64, seed=1)
    torch.testing.assert_close(lerp(z0, z1, 0.5), (z0 + z1) / 2)
    torch.testing.assert_close(lerp(z0, z1, 0.25) - z0, 0.25 * (z1 - z0))


def test_slerp_keeps_the_length_and_turns_at_constant_speed():
    z0 = randn(16)
    z1 = randn(16, seed=1)
    z1 = z1 * z0.norm() / z1.norm()
    way = interpolate(z0, z1, 9)
    torch.testing.assert_close(way.norm(dim=1), z0.norm().expand(9), rtol=1e-12, atol=0)
    turns = [angle(a, b) for a, b in pairwise(way)]
    assert turns == pytest.approx([angle(z0, z1) / 8] * 8, rel=1e-12)
    # and stays in the plane of the two
    residual = torch.linalg.lstsq(torch.stack([z0, z1]).T, way.T)
    torch.testing.assert_close(torch.stack([z0, z1]).T @ residual.solution, way.T)


def test_on_the_circle_the_angle_is_linear():
    z0, z1 = torch.tensor([2.0, 0.0]).double(), torch.tensor([0.0, 2.0]).double()
    for t in (0.0, 0.3, 0.5, 1.0):
        expected = [2 * math.cos(t * math.pi / 2), 2 * math.sin(t * math.pi / 2)]
        assert slerp(z0, z1, t).tolist() == pytest.approx(expected, abs=1e-15)


def test_of_unequal_lengths_the_length_is_linear_and_the_speed_still_constant():
    z0, z1 = randn(5), 4 * randn(5, seed=1)
    way = interpolate(z0, z1, 5)
    torch.testing.assert_close(way.norm(dim=1), torch.linspace(float(z0.norm()), float(z1.norm()), 5).double(), rtol=1e-6, atol=0)
    turns = [angle(a, b) for a, b in pairwise(way)]
    assert turns == pytest.approx([angle(z0, z1) / 4] * 4, rel=1e-12)


def test_the_middle_of_the_line_leaves_the_shell_and_that_of_the_arc_does_not():
    """In 1000 dimensions a sample's length is sqrt(D) within 2.2 %; a mean of two is sqrt(1/2) times as long."""
    z0, z1 = randn(200, 1000), randn(200, 1000, seed=1)
    radius = 1000**0.5
    assert float(slerp(z0, z1, 0.5).norm(dim=1).mean()) / radius == pytest.approx(1, abs=0.01)
    assert float(lerp(z0, z1, 0.5).norm(dim=1).mean()) / radius == pytest.approx(0.5**0.5, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("apart", [0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-4, 3e-4, 1e-3, 0.1])
def test_nearly_parallel_vectors(apart, dtype):
    """The point at t = 0.3 is, to rounding, where the angle 0.3 w says, however small w is."""
    z0 = torch.tensor([1.0, 0.0], dtype=torch.float64)
    z1 = torch.tensor([math.cos(apart), math.sin(apart)], dtype=torch.float64)
    found = slerp(z0.to(dtype), z1.to(dtype), 0.3).double()
    expected = torch.tensor([math.cos(0.3 * apart), math.sin(0.3 * apart)], dtype=torch.float64)
    assert float((found - expected).norm()) < 4 * torch.finfo(dtype).eps
    z = randn(3, dtype=dtype)
    torch.testing.assert_close(slerp(z, 2 * z, 0.5), 1.5 * z)


def test_nearly_opposite_vectors_still_go_around_and_opposite_ones_are_refused():
    z0 = torch.tensor([1.0, 0.0]).double()
    nearly = torch.tensor([math.cos(math.pi - 1e-4), math.sin(math.pi - 1e-4)]).double()
    assert slerp(z0, nearly, 0.5).tolist() == pytest.approx([0, 1], abs=1e-4)
    for opposite in (-z0, -3 * z0, torch.stack([nearly, -z0])[1]):
        with pytest.raises(ValueError, match="no shortest arc"):
            slerp(z0, opposite, 0.5)
    for dtype in (torch.float32, torch.float64):  # where rounding keeps the sum from being 0
        z = randn(100, seed=2, dtype=dtype)
        with pytest.raises(ValueError, match="no shortest arc"):
            slerp(z, -z * (1 + 1e-7), 0.5)
    with pytest.raises(ValueError, match="a zero vector has no direction"):
        slerp(z0, 0 * z0, 0.5)


def test_a_batch_takes_one_t_for_each_or_one_for_all():
    z0, z1 = randn(4, 6), randn(4, 6, seed=1)
    t = torch.tensor([[0.0], [0.2], [0.7], [1.0]]).double()
    for path in (lerp, slerp):
        each = path(z0, z1, t)
        for i in range(4):
            torch.testing.assert_close(each[i], path(z0[i], z1[i], float(t[i])))


def test_gradients_reach_both_ends():
    z0, z1 = randn(3, 4).requires_grad_(), randn(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: slerp(a, b, 0.3), (z0, z1))
    same = randn(4).requires_grad_()
    (gradient,) = torch.autograd.grad(slerp(same, same.detach().clone(), 0.5).sum(), same)
    assert torch.isfinite(gradient).all()


# Arithmetic


def test_analogy_is_the_means_arithmetic():
    a, b, c = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 1.0]), torch.tensor([[0.0, 10.0]])
    assert analogy(a, b, c).tolist() == [2.0 - 1 + 0, 3.0 - 1 + 10]


def test_of_three_examples_each_the_result_is_as_long_as_a_sample():
    """Variance 1/3 + 1/3 + 1/3: squared length D within 3 sqrt(2 D)."""
    d = 10_000
    z = analogy(randn(3, d), randn(3, d, seed=1), randn(3, d, seed=2))
    assert float(z.square().sum()) == pytest.approx(d, abs=3 * math.sqrt(2 * d))
    one = analogy(randn(1, d), randn(1, d, seed=1), randn(1, d, seed=2))
    assert float(one.square().sum()) == pytest.approx(3 * d, abs=9 * math.sqrt(2 * d))
    torch.testing.assert_close(to_shell(one).norm(), torch.tensor(100.0).double())
    torch.testing.assert_close(to_shell(one) / one, (to_shell(one) / one)[:1].expand(d))


# Neighbours


def test_neighbours_of_points_on_a_line():
    train = torch.tensor([[0.0], [5.0], [6.0], [9.0]])
    found = nearest_neighbours(torch.tensor([[5.4], [9.0]]), train, 2)
    assert found.indices.tolist() == [[1, 2], [3, 2]]
    assert found.distances.flatten().tolist() == pytest.approx([0.4, 0.6, 0.0, 3.0], abs=1e-6)  # 5.4 in float32


@pytest.mark.parametrize("block", [pairs.BLOCK, 150])  # at once, and three samples by 37 training images
def test_neighbours_equal_an_exhaustive_search_on_images(block, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", block)
    g = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 4, (9, 1, 2, 2), generator=g, dtype=torch.uint8)
    train = torch.randint(0, 4, (50, 1, 2, 2), generator=g, dtype=torch.uint8)
    found = nearest_neighbours(samples, train, 50)
    assert len({float(d) for d in found.distances[0]}) < 50  # with few levels there are ties
    for i, sample in enumerate(samples.flatten(1).tolist()):
        squares = [sum((a - b) ** 2 for a, b in zip(sample, t, strict=True)) for t in train.flatten(1).tolist()]
        order = sorted(range(50), key=lambda j: (squares[j], j))  # the nearest first, of equals the first
        assert found.indices[i].tolist() == order
        assert found.distances[i].tolist() == pytest.approx([math.sqrt(squares[j]) for j in order], rel=1e-14)


def test_close_points_far_from_the_origin_keep_their_distance():
    """a^2 + b^2 - 2ab would lose it: 1e-3 beside 1e6 is less than float64 keeps of 1e12."""
    train = torch.tensor([[1e6, 0.0], [1e6 + 2e-3, 0.0]], dtype=torch.float64).repeat(20, 1)
    found = nearest_neighbours(train[:1] + torch.tensor([[1e-3 + 5e-4, 0.0]]), train, 1)
    assert found.indices.tolist() == [[1]] and float(found.distances) == pytest.approx(5e-4, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lerp(randn(3), randn(4), 0.5), r"not torch.float64 \(3,\) and \(4,\)"),
        (lambda: slerp(torch.arange(3), torch.arange(3), 0.5), "two real vectors"),
        (lambda: interpolate(randn(3), randn(3, seed=1), 1), "steps must be an integer of 2 or more, not 1"),
        (lambda: analogy(randn(2, 3), randn(2, 4), randn(2, 3)), r"b has shape \(2, 4\)"),
        (lambda: analogy(randn(2, 3), randn(2, 3), randn(0, 3)), r"c has shape \(0, 3\)"),
        (lambda: to_shell(torch.zeros(3)), "no direction"),
        (lambda: nearest_neighbours(randn(2, 3), randn(4, 3), 5), "from 1 to the 4 training examples, not 5"),
        (lambda: nearest_neighbours(randn(2, 3), randn(4, 2)), "examples of one shape"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_pixels_in_two_units_are_named():
    with pytest.raises(TypeError, match="give both in one unit"):
        nearest_neighbours(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long))
