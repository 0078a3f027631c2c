"""Priors and posteriors against quadrature: with two latent variables, integrals over z are sums on a grid."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from scipy.stats import kstest
from torch.distributions import Normal

from gencourse import data
from gencourse.checks import assert_bijection, assert_bound, assert_every_parameter_learns, every_example
from gencourse.flows.realnvp import RealNVP
from gencourse.space import Space
from gencourse.train import fit
from gencourse.variational import posteriors, priors
from gencourse.variational.beta import code_information, rate_distortion
from gencourse.variational.iwae import IWAE
from gencourse.variational.vae import VAE

SPACE = Space((1, 1, 3), 2)
IMAGES = every_example(SPACE)  # eight of them
AXIS = torch.linspace(-8, 8, 113, dtype=torch.float64)
GRID = torch.cartesian_prod(AXIS, AXIS)  # (Z, 2)
LOG_DZ = 2 * math.log(float(AXIS[1] - AXIS[0]))
PRIORS = {
    "normal": None,
    "mixture": partial(priors.MixtureOfGaussians, components=3),
    "vamp": lambda latent: priors.VampPrior(SPACE, IMAGES, components=3),
    "flow": lambda latent: RealNVP(Space((latent,)), couplings=2, hidden=(8,)),
}
POSTERIORS = {
    "gaussian": posteriors.Gaussian,
    "mixture": partial(posteriors.MixtureOfGaussians, components=3),
    "coupling": partial(posteriors.Coupling, layers=2, hidden=(8,), context=3),
}

PAIRS = [("normal", "mixture"), ("normal", "coupling"), ("mixture", "gaussian"), ("vamp", "mixture"), ("flow", "gaussian")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(prior="normal", posterior="gaussian", latent=2, kind=VAE, **options):
    """In float64, its weights shaken so that nothing is at its start."""
    torch.manual_seed(3)
    options = {"prior": PRIORS[prior], "posterior": POSTERIORS[posterior], **options}
    model = kind(SPACE, latent=latent, hidden=(6,), **options).double()
    if prior == "flow":
        model.learned_prior.log_prob(torch.randn(200, latent, dtype=torch.float64))  # its ActNorms look at their first batch
    with torch.no_grad():
        for p in model.parameters():
            p += 0.15 * torch.randn_like(p)
        if prior == "mixture":
            model.learned_prior.mu.mul_(0.4)  # and q's tails cover the prior's
    return model.eval()


every_pair = pytest.mark.parametrize(("prior", "posterior"), PAIRS)


@torch.no_grad()
def on_the_grid(model):
    """log p(x, z) and log q(z | x), (Z, 8) each, by the model's decoder and densities."""
    log_likelihood = model.decode(GRID.unsqueeze(1)).log_prob(IMAGES.double())
    log_q = model.encode(IMAGES).log_prob(GRID.unsqueeze(1).expand(-1, len(IMAGES), -1))
    return log_likelihood + model.log_prior(GRID).unsqueeze(1), log_q


@every_pair
def test_densities_of_z_integrate_to_one_and_so_do_those_of_x(prior, posterior):
    model = model_of(prior, posterior)
    log_joint, log_q = on_the_grid(model)
    with torch.no_grad():
        assert float(model.log_prior(GRID).exp().sum() * math.exp(LOG_DZ)) == pytest.approx(1, abs=1e-4)
    assert torch.allclose(torch.logsumexp(log_q, 0) + LOG_DZ, torch.zeros(8, dtype=torch.float64), atol=1e-4)
    assert float((torch.logsumexp(log_joint, 0) + LOG_DZ).exp().sum()) == pytest.approx(1, abs=1e-4)


@every_pair
def test_bound_and_its_terms_are_those_of_the_grid(prior, posterior):
    model = model_of(prior, posterior)
    log_joint, log_q = on_the_grid(model)
    with torch.no_grad():
        log_prior = model.log_prior(GRID).unsqueeze(1)
        mass = (log_q + LOG_DZ).exp()
        draws = torch.stack([torch.stack(model.elbo_terms(IMAGES, samples=25, generator=seeded(s))) for s in range(60)])
    exact = torch.stack([(mass * (log_joint - log_prior)).sum(0), (mass * (log_q - log_prior)).sum(0)])  # (2, 8)
    error = draws.std(0) / math.sqrt(len(draws)) + 1e-4
    assert ((draws.mean(0) - exact).abs() < 4.5 * error).all()
    assert_bound(exact[0] - exact[1], torch.logsumexp(log_joint, 0) + LOG_DZ)


