"""The VAE against quadrature: with one latent dimension, every integral over z can be done to machine precision."""

import math

import pytest
import torch
from scipy.stats import kstest
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from gencourse import data
from gencourse.checks import assert_bound, assert_every_parameter_learns, assert_sampler_matches, every_example
from gencourse.distributions import pixel_by_pixel
from gencourse.space import Space
from gencourse.train import fit
from gencourse.variational.vae import VAE

SPACES = [Space((1, 3, 3), 2), Space((2, 1, 2), 5), Space((3,))]
GRID = torch.linspace(-12, 12, 4801, dtype=torch.float64)  # the trapezoidal rule converges exponentially on smooth bells
LOG_DZ = math.log(float(GRID[1] - GRID[0]))


def batch_of(space, n=16):
    if space.is_discrete:
        return torch.randint(space.levels, (n, *space.shape))
    return torch.randn(n, *space.shape)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def log_joint(model, x):
    """log p(x, z) on the grid, (Z, B)."""
    z = GRID.view(-1, 1, 1)  # (Z, 1, 1)
    return model.decode(z).log_prob(x.to(GRID.dtype)) + model.prior.log_prob(z)


@torch.no_grad()
def log_prob_by_quadrature(model, x):
    return torch.logsumexp(log_joint(model, x), 0) + LOG_DZ


@pytest.fixture(scope="module")
def trained():
    """A VAE with one latent variable that knows something about bars and stripes, in float64."""
    torch.manual_seed(1)
    model = VAE(Space((1, 3, 3), 2), latent=1, hidden=(24,)).double()
    fit(model, data.load("bars_and_stripes"), steps=400, batch_size=14, lr=1e-2, device="cpu", progress=False, keep_best=False)
    return model.eval()


def test_probabilities_of_all_512_images_sum_to_one(trained):
    assert float(log_prob_by_quadrature(trained, every_example(trained.space)).exp().sum()) == pytest.approx(1, abs=1e-10)


def test_probabilities_of_all_images_on_more_levels_sum_to_one():
    model = VAE(Space((1, 1, 3), 6), latent=1, hidden=(8,)).double()
    assert float(log_prob_by_quadrature(model, every_example(model.space)).exp().sum()) == pytest.approx(1, abs=1e-10)


def test_density_on_the_line_integrates_to_one():
    model = VAE(Space((1,)), latent=1, hidden=(8,)).double()
    x = torch.linspace(-12, 12, 2401, dtype=torch.float64).unsqueeze(1)
    p = torch.cat([log_prob_by_quadrature(model, part) for part in x.split(400)]).exp()
    assert float(p.sum()) * 24 / 2400 == pytest.approx(1, abs=1e-9)


def test_pixels_in_fewer_passes_are_torch_s_to_the_bit():
    logits, x = torch.randn(3, 4, 1, 5, 5, requires_grad=True), torch.randint(2, (4, 1, 5, 5)).float()
    torchs = Independent(Bernoulli(logits=logits, validate_args=False), 3, validate_args=False)
    values = [d.log_prob(x) for d in (pixel_by_pixel(logits, Space((1, 5, 5), 2)), torchs)]
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in values]
    assert torch.equal(*values) and torch.equal(*gradients)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_kl_is_the_closed_form_the_library_s_and_the_integral(space):
    model = VAE(space, latent=1, hidden=(8,)).double()
    x = batch_of(space)
    _, kl = model.elbo_terms(x)
    q = model.encode(x)
    mu, var = q.mean.squeeze(-1), q.variance.squeeze(-1)
    closed = 0.5 * (mu**2 + var - var.log() - 1)
    log_q, log_p = q.log_prob(GRID.view(-1, 1, 1)), model.prior.log_prob(GRID.view(-1, 1, 1))  # (Z, B), (Z, 1)
    integral = (log_q.exp() * (log_q - log_p)).sum(0) * math.exp(LOG_DZ)
    library = kl_divergence(q, Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1))
    for other in (closed, integral, library):
        assert torch.allclose(kl, other, rtol=0, atol=1e-9)


def exact_elbo(model, x):
    log_q = model.encode(x).log_prob(GRID.view(-1, 1, 1))
    return (log_q.exp() * (log_joint(model, x) - log_q)).sum(0) * math.exp(LOG_DZ)


@torch.no_grad()
def test_elbo_bounds_the_likelihood_and_the_gap_is_the_kl_to_the_posterior(trained):
    x = every_example(trained.space)
    log_p, elbo = log_prob_by_quadrature(trained, x), exact_elbo(trained, x)
    assert_bound(elbo, log_p)
    log_q = trained.encode(x).log_prob(GRID.view(-1, 1, 1))
    log_posterior = log_joint(trained, x) - log_p
    gap = (log_q.exp() * (log_q - log_posterior)).sum(0) * math.exp(LOG_DZ)
    assert torch.allclose(log_p - elbo, gap, rtol=0, atol=1e-8)
    assert float(gap.min()) > 0  # the posterior is no Gaussian


