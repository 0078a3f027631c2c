"""Files that are either whole or not there: atomic writes, and loading that never runs code."""

import errno
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        OSError: in one sentence, if the disk is full or the folder cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        kept = "; the earlier file is untouched" if path.exists() else ""
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise OSError(error.errno, f"no room on the disk to write {len(content):,} bytes{kept}", str(path)) from None
        raise OSError(error.errno, f"cannot write ({error.strerror}){kept}", str(path)) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)  # still there only if something went wrong, Ctrl-C included


def sweep(path: Path) -> None:
    """Remove the parts of `path` that killed writers left beside it. Nobody may be writing it now."""
    for part in path.parent.glob(f".{path.name}.*"):
        part.unlink(missing_ok=True)


def save(path: Path, state: Any) -> None:
    """Save tensors, numbers, strings and containers of them, atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: Path, device: str | torch.device = "cpu") -> Any:
    """Load what `save` wrote. Only tensors and plain containers are read: a file cannot run code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or holds anything else than data.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises a dozen kinds, from EOFError to UnpicklingError
        raise ValueError(f"{path} is damaged or is not a gencourse file ({type(error).__name__}); delete it.") from None


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
