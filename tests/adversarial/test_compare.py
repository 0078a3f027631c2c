"""The comparison is fair: the same networks and the same number of updates for every loss, and the same result for a seed."""

import pytest
import torch

from gencourse.adversarial.compare import CONTESTANTS, play
from gencourse.data import Dataset
from gencourse.space import Space

X = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
POINTS = Dataset("points", Space((2,)), X, X, X)
QUIET = {"batch_size": 8, "samples": 50, "device": "cpu", "progress": False}


def judge(samples):
    return {"mean": samples.mean().item(), "n": len(samples)}


@pytest.mark.parametrize("name", CONTESTANTS)
def test_a_run_spends_its_updates_and_is_repeated_by_its_seed(name):
    model = CONTESTANTS[name](POINTS.space)
    first, again, other = (play(name, POINTS, judge, updates=24, seed=seed, **QUIET) for seed in (3, 3, 4))
    assert first["rounds"] * (model.d_steps + 1) == 24
    assert (first["loss"], first["seed"], first["updates"], first["n"]) == (name, 3, 24, 50)
    assert first["mean"] == again["mean"] != other["mean"]


@pytest.mark.parametrize("space", [Space((2,)), Space((1, 8, 8), 17)], ids=["points", "images"])
def test_the_networks_are_the_same_for_all_but_the_autoencoder(space):
    shapes = {
        name: [[tuple(p.shape) for p in network.parameters()] for network in (model.generator, model.discriminator)]
        for name, model in ((name, build(space)) for name, build in CONTESTANTS.items())
    }
    generators = {str(generator) for generator, _ in shapes.values()}
    critics = {str(critic) for name, (_, critic) in shapes.items() if name != "BEGAN"}
    assert len(generators) == len(critics) == 1


def test_the_penalty_is_weighed_for_the_space():
    assert CONTESTANTS["WGAN, penalty"](Space((2,))).penalty == 0.1
    assert CONTESTANTS["WGAN, penalty"](Space((1, 8, 8), 17)).penalty == 10.0
    assert CONTESTANTS["WGAN, clipping"](Space((2,))).clip == 0.1


def test_the_callers_random_state_is_left_as_it_was():
    before = torch.get_rng_state()
    play("hinge", POINTS, judge, updates=4, seed=0, **QUIET)
    assert torch.equal(before, torch.get_rng_state())
