"""The two PixelRNNs against LSTMs written pixel by pixel, and what each of their conditionals can see."""

import pytest
import torch
import torch.nn.functional as F

from gencourse.autoregressive import pixelrnn_states
from gencourse.autoregressive.pixelrnn import DiagonalBiLSTM, RowLSTM, skew, unskew
from gencourse.checks import (
    assert_autoregressive,
    assert_cached_equals_naive,
    assert_every_parameter_learns,
    assert_full_context,
    assert_normalized,
    assert_sampler_matches,
    every_example,
    influence,
)
from gencourse.space import Space

MODELS = [RowLSTM, DiagonalBiLSTM]
GREY, COLOUR = Space((1, 3, 3), 2), Space((3, 2, 2), 2)


def make(cls, space, seed=0, **options):
    torch.manual_seed(seed)
    return cls(space, **{"hidden": 12, "layers": 2, "features": 24, **options})


def lively(model):
    """With larger weights: untrained conditionals hardly depend on anything."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2
    return model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# Skewing


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 5), (5, 3), (2, 3, 4, 4)])
def test_unskew_is_the_exact_inverse_of_skew(shape):
    maps = torch.randn(shape, generator=seeded())
    assert torch.equal(unskew(skew(maps)), maps)


def test_a_skewed_column_is_a_diagonal_and_all_else_is_zero():
    maps = torch.arange(1.0, 13).view(3, 4)
    expected = torch.zeros(3, 6)
    for row in range(3):
        for column in range(4):
            expected[row, row + column] = maps[row, column]
    assert torch.equal(skew(maps), expected)


# The networks, pixel by pixel from the equations. v and h are dictionaries of vectors; what is not in them is zero.


def gates_and_cell(gates, cell):
    """Eq. 3 of the paper for one pixel."""
    o, f, i, g = gates.view(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def row_lstm(layer, v, height, width):
    k_is, k_ss = layer.input_to_state.visible_weight()[:, :, 0], layer.state_to_state[0]  # (4h, 2h, 2), (3h, 4h)
    hidden, nothing = k_ss.shape[1] // 4, torch.zeros(2 * layer.up.in_channels, dtype=k_ss.dtype)
    h, cell = {}, {}
    for r in range(height):
        for c in range(width):
            gates = layer.input_to_state.bias + k_is[:, :, 1] @ v[r, c] + k_is[:, :, 0] @ v.get((r, c - 1), nothing)
            for place, column in enumerate((c - 1, c, c + 1)):
                block = k_ss[place * hidden : (place + 1) * hidden]
                gates = gates + h.get((r - 1, column), nothing[:hidden]) @ block
            h[r, c], cell[r, c] = gates_and_cell(gates, cell.get((r - 1, c), nothing[:hidden]))
    return h


def one_direction(layer, v, height, width, direction):
    """The LSTM of one direction: 0 from the left, 1 from the right."""
    step = (1, -1)[direction]
    k_is = layer.input_to_state.visible_weight()[:, :, 0, 0].chunk(2)[direction]  # (4h, 2h)
    bias, k_ss = layer.input_to_state.bias.chunk(2)[direction], layer.state_to_state[direction]  # (2h, 4h)
    hidden = k_ss.shape[1] // 4
    h, cell, nothing = {}, {}, torch.zeros(hidden, dtype=k_ss.dtype)
    for r in range(height):
        for c in range(width)[::step]:
            beside, above = h.get((r, c - step), nothing), h.get((r - 1, c), nothing)
            gates = bias + k_is @ v[r, c] + beside @ k_ss[:hidden] + above @ k_ss[hidden:]
            h[r, c], cell[r, c] = gates_and_cell(gates, cell.get((r, c - step), nothing))
    return h


def diagonal_bilstm(layer, v, height, width):
    left, right = (one_direction(layer, v, height, width, direction) for direction in (0, 1))
    return {(r, c): left[r, c] + right.get((r - 1, c), torch.zeros_like(left[r, c])) for r, c in left}


@pytest.mark.parametrize(("cls", "by_pixel"), [(RowLSTM, row_lstm), (DiagonalBiLSTM, diagonal_bilstm)])
@pytest.mark.parametrize("space", [Space((1, 4, 6), 2), Space((2, 5, 3), 4)])
@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_the_network_is_the_equations_pixel_by_pixel(cls, by_pixel, space, layers):
    model = make(cls, space, layers=layers, hidden=4, features=6).double()
    _, height, width = space.shape
    x = torch.randn(1, *space.shape[:2], width, dtype=torch.float64, generator=seeded())
    padded = F.pad(x, (0, model.margin))
    maps = model.first(padded)[0]
    columns = width + model.margin
    v = {(r, c): maps[:, r, c] for r in range(height) for c in range(columns)}
    for layer in model.layers:
        h = by_pixel(layer, v, height, columns)
        up = layer.up.visible_weight()[:, :, 0, 0]
        v = {at: v[at] + up @ h[at] + layer.up.bias for at in v}
    one, two = ((layer.visible_weight()[:, :, 0, 0], layer.bias) for layer in (model.features, model.last))
    logits = {at: two[0] @ (one[0] @ v[at].relu() + one[1]).relu() + two[1] for at in v}
    network = model.network(padded)[0]
    for (r, c), logit in logits.items():
        torch.testing.assert_close(network[:, r, c], logit, rtol=0, atol=1e-12)


# A distribution, and samples from it


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("space", [GREY, COLOUR, Space((2, 1, 2), 5)])
def test_probabilities_of_all_images_sum_to_one(cls, space):
    assert_normalized(make(cls, space))


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("space", [GREY, COLOUR])
@pytest.mark.parametrize("cached", [True, False])
def test_samples_follow_the_enumerated_probabilities(cls, space, cached):
    model = lively(make(cls, space, layers=1, hidden=6, features=6))
    with torch.no_grad():
        log_prob = model.log_prob(every_example(space))
    assert float(log_prob.max() - log_prob.min()) > 1  # the images differ in probability, or the test says little
    assert_sampler_matches(model.sample(8000, generator=seeded(), cached=cached), log_prob, space)


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(
    "space", [GREY, COLOUR, Space((1, 8, 8), 2), Space((3, 4, 5), 7), Space((1, 1, 6), 2), Space((2, 6, 1), 3)]
)
def test_cached_and_naive_sampling_draw_the_same_images(cls, space, layers):
    assert_cached_equals_naive(make(cls, space, layers=layers).double(), n=6)


def test_the_published_diagonal_network_is_sampled_by_its_cache_too():
    assert_cached_equals_naive(make(DiagonalBiLSTM, Space((1, 6, 6), 2), kernel=3, margin=0).double(), n=6)


@pytest.mark.parametrize("cls", MODELS)
def test_completion_keeps_the_known_pixels_and_draws_the_others_given_them(cls):
    space = Space((2, 3, 4), 3)
    model = lively(make(cls, space)).double()
    given = torch.randint(3, (8, *space.shape), generator=seeded(1))
    mask = torch.rand(1, *space.shape, generator=seeded(2)) < 0.5
    fast, slow = (model.sample(8, given=given, mask=mask, generator=seeded(), cached=cached) for cached in (True, False))
    assert torch.equal(fast, slow)
    assert torch.equal(fast[mask.expand_as(fast)], given[mask.expand_as(fast)])
    free = model.sample(8, generator=seeded(), cached=True)
    later = ~mask[0].flatten()
    assert not torch.equal(fast.flatten(1)[:, later], free.flatten(1)[:, later])


def test_cached_sampling_takes_one_lstm_step_a_pixel_and_direction(monkeypatch):
    steps, lstm = [], pixelrnn_states.lstm

    def counted(gates, cell):
        steps.append(cell.numel() // cell.shape[-1])
        return lstm(gates, cell)

    monkeypatch.setattr(pixelrnn_states, "lstm", counted)
    for size in (3, 6, 9):
        # From the left, each pixel and the margin but for its end; from the right, not the last row: nothing is below it.
        both = (size * (size + 1) - 1) + (size - 1) * (size + 1)
        for cls, expected in ((RowLSTM, size * size), (DiagonalBiLSTM, both)):
            steps.clear()
            make(cls, Space((1, size, size), 2), layers=3).sample(5, generator=seeded())
            assert sum(steps) == 5 * 3 * expected


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("space", [GREY, COLOUR, Space((3, 2, 3), 6)])
def test_every_parameter_learns(cls, space):
    x = torch.randint(space.levels, (16, *space.shape), generator=seeded())
    assert_every_parameter_learns(make(cls, space), x)


@pytest.mark.parametrize("cls", MODELS)
def test_dropout_is_of_training_only(cls):
    model, x = make(cls, GREY, dropout=0.5), every_example(GREY)
    with torch.no_grad():
        assert not torch.equal(model.log_prob(x), model.log_prob(x))
    assert_normalized(model)  # in evaluation mode


# Who sees whom


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("space", [GREY, COLOUR, Space((3, 3, 5), 4), Space((1, 4, 9), 2)])
def test_no_conditional_depends_on_its_own_pixel_or_a_later_one(cls, space):
    assert_autoregressive(make(cls, space))


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("space", [GREY, COLOUR, Space((1, 4, 10), 2), Space((3, 3, 6), 4)])
def test_diagonal_bilstm_sees_every_earlier_pixel_and_colour(space, layers, kernel):
    assert_full_context(make(DiagonalBiLSTM, space, layers=layers, kernel=kernel))


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("layers", [1, 3])
def test_without_the_margin_the_last_pixel_of_the_row_above_is_hidden_and_no_other(layers, kernel):
    height, width, half = 3, 10, kernel // 2
    model = make(DiagonalBiLSTM, Space((1, height, width), 2), layers=layers, kernel=kernel, margin=0)
    blind = (influence(model) == 0).tril(-1).view(height, width, height, width)
    for r in range(height):
        for c in range(width):
            hidden = [(r - 1, width - 1)] if r and c + half < width - 1 else []
            assert [tuple(at) for at in blind[r, c].nonzero().tolist()] == hidden


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_row_lstm_sees_a_triangle_and_nothing_else(layers, kernel):
    height, width, p = 4, 13, kernel // 2
    model = make(RowLSTM, Space((1, height, width), 2), layers=layers, kernel=kernel)
    seen = (influence(model) != 0).view(height, width, height, width)
    for r in range(height):
        for c in range(width):
            for row in range(height):
                d = r - row
                right = c - 1 if d == 0 else c + d - 1 + p
                expected = [d >= 0 and c - d - layers - p <= column <= right for column in range(width)]
                assert seen[r, c, row].tolist() == expected


def test_row_lstm_sees_all_colours_of_the_pixels_it_sees():
    model = make(RowLSTM, Space((3, 2, 6), 4), layers=1, kernel=3)
    seen = (influence(model) != 0).view(2, 6, 3, 2, 6, 3)
    for colour in range(3):
        assert seen[1, 2, colour, 1, 2].tolist() == [earlier < colour for earlier in range(3)]
        assert seen[1, 2, colour, 1, 1].all() and seen[1, 2, colour, 0, 3].all()
        assert not seen[1, 2, colour, 0, 4].any()


# Mistakes


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (Space((9,), 2), {}, "needs images"),
        (Space((1, 3, 3)), {}, "needs grey levels"),
        (GREY, {"kernel": 4}, "must be odd"),
        (GREY, {"hidden": 0}, "hidden must be a positive integer"),
        (GREY, {"layers": 1.5}, "layers must be a positive integer"),
    ],
)
def test_what_cannot_be_built_is_named(cls, space, options, message):
    with pytest.raises(ValueError, match=message):
        cls(space, **options)


def test_no_labels_and_no_second_margin():
    with pytest.raises(ValueError, match="margin must be 1, or 0"):
        DiagonalBiLSTM(GREY, margin=2)
    with pytest.raises(ValueError, match="unconditional"):
        make(RowLSTM, GREY).sample(2, torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("cls", MODELS)
def test_a_fresh_memory_is_kept_by_the_forget_gate_alone(cls):
    """Its bias begins near 1, the others' near 0; and it is the gate that multiplies the old memory."""
    model = make(cls, GREY)
    for layer in model.layers:
        bias = layer.input_to_state.bias.detach().view(cls.directions, 4, 12)
        bound = (12 * 2 * (1 + cls.left)) ** -0.5
        expected = torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 4, 1)  # o, f, i, g
        assert ((bias - expected).abs() <= bound + 1e-6).all()
    cell = torch.randn(5, 3)
    gates = torch.full((5, 4, 3), -40.0)
    gates[:, 1] = 40.0
    assert torch.allclose(pixelrnn_states.lstm(gates.flatten(1), cell)[1], cell)
