"""What flows cost: a training step and sampling, against the same in plain PyTorch, on one thread.

    python benchmarks/flows.py                a minute
    python benchmarks/flows.py --turns 51     steadier on a busy machine

Each plain version is written for its model alone: one loop over the layers, with the model's own weights, its log-determinants
added up on the way, and nothing checked. That its loss, its gradients and its samples are the library's is asserted in every
row. Neither computes log-determinants to sample. The goal is for the steps: a call of `sample` has a cost of its own, checks
and modes, which shows where the batch is small.

The two take turns, and the ratios are medians over the turns of ratios of processor time within a turn. How the steps grow
with dimension and layers is measured on the library alone.
"""

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.flows.base import Flow
from gencourse.flows.bijections import ActNorm, InvertibleLinear
from gencourse.flows.ffjord import FFJORD, rademacher, unit_vectors
from gencourse.flows.glow import Glow
from gencourse.flows.realnvp import RealNVP
from gencourse.space import Space

GOAL = 1.05
SECONDS = 0.03  # of processor time, at least, that one way takes in a turn

Step = Callable[[], None]
Sampler = Callable[[int, torch.Generator], Tensor]


class PlainRealNVP(nn.Module):
    """On points: halves that take turns, and a scale and a shift after each coupling."""

    def __init__(self, model: RealNVP) -> None:
        super().__init__()
        first, *rest = copy.deepcopy(model.bijection)
        self.networks = nn.ModuleList(coupling.network.layers for coupling in rest[::2])
        self.log_scale = nn.ParameterList(norm.log_scale for norm in (first, *rest[1::2]))
        self.bias = nn.ParameterList(norm.bias for norm in (first, *rest[1::2]))

    def log_prob(self, x: Tensor) -> Tensor:
        x = x * torch.exp(self.log_scale[0]) + self.bias[0]
        log_det = self.log_scale[0].sum()
        for i, network in enumerate(self.networks):
            a, b = x.chunk(2, dim=1)
            if i % 2:
                a, b = b, a
            raw, shift = network(a).chunk(2, dim=1)
            s = 2 * torch.tanh(raw / 2)
            b = b * torch.exp(s) + shift
            x = torch.cat((b, a) if i % 2 else (a, b), dim=1)
            x = x * torch.exp(self.log_scale[i + 1]) + self.bias[i + 1]
            log_det = log_det + s.sum(1) + self.log_scale[i + 1].sum()
        return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) + log_det

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, len(self.bias[0]), generator=generator)
        for i, network in reversed(list(enumerate(self.networks))):
            z = (z - self.bias[i + 1]) * torch.exp(-self.log_scale[i + 1])
            a, b = z.chunk(2, dim=1)
            if i % 2:
                a, b = b, a
            raw, shift = network(a).chunk(2, dim=1)
            b = (b - shift) * torch.exp(-2 * torch.tanh(raw / 2))
            z = torch.cat((b, a) if i % 2 else (a, b), dim=1)
        return (z - self.bias[0]) * torch.exp(-self.log_scale[0])


