"""The time that counts against a student: what a process computes or sleeps, not what it waits for a processor."""

from __future__ import annotations

import time


class Clock:
    """Seconds since it was made: of the processor, over all threads, or those in which the first thread did not wait for one.

    The larger of the two. A busy machine thus takes no time from anybody, and many threads do not make more of it. Where the
    system does not tell what a process has waited, as elsewhere than on Linux, it is the time on the wall.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begun = time.monotonic()
        self._at_first = self._computed_and_waited()
        self._waited = 0.0

    def __call__(self) -> float:
        """Seconds so far."""
        wall = time.monotonic() - self._begun
        computed, waited = (now - first for now, first in zip(self._computed_and_waited(), self._at_first, strict=True))
        self._waited = max(self._waited, waited)  # a process that has ended says nothing
        return max(wall - self._waited, computed)

    def _computed_and_waited(self) -> tuple[float, float]:
        try:
            computed = time.clock_gettime(~self._pid << 3 | 2)  # the kernel's number for the processor time of another process
            with open(f"/proc/{self._pid}/schedstat") as file:
                return computed, int(file.read().split()[1]) / 1e9
        except (OSError, AttributeError, IndexError, ValueError):
            return 0.0, 0.0
