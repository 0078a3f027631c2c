"""Who handed in what: a folder of submissions, read by name only.

A file `ada.ipynb` or `ada.zip`, or a folder `ada/` with a notebook in it, is Ada's. What file systems and `gencourse submit` put
around a name (`ada (1).ipynb`, `ada-09.ipynb`) is taken off. In what a course platform exports, its own number is the student,
whatever the name: two numbers are two people, even of one name, and the attempts under one number are one person's. A name that
only looks like an export is left as it is. Everything in the folder is somebody's: what cannot be graded has a row as well.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gencourse.grading import notebook
from gencourse.grading.notebook import Unreadable

_MOST_IN_A_FOLDER = 50
_ENDINGS = (".ipynb", ".zip", ".json", ".txt")  # browsers and mail programs add the last two

# What platforms call the files and folders of an export: the number first, the name where there is one.
_MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d{1,12})_assignsubmission_[a-z]+(?:_.*)?")
_CANVAS = re.compile(r"(?P<name>\w+?)(?P<late>_LATE)?_(?P<id>[1-9]\d*)_(?P<file>[1-9]\d*)_.+")
_CANVAS_ANONYMOUS = re.compile(r"(?:LATE_)?(?P<name>anon)_(?P<id>\w{5})_[1-9]\d*_.+")
_BRIGHTSPACE = re.compile(r"(?P<id>\d+-\d+) - (?P<name>.+?) - .+")
_BLACKBOARD = re.compile(r"(?P<id>.+_(?P<name>[^_]+))_attempt_(?P<when>\d{4}(?:-\d\d){5})(?P<file>_.*)?")
_GRADESCOPE = re.compile(r"(?P<name>submission)_(?P<id>\d+)")
_GRADESCOPE_TABLE = "submission_metadata.yml"
# A number that is a year or a date, or so short that it may be a course's: of these, only one file may have it.
_NO_ID = re.compile(r"\d{1,4}|(?:19|20)\d{4}(?:\d\d)?")
# Words after which a number is part of the name: "team-09" is no hand-in of "team" to exercise 09.
_COUNTED = re.compile(r"(?:team|group|gruppe|table|room|seat|student|participant|user|person|number|no|id)", re.IGNORECASE)


@dataclass(frozen=True)
class HandIn:
    """One notebook of one student.

    Args:
        name: as it was written.
        file: the place of the notebook in the folder.
        path: of the notebook.
        id: the platform's number or name for the student, where there is one.
        platform: that gave the id: moodle, canvas, brightspace, blackboard or gradescope.
        submitted: when, in ISO form, where the platform's own name of the file says so.
    """

    name: str
    file: str
    path: Path
    id: str = ""
    platform: str = ""
    submitted: str = ""

    @property
    def student(self) -> str:
        """Who it is: the platform's id, or the name, the same for all spellings that a file system may not tell apart."""
        return f"{self.platform}-{self.id}" if self.id else unicodedata.normalize("NFC", self.name).lower()

    def read(self) -> bytes:
        """The bytes of the file, a notebook or an archive.

        Raises:
            Unreadable: if there is none.
        """
        if self.path.is_symlink():
            raise Unreadable("this is a link; hand in the file itself.")
        if self.path.is_dir():
            if _notebooks(self.path):
                raise Unreadable(f"the folder holds more than {_MOST_IN_A_FOLDER} notebooks; hand in one.")
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
    paths: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__MACOSX":
            continue
        if leave_out is not None and path.resolve() == leave_out.resolve():
            continue
        exported = path.is_dir() and not path.is_symlink() and (path / _GRADESCOPE_TABLE).is_file()
        paths += [one for one in sorted(path.iterdir()) if not one.name.startswith(".")] if exported else [path]
    found: list[HandIn] = []
    for path, who in zip(paths, _people(paths, exercise), strict=True):
        if who is None:
            continue
        who = replace(who, file=printable(path.relative_to(folder).as_posix()))
        inside = _notebooks(path) if path.is_dir() and not path.is_symlink() else []
        if 0 < len(inside) <= _MOST_IN_A_FOLDER:
            found += [replace(who, file=printable(p.relative_to(folder).as_posix()), path=p) for p in inside]
        else:
            found.append(who)
    if not found:
        raise FileNotFoundError(f"there is nothing to grade in {folder}; put one notebook, archive or folder a student there.")
    return sorted(found, key=lambda one: (one.student, one.file))


def _people(paths: Sequence[Path], exercise: str) -> list[HandIn | None]:
    """Whose each file or folder is; None for what a platform adds to its export for the instructor."""
    stems = [unicodedata.normalize("NFC", _stem(path)) for path in paths]
    canvas = _canvas(stems)
    blackboard = [_BLACKBOARD.fullmatch(stem) for stem in stems]
    work = {(found["id"], found["when"]) for found in blackboard if found and found["file"]}
    brightspace = [_BRIGHTSPACE.fullmatch(stem) for stem in stems]
    made: list[HandIn | None] = []
    for i, (path, stem) in enumerate(zip(paths, stems, strict=True)):
        who, when = HandIn(_name(stem, exercise), "", path), ""
        found = blackboard[i]
        receipt = found is not None and not found["file"] and (found["id"], found["when"]) in work
        if receipt or path.name == _GRADESCOPE_TABLE or (path.name == "index.html" and any(brightspace)):
            made.append(None)
            continue
        if found is not None:
            when = re.sub(r"(.{10})-(..)-(..)-(..)", r"\1T\2:\3:\4", found["when"])
        for platform, match in (
            ("moodle", _MOODLE.fullmatch(stem)),
            ("canvas", _CANVAS_ANONYMOUS.fullmatch(stem) or canvas[i]),
            ("brightspace", brightspace[i]),
            ("blackboard", blackboard[i]),
            ("gradescope", _GRADESCOPE.fullmatch(stem)),
        ):
            if match is not None:
                nameless = platform == "gradescope" or match["name"] == "anon"
                name = match["id"] if nameless else match["name"]
                who = HandIn(printable(name), "", path, printable(match["id"]).lower(), platform, when)
                break
        made.append(_named(who))
    return made


