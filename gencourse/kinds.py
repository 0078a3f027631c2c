"""The taxonomy of slide 16 as a class hierarchy: what a model can say about its own density, and how it is trained.

- `Tractable`: the exact `log_prob`.
- `Approximate`: a bound or an estimate of it.
- `Implicit`: samples, and nothing else.

Whatever its kind, a model says how it learns by its `moves`: one for maximum likelihood, one a player in a game. `Move` stands
here because it is a part of that contract; `gencourse.train`, which plays the moves, builds on this file, not the other way.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gencourse.space import Space


@dataclass
class Move:
    """One player's turn in training: which loss is lowered by which parameters. `gencourse.train.fit` plays it.

    Args:
        name: how the history and the error messages call it: "nll", "d", "g".
        loss: `loss(x, context)` gives the losses of a batch, `(B,)`; their mean is lowered.
        parameters: what this move may change.
        times: how often it is played in a step, each time on a fresh batch.
        optimizer: makes the optimiser from `(parameters, lr=...)`; None takes `fit`'s.
        lr: its learning rate; None takes `fit`'s.
        after: called after each update (weight clipping, say).
        gradient: `gradient(x, context)` gives the mean loss, `()`, and its gradient by each parameter that learns, for a
            model that knows it without autograd; `fit` takes it in place of autograd's.
        validate: whether this loss, on data not trained on, says which weights are better. `fit` validates the first move
            that says so; in a game between two players none does.
    """

    name: str
    loss: Callable[[Tensor, Tensor | None], Tensor]
    parameters: Iterable[nn.Parameter]
    times: int = 1
    optimizer: Callable[..., torch.optim.Optimizer] | None = None
    lr: float | None = None
    after: Callable[[], None] | None = None
    validate: bool = True
    gradient: Callable[[Tensor, Tensor | None], tuple[Tensor, Sequence[Tensor]]] | None = None
    learns: list[nn.Parameter] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.learns = [p for p in self.parameters if p.requires_grad]
        if not self.learns:
            raise ValueError(f"move {self.name!r} has no parameters to learn.")
        if self.times < 1:
            raise ValueError(f"move {self.name!r}: times must be 1 or more, not {self.times}.")


class Learner(nn.Module):
    """What `gencourse.train.fit` can train: networks on examples of a `Space`, which say how they learn by `moves`.

    Every generative model is one. An autoencoder and a classifier are learners too, and no distributions.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        if not isinstance(space, Space):
            raise TypeError(f"{type(self).__name__} expects a gencourse.space.Space first, not {type(space).__name__}.")
        self.space = space

    @contextmanager
    def evaluation(self, n: int = 0) -> Iterator[None]:
        """Evaluation mode inside the block, every module's own mode after it; refuses a number of samples below 0."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise ValueError(f"{type(self).__name__}.sample: n must be an integer of 0 or more, not {n!r}.")
        in_training = [module for module in self.modules() if module.training]
        for module in in_training:
            module.training = False
        try:
            yield
        finally:
            for module in in_training:
                module.training = True

    def moves(self) -> Sequence[Move]:
        """What `gencourse.train.fit` plays in every round; one move for maximum likelihood."""
        raise TypeError(f"{type(self).__name__} does not say how to train: implement moves.")

    def settle(self) -> None:
        """Measure afresh what depends on the weights without being one; `fit` asks for it when it has averaged the weights.

        Nothing, for most models. A network with batch norm has statistics to renew.
        """

    def _unconditional(self, context: Tensor | None) -> None:
        if context is not None:
            raise ValueError(f"{type(self).__name__} is unconditional: it takes no context.")

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device


class GenerativeModel(Learner):
    """A distribution over a `Space` with parameters to learn.

    Subclasses implement `_sample` and `moves`. Shapes: a batch is `(B, *space.shape)`, integers where the space has
    grey levels; per-example results are `(B,)`, in nats, event dimensions summed.
    """

    @torch.no_grad()
    def sample(self, n: int, context: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw `n` examples, `(n, *space.shape)`, in evaluation mode and without gradient; the mode is restored.

        Raises:
            ValueError: if `n` is negative, or the model takes no `context` and one is given.
        """
        with self.evaluation(n):
            return self._sample(n, context, generator)

    def example_context(self, n: int, *, generator: torch.Generator | None = None) -> Tensor | None:
        """`n` conditions of the form that `context` takes, made up, on the model's device; None where it takes none.

        Labels `(n,)` of a model with `classes`; a model that is conditioned on something else says on what.
        """
        classes: int | None = getattr(self, "classes", None)
        return torch.randint(classes, (n,), generator=generator, device=self.device) if classes else None

    def _sample(self, n: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not say how to sample: implement _sample.")


class Tractable(GenerativeModel):
    """An explicit density that can be evaluated exactly."""

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The exact log-probability of each example, `(B,)` nats."""
        raise TypeError(f"{type(self).__name__} must implement log_prob.")

    def moves(self) -> Sequence[Move]:
        """Maximum likelihood: lower the negative log-likelihood."""

        def nll(x: Tensor, context: Tensor | None = None) -> Tensor:
            return -self.log_prob(x, context)

        return [Move("nll", nll, self.parameters())]


class Approximate(GenerativeModel):
    """An explicit density known through a bound or an estimate."""

    def log_prob_estimate(
        self, x: Tensor, context: Tensor | None = None, *, samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        """An estimate of the log-probability of each example, `(B,)` nats (importance sampling, annealing, ...)."""
        raise TypeError(f"{type(self).__name__} must implement log_prob_estimate.")


class Implicit(GenerativeModel):
    """A sampler without a density: a map from noise to examples (GAN), or a Markov chain (GSN)."""
