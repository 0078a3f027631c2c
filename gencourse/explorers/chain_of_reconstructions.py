"""A generative stochastic network walks in the page: noise, a guess, noise, a guess (slide 16)."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from gencourse import data
from gencourse.explorers import networks
from gencourse.explorers.base import Explorer
from gencourse.explorers.gibbs_sampling import stream
from gencourse.markov.corruption import SaltAndPepper
from gencourse.markov.gsn import GSN
from gencourse.space import Space
from gencourse.train import cosine, fit
from gencourse.viz.theme import Picture


class ChainOfReconstructions(Explorer):
    """Watch a chain of reconstructions, by a network trained with walkback or by one without, at any level of noise.

    Each step shows the state, its spoiled copy, the network's guess and the next state, which is drawn. Beneath stand the last
    states, the classes visited since something was changed, and how often a step changes the class. The class is that of a linear
    classifier, whose accuracy on the test images is told.

    The networks run in the page, in double precision, with float16 weights: 45 KB each with two hidden layers of 80. The chain is
    that of `GSN.step`, with the same numbers.

    Args:
        plain: a GSN of grey images on two levels, with `SaltAndPepper` and a network that `networks.as_sent` knows.
        walkback: another, trained with walkback.
        classifier: scores of the classes from pixels 0 and 1, `(B, D) -> (B, K)`.
        images: test images `(N, 1, H, W)`; the chain may begin with one of the first `offered`.
        labels: their classes, `(N,)`.
        offered: how many.
        seed: of the page's random numbers, see `one_pixel_at_a_time.uniforms`.

    Raises:
        TypeError: if a model is no such GSN.
        ValueError: if the images do not fit.
    """

    module: ClassVar[Path] = Path(__file__).with_name("chain_of_reconstructions.js")
    helpers: ClassVar[tuple[Path, ...]] = tuple(
        Path(__file__).with_name(f"{name}.js") for name in ("plane", "pixels", "networks")
    )

    def __init__(
        self,
        plain: GSN,
        walkback: GSN,
        classifier: nn.Linear,
        images: Tensor,
        labels: Tensor,
        *,
        offered: int = 8,
        seed: int = 0,
    ) -> None:
        sent = {"plain": as_sent(plain), "walkback": as_sent(walkback)}
        space = plain.space
        if not len(space.validate(images)) == len(labels) > 0:
            raise ValueError(f"ChainOfReconstructions needs a label for each image, not {len(labels)} for {len(images)}.")
        if not 0 <= seed < 2**32:
            raise ValueError(f"ChainOfReconstructions: seed must be in 0..{2**32 - 1}, not {seed}.")
        judge = networks.as_sent(nn.Sequential(classifier))
        with torch.no_grad():
            right = (judge(images.flatten(1).double()).argmax(1) == labels).double().mean()
        state = {
            "networks": {name: networks.packed(layers, (space.dim,)) for name, layers in sent.items()},
            "classifier": networks.packed(judge, (space.dim,)),
            "right": round(float(right), 4),  # the share of the test images that the classifier gets right
            "trained": {name: _rho(model) for name, model in (("plain", plain), ("walkback", walkback))},
            "height": space.shape[1],
            "width": space.shape[2],
            "images": ["".join(map(str, x.flatten().tolist())) for x in images[:offered].long()],
            "network": "walkback",
            "noise": round(_rho(walkback), 2),
            "image": 0,
            "seed": seed,
            "x": "",
            "steps": 0,
        }
        states = [images[0].long()]
        walk = walked(walkback, images[0], stream(seed), _rho(walkback))
        states += [next(walk)[1] for _ in range(29)]
        super().__init__(
            state,
            still=_still(torch.stack(states))._repr_png_(),
            alt="Thirty states that follow each other in a chain of reconstructions, from a test digit on, in three rows.",
        )

    @classmethod
    def of_digits(cls) -> "ChainOfReconstructions":
        """With the networks of `trained_on_digits`, and the test images of the data that they have not seen."""
        plain, walkback, classifier, _ = trained_on_digits()
        dataset = data.load("binary_digits")
        assert dataset.test_labels is not None
        return cls(plain, walkback, classifier, dataset.test, dataset.test_labels)


@torch.no_grad()
def walked(model: GSN, image: Tensor, numbers: Iterator[float], noise: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The page's chain, in Python: from an image `(1, H, W)`, each step's spoiled copy and next state, both int64.

    A step takes one uniform number a pixel for the noise, and then one a pixel for the draw, as `GSN.step` does.
    """
    network, x = as_sent(model), image.long()
    while True:
        u, w = (torch.tensor([next(numbers) for _ in range(x.numel())], dtype=torch.float64).view_as(x) for _ in range(2))
        noisy = x.masked_fill(u < noise, 0).masked_fill(u < noise / 2, 1)
        x = (w < torch.sigmoid(network(2.0 * noisy.view(1, -1).double() - 1)).view_as(x)).long()
        yield noisy, x


