"""What a checkpoint of a run holds, looked at before any of it is used.

The checksums say that a file is what was written; these checks, that what was written fits this run. An optimiser does not look:
a moment of another shape makes a fused kernel read and write beside it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from gencourse.kinds import Move
from gencourse.train.fingerprint import WAYS
from gencourse.train.history import History


class Unfit(ValueError):
    """What is wrong with a state, as the rest of a sentence."""


def expect(truth: bool, what: str) -> None:
    """See that something holds of a state.

    Raises:
        Unfit: if it does not hold.
    """
    if not truth:
        raise Unfit(what)


def check_keys(state: Any) -> None:
    """The entries that every state has."""
    names = ("step", "fingerprint", "model", "optimizers", "average", "best", "history")
    expect(isinstance(state, dict), "it is no dictionary")
    for name in names:
        expect(name in state, f"it has no {name!r}")
    expect(isinstance(state["fingerprint"], dict), "its fingerprint is no dictionary")
    expect(_is_count(state["step"]), f"its step is {state['step']!r}")


def check_history(saved: Any, step: int, moves: list[Move]) -> None:
    """A loss a step and move, pairs of a step and a loss, numbers where there are numbers."""
    names = {field.name for field in fields(History)}
    expect(isinstance(saved, dict) and saved.keys() == names, "its history is not one")
    losses, valid = saved["losses"], saved["valid"]
    expect(isinstance(losses, dict) and losses.keys() == {move.name for move in moves}, "its history is of other moves")
    for values in losses.values():
        is_curve = isinstance(values, list) and all(isinstance(value, float) for value in values)
        expect(is_curve and len(values) == step, f"its history does not have {step} losses a move")
    is_curve = isinstance(valid, list) and all(
        isinstance(point, tuple | list) and len(point) == 2 and _is_count(point[0]) and isinstance(point[1], float)
        for point in valid
    )
    expect(is_curve, "its history has no list of validations")
    expect(saved["best_step"] is None or _is_count(saved["best_step"]), f"its best step is {saved['best_step']!r}")
    seconds = saved["seconds"]
    expect(isinstance(seconds, int | float) and seconds >= 0, f"its seconds are {seconds!r}")
    expect(isinstance(saved["device"], str) and isinstance(saved["versions"], dict), "its history is not one")


def same_shapes(saved: Any, own: Mapping[str, Any]) -> bool:
    """Whether a state dictionary has a tensor of the right shape and type for each of a model's own."""
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        return False
    return all(_alike(saved[name], value) for name, value in own.items() if isinstance(value, Tensor))


def check_best(best: Any, own: Mapping[str, Any]) -> None:
    """A loss, and the weights that had it, if there was one."""
    expect(isinstance(best, dict) and best.keys() == {"loss", "weights"}, "it has no best weights")
    expect(isinstance(best["loss"], float), f"its best loss is {best['loss']!r}")
    expect(best["weights"] is None or same_shapes(best["weights"], own), "its best weights are of another architecture")


def check_average(average: Any, values: list[Tensor] | None) -> None:
    """One average a parameter, of its shape, and how often it was drawn on; None if the run has none."""
    if values is None:
        return expect(average is None, "it has an average of the weights")
    is_one = isinstance(average, dict) and average.keys() == {"values", "count"} and isinstance(average["values"], list)
    expect(is_one and _is_count(average["count"]), "it has no average of the weights")
    fits = len(average["values"]) == len(values) and all(map(_alike, average["values"], values))
    return expect(fits, "its averages have other shapes than the weights")


def check_optimizer(saved: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The same groups, and for each parameter the tensors that this optimiser keeps, in their shapes; gives what to load.

    Which these are, the optimiser says itself: a copy takes one step on copies of the parameters.
    """
    own = optimizer.state_dict()
    expect(isinstance(saved, dict) and saved.keys() >= {"state", "param_groups"}, "it has no state of an optimiser")
    groups, state = saved["param_groups"], saved["state"]
    expect(isinstance(groups, list) and len(groups) == len(own["param_groups"]), "its optimiser has other groups of parameters")
    whole = []
    for group, mine in zip(groups, own["param_groups"], strict=True):
        expect(isinstance(group, dict) and group.get("params") == mine["params"], "its optimiser has other parameters")
        ways = {name: value for name, value in mine.items() if name in WAYS}
        whole.append({**mine, **group, **ways})  # another version of torch may know other arguments
        for name, value in mine.items():
            expect(_kind(whole[-1][name]) is _kind(value), f"its optimiser has {name}={whole[-1][name]!r}")
    expect(
        isinstance(state, dict) and state.keys() <= {i for group in whole for i in group["params"]},
        "its optimiser has other parameters",
    )
    kept = _after_a_step(optimizer)
    for index, entries in state.items():
        if kept is None:
            break
        keeps = kept.get(index, {})
        expect(isinstance(entries, dict) and entries.keys() == keeps.keys(), "its optimiser keeps other things")
        for name, value in keeps.items():
            fits = _alike(entries[name], value) if isinstance(value, Tensor) else _kind(entries[name]) is _kind(value)
            expect(fits, f"its optimiser's {name} has another shape or type")
    return {**saved, "param_groups": whole}


def _after_a_step(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]] | None:
    """What a fresh optimiser keeps once it has stepped; None if it does not step like this (LBFGS wants a closure)."""
    twin = object.__new__(type(optimizer))
    twin.__dict__.update(optimizer.__dict__)
    twin.state, twin.param_groups = defaultdict(dict), []
    for group in optimizer.param_groups:
        copies = [nn.Parameter(p.detach().clone()) for p in group["params"]]
        for p in copies:
            p.grad = torch.zeros_like(p)
        twin.param_groups.append({**group, "params": copies})
    try:
        twin.step()
    except Exception:  # whatever this optimiser needs
        return None
    return twin.state_dict()["state"]


def _alike(saved: Any, own: Tensor) -> bool:
    return isinstance(saved, Tensor) and saved.shape == own.shape and saved.dtype == own.dtype


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _kind(value: Any) -> type:
    if isinstance(value, bool):
        return bool
    if isinstance(value, int | float):
        return float
    return list if isinstance(value, list | tuple) else type(value)
