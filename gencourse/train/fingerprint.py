"""What must be the same for a run to continue another.

A fingerprint is plain data: it stands in the checkpoint, and `refuse_another` compares it with that of the call that wants to go
on. Functions are known by their name and, where they can be tried (a schedule, an augmentation of integers), by what they do.
"""

import functools
import inspect
import types
import zlib
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gencourse.kinds import Learner, Move
from gencourse.train.batches import seed_device
from gencourse.train.plan import Pair, Plan

#: How an optimiser computes, not what.
WAYS = {"foreach", "fused", "capturable", "differentiable"}


def fingerprint(plan: Plan, model: Learner, moves: list[Move], optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """Of a run that has not begun: training may change what is recorded here."""
    rates = [plan.rate(i / 64) for i in range(64)]
    same = ["batch_size", "lr", "seed", "clip", "ema", "keep_best", "micro_batches", "precision"]
    if len(set(rates)) > 1:  # at a constant rate, a run may go on for longer
        same += ["steps", "validate_every"]
    return {
        "schedule": f"{_name(plan.schedule)} {_crc(' '.join(f'{rate:.9g}' for rate in rates).encode())}",
        **{name: getattr(plan, name) for name in same},
        "data": _digest(plan.train),
        "valid": None if plan.valid is None else _digest(plan.valid),
        "augment": None if plan.augment is None else _effect(plan.augment, plan.train[0][:64]),
        "moves": {move.name: f"{move.times} x {_name(move.loss)}" for move in moves},
        "optimizer": dict(_of_optimizers(moves, optimizers)),
        "model": dict(_options(model)),
    }


def refuse_another(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise a ValueError that names the first difference between a checkpoint's fingerprint and this call's."""
    for name, value in now.items():
        if name not in before:
            raise ValueError(
                f"fit: cannot resume {out}: its checkpoint.pt is of an earlier version of gencourse, which did not record "
                f"{name!r}; begin the run anew in another folder."
            )
        old = before[name]
        if isinstance(value, dict) and isinstance(old, dict):
            # torch's versions know different arguments of an optimiser; a model's options must all be there
            keys = value.keys() & old.keys() if name == "optimizer" else value.keys() | old.keys()
            pairs = [(f"{name}[{key}]", old.get(key), value.get(key)) for key in sorted(keys)]
        else:
            pairs = [(name, old, value)]
        for which, was, has in pairs:
            if was != has:
                raise ValueError(
                    f"fit: cannot resume {out}: it was begun with {which}={_short(was)}, and this call has {which}={_short(has)}."
                )


def _of_optimizers(moves: list[Move], optimizers: list[torch.optim.Optimizer]) -> Iterator[tuple[str, str]]:
    for move, optimizer in zip(moves, optimizers, strict=True):
        yield move.name, type(optimizer).__name__
        for i, group in enumerate(optimizer.param_groups):
            for name, value in group.items():
                text = _written(value)
                if name != "params" and name not in WAYS and text is not None:
                    yield f"{move.name}.{f'{i}.' if i else ''}{name}", text


def _options(model: nn.Module) -> Iterator[tuple[str, str]]:
    """The classes of a model's modules, and what they were built with: their attributes that are called like an argument.

    What else a model notes, such as a count of its calls, training may change.
    """
    for path, module in model.named_modules():
        yield path, type(module).__qualname__
        constructors = [vars(kind)["__init__"] for kind in type(module).__mro__ if "__init__" in vars(kind)]
        arguments = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
        for name, value in vars(module).items():
            text = _written(value) if name.lstrip("_") in arguments else None
            if text is not None:
                yield f"{path}.{name}".lstrip("."), text


def _written(value: Any) -> str | None:
    """Plain data and functions as text that is the same in every process; None for what has no such text."""
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return repr(value)
    if isinstance(value, tuple | list):
        texts = [_written(part) for part in value]
        return None if None in texts else f"({', '.join(map(str, texts))})"
    if is_dataclass(value) and not isinstance(value, type):
        inside = ", ".join(f"{field.name}={_written(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__qualname__}({inside})"
    if callable(value) and not isinstance(value, nn.Module):
        return _name(value)
    return None


def _name(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        inside = [*map(_written, function.args), *(f"{name}={_written(value)}" for name, value in function.keywords.items())]
        return f"{_name(function.func)}({', '.join(map(str, inside))})"
    if isinstance(function, types.BuiltinFunctionType):
        return function.__name__
    return getattr(function, "__qualname__", type(function).__qualname__)


def _effect(augment: Callable[[Tensor], Tensor], x: Tensor) -> str:
    """An augmentation's name and, where the same seed gives the same integers, what it makes of some examples."""
    made = []
    with torch.random.fork_rng():
        for _ in range(16):  # enough to notice one that draws its random numbers elsewhere
            seed_device(x.device, 0)
            made.append(augment(x))
    same = all(torch.equal(made[0], other) for other in made[1:])
    same &= not made[0].is_floating_point()  # real numbers differ from one processor to another
    return f"{_name(augment)} {_digest((made[0], None))}" if same else _name(augment)


def _digest(part: Pair) -> str:
    x, context = part
    text = f"{tuple(x.shape)} {_crc(_bytes(x))}"
    return text if context is None else f"{text}, conditions {_crc(_bytes(context))}"


def _bytes(x: Tensor) -> bytes:
    return x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _crc(content: bytes) -> str:
    return f"crc32={zlib.crc32(content):08x}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
