"""Every model of the course, once. The taxonomy page, the tests, the command line and the lecture map read this table."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gencourse.kinds import GenerativeModel
    from gencourse.recipes import Recipe
    from gencourse.space import Space

#: The branches of slide 16, in the lecture's order: path -> what is said there.
BRANCHES: dict[tuple[str, ...], str] = {
    ("explicit",): "explicit density",
    ("explicit", "tractable"): "tractable density",
    ("explicit", "approximate"): "approximate density",
    ("explicit", "approximate", "variational"): "variational",
    ("explicit", "approximate", "markov chain"): "Markov chain",
    ("implicit",): "implicit density",
    ("implicit", "markov chain"): "Markov chain",
    ("implicit", "direct"): "direct",
}


@dataclass(frozen=True)
class Entry:
    """One model: where it stands in the taxonomy, in the literature, in the lecture and in the library.

    Attributes:
        name: as on the command line.
        title: as in the book.
        branch: its place in the taxonomy, a key of `BRANCHES`.
        paper, year, url: where it was published.
        slides: the lecture's slides about it.
        chapter: the chapter that derives it, by file name.
        path: module and class, `"gencourse.variational.vae:VAE"`.
        space: the smallest space it is tested on, as arguments of `Space`.
        options: arguments that make it small enough for that test.
    """

    name: str
    title: str
    branch: tuple[str, ...]
    paper: str
    year: int
    url: str
    slides: str
    chapter: str
    path: str
    space: tuple[tuple[int, ...], int | None] = ((1, 3, 3), 2)
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def cls(self) -> type[GenerativeModel]:
        """The model's class, imported now."""
        module, name = self.path.split(":")
        return getattr(importlib.import_module(module), name)

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The experiments at the end of the model's file."""
        module, _ = self.path.split(":")
        return importlib.import_module(module).RECIPES

    def build(self, space: Space, **options: Any) -> GenerativeModel:
        """An untrained model."""
        return self.cls(space, **options)

    def recipe(self, name: str) -> Recipe:
        """The recipe of that name; a `ValueError` suggests the nearest."""
        for recipe in self.recipes:
            if recipe.name == name:
                return recipe
        raise ValueError(_unknown(f"recipe of {self.name}", name, [recipe.name for recipe in self.recipes]))


