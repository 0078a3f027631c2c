"""Training is a list of moves.

A maximum-likelihood model makes one move: lower its loss. A GAN makes two: the discriminator's, k times, and the
generator's, once. `fit` plays the moves in turn until the steps are done:

    for each step:
        for each move:
            repeat move.times:
                take a fresh batch, compute move.loss, step move's parameters

The random numbers of a step depend on the seed and the step alone. That is why a run that was killed and resumed ends
with the same weights, bit for bit on a CPU, and why two processes follow one that cuts its batches in two.
"""

import copy
import hashlib
import math
import os
import platform
import signal
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gencourse import checkpoint

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencourse.data import Dataset
    from gencourse.kinds import GenerativeModel

Examples = Tensor | tuple[Tensor, Tensor | None]


@dataclass
class Move:
    """One player's turn.

    Args:
        name: how the history and the error messages call it: "nll", "d", "g".
        loss: `loss(x, context)` gives the losses of a batch, `(B,)`; their mean is lowered.
        parameters: what this move may change.
        times: how often it is played in a step, each time on a fresh batch.
        optimizer: makes the optimiser from `(parameters, lr=...)`; None takes `fit`'s.
        lr: its learning rate; None takes `fit`'s.
        after: called after each update (weight clipping, say).
    """

    name: str
    loss: Callable[[Tensor, Tensor | None], Tensor]
    parameters: Iterable[nn.Parameter]
    times: int = 1
    optimizer: Callable[..., torch.optim.Optimizer] | None = None
    lr: float | None = None
    after: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError(f"move {self.name!r} has no parameters to learn.")
        if self.times < 1:
            raise ValueError(f"move {self.name!r}: times must be 1 or more, not {self.times}.")


@dataclass
class History:
    """What happened in a run.

    Attributes:
        losses: for each move, its mean loss in every step.
        valid: `(step, loss)` on the validation data, the first move's loss in evaluation mode.
        best_step: the step whose weights were kept (None without validation).
        seconds: spent in training, over all resumed parts.
        interrupted: True if Ctrl-C ended the run early.
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


def constant(progress: float) -> float:
    """A learning rate that stays."""
    return 1.0


def cosine(progress: float) -> float:
    """A learning rate that falls to zero along half a cosine, after a linear warm-up of one step in fifty."""
    warm_up = 0.02
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


@dataclass
class _Plan:
    """The arguments of `fit`, checked; what every process of a run is told."""

    train: Examples
    valid: Examples | None
    augment: Callable[[Tensor], Tensor] | None
    steps: int
    batch_size: int
    lr: float
    seed: int
    optimizer: Callable[..., torch.optim.Optimizer]
    schedule: Callable[[float], float]
    clip: float | None
    ema: float | None
    keep_best: bool
    validate_every: int
    micro_batches: int
    resident: bool
    out: Path | None
    checkpoint_every: int
    resume: bool
    callback: Callable[[int, "GenerativeModel"], None] | None
    progress: bool

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a resumed run to continue the old one."""
        x, _ = _pair(self.train)
        same = ("batch_size", "lr", "seed", "clip", "ema", "keep_best", "validate_every", "micro_batches")
        return {
            **{name: getattr(self, name) for name in same},
            "steps": None if self.schedule is constant else self.steps,  # a constant rate may go on for longer
            "schedule": getattr(self.schedule, "__name__", str(self.schedule)),
            "data": f"{tuple(x.shape)} crc32={zlib.crc32(x.cpu().contiguous().numpy().tobytes()):08x}",
        }


