"""Exercise 03, the chain rule: log-probability from logits, NADE's running sum, MADE's masks, bits/dim, ensembles of orders.

Sizes: B images, D pixels, H hidden units, M orders. All weights are inputs, so that all answers are numbers. Sizes within a
check differ from one another, so that a sum over the wrong axis shows in the shape.

Tolerances, measured over 200 seeds: the error of right answers in float32, however they are computed (whole tensors,
torch.distributions, a Python loop over pixels), stays below 1e-6 of `1 + |right answer|`, gradients included. The
tolerances are ten times that or more, and so small that each mistake loses points on every seed.
"""

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, log_softmax, pad, softplus

from gencourse.grading.questions import Check, Inputs, Measure, Mistake, Question, alike, is_one_step, told
from gencourse.grading.questions.training import lowest, trained


def _float32(draw):
    """Numbers that float32 holds exactly: student and reference then see the same inputs."""
    return lambda rng: {name: np.asarray(array, dtype=np.float32) for name, array in draw(rng).items()}


def _binary(rng: np.random.Generator, B: int, D: int) -> np.ndarray:
    return rng.integers(0, 2, (B, D)).astype(float)


# --- 3.1 log-probability of a binary image ----------------------------------------------------------------------------


def _pixels(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x_i | x_<i) of each pixel."""
    return x * logits - softplus(logits)


def _image(x: Tensor, logits: Tensor) -> Tensor:
    return _pixels(x, logits).sum(-1)


def _by_logarithms(x: Tensor, logits: Tensor) -> Tensor:
    p = logits.sigmoid()
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)


def _by_padded_logarithms(x: Tensor, logits: Tensor) -> Tensor:
    p = logits.sigmoid()
    return (x * (p + 1e-8).log() + (1 - x) * (1 - p + 1e-8).log()).sum(-1)


def _confident(rng: np.random.Generator) -> Inputs:
    """Logits far from zero, for and against the pixel: one minus their sigmoid rounds to zero, in float64 too.

    All are beyond 88.7, where the exponential of a float32 overflows: a wrong answer is wrong on every draw.

    The first image's logits are moderate, so that a logarithm of zero elsewhere leaves a number to tell mistakes apart.
    """
    x, logits = _binary(rng, 4, 9), rng.uniform(95, 120, (4, 9)) * np.resize([1, -1], (4, 9))
    x[1, :2] = [0, 1]
    logits[0] = rng.standard_normal(9)
    return {"x": x, "logits": logits}


_CONFIDENT = (
    "for confident pixels the sigmoid rounds to exactly 0 or 1 and its logarithm is lost; compute the log-probability "
    "from the logits, without a sigmoid in between"
)

LOG_PROB = Question(
    id="3.1",
    title="The log-probability of a binary image",
    function="log_prob",
    returns="(B,)",
    reference=_image,
    example={"x": np.array([[1.0, 0.0]]), "logits": np.array([[0.0, 2.0]])},
    checks=(
        Check(
            "values",
            1,
            _float32(lambda rng: {"x": _binary(rng, 5, 7), "logits": 1.5 * rng.standard_normal((5, 7))}),
            rtol=3e-5,
            atol=3e-5,
        ),
        Check(
            "gradients",
            1,
            _float32(lambda rng: {"x": _binary(rng, 6, 8), "logits": 1.5 * rng.standard_normal((6, 8))}),
            ("logits",),
            rtol=3e-5,
            atol=3e-5,
        ),
        Check("confident pixels", 1, _float32(_confident), rtol=3e-5, atol=3e-5),
    ),
    mistakes=(
        Mistake(
            "sign",
            "that is minus the log-probability, the loss; the logarithm of a probability is never positive.",
            lambda x, logits: -_image(x, logits),
        ),
        Mistake(
            "not summed",
            "you return one number for each pixel; by the chain rule their logarithms add up to one number for each image.",
            _pixels,
        ),
        Mistake(
            "pixels averaged",
            "you average over the pixels; by the chain rule the logarithms of the conditionals add up.",
            lambda x, logits: _pixels(x, logits).mean(-1),
        ),
        Mistake(
            "sum over the wrong axis",
            "you add up over the images (axis 0); the sum goes over the pixels.",
            lambda x, logits: _pixels(x, logits).sum(0),
        ),
        Mistake(
            "sum over the batch",
            "you add up over the batch too; return one number for each image.",
            lambda x, logits: _pixels(x, logits).sum(),
        ),
        Mistake(
            "mean over the batch",
            "you average over the batch; return one number for each image, and let the training loop average.",
            lambda x, logits: _image(x, logits).mean(),
        ),
        Mistake(
            "mean over everything",
            "that is one average over all pixels of the batch; a cross-entropy averages unless it is told otherwise.",
            lambda x, logits: _pixels(x, logits).mean(),
        ),
        Mistake(
            "sigmoid twice",
            "the sigmoid is applied twice; a function that expects logits is given probabilities.",
            lambda x, logits: _image(x, logits.sigmoid()),
        ),
        Mistake(
            "only pixels that are 1",
            "only the pixels that are 1 count; a pixel that is 0 has a probability too.",
            lambda x, logits: (x * _pixels(x, logits)).sum(-1),
        ),
        Mistake(
            "pixels turned round",
            "zeros and ones are exchanged; the logits are those of a pixel that is 1.",
            lambda x, logits: _image(1 - x, logits),
        ),
        Mistake(
            "softmax over the pixels",
            "a softmax over the pixels makes them compete for one unit of probability; each pixel has its own Bernoulli.",
            lambda x, logits: (x * log_softmax(logits, -1)).sum(-1),
        ),
        Mistake(
            "squared error",
            "that is a squared error, which belongs to a Gaussian; these pixels are Bernoulli.",
            lambda x, logits: -((x - logits.sigmoid()) ** 2).sum(-1),
        ),
        Mistake(
            "no logarithm",
            "that is the probability itself; return its logarithm, because with many pixels the probability becomes 0.",
            lambda x, logits: _image(x, logits).exp(),
        ),
        Mistake(
            "bits",
            "your answer is in bits; use the natural logarithm, which gives nats.",
            lambda x, logits: _image(x, logits) / math.log(2),
        ),
        Mistake(
            "no gradient",
            "no gradient arrives at the logits; stay with tensors, without detach, .item(), NumPy or torch.no_grad.",
            lambda x, logits: _image(x, logits).detach(),
        ),
        Mistake("logarithm of the sigmoid", f"{_CONFIDENT}.", _by_logarithms),
        Mistake("small number added", f"{_CONFIDENT}; adding 1e-8 only hides it.", _by_padded_logarithms),
        Mistake(
            "logarithm cut off",
            f"{_CONFIDENT}; binary_cross_entropy cuts it off at -100.",
            lambda x, logits: -binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(-1),
        ),
    ),
)

# --- 3.2 NADE ---------------------------------------------------------------------------------------------------------


def _terms(x: Tensor, W: Tensor) -> Tensor:
    """What each pixel adds to the activation: `(B, H, D)`."""
    return x.unsqueeze(1) * W


def _earlier(terms: Tensor) -> Tensor:
    """The sum of the terms before each pixel."""
    return pad(terms.cumsum(-1)[..., :-1], (1, 0))


def _nade_of(sums=lambda x, W: _earlier(_terms(x, W)), hidden=torch.sigmoid):
    """NADE with one part replaced: `sums(x, W)` `(B, H, D)`, what c is added to, or the activation function."""

    def logits(x: Tensor, W: Tensor, c: Tensor, V: Tensor, b: Tensor) -> Tensor:
        h = hidden(c[:, None] + sums(x, W))  # (B, H, D)
        return (h * V.T).sum(1) + b

    return logits


_nade = _nade_of()


def _nade_with_c_again(x: Tensor, W: Tensor, c: Tensor, V: Tensor, b: Tensor) -> Tensor:
    times = torch.arange(1, x.shape[1] + 1).to(c)
    return (torch.sigmoid(c[:, None] * times + _earlier(_terms(x, W))) * V.T).sum(1) + b


def _nade_recurrent(x: Tensor, W: Tensor, c: Tensor, V: Tensor, b: Tensor) -> Tensor:
    """The hidden layer, not the activation, is carried to the next pixel."""
    a, columns = c.expand(len(x), -1), []
    for i in range(x.shape[1]):
        h = a.sigmoid()
        columns.append(h @ V[i] + b[i])
        a = h + x[:, i, None] * W[:, i]
    return torch.stack(columns, 1)


def _nade_inputs(rng: np.random.Generator, B: int, D: int, H: int) -> Inputs:
    return {
        "x": _binary(rng, B, D),
        "W": 1.2 * rng.standard_normal((H, D)),
        "c": rng.normal(0.4, 0.7, H),
        "V": 1.2 * rng.standard_normal((D, H)),
        "b": rng.normal(-0.3, 0.7, D),
    }


NADE = Question(
    id="3.2",
    title="NADE's forward pass",
    function="nade_logits",
    returns="(B, D)",
    reference=_nade,
    example={
        "x": np.array([[1.0, 1.0]]),
        "W": np.array([[2.0, 1.0]]),
        "c": np.array([0.0]),
        "V": np.array([[1.0], [2.0]]),
        "b": np.array([0.0, -1.0]),
    },
    checks=(
        Check("values", 3, _float32(lambda rng: _nade_inputs(rng, B=5, D=7, H=4)), rtol=3e-5, atol=3e-5),
        Check("gradients", 1, _float32(lambda rng: _nade_inputs(rng, B=6, D=5, H=3)), ("W", "c", "V", "b"), rtol=3e-5, atol=3e-5),
    ),
    mistakes=(
        Mistake(
            "running sum updated before use",
            "pixel i sees itself; use the running sum for pixel i first, and add the term of pixel i afterwards.",
            _nade_of(lambda x, W: _terms(x, W).cumsum(-1)),
        ),
        Mistake(
            "one pixel late",
            "pixel i does not see pixel i - 1; the running sum is one step behind.",
            _nade_of(lambda x, W: pad(_terms(x, W).cumsum(-1)[..., :-2], (2, 0))),
        ),
        Mistake(
            "only the previous pixel",
            "pixel i sees pixel i - 1 only; the sum has to run, so add to it and do not start again from c.",
            _nade_of(lambda x, W: pad(_terms(x, W)[..., :-1], (1, 0))),
        ),
        Mistake(
            "whole image",
            "every pixel sees the whole image, itself included; only the pixels before it may enter.",
            _nade_of(lambda x, W: _terms(x, W).sum(-1, keepdim=True)),
        ),
        Mistake(
            "all but itself",
            "pixel i sees all other pixels; by the chain rule only those before it may enter.",
            _nade_of(lambda x, W: _terms(x, W).sum(-1, keepdim=True) - _terms(x, W)),
        ),
        Mistake(
            "later pixels",
            "pixel i sees the pixels after it; the sum has to start at the first pixel.",
            _nade_of(lambda x, W: _terms(x, W).sum(-1, keepdim=True) - _terms(x, W).cumsum(-1)),
        ),
        Mistake(
            "never updated",
            "the pixels have no effect; the running sum stays at c.",
            _nade_of(lambda x, W: 0 * _terms(x, W)),
        ),
        Mistake(
            "weights without pixels",
            "the columns of W are added whatever the pixels are; a pixel that is 0 adds nothing.",
            _nade_of(lambda x, W: _earlier(_terms(torch.ones_like(x), W))),
        ),
        Mistake(
            "pixels as -1 and 1",
            "the pixels enter as -1 and 1; here they enter as they are, 0 and 1.",
            _nade_of(lambda x, W: _earlier(_terms(2 * x - 1, W))),
        ),
        Mistake(
            "hidden layer carried on",
            "the hidden layer is carried to the next pixel, as in a recurrent network; carry the sum from before the sigmoid.",
            _nade_recurrent,
        ),
        Mistake(
            "c added again",
            "c is added once more at every pixel; the running sum starts with it, and that is enough.",
            _nade_with_c_again,
        ),
        Mistake("c missing", "the hidden bias c has no effect.", lambda x, W, c, V, b: _nade(x, W, 0 * c, V, b)),
        Mistake("b missing", "the output's bias b has no effect.", lambda x, W, c, V, b: _nade(x, W, c, V, 0 * b)),
        Mistake("no sigmoid", "the hidden layer lacks its sigmoid, so the model is linear.", _nade_of(hidden=lambda a: a)),
        Mistake("tanh", "the hidden layer has a tanh where the sigmoid belongs.", _nade_of(hidden=torch.tanh)),
        Mistake("relu", "the hidden layer has a ReLU where the sigmoid belongs.", _nade_of(hidden=torch.relu)),
        Mistake(
            "one row of V for all",
            "every pixel uses the first row of V; the hidden weights W are shared, the output weights are not.",
            lambda x, W, c, V, b: _nade(x, W, c, V[:1].expand_as(V), b),
        ),
        Mistake(
            "probabilities for logits",
            "these are probabilities; return the logits, without a sigmoid at the end.",
            lambda *inputs: _nade(*inputs).sigmoid(),
        ),
        Mistake(
            "log-probabilities for logits",
            "these are the log-probabilities of x; return the logits.",
            lambda x, *weights: _pixels(x, _nade(x, *weights)),
        ),
        Mistake(
            "gradient cut at the running sum",
            "no gradient arrives at W; the running sum is cut off, for example by detach or .data.",
            _nade_of(lambda x, W: _earlier(_terms(x, W)).detach()),
        ),
        Mistake(
            "no gradient",
            "no gradient arrives anywhere; stay with tensors, and make none anew from the numbers of others.",
            lambda *inputs: _nade(*inputs).detach(),
        ),
    ),
)

# --- 3.3 MADE ---------------------------------------------------------------------------------------------------------


def _made_of(
    into_hidden=lambda d_in, d_h: d_h[:, None] >= d_in,
    into_output=lambda d_in, d_h: d_in[:, None] > d_h,
    hidden=torch.relu,
    degrees=lambda d_in: d_in,
):
    """MADE with one part replaced: a mask made from the degrees, the activation, or how the pixels' degrees are read."""

    def logits(x: Tensor, W: Tensor, c: Tensor, V: Tensor, b: Tensor, degrees_in: Tensor, degrees_hidden: Tensor) -> Tensor:
        d_in = degrees(degrees_in)
        h = hidden(x @ (W * into_hidden(d_in, degrees_hidden)).T + c)  # (B, H)
        return h @ (V * into_output(d_in, degrees_hidden)).T + b

    return logits


