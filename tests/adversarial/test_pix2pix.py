"""The conditional game's losses, what the L1 error asks for, and what becomes of the noise."""

import pytest
import torch
import torch.nn.functional as F

from gencourse.adversarial import losses
from gencourse.adversarial.pix2pix import Pix2Pix
from gencourse.adversarial.translation import l1_error
from gencourse.space import Space
from gencourse.train import fit

COLOUR, GREY, SMALL = Space((3, 8, 8), 17), Space((1, 8, 8), 5), Space((1, 4, 4), 256)
QUIET = {"device": "cpu", "progress": False}


def model(space=COLOUR, source=GREY, seed=0, **options):
    torch.manual_seed(seed)
    return Pix2Pix(space, source=source, **{"latent": 2, "widths": (4, 6), "d_width": 4, **options})


def batch(space, n=6, seed=1):
    return torch.randint(int(space.levels), (n, *space.shape), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loss", [losses.non_saturating, losses.least_squares()], ids=lambda loss: loss.name)
def test_the_losses_are_the_papers(loss):
    """Eq. (1) and (4), patch by patch, with the source beside the picture that is judged."""
    m, x, s = model(l1=7.0, gan=2.0, loss=loss), batch(COLOUR), batch(GREY)
    real, source = x / 8 - 1, s / 2 - 1
    torch.manual_seed(3)
    fake = m.generator(torch.randn(6, 2), source)
    of_real, of_fake = (m.discriminator.net(torch.cat([source, y], dim=1)) for y in (real, fake))
    assert of_real.shape == (6, 1, 4, 4)
    torch.manual_seed(3)
    assert torch.allclose(m.d_loss(x, s), loss.d_loss(of_real, of_fake).sum((1, 2, 3)) / 16, atol=1e-5)
    torch.manual_seed(3)
    by_hand = 2 * loss.g_loss(of_fake).sum((1, 2, 3)) / 16 + 7 * (real - fake).abs().sum((1, 2, 3)) / 192
    assert torch.allclose(m.g_loss(x, s), by_hand, atol=1e-5)


def test_gradients_stay_with_the_player_whose_move_it_is():
    m, x, s = model(), batch(COLOUR), batch(GREY)
    d, g = m.moves()
    assert [move.name for move in (d, g)] == ["d", "g"]
    assert not any(move.validate for move in (d, g))
    theirs = torch.autograd.grad(d.loss(x, s).sum(), list(m.generator.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in theirs)
    own = torch.autograd.grad(g.loss(x, s).sum(), list(m.generator.parameters()))
    assert all(gradient.any() for gradient in own)
    assert {id(p) for p in g.learns} == {id(p) for p in m.generator.parameters()}
    assert {id(p) for p in d.learns} == {id(p) for p in m.discriminator.parameters()}
    before = [p.clone() for p in m.discriminator.parameters()]
    alone = model(gan=0.0)
    (only,) = alone.moves()
    assert only.validate  # the L1 error says which weights are better
    fit(alone, (x, s), steps=2, batch_size=6, valid=(x, s), **QUIET)
    assert all(torch.equal(a, b) for a, b in zip(before, alone.discriminator.parameters(), strict=True))


def test_the_discriminator_judges_the_picture_against_its_source():
    m, x, s = model(), batch(COLOUR), batch(GREY)
    logits = m.judge(m.centred(x), m._condition(s, 6))
    assert logits.shape == (6, 4, 4)
    assert not torch.allclose(logits, m.judge(m.centred(x), m._condition(s.roll(1, 0), 6)))


def test_each_half_of_the_loss_is_one_argument_away():
    x, s = batch(COLOUR), batch(GREY)
    of = {}
    for name, weights in {"both": {}, "l1": {"gan": 0.0}, "gan": {"l1": 0.0}}.items():
        m = model(**weights)
        torch.manual_seed(3)
        of[name] = m.g_loss(x, s)
    assert torch.allclose(of["both"], of["l1"] + of["gan"], atol=1e-5)


def test_what_minimises_the_l1_error_is_the_median_of_the_pixel_given_the_source():
    """Every answer of a world of five grey levels is tried: none is better than the median, though few pictures have it."""
    levels = torch.linspace(-1, 1, 5, dtype=torch.float64)
    weights = torch.tensor([0.42, 0.09, 0.04, 0.05, 0.40], dtype=torch.float64)  # of x given s: likely one end or the other

    def expected(y):
        return float((weights * l1_error(torch.full((5, 1), y, dtype=torch.float64), levels.view(5, 1))).sum())

    errors = [expected(float(y)) for y in levels]
    assert min(range(5), key=errors.__getitem__) == int((weights.cumsum(0) < 0.5).sum()) == 1
    finer = torch.linspace(-1, 1, 401, dtype=torch.float64)
    assert float(finer[torch.tensor([expected(float(y)) for y in finer]).argmin()]) == pytest.approx(-0.5, abs=1e-9)
    assert expected(float((weights * levels).sum())) > errors[1] + 0.005  # the mean, which the squared error asks for


def test_the_l1_error_alone_learns_the_median_and_not_a_picture_that_exists():
    """Level 0 with probability 0.4, 1 with 0.25, 4 with 0.35, all pixels alike: what comes out is 1, the rarest."""
    space = Space((1, 8, 8), 5)
    answers = torch.tensor([0] * 8 + [1] * 5 + [4] * 7).view(20, 1, 1, 1).expand(20, 1, 8, 8)
    m = model(space, space, gan=0.0)
    s = torch.full((20, 1, 8, 8), 2)
    fit(m, (answers, s), steps=150, batch_size=20, lr=1e-2, **QUIET)
    drawn = m.sample(30, s[:1].expand(30, -1, -1, -1), generator=torch.Generator().manual_seed(0))
    assert (drawn == 1).double().mean() > 0.95


def test_variety_counts_the_pictures_of_one_source():
    """A generator that goes by the signs of two noises draws four pictures where it looks at them, and one where it does not."""

    class ByNoise(torch.nn.Module):
        def forward(self, z, source):
            y = torch.cat([torch.sign(z), torch.zeros(len(z), 1)], dim=1)[:, :, None, None].expand(-1, -1, 8, 8)
            return torch.where(source.mean((1, 2, 3), keepdim=True) > 0, y, torch.zeros_like(y))

    m = model()
    m.generator = ByNoise()
    m.draw_latent = lambda n, generator=None: torch.randn(n, 2, generator=generator)
    light, dark = torch.full((1, 1, 8, 8), 4), torch.full((1, 1, 8, 8), 0)
    report = m.variety(torch.cat([light, dark]), draws=64, generator=torch.Generator().manual_seed(0))
    assert report.modes.tolist() == [4, 1]
    assert report.movement[0] == pytest.approx(2 / 3, abs=0.05)  # two of three channels, at a distance of about 1 from the mean
    assert report.movement[1] < 1e-6
    assert m.variety(torch.cat([light, dark]), draws=64, apart=1.0).modes.tolist() == [2, 1]  # two signs apart


@pytest.mark.parametrize("source", [SMALL, GREY, COLOUR, None], ids=str)
def test_sources_of_another_size_or_number_of_channels(source):
    """Super-resolution and colouring: the source is enlarged, each pixel to a square of its own."""
    m = model(source=source)
    s = batch(m.source, 3)
    seen = m._condition(s, 3)
    times = 8 // m.source.shape[1]
    by_hand = (s.double() * 2 / (m.source.levels - 1) - 1).repeat_interleave(times, 2).repeat_interleave(times, 3)
    assert torch.allclose(seen.double(), by_hand, atol=1e-6)
    drawn = m.sample(3, s, generator=torch.Generator().manual_seed(0))
    COLOUR.validate(drawn)
    assert m.example_context(4).shape == (4, *m.source.shape)
    m.source.validate(m.example_context(4))


def test_it_learns_a_map_that_has_one_answer():
    """Each pixel's grey turned round: nothing is random, and the game does not spoil it."""
    space = Space((1, 8, 8), 17)
    s = batch(space, 64)
    s = F.avg_pool2d(s.float(), 2).repeat_interleave(2, 2).repeat_interleave(2, 3).round().long()
    m = model(space, space, widths=(8, 8))
    fit(m, (16 - s, s), steps=60, batch_size=16, lr=5e-3, ema=0.9, **QUIET)
    drawn = m.sample(64, s, generator=torch.Generator().manual_seed(0))
    assert (drawn - (16 - s)).abs().double().mean() < 1.0  # of 16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model().sample(3), r"Pix2Pix needs a picture for each example as its context, integers \(3, 1, 8, 8\); none"),
        (
            lambda: model().sample(3, batch(GREY, 2)),
            r"must be 3 pictures of Space\(\(1, 8, 8\), levels=5\).*not torch.int64 \(2, 1",
        ),
        (lambda: model().sample(3, batch(COLOUR, 3)), r"integers \(3, 1, 8, 8\), not torch.int64 \(3, 3, 8, 8\)"),
        (lambda: model().sample(3, torch.zeros(3, 1, 8, 8)), r"not torch.float32 \(3, 1, 8, 8\)"),
        (lambda: model().g_loss(batch(COLOUR), torch.zeros(6).long()), r"not torch.int64 \(6,\)"),
        (lambda: model(l1=0.0, gan=0.0), "nothing to learn"),
        (lambda: model(source=Space((1, 3, 3), 5)), "pictures of 3x3 cannot be enlarged to 8x8"),
        (lambda: model(source=Space((1, 4, 8), 5)), "pictures of 4x8 cannot be enlarged to 8x8"),
        (lambda: model(source=Space((2,))), r"translates images of integers \(C, H, W\), but a space is Space\(\(2,\)\)"),
        (lambda: model(Space((64,), 2)), "translates images of integers"),
        (lambda: model(l1=-1.0), "l1 must be a number of 0 or more"),
        (lambda: model().variety(batch(GREY), draws=0), "draws must be a positive integer"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_source_that_is_no_space_is_a_type_error():
    with pytest.raises(TypeError, match=r"expects a gencourse\.space\.Space of the pictures to translate, not tuple"):
        model(source=(1, 8, 8))
