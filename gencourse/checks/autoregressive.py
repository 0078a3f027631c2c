"""What an autoregressive model may look at, and what it must: read off the gradient with respect to its input."""

import copy

import torch
from torch import Tensor

from gencourse.autoregressive.base import Autoregressive, log_masses_of


def influence(model: Autoregressive, context: Tensor | None = None, *, images: int = 8, seed: int = 0) -> Tensor:
    """How much each conditional depends on each input pixel: the largest absolute gradient over random images.

    Returns:
        `(D, D)` float64, rows for conditionals and columns for inputs, both in the model's order. Entry (i, j) is exactly
        zero if the i-th conditional does not depend on the j-th pixel.
    """
    double = copy.deepcopy(model).double().eval()
    generator = torch.Generator().manual_seed(seed)
    shape, dim = model.space.shape, model.space.dim
    x = torch.randint(model.levels, (images, *shape), generator=generator).to(model.device).double().requires_grad_()
    condition = None if context is None else context.expand(images, *context.shape[1:])
    conditionals = double.conditionals(x, condition)
    direction = torch.randn(model.levels, generator=generator, dtype=torch.float64).to(model.device)
    rows = []
    for i in model.order.tolist():
        masses = log_masses_of(conditionals, i)  # (images, levels)
        outputs = (masses * direction).sum()
        if not outputs.requires_grad:  # a conditional without parents
            rows.append(torch.zeros(dim, dtype=torch.float64))
            continue
        (gradient,) = torch.autograd.grad(outputs, x, retain_graph=True, allow_unused=True)
        flat = torch.zeros(images, dim) if gradient is None else gradient.flatten(1)
        rows.append(flat.abs().amax(0).cpu().double()[model.order])
    return torch.stack(rows)


def assert_autoregressive(model: Autoregressive, context: Tensor | None = None) -> None:
    """Assert that no conditional depends on its own pixel or a later one: exact zeros of the gradient, in float64."""
    leaks = influence(model, context).triu() != 0
    if leaks.any():
        i, j = (int(index[0]) for index in leaks.nonzero(as_tuple=True))
        raise AssertionError(
            f"{type(model).__name__} leaks: the conditional of {_place(model, i)} depends on {_place(model, j)}, "
            f"which is not before it ({int(leaks.sum())} such pairs)."
        )


def assert_full_context(model: Autoregressive, context: Tensor | None = None) -> None:
    """Assert that every conditional depends on every earlier pixel and channel: no blind spot."""
    blind = (influence(model, context) == 0).tril(-1)
    if blind.any():
        i, j = (int(index[-1]) for index in blind.nonzero(as_tuple=True))
        raise AssertionError(
            f"{type(model).__name__} is blind: the conditional of {_place(model, i)} does not see {_place(model, j)}, "
            f"which is before it ({int(blind.sum())} such pairs)."
        )


def assert_cached_equals_naive(model: Autoregressive, context: Tensor | None = None, *, n: int = 4, seed: int = 0) -> None:
    """Assert that sampling with kept activations draws the same images as one pass a pixel, from the same generator."""
    fast, slow = (
        model.sample(n, context, generator=torch.Generator(model.device).manual_seed(seed), cached=cached)
        for cached in (True, False)
    )
    if not torch.equal(fast, slow):
        different = int((fast != slow).flatten(1).any(1).sum())
        raise AssertionError(f"{type(model).__name__}: {different} of {n} images differ between cached and naive sampling.")


def _place(model: Autoregressive, position: int) -> str:
    index = int(model.order[position])
    if len(model.space.shape) != 3:
        return f"input {index}"
    _, height, width = model.space.shape
    channel, rest = divmod(index, height * width)
    return f"pixel (row {rest // width}, column {rest % width}, channel {channel})"
