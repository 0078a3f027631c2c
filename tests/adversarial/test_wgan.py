"""The critic's loss is the dual's; the penalty and clipping do what they say; a critic finds a distance that is known."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from gencourse.adversarial import losses
from gencourse.adversarial.dcgan import halves
from gencourse.adversarial.wgan import RECIPES, WGAN
from gencourse.checks import assert_every_parameter_learns
from gencourse.space import Space
from gencourse.train import fit

IMAGES = Space((3, 8, 8), 16)
PLANE = Space((2,))
QUIET = {"device": "cpu", "progress": False}


def images(n, seed=0):
    return torch.randint(16, (n, *IMAGES.shape), generator=torch.Generator().manual_seed(seed))


class Slope(nn.Module):
    """The linear critic w.y."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, y, condition=None):
        return y.flatten(1) @ self.w


class Shifted(nn.Module):
    """A generator that draws N(shift, I)."""

    def __init__(self, shift):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, z, condition=None):
        return z + self.shift


@pytest.mark.parametrize(
    "model", [WGAN(IMAGES, width=8), WGAN(IMAGES, width=8, clip=0.01), WGAN(PLANE)], ids=["penalty", "clip", "points"]
)
def test_the_critic_judges_each_example_by_itself(model):
    """In training mode: with batch norm the gradient penalty would be one of the whole batch."""
    y = torch.randn(6, *model.space.shape)
    model.train()
    together, alone = model.discriminator(y), torch.cat([model.discriminator(y[i : i + 1]) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-6)  # rounding: sums in another order


def test_the_critic_lowers_the_dual_and_the_penalty():
    torch.manual_seed(0)
    model = WGAN(PLANE, latent=3, hidden=(16,), penalty=2.5).double()
    x = torch.randn(5, 2, dtype=torch.float64)
    torch.manual_seed(1)
    loss = model.d_loss(x)
    torch.manual_seed(1)  # the same z, and then the same mixing numbers
    fake = model.generator(model.draw_latent(5))
    t = torch.rand(5, dtype=torch.float64)[:, None]
    y = (t * x + (1 - t) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(model.discriminator(y).sum(), y)
    by_hand = model.discriminator(fake) - model.discriminator(x) + 2.5 * ((slope**2).sum(1).sqrt() - 1) ** 2
    assert torch.allclose(loss, by_hand, atol=1e-12)


def test_the_generator_raises_the_critic():
    torch.manual_seed(0)
    model = WGAN(PLANE, latent=2, generator=Shifted([0.0, 0.0]), discriminator=Slope([0.6, -0.8]))
    (gradient,) = torch.autograd.grad(model.g_loss(torch.zeros(7, 2)).sum(), model.generator.shift)
    assert torch.allclose(gradient, -7 * torch.tensor([0.6, -0.8]))


def test_penalty_is_the_default_and_clipping_takes_its_place():
    model = WGAN(PLANE)
    assert (model.penalty, model.clip, model.d_steps) == (10.0, None, 5)
    assert isinstance(model.moves()[0].optimizer([nn.Parameter(torch.ones(1))], lr=0.1), torch.optim.Adam)
    model = WGAN(PLANE, clip=0.01)
    assert (model.penalty, model.clip) == (0.0, 0.01)
    assert [move.optimizer for move in model.moves()] == [torch.optim.RMSprop] * 2
    with pytest.raises(ValueError, match=r"not both \(penalty=10\.0, clip=0\.01\)"):
        WGAN(PLANE, penalty=10.0, clip=0.01)


def test_clipping_bounds_the_critic_and_leaves_the_generator():
    torch.manual_seed(0)
    model = WGAN(PLANE, hidden=(16, 16), clip=0.05)
    fit(model, torch.randn(64, 2), steps=3, batch_size=16, lr=1e-2, **QUIET)
    largest = {name: max(p.abs().max().item() for p in net.parameters()) for name, net in model.named_children()}
    assert largest["discriminator"] == pytest.approx(0.05)
    assert largest["generator"] > 0.05


def test_the_distance_of_a_linear_critic_is_the_shift_along_it():
    """f = w.x with |w| = 1: mean f(x) - mean f(G(z)) is w.(mean x - mean G(z)), whatever else the clouds look like."""
    model = WGAN(PLANE, latent=2, generator=Shifted([1.0, 2.0]), discriminator=Slope([0.6, 0.8])).train()
    x = torch.randn(500, 2) * 3
    found = model.distance(x, generator=torch.Generator().manual_seed(4))
    z = torch.randn(500, 2, generator=torch.Generator().manual_seed(4))
    assert found == pytest.approx(float((x.mean(0) - z.mean(0) - torch.tensor([1.0, 2.0])) @ torch.tensor([0.6, 0.8])), abs=1e-5)
    assert model.training


def test_a_critic_with_the_penalty_finds_a_distance_that_is_known():
    """Against the cheapest assignment. By Eq. (15.11) the slope, and with it the estimate, is too large by W / (2 penalty),
    10 % here; the estimate also knows its points. Measured over six seeds: 1.13 to 1.17 times W. (On a line a critic that begins
    with the wrong sign keeps it: on its way to slope 1 it would have to pass 0, where the penalty is highest.)"""
    torch.manual_seed(0)
    model = WGAN(PLANE, latent=2, generator=Shifted([2.0, 0.0]), hidden=(64, 64), penalty=10.0)
    x = torch.randn(256, 2) * torch.tensor([0.3, 1.0])
    critic = model.moves()[0]
    optimizer = critic.optimizer(critic.learns, lr=2e-3)
    for _ in range(300):
        optimizer.zero_grad()
        critic.loss(x, None).mean().backward()
        optimizer.step()
    z = model.draw_latent(256, generator=torch.Generator().manual_seed(1))
    cost = torch.cdist(x, z + torch.tensor([2.0, 0.0])).numpy()
    exact = cost[linear_sum_assignment(cost)].mean()
    found = model.distance(x, generator=torch.Generator().manual_seed(1))
    assert 1.0 < found / exact < 1.25


@pytest.mark.parametrize("options", [{"width": 8}, {"width": 8, "classes": 3}], ids=["plain", "labels"])
def test_images_are_drawn_with_and_without_labels(options):
    torch.manual_seed(0)
    model = WGAN(IMAGES, latent=4, **options)
    labels = torch.randint(3, (40,)) if "classes" in options else None
    fit(model, images(40) if labels is None else (images(40), labels), steps=2, batch_size=20, **QUIET)
    drawn = model.sample(5, None if labels is None else labels[:5], generator=torch.Generator().manual_seed(2))
    again = model.sample(5, None if labels is None else labels[:5], generator=torch.Generator().manual_seed(2))
    assert drawn.shape == (5, *IMAGES.shape)
    assert not drawn.is_floating_point()
    assert 0 <= drawn.min() <= drawn.max() < 16
    assert torch.equal(drawn, again)


def test_the_networks_follow_from_the_space():
    assert [halves(Space(shape, 4)) for shape in [(1, 8, 8), (1, 28, 28), (3, 12, 20), (1, 3, 3), (1, 9, 8)]] == [True] * 3 + [
        False
    ] * 2
    assert not halves(Space((3, 8, 8)))
    with pytest.raises(TypeError, match="Space first, not tuple"):
        WGAN((1, 8, 8))
    for space in (IMAGES, Space((1, 3, 3), 2), PLANE):
        model = WGAN(space, width=8, hidden=(16,))
        assert any(isinstance(module, nn.Conv2d) for module in model.modules()) == (space is IMAGES)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("space", [PLANE, IMAGES], ids=["points", "images"])
def test_every_weight_learns(space):
    """So the critic has no bias at its end: neither f(G(z)) - f(x) nor the slope changes when a number is added to f."""
    torch.manual_seed(0)
    x = images(12) if space is IMAGES else torch.randn(12, 2)
    assert_every_parameter_learns(WGAN(space, latent=4, width=8, hidden=(16,)), x)


def test_the_recipes_build():
    for recipe in RECIPES:
        assert recipe.metric == ("mode_overlap" if recipe.name == "ring" else "frechet_ratio")
        assert (recipe.band is None) == ("GPU" in recipe.needs)
    assert losses.wasserstein is WGAN(PLANE, **RECIPES[0].options).loss
