"""Exercise 09, the variational autoencoder: KL, reparameterised sample, ELBO, importance-sampled log-likelihood.

Sizes: B images, D pixels, `latent` latent variables, K samples an image. The decoder is linear, `logits = z @ W.T + b`, so that
all inputs are numbers. Sizes within a check differ from one another, so that a sum over the wrong axis shows in the shape.

Tolerances, measured over 200 seeds: the error of right answers in float32, however they are computed (whole tensors,
torch.distributions, a Python loop that adds one pixel at a time, even logarithms of sigmoids where logits are moderate),
stays below 2e-6 of `1 + |right answer|`, gradients included. The tolerances are five times that or more, and so small that
each mistake loses points on every seed.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, softplus

from gencourse.grading.questions import Check, Hint, Inputs, Measure, Mistake, Question, told
from gencourse.grading.questions.training import trained

# --- inputs -----------------------------------------------------------------------------------------------------------


def _gaussian(rng: np.random.Generator, B: int, latent: int) -> dict:
    log_var = rng.normal(-0.5, 1.0, (B, latent))
    log_var[0] = abs(log_var[0])  # a row in which even a logarithm or a square root of log_var is a number
    return {"mu": 1.5 * rng.standard_normal((B, latent)), "log_var": log_var}


def _vae(rng: np.random.Generator, B: int, D: int, latent: int, samples: tuple[int, ...] = (), slope: float = 0.3) -> dict:
    """Binary images, a posterior for each, noise `(*samples, B, latent)` and a linear decoder whose logits are moderate."""
    return {
        "x": rng.integers(0, 2, (B, D)).astype(float),
        **_gaussian(rng, B, latent),
        "eps": rng.standard_normal((*samples, B, latent)),
        "W": slope * rng.standard_normal((D, latent)),
        "b": rng.normal(0.3, 0.5, D),
    }


def _confident(rng: np.random.Generator) -> Inputs:
    """Logits far from zero, for and against the pixel: one minus their sigmoid rounds to zero, in float64 too.

    The first image's logits are moderate, so that a logarithm of zero elsewhere leaves a number to tell mistakes apart.
    """
    inputs = _vae(rng, B=4, D=9, latent=2, slope=0.1)
    inputs["W"][:, 0] = rng.uniform(60, 70, 9) * np.resize([1, -1], 9)
    inputs["W"][:2, 0] *= 1.9  # these overflow the exponential of a float32, which ends at 88.7, on every draw
    inputs["mu"][:, 0] = [0, 1, 1, 1]
    inputs["log_var"][:, 0] = -8
    inputs["x"][1, :2] = [0, 1]
    return inputs


def _unlike_images(rng: np.random.Generator) -> Inputs:
    """A likely image, an unlikely one and one between, far more than 100 nats apart: one maximum for all underflows."""
    inputs = _vae(rng, B=3, D=1700, latent=2, samples=(16,), slope=0.1)
    inputs["x"][0], inputs["x"][1] = inputs["b"] > 0, inputs["b"] < 0
    return inputs


def _float32(draw):
    """Numbers that float32 holds exactly: student and reference then see the same inputs."""
    return lambda rng: {name: array.astype(np.float32) for name, array in draw(rng).items()}


# --- 9.1 closed-form KL -----------------------------------------------------------------------------------------------


def _kl(mu: Tensor, log_var: Tensor) -> Tensor:
    return 0.5 * (log_var.exp() + mu**2 - 1 - log_var).sum(-1)


KL = Question(
    id="9.1",
    title="The KL divergence in closed form",
    function="gaussian_kl",
    returns="(B,)",
    reference=_kl,
    example={"mu": np.array([[1.0, 0.0]]), "log_var": np.array([[0.0, 1.0]])},
    checks=(
        Check("values", 2, _float32(lambda rng: _gaussian(rng, B=5, latent=3)), rtol=3e-5, atol=3e-5),
        Check("gradients", 1, _float32(lambda rng: _gaussian(rng, B=6, latent=4)), ("mu", "log_var"), rtol=3e-5, atol=3e-5),
    ),
    mistakes=(
        Mistake(
            "sign",
            "the sign is turned round; a KL divergence is never negative.",
            lambda mu, log_var: -_kl(mu, log_var),
        ),
        Mistake(
            "no half",
            "twice the right value; a factor in the exponent of the Gaussian density got lost.",
            lambda mu, log_var: 2 * _kl(mu, log_var),
        ),
        Mistake(
            "mean over dimensions",
            "you average over the latent dimensions; the KL of independent dimensions adds up.",
            lambda mu, log_var: _kl(mu, log_var) / mu.shape[-1],
        ),
        Mistake(
            "not summed",
            "you return one number for each latent dimension; add them up, so that one number for each row remains.",
            lambda mu, log_var: 0.5 * (log_var.exp() + mu**2 - 1 - log_var),
        ),
        Mistake(
            "sum over the batch",
            "you add up over the batch too; return one number for each row.",
            lambda mu, log_var: _kl(mu, log_var).sum(),
        ),
        Mistake(
            "mean over the batch",
            "you average over the batch; return one number for each row, and let the training loop average.",
            lambda mu, log_var: _kl(mu, log_var).mean(),
        ),
        Mistake(
            "sum over the wrong axis",
            "you add up over the examples (axis 0); the sum goes over the latent dimensions.",
            lambda mu, log_var: 0.5 * (log_var.exp() + mu**2 - 1 - log_var).sum(0),
        ),
        Mistake(
            "log_var is not log sigma",
            "log_var is read as the logarithm of the standard deviation; it is that of the variance.",
            lambda mu, log_var: _kl(mu, 2 * log_var),
        ),
        Mistake(
            "log_var is not the variance",
            "log_var is used as if it were the variance, and then its logarithm is taken; it is a logarithm already.",
            lambda mu, log_var: 0.5 * (log_var + mu**2 - 1 - log_var.log()).sum(-1),
        ),
        Mistake(
            "standard deviation for variance",
            "one term has the standard deviation where the variance belongs; of which of the two is log_var the logarithm?",
            lambda mu, log_var: 0.5 * ((log_var / 2).exp() + mu**2 - 1 - log_var).sum(-1),
        ),
        Mistake(
            "other direction",
            "that is the KL in the other direction, of N(0, I) from q; the expectation is taken under q.",
            lambda mu, log_var: 0.5 * ((mu**2 + 1) / log_var.exp() - 1 + log_var).sum(-1),
        ),
        Mistake(
            "no -1",
            "too large by the same amount for every row; when q is the prior itself, the KL is 0, and yours is not.",
            lambda mu, log_var: 0.5 * (log_var.exp() + mu**2 - log_var).sum(-1),
        ),
        Mistake(
            "sign of log_var",
            "the term that is linear in log_var has the wrong sign; a very narrow q must be far from N(0, I).",
            lambda mu, log_var: 0.5 * (log_var.exp() + mu**2 - 1 + log_var).sum(-1),
        ),
        Mistake(
            "mean not squared",
            "the mean enters linearly; moving q by -1 must cost as much as moving it by +1.",
            lambda mu, log_var: 0.5 * (log_var.exp() + mu - 1 - log_var).sum(-1),
        ),
        Mistake(
            "bits",
            "your answer is in bits; use the natural logarithm, which gives nats.",
            lambda mu, log_var: _kl(mu, log_var) / math.log(2),
        ),
        Mistake(
            "no gradient",
            "no gradient arrives at mu and log_var; stay with tensors, without detach, .item(), NumPy or torch.no_grad.",
            lambda mu, log_var: _kl(mu, log_var).detach(),
        ),
    ),
)

# --- 9.2 reparameterised sample ---------------------------------------------------------------------------------------


def _z(mu: Tensor, log_var: Tensor, eps: Tensor) -> Tensor:
    return mu + (log_var / 2).exp() * eps


def _noisy(rng: np.random.Generator, B: int, latent: int) -> dict:
    return {**_gaussian(rng, B, latent), "eps": rng.standard_normal((B, latent))}


SAMPLE = Question(
    id="9.2",
    title="A sample that lets the gradient through",
    function="reparameterize",
    returns="(B, latent)",
    reference=_z,
    example={"mu": np.array([[1.0]]), "log_var": np.array([[2.0]]), "eps": np.array([[0.5]])},
    checks=(
        Check("values", 1, _float32(lambda rng: _noisy(rng, B=5, latent=3)), rtol=3e-5, atol=3e-5),
        Check("gradients", 2, _float32(lambda rng: _noisy(rng, B=6, latent=4)), ("mu", "log_var"), rtol=3e-5, atol=3e-5),
    ),
    mistakes=(
        Mistake(
            "variance for standard deviation",
            "the noise is scaled by the variance; standard normal noise is scaled by the standard deviation.",
            lambda mu, log_var, eps: mu + log_var.exp() * eps,
        ),
        Mistake(
            "log_var is not sigma",
            "the noise is multiplied by log_var itself; a logarithm can be negative, a standard deviation cannot.",
            lambda mu, log_var, eps: mu + log_var * eps,
        ),
        Mistake(
            "square root of log_var",
            "you take the square root of log_var, which may be negative; undo the logarithm first.",
            lambda mu, log_var, eps: mu + log_var.sqrt() * eps,
        ),
        Mistake(
            "sign in the exponent",
            "the noise is divided by the standard deviation; check the sign in the exponent.",
            lambda mu, log_var, eps: mu + (-log_var / 2).exp() * eps,
        ),
        Mistake(
            "noise not scaled",
            "the noise is not scaled, so log_var has no effect.",
            lambda mu, log_var, eps: mu + eps,
        ),
        Mistake(
            "mean missing",
            "the mean is missing; your sample is centred on 0.",
            lambda mu, log_var, eps: (log_var / 2).exp() * eps,
        ),
        Mistake(
            "noise missing",
            "eps has no effect; that is the mean, not a sample.",
            lambda mu, log_var, eps: mu.clone(),
        ),
        Mistake(
            "minus the noise",
            "the noise is subtracted; the distribution is the same, but this exercise adds it, so that numbers can be compared.",
            lambda mu, log_var, eps: mu - (log_var / 2).exp() * eps,
        ),
        Mistake(
            "mean scaled too",
            "the mean is multiplied by the standard deviation too; scale first, then shift.",
            lambda mu, log_var, eps: (mu + eps) * (log_var / 2).exp(),
        ),
        Mistake(
            "mu and log_var swapped",
            "mu and log_var have changed places.",
            lambda mu, log_var, eps: _z(log_var, mu, eps),
        ),
        Mistake(
            "mu and eps swapped",
            "mu and eps have changed places; which of the two is scaled?",
            lambda mu, log_var, eps: _z(eps, log_var, mu),
        ),
        Mistake(
            "no gradient",
            "the sample is cut off from mu and log_var, so the encoder could not learn; look for detach, .data, NumPy, "
            "torch.no_grad, or a distribution's sample() where rsample() is meant.",
            lambda mu, log_var, eps: _z(mu, log_var, eps).detach(),
        ),
        Mistake(
            "no gradient to log_var",
            "the gradient reaches mu but not log_var, so the encoder's variance could not learn.",
            lambda mu, log_var, eps: _z(mu, log_var.detach(), eps),
        ),
        Mistake(
            "no gradient to mu",
            "the gradient reaches log_var but not mu, so the encoder's mean could not learn.",
            lambda mu, log_var, eps: _z(mu.detach(), log_var, eps),
        ),
    ),
)

# --- 9.3 the ELBO -----------------------------------------------------------------------------------------------------


def _log_lik(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x|z) of each pixel: logits `(..., B, D)` and images `(B, D)`."""
    return x * logits - softplus(logits)


