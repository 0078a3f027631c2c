import math

import numpy as np
import pytest
import torch

from gencourse.space import Space

LEVELS = [2, 3, 17, 49, 255, 256, 1000]


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_unit_undoes_to_unit_on_every_level(levels, dtype):
    space = Space((levels,), levels)
    x = torch.arange(levels).unsqueeze(0)
    u = space.to_unit(x).to(dtype)
    assert float(u.min()) == 0
    assert float(u.max()) == 1
    assert torch.equal(space.from_unit(u), x)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("u", [0.0, 2.0**-24, 0.3, 0.5, 1 - 2.0**-24])  # the ends are the extremes of torch.rand in float32
def test_quantize_undoes_dequantize_on_every_level_even_for_extreme_noise(monkeypatch, levels, u):
    space = Space((levels,), levels)
    x = torch.arange(levels).unsqueeze(0)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, u))
    y, _ = space.dequantize(x)
    assert torch.equal(space.quantize(y), x)
    assert float(y.min()) >= 0
    assert float(y.max()) < 1


@pytest.mark.parametrize("u", [0.0, 2.0**-10, 1 - 2.0**-10, 1 - 2.0**-24])
def test_the_noise_is_changed_by_rounding_alone(monkeypatch, u):
    x = torch.arange(256).unsqueeze(0)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, u))
    y, _ = Space((256,), 256).dequantize(x)
    assert float((y.double() * 256 - x - u).abs().max()) < 8 * 2.0**-23 * 256


@pytest.mark.parametrize("levels", LEVELS)
def test_quantize_undoes_dequantize_for_random_noise(levels):
    space = Space((levels,), levels)
    x = torch.arange(levels).expand(2000, -1)
    y, _ = space.dequantize(x)
    assert torch.equal(space.quantize(y), x)


def test_dequantized_points_are_uniform_within_their_cell():
    space = Space((1,), 4)
    y, _ = space.dequantize(torch.full((100_000, 1), 2), generator=torch.Generator().manual_seed(1))
    u = (y * 4 - 2).flatten().sort().values
    ks = (u - torch.linspace(0, 1, len(u))).abs().max()  # Kolmogorov's statistic
    assert float(ks) < 1.95 / math.sqrt(len(u))  # exceeded once in a thousand


