"""Generative stochastic networks against the whole matrix of their step, and the theorem about where its chain settles."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from gencourse import data
from gencourse.checks import (
    assert_detailed_balance,
    assert_every_parameter_learns,
    assert_leaves_unchanged,
    corruption_matrix,
    every_example,
    reconstruction_matrix,
    transition_matrix,
)
from gencourse.distributions import sample
from gencourse.markov.chains import second_eigenvalue, stationary
from gencourse.markov.corruption import GaussianNoise, SaltAndPepper
from gencourse.markov.gsn import GSN
from gencourse.space import Space
from gencourse.train import cosine, fit

SPACE = Space((1, 2, 2), 2)
X = every_example(SPACE)  # (16, 1, 2, 2)
F64 = {"dtype": torch.float64}
QUIET = {"device": "cpu", "progress": False}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(space=SPACE, scale=1.0, **options):
    torch.manual_seed(0)
    model = GSN(space, **{"hidden": (8,), "corruption": SaltAndPepper(0.4, 0.3), **options})
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3 * scale)
    return model


def law(n=16, seed=3):
    return torch.randn(n, generator=seeded(seed), **F64).mul(1.5).softmax(0)


def posterior(p, noise):
    """Bayes: P(x | x~), rows x~."""
    joint = p[:, None] * noise
    return (joint / joint.sum(0)).T


class Table(nn.Module):
    """A reconstruction that is written down: for each noisy image the logits of its pixels, `(16, 4)`."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, y):
        index = ((y > 0).long() * 2 ** torch.arange(3, -1, -1)).sum(1)
        return self.logits[index]


def shares(images):
    index = (images.flatten(1) * 2 ** torch.arange(3, -1, -1)).sum(1)
    return torch.bincount(index, minlength=16).double() / len(index)


# --- corruption --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rho", "salt"), [(0.4, 0.5), (0.25, 0.8)])
def test_corruption_does_what_its_probability_says(rho, salt):
    noise = SaltAndPepper(rho, salt)
    matrix = corruption_matrix(noise, SPACE)
    assert torch.allclose(matrix.sum(1), torch.ones(16, **F64), rtol=0, atol=1e-12)
    n = 40_000
    for row in (0, 6, 15):
        found = shares(noise(X[row].expand(n, 1, 2, 2), SPACE, seeded(row)))
        error = (matrix[row] * (1 - matrix[row]) / n).sqrt()
        assert bool(((found - matrix[row]).abs() <= 4.5 * error).all())


def test_corruption_of_one_pixel_by_hand():
    noise, one = SaltAndPepper(0.5, 0.2), Space((1,), 2)
    assert torch.allclose(corruption_matrix(noise, one), torch.tensor([[0.9, 0.1], [0.4, 0.6]], **F64))
    grey = corruption_matrix(SaltAndPepper(0.4, 0.25), Space((1,), 3))  # to an end or nowhere
    assert torch.allclose(grey, torch.tensor([[0.9, 0.0, 0.1], [0.3, 0.6, 0.1], [0.3, 0.0, 0.7]], **F64))


def test_two_corruptions_by_a_fair_coin_are_one():
    a, b = (corruption_matrix(SaltAndPepper(rho), SPACE) for rho in (0.2, 0.5))
    assert torch.allclose(a @ b, corruption_matrix(SaltAndPepper(1 - 0.8 * 0.5), SPACE), atol=1e-14)


def test_noise_on_points_has_its_standard_deviation():
    x = torch.full((20_000, 2), 3.0)
    y = GaussianNoise(0.7)(x, Space((2,)), seeded())
    assert abs(float((y - x).std()) - 0.7) < 4.5 * 0.7 / 40_000**0.5 / 2**0.5
    assert abs(float((y - x).mean())) < 4.5 * 0.7 / 40_000**0.5


# --- the chain -----------------------------------------------------------------------------------------------------------------