def _canvas(stems: Sequence[str]) -> list[re.Match | None]:
    """The names that are Canvas's. Many others have two numbers in them, such as a course's and a year."""
    found = [match if match and match["name"] == match["name"].lower() else None for match in map(_CANVAS.fullmatch, stems)]
    found = [match if match and (match["late"] or len(match["file"]) >= 4) else None for match in found]
    names: dict[str, set[str]] = defaultdict(set)
    for match in filter(None, found):
        names[match["id"]].add(match["name"])
    files = Counter(match["file"] for match in found if match)
    times = Counter(match["id"] for match in found if match and not match["late"])
    courses = any(_NO_ID.fullmatch(id) and n > 1 for id, n in times.items())
    return [
        match
        if match
        and len(names[match["id"]]) == 1
        and files[match["file"]] == 1
        and (match["late"] or not courses or not _NO_ID.fullmatch(match["id"]))
        else None
        for match in found
    ]


def _named(who: HandIn) -> HandIn:
    """With the name and the address that stand beside a Gradescope export's numbers."""
    if who.platform != "gradescope":
        return who
    about = _gradescope_people(who.path.parent / _GRADESCOPE_TABLE).get(who.path.name, {})
    return replace(
        who,
        name=printable(about.get("name", "")) or who.id,
        id=printable(about.get("email", "")).lower() or who.id,
        submitted=about.get("created_at", ""),
    )


def _gradescope_people(table: Path) -> dict[str, dict[str, str]]:
    """What Gradescope's table says of each submission's first author."""
    try:
        lines = table.read_text(encoding="utf-8", errors="replace")[: 10**7].splitlines()
    except OSError:
        return {}
    found: dict[str, dict[str, str]] = {}
    here: dict[str, str] = {}
    for line in lines:
        if line.startswith("submission_"):
            here = found.setdefault(line.rstrip(": "), {})
        words = line.strip().lstrip("- ")
        for key in ("name", "email", "created_at"):
            if words.startswith(f":{key}:"):
                here.setdefault(key, words.partition(f":{key}:")[2].strip().strip("'\""))
    return found


def must_be_apart(folder: Path, out: Path) -> None:
    """Raise a `ValueError` if what is written to `out` would be taken for hand-ins of `folder`."""
    handed_in, written = folder.resolve(), out.resolve()
    if written == handed_in or handed_in in written.parents[1:]:
        raise ValueError(f"marks in {out} would be taken for hand-ins of {folder}; name a folder beside it, such as --out marks.")


def code(student: str, id: str, secret: bytes) -> str:
    """What stands for a student where names must not: a platform's number, or a code that only the secret leads to."""
    numbers = id.replace("-", "").isdecimal()  # others are addresses and user names
    return student if numbers else hmac.digest(secret, b"name\0" + student.encode(), "sha256").hex()[:8]


def file_name(student: str) -> str:
    """A name for a file about this student: letters, digits and a few signs; a hash where that changes anything."""
    plain = re.sub(r"[^\w.@+-]", "_", student, flags=re.ASCII).lstrip(".-")[:80]
    return plain if plain == student else f"{plain or 'student'}-{hashlib.sha256(student.encode()).hexdigest()[:8]}"


def _notebooks(folder: Path) -> list[Path]:
    """The notebooks of a folder, at most two folders down, and no more than one too many; links to folders are not followed."""
    found = [
        path
        for depth in ("*", "*/*", "*/*/*")
        for path in folder.glob(depth)
        if _stem(path) != path.name
        and path.suffix.lower() in _ENDINGS
        and (path.suffix.lower() in _ENDINGS[:2] or ".ipynb" in path.name.lower())
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        and not any(folder.joinpath(*path.relative_to(folder).parts[:i]).is_symlink() for i in range(1, depth.count("/") + 1))
    ]
    return sorted(found)[: _MOST_IN_A_FOLDER + 1]


def _stem(path: Path) -> str:
    """The name without its ending, or both of `work.ipynb.txt`."""
    stem = path.name[: -len(path.suffix)] if path.suffix and not path.is_dir() else path.name
    return stem[: -len(".ipynb")] if stem.lower().endswith(".ipynb") else stem


def _name(stem: str, exercise: str) -> str:
    name = re.sub(r"\s*\(\d+\)$", "", stem)
    whole = name
    name = re.sub(rf"[-_ ]{re.escape(exercise)}$", "", name)
    name = whole if _COUNTED.fullmatch(name) else name
    return printable(name.strip()) or "student"


def printable(text: str, length: int = 200) -> str:
    """Text that can be printed and written: no control characters, no halves of characters."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "?" for c in text)[:length]


def printable_lines(text: str) -> str:
    """The same for text of several lines."""
    return "\n".join(printable(line, 1000) for line in text.splitlines())
