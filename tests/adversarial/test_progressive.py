"""Growing: a new block changes nothing until it is faded in, and where a run stands is a buffer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gencourse.adversarial.progressive import RECIPES, Progressive, double, halve, stage
from gencourse.space import Space
from gencourse.train import fit

SPACE = Space((2, 16, 16), 17)


def small(space=SPACE, **options):
    torch.manual_seed(0)
    return Progressive(space, **{"latent": 5, "width": 6, "schedule": (2, 4, 6)} | options)


def at(model, step):
    model.step.fill_(step)
    return model


def images(n=6, space=SPACE, seed=0):
    return torch.randint(space.levels, (n, *space.shape), generator=torch.Generator().manual_seed(seed))


# --- fading in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2])
def test_at_zero_the_grown_networks_are_the_smaller_ones_to_the_last_bit(level):
    model = small()
    z, y = torch.randn(4, 5), torch.randn(4, 2, 16, 16)
    assert torch.equal(model.generator(z, level, 0.0), model.generator(z, level - 1))
    assert torch.equal(model.discriminator(y, level, 0.0), model.discriminator(y, level - 1))


@pytest.mark.parametrize("level", [1, 2])
def test_at_one_the_old_layers_are_gone(level):
    model = small()
    z, y = torch.randn(4, 5), torch.randn(4, 2, 16, 16)
    before = model.generator(z, level), model.discriminator(y, level)
    old = [model.generator.to_image[level - 1], model.discriminator.from_image[level - 1]]
    for out, layer in zip(before, old, strict=True):
        assert set(torch.autograd.grad(out.sum(), layer.parameters(), allow_unused=True)) == {None}
    with torch.no_grad():
        for p in (p for layer in old for p in layer.parameters()):
            p.add_(1)
    assert torch.equal(model.generator(z, level, 1.0), before[0])
    assert torch.equal(model.discriminator(y, level, 1.0), before[1])


def test_between_them_old_and_new_are_mixed_by_hand():
    model = small()
    z, y, a = torch.randn(4, 5), torch.randn(4, 2, 16, 16), 0.3
    G, D = model.generator, model.discriminator
    torch.testing.assert_close(G(z, 1, a), 0.7 * G(z, 0) + 0.3 * G(z, 1))
    half = halve(y)
    mixed = 0.7 * D.from_image[0](halve(half)) + 0.3 * D.blocks[1](D.from_image[1](half))  # features, not logits
    torch.testing.assert_close(D(y, 1, a), D.blocks[0](mixed).squeeze(1))


def test_real_images_are_faded_as_the_generated_ones():
    model = small()
    y = model.centred(images())
    assert torch.equal(at(model, 1).faded(y), y) and torch.equal(at(model, 99).faded(y), y)
    level, a = at(model, 2).stage()
    assert (level, a) == (1, 0.5)
    eight = F.avg_pool2d(y, 2)
    expected = 0.5 * F.interpolate(F.avg_pool2d(eight, 2), scale_factor=2) + 0.5 * eight
    torch.testing.assert_close(halve(model.faded(y)), expected)
    # a real image without detail is like itself at every stage, and so is the discriminator's view of it
    flat = y[:, :, :1, :1].expand(-1, -1, 16, 16).contiguous()
    torch.testing.assert_close(model.faded(flat), flat)


def test_halving_undoes_doubling_to_the_last_bit():
    y = torch.randn(50, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(halve(double(y)), y)
    torch.testing.assert_close(halve(y), F.avg_pool2d(y, 2))


@pytest.mark.parametrize(("step", "side"), [(0, 4), (1, 4), (3, 8), (5, 8), (50, 16)])
def test_samples_are_of_the_space_at_any_time_and_no_finer_than_the_level(step, side):
    x = at(small(), step).sample(5, generator=torch.Generator().manual_seed(0))
    SPACE.validate(x)
    pixels = x.double()
    assert torch.equal(F.interpolate(F.avg_pool2d(pixels, 16 // side), scale_factor=16 // side), pixels)
    assert len(pixels[0, 0].unique()) > 2


# --- the schedule -----------------------------------------------------------------------------------------------------


def test_the_stages_of_a_schedule():
    found = [stage(t, (2, 4, 6), 0.5) for t in range(14)]
    assert found[:2] == [(0, 1.0), (0, 1.0)]  # nothing to be faded from
    assert found[2:6] == [(1, 0.5), (1, 1.0), (1, 1.0), (1, 1.0)]
    assert found[6:8] == [(2, pytest.approx(1 / 3)), (2, pytest.approx(2 / 3))]
    assert found[8:] == [(2, 1.0)] * 6  # the last level stays
    assert stage(0, (0, 0, 9), 0.0) == (2, 1.0)  # full size from the start
    assert [stage(t, (3, 3), 0.0) for t in (2, 3)] == [(0, 1.0), (1, 1.0)]  # grown in one step


def test_a_round_is_counted_once_and_a_resumed_run_grows_on_where_it_was(tmp_path):
    settings = {"batch_size": 4, "lr": 1e-3, "ema": 0.9, "device": "cpu", "progress": False}
    whole, first, second = small(), small(), small()
    fit(whole, images(8), steps=9, **settings)
    fit(first, images(8), steps=4, out=tmp_path, **settings)
    assert first.stage() == (1, 1.0) and int(first.step) == 4
    fit(second, images(8), steps=9, out=tmp_path, resume=True, **settings)
    assert int(second.step) == 9 and second.stage() == (2, 1.0)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_in_each_stage_just_its_own_layers_learn():
    model = small()
    for step, living in ((0, {0}), (2, {0, 1}), (4, {0, 1}), (6, {0, 1, 2}), (20, {0, 1, 2})):
        at(model, step)
        for move, network in zip(model.moves(), (model.discriminator, model.generator), strict=True):
            loss = move.loss(images(), None).mean()
            for k, block in enumerate(network.blocks):
                gradients = torch.autograd.grad(loss, block.parameters(), allow_unused=True, retain_graph=True)
                assert all((g is not None and bool(g.any())) == (k in living) for g in gradients)


# --- the game ---------------------------------------------------------------------------------------------------------


def test_the_losses_are_those_of_the_formulas_on_the_same_noise():
    model, x = at(small(gamma=0.8), 2), images()
    torch.manual_seed(3)
    d, g = model.d_loss(x), model.g_loss(x)
    torch.manual_seed(3)
    z, again = torch.randn(6, 5), torch.randn(6, 5)
    D, G = (lambda y: model.discriminator(y, 1, 0.5)), (lambda z: model.generator(z, 1, 0.5))
    y = model.faded(x * (2 / 16) - 1).requires_grad_()
    (slope,) = torch.autograd.grad(D(y).sum(), y)
    expected = F.softplus(-D(y)) + F.softplus(D(G(z))) + 0.4 * slope.square().sum((1, 2, 3))
    torch.testing.assert_close(d, expected)
    torch.testing.assert_close(g, F.softplus(-D(G(again))))


def test_without_the_equalised_rate_the_networks_begin_as_the_same_functions():
    a, b = small(), small(equalised=False)
    z = torch.randn(4, 5)
    torch.testing.assert_close(a.generator(z, 2), b.generator(z, 2))
    torch.testing.assert_close(a.discriminator(a.generator(z, 2), 2), b.discriminator(b.generator(z, 2), 2))
    assert all(not torch.equal(p, q) for p, q in zip(a.generator.parameters(), b.generator.parameters(), strict=True) if p.any())


def test_each_trick_can_be_left_out():
    names = {type(m).__name__ for m in small().modules()}
    assert {"Equalised", "PixelNorm", "MinibatchStd"} <= names
    assert "Equalised" not in {type(m).__name__ for m in small(equalised=False).modules()}
    assert "MinibatchStd" not in {type(m).__name__ for m in small(minibatch_sd=False).modules()}
    norms = [m for m in small(pixel_norm=False).modules() if type(m).__name__ == "PixelNorm"]
    assert len(norms) == 1  # z's


def test_maps_have_the_same_width_up_to_eight_times_the_smallest_side():
    model = small(Space((1, 128, 128), 2), width=8, schedule=1)
    assert [layer.layer.in_channels for layer in model.generator.to_image] == [8, 8, 8, 8, 4, 2]
    assert len(model.schedule) == 6 and not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_each_recipe_s_schedule_ends_within_its_steps():
    for recipe in RECIPES:
        schedule = recipe.options["schedule"]
        assert (sum(schedule) if isinstance(schedule, tuple) else schedule) <= recipe.fit["steps"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Progressive(Space((2,))), "even sides of 8 or more, but the space is"),
        (lambda: Progressive(Space((1, 9, 9), 2)), "even sides of 8 or more, but the space is"),
        (lambda: small(schedule=(1, 2)), r"schedule needs 3 numbers of rounds, for 4x4, 8x8, 16x16, not \(1, 2\)"),
        (lambda: small(schedule=(1, -2, 3)), "schedule must be an integer of 0 or more, not -2"),
        (lambda: small(fade=1.0), r"fade must be a probability in \[0, 1\)"),
        (lambda: small(gamma=-1), "gamma must be a number of 0 or more"),
        (lambda: small().d_loss(images(), torch.zeros(6)), "takes no context"),
        (lambda: small().sample(3, torch.zeros(3)), "takes no context"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
