"""What the trainings of this family draw for a batch: times spread evenly, and labels that are hidden now and then."""

import torch
from torch import Tensor

from gencourse.kinds import Learner
from gencourse.networks import one_hot


def even_times(n: int, device: torch.device) -> Tensor:
    """`n` times in [0, 1), each of them uniform, and together spread evenly (Kingma et al., 2021), `(n,)`."""
    return (torch.rand((), device=device) + torch.arange(n, device=device) / n) % 1


def hide_labels(condition: Tensor | None, share: float) -> Tensor | None:
    """One-hot rows `(n, classes)`, of which each is made a row of zeros with probability `share`; None stays None."""
    if condition is None:
        return None
    return condition * (torch.rand(len(condition), 1, device=condition.device) >= share)


def label_rows(model: Learner, classes: int | None, context: Tensor | None, n: int) -> Tensor | None:
    """The labels `(n,)` as one-hot rows `(n, classes)`; rows of zeros where none are given, None for a model without classes.

    Raises:
        ValueError: if the labels are none of the model's, or it takes none.
    """
    if classes is None:
        model._unconditional(context)
        return None
    like = next(model.parameters())
    return like.new_zeros(n, classes) if context is None else one_hot(context, classes, n, like, type(model).__name__)
