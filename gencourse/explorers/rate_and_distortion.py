"""VAEs trained with several beta: what their codes cost, and what they lose, as a curve and as pictures (slides 86 and 88)."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gencourse import data
from gencourse.explorers import networks
from gencourse.explorers.base import Explorer
from gencourse.explorers.one_pixel_at_a_time import uniforms
from gencourse.train import cosine, fit
from gencourse.variational.beta import RateDistortion, rate_distortion
from gencourse.variational.posteriors import Gaussian
from gencourse.variational.vae import VAE
from gencourse.viz.theme import COLOURS, Picture


class RateAndDistortion(Explorer):
    """Move beta, and see where its VAE stands on the curve of rate and distortion, what it keeps of images and what it draws.

    Under each test image stands its own rate, the nats of its code; beneath, what the decoder makes of a draw from q(z | x); in
    the last row, what it makes of draws from the prior. The networks run in the page, in double precision, with float16 weights;
    draws are those of `normals`. The curve is of all images given, by `rate_distortion`.

    Args:
        models: VAEs of binary images of one space, in order of their `beta`, with networks of `Linear`, `Tanh` and `ReLU`, the
            prior N(0, I) and Gaussian posteriors.
        images: test images `(N, 1, H, W)`; the first `shown` are seen.
        curve: rate and distortion of each model, if they are known; otherwise they are computed.
        chosen: the place of the model that is shown first.
        shown: how many images.
        seed: of the draws.

    Raises:
        TypeError: if a model is no such VAE, or the page cannot run its networks.
        ValueError: if the models are not in order or not of one space, or a number is out of range.
    """

    module: ClassVar[Path] = Path(__file__).with_name("rate_and_distortion.js")
    helpers: ClassVar[tuple[Path, ...]] = tuple(
        Path(__file__).with_name(name) for name in ("plane.js", "pixels.js", "networks.js")
    )

    def __init__(
        self,
        models: Sequence[VAE],
        images: Tensor,
        *,
        curve: Sequence[RateDistortion] | None = None,
        chosen: int = 0,
        shown: int = 8,
        seed: int = 0,
    ) -> None:
        for model in models:
            gaussian = isinstance(model, VAE) and model.learned_prior is None and isinstance(model.family, Gaussian)
            if not gaussian or model.space.levels != 2:
                raise TypeError("RateAndDistortion needs VAEs of binary images with Gaussian posteriors and the prior N(0, I).")
        betas = [model.beta for model in models]
        if len(betas) < 2 or betas != sorted(set(betas)) or not betas[0] > 0:
            raise ValueError(f"RateAndDistortion needs two models or more, their beta positive and growing, not {betas}.")
        space = models[0].space
        if any(model.space != space for model in models) or len(space.shape) != 3 or space.shape[0] != 1:
            raise ValueError("RateAndDistortion: the models must be of the same grey images.")
        if not 0 <= chosen < len(models):
            raise ValueError(f"RateAndDistortion: chosen must be in 0..{len(models) - 1}, not {chosen}.")
        if not 1 <= shown <= len(space.validate(images)):
            raise ValueError(f"RateAndDistortion: shown must be in 1..{len(images)}, not {shown}.")
        if curve is None:
            curve = [rate_distortion(model, images, generator=torch.Generator().manual_seed(0)) for model in models]
        if len(curve) != len(models):
            raise ValueError(f"RateAndDistortion: {len(models)} models need as many points of the curve, not {len(curve)}.")
        self.encoders = [networks.as_sent(model.encoder) for model in models]
        self.decoders = [networks.as_sent(model.decoder) for model in models]
        state = {
            "models": [
                {
                    "beta": model.beta,
                    "latent": model.latent,
                    "encoder": networks.packed(encoder, (space.dim,)),
                    "decoder": networks.packed_pixels(model, decoder),
                    "rate": round(point.rate, 3),
                    "distortion": round(point.distortion, 3),
                }
                for model, encoder, decoder, point in zip(models, self.encoders, self.decoders, curve, strict=True)
            ],
            "height": space.shape[1],
            "width": space.shape[2],
            "images": ["".join(map(str, x.flatten().tolist())) for x in images[:shown].long()],
            "chosen": chosen,
            "seed": seed % 2**32,
        }
        super().__init__(
            state,
            still=_still(betas, curve)._repr_png_(),
            alt=f"Rate against distortion of {len(betas)} VAEs, trained with beta from {betas[0]:g} to {betas[-1]:g}: the larger "
            "beta, the cheaper the code and the more is lost.",
        )

    @classmethod
    def of_digits(cls) -> "RateAndDistortion":
        """With the models of `trained_on_digits`, and the test images of the data that they have not seen."""
        models, run = trained_on_digits()
        curve = [RateDistortion(rate, distortion) for rate, distortion in run["rate and distortion"]]
        return cls(models, data.load("binary_digits").test, curve=curve, chosen=run["betas"].index(1.0))


def normals(seed: int, n: int) -> Tensor:
    """The page's Gaussian numbers, `(n,)` float64: each is made of two of `uniforms` (Box and Muller, 1958)."""
    u = uniforms(seed, 2 * n).view(n, 2)
    return (-2 * (1 - u[:, 0]).log()).sqrt() * (2 * math.pi * u[:, 1]).cos()


