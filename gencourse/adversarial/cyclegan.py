"""CycleGAN: from image to image, without pairs (Zhu, Park, Isola and Efros, 2017, https://arxiv.org/abs/1703.10593; slide 125).

There are pictures x of one kind, A, and y of another, B, and nobody says which belong together. Two generators, two
discriminators:

    ab: A -> B, ba: B -> A          d_b tells ab(x) from pictures of B, d_a tells ba(y) from pictures of A

    g lowers    gan [g(d_b(ab(x))) + g(d_a(ba(y)))]          each translation looks like the other kind
              + cycle [|ba(ab(x)) - x| + |ab(ba(y)) - y|]    and there and back again is where one was (their Eq. 2)
              + identity [|ab(y) - y| + |ba(x) - x|]         what is of the kind already stays as it is (section 5.2)

The game alone asks for the right distribution, which any shuffling of the right pictures has; the cycle alone asks that the
two maps undo each other, which any permutation and its inverse do. Together they leave fewer maps, and networks that find it
easier to keep a picture's form than to rearrange it; nothing makes the map *the* one.

The paper's losses are least squares, and its discriminators see fakes from a pool of the last 50 (Shrivastava et al., 2017), so
that they do not forget what the generators no longer do.
"""

from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from gencourse.adversarial import losses
from gencourse.adversarial.losses import Loss
from gencourse.adversarial.translation import Layers, PatchDiscriminator, UNet, l1_error, pair_of_spaces, pictures
from gencourse.arguments import decay_rates, non_negative, non_negative_integer
from gencourse.data.scenes import unpaired_styles
from gencourse.kinds import Implicit
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine


