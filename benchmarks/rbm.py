"""What contrastive divergence costs: a CD-1 step at 784 x 500, batch 64, one thread, against the same in plain PyTorch.

    python benchmarks/rbm.py                half a minute
    python benchmarks/rbm.py --turns 51     steadier on a busy machine

The plain version is the five products of matrices and nothing else: two halves of a Gibbs step, the hidden units once more, and
the weights changed in place by the statistics of data and reconstruction. It has no loss, checks nothing and records nothing.
That the library makes the same update from the same random numbers is asserted.

*RBM, step* is the model's loss, its gradient and a step of `sgd`; *RBM, fit* is the whole loop, with batches, seeds and history.
All take turns, and the ratios are medians over the turns of ratios of processor time within a turn.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from gencourse.markov.rbm import RBM
from gencourse.space import Space
from gencourse.train import fit, sgd

GOAL = 1.0
SPACE, HIDDEN, BATCH, LR = Space((1, 28, 28), 2), 500, 64, 0.05
STEPS = 50  # in a turn


class Plain:
    """The rule in place."""

    def __init__(self, model: RBM) -> None:
        self.w, self.b, self.c = (p.detach().clone() for p in (model.weight, model.visible_bias, model.hidden_bias))

    def step(self, v: Tensor) -> None:
        w, b, c = self.w, self.b, self.c
        v = v.float().flatten(1)
        h = torch.sigmoid(torch.addmm(c, v, w))
        drawn = (torch.rand_like(h) < h).float()
        p = torch.sigmoid(torch.addmm(b, drawn, w.T))
        v_ = (torch.rand_like(p) < p).float()
        h_ = torch.sigmoid(torch.addmm(c, v_, w))
        rate = LR / len(v)
        w.addmm_(v.T, h, alpha=rate).addmm_(v_.T, h_, alpha=-rate)
        b.add_((v - v_).sum(0), alpha=rate)
        c.add_((h - h_).sum(0), alpha=rate)


class Library:
    """As `fit` plays a move: the loss and the gradient of its own parameters, a step."""

    def __init__(self, model: RBM) -> None:
        self.model = model.train()
        self.move = model.moves()[0]
        self.optimizer = sgd(self.move.learns, lr=LR)

    def step(self, v: Tensor) -> None:
        assert self.move.gradient
        _, gradients = self.move.gradient(v, None)
        for parameter, gradient in zip(self.move.learns, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()


def seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randint(2, (BATCH * STEPS, *SPACE.shape), dtype=torch.uint8)
    model = RBM(SPACE, hidden=HIDDEN)
    model.train().contrast(x[:BATCH])  # the biases have started from the data
    plain, library, fitted = Plain(model), Library(copy.deepcopy(model)), copy.deepcopy(model)
    batches = x.split(BATCH)

    for way in (plain, library):
        torch.manual_seed(1)
        for v in batches[:5]:
            way.step(v)
    gap = float((plain.w - library.model.weight.detach()).abs().max())
    assert gap < 1e-5, f"the two make different updates: a weight differs by {gap:.2g}"

    def play(way: Plain | Library) -> Callable[[], None]:
        return lambda: [way.step(v) for v in batches] and None

    def whole() -> None:
        fit(fitted, x, steps=STEPS, batch_size=BATCH, lr=LR, optimizer=sgd, device="cpu", progress=False)

    ways = {"plain, in place": play(plain), "RBM, step": play(library), "RBM, fit": whole}
    for run in ways.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        order = list(ways) if turn % 2 else list(ways)[::-1]
        for name in order:
            times[name].append(seconds(ways[name]))
    base = times["plain, in place"]
    print(f"CD-1, {SPACE.dim} x {HIDDEN}, batch {BATCH}, one thread, {turns} turns of {STEPS} steps; goal {GOAL:.2f}")
    for name, values in times.items():
        ratios = sorted(a / b for a, b in zip(values, base, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        milliseconds = 1000 * statistics.median(values) / STEPS
        print(f"{name:16} {milliseconds:6.2f} ms a step   ratio {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
