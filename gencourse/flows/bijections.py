"""Bijections: smooth maps with a smooth inverse, and what they do to volumes.

Each is a module with `forward(x) -> (z, log_det)` and `inverse(z) -> (x, log_det)`. Data go to noise by `forward`. `log_det`,
`(B,)` in nats, is the logarithm of the absolute determinant of the Jacobian of the map that was asked for, so that the two
directions have opposite signs. Every inverse is a formula; none is an iteration. `undo(z)` is x alone, for sampling. Points are
`(B, D)`, images `(B, C, H, W)`: dimension 1 holds coordinates or channels. Where nothing else is said, z has the shape of x.

The Jacobian of a coupling is triangular, so its determinant is the product of its diagonal (Dinh et al., 2015, Section 3.2):

    z_kept = x_kept                                          dz/dx = [    1           0       ]
    z_changed = x_changed * exp(s(x_kept)) + t(x_kept)               [   ...    diag(exp(s))  ]
"""

import math
from collections.abc import Sequence

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.arguments import positive_integer
from gencourse.networks import full_precision


class Bijection(nn.Module):
    """What has an inverse."""

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """From z to x and the log-determinant of the inverse, `(B,)` nats."""
        raise NotImplementedError

    def undo(self, z: Tensor) -> Tensor:
        """x alone. A bijection whose log-determinant takes time leaves it out."""
        return self.inverse(z)[0]


def undo(bijection: nn.Module, z: Tensor) -> Tensor:
    """x alone, `(B, ...)`, by any module that has an `inverse`."""
    return bijection.undo(z) if isinstance(bijection, Bijection) else bijection.inverse(z)[0]  # type: ignore[operator]


class Composition(nn.ModuleList, Bijection):
    """One bijection after another; their log-determinants add up."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """From the first to the last: x `(B, ...)` to z, of the last one's shape, and the log-determinant `(B,)`."""
        log_det = x.new_zeros(len(x))
        for bijection in self:
            x, change = bijection(x)
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """From the last to the first: z to x, and the log-determinant `(B,)`."""
        log_det = z.new_zeros(len(z))
        for bijection in reversed(self):
            z, change = bijection.inverse(z)  # type: ignore[operator]
            log_det = log_det + change
        return z, log_det

    def undo(self, z: Tensor) -> Tensor:
        """From the last to the first: x alone."""
        for bijection in reversed(self):
            z = undo(bijection, z)
        return z


