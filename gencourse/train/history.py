"""What happened in a run of `fit`."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class History:
    """What happened in a run.

    Attributes:
        losses: for each move, its mean loss in every step.
        valid: `(step, loss)` on the validation data, in evaluation mode; empty if no move's loss can be validated.
        best_step: the step whose weights were kept (None without validation).
        seconds: spent in training, over all resumed parts.
        interrupted: True if Ctrl-C, a SIGTERM or a SIGHUP ended the run early.
        device, versions: where, and with what, it ran.
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    valid: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    seconds: float = 0.0
    interrupted: bool = False
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """The number of steps played."""
        return max((len(values) for values in self.losses.values()), default=0)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)
