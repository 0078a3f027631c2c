"""What the plots draw is the data they were given."""

import math

import matplotlib as mpl
import matplotlib.colors
import numpy as np
import pytest
import torch

from gencourse import viz
from gencourse.train import History


def test_training_curves_draw_every_move_and_the_validation():
    history = History(losses={"d": [3.0, 2.0, 1.0], "g": [1.0, 1.5, 2.0]}, valid=[(1, 2.5), (3, 0.5)])
    (ax,) = viz.training_curves(history).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert drawn == {
        "d, training": [[1, 3], [2, 2], [3, 1]],
        "g, training": [[1, 1], [2, 1.5], [3, 2]],
        "validation": [[1, 2.5], [3, 0.5]],
    }
    assert ax.get_xlabel() == "step" and ax.get_ylabel() == "nats per image"


def test_long_runs_are_drawn_as_means_that_keep_the_overall_mean():
    losses = torch.rand(10_000, generator=torch.Generator().manual_seed(0)).tolist()
    (ax,) = viz.training_curves(History(losses={"nll": losses})).axes
    x, y = ax.lines[0].get_data()
    assert len(x) == 100 and x[-1] == 10_000
    assert np.mean(y) == pytest.approx(np.mean(losses))


def test_terms_get_a_panel_of_their_own():
    history = History(losses={"-elbo": [1.0] * 10})
    _, ax = viz.training_curves(history, {"reconstruction": [5.0, 4.0], "KL": [0.0, 1.0]}).axes
    assert {line.get_label(): line.get_ydata().tolist() for line in ax.lines} == {"reconstruction": [5, 4], "KL": [0, 1]}
    assert ax.lines[0].get_xdata().tolist() == [5, 10]  # evenly spaced over the run
    assert len({line.get_linestyle() for line in ax.lines}) == 2  # told apart without colour


def test_density_is_in_place_and_its_mass_is_one():
    def log_prob(x):  # a Gaussian at (1, -1) with standard deviation 1/2
        return -2 * ((x - torch.tensor([1.0, -1.0])) ** 2).sum(-1) + math.log(2 / math.pi)

    figure = viz.density_2d(log_prob, (-3.0, 5.0, -5.0, 3.0), n=80)
    (image,) = figure.axes[0].images
    density, (x0, x1, y0, y1) = np.asarray(image.get_array()), image.get_extent()
    assert density.mean() * (x1 - x0) * (y1 - y0) == pytest.approx(1, abs=1e-6)
    row, column = np.unravel_index(density.argmax(), density.shape)
    assert x0 + (column + 0.5) * 0.1 == pytest.approx(1, abs=0.051)
    assert y0 + (row + 0.5) * 0.1 == pytest.approx(-1, abs=0.051)
    assert image.origin == "lower"


def test_scatter_gives_each_class_its_own_points_colour_and_number():
    z = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    (ax,) = viz.scatter_latent(z, torch.tensor([3, 7, 3])).axes
    assert [c.get_offsets().tolist() for c in ax.collections] == [[[0, 0], [2, 0]], [[1, 1]]]
    assert [(t.get_text(), t.xy) for t in ax.texts] == [("3", pytest.approx((1, 0))), ("7", pytest.approx((1, 1)))]
    assert not np.array_equal(ax.collections[0].get_facecolor(), ax.collections[1].get_facecolor())


def test_points_are_drawn_where_they_are():
    x = torch.tensor([[0.5, -0.5], [1.0, 2.0]])
    (ax,) = viz.points(x, box=2.0).axes
    assert ax.collections[0].get_offsets().tolist() == x.tolist()
    assert ax.get_xlim() == (-2, 2) and ax.get_aspect() == 1


def test_style_changes_defaults_only_when_called():
    with mpl.rc_context():
        mpl.rcdefaults()
        viz.points(torch.zeros(1, 2))
        assert mpl.rcParams["axes.spines.top"]
        viz.style()
        assert not mpl.rcParams["axes.spines.top"]
        assert mpl.rcParams["figure.dpi"] == 100
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == list(viz.COLOURS)


def test_colours_of_neighbours_differ_for_red_green_blind_readers():
    # Machado, Oliveira and Fernandes (2009), deuteranopia, on linear RGB
    blind = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])
    rgb = np.array([matplotlib.colors.to_rgb(c) for c in viz.COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ blind.T).clip(0, 1)
    coded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    distance = np.linalg.norm(coded[:, None] - coded[None], axis=-1)
    assert len(set(viz.COLOURS)) == 10
    assert np.diagonal(distance, 1).min() > 0.2  # of 1.73 between black and white


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.points(torch.zeros(4, 3)), r"points draws points of the plane, \(N, 2\), but the tensor has shape \(4, 3\)"),
        (lambda: viz.scatter_latent(torch.zeros(4, 2), torch.zeros(3)), "4 codes need labels"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
