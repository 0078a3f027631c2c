"""`fit` against what can be worked out by hand: updates, batches, rates, averages, endings."""

import ast
import json
import math
import os
import signal
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_models import Duel, Pixels, Walker, weights

import gencourse
from gencourse import checkpoint, data
from gencourse.data import Dataset, binarize
from gencourse.kinds import Tractable
from gencourse.space import Space
from gencourse.train import Move, adam, constant, cosine, fit
from gencourse.variational.vae import VAE

QUIET = {"device": "cpu", "progress": False}
SGD = torch.optim.SGD
NUMBERS = torch.arange(80).unsqueeze(1)  # example i is the number i; batches of 8 make gradients of exactly 1


def small_vae(seed=0):
    torch.manual_seed(seed)
    return VAE(Space((1, 3, 3), 2), latent=2, hidden=(16,))


BARS = data.load("bars_and_stripes").train


# --- moves -----------------------------------------------------------------------------------------------------------


def test_each_move_is_played_its_number_of_times_on_fresh_batches():
    class Two(Walker):
        def __init__(self):
            super().__init__()
            self.other = torch.nn.Parameter(torch.zeros(()))

        def moves(self):
            def one(x, context):
                self.seen.append(x.flatten().clone())
                return (self.weight + self.other).expand(len(x))

            return [Move("d", one, [self.weight], times=2), Move("g", one, [self.other], lr=10.0)]

    model = Two()
    history = fit(model, NUMBERS, steps=5, batch_size=8, lr=1.0, optimizer=SGD, **QUIET)
    assert model.weight.item() == -10  # two updates a step, each of size lr = 1
    assert model.other.item() == -50  # one update a step, with the move's own lr
    assert len(model.seen) == 15
    for first in (0, 10):  # ten batches are an epoch of 80: no move reuses another's batch
        part = torch.cat(model.seen[first : first + 10])
        assert len(part.unique()) == len(part)
    # d sees -(2t) and -(2t + 1) plus g's -10 t; g sees -(2t + 2) - 10 t
    assert history.losses["d"] == [-12.0 * t - 0.5 for t in range(5)]
    assert history.losses["g"] == [-12.0 * t - 2 for t in range(5)]


def test_a_move_changes_nothing_but_its_own_parameters():
    model = Duel()
    log = []

    class Watched(SGD):
        def step(self, closure=None):
            mine = {id(p) for group in self.param_groups for p in group["params"]}
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            foreign = [p.grad for p in model.parameters() if id(p) not in mine]
            super().step()
            changed = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
            log.append((changed, all(g is None for g in foreign)))

    fit(model, torch.randn(60, 2), steps=3, batch_size=20, lr=0.1, optimizer=Watched, **QUIET)
    assert log == [({"discriminator"}, True), ({"discriminator"}, True), ({"generator"}, True)] * 3
    assert all(p.grad is None for p in model.parameters())


def test_after_is_called_after_each_update():
    class Clipped(Walker):
        def moves(self):
            def clip():
                with torch.no_grad():
                    self.weight.clamp_(min=-0.25)

            return [Move("nll", super().moves()[0].loss, self.parameters(), times=3, after=clip)]

    model = Clipped()
    fit(model, NUMBERS, steps=2, batch_size=8, lr=1.0, optimizer=SGD, **QUIET)
    assert model.weight.item() == -0.25


def test_a_gan_in_miniature_learns_where_the_data_are():
    torch.manual_seed(0)
    model, x = Duel(), torch.randn(500, 2) * 0.3 + torch.tensor([1.0, -2.0])
    fit(model, x, steps=400, batch_size=50, lr=2e-2, ema=0.99, **QUIET)
    assert (model.sample(1000).mean(0) - x.mean(0)).abs().max() < 0.4