_made = _made_of()


def _made_inputs(rng: np.random.Generator, B: int, D: int, H: int, *, natural: bool = False) -> Inputs:
    """Every degree 1 .. D - 1 has a hidden unit. Another order is its own inverse never, and always moves the first pixel."""
    order = np.arange(D)
    while not natural and ((order[order] == np.arange(D)).all() or order[0] == 0):
        order = rng.permutation(D)
    inputs = _nade_inputs(rng, B, D, H)
    inputs["x"][0] = 1
    inputs["c"] += 1  # few hidden units rest at 0, so that few connections go unnoticed
    return {**inputs, "degrees_in": order + 1, "degrees_hidden": rng.permutation(np.arange(H) % (D - 1)) + 1}


def _all(d_in: Tensor, d_h: Tensor) -> int:
    return 1


MADE = Question(
    id="3.3",
    title="MADE's masks",
    function="made_logits",
    returns="(B, D)",
    reference=_made,
    example={
        "x": np.array([[1.0, 1.0]]),
        "W": np.array([[2.0, 1.0]]),
        "c": np.array([1.0]),
        "V": np.array([[3.0], [2.0]]),
        "b": np.array([0.0, -1.0]),
        "degrees_in": np.array([1.0, 2.0]),
        "degrees_hidden": np.array([1.0]),
    },
    checks=(
        Check("the natural order", 1, _float32(lambda rng: _made_inputs(rng, 5, 6, 11, natural=True)), rtol=3e-5, atol=3e-5),
        Check("another order", 2, _float32(lambda rng: _made_inputs(rng, 5, 6, 11)), rtol=3e-5, atol=3e-5),
        Check("gradients", 1, _float32(lambda rng: _made_inputs(rng, 7, 5, 9)), ("W", "V"), rtol=3e-5, atol=3e-5),
    ),
    mistakes=(
        Mistake(
            ">= at the output",
            "pixels see themselves; into an output the comparison of degrees is strict, > and not >=.",
            _made_of(into_output=lambda d_in, d_h: d_in[:, None] >= d_h),
        ),
        Mistake(
            "> into the hidden layer",
            "connections are missing; a hidden unit of degree d may see pixel d of the order too, so its comparison is >=.",
            _made_of(into_hidden=lambda d_in, d_h: d_h[:, None] > d_in),
        ),
        Mistake(
            "strict in the wrong place",
            "> and >= have changed places; nothing leaks that way either, but a hidden unit's degree is how many pixels it sees.",
            _made_of(lambda d_in, d_h: d_h[:, None] > d_in, lambda d_in, d_h: d_in[:, None] >= d_h),
        ),
        Mistake(
            "hidden mask turned round",
            "the hidden layer's mask is turned round; information flows from low degrees to high ones.",
            _made_of(into_hidden=lambda d_in, d_h: d_h[:, None] <= d_in),
        ),
        Mistake(
            "output mask turned round",
            "the output's mask is turned round; information flows from low degrees to high ones.",
            _made_of(into_output=lambda d_in, d_h: d_in[:, None] < d_h),
        ),
        Mistake(
            "masks transposed",
            "both masks are transposed: rows belong to the units that a connection leads to, as in the weights.",
            _made_of(lambda d_in, d_h: d_h[:, None] <= d_in, lambda d_in, d_h: d_in[:, None] < d_h),
        ),
        Mistake(
            "pixels counted from 0",
            "in the hidden layer's mask the pixels are counted from 0, so each unit sees one pixel more than its degree says.",
            _made_of(into_hidden=lambda d_in, d_h: d_h[:, None] >= d_in - 1),
        ),
        Mistake(
            "one degree too strict at the output",
            "the output's mask cuts off the hidden units one degree below the pixel too; that is off by one.",
            _made_of(into_output=lambda d_in, d_h: d_in[:, None] - 1 > d_h),
        ),
        Mistake(
            "equal degrees only",
            "a hidden unit sees one pixel only, the one of its own degree; it may see all of lower degree too.",
            _made_of(into_hidden=lambda d_in, d_h: d_h[:, None] == d_in),
        ),
        Mistake("no hidden mask", "the hidden layer is not masked, so every unit sees all pixels.", _made_of(_all)),
        Mistake("no output mask", "the output is not masked, so every pixel sees itself.", _made_of(into_output=_all)),
        Mistake(
            "no masks",
            "neither layer is masked; that is an ordinary autoencoder, which sees what it predicts.",
            _made_of(_all, _all),
        ),
        Mistake("no relu", "the hidden layer lacks its ReLU.", _made_of(hidden=lambda a: a)),
        Mistake("sigmoid", "the hidden layer has a sigmoid where the ReLU belongs.", _made_of(hidden=torch.sigmoid)),
        Mistake(
            "c missing",
            "the hidden bias c has no effect.",
            lambda x, W, c, V, b, *degrees: _made(x, W, 0 * c, V, b, *degrees),
        ),
        Mistake(
            "b missing",
            "the output's bias b has no effect.",
            lambda x, W, c, V, b, *degrees: _made(x, W, c, V, 0 * b, *degrees),
        ),
        Mistake(
            "probabilities for logits",
            "these are probabilities; return the logits, without a sigmoid at the end.",
            lambda *inputs: _made(*inputs).sigmoid(),
        ),
        Mistake(
            "natural order assumed",
            "the pixels are taken row by row; degrees_in says which place each has in the order.",
            _made_of(degrees=lambda d_in: torch.arange(1, len(d_in) + 1).to(d_in)),
        ),
        Mistake(
            "order for degrees",
            "degrees_in is read as the list of pixels in their order; it is the other way round, the place of each pixel.",
            _made_of(degrees=lambda d_in: d_in.argsort().to(d_in) + 1),
        ),
        Mistake(
            "no gradient",
            "no gradient arrives at W and V; multiply the masks in, and leave the weights as they are, without detach or .data.",
            lambda *inputs: _made(*inputs).detach(),
        ),
    ),
)

