"""What FVBN, NADE and MADE promise together, on spaces small enough to enumerate."""

import pytest
import torch

from gencourse.autoregressive.fvbn import FVBN
from gencourse.autoregressive.made import MADE
from gencourse.autoregressive.nade import NADE
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

SMALL = [Space((1, 3, 3), 2), Space((3, 2, 2), 2), Space((3, 1, 2), 3)]
MODELS = {
    "fvbn": lambda space: FVBN(space),
    "nade": lambda space: NADE(space, hidden=14, dropout=0.5),
    "made": lambda space: MADE(space, hidden=(40,), dropout=0.5),
    "made deep": lambda space: MADE(space, hidden=(80, 60), direct=False),
    "made ensemble": lambda space: MADE(space, hidden=(30, 20), masks=4),
    "made masks": lambda space: MADE(space, hidden=(30,), masks=3, orderings=1),
}


@pytest.fixture(params=MODELS)
def make(request):
    def build(space):
        torch.manual_seed(0)
        model = MODELS[request.param](space)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.7 * torch.randn_like(p))  # so that pixels matter to each other
        return model

    return build


def each_mask(model):
    """The model once for every mask it has."""
    if not isinstance(model, MADE):
        yield model
        return
    for k in range(model.masks):
        with model.using(k):
            yield model


@pytest.mark.parametrize("space", SMALL, ids=str)
def test_probabilities_sum_to_one(make, space):
    assert_normalized(make(space), atol=1e-9)


@pytest.mark.parametrize("space", SMALL, ids=str)
def test_nothing_leaks_and_every_earlier_pixel_is_seen(make, space):
    for model in each_mask(make(space)):
        assert_autoregressive(model)
        assert_full_context(model)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("space", SMALL, ids=str)
def test_samples_follow_the_likelihood(make, space, cached):
    model = make(space).double().eval()
    x = model.sample(30_000, generator=torch.Generator().manual_seed(1), cached=cached)
    assert_sampler_matches(x, model.log_prob(every_example(space)), space)


@pytest.mark.parametrize("space", [*SMALL, Space((1, 8, 8), 2)], ids=str)
def test_kept_activations_draw_the_same_images(make, space):
    model = make(space)
    assert_cached_equals_naive(model, n=100)


@pytest.mark.parametrize("space", SMALL, ids=str)
def test_no_cached_sample_makes_a_whole_pass(make, space, monkeypatch):
    model = make(space)

    def refuse(*_):
        raise AssertionError("a whole pass")

    monkeypatch.setattr(model, "conditionals", refuse)
    model.sample(3)


@pytest.mark.parametrize("space", SMALL, ids=str)
def test_every_parameter_learns(make, space):
    assert_every_parameter_learns(make(space), torch.randint(space.levels, (32, *space.shape)))


@pytest.mark.parametrize("cached", [True, False])
def test_completions_keep_what_is_known(make, cached):
    space = Space((3, 2, 2), 2)
    given, mask = torch.randint(2, (50, *space.shape)), torch.rand(50, *space.shape) < 0.5
    x = make(space).sample(50, given=given, mask=mask, cached=cached)
    assert torch.equal(x[mask], given[mask])
    assert (x[~mask] != given[~mask]).any()


def test_the_gradient_of_the_likelihood_is_its_finite_difference(make):
    model = make(Space((1, 3, 3), 2)).double().eval()
    x = torch.randint(2, (6, 1, 3, 3))
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(model.log_prob(x).sum(), parameters)
    direction = [torch.randn_like(p) for p in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    step, values = 1e-6, []
    with torch.no_grad():
        for factor in (1, -2):
            for p, d in zip(parameters, direction, strict=True):
                p += factor * step * d
            values.append(float(model.log_prob(x).sum()))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6, abs=1e-6)


def test_a_result_does_not_depend_on_the_rest_of_the_batch(make):
    model = make(Space((3, 2, 2), 2)).double().eval()
    x = torch.randint(2, (9, 3, 2, 2))
    assert torch.allclose(torch.cat([model.log_prob(x[i : i + 1]) for i in range(9)]), model.log_prob(x), rtol=0, atol=1e-12)
    assert model.log_prob(x[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.log_prob(torch.zeros(2, 3, 3, dtype=torch.long)), "(2, 3, 3)"),  # no channel: would be flattened
        (lambda m: m.log_prob(torch.zeros(2, 1, 3, 3, dtype=torch.long), torch.zeros(2)), "unconditional"),
        (lambda m: m.sample(2, torch.zeros(2)), "unconditional"),
    ],
)
def test_a_bad_input_is_named_in_one_sentence(make, call, says):
    with pytest.raises(ValueError) as caught:
        call(make(Space((1, 3, 3), 2)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
