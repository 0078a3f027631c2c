"""What a denoising autoencoder is given: functions that damage a batch `(B, *shape)`, grey levels scaled to [-1, 1]."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gencourse import arguments


@dataclass(frozen=True)
class Blanking:
    """Each number of a batch in [-1, 1] becomes `value`, black, with probability `share`."""

    share: float = 0.3
    value: float = -1.0

    def __post_init__(self) -> None:
        arguments.probability("Blanking: share", self.share)

    def __call__(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The batch `(B, *shape)` with its damage, drawn anew at each call."""
        return torch.where(_uniform(y, generator) < self.share, torch.as_tensor(self.value, dtype=y.dtype, device=y.device), y)


@dataclass(frozen=True)
class GaussianNoise:
    """Normal noise of standard deviation `sd` is added to each number of a batch."""

    sd: float = 0.5

    def __post_init__(self) -> None:
        arguments.non_negative("GaussianNoise: sd", self.sd)

    def __call__(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The batch `(B, *shape)` with its damage, drawn anew at each call."""
        return y + self.sd * torch.randn(y.shape, generator=generator, device=y.device, dtype=y.dtype)


def _uniform(y: Tensor, generator: torch.Generator | None) -> Tensor:
    """Float32 even for shorter floats, whose few values would make the shares coarse."""
    return torch.rand(y.shape, generator=generator, device=y.device, dtype=torch.float32)