# --- 3.4 bits per dimension -------------------------------------------------------------------------------------------


def _bits(log_prob: Tensor, x: Tensor) -> Tensor:
    return -log_prob / (x[0].numel() * math.log(2))


def _scored(rng: np.random.Generator, B: int, C: int, H: int, W: int) -> Inputs:
    """Images of 256 grey levels and log-probabilities worth 1 to 7 bits a dimension."""
    return {
        "log_prob": -rng.uniform(1, 7, B) * C * H * W * math.log(2),
        "x": rng.integers(0, 256, (B, C, H, W)),
    }


BITS = Question(
    id="3.4",
    title="From nats to bits per dimension",
    function="bits_per_dim",
    returns="(B,)",
    reference=_bits,
    example={"log_prob": np.array([-8.0]), "x": np.zeros((1, 1, 2, 2))},
    checks=(
        Check("colour images", 1, _float32(lambda rng: _scored(rng, 4, 3, 5, 6)), rtol=3e-5, atol=1e-6),
        Check("grey images", 1, _float32(lambda rng: _scored(rng, 5, 1, 4, 6)), rtol=3e-5, atol=1e-6),
    ),
    mistakes=(
        Mistake(
            "nats",
            "that is nats per dimension; a bit is log 2 nats.",
            lambda log_prob, x: _bits(log_prob, x) * math.log(2),
        ),
        Mistake(
            "multiplied by log 2",
            "you multiply by log 2; a bit is log 2 nats, less than one, so there are more bits than nats.",
            lambda log_prob, x: _bits(log_prob, x) * math.log(2) ** 2,
        ),
        Mistake(
            "base 10",
            "you convert with the logarithm to base 10; bits belong to base 2.",
            lambda log_prob, x: _bits(log_prob, x) * math.log(2) / math.log(10),
        ),
        Mistake(
            "sign",
            "the sign is turned round; bits are what a code for the image costs, and a cost is positive.",
            lambda log_prob, x: -_bits(log_prob, x),
        ),
        Mistake(
            "bits per image",
            "these are bits for the whole image; divide by the number of its dimensions.",
            lambda log_prob, x: _bits(log_prob, x) * x[0].numel(),
        ),
        Mistake(
            "divided by the batch too",
            "you divide by the number of images too; x.numel() counts the whole batch.",
            lambda log_prob, x: _bits(log_prob, x) / len(x),
        ),
        Mistake(
            "divided by channels only",
            "you divide by the size of axis 1, which is the number of colours; rows and columns count too.",
            lambda log_prob, x: _bits(log_prob, x) * x[0, 0].numel(),
        ),
        Mistake(
            "divided by the width only",
            "you divide by the width of the image only; colours and rows count too.",
            lambda log_prob, x: _bits(log_prob, x) * x[0, :, :, 0].numel(),
        ),
        Mistake(
            "mean over the batch",
            "you average over the images; return one number for each.",
            lambda log_prob, x: _bits(log_prob, x).mean(),
        ),
        Mistake(
            "sum over the batch",
            "you add up over the images; return one number for each.",
            lambda log_prob, x: _bits(log_prob, x).sum(),
        ),
        Mistake(
            "logarithm again",
            "you take the logarithm of log_prob; it is a logarithm already, and changing the base is a division.",
            lambda log_prob, x: (-log_prob).log2() / x[0].numel(),
        ),
        Mistake(
            "pixels without colours",
            "you divide by the pixels but not by their colours; each colour of a pixel is a dimension.",
            lambda log_prob, x: _bits(log_prob, x) * x.shape[1],
        ),
    ),
)

