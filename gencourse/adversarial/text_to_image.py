"""Pictures from captions (Reed et al., 2016, https://arxiv.org/abs/1605.05396; slide 125).

    phi(t)            a caption's code: what a recurrent network has read when it is at the last word
    G(z, phi(t))      a picture for the caption, a different one for each z
    D(x, phi(t))      a logit: is the picture real, *and* does it show what the caption says?

An ordinary conditional game shows the discriminator real pictures with their captions, and made ones. It can win by their
looks alone, and then the generator hears nothing of the words. The matching-aware discriminator (GAN-CLS, Algorithm 1) is
shown a third kind, real pictures with the wrong caption, and must reject them for that reason:

    d:  l+(D(x, t)) + 1/2 [l-(D(x, t')) + l-(D(G(z, t), t))]        t' another picture's caption
    g:  l(D(G(z, t), t))

with the two sides l+ and l- of any loss of `losses`. The wrong captions are those of the batch, moved on by one. One that
happens to be right teaches something false; it is rare where there are many captions, and drowned by the rest.

Codes can be mixed where there is no caption in between: GAN-INT (Eq. 5) gives the generator beta phi(t1) + (1 - beta) phi(t2)
too, so that it learns from more conditions than there are captions.

The paper takes phi from a network that was trained before, on pictures and captions. Here it learns in the discriminator's
move, whose task is the same: which caption belongs to which picture. The generator reads the codes and does not change them.
Both players need one code in common, or a mixture would not be the same question to both.

The networks are small: conditional batch norm hands z and the code to every layer of the generator; the discriminator's layers
have spectral norm, and picture and caption meet in a projection *before* the places of the map are pooled, as "top left" cannot
be judged after.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.adversarial import losses
from gencourse.adversarial.base import Adversarial
from gencourse.adversarial.dcgan import sides
from gencourse.adversarial.layers import ConditionalBatchNorm2d, ProjectionHead, SpectralNorm, measure_batch_norm
from gencourse.adversarial.losses import Loss
from gencourse.arguments import decay_rates, least_integer, positive, positive_integer, probability
from gencourse.data.captions import LENGTH, VOCABULARY, captioned_scenes, facts, tokenise
from gencourse.data.scenes import SHAPES
from gencourse.metrics.scenes import read
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine


def matching_aware(loss: Loss, right: Tensor, wrong: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss of GAN-CLS, `(B,)`: both kinds of mistake count half (Reed et al., 2016, Algorithm 1).

    A loss of two logits is a sum of one of each, l+(right) + l-(other), so that its mean over both kinds is the formula above.

    Args:
        loss: of `gencourse.adversarial.losses`.
        right: the logits of real pictures with their captions, `(B,)`.
        wrong: those of real pictures with captions of others.
        fake: those of made pictures with the captions they were made for.
    """
    return (loss.d_loss(right, wrong) + loss.d_loss(right, fake)) / 2


def mixed(codes: Tensor, share: float, beta: float = 0.5) -> Tensor:
    """The codes `(B, code)`, in about a `share` of the rows mixed with the next row's: `beta` of the own, the rest of the other.

    Which rows is drawn anew each time, from the global generator. With a share of 0 or a beta of 1 they are the captions' own.
    """
    if not share:
        return codes
    chosen = torch.rand(len(codes), 1, device=codes.device) < share
    return torch.where(chosen, beta * codes + (1 - beta) * codes.roll(1, 0), codes)


