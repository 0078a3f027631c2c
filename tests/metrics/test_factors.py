"""The reader says what is drawn, and how well it says it."""

import pytest
import torch

from gencourse.data import load
from gencourse.data.faces import BINARY, FACTORS, Factors, draw_faces, faces, sample_factors
from gencourse.metrics.factors import factor_reader


@pytest.fixture(scope="module")
def world():
    return faces(32, n=2000, seed=2)


@pytest.fixture(scope="module")
def reader(world):
    return factor_reader(world, steps=200, width=12)


def test_scores_are_those_of_fresh_faces(world, reader):
    """On 1000 faces that nobody has seen, within four standard errors of a share or a fifth of an error (200 test faces)."""
    factors = sample_factors(1000, torch.Generator().manual_seed(9))
    read = reader.read(draw_faces(factors))
    for name, truth in factors.items():
        if name in BINARY:
            share = float(((read[name] > 0.5).float() == truth).double().mean())
            assert abs(share - reader.scores[name]) < 4 * (0.05 * 0.95 / 200) ** 0.5
            assert share > 0.95
        else:
            error = float((read[name] - truth).double().square().mean().sqrt())
            assert error == pytest.approx(reader.scores[name], rel=0.2)
            spread = float(truth.double().std())
            assert error < 0.75 * spread  # a guess of the mean is off by the spread


def test_it_reads_a_smile_as_it_grows(reader):
    for hair in (0.0, 1.0):
        read = reader.read(draw_faces(Factors(smile=torch.linspace(0, 1, 5), hair=hair)))["smile"]
        assert read[-1] - read[0] > 2 * reader.scores["smile"]
        assert (read.diff() > -reader.scores["smile"]).all()


def test_a_face_that_is_moved_by_a_pixel_is_read_nearly_as_well(world, reader):
    """As samples of a model are not drawn where drawings are; a reader of clean faces alone is three times as far off."""
    read, truth = reader.read(torch.roll(world.test, (1, 1), (2, 3))), dict(world.test_factors.items())
    for name in set(FACTORS) - set(BINARY):
        error = float((read[name] - truth[name]).double().square().mean().sqrt())
        assert error < 2 * reader.scores[name], name


def test_a_second_call_returns_the_same_reader_and_leaves_the_random_state(world, reader):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    again = factor_reader(world, steps=200, width=12)
    fresh = factor_reader(world, steps=2, width=4)
    assert torch.rand(1) == expected
    assert again is reader and fresh is not reader
    assert list(reader.read(world.test)) == list(FACTORS) == list(reader.scores)
    assert "glasses" in repr(reader)


def test_mistakes_are_named(reader):
    with pytest.raises(TypeError, match="needs the faces"):
        factor_reader(load("digits"))
    with pytest.raises(ValueError, match="expects a batch of shape"):
        reader.read(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