# --- 3.5 an ensemble of orders ----------------------------------------------------------------------------------------


def _log_mean_exp(log_p: Tensor, axis: int = 0) -> Tensor:
    return log_p.logsumexp(axis) - math.log(log_p.shape[axis])


def _ensemble_of(reduce):
    """Another way from the log-probabilities `(M, B)` of the orders to one number an image."""
    return lambda x, logits: reduce(_image(x, logits))


_ensemble = _ensemble_of(_log_mean_exp)


def _by_mean_probability(x: Tensor, logits: Tensor) -> Tensor:
    """Each pixel's probability averaged over the orders, then the product."""
    return _log_mean_exp(_pixels(x, logits)).sum(-1)


def _orders(rng: np.random.Generator, M: int, B: int, D: int) -> Inputs:
    return {"x": _binary(rng, B, D), "logits": rng.standard_normal((M, B, D))}


def _unlike_orders(rng: np.random.Generator) -> Inputs:
    """An image that is far likelier than the others, and an order that finds most of them far less likely.

    Images and orders are more than 150 nats apart, so that one maximum for all of them underflows.
    """
    inputs = _orders(rng, M=5, B=3, D=1500)
    inputs["logits"] *= 1.3
    inputs["logits"][0] *= 1.8
    inputs["logits"][:, 0] *= 0.02
    return inputs


