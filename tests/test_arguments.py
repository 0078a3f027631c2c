"""What constructors accept, and the one sentence for what they do not."""

import math

import numpy as np
import pytest
import torch

from gencourse import arguments
from gencourse.adversarial import losses
from gencourse.adversarial.began import BEGAN
from gencourse.adversarial.dcgan import DCGAN
from gencourse.adversarial.gan import GAN
from gencourse.adversarial.wgan import WGAN
from gencourse.autoregressive.gated_pixelcnn import GatedPixelCNN
from gencourse.autoregressive.made import MADE
from gencourse.autoregressive.multiscale import MultiScale
from gencourse.autoregressive.nade import NADE
from gencourse.autoregressive.pixelcnn import PixelCNN
from gencourse.autoregressive.pixelcnn_pp import PixelCNNPP
from gencourse.autoregressive.pixelrnn import DiagonalBiLSTM, RowLSTM
from gencourse.data import dynamically_binarized, load
from gencourse.data.faces import faces
from gencourse.data.toys import RingOfGaussians
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.factors import factor_reader
from gencourse.metrics.frechet import frechet_to
from gencourse.metrics.likelihood import nll
from gencourse.space import Space
from gencourse.variational.vae import VAE

GREY, IMAGES, PLANE = Space((1, 4, 4), 3), Space((1, 8, 8), 17), Space((2,))


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (arguments.positive_integer, 3, 3),
        (arguments.positive_integer, np.int64(3), 3),
        (arguments.non_negative_integer, np.uint8(0), 0),
        (lambda what, value: arguments.least_integer(what, value, 16), np.uint8(16), 16),
        (arguments.seed, np.uint64(2**64 - 1), 2**64 - 1),
        (arguments.seed, -3, -3),
        (arguments.positives, np.array([1.0, 2.5]), (1.0, 2.5)),
        (arguments.widths, [np.int32(4), 5], (4, 5)),
        (arguments.widths, np.array([4, 5]), (4, 5)),
        (arguments.probability, 0, 0.0),
        (arguments.probability, np.float32(0.5), 0.5),
        (arguments.positive, np.float64(1e-3), 1e-3),
        (arguments.non_negative, 0, 0.0),
    ],
)
def test_what_is_right_comes_back_as_plain_python(check, value, expected):
    found = check("it", value)
    assert found == expected
    assert type(found) is type(expected)
    if isinstance(found, tuple):
        assert all(type(part) is type(like) for part, like in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("check", "wrong", "expected"),
    [
        (arguments.positive_integer, [0, -1, True, 1.0, "3", None, (3,), np.float64(2)], "a positive integer"),
        (arguments.non_negative_integer, [-1, False, 0.0, None], "an integer of 0 or more"),
        (lambda what, value: arguments.least_integer(what, value, 16), [15, True, "16", 16.0], "an integer of 16 or more"),
        (arguments.seed, [2**64, -(2**63) - 1, 1.5, True, "1", None], "an integer of 64 bits"),
        (arguments.positives, [2.0, (), (1.0, -2.0), (True,), "12", None, (math.inf,)], "a tuple of positive numbers"),
        (arguments.widths, [500, (), (0,), (3, True), "33", (2.5,), None, [(1, 2)]], "a tuple of positive widths"),
        (arguments.probability, [-0.1, 1, math.nan, True, "0.5", None, (0.5,)], r"a probability in \[0, 1\)"),
        (arguments.positive, [0, -1, math.nan, math.inf, True, None], "a positive number"),
        (arguments.non_negative, [-1e-9, math.nan, math.inf, False, "1"], "a number of 0 or more"),
    ],
)
def test_what_is_wrong_gets_its_sentence(check, wrong, expected):
    for value in wrong:
        with pytest.raises(ValueError, match=rf"^Model: size must be {expected}.*, not .*\.$") as caught:
            check("Model: size", value)
        assert repr(value) in str(caught.value)


