"""Two ways to train, for the references of the experiments: each exercise's last question."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def lowest(loss: Callable[..., Tensor], *start: Tensor, steps: int = 100) -> tuple[Tensor, ...]:
    """Where L-BFGS ends that starts at `start` and lowers `loss`, a function of tensors like these, smooth and without noise."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in start]
    optimizer = torch.optim.LBFGS(leaves, max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(*leaves)
        value.backward()
        return value

    optimizer.step(closure)
    return tuple(leaf.detach() for leaf in leaves)


def trained(loss: Callable[..., Tensor], *start: Tensor, steps: int, lr: float) -> tuple[Tensor, ...]:
    """Where Adam ends after `steps` steps, whose size falls to zero: for a loss that draws random numbers."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in start]
    optimizer = torch.optim.Adam(leaves, lr=lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        loss(*leaves).backward()
        optimizer.step()
    return tuple(leaf.detach() for leaf in leaves)
