"""The DCGAN's rules broken one at a time, and the record of it that chapter 14 quotes."""

from statistics import mean

import pytest
import torch
from torch import nn

from gencourse import records
from gencourse.adversarial.dcgan import DCGAN
from gencourse.adversarial.rules import VARIANTS, play, variant
from gencourse.data import load
from gencourse.space import Space

STORED = records.load("14-dcgan-rules")["runs"]
SPACE = Space((1, 8, 8), 17)


def convolutions(model: nn.Module) -> list[torch.Tensor]:
    return [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def has_norm(model: nn.Module) -> bool:
    return any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_each_variant_breaks_what_it_says():
    models = {name: variant(name, SPACE, 0) for name in VARIANTS}
    full = models["all rules"]
    assert has_norm(full) and not has_norm(models["no batch norm"]) and not has_norm(models["no batch norm, scaled weights"])
    assert len(convolutions(models["one layer less"])) == len(convolutions(full)) - 2
    assert (full.betas, models["beta1 = 0.9"].betas) == ((0.5, 0.999), (0.9, 0.999))
    assert not isinstance(models["fully connected"], DCGAN)
    for name in ("all rules", "no batch norm", "beta1 = 0.9"):
        assert all(0.015 < w.std() < 0.025 for w in convolutions(models[name]) if w.numel() > 500)
    largest = max(convolutions(models["PyTorch's weights"]), key=torch.numel)
    assert largest.std() > 0.025


def test_scaled_weights_keep_the_size_of_the_maps_where_tiny_ones_let_it_vanish():
    """The spread of the discriminator's last maps over that of its input."""
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    sizes = {}
    for name in ("no batch norm", "no batch norm, scaled weights"):
        with torch.no_grad():
            sizes[name] = float(variant(name, SPACE, 0).discriminator.maps(x)[-1].square().mean().sqrt())
    assert 0.3 < sizes["no batch norm, scaled weights"] < 3
    assert sizes["no batch norm"] < 0.1


@pytest.mark.parametrize("name", ["all rules", "fully connected"])
def test_a_run_can_be_made_again_and_leaves_the_global_generator_alone(name):
    digits = load("digits")
    torch.manual_seed(5)
    expected = torch.rand(3)
    ends = []
    for _ in range(2):
        torch.manual_seed(5)
        variant(name, digits.space, 1)
        assert torch.equal(torch.rand(3), expected)
        ends.append(play(name, digits, lambda x: float(x.double().mean()), seed=1, lr=1e-3, rounds=2, samples=50))
    assert ends[0] == ends[1]


def test_the_record_gives_every_variant_the_same_care():
    for name in VARIANTS:
        tried = [run for run in STORED if run["variant"] == name and run["part"] == "valid"]
        rates = sorted({run["lr"] for run in tried})
        assert rates == [3e-4, 1e-3, 3e-3, 1e-2] and len(tried) == 8
        found = [run for run in STORED if run["variant"] == name and run["part"] == "test"]
        assert sorted(run["seed"] for run in found) == [0, 1, 2, 3, 4]
        assert not {run["seed"] for run in found} & {run["seed"] for run in tried}
        best = min(rates, key=lambda lr, tried=tried: mean(run["ratio"] for run in tried if run["lr"] == lr))
        assert {run["lr"] for run in found} == {best}
    assert {run["rounds"] for run in STORED} == {500}
