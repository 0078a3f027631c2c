"""Exercise 13: right answers by any route are right, a mistake costs what it should, and references are what they claim."""

import math

import numpy as np
import pytest
import torch
from experiment_tests import (
    assert_mistakes_are_told,
    assert_told,
    assert_trained_to_full_points,
)
from experiment_tests import result as experiment_result
from question_tests import (
    assert_full_points,
    assert_keeps,
    ids,
    result,
)
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

from gencourse.adversarial import losses
from gencourse.adversarial.gan import GAN
from gencourse.grading.questions.q13_gan import D_LOSS, EXPERIMENT, G_LOSSES, GRADIENTS, QUESTIONS, ROUND, VALUE
from gencourse.space import Space
from gencourse.train import fit

# Right answers by other routes than the reference's.


def d_loss_softplus(real, fake):
    return softplus(-real) + softplus(fake)


def d_loss_labels(real, fake):
    one, zero = torch.ones_like(real), torch.zeros_like(fake)
    return binary_cross_entropy_with_logits(real, one, reduction="none") + binary_cross_entropy_with_logits(
        fake, zero, reduction="none"
    )


def d_loss_loop(real, fake):
    return [torch.log1p(torch.exp(-a.double())) + torch.log1p(torch.exp(b.double())) for a, b in zip(real, fake, strict=True)]


def d_loss_logsumexp(real, fake):
    zero = torch.zeros_like(real)
    return torch.stack([zero, -real]).logsumexp(0) + torch.stack([zero, fake]).logsumexp(0)


def g_losses_softplus(fake):
    return torch.stack((-softplus(fake), softplus(-fake)))


def g_losses_labels(fake):
    def cross_entropy(label):
        return binary_cross_entropy_with_logits(fake, torch.full_like(fake, label), reduction="none")

    return [-cross_entropy(0.0), cross_entropy(1.0)]


def g_losses_difference(fake):
    """The two differ by the logit: log(1 - D) = log D - logit."""
    log_d = logsigmoid(fake)
    return torch.stack([log_d - fake, -log_d])


def g_losses_loop(fake):
    return torch.stack([torch.stack([logsigmoid(-a) for a in fake]), torch.stack([-logsigmoid(a) for a in fake])])


def gradients_autograd(x, w, c):
    x = x.clone().requires_grad_()
    return torch.stack([torch.autograd.grad(g_losses_softplus(x @ w + c)[row].sum(), x)[0] for row in (0, 1)])


def gradients_loop(x, w, c):
    rows = [[], []]
    for sample in x:
        logit = (sample * w).sum() + c
        rows[0].append(-w / (1 + torch.exp(-logit)))
        rows[1].append(-w / (1 + torch.exp(logit)))
    return torch.stack([torch.stack(rows[0]), torch.stack(rows[1])])


def gradients_double(x, w, c):
    logit = torch.einsum("bd,d->b", x.double(), w.double()) + c.double()
    D = torch.sigmoid(logit)
    return torch.stack([-torch.outer(D, w.double()), -torch.outer(1 - D, w.double())])


def value_divergence(p, q):
    m = (p + q) / 2

    def kl(a):
        return torch.where(a > 0, a * (a / m).log(), 0.0).sum(1)

    return kl(p) + kl(q) - 2 * math.log(2)


def value_at_the_best(p, q):
    D = torch.where(p + q > 0, p / (p + q), 0.5)
    return (torch.xlogy(p, D) + torch.xlogy(q, 1 - D)).sum(1)


def value_loop(p, q):
    values = []
    for a, b in zip(p.tolist(), q.tolist(), strict=True):
        parts = [u * math.log(u / (u + v)) for u, v in zip(a, b, strict=True) if u > 0]
        parts += [v * math.log(v / (u + v)) for u, v in zip(a, b, strict=True) if v > 0]
        values.append(sum(parts))
    return torch.tensor(values)


def value_padded(p, q):
    """A pad that is small enough is no mistake here: values are compared, and no gradient."""
    tiny = torch.finfo(p.dtype).tiny
    return (p * ((p + tiny) / (p + q + tiny)).log() + q * ((q + tiny) / (p + q + tiny)).log()).sum(1)


def round_backward(x, z_d, z_g, A, b, w, c, lr):
    """As a training loop is written: two optimisers, backward, zero_grad."""
    A, b, w, c = (torch.nn.Parameter(v) for v in (A, b, w, c))
    opt_g, opt_d = torch.optim.SGD([A, b], lr=float(lr)), torch.optim.SGD([w, c], lr=float(lr))
    for real, z in zip(x, z_d, strict=True):
        fake = (z @ A.T + b).detach()
        loss = -logsigmoid(real @ w + c).mean() - logsigmoid(-(fake @ w + c)).mean()
        opt_d.zero_grad()
        loss.backward()
        opt_d.step()
    opt_g.zero_grad()
    (-logsigmoid((z_g @ A.T + b) @ w + c)).mean().backward()
    opt_g.step()
    return torch.cat([A.flatten(), b, w, c.reshape(1)])


