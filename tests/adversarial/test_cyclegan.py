"""Both ways round, who learns from what, what the cycle leaves open, and a pool that survives a kill."""

import itertools

import pytest
import torch
from torch import nn

from gencourse.adversarial import losses
from gencourse.adversarial.cyclegan import CycleGAN, Pool
from gencourse.space import Space
from gencourse.train import cosine, fit

A, B = Space((1, 8, 8), 17), Space((1, 8, 8), 5)
QUIET = {"device": "cpu", "progress": False}


def model(space=A, other=B, seed=0, **options):
    torch.manual_seed(seed)
    return CycleGAN(space, other=other, **{"widths": (3, 4), "d_width": 3, "patch": ((4, 2), (3, 1)), **options})


def batch(space, n=6, seed=1):
    return torch.randint(int(space.levels), (n, *space.shape), generator=torch.Generator().manual_seed(seed))


class Shuffle(nn.Module):
    """A translator of pictures of one hot pixel: it moves the pixel, `order[i]` being where i goes."""

    def __init__(self, order):
        super().__init__()
        self.back = [order.index(i) for i in range(len(order))]

    def forward(self, z, source):
        return source.flatten(1)[:, self.back].view_as(source)


def gap(a, b):
    return (a - b).abs().sum((1, 2, 3)) / a[0].numel()


def test_the_losses_are_the_papers():
    """Eq. (1) with least squares, (2), and the identity loss, each computed from the networks' outputs."""
    m, x, y = model(cycle=7.0, identity=3.0, gan=2.0), batch(A), batch(B)
    u, v = x / 8 - 1, y / 2 - 1
    to_b, to_a = m.ab(None, u), m.ba(None, v)

    def squares(logits, aim):
        return ((logits - aim) ** 2 / 2).sum((1, 2)) / logits[0].numel()

    g = 2 * (squares(m.d_b(to_b), 1) + squares(m.d_a(to_a), 1))
    g = g + 7 * (gap(m.ba(None, to_b), u) + gap(m.ab(None, to_a), v))
    g = g + 3 * (gap(m.ab(None, v), v) + gap(m.ba(None, u), u))
    assert torch.allclose(m.g_loss(x, y), g, atol=1e-5)
    assert torch.allclose(m.d_a_loss(x, y), squares(m.d_a(u), 1) + squares(m.d_a(to_a), 0), atol=1e-5)
    assert torch.allclose(m.d_b_loss(x, y), squares(m.d_b(v), 1) + squares(m.d_b(to_b), 0), atol=1e-5)


def test_gradients_stay_with_the_player_whose_move_it_is():
    m, x, y = model(identity=1.0), batch(A), batch(B)
    players = {"g": [m.ab, m.ba], "d_a": [m.d_a], "d_b": [m.d_b]}
    moves = m.moves()
    assert [move.name for move in moves] == list(players)
    for move in moves:
        mine = {id(p) for network in players[move.name] for p in network.parameters()}
        assert {id(p) for p in move.learns} == mine
        if move.name != "g":
            every = list(m.parameters())
            moved = torch.autograd.grad(move.loss(x, y).sum(), every, allow_unused=True)
            assert {id(p) for p, gradient in zip(every, moved, strict=True) if gradient is not None} == mine
        assert not move.validate
    # each translator hears of its own discriminator, and by the cycle of both errors
    for options, alone in (({"cycle": 0.0}, [m.ab, m.d_b]), ({"gan": 0.0}, [m.ab, m.ba])):
        part = model(**options)
        gradients = torch.autograd.grad(part.g_loss(x, y).sum(), list(part.ab.parameters()))
        assert all(gradient.any() for gradient in gradients)
        assert len(part.moves()) == (3 if alone[-1] is m.d_b else 1)


