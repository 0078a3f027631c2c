"""Training: `fit` plays a model's moves on one core or many GPUs. Read `loop` first."""

from gencourse.kinds import Move
from gencourse.train.history import History
from gencourse.train.loop import fit
from gencourse.train.plan import Pair
from gencourse.train.rates import adam, constant, cosine, linear, sgd

__all__ = ["History", "Move", "Pair", "adam", "constant", "cosine", "fit", "linear", "sgd"]
