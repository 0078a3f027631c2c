import pytest
import torch

from gencourse.profile import PROFILES, choose, resolve


@pytest.mark.parametrize("name", PROFILES)
def test_a_named_profile_is_obeyed_whatever_the_environment_says(monkeypatch, name):
    monkeypatch.setenv("GENCOURSE_PROFILE", "smoke")
    assert resolve(name) == name


@pytest.mark.parametrize("name", PROFILES)
def test_auto_takes_the_environment_s(monkeypatch, name):
    monkeypatch.setenv("GENCOURSE_PROFILE", name)
    assert resolve() == name


@pytest.mark.parametrize(("there", "profile"), [(True, "gpu"), (False, "cpu")])
def test_auto_without_an_environment_follows_the_machine(monkeypatch, there, profile):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve() == profile
    assert choose("auto", smoke=1, cpu="cpu", gpu="gpu") == profile


def test_choose_takes_the_value_of_the_profile():
    assert [choose(name, smoke=20, cpu=2000, gpu=20_000) for name in PROFILES] == [20, 2000, 20_000]


@pytest.mark.parametrize("by", ["name", "environment"])
def test_an_unknown_profile_is_named(monkeypatch, by):
    monkeypatch.setenv("GENCOURSE_PROFILE", "turbo")
    with pytest.raises(ValueError, match=r"unknown profile 'turbo'; choose one of auto, smoke, cpu, gpu\."):
        resolve("turbo" if by == "name" else "auto")
