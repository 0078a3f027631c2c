"""What `fit` costs: a training step of a VAE (784-400-20-400-784), batch 64, one thread, against bare PyTorch.

Three ways to make the same updates take turns, ten steps each, within one call of `fit`, so that whatever else the
machine does hits all of them alike:

- *torch.nn, bare loop*: encoder and decoder as `nn.Sequential`, the loss written out with the closed-form KL;
- *VAE, bare loop*: the library's model in the same loop;
- *VAE, fit*: the library's model and `gencourse.train.fit` with its defaults, its progress bar drawn into the void.

A bare step is: index the batch by the epoch's permutation, `zero_grad`, forward, backward, `Adam.step`. It checks nothing,
records nothing and shows nothing. The ratios are of turns that follow one another; medians and quartiles over the turns.
"""

import argparse
import os
import platform
import time
from collections.abc import Iterator
from contextlib import redirect_stderr

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.space import Space
from gencourse.train import fit
from gencourse.variational.vae import VAE

SPACE = Space((1, 28, 28), levels=2)
BATCH, LATENT, HIDDEN, LR = 64, 20, 400, 1e-3
GOAL = 1.05
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def batches(x: Tensor) -> Iterator[Tensor]:
    while True:
        order = torch.randperm(len(x)).to(x.device)
        for first in range(0, len(x) - BATCH + 1, BATCH):
            yield x[order[first : first + BATCH]]


def bare_nn(x: Tensor) -> Iterator[None]:
    encoder = nn.Sequential(nn.Linear(784, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2 * LATENT)).to(DEVICE)
    decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 784)).to(DEVICE)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=LR, fused=True)
    for batch in batches(x):
        target = batch.float().flatten(1)  # (B, 784)
        optimizer.zero_grad()
        mu, log_var = encoder(2 * target - 1).chunk(2, dim=1)
        logits = decoder(mu + torch.exp(0.5 * log_var) * torch.randn_like(mu))
        reconstruction = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        kl = 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum()
        ((reconstruction + kl) / BATCH).backward()
        optimizer.step()
        yield


def bare_vae(x: Tensor) -> Iterator[None]:
    model = VAE(SPACE, latent=LATENT, hidden=(HIDDEN,)).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    for batch in batches(x):
        optimizer.zero_grad()
        loss = -model.elbo(batch).mean()
        loss.backward()
        optimizer.step()
        yield


def take_turns(x: Tensor, turns: int, steps: int, resident: bool) -> dict[str, np.ndarray]:
    """Seconds a step of each way, `(turns,)`."""
    on_device = x.to(DEVICE)
    bare = {"torch.nn, bare loop": bare_nn(on_device), "VAE, bare loop": bare_vae(on_device)}
    seconds: dict[str, list[float]] = {name: [] for name in [*bare, "VAE, fit"]}
    start = now()

    def switch(step: int, model: nn.Module) -> None:
        nonlocal start
        if step % steps:
            return
        seconds["VAE, fit"].append(now() - start)
        for name, way in bare.items():
            start = now()
            for _ in range(steps):
                next(way)
            seconds[name].append(now() - start)
        start = now()

    model = VAE(SPACE, latent=LATENT, hidden=(HIDDEN,))
    settings = {"batch_size": BATCH, "lr": LR, "device": DEVICE, "resident": resident, "callback": switch}
    with open(os.devnull, "w") as void, redirect_stderr(void):
        fit(model, x, steps=(turns + 2) * steps, **settings)
    return {name: np.array(values[2:]) / steps for name, values in seconds.items()}  # the first two turns warm up


def now() -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def spread(values: np.ndarray, digits: int) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main(turns: int, steps: int) -> None:
    torch.set_num_threads(1)
    x = (torch.rand(10_000, *SPACE.shape) < 0.3).to(torch.uint8)
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{platform.machine()} CPU, one thread"
    widths = f"784-{HIDDEN}-{LATENT}-{HIDDEN}-784"
    print(f"VAE {widths}, batch {BATCH}, {turns} turns of {steps} steps, torch {torch.__version__}, {device}")
    print(f"{'median (quartiles)':38} {'ms a step':>24} {'examples/s':>11} {'over torch.nn':>22} {'over VAE, bare':>22}")
    overheads = []
    for where, resident in (("on the device", True), ("copied batch by batch", False)):
        seconds = take_turns(x, turns, steps, resident)
        plain, bare = seconds["torch.nn, bare loop"], seconds["VAE, bare loop"]
        for name, each in seconds.items():
            if resident or name == "VAE, fit":
                label = f"{name}, data {where}" if name == "VAE, fit" else name
                ratios = f"{spread(each / plain, 3):>22} {spread(each / bare, 3):>22}"
                print(f"{label:38} {spread(1000 * each, 2):>24} {BATCH / np.median(each):11,.0f} {ratios}")
        overheads.append(float(np.median(seconds["VAE, fit"] / bare)))
    print(f"fit adds {100 * (overheads[0] - 1):+.1f} % to the step of a bare loop; the goal is at most {100 * (GOAL - 1):.0f} %.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    main(arguments.turns, arguments.steps)
