"""Ctrl-C, and a machine that is about to be taken away, as a wish to stop after this step."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts(pass_on: bool = False) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C, a SIGTERM (schedulers, `kill`) or a SIGHUP (a closed terminal) into a wish to stop after this step.

    A second Ctrl-C stops at once. A signal that the process ignores (`nohup`) stays ignored. With `pass_on`, the processes
    started here are told too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    got: list[int] = []

    def ask(signum: int, frame: Any) -> None:
        if signum == signal.SIGINT and signal.SIGINT in got:
            raise KeyboardInterrupt
        got.append(signum)
        if pass_on:
            for child in multiprocessing.active_children():
                if child.pid is not None and child.is_alive():
                    os.kill(child.pid, signal.SIGTERM)  # any number of these is one wish

    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: set by C, not to be put back
            before[number] = signal.signal(number, ask)
    try:
        yield lambda: bool(got)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