class Halves(nn.Module):
    """A coupling's two parts: the first half of the coordinates (or channels) is kept, the second changed; `swap`: the reverse.

    Of an odd number the first half has one more.
    """

    def __init__(self, swap: bool = False) -> None:
        super().__init__()
        self.swap = swap

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, ...)` -> what is kept and what is changed, `(B, C / 2, ...)` each; of an odd C the first half has one more."""
        first, second = x.chunk(2, dim=1)
        return (second, first) if self.swap else (first, second)

    def join(self, kept: Tensor, changed: Tensor) -> Tensor:
        """The inverse of `apart`: `(B, C, ...)`."""
        return torch.cat((changed, kept) if self.swap else (kept, changed), dim=1)

    def total(self, log_scale: Tensor) -> Tensor:
        """The sum of `(B, C / 2, ...)` over what is changed, `(B,)`."""
        return log_scale.flatten(1).sum(1)


class Mask(nn.Module):
    """A coupling's two parts by a mask, true where x is kept; both parts have the shape of x, with zeros in the other's places.

    Args:
        mask: bool, of the shape of one example.
    """

    kept: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", mask.bool(), persistent=False)

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, *mask.shape)` -> what is kept and what is changed, of the same shape each."""
        return x * self.kept, x * ~self.kept

    def join(self, kept: Tensor, changed: Tensor) -> Tensor:
        """The inverse of `apart`: `(B, *mask.shape)`; of `changed` only what the mask does not keep counts."""
        return kept + changed * ~self.kept

    def total(self, log_scale: Tensor) -> Tensor:
        """The sum of `(B, *mask.shape)` over what is changed, `(B,)`."""
        return (log_scale * ~self.kept).flatten(1).sum(1)


def checkerboard(shape: tuple[int, ...], flip: bool = False) -> Tensor:
    """A bool mask of `shape`, true where the indices have an even sum (`flip`: an odd one); all channels are alike."""
    *_, height, width = (1, *shape)
    board = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == int(flip)
    return board.expand(shape) if len(shape) > 1 else board[0]


class AdditiveCoupling(Bijection):
    """z_changed = x_changed + t(x_kept): the volume stays as it is (Dinh et al., 2015, Section 3.2).

    Args:
        network: t; from what is kept to the shape of what is changed.
        parts: which is which; `Halves`, or a `Mask`.
    """

    def __init__(self, network: nn.Module, parts: Halves | Mask) -> None:
        super().__init__()
        self.network, self.parts = network, parts

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Add: x `(B, ...)` to z; the log-determinant `(B,)` is exactly 0."""
        kept, changed = self.parts.apart(x)
        return self.parts.join(kept, changed + full_precision(self.network(kept))), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Subtract: what is kept is still there to compute t from; the log-determinant `(B,)` is exactly 0."""
        kept, changed = self.parts.apart(z)
        return self.parts.join(kept, changed - full_precision(self.network(kept))), z.new_zeros(len(z))


class AffineCoupling(Bijection):
    """z_changed = x_changed * exp(s(x_kept)) + t(x_kept) (Dinh et al., 2017, Eqs. 4 to 8).

    s is bounded by a tanh; an exp without a bound overflows after some hundred steps of training.

    Args:
        network: s, before the tanh, and t, one after the other in dimension 1.
        parts: which is which; `Halves`, or a `Mask`.
        bound: the largest |s|.
    """

    def __init__(self, network: nn.Module, parts: Halves | Mask, *, bound: float = 2.0) -> None:
        super().__init__()
        self.network, self.parts, self.bound = network, parts, bound

    def scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """s, the logarithm of the scale, and t, both of the shape of what is changed."""
        raw, shift = full_precision(self.network(kept)).chunk(2, dim=1)
        return self.bound * torch.tanh(raw / self.bound), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale, then shift: x `(B, ...)` to z; the log-determinant `(B,)` is the sum of s over what is changed."""
        parts = self.parts
        kept, changed = parts.apart(x)
        log_scale, shift = self.scale_and_shift(kept)
        return parts.join(kept, torch.addcmul(shift, changed, torch.exp(log_scale))), parts.total(log_scale)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Shift back, then scale back: z `(B, ...)` to x, and the log-determinant `(B,)`."""
        x, log_scale = self._back(z)
        return x, -self.parts.total(log_scale)

    def undo(self, z: Tensor) -> Tensor:
        """x alone."""
        return self._back(z)[0]

    def _back(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """x and s."""
        kept, changed = self.parts.apart(z)
        log_scale, shift = self.scale_and_shift(kept)
        return self.parts.join(kept, (changed - shift) * torch.exp(-log_scale)), log_scale


class Diagonal(Bijection):
    """A scale for each coordinate, z = x * exp(log_scale), at first 1: NICE's last layer (Dinh et al., 2015, Section 3.3).

    Args:
        shape: of one example.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(*shape))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply: x `(B, *shape)` to z; the log-determinant `(B,)` is the sum of `log_scale`, whatever x is."""
        return x * torch.exp(self.log_scale), self.log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Divide: z `(B, *shape)` to x, and the log-determinant `(B,)`."""
        return z * torch.exp(-self.log_scale), -self.log_scale.sum().expand(len(z))