@pytest.mark.parametrize("swapped", [False, True])
def test_the_cycle_goes_both_ways_round_and_each_way_in_its_order(swapped):
    """One map shuffles four pixels; the other undoes it and then forgets two of them.

    There and back is exact for a picture that is dark in those two, and costs a bright one two pixels of four, by 2 each. The
    other order would lose something of the first picture too.
    """
    space, order = Space((1, 2, 2), 2), [1, 3, 0, 2]

    class Forgets(Shuffle):
        def forward(self, z, source):
            y = super().forward(z, source).flatten(1)
            return torch.where(torch.tensor([False, True, False, True]), -1.0, y).view_as(source)

    maps = [Shuffle(order), Forgets([order.index(i) for i in range(4)])]
    dark, bright = torch.tensor([1, 0, 1, 0]).view(1, 1, 2, 2), torch.ones(1, 1, 2, 2, dtype=torch.long)
    m = model(space, space, widths=(2,), patch=((1, 1),), gan=0.0, cycle=3.0)
    m._see = lambda space, x, n: space.to_signed(x)  # the maps have no weights to go by
    (m.ab, m.ba), (x, y) = (maps[::-1], (bright, dark)) if swapped else (maps, (dark, bright))
    assert m.g_loss(x, y).tolist() == [3.0]
    assert m.g_loss(dark, dark).tolist() == [1.5]  # round the other way, one of its two bright pixels is lost
    m.ab, m.ba = m.ba, m.ab
    assert m.g_loss(x, y).tolist() == [1.5 + 3.0]  # the maps in each other's place


def test_cycle_consistency_does_not_determine_the_map():
    """Of the 24 ways to pair four pictures with four, every one has cycle loss 0; the truth is one of them."""
    space = Space((1, 2, 2), 2)
    every = torch.eye(4, dtype=torch.long).view(4, 1, 2, 2)
    truth, found = (0, 1, 2, 3), []
    for order in itertools.permutations(range(4)):
        torch.manual_seed(0)
        m = model(space, space, widths=(2,), patch=((1, 1),), gan=0.0)
        m.ab, m.ba = Shuffle(order), Shuffle([order.index(i) for i in range(4)])
        m._see = lambda space, x, n: space.to_signed(x)
        wrong = gap(m.ab(None, space.to_signed(every)), space.to_signed(every[list(truth)]))
        found.append((float(m.g_loss(every, every).sum()), int((wrong > 0).sum())))
    assert len(found) == 24
    assert all(cycle == 0 for cycle, _ in found)
    assert sorted(errors for _, errors in found).count(0) == 1
    assert sum(errors for _, errors in found) / 24 == 3  # on average one picture in four finds its place


@pytest.mark.parametrize("options", [{}, {"identity": 1.0}, {"cycle": 0.0}, {"gan": 0.0}], ids=str)
def test_pairing_by_accident_cannot_help(options):
    """The order of the y changes neither the mean of a loss nor its gradient: nothing in it knows who belongs to whom."""
    m, x, y = model(**options).double(), batch(A), batch(B)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(2))
    for loss in (m.g_loss, m.d_a_loss, m.d_b_loss):
        parameters = [p for p in m.parameters()]
        gradients = [torch.autograd.grad(loss(x, t).mean(), parameters, allow_unused=True) for t in (y, y[order])]
        assert torch.allclose(loss(x, y).mean(), loss(x, y[order]).mean(), atol=1e-12)
        for one, other in zip(*gradients, strict=True):
            assert (one is None) is (other is None)
            assert one is None or torch.allclose(one, other, atol=1e-12)


# --- the pool ---


def numbered(first, n):
    return torch.arange(first, first + n, dtype=torch.float32).view(n, 1, 1, 1)


def test_a_pool_fills_before_it_gives_anything_back():
    pool = Pool(5, (1, 1, 1))
    for first in (0, 2):
        assert torch.equal(pool.exchange(numbered(first, 2)), numbered(first, 2))
    assert pool.filled == 4
    torch.manual_seed(0)
    shown = pool.exchange(numbered(4, 3))
    assert shown[0] == 4 and pool.filled == 5  # the first still had room


def test_half_of_what_is_shown_comes_from_the_pool_and_nothing_is_lost():
    torch.manual_seed(0)
    pool, old, ages = Pool(50, (1, 1, 1)), 0, []
    pool.exchange(numbered(0, 50))
    for step in range(1, 101):
        fakes = numbered(50 * step, 50)
        before = pool.images.flatten().clone()
        shown = pool.exchange(fakes)
        both = torch.cat([pool.images.flatten(), shown.flatten()])
        assert torch.equal(both.sort().values, torch.cat([before, fakes.flatten()]).sort().values)  # exchanged, one for one
        old += int((shown != fakes).sum())
        ages.append((step - shown[shown != fakes].div(50, rounding_mode="floor")).mean())
    assert abs(old - 2500) < 5 * (5000 / 4) ** 0.5  # five standard deviations of 5000 fair coins
    assert 1.5 < float(torch.stack(ages[20:]).mean()) < 2.5  # each place is emptied in half of the rounds: two on average


