"""Exercise 04: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import itertools

import numpy as np
import pytest
import torch
from experiment_tests import (
    assert_mistakes_are_told,
    assert_told,
    assert_trained_to_full_points,
)
from question_tests import (
    assert_full_points,
    assert_keeps,
    ids,
    result,
)
from sklearn.linear_model import LogisticRegression
from torch import distributions as D
from torch.nn import functional as F

from gencourse.autoregressive.layers import MaskedConv2d
from gencourse.grading.questions.q04_pixelcnn import EXPERIMENT, FIELD, LEVELS, LOOP, MASK

# Right answers by other routes than the reference's.


def mask_by_slices(weight, colour_out, colour_in, own):
    mask, half = torch.zeros_like(weight), weight.shape[-1] // 2
    mask[:, :, :half] = 1
    mask[:, :, half, :half] = 1
    to, of = colour_out[:, None], colour_in[None]
    mask[:, :, half, half] = ((of <= to) if own else (of < to)).float()
    return weight * mask


def mask_by_loops(weight, colour_out, colour_in, own):
    result, half = weight.clone(), weight.shape[-1] // 2
    for o, i, row, column in itertools.product(*map(range, weight.shape)):
        after = row > half or (row == half and column > half)
        hidden = colour_in[i] > colour_out[o] or (colour_in[i] == colour_out[o] and not own)
        if after or (row == half and column == half and hidden):
            result[o, i, row, column] = 0
    return result


def mask_flat(weight, colour_out, colour_in, own):
    """Places numbered in the order of the pixels, and colours within a place."""
    k = weight.shape[-1]
    place = 10 * torch.arange(k * k).view(k, k) + colour_in[:, None, None]
    return weight * (place[None] < 10 * (k * k // 2) + colour_out[:, None, None, None] + 0.5 * own)


def levels_library(x, logits):
    return D.Independent(D.Categorical(logits=logits.movedim(2, -1)), 3).log_prob(x)


def levels_cross_entropy(x, logits):
    return -F.cross_entropy(logits.transpose(1, 2), x.long(), reduction="none").sum((1, 2, 3))


def levels_one_hot(x, logits):
    chosen = F.one_hot(x.long(), logits.shape[2]).movedim(-1, 2) * (logits - logits.logsumexp(2, keepdim=True))
    return chosen.sum(dim=(1, 2, 3, 4))


def levels_numpy(x, logits):
    x, logits = x.numpy().astype(int), logits.double().numpy()
    log_p = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    return np.take_along_axis(log_p, x[:, :, None], axis=2).sum((1, 2, 3, 4))


def sample_columns(W, b, u, given, known):
    columns = []
    for i in range(len(b)):
        logit = b[i] + sum(W[i, j] * columns[j] for j in range(i))
        columns.append(given[:, i] if known[i] else (u[:, i] < torch.sigmoid(logit + 0 * u[:, i])).float())
    return torch.stack(columns, 1)


def sample_whole_passes(W, b, u, given, known):
    """As on the slide: a pass through the whole model for each pixel, of which one number is used."""
    x = given * known
    for i in (known == 0).nonzero().flatten():
        probabilities = torch.sigmoid(x @ W.T + b)
        x[:, i] = (u[:, i] < probabilities[:, i]).to(x)
    return x


def sample_image_by_image(W, b, u, given, known):
    images = []
    for numbers, image in zip(u, given, strict=True):
        x = []
        for i, number in enumerate(numbers):
            logit = b[i] + torch.dot(W[i, :i], torch.stack(x)) if x else b[i]
            x.append(image[i] if known[i] else torch.tensor(float(torch.logit(number) < logit)))
        images.append(torch.stack(x))
    return images


def field_by_gradient(first, others, pixel):
    """Weights of one in a real stack of convolutions; what the pixel depends on has a gradient."""
    x = torch.zeros(1, 1, *pixel.shape, requires_grad=True)
    h = x
    for mask in (first, *others):
        h = F.conv2d(h, mask[None, None], padding="same")
    (gradient,) = torch.autograd.grad((h[0, 0] * pixel).sum(), x)
    return (gradient[0, 0] > 0).float()


def field_by_sets(first, others, pixel):
    seen = {tuple(p) for p in pixel.nonzero().tolist()}
    for mask in [*others.flip(0), first]:
        half = len(mask) // 2
        steps = [(r - half, c - half) for r, c in mask.nonzero().tolist()]
        seen = {(r + dr, c + dc) for r, c in seen for dr, dc in steps}
        seen = {(r, c) for r, c in seen if 0 <= r < pixel.shape[0] and 0 <= c < pixel.shape[1]}
    field = torch.zeros_like(pixel)
    for r, c in seen:
        field[r, c] = 1
    return field


@pytest.mark.parametrize(
    ("question", "function", "seeds"),
    [
        *[(MASK, function, 20) for function in (mask_by_slices, mask_flat)],
        (MASK, mask_by_loops, 2),
        *[(LEVELS, function, 20) for function in (levels_library, levels_cross_entropy, levels_one_hot, levels_numpy)],
        *[(LOOP, function, 20) for function in (sample_columns, sample_whole_passes)],
        (LOOP, sample_image_by_image, 3),
        *[(FIELD, function, 20) for function in (field_by_gradient, field_by_sets)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function, seeds):
    assert_full_points(question, function, seeds)


@pytest.mark.parametrize(
    ("question", "name", "points"),
    [
        (MASK, "mask B in the first layer", 2),
        (MASK, "colours blocked", 2),
        (LEVELS, "logarithm of the softmax", 2),
        (LOOP, "known pixels pasted at the end", 3),
    ],
    **ids,
)
def test_a_mistake_costs_only_the_parts_that_it_touches(question, name, points):
    assert_keeps(question, name, points)


@pytest.mark.parametrize(("own", "mask"), [(0.0, "A"), (1.0, "B")])
@pytest.mark.parametrize("colours", [1, 3])
def test_masks_are_the_librarys(own, mask, colours):
    layer = MaskedConv2d(2 * colours, 3 * colours, 5, mask, colours)  # its kernels end with the row of the pixel
    colour_in, colour_out = (torch.arange(n * colours) // n for n in (2, 3))
    weight = F.pad(layer.weight, (0, 0, 0, 2))
    mine = MASK.reference(weight, colour_out, colour_in, torch.tensor(own))
    assert torch.equal(mine[:, :, :3], layer.visible_weight())
    assert not mine[:, :, 3:].any()


def test_the_loop_draws_from_the_model():
    """Frequencies of all 16 images of four pixels against their probabilities, within four standard errors."""
    generator = torch.Generator().manual_seed(0)
    W, b = torch.randn(4, 4, generator=generator).tril(-1), torch.randn(4, generator=generator)
    n = 100_000
    u = torch.rand(n, 4, generator=generator)
    x = LOOP.reference(W, b, u, torch.zeros(n, 4), torch.zeros(4))
    counts = torch.bincount((x @ torch.tensor([8.0, 4, 2, 1])).long(), minlength=16)
    images = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))
    p = D.Bernoulli(logits=images @ W.T + b).log_prob(images).sum(1).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    assert ((counts / n - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all()


def test_no_uniform_number_is_near_its_probability():
    for seed in range(50):
        for inputs in LOOP.draw(seed).values():
            W, b, u, given, known = (torch.tensor(array, dtype=torch.float64) for array in inputs.values())
            p = torch.sigmoid(LOOP.reference(W, b, u, given, known) @ W.T + b)
            assert ((u - p).abs()[:, known == 0] > 9e-4).all()
            assert ((u > 0) & (u < 1)).all()


def test_the_field_of_a_masked_stack_has_a_blind_spot():
    for k in (3, 5):
        place = torch.arange(k * k).reshape(k, k)
        first, others = (place < k * k // 2).float(), (place <= k * k // 2).float().expand(9, k, k)
        pixel = torch.zeros(8, 12)
        pixel[6, 4] = 1
        field = FIELD.reference(first, others, pixel)
        assert not field[6, 4:].any() and not field[7:].any()
        assert field[6, 3] == 1 and field[5, 5] == 1
        assert field[5, 4 + k // 2 + 1] == 0  # earlier, and never seen by any number of layers


def maximum_of(axes):
    """The largest logit taken out for more than the levels of one pixel: right as long as pixels are alike."""

    def log_prob(x, logits):
        shifted = logits.double() - logits.double().amax(axes, keepdim=True)
        log_p = shifted - shifted.exp().sum(2, keepdim=True).log()
        return log_p.gather(2, x.long().unsqueeze(2)).sum((1, 2, 3, 4))

    return log_prob


@pytest.mark.parametrize("axes", [(1, 2, 3, 4), (1, 2), (2, 3), (2, 4), (0, 2), (0, 1, 2, 3, 4)])
def test_each_pixel_needs_a_maximum_of_its_own(axes):
    assert all(result(LEVELS, maximum_of(axes), seed).points == 2 for seed in range(20))


def test_the_receptive_field_is_drawn_anew_each_time():
    """A closed form for masks A and B once had full points."""
    assert "masks ignored" in FIELD.mistakes
    draws = [FIELD.draw(seed)["3 x 3 kernels"] for seed in range(10)]
    assert len({inputs["pixel"].tobytes() + inputs["others"].tobytes() for inputs in draws}) == 10


def test_a_mask_that_hides_the_earlier_colours_is_called_so():
    """Mask A without red for green, mask B right: once told that mask B leaks."""

    def masked(weight, colour_out, colour_in, own):
        return mask_by_slices(weight, colour_out, colour_in if own else colour_out.max() + 0 * colour_in, own)

    said = result(MASK, masked, 0)
    assert said.points == 3
    assert "earlier colours are hidden at the centre" in said.sentence


# 4.5: a convex loss, so all ways that go on long enough end in the same place.


def texture_by_adam(mask, steps=200, masked=True, start=0.0, loss=lambda x, logits: F.softplus(-x * logits)):
    def fit(x):
        kernel = (start * torch.randn(5, 5, generator=torch.Generator().manual_seed(0))).requires_grad_()
        adam = torch.optim.Adam([kernel], lr=0.05)
        for _ in range(steps):
            logits = F.conv2d(x[:, None], (kernel * mask)[None, None], padding=2)[:, 0]
            adam.zero_grad()
            loss(x, logits).mean().backward()
            adam.step()
        return kernel * mask if masked else kernel

    return fit


places = torch.arange(25).reshape(5, 5)
texture_adam = texture_by_adam(places < 12)


def texture_library(x):
    """A regression on the twelve earlier neighbours."""
    around = F.unfold(x[:, None], 5, padding=2)[:, :12].transpose(1, 2).reshape(-1, 12)
    found = LogisticRegression(fit_intercept=False).fit(around.numpy(), x.flatten().numpy() > 0).coef_[0]
    return np.concatenate([found, np.zeros(13)]).reshape(5, 5)


@pytest.mark.parametrize("fit", [EXPERIMENT.reference, texture_adam, texture_library], **ids)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(5))


def test_a_mistake_of_training_is_named_where_its_numbers_show_it():
    assert_mistakes_are_told(EXPERIMENT, range(3))
    for mask, name in ((places <= 12, "mask B"), (places >= 0, "no mask"), (places > 12, "mask turned round")):
        assert_told(EXPERIMENT, texture_by_adam(mask), name, range(3))
    # Weights that were started at random and never trained say nothing of what training saw.
    assert_told(EXPERIMENT, texture_by_adam(places <= 12, masked=False, start=0.2), "mask B", range(3))
    assert_told(EXPERIMENT, texture_by_adam(places < 12, steps=10, start=0.2), None, range(3))
    assert_told(EXPERIMENT, lambda x: texture_by_adam(places < 12, steps=10)(x).flip(0, 1), "mask turned round", range(3))
    assert_told(EXPERIMENT, lambda x: torch.randn(5, 5, generator=torch.Generator().manual_seed(0)), None, range(3))
    with_sigmoid = texture_by_adam(places < 12, loss=lambda x, logits: F.softplus(-x * logits.sigmoid()), steps=1000)
    assert_told(EXPERIMENT, with_sigmoid, "probabilities for logits", range(3))


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_what_mask_a_hides_may_be_anything(value):
    got = result(EXPERIMENT, lambda x: EXPERIMENT.reference(x).masked_fill(places >= 12, value), 0)
    assert got.points == EXPERIMENT.points
    measure = EXPERIMENT.checks[0].measure
    assert (measure.reads(places.numpy()) == np.arange(12)).all()


def test_the_divergence_of_textures_is_that_of_their_probabilities():
    """Added up pixel by pixel along true textures, against the mean log-ratio on many of them; zero at the true kernel."""
    (inputs,) = EXPERIMENT.draw(0).values()
    statistic, true = EXPERIMENT.checks[0].measure.statistic, inputs["_kernel"].astype(float)
    assert statistic(inputs, true) == pytest.approx(0, abs=1e-9)
    assert statistic(inputs, true + np.triu(np.full((5, 5), 7.0)) * (np.arange(25).reshape(5, 5) >= 12)) == pytest.approx(
        0, abs=1e-9
    )
    x = torch.tensor(inputs["_unseen"], dtype=torch.float64)

    def log_p(kernel):
        logits = F.conv2d(x[:, None], torch.tensor(kernel * (np.arange(25).reshape(5, 5) < 12))[None, None], padding=2)[:, 0]
        return -F.softplus(-x * logits).sum((1, 2))

    ratio = log_p(true) - log_p(0.8 * true)
    error = (ratio.std() / len(ratio) ** 0.5).item()
    assert statistic(inputs, 0.8 * true) == pytest.approx(ratio.mean().item(), abs=4 * error)
