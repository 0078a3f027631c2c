"""Exercise 15: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import math

import numpy as np
import pytest
import torch
from experiment_tests import (
    assert_trained_to_full_points,
    result,
)
from question_tests import assert_full_points, assert_keeps, ids
from question_tests import result as result_of
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from gencourse.adversarial import losses
from gencourse.grading.inside import harness
from gencourse.grading.questions.q15_wgan import (
    BALANCE,
    CONDITIONAL_NORM,
    CRITIC,
    EXPERIMENT,
    FADE,
    JENSEN_SHANNON,
    LEAST_SQUARES,
    PENALTY,
    PROJECTION,
    SPECTRAL,
    TRUNCATION,
    WASSERSTEIN,
)

# Right answers by other routes than the reference's.


def least_squares_library(real, fake, a, b, c):
    loss = losses.least_squares(a.item(), b.item(), c.item())
    return torch.stack([loss.d_loss(real, fake), loss.g_loss(fake)])


def least_squares_list(real, fake, a, b, c):
    mse = torch.nn.functional.mse_loss
    d = [(mse(r, b) + mse(f, a)) / 2 for r, f in zip(real, fake, strict=True)]
    return [torch.stack(d), torch.stack([mse(f, c) / 2 for f in fake])]


def wasserstein_by_distribution_functions(x, y):
    """The area between the two empirical distribution functions."""
    rows = []
    for a, b in zip(x, y, strict=True):
        at = torch.cat([a, b]).sort().values
        between = ((a[:, None] <= at).float().mean(0) - (b[:, None] <= at).float().mean(0)).abs()
        rows.append((between[:-1] * at.diff()).sum())
    return torch.stack(rows)


def wasserstein_double(x, y):
    return (x.double().sort(-1)[0] - y.double().sort(-1)[0]).abs().sum(-1) / x.shape[-1]


def shannon_library(p, q):
    m = (p + q) / 2
    kl = torch.nn.functional.kl_div  # takes the logarithm of the second argument of KL first
    one = kl(m.clamp_min(1e-30).log(), p, reduction="none").sum(1)
    return (one + kl(m.clamp_min(1e-30).log(), q, reduction="none").sum(1)) / 2


def shannon_entropies(p, q):
    return torch.special.entr((p + q) / 2).sum(1) - (torch.special.entr(p).sum(1) + torch.special.entr(q).sum(1)) / 2


def shannon_loop(p, q):
    rows = []
    for a, b in zip(p, q, strict=True):
        total = torch.tensor(0.0)
        for u, w in zip(a, b, strict=True):
            total = total + (0.5 * u * torch.log(2 * u / (u + w)) if u > 0 else 0)
            total = total + (0.5 * w * torch.log(2 * w / (u + w)) if w > 0 else 0)
        rows.append(total)
    return rows


def shannon_with_a_small_number(p, q):
    """Not exact, but the error is below the tolerance."""
    m = (p + q) / 2
    return 0.5 * (p * ((p + 1e-10) / (m + 1e-10)).log() + q * ((q + 1e-10) / (m + 1e-10)).log()).sum(1)


def critic(y, W, v):
    return torch.tanh(torch.nn.functional.linear(y.reshape(len(y), -1), W)).mv(v)


def critic_library(real, fake, W, v):
    return losses.wasserstein.d_loss(critic(real, W, v), critic(fake, W, v))


def critic_loop(real, fake, W, v):
    return torch.stack(
        [v @ torch.tanh(W @ f.flatten()) - v @ torch.tanh(W @ r.flatten()) for r, f in zip(real, fake, strict=True)]
    )


def balance_library(k, real, fake, gamma, step):
    rows = [
        torch.stack(losses.began_balance(a, r, f, gamma=gamma.item(), step=step.item()))
        for a, r, f in zip(k, real, fake, strict=True)
    ]
    return torch.stack(rows)


def balance_by_minimum(k, real, fake, gamma, step):
    gap = (gamma * real - fake).mean(1)
    k = torch.maximum(torch.minimum(k + step * gap, torch.ones_like(k)), torch.zeros_like(k))
    return torch.stack((k, real.mean(1) + abs(gap)), -1)


def penalty_by_autograd(real, fake, t, W, v):
    y = (t.view(-1, 1, 1) * real + (1 - t.view(-1, 1, 1)) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(y, W, v).sum(), y, create_graph=True)
    return (slope.flatten(1).norm(2, dim=1) - 1).pow(2)


def penalty_loop(real, fake, t, W, v):
    rows = []
    for r, f, share in zip(real, fake, t, strict=True):
        y = (f + share * (r - f)).detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(y[None], W, v)[0], y, create_graph=True)
        rows.append((torch.sqrt((slope**2).sum()) - 1) ** 2)
    return rows


def fade_library(small, large, alpha):
    return torch.nn.functional.interpolate(small, scale_factor=2) * (1 - alpha) + large * alpha


def fade_slices(small, large, alpha):
    mixed = alpha * large.double()
    for i in range(2):
        for j in range(2):
            mixed[:, :, i::2, j::2] += (1 - alpha) * small
    return mixed


def norm_by_one_hot(x, labels, gain, offset, eps):
    """All examples side by side in one picture."""
    B, C = x.shape[:2]
    flat = x.permute(1, 0, 2, 3).reshape(1, C, -1)
    y = torch.nn.functional.instance_norm(flat, eps=float(eps)).reshape(C, B, *x.shape[2:]).transpose(0, 1)
    one_hot = torch.nn.functional.one_hot(labels.long(), len(gain)).float()
    return torch.einsum("bk,kc,bchw->bchw", one_hot, gain, y) + (one_hot @ offset)[..., None, None]


def norm_loop(x, labels, gain, offset, eps):
    rows = []
    for example, k in zip(x, labels.int().tolist(), strict=True):
        maps = []
        for c, values in enumerate(example):
            mu = x[:, c].mean()
            variance = (x[:, c] ** 2).mean() - mu**2
            maps.append(gain[k, c] * (values - mu) / torch.sqrt(variance + eps) + offset[k, c])
        rows.append(torch.stack(maps))
    return torch.stack(rows)


def projection_table(h, labels, V, w, c):
    return (h @ (V + w).T)[torch.arange(len(h)), labels.long()] + c


def projection_bilinear(h, labels, V, w, c):
    classes = torch.nn.functional.one_hot(labels.to(torch.int64), len(V)).to(h)
    return torch.nn.functional.bilinear(h, classes, V.T[None]).flatten() + h.mv(w) + c


def spectral_numpy(W, u, steps):
    W, u = W.numpy().astype(float), u.numpy().astype(float)
    for _ in range(round(float(steps))):
        v = W.T @ u
        v = v / np.sqrt(np.sum(v**2))
        u = W @ v
        sigma = np.linalg.norm(u)
        u = u / sigma
    return W / sigma


def spectral_powers(W, u, steps):
    """All rounds at once, in float64."""
    W, u = W.double(), u.double()
    v = W.T @ torch.linalg.matrix_power(W @ W.T, int(steps) - 1) @ (u / u.norm())
    return W / (W @ (v / v.norm())).norm()


def truncated_loop(tries, psi):
    return [[next(z for z in numbers if abs(z) <= psi) for numbers in zip(*example.tolist(), strict=True)] for example in tries]


def truncated_numpy(tries, psi):
    tries = tries.numpy()
    first = (np.abs(tries) <= float(psi)).argmax(1)
    return np.take_along_axis(tries, first[:, None], 1)[:, 0]


@pytest.mark.parametrize(
    ("question", "function", "seeds"),
    [
        *[(LEAST_SQUARES, function, 20) for function in (least_squares_library, least_squares_list)],
        *[(WASSERSTEIN, function, 20) for function in (wasserstein_by_distribution_functions, wasserstein_double)],
        *[(JENSEN_SHANNON, function, 20) for function in (shannon_library, shannon_entropies, shannon_with_a_small_number)],
        (JENSEN_SHANNON, shannon_loop, 20),
        *[(CRITIC, function, 20) for function in (critic_library, critic_loop)],
        *[(BALANCE, function, 20) for function in (balance_library, balance_by_minimum)],
        *[(PENALTY, function, 20) for function in (penalty_by_autograd, penalty_loop)],
        *[(FADE, function, 20) for function in (fade_library, fade_slices)],
        *[(CONDITIONAL_NORM, function, 20) for function in (norm_by_one_hot, norm_loop)],
        *[(PROJECTION, function, 20) for function in (projection_table, projection_bilinear)],
        *[(SPECTRAL, function, 20) for function in (spectral_numpy, spectral_powers)],
        *[(TRUNCATION, function, 20) for function in (truncated_loop, truncated_numpy)],
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function, seeds):
    assert_full_points(question, function, seeds)


def test_what_is_right_is_paid():
    """A formula that fails in the extreme keeps the points for the rest; a value without its gradient those for values."""
    assert_keeps(JENSEN_SHANNON, "zero times infinity", 2)
    assert_keeps(BALANCE, "k not clamped", 2)
    assert_keeps(PENALTY, "no gradient", 3)
    assert_keeps(WASSERSTEIN, "no gradient", 2)
    assert_keeps(CONDITIONAL_NORM, "no gradient", 3)
    assert_keeps(SPECTRAL, "one round too many", 0)


def test_a_few_rounds_are_not_the_spectral_norm_and_many_are():
    few, many = (SPECTRAL.draw(0)[name] for name in ("a few rounds", "many rounds"))
    largest = [np.linalg.svd(harness.run(SPECTRAL.reference, inputs, twice=False)["value"])[1].max() for inputs in (few, many)]
    assert largest[0] > 1.001  # the estimate is from below
    assert largest[1] == pytest.approx(1, abs=1e-6)


def test_a_number_that_is_drawn_again_until_it_is_small_is_truncated_normal():
    """Its variance: 1 - 2 psi phi(psi) / (2 Phi(psi) - 1)."""
    psi, n = 1.0, 40_000
    tries = np.random.default_rng(0).standard_normal((n, 40, 1))
    drawn = harness.run(TRUNCATION.reference, {"tries": tries, "psi": np.array(psi)}, twice=False)["value"]
    inside = math.erf(psi / math.sqrt(2))
    variance = 1 - 2 * psi * math.exp(-(psi**2) / 2) / math.sqrt(2 * math.pi) / inside
    assert drawn.var() == pytest.approx(variance, abs=5 * 0.27 / math.sqrt(n))  # the sd of a square is 0.27
    assert np.abs(drawn).max() <= psi


def test_a_mixture_drawn_by_the_student_is_noticed():
    """Normal mixing, or uniform: either way the numbers passed in are not the ones used."""

    def normal(real, fake, t, W, v):
        return penalty_by_autograd(real, fake, torch.randn(len(real)), W, v)

    said = result_of(PENALTY, normal, 0)
    assert said.points == 0
    assert "two calls with the same inputs gave different answers" in said.sentence


def test_the_references_are_what_they_claim_to_be():
    for seed in range(5):
        inputs = WASSERSTEIN.draw(seed)["values"]
        ours = WASSERSTEIN.reference(*(torch.tensor(a).double() for a in inputs.values()))
        scipy = [wasserstein_distance(x, y) for x, y in zip(*inputs.values(), strict=True)]
        assert ours.numpy() == pytest.approx(scipy, abs=1e-12)

        inputs = JENSEN_SHANNON.draw(seed)["zeros"]
        p, q = (torch.tensor(a).double() for a in inputs.values())
        ours = JENSEN_SHANNON.reference(p, q)
        scipy = [jensenshannon(a, b) ** 2 for a, b in zip(p.numpy(), q.numpy(), strict=True)]
        assert ours.numpy() == pytest.approx(scipy, abs=1e-7)
        assert ours[-1].item() == pytest.approx(math.log(2), abs=1e-6)  # the disjoint pair; float32 inputs sum to one roughly


def test_the_inputs_tell_mistakes_apart():
    """Slopes below 1, zeros in every row but the first, k outside [0, 1] at both ends."""
    for seed in range(50):
        real, fake, t, W, v = (torch.tensor(a).double() for a in PENALTY.draw(seed)["values"].values())
        y = (t[:, None, None] * real + (1 - t[:, None, None]) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(y, W, v).sum(), y)
        assert (slope.flatten(1).norm(dim=1) < 0.99).any()
        zeros = JENSEN_SHANNON.draw(seed)["zeros"]
        assert all((zeros[name][0] > 0).all() and (zeros[name][1:] == 0).any(1).all() for name in "pq")
        k, real, fake, gamma, step = BALANCE.draw(seed)["at the ends"].values()
        free = k + step * (gamma * real.mean(1) - fake.mean(1))
        assert np.array_equal(free > 1, np.arange(len(k)) % 2 == 0)
        assert np.array_equal(free < 0, np.arange(len(k)) % 2 == 1)


# 15.12: networks; the reference solves the transport itself.


def critic_of(activation, steps=300, weight=1.0, target=1.0, width=64):
    def values(real, fake):
        torch.manual_seed(0)
        layers = torch.nn.Linear(2, width), activation(), torch.nn.Linear(width, width), activation(), torch.nn.Linear(width, 1)
        critic = torch.nn.Sequential(*layers)
        adam = torch.optim.Adam(critic.parameters(), lr=0.01, betas=(0.5, 0.9))
        for _ in range(steps):
            t = torch.rand(len(real), 1)
            y = (t * real + (1 - t) * fake).requires_grad_()
            (slope,) = torch.autograd.grad(critic(y).sum(), y, create_graph=True)
            adam.zero_grad()
            penalty = weight * ((slope.norm(dim=1) - target) ** 2).mean()
            (critic(fake).mean() - critic(real).mean() + penalty).backward()
            adam.step()
        return critic(torch.cat([real, fake]))[:, 0]

    return values


STYLES = {
    "the transport itself": EXPERIMENT.reference,
    "tanh": critic_of(torch.nn.Tanh),
    "SiLU": critic_of(torch.nn.SiLU),
    "GELU": critic_of(torch.nn.GELU),
    "softplus": critic_of(torch.nn.Softplus),
    "leaky ReLU": critic_of(torch.nn.LeakyReLU),
    "ReLU, weight 10": critic_of(torch.nn.ReLU, weight=10.0),
    "tanh, wide": critic_of(torch.nn.Tanh, width=128),
    "tanh, weight 10, to the end": critic_of(torch.nn.Tanh, steps=1500, weight=10.0),
}


@pytest.mark.parametrize("style", STYLES)
def test_an_experiment_by_any_route_has_full_points(style):
    """Measured on 5 draws: 18.4 percent missed at most."""
    assert_trained_to_full_points(EXPERIMENT, STYLES[style], range(2))


@pytest.mark.parametrize("activation", [torch.nn.LeakyReLU, torch.nn.Tanh], ids=["leaky ReLU", "tanh"])
@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_a_penalty_towards_slope_0_has_no_points(activation, weight):
    for seed in range(2):
        assert result(EXPERIMENT, critic_of(activation, weight=weight, target=0.0), seed).points == 0


def test_mistakes_are_told():
    untold = {"distance from the centre"}
    steep, flat = "changes too fast between points", "is flatter than 1 all over"
    grouped = {
        **dict.fromkeys(("no penalty", "classifier", "points out of order"), steep),
        **dict.fromkeys(("slope towards 0", "few steps", "small learning rate"), flat),
        "probabilities": "between 0 and 1",
    }
    for name, function in EXPERIMENT.mistakes.items():
        says = EXPERIMENT.checks[0].measure.says if name in untold else grouped.get(name, EXPERIMENT.says[name])
        for seed in range(2):
            got = result(EXPERIMENT, function, seed)
            assert got.status == "wrong" and got.points < EXPERIMENT.points, name
            assert says in got.sentence, name


def test_no_critic_scores_below_zero_and_only_the_best_one_reaches_it():
    for seed in range(20):
        (inputs,) = EXPERIMENT.draw(seed).values()
        statistic = EXPERIMENT.checks[0].measure.statistic
        best = EXPERIMENT.reference(*(torch.tensor(inputs[name]) for name in EXPERIMENT.arguments)).numpy()
        assert statistic(inputs, best) == pytest.approx(0, abs=2e-5)  # percent; the distance is kept in float32
        assert statistic(inputs, 3 * best + 1) == pytest.approx(0, abs=2e-5), "a slope above 1 is divided out"
        assert statistic(inputs, 0.5 * best) == pytest.approx(50, abs=1e-4), "one below is not made up for"
        assert statistic(inputs, 5 * best) == 100, "nothing kept this one near slope 1"
        rng = np.random.default_rng(seed)
        assert all(statistic(inputs, best + size * rng.standard_normal(len(best))) > 1e-3 for size in (0.01, 0.1, 1.0))
