"""What all games between two networks share: noise, a generator that turns it into examples, and what it is played against."""

import torch
from torch import Tensor, nn

from gencourse.arguments import positive_integer
from gencourse.kinds import Implicit
from gencourse.networks import one_hot
from gencourse.space import Space


class Adversarial(Implicit):
    """A generator that samples, and a discriminator that it learns from; a subclass says what game they play, in `moves`.

    Args:
        space: points, or images of integers. Images are scaled to [-1, 1] for the networks and rounded on the way out.
        latent: the dimension of z.
        classes: how many classes `context` distinguishes, labels `(B,)`; None for an unconditional model.

    Attributes:
        generator: a module `(z, one_hot) -> (B, *space.shape)`.
        discriminator: a module `(y, one_hot) -> (B,)`.

    Raises:
        ValueError: if a number is not a positive integer.
    """

    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, space: Space, *, latent: int, classes: int | None = None) -> None:
        super().__init__(space)
        self.latent = positive_integer(f"{type(self).__name__}: latent", latent)
        self.classes = None if classes is None else positive_integer(f"{type(self).__name__}: classes", classes)

    def draw_latent(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of z, `(n, latent)`, on the model's device."""
        weight = next(self.generator.parameters())
        return torch.randn(n, self.latent, generator=generator, device=weight.device, dtype=weight.dtype)

    @torch.no_grad()
    def generate(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The example at each z `(B, latent)`, `(B, *space.shape)`: in evaluation mode, without gradient."""
        with self.evaluation():
            return self.to_space(self._made(z, self._condition(context, len(z))))

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.generate(self.draw_latent(n, generator=generator), context)

    def centred(self, x: Tensor) -> Tensor:
        """The examples as the networks see them, `(B, *space.shape)`: grey levels scaled to [-1, 1], points as they are.

        Raises:
            TypeError, ValueError: if the kind or shape is not the space's; the values are not looked at.
        """
        return self.space.to_signed(self.space.validate(x, values=False), next(self.discriminator.parameters()).dtype)

    def to_space(self, y: Tensor) -> Tensor:
        """The nearest examples of the space to what the generator gives; the inverse of `centred`."""
        return self.space.from_signed(y)

    def _made(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """What the generator makes of each z, `(B, *space.shape)`, as the networks see examples."""
        y = self.generator(z, condition)
        if y.shape != (len(z), *self.space.shape):
            raise ValueError(
                f"{type(self).__name__}: the generator must give examples {(len(z), *self.space.shape)}, not {tuple(y.shape)}."
            )
        return y

    def _judged(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """What the discriminator says of each example, `(B,)`; another shape would be broadcast, and be wrong in silence."""
        logits = self.discriminator(y, condition)
        if logits.shape != (len(y),):
            raise ValueError(f"{type(self).__name__}: the discriminator must give logits ({len(y)},), not {tuple(logits.shape)}.")
        return logits

    def _condition(self, context: Tensor | None, n: int) -> Tensor | None:
        """The labels `(n,)` as one-hot rows `(n, classes)`."""
        if self.classes is None:
            self._unconditional(context)
            return None
        return one_hot(context, self.classes, n, next(self.generator.parameters()), type(self).__name__)
