"""The state of a run: what is counted, averaged, validated, saved and restored around the moves."""

import copy
import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gencourse import checkpoint
from gencourse.kinds import Learner, Move
from gencourse.train import state
from gencourse.train.average import Average
from gencourse.train.batches import Batches, seed_device, seed_of
from gencourse.train.devices import versions
from gencourse.train.fingerprint import fingerprint, refuse_another
from gencourse.train.history import History
from gencourse.train.interrupts import interrupts
from gencourse.train.plan import Pair, Plan

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Run:
    """The state of a run, from its first step or from a checkpoint; a context manager around the training loop."""

    def __init__(self, fabric: "Fabric", model: Learner, moves: list[Move], plan: Plan, history: History) -> None:
        self.fabric, self.model, self.moves, self.plan, self.history = fabric, model, moves, plan, history
        self.device = fabric.device
        self.judge = next((move for move in moves if move.validate), None)  # whose loss says which weights are better
        self.optimizers = [(move.optimizer or plan.optimizer)(move.learns, lr=move.lr or plan.lr) for move in moves]
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group.update({name: checkpoint.plain(value) for name, value in group.items() if name != "params"})
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.average = Average(model, plan.ema) if plan.ema else None
        self.best: dict[str, Any] = {"loss": math.inf, "weights": None}
        self.step = 0
        if plan.out:
            self.fingerprint = fingerprint(plan, model, moves, self.optimizers)
            if plan.resume and (plan.out / "checkpoint.pt").exists():
                self.restore(plan.out)
        history.device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        history.versions = versions()
        self.batches = Batches(plan, self.device, fabric.global_rank, fabric.world_size)
        self.batch = self.step * sum(move.times for move in moves)
        self.sync_every = 1 if self.device.type == "cpu" else 50  # reading a loss makes a GPU wait
        self.pending: list[Tensor] = []

    def __enter__(self) -> "Run":
        from tqdm.auto import tqdm

        self.stack = ExitStack()
        self.stack.enter_context(torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []))
        self.interrupted = self.stack.enter_context(interrupts())
        show = self.plan.progress and self.fabric.is_global_zero and not os.environ.get("TQDM_DISABLE")
        self.bar = self.stack.enter_context(
            tqdm(total=self.plan.steps, initial=self.step, unit="step", disable=not show, mininterval=0.5)
        )
        self.modes = [(module, module.training) for module in self.model.modules()]
        if not self.model.training:  # a part in evaluation mode inside a model in training mode is meant so
            self.model.train()
        self.start, self.earlier = time.perf_counter(), self.history.seconds
        return self

    def goes_on(self) -> bool:
        """Whether there is another step to play; sets its learning rates."""
        if self.step >= self.plan.steps or self.is_asked_to_stop():
            return False
        factor = self.plan.rate(self.step / self.plan.steps)
        for optimizer, initial in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, initial, strict=True):
                group["lr"] = rate * factor
        return True

    def is_asked_to_stop(self) -> bool:
        """Whether a signal came. Processes that train together agree: one that stopped alone would leave the others waiting."""
        if self.fabric.world_size == 1:
            return self.interrupted()
        if self.step % self.sync_every:
            return False
        wishes = self.fabric.all_reduce(torch.tensor(float(self.interrupted()), device=self.device), reduce_op="sum")
        return float(wishes) > 0  # type: ignore[arg-type]

    def next_batch(self) -> Iterator[Pair]:
        """This process's pieces of the next batch."""
        self.batch += 1
        return self.batches.pieces(self.batch - 1)

    def must_be_finite(self, loss: Tensor, move: Move) -> None:
        """On a CPU, stop before a loss `()` that is not finite spoils the weights. (A GPU is asked every 50 steps.)"""
        if self.sync_every == 1 and not math.isfinite(loss):
            self.stop_at(self.step, move.name, float(loss))

    def end_of_step(self, losses: list[Tensor]) -> None:
        """Count the step; average, record, validate, call back and save where it is time to. The losses, `()`, are the moves'."""
        plan, last = self.plan, self.step + 1 == self.plan.steps
        self.pending.append(torch.stack(losses))
        self.step += 1
        if self.average:
            self.average.update()
        if self.step % self.sync_every == 0:
            self.record()
        if plan.valid is not None and self.judge and (self.step % plan.validate_every == 0 or last):
            self.validate(plan.valid, self.judge)
        if plan.callback and self.fabric.is_global_zero:
            plan.callback(self.step, self.model)
        if self.step % plan.checkpoint_every == 0 or last:
            self.save()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        self.history.seconds = self.earlier + time.perf_counter() - self.start
        try:
            if kind is None:
                self.finish()
        finally:
            self.stack.close()
            for module, training in self.modes:
                module.training = training

    def finish(self) -> None:
        """Record what is pending, and give the model the weights to keep."""
        self.record()
        self.history.interrupted = self.step < self.plan.steps
        if self.history.interrupted:
            self.save()
            if self.fabric.is_global_zero:
                text = f"interrupted after step {self.step} of {self.plan.steps}; what was learned is kept."
                warnings.warn(text, stacklevel=6)
        if self.plan.keep_best and self.best["weights"] is not None:
            self.model.load_state_dict(self.best["weights"])
        elif self.average:
            self.average.copy_to_model()
            seed_device(self.device, seed_of(self.plan.seed, "settle"))
            self.model.settle()

    def record(self) -> None:
        """Move the losses of the last steps into the history; stop at the first that is not finite."""
        if not self.pending:
            return
        first = self.step - len(self.pending)
        rows = torch.stack(self.pending).tolist()
        self.pending.clear()
        for i, row in enumerate(rows):
            for move, value in zip(self.moves, row, strict=True):
                if not math.isfinite(value):
                    self.stop_at(first + i, move.name, value)
                self.history.losses[move.name].append(value)
        if not self.bar.disable and self.bar.update(self.step - self.bar.n):  # True if the bar was drawn, twice a second
            self.bar.set_postfix({name: f"{v[-1]:.4g}" for name, v in self.history.losses.items()})

    def stop_at(self, step: int, name: str, value: float) -> None:
        """End the run with the step and the move whose loss is not finite.

        Raises:
            FloatingPointError: always.
        """
        kept = self.plan.out and (self.plan.out / "checkpoint.pt").exists()
        where = f" The last checkpoint is in {self.plan.out}." if kept else ""
        raise FloatingPointError(
            f"step {step + 1}: the loss of move {name!r} is {value}, so training stopped. "
            f"Usual causes: a learning rate that is too high (lr={self.plan.lr}), or a logarithm of zero.{where}"
        )

    @torch.no_grad()
    def validate(self, valid: Pair, judge: Move) -> None:
        """The judging move's mean loss, in evaluation mode, with the same random numbers each time; keep the best weights."""
        x, context = valid
        seed_device(self.device, seed_of(self.plan.seed, "valid"))
        total, size = 0.0, max(self.plan.batch_size, 256)
        with self.average.swapped_in() if self.average else nullcontext(), self.model.evaluation():
            for first in range(0, len(x), size):
                part = x[first : first + size].to(self.device)
                condition = None if context is None else context[first : first + size].to(self.device)
                with self.fabric.autocast():
                    total += float(judge.loss(part, condition).double().sum())
            loss = total / len(x)
            self.history.valid.append((self.step, loss))
            if loss < self.best["loss"]:
                self.best.update(loss=loss, weights=copy.deepcopy(self.model.state_dict()))
                self.history.best_step = self.step

    def save(self) -> None:
        """Write the checkpoint: everything that the next step depends on."""
        out = self.plan.out
        if out is None or not self.fabric.is_global_zero:
            return
        self.record()
        self.history.seconds = self.earlier + time.perf_counter() - self.start
        average = None if self.average is None else {"values": self.average.values, "count": self.average.count}
        content = {
            "step": self.step,
            "fingerprint": self.fingerprint,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": average,
            "best": self.best,
            "history": self.history.to_dict(),
        }
        checkpoint.save(out / "checkpoint.pt", content)
        checkpoint.write_json(out / "history.json", self.history.to_dict())

    def restore(self, out: Path) -> None:
        """Continue from the checkpoint, if it is whole and of the same run.

        Raises:
            ValueError: if it is damaged, or of another run.
        """
        saved = checkpoint.load(out / "checkpoint.pt", self.device)
        own = self.model.state_dict()
        try:
            state.check_keys(saved)
        except state.Unfit as what:
            raise ValueError(
                f"fit: cannot resume {out}: its checkpoint.pt was not written by this version of fit ({what})."
            ) from None
        if not state.same_shapes(saved["model"], own):
            raise ValueError(f"fit: cannot resume {out}: it holds a model of another architecture.")
        refuse_another(out, saved["fingerprint"], self.fingerprint)
        try:
            state.check_history(saved["history"], saved["step"], self.moves)
            state.check_best(saved["best"], own)
            state.check_average(saved["average"], self.average.values if self.average else None)
            state.expect(isinstance(saved["optimizers"], list), "it has no optimisers")
            state.expect(len(saved["optimizers"]) == len(self.optimizers), "it has optimisers for other moves")
            loaded = [state.check_optimizer(*pair) for pair in zip(saved["optimizers"], self.optimizers, strict=True)]
        except state.Unfit as what:
            raise ValueError(f"fit: cannot resume {out}: its checkpoint.pt is damaged: {what}.") from None
        self.model.load_state_dict(saved["model"])
        for optimizer, content in zip(self.optimizers, loaded, strict=True):
            optimizer.load_state_dict(content)
        if self.average:
            self.average.values, self.average.count = saved["average"]["values"], saved["average"]["count"]
        self.best, self.step = saved["best"], saved["step"]
        history = {**saved["history"], "interrupted": False, "valid": [tuple(pair) for pair in saved["history"]["valid"]]}
        self.history.__dict__.update(history)
