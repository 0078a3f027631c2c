"""Categorical latents against enumeration: a world of nine states, where every sum can be done."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from gencourse import data
from gencourse.checks import assert_every_parameter_learns, assert_sampler_matches, every_example
from gencourse.space import Space
from gencourse.train import fit
from gencourse.variational import categorical
from gencourse.variational.categorical import (
    CategoricalVAE,
    GumbelSoftmax,
    ScoreFunction,
    StraightThrough,
    annealed,
    exact_elbo,
    exact_log_prob,
    gumbel,
)

SPACE = Space((1, 1, 4), 2)
IMAGES = every_example(SPACE)  # sixteen of them
STATES = torch.tensor(list(itertools.product(range(3), repeat=2)))  # (9, 2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(space=SPACE, **options):
    torch.manual_seed(1)
    model = CategoricalVAE(space, variables=2, states=3, hidden=(8,), **options).double()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.5 * torch.randn_like(p)
    return model


@torch.no_grad()
def enumerated(model, x):
    """log p(x, z) and log q(z | x), (9, B), a state at a time."""
    q = model.encode(x)
    log_joint = torch.stack([model.decode(z.expand(len(x), 2)).log_prob(x.double()) for z in STATES]) - 2 * math.log(3)
    return log_joint, torch.stack([q.log_prob(z.expand(len(x), 2)) for z in STATES])


@pytest.mark.parametrize("space", [SPACE, Space((1, 1, 2), 5)], ids=str)
def test_log_prob_and_bound_are_the_sums_over_the_states(space):
    model, x = model_of(space), every_example(space)
    log_joint, log_q = enumerated(model, x)
    assert torch.equal(model.all_states(), STATES)
    assert torch.allclose(model.log_prob(x), torch.logsumexp(log_joint, 0), rtol=0, atol=1e-10)
    assert float(model.log_prob(x).exp().sum().detach()) == pytest.approx(1, abs=1e-10)
    assert torch.allclose(model.exact_elbo(x), (log_q.exp() * (log_joint - log_q)).sum(0), rtol=0, atol=1e-10)
    gap = (log_q.exp() * (log_q - torch.log_softmax(log_joint, 0))).sum(0)  # KL(q || posterior)
    assert torch.allclose(model.log_prob(x) - model.exact_elbo(x), gap, rtol=0, atol=1e-10)
    assert torch.equal(model.log_prob_estimate(x, samples=1), model.log_prob(x))


def test_the_drawn_bound_is_the_exact_one_on_average():
    model = model_of()
    with torch.no_grad():
        draws = torch.stack([model.elbo(IMAGES, samples=20, generator=seeded(s)) for s in range(100)])
    error = draws.std(0) / 10
    assert ((draws.mean(0) - model.exact_elbo(IMAGES)).abs() < 4.5 * error).all()


def test_with_too_many_states_importance_weights_stand_in(monkeypatch):
    model = model_of()
    exact = model.log_prob(IMAGES).detach()
    monkeypatch.setattr(categorical, "MAX_STATES", 8)
    with pytest.raises(ValueError, match=r"3\^2 states of z are too many"):
        model.log_prob(IMAGES)
    with pytest.raises(ValueError, match="too many"):
        model_of(estimator=exact_elbo)
    ratio = (model.log_prob_estimate(IMAGES.repeat(300, 1, 1, 1), samples=10, generator=seeded()).view(300, 16) - exact).exp()
    assert ((ratio.mean(0) - 1).abs() < 4.5 * ratio.std(0) / math.sqrt(300)).all()
    assert float(ratio.std(0).max()) > 0.01  # it was drawn


def test_samples_follow_the_model():
    model = model_of()
    assert_sampler_matches(model.sample(20_000, generator=seeded()), model.log_prob(IMAGES), SPACE, significance=1e-3)


def test_the_largest_of_logits_and_gumbel_noise_is_a_draw():
    log_pi = torch.log_softmax(torch.tensor([1.0, -0.5, 0.3, -2.0], dtype=torch.float64), 0)
    draws = (log_pi + gumbel(torch.empty(100_000, 4, dtype=torch.float64), seeded())).argmax(1)
    frequency, pi = torch.bincount(draws, minlength=4) / 100_000, log_pi.exp()
    assert ((frequency - pi).abs() < 4.5 * torch.sqrt(pi * (1 - pi) / 100_000)).all()


@pytest.mark.parametrize("estimator", [exact_log_prob, exact_elbo, GumbelSoftmax, StraightThrough, ScoreFunction])
def test_every_parameter_learns(estimator):
    model = model_of(estimator=estimator).train()
    if estimator is exact_log_prob:  # the likelihood knows no encoder
        with pytest.raises(AssertionError, match="no move changes encoder"):
            assert_every_parameter_learns(model, IMAGES)
    else:
        assert_every_parameter_learns(model, IMAGES)


# --- gradients against enumeration ------------------------------------------------------------------------------------


def gradients(model, estimator, n, repeats, x=IMAGES[5:6]):
    """The gradient of the loss with respect to the encoder's last bias: `repeats` means of n draws, (repeats, 6)."""
    many = x.expand(n, *SPACE.shape)
    found = []
    for s in range(repeats):
        loss = estimator(model.train(), many, seeded(s)).mean()
        found.append(torch.autograd.grad(loss, model.encoder[-1].bias)[0])
    return torch.stack(found)