def fit(
    model: "GenerativeModel",
    data: "Dataset | Examples",
    *,
    steps: int,
    batch_size: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
    valid: Examples | None = None,
    conditional: bool = False,
    augment: Callable[[Tensor], Tensor] | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
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
    callback: Callable[[int, "GenerativeModel"], None] | None = None,
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
        out: a folder for checkpoints and the history. It must not hold a run yet, unless `resume`.
        checkpoint_every: steps between checkpoints.
        resume: continue from the checkpoint in `out`, if there is one.
        callback: called as `callback(step, model)` after every step, `step` counting from 1.
        progress: show a progress bar.

    Returns:
        The `History`. Ctrl-C ends the run after the current step, keeps what was learned and returns.

    Raises:
        ValueError, TypeError: if an argument is out of range or the data do not belong to the model's space.
        FloatingPointError: if a loss is not finite, naming the step and the move.
        FileExistsError: if `out` already holds a run and `resume` is False.
        OSError: if a checkpoint cannot be written; the earlier one is untouched.
    """
    if hasattr(data, "train"):
        labels = (data.train_labels, data.valid_labels) if conditional else (None, None)
        if conditional and data.train_labels is None:
            raise ValueError(f"fit: the data set {data.name!r} has no labels to condition on.")
        augment = augment or data.augment
        if valid is None and len(data.valid):
            valid = (data.valid, labels[1])
        data = (data.train, labels[0])
    x, context = _pair(data)
    pieces = micro_batches or devices
    for name, value in dict(steps=steps, batch_size=batch_size, devices=devices, micro_batches=pieces).items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"fit: {name} must be a positive integer, not {value!r}.")
    if not (isinstance(lr, int | float) and math.isfinite(lr) and lr > 0):
        raise ValueError(f"fit: lr must be a positive number, not {lr!r}.")
    if ema is not None and not 0 < ema < 1:
        raise ValueError(f"fit: ema must lie between 0 and 1, such as 0.999, not {ema!r}.")
    if precision not in ("32", "bf16"):
        raise ValueError(f"fit: precision must be '32' or 'bf16', not {precision!r}.")
    if context is not None and len(context) != len(x):
        raise ValueError(f"fit: {len(x)} examples, but {len(context)} conditions.")
    if batch_size > len(x):
        raise ValueError(f"fit: batch_size is {batch_size}, but there are only {len(x)} training examples.")
    if batch_size % pieces or pieces % devices:
        raise ValueError(f"fit: {devices} device(s) and a batch of {batch_size} cannot share {pieces} micro-batches evenly.")
    model.space.validate(x if augment is None else augment(x[:64]))
    if valid is not None:
        model.space.validate(_pair(valid)[0])

    plan = _Plan(
        (x, context), valid, augment, steps, batch_size, lr, seed, optimizer, schedule, clip, ema,
        keep_best, validate_every or max(1, steps // 20), pieces, resident,
        None if out is None else Path(out), checkpoint_every, resume, callback, progress,
    )  # fmt: skip
    if plan.out and (plan.out / "checkpoint.pt").exists() and not resume:
        raise FileExistsError(f"fit: {plan.out} already holds a run; pass resume=True to continue it, or choose another folder.")

    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    fabric = _fabric(device, devices, precision, under_torchrun)
    if devices == 1 or under_torchrun:
        fabric.launch()
        return _play(fabric, model, plan)
    weights, history = fabric.launch(_play_in_child, model, plan)
    model.load_state_dict(weights)
    return history


def _play(fabric: "Fabric", model: "GenerativeModel", plan: _Plan) -> History:
    """Play the moves. This is all that training is."""
    device, rank, world = fabric.device, fabric.global_rank, fabric.world_size
    model.to(device)
    moves = list(model.moves())
    optimizers = [(move.optimizer or plan.optimizer)(move.parameters, lr=move.lr or plan.lr) for move in moves]
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    average = _Average(model, plan.ema) if plan.ema else None
    history = History({move.name: [] for move in moves}, device=_device_name(device), versions=_versions())
    best: dict[str, Any] = {"loss": math.inf, "weights": None}
    step = 0
    if plan.resume and plan.out and (plan.out / "checkpoint.pt").exists():
        step = _restore(plan, model, optimizers, average, best, history)

    batches = _Batches(plan, device, rank, world)
    per_step = sum(move.times for move in moves)
    sync_every = 1 if device.type == "cpu" else 50  # reading a loss makes a GPU wait
    pending: list[Tensor] = []
    bar = _progress_bar(plan, step) if rank == 0 else None
    start, earlier = time.perf_counter(), history.seconds

    def save() -> None:
        if plan.out and rank == 0:
            history.seconds = earlier + time.perf_counter() - start
            _save(plan, step, model, optimizers, average, best, history)

    was_training = model.training
    model.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _between_steps() as interrupted:
        while step < plan.steps and not interrupted():
            losses = []
            batch = step * per_step
            for move, optimizer, initial in zip(moves, optimizers, rates, strict=True):
                for group, rate in zip(optimizer.param_groups, initial, strict=True):
                    group["lr"] = rate * plan.schedule(step / plan.steps)
                total = torch.zeros((), device=device)
                for _ in range(move.times):
                    loss, gradients = _gradients(fabric, move, batches.pieces(batch), plan)
                    if sync_every == 1 and not math.isfinite(loss):
                        _stop_at(step, move.name, float(loss), plan)
                    for parameter, gradient in zip(move.parameters, gradients, strict=True):
                        parameter.grad = gradient
                    if plan.clip:
                        nn.utils.clip_grad_norm_(move.parameters, plan.clip)
                    optimizer.step()
                    if move.after:
                        move.after()
                    total += loss
                    batch += 1
                for parameter in move.parameters:
                    parameter.grad = None
                losses.append(total / move.times)
            pending.append(torch.stack(losses))
            step += 1
            if average:
                average.update()

            if step % sync_every == 0 or step == plan.steps or interrupted():
                _record(pending, step, moves, history, plan)
                if bar:
                    bar.set_postfix({name: f"{values[-1]:.4g}" for name, values in history.losses.items()}, refresh=False)
                    bar.update(step - bar.n)
            if plan.valid is not None and (step % plan.validate_every == 0 or step == plan.steps):
                with average.swapped_in() if average else _nothing():
                    loss_now = _validate(fabric, model, moves[0], plan)
                    history.valid.append((step, loss_now))
                    if loss_now < best["loss"]:
                        best.update(loss=loss_now, weights=_copy(model.state_dict()))
                        history.best_step = step
            if plan.callback and rank == 0:
                plan.callback(step, model)
            if step % plan.checkpoint_every == 0 or step == plan.steps:
                _record(pending, step, moves, history, plan)
                save()
        history.interrupted = step < plan.steps
        if history.interrupted:
            _record(pending, step, moves, history, plan)
            save()
    if bar:
        bar.close()
    history.seconds = earlier + time.perf_counter() - start
    if plan.keep_best and best["weights"] is not None:
        model.load_state_dict(best["weights"])
    elif average:
        average.copy_to_model()
    model.train(was_training)
    if history.interrupted and rank == 0:
        warnings.warn(f"interrupted after step {step} of {plan.steps}; what was learned is kept.", stacklevel=3)
    return history


def _play_in_child(fabric: "Fabric", model: "GenerativeModel", plan: _Plan) -> tuple[dict[str, Tensor], History]:
    model = copy.deepcopy(model)  # spawned processes share the parent's memory
    history = _play(fabric, model, plan)
    return _copy(model.state_dict(), "cpu"), history


def _gradients(
    fabric: "Fabric", move: Move, pieces: Iterator[tuple[Tensor, Tensor | None]], plan: _Plan
) -> tuple[Tensor, list[Tensor | None]]:
    """The mean loss of a batch and its gradient, averaged over micro-batches and processes."""
    total: Tensor | None = None
    sums: list[Tensor | None] = [None] * len(move.parameters)  # type: ignore[arg-type]
    for x, context in pieces:
        with fabric.autocast():
            loss = move.loss(x, context).mean()
        gradients = torch.autograd.grad(loss, move.parameters, allow_unused=True)  # type: ignore[arg-type]
        total = loss.detach() if total is None else total + loss.detach()
        sums = [g if s is None else s if g is None else s + g for s, g in zip(sums, gradients, strict=True)]
    assert total is not None
    if plan.micro_batches == 1:
        return total, sums
    flat = torch.cat([total.reshape(1), *[s.flatten() for s in sums if s is not None]]) / plan.micro_batches
    if fabric.world_size > 1:
        flat = fabric.all_reduce(flat, reduce_op="sum")  # type: ignore[assignment]
    mean = flat[0]
    parts = iter(flat[1:].split([s.numel() for s in sums if s is not None]))
    return mean, [None if s is None else next(parts).view_as(s) for s in sums]


class _Batches:
    """Batch number i of a run: which examples, in which pieces, with which random numbers."""

    def __init__(self, plan: _Plan, device: torch.device, rank: int, world: int) -> None:
        self.plan, self.device = plan, device
        x, context = _pair(plan.train)
        home = device if plan.resident else torch.device("cpu")
        self.x, self.context = x.to(home), None if context is None else context.to(home)
        self.per_epoch = len(x) // plan.batch_size
        mine = plan.micro_batches // world
        self.my_pieces = range(rank * mine, (rank + 1) * mine)
        self.epoch, self.order = -1, torch.empty(0, dtype=torch.long)

    def pieces(self, i: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """This process's pieces of batch `i`. The global random state is set anew for each."""
        epoch, position = divmod(i, self.per_epoch)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(_hash(self.plan.seed, "epoch", epoch))
            self.epoch, self.order = epoch, torch.randperm(len(self.x), generator=generator).to(self.x.device)
        size = self.plan.batch_size // self.plan.micro_batches
        for piece in self.my_pieces:
            first = position * self.plan.batch_size + piece * size
            index = self.order[first : first + size]
            x = self.x[index].to(self.device, non_blocking=True)
            context = None if self.context is None else self.context[index].to(self.device, non_blocking=True)
            torch.manual_seed(_hash(self.plan.seed, "batch", i, piece))
            yield (x if self.plan.augment is None else self.plan.augment(x)), context


class _Average:
    """An exponential average of the weights; buffers (batch-norm statistics) are the model's own."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.parameters, self.decay = list(model.parameters()), decay
        self.values = [p.detach().clone() for p in self.parameters]
        self.count = 0

    @torch.no_grad()
    def update(self) -> None:
        self.count += 1
        decay = min(self.decay, self.count / (self.count + 9))  # forget the start quickly
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.copy_(value)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        live = [p.detach().clone() for p in self.parameters]
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, live, strict=True):
                    parameter.copy_(value)


@torch.no_grad()
def _validate(fabric: "Fabric", model: nn.Module, move: Move, plan: _Plan) -> float:
    """The first move's mean loss on the validation data, in evaluation mode, with the same random numbers each time."""
    assert plan.valid is not None
    x, context = _pair(plan.valid)
    torch.manual_seed(_hash(plan.seed, "valid"))
    model.eval()
    size = max(plan.batch_size // plan.micro_batches, 256)
    total = 0.0
    for first in range(0, len(x), size):
        part = slice(first, first + size)
        condition = None if context is None else context[part].to(fabric.device)
        with fabric.autocast():
            total += float(move.loss(x[part].to(fabric.device), condition).double().sum())
    model.train()
    return total / len(x)


def _record(pending: list[Tensor], step: int, moves: list[Move], history: History, plan: _Plan) -> None:
    """Move the losses of the last steps into the history; stop at the first that is not finite."""
    if not pending:
        return
    first = step - len(pending)
    rows = torch.stack(pending).tolist()
    pending.clear()
    for i, row in enumerate(rows):
        for move, value in zip(moves, row, strict=True):
            if not math.isfinite(value):
                _stop_at(first + i, move.name, value, plan)
            history.losses[move.name].append(value)


def _stop_at(step: int, name: str, value: float, plan: _Plan) -> None:
    where = f" The last checkpoint is in {plan.out}." if plan.out and (plan.out / "checkpoint.pt").exists() else ""
    raise FloatingPointError(
        f"step {step + 1}: the loss of move {name!r} is {value}, so training stopped. "
        f"Usual causes: a learning rate that is too high (lr={plan.lr}), or a logarithm of zero.{where}"
    )


def _save(
    plan: _Plan, step: int, model: nn.Module, optimizers: list, average: _Average | None, best: dict, history: History
) -> None:
    assert plan.out is not None
    checkpoint.save(
        plan.out / "checkpoint.pt",
        {
            "step": step,
            "fingerprint": plan.fingerprint(),
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "average": None if average is None else {"values": average.values, "count": average.count},
            "best": best,
            "history": history.to_dict(),
        },
    )
    checkpoint.write_json(plan.out / "history.json", history.to_dict())


def _restore(
    plan: _Plan, model: nn.Module, optimizers: list, average: _Average | None, best: dict, history: History
) -> int:
    assert plan.out is not None
    state = checkpoint.load(plan.out / "checkpoint.pt", next(model.parameters()).device)
    for name, now in plan.fingerprint().items():
        if state["fingerprint"].get(name) != now:
            before = state["fingerprint"].get(name)
            raise ValueError(f"fit: cannot resume {plan.out}: it was begun with {name}={before}, and this call has {name}={now}.")
    try:
        model.load_state_dict(state["model"])
    except RuntimeError:
        raise ValueError(f"fit: cannot resume {plan.out}: it holds a model of another architecture.") from None
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    if average:
        average.values, average.count = state["average"]["values"], state["average"]["count"]
    best.update(state["best"])
    saved = state["history"]
    history.losses, history.seconds = saved["losses"], saved["seconds"]
    history.valid, history.best_step = [tuple(pair) for pair in saved["valid"]], saved["best_step"]
    return state["step"]


def _fabric(device: str, devices: int, precision: str, under_torchrun: bool) -> "Fabric":
    try:
        from lightning_fabric import Fabric
    except ImportError:  # the same class, where the whole of Lightning is installed
        from lightning.fabric import Fabric  # type: ignore[no-redef]

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = "cuda" if there["cuda"] else "cpu"
    if device not in there:
        raise ValueError(f"fit: device must be 'auto', 'cpu', 'cuda' or 'mps', not {device!r}.")
    if not there[device]:
        raise ValueError(f"fit: there is no {device} device on this machine; device='cpu' always works.")
    if device == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(f"fit: devices={devices}, but this machine has {torch.cuda.device_count()} GPU(s).")
    in_notebook = "ipykernel" in sys.modules
    many = "ddp" if under_torchrun else "ddp_notebook" if in_notebook else "ddp_spawn"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Fabric(
            accelerator=device,
            devices=devices,
            strategy=many if devices > 1 or under_torchrun else "auto",
            precision={"32": "32-true", "bf16": "bf16-mixed"}[precision],  # type: ignore[arg-type]
        )


@contextmanager
def _between_steps() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a wish to stop after this step; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    def ask(signum: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _progress_bar(plan: _Plan, step: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=plan.steps, initial=step, unit="step", disable=not plan.progress, mininterval=0.5)


def _pair(data: Examples) -> tuple[Tensor, Tensor | None]:
    return data if isinstance(data, tuple) else (data, None)


def _copy(state: dict[str, Tensor], device: str | None = None) -> dict[str, Tensor]:
    return {name: value.detach().clone().to(device or value.device) for name, value in state.items()}


def _hash(*parts: int | str) -> int:
    """A seed of 63 bits from integers and words, the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _versions() -> dict[str, str]:
    from gencourse import __version__

    return {"gencourse": __version__, "torch": torch.__version__, "python": platform.python_version()}