def test_one_move_is_the_loop_that_everybody_has_written():
    """Adam on the same batches with the same noise, written out."""
    model, plain, batches = small_vae(), small_vae(), []

    class Noted(VAE):
        def moves(self):
            (move,) = super().moves()

            def loss(x, context):
                batches.append((x.clone(), torch.get_rng_state()))
                return move.loss(x, context)

            return [Move(move.name, loss, self.parameters())]

    model.__class__ = Noted
    history = fit(model, BARS, steps=12, batch_size=7, **QUIET)
    optimizer, losses = torch.optim.Adam(plain.parameters(), lr=1e-3), []
    for x, noise in batches:
        torch.set_rng_state(noise)
        loss = plain.moves()[0].loss(x, None).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert history.losses["-elbo"] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(weights(model), weights(plain), rtol=0, atol=1e-5)


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [8, 30, 80])
def test_every_epoch_takes_each_example_at_most_once_in_a_new_order(batch_size):
    model, per_epoch = Walker(), 80 // batch_size
    fit(model, NUMBERS, steps=3 * per_epoch, batch_size=batch_size, **QUIET)
    epochs = [torch.cat(model.seen[i * per_epoch : (i + 1) * per_epoch]) for i in range(3)]
    for epoch in epochs:
        assert len(epoch) == per_epoch * batch_size
        assert len(epoch.unique()) == len(epoch)
    assert not torch.equal(epochs[0], epochs[1])
    if batch_size == 8:
        assert torch.equal(epochs[0].sort().values, NUMBERS.flatten())


def test_micro_batches_are_the_same_examples_and_the_same_updates():
    runs = {}
    for pieces in (1, 2, 5):
        torch.manual_seed(0)
        model = Pixels(Space((1,), 100)).double()
        history = fit(model, NUMBERS, steps=20, batch_size=20, lr=0.1, micro_batches=pieces, clip=0.01, **QUIET)
        runs[pieces] = weights(model), torch.tensor(history.losses["nll"])
    for pieces in (2, 5):
        assert torch.allclose(runs[pieces][0], runs[1][0], rtol=0, atol=1e-12)
        assert torch.allclose(runs[pieces][1], runs[1][1], rtol=0, atol=1e-6)


def test_each_micro_batch_has_random_numbers_of_its_own():
    class Noisy(Walker):
        def log_prob(self, x, context=None):
            self.seen.append(torch.rand(3))
            return -self.weight.expand(len(x))

    model = Noisy()
    fit(model, NUMBERS, steps=3, batch_size=20, micro_batches=5, **QUIET)
    drawn = torch.stack(model.seen)
    assert len(drawn) == 15
    assert len(drawn.unique(dim=0)) == 15


def test_labels_reach_the_model_beside_their_examples():
    def labels_of(x):
        return x.flatten() * 7 % 10

    class Conditional(Walker):
        def log_prob(self, x, context=None):
            assert context is not None
            assert torch.equal(context, labels_of(x))
            return super().log_prob(x)

    parts = NUMBERS.split([40, 20, 20])
    dataset = Dataset("numbers", Space((1,), 100), *parts, *map(labels_of, parts))
    history = fit(Conditional(), dataset, steps=12, batch_size=10, conditional=True, **QUIET)
    assert history.steps == 12
    assert len(history.valid) == 12
    pair = fit(
        Conditional(), (parts[0], labels_of(parts[0])), steps=3, batch_size=10, valid=(parts[1], labels_of(parts[1])), **QUIET
    )
    assert len(pair.valid) == 3
    with pytest.raises(AssertionError):
        fit(Conditional(), dataset, steps=1, batch_size=10, conditional=False, **QUIET)


def test_dynamic_binarisation_draws_anew_and_with_the_right_probability():
    class Watcher(Pixels):
        def __init__(self):
            super().__init__(Space((1,), 2))
            self.seen = []

        def log_prob(self, x, context=None):
            self.seen.append(x.flatten().clone())
            return super().log_prob(x)

    grey = torch.full((200, 1), 51, dtype=torch.uint8)  # P(1) = 1/5
    model = Watcher()
    fit(model, grey, steps=100, batch_size=200, augment=binarize, **QUIET)
    drawn = torch.stack(model.seen).double()  # (100, 200)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert abs(float(drawn.mean()) - 0.2) < 4 * math.sqrt(0.16 / drawn.numel())
    assert len(drawn.unique(dim=0)) == 100


