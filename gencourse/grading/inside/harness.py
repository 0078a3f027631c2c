"""What runs beside a student's code: calls the function and returns plain data.

No answer, tolerance or mistake lives here: it is given to a process that must not see them. Whoever judges gets numbers and
strings from it, never an object of the student's.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
import io
import linecache
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def run(
    function: Callable,
    inputs: Mapping[str, np.ndarray],
    gradients: Sequence[str] = (),
    *,
    dtype: str = "float32",
    twice: bool = True,
    library: str = "torch",
) -> dict[str, Any]:
    """Call `function` with one tensor or array for each entry of `inputs`, in order.

    Args:
        function: the student's.
        inputs: argument names and arrays.
        gradients: the names of the inputs to differentiate by. What is differentiated is a weighted sum of the answer,
            with weights from 1 to 2, because a plain sum would not notice numbers in the wrong place.
        dtype: of the tensors; arrays are float64 always.
        twice: whether to call once more, to see if the answer is the same.
        library: "torch", or "numpy" for arrays (numbers where they have no dimension); then there are no gradients.

    Returns:
        plain data. If the function raised, `error`: what `describe` says, and `during`, "call" or "gradient". Otherwise
        `returned`, the type's name; `untouched`, whether the body is still empty; `repeatable`; and, where numbers were
        returned, `value` and `gradient of NAME`, float64 arrays; zeros where no gradient arrives.
    """
    if library == "numpy":
        return _run_on_arrays(function, inputs, twice)
    import torch

    def tensors(track: bool) -> tuple[dict, list]:
        leaves = {n: torch.tensor(np.asarray(a), dtype=getattr(torch, dtype)) for n, a in inputs.items()}
        for name in gradients if track else ():
            leaves[name].requires_grad_()
        return leaves, [leaf.clone() for leaf in leaves.values()]  # a copy of a leaf may be changed in place

    answer: dict[str, Any] = {}
    during = "call"
    try:
        # On the CPU, whatever device a notebook has set as its default: there is no other where it is graded.
        with contextlib.redirect_stdout(io.StringIO()), torch.enable_grad(), torch.device("cpu"):
            leaves, arguments = tensors(track=True)
            result = function(*arguments)
            value = plain(result)
            answer["returned"] = type(result).__name__
            answer["untouched"] = (result is None or result is ...) and is_stub(function)
            if value is None:
                return answer
            answer["value"] = value
            again = plain(function(*tensors(track=False)[1])) if twice else value
            answer["repeatable"] = again is not None and _same(again, value)
            if not gradients:
                return answer
            found: Sequence[Any] = [None] * len(gradients)
            result = torch.stack(list(result)) if isinstance(result, list) and _tracks(result) else result
            if isinstance(result, torch.Tensor) and result.requires_grad and result.numel():
                during = "gradient"
                weights = torch.linspace(1, 2, result.numel(), dtype=torch.float64).to(result).reshape(result.shape)
                found = torch.autograd.grad((result * weights).sum(), [leaves[n] for n in gradients], allow_unused=True)
            for name, gradient in zip(gradients, found, strict=True):
                missing = np.zeros(np.shape(inputs[name]))
                answer[f"gradient of {name}"] = missing if gradient is None else plain(gradient)
            return answer
    except (Exception, SystemExit) as error:
        return {"error": {**describe(error, function), "during": during}}


def _run_on_arrays(function: Callable, inputs: Mapping[str, np.ndarray], twice: bool) -> dict[str, Any]:
    def arrays() -> list[Any]:
        return [np.array(a, dtype=np.float64) if np.ndim(a) else float(a) for a in inputs.values()]

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = function(*arrays())
            answer: dict[str, Any] = {"returned": type(result).__name__}
            answer["untouched"] = (result is None or result is ...) and is_stub(function)
            value = plain(result)
            if value is not None:
                again = plain(function(*arrays())) if twice else value
                answer |= {"value": value, "repeatable": again is not None and _same(again, value)}
            return answer
    except (Exception, SystemExit) as error:
        return {"error": {**describe(error, function), "during": "call"}}


def plain(value: Any) -> np.ndarray | None:
    """Numbers as a float64 array of the same shape; None for what is not one real number, array, tensor or list of them.

    True and False are 1 and 0, as what a comparison returns.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if value.is_complex():
            return None
        return value.detach().cpu().double().numpy().copy()
    if isinstance(value, list) and value:
        parts = [plain(part) for part in value]
        arrays = [part for part in parts if part is not None]
        return np.stack(arrays) if len(arrays) == len(parts) and len({a.shape for a in arrays}) == 1 else None
    if isinstance(value, int | float | np.number | np.bool_ | np.ndarray):
        array = np.asarray(value)
        return array.astype(np.float64) if array.dtype.kind in "biuf" else None
    return None


def is_stub(function: Callable) -> bool:
    """True if the body uses none of its arguments and no other name: `...`, `pass`, a docstring."""
    code = getattr(_undecorated(function), "__code__", None)
    if code is None:
        return False
    return not code.co_names and not any(i.opname.startswith(("LOAD_FAST", "LOAD_DEREF")) for i in dis.get_instructions(code))


def describe(error: BaseException, function: Callable) -> dict[str, Any]:
    """The exception as plain data: `type`, `message` (its first line), `line` and `code` of the student's last frame.

    A student's frames are those of the notebook, whose cells share the namespace of `__main__`, and outside a notebook those of
    the file that defines the function. `line` is None if the exception came from elsewhere, as when the arguments do not fit.
    """
    notebook = getattr(sys.modules.get("__main__"), "__dict__", None)
    own = getattr(_undecorated(function), "__globals__", None)
    steps = list(traceback.walk_tb(error.__traceback__))
    mine = [[step for step in steps if step[0].f_globals is namespace] for namespace in (notebook, own)]
    line, code = None, ""
    if last := (mine[0] or mine[1])[-1:]:
        frame, line = last[0]
        code = linecache.getline(frame.f_code.co_filename, line).strip()
    lines = [text.strip() for text in str(error).splitlines() if text.strip()]
    message = lines[0] if lines else ""
    if any(word in message for word in _NO_GPU):
        message = f'grading has no GPU: write device = "cuda" if torch.cuda.is_available() else "cpu" ({message})'
    return {"type": type(error).__name__, "message": _short(message, 200), "line": line, "code": _short(code, 80)}


_NO_GPU = ("not compiled with CUDA", "No CUDA GPUs are available", "no NVIDIA driver", "torch.cuda.is_available() is False")


def _undecorated(function: Callable) -> Callable:
    """What stands beneath decorators such as `@torch.no_grad()`, which come from other files."""
    try:
        return inspect.unwrap(function)
    except Exception:  # not a function as Python makes them
        return function


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)


def _tracks(parts: list) -> bool:
    return all(getattr(part, "requires_grad", False) for part in parts)