def test_dequantize_is_reproducible_by_its_generator():
    space, x = Space((3,), 17), torch.zeros(4, 3, dtype=torch.long)
    a, b, c = (space.dequantize(x, generator=torch.Generator().manual_seed(s))[0] for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (7,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_uniform_8_bit_model_scores_exactly_8_bits_per_dim(shape, dtype):
    space = Space(shape, 256)
    log_prob = torch.tensor([-space.dim * math.log(256)], dtype=dtype)
    assert space.bits_per_dim(log_prob).item() == pytest.approx(8.0)


def test_the_density_one_on_the_unit_cube_scores_exactly_8_bits_per_dim_after_dequantization():
    space = Space((3, 32, 32), 256)
    _, log_det = space.dequantize(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    log_density = torch.zeros(2)  # uniform on [0, 1)
    assert space.bits_per_dim(log_density + log_det).tolist() == pytest.approx([8.0, 8.0])


def test_from_unit_rounds_to_the_nearest_level_and_clamps():
    space = Space((5,), 3)
    assert space.from_unit(torch.tensor([[-1.0, 0.24, 0.26, 0.76, 9.0]])).tolist() == [[0, 0, 1, 2, 2]]


def test_shape_may_be_a_list_and_spaces_compare_by_value():
    assert Space([1, 8, 8], 17) == Space((1, 8, 8), 17)
    assert Space((1, 8, 8), 17).dim == 64
    assert str(Space((2,))) == "Space((2,))"
    assert not Space((2,)).is_discrete


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.bool])
def test_validate_returns_right_batches_unchanged(dtype):
    x = torch.ones(4, 1, 2, 2).to(dtype)
    assert Space((1, 2, 2), 2).validate(x) is x
    assert Space((1, 2, 2), 2).validate(x[:0]).shape == (0, 1, 2, 2)  # an empty batch is a batch


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Space(()), ValueError, "positive integers"),
        (lambda: Space((3, 0)), ValueError, "(3, 0)"),
        (lambda: Space((3, -1)), ValueError, "(3, -1)"),
        (lambda: Space((2.5,)), ValueError, "2.5"),
        (lambda: Space(28), ValueError, "28"),
        (lambda: Space((2,), levels=1), ValueError, "2 or more"),
        (lambda: Space((2,), levels=2.0), ValueError, "2.0"),
        (lambda: Space((2,), 4).validate([[0, 1]]), TypeError, "list"),
        (lambda: Space((2,), 4).validate(torch.zeros(5, 3, dtype=torch.long)), ValueError, "(5, 3)"),
        (lambda: Space((2,), 4).validate(torch.zeros(2, dtype=torch.long)), ValueError, "(2,)"),
        (lambda: Space((2,), 4).validate(torch.zeros(5, 2)), TypeError, "from_unit"),
        (lambda: Space((2,), 4).validate(torch.full((5, 2), 4)), ValueError, "4..4"),
        (lambda: Space((2,), 4).validate(torch.full((5, 2), -1)), ValueError, "-1..-1"),
        (lambda: Space((2,)).validate(torch.zeros(5, 2, dtype=torch.long)), TypeError, "x.float()"),
        (lambda: Space((2,)).validate(torch.full((5, 2), math.nan)), ValueError, "NaN"),
        (lambda: Space((2,)).validate(torch.full((5, 2), math.inf)), ValueError, "infinite"),
        (lambda: Space((2,), 4).from_unit(torch.tensor([math.nan])), ValueError, "NaN"),
        (lambda: Space((2,)).to_unit(torch.zeros(1, 2)), ValueError, "real-valued"),
        (lambda: Space((2,)).from_unit(torch.zeros(1, 2)), ValueError, "real-valued"),
        (lambda: Space((2,)).dequantize(torch.zeros(1, 2)), ValueError, "real-valued"),
        (lambda: Space((2,)).quantize(torch.zeros(1, 2)), ValueError, "real-valued"),
        (lambda: Space((2,)).bits_per_dim(torch.zeros(1)), ValueError, "real-valued"),
    ],
)
def test_a_bad_input_is_named_in_one_sentence(make, error, says):
    with pytest.raises(error) as caught:
        make()
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_signed_values_reach_from_minus_one_to_one_and_come_back(levels):
    space = Space((1, 1, levels), levels)
    x = torch.arange(levels).view(1, 1, 1, -1)
    y = space.to_signed(x)
    assert y.dtype == torch.float32
    assert torch.allclose(y, torch.linspace(-1, 1, levels).view_as(y), atol=1e-6)
    assert torch.equal(space.from_signed(y), x)
    assert space.to_signed(x, torch.float64).dtype == torch.float64
    points = torch.randn(3, 2)
    assert torch.equal(Space((2,)).to_signed(points), points)
    assert Space((2,)).from_signed(points) is points


def test_numbers_of_numpy_make_the_same_space():
    space = Space(np.array([1, 8, 8]), np.int64(17))
    assert space == Space((1, 8, 8), 17)
    assert hash(space) == hash(Space((1, 8, 8), 17))
    assert all(type(n) is int for n in (*space.shape, space.levels))


def test_without_the_values_only_kind_and_shape_are_looked_at():
    space = Space((1, 2, 2), 2)
    bad = torch.full((3, 1, 2, 2), 9)
    assert space.validate(bad, values=False) is bad
    with pytest.raises(TypeError, match="expects integers"):
        space.validate(bad.float(), values=False)
    with pytest.raises(ValueError, match="expects a batch of shape"):
        space.validate(bad[:, 0], values=False)


def test_pixels_of_sixteen_bits_without_a_sign_are_looked_at_too():
    space = Space((1, 1, 2), 1000)
    space.validate(torch.tensor([[[[0, 999]]]], dtype=torch.uint16))
    with pytest.raises(ValueError, match=r"values 0\.\.1000"):
        space.validate(torch.tensor([[[[0, 1000]]]], dtype=torch.uint16))
