"""Files that are either whole or not there: atomic writes, and loading that never runs code."""

import errno
import io
import json
import os
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: How a system says that a file finds no room.
NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        OSError: in one sentence, if the disk is full, the folder cannot be written, or `path` is no regular file (a device, a
            folder); what was there is untouched.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "cannot write (it is there, and no regular file)", str(path))
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        kept = "; the earlier file is untouched" if path.exists() else ""
        if error.errno in NO_ROOM:
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
    """Save tensors, numbers, strings and containers of them, atomically; NumPy's numbers and arrays as Python's, and lists."""
    buffer = io.BytesIO()
    torch.save(plain(state), buffer)
    write_atomically(path, buffer.getvalue())


def plain(value: Any) -> Any:
    """The same, with Python's numbers and lists for NumPy's, which `load` would refuse."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        made = {plain(key): plain(part) for key, part in value.items()}
        return value if all(made.get(key) is part for key, part in value.items()) else made
    if isinstance(value, list):
        return [plain(part) for part in value]
    return tuple(plain(part) for part in value) if type(value) is tuple else value


def load(path: Path, device: str | torch.device = "cpu") -> Any:
    """Load what `save` wrote. Only tensors and plain containers are read: a file cannot run code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, be it in one byte, or holds anything else than data.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        return torch.load(_checked(path), map_location=device, weights_only=True)
    except Exception as error:  # torch raises a dozen kinds, from EOFError to UnpicklingError
        if isinstance(error, pickle.UnpicklingError):  # whole, for its checksums are right
            raise ValueError(f"{path} holds more than tensors and plain data, so that loading it might run code.") from None
        raise ValueError(f"{path} is damaged or is not a gencourse file ({type(error).__name__}); delete it.") from None


def _checked(path: Path) -> io.BytesIO:
    """The archive with each member read, which compares the checksums, and written anew.

    torch looks at no checksum, and believes the headers: where one has a flag too many, it skips the member and leaves its tensor
    to chance. Of the old headers, only the names come along.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as new:
        for member in archive.infolist():
            new.writestr(member.filename, archive.read(member))
    copy.seek(0)
    return copy


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
