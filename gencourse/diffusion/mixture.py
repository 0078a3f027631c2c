"""A world whose score is known exactly: a mixture of Gaussians, at every noise level.

Noise keeps a mixture a mixture. If x_0 ~ sum_k w_k N(m_k, s_k^2 I), then x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps has

    p_t(x) = sum_k w_k N(x; sqrt(abar) m_k, (abar s_k^2 + 1 - abar) I)

so that the best a denoiser can say is a formula: eps*(x, t) = E[eps | x_t = x] = -sqrt(1 - abar) grad log p_t(x). Whatever a
sampler does wrong with it is the sampler's fault, not a network's.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gencourse.arguments import non_negative_integer, positive
from gencourse.diffusion.schedule import Curve


class Mixture:
    """A mixture of round Gaussians, in float64.

    Args:
        weights: `(K,)`, positive; they are made to sum to one.
        means: `(K, D)`.
        sds: `(K,)`, positive.

    Raises:
        ValueError: if the shapes do not fit, or a weight or sd is not positive.
    """

    def __init__(self, weights: Sequence[float] | Tensor, means: Sequence | Tensor, sds: Sequence[float] | Tensor) -> None:
        self.weights, self.means, self.sds = (torch.as_tensor(value, dtype=torch.float64) for value in (weights, means, sds))
        if self.means.dim() != 2 or self.weights.shape != self.sds.shape or self.weights.shape != self.means.shape[:1]:
            shapes = ", ".join(str(tuple(value.shape)) for value in (self.weights, self.means, self.sds))
            raise ValueError(f"Mixture expects weights (K,), means (K, D) and sds (K,), not {shapes}.")
        if not bool((self.weights > 0).all() and (self.sds > 0).all()):
            raise ValueError("Mixture: weights and sds must be positive.")
        self.weights = self.weights / self.weights.sum()

    def log_prob(self, x: Tensor, alpha_bar: Tensor | float = 1.0) -> Tensor:
        """log p_t(x) of `x` `(B, D)`: `(B,)` nats; `alpha_bar` is a number or `(B,)`."""
        return torch.logsumexp(self._log_parts(x, alpha_bar), dim=1)

    def score(self, x: Tensor, alpha_bar: Tensor | float = 1.0) -> Tensor:
        """grad log p_t(x), `(B, D)`: the pulls of the components, weighted by their shares in x."""
        means, variances = self._at(x, alpha_bar)
        shares = torch.softmax(self._log_parts(x, alpha_bar), dim=1)  # (B, K)
        return ((shares / variances).unsqueeze(2) * (means - x.unsqueeze(1))).sum(1)

    def eps(self, x: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """E[eps | x_t = x], `(B, D)`."""
        noise = torch.sqrt(1 - torch.as_tensor(alpha_bar, dtype=x.dtype, device=x.device))
        return -(noise.unsqueeze(1) if noise.dim() else noise) * self.score(x, alpha_bar)

    def shares(self, x: Tensor, alpha_bar: Tensor | float = 1.0) -> Tensor:
        """The probability of each component given x, `(B, K)`."""
        return torch.softmax(self._log_parts(x, alpha_bar), dim=1)

    def component(self, k: int) -> "Mixture":
        """Component k alone: the distribution given that label."""
        return Mixture(self.weights[k : k + 1], self.means[k : k + 1], self.sds[k : k + 1])

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """`n` points, `(n, D)` float64."""
        n = non_negative_integer("Mixture.sample: n", n)
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator) if n else torch.zeros(0, dtype=torch.long)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[k] + self.sds[k].unsqueeze(1) * noise

    def _at(self, x: Tensor, alpha_bar: Tensor | float) -> tuple[Tensor, Tensor]:
        """Means `(1 or B, K, D)` and variances `(1 or B, K)` at a noise level."""
        a = torch.as_tensor(alpha_bar, dtype=x.dtype, device=x.device).reshape(-1, 1)
        return a.sqrt().unsqueeze(2) * self.means.to(x), a * self.sds.to(x) ** 2 + (1 - a)

    def _log_parts(self, x: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """log w_k N(x; ...), `(B, K)`."""
        means, variances = self._at(x, alpha_bar)
        squares = (x.unsqueeze(1) - means).square().sum(2)  # (B, K)
        return self.weights.to(x).log() - 0.5 * (squares / variances + x.shape[1] * torch.log(2 * math.pi * variances))


class ExactNetwork(nn.Module):
    """A mixture in the place of a network that predicts eps: `DDPM(space, network=ExactNetwork(mixture, curve), curve=curve)`.

    Args:
        labelled: whether the condition names the component.
    """

    def __init__(self, mixture: Mixture, curve: Curve, *, labelled: bool = False) -> None:
        super().__init__()
        self.mixture, self.curve, self.labelled = mixture, curve, labelled
        self.means = nn.Parameter(mixture.means.clone(), requires_grad=False)  # tells where the model is, and in which type

    def forward(self, y: Tensor, u: Tensor, condition: Tensor | None = None) -> Tensor:
        """E[eps | y], or E[eps | y, label] where the row of `condition` is not all zero."""
        alpha_bar = torch.exp(self.curve.log_alpha_bar(u))
        eps = self.mixture.eps(y, alpha_bar)
        if not self.labelled or condition is None:
            return eps
        by_label = torch.stack([self.mixture.component(k).eps(y, alpha_bar) for k in range(condition.shape[1])], dim=1)
        labelled = (condition.unsqueeze(2) * by_label).sum(1)
        return torch.where(condition.sum(1, keepdim=True) > 0, labelled, eps)


def langevin(
    score: Callable[[Tensor], Tensor], x: Tensor, step: float, steps: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Unadjusted Langevin dynamics: x <- x + step score(x) + sqrt(2 step) z, `steps` times; the shape of `x` `(B, D)`.

    Its stationary law tends to the density as the step goes to zero. For N(0, s^2), whose score is -x / s^2, it is Gaussian
    with variance s^2 / (1 - step / (2 s^2)): too wide by what the step costs.

    Args:
        score: grad log p, `(B, D)` -> `(B, D)`.

    Raises:
        ValueError: if the step is not positive or `steps` is no integer of 0 or more.
    """
    step = positive("langevin: step", step)
    for _ in range(non_negative_integer("langevin: steps", steps)):
        z = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = x + step * score(x) + math.sqrt(2 * step) * z
    return x