def truth(model, x=IMAGES[5:6]):
    return torch.autograd.grad(-model.exact_elbo(x).sum(), model.encoder[-1].bias)[0]


def standard_errors_off(found, exact):
    """The distance of the mean from the truth, in standard errors: the largest over the coordinates."""
    return float(((found.mean(0) - exact).abs() / (found.std(0) / math.sqrt(len(found)))).max())


@pytest.mark.parametrize("decay", [None, 0.9])
def test_the_score_function_is_unbiased_and_its_spread_is_the_enumerated_one(decay):
    model = model_of()
    exact = truth(model)
    estimator = ScoreFunction(decay=decay).double()
    if decay:
        estimator.baseline.fill_(-3.0)
        estimator.step.fill_(1)
        estimator.decay = 1.0  # the average stands still, so that its draws stay independent
    found = gradients(model, estimator, 200, 100)
    assert standard_errors_off(found, exact) < 4.5
    # the variance of one draw, a sum over the nine states
    x = IMAGES[5:6]
    log_joint, log_q = enumerated(model, x)
    q, gain = log_q[:, 0].exp(), log_joint[:, 0] + 2 * math.log(3) - float(estimator.baseline)
    log_pi = model.log_pi(x)[0]
    score = torch.stack([(F.one_hot(z, 3) - log_pi.exp()).flatten() for z in STATES])  # (9, 6)
    mean = (q[:, None] * gain[:, None] * score).sum(0)
    sd = torch.sqrt((q[:, None] * (gain[:, None] * score - mean) ** 2).sum(0))
    assert torch.allclose(found.std(0) * math.sqrt(200), sd.detach(), rtol=0.4)  # 100 means: to 7 % each, of six


def test_a_baseline_lowers_the_noise():
    model = model_of()
    without, with_it = ScoreFunction(decay=None).double(), ScoreFunction().double()
    with_it.decay = 1.0  # the average stands still
    with_it.baseline.fill_(float((enumerated(model, IMAGES[5:6])[0] + 2 * math.log(3)).mean()))
    with_it.step.fill_(1)
    noise = [float(gradients(model, e, 100, 60).std(0).norm()) for e in (without, with_it)]
    assert noise[1] < 0.7 * noise[0]


def test_the_baseline_is_the_moving_average_of_what_came_before():
    model, estimator = model_of().train(), ScoreFunction(decay=0.75).double()
    seen = []
    for s in range(3):
        before = float(estimator.baseline)
        loss = estimator(model, IMAGES, seeded(s))
        now = float((model.kl(model.log_pi(IMAGES)) - loss).detach().mean())  # log p(x | z), since the gain's term is 0
        seen.append((before, now, float(estimator.baseline)))
    assert seen[0][0] == 0 and seen[0][2] == pytest.approx(seen[0][1])
    for before, now, after in seen[1:]:
        assert after == pytest.approx(0.75 * before + 0.25 * now)