@every_pair
def test_importance_weights_are_unbiased(prior, posterior):
    model = model_of(prior, posterior)
    with torch.no_grad():  # q as wide as N(0, I): else the weights have no variance, and their mean no standard error
        model.encoder[-1].weight.mul_(0.2)
        model.encoder[-1].bias.mul_(0.2)
    log_joint, _ = on_the_grid(model)
    log_p = (torch.logsumexp(log_joint, 0) + LOG_DZ).repeat_interleave(400)
    estimate = model.log_prob_estimate(IMAGES.repeat_interleave(400, 0), samples=20, chunk=8, generator=seeded(1))
    ratio = (estimate - log_p).exp().view(8, 400)  # estimates of 1
    error = ratio.std(1) / math.sqrt(400)
    assert float(error.max()) < 0.1
    assert ((ratio.mean(1) - 1).abs() < 4.5 * error).all()


@every_pair
def test_every_parameter_learns(prior, posterior):
    for kind in (VAE, IWAE):
        assert_every_parameter_learns(model_of(prior, posterior, kind=kind).train(), IMAGES)


@every_pair
def test_gradient_is_that_of_finite_differences(prior, posterior):
    model = model_of(prior, posterior)

    def loss():
        return model.elbo(IMAGES, samples=2, generator=seeded(7)).sum()

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    direction = [torch.randn(p.shape, dtype=p.dtype, generator=seeded(2)) for p in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p += sign * 1e-6 * d
            values.append(float(loss()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


@every_pair
def test_the_model_samples_its_own_distribution(prior, posterior):
    model = model_of(prior, posterior)
    log_joint, _ = on_the_grid(model)
    p = (torch.logsumexp(log_joint, 0) + LOG_DZ).exp()  # (8,)
    x = model.sample(20_000, generator=seeded(4)).flatten(1)  # (n, 3)
    frequency = torch.bincount((x * torch.tensor([4, 2, 1])).sum(1), minlength=8) / 20_000
    assert ((frequency - p).abs() < 4.5 * torch.sqrt(p * (1 - p) / 20_000)).all()


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
@pytest.mark.parametrize("posterior", ["gaussian", "mixture"])
def test_a_prior_on_the_line_is_sampled_as_its_density_says(prior, posterior):
    model = model_of(prior, posterior, latent=1)
    z = model.draw_prior(4000, generator=seeded(5)).flatten()
    grid = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    with torch.no_grad():
        cdf = torch.cumsum(model.log_prior(grid.unsqueeze(1)).exp(), 0) * (grid[1] - grid[0])
    assert kstest(z.numpy(), lambda v: cdf[torch.bucketize(torch.as_tensor(v), grid).clamp(max=20_000)].numpy()).pvalue > 1e-3


# --- priors ------------------------------------------------------------------------------------------------------------


def test_vamp_is_the_mean_of_the_posteriors_of_its_pseudo_inputs():
    model = model_of("vamp")
    vamp = model.learned_prior
    with torch.no_grad():
        vamp.pseudo.copy_(60.0 * (2 * IMAGES[[1, 6, 3]] - 1))  # a sigmoid of 60 is 1: these are images
        z = torch.randn(2, 5, 2, dtype=torch.float64, generator=seeded())
        total = torch.zeros(2, 5, dtype=torch.float64)
        for x in IMAGES[[1, 6, 3]]:
            mu, log_var = model.encoder(2.0 * x.double().flatten() - 1).chunk(2)
            exponent = -0.5 * ((z - mu) ** 2 / log_var.exp()).sum(-1)
            total += torch.exp(exponent) / (2 * math.pi * torch.exp(0.5 * log_var.sum()))
        expected = torch.log(total / 3)
        assert torch.allclose(model.log_prior(z), expected, rtol=0, atol=1e-9)


def test_vamp_on_all_images_is_the_aggregate_posterior_and_leaves_no_divergence():
    """The mean of KL(q(z | x) || p) is I(x; z) + KL(q(z) || p): with p = q(z) the second part is nothing."""
    for posterior in POSTERIORS:
        model = model_of(prior="vamp", posterior=posterior)
        model.learned_prior = priors.VampPrior(SPACE, IMAGES, components=8).double()
        model.learned_prior.follow(model)
        with torch.no_grad():
            model.learned_prior.pseudo.copy_(60.0 * (2 * IMAGES - 1))
            model.encoder[-1].weight.mul_(2)
        information, aggregate = code_information(model, IMAGES, samples=20, generator=seeded())
        assert abs(aggregate) < 1e-9
        assert 0.05 < information < math.log(8)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_two_parts_of_the_rate_are_those_of_the_grid_and_add_up(posterior):
    model = model_of("normal", posterior)
    _, log_q = on_the_grid(model)
    with torch.no_grad():
        log_prior = model.log_prior(GRID).unsqueeze(1)
    log_all = torch.logsumexp(log_q, 1, keepdim=True) - math.log(8)
    mass = (log_q + LOG_DZ).exp()
    exact = [float((mass * part).sum(0).mean()) for part in (log_q - log_all, log_all - log_prior, log_q - log_prior)]
    assert exact[0] + exact[1] == pytest.approx(exact[2], abs=1e-9)
    information, aggregate = code_information(model, IMAGES, samples=300, generator=seeded())
    assert information == pytest.approx(exact[0], abs=0.05)
    assert aggregate == pytest.approx(exact[1], abs=0.1)
    parts = rate_distortion(model, IMAGES, samples=1000, generator=seeded())
    assert parts.rate == pytest.approx(exact[2], abs=0.1)


def test_pseudo_inputs_start_at_images_and_stay_between_the_grey_levels():
    space = Space((1, 2, 2), 5)
    x = torch.arange(5).view(5, 1, 1, 1).expand(5, 1, 2, 2)
    vamp = priors.VampPrior(space, x, components=5)
    order = vamp.pseudo_inputs.flatten(1).mean(1).argsort()
    assert vamp.pseudo_inputs[order].flatten(1)[:, 0].tolist() == pytest.approx(
        [1 / (1 + math.exp(-4 * (k / 4 - 0.5))) for k in range(5)]
    )
    points = torch.randn(7, 3)
    assert {tuple(p) for p in priors.VampPrior(Space((3,)), points, components=7).pseudo.tolist()} == {
        tuple(p) for p in points.tolist()
    }


def test_a_copy_of_a_model_has_a_vamp_prior_of_its_own():
    model = model_of("vamp")
    z = torch.randn(4, 2, dtype=torch.float64, generator=seeded())
    before = model.log_prior(z)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            for p in twin.encoder.parameters():
                p.zero_()
        assert torch.equal(model.log_prior(z), before)
        standard = Normal(0.0, 1.0).log_prob(z).sum(-1)  # an encoder of zeros says N(0, I) of every image
        assert torch.allclose(twin.log_prior(z), standard, rtol=0, atol=1e-9)


def test_the_same_seed_gives_the_same_networks_whatever_the_prior():
    """So two runs of one seed differ in the prior alone."""
    weights = []
    for prior in PRIORS.values():
        torch.manual_seed(0)
        model = VAE(SPACE, latent=2, hidden=(6,), prior=prior)
        weights.append(torch.cat([p.flatten() for part in (model.encoder, model.decoder) for p in part.parameters()]))
    assert all(torch.equal(w, weights[0]) for w in weights)


@pytest.mark.parametrize("prior", ["mixture", "vamp", "flow"])
@pytest.mark.parametrize("posterior", ["gaussian", "coupling"])
def test_a_run_may_be_stopped_and_resumed(tmp_path, prior, posterior):
    bars = data.load("bars_and_stripes")

    def made():
        torch.manual_seed(0)
        chosen = PRIORS[prior] if prior != "vamp" else lambda latent: priors.VampPrior(bars.space, bars.train, components=3)
        return VAE(bars.space, latent=2, hidden=(8,), prior=chosen, posterior=POSTERIORS[posterior])

    class Stop(Exception):
        pass

    def fail(step, model):
        if step == 7:
            raise Stop

    settings = {"steps": 12, "batch_size": 7, "ema": 0.9, "device": "cpu", "progress": False, "checkpoint_every": 2}
    with pytest.raises(Stop):
        fit(made(), bars.train, out=tmp_path, callback=fail, **settings)
    resumed, whole = made(), made()
    fit(resumed, bars.train, out=tmp_path, resume=True, **settings)
    fit(whole, bars.train, **settings)
    for (name, a), b in zip(resumed.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


# --- posteriors --------------------------------------------------------------------------------------------------------


def test_a_mixture_of_equal_components_is_the_gaussian():
    head = torch.randn(4, 6, dtype=torch.float64, generator=seeded())  # mu and log sigma^2 of three numbers
    one = posteriors.Gaussian(3)(head)
    logits = torch.randn(4, 5, dtype=torch.float64, generator=seeded(1))
    mixture = posteriors.MixtureOfGaussians(3, components=5)(torch.cat([logits, head.repeat(1, 5)], 1))
    z = torch.randn(7, 4, 3, dtype=torch.float64, generator=seeded(2))
    assert torch.allclose(one.log_prob(z), mixture.log_prob(z), rtol=0, atol=1e-9)
    assert torch.allclose(one.mean, mixture.mean, rtol=0, atol=1e-9)


def test_a_mixture_s_shares_are_its_weights_and_its_draws_lie_in_their_components():
    head = torch.zeros(2, 3 * 3, dtype=torch.float64)
    head[:, :3] = torch.tensor([0.5, 0.3, 0.2]).log()
    head[:, 3::2] = torch.tensor([-100.0, 0.0, 100.0])
    z, log_share = posteriors.MixtureOfGaussians(1, components=3)(head).draws(4, seeded())
    assert z.shape == (12, 2, 1) and log_share.shape == (12, 2)
    place = (z.squeeze(-1) / 100).round().long() + 1  # the component of each draw
    assert torch.allclose(log_share.exp(), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)[place], atol=1e-9)
    assert torch.bincount(place.flatten()).tolist() == [8, 8, 8]


@pytest.mark.parametrize("latent", [2, 3])
def test_couplings_are_a_bijection_and_a_draw_s_density_is_the_inverse_s(latent):
    torch.manual_seed(0)
    family = posteriors.Coupling(latent, layers=3, hidden=(8,), context=2).double()
    with torch.no_grad():
        for p in family.parameters():
            p += 0.3 * torch.randn_like(p)
    context = torch.randn(6, 2, dtype=torch.float64)

    class Bend:
        def forward(self, z0):
            return family.bend(z0, context[: len(z0)])

        def inverse(self, z):
            z0, log_det = family.straighten(z, context[: len(z)])
            return z0, -log_det

    assert_bijection(Bend(), torch.randn(6, latent))
    q = family(torch.randn(6, family.outputs, dtype=torch.float64))
    z, _ = q.draws(5)
    assert torch.allclose(q.log_prob(z), q.log_prob(z.clone()), rtol=0, atol=1e-9)


def test_couplings_see_the_image():
    model = model_of(posterior="coupling")
    z0 = torch.zeros(1, 1, 2, dtype=torch.float64)
    q = model.encode(IMAGES)
    bends = q.couplings.bend(z0.expand(1, 8, 2), q.context)[0][0]  # where the same z0 goes for each image
    assert float(bends.var(0).min()) > 1e-4


# --- what does not fit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: VAE(SPACE, prior="vamp"), TypeError, "prior must be one of gencourse.variational.priors"),
        (lambda: VAE(SPACE, posterior="flow"), TypeError, "posterior must be one of gencourse.variational.posteriors"),
        (lambda: VAE(SPACE, latent=3, prior=priors.MixtureOfGaussians(2)), ValueError, "prior is of 2 numbers"),
        (lambda: VAE(SPACE, latent=3, prior=RealNVP(Space((2,)))), ValueError, "prior is of 2 numbers"),
        (lambda: VAE(SPACE, latent=3, posterior=posteriors.Gaussian(2)), ValueError, "posterior is of 2 numbers"),
        (lambda: priors.MixtureOfGaussians(2, components=0), ValueError, "components"),
        (lambda: posteriors.MixtureOfGaussians(2, components=0), ValueError, "components"),
        (lambda: posteriors.Coupling(1), ValueError, "latent must be an integer of 2 or more"),
        (lambda: priors.VampPrior(SPACE, IMAGES, components=9), ValueError, "9 components need as many images"),
        (lambda: priors.VampPrior(SPACE, IMAGES, components=2).log_prob(torch.zeros(1, 2)), ValueError, "belongs to no VAE"),
        (
            lambda: VAE(Space((1, 2, 2), 2), prior=priors.VampPrior(SPACE, IMAGES, components=2)),
            ValueError,
            "its pseudo-inputs are of Space((1, 1, 3), levels=2)",
        ),
        (lambda: IWAE(SPACE, samples=0), ValueError, "samples"),
    ],
)
def test_what_does_not_fit_is_named_in_one_sentence(call, error, says):
    with pytest.raises(error) as caught:
        call()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
