"""Draw an outline, and pix2pix fills it in: with the L1 error alone, or with a discriminator beside it (slide 125)."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gencourse.adversarial.pix2pix import Pix2Pix
from gencourse.adversarial.translation import UNet
from gencourse.data.scenes import SceneDataset, outlines_to_filled
from gencourse.explorers import maps
from gencourse.explorers.base import Explorer
from gencourse.explorers.rate_and_distortion import normals
from gencourse.metrics.scenes import striped
from gencourse.space import Space
from gencourse.train import cosine, fit
from gencourse.viz.theme import Picture


class DrawAndTranslate(Explorer):
    """Draw an outline of 16 by 16 pixels, or take one of the test set; a U-Net fills it in at once.

    The two networks had the same pairs, outlines and the shapes filled with stripes in one of four phases, and the same rates;
    one was trained with the L1 error alone, the other with a discriminator too. The reader measures how much of the inside is
    within 0.15 of stripes in the best phase, as `gencourse.metrics.scenes.striped` does, and how far new noise moves a pixel.

    The networks run in the page, in double precision, with float16 weights.

    Args:
        l1: a pix2pix from black and white to grey pictures, trained with the L1 error alone.
        gan: another, trained with the discriminator too; without arguments the two are those of `trained_on_stripes`.
        outlines: `(N, 1, H, W)` of 0 and 1, to begin with; without them, the first eight of the test set.
        seed: of the noise, see `rate_and_distortion.normals`.

    Raises:
        TypeError: if a model is no pix2pix.
        ValueError: if one is given without the other, their pictures are others, or the outlines do not fit.
    """

    module: ClassVar[Path] = Path(__file__).with_name("draw_and_translate.js")
    helpers: ClassVar[tuple[Path, ...]] = tuple(
        Path(__file__).with_name(f"{name}.js") for name in ("plane", "pixels", "networks", "maps")
    )

    def __init__(
        self, l1: Pix2Pix | None = None, gan: Pix2Pix | None = None, outlines: Tensor | None = None, *, seed: int = 0
    ) -> None:
        if (l1 is None) != (gan is None):
            raise ValueError("DrawAndTranslate needs two models, or none for those that come with the package.")
        if l1 is None or gan is None:
            l1, gan, _ = trained_on_stripes()
        models = {"l1": l1, "gan": gan}
        for model in models.values():
            if not isinstance(model, Pix2Pix):
                raise TypeError(f"DrawAndTranslate needs models of the class Pix2Pix, not {type(model).__name__}.")
        space, source, latent = gan.space, gan.source, gan.latent
        grey = space.shape[0] == source.shape[0] == 1 and space.shape == source.shape and source.levels == 2
        if not grey or (l1.space, l1.source, l1.latent) != (space, source, latent):
            raise ValueError("DrawAndTranslate shows two models from black and white to grey pictures of the same sides.")
        if space.shape[2] % 16:
            raise ValueError(f"DrawAndTranslate: stripes need pictures 16, 32, ... pixels wide, not {space.shape[2]}.")
        outlines = _outlines(8) if outlines is None else source.validate(outlines)
        if not len(outlines):
            raise ValueError("DrawAndTranslate needs at least one outline to begin with.")
        self.unets = {name: maps.as_sent(model.generator) for name, model in models.items()}
        drawings = ["".join(map(str, x.flatten().tolist())) for x in outlines.long()]
        state = {
            "networks": {name: _packed(unet, source.shape) for name, unet in self.unets.items()},
            "latent": latent,
            "height": space.shape[1],
            "width": space.shape[2],
            "levels": space.levels,
            "outlines": drawings,
            "drawing": drawings[0],
            "network": "gan",
            "pen": "1",
            "seed": seed % 2**32,
        }
        z = normals(seed, latent).expand(min(6, len(outlines)), latent)
        rows = [outlines[:6].double(), *(self.filled(name, outlines[:6], z) for name in models)]
        super().__init__(
            state,
            still=_still(rows)._repr_png_(),
            alt="Outlines of drawn shapes; beneath, what a network trained with the L1 error alone fills in, a blur, and what "
            "one that was trained against a discriminator too fills in, stripes.",
        )

    @torch.no_grad()
    def filled(self, network: str, outlines: Tensor, z: Tensor) -> Tensor:
        """What the page makes of outlines `(N, 1, H, W)` and noise `(N, latent)`, in Python: in [0, 1], float64."""
        return (self.unets[network](z.double(), 2.0 * outlines.double() - 1) + 1) / 2


def _packed(unet: nn.Module, source: tuple[int, ...]) -> list[dict[str, Any]]:
    """The layers of a U-Net in the order in which they are computed, with the shape of what goes into each."""
    assert isinstance(unet, UNet)
    found = []
    sides = source[1:]
    for name, layer in unet.layers.items():
        assert isinstance(layer, nn.Sequential) and isinstance(layer[0], nn.Conv2d)
        if name.startswith("up"):
            sides = tuple(2 * side for side in sides)
        shape = (layer[0].in_channels, *sides)
        found.append({"name": name, "from": list(shape), "layers": maps.packed(layer, shape)})
        if name.startswith("down"):
            sides = tuple(side // 2 for side in sides)
    return found


# --- the models that come with the package ----------------------------------------------------------------------------


def trained_on_stripes() -> tuple[Pix2Pix, Pix2Pix, dict[str, Any]]:
    """Two pix2pix, from outlines to stripes, and how they came about; float16 weights that come with the package.

    They differ in `gan`, the weight of the discriminator, alone: first weights, pairs and rates are the same. Outlines are black
    and white, as one draws them. To train them again, for a minute of one core:

        python -m gencourse.explorers.draw_and_translate
    """
    with np.load(_WEIGHTS) as file, torch.random.fork_rng(devices=[]):
        run = json.loads(str(file["run"]))
        models = [_model(weight) for weight in run["gan"]]
        for k, model in enumerate(models):
            state = {name: torch.from_numpy(file[f"{k}.{name}"]).float() for name in model.generator.state_dict()}
            model.generator.load_state_dict(state)
    return models[0].eval(), models[1].eval(), run


_WEIGHTS = Path(__file__).with_name("pix2pix_stripes.npz")
_GAN = (0.0, 1.0)
_OPTIONS: dict[str, Any] = {"widths": (10, 20, 20), "latent": 2}
_FIT: dict[str, Any] = {"steps": 600, "batch_size": 32, "lr": 1e-3, "ema": 0.99}


def _model(gan: float) -> Pix2Pix:
    torch.manual_seed(0)
    return Pix2Pix(Space((1, 16, 16), 256), source=Space((1, 16, 16), 2), gan=gan, **_OPTIONS)


def _outlines(n: int) -> Tensor:
    """The first outlines of the test set, black and white, each of another look."""
    labels = outlines_to_filled(16, fill="stripes").test_labels
    assert labels is not None
    return two_levels(labels[:n])


def two_levels(outlines: Tensor) -> Tensor:
    """Drawn outlines on 256 levels as 0 and 1: a pixel is a line's if the line covers a third of it, or more."""
    return (outlines > 100).long()