ENSEMBLE = Question(
    id="3.5",
    title="An ensemble of orders",
    function="ensemble_log_prob",
    returns="(B,)",
    reference=_ensemble,
    example={"x": np.array([[1.0, 1.0]]), "logits": np.array([[[2.0, 2.0]], [[-2.0, -2.0]]])},
    checks=(
        Check("small images", 2, _float32(lambda rng: _orders(rng, M=6, B=4, D=5)), rtol=3e-5, atol=3e-5),
        Check("many pixels", 2, _float32(_unlike_orders), rtol=1e-5, atol=1e-5),
    ),
    mistakes=(
        Mistake(
            "sign",
            "that is minus the log-probability; the logarithm of a probability is never positive.",
            lambda x, logits: -_ensemble(x, logits),
        ),
        Mistake(
            "no -log M",
            "too large by log M for every image; the probabilities are summed where their mean is wanted.",
            _ensemble_of(lambda log_p: log_p.logsumexp(0)),
        ),
        Mistake(
            "+ log M",
            "log M has the wrong sign; the mean is the sum divided by M.",
            _ensemble_of(lambda log_p: log_p.logsumexp(0) + math.log(len(log_p))),
        ),
        Mistake(
            "mean of logarithms",
            "that is the mean of the logarithms, which is smaller; average the probabilities, then take the logarithm.",
            _ensemble_of(lambda log_p: log_p.mean(0)),
        ),
        Mistake(
            "sum of logarithms",
            "you add up the logarithms over the orders, which multiplies the models; an ensemble averages them.",
            _ensemble_of(lambda log_p: log_p.sum(0)),
        ),
        Mistake(
            "mean of logits",
            "you average the logits; what is averaged is the probability of the whole image.",
            lambda x, logits: _image(x, logits.mean(0)),
        ),
        Mistake(
            "mean of each pixel's probability",
            "you average pixel by pixel, then multiply; each order gives the whole image a probability, and those are averaged.",
            _by_mean_probability,
        ),
        Mistake(
            "mean of probabilities as logits",
            "the mean of the probabilities is used as if it were a logit.",
            lambda x, logits: _image(x, logits.sigmoid().mean(0)),
        ),
        Mistake(
            "sigmoid twice",
            "the sigmoid is applied twice; a function that expects logits is given probabilities.",
            lambda x, logits: _ensemble(x, logits.sigmoid()),
        ),
        Mistake(
            "largest",
            "you keep the best order only; all M of them go into the mean.",
            _ensemble_of(lambda log_p: log_p.max(0).values),
        ),
        Mistake("first order only", "only the first order has an effect.", lambda x, logits: _image(x, logits[0])),
        Mistake(
            "not averaged",
            "you return one number for each order and image; average over the orders, the first axis of the logits.",
            _image,
        ),
        Mistake(
            "wrong axis",
            "the mean runs over the images; the M orders are on the first axis of the logits.",
            _ensemble_of(lambda log_p: _log_mean_exp(log_p, 1)),
        ),
        Mistake(
            "mean over orders and images",
            "the mean runs over the orders and the images; return one number for each image.",
            _ensemble_of(lambda log_p: _log_mean_exp(log_p.flatten())),
        ),
        Mistake(
            "mean over the batch",
            "you average over the images; return one number for each.",
            lambda x, logits: _ensemble(x, logits).mean(),
        ),
        Mistake(
            "sum over the batch",
            "you add up over the images; return one number for each.",
            lambda x, logits: _ensemble(x, logits).sum(),
        ),
        Mistake(
            "pixels averaged",
            "the pixels' log-probabilities are averaged; by the chain rule they add up.",
            lambda x, logits: _log_mean_exp(_pixels(x, logits).mean(-1)),
        ),
        Mistake(
            "no logarithm",
            "that is the probability itself; return its logarithm.",
            _ensemble_of(lambda log_p: log_p.exp().mean(0)),
        ),
        Mistake(
            "bits",
            "your answer is in bits; use the natural logarithm, which gives nats.",
            lambda x, logits: _ensemble(x, logits) / math.log(2),
        ),
        Mistake(
            "unstable",
            "the probabilities of images with many pixels are too small for floating point and become 0; stay with logarithms, "
            "and take the largest out before you exponentiate.",
            _ensemble_of(lambda log_p: log_p.exp().mean(0).log()),
        ),
        Mistake(
            "small number added",
            "the probabilities of images with many pixels are too small for floating point, and the small number you add takes "
            "their place; stay with logarithms.",
            _ensemble_of(lambda log_p: (log_p.exp().mean(0) + 1e-8).log()),
        ),
    ),
)

