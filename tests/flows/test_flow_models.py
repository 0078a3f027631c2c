"""NICE, RealNVP and Glow as whole models: densities, bounds, samples, and what each paper says of its own."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, logistic, norm
from torch import nn

from gencourse import data
from gencourse.checks import (
    assert_bijection,
    assert_bound,
    assert_density_integrates,
    assert_every_coordinate_bends,
    assert_points_match_density,
    assert_sampler_matches,
    every_example,
    gaussian_nll,
)
from gencourse.data.toys import TwoMoons
from gencourse.flows.base import LOGISTIC, NORMAL, Flow
from gencourse.flows.bijections import Composition, Flatten, Halves, InvertibleLinear, Mask, Permutation
from gencourse.flows.glow import Glow, reversal
from gencourse.flows.nice import NICE
from gencourse.flows.realnvp import RealNVP
from gencourse.space import Space
from gencourse.train import fit

POINTS, IMAGES = Space((5,)), Space((2, 4, 8), 6)  # an odd number of coordinates; images that are not square


def shaken(model, scale=0.1):
    """The model with weights far from where it begins."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(scale * torch.randn_like(p))
    return model


MODELS = {
    "nice points": lambda: NICE(POINTS, hidden=(16,)),
    "nice images": lambda: NICE(IMAGES, hidden=(16,), couplings=3),
    "realnvp points": lambda: RealNVP(POINTS, hidden=(16,), couplings=3),
    "realnvp images": lambda: RealNVP(IMAGES, hidden=(16,), couplings=2),
    "realnvp scales": lambda: RealNVP(IMAGES, hidden=(16,), couplings=2, scales=2),
    "realnvp convolutions": lambda: RealNVP(IMAGES, channels=6, blocks=1, couplings=2, scales=3),
    "glow points": lambda: Glow(POINTS, channels=16, steps=3),
    "glow one level": lambda: Glow(IMAGES, channels=6, steps=2),
    "glow": lambda: Glow(IMAGES, channels=6, steps=2, levels=2),
    "glow reversal": lambda: Glow(IMAGES, channels=6, steps=2, levels=2, mixing=reversal),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def real(space, n=4):
    """Points, or images dequantised on [0, 1)."""
    return torch.randn(n, *space.shape) if not space.is_discrete else torch.rand(n, *space.shape)


@every_model
def test_the_whole_model_is_a_bijection_with_autograd_s_log_determinant(make):
    model = shaken(make())
    assert_bijection(model, real(model.space, 3), atol=1e-9)


@every_model
def test_samples_are_decoded_noise_without_the_log_determinant(make):
    model = shaken(make()).double().eval()
    samples = model.sample(20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y, _ = model.decode(model.draw(20, torch.Generator().manual_seed(0)))
    if model.space.is_discrete:
        assert (samples == model.space.quantize(y)).double().mean() > 0.999  # by rounding, an edge may be passed
    else:
        assert torch.allclose(samples, y, atol=1e-9)


@every_model
def test_no_coordinate_is_left_as_it_came(make):
    model = make()
    model.logit = None  # which bends all of them
    assert_every_coordinate_bends(shaken(model, 0.2), torch.randn(8, *model.space.shape))


@pytest.mark.parametrize("make", [value for name, value in MODELS.items() if "points" not in name])
def test_channels_of_a_new_model_s_first_batch_are_standardised(make):
    model = make()
    z, _ = model.encode(real(model.space, 400))
    assert z.shape == (400, model.space.dim)
    assert float(z.detach().mean().abs()) < 0.1
    assert float(z.detach().std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "model",
    [
        NICE(Space((2,)), hidden=(16,)),
        NICE(Space((2,)), hidden=(16,), prior=NORMAL),
        RealNVP(Space((2,)), hidden=(16,), couplings=3),
        Glow(Space((2,)), channels=16, steps=3),
    ],
    ids=["nice logistic", "nice", "realnvp", "glow"],
)
def test_points_and_their_density_agree(model):
    model = shaken(copy.deepcopy(model))
    assert_density_integrates(model, reach=25.0, points=800)
    samples = model.sample(10_000, generator=torch.Generator().manual_seed(0))
    assert_points_match_density(model, samples, reach=25.0, cells=50, fine=16)


def test_nice_changes_all_volumes_alike():
    model = shaken(NICE(POINTS, hidden=(16,)).double(), 0.5)
    _, log_det = model.encode(torch.randn(20, 5, dtype=torch.float64))
    scales = model.bijection[1].log_scale.sum() + model.bijection[-1].log_scale.sum()
    assert torch.allclose(log_det, scales.expand(20), atol=1e-12)


def test_nice_s_jacobian_has_the_determinant_of_its_scales_and_realnvp_s_has_not():
    real_nvp = shaken(RealNVP(POINTS, hidden=(16,)), 0.3)
    assert float(real_nvp.encode(torch.randn(20, 5))[1].detach().std()) > 0.01


@pytest.mark.parametrize("kind", [Mask, Halves])
def test_realnvp_s_couplings_take_turns_at_each_scale(kind):
    """What one of a pair leaves, the next changes: among checkerboards, and again among channels."""
    model = shaken(RealNVP(IMAGES, channels=6, blocks=1, couplings=2, scales=2), 0.3)
    first, second = (layer for layer in model.bijection if isinstance(getattr(layer, "parts", None), kind))
    x = torch.randn(5, *(IMAGES.shape if kind is Mask else (8, 2, 4)))
    changed = [(coupling(x)[0] != x).all(0) for coupling in (first, second)]
    assert torch.equal(changed[0], ~changed[1])
    assert int(changed[0].sum()) == 32


def test_realnvp_begins_with_a_scale_for_each_channel_and_its_networks_have_their_blocks():
    norm, coupling, *_ = RealNVP(IMAGES, channels=6, blocks=3, couplings=1).bijection
    assert norm.log_scale.shape == (2, 1, 1)
    assert len(coupling.network.blocks) == 3


class Nothing(Flow):
    def __init__(self, space, **settings):
        super().__init__(space, **settings)
        self.bijection = Composition([Flatten(space.shape)])
        self.weight = nn.Parameter(torch.zeros(()))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_uniform_model_scores_the_logarithm_of_the_levels(levels):
    """The logit of a uniform number is logistic: a flow that does nothing else is the uniform distribution."""
    space = Space((1, 3, 4), levels)
    model = Nothing(space, prior=LOGISTIC, alpha=1e-9).double()
    bits = space.bits_per_dim(model.log_prob(torch.randint(levels, (50, 1, 3, 4)), samples=3))
    assert torch.allclose(bits, torch.full((50,), math.log2(levels), dtype=torch.float64), atol=1e-7)


def test_a_new_nice_is_a_uniform_model_before_it_has_seen_data():
    space = Space((1, 4, 4), 256)
    model = NICE(space, alpha=1e-9).eval()
    for coupling in model.bijection[2:-1]:
        nn.init.zeros_(coupling.network.layers[-1].weight)
    bits = space.bits_per_dim(model.log_prob(torch.randint(256, (50, 1, 4, 4)))).detach()
    assert torch.allclose(bits, torch.tensor(8.0), atol=1e-3)


def test_dequantisation_is_a_bound_which_more_samples_tighten():
    """On two pixels of three levels the probability is an integral over a square, which quadrature does."""
    space = Space((2,), 3)
    torch.manual_seed(3)
    model = shaken(RealNVP(space, hidden=(8,), couplings=2).double(), 0.25).eval()
    x = every_example(space)  # (9, 2)
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(60))
    u, w = (nodes + 1) / 2, weights / 2
    y = (x[:, None] + torch.cartesian_prod(u, u)) / 3  # (9, 3600, 2)
    with torch.no_grad():
        density = model.log_density(y.flatten(0, 1)).view(9, -1) - 2 * math.log(3)
    weight = torch.cartesian_prod(w, w).prod(1)
    exact = torch.log((weight * density.exp()).sum(1))
    bound = (weight * density).sum(1)
    assert 0.9 < float(exact.exp().sum()) <= 1 + 1e-9  # what is missing lies beyond the edges of the logit
    assert_bound(bound, exact)
    means = {}
    with torch.no_grad():
        for samples in (1, 2, 16):
            many = model.log_prob(x.repeat(2000, 1), samples=samples).view(2000, 9)
            means[samples] = many.mean(0)
            error = many.std(0) / math.sqrt(2000)
            assert_bound(means[samples] - 5 * error, exact)
            if samples == 1:
                assert ((means[1] - bound).abs() < 5 * error).all()
    assert means[1].sum() < means[2].sum() < means[16].sum()
    gap = float((exact - means[16]).sum() / (exact - bound).sum())
    assert gap < 0.15  # it falls as 1 / K


def test_the_noise_follows_the_generator():
    model = RealNVP(IMAGES, hidden=(8,), couplings=2).eval()
    x = torch.randint(6, (5, 2, 4, 8))
    a, b, c = (model.log_prob(x, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_images_are_drawn_as_often_as_they_are_probable():
    space = Space((1, 1, 2), 3)
    torch.manual_seed(2)
    model = shaken(NICE(space, hidden=(8,), couplings=3, alpha=1e-6).double(), 0.3).eval()
    u = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    u = (torch.special.erf(6 * (u - 0.5)) / math.erf(3) + 1) / 2  # more places near the edges, where the logit bends
    edges = torch.cat([torch.zeros(1), (u[1:] + u[:-1]) / 2, torch.ones(1)]).double()
    weight = torch.cartesian_prod(edges.diff(), edges.diff()).prod(1)
    with torch.no_grad():
        log_prob = [
            torch.log((weight * model.log_density((x + torch.cartesian_prod(u, u).view(-1, 1, 1, 2)) / 3).exp()).sum() / 9)
            for x in every_example(space)
        ]
    log_prob = torch.stack(log_prob)
    assert float(log_prob.exp().sum()) == pytest.approx(1, abs=2e-3)
    log_prob = log_prob - log_prob.logsumexp(0)
    assert_sampler_matches(model.sample(10_000, generator=torch.Generator().manual_seed(0)), log_prob, space)


def test_temperature_scales_the_prior_and_zero_is_refused():
    model = shaken(RealNVP(Space((2,)), hidden=(8,)))
    z = model.draw(100, torch.Generator().manual_seed(0))
    samples = model.sample(100, temperature=0.5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(samples, model.decode(0.5 * z)[0], atol=1e-5)
    spread = [float(model.sample(2000, temperature=t).std()) for t in (0.3, 1.0)]
    assert spread[0] < 0.6 * spread[1]
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        model.sample(3, temperature=0)


@pytest.mark.parametrize("prior", [NORMAL, LOGISTIC], ids=lambda prior: prior.name)
def test_a_prior_s_draws_have_its_density(prior):
    truth = {"normal": norm, "logistic": logistic}[prior.name]
    z = torch.linspace(-30, 30, 61, dtype=torch.float64)
    assert torch.allclose(prior.log_density(z), torch.from_numpy(truth.logpdf(z.numpy())), atol=1e-10)
    draws = prior.sample(torch.empty(5000, 2), torch.Generator().manual_seed(0))
    assert kstest(draws.flatten().numpy(), truth.cdf).pvalue > 1e-3
    assert torch.allclose(prior.log_prob(draws), prior.log_density(draws).sum(1))


def test_glow_mixes_channels_by_a_convolution_or_by_a_fixed_permutation():
    kinds = [
        {type(m) for m in Glow(IMAGES, steps=1, channels=4, mixing=mixing).modules()} & {InvertibleLinear, Permutation}
        for mixing in (InvertibleLinear, reversal)
    ]
    assert kinds == [{InvertibleLinear}, {Permutation}]
    assert reversal(4).order.tolist() == [3, 2, 1, 0]


def test_half_of_the_numbers_leave_at_each_level():
    """The last scale's numbers are what coarse structure is made of: they alone depend on pixels far away."""
    model = shaken(Glow(Space((1, 8, 8), 4), levels=3, steps=1, channels=4).double())
    z, _ = model.encode(torch.rand(2, 1, 8, 8))
    assert z.shape == (2, 64)
    names = [type(layer).__name__ for layer in model.bijection]
    assert names[-3:] == ["AffineCoupling", "AffineCoupling", "Split"]  # a step's, and that of what leaves given what stays
    split = model.bijection[-1]
    assert split.shape == (2, 4, 4)
    assert split.rest[-1].shape == (4, 2, 2)
    assert split.rest[-1].rest[-1].shape == (16, 1, 1)


def test_a_flow_on_two_moons_is_far_better_than_a_gaussian():
    toy = TwoMoons()
    dataset = toy.dataset(train=2000, valid=500, test=4000)
    model = RealNVP(toy.space, couplings=4, hidden=(32,))
    fit(model, dataset, steps=300, batch_size=200, lr=5e-3, device="cpu", progress=False)
    model.eval()
    with torch.no_grad():
        nll = -float(model.log_prob(dataset.test).mean())
    entropy = -float(toy.log_prob(dataset.test.double()).mean())
    assert entropy - 0.05 < nll < gaussian_nll(dataset.train) - 0.4
    assert_density_integrates(model, reach=8.0, points=800)
    assert_points_match_density(model, model.sample(10_000, generator=torch.Generator().manual_seed(1)), reach=6.0)


def test_dropout_is_for_training_only():
    model = RealNVP(IMAGES, hidden=(8,), couplings=2, dropout=0.5)
    shaken(model)
    y = real(IMAGES)
    assert not torch.equal(model.train().encode(y)[0], model.encode(y)[0])
    assert torch.equal(model.eval().encode(y)[0], model.encode(y)[0])


def test_integers_may_be_bytes_and_floats_are_refused():
    model = NICE(data.load("digits").space, hidden=(8,)).eval()
    x = data.load("digits").test[:3]
    assert torch.isfinite(model.log_prob(x.to(torch.uint8))).all()
    with pytest.raises(TypeError, match="expects integers"):
        model.log_prob(x.float())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NICE(Space((1,))), "only one"),
        (lambda: RealNVP(Space((1,))), "only one"),
        (lambda: NICE(Space((3, 1, 1), 256)), "only one"),
        (lambda: RealNVP(Space((3, 1, 1), 256)), "only one"),
        (lambda: Glow(Space((3, 1, 1), 256)), "whose sides 2 divides 1 times"),
        (lambda: Glow(Space((1,))), "only one"),
        (lambda: RealNVP(Space((1, 6, 6), 2), scales=3), "whose sides 2 divides 2 times"),
        (lambda: Glow(Space((1, 6, 6), 2), levels=2), "whose sides 2 divides 2 times"),
        (lambda: RealNVP(Space((4,)), scales=2), "for images"),
        (lambda: RealNVP(Space((4,)), channels=8), "for images"),
        (lambda: Glow(Space((4,)), levels=2), "for images"),
        (lambda: Glow(Space((4, 4), 2)), "need images"),
        (lambda: RealNVP(Space((4, 4), 2)), "need images"),
        (lambda: NICE(Space((4,)), couplings=0), "couplings must be a positive integer"),
        (lambda: NICE(Space((4,)), hidden=()), "hidden must be a tuple"),
        (lambda: Glow(Space((4,)), dropout=1.0), "dropout must be a probability"),
        (lambda: RealNVP(Space((1, 4, 4), 2), alpha=0.7), "alpha must lie between"),
        (lambda: RealNVP(Space((1, 4, 4), 2), channels=4, blocks=-1), "blocks must be"),
        (lambda: NICE(Space((4,))).log_prob(torch.zeros(2, 4), torch.zeros(2)), "takes no context"),
        (lambda: NICE(Space((4,))).sample(2, torch.zeros(2)), "takes no context"),
        (lambda: NICE(Space((4,))).log_prob(torch.zeros(2, 4), samples=0), "samples must be a positive integer"),
        (lambda: NICE(Space((4,))).log_prob(torch.zeros(2, 5)), "but the tensor has shape"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@every_model
def test_sixteen_bits_stay_inside_the_networks(make):
    """What is a density stays in float32: under autocast only the couplings' networks are rounded, in both directions alike."""
    model = shaken(make(), 0.05).eval()
    y = real(model.space, 20)
    with torch.no_grad():
        exact = model.log_density(y)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.log_density(y)
            back = model.decode(model.encode(y)[0])[0]
    assert rounded.dtype == torch.float32
    assert torch.allclose(rounded, exact, atol=0.03 * model.space.dim)
    assert torch.allclose(back, y, atol=1e-3)


def test_two_processes_begin_with_the_same_actnorm():
    """Each has its own half of the first batch; both must start from one scale, or their weights part for good."""
    torch.manual_seed(0)
    model = Glow(Space((3,)), steps=2, channels=8)
    alone = copy.deepcopy(model)
    x = 5 + 3 * torch.randn(80, 3)
    settings = {"steps": 5, "batch_size": 40, "device": "cpu", "progress": False, "micro_batches": 2}
    fit(alone, x, **settings)
    fit(model, x, devices=2, **settings)
    for (name, a), b in zip(alone.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-4), name
