"""What the pictures of flows show is the map they were given."""

import numpy as np
import pytest
import torch

from gencourse.viz import flows as viz


def turn_and_stretch(x):
    return torch.stack([-2 * x[:, 1], x[:, 0] + 1], 1)


def test_points_and_lines_are_drawn_before_and_after_the_map():
    x = torch.tensor([[0.5, -1.0], [1.5, 2.0], [0.0, 0.0]])
    left, right = viz.warped_grid(turn_and_stretch, x, box=(-1.0, 2.0, -3.0, 3.0), lines=5, reach=(-7.0, 7.0, -1.0, 4.0)).axes
    (points_before, points_after) = (ax.collections[1].get_offsets() for ax in (left, right))
    assert np.asarray(points_before).tolist() == x.tolist()
    assert np.asarray(points_after).tolist() == turn_and_stretch(x).tolist()
    before, after = (np.stack(ax.collections[0].get_segments()) for ax in (left, right))  # (10, 200, 2)
    assert before.shape == (10, 200, 2)
    assert before[:5, 0, 1].tolist() == [-3, -1.5, 0, 1.5, 3] and set(before[:5, 0, 0]) == {-1} and set(before[:5, -1, 0]) == {2}
    assert (
        before[5:, 0, 0].tolist() == [-1, -0.25, 0.5, 1.25, 2] and set(before[5:, 0, 1]) == {-3} and set(before[5:, -1, 1]) == {3}
    )
    np.testing.assert_allclose(after, np.stack([-2 * before[..., 1], before[..., 0] + 1], -1), atol=1e-6)
    assert (*left.get_xlim(), *left.get_ylim()) == (-1, 2, -3, 3) and (*right.get_xlim(), *right.get_ylim()) == (-7, 7, -1, 4)
    assert left.get_xlabel() == "$x_1$" and right.get_ylabel() == "$z_2$" and left.get_aspect() == right.get_aspect() == 1


def test_only_points_of_the_plane_are_drawn():
    with pytest.raises(ValueError, match=r"warped_grid draws points of the plane, \(N, 2\)"):
        viz.warped_grid(turn_and_stretch, torch.zeros(4, 3))


def test_a_path_is_drawn_up_to_the_panel_s_time():
    times = torch.linspace(0, 1, 5)[:, None, None]
    start = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]])
    places = start + times * torch.tensor([1.0, -2.0])  # (5, 3, 2)
    panels = viz.flow_path(places, (0.0, 0.5, 1.0), box=(-2.0, 4.0, -3.0, 3.0), followed=2).axes
    for ax, now in zip(panels, (0, 2, 4), strict=True):
        assert np.asarray(ax.collections[0].get_offsets()).tolist() == places[now].tolist()
        assert [line.get_xydata().tolist() for line in ax.lines] == [places[: now + 1, i].tolist() for i in (0, 1)]
        assert [np.asarray(dot.get_offsets())[0].tolist() for dot in ax.collections[1:]] == places[now, :2].tolist()
        assert (*ax.get_xlim(), *ax.get_ylim()) == (-2, 4, -3, 3) and ax.get_aspect() == 1
    assert [ax.get_title() for ax in panels] == ["$t = 0$", "$t = 0.5$", "$t = 1$"]


def test_a_path_is_one_of_points_of_the_plane_at_times_from_0_to_1():
    with pytest.raises(ValueError, match=r"flow_path draws points of the plane, \(T, N, 2\)"):
        viz.flow_path(torch.zeros(5, 4, 3), (0.0,))
    with pytest.raises(ValueError, match="times are from 0 to 1"):
        viz.flow_path(torch.zeros(5, 4, 2), (0.0, 1.5))
