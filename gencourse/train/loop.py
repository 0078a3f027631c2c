"""Training is a list of moves.

A maximum-likelihood model makes one move: lower its loss. A GAN makes two: the discriminator's, k times, and the
generator's, once. `fit` plays the moves in turn until the steps are done:

    for each step:
        for each move:
            repeat move.times:
                take a fresh batch, compute move.loss, step move's parameters

For a model of one move this is the loop that everybody has written; with the defaults, `fit` equals

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x in batches:                                            # (B, *space.shape), in a new order each epoch
        loss = -model.log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

and `_play`, `_play_move` and `_gradients` at the end of this file are its thirty lines for any number of moves. The rest of the
folder is what a loop grows with use: its arguments (`plan`), batches (`batches`), what is counted, validated and saved around
the moves (`run`), averaged weights, devices, Ctrl-C.

The random numbers of a step depend on the seed and the step alone. That is why a run that was killed and resumed ends
with the same weights, bit for bit on a CPU, and why two processes follow one that cuts its batches in two.
"""

import copy
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gencourse import checkpoint
from gencourse.data import Dataset
from gencourse.kinds import Learner, Move
from gencourse.train.devices import make_fabric
from gencourse.train.folder import taken
from gencourse.train.history import History
from gencourse.train.interrupts import interrupts
from gencourse.train.plan import Pair, Plan, parts
from gencourse.train.rates import adam, constant
from gencourse.train.run import Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fit(
    model: Learner,
    data: Dataset | Tensor | Pair,
    *,
    steps: int,
    batch_size: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
    valid: Tensor | Pair | None = None,
    conditional: bool = False,
    augment: Callable[[Tensor], Tensor] | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] = adam,
    schedule: Callable[[float], float] = constant,
    clip: float | None = None,
    ema: float | None = None,
    keep_best: bool = True,
    validate_every: int | None = None,
    precision: str = "32",
    device: str = "auto",
    devices: int = 1,
    micro_batches: int | None = None,
    resident: bool = True,
    out: str | Path | None = None,
    checkpoint_every: int = 500,
    resume: bool = False,
    callback: Callable[[int, Learner], None] | None = None,
    progress: bool = True,
) -> History:
    """Train `model` on `data` by playing its moves; the model is changed in place and stays on the training device.

    Args:
        data: a `gencourse.data.Dataset`, a batch of training examples, or a pair of examples and conditions.
        steps: how many rounds of moves to play.
        batch_size: examples in a batch, over all processes together.
        lr: the learning rate; `schedule(progress)` multiplies it, with progress in [0, 1).
        seed: of the order of the examples and of every random number drawn in training.
        valid: validation examples, when `data` is not a `Dataset`.
        conditional: pass the labels of a `Dataset` to the model as `context`.
        augment: applied to every training batch; the data set's own, if it has one, is the default.
        optimizer: makes an optimiser from `(parameters, lr=...)`.
        clip: the largest norm of a move's gradient; None leaves it as it is.
        ema: decay of an exponential average of the weights, such as 0.999; the average is validated and kept.
        keep_best: end with the weights that were best on the validation data.
        validate_every: steps between validations; by default twenty times a run.
        precision: "32", or "bf16" for autocast to bfloat16.
        device: "auto", "cpu", "cuda" or "mps".
        devices: how many processes, one device each. They are started here, unless `torchrun` started this one; then
            what is passed must be picklable, and a script needs its `if __name__ == "__main__"`.
        micro_batches: into how many pieces a batch is cut, each with random numbers of its own; by default `devices`.
            One process with 2 micro-batches and two processes compute the same updates, up to rounding. (Running
            statistics of a batch norm are those of the first process.)
        resident: keep the training set on the device; False copies each batch.
        out: a folder for checkpoints and the history. It must not hold a run yet, unless `resume`, and no two runs may be at
            work in it.
        checkpoint_every: steps between checkpoints.
        resume: continue from the checkpoint in `out`, if there is one; it must be of the same run: the same model, data and
            arguments, for as long as the rate is constant but for `steps`.
        callback: called as `callback(step, model)` after every step, `step` counting from 1.
        progress: show a progress bar.

    Returns:
        The `History`. Ctrl-C, a SIGTERM or a SIGHUP ends the run after the current step, keeps what was learned and returns.

    Raises:
        ValueError, TypeError: if an argument is out of range or the data do not belong to the model's space.
        FloatingPointError: if a loss is not finite, naming the step and the move.
        FileExistsError: if `out` already holds a run and `resume` is False, or another run is at work in it.
        OSError: if `out` cannot be made or written, before anything is trained; later, if a checkpoint cannot be written: the
            earlier one is untouched.

    >>> from gencourse.autoregressive.fvbn import FVBN
    >>> from gencourse.data import load
    >>> bars = load("bars_and_stripes")
    >>> history = fit(FVBN(bars.space), bars, steps=20, batch_size=7, lr=0.1, device="cpu", progress=False)
    >>> history.steps, history.losses["nll"][-1] < history.losses["nll"][0]
    (20, True)
    """
    asked = {name: value for name, value in locals().items() if name in Plan.__dataclass_fields__}
    asked["train"], asked["valid"] = parts(data, valid, conditional)
    if isinstance(data, Dataset):
        asked["augment"] = augment or data.augment
    plan = Plan(**asked)
    plan.check(model.space)
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    fabric = make_fabric(plan.device, plan.devices, plan.precision, under_torchrun)
    if plan.devices == 1 or under_torchrun:
        fabric.launch()
        with _folder(plan, model) if fabric.is_global_zero else nullcontext():
            return _play(fabric, model, plan)
    # Results through a file: through a pipe, a long history would block, and tensors be lost.
    with tempfile.TemporaryDirectory() as folder, _folder(plan, model), interrupts(pass_on=True) as interrupted:
        result = Path(folder) / "result.pt"
        try:
            fabric.launch(_play_in_child, model, plan, result)  # type: ignore[arg-type]
        except Exception:
            if interrupted():  # before they could train
                raise KeyboardInterrupt from None
            raise
        state = checkpoint.load(result)
    model.load_state_dict(state["weights"])
    return History(**state["history"])