class CycleGAN(Implicit):
    """Two translators between two kinds of pictures, A (the space) and B (`other`), learnt from unpaired examples.

    A batch is pictures x of A, and as its `context` as many pictures y of B, integers `(B, *other.shape)`. The losses are sums
    of a function of each x and a function of each y, so their means and gradients are the same in whatever order the y come:
    who belongs to whom is not looked at, and pairs that a batch holds by accident help nobody.

    `sample(n, context)` draws from what the model has learnt of A, given B: it is `back(context)`. It uses no noise.

    Args:
        space: images of integers, A.
        other: those of B, of the same sides; None takes the same space.
        widths: channels of the maps of both translators, which are U-Nets without noise, from the full side down.
        d_width, patch: channels of the discriminators' first map, and their convolutions, (kernel, stride) each.
        cycle: the weight of the cycle loss; 0 leaves the two games alone.
        identity: the weight of the identity loss, for which A and B must have as many channels; 0 leaves it out.
        gan: the weight of the discriminators' word; 0 leaves the cycle alone, and nothing is played against. The library's least
            squares are halved, so that 2 is the paper's weight.
        pool: how many fakes each discriminator's pool holds; 0 shows it fresh ones only.
        loss: what the players lower, of `gencourse.adversarial.losses`.
        betas: Adam's, for all players.

    Raises:
        ValueError: if the sides differ or cannot be halved, nothing is left to learn, or a number is out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        other: Space | None = None,
        widths: tuple[int, ...] = (16, 32),
        d_width: int = 24,
        patch: Layers = ((4, 2), (4, 2), (3, 1)),
        cycle: float = 10.0,
        identity: float = 0.0,
        gan: float = 2.0,
        pool: int = 50,
        loss: Loss = losses.least_squares(),  # noqa: B008  a frozen value
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        super().__init__(space)
        self.other, times = pair_of_spaces("CycleGAN", space, other)
        if times != 1:
            raise ValueError(
                f"CycleGAN translates both ways: its pictures must have the same sides, not {space} and {self.other}."
            )
        self.cycle, self.gan = non_negative("CycleGAN: cycle", cycle), non_negative("CycleGAN: gan", gan)
        self.identity = non_negative("CycleGAN: identity", identity)
        if not self.cycle and not self.gan:
            raise ValueError("CycleGAN: with cycle=0 and gan=0 nothing ties A to B; give one of them a weight.")
        a, b = space.shape[0], self.other.shape[0]
        if self.identity and a != b:
            raise ValueError(f"CycleGAN: an identity loss needs as many channels in A as in B, not {a} and {b}.")
        if not isinstance(loss, Loss):
            raise TypeError(f"CycleGAN: loss must be one of gencourse.adversarial.losses, not {loss!r}.")
        self.loss, self.betas = loss, decay_rates("CycleGAN: betas", betas)
        sides = space.shape[1:]
        self.ab, self.ba = (UNet(*pair, sides=sides, widths=widths) for pair in ((a, b), (b, a)))
        self.d_a, self.d_b = (PatchDiscriminator(c, sides=sides, width=d_width, layers=patch) for c in (a, b))
        size = non_negative_integer("CycleGAN: pool", pool)
        self.pool_a, self.pool_b = Pool(size, space.shape), Pool(size, self.other.shape)

    # --- the game -----------------------------------------------------------------------------------------------------

    def g_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The translators' loss on pictures of A and as many of B, `(B,)`."""
        x, y = self._seen(x, context)
        to_b, to_a = self.ab(None, x), self.ba(None, y)
        loss = x.new_zeros(len(x))
        if self.gan:
            loss = loss + self.gan * self.loss.g_loss(self.d_b(to_b)).mean(dim=(1, 2))
            loss = loss + self.gan * self.loss.g_loss(self.d_a(to_a)).mean(dim=(1, 2))
        if self.cycle:
            loss = loss + self.cycle * (l1_error(self.ba(None, to_b), x) + l1_error(self.ab(None, to_a), y))
        if self.identity:
            loss = loss + self.identity * (l1_error(self.ab(None, y), y) + l1_error(self.ba(None, x), x))
        return loss

    def d_a_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The loss of A's discriminator on pictures of A and as many translated from B, `(B,)`; `ba` gets no gradient."""
        x, y = self._seen(x, context)
        return self._d_loss(self.d_a, x, self.ba, y, None)

    def d_b_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The loss of B's discriminator on pictures of B and as many translated from A, `(B,)`; `ab` gets no gradient."""
        x, y = self._seen(x, context)
        return self._d_loss(self.d_b, y, self.ab, x, None)

    def _d_loss(self, d: nn.Module, real: Tensor, translator: nn.Module, given: Tensor, pool: "Pool | None") -> Tensor:
        with torch.no_grad():
            fake = translator(None, given)
            fake = fake if pool is None else pool.exchange(fake)
        return self.loss.d_loss(d(real), d(fake)).mean(dim=(1, 2))

    def moves(self) -> list[Move]:
        """The translators' move, and one of each discriminator, which sees fakes by way of its pool; the first alone if `gan=0`.

        The pools are filled by these moves and by nothing else: looking at a loss changes none. The cycle alone has a loss
        that says which weights are better, and is validated; in the game none does.
        """

        def d_a(x: Tensor, context: Tensor | None = None) -> Tensor:
            """`d_a_loss`, with fakes from the pool."""
            x, y = self._seen(x, context)
            return self._d_loss(self.d_a, x, self.ba, y, self.pool_a)

        def d_b(x: Tensor, context: Tensor | None = None) -> Tensor:
            """`d_b_loss`, with fakes from the pool."""
            x, y = self._seen(x, context)
            return self._d_loss(self.d_b, y, self.ab, x, self.pool_b)

        adam = partial(torch.optim.Adam, betas=self.betas, fused=True)
        translators = chain(self.ab.parameters(), self.ba.parameters())
        g = Move("g", self.g_loss, translators, optimizer=adam, validate=not self.gan)
        if not self.gan:
            return [g]
        return [
            g,
            Move("d_a", d_a, self.d_a.parameters(), optimizer=adam, validate=False),
            Move("d_b", d_b, self.d_b.parameters(), optimizer=adam, validate=False),
        ]

    # --- use ----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def translate(self, x: Tensor) -> Tensor:
        """Pictures of A `(B, *space.shape)` as pictures of B, integers `(B, *other.shape)`, without gradient."""
        with self.evaluation():
            return self.other.from_signed(self.ab(None, self._see(self.space, x, len(x))))

    @torch.no_grad()
    def back(self, y: Tensor) -> Tensor:
        """Pictures of B `(B, *other.shape)` as pictures of A, integers `(B, *space.shape)`, without gradient."""
        with self.evaluation():
            return self.space.from_signed(self.ba(None, self._see(self.other, y, len(y))))

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.space.from_signed(self.ba(None, self._see(self.other, context, n)))

    def example_context(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` pictures of B made of noise, integers `(n, *other.shape)`."""
        return torch.randint(int(self.other.levels or 2), (n, *self.other.shape), generator=generator, device=self.device)

    def _seen(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """x and y as the networks see them, on [-1, 1]."""
        return self._see(self.space, x, len(x)), self._see(self.other, context, len(x))

    def _see(self, space: Space, x: Tensor | None, n: int) -> Tensor:
        return pictures("CycleGAN", space, x, n, next(self.ab.parameters()))


class Pool(nn.Module):
    """The last fakes, of which a discriminator is shown some in place of new ones. (Of several processes, each has its own.)

    Args:
        size: how many it holds.
        shape: of one.

    Attributes:
        images, filled: what it holds and how many, buffers: they are saved with the weights, so that a resumed run goes on
            with the same fakes.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def exchange(self, fakes: Tensor) -> Tensor:
        """What to show in place of new fakes `(B, ...)`: until the pool is full, themselves, and they are kept; then of each,
        with probability 1/2, one from the pool, whose place it takes."""
        shown, filled = fakes.clone(), int(self.filled)
        new = min(self.size - filled, len(fakes))
        self.images[filled : filled + new] = fakes[:new]
        self.filled += new
        rest = torch.arange(new, min(len(fakes), new + self.size), device=fakes.device)
        places = torch.randperm(self.size, device=fakes.device)[: len(rest)]  # no two fakes for one place
        swapped = torch.rand(len(rest), device=fakes.device) < 0.5
        rest, places = rest[swapped], places[swapped]
        shown[rest] = self.images[places]
        self.images[places] = fakes[rest]
        return shown


RECIPES = (
    Recipe(
        "styles",
        data=partial(unpaired_styles, size=16),
        options={"identity": 5.0},
        fit={"steps": 400, "batch_size": 16, "lr": 1e-3, "ema": 0.99, "conditional": True},
        metric="translation_error",
        band=0.15,  # leaving the pictures as they are has 0.17
    ),
    Recipe(
        "styles64",
        data=partial(unpaired_styles, size=64, n=10_000),
        options={
            "identity": 5.0,
            "widths": (64, 128, 256, 256),
            "d_width": 64,
            "patch": ((4, 2), (4, 2), (4, 2), (4, 1), (4, 1)),
        },
        fit={"steps": 20_000, "batch_size": 16, "lr": 2e-4, "schedule": cosine, "ema": 0.999, "conditional": True},
        metric="translation_error",
        needs="one GPU, ten minutes",
    ),
)
