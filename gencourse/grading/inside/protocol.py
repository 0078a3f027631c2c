"""What grader and worker say to each other: frames of JSON, each with its length before it, over one socket.

Numbers, strings, lists and arrays; never pickle, so that to read a frame runs nothing. Sizes and depth are bounded,
because the other side may be a student's code.
"""

from __future__ import annotations

import base64
import json
import math
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np

LARGEST_FRAME = 16 * 2**20  # bytes
LARGEST_ARRAY = 500_000  # numbers
_DEEPEST = 12
_LOOKS = 0.25  # seconds after which it is asked again what is left


Deadline = float | Callable[[], float] | None
"""When it is too late: by `time.monotonic()`, or what tells the seconds that are left."""


class ProtocolError(Exception):
    """What arrived is not a frame, or not what was asked for."""


def send(connection: socket.socket, message: dict[str, Any], deadline: Deadline = None) -> None:
    """Send one frame.

    Raises:
        ProtocolError: if it is too large.
        TimeoutError: if the other side has not taken it by `deadline`.
    """
    frame = json.dumps(message).encode()
    if len(frame) > LARGEST_FRAME:
        raise ProtocolError(f"a frame of {len(frame)} bytes")
    left = _left(deadline)
    if left == 0:
        raise TimeoutError
    connection.settimeout(left)
    connection.sendall(struct.pack(">I", len(frame)) + frame)


def receive(connection: socket.socket, deadline: Deadline = None) -> dict[str, Any]:
    """The next frame.

    Raises:
        EOFError: if the other side has gone.
        ProtocolError: if it is no frame.
        TimeoutError: if it is not whole by `deadline`.
    """
    (length,) = struct.unpack(">I", _exactly(connection, 4, deadline))
    if length > LARGEST_FRAME:
        raise ProtocolError(f"a frame of {length} bytes")
    frame = _exactly(connection, length, deadline)
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        raise ProtocolError("not JSON") from None
    if not isinstance(message, dict) or not _shallow(message, _DEEPEST):
        raise ProtocolError("not an object, or too deep")
    return message


def wait(connection: socket.socket, deadline: Deadline = None) -> None:
    """Wait until something has arrived, or the other side has gone, and leave it there.

    Raises:
        TimeoutError: if nothing has by `deadline`.
    """
    _received(connection, 1, deadline, socket.MSG_PEEK)


def packed(array: np.ndarray) -> dict[str, Any]:
    """An array as data for a frame: its type, its shape and its bytes in base64.

    Raises:
        ValueError: if it is too large.
    """
    array = np.asarray(array)
    kind = "float32" if array.dtype == np.float32 else "float64"
    if array.size > LARGEST_ARRAY:
        raise ValueError(f"{array.size} numbers are too many")
    data = np.asarray(array, dtype={"float32": "<f4", "float64": "<f8"}[kind]).tobytes()
    return {"dtype": kind, "shape": list(array.shape), "data": base64.b64encode(data).decode("ascii")}


def unpacked(value: Any) -> np.ndarray:
    """The array that `packed` made.

    Raises:
        ProtocolError: if `value` is not such an array.
    """
    try:
        width = {"float32": 4, "float64": 8}[value["dtype"]]
        shape = tuple(value["shape"])
        if len(shape) > 8 or not all(type(n) is int and 0 <= n <= LARGEST_ARRAY for n in shape):
            raise ValueError
        data = base64.b64decode(value["data"], validate=True)
        if math.prod(shape) > LARGEST_ARRAY or len(data) != width * math.prod(shape):
            raise ValueError
        return np.frombuffer(data, dtype=f"<f{width}").reshape(shape).astype(value["dtype"])
    except (KeyError, TypeError, ValueError):
        raise ProtocolError("not an array") from None


def _exactly(connection: socket.socket, n: int, deadline: Deadline) -> bytes:
    parts: list[bytes] = []
    while n:
        part = _received(connection, min(n, 2**20), deadline)
        if not part:
            raise EOFError
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def _received(connection: socket.socket, n: int, deadline: Deadline, how: int = 0) -> bytes:
    while True:
        left = _left(deadline)
        connection.settimeout(left)
        try:
            return connection.recv(n, how)
        except (TimeoutError, BlockingIOError):
            if left == 0:  # and nothing has arrived
                raise TimeoutError from None


def _left(deadline: Deadline) -> float | None:
    """The seconds to wait; 0 once it is too late, when only what has arrived already is read."""
    if deadline is None:
        return None
    left = min(deadline(), _LOOKS) if callable(deadline) else deadline - time.monotonic()
    return max(left, 0.01) if left > 0 else 0.0


def _shallow(value: Any, depth: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_shallow(one, depth - 1) for one in inside)