def test_a_data_set_s_own_augmentation_is_used():
    white, ones = torch.full((20, 1), 255, dtype=torch.uint8), torch.ones(5, 1, dtype=torch.uint8)
    dataset = Dataset("white", Space((1,), 2), white, ones, ones, augment=binarize)
    model = Pixels(Space((1,), 2))
    fit(model, dataset, steps=200, batch_size=20, lr=0.1, **QUIET)
    assert model.log_prob(ones[:1]).item() > -0.01


@pytest.mark.parametrize("resident", [True, False])
def test_where_the_data_wait_changes_nothing(resident):
    model = small_vae()
    fit(model, BARS, steps=20, batch_size=7, resident=resident, **QUIET)
    other = small_vae()
    fit(other, BARS, steps=20, batch_size=7, **QUIET)
    assert torch.equal(weights(model), weights(other))


# --- rates, clipping, averages ---------------------------------------------------------------------------------------


def test_the_schedule_multiplies_the_rate():
    model = Walker()
    fit(model, NUMBERS, steps=10, batch_size=8, lr=2.0, schedule=lambda p: 1 - p, optimizer=SGD, **QUIET)
    assert model.weight.item() == pytest.approx(-2 * sum(1 - t / 10 for t in range(10)), rel=1e-6)


def test_cosine_warms_up_and_falls_to_zero():
    assert cosine(0.0) < 0.05
    assert cosine(0.02) == pytest.approx(1)
    assert cosine(0.51) == pytest.approx(0.5)
    assert cosine(1.0) == pytest.approx(0, abs=1e-12)
    assert max(abs(cosine((i + 1) / 10_000) - cosine(i / 10_000)) for i in range(10_000)) < 0.006  # continuous
    assert [constant(p) for p in (0, 0.5, 1)] == [1, 1, 1]


@pytest.mark.parametrize(("clip", "move"), [(1.0, (0.6, 0.8)), (2.5, (1.5, 2.0)), (None, (3.0, 4.0)), (100.0, (3.0, 4.0))])
def test_clipping_shortens_the_gradient_and_keeps_its_direction(clip, move):
    class Slope(Walker):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2))

        def log_prob(self, x, context=None):
            return -(self.weight @ torch.tensor([3.0, 4.0])).expand(len(x))

    model = Slope()
    fit(model, NUMBERS, steps=1, batch_size=8, lr=1.0, clip=clip, optimizer=SGD, **QUIET)
    assert model.weight.tolist() == pytest.approx([-m for m in move], rel=1e-5)


def test_the_average_is_the_recursion_written_out():
    model = Walker()
    fit(model, NUMBERS, steps=200, batch_size=8, lr=1.0, ema=0.9, optimizer=SGD, **QUIET)
    average = 0.0
    for t in range(1, 201):  # after step t the weight is -t
        decay = min(0.9, t / (t + 9))
        average = decay * average + (1 - decay) * -t
    assert model.weight.item() == pytest.approx(average, rel=1e-5)
    assert -200 + 9 - 1e-2 < model.weight.item() < -190  # a decay of 0.9 lags 9 steps behind a ramp


class Settling(Walker):
    """Notes with which weight, and with which random numbers, it was asked to settle."""

    def __init__(self):
        super().__init__()
        self.settled = []

    def settle(self):
        self.settled.append((self.weight.item(), torch.rand(2).tolist()))


def test_an_averaged_model_settles_once_on_its_averaged_weights():
    model, plain = Settling(), Settling()
    fit(model, NUMBERS, steps=20, batch_size=8, lr=1.0, ema=0.9, optimizer=SGD, **QUIET)
    assert [weight for weight, _ in model.settled] == [model.weight.item()]
    assert -20 < model.weight.item() < -11  # the average, not the last weight
    fit(plain, NUMBERS, steps=20, batch_size=8, lr=1.0, optimizer=SGD, **QUIET)
    assert plain.settled == []  # nothing was averaged


