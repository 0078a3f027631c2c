"""The losses of the two players, as pure functions of the discriminator's outputs.

One signature: `loss.d_loss(real, fake)` and `loss.g_loss(fake)`, on logits `(B,)`, the sigmoid not taken, one loss an
example, both to be lowered. With D = sigmoid(logit), and log D written as `logsigmoid` so that no logarithm of zero is
ever taken:

    minimax         d: -log D(x) - log(1 - D(G(z)))     g: log(1 - D(G(z)))       Goodfellow et al., 2014, Eq. (1)
    non_saturating  d: the same                         g: -log D(G(z))           the same, section 3; slide 110
    least_squares   d: (D(x)-b)^2/2 + (D(G(z))-a)^2/2   g: (D(G(z))-c)^2/2        Mao et al., 2017, Eq. (2); D a raw output
    wasserstein     d: D(G(z)) - D(x)                   g: -D(G(z))               Arjovsky et al., 2017; D a critic
    hinge           d: [1-D(x)]_+ + [1+D(G(z))]_+       g: -D(G(z))               Lim and Ye, 2017
    began(k)        d: L(x) - k L(G(z))                 g: L(G(z))                Berthelot et al., 2017; L a reconstruction error

`minimax` saturates: its generator's gradient is -D(G(z)), which vanishes where the discriminator is sure. That of
`non_saturating` is -(1 - D(G(z))), which does not. They are two losses.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Loss:
    """What each player lowers.

    Attributes:
        name: as in the literature.
        d_loss: of the logits of real and of generated examples, `(B,)` and `(B,)`; gives `(B,)`.
        g_loss: of the logits of generated examples, `(B,)`; gives `(B,)`.
    """

    name: str
    d_loss: Callable[[Tensor, Tensor], Tensor]
    g_loss: Callable[[Tensor], Tensor]


# Named functions, so that a model that holds a loss can be pickled: sent to another process, or saved whole.


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    return -F.logsigmoid(real) - F.logsigmoid(-fake)  # 1 - sigmoid(a) = sigmoid(-a)


def _saturating(fake: Tensor) -> Tensor:
    return F.logsigmoid(-fake)


def _not_saturating(fake: Tensor) -> Tensor:
    return -F.logsigmoid(fake)


def _gap(real: Tensor, fake: Tensor) -> Tensor:
    return fake - real


def _negative(fake: Tensor) -> Tensor:
    return -fake


def _margins(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real) + F.relu(1 + fake)


def _squares(real: Tensor, fake: Tensor, *, a: float, b: float) -> Tensor:
    return 0.5 * (real - b) ** 2 + 0.5 * (fake - a) ** 2


def _square(fake: Tensor, *, c: float) -> Tensor:
    return 0.5 * (fake - c) ** 2


def _weighted_gap(real: Tensor, fake: Tensor, *, k: Tensor | float) -> Tensor:
    return real - k * fake


def _unchanged(fake: Tensor) -> Tensor:
    return fake


minimax = Loss("minimax", _cross_entropy, _saturating)

non_saturating = Loss("non-saturating", _cross_entropy, _not_saturating)

wasserstein = Loss("Wasserstein", _gap, _negative)

hinge = Loss("hinge", _margins, _negative)


def least_squares(a: float = 0.0, b: float = 1.0, c: float = 1.0) -> Loss:
    """The least-squares loss: generated examples are drawn to `a` and real ones to `b`; the generator wants `c`.

    With b - c = 1 and b - a = 2 the game lowers a Pearson chi-squared divergence (Mao et al., 2017, Theorem 1); the
    defaults are the 0-1 coding, their Eq. (9).
    """
    return Loss("least squares", partial(_squares, a=a, b=b), partial(_square, c=c))


def began(k: Tensor | float) -> Loss:
    """BEGAN's losses, of reconstruction errors L(v) = |v - D(v)| `(B,)` in place of logits; `began_balance` moves `k`."""
    return Loss("BEGAN", partial(_weighted_gap, k=k), _unchanged)


def began_balance(
    k: Tensor | float, real: Tensor, fake: Tensor, *, gamma: float = 0.5, step: float = 1e-3
) -> tuple[Tensor, Tensor]:
    """The next k, and the measure of convergence M (Berthelot et al., 2017, section 3.4).

    Proportional control holds E L(G(z)) at gamma E L(x): k rises by `step` (gamma L(x) - L(G(z))) and stays in [0, 1];
    M = L(x) + |gamma L(x) - L(G(z))|, with L averaged over the batch. Both are tensors of no dimensions.

    Args:
        k: now, in [0, 1].
        real, fake: reconstruction errors `(B,)`.
        gamma: the diversity ratio, in [0, 1].

    Raises:
        ValueError: if gamma is not in [0, 1].
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"began_balance: gamma is a ratio in [0, 1], not {gamma}.")
    real, fake = real.detach().mean(), fake.detach().mean()
    gap = gamma * real - fake
    return (k + step * gap).clamp(0, 1), real + gap.abs()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    *,
    target: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`(|grad D(y)| - target)^2` at one point y of the line from each real example to a generated one, `(B,)`.

    The point is drawn uniformly, one number an example; the norm goes over all event dimensions, whatever their number
    (Gulrajani et al., 2017, Eq. (3) without its weight). For a linear critic w it is (|w| - target)^2, exactly.

    Args:
        critic: of `(B, ...)`, gives `(B,)`. Each output must depend on its own example alone: no batch norm.
        real, fake: of equal shapes `(B, ...)`.

    Raises:
        ValueError: if the shapes differ: a short batch would be broadcast.
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"gradient_penalty mixes real and generated examples one by one, but their shapes are "
            f"{tuple(real.shape)} and {tuple(fake.shape)}."
        )
    t = torch.rand(len(real), generator=generator, device=real.device, dtype=real.dtype)  # uniform, never normal
    t = t.reshape(-1, *[1] * (real.dim() - 1))  # (B, 1, ..., 1)
    y = (t * real + (1 - t) * fake).detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(critic(y).sum(), y, create_graph=True)  # (B, ...)
    return (gradient.flatten(1).norm(dim=1) - target) ** 2


def r1_penalty(real: Tensor, logits: Tensor) -> Tensor:
    """`|grad D(x)|^2` at the real examples, `(B,)` (Mescheder, Geiger and Nowozin, 2018, Eq. (9) without its weight / 2).

    It is zero where the discriminator is flat at the data, as it is at the game's end; the gradient penalty is not.

    Args:
        real: `(B, ...)`, which requires a gradient.
        logits: `(B,)`, the discriminator's of them.

    Raises:
        ValueError: if the examples require no gradient.
    """
    if not (real.requires_grad and logits.requires_grad):
        raise ValueError("r1_penalty: call real.requires_grad_() before the discriminator judges them.")
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)  # (B, ...)
    return gradient.flatten(1).square().sum(1)


@torch.no_grad()
def clip_weights(parameters: Iterable[nn.Parameter], c: float) -> None:
    """Clamp every weight to [-c, c], in place (Arjovsky et al., 2017, Algorithm 1).

    Raises:
        ValueError: if `c` is not positive.
    """
    if not c > 0:
        raise ValueError(f"clip_weights: the bound must be positive, not {c}.")
    for parameter in parameters:
        parameter.clamp_(-c, c)
