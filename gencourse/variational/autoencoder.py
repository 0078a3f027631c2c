"""Autoencoders (slides 36 to 43; Hinton and Salakhutdinov, 2006, https://doi.org/10.1126/science.1127647).

    z = encode(x)          the features, a code with fewer dimensions than x
    y = decode(z)          the reconstruction
    loss = |y - x|^2       no labels are needed

An encoder that is trained so has to keep what the decoder needs. Without activations, the best one spans the space of the
first principal components (Baldi and Hornik, 1989, https://doi.org/10.1016/0893-6080(89)90014-2). With `corrupt`, the encoder
sees a damaged x and the loss asks for the whole one (Vincent et al., 2008, https://doi.org/10.1145/1390156.1390294).

There is no distribution over z, so an autoencoder is no generative model: it cannot be sampled (slide 43). `WithDensity` fits one
afterwards. In a variational autoencoder it is there from the start.
"""

import copy
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from gencourse import arguments
from gencourse.arguments import positive_integer
from gencourse.kinds import Implicit, Learner, Move
from gencourse.networks import full_precision, mlp
from gencourse.space import Space
from gencourse.variational.networks import conv_decoder, conv_encoder

Corruption = Callable[[Tensor], Tensor]


class BaseAutoencoder(Learner):
    """What both autoencoders below can do; they differ in their networks.

    Attributes:
        encoder: images in [-1, 1], or points, `(B, *space.shape)`, to codes `(B, latent)`.
        decoder: back again.
    """

    def __init__(
        self, space: Space, *, latent: int, encoder: nn.Module, decoder: nn.Module, corrupt: Corruption | None = None
    ) -> None:
        super().__init__(space)
        name = type(self).__name__
        if corrupt is not None and not callable(corrupt):
            raise ValueError(f"{name}: corrupt must be a function of a batch, such as Blanking(0.3), not {corrupt!r}.")
        self.latent, self.encoder, self.decoder, self.corrupt = latent, encoder, decoder, corrupt

    def encode(self, x: Tensor) -> Tensor:
        """The code of each example, `(B, latent)`.

        Raises:
            TypeError, ValueError: if the kind or shape of `x` is not the space's.
        """
        return full_precision(self.encoder(self.centred(x)))

    def decode(self, z: Tensor) -> Tensor:
        """What the decoder makes of codes `(..., latent)`: `(..., *space.shape)`, grey levels as real numbers, or points."""
        y = self._decoded(z)
        return y if self.space.levels is None else (y + 1) * ((self.space.levels - 1) / 2)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """`decode(encode(x))` as examples of the space, `(B, *space.shape)`: integers where it has grey levels."""
        with self.evaluation():
            return self.space.from_signed(self._decoded(self.encode(x)))

    def squared_error(self, x: Tensor) -> Tensor:
        """The L2 loss of each example, `(B,)`: `|y - x|^2` summed over pixels, with grey levels scaled to [-1, 1]."""
        clean = self.centred(x)
        return self._error(clean, clean)

    def moves(self) -> list[Move]:
        """One move: lower the squared error; of what was corrupted first, if `corrupt` is given."""

        def error(x: Tensor, context: Tensor | None = None) -> Tensor:
            if context is not None:
                raise ValueError(f"{type(self).__name__} learns without labels: it takes no context.")
            clean = self.centred(x)
            return self._error(clean if self.corrupt is None else self.corrupt(clean), clean)

        return [Move("error", error, self.parameters())]

    def sample(self, *_: Any, **__: Any) -> NoReturn:
        """An autoencoder has nothing to sample from.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"{type(self).__name__} has no distribution over its codes, so it cannot be sampled; WithDensity fits one "
            "afterwards, and a VAE has one from the start."
        )

    def centred(self, x: Tensor) -> Tensor:
        """What the encoder is given, `(B, *space.shape)`: grey levels scaled to [-1, 1]."""
        x = self.space.validate(x, values=False)  # a batch without its channel would broadcast, and be wrong in silence
        return self.space.to_signed(x, next(self.encoder.parameters()).dtype)

    def _decoded(self, z: Tensor) -> Tensor:
        flat = z.reshape(-1, z.shape[-1]).to(next(self.decoder.parameters()).dtype)  # (N, latent)
        return full_precision(self.decoder(flat)).view(*z.shape[:-1], *self.space.shape)

    def _error(self, given: Tensor, wanted: Tensor) -> Tensor:
        y = self._decoded(self.encoder(given))
        return (y - full_precision(wanted)).square().flatten(1).sum(1)  # (B, *shape) -> (B,)


class Autoencoder(BaseAutoencoder):
    """Fully connected encoder and decoder.

    Args:
        space: images of integers, or points.
        latent: the dimension of the code.
        hidden: the widths of the encoder's hidden layers; the decoder has them in reverse. `()` has none: a linear autoencoder.
        activation: the class of the hidden units. The code and the output have none.
        corrupt: applied to what the encoder sees in training, `(B, *space.shape)` in [-1, 1]; None leaves it as it is.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 2,
        hidden: tuple[int, ...] = (200, 200),
        activation: type[nn.Module] = nn.ReLU,
        corrupt: Corruption | None = None,
    ) -> None:
        _check(space, "Autoencoder")
        latent = positive_integer("Autoencoder: latent", latent)
        hidden = hidden if hidden == () else arguments.widths("Autoencoder: hidden", hidden)
        encoder = nn.Sequential(nn.Flatten(), *mlp(space.dim, hidden, latent, activation))
        decoder = nn.Sequential(*mlp(latent, hidden[::-1], space.dim, activation), nn.Unflatten(1, space.shape))
        super().__init__(space, latent=latent, encoder=encoder, decoder=decoder, corrupt=corrupt)


