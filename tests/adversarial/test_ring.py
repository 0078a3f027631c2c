"""The three games on the ring, and the record of them that chapter 13 quotes."""

import pytest
import torch

from gencourse import records
from gencourse.adversarial.ring import GAMES, play

STORED = records.load("13-ring")["runs"]


def test_a_game_is_followed_and_can_be_played_again():
    gan, paths, record = play("slow generator", seed=3, rounds=60)
    assert paths.shape == (61, 150, 2)
    again = play("slow generator", seed=3, rounds=60)
    assert torch.equal(paths, again[1])
    assert {**record, "seconds": 0} == {**again[2], "seconds": 0}
    moved = float((paths[-11:-1] - paths[-10:]).square().sum(2).sqrt().mean())
    assert abs(record["moved"] - moved) < 1e-4
    assert [move.lr for move in gan.moves()] == [None, 5e-5]


def test_a_game_with_fewer_rounds_than_moments_is_refused():
    with pytest.raises(ValueError, match="play: rounds must be an integer of 60 or more, not 59"):
        play("reference", seed=0, rounds=59)


def test_two_games_differ_from_the_reference_in_one_thing():
    assert GAMES["reference"] == {}
    assert all(len(change) == 1 for name, change in GAMES.items() if name != "reference")


def test_the_record_has_five_seeds_of_each_and_shows_three_different_ends():
    by_game = {name: [run for run in STORED if run["game"] == name] for name in GAMES}
    assert all(sorted(run["seed"] for run in runs) == [0, 1, 2, 3, 4] for runs in by_game.values())
    assert {run["rounds"] for run in STORED} == {3000}
    assert all(run["covered"] >= 6 and run["good"] > 0.7 for run in by_game["reference"])
    assert all(run["covered"] <= 4 and run["good"] > 0.8 for run in by_game["slow generator"])  # collapse
    assert all(run["late_good"] < 0.25 and run["moved"] > 1 for run in by_game["weak discriminator"])  # nothing settles
