"""FFJORD: free-form continuous dynamics (Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, 2019,
https://arxiv.org/abs/1810.01367).

Let layers become infinitely many and infinitely thin. A point then moves along a field f, data at t = 0 and noise at t = 1,

    dz/dt = f(t, z(t)),    z(0) = x,    z(1) ~ N(0, I)

and however f looks, the flow has an inverse: the same field, run backwards. Volumes change by the field's divergence (Chen et
al., 2018, Theorem 1), so that no determinant is needed, only a trace:

    log p(x) = log p_Z(z(1)) + integral_0^1 tr(df/dz) dt

A trace is a sum over directions v of v^T J v: over the D unit vectors exactly; or, for many dimensions, over one random v with
E[v v^T] = I, which is right on average (Hutchinson's estimator). That v stays the same through a solve. Were it drawn anew at
each evaluation, the right-hand side would be no function of t and z, and a solver that adapts its steps would never be content.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.arguments import non_negative, positive_integer, widths
from gencourse.data.toys import Checkerboard
from gencourse.flows.base import Flow
from gencourse.flows.bijections import ActNorm
from gencourse.flows.networks import nearly_zero
from gencourse.kinds import Move
from gencourse.recipes import Recipe
from gencourse.solvers import RK4, Function, Solver
from gencourse.space import Space
from gencourse.train import cosine


def unit_vectors(z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The directions of the exact trace, `(D, 1, D)`: one evaluation takes D times as long."""
    return torch.eye(z.shape[1], device=z.device, dtype=z.dtype).unsqueeze(1)