class ConvAutoencoder(BaseAutoencoder):
    """The networks of slide 38: four convolutions down to a small map and the code, four fractionally strided ones up.

    A layer with kernel 4, stride 2 and padding 1 halves the sides of its map, or doubles them. As many of the four do so as the
    image allows, the last ones of the encoder, the first of the decoder; the others keep the sides (kernel 3, stride 1). So 32
    and 64 are halved four times, 28 twice (28, 14, 7), and 8 twice (8, 4, 2).

    Args:
        space: images of integers.
        latent: the dimension of the code.
        width: channels of the first layer; each halving but the first doubles them.
        norm: makes a layer of its channels after each convolution, such as `nn.BatchNorm2d`.
        corrupt: as in `Autoencoder`.
    """

    def __init__(
        self,
        space: Space,
        *,
        latent: int = 16,
        width: int = 16,
        norm: Callable[[int], nn.Module] = nn.Identity,
        corrupt: Corruption | None = None,
    ) -> None:
        _check(space, "ConvAutoencoder")
        latent = positive_integer("ConvAutoencoder: latent", latent)
        encoder = conv_encoder(space, outputs=latent, width=width, norm=norm)
        decoder = conv_decoder(space, inputs=latent, width=width, norm=norm)
        super().__init__(space, latent=latent, encoder=encoder, decoder=decoder, corrupt=corrupt)


class WithDensity(Implicit):
    """An autoencoder and a density that was fitted to its codes afterwards: together, something that can be sampled.

    Args:
        autoencoder: a trained one; it is copied.
        x: the examples whose codes the density is fitted to, `(N, *space.shape)`.
        density: of scikit-learn, such as `GaussianMixture(10)` or `KernelDensity(bandwidth=0.5)`; it is copied.
    """

    def __init__(self, autoencoder: BaseAutoencoder, x: Tensor, density: Any) -> None:
        from sklearn.base import clone

        super().__init__(autoencoder.space)
        self.autoencoder = copy.deepcopy(autoencoder).requires_grad_(False)
        if not all(hasattr(density, name) for name in ("fit", "sample")):
            raise TypeError(f"WithDensity needs a density with fit and sample, such as GaussianMixture(10), not {density!r}.")
        with torch.no_grad(), self.evaluation():
            codes = torch.cat([self.autoencoder.encode(part) for part in x.split(1000)])  # (N, latent)
        self.density = clone(density).fit(codes.double().cpu().numpy())

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        self._unconditional(context)
        device = "cpu" if generator is None else generator.device
        seed = int(torch.randint(2**31 - 1, (), generator=generator, device=device))
        like = next(self.autoencoder.parameters())
        if n == 0:
            z = like.new_zeros(0, self.autoencoder.latent)
        elif "random_state" in self.density.get_params():  # a mixture, which says too which component a draw is from
            z = torch.as_tensor(self.density.set_params(random_state=seed).sample(n)[0])
        else:
            z = torch.as_tensor(self.density.sample(n, random_state=seed))
        z = z[torch.randperm(n, generator=generator, device=device).to(z.device)]  # mixtures draw one component after the other
        return self.space.from_signed(self.autoencoder._decoded(z.to(like.device)))

    def moves(self) -> NoReturn:
        """The density is fitted when the object is made.

        Raises:
            TypeError: always.
        """
        raise TypeError("WithDensity has nothing to train: train the autoencoder first, its codes are given a density then.")


def _check(space: Space, name: str) -> None:
    if not isinstance(space, Space):
        raise TypeError(f"{name} expects a gencourse.space.Space first, not {type(space).__name__}.")