def test_settling_draws_what_the_seed_says_whatever_was_drawn_before():
    drawn = {}
    for name, steps, seed in (("a", 5, 0), ("longer", 9, 0), ("other", 5, 1)):
        model = Settling()
        fit(model, NUMBERS, steps=steps, batch_size=8, ema=0.9, seed=seed, **QUIET)
        drawn[name] = model.settled[0][1]
    assert drawn["a"] == drawn["longer"]
    assert drawn["a"] != drawn["other"]


# --- validation ------------------------------------------------------------------------------------------------------


def test_the_best_weights_are_kept():
    model = Walker(best=5)
    history = fit(model, NUMBERS, steps=12, batch_size=8, lr=1.0, optimizer=SGD, valid=NUMBERS, validate_every=1, **QUIET)
    assert history.valid == [(t, float((5 - t) ** 2)) for t in range(1, 13)]
    assert history.best_step == 5
    assert model.weight.item() == -5


def test_the_last_weights_are_kept_if_so_asked():
    model = Walker(best=5)
    settings = {"lr": 1.0, "optimizer": SGD, "valid": NUMBERS, "validate_every": 4, "keep_best": False}
    history = fit(model, NUMBERS, steps=10, batch_size=8, **settings, **QUIET)
    assert [step for step, _ in history.valid] == [4, 8, 10]
    assert history.best_step == 4
    assert model.weight.item() == -10


def test_the_average_is_what_is_validated_and_kept():
    model = Walker(best=5)
    settings = {"lr": 1.0, "optimizer": SGD, "valid": NUMBERS, "validate_every": 1, "ema": 0.9}
    history = fit(model, NUMBERS, steps=40, batch_size=8, **settings, **QUIET)
    average, averages = 0.0, []
    for t in range(1, 41):
        decay = min(0.9, t / (t + 9))
        average = decay * average + (1 - decay) * -t
        averages.append(average)
    assert [loss for _, loss in history.valid] == pytest.approx([(a + 5) ** 2 for a in averages], rel=1e-4)
    assert model.weight.item() == pytest.approx(min(averages, key=lambda a: abs(a + 5)), rel=1e-5)


class Lottery(Walker):
    """Whose loss in evaluation mode is drawn."""

    def log_prob(self, x, context=None):
        return super().log_prob(x, context) if self.training else -torch.rand(len(x))


def test_every_validation_draws_the_same_numbers():
    """A loss that is lower by luck must not choose the weights."""
    history = fit(Lottery(), NUMBERS, steps=8, batch_size=8, valid=NUMBERS, validate_every=2, **QUIET)
    losses = [loss for _, loss in history.valid]
    assert len(losses) == 4 and len(set(losses)) == 1


def test_validation_changes_no_number_of_the_training():
    runs = []
    for valid in (None, BARS):
        model = small_vae()
        history = fit(model, BARS, steps=30, batch_size=7, valid=valid, keep_best=False, **QUIET)
        runs.append((weights(model), history.losses))
    assert torch.equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]


def test_validation_is_a_mean_over_examples_whatever_the_batches():
    x = torch.randint(10, (700, 1))
    model = Pixels(Space((1,), 10))
    start = float(-model.log_prob(x).mean().detach())
    history = fit(model, x, steps=1, batch_size=3, lr=1e-12, valid=x, **QUIET)
    assert history.valid[0][1] == pytest.approx(start, abs=1e-5)


# --- endings ---------------------------------------------------------------------------------------------------------


class Failing(Walker):
    """Its second move's loss is `bad` in step 7."""

    def __init__(self, bad):
        super().__init__()
        self.other, self.bad, self.calls = torch.nn.Parameter(torch.zeros(())), bad, 0

    def moves(self):
        def g(x, context):
            self.calls += 1
            return self.other * (self.bad if self.calls == 7 else 1.0) + torch.zeros(len(x))

        return [Move("d", super().moves()[0].loss, [self.weight]), Move("g", g, [self.other])]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights(bad):
    model = Failing(bad)
    with torch.no_grad():
        model.other.fill_(20.0)
    with pytest.raises(FloatingPointError, match=r"^step 7: the loss of move 'g' is (nan|inf)") as caught:
        fit(model, NUMBERS, steps=10, batch_size=8, lr=1.0, optimizer=SGD, **QUIET)
    assert "\n" not in str(caught.value)
    assert model.other.item() == 14  # six updates
    assert model.weight.item() == -7  # d had already moved


