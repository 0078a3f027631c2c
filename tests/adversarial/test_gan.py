"""The game is Algorithm 1: who moves, on what, and who is left alone."""

import pytest
import torch
from torch import nn

from gencourse.adversarial import losses
from gencourse.adversarial.gan import GAN, MLPDiscriminator, MLPGenerator
from gencourse.space import Space
from gencourse.train import fit

PLANE, IMAGES = Space((2,)), Space((1, 4, 4), levels=17)


class Line(nn.Module):
    """G(z) = mu + z, on the line."""

    def __init__(self, mu: float) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.tensor([mu]))

    def forward(self, z, condition=None):
        return self.mu + z


class Slope(nn.Module):
    """D(y) = w y + b."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(-0.25))

    def forward(self, y, condition=None):
        return self.w * y.squeeze(1) + self.b


def line(**options) -> GAN:
    return GAN(Space((1,)), latent=1, generator=Line(3.0), discriminator=Slope(), **options)


def test_the_losses_are_those_of_the_formulas_on_the_same_noise():
    model, x = line(), torch.tensor([[0.0], [1.0], [2.0]])
    torch.manual_seed(4)
    d = model.d_loss(x)
    g = model.g_loss(x)
    torch.manual_seed(4)
    first, second = torch.randn(3, 1), torch.randn(3, 1)  # fresh noise for each player
    a, b, c = (0.5 * y.squeeze(1) - 0.25 for y in (x, 3 + first, 3 + second))
    torch.testing.assert_close(d, torch.log1p(torch.exp(-a)) + torch.log1p(torch.exp(b)))
    torch.testing.assert_close(g, torch.log1p(torch.exp(-c)))


def test_each_player_moves_its_own_weights_alone():
    model, x = line(), torch.zeros(5, 1)
    d, g = model.moves()
    assert [p is q for p, q in zip(d.learns, model.discriminator.parameters(), strict=True)] == [True, True]
    assert g.learns == [model.generator.mu]
    unused = torch.autograd.grad(d.loss(x, None).sum(), model.generator.mu, allow_unused=True)
    assert unused == (None,)  # the discriminator's loss sends nothing to the generator
    assert torch.autograd.grad(g.loss(x, None).sum(), model.generator.mu)[0] != 0


@pytest.mark.parametrize(("g_lr", "expected"), [(None, 0.01), (0.002, 0.002)])
def test_the_generator_may_have_a_learning_rate_of_its_own(g_lr, expected):
    """Adam's first step is the learning rate, whatever the gradient."""
    model = line(g_lr=g_lr)
    before = [p.item() for p in model.parameters()]
    fit(model, torch.zeros(16, 1), steps=1, batch_size=16, lr=0.01, progress=False)
    moved = [abs(p.item() - b) for p, b in zip(model.parameters(), before, strict=True)]
    assert moved == pytest.approx([expected, 0.01, 0.01], rel=1e-3)  # the generator's mean, the discriminator's w and b


@pytest.mark.parametrize("k", [1, 3])
def test_a_round_is_k_updates_of_d_on_fresh_batches_and_then_one_of_g(k):
    model, order, seen = line(d_steps=k), [], []
    d_loss, g_loss = model.d_loss, model.g_loss

    def spy_d(x, context=None):
        order.append("d")
        seen.append(x.clone())
        return d_loss(x, context)

    def spy_g(x, context=None):
        order.append("g")
        return g_loss(x, context)

    model.d_loss, model.g_loss = spy_d, spy_g
    history = fit(model, torch.arange(64.0).reshape(64, 1), steps=2, batch_size=4, progress=False)
    assert order == (["d"] * k + ["g"]) * 2
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert history.valid == []


def test_validation_data_change_nothing():
    """No loss of a game says which weights are better, so the last are kept."""
    x, means = torch.randn(64, 1), []
    for valid in (None, torch.randn(20, 1)):
        model = line()
        history = fit(model, x, valid=valid, steps=30, batch_size=8, lr=0.05, progress=False)
        means.append(model.generator.mu.item())
        assert (history.valid, history.best_step) == ([], None)
    assert means[0] == means[1] != 3.0


def test_a_mean_is_learned():
    """N(mu, 1) against N(0, 1): a linear discriminator is the optimal one, and the game ends at mu = 0."""
    torch.manual_seed(0)
    model = line(betas=(0.0, 0.9))
    fit(model, torch.randn(4096, 1), steps=1500, batch_size=256, lr=0.01, ema=0.99, progress=False)
    assert model.generator.mu.item() == pytest.approx(0.0, abs=0.1)  # 3.0 before; at most 0.027 in ten seeds