class PlainGlow(nn.Module):
    """On images: levels of steps, each with its own weights."""

    def __init__(self, model: Glow) -> None:
        super().__init__()
        self.space = model.space
        self.levels, self.goes = nn.ModuleList(), nn.ModuleList()
        level = copy.deepcopy(model.bijection)
        while True:
            steps = zip(level[1:], level[2:], level[3:], strict=False)
            self.levels.append(
                nn.ModuleList(
                    nn.ModuleDict({"norm": a, "linear": b, "network": c.network})
                    for a, b, c in steps
                    if isinstance(a, ActNorm) and isinstance(b, InvertibleLinear)
                )
            )
            if not hasattr(level[-1], "rest"):
                break
            self.goes.append(level[-2].network)
            level = level[-1].rest
        for linear in self.modules():
            if isinstance(linear, InvertibleLinear):
                linear.register_buffer("one", torch.eye(len(linear.sign)))

    def log_prob(self, x: Tensor) -> Tensor:
        y = (x + torch.rand(x.shape)) / 256
        u = 0.01 + 0.98 * y
        h = torch.log(u) - torch.log1p(-u)
        log_det = (F.softplus(h) + F.softplus(-h) + math.log(0.98)).flatten(1).sum(1) - x[0].numel() * math.log(256)
        done = []
        for i, level in enumerate(self.levels):
            h = F.pixel_unshuffle(h, 2)
            places = h.shape[2] * h.shape[3]
            for step in level:
                norm, linear = step["norm"], step["linear"]
                h = h * torch.exp(norm.log_scale) + norm.bias
                h = F.conv2d(h, self.weight(linear)[:, :, None, None])
                a, b = h.chunk(2, dim=1)
                raw, shift = self.network(step["network"], a).chunk(2, dim=1)
                s = 2 * torch.tanh(raw / 2)
                h = torch.cat((a, b * torch.exp(s) + shift), dim=1)
                log_det = log_det + places * (norm.log_scale.sum() + linear.log_scale.sum()) + s.flatten(1).sum(1)
            if i < len(self.goes):
                h, b = h.chunk(2, dim=1)
                raw, shift = self.network(self.goes[i], h).chunk(2, dim=1)
                s = 2 * torch.tanh(raw / 2)
                done.append((b * torch.exp(s) + shift).flatten(1))
                log_det = log_det + s.flatten(1).sum(1)
        z = torch.cat((*done, h.flatten(1)), dim=1)
        return -0.5 * (z**2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi) + log_det

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, self.space.dim, generator=generator)
        C, H, W = self.space.shape
        shapes = [(C * 2 ** (i + 2), H // 2 ** (i + 1), W // 2 ** (i + 1)) for i in range(len(self.levels))]
        shapes = [(c // 2, h, w) for c, h, w in shapes[:-1]] + shapes[-1:]  # of what is done at each level
        *done, h = (
            part.unflatten(1, shape) for part, shape in zip(z.split([math.prod(s) for s in shapes], 1), shapes, strict=True)
        )
        for i, level in reversed(list(enumerate(self.levels))):
            if i < len(self.goes):
                raw, shift = self.network(self.goes[i], h).chunk(2, dim=1)
                h = torch.cat((h, (done[i] - shift) * torch.exp(-2 * torch.tanh(raw / 2))), dim=1)
            for step in reversed(level):
                norm, linear = step["norm"], step["linear"]
                a, b = h.chunk(2, dim=1)
                raw, shift = self.network(step["network"], a).chunk(2, dim=1)
                h = torch.cat((a, (b - shift) * torch.exp(-2 * torch.tanh(raw / 2))), dim=1)
                h = F.conv2d(h, torch.linalg.inv(self.weight(linear))[:, :, None, None])
                h = (h - norm.bias) * torch.exp(-norm.log_scale)
            h = F.pixel_shuffle(h, 2)
        return (256 * (torch.sigmoid(h) - 0.01) / 0.98).floor().long().clamp(0, 255)

    @staticmethod
    def network(network: nn.Module, a: Tensor) -> Tensor:
        """Three convolutions."""
        _, first, _, _, last = network.last
        return last(torch.relu(first(torch.relu(network.first(a)))))

    @staticmethod
    def weight(linear: nn.Module) -> Tensor:
        U = linear.upper.triu(1) + torch.diag(linear.sign * torch.exp(linear.log_scale))
        return linear.permutation @ (linear.lower.tril(-1) + linear.one) @ U


class PlainCNF(nn.Module):
    """In the plane: the trace by the chain rule through the layers, in two directions; RK4 on z and on the integral."""

    def __init__(self, model: FFJORD) -> None:
        super().__init__()
        self.norm, self.layers, self.last = copy.deepcopy((model.norm, model.field.layers, model.field.last))
        self.steps = model.steps

    def field(self, t: float, z: Tensor) -> Tensor:
        h = torch.cat((z, torch.full_like(z[:, :1], t)), dim=1)
        for layer in self.layers:
            h = torch.tanh(layer(h))
        return self.last(h)

    def field_and_trace(self, t: float, z: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.cat((z, torch.full_like(z[:, :1], t)), dim=1)
        dh = torch.eye(2, 3).unsqueeze(1)
        for layer in self.layers:
            h = torch.tanh(layer(h))
            dh = F.linear(dh, layer.weight) * (1 - h * h)
        J = F.linear(dh, self.last.weight)  # (2, B, 2)
        return self.last(h), J.diagonal(dim1=0, dim2=2).sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        z = x * torch.exp(self.norm.log_scale) + self.norm.bias
        log_det = self.norm.log_scale.sum()
        f, h = self.field_and_trace, 1 / self.steps
        for i in range(self.steps):
            t = i * h
            k1, d1 = f(t, z)
            k2, d2 = f(t + h / 2, z + h / 2 * k1)
            k3, d3 = f(t + h / 2, z + h / 2 * k2)
            k4, d4 = f(t + h, z + h * k3)
            z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            log_det = log_det + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
        return -0.5 * (z**2).sum(1) - math.log(2 * math.pi) + log_det

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, 2, generator=generator)
        f, h = self.field, -1 / self.steps
        for i in range(self.steps):
            t = 1 + i * h
            k1 = f(t, z)
            k2 = f(t + h / 2, z + h / 2 * k1)
            k3 = f(t + h / 2, z + h / 2 * k2)
            k4 = f(t + h, z + h * k3)
            z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return (z - self.norm.bias) * torch.exp(-self.norm.log_scale)


def training(model: nn.Module, x: Tensor) -> Step:
    """Adam, so small a rate that the weights stay where they are compared."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        (-model.log_prob(x).mean()).backward()
        optimizer.step()

    return step


def loss_and_gradients(model: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(1)  # of the dequantisation
    model.zero_grad()
    loss = -model.log_prob(x).mean()
    loss.backward()
    return torch.cat([loss.detach().view(1), *(p.grad.flatten() for p in model.parameters() if p.grad is not None)])


def compare(name: str, model: Flow, plain: nn.Module, x: Tensor, n: int, turns: int) -> None:
    """Print the times of a step on the batch `x` and of `n` samples, in both ways, and their ratios."""
    with torch.no_grad():
        model.train().log_prob(x)  # sets the scales of ActNorm
        for p in model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    other = plain(model)
    ours, theirs = (loss_and_gradients(way, x) for way in (model, other))
    for what, a, b in (("loss", ours[0], theirs[0]), ("gradient", ours[1:].norm(), theirs[1:].norm())):
        if not math.isclose(a, b, rel_tol=1e-5):
            raise SystemExit(f"{name}: the {what} is {float(a)} here and {float(b)} there.")
    row(f"{name}, a step", [training(model, x), training(other, x)], turns, goal=GOAL)
    model.eval()
    ours, theirs = (way.sample(n, generator=seeded()) for way in (model, other))
    if float((ours - theirs).abs().double().quantile(0.99)) > (1 if model.space.is_discrete else 1e-3):
        raise SystemExit(f"{name}: the samples differ.")
    row(f"{name}, {n} samples", [lambda way=way: way.sample(n, generator=seeded()) for way in (model, other)], turns)


def row(name: str, ways: list[Step], turns: int, goal: float = math.inf) -> None:
    ours, plain = measure(ways, turns)
    low, ratio, high = statistics.quantiles((a / b for a, b in zip(ours, plain, strict=True)), n=4)
    times = f"{1000 * statistics.median(ours):9.2f} {1000 * statistics.median(plain):9.2f}"
    print(f"{name:58} {times} {ratio:7.2f}  ({low:.2f} to {high:.2f}){'' if ratio <= goal else '  above the goal'}", flush=True)


def measure(ways: list[Step], turns: int) -> list[list[float]]:
    """Seconds of processor time of each way in each turn."""
    for way in ways:
        way()
    start = time.process_time()
    ways[0]()
    repeats = 1 + int(SECONDS / (time.process_time() - start))
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(turns):
        for k in range(len(ways)) if turn % 2 else reversed(range(len(ways))):
            start = time.process_time()
            for _ in range(repeats):
                ways[k]()
            seconds[k].append((time.process_time() - start) / repeats)
    return seconds


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def main(turns: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plane, images = Space((2,)), Space((3, 32, 32), 256)
    points, pictures = torch.randn(256, 2), torch.randint(256, (8, 3, 32, 32))
    print(f"One thread, torch {torch.__version__}, {turns} turns; the goal for a step is a ratio of {GOAL}")
    print(f"{'':58} {'ours, ms':>9} {'plain, ms':>9} {'ratio':>7}  (quartiles)")
    compare(
        "RealNVP, 8 couplings, 2 x 64, batch 256", RealNVP(plane, couplings=8, hidden=(64, 64)), PlainRealNVP, points, 256, turns
    )
    compare("Glow, 3 x 8 steps, 64 channels, batch 8", Glow(images, levels=3, channels=64), PlainGlow, pictures, 8, turns)
    compare("CNF, 3 x 64, RK4 with 8 steps, batch 256", FFJORD(plane, steps=8, finer=1), PlainCNF, points, 256, turns)
    grow()


def grow() -> None:
    """Print how a step grows: each row changes one number, and is the library's alone."""
    print("\nA step on a batch of 64, ms")

    def line(name: str, models: dict[int, Flow]) -> None:
        steps = []
        for model in models.values():
            space = model.space
            x = torch.randint(256, (64, *space.shape)) if space.is_discrete else torch.randn(64, *space.shape)
            steps.append(training(model.train(), x))
        times = [1000 * statistics.median(seconds) for seconds in measure(steps, 5)]
        print(f"{name:32}" + "".join(f"{number:8}:{ms:7.2f}" for number, ms in zip(models, times, strict=True)), flush=True)

    plane, many, image = Space((2,)), (2, 8, 32, 128), Space((1, 8, 8), 256)
    line("RealNVP, by couplings", {n: RealNVP(plane, couplings=n, hidden=(64, 64)) for n in (2, 4, 8, 16)})
    line("RealNVP, by dimension", {D: RealNVP(Space((D,)), couplings=8, hidden=(64, 64)) for D in many})
    line("Glow, by steps", {K: Glow(image, steps=K, channels=32) for K in (2, 4, 8, 16)})
    line("Glow, by side", {s: Glow(Space((1, s, s), 256), steps=4, channels=32) for s in (4, 8, 16, 32)})
    line("CNF, by steps of RK4", {n: FFJORD(plane, steps=n) for n in (2, 4, 8, 16)})
    line("CNF, exact trace, by dimension", {D: FFJORD(Space((D,)), directions=unit_vectors) for D in many})
    line("CNF, one random direction", {D: FFJORD(Space((D,)), directions=rademacher) for D in many})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    main(parser.parse_args().turns)