# --- 3.6 train one ----------------------------------------------------------------------------------------------------

_PIXELS = 10


def _belief_net(rng: np.random.Generator, B: int = 2000) -> Inputs:
    """Images drawn from a fully visible belief net; for the grader its weights and biases."""
    W = np.tril(rng.normal(0, 1.5, (_PIXELS, _PIXELS)), -1)
    b = -W.sum(1) / 2 + rng.normal(0, 1.5, _PIXELS)
    x, u = np.zeros((B, _PIXELS)), rng.random((B, _PIXELS))
    for i in range(_PIXELS):
        x[:, i] = u[:, i] < 1 / (1 + np.exp(-x @ W[i] - b[i]))
    return {"x": x, "_net": np.column_stack([W, b])}


def _net_log_prob(net: np.ndarray) -> np.ndarray:
    """Of all images, under weights below the diagonal and biases in the last column: (D, D + 1) -> (2^D,), nats."""
    every = (np.arange(2**_PIXELS)[:, None] >> np.arange(_PIXELS) & 1).astype(float)
    logits = every @ np.tril(net[:, :-1], -1).T + net[:, -1]
    return -np.logaddexp(0, np.where(every == 1, -logits, logits)).sum(1)


def _net_kl(inputs: Inputs, answer: np.ndarray) -> float:
    """The exact KL divergence of the answer's distribution from the one that drew the images."""
    log_p, log_q = _net_log_prob(inputs["_net"].astype(float)), _net_log_prob(answer)
    return float(np.exp(log_p) @ (log_p - log_q))


