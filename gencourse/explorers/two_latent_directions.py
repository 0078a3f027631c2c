"""Two directions of a latent space, walked along in the page; a reader of faces says what changes (slides 85 and 86)."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from gencourse.data.faces import BINARY, FACTORS, FaceDataset, Factors, draw_faces, sample_factors
from gencourse.explorers import networks
from gencourse.explorers.base import Explorer, pack
from gencourse.metrics import factors as readers
from gencourse.metrics.factors import FactorReader, factor_reader
from gencourse.space import Space
from gencourse.train import cosine, fit
from gencourse.variational.vae import VAE
from gencourse.viz import png_grid


class TwoLatentDirections(Explorer):
    """Choose two directions of the latent space, drag in their plane, and read off what changes in the face.

    A direction is a latent variable, or was found from faces whose factors are known (`found_directions`). Beside the decoder's
    picture stand the factors that vary, as the reader reads them off that picture, and by how much each reading changes along
    the whole of either axis: of a direction that stands for one factor, only that reading changes.

    Decoder and reader run in the page, in double precision, with float16 weights.

    Args:
        model: a VAE of drawn faces with fully connected networks of `Linear`, `Tanh` and `ReLU`.
        reader: of faces of the same space.
        images: drawn faces `(N, C, H, W)`, by which directions are found; the first five may be walked from.
        factors: theirs. What is the same in all of them is not shown.
        axes: the directions shown first, names of factors or of latent variables such as "z1".
        reach: the plane shown is `[-reach, reach]` squared, in standard deviations of the prior.

    Raises:
        TypeError: if the page cannot run the networks.
        ValueError: if the spaces or numbers do not agree, or an axis is none.
    """

    module: ClassVar[Path] = Path(__file__).with_name("two_latent_directions.js")
    helpers: ClassVar[tuple[Path, ...]] = tuple(
        Path(__file__).with_name(name) for name in ("plane.js", "pixels.js", "networks.js")
    )

    def __init__(
        self,
        model: VAE,
        reader: FactorReader,
        images: Tensor,
        factors: Factors,
        *,
        axes: tuple[str, str] = ("smile", "pose"),
        reach: float = 3.0,
    ) -> None:
        if not isinstance(model, VAE) or model.learned_prior is not None or model.space.levels in (None, 2):
            raise TypeError("TwoLatentDirections needs a VAE of grey levels with the prior N(0, I).")
        if reader.space != model.space:
            raise ValueError(f"TwoLatentDirections: the model is of {model.space}, but the reader of {reader.space}.")
        if len(images) != len(factors) or len(images) <= len(FACTORS):
            raise ValueError(f"TwoLatentDirections: {len(images)} images and the factors of {len(factors)} do not do.")
        if not reach > 0:
            raise ValueError(f"TwoLatentDirections: reach must be positive, not {reach!r}.")
        shown = varying(factors)
        names = [*shown, *(f"z{d + 1}" for d in range(model.latent))]
        for axis in axes:
            if axis not in names:
                raise ValueError(f"TwoLatentDirections: an axis is one of {', '.join(names)}, not {axis!r}.")
        self.decoder, self.reader = networks.as_sent(model.decoder), networks.as_sent(reader.network)
        with torch.no_grad(), model.evaluation():
            q = model.encode(images)
            codes = q.mean.double().cpu()
            rates = kl_divergence(q.base_dist, model.prior.base_dist).mean(0).tolist()  # nats a latent variable
        directions = torch.cat([found_directions(codes, factors), torch.eye(model.latent, dtype=torch.float64)])
        starts = torch.cat([torch.zeros(1, model.latent, dtype=torch.float64), codes[:5]])
        texts = [f"{name.replace('_', ' ')} (found)" for name in shown] + [
            f"z{d + 1} ({rate:.1f} nats)" for d, rate in enumerate(rates)
        ]
        state = {
            "decoder": networks.packed_pixels(model, self.decoder),
            "reader": networks.packed(self.reader, model.space.shape),
            "factors": [
                {
                    "name": name,
                    "output": FACTORS.index(name),
                    "binary": name in BINARY,
                    "low": round(float(values.min()), 1),  # of the faces given
                    "high": round(float(values.max()), 1),
                    "score": reader.scores.get(name),
                }
                for name, values in factors.items()
                if name in shown
            ],
            "names": texts,
            "directions": pack(directions),
            "starts": pack(starts),
            "reach": float(reach),
            "axes": [names.index(axis) for axis in axes],
            "start": 0,
            "at": [0.0, 0.0],
        }
        line = torch.linspace(-reach, reach, 5, dtype=torch.float64)
        a, b = (directions[names.index(axis)] for axis in axes)
        z = torch.stack([x * a + y * b for y in line[::2].flip(0) for x in line])
        super().__init__(
            state,
            still=png_grid(networks.mean_levels(model, self.decoder, z), model.space, ncols=5, scale=2),
            alt=f"Faces that a decoder draws in a plane of its latent space: {axes[0]} across, {axes[1]} upwards.",
        )

    @classmethod
    def of_faces(cls, **options: Any) -> "TwoLatentDirections":
        """With the networks of `trained_on_faces`, and test faces that they have not seen; options as above."""
        model, reader, _ = trained_on_faces()
        dataset = plain_faces()
        return cls(model, reader, dataset.test, dataset.test_factors, **options)


def varying(factors: Factors) -> list[str]:
    """The names of the factors that are not the same in all faces."""
    return [name for name, values in factors.items() if bool((values != values[0]).any())]


def found_directions(codes: Tensor, factors: Factors) -> Tensor:
    """For each varying factor, how codes change when it alone does: `(F, D)`, of length 1, float64.

    They are the rows of the least-squares regression of the codes `(N, D)` on all factors: that of a factor is the way the mean
    code goes when this factor grows and the others stay.
    """
    columns = [values for name, values in factors.items() if name in varying(factors)]
    table = torch.stack([*columns, torch.ones(len(factors))], dim=1).double()
    slopes = torch.linalg.lstsq(table, codes.double()).solution[:-1]
    return slopes / slopes.norm(dim=1, keepdim=True).clamp(min=1e-12)


def read(sent: nn.Sequential, model: VAE, levels: Tensor) -> Tensor:
    """What the page reads off pictures `(N, C, H, W)` of grey levels, which it rounds first, in Python: `(N, 8)`, float64."""
    assert model.space.levels is not None
    out = sent(2 * levels.double().round() / (model.space.levels - 1) - 1)
    binary = torch.tensor([name in BINARY for name in FACTORS])
    return torch.where(binary, out.sigmoid(), out)


def plain_faces(n: int = 5000, seed: int = 0) -> FaceDataset:
    """Drawn faces of 24 x 24 pixels that differ in smile, pose and glasses alone, divided as those of `faces` are.

    Pose is in [-0.5, 0.5]. In `faces` the tones of skin, hair and background and a head that turns further change many more
    pixels than a smile does; a small VAE spends its code on them, and none on the smile.
    """
    drawn = sample_factors(n, torch.Generator().manual_seed(seed))
    factors = Factors(smile=drawn.smile, pose=0.5 * drawn.pose, glasses=drawn.glasses, hair=1.0)
    images, held_out = draw_faces(factors, 24), n // 10
    ends = {"train": slice(n - 2 * held_out), "valid": slice(n - 2 * held_out, n - held_out), "test": slice(n - held_out, n)}
    parts: dict[str, Any] = {part: images[end] for part, end in ends.items()}
    parts |= {f"{part}_factors": factors[end] for part, end in ends.items()}
    return FaceDataset(name="plain_faces24", space=_SPACE, **parts)


def trained_on_faces() -> tuple[VAE, FactorReader, dict[str, Any]]:
    """A VAE and a reader of the faces of `plain_faces`, and how they came about; float16 weights that come with the package.

    To train them again, for two minutes of one core: `python -m gencourse.explorers.two_latent_directions`.
    """
    with np.load(_WEIGHTS) as file, torch.random.fork_rng(devices=[]):
        run = json.loads(str(file["run"]))
        weights = {name: torch.from_numpy(file[name]) for name in file.files if name != "run"}
        model = _model()
        reader = FactorReader(model.space, readers._network(model.space, run["reader"]["width"]))
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items() if name[0] == "m"})
    network = {name.removeprefix("reader."): value for name, value in weights.items() if name[0] == "r"}
    reader.network.load_state_dict(network)
    reader.network.eval().requires_grad_(False)
    reader.scores = run["reader"]["scores"]
    return model.eval(), reader, run


_SPACE = Space((1, 24, 24), 256)
_WEIGHTS = Path(__file__).with_name("faces24.npz")
_FIT: dict[str, Any] = {"steps": 4000, "batch_size": 64, "lr": 4e-3, "ema": 0.99}
_READER = {"width": 6, "steps": 1200}


def _model() -> VAE:
    """With one scale for all pixels, which stays: learned for each pixel, it would make noise of those that a smile changes."""
    model = VAE(_SPACE, latent=5, hidden=(64, 64), activation=nn.ReLU)
    model.log_scale.requires_grad_(False).fill_(-4.0)
    return model


def _train() -> None:
    """Write the file of `trained_on_faces`."""
    dataset = plain_faces()
    torch.manual_seed(0)
    model = _model()
    fit(model, dataset, **_FIT, schedule=cosine, seed=0, device="cpu")
    reader = factor_reader(dataset, **_READER)
    weights = {f"model.{name}": value for name, value in model.eval().state_dict().items()}
    weights |= {f"reader.{name}": value for name, value in reader.network.state_dict().items()}
    halves = {name: (value.half() if value.is_floating_point() else value).numpy() for name, value in weights.items()}
    with torch.no_grad():
        bound = float(model.elbo(dataset.test, samples=10, generator=torch.Generator().manual_seed(0)).double().mean())
    run = {
        "data": dataset.name,
        "faces": len(dataset.train),
        "fit": _FIT | {"schedule": "cosine", "seed": 0},
        "test elbo, nats": round(bound, 1),
        "reader": _READER | {"scores": {name: round(score, 3) for name, score in reader.scores.items()}},
        "torch": str(torch.__version__),
    }
    np.savez_compressed(_WEIGHTS, run=json.dumps(run), **halves)
    print(run)


if __name__ == "__main__":
    _train()
