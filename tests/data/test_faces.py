"""Drawn faces: a function of their factors, each of which can be seen, and nothing else."""

import pytest
import torch

from gencourse.data.faces import BINARY, FACTORS, FaceDataset, Factors, draw_faces, faces, sample_factors


def nearly_equal(a, b):
    """The same pictures: a grey level may be rounded the other way where a vector unit takes the pixels in other groups."""
    off = (a.int() - b.int()).abs()
    return int(off.max()) <= 1 and float((off > 0).float().mean()) < 1e-3


def grey(**factors):
    return draw_faces(Factors(**factors), 64).double()


@pytest.mark.parametrize(("size", "colour"), [(32, False), (32, True), (64, False), (64, True)])
def test_shapes_levels_and_the_same_bytes_each_time(size, colour):
    factors = sample_factors(7, torch.Generator().manual_seed(0))
    x = draw_faces(factors, size, colour=colour)
    assert x.dtype == torch.uint8
    assert x.shape == (7, 3 if colour else 1, size, size)
    assert torch.equal(x, draw_faces(factors, size, colour=colour))
    assert nearly_equal(x[3:4], draw_faces(factors[3:4], size, colour=colour))  # no face depends on its neighbours


def test_a_large_batch_is_drawn_in_pieces_that_fit_together():
    factors = sample_factors(900, torch.Generator().manual_seed(1))
    assert nearly_equal(draw_faces(factors, 32)[[0, 450, 899]], draw_faces(factors[torch.tensor([0, 450, 899])], 32))


def test_grey_is_the_luma_of_the_colours():
    factors = sample_factors(5, torch.Generator().manual_seed(2))
    rgb = draw_faces(factors, 32, colour=True).double()
    luma = (rgb * torch.tensor([0.299, 0.587, 0.114]).double().view(1, 3, 1, 1)).sum(1, keepdim=True)
    # Roundings: half a level of the grey, and of each colour; light skin may be clipped, by 3 % of its level at most.
    assert (luma - draw_faces(factors, 32).double()).abs().max() <= 1 + 0.03 * 255


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("hair", [0.0, 1.0])
def test_every_factor_can_be_seen(name, hair):
    """From one end of its range to the other a factor changes at least two pixels in a hundred, by ten levels or more."""
    low = -1.0 if name == "pose" else 0.0
    ends = {"hair": hair, name: torch.tensor([low, 1.0])}
    first, last = draw_faces(Factors(**ends), 32).double()
    assert ((first - last).abs() >= 10).double().mean() >= 0.02


def test_a_smile_and_glasses_change_their_own_part_of_the_face():
    y = (torch.arange(64) + 0.5) / 32 - 1
    mouth = grey(smile=torch.tensor([0.0, 1.0])).diff(dim=0).abs().amax(dim=(0, 1, 3))
    assert (mouth[(y < -0.2) | (y > 0.85)] == 0).all() and mouth[(y > 0.3) & (y < 0.7)].max() > 100
    worn = grey(glasses=torch.tensor([0.0, 1.0])).diff(dim=0).abs().amax(dim=(0, 1, 3))
    assert (worn[(y < -0.35) | (y > 0.25)] == 0).all() and worn[(y > -0.2) & (y < 0.1)].max() > 100


def test_teeth_grow_with_the_smile():
    rgb = draw_faces(Factors(smile=torch.linspace(0, 1, 6), skin=1.0, hair=1.0), 64, colour=True).double()
    mouth = rgb[:, :, 38:58]
    white = (mouth.amin(dim=1) > 220).sum(dim=(1, 2))
    assert white[0] == 0 and (white.diff() >= 0).all() and white[-1] > 25


def test_a_turned_head_moves_the_eyes_with_it():
    images = grey(pose=torch.linspace(-1, 1, 5), background=1.0, skin=0.0, hair_tone=0.0)
    dark = (images[:, 0, 28:32] < 60).double()  # the irises
    column = (dark * torch.arange(64)).sum(dim=(1, 2)) / dark.sum(dim=(1, 2))
    assert (column.diff() > 3).all()
    assert column[2].item() == pytest.approx(31.5, abs=0.5)


def test_the_back_of_a_turned_head_goes_the_other_way():
    images = grey(pose=torch.tensor([-1.0, 0.0, 1.0]), background=1.0, hair_tone=1.0, hair=1.0)
    dark = images[:, 0, 30:36] < 60  # long hair is the widest part of the head
    middle = [float(torch.tensor([row.nonzero()[0, 0], row.nonzero()[-1, 0]]).double().mean()) for row in dark.any(1)]
    # 0.10 of half the picture's 64 pixels
    assert middle == pytest.approx([31.5 + 3.2, 31.5, 31.5 - 3.2], abs=1.0)


def test_edges_are_smooth():
    """Moving an edge by a hundredth of a pixel moves no pixel by more than 255 levels times that, twice over."""
    widths = torch.tensor([0.5, 0.5 + 0.01 * (2 / 32) / 0.13])
    first, last = draw_faces(Factors(width=widths), 32).double()
    assert (first - last).abs().max() <= 2 * 2.55 + 1


def test_factors_are_independent_and_uniform():
    table = sample_factors(20_000, torch.Generator().manual_seed(3)).table().double()
    corr = torch.corrcoef(table.T) - torch.eye(len(FACTORS))
    assert corr.abs().max() < 5 / 20_000**0.5  # five standard errors
    assert table[:, FACTORS.index("pose")].min() < -0.99
    assert all(set(table[:, FACTORS.index(name)].tolist()) == {0.0, 1.0} for name in BINARY)


def test_the_data_set_has_the_factors_of_its_images():
    dataset = faces(n=50, seed=4)
    assert isinstance(dataset, FaceDataset)
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (40, 5, 5)
    for part in ("train", "valid", "test"):
        factors = getattr(dataset, f"{part}_factors")
        assert torch.equal(getattr(dataset, part), draw_faces(factors, 32))
        assert torch.equal(getattr(dataset, f"{part}_labels"), (factors.hair + 2 * factors.glasses).long())
    dataset.space.validate(dataset.train)
    large = faces(64, colour=True, n=50, seed=4)
    assert torch.equal(large.test_factors.table(), dataset.test_factors.table())
    assert large.space.shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Factors(smile=1.5), "smile must be in"),
        (lambda: Factors(pose=-1.01), r"pose must be in \[-1, 1\]"),
        (lambda: Factors(glasses=0.5), "glasses must be 0 or 1"),
        (lambda: Factors(smile=torch.zeros(3), pose=torch.zeros(2)), "pose has 2 entries, but there are 3 faces"),
        (lambda: Factors(smile=float("nan")), "smile must be in"),
        (lambda: draw_faces(Factors(), 8), "draw_faces: size must be an integer of 16 or more, not 8"),
        (lambda: sample_factors(0), "positive integer"),
        (lambda: faces(n=5), "faces: n must be an integer of 10 or more, not 5"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
