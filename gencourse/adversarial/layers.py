"""Layers that more than one of the later games use, each a paper's idea in a few lines.

    ConditionalBatchNorm2d   a map is scaled and shifted by what the condition says      de Vries et al., 2017
    SpectralNorm             W / sigma(W), by power iteration                             Miyato et al., 2018
    ProjectionHead           a logit that asks whether image and condition agree          Miyato and Koyama, 2018
    SelfAttention            every place of a map looks at every other                    Zhang et al., 2019
    Equalised                weights from N(0, 1), scaled when they are used              Karras et al., 2018
    PixelNorm                the vector at each pixel has mean square one                 Karras et al., 2018
    MinibatchStd             one more map: how much the images of a batch differ          Karras et al., 2018

Everything that changes in training is a parameter or a buffer, so that a run that was cut off goes on with the same bits.
"""

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = nn.Linear | nn.Conv2d
Wrap = Callable[[Layer], nn.Module]
"""What is put around a layer: `SpectralNorm`, or `plain` for nothing."""


def plain(layer: Layer) -> nn.Module:
    """The layer itself."""
    return layer


# --- batch norm that knows the condition ------------------------------------------------------------------------------


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose gain and offset are linear in a condition: `(1 + gain(c)) * norm(y) + offset(c)`.

    The statistics are those of all examples together; only what is made of the normalised map depends on the condition.

    Args:
        channels: of the map.
        condition_dim: of the vector c: an embedded label, a caption's code, a piece of z, or several of them side by side.
    """

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain, self.offset = nn.Linear(condition_dim, channels), nn.Linear(condition_dim, channels)
        for linear in (self.gain, self.offset):  # begins near plain batch norm
            nn.init.normal_(linear.weight, 0.0, 0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, y: Tensor, condition: Tensor) -> Tensor:
        """`(B, C, H, W)` and `(B, condition_dim)` to `(B, C, H, W)`."""
        gain, offset = self.gain(condition)[:, :, None, None], self.offset(condition)[:, :, None, None]  # (B, C, 1, 1)
        return (1 + gain) * self.norm(y) + offset


@torch.no_grad()
def measure_batch_norm(network: nn.Module, inputs: Iterable[tuple[Tensor | None, ...]]) -> None:
    """Measure a network's batch-norm statistics afresh, as plain averages over the batches of inputs it is called with.

    Those gathered in training trail behind the weights, and belong to others where the weights were averaged. Every module
    is left in the mode it had.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.training) for norm in norms]
    try:
        for norm in norms:
            norm.train().reset_running_stats()
            norm.momentum = None  # a plain average
        for batch in inputs:
            network(*batch)
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum, norm.training = momentum, training


# --- spectral norm ----------------------------------------------------------------------------------------------------


def power_iteration(matrix: Tensor, u: Tensor, steps: int = 1) -> tuple[Tensor, Tensor]:
    """Draw `u` towards the first left singular vector of the matrix; returns u `(M,)` and its partner v `(N,)`, of length one.

    A step is v = W^T u / |W^T u|, u = W v / |W v|; the error shrinks by (sigma_2 / sigma_1)^2 each time. Then u^T W v is an
    estimate of the largest singular value, from below.

    Args:
        matrix: `(M, N)`.
        u: `(M,)`, not orthogonal to what is looked for.
        steps: 1 or more.
    """
    for _ in range(steps):
        v = F.normalize(matrix.T @ u, dim=0)
        u = F.normalize(matrix @ v, dim=0)
    return u, v


class SpectralNorm(nn.Module):
    """A layer whose weight is divided by its largest singular value (Miyato et al., 2018, https://arxiv.org/abs/1802.05957).

    The weight of a convolution counts as the matrix `(outputs, inputs * kernel)`. Each call in training mode takes one step of
    power iteration, from where the last one ended: the weights move so little that one is enough. No gradient goes through u
    and v, but one goes through sigma = u^T W v. A linear layer's slope is then at most one; that of a convolution whose kernel
    covers each pixel k^2 times is at most k.

    Args:
        layer: linear or a convolution.

    Attributes:
        u: `(outputs,)`, a buffer: the iteration goes on where it was.
    """

    u: Tensor

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        matrix = layer.weight.detach().flatten(1)  # (outputs, inputs * kernel)
        self.register_buffer("u", power_iteration(matrix, F.normalize(torch.randn_like(matrix[:, 0]), dim=0), 15)[0])

    def sigma(self) -> Tensor:
        """The estimate of the weight's largest singular value, `()`; in training mode after one more step."""
        matrix = self.layer.weight.flatten(1)
        with torch.no_grad():
            u, v = power_iteration(matrix, self.u)
            if self.training:
                self.u.copy_(u)
        return u @ (matrix @ v)  # u and v are no buffers: a second call before the gradient is taken changes nothing here

    def weight(self) -> Tensor:
        """The weight in use, the layer's own divided by sigma."""
        return self.layer.weight / self.sigma()

    def forward(self, y: Tensor) -> Tensor:
        """What the layer makes of y with the weight in use."""
        return torch.func.functional_call(self.layer, {"weight": self.weight()}, (y,))


