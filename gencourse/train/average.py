"""An average of the weights, which is validated and kept in their place."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Average:
    """An exponential average of the weights; buffers (batch-norm statistics) stay the model's own."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.parameters, self.decay = list(model.parameters()), decay
        self.values = [p.detach().clone() for p in self.parameters]
        self.count = 0

    @torch.no_grad()
    def update(self) -> None:
        """Draw the average towards the weights as they are now."""
        self.count += 1
        decay = min(self.decay, self.count / (self.count + 9))  # forget the start quickly
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Overwrite the weights with their average."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.copy_(value)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The model has the averaged weights inside the block, and its own again after it."""
        own = [p.detach().clone() for p in self.parameters]
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, own, strict=True):
                    parameter.copy_(value)
