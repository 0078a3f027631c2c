"""Models so small that everything about them is known; shared by the tests, and importable in their child processes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.kinds import Approximate, GenerativeModel, Implicit, Tractable
from gencourse.space import Space
from gencourse.train import Move


class Pixels(Tractable):
    """Independent pixels with free probabilities; with `classes`, a table of them for each class (the context)."""

    def __init__(self, space: Space, *, classes: int | None = None) -> None:
        super().__init__(space)
        self.classes = classes
        self.logits = nn.Parameter(torch.randn(classes or 1, space.dim, space.levels))

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        rows = torch.zeros(len(x), dtype=torch.long) if context is None else context
        table = self.logits.log_softmax(-1)[rows]  # (B, D, levels)
        return table.gather(-1, x.long().flatten(1).unsqueeze(-1)).sum((1, 2))

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        p = self.logits[0].softmax(-1)
        return torch.multinomial(p, n, replacement=True, generator=generator).T.reshape(n, *self.space.shape)


class Walker(Tractable):
    """One weight whose gradient is known: in training the loss is the weight, in evaluation its distance from -`best`."""

    def __init__(self, best: float = 5.0) -> None:
        super().__init__(Space((1,), levels=100))
        self.weight = nn.Parameter(torch.zeros(()))
        self.best = best
        self.seen: list[Tensor] = []

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if not self.training:
            return -((self.weight + self.best) ** 2).expand(len(x))
        self.seen.append(x.flatten().clone())
        return -self.weight.expand(len(x))


class Duel(Implicit):
    """A GAN in miniature on the line: the discriminator moves twice, then the generator once."""

    def __init__(self, space: Space = Space((2,))) -> None:  # noqa: B008
        super().__init__(space)
        self.generator = nn.Linear(3, space.dim)
        self.discriminator = nn.Sequential(nn.Linear(space.dim, 8), nn.Tanh(), nn.Linear(8, 1))

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.generator(torch.randn(n, 3, generator=generator))

    def d_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        fake = self.generator(torch.randn(len(x), 3))
        return (F.softplus(-self.discriminator(x)) + F.softplus(self.discriminator(fake))).squeeze(-1)

    def g_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return F.softplus(-self.discriminator(self.generator(torch.randn(len(x), 3)))).squeeze(-1)

    def moves(self) -> list[Move]:
        return [
            Move("d", self.d_loss, self.discriminator.parameters(), times=2),
            Move("g", self.g_loss, self.generator.parameters()),
        ]


class OneCoin(Approximate):
    """A coin whose `log_prob_estimate` is the truth plus seeded noise, for what is built on estimates."""

    def __init__(self) -> None:
        super().__init__(Space((1,), levels=2))
        self.logit = nn.Parameter(torch.tensor(0.0))

    def log_prob_estimate(self, x, context=None, *, samples=100, generator=None):
        noise = torch.randn(len(x), generator=generator) / samples
        return F.logsigmoid(torch.where(x.flatten() == 1, self.logit, -self.logit)) + noise


def weights(model: GenerativeModel) -> Tensor:
    """All parameters as one copied vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])
