"""What the pictures of the game show is what they were given."""

import numpy as np
import pytest
import torch

from gencourse.space import Space
from gencourse.train import History
from gencourse.viz import adversarial as viz
from gencourse.viz.theme import Picture

PATHS = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[0.5, 0.0], [1.0, 2.0]], [[1.0, -1.0], [0.5, 2.0]]])  # (T, N, 2)


def shown(figure):
    (image,) = figure.axes[0].images
    return np.asarray(image.get_array())


def test_trajectories_are_drawn_point_by_point_and_end_in_a_dot():
    real = torch.tensor([[2.0, 2.0], [-1.0, 0.0]])
    figure = viz.trajectories(PATHS, real=real, box=(-1.0, 3.0, -2.0, 4.0))
    ax = figure.axes[0]
    by_label = {c.get_label(): c for c in ax.collections}
    drawn = [segment.tolist() for segment in by_label["_ways"].get_segments()]
    assert drawn == [[PATHS[t, i].tolist(), PATHS[t + 1, i].tolist()] for t in range(2) for i in range(2)]
    fade = by_label["_ways"].get_alpha()
    assert fade[0] == fade[1] < fade[2] == fade[3]  # the later, the stronger
    assert by_label["data"].get_offsets().tolist() == real.tolist()
    assert by_label["generated"].get_offsets().tolist() == PATHS[-1].tolist()
    assert (*ax.get_xlim(), *ax.get_ylim()) == (-1, 3, -2, 4) and ax.get_aspect() == 1
    assert not ax.images  # no discriminator, no field


def test_the_field_is_the_probability_in_place():
    figure = viz.trajectories(PATHS, lambda x: 3 * x[:, 0] - x[:, 1], box=2.0, n=40)
    field, (image,) = shown(figure), figure.axes[0].images
    assert image.origin == "lower" and tuple(image.get_extent()) == (-2, 2, -2, 2) and image.get_clim() == (0, 1)
    centres = -2 + (np.arange(40) + 0.5) * 0.1
    np.testing.assert_allclose(field, 1 / (1 + np.exp(-(3 * centres[None, :] - centres[:, None]))), atol=1e-6)
    assert figure.axes[1].get_ylabel() == "$D(x)$, probability of real"
    (contour,) = [c for c in figure.axes[0].collections if c.get_label() not in ("_ways", "generated")]
    (way,) = contour.get_paths()
    np.testing.assert_allclose(way.vertices[:, 1], 3 * way.vertices[:, 0], atol=1e-2)  # D = 1/2 where the logit is 0


def test_a_critics_values_are_not_squashed():
    figure = viz.trajectories(PATHS, lambda x: 5 * x[:, 0], box=2.0, n=10, probability=False)
    (image,) = figure.axes[0].images
    assert np.asarray(image.get_array()).max() == pytest.approx(9.0) and image.get_clim() == pytest.approx((-9, 9))
    assert figure.axes[1].get_ylabel() == "critic's value"


def test_curves_of_the_game_are_the_losses_and_the_scores():
    history = History(losses={"d": [3.0, 2.0, 1.0, 0.5], "g": [1.0, 1.5, 2.0, 2.5]})
    left, right = viz.game_curves(history, {"D(x)": [0.5, 0.9], "D(G(z))": [0.5, 0.1]}).axes
    assert {line.get_label(): line.get_xydata().tolist() for line in left.lines} == {
        "discriminator": [[1, 3], [2, 2], [3, 1], [4, 0.5]],
        "generator": [[1, 1], [2, 1.5], [3, 2], [4, 2.5]],
    }
    scores = {line.get_label(): line.get_xydata().tolist() for line in right.lines[:2]}
    assert scores == {"D(x)": [[2, 0.5], [4, 0.9]], "D(G(z))": [[2, 0.5], [4, 0.1]]}
    assert set(right.lines[2].get_ydata()) == {0.5}
    assert right.get_ylabel() == "probability of real" and right.get_ylim()[0] <= 0 < 1 <= right.get_ylim()[1]
    assert len({line.get_linestyle() for line in right.lines}) == 3  # told apart without colour
    assert len(viz.game_curves(history).axes) == 1
    other = viz.game_curves(History(losses={"-elbo": [2.0, 1.0]})).axes[0]
    assert [line.get_label() for line in other.lines] == ["-elbo"], "losses that are no player's keep their names"


def test_gradient_norms_are_counted_on_a_logarithmic_axis_and_zeros_apart():
    figure = viz.gradient_histograms(
        {"minimax": torch.tensor([0.0, 0.0, 1e-6, 1e-6, 1e-3]), "other": torch.tensor([[0.5], [1.0]])}
    )
    ax = figure.axes[0]
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["minimax (2 are 0)", "other"]
    counted = [_counts(patch) for patch in ax.patches]
    assert [sum(counts.values()) for counts in counted] == [3, 2]
    assert {round(np.log10(x)): n for x, n in counted[0].items() if n} == {-6: 2, -3: 1}