MODELS: tuple[Entry, ...] = (
    Entry(
        name="fvbn",
        title="Fully visible belief network",
        branch=("explicit", "tractable"),
        paper="Does the wake-sleep algorithm produce good density estimators? (Frey, Hinton and Dayan)",
        year=1996,
        url="https://www.cs.toronto.edu/~hinton/absps/wsperf.htm",
        slides="18-22",
        chapter="03-chain-rule",
        path="gencourse.autoregressive.fvbn:FVBN",
    ),
    Entry(
        name="nade",
        title="NADE",
        branch=("explicit", "tractable"),
        paper="The neural autoregressive distribution estimator (Larochelle and Murray)",
        year=2011,
        url="https://proceedings.mlr.press/v15/larochelle11a.html",
        slides="18-22",
        chapter="03-chain-rule",
        path="gencourse.autoregressive.nade:NADE",
        options=(("hidden", 16),),
    ),
    Entry(
        name="made",
        title="MADE",
        branch=("explicit", "tractable"),
        paper="MADE: masked autoencoder for distribution estimation (Germain, Gregor, Murray and Larochelle)",
        year=2015,
        url="https://arxiv.org/abs/1502.03509",
        slides="18-22",
        chapter="03-chain-rule",
        path="gencourse.autoregressive.made:MADE",
        options=(("hidden", (32,)), ("masks", 2)),
    ),
    Entry(
        name="row_lstm",
        title="PixelRNN, Row LSTM",
        branch=("explicit", "tractable"),
        paper="Pixel recurrent neural networks (van den Oord, Kalchbrenner and Kavukcuoglu)",
        year=2016,
        url="https://arxiv.org/abs/1601.06759",
        slides="23-26",
        chapter="04-pixelrnn-pixelcnn",
        path="gencourse.autoregressive.pixelrnn:RowLSTM",
        options=(("hidden", 8), ("layers", 1), ("features", 12)),
    ),
    Entry(
        name="diagonal_bilstm",
        title="PixelRNN, Diagonal BiLSTM",
        branch=("explicit", "tractable"),
        paper="Pixel recurrent neural networks (van den Oord, Kalchbrenner and Kavukcuoglu)",
        year=2016,
        url="https://arxiv.org/abs/1601.06759",
        slides="23-26",
        chapter="04-pixelrnn-pixelcnn",
        path="gencourse.autoregressive.pixelrnn:DiagonalBiLSTM",
        options=(("hidden", 8), ("layers", 1), ("features", 12)),
    ),
    Entry(
        name="pixelcnn",
        title="PixelCNN",
        branch=("explicit", "tractable"),
        paper="Pixel recurrent neural networks (van den Oord, Kalchbrenner and Kavukcuoglu)",
        year=2016,
        url="https://arxiv.org/abs/1601.06759",
        slides="27-29",
        chapter="04-pixelrnn-pixelcnn",
        path="gencourse.autoregressive.pixelcnn:PixelCNN",
        options=(("blocks", 1), ("channels", 6), ("kernel", 3)),
    ),
    Entry(
        name="gated_pixelcnn",
        title="Gated PixelCNN",
        branch=("explicit", "tractable"),
        paper="Conditional image generation with PixelCNN decoders (van den Oord and others)",
        year=2016,
        url="https://arxiv.org/abs/1606.05328",
        slides="30",
        chapter="05-better-pixelcnn",
        path="gencourse.autoregressive.gated_pixelcnn:GatedPixelCNN",
        options=(("blocks", 1), ("channels", 6), ("kernel", 3)),
    ),
    Entry(
        name="pixelcnn_pp",
        title="PixelCNN++",
        branch=("explicit", "tractable"),
        paper="PixelCNN++: improving the PixelCNN with discretized logistic mixture likelihood (Salimans and others)",
        year=2017,
        url="https://arxiv.org/abs/1701.05517",
        slides="30",
        chapter="05-better-pixelcnn",
        path="gencourse.autoregressive.pixelcnn_pp:PixelCNNPP",
        options=(("channels", 6), ("blocks", 1)),
    ),
    Entry(
        name="multiscale",
        title="Multi-scale PixelCNN",
        branch=("explicit", "tractable"),
        paper="Pixel recurrent neural networks (van den Oord, Kalchbrenner and Kavukcuoglu)",
        year=2016,
        url="https://arxiv.org/abs/1601.06759",
        slides="30",
        chapter="05-better-pixelcnn",
        path="gencourse.autoregressive.multiscale:MultiScale",
        options=(("channels", 6), ("blocks", 1)),
    ),
    Entry(
        name="vae",
        title="Variational autoencoder",
        branch=("explicit", "approximate", "variational"),
        paper="Auto-encoding variational Bayes (Kingma and Welling)",
        year=2014,
        url="https://arxiv.org/abs/1312.6114",
        slides="44-87",
        chapter="09-vae",
        path="gencourse.variational.vae:VAE",
        options=(("latent", 2), ("hidden", (16,))),
    ),
    Entry(
        name="gan",
        title="Generative adversarial network",
        branch=("implicit", "direct"),
        paper="Generative adversarial nets (Goodfellow and others)",
        year=2014,
        url="https://arxiv.org/abs/1406.2661",
        slides="91-115",
        chapter="13-gan",
        path="gencourse.adversarial.gan:GAN",
        space=((2,), None),
    ),
    Entry(
        name="dcgan",
        title="Deep convolutional GAN",
        branch=("implicit", "direct"),
        paper="Unsupervised representation learning with deep convolutional generative adversarial networks (Radford and others)",
        year=2016,
        url="https://arxiv.org/abs/1511.06434",
        slides="116-122",
        chapter="14-dcgan",
        path="gencourse.adversarial.dcgan:DCGAN",
        space=((1, 8, 8), 17),
        options=(("latent", 4), ("width", 4)),
    ),
    Entry(
        name="wgan",
        title="Wasserstein GAN",
        branch=("implicit", "direct"),
        paper="Wasserstein generative adversarial networks (Arjovsky, Chintala and Bottou)",
        year=2017,
        url="https://arxiv.org/abs/1701.07875",
        slides="112, 124",
        chapter="15-better-gans",
        path="gencourse.adversarial.wgan:WGAN",
        space=((2,), None),
    ),
    Entry(
        name="began",
        title="Boundary equilibrium GAN",
        branch=("implicit", "direct"),
        paper="BEGAN: boundary equilibrium generative adversarial networks (Berthelot, Schumm and Metz)",
        year=2017,
        url="https://arxiv.org/abs/1703.10717",
        slides="112",
        chapter="15-better-gans",
        path="gencourse.adversarial.began:BEGAN",
        space=((2,), None),
    ),
)


def entry(name: str) -> Entry:
    """The model of that name.

    Raises:
        ValueError: if there is none; the nearest name is suggested.
    """
    for model in MODELS:
        if model.name == name:
            return model
    raise ValueError(_unknown("model", name, [model.name for model in MODELS]))


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {what}: {name!r}; {hint}There are: {', '.join(known)}."