def rademacher(z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One random direction for each example, `(1, B, D)`, of independent signs, whose variance is the least."""
    return torch.randint(2, (1, *z.shape), generator=generator, device=z.device).to(z.dtype) * 2 - 1


def gaussian(z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One random direction for each example, `(1, B, D)`, from N(0, I)."""
    return torch.randn((1, *z.shape), generator=generator, device=z.device, dtype=z.dtype)


class TanhField(nn.Module):
    """f(t, z) as a network of tanh units, whose derivatives in any directions come with it.

    Args:
        dim: D.
        hidden: the widths of the hidden layers.
    """

    def __init__(self, dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise((dim + 1, *hidden)))
        self.last = nearly_zero(nn.Linear(hidden[-1], dim))

    def forward(self, t: float | Tensor, z: Tensor) -> Tensor:
        """The velocity at z `(B, D)`, at time t: `(B, D)`."""
        h = torch.tanh(F.linear(z, *self._at(t)))
        for layer in self.layers[1:]:
            h = torch.tanh(layer(h))
        return self.last(h)

    def jvp(self, t: float | Tensor, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity `(B, D)`, and J v `(K, B, D)` for the directions v `(K, B or 1, D)`, pushed through beside z."""
        weight, bias = self._at(t)
        h = torch.tanh(F.linear(z, weight, bias))
        dh = F.linear(v, weight) * (1 - h * h)  # (K, B, width)
        for layer in self.layers[1:]:
            h = torch.tanh(layer(h))
            dh = F.linear(dh, layer.weight) * (1 - h * h)  # type: ignore[arg-type]
        return self.last(h), F.linear(dh, self.last.weight)

    def _at(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """The first layer's weight `(width, D)` and bias `(width,)` at time t, which is one more input, the same for all."""
        first = self.layers[0]
        return first.weight[:, :-1], first.bias + t * first.weight[:, -1]  # type: ignore[index,operator]


def value_and_trace(field: nn.Module, t: float | Tensor, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """f(t, z) `(B, D)`, and the sum of v^T J v over the directions `(K, B or 1, D)`: `(B,)`, the trace or an estimate of it.

    A field without a method `jvp` is differentiated forward by torch.
    """
    if hasattr(field, "jvp"):
        value, derivatives = field.jvp(t, z, v)  # type: ignore[operator]
    else:
        pairs = [torch.func.jvp(partial(field, t), (z,), (one.expand_as(z),)) for one in v]
        value, derivatives = pairs[0][0], torch.stack([pair[1] for pair in pairs])
    return value, (derivatives * v).sum((0, 2))


class FFJORD(Flow):
    """A continuous flow, trained with few steps of RK4 and evaluated with more: a coarse solver's error looks like likelihood.

    A first scale and shift, set by the first batch, bring data in any units to those of the prior.

    On images the paper's field is made of convolutions, at several scales, and reaches 0.99 bits/dim on MNIST and 3.40 on
    CIFAR-10. The field here takes an image as one vector. That can be trained on small pictures; for CIFAR-10 it is no match,
    and so there is no recipe. Any module with `forward(t, z)`, one with convolutions too, can be given as `field`.

    Args:
        space: points, or images of integers, which are taken as vectors.
        hidden: the widths of the field's hidden layers.
        steps: of RK4 in training.
        finer: how many times as many in evaluation.
        directions: of the trace: `unit_vectors`, `rademacher` or `gaussian`; by default the first in up to 8 dimensions, and the
            second in more.
        kinetic: the weight in training of the kinetic energy, the integral of |f|^2: straight paths of even speed are easy to
            solve (Finlay et al., 2020).
        field: any module with `forward(t, z)` in place of the network.
        alpha: of the logit that images go through; None leaves it out.

    Attributes:
        nfe: how many times the field was evaluated in the last solve.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        hidden: tuple[int, ...] = (64, 64, 64),
        steps: int = 4,
        finer: int = 4,
        directions: Callable[[Tensor, torch.Generator | None], Tensor] | None = None,
        kinetic: float = 0.0,
        field: nn.Module | None = None,
        alpha: float | None = 0.01,
    ) -> None:
        super().__init__(space, alpha=alpha)
        self.steps, self.finer = positive_integer("FFJORD: steps", steps), positive_integer("FFJORD: finer", finer)
        self.kinetic = non_negative("FFJORD: kinetic", kinetic)
        self.directions = directions or (unit_vectors if space.dim <= 8 else rademacher)
        self.norm = ActNorm((space.dim,))
        self.field = field or TanhField(space.dim, widths("FFJORD: hidden", hidden))
        self.solver: Solver | None = None
        self.nfe = 0

    @contextmanager
    def using(self, solver: Solver) -> Iterator[None]:
        """Inside the block, everything is solved by this solver: `RK4(64)`, `Adaptive(rtol=1e-7, atol=1e-7)`."""
        before, self.solver = self.solver, solver
        try:
            yield
        finally:
            self.solver = before

    def solve(
        self, z: Tensor, start: float, end: float, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Move `z` `(B, D)` along the field from one time to another.

        Returns:
            Where it comes to `(B, D)`, the integral of the trace `(B,)`, and that of |f|^2 `(B,)`.
        """
        state = self._solve(z, start, end, generator, energy=True)
        return state[:, :-2], state[:, -2], state[:, -1].abs()  # backwards in time the energy counts down

    def _solve(self, z: Tensor, start: float, end: float, generator: torch.Generator | None, *, energy: bool = False) -> Tensor:
        """The place, the integral of the trace and, if wanted, that of |f|^2, in a row: `(B, D + 1)` or `(B, D + 2)`."""
        v, D = self.directions(z, generator), z.shape[1]  # the same at every evaluation

        def right_hand_side(t: float | Tensor, state: Tensor) -> Tensor:
            velocity, trace = value_and_trace(self.field, t, state[:, :D], v)
            rows = (velocity, trace.unsqueeze(1))
            return torch.cat((*rows, (velocity**2).sum(1, keepdim=True)) if energy else rows, dim=1)

        return self._integrate(right_hand_side, F.pad(z, (0, 2 if energy else 1)), start, end)

    def _integrate(self, f: Function, y: Tensor, start: float, end: float) -> Tensor:
        self.nfe = 0

        def counted(t: float | Tensor, y: Tensor) -> Tensor:
            self.nfe += 1
            return f(t, y)

        solver = self.solver or RK4(self.steps if self.training else self.finer * self.steps)
        with torch.autocast(y.device.type, enabled=False):  # a difference of steps in bfloat16 would be noise
            return solver(counted, y, start, end, list(self.field.parameters()))

    @torch.no_grad()
    def path(self, y: Tensor, points: int = 9, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """The way of real data `(B, *space.shape)` to noise: z `(points, B, D)` and log-determinants `(points, B)` at even times.

        The first is at t = 0, and what was done to the data before is in its log-determinant.
        """
        z, log_det = self._begin(y)
        places, changes = [z], [log_det]
        for start, end in pairwise(torch.linspace(0, 1, points).tolist()):
            z, change, _ = self.solve(z, start, end, generator)
            places.append(z)
            changes.append(changes[-1] + change)
        return torch.stack(places), torch.stack(changes)

    def moves(self) -> list[Move]:
        """One move: lower the negative log-likelihood, and in training `kinetic` times the energy with it."""

        def nll(x: Tensor, context: Tensor | None = None) -> Tensor:
            if not self.training or not self.kinetic:
                return -self.log_prob(x, context)
            self._unconditional(context)
            y, dequantized = self.dequantize(self.space.validate(x, values=False))
            h, begun = self._begin(y)
            z, trace, energy = self.solve(h, 0.0, 1.0)
            return self.kinetic * energy - (self.prior.log_prob(z) + trace + begun + dequantized)

        return [Move("nll", nll, self.parameters())]

    def encode(self, y: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """From real data, `(B, *space.shape)`, to `z(1)` `(B, D)` and the log-determinant `(B,)`.

        Where directions are drawn at random, that is an unbiased estimate.
        """
        h, begun = self._begin(y)
        state = self._solve(h, 0.0, 1.0, generator)
        return state[:, :-1], begun + state[:, -1]

    def decode(self, z: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """From noise at t = 1 back to data at t = 0."""
        state = self._solve(z.to(self._dtype), 1.0, 0.0, generator)
        y, change = self._end(state[:, :-1])
        return y, state[:, -1] + change

    def _from_noise(self, z: Tensor, generator: torch.Generator | None) -> Tensor:
        """Where the field carries points does not depend on the trace, which takes longer than they do."""
        y = self.norm.undo(self._integrate(self.field, z, 1.0, 0.0)).unflatten(1, self.space.shape)
        return y if self.logit is None else self.logit.undo(y)

    def _begin(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """What is done to real data before the field: logit, scale and shift; `(B, D)`."""
        y = y.to(self._dtype)
        log_det = y.new_zeros(len(y))
        if self.logit is not None:
            y, log_det = self.logit(y)
        z, change = self.norm(y.flatten(1))
        return z, log_det + change

    def _end(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `_begin`."""
        y, log_det = self.norm.inverse(z)
        y = y.unflatten(1, self.space.shape)
        if self.logit is None:
            return y, log_det
        y, change = self.logit.inverse(y)
        return y, log_det + change


RECIPES = (
    Recipe(
        "checkerboard",
        data=partial(Checkerboard().dataset, train=200_000),
        options={"hidden": (64, 64, 64), "steps": 4, "finer": 8},
        fit={"steps": 2200, "batch_size": 256, "lr": 5e-3, "schedule": cosine, "ema": 0.995, "clip": 10.0},
        band=3.72,
        needs="two CPU cores, two minutes",
    ),
    Recipe(
        # the paper reaches 0.99 bits/dim, with convolutions at several scales in the place of this field
        "mnist",
        "mnist",
        {"hidden": (1024, 1024), "steps": 6, "alpha": 1e-3},
        {"steps": 20_000, "batch_size": 512, "lr": 1e-3, "schedule": cosine, "ema": 0.999, "clip": 10.0},
        metric="bits_per_dim",
        needs="a GPU, ten minutes",
    ),
)