def round_by_hand(x, z_d, z_g, A, b, w, c, lr):
    """Without autograd: the derivatives of both losses with respect to the logit are sigmoids."""
    for j in range(len(x)):
        fake = z_d[j] @ A.T + b
        on_real, on_fake = -torch.sigmoid(-(x[j] @ w + c)), torch.sigmoid(fake @ w + c)
        B = len(fake)
        w, c = w - lr * (on_real @ x[j] + on_fake @ fake) / B, c - lr * (on_real.mean() + on_fake.mean())
    slope = -torch.sigmoid(-((z_g @ A.T + b) @ w + c))
    to_samples = slope[:, None] * w / len(z_g)
    return torch.cat([(A - lr * to_samples.T @ z_g).flatten(), b - lr * to_samples.sum(0), w, c[None]])


def round_library(x, z_d, z_g, A, b, w, c, lr):
    """The course's own GAN, with these players and this noise, trained by `fit` for a step."""

    class Players(GAN):
        def draw_latent(self, n, *, generator=None):
            return next(noise)

        def centred(self, y):
            return next(batches)

        def g_loss(self, y, context=None):
            return self.loss.g_loss(self.discriminator(self.generator(self.draw_latent(len(y)), None), None))

    class Linear(torch.nn.Module):
        def __init__(self, weight, bias):
            super().__init__()
            self.weight, self.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)

        def forward(self, y, condition=None):
            return torch.tensordot(y, self.weight, dims=([-1], [-1])) + self.bias

    noise, batches = iter([*z_d, z_g]), iter(x)
    model = Players(
        Space((x.shape[2],)),
        latent=A.shape[1],
        generator=Linear(A, b),
        discriminator=Linear(w, c),
        loss=losses.non_saturating,
        d_steps=len(x),
    )
    moves = model.moves()
    for move in moves:
        move.optimizer = torch.optim.SGD
    model.moves = lambda: moves
    fit(model, x[0], steps=1, batch_size=x.shape[1], lr=float(lr), device="cpu", progress=False)
    return torch.cat([v.detach().flatten() for v in (*model.generator.parameters(), *model.discriminator.parameters())])


@pytest.mark.parametrize(
    ("question", "function", "seeds"),
    [
        *[(D_LOSS, function, 20) for function in (d_loss_softplus, d_loss_labels, d_loss_loop, d_loss_logsumexp)],
        *[(G_LOSSES, function, 20) for function in (g_losses_softplus, g_losses_labels, g_losses_difference, g_losses_loop)],
        *[(GRADIENTS, function, 20) for function in (gradients_autograd, gradients_loop, gradients_double)],
        *[(VALUE, function, 20) for function in (value_divergence, value_at_the_best, value_loop, value_padded)],
        *[(ROUND, function, 20) for function in (round_backward, round_by_hand)],
        (ROUND, round_library, 5),
    ],
    **ids,
)
def test_right_answers_by_other_routes_have_full_points(question, function, seeds):
    assert_full_points(question, function, seeds)


def test_a_formula_that_fails_in_the_extreme_keeps_the_points_for_the_rest():
    for question, name, points in (
        (D_LOSS, "padded logarithms", 1),
        (D_LOSS, "logarithm of zero", 1),
        (D_LOSS, "cut logarithms", 1),
        (D_LOSS, "no gradient", 2),
        (G_LOSSES, "padded logarithms", 1),
        (GRADIENTS, "rounded to zero", 2),
        (VALUE, "zero times the logarithm of zero", 2),
        (VALUE, "zero over zero", 2),
        (ROUND, "same batch again", 2),
        (ROUND, "one update only", 2),
    ):
        assert_keeps(question, name, points)


@pytest.mark.parametrize("question", QUESTIONS[:-1], **ids)
@pytest.mark.parametrize("constant", [0.0, -math.log(4), math.nan])
def test_constants_earn_nothing(question, constant):
    def answer(*inputs):
        return question.reference(*inputs) * 0 + constant

    assert result(question, answer, 0).points == 0


def test_the_references_are_what_they_claim_to_be():
    """The value of 13.4 is the largest over all discriminators, found by climbing, and -log 4 where p = q."""
    rng = np.random.default_rng(0)
    p, q = (torch.tensor(rng.dirichlet(np.ones(5), 3)) for _ in range(2))
    logits = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    climber = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe")

    def loss():
        climber.zero_grad()
        total = -(p * logsigmoid(logits) + q * logsigmoid(-logits)).sum()
        total.backward()
        return total

    climber.step(loss)
    reached = (p * logsigmoid(logits) + q * logsigmoid(-logits)).sum(1)
    assert torch.allclose(VALUE.reference(p, q), reached.detach(), atol=1e-10)
    assert torch.allclose(VALUE.reference(p, p), torch.tensor(-math.log(4), dtype=torch.float64), atol=1e-12)