class TextToImage(Adversarial):
    """A game about pictures and captions: the generator draws what is written, and the discriminator sees whether it did.

    A caption is a row of token ids 1 to `words` - 1, with 0 for nothing after its end; `context` is `(B, L)`, L up to `length`.

    Args:
        space: images of integers, whose sides can be halved (`dcgan.sides` has the rule).
        words: how many ids there are, with the 0; by default those of `gencourse.data.captions`.
        length: of the longest caption.
        latent: the dimension of z.
        code: the dimension of phi(t), and of a word's vector.
        width: channels of the largest hidden map of both networks; each smaller one has twice as many.
        loss: what the two lower, of `gencourse.adversarial.losses`.
        cls: whether the discriminator is shown wrong captions; False is the ordinary conditional game.
        interpolate: the share of the generator's captions that are mixed with another, half and half; 0 is none.
        betas: Adam's, for both players.
        g_lr: the generator's learning rate; None takes `fit`'s, which is the discriminator's.

    Attributes:
        encoder: a module, captions `(B, L)` to codes `(B, code)`; it learns in the discriminator's move.
        recent: the last captions trained on, `(512, length)`, a buffer; batch norm's statistics are measured on them.

    Raises:
        ValueError: if the space has no images that can be halved, or a number is out of its range.
    """

    recent: Tensor

    def __init__(
        self,
        space: Space,
        *,
        words: int = len(VOCABULARY),
        length: int = LENGTH,
        latent: int = 16,
        code: int = 32,
        width: int = 32,
        loss: Loss = losses.hinge,
        cls: bool = True,
        interpolate: float = 0.0,
        betas: tuple[float, float] = (0.0, 0.99),
        g_lr: float | None = None,
    ) -> None:
        super().__init__(space, latent=latent)
        if space.levels is None:
            raise ValueError(f"TextToImage draws images of integers, but the space is {space}.")
        if not isinstance(loss, Loss):
            raise TypeError(f"TextToImage: loss must be one of gencourse.adversarial.losses, not {loss!r}.")
        self.words, self.length = least_integer("TextToImage: words", words, 2), positive_integer("TextToImage: length", length)
        self.loss, self.cls = loss, bool(cls)
        self.interpolate = 1.0 if interpolate == 1 else probability("TextToImage: interpolate", interpolate)
        self.betas = decay_rates("TextToImage: betas", betas)
        self.g_lr = None if g_lr is None else positive("TextToImage: g_lr", g_lr)
        code, width = positive_integer("TextToImage: code", code), positive_integer("TextToImage: width", width)
        self.encoder = Encoder(self.words, code)
        self.generator = Generator(space, latent=self.latent, code=code, width=width)
        self.discriminator = Discriminator(space, code=code, width=width)
        self.register_buffer("recent", torch.zeros(512, self.length, dtype=torch.long))

    # --- the game -----------------------------------------------------------------------------------------------------

    def d_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The loss of discriminator and encoder on pictures and their captions, `(B,)`; no gradient to the generator."""
        real, codes = self.centred(x), self._condition(context, len(x))
        with torch.no_grad():
            fake = self._made(self.draw_latent(len(x)), codes)
        right, made = self._judged(torch.cat([real, fake]), codes.repeat(2, 1)).chunk(2)
        if not self.cls:
            return self.loss.d_loss(right, made)
        return matching_aware(self.loss, right, self._judged(real, codes.roll(1, 0)), made)

    def g_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The generator's loss on as many pictures as there are captions, `(B,)`; no gradient to the encoder."""
        codes = mixed(self._condition(context, len(x)).detach(), self.interpolate)
        return self.loss.g_loss(self._judged(self._made(self.draw_latent(len(x)), codes), codes))

    def moves(self) -> list[Move]:
        """One update of discriminator and encoder, one of the generator; neither loss says how good the pictures are."""

        def d(x: Tensor, context: Tensor | None = None) -> Tensor:
            """`d_loss`, and the captions are noted for `settle`."""
            loss = self.d_loss(x, context)
            with torch.no_grad():
                rows = F.pad(self._captions(context, len(x)), (0, self.length))[-len(self.recent) :, : self.length]
                self.recent.copy_(torch.cat([self.recent[len(rows) :], rows]))
            return loss

        adam = partial(torch.optim.Adam, betas=self.betas, fused=True)
        judges = [*self.discriminator.parameters(), *self.encoder.parameters()]
        return [
            Move("d", d, judges, optimizer=adam, validate=False),
            Move("g", self.g_loss, self.generator.parameters(), optimizer=adam, lr=self.g_lr, validate=False),
        ]

    @torch.no_grad()
    def settle(self, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> None:
        """Measure the generator's batch-norm statistics afresh, on captions `(n, L)`; by default the last 512 trained on.

        Those gathered in training belong to other weights where the weights were averaged.
        """
        if context is None:
            context = self.recent[self.recent[:, 0] > 0]
            context = context if len(context) else self.example_context(len(self.recent), generator=generator)
        with self.evaluation():
            codes = self._condition(context, len(context))
            z = self.draw_latent(len(codes), generator=generator)
            measure_batch_norm(self.generator, [(z, codes)])

    # --- captions and codes -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, context: Tensor) -> Tensor:
        """The codes of captions `(B, L)`, `(B, code)`: in evaluation mode, without gradient."""
        with self.evaluation():
            return self._condition(context, len(context))

    @torch.no_grad()
    def between(self, first: Tensor, second: Tensor, betas: Tensor, *, z: Tensor) -> Tensor:
        """Pictures for the codes (1 - beta) phi(first) + beta phi(second), a row for each z: `(Z, N, *space.shape)`.

        Args:
            first, second: captions, `(L,)` each.
            betas: `(N,)`; 0 is the first caption, 1 the second.
            z: `(Z, latent)`. In a row nothing changes but the code.
        """
        start, end = self.encode(torch.stack([first, second]))
        codes = torch.lerp(start, end, betas.to(start)[:, None])  # (N, code)
        with self.evaluation():
            y = self._made(z.to(start).repeat_interleave(len(codes), 0), codes.repeat(len(z), 1))
        return self.to_space(y).unflatten(0, (len(z), len(codes)))

    def example_context(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` captions of random words and lengths, `(n, length)`: of the right form, and of no sense."""
        shape = (n, self.length)
        tokens = torch.randint(1, self.words, shape, generator=generator, device=self.device)
        ends = torch.randint(1, self.length + 1, (n, 1), generator=generator, device=self.device)
        return tokens * (torch.arange(self.length, device=self.device) < ends)

    def _captions(self, context: Tensor | None, n: int) -> Tensor:
        """The captions, int64 on the model's device, if they are captions."""
        wanted = f"token ids 1 to {self.words - 1}, and 0 after the end of a caption"
        if context is None or context.dim() != 2 or len(context) != n or not 1 <= context.shape[1] <= self.length:
            given = "none were given" if context is None else f"their shape is {tuple(context.shape)}"
            raise ValueError(f"TextToImage needs captions ({n}, L) as its context, L from 1 to {self.length}, {wanted}; {given}.")
        there = context != 0
        whole = not context.is_floating_point() and bool(((context >= 0) & (context < self.words)).all())
        if not whole or not bool(there[:, 0].all()) or bool((there[:, 1:] & ~there[:, :-1]).any()):
            raise ValueError(f"TextToImage: captions must be {wanted}, one word or more each, not {context}.")
        return context.long().to(self.device)

    def _condition(self, context: Tensor | None, n: int) -> Tensor:
        """The codes of the captions, `(n, code)`."""
        return self.encoder(self._captions(context, n))


def read_between(
    model: TextToImage,
    first: str,
    second: str,
    betas: Tensor,
    *,
    draws: int = 100,
    shapes: Sequence[str] = SHAPES[:3],
    generator: torch.Generator | None = None,
) -> Tensor:
    """What is read of pictures on the way from one caption to another, `(N, 4, 2)`.

    The share, among `draws` pictures for each of the betas `(N,)`, that have the first caption's shape, colour, size and place,
    and the share that have the second's. Where the captions agree in a fact, the two are one.

    Args:
        model: trained on drawn scenes.
        first, second: captions, as `gencourse.data.captions` writes them.
        shapes: those that the model has been shown.
    """
    tokens = tokenise([first, second])
    start, end = tokens.to(model.device)
    pictures = model.between(start, end, betas, z=model.draw_latent(draws, generator=generator))
    found = read(pictures.flatten(0, 1).cpu(), shapes=shapes).facts().unflatten(0, (draws, len(betas)))  # (draws, N, 4)
    return torch.stack([(found == asked).double().mean(0) for asked in facts(tokens)], dim=-1)


# --- networks ---------------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """Captions to codes: a word's vector each, read by a GRU (Cho et al., 2014); its state at the last word is the code."""

    def __init__(self, words: int, code: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, code)
        self.read = nn.GRU(code, code, batch_first=True)

    def forward(self, captions: Tensor) -> Tensor:
        """`(B, L)`, 0 after the end, to `(B, code)`."""
        if not len(captions):
            return self.embed.weight.new_zeros(0, self.embed.embedding_dim)
        states, _ = self.read(self.embed(captions))  # (B, L, code)
        last = (captions > 0).sum(1) - 1  # what is read after the last word is not looked at
        return states[torch.arange(len(captions), device=captions.device), last]  # (B, code)


class Generator(nn.Module):
    """Noise and codes to images in [-1, 1]: fractionally strided convolutions, each map scaled and shifted by z and the code."""

    def __init__(self, space: Space, *, latent: int, code: int, width: int) -> None:
        super().__init__()
        maps = sides(space)
        channels = [width * 2**i for i in reversed(range(len(maps) - 1))]
        self.smallest = (channels[0], *maps[-1])
        self.project = nn.Linear(latent + code, channels[0] * maps[-1][0] * maps[-1][1])
        self.norms = nn.ModuleList(ConditionalBatchNorm2d(c, latent + code) for c in channels)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1) for before, after in pairwise([*channels, space.shape[0]])
        )

    def forward(self, z: Tensor, code: Tensor) -> Tensor:
        """`(B, latent)` and `(B, code)` to `(B, C, H, W)`."""
        c = torch.cat([z, code], dim=1)
        y = self.project(c).unflatten(1, self.smallest)
        for norm, up in zip(self.norms, self.ups, strict=True):
            y = up(F.relu(norm(y, c)))
        return torch.tanh(y)


class Discriminator(nn.Module):
    """Images in [-1, 1] and codes to logits: strided convolutions with spectral norm, and a projection of the map as it is."""

    def __init__(self, space: Space, *, code: int, width: int) -> None:
        super().__init__()
        maps = sides(space)
        channels = [space.shape[0], *(width * 2**i for i in range(len(maps) - 1))]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [SpectralNorm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        layers += [SpectralNorm(nn.Conv2d(channels[-1], channels[-1], 3, padding=1)), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, nn.Flatten())  # (B, C * H * W): each place of the map keeps its own weights
        self.head = ProjectionHead(channels[-1] * maps[-1][0] * maps[-1][1], code, wrap=SpectralNorm)
        # No offset: right pairs would raise it, and the two wrong kinds lower it as much.
        self.head.psi.layer.register_parameter("bias", None)  # type: ignore[union-attr, operator]

    def forward(self, y: Tensor, code: Tensor) -> Tensor:
        """`(B, C, H, W)` and `(B, code)` to logits `(B,)`."""
        return self.head(self.net(y), code)


def held(progress: float) -> float:
    """The full rate for four fifths of the run, then a straight line to 0; shapes are learnt last, when a cosine is low."""
    return min(1.0, 5 * (1 - progress))


RECIPES = (
    Recipe(
        # .84 with seed 2, where a cosine reaches .59 (.72 and .77 with seeds 0 and 1). Colour and place are right in all samples,
        # the size in .93 and more; of the shapes discs and squares differ in a few pixels only.
        "scenes",
        data=captioned_scenes,
        options={"latent": 16, "width": 32},
        fit={"steps": 2000, "batch_size": 32, "lr": 1e-3, "schedule": held, "ema": 0.995, "conditional": True},
        metric="captions_right",
        samples=1000,
        band=0.45,
        needs="two CPU cores, two minutes",
    ),
    Recipe(
        "scenes64",
        data=partial(captioned_scenes, 64, n=50_000),
        options={"latent": 64, "width": 64, "code": 64},
        fit={"steps": 20_000, "batch_size": 128, "lr": 2e-4, "schedule": cosine, "ema": 0.999, "conditional": True},
        metric="captions_right",
        needs="one GPU, ten minutes",
    ),
)