def _lower(D: int) -> Tensor:
    return torch.ones(D, D).tril(-1)


def _net_of(mask=_lower, see=lambda x: x, is_one=lambda x: x, loss=None, bias=1.0, train=lowest, end=lambda answer: answer):
    """The fit with one part replaced: who sees whom, what is seen and predicted, the loss, the bias, the training, the answer."""
    loss = loss or (lambda x, logits: -_pixels(x, logits))

    def fit(x: Tensor) -> Tensor:
        D = x.shape[1]
        seen = mask(D).to(x)

        def cost(W: Tensor, b: Tensor) -> Tensor:
            return loss(is_one(x), see(x) @ (W * seen).T + bias * b).sum(1).mean()

        W, b = train(cost, torch.zeros(D, D).to(x), torch.zeros(D).to(x))
        return end(torch.cat([W * seen, bias * b[:, None]], dim=1))

    return fit


_fit_net = _net_of()
_whole_net = _net_of(mask=lambda D: 1 - torch.eye(D))
_squared_net = _net_of(loss=lambda x, logits: (logits - x) ** 2)


_MISTAKES = (
    Mistake(
        "independent pixels",
        "no pixel uses another one; the best of that kind is the product of the pixels' means.",
        _net_of(mask=lambda D: torch.zeros(D, D)),
    ),
    Mistake(
        "later pixels",
        "all weights stand right of the diagonal, for later pixels; row i has those of the earlier ones, left of it.",
        _net_of(mask=lambda D: _lower(D).T),
    ),
    Mistake(
        "no mask",
        "training lets each pixel see itself, so that it copies its value and learns nothing from the others.",
        _net_of(mask=lambda D: torch.ones(D, D)),
    ),
    Mistake(
        "all others",
        "training lets each pixel see the later ones too; mask the weights in the loss, and not only at the end.",
        _whole_net,
    ),
    Mistake(
        "one neighbour",
        "each pixel uses the one before it only; all earlier ones count.",
        _net_of(mask=lambda D: torch.ones(D, D).tril(-1).triu(-1)),
    ),
    Mistake(
        "transposed",
        "rows and columns of the weights are swapped; row i holds the weights that pixel i uses.",
        _net_of(end=lambda answer: torch.cat([answer[:, :-1].T, answer[:, -1:]], dim=1)),
    ),
    Mistake(
        "bias first",
        "the biases stand in the first column; they belong into the last.",
        _net_of(end=lambda answer: answer.roll(1, 1)),
    ),
    Mistake("no bias", "there are no biases; add one for each pixel.", _net_of(bias=0.0)),
    Mistake(
        "sign",
        "all signs are turned round; are the logits those of a 1?",
        _net_of(is_one=lambda x: 1 - x),
    ),
    Mistake(
        "probabilities for logits",
        "many logits are beyond 5 and -5, too sure of a pixel; does the loss take a sigmoid of what is a probability already?",
        _net_of(loss=lambda x, logits: -_pixels(x, logits.sigmoid())),
    ),
    Mistake(
        "squared error of logits",
        "the loss compares logits with pixels; lower the negative log-probability.",
        _squared_net,
    ),
    Mistake(
        "pixels as -1 and 1",
        "training sees pixels of -1 and 1; they are 0 and 1 here, and the weights mean something else then.",
        _net_of(see=lambda x: 2 * x - 1),
    ),
    Mistake(
        "one step",
        "that is a single step of gradient descent, or as good as one; loop until the loss stands still.",
        _net_of(train=partial(trained, steps=1, lr=0.05)),
    ),
    Mistake(
        "small learning rate",
        "all numbers are still close to 0; take larger steps, or many more.",
        _net_of(train=partial(trained, steps=100, lr=0.001)),
    ),
)


