"""The folder of a run: made, tried and taken before the first step.

So nothing is trained that could not be kept, nobody's files are overwritten, and no two runs share a folder. While a run is at
work, `running.json` says which process it is; that of a process which was killed counts for nothing.
"""

import errno
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gencourse import checkpoint

#: What a run leaves behind: the first two are written by `fit`, the others by `gencourse.recipes.train`.
FILES = ("checkpoint.pt", "history.json", "model.pt", "run.json")
MARKER = "running.json"


@contextmanager
def taken(out: Path, *, resume: bool, room: int, settings: dict[str, Any]) -> Iterator[None]:
    """Have the folder for one run alone inside the block.

    Args:
        out: the folder; it is made, and removed again if nothing was left in it.
        resume: whether it may hold a run.
        room: the bytes that a checkpoint takes at least.
        settings: what others may want to know about the run.

    Raises:
        FileExistsError: if the folder holds a run and `resume` is False, or another run is at work in it.
        OSError: if it cannot be made or written, or there is no room.
    """
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = "there is a file in the way" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise OSError(error.errno, f"fit: the folder for the run cannot be made ({what})", str(out)) from None
    marker = out / MARKER
    mine = {"process": os.getpid(), "started": _started(os.getpid()), "host": platform.node(), **settings}
    _take(marker, json.dumps({**mine, "since": time.strftime("%Y-%m-%d %H:%M:%S")}))
    try:
        _refuse_what_is_there(out, resume)
        _try(out, room)
        for name in FILES[:2]:
            checkpoint.sweep(out / name)
        yield
    finally:
        marker.unlink(missing_ok=True)
        if is_new:
            with suppress(OSError):  # not empty: something was kept
                out.rmdir()


def _refuse_what_is_there(out: Path, resume: bool) -> None:
    there = [name for name in FILES if os.path.lexists(out / name)]
    if there and not resume:
        raise FileExistsError(
            f"fit: {out} already holds a run; pass resume=True (on the command line: --resume) to continue it, "
            f"or choose another folder. (There is {', '.join(there)}.)"
        )
    if there and FILES[0] not in there:
        raise FileExistsError(
            f"fit: {out} cannot be resumed: it holds {', '.join(there)}, but no {FILES[0]} to go on from; choose another folder."
        )


def _try(out: Path, room: int) -> None:
    """See that the disk takes a file as large as the smallest checkpoint."""
    try:
        with tempfile.TemporaryFile(dir=out) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(1, room))
            elif shutil.disk_usage(out).free < room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if error.errno in checkpoint.NO_ROOM:
            raise OSError(error.errno, f"fit: no room on the disk for a checkpoint of {room:,} bytes", str(out)) from None
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot reserve room
            raise OSError(error.errno, f"fit: cannot write to the folder for the run ({error.strerror})", str(out)) from None


def _take(marker: Path, content: str) -> None:
    """Make the marker, which only one process can; that of a dead process is moved out of the way."""
    while True:
        try:
            descriptor = os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            _refuse_the_living(marker)
            continue
        except OSError as error:
            text = f"fit: cannot write to the folder for the run ({error.strerror})"
            raise OSError(error.errno, text, str(marker.parent)) from None
        try:
            with open(descriptor, "w") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            return
        except OSError as error:
            marker.unlink(missing_ok=True)
            what = "no room on the disk" if error.errno in checkpoint.NO_ROOM else f"cannot write ({error.strerror})"
            raise OSError(error.errno, f"fit: {what} for the run", str(marker.parent)) from None


def _refuse_the_living(marker: Path) -> None:
    """Raise if the run that made the marker is still at work; else remove the marker."""
    content = _read(marker)
    deadline = time.monotonic() + 1
    while not content and marker.exists() and time.monotonic() < deadline:  # made, and not yet written
        time.sleep(0.02)
        content = _read(marker)
    try:
        run = json.loads(content)
        pid, started, host = int(run["process"]), run["started"], run["host"]
    except (ValueError, KeyError, TypeError):  # killed while it wrote
        run = None
    if run is not None and (host != platform.node() or _lives(pid, started)):
        where = "" if host == platform.node() else f" on {host}"
        told = ", ".join(f"{name} {run[name]}" for name in ("seed", "steps", "since") if name in run)
        raise FileExistsError(
            f"fit: {marker.parent} is taken: process {pid}{where} is training in it ({told}); "
            f"wait for it, or choose another folder. (If it is gone, delete {marker.name} there.)"
        )
    aside = marker.with_name(f".{marker.name}.{os.getpid()}")
    with suppress(FileNotFoundError):  # somebody else was faster
        marker.rename(aside)
        if _read(aside) != content:  # it was another's, who took the folder in between: give it back
            with suppress(FileExistsError):
                os.link(aside, marker)
        aside.unlink()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _lives(pid: int, started: int | None) -> bool:
    """Whether the process is at work; False if another one has its number now. Where that cannot be told, True."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    now = _started(pid)
    return now is None or started is None or now == started


def _started(pid: int) -> int | None:
    """When the process started, in ticks since the machine did: -1 if it is dead and only its parent has not heard; else None."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] in "ZX" else int(fields[19])
    except (OSError, IndexError, ValueError):  # no Linux
        return None
