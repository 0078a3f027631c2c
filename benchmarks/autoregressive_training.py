"""Training steps of NADE and MADE, one thread, batches of 64, each against the obvious way to write it.

    python benchmarks/autoregressive_training.py [--rounds 7]

A step is the loss, its gradient and an update by (fused) Adam. The candidates of a table take turns within each round,
and the ratios are medians over the rounds of ratios within a round, so that other work on the machine hurts all alike.
"""

import argparse
import math
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.autoregressive.made import MADE
from gencourse.autoregressive.nade import NADE
from gencourse.space import Space

BATCH, HIDDEN = 64, 500


class IndexingNADE(nn.Module):
    """NADE's recurrence as the formula stands: a_{i+1} = a_i + W[:, i] x_i, pixel by pixel."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space, dim = space, space.dim
        self.W = nn.Parameter(torch.randn(HIDDEN, dim) / math.sqrt(dim))
        self.V = nn.Parameter(torch.randn(dim, HIDDEN) / math.sqrt(HIDDEN))
        self.b, self.c = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(HIDDEN))

    def loss(self, x: Tensor) -> Tensor:
        x = x.flatten(1).float()
        a, logits = self.c.expand(len(x), -1), []
        for i in range(x.shape[1]):
            logits.append(torch.sigmoid(a) @ self.V[i] + self.b[i])
            a = a + x[:, i, None] * self.W[:, i]
        return F.binary_cross_entropy_with_logits(torch.stack(logits, 1), x, reduction="sum") / len(x)


class UnbindingNADE(IndexingNADE):
    """The same, but every matrix is cut into its rows once, so that the gradient is put together once."""

    def loss(self, x: Tensor) -> Tensor:
        x = x.flatten(1).float()
        a, logits = self.c.expand(len(x), -1), []
        for x_i, W_i, V_i in zip(x.T.unsqueeze(-1).unbind(), self.W.T.unbind(), self.V.unbind(), strict=True):
            logits.append(torch.sigmoid(a) @ V_i)
            a = a + x_i * W_i
        return F.binary_cross_entropy_with_logits(torch.stack(logits, 1) + self.b, x, reduction="sum") / len(x)


class PlainMADE(nn.Module):
    """Linear, ReLU, Linear (and the direct connections) in plain PyTorch, the weights multiplied by their masks before use.

    With `once` they are multiplied before training and never again. That is what the network costs without masks, but it
    is no MADE: after one step of training the cut connections are back.
    """

    def __init__(self, made: MADE, *, once: bool = False) -> None:
        super().__init__()
        self.space, dim, self.once = made.space, made.space.dim, once
        sizes = [(dim, HIDDEN), (HIDDEN, dim)] + [(dim, dim)] * (made.direct is not None)
        self.layers = nn.ModuleList(nn.Linear(*size) for size in sizes)
        self.masks = made.connections()[: len(sizes)]
        with torch.no_grad():
            for layer, mask in zip(self.layers, self.masks, strict=True):
                layer.weight *= mask

    def loss(self, x: Tensor) -> Tensor:
        x = x.flatten(1).float()
        weights = [layer.weight if self.once else layer.weight * m for layer, m in zip(self.layers, self.masks, strict=True)]
        h = torch.relu(F.linear(x, weights[0], self.layers[0].bias))
        logits = F.linear(h, weights[1], self.layers[1].bias)
        if len(weights) == 3:
            logits = logits + F.linear(x, weights[2])
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)


class Stepper:
    """Makes training steps and keeps how long each took."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.seconds = model, []
        self.x = (torch.rand(BATCH, *model.space.shape, generator=torch.Generator().manual_seed(0)) < 0.2).long()
        # Fused: elsewhere Adam takes square roots of the cut connections' zero gradients, which some processors do slowly.
        self.optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), fused=True)
        move = model.moves()[0].loss if isinstance(model, NADE | MADE) else None
        self.loss = (lambda x: move(x, None).mean()) if move else model.loss

    def step(self) -> None:
        start = time.perf_counter()
        self.optimizer.zero_grad()
        self.loss(self.x).backward()
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - start)


def compare(title: str, models: dict[str, nn.Module], rounds: int, steps: int) -> None:
    """Time the models in turn, `steps` steps each in a round, of which the fastest counts; ratios are to the first model."""
    steppers = {name: Stepper(model) for name, model in models.items()}
    rounds_of: dict[str, list[float]] = {name: [] for name in models}
    for stepper in steppers.values():
        stepper.step()  # warm up
    for _ in range(rounds):
        for name, stepper in steppers.items():
            stepper.seconds.clear()
            for _ in range(steps):
                stepper.step()
            rounds_of[name].append(min(stepper.seconds))
    print(f"\n{title:48}{'ms a step':>10}{'ratio':>8}")
    first = next(iter(rounds_of.values()))
    for name, seconds in rounds_of.items():
        ratio = statistics.median(s / f for s, f in zip(seconds, first, strict=True))
        print(f"  {name:46}{1000 * statistics.median(seconds):10.1f}{ratio:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mnist = Space((1, 28, 28), 2)
    nades = {"a loop that indexes": IndexingNADE(mnist), "a loop over unbind": UnbindingNADE(mnist), "gencourse": NADE(mnist)}
    compare("NADE, 784 pixels, 500 hidden units", nades, rounds, steps=2)
    for direct in (False, True):
        made = MADE(mnist, direct=direct)
        plain = {"plain PyTorch": PlainMADE(made), "plain, masked once (no MADE)": PlainMADE(made, once=True)}
        title = "MADE, 784-500-784" + (" and 784-784 direct" if direct else "")
        compare(title, {**plain, "gencourse": made}, rounds, steps=5)
    for cls in (NADE, MADE):
        spaces = [Space((1, side, side), 2) for side in (7, 14, 28, 56)]
        grown = {f"{space.dim} pixels": cls(space, **({"direct": False} if cls is MADE else {})) for space in spaces}
        compare(f"{cls.__name__}, 500 hidden units, growing", grown, max(3, rounds // 3), steps=2)


if __name__ == "__main__":
    main()