def test_clipping_follows_each_update_and_the_penalty_is_weighted():
    model = line(loss=losses.wasserstein, clip=0.1)
    fit(model, torch.randn(64, 1), steps=3, batch_size=8, lr=1.0, progress=False)
    assert [abs(p.item()) for p in model.discriminator.parameters()] == pytest.approx([0.1, 0.1])
    model = line(loss=losses.wasserstein, penalty=10.0)
    torch.manual_seed(1)
    penalised = model.d_loss(torch.zeros(4, 1))
    torch.manual_seed(1)
    model.penalty = 0.0
    plain = model.d_loss(torch.zeros(4, 1))
    torch.testing.assert_close(penalised - plain, torch.full((4,), 10 * (0.5 - 1) ** 2))


def test_images_are_scaled_for_the_networks_and_rounded_on_the_way_out():
    model = GAN(IMAGES, latent=3)
    x = torch.randint(17, (6, 1, 4, 4), dtype=torch.uint8)
    y = model.centred(x)
    assert y.min() >= -1
    assert y.max() <= 1
    assert torch.equal(model.to_space(y), x.long())
    samples = model.sample(5, generator=torch.Generator().manual_seed(0))
    assert IMAGES.validate(samples).shape == (5, 1, 4, 4)
    z = model.draw_latent(5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.generate(z), samples)


def test_points_leave_the_generator_as_they_are():
    model = GAN(PLANE, latent=3)
    z = model.draw_latent(4)
    assert torch.equal(model.generate(z), model.generator(z))


def test_a_conditional_game_learns_a_mean_for_each_class():
    torch.manual_seed(0)
    labels = torch.arange(2).repeat(1024)
    x = torch.where(labels == 0, -2.0, 2.0)[:, None] + 0.3 * torch.randn(2048, 1)
    space = Space((1,))
    model = GAN(
        space,
        latent=2,
        classes=2,
        generator=MLPGenerator(space, latent=2, hidden=(32,), classes=2),
        discriminator=MLPDiscriminator(space, hidden=(32,), classes=2),
    )
    fit(model, (x, labels), steps=800, batch_size=128, lr=2e-3, progress=False)
    for label, mean in ((0, -2.0), (1, 2.0)):
        samples = model.sample(500, torch.full((500,), label))
        assert samples.mean().item() == pytest.approx(mean, abs=0.5)  # a generator that ignored labels would be at 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: GAN(PLANE, latent=0), "latent must be a positive integer, not 0"),
        (lambda: GAN(PLANE, loss="hinge"), "loss must be one of gencourse.adversarial.losses, not 'hinge'"),
        (lambda: GAN(PLANE, penalty=-1.0), "penalty must be a number of 0 or more, not -1.0"),
        (lambda: GAN(PLANE).sample(2, torch.zeros(2)), "is unconditional"),
        (lambda: GAN(PLANE, classes=3).sample(2), r"classes=3 needs labels \(2,\) as its context, .*; none were given"),
        (lambda: GAN(PLANE, classes=3).sample(2, torch.tensor([0, 3])), "labels must be integers 0..2"),
        (lambda: GAN(IMAGES).d_loss(torch.zeros(2, 1, 4, 4)), "expects integers 0..16"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(call, says):
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_images_are_bounded_and_points_are_not():
    z = torch.randn(64, 16)
    for space, bounded in ((IMAGES, True), (PLANE, False)):
        gan = GAN(space)
        with torch.no_grad():
            gan.generator.net[-1].weight *= 1000
            largest = float(gan.generator(z).abs().max())
        assert (0.99 < largest <= 1) is bounded


def test_adam_s_first_rate_is_a_half_for_both_players():
    for move in GAN(PLANE).moves():
        assert move.optimizer(move.learns, lr=1e-3).defaults["betas"] == (0.5, 0.999)


class Column(nn.Module):
    """A discriminator that forgot to take its last dimension away."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 1)

    def forward(self, y, condition=None):
        return self.net(y)  # (B, 1)


class Flat(nn.Module):
    """A generator whose images are rows."""

    def __init__(self, dim):
        super().__init__()
        self.net = nn.Linear(16, dim)

    def forward(self, z, condition=None):
        return self.net(z)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_network_of_one_s_own_that_gives_another_shape_is_named(penalty):
    """Logits (B, 1) beside a penalty (B,) would be broadcast to (B, B)."""
    gan = GAN(PLANE, discriminator=Column(), penalty=penalty)
    for loss in (gan.d_loss, gan.g_loss):
        with pytest.raises(ValueError, match=r"GAN: the discriminator must give logits \(8,\), not \(8, 1\)\."):
            loss(torch.randn(8, 2))
    gan = GAN(IMAGES, generator=Flat(IMAGES.dim), penalty=penalty)
    x = torch.zeros(8, *IMAGES.shape, dtype=torch.long)
    for call in (lambda: gan.d_loss(x), lambda: gan.g_loss(x), lambda: gan.sample(8)):
        with pytest.raises(ValueError, match=r"GAN: the generator must give examples \(8, .*\), not \(8, \d+\)\."):
            call()
