"""The blobs are where and as large as their factors say."""

import pytest
import torch

from gencourse.data.blobs import blobs, draw_blobs, every_factor


def test_all_factors_once():
    factors = every_factor()
    assert factors.shape == (768, 3)
    assert len(torch.unique(factors, dim=0)) == 768
    assert (factors.max(0).values + 1).tolist() == [6, 16, 8]


def test_the_centre_of_mass_is_where_the_factors_say():
    factors = every_factor().double()[:128]  # of the smallest size, whose bell the picture hardly cuts
    images = draw_blobs(factors.long()).double().squeeze(1)
    line = torch.arange(16, dtype=torch.float64) + 0.5
    total = images.sum((1, 2))
    x, y = (images.sum(1) * line).sum(1) / total, (images.sum(2) * line).sum(1) / total
    assert torch.allclose(x, 3.5 + 9 * factors[:, 1] / 15, rtol=0, atol=0.02)
    assert torch.allclose(y, 6 + 4 * factors[:, 2] / 7, rtol=0, atol=0.02)


def test_the_variance_of_a_blob_is_its_radius_squared():
    sizes = torch.arange(3)
    images = draw_blobs(torch.stack([sizes, torch.full((3,), 8), torch.full((3,), 4)], dim=1)).double().squeeze(1)
    line = torch.arange(16, dtype=torch.float64) + 0.5
    down = images.sum(2) / images.sum((1, 2)).unsqueeze(1)  # (3, 16)
    variance = (down * line**2).sum(1) - (down * line).sum(1) ** 2
    assert torch.allclose(variance.sqrt(), 1 + 0.3 * sizes.double(), rtol=0.03)


def test_parts_hold_every_blob_once_with_its_factors():
    drawn = blobs()
    factors = torch.cat([drawn.train_factors, drawn.valid_factors, drawn.test_factors])
    assert len(torch.unique(factors, dim=0)) == len(factors) == 768
    for part in ("train", "valid", "test"):
        assert torch.equal(draw_blobs(getattr(drawn, f"{part}_factors")), drawn.space.validate(getattr(drawn, part)))
    assert torch.equal(drawn.train, blobs().train)
    assert not torch.equal(drawn.train, blobs(seed=1).train)


@pytest.mark.parametrize("factors", [torch.tensor([[6, 0, 0]]), torch.tensor([[0, -1, 0]]), torch.tensor([0, 0, 0])])
def test_factors_out_of_range_are_told(factors):
    with pytest.raises(ValueError, match="draw_blobs needs factors"):
        draw_blobs(factors)
