"""What an autoregressive model may look at, and what it must: by the gradient with respect to its input, and by changing pixels.

The gradient sees every dependence that is smooth, however small. A look-up in a table or a threshold has none: such a
dependence shows only when a pixel changes. So a leak is looked for in both ways, and a pixel counts as seen if either finds it.
"""

import copy

import torch
from torch import Tensor

from gencourse.autoregressive.base import Autoregressive, log_masses_of


def influence(model: Autoregressive, context: Tensor | None = None, *, images: int = 8, seed: int = 0) -> Tensor:
    """How much each conditional depends on each input pixel: the largest absolute gradient over random images.

    The gradient is taken whatever the caller's grad mode is.

    Returns:
        `(D, D)` float64, rows for conditionals and columns for inputs, both in the model's order. Entry (i, j) is exactly
        zero if the i-th conditional does not depend on the j-th pixel, or in steps only.
    """
    with torch.inference_mode(False), torch.enable_grad():
        double, x, condition, generator = _at_random(model, context, images, seed)
        y = x.double().requires_grad_()
        conditionals = double.conditionals(y, condition)
        direction = torch.randn(model.levels, generator=generator, dtype=torch.float64, device="cpu").to(model.device)
        rows = []
        for i in model.order.tolist():
            masses = log_masses_of(conditionals, i)  # (images, levels)
            outputs = (masses * direction).sum()
            if not outputs.requires_grad:  # a conditional without parents
                rows.append(torch.zeros(model.space.dim, dtype=torch.float64, device="cpu"))
                continue
            (gradient,) = torch.autograd.grad(outputs, y, retain_graph=True, allow_unused=True)
            flat = torch.zeros_like(y).flatten(1) if gradient is None else gradient.flatten(1)
            rows.append(flat.abs().amax(0).cpu().double()[model.order])
        return torch.stack(rows)


@torch.no_grad()
def changes(model: Autoregressive, context: Tensor | None = None, *, images: int = 8, seed: int = 0) -> Tensor:
    """Which conditionals move, exactly compared, when one pixel of random images changes its level: D + 1 passes in float64.

    Returns:
        `(D, D)` bool, rows for conditionals and columns for inputs, both in the model's order.
    """
    double, x, condition, generator = _at_random(model, context, images, seed)

    def masses(x: Tensor) -> Tensor:
        conditionals = double.conditionals(x, condition)
        return torch.stack([log_masses_of(conditionals, i) for i in model.order.tolist()])  # (D, images, levels)

    before, columns = masses(x), []
    for j in model.order.tolist():
        step = torch.randint(1, model.levels, (images,), generator=generator, device="cpu").to(x.device)
        other = x.clone().flatten(1)
        other[:, j] = (other[:, j] + step) % model.levels
        columns.append((masses(other.view_as(x)) != before).flatten(1).any(1).cpu())
    return torch.stack(columns, 1)


def _at_random(
    model: Autoregressive, context: Tensor | None, images: int, seed: int
) -> tuple[Autoregressive, Tensor, Tensor | None, torch.Generator]:
    """The model in float64 and evaluation mode, random images, their condition, and the generator that drew them."""
    generator = torch.Generator("cpu").manual_seed(seed)
    x = torch.randint(model.levels, (images, *model.space.shape), generator=generator, device="cpu").to(model.device)
    condition = None if context is None else context.expand(images, *context.shape[1:])
    return copy.deepcopy(model).double().eval(), x, condition, generator


def assert_autoregressive(model: Autoregressive, context: Tensor | None = None) -> None:
    """Assert that no conditional depends on its own pixel or a later one, in float64.

    The gradient must be exactly zero, and the conditional exactly the same when that pixel changes.

    Args:
        context: the condition of every image, `(1, ...)`, if the model is conditional.

    Raises:
        AssertionError: if one does, with the first such pair.

    >>> from gencourse.autoregressive.made import MADE
    >>> from gencourse.space import Space
    >>> assert_autoregressive(MADE(Space((1, 3, 3), levels=2), hidden=(16,)))
    """
    leaks = (influence(model, context).triu() != 0) | changes(model, context).triu()
    if leaks.any():
        i, j = (int(index[0]) for index in leaks.nonzero(as_tuple=True))
        raise AssertionError(
            f"{type(model).__name__} leaks: the conditional of {_place(model, i)} depends on {_place(model, j)}, "
            f"which is not before it ({int(leaks.sum())} such pairs)."
        )


def assert_full_context(model: Autoregressive, context: Tensor | None = None) -> None:
    """Assert that every conditional depends on every earlier pixel and channel: no blind spot.

    Args:
        context: the condition of every image, `(1, ...)`, if the model is conditional.

    Raises:
        AssertionError: if one does not, with the first such pair.
    """
    blind = (influence(model, context) == 0).tril(-1)
    if blind.any():  # to the gradient; a look-up in a table has none
        blind &= ~changes(model, context)
    if blind.any():
        i, j = (int(index[-1]) for index in blind.nonzero(as_tuple=True))
        raise AssertionError(
            f"{type(model).__name__} is blind: the conditional of {_place(model, i)} does not see {_place(model, j)}, "
            f"which is before it ({int(blind.sum())} such pairs)."
        )


def assert_cached_equals_naive(model: Autoregressive, context: Tensor | None = None, *, n: int = 4, seed: int = 0) -> None:
    """Assert that sampling with kept activations draws the same images as one pass a pixel, from the same generator.

    Args:
        context: the condition of the `n` images, `(n, ...)`, if the model is conditional.

    Raises:
        AssertionError: if an image differs.
    """
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
