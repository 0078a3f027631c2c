"""Sampling with kept activations against one pass a pixel: the same images, and how the ratio grows.

    python benchmarks/autoregressive_sampling.py            the naive times from a few passes: minutes
    python benchmarks/autoregressive_sampling.py --full     the first row in full, pixel by pixel: long

Both times are the fastest of three. Every naive pass costs the same, since it computes all conditionals whatever is known,
so the naive time is that of the fastest of three passes, times the number of pixels; `--full` draws all the images that
way for the model of the first row and prints what that took. That both ways draw the same images is asserted in every row:
in full where it says so, otherwise by drawing the last pixels of the cached images anew, one pass a pixel, all others given.
"""

import argparse
import time

import torch

from gencourse.autoregressive.gated_pixelcnn import GatedPixelCNN
from gencourse.autoregressive.pixelcnn import PixelCNN
from gencourse.autoregressive.pixelcnn_pp import PixelCNNPP
from gencourse.space import Space

PASSES = 3
GOAL = 20  # times faster, for the first row on two CPU cores


def seeded(device):
    return torch.Generator(device).manual_seed(0)


def clock(device):
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.no_grad()
def measure(model, n, *, full=False):
    """Seconds cached, seconds naive, and how many pixels of each image were drawn both ways and found equal."""
    device, dim = model.device.type, model.space.dim
    times: list[float] = []
    while len(times) < 3 and sum(times) < 20:  # the fastest of three; the first warms up
        start = clock(device)
        fast = model.sample(n, generator=seeded(device))
        times.append(clock(device) - start)
    cached = min(times)
    last = model.order[-PASSES:]
    mask = torch.zeros(dim, dtype=torch.bool)
    if not full:
        mask[:] = True
        mask[last] = False
    start = clock(device)
    slow = model.sample(n, generator=seeded(device), given=fast, mask=mask.view(1, *model.space.shape), cached=False)
    naive = clock(device) - start
    if not torch.equal(fast, slow):
        raise SystemExit(f"{type(model).__name__}: the images differ.")
    if not full:
        passes = []
        for _ in range(PASSES):
            start = clock(device)
            model.conditionals(fast)
            passes.append(clock(device) - start)
        naive = min(passes) * dim
    return cached, naive, dim if full else PASSES


def row(name, model, n, full=False):
    cached, naive, checked = measure(model, n, full=full)
    size = "x".join(map(str, (n, *model.space.shape)))
    how = "in full" if full else f"{PASSES} passes"
    print(
        f"{name:26} {size:>14} {cached:9.2f} {naive:10.1f} ({how:8}) {naive / cached:8.0f}x   {checked:4} pixels equal",
        flush=True,
    )
    return naive / cached


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="draw the first row's images naively, to the last pixel")
    parser.add_argument("--large", action="store_true", help="batches of 256 and images of 32x32x3 too: for a GPU")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)

    def build(cls, shape=(1, 28, 28), levels=2, **options):
        return cls(Space(shape, levels), **options).to(device).eval()

    threads = "" if device == "cuda" else f", {torch.get_num_threads()} threads"
    print(f"on {torch.cuda.get_device_name() if device == 'cuda' else 'the CPU'}{threads}, torch {torch.__version__}")
    print(f"{'model':26} {'images':>14} {'cached s':>9} {'naive s':>10} {'':10} {'ratio':>9}")
    sizes = {"blocks": 8, "channels": 64}
    ratio = row("PixelCNN 8 x 64", build(PixelCNN, **sizes), 16, arguments.full)
    if device == "cpu":
        print(f"goal: {GOAL} times; {'reached' if ratio >= GOAL else 'MISSED'}")
    for n in (1, 4, 64):
        row("PixelCNN 8 x 64", build(PixelCNN, **sizes), n)
    for side in (8, 16, 40):
        row("PixelCNN 8 x 64", build(PixelCNN, (1, side, side), **sizes), 16)
    row("Gated PixelCNN 8 x 64", build(GatedPixelCNN, **sizes), 16)
    row("PixelCNN++ 4 x 64", build(PixelCNNPP, blocks=4, channels=64), 16)
    if arguments.large:
        for n in (16, 256):
            row("PixelCNN 15 x 64", build(PixelCNN, blocks=15, channels=64), n)
            row("PixelCNN 15 x 64, colour", build(PixelCNN, (3, 32, 32), 256, blocks=15, channels=66), n)


if __name__ == "__main__":
    main()