def test_the_matrix_of_a_step_is_what_steps_do():
    model = network()
    matrix, n = transition_matrix(model), 40_000
    assert_leaves_unchanged(matrix, stationary(matrix).log())
    for row in (1, 10):
        found = shares(model.step(X[row].expand(n, 1, 2, 2), generator=seeded(row)))
        error = (matrix[row] * (1 - matrix[row]) / n).sqrt()
        assert bool(((found - matrix[row]).abs() <= 4.5 * error).all())
    assert torch.allclose(reconstruction_matrix(model).sum(1), torch.ones(16, **F64), atol=1e-12)


@pytest.mark.parametrize("levels", [2, 3])
def test_samples_follow_the_stationary_law(levels):
    space = Space((1, 1, 3), levels)
    model = network(space, burn_in=20)
    matrix, images, n = transition_matrix(model), every_example(space), 20_000
    assert second_eigenvalue(matrix) ** 20 < 1e-4
    p, samples = stationary(matrix), model.sample(n, generator=seeded())
    found = torch.stack([(samples == image).flatten(1).all(1).double().mean() for image in images])
    assert bool(((found - p).abs() <= 4.5 * (p * (1 - p) / n).sqrt() + 1e-4).all())


def test_a_chain_is_its_steps_one_after_another():
    model = network()
    together = model.chain(X, 5, generator=seeded())
    assert together.shape == (16, 5, 1, 2, 2)
    generator, x = seeded(), X
    for k in range(5):
        x = model.step(x, generator=generator)
        assert torch.equal(together[:, k], x)
    again = model.noise(16, generator=(g := seeded()))
    model.burn_in = 5
    assert torch.equal(model.sample(16, generator=seeded()), model.chain(again, 5, generator=g)[:, -1])


def test_with_bayes_posterior_the_chain_settles_at_the_data_whatever_the_noise():
    p = law()
    for rho, salt in ((0.05, 0.5), (0.3, 0.5), (0.3, 0.9), (0.9, 0.2)):
        noise = corruption_matrix(SaltAndPepper(rho, salt), SPACE)
        matrix = noise @ posterior(p, noise)
        assert_leaves_unchanged(matrix, p.log())
        assert_detailed_balance(matrix, p.log())
        assert torch.allclose(stationary(matrix), p, atol=1e-9)


def test_pixels_that_are_independent_are_learned_exactly_and_more_noise_mixes_faster():
    """For such data the posterior factorises: the model's own chain, with the right logits, settles at the data."""
    q = torch.tensor([0.2, 0.7, 0.5, 0.9], **F64)
    bits = X.flatten(1).double()
    p = (q * bits + (1 - q) * (1 - bits)).prod(1)
    slow = []
    for rho in (0.2, 0.6):
        seen = [(1 - rho) * x + rho * 0.3 for x in (0, 1)]  # how probable a white pixel is, clean black and clean white
        white, black = q.logit() + math.log(seen[1] / seen[0]), q.logit() + math.log((1 - seen[1]) / (1 - seen[0]))
        logits = torch.where(bits == 1, white, black)  # (16, 4), by Bayes, a pixel at a time
        model = GSN(SPACE, corruption=SaltAndPepper(rho, 0.3), network=Table(logits))
        matrix = transition_matrix(model)
        assert torch.allclose(stationary(matrix), p, atol=1e-9)
        slow.append(second_eigenvalue(matrix))
    assert slow[0] > slow[1] + 0.2


def test_without_noise_the_chain_stays_where_it_is():
    p = law()
    noise = corruption_matrix(SaltAndPepper(0.0), SPACE)
    assert torch.equal(noise, torch.eye(16, **F64))
    assert torch.allclose(posterior(p, noise), torch.eye(16, **F64))