def _folder(plan: Plan, model: Learner) -> AbstractContextManager[None]:
    """The run's folder, taken for this run alone; nothing for a run without one."""
    if plan.out is None:
        return nullcontext()
    size = sum(value.nbytes for value in model.state_dict().values() if isinstance(value, Tensor))
    copies = 1 + bool(plan.ema) + 2 * (plan.optimizer is adam)  # the weights, their average, Adam's moments
    return taken(plan.out, resume=plan.resume, room=copies * size, settings=plan.told())


def _play(fabric: "Fabric", model: Learner, plan: Plan) -> History:
    """Play the moves until the steps are done."""
    model.to(fabric.device)
    moves = list(model.moves())
    history = History({move.name: [] for move in moves})
    with Run(fabric, model, moves, plan, history) as run:
        while run.goes_on():
            losses = [_play_move(fabric, move, optimizer, run) for move, optimizer in zip(moves, run.optimizers, strict=True)]
            run.end_of_step(losses)
    return history


def _play_move(fabric: "Fabric", move: Move, optimizer: torch.optim.Optimizer, run: Run) -> Tensor:
    """Play one move `times` times, each on a fresh batch; the mean of its losses."""
    losses = []
    for _ in range(move.times):
        loss, gradients = _gradients(fabric, move, run)
        run.must_be_finite(loss, move)
        for parameter, gradient in zip(move.learns, gradients, strict=True):
            if gradient is not None and gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)  # fused optimisers pair entries by their place in memory
            parameter.grad = gradient
        if run.plan.clip:
            nn.utils.clip_grad_norm_(move.learns, run.plan.clip)
        optimizer.step()
        for parameter in move.learns:
            parameter.grad = None
        if move.after:
            move.after()
        losses.append(loss)
    return losses[0] if move.times == 1 else torch.stack(losses).mean()


def _gradients(fabric: "Fabric", move: Move, run: Run) -> tuple[Tensor, list[Tensor | None]]:
    """The mean loss of the next batch and its gradient, averaged over micro-batches and processes.

    Only the gradient of the move's own parameters is computed: a generator's move leaves no trace in the discriminator.
    """
    total: Tensor | None = None
    sums: list[Tensor | None] = [None] * len(move.learns)
    for x, context in run.next_batch():
        with fabric.autocast():
            loss, known = move.gradient(x, context) if move.gradient else (move.loss(x, context).mean(), None)
        gradients = known or torch.autograd.grad(loss, move.learns, allow_unused=True)
        total = loss.detach() if total is None else total + loss.detach()
        sums = [g if s is None else s if g is None else s + g for s, g in zip(sums, gradients, strict=True)]
    assert total is not None  # a batch has at least one piece
    if run.plan.micro_batches == 1:
        return total, sums
    flat = torch.cat([total.reshape(1), *[s.flatten() for s in sums if s is not None]]) / run.plan.micro_batches
    if fabric.world_size > 1:
        flat = fabric.all_reduce(flat, reduce_op="sum")  # type: ignore[assignment]
    parts = iter(flat[1:].split([s.numel() for s in sums if s is not None]))
    return flat[0], [None if s is None else next(parts).view_as(s) for s in sums]


def _play_in_child(fabric: "Fabric", model: Learner, plan: Plan, result: Path) -> None:
    model = copy.deepcopy(model)  # spawned processes share the parent's memory
    history = _play(fabric, model, plan)
    if fabric.is_global_zero:
        weights = {name: value.cpu() for name, value in model.state_dict().items()}
        checkpoint.save(result, {"weights": weights, "history": history.to_dict()})