def test_the_learning_rate_matters():
    def usual(*inputs):
        return ROUND.reference(*inputs[:-1], 0 * inputs[-1] + 0.5)

    assert all(result(ROUND, usual, seed).points == 0 for seed in range(20))


def test_the_sure_discriminator_is_sure():
    for question, name in ((D_LOSS, "fake"), (G_LOSSES, "fake")):
        logits = torch.tensor(question.draw(0)["a sure discriminator"][name])
        assert (logits.sigmoid() == 1).any()
        assert (logits < -25).any()


# 13.6: the game itself; the reference goes straight to its end.


def generator_by_playing(rounds, quadratic=1.0, rest=True):
    def fit(x):
        torch.manual_seed(0)
        A, b, Q, w, c = (
            torch.nn.Parameter(v) for v in (torch.eye(2), torch.zeros(2), torch.zeros(2, 2), torch.zeros(2), torch.zeros(()))
        )
        players = torch.optim.Adam([A, b], betas=(0.5, 0.9)), torch.optim.Adam([Q, w, c], betas=(0.5, 0.9))
        mean = 0
        for j in range(rounds):
            for player in players:
                player.param_groups[0]["lr"] = 0.02 * (1 - j / rounds) if rest else 0.02
            real, fake = x[torch.randint(len(x), (1000,))], torch.randn(1000, 2) @ A.T + b
            for player, samples in zip(reversed(players), (fake.detach(), fake), strict=True):
                on_real, on_fake = (quadratic * ((y @ Q) * y).sum(1) + y @ w + c for y in (real, samples))
                player.zero_grad()
                (softplus(-on_fake) if player is players[0] else softplus(-on_real) + softplus(on_fake)).mean().backward()
                player.step()
            mean = mean + (j >= rounds // 2) * torch.cat([A, b[:, None]], dim=1).detach() * 2 / rounds
        return mean if rest else torch.cat([A, b[:, None]], dim=1).detach()

    return fit


generator_by_the_game = generator_by_playing(2000)


def generator_by_the_root(x):
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    return torch.cat([vectors * values.sqrt(), x.mean(0)[:, None]], dim=1)


@pytest.mark.parametrize("fit", [EXPERIMENT.reference, generator_by_the_game, generator_by_the_root], **ids)
def test_an_experiment_by_any_route_has_full_points(fit):
    assert_trained_to_full_points(EXPERIMENT, fit, range(3))


def side_by_side(A, b):
    return torch.cat([A, b[:, None]], dim=1)


def test_a_mistake_of_training_is_named_where_its_numbers_show_it():
    assert_mistakes_are_told(EXPERIMENT, range(3), untold=("few rounds",))
    assert_told(EXPERIMENT, generator_by_playing(1000, quadratic=0.0), "linear discriminator", range(2))
    for rest in (False, True):  # the discriminator has its squares
        assert_told(EXPERIMENT, generator_by_playing(100, rest=rest), None, range(3))

    def eigenvectors(x):
        values, vectors = torch.linalg.eigh(torch.cov(x.T))
        return side_by_side(vectors * values, x.mean(0))

    assert_told(EXPERIMENT, eigenvectors, "covariance for A", range(20))
    assert_told(EXPERIMENT, lambda x: side_by_side(torch.cov(x.T), x.mean(0)).roll(1, 1), "bias first", range(20))
    assert_told(EXPERIMENT, lambda x: side_by_side(x.std(0).diag(), x.mean(0)), "independent dimensions", range(20))
    assert_told(EXPERIMENT, lambda x: torch.full((2, 3), 1e30), None, range(3))
    assert_told(EXPERIMENT, lambda x: torch.full((2, 3), 1e200, dtype=torch.float64), None, range(3))


def test_nobody_who_plays_no_game_is_told_of_players():
    """What is said where no mistake has its name begins with the discriminator: not to an answer that shows another mistake."""
    general = EXPERIMENT.checks[0].measure.says
    for name, function in EXPERIMENT.mistakes.items():
        if name not in ("linear discriminator", "few rounds", "small learning rate"):
            for seed in range(40):
                assert general not in experiment_result(EXPERIMENT, function, seed).sentence, name


def test_the_frechet_distance_is_zero_for_the_same_gaussian_and_known_along_an_axis():
    (inputs,) = EXPERIMENT.draw(0).values()
    statistic, true = EXPERIMENT.checks[0].measure.statistic, inputs["_generator"].astype(float)
    turn = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])
    assert statistic(inputs, true @ turn) == pytest.approx(0, abs=1e-6)  # the root of a rounding error of 1e-14 or so
    assert statistic(inputs, true + np.array([[0, 0, 3.0], [0, 0, 4.0]])) == pytest.approx(5, abs=1e-9)
    assert statistic(inputs, true * [2, 2, 1]) == pytest.approx(np.linalg.norm(true[:, :2]), abs=1e-9)  # optimal: x -> 2 x
