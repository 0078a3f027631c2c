"""What convenience costs: sampling, and a round of a GAN, against the plain PyTorch loop that does the same, on one thread.

    python benchmarks/plain_loops.py                a minute
    python benchmarks/plain_loops.py --turns 51     steadier on a busy machine

Each plain loop has the library's weights and draws the same images from the same generator, which is asserted in every row.
It knows its model and nothing else: two levels, no given pixels, no look for NaN, no mode to restore. MADE has two: one makes
a whole pass a pixel, as the paper does, with the masks applied once; the other keeps the sums of its hidden layer. The DCGAN's
plays the same moves: fresh noise for each player, gradients for the one whose turn it is.

The two take turns, and the ratios are medians over the turns of ratios of processor time within a turn.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.adversarial.dcgan import DCGAN
from gencourse.autoregressive.made import MADE
from gencourse.autoregressive.nade import NADE
from gencourse.kinds import GenerativeModel
from gencourse.space import Space
from gencourse.train import fit
from gencourse.variational.vae import VAE

GOAL = 1.1
SECONDS = 0.02  # of processor time, at least, that one way takes in a turn

Sampler = Callable[[int, torch.Generator], Tensor]


def plain_nade(model: NADE) -> Sampler:
    """Algorithm 1 of the paper: a running activation."""

    @torch.no_grad()
    def sample(n: int, generator: torch.Generator) -> Tensor:
        W, V, b = model.W.T.contiguous(), model.V[:, 0], model.b[:, 0]
        x, u = torch.zeros(n, len(W)), torch.rand(n, len(W), generator=generator)
        a = model.c.repeat(n, 1)  # (n, H)
        for i in range(len(W)):
            p = torch.sigmoid(torch.sigmoid(a) @ V[i] + b[i])
            x[:, i] = u[:, i] > 1 - p
            a.addr_(x[:, i], W[i])
        return x.long()

    return sample


def plain_made(model: MADE) -> Sampler:
    """A whole pass a pixel."""

    @torch.no_grad()
    def sample(n: int, generator: torch.Generator) -> Tensor:
        W, V, U = (layer.weight * mask for layer, mask in zip(layers(model), model.connections(), strict=True))
        x, u = torch.zeros(n, len(V)), torch.rand(n, len(V), generator=generator)
        for i in range(len(V)):
            h = torch.relu(F.linear(x, W, model.layers[0].bias))
            p = torch.sigmoid(F.linear(h, V, model.output.bias) + F.linear(x, U))[:, i]
            x[:, i] = u[:, i] > 1 - p
        return x.long()

    return sample


def plain_made_with_sums(model: MADE) -> Sampler:
    """One row of the output's weights a pixel, and one column of the first layer's, whose sums are kept."""

    @torch.no_grad()
    def sample(n: int, generator: torch.Generator) -> Tensor:
        W, V, U = (layer.weight * mask for layer, mask in zip(layers(model), model.connections(), strict=True))
        W, b = W.T.contiguous(), model.output.bias
        x, u = torch.zeros(n, len(V)), torch.rand(n, len(V), generator=generator)
        a = model.layers[0].bias.repeat(n, 1)  # (n, H)
        for i in range(len(V)):
            p = torch.sigmoid(torch.relu(a) @ V[i] + x @ U[i] + b[i])
            x[:, i] = u[:, i] > 1 - p
            a.addr_(x[:, i], W[i])
        return x.long()

    return sample


def layers(model: MADE) -> list[nn.Linear]:
    return [*model.layers, model.output, model.direct]


def plain_vae(model: VAE) -> Sampler:
    @torch.no_grad()
    def sample(n: int, generator: torch.Generator) -> Tensor:
        p = torch.sigmoid(model.decoder(torch.randn(n, model.latent, generator=generator)))
        return (torch.rand(p.shape, generator=generator) < p).long()

    return sample


def compare(name: str, model: GenerativeModel, plain: Sampler, n: int, turns: int) -> None:
    """Print the times of both ways to draw `n` images, and their ratio."""
    model.eval()
    ways = (lambda: model.sample(n, generator=seeded()), lambda: plain(n, seeded()))
    ours, other = (way() for way in ways)
    if not torch.equal(ours.flatten(1), other):
        raise SystemExit(f"{name}: the images differ.")
    start = time.process_time()
    ways[0]()
    repeats = 1 + int(SECONDS / (time.process_time() - start))
    seconds: list[list[float]] = [[], []]
    for _ in range(turns):
        for way, taken in zip(ways, seconds, strict=True):
            start = time.process_time()
            for _ in range(repeats):
                way()
            taken.append((time.process_time() - start) / repeats)
    row(f"{name}, {n} image{'s' * (n > 1)}", *seconds)


def row(name: str, ours: list[float], plain: list[float]) -> None:
    low, ratio, high = statistics.quantiles((a / b for a, b in zip(ours, plain, strict=True)), n=4)
    times = f"{1000 * statistics.median(ours):9.2f} {1000 * statistics.median(plain):9.2f}"
    print(f"{name:48} {times} {ratio:7.2f}  ({low:.2f} to {high:.2f}){'' if ratio <= GOAL else '  above the goal'}", flush=True)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def plain_rounds(model: DCGAN, x: Tensor, batch: int, lr: float) -> Iterator[None]:
    """The game on the model's own networks, a batch for each player, with nothing checked, recorded or shown."""
    G, D = model.generator.net, nn.Sequential(*model.discriminator.blocks, model.discriminator.logit, nn.Flatten(0))
    optimizers = [torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.999), fused=True) for net in (D, G)]

    def batches() -> Iterator[Tensor]:
        while True:
            for index in torch.randperm(len(x)).split(batch):
                yield x[index].float() / 127.5 - 1

    def update(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for real in batches():
        with torch.no_grad():
            fake = G(torch.randn(batch, model.latent, 1, 1))
        update((F.softplus(-D(real)) + F.softplus(D(fake))).mean(), optimizers[0])
        D.requires_grad_(False)
        update(F.softplus(-D(G(torch.randn(batch, model.latent, 1, 1)))).mean(), optimizers[1])
        D.requires_grad_(True)
        yield


def compare_rounds(name: str, space: Space, turns: int, *, batch: int = 64, rounds: int = 5, **options: int) -> None:
    """Print the times of a round by `fit` and by the plain loop, which takes its turns within one call of `fit`."""
    x = torch.randint(256, (20 * batch, *space.shape)).to(torch.uint8)
    torch.manual_seed(0)
    model, other = DCGAN(space, **options), DCGAN(space, **options)
    game = plain_rounds(other, x, batch, lr=1e-3)
    ours: list[float] = []
    plain: list[float] = []
    start = time.process_time()

    def switch(step: int, model: GenerativeModel) -> None:
        nonlocal start
        if step % rounds == 0:
            for seconds in (ours, plain):
                now = time.process_time()
                seconds.append((now - start) / rounds)
                start = now
                if seconds is ours:
                    all(True for _ in islice(game, rounds))
            start = time.process_time()

    with open(os.devnull, "w") as void, redirect_stderr(void):
        fit(model, x, steps=(turns + 2) * rounds, batch_size=batch, lr=1e-3, device="cpu", callback=switch)
    row(name, ours[2:], plain[2:])  # the first turns warm up


def main(turns: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"One thread, torch {torch.__version__}, {turns} turns; the goal is a ratio of {GOAL}")
    print(f"{'':48} {'ours, ms':>9} {'plain, ms':>9} {'ratio':>7}  (quartiles)")
    for side in (8, 28):
        space = Space((1, side, side), 2)
        nade, made, vae = NADE(space), MADE(space), VAE(space, latent=8)
        for n in (1, 16, 64):
            compare(f"NADE, {side} x {side}", nade, plain_nade(nade), n, turns)
        for n in (1, 16, 64):
            compare(f"MADE, {side} x {side}, sums kept", made, plain_made_with_sums(made), n, turns)
            if side == 8:
                compare(f"MADE, {side} x {side}, a pass a pixel", made, plain_made(made), n, turns)
        for n in (1, 16, 64, 256):
            compare(f"VAE, {side} x {side}", vae, plain_vae(vae), n, turns)
    compare_rounds("DCGAN, a round, 8 x 8, batch 64", Space((1, 8, 8), 256), turns, width=32, base=2)
    compare_rounds("DCGAN, a round, 28 x 28, batch 64", Space((1, 28, 28), 256), turns, width=16)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    main(parser.parse_args().turns)
