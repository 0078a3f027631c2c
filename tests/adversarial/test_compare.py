"""The comparison is fair: the same networks, updates and number of settings for every loss; its intervals are Student's."""

import math

import pytest
import torch
from scipy import stats

from gencourse.adversarial.compare import CONTESTANTS, Between, paired_interval, play, settings
from gencourse.data import Dataset
from gencourse.space import Space
from gencourse.train import cosine

X = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
POINTS = Dataset("points", Space((2,)), X, X, X)
IMAGES = Space((1, 8, 8), 17)
FITTED = {"device": "cpu", "progress": False}
QUIET = {"batch_size": 8, "samples": 50, **FITTED}


def judge(samples):
    return {"mean": samples.mean().item(), "n": len(samples)}


def build(name, space, seed=0, **knobs):
    torch.manual_seed(seed)
    return CONTESTANTS[name].build(space, **knobs)


@pytest.mark.parametrize("name", CONTESTANTS)
def test_a_run_spends_its_updates_and_is_repeated_by_its_seed(name):
    model = build(name, POINTS.space)
    first, again, other = (play(name, POINTS, judge, updates=24, seed=seed, **QUIET) for seed in (3, 3, 4))
    assert first["rounds"] * (1 + getattr(model, "d_steps", 1)) == 24
    assert (first["loss"], first["seed"], first["updates"], first["n"]) == (name, 3, 24, 50)
    assert first["mean"] == again["mean"] != other["mean"]


@pytest.mark.parametrize("space", [Space((2,)), IMAGES], ids=["points", "images"])
def test_the_networks_are_the_same_for_all_but_the_autoencoder(space):
    models = {name: build(name, space) for name in CONTESTANTS}
    generators = {str(model.generator) for model in models.values()}
    critics = {str(model.discriminator) for name, model in models.items() if name != "BEGAN"}
    assert len(generators) == len(critics) == 1


@pytest.mark.parametrize("space", [Space((2,)), IMAGES], ids=["points", "images"])
def test_a_seed_gives_every_loss_the_same_first_generator_so_that_runs_are_pairs(space):
    z = torch.randn(5, build("hinge", space).latent)
    first = [build(name, space, seed=7).generator(z) for name in CONTESTANTS]
    assert all(torch.allclose(each, first[0]) for each in first)
    assert not torch.allclose(build("hinge", space, seed=8).generator(z), first[0])


@pytest.mark.parametrize("name", CONTESTANTS)
@pytest.mark.parametrize("n", [4, 9])
def test_every_loss_is_tried_at_as_many_settings_and_every_part_of_a_range_once(name, n):
    tried = settings(name, n)
    assert len({str(setting) for setting in tried}) == len(tried) == n
    for knob, values in CONTESTANTS[name].knobs.items():
        turned = [setting[knob] for setting in tried]
        if isinstance(values, Between):
            place = [n * math.log(value / values.low) / math.log(values.high / values.low) for value in turned]
            assert sorted(int(each) for each in place) == list(range(n))
        else:
            counts = [turned.count(value) for value in values]
            assert max(counts) - min(counts) <= 1


def test_no_loss_is_set_by_hand_for_a_data_set_and_all_share_the_range_of_rates():
    rates = {str(contestant.knobs["lr"]) for contestant in CONTESTANTS.values()}
    assert len(rates) == 1
    assert build("WGAN, penalty", Space((2,))).penalty == build("WGAN, penalty", IMAGES).penalty
    assert build("WGAN, clipping", Space((2,))).clip == build("WGAN, clipping", IMAGES).clip


@pytest.mark.parametrize("name", CONTESTANTS)
def test_a_setting_reaches_the_model_and_the_record(name):
    (setting,) = settings(name, 1, seed=2)
    run = play(name, POINTS, judge, updates=12, seed=0, setting=setting, **QUIET)
    assert run["setting"] == setting
    model = build(name, POINTS.space, **{knob: value for knob, value in setting.items() if knob != "lr"})
    for knob in set(setting) & {"d_steps", "clip", "penalty", "gamma", "step"}:
        assert getattr(model, knob) == setting[knob]
    if "beta2" in setting:
        assert model.betas == (0.5, setting["beta2"])
    if "targets" in setting:
        a, b, c = setting["targets"]
        assert model.loss.d_loss(torch.tensor(b), torch.tensor(a)) == 0
        assert model.loss.g_loss(torch.tensor(c)) == 0


def test_all_are_trained_alike_but_for_the_rate(monkeypatch):
    asked = []
    monkeypatch.setattr("gencourse.adversarial.compare.fit", lambda model, data, *, steps, lr, **others: asked.append(others))
    for name in CONTESTANTS:
        play(name, POINTS, judge, updates=12, seed=5, **QUIET)
    assert asked == len(CONTESTANTS) * [{"batch_size": 8, "seed": 5, "schedule": cosine, "ema": 0.99, **FITTED}]


def test_a_run_that_breaks_down_is_a_failure_and_no_end_of_the_comparison():
    run = play("least squares", POINTS, judge, updates=200, seed=0, setting={"lr": 1e30}, **QUIET)
    assert run["failed"] and "mean" not in run


def test_the_callers_random_state_is_left_as_it_was():
    before = torch.get_rng_state()
    play("hinge", POINTS, judge, updates=4, seed=0, **QUIET)
    settings("hinge", 3)
    assert torch.equal(before, torch.get_rng_state())


def test_the_interval_is_that_of_a_paired_t_test():
    a, b = torch.randn(2, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64).tolist()
    mean, low, high = paired_interval(a, b, level=0.99)
    expected = stats.ttest_rel(a, b).confidence_interval(0.99)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert mean == pytest.approx((low + high) / 2)
    with pytest.raises(ValueError, match="7 with 6"):
        paired_interval(a, b[:6])


def test_the_interval_holds_the_truth_as_often_as_it_says():
    g = torch.Generator().manual_seed(0)
    draws = 0.3 + torch.randn(2000, 6, generator=g, dtype=torch.float64)
    inside = [low < 0.3 < high for _, low, high in (paired_interval(row.tolist(), [0.0] * 6) for row in draws)]
    assert sum(inside) / 2000 == pytest.approx(0.95, abs=0.02)


def test_the_wasserstein_critics_take_three_steps_a_round_and_the_others_one():
    times = {name: build(name, POINTS.space).moves()[0].times for name in CONTESTANTS}
    assert {name for name, n in times.items() if n == 3} == {"WGAN, clipping", "WGAN, penalty"}
    assert {n for name, n in times.items() if not name.startswith("WGAN")} == {1}
