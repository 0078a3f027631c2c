"""The exact world: what is said of a sampler and of a density is what an enumeration says."""

import itertools
import math

import pytest
import torch

from gencourse import data
from gencourse.adversarial.gan import GAN
from gencourse.autoregressive.nade import NADE
from gencourse.checks import corruption_matrix, every_example
from gencourse.checks.exact_world import World, density, samples, tv_floor
from gencourse.checks.gsn import reconstruction_matrix
from gencourse.diffusion.ddpm import DDPM
from gencourse.diffusion.flow_matching import FlowMatching
from gencourse.flows.nice import NICE
from gencourse.markov.boltzmann import Boltzmann
from gencourse.markov.gsn import GSN
from gencourse.space import Space
from gencourse.variational.categorical import CategoricalVAE
from gencourse.variational.vae import VAE

BARS = data.load("bars_and_stripes")
WORLD = World.of(BARS.train)
SMALL = Space((1, 2, 2), 2)


def louder(model, by=3.0):
    """The same model with larger weights, so that its answers differ."""
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(by)
    return model


def built(cls, space=BARS.space, **options):
    torch.manual_seed(0)
    return louder(cls(space, **options))


def test_a_world_is_its_patterns_and_their_shares():
    x = torch.tensor([[0], [1], [1], [1]])
    world = World.of(x)
    assert world.patterns.tolist() == [[0], [1]] and world.shares.tolist() == [0.25, 0.75]
    assert world.entropy == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert WORLD.entropy == pytest.approx(math.log(14))


@pytest.mark.parametrize(("shares", "n"), [([0.2, 0.5, 0.3], 6), ([0.25, 0.75], 8), ([1.0, 0.0], 3), ([0.1, 0.2, 0.3, 0.4], 5)])
def test_the_floor_is_the_mean_over_all_sequences(shares, n):
    p, mean = torch.tensor(shares, dtype=torch.float64), 0.0
    for draws in itertools.product(range(len(p)), repeat=n):
        chance = math.prod(shares[k] for k in draws)
        found = torch.tensor([draws.count(k) / n for k in range(len(p))], dtype=torch.float64)
        mean += chance * 0.5 * float((found - p).abs().sum())
    assert tv_floor(n, p) == pytest.approx(mean, abs=1e-12)


def test_samples_are_counted():
    other = 1 - torch.eye(3, dtype=torch.long)[None, None]  # no pattern
    found = samples(torch.cat([WORLD.patterns[:1].repeat(6, 1, 1, 1), WORLD.patterns[3:4], other.repeat(3, 1, 1, 1)]), WORLD)
    assert found.counts.tolist() == [6, 0, 0, 1] + [0] * 10
    assert found.off == pytest.approx(0.3) and found.covered == 2
    assert found.tv == pytest.approx(0.5 * ((0.6 - 1 / 14) + (0.1 - 1 / 14) + 12 / 14 + 0.3))
    with pytest.raises(ValueError, match="expected draws"):
        samples(torch.zeros(5, 9), WORLD)


def by_enumeration(log_p):
    """KL, mass off the patterns and total variation from the log-probabilities of all 512 images."""
    places = (WORLD.patterns.flatten(1)[:, None] == every_example(BARS.space).flatten(1)).all(-1).double().argmax(1)
    q = torch.zeros(512, dtype=torch.float64).index_fill(0, places, 1 / 14)
    p = log_p.detach().double().exp()
    return float((torch.xlogy(q, q) - q * p.log()).sum()), float(p[q == 0].sum()), 0.5 * float((p - q).abs().sum())


def agrees(found, log_p, tolerance):
    for value, expected in zip((found.kl, found.off, found.tv), by_enumeration(log_p), strict=True):
        assert value == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    "model",
    [
        built(NADE, hidden=8),
        built(Boltzmann, hidden=2),
        built(CategoricalVAE, variables=2, states=3, hidden=(8,)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_exact_densities(model):
    model.double()
    found = density(model, WORLD)
    assert found.kind == "exact" and found.error == 0
    agrees(found, model.log_prob(every_example(BARS.space)), 1e-9)
    if isinstance(model, CategoricalVAE):
        assert found.bound > found.kl


def test_a_vae_s_density_is_an_integral():
    model = built(VAE, latent=2, hidden=(8,)).double()
    found = density(model, WORLD, draws=400)
    z = torch.randn(40_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        p = torch.stack(
            [model.decode(part).log_prob(WORLD.patterns.double().unsqueeze(1)).exp().sum(1) for part in z.split(10_000)]
        )
    p = p.sum(0) / len(z)
    assert found.kind == "quadrature" and found.error < 1e-6
    torch.testing.assert_close(found.log_p.exp(), p, rtol=0.15, atol=0)
    assert found.bound > found.kl
    with pytest.raises(ValueError, match="latent=1 or 2"):
        density(VAE(BARS.space, latent=3, hidden=(4,)), WORLD)


def test_a_chain_s_density_is_where_it_settles():
    model = built(GSN, hidden=(8,))
    found = density(model, WORLD)
    T = corruption_matrix(model.corruption, BARS.space) @ reconstruction_matrix(model)
    law = torch.full((1, 512), 1 / 512, dtype=torch.float64)
    for _ in range(2000):
        law = law @ T
    assert found.kind == "chain"
    agrees(found, law[0].log(), 1e-7)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (NICE, {"couplings": 2, "hidden": (8,), "alpha": 1e-6}),  # no mass outside the cube
        (DDPM, {"steps": 5, "hidden": 8, "blocks": 1}),
    ],
)
def test_estimates_sum_to_one_over_all_images(cls, options):
    """All 16 images are about as probable, so that the error of their sum is about that of their mean logarithm."""
    torch.manual_seed(0)
    found = density(cls(SMALL, **options), World.of(every_example(SMALL)), draws=3000)
    assert found.kind == "estimate" and found.bound > found.kl and 0 < found.error < 0.1
    assert found.off == pytest.approx(0.0, abs=5 * found.error)


def test_flow_matching_has_mass_outside_the_cube():
    """An untrained field is near zero, so that the model is noise: half a cell of N(0, 1) for each pixel."""
    torch.manual_seed(0)
    model = FlowMatching(SMALL, hidden=8, blocks=1, steps=2)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    found = density(model, World.of(every_example(SMALL)), draws=100)
    assert 1 - found.off == pytest.approx(math.erf(1 / math.sqrt(2)) ** 4, abs=6 * found.error)


def test_an_estimate_s_error_shrinks_with_the_draws_and_holds():
    model = built(NICE, SMALL, couplings=2, hidden=(8,))
    few, many = (density(model, World.of(every_example(SMALL)), draws=draws, seed=1) for draws in (300, 4800))
    assert few.error / many.error == pytest.approx(4, rel=0.35)
    assert abs(few.kl - many.kl) < 5 * few.error


def test_what_draws_only_has_none_and_the_caller_s_model_stays_as_it_was():
    assert density(GAN(BARS.space, latent=2, hidden=(4,), d_hidden=(4,)), WORLD) is None
    model = VAE(BARS.space, latent=1, hidden=(4,)).train()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    density(model, WORLD, draws=10, points=50)
    assert model.training and next(model.parameters()).dtype == torch.float32
    assert torch.equal(before, torch.get_rng_state())
