"""What counts against a student is what a process computes or sleeps, and not what it waits for a processor."""

import os
import subprocess
import sys
import time

import pytest

from gencourse.grading.inside.clock import Clock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the clock on the wall")


def measured(code, processor, seconds):
    """The clock of a process on this processor, and the clock on the wall, after so long."""
    with subprocess.Popen([sys.executable, "-c", f"print(1, flush=True)\n{code}"], stdout=subprocess.PIPE) as process:
        process.stdout.read(1)
        os.sched_setaffinity(process.pid, [processor])
        clock, begun = Clock(process.pid), time.monotonic()
        time.sleep(seconds)
        both = clock(), time.monotonic() - begun
        process.kill()
    return both


def test_sleep_counts_and_waiting_for_a_processor_does_not():
    counted, wall = measured("import time\ntime.sleep(99)", 0, 0.3)
    assert 0.2 <= counted <= wall
    (processor, *_) = os.sched_getaffinity(0)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    for one in busy:
        os.sched_setaffinity(one.pid, [processor])
    try:
        counted, wall = measured("while True: pass", processor, 1.0)
    finally:
        for one in busy:
            one.kill()
            one.wait()
    assert counted <= 0.6 * wall  # a quarter is its share


PONG = """
import os, sys, time
def ask():
    os.write(1, b"?")
    os.read(0, 1)
while True:
    ask()
    {before}
"""


def played(before, rounds, late):
    """The clock of a process that asks and does something in between, whose questions are read and answered late."""
    with subprocess.Popen(
        [sys.executable, "-c", PONG.format(before=before)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, bufsize=0
    ) as process:
        process.stdout.read(1)
        clock = Clock(process.pid)
        for _ in range(rounds):
            clock.answers()
            process.stdin.write(b"!")
            time.sleep(late)  # nobody has a processor for us
            process.stdout.read(1)
            clock.heard()
            time.sleep(late)
        clock.answers()
        counted = clock()
        process.kill()
    return counted


def test_to_wait_for_us_does_not_count():
    """Neither until a question is read nor until it is answered; what is slept of one's own does, however it is broken up."""
    assert played("pass", 20, 0.05) < 0.5  # of 2 seconds
    assert played("time.sleep(0.02)", 10, 0.05) > 0.2
    assert played("time.sleep(0.01); time.sleep(0.01)", 10, 0.05) > 0.2
    assert played("sum(range(10**5))", 10, 0.0) > 0.005