# --- training ----------------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_expected_cross_entropy_and_least_for_the_marginals_of_the_posterior():
    p = law()
    noise = corruption_matrix(SaltAndPepper(0.4, 0.3), SPACE)
    marginals = posterior(p, noise) @ X.flatten(1).double()  # (16, 4)
    best = GSN(SPACE, corruption=SaltAndPepper(0.4, 0.3), network=Table(marginals.logit())).double()

    def expected(model):
        return -(p[:, None] * noise * reconstruction_matrix(model).log().T).sum()

    n = 40_000
    x = X[torch.multinomial(p, n, replacement=True, generator=seeded())]
    losses = best.denoising_nll(x, generator=seeded(1)).detach()
    assert losses.shape == (n,)
    assert abs(float(losses.mean() - expected(best))) < 4.5 * float(losses.std()) / n**0.5
    for seed in range(20):
        other = GSN(SPACE, network=Table(marginals.logit() + 0.1 * torch.randn(16, 4, generator=seeded(seed), **F64))).double()
        assert float(expected(other)) > float(expected(best))


def test_walkback_asks_for_the_image_that_the_walk_began_with():
    """The mean loss over a walk of K + 1 corruptions, from the matrices."""
    model = network(walkback=2).double()
    p, c, r = law(), corruption_matrix(model.corruption, SPACE), reconstruction_matrix(model)
    expected = sum(-(p[:, None] * (torch.matrix_power(c @ r, k) @ c) * r.log().T).sum() for k in range(3)) / 3
    n = 60_000
    x = X[torch.multinomial(p, n, replacement=True, generator=seeded())]
    losses = model.denoising_nll(x, generator=seeded(1)).detach()
    error = 4.5 * float(losses.std()) / n**0.5
    assert abs(float(losses.mean() - expected)) < error
    previous = sum(  # what asking for the state before would give
        -((p @ torch.matrix_power(c @ r, k))[:, None] * c * r.log().T).sum() for k in range(3)
    )
    assert abs(float(expected - previous / 3)) > 3 * error  # so that the test can tell


def test_no_gradient_flows_through_what_is_drawn():
    model, x = network(walkback=1).double(), X[:5]
    model.denoising_nll(x, generator=seeded()).sum().backward()
    with torch.no_grad():
        generator = seeded()
        first = model.corrupt(x, generator=generator)
        second = model.corrupt(sample(model.reconstruct(first), generator=generator), generator=generator)
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    (-sum(model.reconstruct(noisy).log_prob(x.double()) for noisy in (first, second)) / 2).sum().backward()
    for a, p in zip(found, model.parameters(), strict=True):
        assert torch.allclose(a, p.grad, atol=1e-12)


@pytest.mark.parametrize("space", [SPACE, Space((1, 2, 2), 4), Space((3,))], ids=str)
@pytest.mark.parametrize("walkback", [0, 2])
def test_every_parameter_learns(space, walkback):
    model = GSN(space, hidden=(8,), walkback=walkback)
    x = torch.randn(16, 3) if space.levels is None else torch.randint(space.levels, (16, *space.shape))
    assert_every_parameter_learns(model, x)


def test_trained_on_bars_and_stripes_the_chain_gives_most_of_its_time_to_them():
    bars = data.load("bars_and_stripes")
    torch.manual_seed(0)
    model = GSN(bars.space, corruption=SaltAndPepper(0.1), hidden=(64,))
    fit(model, bars.train.repeat(8, 1, 1, 1), steps=600, batch_size=112, lr=1e-2, schedule=cosine, **QUIET)
    p = stationary(transition_matrix(model))
    index = (bars.train.flatten(1).long() * 2 ** torch.arange(8, -1, -1)).sum(1)
    assert float(p[index].sum()) > 0.65  # 14 / 512 were uniform, 0.89 what the best factors reach; here 0.79
    assert float(p[index].min()) > 0.02


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path):
    class Stop(Exception):
        pass

    def model():
        torch.manual_seed(0)
        return GSN(bars.space, hidden=(16,), walkback=2)

    bars = data.load("bars_and_stripes")
    settings = {"steps": 20, "batch_size": 5, "ema": 0.9, "checkpoint_every": 2, **QUIET}
    resumed, whole = model(), model()
    for stop in (3, 11):

        def fail(step, _, stop=stop):
            if step == stop:
                raise Stop

        with pytest.raises(Stop):
            fit(model(), bars.train, out=tmp_path, resume=True, callback=fail, **settings)
    a = fit(resumed, bars.train, out=tmp_path, resume=True, **settings)
    b = fit(whole, bars.train, **settings)
    assert a.losses == b.losses
    assert all(torch.equal(p, q) for p, q in zip(resumed.parameters(), whole.parameters(), strict=True))
    other = GSN(bars.space, hidden=(16,), walkback=2, corruption=SaltAndPepper(0.3))
    with pytest.raises(ValueError, match=r"SaltAndPepper\(rho=0.1, salt=0.5\), and this call has .*rho=0.3"):
        fit(other, bars.train, out=tmp_path, resume=True, **settings)


