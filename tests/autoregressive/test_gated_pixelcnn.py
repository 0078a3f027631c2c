"""Gated PixelCNN: two stacks that see what each should, no blind spot, classes, and the same images when cached."""

import pytest
import torch
import torch.nn.functional as F

from gencourse.autoregressive.gated_pixelcnn import GatedPixelCNN
from gencourse.autoregressive.layers import shift_down, whole
from gencourse.checks import (
    assert_autoregressive,
    assert_cached_equals_naive,
    assert_every_parameter_learns,
    assert_full_context,
    assert_normalized,
    assert_sampler_matches,
    every_example,
)
from gencourse.space import Space

SPACES = [Space((1, 3, 3), 2), Space((3, 2, 2), 2), Space((2, 1, 2), 4)]
CLASSES = [None, 3]


def make(space, seed=0, **options):
    torch.manual_seed(seed)
    model = GatedPixelCNN(space, **{"blocks": 2, "channels": 12, "kernel": 3, **options}).eval()
    with torch.no_grad():  # far enough from uniform for a test to notice
        model.stacks.last.weight *= 6
    return model


def labels(classes, n):
    return None if classes is None else torch.arange(n) % classes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_sums_to_one_and_sees_every_earlier_pixel_and_no_other(space, classes):
    model = make(space, classes=classes)
    for label in [None] if classes is None else torch.arange(classes).split(1):
        assert_normalized(model, label)
        assert_autoregressive(model, label)
        assert_full_context(model, label)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_every_parameter_learns(blocks, classes):
    model = make(Space((3, 3, 3), 4), blocks=blocks, classes=classes)
    assert_every_parameter_learns(model, torch.randint(4, (16, 3, 3, 3)), labels(classes, 16))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_samples_follow_the_probabilities(space, cached):
    model = make(space, classes=2)
    label = torch.tensor([1])
    samples = model.sample(10_000, label.expand(10_000), generator=seeded(), cached=cached)
    x = every_example(space)
    assert_sampler_matches(samples, model.log_prob(x, label.expand(len(x))), space)


def test_there_is_no_blind_spot_on_an_image_of_the_size_of_the_digits():
    model = make(Space((1, 8, 8), 2), blocks=6, kernel=3)
    assert_full_context(model)
    assert_autoregressive(model)


def test_the_vertical_stack_sees_the_rows_above_and_all_of_them():
    stacks = make(Space((1, 5, 5), 2), blocks=4).stacks.double()
    x = torch.randn(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    last = stacks.vertical(shift_down(x), None, whole)[-1]  # (1, 2p, 5, 5)
    for row in range(5):
        for column in range(5):
            (gradient,) = torch.autograd.grad(last[0, :, row, column].sum(), x, retain_graph=True)
            seen = gradient[0, 0] != 0
            assert seen[:row].all() and not seen[row:].any()


def test_a_layer_is_the_papers_equation():
    layer = make(Space((1, 4, 4), 2), classes=5).stacks.v[1].double()
    v, s = torch.randn(2, 12, 4, 4).double(), F.one_hot(torch.tensor([1, 3]), 5).double()
    found, _ = layer(v, s[:, :, None, None], whole)
    features = F.conv2d(F.pad(v, (1, 1, 1, 0)), layer.rows.weight, layer.rows.bias)
    features = features + (s @ layer.s_to_rows.weight[:, :, 0, 0].T)[:, :, None, None]
    expected = torch.tanh(features[:, :12]) * torch.sigmoid(features[:, 12:])
    assert torch.allclose(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("space", [*SPACES[:2], Space((1, 8, 8), 2), Space((3, 3, 4), 8)], ids=str)
def test_kept_activations_give_the_same_images(space, classes):
    assert_cached_equals_naive(make(space, classes=classes, kernel=5), labels(classes, 8), n=8)


def test_known_pixels_are_kept_and_the_rest_is_the_same_cached_or_not():
    space = Space((3, 4, 4), 4)
    model = make(space, classes=2)
    given, mask = torch.randint(4, (8, *space.shape)), torch.rand(1, 1, 4, 4) < 0.5
    fast, slow = (model.sample(8, labels(2, 8), generator=seeded(), given=given, mask=mask, cached=c) for c in (True, False))
    assert torch.equal(fast, slow)
    assert torch.equal(fast[mask.expand_as(fast)], given[mask.expand_as(given)])
    assert not torch.equal(fast, given)


def test_a_model_without_class_weights_ignores_the_class():
    model = make(Space((1, 3, 3), 2), classes=3)
    x = torch.randint(2, (9, 1, 3, 3))
    before = model.log_prob(x, labels(3, 9))
    assert not torch.allclose(before, model.log_prob(x, labels(3, 9).flip(0)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "s_to" in name:
                parameter.zero_()
    assert torch.equal(model.log_prob(x, labels(3, 9)), model.log_prob(x, labels(3, 9).flip(0)))


def test_what_is_wrong_is_said():
    x = torch.zeros(2, 1, 3, 3, dtype=torch.long)
    conditional, unconditional = make(SPACES[0], classes=3), make(SPACES[0])
    with pytest.raises(ValueError, match="classes=3 needs labels"):
        conditional.log_prob(x)
    with pytest.raises(ValueError, match=r"labels must be integers 0\.\.2"):
        conditional.log_prob(x, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"needs labels \(2,\) .*; their shape is \(3,\)"):
        conditional.log_prob(x, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"needs labels \(4,\)"):
        conditional.sample(4, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="GatedPixelCNN is unconditional"):
        unconditional.log_prob(x, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"kernel must be odd, .* 3 or more, not 4"):
        make(SPACES[0], kernel=4)


def test_each_layer_adds_to_what_came_before():
    """With layers that add nothing, what the first one saw still reaches the logits."""
    model = make(Space((1, 3, 3), 2), blocks=2).eval()
    with torch.no_grad():
        for layer in model.stacks.h[1:]:
            layer.out.weight.zero_()
            layer.out.bias.zero_()
        x = torch.randint(2, (8, 1, 3, 3))
        logits = model.conditionals(x).logits
    assert (logits.std(0) > 0).flatten()[1:].all()  # the first pixel has nothing before it