_READ = np.column_stack([np.tri(_PIXELS, k=-1), np.ones(_PIXELS)]) > 0  # of an answer


def _weights(net: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those for earlier pixels, and those for later ones, which are not read."""
    W = np.nan_to_num(net[:, :-1])
    return np.tril(W, -1), np.triu(W, 1)


def _net_logits(x: np.ndarray, net: np.ndarray) -> np.ndarray:
    return x @ net[:, :-1].T + net[:, -1]


def _first_step(inputs: Inputs, net: np.ndarray) -> bool:
    x = inputs["x"].astype(float)
    residual = 0.5 - x
    return is_one_step(net[_READ], np.column_stack([residual.T @ x, residual.sum(0)])[_READ] / len(x))


def _one_neighbour(inputs: Inputs, net: np.ndarray) -> bool:
    earlier, _ = _weights(net)
    return bool(earlier.any()) and not np.tril(earlier, -2).any()


def _no_bias(inputs: Inputs, net: np.ndarray) -> bool:
    """The last column is 0; with the biases first it would be that of the last pixel's weights, and 0 under a mask."""
    shifted = np.diagonal(net).any() and not _weights(net)[1].any()
    return not net[:, -1].any() and not shifted


def _copies(inputs: Inputs, net: np.ndarray) -> bool:
    """With all its weights the net tells nearly every pixel of the training images, by a weight on the pixel itself."""
    x = inputs["x"].astype(float)
    return bool((np.diagonal(net) > 1).all()) and ((_net_logits(x, net) > 0) == (x > 0)).mean() > 0.999


def _sure(inputs: Inputs, net: np.ndarray) -> bool:
    earlier, _ = _weights(net)
    return (np.abs(_net_logits(inputs["x"].astype(float), np.column_stack([earlier, net[:, -1]]))) > 5).mean() > 0.3


_told = partial(told, _MISTAKES)
_HINTS = (
    _told("transposed", mended=lambda net: np.column_stack([net[:, :-1].T, net[:, -1]])),
    _told("bias first", mended=lambda net: np.roll(net, -1, axis=1)),
    _told("sign", mended=lambda net: -net),
    _told("pixels as -1 and 1", mended=lambda net: np.column_stack([2 * net[:, :-1], net[:, -1] - _weights(net)[0].sum(1)])),
    _told("one step", when=_first_step),
    _told("small learning rate", when=lambda inputs, net: np.abs(np.nan_to_num(net)).max() < 0.1),
    _told("later pixels", when=lambda inputs, net: not _weights(net)[0].any() and _weights(net)[1].any()),
    _told("independent pixels", when=lambda inputs, net: not _weights(net)[0].any()),
    _told("one neighbour", when=_one_neighbour),
    _told("no bias", when=_no_bias),
    _told("no mask", when=_copies),
    _told("probabilities for logits", when=_sure),
    _told("squared error of logits", when=alike(_squared_net, "_net", _net_kl, 0.02)),
    _told("all others", when=alike(_whole_net, "_net", _net_kl, 0.1)),
)


def _net(name: str, at_most: float) -> Measure:
    return Measure(
        name,
        _net_kl,
        at_most,
        lambda inputs: (inputs["x"].shape[1], inputs["x"].shape[1] + 1),
        "pixel i may use the pixels j < i and its bias, row i of the answer belongs to it, and the loss has to stop falling.",
        " nats",
        hints=_HINTS,
        reads=lambda net: net[_READ],
    )


# The divergence in nats, measured on 200 seeds: the reference 0.053 at most; Adam, gradient descent and a library's regressions,
# on 40 seeds, 0.026. No bias 0.139 at least, pixels as -1 and 1 0.203, one neighbour 0.31, independent pixels 0.44, all others,
# and what takes no thought, more than 0.6.
EXPERIMENT = Question(
    id="3.6",
    title="Train a belief net",
    function="fit_belief_net",
    returns="(D, D + 1)",
    reference=_fit_net,
    example={"x": np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])},
    checks=(
        Check("trained", 3, _float32(_belief_net), measure=_net("the KL divergence of your distribution", 0.13)),
        Check("to the end", 1, _float32(_belief_net), measure=_net("the KL divergence of your distribution", 0.08), of="trained"),
    ),
    mistakes=_MISTAKES,
    seconds=30.0,
)

QUESTIONS = (LOG_PROB, NADE, MADE, BITS, ENSEMBLE, EXPERIMENT)
