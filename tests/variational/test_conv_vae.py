"""The convolutional VAE: what its networks change, and what they must not. The rest is the VAE's, and tested there."""

import math

import pytest
import torch
from torch import nn

from gencourse.checks import assert_every_parameter_learns, every_example
from gencourse.space import Space
from gencourse.variational.conv_vae import ConvVAE
from gencourse.variational.posteriors import MixtureOfGaussians
from gencourse.variational.vae import VAE

SPACE = Space((2, 4, 4), 5)


def images(n=6):
    return torch.randint(5, (n, *SPACE.shape), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_probabilities_of_all_images_sum_to_one():
    torch.manual_seed(0)
    model = ConvVAE(Space((1, 2, 2), 3), latent=1, width=2).double()
    z = torch.linspace(-10, 10, 801, dtype=torch.float64).view(-1, 1, 1)
    log_joint = model.decode(z).log_prob(every_example(model.space).double()) + model.prior.log_prob(z)  # (801, 81)
    total = torch.logsumexp(log_joint, 0) + math.log(20 / 800)
    assert float(total.exp().sum()) == pytest.approx(1, abs=1e-9)


def test_codes_of_any_batch_shape_are_decoded_each_by_itself():
    model = ConvVAE(SPACE, latent=3, width=4).double()
    z = torch.randn(5, 6, 3, dtype=torch.float64)
    together = model.decode_mean(z)
    assert together.shape == (5, 6, *SPACE.shape)
    assert torch.allclose(together[2, 4], model.decode_mean(z[2, 4]), rtol=0, atol=1e-10)
    assert model.decode(z).log_prob(images().double()).shape == (5, 6)
    assert torch.allclose(model.decode_mean(z[2, 4]), model.decode_mean(z[2, 4:5])[0], rtol=0, atol=1e-10)
    assert model.decode_mean(z[:, :0]).shape == (5, 0, *SPACE.shape)


def test_the_encoder_sees_the_image_as_it_lies():
    model = ConvVAE(SPACE, latent=3, width=4).double()
    x = images()
    out = nn.Sequential(*list(model.encoder)[1:])(x.double() / 2 - 1)  # five levels to [-1, 1], as images
    assert torch.allclose(model.encode(x).mean, out[:, :3], rtol=0, atol=1e-12)


def test_every_parameter_learns_and_another_family_of_posteriors_has_its_outputs():
    model = ConvVAE(SPACE, latent=3, width=4).double()
    assert_every_parameter_learns(model, images())
    assert not any(isinstance(module, nn.Linear) and module.out_features == 200 for module in model.modules())
    mixed = ConvVAE(SPACE, latent=3, width=4, posterior=lambda latent: MixtureOfGaussians(latent, components=2)).double()
    assert mixed.encoder[-1].out_features == 2 * (2 * 3 + 1)
    assert mixed.elbo(images(), samples=2).shape == (6,)
    assert isinstance(model, VAE)


def test_only_images_of_integers():
    for space in (Space((3,)), Space((1, 4, 4))):
        with pytest.raises(ValueError, match="needs images of integers"):
            ConvVAE(space)