class ActNorm(Bijection):
    """A scale and a bias for each channel, z = exp(log_scale) * x + bias (Kingma and Dhariwal, 2018, Table 1 and Section 3.1).

    The first batch that it sees in training mode sets them, once, so that this batch leaves it with mean 0 and standard
    deviation 1. From then on they are parameters like any other. That it happened is kept with the weights.

    Args:
        shape: of scale and bias, to be broadcast over an example: `(D,)` for points; for images `(C, 1, 1)`, or
            `(C, H, W)` for each pixel its own.
    """

    initialized: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(*shape))
        self.bias = nn.Parameter(torch.zeros(*shape))
        self.register_buffer("initialized", torch.tensor(False))
        self._known = False  # what `initialized` says, without asking a GPU at every step

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift: x `(B, ...)` to z; the log-determinant `(B,)` is the sum of `log_scale` over an example's places."""
        if self.training and not self._known:
            self._initialize(x)
        return torch.addcmul(self.bias, x, torch.exp(self.log_scale)), self._log_det(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale back: z `(B, ...)` to x, and the log-determinant `(B,)`."""
        return self.undo(z), -self._log_det(z)

    def undo(self, z: Tensor) -> Tensor:
        """x alone."""
        return (z - self.bias) * torch.exp(-self.log_scale)

    def _log_det(self, x: Tensor) -> Tensor:
        places = x.shape[1:].numel() // self.log_scale.numel()  # H * W, where a channel has one scale
        total = self.log_scale.sum()
        return (total if places == 1 else places * total).expand(len(x))

    @torch.no_grad()
    def _initialize(self, x: Tensor) -> None:
        self._known = True
        if bool(self.initialized) or not len(x):
            self._known = bool(self.initialized)
            return
        over = [0, *(i + 1 for i, size in enumerate(self.bias.shape) if size == 1 and x.shape[i + 1] > 1)]
        mean = x.mean(over).view(self.bias.shape)
        sd = x.std(over, correction=0).view(self.bias.shape)
        log_scale = -torch.log(torch.where(sd > 1e-6, sd, torch.ones_like(sd)))  # what does not vary is only shifted
        self.log_scale.copy_(log_scale)
        self.bias.copy_(-mean * torch.exp(log_scale))
        self.initialized.fill_(True)
        if torch.distributed.is_available() and torch.distributed.is_initialized():  # all take the first process's batch
            for value in (self.log_scale, self.bias):
                torch.distributed.broadcast(value.data, 0)

    def _load_from_state_dict(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super()._load_from_state_dict(*args, **kwargs)
        self._known = False


class Permutation(Bijection):
    """The coordinates (or channels) in another order.

    Args:
        order: a permutation of `0 .. C - 1`: z's i-th is x's `order[i]`-th.

    Raises:
        ValueError: if `order` is no permutation.
    """

    order: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        if sorted(order) != list(range(len(order))):
            raise ValueError(f"Permutation: order must hold each of 0..{len(order) - 1} once, not {list(order)}.")
        self.register_buffer("order", torch.tensor([int(i) for i in order]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x `(B, C, ...)` to z; volumes stay as they are, the log-determinant `(B,)` is 0."""
        return x[:, self.order], x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z `(B, C, ...)` to x, by the order that undoes it; the log-determinant `(B,)` is 0."""
        return z[:, self.order.argsort()], z.new_zeros(len(z))


class InvertibleLinear(Bijection):
    """z = W x in dimension 1: a learned permutation, and on images the 1x1 convolution (Kingma and Dhariwal, 2018, Eqs. 9 to 11).

    W is kept as the product P L (U + diag(s)) of a fixed permutation, a lower triangle with ones on its diagonal, and an
    upper triangle. So log |det W| is the sum of log |s|, and the inverse is two triangular systems. An image has H * W
    places, each multiplied by the same W: there the log-determinant is H * W times as large. W is at first a random rotation.

    Args:
        n: how many coordinates or channels.

    Raises:
        ValueError: if `n` is no positive integer.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        n = positive_integer("InvertibleLinear: n", n)
        with torch.device("cpu"):  # a factorisation needs numbers, wherever the weights are to be
            rotation = torch.linalg.qr(torch.randn(n, n)).Q
            P, L, U = torch.linalg.lu(rotation)
        device = torch.get_default_device()
        self.lower = nn.Parameter(L.tril(-1).to(device))
        self.upper = nn.Parameter(U.triu(1).to(device))
        self.log_scale = nn.Parameter(U.diagonal().abs().log().to(device))
        self.register_buffer("permutation", P.to(device))
        self.register_buffer("sign", U.diagonal().sign().to(device))

    @property
    def factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """P, L and U with its diagonal, `(n, n)` each."""
        one = torch.eye(len(self.sign), device=self.sign.device, dtype=self.sign.dtype)
        upper = self.upper.triu(1) + torch.diag(self.sign * torch.exp(self.log_scale))
        return self.permutation, self.lower.tril(-1) + one, upper

    @property
    def weight(self) -> Tensor:
        """W, `(n, n)`."""
        P, L, U = self.factors
        return P @ L @ U

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply every place by W: x `(B, n, ...)` to z; the log-determinant `(B,)` is the sum of log |s|, times the places."""
        with torch.autocast(x.device.type, enabled=False):  # rounded to bfloat16 it would be another map than its inverse undoes
            return self._multiply(self.weight, x), self._log_det(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply every place by the inverse, `U^-1 L^-1 P^T`: z `(B, n, ...)` to x, and the log-determinant `(B,)`."""
        with torch.autocast(z.device.type, enabled=False):
            P, L, U = self.factors
            half = torch.linalg.solve_triangular(L, P.T, upper=False, unitriangular=True)
            return self._multiply(torch.linalg.solve_triangular(U, half, upper=True).contiguous(), z), -self._log_det(z)

    def _multiply(self, W: Tensor, x: Tensor) -> Tensor:
        return x @ W.T if x.dim() == 2 else F.conv2d(x, W[:, :, None, None])

    def _log_det(self, x: Tensor) -> Tensor:
        places = x.shape[2:].numel()  # H * W; 1 for points
        return (places * self.log_scale.sum()).expand(len(x))


class Squeeze(Bijection):
    """`(B, C, H, W)` -> `(B, 4 C, H / 2, W / 2)`: 2x2 blocks become channels (Dinh et al., 2017, Section 3.6).

    H and W are even; if not, torch raises a RuntimeError.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, H, W)` to `(B, 4 C, H / 2, W / 2)`; volumes stay as they are, the log-determinant `(B,)` is 0."""
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, 4 C, H / 2, W / 2)` to `(B, C, H, W)`: four channels become a block of pixels; the log-determinant `(B,)` is 0."""
        return F.pixel_shuffle(z, 2), z.new_zeros(len(z))


class Flatten(Bijection):
    """`(B, *shape)` -> `(B, D)`.

    Args:
        shape: of one example.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, *shape)` to `(B, D)`; volumes stay as they are, the log-determinant `(B,)` is 0."""
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, D)` to `(B, *shape)`; the log-determinant `(B,)` is 0."""
        return z.unflatten(1, self.shape), z.new_zeros(len(z))