def _train() -> None:
    """Write the file of `trained_on_stripes`."""
    dataset: SceneDataset = outlines_to_filled(16, fill="stripes")
    assert dataset.train_labels is not None and dataset.test_labels is not None
    pairs = (dataset.train, two_levels(dataset.train_labels))
    weights, inside = {}, []
    for k, gan in enumerate(_GAN):
        model = _model(gan)
        fit(model, pairs, **_FIT, schedule=cosine, seed=0, device="cpu", progress=False)
        for name, value in model.generator.state_dict().items():
            value.copy_(value.half())
            weights[f"{k}.{name}"] = value.half().numpy()
        x = model.sample(len(dataset.test), two_levels(dataset.test_labels), generator=torch.Generator().manual_seed(0))
        inside.append(round(float(striped(x, dataset.test_scenes).inside.double().mean()), 3))
        print(gan, inside[-1], flush=True)
    run = {
        "data": "outlines_to_filled(16, fill='stripes'), outlines above 100 as 1",
        "gan": list(_GAN),
        "options": _OPTIONS,
        "fit": _FIT | {"schedule": "cosine", "seed": 0},
        "share of the inside that is striped": inside,
        "torch": str(torch.__version__),
    }
    np.savez_compressed(_WEIGHTS, run=json.dumps(run), **weights)


def _still(rows: list[Tensor]) -> Picture:
    """Outlines, and what the networks make of them, a row each."""
    figure = Picture(6.2, 3.1)
    across = len(rows[0])
    names = ("outline", "L1 alone", "L1 + GAN")
    for i, (name, pictures) in enumerate(zip(names, rows, strict=True)):
        for j, picture in enumerate(pictures):
            axes = figure.add_subplot(len(rows), across, i * across + j + 1)
            axes.imshow(picture[0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.grid(False)
            axes.set_xticks([])
            axes.set_yticks([])
            if not j:
                axes.set_ylabel(name, fontsize=9)
    figure.subplots_adjust(0.05, 0.02, 0.99, 0.98, 0.06, 0.06)
    return figure


if __name__ == "__main__":
    _train()