def test_no_pool_shows_what_is_new_and_a_small_one_at_most_its_size():
    assert torch.equal(Pool(0, (1, 1, 1)).exchange(numbered(0, 3)), numbered(0, 3))
    torch.manual_seed(0)
    pool = Pool(2, (1, 1, 1))
    pool.exchange(numbered(0, 2))
    assert all((pool.exchange(numbered(10 * i, 9)) != numbered(10 * i, 9)).sum() <= 2 for i in range(1, 9))


def test_discriminators_learn_from_their_pools_and_looking_at_a_loss_moves_nothing():
    m, x, y = model(pool=4), batch(A, 4), batch(B, 4)
    m.d_a_loss(x, y), m.d_b_loss(x, y), m.g_loss(x, y)
    assert m.pool_a.filled == m.pool_b.filled == 0
    for move in m.moves():
        move.loss(x, y)
    assert m.pool_a.filled == m.pool_b.filled == 4
    assert torch.equal(m.pool_b.images, m.ab(None, m.space.to_signed(x)))
    assert not m.pool_b.images.requires_grad
    with torch.no_grad():
        m.pool_a.images.fill_(5.0)  # what the pool holds is what its discriminator sees
    torch.manual_seed(0)
    with_pool = m.moves()[1].loss(x, y)
    assert (with_pool - m.d_a_loss(x, y)).abs().max() > 1e-3


@pytest.mark.parametrize("stops", [[3], [4, 7]])
def test_a_run_that_is_interrupted_and_resumed_ends_with_the_same_bits(tmp_path, stops):
    """Weights, three optimisers, both pools and how full they are. The pools are full after two steps."""

    class Stop(Exception):
        pass

    x, y = batch(A, 40), batch(B, 40)
    settings = {"steps": 9, "batch_size": 8, "schedule": cosine, "ema": 0.9, "checkpoint_every": 2, **QUIET}
    whole = model(pool=12)
    filled = []
    expected = fit(whole, (x, y), callback=lambda step, m: filled.append(int(m.pool_a.filled)), **settings)
    assert filled == [8] + [12] * 8
    for seed, stop in enumerate(stops):

        def fail(step, m, stop=stop):
            if step == stop:
                raise Stop

        with pytest.raises(Stop):
            fit(model(pool=12, seed=seed), (x, y), out=tmp_path, resume=True, callback=fail, **settings)
    resumed = model(pool=12, seed=99)
    history = fit(resumed, (x, y), out=tmp_path, resume=True, **settings)
    assert history.losses == expected.losses
    assert {"pool_a.images", "pool_a.filled", "pool_b.images", "pool_b.filled"} <= set(whole.state_dict())
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


# --- use ---


def test_translations_are_of_the_other_kind_and_samples_go_back():
    """`sample` is of the space, given pictures of the other kind; the two may differ in channels and levels."""
    m = model(Space((3, 8, 8), 17), B)
    x, y = batch(m.space, 4), batch(B, 5)
    B.validate(m.translate(x))
    m.space.validate(m.back(y))
    assert len(m.translate(x)) == 4
    assert torch.equal(m.sample(5, y), m.back(y))
    assert m.training and not m.back(y).requires_grad
    assert torch.equal(m.translate(x[1:2]), m.translate(x)[1:2])
    by_hand = ((m.ab(None, x / 8 - 1) + 1) * 2).round()
    assert ((m.translate(x) - by_hand).abs() > 0).double().mean() < 0.01  # but for a rounding at the half


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model().sample(3), r"CycleGAN needs a picture for each example as its context, integers \(3, 1, 8, 8\)"),
        (lambda: model().g_loss(batch(A)), "CycleGAN needs a picture for each example"),
        (lambda: model().back(batch(B).float()), r"integers \(6, 1, 8, 8\), not torch.float32"),
        (lambda: model().d_a_loss(batch(A), batch(B, 5)), r"must be 6 pictures of .*not torch.int64 \(5, 1, 8, 8\)"),
        (lambda: model(other=Space((1, 4, 4), 5)), "must have the same sides"),
        (lambda: model(gan=0.0, cycle=0.0), "nothing ties A to B"),
        (lambda: model(other=Space((3, 8, 8), 5), identity=1.0), "as many channels in A as in B, not 1 and 3"),
        (lambda: model(pool=-1), "pool must be an integer of 0 or more"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_loss_is_one_of_the_librarys():
    with pytest.raises(TypeError, match=r"loss must be one of gencourse\.adversarial\.losses"):
        model(loss="least squares")
    assert model(loss=losses.hinge).loss is losses.hinge
