"""Download a set once, keep it as `NAME.npz`, and never use a file that is not what it should be.

The folder is `$GENCOURSE_DATA`, or the user's cache folder. A file that is there is used without the network, after its
content has been checked (a tenth of a second or so). Downloads go to a scratch folder beside it and are checked before the
file appears under its name, so a download that was cut short or killed leaves nothing that could be mistaken for data.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gencourse import checkpoint
from gencourse.data.dataset import Dataset
from gencourse.data.formats import Arrays, read_npz
from gencourse.data.sources import SOURCES, File, Mirror, Source

__all__ = ["SOURCES", "Source", "Status", "folder", "get", "load", "status"]

_TIMEOUT = 30  # seconds without an answer
_MARGIN = 50e6  # bytes that a file may have, beside ten times those of the whole set: more is no such file
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS}


class Status(NamedTuple):
    """A downloadable set as `gencourse data list` shows it; `bytes` is the size on disk, or that of the download."""

    name: str
    present: bool
    path: Path
    bytes: int
    licence: str
    citation: str


def folder() -> Path:
    """Where the sets are kept: `$GENCOURSE_DATA`, or the user's cache folder.

    Raises:
        FileNotFoundError: if `$GENCOURSE_DATA` begins with the home folder of nobody.
    """
    if chosen := os.environ.get("GENCOURSE_DATA"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError:
            raise FileNotFoundError(f"GENCOURSE_DATA is {chosen}, but there is no such home folder; set it to another.") from None
    try:
        import pooch
    except ImportError:  # without pooch nothing is downloaded, but files that are there are found
        return Path.home() / ".cache" / "gencourse"
    return Path(pooch.os_cache("gencourse"))


def status() -> list[Status]:
    """Every downloadable set, whether it is here, and how large it is. Nothing is read or downloaded."""
    rows = []
    for name, source in SOURCES.items():
        path = folder() / f"{name}.npz"
        present = path.is_file()
        size = path.stat().st_size if present else round(source.megabytes * 1e6)
        rows.append(Status(name, present, path, size, source.licence, source.citation))
    return rows


def get(name: str) -> Path:
    """Make sure that `NAME.npz` is here and right, downloading it if need be; return its path.

    Raises:
        ValueError: if there is no such downloadable set, or the file that is here is damaged.
        FileNotFoundError: if no mirror could provide it.
        OSError: if the folder cannot be written.
    """
    return _get(name)[0]


def load(name: str) -> Dataset:
    """Load a downloadable set; see `gencourse.data.load`, and `get` for what is raised."""
    _, arrays = _get(name)
    return Dataset(name, SOURCES[name].space, **SOURCES[name].split(arrays))


def _get(name: str) -> tuple[Path, Arrays]:
    if name not in SOURCES:
        raise ValueError(f"{name!r} is not a set that is downloaded; those are: {', '.join(SOURCES)}.")
    source, path = SOURCES[name], folder() / f"{name}.npz"
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"a folder is in the place of the data set {name!r}; take it away", str(path))
    if not path.is_file():
        _download(name, source, path)
    try:
        arrays = read_npz([path], *source.content)
        _check(arrays, source)
    except PermissionError:
        raise PermissionError(errno.EACCES, "this file cannot be read; change its permissions", str(path)) from None
    except Exception as error:  # a broken archive can raise anything, from BadZipFile to MemoryError
        raise ValueError(
            f"{path} is damaged or is not the data set {name!r} ({_reason(error)}): delete it, and it will be downloaded again."
        ) from None
    return path, arrays


def _download(name: str, source: Source, path: Path) -> None:
    """Try the mirrors in turn; write the first content that is right."""
    try:
        import pooch  # noqa: F401
    except ImportError:
        why = "downloading it needs the package pooch (pip install pooch)"
    else:
        with _scratch(path.parent, name) as scratch:
            most = 10e6 * source.megabytes + _MARGIN
            for i, mirror in enumerate(source.mirrors):
                try:
                    arrays = mirror.decode(
                        [_fetch(file, Path(scratch) / f"{i}-{j}", most) for j, file in enumerate(mirror.files)]
                    )
                    _check(arrays, source)
                except Exception as error:  # whatever a mirror does wrong, the next one may do right
                    if isinstance(error, OSError) and error.errno in _DISK:
                        raise OSError(error.errno, f"cannot keep the download of {name} ({error.strerror})", str(path)) from None
                    then = "trying the next mirror" if i + 1 < len(source.mirrors) else "there is no other mirror"
                    warnings.warn(f"{name}: {_place(mirror)}: {_reason(error)}; {then}.", stacklevel=5)
                else:
                    buffer = io.BytesIO()
                    np.savez_compressed(buffer, **{key: arrays[key] for key in source.content})  # type: ignore[arg-type]
                    checkpoint.write_atomically(path, buffer.getvalue())
                    return
        why = "no mirror could provide it"
    raise FileNotFoundError(
        f"{path} does not exist, and {why}: go online and try again, put {path.name} into {path.parent}, set GENCOURSE_DATA to "
        "the folder that holds it, or use a set that needs no network (digits, binary_digits, bars_and_stripes)."
    )


def _fetch(file: File, to: Path, most: float) -> Path:
    """Download one raw file of at most `most` bytes, and compare its hash, if that is known."""
    import pooch
    from tqdm.auto import tqdm

    class Bar(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            if self.n + (n or 0) > most:
                raise ValueError(f"the file does not end after {most / 1e6:.3g} MB, which the set does not have")
            return super().update(n)

    # pooch sets the total, but takes a bar whose total is 0 or unknown for none.
    with Bar(total=1, unit="B", unit_scale=True, desc=file.url.rsplit("/", 1)[-1], leave=False) as bar:
        pooch.HTTPDownloader(progressbar=bar, timeout=_TIMEOUT)(file.url, str(to), None)
    if file.sha256:
        with to.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != file.sha256:
            raise ValueError(f"the file is not the published one ({to.stat().st_size:,} bytes, sha256 {found[:8]}...)")
    return to


def _check(arrays: Arrays, source: Source) -> None:
    """Raise ValueError, naming the array, unless the content is exactly the published one."""
    for name, expected in source.content.items():
        array = arrays[name]
        if array.dtype != np.uint8 or array.shape != expected.shape:
            raise ValueError(f"array {name!r} is {array.dtype} {array.shape}, not uint8 {expected.shape}")
        if expected.sha256 and hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() != expected.sha256:
            raise ValueError(f"array {name!r} does not have the published content")


def _scratch(parent: Path, name: str) -> tempfile.TemporaryDirectory[str]:
    """A folder beside the file to be; what killed downloads left there more than a day ago is removed."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for leftover in parent.glob(f".{name}.*"):
            if time.time() - leftover.stat().st_mtime > 86400:  # a younger one may belong to a download under way
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        return tempfile.TemporaryDirectory(dir=parent, prefix=f".{name}.", ignore_cleanup_errors=True)
    except OSError as error:
        what = f"no data sets can be kept in this folder ({error.strerror}); GENCOURSE_DATA can name another"
        raise OSError(error.errno, what, str(parent)) from None


def _place(mirror: Mirror) -> str:
    return mirror.files[0].url.split("/")[2]


def _reason(error: Exception) -> str:
    """Why it failed, on one line. The network's own messages run over five, so the common ones are put plainly."""
    kinds = {type_.__name__ for type_ in type(error).__mro__}
    if "Timeout" in kinds or "Read timed out" in str(error):
        return f"no answer within {_TIMEOUT} seconds"
    if "ChunkedEncodingError" in kinds:
        return "the connection broke off in the middle of the file"
    if "RequestException" in kinds and "ConnectionError" in kinds:
        return "the server cannot be reached"
    text = (str(error).splitlines() or [""])[0].split(" for url")[0]
    return f"{type(error).__name__}: {text}"[:200] if kinds.isdisjoint({"ValueError", "HTTPError"}) else text[:200]
