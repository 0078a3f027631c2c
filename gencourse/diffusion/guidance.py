"""Guidance: more of what the label asks for than p(x | y) gives.

By Bayes' rule, grad log p(x_t | y) = grad log p(x_t) + grad log p(y | x_t). Guidance multiplies the last by a weight w:

    by a classifier of noisy examples   eps - w sqrt(1 - abar_t) grad log p(y | x_t)      (Dhariwal and Nichol, 2021)
    without a classifier                eps_u + w (eps_c - eps_u)                         (Ho and Salimans, 2022)

where eps_u and eps_c are one network without and with the label. w = 0 ignores the label, w = 1 is p(x | y), more is guidance.
(Ho and Salimans write 1 + w for what is w here, https://arxiv.org/abs/2207.12598; so do some libraries.)

At each noise level that is the score of p(x_t)^(1 - w) p(x_t | y)^w, up to a constant. But these densities are not
one another's noisy versions. What guided sampling ends in is not the tilted density of the data, p(x)^(1 - w) p(x | y)^w, and
is no density that has a formula.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.arguments import positive_integer
from gencourse.diffusion.networks import Level
from gencourse.diffusion.schedule import Cosine, Curve, Linear
from gencourse.kinds import Learner, Move
from gencourse.space import Space


def classifier_free(unconditional: Tensor, conditional: Tensor, w: float) -> Tensor:
    """eps_u + w (eps_c - eps_u), the shape of both; velocities and scores go together in the same way."""
    return unconditional + w * (conditional - unconditional)


def classifier_guided(eps: Tensor, gradient: Tensor, noise: Tensor, w: float) -> Tensor:
    """eps - w sqrt(1 - abar_t) grad log p(y | x_t), the shape of `eps`; `noise` is sqrt(1 - abar_t)."""
    return eps - w * noise * gradient


class NoisyClassifier(Learner):
    """p(y | x_t): a classifier of examples at every noise level, for classifier guidance.

    Trained by `fit(classifier, dataset, conditional=True, ...)` on the same curve as the model that it guides. It sees what
    the model's network sees: grey levels scaled to [-1, 1], or points divided by `scale`.

    Args:
        space: images of integers, or points.
        classes: how many.
        curve: as the model's, by default `Cosine()` for images and `Linear()` for points.
        hidden: widths of its two hidden layers.
        scale: as the model's.
    """

    def __init__(self, space: Space, *, classes: int, curve: Curve | None = None, hidden: int = 128, scale: float = 1.0) -> None:
        super().__init__(space)
        self.classes = positive_integer("NoisyClassifier: classes", classes)
        self.curve, self.scale = curve or (Cosine() if space.is_discrete else Linear()), scale
        hidden = positive_integer("NoisyClassifier: hidden", hidden)
        self.level, self.first = Level(hidden, None), nn.Linear(space.dim, hidden)
        self.last = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, self.classes))

    def logits(self, xt: Tensor, u: Tensor) -> Tensor:
        """`(B, *space.shape)` as networks see it, and `(B,)` in [0, 1], to `(B, classes)`."""
        return self.last(F.silu(self.first(xt.flatten(1)) + self.level(u, None)))

    def gradient(self, xt: Tensor, u: Tensor, labels: Tensor | None) -> Tensor:
        """grad log p(y | x_t) with respect to x_t, the shape of `xt`; `u` is `(B,)` or one number for all.

        Raises:
            ValueError: if there are no labels `(B,)`.
        """
        if labels is None or labels.shape != (len(xt),):
            raise ValueError(f"guidance by a classifier needs labels ({len(xt)},) as its context, one for each example.")
        with torch.enable_grad():
            x = xt.detach().requires_grad_()
            log_p = torch.log_softmax(self.logits(x, u.to(xt.dtype).expand(len(xt))), dim=1)
            chosen = log_p.gather(1, labels.long().unsqueeze(1)).sum()
            return torch.autograd.grad(chosen, x)[0]

    def moves(self) -> list[Move]:
        """One move: lower the cross-entropy at a random noise level."""

        def cross_entropy(x: Tensor, context: Tensor | None = None) -> Tensor:
            if context is None:
                raise ValueError("NoisyClassifier needs labels; train it with fit(..., conditional=True).")
            y = self.space.to_signed(self.space.validate(x, values=False), self.first.weight.dtype) / self.scale
            u = torch.rand(len(y), device=y.device, dtype=y.dtype)
            alpha_bar = torch.exp(self.curve.log_alpha_bar(u)).view(-1, *[1] * (y.dim() - 1))
            xt = alpha_bar.sqrt() * y + (1 - alpha_bar).sqrt() * torch.randn_like(y)
            return F.cross_entropy(self.logits(xt, u), context.long(), reduction="none")

        return [Move("classifier", cross_entropy, self.parameters())]