@torch.no_grad()
def test_elbo_is_an_unbiased_estimate_of_the_exact_bound(trained):
    x = data.load("bars_and_stripes").train
    draws = torch.stack([trained.elbo(x, samples=10, generator=seeded(s)) for s in range(400)])  # (400, 14)
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - exact_elbo(trained, x)).abs() < 4.5 * error).all()
    one, ten = (torch.stack([trained.elbo(x, samples=k, generator=seeded(s)) for s in range(200)]).var(0).mean() for k in (1, 10))
    assert float(one / ten) == pytest.approx(10, rel=0.3)


def test_importance_weights_are_unbiased_and_their_error_falls_as_one_over_root_n(trained):
    x = data.load("bars_and_stripes").train[3:4]
    log_p = log_prob_by_quadrature(trained, x)
    errors = {}
    for n in (25, 400):
        estimates = trained.log_prob_estimate(x.expand(2000, 1, 3, 3), samples=n, generator=seeded(n))
        ratio = (estimates - log_p).exp()  # an estimate of 1
        errors[n] = float((ratio - 1).square().mean().sqrt())
        assert abs(float(ratio.mean()) - 1) < 4 * errors[n] / math.sqrt(2000)
    assert errors[25] / errors[400] == pytest.approx(4, rel=0.15)


def test_with_one_sample_the_estimate_is_on_average_the_bound(trained):
    x = data.load("bars_and_stripes").train[3:4]
    log_weights = trained.log_prob_estimate(x.expand(20_000, 1, 3, 3), samples=1, generator=seeded())
    error = float(log_weights.std()) / math.sqrt(20_000)
    with torch.no_grad():
        assert abs(float(log_weights.mean() - exact_elbo(trained, x))) < 4 * error


def test_importance_sampling_agrees_with_quadrature_on_every_image(trained):
    x = every_example(trained.space)
    estimate = trained.log_prob_estimate(x, samples=4000, generator=seeded())
    difference = estimate - log_prob_by_quadrature(trained, x)
    assert float(difference.abs().mean()) < 0.05


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_estimate_does_not_depend_on_the_chunks(space):
    model = VAE(space, latent=2, hidden=(8,)).double()
    x = batch_of(space)  # 16 x 2 draws a sample: a multiple of 16, so chunks take the same numbers from the generator
    whole, *parts = (model.log_prob_estimate(x, samples=60, chunk=c, generator=seeded()) for c in (60, 1, 7, 50))
    for part in parts:
        assert torch.allclose(part, whole, rtol=0, atol=1e-12)


def test_estimate_is_stable_in_float32_where_probabilities_underflow():
    space = Space((1, 28, 28), 2)
    model = VAE(space, latent=4, hidden=(16,))
    with torch.no_grad():
        model.decoder[-1].bias.fill_(8.0)  # each black pixel costs 8 nats: p(x) of a black image is exp(-6000)
    x = torch.zeros(16, 1, 28, 28, dtype=torch.long)
    single = model.log_prob_estimate(x, samples=50, generator=seeded())
    assert (single < -5000).all()
    assert torch.isfinite(single).all()
    double = model.double().log_prob_estimate(x, samples=5000, generator=seeded())
    assert torch.allclose(single.double(), double, rtol=0.01)  # 50 draws against 5000


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_gradient_flows_through_the_sample_and_equals_finite_differences(space):
    model = VAE(space, latent=2, hidden=(8,)).double()
    x = batch_of(space)

    def loss():
        return model.elbo(x, samples=3, generator=seeded(7)).sum()

    gradients = torch.autograd.grad(loss(), list(model.parameters()))
    direction = [torch.randn_like(p) for p in model.parameters()]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    step = 1e-6
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(model.parameters(), direction, strict=True):
                p += sign * step * d
            values.append(float(loss()))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_parameter_learns(space):
    assert_every_parameter_learns(VAE(space, latent=2, hidden=(8, 8)), batch_of(space))


@pytest.mark.parametrize("space", [Space((1, 3, 3), 2), Space((1, 1, 2), 5)], ids=str)
def test_samples_follow_the_marginal(space):
    torch.manual_seed(2)
    model = VAE(space, latent=1, hidden=(8,)).double()
    with torch.no_grad():
        model.decoder[-1].weight.mul_(8)  # make z matter
    log_p = log_prob_by_quadrature(model, every_example(space))
    assert_sampler_matches(model.sample(60_000, generator=seeded(1)), log_p, space, significance=1e-3)


