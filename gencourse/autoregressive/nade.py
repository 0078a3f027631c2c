"""NADE, the neural autoregressive distribution estimator (Larochelle and Murray, 2011,
https://proceedings.mlr.press/v15/larochelle11a.html; Uria, Côté, Gregor, Murray and Larochelle, 2016,
https://arxiv.org/abs/1605.02226).

Every conditional is a network with one hidden layer, and all of them share the weights W of what they have in common:

    h_i = sigmoid(c + W_{:,<i} x_<i)            p(x_i = 1 | x_<i) = sigmoid(b_i + V_i . h_i)

Computed one by one the D hidden layers would cost O(D^2 H). But two neighbours' activations differ by one term,

    a_1 = c,        a_{i+1} = a_i + W_{:,i} x_i,        h_i = sigmoid(a_i)

so all of them cost O(DH), forward and backward (Algorithm 1 of the paper), and so does drawing a sample. On more than
two levels V_i has one row a level and the conditional is a softmax; the inputs are the pixels scaled to [0, 1].
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution

from gencourse.arguments import positive_integer, probability
from gencourse.autoregressive.flat import FlatAutoregressive
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import cosine


class NADE(FlatAutoregressive):
    """A NADE with sigmoid hidden units.

    Args:
        space: images of integers.
        hidden: H, the number of hidden units.
        dropout: the probability with which a hidden unit is left out in training, for a whole image at a time: each
            image trains a thinner NADE, as consistent over its pixels as the whole one.

    Attributes:
        W: `(H, D)`; its rows are the filters, column i belongs to the i-th pixel of the model's order.
        c: `(H,)`.  V: `(D, outputs, H)`, with one output on two levels.  b: `(D, outputs)`.
    """

    path: Tensor

    def __init__(self, space: Space, *, hidden: int = 500, dropout: float = 0.0) -> None:
        super().__init__(space)
        hidden, self.dropout = positive_integer("NADE: hidden", hidden), probability("NADE: dropout", dropout)
        self.W = nn.Parameter(torch.randn(hidden, space.dim) / math.sqrt(space.dim))
        self.c = nn.Parameter(torch.zeros(hidden))
        self.V = nn.Parameter(torch.randn(space.dim, self.outputs, hidden) / math.sqrt(hidden))
        self.b = nn.Parameter(torch.zeros(space.dim, self.outputs))
        self.register_buffer("path", self.order.to(self.b.device), persistent=False)

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """All conditionals, batch `(B, *space.shape)`, in O(D H) an image."""
        self._unconditional(context)
        keep = None
        if self.training and self.dropout:
            keep = F.dropout(torch.ones(len(x), len(self.c), device=x.device, dtype=self.c.dtype), self.dropout)  # (B, H)
        with torch.autocast(x.device.type, enabled=False):  # a sum of hundreds of terms in bfloat16 would go astray
            path = self.unit(x)[:, self.path].T.contiguous()  # (D, B)
            products = _products_in_blocks if x.is_cuda else _Products.apply
            logits = products(path, self.W.T.contiguous(), self.c, self.V, keep).transpose(0, 1) + self.b  # (B, D, outputs)
        return self.distribution(torch.empty_like(logits).index_copy(1, self.path, logits))

    def start_cache(self, n: int, context: Tensor | None = None) -> "_Running":
        """The running activation a_i, `(n, H)`."""
        self._unconditional(context)
        return _Running(self, n)


class _Running:
    """The activation of the pixel whose turn it is; the next one's costs one more term, O(H)."""

    def __init__(self, model: NADE, n: int) -> None:
        self.W, self.V, self.b = model.W.T.contiguous(), model.V, model.b  # (D, H), (D, outputs, H), (D, outputs)
        self.activation = model.c.repeat(n, 1)  # (n, H)
        self.unit = 1 / (model.levels - 1)  # of a grey level
        self.t, self.previous = 0, -1

    def logits(self, x: Tensor, i: int) -> Tensor:
        t = self.t
        if t:
            self.activation.addr_(x.flatten(1)[:, self.previous].to(self.W.dtype), self.W[t - 1], alpha=self.unit)
        self.t, self.previous = t + 1, i
        return F.linear(torch.sigmoid(self.activation), self.V[t], self.b[t])


