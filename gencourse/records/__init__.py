"""The comparisons that chapters quote, run by run, as `benchmarks/` made them.

They are part of the library, since a notebook on Colab lies alone: nothing is beside it.
"""

import json
import platform
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from gencourse import __version__
from gencourse.checkpoint import write_atomically


def names() -> tuple[str, ...]:
    """The records that there are, such as "05-experiments"."""
    found = [item.name for item in resources.files(__name__).iterdir()]
    return tuple(sorted(name.removesuffix(".json") for name in found if name.endswith(".json")))


def load(name: str) -> dict[str, Any]:
    """A record: `runs`, a list with what is known of each as plain data, and `made with`, the versions and the machine.

    Raises:
        ValueError: if there is no record of this name.
    """
    if name not in names():
        raise ValueError(f"there is no record {name!r}; there are: {', '.join(names())}.")
    record: dict[str, Any] = json.loads((resources.files(__name__) / f"{name}.json").read_text(encoding="utf-8"))
    return record


def begin(path: Path | None, **made_with: Any) -> dict[str, Any]:
    """The record in a file, or an empty one, to which a benchmark adds its `runs`; made with what is installed here.

    Args:
        path: where `write` will put it; None or a file that is not there begins anew.
        made_with: what else is to be said of how the runs are made; `device` in place of the processor.
    """
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path and path.exists() else []
    versions = {"gencourse": __version__, "torch": metadata.version("torch").split("+")[0]}
    return {"made with": {**versions, "device": f"{platform.machine()} CPU", **made_with}, "runs": runs}


def write(path: Path | None, record: dict[str, Any]) -> None:
    """Write a record, a run a line, so that a new run is a new line under version control; without a path, nothing."""
    if path:
        lines = ",\n".join("  " + json.dumps(run) for run in record["runs"])
        write_atomically(path, f'{{"made with": {json.dumps(record["made with"])},\n "runs": [\n{lines}\n]}}\n'.encode())