def _counts(patch):
    """Left edges and heights of the steps of an outlined histogram."""
    xy = patch.get_xy()
    top = xy[1 : len(xy) // 2 + 1]  # along the top and back along the bottom
    return {float(x): round(float(y)) for x, y in top[::2]}


def test_weights_have_a_panel_each_on_one_scale_and_shares_that_sum_to_one():
    clipped = torch.tensor([-0.01] * 6 + [0.01] * 3 + [0.0])
    figure = viz.weight_histograms({"clipped": clipped, "penalty": torch.linspace(-0.1, 0.1, 50).view(5, 10)}, clip=0.01)
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("clipped", "penalty")
    assert left.patches[0].get_x() == right.patches[0].get_x() == pytest.approx(-0.105)
    for ax in figure.axes:
        assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)
        assert [line.get_xdata()[0] for line in ax.lines] == [-0.01, 0.01]
    heights = {round(bar.get_x() + bar.get_width() / 2, 3): bar.get_height() for bar in left.patches if bar.get_height()}
    assert sorted(heights.values()) == pytest.approx([0.1, 0.3, 0.6])
    assert min(heights) < 0 < max(heights) and heights[min(heights)] == pytest.approx(0.6)


def test_each_sample_stands_above_its_own_neighbours():
    space = Space((1, 2, 3), levels=5)
    samples = torch.arange(12).reshape(2, 1, 2, 3) % 5
    neighbours = torch.stack([samples, (samples + 1) % 5, (samples + 2) % 5], 1)  # (2, 3, 1, 2, 3)
    figure = viz.beside_neighbours(samples, neighbours, space)
    array = shown(figure)[1:-1, 1:-1]  # without its frame
    assert array.shape == (4 * 2 + 3, 2 * 3 + 1)
    for i in range(2):
        for row, image in enumerate([samples[i], *neighbours[i]]):
            np.testing.assert_allclose(array[3 * row : 3 * row + 2, 4 * i : 4 * i + 3], image[0] / 4)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["sample", "nearest in training", "2nd nearest", "3rd nearest"]
    assert figure.axes[0].get_yticks().tolist() == [1.5, 4.5, 7.5, 10.5]


def test_neighbours_may_be_one_or_many():
    space, x = Space((3, 2, 2), 256), torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    for k, last in ((1, "nearest in training"), (5, "5th nearest")):
        figure = viz.beside_neighbours(x, x[:, None].expand(2, k, 3, 2, 2), space)
        assert figure.axes[0].get_yticklabels()[-1].get_text() == last


def test_a_game_on_the_line_shows_both_densities_and_where_each_z_goes():
    normal = torch.distributions.Normal(1.0, 1.0)
    figure = viz.game_1d(normal.log_prob, lambda z: 2 * z, lambda x: 4 * x, arrows=5, n=101)
    upper, lower, other = figure.axes
    x, y = upper.lines[0].get_data()
    assert x[np.argmax(y)] == pytest.approx(1, abs=0.041) and y.max() == pytest.approx(0.3989, abs=1e-3)
    np.testing.assert_allclose(other.lines[0].get_ydata(), 1 / (1 + np.exp(-4 * x)), atol=1e-6)
    ends = [line.get_xdata() for line in lower.lines]
    assert len(ends) == 5
    np.testing.assert_allclose([b for _, b in ends], [2 * a for a, _ in ends])
    assert ends[2][0] == pytest.approx(0, abs=1e-6)
    # N(0, 4) has 68 % of its mass in [-2, 2], of the 95 % in the box
    xy = upper.patches[0].get_xy()[1:-1]
    left, height = xy[::2, 0][:80], xy[::2, 1][:80]
    assert height.sum() * 0.1 == pytest.approx(1)
    inside = (left > -2.01) & (left < 1.99)
    assert height[inside].sum() * 0.1 == pytest.approx(0.6827 / 0.9545, abs=0.005)


def test_pictures_fit_a_page_and_are_the_same_bytes_each_time():
    space = Space((1, 28, 28), 256)
    x = torch.zeros(12, 1, 28, 28, dtype=torch.uint8)
    figures = [
        viz.trajectories(PATHS, lambda x: x[:, 0]),
        viz.game_curves(History(losses={"d": [1.0], "g": [1.0]}), {"D(x)": [0.5]}),
        viz.gradient_histograms({"a": torch.ones(3)}),
        viz.weight_histograms({"a": torch.zeros(3), "b": torch.ones(3)}),
        viz.beside_neighbours(x, x[:, None], space),
        viz.game_1d(torch.distributions.Normal(0, 1).log_prob, lambda z: z),
    ]
    for figure in figures:
        assert isinstance(figure, Picture) and figure.get_figwidth() <= 7
        assert figure._repr_png_() == figure._repr_png_()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.trajectories(torch.zeros(3, 2)), r"\(T, N, 2\), but the tensor has shape \(3, 2\)"),
        (lambda: viz.game_curves(History(losses={"d": [1.0]}), {"D(x)": [1.5]}), "D.x. must be probabilities"),
        (lambda: viz.gradient_histograms({"a": torch.zeros(3)}), "not all 0"),
        (lambda: viz.gradient_histograms({"a": torch.tensor([1.0, torch.nan])}), "finite"),
        (lambda: viz.weight_histograms({}), "at least one"),
        (lambda: viz.beside_neighbours(torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2), Space((1, 2, 2), 2)), "need neighbours"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
