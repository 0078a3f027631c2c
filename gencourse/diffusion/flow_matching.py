"""Flow matching (Lipman, Chen, Ben-Hamu, Nickel and Le, 2023, https://arxiv.org/abs/2210.02747; Liu et al., 2023, Albergo and
Vanden-Eijnden, 2023).

A continuous flow, as in chapter 7, learned without solving anything. Draw data x and noise eps, and go straight from one to the
other; with data at t = 0 and noise at t = 1, as everywhere in this family (the paper's time runs the other way):

    x_t = (1 - t) x + t eps,        dx_t / dt = eps - x

Many such paths cross at a point. A network that is asked for the velocity of each, by least squares, answers with the mean

    v(x_t, t) = E[eps - x | x_t]

and the flow along v has at each t the same density as the paths: what goes in and what comes out is the same on average. So
noise at t = 1, carried back along v, is data at t = 0, and the flow's density is exact, by the integral of its divergence.

v is the denoiser's knowledge in a fifth dress, for signal 1 - t and noise t:  eps = x_t + (1 - t) v,  x_0 = x_t - t v,
score = -eps / t. What is new is the path: where it is straighter, fewer steps will do.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from gencourse.arguments import positive, positive_integer, probability
from gencourse.data.toys import Checkerboard
from gencourse.diffusion.batches import even_times, hide_labels, label_rows
from gencourse.diffusion.guidance import classifier_free
from gencourse.diffusion.likelihood import flow_log_density, random_signs
from gencourse.diffusion.networks import made
from gencourse.kinds import Tractable
from gencourse.networks import full_precision
from gencourse.recipes import Recipe
from gencourse.solvers import RK4, Function, Solver
from gencourse.space import Space
from gencourse.train import Move, cosine


class FlowMatching(Tractable):
    """A continuous flow that learns the velocity of straight paths between data and noise.

    Images are dequantised, as by every flow, and scaled to [-1, 1]; `log_prob` of images is the one-draw bound on their mass.

    Args:
        space: images of integers, or points.
        network: a module `(y, t, condition) -> (B, *space.shape)`, or a function that makes one from
            `(space, classes=)`, such as `partial(UNet, channels=32)`; None takes a `ResidualMLP`.
        hidden, blocks, frequencies: of that `ResidualMLP`.
        classes: how many classes `context` distinguishes, labels `(B,)`; None for an unconditional model.
        drop_label: in training, the probability that a label is hidden, so that one network learns p(x | y) and p(x).
        steps: of RK4 along the path, each of which evaluates the network four times.
        guidance: the weight w of the label in sampling; 1 is p(x | y). Likelihoods are without guidance.
        scale: points are divided by it.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        network: nn.Module | Callable[..., nn.Module] | None = None,
        hidden: int = 128,
        blocks: int = 3,
        frequencies: int = 0,
        classes: int | None = None,
        drop_label: float = 0.1,
        steps: int = 20,
        guidance: float = 1.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__(space)
        self.classes = None if classes is None else positive_integer("FlowMatching: classes", classes)
        self.drop_label = probability("FlowMatching: drop_label", drop_label)
        self.guidance, self.scale = float(guidance), positive("FlowMatching: scale", scale)
        self.solver: Solver = RK4(positive_integer("FlowMatching: steps", steps))
        self.network = made(network, space, self.classes, hidden=hidden, blocks=blocks, frequencies=frequencies)

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """|eps - x - v(x_t, t)|^2 at a random t, `(B,)`, summed over dimensions; the times of a batch are spread evenly."""
        (y, _), condition = self._real(x), label_rows(self, self.classes, context, len(x))
        t, condition = even_times(len(y), y.device), hide_labels(condition, self.drop_label)
        eps = torch.randn_like(y)
        beside = t.to(y.dtype).view(-1, *[1] * (y.dim() - 1))
        xt = (1 - beside) * y + beside * eps
        return (full_precision(self.network(xt, t.to(y.dtype), condition)) - (eps - y)).square().flatten(1).sum(1)

    def moves(self) -> list[Move]:
        """One move: match the velocity."""
        return [Move("velocity", self.loss, self.parameters())]

    def velocity(self, context: Tensor | None, n: int, *, guidance: float = 1.0) -> Function:
        """v(t, x_t) for `n` examples `(n, *space.shape)`, a function of t and of x_t as the network sees it."""
        condition = label_rows(self, self.classes, context, n)
        none = None if condition is None or context is None else torch.zeros_like(condition)

        def velocity(t: float | Tensor, xt: Tensor) -> Tensor:
            times = torch.as_tensor(t, dtype=xt.dtype, device=xt.device).expand(len(xt))
            said = partial(self.network, xt, times)
            if none is not None and guidance != 1:
                return full_precision(classifier_free(said(none), said(condition), guidance))
            return full_precision(said(condition))

        return velocity

    def log_prob(self, x: Tensor, context: Tensor | None = None, *, solver: Solver | None = None) -> Tensor:
        """Of points, the log-density, `(B,)` nats, up to the solver's error; of images, a one-draw bound on the log-probability.

        The divergence is exact in up to 9 dimensions, and Hutchinson's estimate, with random signs, in more. A `context` of
        None is the model without labels.
        """
        y, log_det = self._real(x)
        directions = None if self.space.dim <= 9 else random_signs
        field = self.velocity(context, len(x))
        return flow_log_density(field, y, solver or self.solver, directions=directions) + log_det

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        solver: Solver | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Draw `n` examples, `(n, *space.shape)`: noise, carried back along v by the solver, such as `Euler(10)` or `RK4(5)`.

        Raises:
            ValueError: if `n` is negative, or the labels are not the model's.
            FloatingPointError: if images are NaN, as those of NaN weights are.
        """
        w = self.guidance if guidance is None else float(guidance)
        with self.evaluation(n):
            weight = full_precision(next(self.network.parameters()))
            z = torch.randn((n, *self.space.shape), generator=generator, device=weight.device, dtype=weight.dtype)
            y = (solver or self.solver)(self.velocity(context, n, guidance=w), z, 1.0, 0.0, ())
        if not self.space.is_discrete:
            return y * self.scale
        if bool(torch.isnan(y).any()):
            raise FloatingPointError("FlowMatching.sample: the images are NaN; are all the model's weights finite numbers?")
        return self.space.quantize((y + 1) / 2)

    def _real(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Real data as the network sees them, and their part of the log-density, `(B,)`."""
        x, dtype = self.space.validate(x, values=False), full_precision(next(self.network.parameters())).dtype
        if not self.space.is_discrete:
            return x.to(dtype) / self.scale, x.new_full((len(x),), -self.space.dim * math.log(self.scale), dtype=dtype)
        u, log_det = self.space.dequantize(x)
        return (2 * u - 1).to(dtype), log_det.to(dtype) + self.space.dim * math.log(2)


RECIPES = (
    Recipe(
        "checkerboard",
        data=partial(Checkerboard().dataset, train=200_000, test=2000),
        options={"hidden": 128, "blocks": 2, "frequencies": 32, "scale": 2.3},
        fit={"steps": 4000, "batch_size": 256, "lr": 2e-3, "schedule": cosine, "ema": 0.999},
        band=3.70,
    ),
    Recipe(
        # the same network and budget as the digits of `ddpm`
        "digits",
        data="digits",
        options={"hidden": 256, "classes": 10, "drop_label": 0.3, "guidance": 1.5},
        fit={"steps": 6000, "batch_size": 128, "lr": 2e-3, "schedule": cosine, "ema": 0.999, "conditional": True},
        metric="frechet_ratio",
        band=1.9,
        samples=1080,
        needs="two CPU cores, two minutes",
    ),
)