WRONG = {
    "MADE: hidden": lambda: MADE(GREY, hidden=500),
    "MADE: masks": lambda: MADE(GREY, masks=0),
    "MADE: dropout": lambda: MADE(GREY, dropout=1.0),
    "MADE: orderings": lambda: MADE(GREY, orderings=0),
    "NADE: hidden": lambda: NADE(GREY, hidden=(500,)),
    "NADE: dropout": lambda: NADE(GREY, dropout="0.5"),
    "RowLSTM: layers": lambda: RowLSTM(GREY, layers=0),
    "RowLSTM: kernel": lambda: RowLSTM(GREY, kernel=4),
    "DiagonalBiLSTM: features": lambda: DiagonalBiLSTM(GREY, features=2.0),
    "PixelCNN: blocks": lambda: PixelCNN(GREY, blocks=0),
    "PixelCNN: kernel": lambda: PixelCNN(GREY, kernel=(7, 7)),
    "PixelCNN: dropout": lambda: PixelCNN(GREY, dropout=-0.1),
    "GatedPixelCNN: blocks": lambda: GatedPixelCNN(GREY, blocks=-1),
    "GatedPixelCNN: channels": lambda: GatedPixelCNN(GREY, channels=True),
    "GatedPixelCNN: kernel": lambda: GatedPixelCNN(GREY, kernel=2.5),
    "GatedPixelCNN: classes": lambda: GatedPixelCNN(GREY, classes=0),
    "MultiScale: blocks": lambda: MultiScale(GREY, blocks=-1),
    "MultiScale: scales": lambda: MultiScale(GREY, scales=0),
    "PixelCNNPP: mixtures": lambda: PixelCNNPP(GREY, mixtures=0),
    "PixelCNNPP: dropout": lambda: PixelCNNPP(GREY, dropout=1),
    "VAE: hidden": lambda: VAE(GREY, hidden=200),
    "VAE: latent": lambda: VAE(GREY, latent=True),
    "VAE: beta": lambda: VAE(GREY, beta=-1),
    "GAN: latent": lambda: GAN(PLANE, latent=True),
    "GAN: hidden": lambda: GAN(PLANE, hidden=()),
    "GAN: d_hidden": lambda: GAN(PLANE, d_hidden=128),
    "GAN: d_steps": lambda: GAN(PLANE, d_steps=0),
    "GAN: penalty": lambda: GAN(PLANE, penalty=-1),
    "GAN: clip": lambda: GAN(PLANE, clip=-1),
    "GAN: classes": lambda: GAN(PLANE, classes=0),
    "GAN: g_lr": lambda: GAN(PLANE, g_lr=0),
    "GAN: betas": lambda: GAN(PLANE, betas=0.5),
    "WGAN: hidden": lambda: WGAN(PLANE, hidden=128),
    "WGAN: width": lambda: WGAN(IMAGES, width=0),
    "WGAN: d_steps": lambda: WGAN(PLANE, d_steps=0.5),
    "DCGAN: width": lambda: DCGAN(IMAGES, width=0),
    "DCGAN: latent": lambda: DCGAN(IMAGES, latent=0),
    "DCGAN: base": lambda: DCGAN(IMAGES, base=0),
    "DCGAN: a gradient penalty": lambda: DCGAN(IMAGES, base=2, penalty=10.0),
    "BEGAN: hidden": lambda: BEGAN(PLANE, hidden=()),
    "BEGAN: code": lambda: BEGAN(PLANE, code=-1),
    "BEGAN: step": lambda: BEGAN(PLANE, step=0),
    "BEGAN: gamma": lambda: BEGAN(PLANE, gamma=1.5),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_slip_in_a_constructor_is_named(what):
    with pytest.raises(ValueError, match=rf"^{what}\b[^\n]*\.$"):
        WRONG[what]()


def test_a_penalty_needs_a_critic_that_judges_each_example_alone():
    from torch import nn

    DCGAN(IMAGES, base=2, penalty=10.0, norm=nn.Identity)
    DCGAN(IMAGES, base=4, penalty=10.0)  # one layer, and none between layers
    with pytest.raises(ValueError, match="batch norm"):
        GAN(PLANE, penalty=1, discriminator=nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0)))


@pytest.mark.parametrize("build", [lambda **o: DCGAN(IMAGES, **o), lambda **o: BEGAN(PLANE, **o)], ids=["dcgan", "began"])
def test_an_argument_that_a_model_has_no_use_for_is_refused(build):
    for unknown in ({"d_hidden": (7,)}, {"hiden": (7,)}, {"generator": torch.nn.Identity()}):
        with pytest.raises(TypeError, match=next(iter(unknown))):
            build(**unknown)


def test_losses_keep_their_numbers():
    real, fake = torch.randn(5), torch.randn(5)
    loss = losses.least_squares(-1, 1, 0)
    assert torch.equal(loss.d_loss(real, fake), 0.5 * (real - 1) ** 2 + 0.5 * (fake + 1) ** 2)
    assert torch.equal(loss.g_loss(fake), 0.5 * fake**2)


@pytest.mark.parametrize(
    ("what", "call"),
    {
        "faces": lambda seed: faces(16, n=10, seed=seed),
        "RingOfGaussians.dataset": lambda seed: RingOfGaussians().dataset(seed=seed),
        "dynamically_binarized": lambda seed: dynamically_binarized(faces(16, n=10), seed=seed),
        "nll": lambda seed: nll(NADE(GREY), torch.zeros(1, *GREY.shape, dtype=torch.long), seed=seed),
        "scored_classifier": lambda seed: scored_classifier(load("digits"), seed=seed),
        "factor_reader": lambda seed: factor_reader(faces(16, n=10), seed=seed),
        "frechet_to": lambda seed: frechet_to(load("digits"), load("digits").valid, object(), seed=seed),
    }.items(),
)
def test_a_seed_that_is_none_is_named(what, call):
    for wrong in (1.5, "a", 10**20):
        with pytest.raises(ValueError, match=rf"^{what}: seed must be an integer of 64 bits, such as 0, not "):
            call(wrong)
