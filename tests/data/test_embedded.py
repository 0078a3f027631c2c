import pytest
import torch

from gencourse import data
from gencourse.space import Space


@pytest.mark.parametrize("name", ["digits", "binary_digits"])
def test_digits_are_split_1257_180_360_with_equal_class_shares(name):
    digits = data.load(name)
    assert (len(digits.train), len(digits.valid), len(digits.test)) == (1257, 180, 360)
    labels = {part: getattr(digits, f"{part}_labels") for part in ("train", "valid", "test")}
    overall = torch.cat(list(labels.values())).bincount() / 1797
    for y in labels.values():
        # Stratified: each class has its share, up to the rounding of the two cuts.
        assert (y.bincount() - overall * len(y)).abs().max() <= 1.5


def test_the_splits_of_digits_share_nothing_and_lose_nothing():
    from sklearn.datasets import load_digits

    digits = data.load("digits")
    images = torch.cat([digits.train, digits.valid, digits.test]).flatten(1).tolist()
    labels = torch.cat([digits.train_labels, digits.valid_labels, digits.test_labels]).tolist()
    bunch = load_digits()
    truth = sorted(zip(bunch.data.astype(int).tolist(), bunch.target.tolist(), strict=True))
    assert sorted(zip(images, labels, strict=True)) == truth
    digits.space.validate(digits.train)
    assert int(digits.train.max()) == digits.space.levels - 1 == 16


def test_binary_digits_are_digits_from_level_8():
    grey, binary = data.load("digits"), data.load("binary_digits")
    for part in ("train", "valid", "test"):
        assert torch.equal(getattr(binary, part).bool(), getattr(grey, part) > 7)
    assert binary.space == Space((1, 8, 8), levels=2)


def test_bars_and_stripes_are_the_14_images_of_equal_rows_or_equal_columns():
    images = data.load("bars_and_stripes").train
    everything = torch.tensor([[i >> k & 1 for k in range(9)] for i in range(512)], dtype=torch.uint8).view(512, 1, 3, 3)
    bars = (everything == everything[:, :, :1]).flatten(1).all(dim=1)
    stripes = (everything == everything[..., :1]).flatten(1).all(dim=1)
    truth = everything[bars | stripes]
    assert len(images) == len(truth) == 14
    assert sorted(images.flatten(1).tolist()) == sorted(truth.flatten(1).tolist())


def test_binarisation_has_the_grey_level_as_its_mean_and_is_reproducible():
    n = 40_000
    x = torch.arange(256, dtype=torch.uint8).expand(n, 256)
    drawn = data.binarize(x, generator=torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.uint8
    p = torch.arange(256).double() / 255
    standard_error = (p * (1 - p) / n).sqrt()
    assert ((drawn.double().mean(dim=0) - p).abs() <= 4 * standard_error).all()  # black and white are never drawn otherwise
    assert torch.equal(drawn, data.binarize(x, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(drawn, data.binarize(x, generator=torch.Generator().manual_seed(1)))


def test_dynamic_binarisation_draws_training_pixels_anew_and_the_others_once():
    grey = data.Dataset("grey", Space((1, 4, 4), levels=256), *torch.full((3, 50, 1, 4, 4), 128, dtype=torch.uint8).unbind())
    dynamic = data.dynamically_binarized(grey, seed=3)
    again = data.dynamically_binarized(grey, seed=3)
    assert dynamic.space == Space((1, 4, 4), levels=2)
    assert torch.equal(dynamic.test, again.test)
    assert torch.equal(dynamic.valid, again.valid)
    assert torch.equal(dynamic.train, grey.train)
    torch.manual_seed(0)
    assert not torch.equal(dynamic.augment(dynamic.train), dynamic.augment(dynamic.train))
    dynamic.space.validate(dynamic.augment(dynamic.train))


def test_binarisation_says_what_it_needs():
    with pytest.raises(TypeError, match=r"grey levels 0\.\.255 as integers, but the tensor is torch.float32"):
        data.binarize(torch.rand(3, 1, 2, 2))
    with pytest.raises(ValueError, match="needs 8-bit images, but 'digits'"):
        data.dynamically_binarized(data.load("digits"))