def test_real_valued_samples_follow_the_marginal():
    model = VAE(Space((1,)), latent=1, hidden=(8,)).double()
    with torch.no_grad():
        model.decoder[-1].weight.mul_(8)
        pixels = model.decode(GRID.unsqueeze(1)).base_dist
        prior = (model.prior.log_prob(GRID.unsqueeze(1)) + LOG_DZ).exp()  # (Z,)
        x = model.sample(2000, generator=seeded(1)).flatten()

    def cdf(v):
        return (prior * torch.special.ndtr((torch.as_tensor(v)[:, None] - pixels.loc.T) / pixels.scale.T)).sum(1).numpy()

    assert kstest(x.numpy(), cdf).pvalue > 1e-3


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_decode_mean_is_the_mean_of_the_decoder_s_draws(space):
    model = VAE(space, latent=2, hidden=(8,))
    z = torch.randn(3, 2, generator=seeded())
    with torch.no_grad():
        draws = model.decode(z).sample((20_000,)).double()  # (S, 3, *shape)
        assert model.decode_mean(z).shape == (3, *space.shape)
        assert ((draws.mean(0) - model.decode_mean(z)).abs() < 5 * draws.std(0) / math.sqrt(20_000) + 1e-6).all()


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_random_numbers_come_from_the_generator_alone(space):
    model = VAE(space, latent=2, hidden=(8,))
    x = batch_of(space)
    for draw in (
        lambda g: model.sample(5, generator=g),
        lambda g: model.elbo(x, generator=g),
        lambda g: model.log_prob_estimate(x, samples=3, generator=g),
    ):
        state = torch.get_rng_state()
        assert torch.equal(draw(seeded(1)), draw(seeded(1)))
        assert not torch.equal(draw(seeded(1)), draw(seeded(2)))
        assert torch.equal(torch.get_rng_state(), state)


def test_sample_keeps_the_mode_of_every_part_and_makes_no_graph():
    model = VAE(Space((2,)), latent=1, hidden=(4,)).train()
    model.decoder.eval()
    x = model.sample(3)
    assert not x.requires_grad
    assert model.training
    assert model.encoder.training
    assert not model.decoder.training


def test_beta_weighs_the_kl_in_training_and_leaves_the_bound_alone():
    torch.manual_seed(0)
    model = VAE(Space((1, 3, 3), 2), latent=2, hidden=(8,), beta=4.0)
    x = batch_of(model.space)
    torch.manual_seed(5)
    loss = model.moves()[0].loss(x, None)
    torch.manual_seed(5)
    reconstruction, kl = model.elbo_terms(x)
    assert torch.allclose(loss, 4 * kl - reconstruction)
    torch.manual_seed(5)
    assert torch.allclose(model.elbo(x), reconstruction - kl)


def test_per_example_results_do_not_depend_on_the_rest_of_the_batch():
    model = VAE(Space((1, 3, 3), 2), latent=2, hidden=(8,)).double()
    x = batch_of(model.space)
    _, kl = model.elbo_terms(x)
    assert torch.allclose(torch.cat([model.elbo_terms(x[i : i + 1])[1] for i in range(len(x))]), kl, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda m: VAE((1, 3, 3)), TypeError, "tuple"),
        (lambda m: VAE(m.space, latent=0), ValueError, "latent"),
        (lambda m: VAE(m.space, hidden=()), ValueError, "hidden"),
        (lambda m: VAE(m.space, hidden=(8, -1)), ValueError, "hidden"),
        (lambda m: VAE(m.space, beta=math.nan), ValueError, "beta"),
        (lambda m: VAE(m.space, beta=-1.0), ValueError, "beta"),
        (lambda m: m.elbo(torch.zeros(2, 3, 3, dtype=torch.long)), ValueError, "(2, 3, 3)"),  # no channel: would broadcast
        (lambda m: m.elbo(torch.zeros(2, 1, 3, 3)), TypeError, "float32"),
        (lambda m: m.elbo(torch.zeros(2, 1, 3, 3, dtype=torch.long), samples=0), ValueError, "samples"),
        (lambda m: m.log_prob_estimate(torch.zeros(2, 1, 3, 3, dtype=torch.long), samples=-5), ValueError, "samples"),
        (lambda m: m.elbo(torch.zeros(2, 1, 3, 3, dtype=torch.long), torch.zeros(2)), ValueError, "unconditional"),
        (lambda m: m.sample(3, torch.zeros(3)), ValueError, "unconditional"),
        (lambda m: m.sample(-1), ValueError, "-1"),
        (lambda m: m.sample(2.5), ValueError, "2.5"),
    ],
)
def test_a_bad_input_is_named_in_one_sentence(call, error, says):
    with pytest.raises(error) as caught:
        call(VAE(Space((1, 3, 3), 2), latent=2, hidden=(8,)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_encoder_sees_grey_levels_from_minus_one_to_one():
    model, seen = VAE(Space((1, 2, 2), 5), hidden=(4,)), []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.encode(torch.tensor([[[[0, 1], [2, 4]]]]))
    assert seen[0].flatten().tolist() == [-1.0, -0.5, 0.0, 1.0]


def test_the_decoder_has_the_encoders_widths_in_reverse():
    model = VAE(Space((1, 2, 2), 5), latent=3, hidden=(5, 7))
    widths = [
        [layer.out_features for layer in net if isinstance(layer, torch.nn.Linear)] for net in (model.encoder, model.decoder)
    ]
    assert widths == [[5, 7, 6], [7, 5, 4]]


def test_an_estimate_keeps_no_graph():
    model = VAE(Space((1, 2, 2), 2), hidden=(4,))
    assert not model.log_prob_estimate(torch.zeros(3, 1, 2, 2, dtype=torch.long), samples=5).requires_grad
