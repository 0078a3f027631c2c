"""The DCGAN's rules, broken one at a time: the variants of chapter 14's ablation, and one run of one of them.

Rules come as a set. Weights of N(0, 0.02^2) are harmless only where batch norm undoes their scale (Eq. 14.8 of the book), so
"no batch norm" breaks two rules at once; "no batch norm, scaled weights" gives such a network weights of its own.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gencourse.adversarial.dcgan import DCGAN
from gencourse.adversarial.gan import GAN
from gencourse.data import Dataset
from gencourse.space import Space, on_cpu
from gencourse.train import fit

SMALL = {"latent": 64, "width": 16, "base": 2}

VARIANTS: dict[str, dict[str, Any]] = {
    "all rules": {},
    "no batch norm": {"norm": nn.Identity},
    "no batch norm, scaled weights": {"norm": nn.Identity},
    "one layer less": {"base": 4},
    "beta1 = 0.9": {"betas": (0.9, 0.999)},
    "PyTorch's weights": {},
    "fully connected": {},
}
"""By name, what is changed among the arguments of a small DCGAN; `variant` does the rest."""


@on_cpu
def variant(name: str, space: Space, seed: int) -> GAN:
    """An untrained model with the rule broken that `VARIANTS` names; the seed is that of its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "fully connected":
            return GAN(space, latent=SMALL["latent"])
        model = DCGAN(space, **SMALL | VARIANTS[name])
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                if name == "PyTorch's weights":
                    module.reset_parameters()
                elif name == "no batch norm, scaled weights":  # He et al., 2015: maps keep their spread from layer to layer
                    nn.init.kaiming_normal_(module.weight, a=0.2 if isinstance(module, nn.Conv2d) else 0.0)
    return model


@on_cpu
def play(
    name: str, dataset: Dataset, judge: Callable[[Tensor], float], *, seed: int, lr: float, rounds: int, samples: int = 1800
) -> float:
    """Train one variant with one seed and learning rate, and return what the judge says of its samples `(samples, C, H, W)`."""
    model = variant(name, dataset.space, seed)
    fit(model, dataset, steps=rounds, batch_size=64, lr=lr, seed=seed, device="cpu", progress=False)
    return judge(model.sample(samples, generator=torch.Generator().manual_seed(seed)))