def test_a_callback_hears_of_every_step_and_may_look_at_the_model():
    model, heard = Walker(), []
    fit(
        model,
        NUMBERS,
        steps=4,
        batch_size=8,
        lr=1.0,
        optimizer=SGD,
        callback=lambda s, m: heard.append((s, m.weight.item())),
        **QUIET,
    )
    assert heard == [(1, -1.0), (2, -2.0), (3, -3.0), (4, -4.0)]


def test_an_error_of_the_callback_is_the_caller_s():
    def fail(step, model):
        raise KeyError("mine")

    model = small_vae().eval()
    state, handler = torch.get_rng_state(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError, match="mine"):
        fit(model, BARS, steps=4, batch_size=7, callback=fail, **QUIET)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert signal.getsignal(signal.SIGINT) is handler


def press_ctrl_c_at(step):
    return lambda now, model: os.kill(os.getpid(), signal.SIGINT) if now == step else None


def test_ctrl_c_keeps_what_was_learned(tmp_path):
    model, same = small_vae(), small_vae()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.warns(UserWarning, match=r"interrupted after step 6 of 20; what was learned is kept\."):
        history = fit(model, BARS, steps=20, batch_size=7, callback=press_ctrl_c_at(6), out=tmp_path, **QUIET)
    assert history.interrupted
    assert history.steps == 6
    fit(same, BARS, steps=6, batch_size=7, **QUIET)
    assert torch.equal(weights(model), weights(same))
    assert signal.getsignal(signal.SIGINT) is handler
    finished = fit(model, BARS, steps=20, batch_size=7, out=tmp_path, resume=True, **QUIET)
    assert finished.steps == 20
    assert not finished.interrupted
    assert '"interrupted": false' in (tmp_path / "history.json").read_text()
    whole = small_vae()
    fit(whole, BARS, steps=20, batch_size=7, **QUIET)
    assert torch.equal(weights(model), weights(whole))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_machine_that_is_taken_away_keeps_what_was_learned(tmp_path, name):
    """Schedulers, `kill` and a closed terminal; some say it more than once."""
    number = getattr(signal, name)

    def told(step, model):
        if step == 6:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)

    model, same = small_vae(), small_vae()
    before = signal.signal(number, lambda *_: pytest.fail("it reached the caller"))
    handler = signal.getsignal(number)
    try:
        with pytest.warns(UserWarning, match="interrupted after step 6 of 20"):
            history = fit(model, BARS, steps=20, batch_size=7, callback=told, out=tmp_path, **QUIET)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert history.interrupted
    assert checkpoint.load(tmp_path / "checkpoint.pt")["step"] == history.steps == 6
    fit(same, BARS, steps=6, batch_size=7, **QUIET)
    assert torch.equal(weights(model), weights(same))


def test_a_signal_that_is_ignored_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        history = fit(Walker(), NUMBERS, steps=3, batch_size=8, callback=lambda *_: os.kill(os.getpid(), signal.SIGHUP), **QUIET)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not history.interrupted
    assert history.steps == 3


def test_a_second_ctrl_c_stops_at_once():
    def twice(step, model):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(small_vae(), BARS, steps=20, batch_size=7, callback=twice, **QUIET)


# --- reproducible, and a good guest ----------------------------------------------------------------------------------


def test_the_seed_decides_the_weights():
    runs = {}
    for name, seed, before in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1)):
        model = small_vae()
        torch.manual_seed(before)  # the caller's own random state does not matter
        history = fit(model, BARS, steps=20, batch_size=7, seed=seed, **QUIET)
        runs[name] = weights(model), history.losses
    assert torch.equal(runs["a"][0], runs["b"][0])
    assert runs["a"][1] == runs["b"][1]
    assert not torch.equal(runs["a"][0], runs["c"][0])


