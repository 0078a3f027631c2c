"""A classifier on top of an encoder that was trained without labels (slides 41 to 43).

Throw the decoder away, put a softmax layer on the code, and train on the few labels there are, in one of three ways:

    Classifier(autoencoder, classes=10)                  fine-tuned: encoder and softmax layer learn together
    Classifier(autoencoder, classes=10, frozen=True)     the softmax layer alone learns
    Classifier(Autoencoder(space), classes=10)           from scratch: the encoder starts untrained

`fit(classifier, (x, labels), ...)` trains it.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencourse.arguments import least_integer
from gencourse.kinds import Learner, Move
from gencourse.networks import full_precision
from gencourse.variational.autoencoder import BaseAutoencoder


class Classifier(Learner):
    """An encoder and a softmax layer.

    Args:
        autoencoder: whose encoder it begins with; it is copied, and so stays as it is.
        classes: 2 or more; labels are integers below.
        frozen: keep the encoder as it is, its batch-norm statistics too.

    Raises:
        TypeError, ValueError: if it is no autoencoder, or there are fewer than two classes.
    """

    def __init__(self, autoencoder: BaseAutoencoder, *, classes: int, frozen: bool = False) -> None:
        if not isinstance(autoencoder, BaseAutoencoder):
            raise TypeError(f"Classifier needs an Autoencoder or a ConvAutoencoder, not {type(autoencoder).__name__}.")
        super().__init__(autoencoder.space)
        self.classes, self.frozen = least_integer("Classifier: classes", classes, 2), bool(frozen)
        self.encoder = copy.deepcopy(autoencoder.encoder).requires_grad_(not frozen)
        weight = next(self.encoder.parameters())
        self.head = nn.Linear(autoencoder.latent, self.classes, device=weight.device, dtype=weight.dtype)
        self.train()

    def train(self, mode: bool = True) -> "Classifier":
        """Training mode, or evaluation mode; a frozen encoder is in evaluation mode always."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def logits(self, x: Tensor) -> Tensor:
        """The logits of the classes, `(B, classes)`."""
        y = self.space.to_signed(self.space.validate(x, values=False), self.head.weight.dtype)
        return full_precision(self.head(self.encoder(y)))  # (B, *shape) -> (B, latent) -> (B, classes)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """The most probable class of each image, `(N,)` int64, computed 1000 images at a time in evaluation mode."""
        with self.evaluation():
            return torch.cat([self.logits(part).argmax(1) for part in x.split(1000)])

    def accuracy(self, x: Tensor, labels: Tensor) -> float:
        """The share of the images `(N, *space.shape)` whose label `(N,)` is the predicted one."""
        return float((self.predict(x) == labels.to(self.device)).double().mean())

    def moves(self) -> list[Move]:
        """One move: lower the cross-entropy of the labels, which are the context."""

        def cross_entropy(x: Tensor, labels: Tensor | None = None) -> Tensor:
            if labels is None:
                raise ValueError("Classifier learns from labels: fit(model, (x, labels)), or conditional=True with a Dataset.")
            return functional.cross_entropy(self.logits(x), labels.long(), reduction="none")

        return [Move("cross_entropy", cross_entropy, (self.head if self.frozen else self).parameters())]