class Split(Bijection):
    """Half of the channels are done, the others go on: the multi-scale architecture (Dinh et al., 2017, Section 3.6).

    `(B, C, H, W)` -> `(B, D)`: first the second half of the channels as they are, then what `rest` makes of the first half.

    Args:
        shape: `(C, H, W)`, C even.
        rest: the bijection for the first half of the channels, `(B, C / 2, H, W)` -> `(B, D / 2)`.

    Raises:
        ValueError: if the number of channels is odd.
    """

    def __init__(self, shape: Sequence[int], rest: nn.Module) -> None:
        super().__init__()
        channels, height, width = shape
        if channels % 2:
            raise ValueError(f"Split: the number of channels must be even, not {channels}.")
        self.shape, self.rest = (channels // 2, height, width), rest

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, H, W)` to `(B, D)`; the log-determinant `(B,)` is that of `rest`, since what is done stays as it is."""
        goes_on, done = x.chunk(2, dim=1)
        z, log_det = self.rest(goes_on)
        return torch.cat((done.flatten(1), z), dim=1), log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, D)` to `(B, C, H, W)`, and the log-determinant `(B,)` of the inverse of `rest`."""
        done, z = z.chunk(2, dim=1)
        goes_on, log_det = self.rest.inverse(z)  # type: ignore[operator]
        return torch.cat((goes_on, done.unflatten(1, self.shape)), dim=1), log_det

    def undo(self, z: Tensor) -> Tensor:
        """x alone."""
        done, z = z.chunk(2, dim=1)
        return torch.cat((undo(self.rest, z), done.unflatten(1, self.shape)), dim=1)


class Logit(Bijection):
    """Unit intervals to real lines: z = logit(alpha + (1 - 2 alpha) x), as Dinh et al. (2017, Section 4.1) do but at both ends.

    Args:
        alpha: keeps the logit finite at 0 and 1.

    Raises:
        ValueError: if `alpha` is not between 0 and 0.5.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        if not 0 < alpha < 0.5:
            raise ValueError(f"Logit: alpha must lie between 0 and 0.5, not {alpha!r}.")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x `(B, ...)` on [0, 1] to z; the log-determinant `(B,)` is the sum of log((1 - 2 alpha) / (u (1 - u)))."""
        u = self.alpha + (1 - 2 * self.alpha) * x
        z = torch.log(u) - torch.log1p(-u)
        return z, self._log_det(z)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The sigmoid: z `(B, ...)` to x, up to `alpha / (1 - 2 alpha)` outside of [0, 1], and the log-determinant `(B,)`."""
        return self.undo(z), -self._log_det(z)

    def undo(self, z: Tensor) -> Tensor:
        """x alone."""
        return (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)

    def _log_det(self, z: Tensor) -> Tensor:
        log_slope = F.softplus(z) + F.softplus(-z) + math.log1p(-2 * self.alpha)  # 1 / (u (1 - u)) by the sigmoid's tails
        return log_slope.flatten(1).sum(1)
