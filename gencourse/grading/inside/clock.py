"""The time that counts against a student: what a process computes or sleeps, not what it waits for a processor or for us."""

from __future__ import annotations

import time
from typing import NamedTuple


class Figures(NamedTuple):
    """What is known of a process: seconds on the wall, computed by all threads; of its first thread the rest."""

    wall: float
    computed: float
    first: float  # seconds that it has computed
    waited: float  # for a processor
    times: int  # that it went to sleep
    asleep: bool

    @property
    def slept(self) -> float:
        """Seconds, and what it waits at this moment, which the system adds to what it has waited when that is over."""
        return self.wall - self.first - self.waited


class Clock:
    """Seconds since it was made: of the processor, over all threads, or those in which the first thread computed or slept.

    The larger of the two. A busy machine thus takes no time from anybody, and many threads do not make more of it. What a process
    sleeps until somebody has read what it sent, and has answered, is not its own: `heard` and `answers` take it off. Where the
    system does not tell all this, as elsewhere than on Linux, it is the time on the wall.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begun = self._last = self._since = self._figures()
        self._slept = 0.0
        self._for_us = 0.0  # of these

    def __call__(self) -> float:
        """Seconds so far."""
        now = self._look()
        return max(now.first - self._begun.first + max(0.0, self._slept - self._for_us), now.computed - self._begun.computed)

    def heard(self) -> None:
        """What it has sent has been read. If it has not slept since it was answered, but for now, it was for us all along."""
        now = self._look()
        if now.times - now.asleep <= self._since.times:
            self._for_us += max(0.0, now.slept - self._since.slept)
        self._since = now

    def answers(self) -> None:
        """It is about to be sent an answer, for which it has slept since it was heard."""
        now = self._look()
        self._for_us += max(0.0, now.slept - self._since.slept)
        self._since = now

    def _look(self) -> Figures:
        """The figures now. A process that was awake last time, is awake, and has not gone to sleep in between, only waits."""
        last, now = self._last, self._figures()
        if now.wall and now.times < last.times:  # it has ended, and says nothing
            now = last._replace(wall=now.wall, asleep=True)
        if last.asleep or now.asleep or now.times != last.times or not now.times:
            self._slept += now.slept - last.slept
        self._slept = min(self._slept, now.slept - self._begun.slept)
        self._last = now
        return now

    def _figures(self) -> Figures:
        try:
            computed = time.clock_gettime(~self._pid << 3 | 2)  # the kernel's number for the processor time of another process
            with open(f"/proc/{self._pid}/status") as file:
                lines = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
            with open(f"/proc/{self._pid}/schedstat") as file:
                first, waited, _ = file.read().split()
            times, asleep = int(lines["voluntary_ctxt_switches"]), lines["State"].strip()[:1] != "R"
            return Figures(time.monotonic(), computed, int(first) / 1e9, int(waited) / 1e9, times, asleep)
        except (OSError, AttributeError, KeyError, ValueError):
            return Figures(time.monotonic(), 0.0, 0.0, 0.0, 0, False)
