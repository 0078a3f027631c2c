"""The importance-weighted bound on a world where the likelihood is known: z and x Gaussian, the decoder linear."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gencourse.space import Space
from gencourse.variational.iwae import IWAE, gradient_signal_to_noise
from gencourse.variational.vae import VAE

W = torch.tensor([[1.2], [-0.7]], dtype=torch.float64)
B = torch.tensor([0.3, -0.1], dtype=torch.float64)
LOG_SCALE = torch.tensor([-0.3, 0.2], dtype=torch.float64)
X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_gaussian(kind=IWAE, off=0.0, spread=0.0, **options):
    """z ~ N(0, 1), x ~ N(W z + B, S); q(z | x) is the posterior, its mean moved by `off` and its log-variance by `spread`."""
    model = kind(Space((2,)), latent=1, hidden=(2,), **options).double()
    model.encoder, model.decoder = nn.Linear(2, 2).double(), nn.Linear(1, 2).double()
    precision = torch.diag(torch.exp(-2 * LOG_SCALE))
    variance = 1 / (1 + W.T @ precision @ W)  # (1, 1)
    gain = variance @ W.T @ precision  # (1, 2)
    with torch.no_grad():
        model.decoder.weight.copy_(W)
        model.decoder.bias.copy_(B)
        model.log_scale.copy_(LOG_SCALE)
        model.encoder.weight.copy_(torch.cat([gain, torch.zeros(1, 2)]))
        model.encoder.bias.copy_(torch.cat([-gain @ B + off, variance.log().flatten() + spread]))
    return model


LOG_P = MultivariateNormal(B, W @ W.T + torch.diag(torch.exp(2 * LOG_SCALE))).log_prob(X)


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_with_the_posterior_itself_every_draw_gives_the_log_likelihood(samples):
    bound = linear_gaussian().bound(X, samples=samples, generator=seeded())
    assert torch.allclose(bound, LOG_P, rtol=0, atol=1e-10)


def test_the_bounds_rise_from_the_elbo_to_the_log_likelihood():
    model = linear_gaussian(off=0.6, spread=-0.8)
    x, n = X[:1].expand(20_000, 2), 20_000
    means, errors = [], []
    with torch.no_grad():
        for k in (1, 2, 4, 16):
            bound = model.bound(x, samples=k, generator=seeded(k))
            means.append(float(bound.mean()))
            errors.append(float(bound.std()) / math.sqrt(n))
        q = model.encode(X[:1])
        kl_to_posterior = 0.5 * (math.exp(-0.8) + 0.6**2 / float(linear_gaussian().encode(X[:1]).variance) - 1 + 0.8)
    assert means[0] == pytest.approx(float(LOG_P[0]) - kl_to_posterior, abs=4 * errors[0])
    assert q.batch_shape == (1,)
    for i in range(3):
        assert means[i + 1] - means[i] > 4 * math.hypot(errors[i], errors[i + 1])
    assert means[3] < float(LOG_P[0])
    assert float(LOG_P[0]) - means[3] < 0.5 * kl_to_posterior


def test_one_sample_is_the_elbo_and_the_gradient_is_the_weighted_one():
    """Eq. 13: the gradients of the log-weights, each by its share of the sum of the weights."""
    model = linear_gaussian(off=0.6, spread=-0.8)
    parameters = list(model.parameters())
    log_w = model.log_weights(X[:1], samples=4, generator=seeded(3))[:, 0]  # (4,)
    each = [torch.autograd.grad(w, parameters, retain_graph=True) for w in log_w]
    share = torch.softmax(log_w.detach(), 0)
    bound = torch.autograd.grad(model.bound(X[:1], samples=4, generator=seeded(3)).sum(), parameters)
    for i, gradient in enumerate(bound):
        assert torch.allclose(gradient, sum(s * g[i] for s, g in zip(share, each, strict=True)), rtol=0, atol=1e-12)
    one = model.bound(X, samples=1, generator=seeded(3))
    assert torch.allclose(one, model.log_weights(X, samples=1, generator=seeded(3))[0], rtol=0, atol=1e-12)


def test_training_lowers_the_bound_of_the_samples_it_was_given():
    torch.manual_seed(0)
    model = IWAE(Space((1, 3, 3), 2), samples=3, latent=2, hidden=(8,))
    x = torch.randint(2, (5, 1, 3, 3))
    torch.manual_seed(4)
    loss = model.moves()[0].loss(x, None)
    assert torch.equal(loss, -model.bound(x, samples=3, generator=seeded(4)))
    with pytest.raises(ValueError, match="unconditional"):
        model.moves()[0].loss(x, torch.zeros(5))


def test_the_encoder_s_signal_falls_and_the_decoder_s_rises_with_the_samples():
    """As 1/sqrt(K) and as sqrt(K) (Rainforth et al., 2018): by 1/8 and 8 from 1 to 64 samples."""
    model = linear_gaussian(kind=VAE, off=0.5, spread=0.5)  # q is wider than the posterior: the weights have a variance
    few, many = (gradient_signal_to_noise(model, X, samples=k, repeats=200, generator=seeded(k)) for k in (1, 64))
    assert few[0] / many[0] > 2
    assert many[1] / few[1] > 2
