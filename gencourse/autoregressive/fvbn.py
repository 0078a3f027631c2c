"""The fully visible belief network (Frey, Hinton and Dayan, 1996, "Does the wake-sleep algorithm produce good density
estimators?", NIPS 8; slides 18-22).

The chain rule, with nothing hidden: every conditional is one logistic regression on the earlier pixels,

    p(x_i = 1 | x_<i) = sigmoid(b_i + sum_{j < i} W_ij x_j)

All of them together are one matrix product with a strictly lower-triangular W. With D pixels it has D(D - 1)/2 weights
and D biases, its log-likelihood is concave in them, and so training finds the best there is. On more than two levels
each conditional is a softmax regression, with one row of weights a level, on the pixels scaled to [0, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from gencourse.autoregressive.flat import FlatAutoregressive
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


class FVBN(FlatAutoregressive):
    """One logistic (on more than two levels, softmax) regression a pixel.

    Attributes:
        W: `(D, outputs, D)`, row i the weights of pixel i's regression; only the earlier pixels' are used.
        b: `(D, outputs)`.
    """

    before: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.W = nn.Parameter(torch.zeros(space.dim, self.outputs, space.dim))
        self.b = nn.Parameter(torch.zeros(space.dim, self.outputs))
        position = self.order.argsort().to(self.b.device)  # when each pixel's turn comes
        self.register_buffer("before", position[:, None] > position[None, :], persistent=False)  # (D, D)

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """All conditionals at once, batch `(B, *space.shape)`: one product with the masked weights."""
        self._unconditional(context)
        weight = self.W * self.before[:, None]  # (D, outputs, D)
        logits = F.linear(self.unit(x), weight.flatten(0, 1), self.b.flatten())  # (B, D * outputs)
        return self.distribution(logits.view(-1, *self.b.shape))

    def start_cache(self, n: int, context: Tensor | None = None) -> "_Row":
        """Nothing is hidden; but a pixel needs only its own row of W, O(D) instead of O(D^2)."""
        self._unconditional(context)
        return _Row(self, n)


class _Row:
    """The pixels so far, scaled to [0, 1]. The later ones are zero, so no weight needs its mask."""

    def __init__(self, model: FVBN, n: int) -> None:
        self.W, self.b, self.top = model.W, model.b, model.levels - 1
        self.x = self.b.new_zeros(n, len(self.b))  # (n, D)
        self.previous: int | None = None

    def logits(self, x: Tensor, i: int) -> Tensor:
        if self.previous is not None:
            self.x[:, self.previous] = x.flatten(1)[:, self.previous].to(self.x.dtype) / self.top
        self.previous = i
        return F.linear(self.x, self.W[i], self.b[i])


RECIPES = (
    Recipe(
        "binary_digits",
        data="binary_digits",
        fit={"steps": 3000, "batch_size": 100, "lr": 1e-2, "schedule": cosine},
        band=18.6,
        quick=True,
    ),
    Recipe(
        "binarized_mnist",
        data="binarized_mnist",
        fit={"steps": 20_000, "batch_size": 500, "lr": 3e-3, "schedule": cosine},
        band=98.5,
        needs="a GPU, two minutes",
    ),
)
