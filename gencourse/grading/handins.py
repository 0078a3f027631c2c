"""Who handed in what: a folder of submissions, read by name only.

A file `ada.ipynb` or `ada.zip`, or a folder `ada/` with a notebook in it, is Ada's. What file systems and course platforms
put around a name (`ada (1).ipynb`, `ada-09.ipynb`, Moodle's `Ada_4711_assignsubmission_file`, Canvas's
`ada_LATE_12_345_work.ipynb`) is taken off. Everything in the folder is somebody's: what cannot be graded has a row as well.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from gencourse.grading import notebook
from gencourse.grading.notebook import Unreadable

_MOST_IN_A_FOLDER = 50
_ENDINGS = (".ipynb", ".zip", ".json", ".txt")  # browsers and mail programs add the last two


@dataclass(frozen=True)
class HandIn:
    """One notebook of one student. `name` is as it was written, `file` the place of the notebook in the folder."""

    name: str
    file: str
    path: Path

    @property
    def student(self) -> str:
        """The same for all spellings of a name that a file system may not tell apart."""
        return unicodedata.normalize("NFC", self.name).casefold()

    def read(self) -> bytes:
        """The bytes of the file, a notebook or an archive.

        Raises:
            Unreadable: if there is none.
        """
        if self.path.is_dir() and not self.path.is_symlink():
            raise Unreadable("there is no notebook (.ipynb) in the folder.")
        suffix = self.path.suffix.lower()
        if suffix not in _ENDINGS:
            raise Unreadable(f"this is a file {printable(suffix) or 'without an ending'}; hand in the notebook, .ipynb.")
        return notebook.read_bytes(self.path)


def find(folder: Path, exercise: str, leave_out: Path | None = None) -> list[HandIn]:
    """All hand-ins of a folder, sorted by student.

    Raises:
        FileNotFoundError: if there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "is not there"
        raise FileNotFoundError(f"{folder} {what}; name the folder that holds what students handed in.")
    found: list[HandIn] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__MACOSX":
            continue
        if leave_out is not None and path.resolve() == leave_out.resolve():
            continue
        if path.is_dir() and not path.is_symlink():
            inside = _notebooks(path)
            name = _name(path.name, exercise)
            found += [HandIn(name, printable(f"{path.name}/{p.relative_to(path)}"), p) for p in inside]
            found += [] if inside else [HandIn(name, printable(path.name), path)]
        else:
            stem = path.name[: -len(path.suffix)] if path.suffix else path.name
            found.append(HandIn(_name(stem, exercise), printable(path.name), path))
    if not found:
        raise FileNotFoundError(f"there is nothing to grade in {folder}; put one notebook, archive or folder a student there.")
    return sorted(found, key=lambda one: (one.student, one.file))


def must_be_apart(folder: Path, out: Path) -> None:
    """Raise a `ValueError` if what is written to `out` would be taken for hand-ins of `folder`."""
    handed_in, written = folder.resolve(), out.resolve()
    if written == handed_in or handed_in in written.parents[1:]:
        raise ValueError(f"marks in {out} would be taken for hand-ins of {folder}; name a folder beside it, such as --out marks.")


def file_name(student: str) -> str:
    """A name for a file about this student: letters, digits and a few signs; a hash where that changes anything."""
    plain = re.sub(r"[^\w.@+-]", "_", student, flags=re.ASCII).lstrip(".-")[:80]
    return plain if plain == student else f"{plain or 'student'}-{hashlib.sha256(student.encode()).hexdigest()[:8]}"


def _notebooks(folder: Path) -> list[Path]:
    """The notebooks of a folder, at most two folders down; links to folders are not followed."""
    found = [
        path
        for depth in ("*", "*/*", "*/*/*")
        for path in folder.glob(depth)
        if path.suffix.lower() in (".ipynb", ".zip")
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        and not any(folder.joinpath(*path.relative_to(folder).parts[:i]).is_symlink() for i in range(1, depth.count("/") + 1))
    ]
    return sorted(found)[:_MOST_IN_A_FOLDER]


def _name(stem: str, exercise: str) -> str:
    name = unicodedata.normalize("NFC", stem)
    name = re.sub(r"_\d+_assignsubmission_.*$", "", name)
    name = re.sub(r"(_LATE)?_\d+_\d+_.*$", "", name, flags=re.IGNORECASE)
    name = re.sub(r"\s*\(\d+\)$", "", name)
    name = re.sub(rf"[-_ ]{re.escape(exercise)}$", "", name)
    return printable(name.strip()) or "student"


def printable(text: str, length: int = 200) -> str:
    """Text that can be printed and written: no control characters, no halves of characters."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "?" for c in text)[:length]