def test_numpy_s_numbers_train_like_python_s():
    runs = []
    for number, integer in ((float, int), (np.float64, np.int64)):
        model = small_vae()
        counts = {"steps": 12, "batch_size": 14, "seed": 1, "validate_every": 3, "micro_batches": 2, "checkpoint_every": 5}
        rates = {"lr": 0.01, "clip": 2.0, "ema": 0.9}
        settings = {name: integer(value) for name, value in counts.items()} | {n: number(value) for n, value in rates.items()}
        history = fit(model, BARS, valid=BARS, schedule=lambda p, number=number: number(1 - p), **settings, **QUIET)
        runs.append((weights(model), history.losses, history.valid))
    assert torch.equal(runs[0][0], runs[1][0])
    assert runs[0][1:] == runs[1][1:]


def test_the_caller_s_random_numbers_are_left_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    grey = torch.randint(256, (40, 1, 3, 3), generator=torch.Generator().manual_seed(0))
    fit(small_vae_without_seed(), grey, steps=5, batch_size=10, augment=binarize, valid=BARS, **QUIET)
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    small_vae_without_seed()
    assert torch.equal(torch.get_rng_state(), after)  # only the construction of the model drew


def small_vae_without_seed():
    return VAE(Space((1, 3, 3), 2), latent=2, hidden=(16,))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_s_mode_is_restored(training):
    model = small_vae().train(training)
    fit(model, BARS, steps=2, batch_size=7, valid=BARS, callback=lambda s, m: m.training or pytest.fail("not training"), **QUIET)
    assert model.training is training


@pytest.mark.parametrize("training", [True, False])
def test_a_part_that_was_frozen_in_evaluation_mode_stays_as_it_was(training):
    """Such as a network from elsewhere whose batch norm must not move. (Of a model in evaluation mode all of it trains.)"""
    model = small_vae().train(training)
    model.norm = nn.BatchNorm1d(3).eval()
    seen = set()
    fit(model, BARS, steps=4, batch_size=7, valid=BARS, callback=lambda s, m: seen.add((m.training, m.norm.training)), **QUIET)
    assert seen == {(True, not training)}
    assert (model.training, model.norm.training) == (training, False)


def test_bf16_stays_close_and_keeps_float32_weights():
    finals = {}
    for precision in ("32", "bf16"):
        model = small_vae()
        history = fit(model, BARS, steps=300, batch_size=14, lr=1e-2, precision=precision, **QUIET)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        finals[precision] = sum(history.losses["-elbo"][-50:]) / 50
    assert finals["32"] < 5.8  # from 6.3 nats
    assert finals["bf16"] == pytest.approx(finals["32"], rel=0.05)


def test_the_history_says_what_happened():
    history = fit(small_vae(), data.load("bars_and_stripes"), steps=40, batch_size=7, **QUIET)
    assert list(history.losses) == ["-elbo"]
    assert len(history.losses["-elbo"]) == history.steps == 40
    assert [step for step, _ in history.valid] == list(range(2, 41, 2))  # twenty times
    assert history.best_step == min(history.valid, key=lambda pair: pair[1])[0]
    assert 0 < history.seconds < 60
    assert history.device == "cpu"
    assert history.versions["torch"] == torch.__version__
    assert set(history.versions) == {"gencourse", "torch", "python"}
    assert not history.interrupted
    assert set(history.to_dict()) == {"losses", "valid", "best_step", "seconds", "interrupted", "device", "versions"}


def test_training_lowers_the_loss_to_what_the_data_allow():
    x = torch.tensor([[0], [1], [1], [1]]).repeat(25, 1)
    model = Pixels(Space((1,), 2))
    fit(model, x, steps=300, batch_size=100, lr=0.05, **QUIET)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert float(-model.log_prob(x).mean().detach()) == pytest.approx(entropy, abs=1e-4)


# --- two processes ---------------------------------------------------------------------------------------------------


