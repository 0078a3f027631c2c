"""What crosses the socket is data of a bounded size, or an error."""

import json
import socket
import struct
import time

import numpy as np
import pytest

from gencourse.grading.inside import protocol
from gencourse.grading.inside.protocol import ProtocolError


@pytest.fixture
def ends():
    a, b = socket.socketpair()
    with a, b:
        yield a, b


@pytest.mark.parametrize(
    "array",
    [
        np.float64(2.5),
        np.array(3),
        np.zeros((0, 3)),
        np.arange(6.0).reshape(2, 3).T,
        np.array([np.nan, -np.inf, 1e-320]),
        np.float32([1 / 3]),
    ],
)
def test_arrays_come_back_to_the_bit(array):
    back = protocol.unpacked(json.loads(json.dumps(protocol.packed(array))))
    assert back.shape == np.shape(array)
    assert np.array_equal(back, array, equal_nan=True)
    assert back.dtype == (np.float32 if getattr(array, "dtype", None) == np.float32 else np.float64)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1.0],
        {},
        {"dtype": "object", "shape": [1], "data": "AAAAAAAAAAA="},
        {"dtype": "float64", "shape": [2], "data": "AAAAAAAAAAA="},
        {"dtype": "float64", "shape": [-1], "data": ""},
        {"dtype": "float64", "shape": [True], "data": "AAAAAAAAAAA="},
        {"dtype": "float64", "shape": [1.0], "data": "AAAAAAAAAAA="},
        {"dtype": "float64", "shape": [500_001, 0], "data": ""},
        {"dtype": "float64", "shape": [1] * 9, "data": "AAAAAAAAAAA="},
        {"dtype": "float64", "shape": [1], "data": "no base64!"},
        {"dtype": "float64", "shape": "1", "data": 5},
        {"dtype": ["float64"], "shape": [1], "data": "AAAAAAAAAAA="},
    ],
)
def test_what_is_no_array_is_refused(value):
    with pytest.raises(ProtocolError):
        protocol.unpacked(value)


def test_frames_arrive_whole_and_in_order(ends):
    for message in ({"a": 1}, {"text": "é" * 1000}, {"deep": [[[1]]]}):
        protocol.send(ends[0], message)
    assert [protocol.receive(ends[1]) for _ in range(3)] == [{"a": 1}, {"text": "é" * 1000}, {"deep": [[[1]]]}]


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">I", protocol.LARGEST_FRAME + 1),
        struct.pack(">I", 3) + b"abc",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 2) + b"\xff\xfe",
        struct.pack(">I", 200_000) + b"[" * 100_000 + b"]" * 100_000,
        struct.pack(">I", 58) + b'{"a":' + b"[" * 26 + b"]" * 26 + b"}",
        struct.pack(">I", 5000) + b"1" * 5000,
    ],
)
def test_what_is_no_frame_is_refused(ends, frame):
    ends[0].sendall(frame)
    with pytest.raises(ProtocolError):
        protocol.receive(ends[1], time.monotonic() + 5)


def test_a_frame_that_does_not_end_runs_into_the_deadline_and_a_closed_end_is_told(ends):
    ends[0].sendall(struct.pack(">I", 100) + b"{")
    with pytest.raises(TimeoutError):
        protocol.receive(ends[1], time.monotonic() + 0.1)
    with pytest.raises(TimeoutError):
        protocol.send(ends[0], {"nobody": "reads" * 10**6}, time.monotonic() + 0.1)
    ends[0].close()
    with pytest.raises((EOFError, ConnectionError)):
        protocol.receive(ends[1], time.monotonic() + 1)


def test_too_much_is_not_sent(ends):
    with pytest.raises(ProtocolError, match="bytes"):
        protocol.send(ends[0], {"a": "x" * protocol.LARGEST_FRAME})
    with pytest.raises(ValueError, match="500001 numbers"):
        protocol.packed(np.zeros(500_001))


def test_what_has_arrived_is_read_before_it_is_called_late(ends):
    protocol.send(ends[0], {"a": 1})
    assert protocol.receive(ends[1], time.monotonic() - 1) == {"a": 1}
    with pytest.raises(TimeoutError):
        protocol.receive(ends[1], time.monotonic() - 1)
    with pytest.raises(TimeoutError):
        protocol.send(ends[0], {"a": 1}, time.monotonic() - 1)


def test_a_deadline_may_be_put_off_while_one_waits(ends):
    left = iter([0.02, 0.02, 0.02, 0.0])
    with pytest.raises(TimeoutError):
        protocol.receive(ends[1], lambda: next(left))
    assert not list(left)
