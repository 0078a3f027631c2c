"""The autoencoder's errors, the balance that k keeps, and a controller that survives a kill."""

import pytest
import torch

from gencourse.adversarial import losses
from gencourse.adversarial.began import BEGAN
from gencourse.adversarial.gan import GAN
from gencourse.space import Space
from gencourse.train import cosine, fit

IMAGES = Space((1, 8, 8), 17)
PLANE = Space((2,))
QUIET = {"device": "cpu", "progress": False}


def model(space=PLANE, seed=0, **options):
    torch.manual_seed(seed)
    return BEGAN(space, **{"latent": 3, "hidden": (16,), "width": 8, **options})


@pytest.mark.parametrize("space", [PLANE, IMAGES], ids=["points", "images"])
def test_the_discriminator_says_how_badly_an_example_comes_back(space):
    began = model(space)
    y = torch.randn(4, *space.shape)
    back = began.discriminator.reconstruct(y)
    by_hand = torch.stack(
        [sum(abs(a - b) for a, b in zip(u.flatten(), v.flatten(), strict=True)) / space.dim for u, v in zip(y, back, strict=True)]
    )
    assert torch.allclose(began.discriminator(y), by_hand, atol=1e-6)


def test_the_code_is_a_bottleneck():
    assert [model(space).discriminator.encoder(torch.randn(2, *space.shape)).shape[1] for space in (PLANE, IMAGES)] == [1, 3]
    assert model(code=2).discriminator.encoder(torch.randn(5, 2)).shape == (5, 2)


def test_the_losses_are_the_papers_and_send_gradients_to_their_own_player():
    began, x = model(), torch.randn(6, 2)
    began.k.fill_(0.3)
    torch.manual_seed(1)
    d = began.d_loss(x)
    torch.manual_seed(1)
    fake = began.generator(began.draw_latent(6))
    assert torch.allclose(d, began.discriminator(x) - 0.3 * began.discriminator(fake))
    torch.manual_seed(1)
    g = began.g_loss(x)
    assert torch.allclose(g, began.discriminator(fake))
    assert all(w is None for w in torch.autograd.grad(d.sum(), list(began.generator.parameters()), allow_unused=True))
    assert all(w.any() for w in torch.autograd.grad(g.sum(), list(began.generator.parameters())))


@pytest.mark.parametrize("pieces", [1, 2])
def test_k_takes_the_papers_step_after_the_generators_move(pieces):
    """With a batch in pieces, the errors are those of all pieces together."""
    began = model(step=0.5, gamma=0.7)
    d, g = began.moves()
    assert d.after is None
    for _ in range(3):
        k, real, fake = began.k.clone(), [], []
        for _ in range(pieces):
            x, state = torch.randn(8, 2), torch.get_rng_state()
            loss = d.loss(x, None).detach()
            torch.set_rng_state(state)
            of_fake = began.discriminator(began.generator(began.draw_latent(8))).detach()
            real.append(loss + k * of_fake)
        fake = [g.loss(x, None).detach() for _ in range(pieces)]
        g.after()
        expected, M = losses.began_balance(k, torch.cat(real), torch.cat(fake), gamma=0.7, step=0.5)
        assert torch.allclose(began.k, expected, atol=1e-6)
        assert torch.allclose(began.convergence, M, atol=1e-6)
    assert 0 < began.k < 1


def test_looking_at_a_loss_moves_nothing():
    """Two runs, one of which is watched: the same k, the same weights."""
    x, quiet, watched = torch.randn(50, 2), model(step=0.1), model(step=0.1)

    def look(step, began):
        state = torch.get_rng_state()
        began.d_loss(x), began.g_loss(x)
        torch.set_rng_state(state)

    fit(quiet, x, steps=5, batch_size=10, **QUIET)
    fit(watched, x, steps=5, batch_size=10, callback=look, **QUIET)
    assert quiet.k == watched.k != 0
    assert all(torch.equal(a, b) for a, b in zip(quiet.parameters(), watched.parameters(), strict=True))


@pytest.mark.parametrize("stops", [[1], [4, 7], [11]])
def test_a_run_that_is_interrupted_and_resumed_ends_with_the_same_bits(tmp_path, stops):
    """Weights, both optimisers, k and M. Checkpoints are every second step, so that some steps are played twice."""

    class Stop(Exception):
        pass

    torch.manual_seed(9)
    x = torch.randint(17, (40, *IMAGES.shape))
    settings = {"steps": 12, "batch_size": 8, "lr": 1e-3, "schedule": cosine, "ema": 0.9, "checkpoint_every": 2, **QUIET}
    whole = model(IMAGES, step=0.05)
    ks = []
    expected = fit(whole, x, callback=lambda step, began: ks.append(began.k.item()), **settings)
    assert len(set(ks)) == 12  # k is at work all the time
    for seed, stop in enumerate(stops):

        def fail(step, began, stop=stop):
            if step == stop:
                raise Stop

        with pytest.raises(Stop):
            fit(model(IMAGES, step=0.05, seed=seed), x, out=tmp_path, resume=True, callback=fail, **settings)
    resumed = model(IMAGES, step=0.05, seed=0 if stops == [1] else 99)  # at step 1 there is no checkpoint yet
    history = fit(resumed, x, out=tmp_path, resume=True, **settings)
    assert history.losses == expected.losses
    assert set(whole.state_dict()) >= {"k", "convergence"}
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_balance_is_kept_and_M_falls():
    """A ring of points, 400 rounds with a quick controller: the ratio of the errors comes to gamma."""
    torch.manual_seed(0)
    angle = 2 * torch.pi * torch.rand(2000)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    began = model(hidden=(32, 32), gamma=0.4, step=0.05)
    seen = []
    history = fit(
        began,
        x,
        steps=400,
        batch_size=64,
        lr=1e-3,
        callback=lambda _, b: seen.append((b.k.item(), b.convergence.item())),
        **QUIET,
    )
    k = torch.tensor([0.0] + [k for k, _ in seen[:-1]])
    fake = torch.tensor(history.losses["g"])
    real = torch.tensor(history.losses["d"]) + k * fake  # E L(x), up to the noise of another draw of z
    assert 0.3 < fake[-100:].mean() / real[-100:].mean() < 0.5
    assert sum(M for _, M in seen[-50:]) < 0.7 * sum(M for _, M in seen[:50])


def test_images_are_integers_of_the_space():
    drawn = model(IMAGES).sample(6)
    assert drawn.shape == (6, 1, 8, 8)
    assert not drawn.is_floating_point()
    assert 0 <= drawn.min() <= drawn.max() <= 16
    flat = model(IMAGES, convolutional=False)
    assert not any(isinstance(module, torch.nn.Conv2d) for module in flat.modules())
    assert flat.sample(2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("options", [{"gamma": 1.5}, {"gamma": -0.1}, {"step": 0.0}])
def test_bad_settings_are_named(options):
    with pytest.raises(ValueError, match=r"gamma must be a ratio in|step must be a positive number"):
        model(**options)


def test_it_has_nothing_of_a_game_it_does_not_play():
    began = model()
    assert not isinstance(began, GAN)
    for other in ("loss", "penalty", "clip", "d_steps", "g_lr"):
        assert not hasattr(began, other), other


def test_it_takes_no_context():
    with pytest.raises(ValueError, match="unconditional"):
        model().d_loss(torch.randn(3, 2), torch.zeros(3))


def test_k_begins_at_nothing_so_that_the_autoencoder_first_learns_the_data():
    assert model().k.item() == 0