def as_sent(model: GSN) -> nn.Sequential:
    """The network as the page runs it, in double precision with float16 weights, of a model that is checked."""
    if not isinstance(model, GSN):
        raise TypeError(f"ChainOfReconstructions needs a GSN, not {type(model).__name__}.")
    space = model.space
    if space.levels != 2 or len(space.shape) != 3 or space.shape[0] != 1:
        raise TypeError(f"ChainOfReconstructions shows grey images on two levels, but this is a model of {space}.")
    if not isinstance(model.corruption, SaltAndPepper) or model.corruption.salt != 0.5:
        raise TypeError(
            f"ChainOfReconstructions: the page can make SaltAndPepper noise with a fair coin, not {model.corruption}."
        )
    return networks.as_sent(model.network)


def _rho(model: GSN) -> float:
    assert isinstance(model.corruption, SaltAndPepper)  # as_sent has checked it
    return float(model.corruption.rho)


def trained_on_digits() -> tuple[GSN, GSN, nn.Linear, dict[str, Any]]:
    """A GSN trained on `binary_digits` without walkback and one with, a linear classifier, and how they came about.

    The two differ in `walkback` alone, as in `benchmarks/gsn_walkback.py`, at its learning rate, but with smaller layers. The
    weights are float16 and come with the package. To train them again, for some minutes of one core:

        python -c "from gencourse.explorers.chain_of_reconstructions import train; train()"
    """
    with np.load(_WEIGHTS) as file, torch.random.fork_rng(devices=[]):
        run = json.loads(str(file["run"]))
        plain, walkback, classifier = _untrained(Space(tuple(run["space"]["shape"]), run["space"]["levels"]))
        for name, module in (("plain", plain), ("walkback", walkback), ("classifier", classifier)):
            module.load_state_dict({key: torch.from_numpy(file[f"{name}.{key}"]).float() for key in module.state_dict()})
    return plain.eval(), walkback.eval(), classifier.eval(), run


_WEIGHTS = Path(__file__).with_name("gsn_digits.npz")
_RHO, _HIDDEN, _WALKBACK, _STEPS, _RATE = 0.05, (80, 80), 3, 500, 1e-2


def _untrained(space: Space) -> tuple[GSN, GSN, nn.Linear]:
    gsns = []
    for walkback in (0, _WALKBACK):
        torch.manual_seed(0)
        gsns.append(GSN(space, corruption=SaltAndPepper(_RHO), hidden=_HIDDEN, walkback=walkback))
    return gsns[0], gsns[1], nn.Linear(space.dim, 10)


def train() -> None:
    """Write the file of `trained_on_digits`."""
    dataset = data.load("binary_digits")
    plain, walkback, classifier = _untrained(dataset.space)
    optimizer = partial(torch.optim.AdamW, weight_decay=0.01)
    for model in (plain, walkback):
        settings: dict[str, Any] = {"schedule": cosine, "ema": 0.99, "optimizer": optimizer, "device": "cpu", "progress": False}
        fit(model, dataset.train, steps=_STEPS, batch_size=100, lr=_RATE, seed=0, **settings)
    pixels, labels = dataset.train.flatten(1).float(), dataset.train_labels
    assert labels is not None
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    lbfgs = torch.optim.LBFGS(classifier.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:  # with a little ridge
        lbfgs.zero_grad()
        value = nn.functional.cross_entropy(classifier(pixels), labels) + 0.002 * classifier.weight.square().sum()
        value.backward()
        return value

    lbfgs.step(loss)  # type: ignore[arg-type]
    run = {
        "data": "binary_digits",
        "space": {"shape": list(dataset.space.shape), "levels": dataset.space.levels},
        "noise": _RHO,
        "hidden": list(_HIDDEN),
        "walkback": [0, _WALKBACK],
        "steps": _STEPS,
        "lr": _RATE,
        "seed": 0,
        "torch": str(torch.__version__),
    }
    weights = {
        f"{name}.{key}": value.half().numpy()
        for name, module in (("plain", plain), ("walkback", walkback), ("classifier", classifier))
        for key, value in module.state_dict().items()
    }
    np.savez_compressed(_WEIGHTS, run=json.dumps(run), **weights)  # type: ignore[arg-type]


def _still(states: Tensor) -> Picture:
    """States `(30, 1, H, W)` in three rows."""
    figure = Picture(6.2, 2.0)
    for i, x in enumerate(states):
        axes: Axes = figure.add_subplot(3, 10, i + 1)
        axes.imshow(x[0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.subplots_adjust(0.01, 0.02, 0.99, 0.98, 0.08, 0.08)
    return figure
