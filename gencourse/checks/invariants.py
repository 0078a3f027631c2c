"""Properties that every model of a kind must have, on worlds small enough to enumerate."""

import copy
import itertools

import torch
from torch import Tensor

from gencourse.kinds import Learner, Tractable
from gencourse.space import Space

MAX_EXAMPLES = 1_000_000


def every_example(space: Space) -> Tensor:
    """All `levels ** dim` images of a discrete space, `(N, *shape)`, the last pixel changing fastest.

    Raises:
        ValueError: if the space is real-valued or has over a million images.

    >>> every_example(Space((2,), levels=2))
    tensor([[0, 0],
            [0, 1],
            [1, 0],
            [1, 1]])
    """
    if space.levels is None:
        raise ValueError(f"{space} is real-valued: its points cannot be enumerated.")
    if space.levels**space.dim > MAX_EXAMPLES:
        raise ValueError(f"{space} has {space.levels}^{space.dim} images, too many to enumerate; use a smaller space.")
    rows = list(itertools.product(range(space.levels), repeat=space.dim))
    return torch.tensor(rows, dtype=torch.long, device="cpu").view(-1, *space.shape)


@torch.no_grad()
def assert_normalized(model: Tractable, context: Tensor | None = None, *, atol: float = 1e-6) -> None:
    """Assert that the probabilities of all images sum to one, in float64.

    Args:
        model: a tractable model of an enumerable space; it is copied, not changed.
        context: the condition of every image, `(1, ...)`, if the model is conditional.
        atol: the largest departure of the sum from 1.

    Raises:
        AssertionError: if they do not.
        ValueError: if the space cannot be enumerated.
    """
    double = copy.deepcopy(model).double().eval()
    x = every_example(model.space).to(model.device)
    condition = None if context is None else context.expand(len(x), *context.shape[1:])
    total = float(double.log_prob(x, condition).exp().sum())
    if not abs(total - 1) <= atol:
        raise AssertionError(f"{type(model).__name__} is not normalised: its probabilities sum to {total:.9g}, not 1.")


def assert_bound(lower: Tensor, upper: Tensor, *, atol: float = 1e-9) -> None:
    """Assert `lower <= upper + atol`, example by example; two tensors of one shape, such as `(B,)`.

    Both sides must be exact, or averaged until their noise is below `atol`.

    Raises:
        AssertionError: if it fails somewhere, or a side is NaN.

    >>> assert_bound(torch.tensor([-3.0, -2.0]), torch.tensor([-2.5, -2.5]))
    Traceback (most recent call last):
    AssertionError: the bound fails at example 1: it exceeds what it should bound by 0.5 nats.
    """
    excess = (lower - upper).detach().double()
    if excess.isnan().any():
        raise AssertionError("the bound cannot be compared: a side is NaN.")
    if float(excess.max()) > atol:
        at = int(excess.argmax())
        raise AssertionError(
            f"the bound fails at example {at}: it exceeds what it should bound by {float(excess.max()):.3g} nats."
        )


def assert_every_parameter_learns(model: Learner, x: Tensor, context: Tensor | None = None) -> None:
    """Assert that each parameter gets a finite gradient, not all zero, from one of the model's moves on a batch `(B, *shape)`.

    A parameter that no move can change is a mistake in the wiring: a detached graph, a forgotten layer, a mask too many.

    Raises:
        AssertionError: if one does not, with the names of all that do not.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    idle = dict(names)
    for move in model.moves():
        loss = move.loss(x, context).mean()
        for parameter, gradient in zip(move.learns, torch.autograd.grad(loss, move.learns, allow_unused=True), strict=True):
            if gradient is None:
                continue
            name = names[id(parameter)]
            if not bool(torch.isfinite(gradient).all()):
                raise AssertionError(f"{type(model).__name__}: the gradient of {name} in move {move.name!r} is not finite.")
            if bool((gradient != 0).any()):
                idle.pop(id(parameter), None)
    if idle:
        raise AssertionError(f"{type(model).__name__}: no move changes {', '.join(idle.values())}.")


def assert_sampler_matches(samples: Tensor, log_prob: Tensor, space: Space, *, significance: float = 1e-4) -> float:
    """Assert that samples follow enumerated probabilities, by Pearson's chi-squared test.

    Images expected fewer than five times are counted together, as the test requires.

    Args:
        samples: `(n, *shape)` drawn from the model.
        log_prob: `(levels ** dim,)` nats, in the order of `every_example`.
        significance: the share of right samplers that fail.

    Returns:
        The p-value.

    Raises:
        AssertionError: if they do not.
        ValueError: if the probabilities do not sum to one, or the samples are too few to tell.
    """
    from scipy.stats import chi2

    space.validate(samples)
    powers = torch.tensor([space.levels ** (space.dim - 1 - i) for i in range(space.dim)], device="cpu")  # type: ignore[operator]
    index = (samples.flatten(1).long().cpu() * powers).sum(1)  # (n,)
    probability = log_prob.detach().cpu().double().exp()
    if abs(float(probability.sum()) - 1) > 1e-4:
        raise ValueError(f"assert_sampler_matches: the probabilities sum to {float(probability.sum()):.6g}, not 1.")
    observed = torch.bincount(index, minlength=len(probability)).double()
    impossible = int(observed[probability == 0].sum())
    if impossible:
        raise AssertionError(f"the samples do not follow the model's probabilities: {impossible} of them have probability zero.")
    expected = probability / probability.sum() * len(samples)
    common = expected >= 5
    observed = torch.cat([observed[common], observed[~common].sum().view(1)])
    expected = torch.cat([expected[common], expected[~common].sum().view(1)])
    if expected[-1] < 5:  # too rare even together: count them with the rarest of the common ones
        if len(expected) < 3:
            raise ValueError("assert_sampler_matches: too few samples to test anything; draw more.")
        rarest = int(expected[:-1].argmin())
        observed[rarest] += observed[-1]
        expected[rarest] += expected[-1]
        observed, expected = observed[:-1], expected[:-1]
    statistic = float(((observed - expected) ** 2 / expected).sum())
    p_value = float(chi2.sf(statistic, len(expected) - 1))
    if p_value < significance:
        raise AssertionError(
            f"the samples do not follow the model's probabilities: chi-squared {statistic:.1f} "
            f"with {len(expected) - 1} degrees of freedom, p = {p_value:.2g}."
        )
    return p_value
