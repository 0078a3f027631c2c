"""Is an encoder that was trained without labels worth something where labels are few (slides 41 to 43)?

The experiment of chapter 8, as one function for one answer: `play` gives the accuracy of a classifier that has seen some labels.
Everything that is drawn follows from the seed: the first weights, the autoencoder that is trained from them on all training
images, the labelled images (as many of each class), the softmax layer, the order of the batches. So two ways of the same seed
differ in one thing, and their accuracies can be subtracted.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencourse.arguments import positive_integer
from gencourse.data import Dataset, load
from gencourse.space import Space
from gencourse.train import History, cosine, fit
from gencourse.variational.autoencoder import Autoencoder, BaseAutoencoder, ConvAutoencoder
from gencourse.variational.classifier_head import Classifier
from gencourse.variational.corruption import Blanking


class Way(NamedTuple):
    """Where a classifier's encoder comes from, and whether it learns from the labels too."""

    pretrained: bool
    frozen: bool = False
    denoising: bool = False


WAYS = {
    "scratch": Way(pretrained=False),
    "fine-tuned": Way(pretrained=True),
    "frozen": Way(pretrained=True, frozen=True),
    "denoising, fine-tuned": Way(pretrained=True, denoising=True),
    "denoising, frozen": Way(pretrained=True, frozen=True, denoising=True),
}
ENCODERS: dict[str, Callable[..., BaseAutoencoder]] = {
    "convolutional": ConvAutoencoder,
    "convolutional, batch norm": functools.partial(ConvAutoencoder, norm=nn.BatchNorm2d),
    "fully connected": Autoencoder,
}
LATENT = 16


def label_set(labels: Tensor, n: int, *, seed: int) -> Tensor:
    """Which `n` examples are labelled: indices `(n,)`, as many of each class, drawn without replacement.

    Raises:
        ValueError: if n is no multiple of the number of classes, or a class has too few examples.
    """
    n, classes = positive_integer("label_set: n", n), int(labels.max()) + 1
    each, rest = divmod(n, classes)
    fewest = int(torch.bincount(labels, minlength=classes).min())
    if rest or each > fewest:
        raise ValueError(f"label_set: n must be a multiple of the {classes} classes, {classes * fewest} or less, not {n}.")
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    return torch.cat([shuffled[labels[shuffled] == c][:each] for c in range(classes)])


def untrained(encoder: str, space: Space, *, seed: int, denoising: bool = False) -> BaseAutoencoder:
    """The autoencoder of a seed before training; the caller's random state is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ENCODERS[encoder](space, latent=LATENT, corrupt=Blanking(0.3) if denoising else None)


@functools.lru_cache(maxsize=2)
def pretrained(encoder: str, data: str, *, seed: int, denoising: bool = False, steps: int = 1200) -> BaseAutoencoder:
    """The same autoencoder trained on all training images of the data set of that name, without labels."""
    dataset = load(data)
    model = untrained(encoder, dataset.space, seed=seed, denoising=denoising)
    whole(fit(model, dataset, steps=steps, batch_size=64, lr=2e-3, schedule=cosine, seed=seed, device="cpu", progress=False))
    return model


def play(
    encoder: str, way: str, labels: int, *, seed: int, lr: float, part: str = "test", data: str = "digits", steps: int = 150
) -> float:
    """The accuracy on the test images of a classifier that has seen `labels` labels.

    Args:
        encoder: one of `ENCODERS`.
        way: one of `WAYS`.
        lr: AdamW's first learning rate; it falls to 0 along a cosine.
        part: "test", or "valid" to choose a rate by.
        data: the name of a data set with labels.
        steps: updates, of a batch of 100 or of all labels if they are fewer.
    """
    dataset, how = load(data), WAYS[way]
    train_labels = _labels(dataset, "train")
    if how.pretrained:
        autoencoder = pretrained(encoder, data, seed=seed, denoising=how.denoising)
    else:
        autoencoder = untrained(encoder, dataset.space, seed=seed)
    chosen = label_set(train_labels, labels, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # the same softmax layer for each way
        classifier = Classifier(autoencoder, classes=int(train_labels.max()) + 1, frozen=how.frozen)
    history = fit(
        classifier,
        (dataset.train[chosen], train_labels[chosen]),
        steps=steps,
        batch_size=min(labels, 100),
        lr=lr,
        optimizer=torch.optim.AdamW,
        schedule=cosine,
        seed=seed,
        device="cpu",
        progress=False,
    )
    whole(history)
    return classifier.accuracy(getattr(dataset, part), _labels(dataset, part))


def whole(history: History) -> None:
    """Refuse a training that was cut short: its accuracy would be another experiment's.

    Raises:
        KeyboardInterrupt: if it was.
    """
    if history.interrupted:
        raise KeyboardInterrupt


def on_pixels(model: object, labels: int, *, seed: int, part: str = "test", data: str = "digits") -> float:
    """The accuracy of a classifier of scikit-learn, fitted to the pixels in [-1, 1] of the same labelled images."""
    from sklearn.base import clone

    dataset = load(data)
    chosen = label_set(_labels(dataset, "train"), labels, seed=seed)

    def rows(x: Tensor) -> Tensor:
        return dataset.space.to_signed(x.flatten(1), torch.float64)

    fitted = clone(model).fit(rows(dataset.train[chosen]).numpy(), _labels(dataset, "train")[chosen].numpy())
    return float(fitted.score(rows(getattr(dataset, part)).numpy(), _labels(dataset, part).numpy()))


def _labels(dataset: Dataset, part: str) -> Tensor:
    labels: Tensor | None = getattr(dataset, f"{part}_labels")
    if labels is None:
        raise ValueError(f"few labels are not none: the data set {dataset.name!r} has no labels.")
    return labels