# --- devices, types, mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("space", [SPACE, Space((1, 2, 2), 4), Space((3,))], ids=str)
def test_weights_of_other_types(space, dtype):
    model = GSN(space, hidden=(8,), walkback=1, burn_in=2).to(dtype)
    x = torch.randn(4, 3) if space.levels is None else torch.randint(space.levels, (4, *space.shape), dtype=torch.uint8)
    loss = model.denoising_nll(x)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    space.validate(model.sample(3))
    space.validate(model.chain(x, 2)[:, -1])


def test_sampling_leaves_the_mode_as_it_was():
    model = GSN(SPACE, network=nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 4)), burn_in=2).train()
    a, b = (model.chain(X, 3, generator=seeded()) for _ in range(2))
    assert torch.equal(a, b)  # no dropout
    assert model.training
    assert model.network[1].training


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: GSN(SPACE, walkback=-1), "GSN: walkback must be an integer of 0 or more, not -1"),
        (lambda: GSN(SPACE, burn_in=0), "GSN: burn_in must be a positive integer, not 0"),
        (lambda: GSN(SPACE, corruption=0.1), "GSN: corruption must be a function such as"),
        (lambda: SaltAndPepper(1.5), r"SaltAndPepper: rho must be a probability in \[0, 1\), not 1.5"),
        (lambda: SaltAndPepper(0.5, -1), "SaltAndPepper: salt must be a probability"),
        (lambda: GaussianNoise(0), "GaussianNoise: sd must be a positive number, not 0"),
        (lambda: GSN(Space((2,)), corruption=SaltAndPepper(0.1)).sample(1), "SaltAndPepper is for grey levels"),
        (lambda: GSN(SPACE, corruption=GaussianNoise(0.1)).sample(1), "GaussianNoise is for points"),
        (lambda: GSN(SPACE).step(X[:, 0]), r"expects a batch of shape \(B, 1, 2, 2\)"),
        (lambda: GSN(SPACE).chain(X, 0), "steps must be a positive integer"),
        (lambda: GSN(SPACE, network=nn.Linear(4, 3)).step(X), r"GSN: the network must give \(16, 4\) numbers, not \(16, 3\)"),
        (lambda: GSN(SPACE, corruption=lambda x, *_: x[:1]).step(X), "GSN: the corruption must keep the shape"),
        (lambda: GSN(SPACE).sample(1, torch.zeros(1)), "GSN is unconditional"),
        (lambda: transition_matrix(GSN(SPACE, corruption=lambda x, *_: x)), "needs the corruption's log_prob"),
        (lambda: transition_matrix(GSN(Space((1, 4, 4), 2))), "a space of 4096 images at most"),
    ],
)
def test_mistakes_get_one_sentence(call, says):
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_corruption_of_one_s_own_is_a_function():
    def first_row(x, space, generator=None):
        noisy = SaltAndPepper(0.5)(x, space, generator)
        noisy[:, :, 1:] = x[:, :, 1:]
        return noisy

    model = GSN(SPACE, corruption=first_row, hidden=(8,))
    noisy = model.corrupt(X.repeat(50, 1, 1, 1), generator=seeded())
    assert torch.equal(noisy[:, :, 1], X.repeat(50, 1, 1, 1)[:, :, 1])
    assert not torch.equal(noisy[:, :, 0], X.repeat(50, 1, 1, 1)[:, :, 0])
    optimizer = partial(torch.optim.AdamW, weight_decay=0.01)
    assert fit(model, X, steps=3, batch_size=8, optimizer=optimizer, **QUIET).steps == 3