# --- projection, attention --------------------------------------------------------------------------------------------


class ProjectionHead(nn.Module):
    """The logit of features h and a condition c: `psi(h) + <V c, h>` (Miyato and Koyama, 2018, https://arxiv.org/abs/1802.05637).

    The best discriminator's logit is log p(x)/q(x) + log p(c|x)/q(c|x). Where the classes' log-odds are linear in h, the second
    term is linear in h for each class: an inner product with a vector of the class, and that is what the head can say.

    Args:
        features: the dimension of h.
        condition_dim: of c: the number of classes, for one-hot labels; None for no condition.
        wrap: put around both linear maps, such as `SpectralNorm`.
    """

    def __init__(self, features: int, condition_dim: int | None = None, *, wrap: Wrap = plain) -> None:
        super().__init__()
        self.psi = wrap(nn.Linear(features, 1))
        self.embed = None if condition_dim is None else wrap(nn.Linear(condition_dim, features, bias=False))

    def forward(self, h: Tensor, condition: Tensor | None = None) -> Tensor:
        """`(B, features)` and `(B, condition_dim)` to logits `(B,)`."""
        logit = self.psi(h).squeeze(1)  # (B,)
        return logit if self.embed is None else logit + (self.embed(condition) * h).sum(1)


class SelfAttention(nn.Module):
    """`y + gamma * attended(y)`, with gamma 0 at first (Zhang et al., 2019, https://arxiv.org/abs/1805.08318).

    Queries and keys have an eighth of the channels, values half; keys and values are max-pooled to a quarter of the places.

    Args:
        channels: of the map, 8 or more.
        wrap: put around the four 1x1 convolutions, such as `SpectralNorm`.
    """

    def __init__(self, channels: int, *, wrap: Wrap = plain) -> None:
        super().__init__()
        self.query, self.key = (wrap(nn.Conv2d(channels, channels // 8, 1, bias=False)) for _ in range(2))
        self.value = wrap(nn.Conv2d(channels, channels // 2, 1, bias=False))
        self.out = wrap(nn.Conv2d(channels // 2, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def weights(self, y: Tensor) -> Tensor:
        """How much each place looks at each pooled place, `(B, H * W, H/2 * W/2)`; rows sum to one."""
        query, key = self.query(y).flatten(2), F.max_pool2d(self.key(y), 2).flatten(2)  # (B, C/8, HW), (B, C/8, HW/4)
        return torch.softmax(query.transpose(1, 2) @ key, dim=2)

    def forward(self, y: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape; H and W are even."""
        value = F.max_pool2d(self.value(y), 2).flatten(2)  # (B, C/2, HW/4)
        attended = (value @ self.weights(y).transpose(1, 2)).unflatten(2, y.shape[2:])  # (B, C/2, H, W)
        return y + self.gamma * self.out(attended)


# --- the tricks of growing --------------------------------------------------------------------------------------------


class Equalised(nn.Module):
    """A layer whose weights are drawn from N(0, 1) and scaled by gain / sqrt(fan-in) each time they are used.

    At first it is the usual initialisation. What differs is the optimiser: Adam moves every parameter by about the learning
    rate, and here every parameter has the same spread, so that all layers learn at one pace (Karras et al., 2018, section 4.1).

    Args:
        layer: linear or a convolution.
        gain: sqrt(2) before a ReLU, 1 where nothing follows.
    """

    def __init__(self, layer: Layer, gain: float = math.sqrt(2)) -> None:
        super().__init__()
        self.layer, self.scale = layer, gain / math.sqrt(layer.weight[0].numel())
        nn.init.normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)

    def weight(self) -> Tensor:
        """The weight in use."""
        return self.layer.weight * self.scale

    def forward(self, y: Tensor) -> Tensor:
        """What the layer makes of y with the weight in use."""
        return torch.func.functional_call(self.layer, {"weight": self.weight()}, (y,))


class PixelNorm(nn.Module):
    """Divides the vector at each pixel by the root of its mean square (Karras et al., 2018, section 4.2)."""

    def forward(self, y: Tensor) -> Tensor:
        """`(B, C, ...)` to the same shape."""
        return y * (y.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class MinibatchStd(nn.Module):
    """One more channel, a constant: how much the images of a group differ (Karras et al., 2018, section 3).

    The standard deviation over the group of every feature, averaged over features and places. A generator that draws one image
    is seen at once. It is sqrt(1e-8) = 1e-4 for images that are all alike, where the gradient of a bare root is infinite.

    Args:
        group: images compared; the largest number up to it that divides the batch is taken.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, y: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C + 1, H, W)`."""
        n = len(y)
        group = next((g for g in range(min(self.group, n), 0, -1) if n % g == 0), 1)
        groups = y.unflatten(0, (group, n // group))  # (G, B/G, C, H, W): image i is in group i mod B/G
        deviation = (groups.var(0, unbiased=False) + 1e-8).sqrt().flatten(1).mean(1)  # (B/G,)
        return torch.cat([y, deviation.repeat(group)[:, None, None, None].expand(-1, 1, *y.shape[2:])], dim=1)
