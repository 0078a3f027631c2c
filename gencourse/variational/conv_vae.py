"""The VAE with convolutional networks, for faces and photographs (Kulkarni et al., 2015, https://arxiv.org/abs/1503.03167; slides
85 and 87).

Everything but the networks is the `VAE`'s: the encoder is that of slide 38, four convolutions down to the parameters of q(z | x),
the decoder its mirror image, fractionally strided convolutions up to the pixels of p(x | z).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from gencourse.arguments import positive_integer
from gencourse.data.faces import faces
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine
from gencourse.variational import posteriors, priors
from gencourse.variational.networks import conv_decoder, conv_encoder
from gencourse.variational.vae import VAE


class ConvVAE(VAE):
    """A VAE with convolutional encoder and decoder.

    Args:
        space: images of integers. On two levels pixels are Bernoulli, on more a discretised logistic.
        latent: the dimension of z.
        width: channels of the first layer; each halving of the sides but the first doubles them.
        norm: makes a layer of its channels after each convolution, such as `nn.BatchNorm2d`.
        beta, prior, posterior: as in `VAE`.

    Raises:
        ValueError, TypeError: if the space has no images of integers, or an argument is out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 16,
        width: int = 16,
        norm: Callable[[int], nn.Module] = nn.Identity,
        beta: float = 1.0,
        prior: priors.Prior | Callable[[int], priors.Prior] | None = None,
        posterior: Any = posteriors.Gaussian,
    ) -> None:
        latent, width = positive_integer("ConvVAE: latent", latent), positive_integer("ConvVAE: width", width)

        def networks(outputs: int) -> tuple[nn.Module, nn.Module]:
            encoder = conv_encoder(space, outputs=outputs, width=width, norm=norm)
            return nn.Sequential(nn.Unflatten(1, space.shape), *encoder), _Flat(
                conv_decoder(space, inputs=latent, width=width, norm=norm)
            )

        super().__init__(space, latent=latent, beta=beta, prior=prior, posterior=posterior, networks=networks)


class _Flat(nn.Module):
    """A decoder of codes with any batch shape, `(..., latent)` -> `(..., D)`."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z.flatten(0, -2)).flatten(1).unflatten(0, z.shape[:-1]) if z.dim() > 1 else self.net(z[None]).flatten()


RECIPES = (
    Recipe(
        "faces",
        data=partial(faces, size=16, n=2000),
        options={"latent": 8, "width": 8},
        fit={"steps": 1500, "batch_size": 64, "lr": 5e-3, "schedule": cosine, "ema": 0.99},
        metric="bits_per_dim",
        band=5.35,
        samples=100,
    ),
    Recipe(
        "faces32",
        data=partial(faces, size=32, n=10_000),
        options={"latent": 32, "width": 32},
        fit={"steps": 20_000, "batch_size": 128, "lr": 1e-3, "schedule": cosine, "ema": 0.999},
        metric="bits_per_dim",
        samples=100,
        needs="one GPU, ten minutes",
    ),
    Recipe(
        "frey_faces",
        data="frey_faces",
        options={"latent": 16, "width": 16},
        fit={"steps": 10_000, "batch_size": 64, "lr": 1e-3, "schedule": cosine, "ema": 0.999},
        metric="bits_per_dim",
        needs="one GPU, five minutes",
    ),
    Recipe(
        "lfw",
        data="lfw",
        options={"latent": 64, "width": 64},
        fit={"steps": 20_000, "batch_size": 128, "lr": 1e-3, "schedule": cosine, "ema": 0.999},
        metric="bits_per_dim",
        samples=100,
        needs="one GPU, ten minutes",
    ),
    Recipe(
        "cifar10",
        data="cifar10",
        options={"latent": 128, "width": 64},
        fit={"steps": 40_000, "batch_size": 128, "lr": 1e-3, "schedule": cosine, "ema": 0.999},
        metric="bits_per_dim",
        samples=100,
        needs="one GPU, ten minutes",
    ),
)