def test_two_processes_follow_one_that_cuts_its_batches_in_two():
    """Started with spawn, joined by gloo; at most the order of additions differs."""
    runs = []
    for processes in ({"devices": 1, "micro_batches": 2}, {"devices": 2}):
        model = small_vae()
        history = fit(model, BARS, steps=25, batch_size=14, lr=1e-3, valid=BARS, ema=0.9, **processes, **QUIET)
        runs.append((weights(model), torch.tensor(history.losses["-elbo"]), torch.tensor([loss for _, loss in history.valid])))
    for one, two in zip(*runs, strict=True):
        assert len(one) == len(two)
        assert torch.allclose(one, two, rtol=0, atol=1e-6)  # measured: 0


class Transposed(Tractable):
    """One weight matrix, whose gradient lies transposed in memory."""

    def __init__(self):
        super().__init__(Space((1, 2, 3), 2))
        self.W = nn.Parameter(torch.arange(18.0).view(3, 6) / 10)

    def log_prob(self, x, context=None):
        h = (x.flatten(1) + torch.arange(6.0)) @ self.W.t().contiguous()  # (B, 3)
        return -h.square().sum(1)


def test_a_gradient_of_another_memory_layout_steps_the_right_entries():
    x = torch.zeros(4, 1, 2, 3, dtype=torch.long)
    ended = []
    for optimizer in (adam, torch.optim.Adam):  # fused, and not
        model = Transposed()
        gradient = torch.autograd.grad(model.moves()[0].loss(x, None).mean(), model.W)[0]
        assert gradient.stride() != model.W.stride()  # or else this test shows nothing
        fit(model, x, steps=3, batch_size=4, lr=0.1, optimizer=optimizer, progress=False)
        ended.append(model.W.detach())
    torch.testing.assert_close(*ended, rtol=0, atol=1e-6)


SIGNALLED = """
import json, os, signal, sys
import torch
from gencourse import checkpoint, data
from gencourse.space import Space
from gencourse.train import fit
from gencourse.variational.vae import VAE

def tell_the_parent(step, model):
    if step == 6:
        os.kill(os.getppid(), signal.SIGTERM)

if __name__ == "__main__":
    torch.manual_seed(0)
    model, out = VAE(Space((1, 3, 3), 2), latent=2, hidden=(16,)), sys.argv[1]
    settings = {"steps": 100_000, "batch_size": 14, "device": "cpu", "devices": 2, "progress": False, "out": out}
    history = fit(model, data.load("bars_and_stripes").train, callback=tell_the_parent, **settings)
    saved = checkpoint.load(__import__("pathlib").Path(out) / "checkpoint.pt")
    same = all(torch.equal(value, saved["model"][name]) for name, value in model.state_dict().items())
    print(json.dumps([history.interrupted, history.steps, saved["step"], same]))
"""


def test_two_processes_that_are_told_to_stop_stop_after_the_same_step(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SIGNALLED)
    done = subprocess.run([sys.executable, script, tmp_path / "run"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    interrupted, steps, saved, same = json.loads(done.stdout.splitlines()[-1])
    assert interrupted
    assert 6 <= steps == saved < 100_000
    assert same
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.pt", "history.json"]


# --- the files -------------------------------------------------------------------------------------------------------


def test_what_trains_is_imported_in_one_direction():
    """Every import counts, also those for types alone and those inside functions."""
    root = Path(gencourse.__file__).parent
    paths = {f"gencourse.train.{path.stem}": path for path in (root / "train").glob("*.py")} | {
        "gencourse.kinds": root / "kinds.py"
    }
    paths["gencourse.train"] = paths.pop("gencourse.train.__init__")
    needs = {}
    for name, path in paths.items():
        wanted = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                wanted |= parts & paths.keys() or {node.module} & paths.keys()
        needs[name] = wanted
    order = list(TopologicalSorter(needs).static_order())  # raises a CycleError, which names the circle
    assert order.index("gencourse.kinds") < order.index("gencourse.train.loop") < order.index("gencourse.train")