def _reconstruction(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return _log_lik(x, _z(mu, log_var, eps) @ W.T + b).sum(-1)


def _elbo(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return _reconstruction(x, mu, log_var, eps, W, b) - _kl(mu, log_var)


def _normal(z: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    return (-0.5 * ((z - mu) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi))).sum(-1)


def _elbo_of(log_lik, kl=_kl, z=_z):
    """The ELBO with one part replaced: `log_lik(x, logits)` of an image, `kl(mu, log_var)`, or `z(mu, log_var, eps)`."""
    return lambda x, mu, log_var, eps, W, b: log_lik(x, z(mu, log_var, eps) @ W.T + b) - kl(mu, log_var)


def _image(x: Tensor, logits: Tensor) -> Tensor:
    return _log_lik(x, logits).sum(-1)


def _elbo_by_sample(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    z, zero = _z(mu, log_var, eps), torch.zeros_like(mu)
    return _image(x, z @ W.T + b) + _normal(z, zero, zero) - _normal(z, mu, log_var)


def _by_logarithms(x: Tensor, logits: Tensor) -> Tensor:
    p = logits.sigmoid()
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)


def _by_padded_logarithms(x: Tensor, logits: Tensor) -> Tensor:
    p = logits.sigmoid()
    return (x * (p + 1e-8).log() + (1 - x) * (1 - p + 1e-8).log()).sum(-1)


def _by_cross_entropy(x: Tensor, logits: Tensor) -> Tensor:
    return -binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(-1)


_CONFIDENT = (
    "for confident pixels the sigmoid rounds to exactly 0 or 1 and its logarithm is lost; compute the log-probability "
    "from the logits, without a sigmoid in between"
)

_LINEAR = {"W": np.array([[2.0]]), "b": np.array([-1.0])}

ELBO = Question(
    id="9.3",
    title="The ELBO of a batch",
    function="elbo",
    returns="(B,)",
    reference=_elbo,
    example={
        "x": np.array([[1.0]]),
        "mu": np.array([[1.0]]),
        "log_var": np.array([[0.0]]),
        "eps": np.array([[0.5]]),
        **_LINEAR,
    },
    checks=(
        Check("values", 2, _float32(lambda rng: _vae(rng, B=5, D=7, latent=3)), rtol=3e-5, atol=3e-5),
        Check("gradients", 1, _float32(lambda rng: _vae(rng, B=6, D=8, latent=4)), ("mu", "log_var", "W"), rtol=1e-4, atol=1e-4),
        Check("confident pixels", 1, _float32(_confident), rtol=3e-5, atol=3e-5),
    ),
    mistakes=(
        Mistake(
            "sign",
            "that is minus the ELBO, the loss; the ELBO is what training makes larger.",
            lambda *inputs: -_elbo(*inputs),
        ),
        Mistake(
            "KL added",
            "the KL is added; straying from the prior must lower the bound.",
            _elbo_of(_image, lambda mu, log_var: -_kl(mu, log_var)),
        ),
        Mistake(
            "KL missing",
            "the KL term has no effect; that is the reconstruction alone.",
            _elbo_of(_image, lambda mu, log_var: 0),
        ),
        Mistake(
            "reconstruction missing",
            "x has no effect; the reconstruction term is missing.",
            lambda x, mu, log_var, eps, W, b: -_kl(mu, log_var),
        ),
        Mistake(
            "reconstruction averaged",
            "the reconstruction is averaged over the pixels; the log-probabilities of independent pixels add up.",
            _elbo_of(lambda x, logits: _log_lik(x, logits).mean(-1)),
        ),
        Mistake(
            "KL averaged",
            "the KL is averaged over the latent dimensions; it has to be summed, like the reconstruction.",
            _elbo_of(_image, lambda mu, log_var: _kl(mu, log_var) / mu.shape[-1]),
        ),
        Mistake(
            "KL without its half",
            "the KL counts twice; its factor got lost.",
            _elbo_of(_image, lambda mu, log_var: 2 * _kl(mu, log_var)),
        ),
        Mistake(
            "sum over the batch",
            "you add up over the batch too; return one number for each image.",
            lambda *inputs: _elbo(*inputs).sum(),
        ),
        Mistake(
            "mean over the batch",
            "you average over the batch; return one number for each image.",
            lambda *inputs: _elbo(*inputs).mean(),
        ),
        Mistake(
            "reconstruction averaged over everything",
            "the reconstruction is one average over the whole batch; a cross-entropy averages unless it is told otherwise.",
            _elbo_of(lambda x, logits: -binary_cross_entropy_with_logits(logits, x)),
        ),
        Mistake(
            "reconstruction summed over everything",
            "the reconstruction is one number, summed over the whole batch; each image needs its own.",
            _elbo_of(lambda x, logits: _log_lik(x, logits).sum()),
        ),
        Mistake(
            "sigmoid twice",
            "the sigmoid is applied twice; a function that expects logits is given probabilities.",
            _elbo_of(lambda x, logits: _image(x, logits.sigmoid())),
        ),
        Mistake(
            "squared error",
            "the reconstruction is a squared error, which belongs to a Gaussian decoder; these pixels are Bernoulli.",
            _elbo_of(lambda x, logits: -((x - logits.sigmoid()) ** 2).sum(-1)),
        ),
        Mistake(
            "half a squared error",
            "the reconstruction is half a squared error, which belongs to a Gaussian decoder; these pixels are Bernoulli.",
            _elbo_of(lambda x, logits: -0.5 * ((x - logits.sigmoid()) ** 2).sum(-1)),
        ),
        Mistake(
            "only pixels that are 1",
            "only the pixels that are 1 count; a pixel that is 0 has a probability too.",
            _elbo_of(lambda x, logits: (x * _log_lik(x, logits)).sum(-1)),
        ),
        Mistake(
            "pixels turned round",
            "zeros and ones are exchanged; the decoder's logits are those of a pixel that is 1.",
            _elbo_of(lambda x, logits: _image(1 - x, logits)),
        ),
        Mistake(
            "mean decoded",
            "eps has no effect; decode the sample z, not the mean mu.",
            _elbo_of(_image, z=lambda mu, log_var, eps: mu),
        ),
        Mistake(
            "variance for standard deviation",
            "in z the noise is scaled by the variance; see question 9.2.",
            _elbo_of(_image, z=lambda mu, log_var, eps: mu + log_var.exp() * eps),
        ),
        Mistake(
            "no bias",
            "the decoder's bias b has no effect.",
            lambda x, mu, log_var, eps, W, b: _elbo(x, mu, log_var, eps, W, 0 * b),
        ),
        Mistake(
            "KL by sample",
            "the KL is estimated from the one sample; that has the right mean but more noise, so use the closed form of 9.1.",
            _elbo_by_sample,
        ),
        Mistake(
            "gradient stopped at z",
            "z is cut off from the encoder, so the reconstruction cannot train it; only the KL's gradient arrives.",
            _elbo_of(_image, z=lambda mu, log_var, eps: _z(mu, log_var, eps).detach()),
        ),
        Mistake(
            "no gradient",
            "no gradient arrives anywhere; stay with tensors, without detach, .item(), NumPy or torch.no_grad.",
            lambda *inputs: _elbo(*inputs).detach(),
        ),
        Mistake("logarithm of the sigmoid", f"{_CONFIDENT}.", _elbo_of(_by_logarithms)),
        Mistake("small number added", f"{_CONFIDENT}; adding 1e-8 only hides it.", _elbo_of(_by_padded_logarithms)),
        Mistake("logarithm cut off", f"{_CONFIDENT}; binary_cross_entropy cuts it off at -100.", _elbo_of(_by_cross_entropy)),
    ),
)

# --- 9.4 importance-sampled log-likelihood ----------------------------------------------------------------------------


def _log_parts(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x|z), log p(z) and log q(z|x), each `(K, B)`."""
    z, zero = _z(mu, log_var, eps), torch.zeros_like(mu)
    return _image(x, z @ W.T + b), _normal(z, zero, zero), _normal(z, mu, log_var)


def _log_mean_exp(log_w: Tensor) -> Tensor:
    return log_w.logsumexp(0) - math.log(len(log_w))


def _importance(*inputs: Tensor) -> Tensor:
    log_lik, prior, q = _log_parts(*inputs)
    return _log_mean_exp(log_lik + prior - q)


def _weighted(reduce, weight=lambda log_lik, prior, q: log_lik + prior - q):
    """The estimate with another weight, or another way from the K log-weights to one number."""
    return lambda *inputs: reduce(weight(*_log_parts(*inputs)))


def _with_kl(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return _log_mean_exp(_log_parts(x, mu, log_var, eps, W, b)[0]) - _kl(mu, log_var)


def _with_sigmoid_twice(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    _, prior, q = _log_parts(x, mu, log_var, eps, W, b)
    return _log_mean_exp(_image(x, (_z(mu, log_var, eps) @ W.T + b).sigmoid()) + prior - q)


def _with_pixel_mean(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    log_lik, prior, q = _log_parts(x, mu, log_var, eps, W, b)
    return _log_mean_exp(log_lik / x.shape[-1] + prior - q)


def _with_variance_as_scale(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Normal(mu, exp(log_var)) everywhere, as from torch.distributions."""
    return _importance(x, mu, 2 * log_var, eps, W, b)


def _with_variance_in_q(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    log_lik, prior, _ = _log_parts(x, mu, log_var, eps, W, b)
    return _log_mean_exp(log_lik + prior - _normal(_z(mu, log_var, eps), mu, 2 * log_var))


def _with_variance_in_z(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    z, zero = _z(mu, 2 * log_var, eps), torch.zeros_like(mu)
    return _log_mean_exp(_image(x, z @ W.T + b) + _normal(z, zero, zero) - _normal(z, mu, log_var))


def _with_q_not_normalised(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return _importance(x, mu, log_var, eps, W, b) - 0.5 * log_var.sum(-1)


def _with_one_two_pi(x: Tensor, mu: Tensor, log_var: Tensor, eps: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return _importance(x, mu, log_var, eps, W, b) + 0.5 * math.log(2 * math.pi) * mu.shape[-1]


IMPORTANCE = Question(
    id="9.4",
    title="The log-likelihood by importance sampling",
    function="log_likelihood",
    returns="(B,)",
    reference=_importance,
    example={
        "x": np.array([[1.0]]),
        "mu": np.array([[1.0]]),
        "log_var": np.array([[0.0]]),
        "eps": np.array([[[0.5]], [[-0.5]]]),
        **_LINEAR,
    },
    checks=(
        Check("small images", 3, _float32(lambda rng: _vae(rng, B=4, D=6, latent=3, samples=(12,))), rtol=3e-5, atol=3e-5),
        Check("many pixels", 2, _float32(_unlike_images), rtol=1e-5, atol=1e-5),
    ),
    mistakes=(
        Mistake(
            "sign",
            "that is minus the log-likelihood; the probability of a binary image is at most 1.",
            lambda *inputs: -_importance(*inputs),
        ),
        Mistake(
            "no -log K",
            "too large by the same amount for every image; the weights are summed where their mean is wanted.",
            _weighted(lambda w: w.logsumexp(0)),
        ),
        Mistake(
            "mean of logarithms",
            "that is the mean of the logarithms, an ELBO with K samples; the logarithm belongs outside the mean.",
            _weighted(lambda w: w.mean(0)),
        ),
        Mistake(
            "sum of logarithms",
            "you add up the log-weights of the samples; the weights themselves are averaged, then comes the logarithm.",
            _weighted(lambda w: w.sum(0)),
        ),
        Mistake(
            "prior missing",
            "the density of z under the prior is missing from the weight.",
            _weighted(_log_mean_exp, lambda log_lik, prior, q: log_lik - q),
        ),
        Mistake(
            "q missing",
            "z was drawn from q, but the weight is not divided by q's density.",
            _weighted(_log_mean_exp, lambda log_lik, prior, q: log_lik + prior),
        ),
        Mistake(
            "no weights",
            "you average p(x|z) over samples from q; that would be right for samples from the prior, so the weights are missing.",
            _weighted(_log_mean_exp, lambda log_lik, prior, q: log_lik),
        ),
        Mistake(
            "q multiplied",
            "the weight is multiplied by q's density; a sample that q draws often has to count less.",
            _weighted(_log_mean_exp, lambda log_lik, prior, q: log_lik + prior + q),
        ),
        Mistake(
            "prior and q swapped",
            "the prior and q have changed places in the weight.",
            _weighted(_log_mean_exp, lambda log_lik, prior, q: log_lik - prior + q),
        ),
        Mistake(
            "likelihood missing",
            "x has no effect; the weight lacks p(x|z).",
            _weighted(_log_mean_exp, lambda log_lik, prior, q: prior - q),
        ),
        Mistake(
            "closed-form KL",
            "you subtract the closed-form KL; here every sample has its own weight, so its own densities under the prior and q.",
            _with_kl,
        ),
        Mistake(
            "unstable",
            "the probabilities of images with many pixels are too small for floating point and become 0; stay with logarithms, "
            "and take the largest out before you exponentiate.",
            _weighted(lambda w: w.exp().mean(0).log()),
        ),
        Mistake(
            "small number added",
            "the probabilities of images with many pixels are too small for floating point, and the small number you add takes "
            "their place; stay with logarithms.",
            _weighted(lambda w: (w.exp().mean(0) + 1e-8).log()),
        ),
        Mistake(
            "wrong axis",
            "the mean runs over the images; the K samples are on the first axis of eps.",
            _weighted(lambda w: w.logsumexp(1) - math.log(w.shape[1])),
        ),
        Mistake(
            "mean over samples and images",
            "the mean runs over the samples and the images; return one number for each image.",
            _weighted(lambda w: w.flatten().logsumexp(0) - math.log(w.numel())),
        ),
        Mistake(
            "largest weight",
            "you keep the largest weight only; all K of them go into the mean.",
            _weighted(lambda w: w.max(0).values),
        ),
        Mistake(
            "mean over the batch",
            "you average over the images; return one number for each.",
            lambda *inputs: _importance(*inputs).mean(),
        ),
        Mistake(
            "sum over the batch",
            "you add up over the images; return one number for each.",
            lambda *inputs: _importance(*inputs).sum(),
        ),
        Mistake(
            "variance for standard deviation",
            "exp(log_var) is used as the standard deviation, in z and in q's density; it is the variance.",
            _with_variance_as_scale,
        ),
        Mistake(
            "variance for standard deviation in q",
            "q's density has the variance where its standard deviation belongs; Normal(mu, sigma) wants sigma.",
            _with_variance_in_q,
        ),
        Mistake(
            "variance for standard deviation in z",
            "in z the noise is scaled by the variance; see question 9.2.",
            _with_variance_in_z,
        ),
        Mistake(
            "q not normalised",
            "q's log-density lacks the term that makes it integrate to 1; a narrow Gaussian is also a high one.",
            _with_q_not_normalised,
        ),
        Mistake(
            "2 pi in one density only",
            "the constant with 2 pi stands in one of the two Gaussian densities and not in the other.",
            _with_one_two_pi,
        ),
        Mistake(
            "pixels averaged",
            "the pixels' log-probabilities are averaged; those of independent pixels add up.",
            _with_pixel_mean,
        ),
        Mistake(
            "sigmoid twice",
            "the sigmoid is applied twice; a function that expects logits is given probabilities.",
            _with_sigmoid_twice,
        ),
        Mistake(
            "bits",
            "your answer is in bits; use the natural logarithm, which gives nats.",
            lambda *inputs: _importance(*inputs) / math.log(2),
        ),
    ),
)

# --- 9.5 train one ----------------------------------------------------------------------------------------------------

_PIXELS = 12


def _made_images(rng: np.random.Generator, B: int = 8000) -> Inputs:
    """Images that a linear decoder of two latent variables makes; for the grader that decoder.

    Its weights are small, so that an image says little of z: the posterior is wide, and a loss that mistakes its width ends at
    another decoder. Behind a narrow posterior nearly every loss finds the right one. The biases lie off the plane's centre, so
    that it takes the prior to find where z = 0 is.
    """
    angle = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, _PIXELS, endpoint=False)
    W = 0.9 * np.column_stack([np.cos(angle), np.sin(angle)])[rng.permutation(_PIXELS)] + rng.normal(0, 0.09, (_PIXELS, 2))
    turn = rng.uniform(0, 2 * np.pi)
    b = 0.5 * rng.standard_normal(_PIXELS) + W @ [1.5 * np.cos(turn), 1.5 * np.sin(turn)]
    logits = rng.standard_normal((B, 2)) @ W.T + b
    return {"x": rng.random((B, _PIXELS)) < 1 / (1 + np.exp(-logits)), "_decoder": np.column_stack([W, b])}


def _decoder_log_prob(decoder: np.ndarray) -> np.ndarray:
    """Of all images, with the prior on a grid of Gauss and Hermite: (D, 3) -> (2^D,), nats.

    The grid's weights add up to one, so that this is a distribution, whatever the decoder.
    """
    every = (np.arange(2**_PIXELS)[:, None] >> np.arange(_PIXELS) & 1).astype(float)
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    z = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    prior = np.outer(weights, weights).ravel() / weights.sum() ** 2
    logits = z @ decoder[:, :2].T + decoder[:, 2]  # (576, D)
    log_joint = every @ logits.T - np.logaddexp(0, logits).sum(1) + np.log(prior)  # (2^D, 576)
    largest = log_joint.max(1, keepdims=True)
    return np.log(np.exp(log_joint - largest).sum(1)) + largest[:, 0]


def _decoder_kl(inputs: Inputs, answer: np.ndarray) -> float:
    """The exact KL divergence of the answer's distribution from the one that drew the images."""
    log_p, log_q = _decoder_log_prob(inputs["_decoder"].astype(float)), _decoder_log_prob(answer)
    return float(np.exp(log_p) @ (log_p - log_q))


def _vae_of(loss=lambda log_lik, kl: kl - log_lik, log_lik=_image, z=_z, steps=250, lr=0.05, end=lambda answer: answer):
    """The training of a VAE with linear encoder and decoder, one part replaced: the loss, the log-likelihood, the sample, ..."""

    def fit(x: Tensor) -> Tensor:
        D, generator = x.shape[1], torch.Generator().manual_seed(0)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=generator).to(x)

        def cost(V: Tensor, c: Tensor, W: Tensor, b: Tensor) -> Tensor:
            batch = x[torch.randint(len(x), (200,), generator=generator)]
            mu, log_var = (batch @ V.T + c).chunk(2, dim=1)
            logits = z(mu, log_var, normal(*mu.shape)) @ W.T + b
            return loss(log_lik(batch, logits), _kl(mu, log_var)).mean()

        start = 0.1 * normal(4, D), torch.zeros(4).to(x), 0.1 * normal(D, 2), torch.zeros(D).to(x)
        _, _, W, b = trained(cost, *start, steps=steps, lr=lr)
        return end(torch.cat([W, b[:, None]], dim=1))

    return fit


_fit_vae = _vae_of()


_MISTAKES = (
    Mistake(
        "KL missing",
        "the KL is missing from the loss; an autoencoder's latent variables do not follow the prior.",
        _vae_of(lambda log_lik, kl: -log_lik),
    ),
    Mistake(
        "KL with the wrong sign",
        "the loss rewards a large KL; minus the ELBO is the KL minus the reconstruction.",
        _vae_of(lambda log_lik, kl: -log_lik - kl),
    ),
    Mistake(
        "pixels averaged",
        "the reconstruction is averaged over the pixels, so that the KL outweighs it and no latent variable is used.",
        _vae_of(lambda log_lik, kl: kl - log_lik / _PIXELS),
    ),
    Mistake(
        "KL summed over the batch",
        "the KL is a sum over the batch, the reconstruction a mean; the KL outweighs it and no latent variable is used.",
        _vae_of(lambda log_lik, kl: kl.sum() - log_lik),
    ),
    Mistake(
        "KL counted five times",
        "the KL has too large a weight; the ELBO has weight 1.",
        _vae_of(lambda log_lik, kl: 5 * kl - log_lik),
    ),
    Mistake(
        "KL counted twice", "the KL counts twice; does it lack its factor 1/2?", _vae_of(lambda log_lik, kl: 2 * kl - log_lik)
    ),
    Mistake(
        "KL counted half",
        "the KL has too small a weight; the ELBO has weight 1.",
        _vae_of(lambda log_lik, kl: 0.5 * kl - log_lik),
    ),
    Mistake(
        "no noise",
        "z is the mean of q, without noise: that trains an autoencoder, whose decoder never meets the width of q.",
        _vae_of(z=lambda mu, log_var, eps: mu),
    ),
    Mistake(
        "variance for standard deviation",
        "the noise is scaled by the variance; its standard deviation is exp(log_var / 2).",
        _vae_of(z=lambda mu, log_var, eps: mu + log_var.exp() * eps),
    ),
    Mistake(
        "noise not scaled",
        "the noise has standard deviation 1, whatever log_var says.",
        _vae_of(z=lambda mu, log_var, eps: mu + eps),
    ),
    Mistake(
        "squared error",
        "the reconstruction is a squared error; pixels are Bernoulli here.",
        _vae_of(log_lik=lambda x, logits: -((x - logits.sigmoid()) ** 2).sum(1)),
    ),
    Mistake(
        "probabilities for logits",
        "the loss takes a sigmoid of what is a probability already; give it logits.",
        _vae_of(log_lik=lambda x, logits: _image(x, logits.sigmoid())),
    ),
    Mistake(
        "sign",
        "all signs are turned round; are the logits those of a 1?",
        _vae_of(end=lambda answer: -answer),
    ),
    Mistake(
        "no bias",
        "the biases are missing; they are the last column.",
        _vae_of(end=lambda answer: torch.cat([answer[:, :2], answer[:, 2:] * 0], dim=1)),
    ),
    Mistake("bias first", "the biases stand in the first column; they are the last.", _vae_of(end=lambda a: a.roll(1, 1))),
    Mistake(
        "one latent variable",
        "one of the two latent variables has no effect.",
        _vae_of(end=lambda answer: answer * torch.tensor([1.0, 0.0, 1.0]).to(answer)),
    ),
    Mistake(
        "independent pixels",
        "the latent variables have no effect; that is the product of the pixels' means.",
        lambda x: torch.cat([torch.zeros(x.shape[1], 2).to(x), x.mean(0).logit()[:, None]], dim=1),
    ),
    Mistake("few steps", "training has hardly begun; loop until the loss stands still.", _vae_of(steps=20)),
    Mistake(
        "small learning rate",
        "the weights have hardly left their start; take larger steps, or many more.",
        _vae_of(lr=0.0005),
    ),
)


def _size(inputs: Inputs, answer: np.ndarray) -> float:
    """Of the answer's weights, as a share of those that made the images: 0.97 to 1.02 for the reference."""
    return float(np.linalg.norm(answer[:, :2]) / np.linalg.norm(inputs["_decoder"][:, :2]))


def _no_latent(inputs: Inputs, answer: np.ndarray) -> bool:
    return bool(np.abs(answer[:, :2]).max() == 0)


def _one_latent(inputs: Inputs, answer: np.ndarray) -> bool:
    large, small = np.linalg.svd(answer[:, :2], compute_uv=False)
    return bool(small < 0.01 * large)


_HINTS = (
    told(_MISTAKES, "no bias", when=lambda inputs, answer: not answer[:, 2].any()),
    told(_MISTAKES, "sign", mended=lambda answer: -answer),
    told(_MISTAKES, "bias first", mended=lambda answer: np.roll(answer, -1, 1)),
    told(_MISTAKES, "independent pixels", when=_no_latent),
    told(_MISTAKES, "one latent variable", when=_one_latent),
    Hint(
        "your decoder hardly uses its latent variables: does the KL weigh too much beside the reconstruction (a sum over all "
        "pixels), or has training hardly begun?",
        when=lambda inputs, answer: _size(inputs, answer) < 0.3,
    ),
    Hint(
        "your decoder's weights are too large: does z have too little noise in training, or the KL too little weight?",
        when=lambda inputs, answer: 1.2 < _size(inputs, answer) < 10,
    ),
    Hint(
        "your decoder's weights are too small: does z have too much noise in training, is what you give the loss a logit, and "
        "does the loss stand still?",
        when=lambda inputs, answer: 0.3 <= _size(inputs, answer) < 0.8,
    ),
)


def _vae_measure(at_most: float) -> Measure:
    return Measure(
        "the KL divergence of your decoder's images",
        _decoder_kl,
        at_most,
        lambda inputs: (inputs["x"].shape[1], 3),
        "the loss is minus the ELBO, with sums over pixels and latent variables, and it has to stop falling.",
        " nats",
        _HINTS,
    )


# The divergence in nats, measured on 40 draws: the reference 0.007 at most; seven other right ones (encoders with tanh and ReLU,
# other steps and batches) 0.020 at most, on 8. The KL at half its weight 0.032 at least, unscaled noise 0.045, independent pixels
# 0.153, noise scaled by the variance 0.189, no KL 0.192, no noise 0.81, all others, and what takes no thought, more than 0.1.
EXPERIMENT = Question(
    id="9.5",
    title="Train a VAE",
    function="fit_decoder",
    returns="(D, 3)",
    reference=_fit_vae,
    example={"x": np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])},
    checks=(
        Check("trained", 3, _float32(_made_images), measure=_vae_measure(0.048)),
        Check("close to the best", 2, _float32(_made_images), measure=_vae_measure(0.025), of="trained"),
    ),
    mistakes=_MISTAKES,
    seconds=60.0,
)

QUESTIONS = (KL, SAMPLE, ELBO, IMPORTANCE, EXPERIMENT)
