"""Torch's defaults are the caller's: neither a GPU as default device nor another default type changes a result on the CPU."""

import copy
import math

import pytest
import torch
from torch.overrides import TorchFunctionMode

from gencourse import checks, data, viz
from gencourse.adversarial import compare
from gencourse.autoregressive.made import MADE
from gencourse.data.faces import draw_faces, faces, sample_factors
from gencourse.kinds import Tractable
from gencourse.metrics import classifier, factors
from gencourse.metrics.frechet import frechet_to
from gencourse.metrics.likelihood import Estimate, nll
from gencourse.metrics.modes import good_share, mode_report
from gencourse.space import Space
from gencourse.train import fit
from gencourse.variational.vae import VAE

SPACE, COIN = Space((1, 4, 4), levels=3), Space((1,), levels=2)
X = torch.randint(3, (24, 1, 4, 4), generator=torch.Generator().manual_seed(0))
Z = torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
CENTRE, HALVES, TOSSES = torch.zeros(1, 2), torch.full((2,), 0.5).log(), torch.tensor([[0], [1]]).repeat(50, 1)
with torch.random.fork_rng():  # where models are made, and of which type, is for who makes them to say
    torch.manual_seed(0)
    MODEL, PIXELS = VAE(SPACE, latent=2, hidden=(8,)), MADE(SPACE, hidden=(8,))


class Elsewhere(TorchFunctionMode):
    """With torch.device("meta"), a GPU as default device as far as a CPU can play it.

    Numbers of the device "meta" cannot be read, or mixed with those of a CPU; what is drawn there refuses a CPU's generator.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kwargs.get("generator") is not None and torch.device(kwargs.get("device") or "meta").type != "cpu":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        return func(*args, **kwargs)


def trained(folder):
    """Validated, averaged, kept and resumed."""
    shared = {"batch_size": 8, "valid": X[:8], "ema": 0.9, "out": folder, "device": "cpu", "progress": False}
    fit(copy.deepcopy(MODEL), X, steps=3, **shared)
    model = copy.deepcopy(MODEL)
    history = fit(model, X, steps=6, resume=True, **shared)
    return [history.losses, history.valid, *model.state_dict().values()]


def classified(_):
    classifier._CACHE.clear()
    digits = data.load("digits")
    judge = classifier.scored_classifier(digits, steps=3, width=4, features=8)
    report = frechet_to(digits, digits.train[:300], judge)
    return [judge.features(digits.test), report.distance, report.floor]


def factors_read(_):
    factors._CACHE.clear()
    reader = factors.factor_reader(faces(16, n=100), steps=3, width=4)
    return [*reader.scores.values(), *reader.read(faces(16, n=10).test).values()]


def checked(_):
    p = checks.assert_sampler_matches(TOSSES, HALVES, COIN)
    checks.equation("0.1", 1.0, [1.0])
    return [checks.influence(PIXELS), checks.changes(PIXELS), p, *checks.every_example(Space((2,), levels=3))]


class Twice:
    """x is doubled."""

    def forward(self, x):
        return 2 * x, x.new_full((len(x),), x[0].numel() * math.log(2))

    def inverse(self, z):
        return z / 2, -self.forward(z)[1]


class Plane(Tractable):
    """The standard normal density, moved."""

    def __init__(self):
        super().__init__(Space((2,)))
        self.mu = torch.nn.Parameter(torch.zeros(2))

    def log_prob(self, x, context=None):
        return -0.5 * (x - self.mu).square().sum(1) - math.log(2 * math.pi)


NORMAL = Plane()


def checked_in_the_plane(_):
    checks.assert_bijection(Twice(), Z[:5])
    checks.assert_density_integrates(NORMAL, points=60)
    return [checks.assert_points_match_density(NORMAL, Z, cells=8)]


def drawn(_):
    """What the pictures show, as numbers."""
    log_prob = viz.density_2d(lambda x: -x.square().sum(1), n=10).axes[0].images[0].get_array()
    field = viz.trajectories(Z.view(2, 250, 2), lambda x: x.sum(1), n=10).axes[0].images[0].get_array()
    grid = viz.manifold_grid(lambda z: z.sum(1).view(-1, 1, 1, 1).expand(-1, 1, 4, 4), SPACE, n=3).axes[0].images[0].get_array()
    game = viz.game_1d(lambda x: -x.square(), lambda z: z + 1, lambda x: x, n=10).axes[0].lines[0].get_ydata()
    return [shown.astype("float32").tolist() for shown in (log_prob, field, grid, game)]


CALLS = {
    "fit": trained,
    "scored_classifier, frechet_to": classified,
    "factor_reader": factors_read,
    "faces": lambda _: [faces(16, n=20, colour=True).train, faces(16, n=20).train_factors.table()],
    "sample_factors": lambda _: [sample_factors(3, torch.Generator().manual_seed(0)).table()],
    "draw_faces": lambda _: [draw_faces(faces(16, n=10).test_factors)],
    "load": lambda _: [data.load(name).train for name in ("digits", "binary_digits", "bars_and_stripes")],
    "binarize": lambda _: [data.binarize(100 * X.to(torch.uint8), generator=torch.Generator().manual_seed(0))],
    "checks": checked,
    "checks in the plane": checked_in_the_plane,
    "nll": lambda _: [nll(MODEL, X, samples=5)],
    "bits per dimension": lambda _: [Estimate(1.0, 0.1, 3).bits_per_dim(SPACE)],
    "modes": lambda _: [good_share(), mode_report(Z, CENTRE, 1.0).shares],
    "settings": lambda _: compare.settings("hinge", 3),
    "paired_interval": lambda _: [*compare.paired_interval([1.0, 2.0, 4.0], [0.5, 2.0, 3.0])],
    "pictures": drawn,
}


def is_alike(a, b):
    if isinstance(a, torch.Tensor):
        return a.device.type == b.device.type == "cpu" and a.dtype == b.dtype and torch.equal(a, b)
    return a == b


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_gpu_as_default_device_changes_nothing(call, tmp_path):
    before = call(tmp_path / "before")
    with torch.device("meta"), Elsewhere():
        after = call(tmp_path / "after")
    assert len(before) == len(after) > 0
    assert all(map(is_alike, before, after))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
@pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CALLS.items() if name != "pictures"])
def test_another_default_type_changes_nothing(call, dtype, tmp_path):
    before = call(tmp_path / "before")
    torch.set_default_dtype(dtype)
    try:
        after = call(tmp_path / "after")
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(before) == len(after) > 0
    assert all(map(is_alike, before, after))


def test_dequantised_pixels_stay_in_their_cells_whatever_the_default_type(tmp_path):
    space = Space((256,), levels=256)
    x = torch.arange(256).repeat(50, 1)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            y, _ = space.dequantize(x, generator=torch.Generator().manual_seed(0))
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(space.quantize(y), x)
