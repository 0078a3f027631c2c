"""What the models that read an image as a vector share: FVBN, NADE and MADE see D inputs, and no neighbourhoods."""

from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution

from gencourse.autoregressive.base import Autoregressive
from gencourse.networks import full_precision
from gencourse.space import Space


class FlatAutoregressive(Autoregressive):
    """An autoregressive model of vectors of D pixels.

    Attributes:
        outputs: the numbers that make one conditional: 1 logit on two levels, otherwise one a level.
    """

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.outputs: int = 1 if self.levels == 2 else self.levels

    def unit(self, x: Tensor) -> Tensor:
        """The pixels as a network takes them, `(B, D)`: scaled to [0, 1], in the weights' precision."""
        if x.shape[1:] != self.space.shape:
            self.space.validate(x)  # a batch without its channel would be flattened, and be wrong in silence
        return x.to(next(self.parameters()).dtype).flatten(1) / (self.levels - 1)

    def distribution(self, logits: Tensor) -> Distribution:
        """The conditionals with these logits, `(B, D, outputs)`: Bernoulli on two levels, categorical on more."""
        logits = full_precision(logits)
        if self.levels == 2:
            return Bernoulli(logits=logits.reshape(-1, *self.space.shape), validate_args=False)
        return Categorical(logits=logits.reshape(-1, *self.space.shape, self.levels), validate_args=False)