def trained_on_digits() -> tuple[list[VAE], dict[str, Any]]:
    """VAEs of `binary_digits`, and how they came about; float16 weights that come with the package.

    They differ in beta alone: first weights, batches and draws are the same. To train them again, for a minute of one core:

        python -m gencourse.explorers.rate_and_distortion
    """
    with np.load(_WEIGHTS) as file, torch.random.fork_rng(devices=[]):
        run = json.loads(str(file["run"]))
        weights = {name: torch.from_numpy(file[name]) for name in file.files if name != "run"}
        models = [_model(beta) for beta in run["betas"]]
    for k, model in enumerate(models):
        model.load_state_dict({name.partition(".")[2]: value for name, value in weights.items() if name.startswith(f"{k}.")})
    return [model.eval() for model in models], run


_WEIGHTS = Path(__file__).with_name("beta_digits.npz")
_BETAS = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
_FIT: dict[str, Any] = {"steps": 3000, "batch_size": 100, "lr": 3e-3, "ema": 0.99}


def _model(beta: float) -> VAE:
    return VAE(data.load("binary_digits").space, latent=6, hidden=(32,), beta=beta)


def _train() -> None:
    """Write the file of `trained_on_digits`."""
    dataset = data.load("binary_digits")
    weights, curve = {}, []
    for k, beta in enumerate(_BETAS):
        torch.manual_seed(0)
        model = _model(beta)
        fit(model, dataset, **_FIT, schedule=cosine, seed=0, device="cpu")
        for name, value in model.state_dict().items():
            value.copy_(value.half())
            weights[f"{k}.{name}"] = value.half().numpy()
        point = rate_distortion(model.eval(), dataset.test, samples=200, generator=torch.Generator().manual_seed(0))
        curve.append([round(point.rate, 3), round(point.distortion, 3)])
        print(beta, *curve[-1], flush=True)
    run = {
        "data": dataset.name,
        "betas": list(_BETAS),
        "fit": _FIT | {"schedule": "cosine", "seed": 0},
        "rate and distortion": curve,
        "torch": str(torch.__version__),
    }
    np.savez_compressed(_WEIGHTS, run=json.dumps(run), **weights)


def _still(betas: list[float], curve: Sequence[RateDistortion]) -> Picture:
    """The curve."""
    figure = Picture(5.0, 3.0)
    axes = figure.add_subplot()
    rates, distortions = [point.rate for point in curve], [point.distortion for point in curve]
    axes.plot(rates, distortions, "o-", color=COLOURS[0])
    for beta, rate, distortion in zip(betas, rates, distortions, strict=True):
        axes.annotate(f"β = {beta:g}", (rate, distortion), xytext=(6, 4), textcoords="offset points", fontsize=9)
    axes.set_xlabel("rate, nats")
    axes.set_ylabel("distortion, nats")
    axes.margins(x=0.15)
    figure.subplots_adjust(0.13, 0.17, 0.98, 0.97)
    return figure


if __name__ == "__main__":
    _train()