class _Products(torch.autograd.Function):
    """The products `V_i . h_i` for all i: Algorithm 1 of the paper, pixel by pixel with the gradient written out.

    Autograd through the recurrence would keep D hidden layers, and for every W[:, i] that is indexed make a zero matrix of
    the size of W. Here all work is done in place on one hidden layer, which stays in a core's cache. One activation in
    BLOCK is kept; the backward pass computes the others again, a block at a time, while walking from the last to the first.
    """

    BLOCK = 16

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, c: Tensor, V: Tensor, keep: Tensor | None) -> Tensor:
        """`x` (D, B), `W` (D, H), `c` (H,), `V` (D, outputs, H), `keep` (B, H) or None -> (D, B, outputs)."""
        a = c.repeat(x.shape[1], 1)  # (B, H)
        h, products, kept = torch.empty_like(a), x.new_empty(*x.shape, V.shape[1]), []
        for i, (x_i, W_i, V_i, product) in enumerate(zip(x.unbind(), W.unbind(), V.unbind(), products.unbind(), strict=True)):
            if i % _Products.BLOCK == 0:
                kept.append(a.clone())
            torch.sigmoid(a, out=h)
            if keep is not None:
                h *= keep
            torch.mm(h, V_i.T, out=product)
            a.addr_(x_i, W_i)
        ctx.save_for_backward(x, W, V, keep, *kept)
        return products

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """`gradient` (D, B, outputs) -> those of x, W, c and V."""
        x, W, V, keep, *kept = ctx.saved_tensors
        d_x, d_W, d_V = torch.empty_like(x), torch.empty_like(W), torch.empty_like(V)
        d_a = torch.zeros_like(kept[0])  # (B, H): of the next pixel's activation, through all later pixels
        hidden, d_h = d_a.new_empty(_Products.BLOCK, *d_a.shape), torch.empty_like(d_a)
        for first in reversed(range(0, len(x), _Products.BLOCK)):
            block = range(first, min(first + _Products.BLOCK, len(x)))
            a = kept.pop().clone()
            for h, i in zip(hidden, block, strict=False):
                torch.sigmoid(a, out=h)
                a.addr_(x[i], W[i])
            for h, i in reversed(list(zip(hidden, block, strict=False))):
                if ctx.needs_input_grad[0]:
                    torch.mv(d_a, W[i], out=d_x[i])
                torch.mv(d_a.T, x[i], out=d_W[i])
                torch.mm(gradient[i].T, h if keep is None else h * keep, out=d_V[i])
                torch.mm(gradient[i], V[i], out=d_h)
                if keep is not None:
                    d_h *= keep
                d_a += torch.ops.aten.sigmoid_backward(d_h, h)
        return d_x, d_W, d_a.sum(0), d_V, None


def _products_in_blocks(x: Tensor, W: Tensor, c: Tensor, V: Tensor, keep: Tensor | None, block: int = 56) -> Tensor:
    """The same as `_Products`, for a GPU, which would wait for each of 784 small steps: many pixels at once.

    Within a block of K pixels the sums of the recurrence are a product with a strictly triangular matrix, T[k, j] = x_j
    where j < k. This takes K times the multiplications, of which a GPU has plenty.
    """
    a, products = c.expand(x.shape[1], -1), []
    for x_k, W_k, V_k in zip(x.split(block), W.split(block), V.split(block), strict=True):
        triangles = x_k.T * x.new_ones(len(x_k), len(x_k)).tril(-1).unsqueeze(1)  # (K, B, K)
        h = torch.sigmoid(triangles @ W_k + a)  # (K, B, H)
        products.append(torch.bmm(h if keep is None else h * keep, V_k.mT))
        a = torch.addmm(a, x_k.T, W_k)
    return torch.cat(products)


RECIPES = (
    Recipe(
        "binary_digits",
        data="binary_digits",
        options={"hidden": 500, "dropout": 0.5},
        fit={"steps": 3000, "batch_size": 100, "lr": 3e-3, "schedule": cosine, "ema": 0.999},
        band=17.6,
        quick=True,
    ),
    Recipe(
        "binarized_mnist",
        data="binarized_mnist",
        options={"hidden": 500},
        fit={"steps": 25_000, "batch_size": 512, "lr": 2e-3, "schedule": cosine, "ema": 0.999},
        band=88.9,
        needs="a GPU, ten minutes",
    ),
)