def test_relaxed_and_straight_through_gradients_are_biased_and_the_bias_falls_with_the_temperature():
    model = model_of()
    exact = truth(model)
    hot, cold = (gradients(model, GumbelSoftmax(temperature=t), 1000, 40) for t in (5.0, 0.2))
    assert standard_errors_off(hot, exact) > 10
    assert (hot.mean(0) - exact).norm() > 2 * (cold.mean(0) - exact).norm()
    assert cold.std(0).norm() > 2 * hot.std(0).norm()  # and what is gained is paid for
    assert standard_errors_off(gradients(model, StraightThrough(temperature=1.0), 1000, 40), exact) > 10


def test_straight_through_looks_at_one_hot_vectors_and_relaxed_draws_lie_inside():
    log_pi = model_of().log_pi(IMAGES)
    hard = StraightThrough().draw(log_pi, 0.7, seeded(2))
    soft = GumbelSoftmax().draw(log_pi, 0.7, seeded(2))
    assert torch.allclose(hard.max(-1).values, torch.ones(16, 2, dtype=torch.float64))
    assert torch.equal(hard.argmax(-1), soft.argmax(-1))
    assert torch.allclose(soft.sum(-1), torch.ones(16, 2, dtype=torch.float64)) and float(soft.detach().max()) < 1
    for sharp in (1e-3, 1e3):  # a cold draw is one-hot, a hot one uniform
        z = GumbelSoftmax().draw(log_pi, sharp, seeded(2))
        assert float(z.max(-1).values.median()) == pytest.approx(1 if sharp < 1 else 1 / 3, abs=1e-2)


def test_the_temperature_falls_with_the_steps_of_training_alone():
    assert [annealed(i, steps=100, rate=2.0, least=0.2) for i in (0, 50, 100)] == [1.0, math.exp(-1), 0.2]
    model, estimator = model_of(), GumbelSoftmax()
    for _ in range(3):
        estimator(model.train(), IMAGES)
    value = estimator(model.eval(), IMAGES)
    assert int(estimator.step) == 3
    assert torch.allclose(value, -model.exact_elbo(IMAGES))  # validation looks at the model, not at its relaxation


@pytest.mark.parametrize("estimator", [GumbelSoftmax, ScoreFunction])
def test_a_run_that_is_resumed_goes_on_with_its_temperature_and_baseline(tmp_path, estimator):
    bars = data.load("bars_and_stripes")

    def made():
        torch.manual_seed(0)
        return CategoricalVAE(bars.space, variables=2, states=3, hidden=(8,), estimator=estimator)

    class Stop(Exception):
        pass

    def fail(step, model):
        if step == 7:
            raise Stop

    settings = {"steps": 12, "batch_size": 7, "device": "cpu", "progress": False, "checkpoint_every": 2}
    with pytest.raises(Stop):
        fit(made(), bars.train, out=tmp_path, callback=fail, **settings)
    resumed, whole = made(), made()
    fit(resumed, bars.train, out=tmp_path, resume=True, **settings)
    fit(whole, bars.train, **settings)
    for (name, a), b in zip(resumed.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert int(resumed.estimator.step) == 12


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: CategoricalVAE(SPACE, states=1), ValueError, "states must be 2 or more"),
        (lambda: CategoricalVAE(SPACE, variables=0), ValueError, "variables"),
        (lambda: CategoricalVAE(SPACE, variables=20, states=10), ValueError, "10^20 states of z are too many to sum over"),
        (lambda: CategoricalVAE(SPACE, estimator="gumbel"), TypeError, "estimator must be a function"),
        (lambda: GumbelSoftmax(temperature=0), ValueError, "temperature must be a positive number"),
        (lambda: ScoreFunction(decay=1.5), ValueError, "decay"),
        (lambda: model_of().log_prob(IMAGES[:, 0]), ValueError, "(16, 1, 4)"),
    ],
)
def test_what_does_not_fit_is_named_in_one_sentence(call, error, says):
    with pytest.raises(error) as caught:
        call()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
