"""Names of files and folders as people type them, and whether they can be written, before any work begins."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import typer


def place(help: str) -> dict[str, Any]:
    """What the arguments and options that name a file or folder have in common."""
    return {"help": help, "parser": path_of}


def path_of(text: str | Path) -> Path:
    """A path as it is typed, with `~` as the home folder. What can be no path is refused here, for every command."""
    if not str(text).strip():
        raise typer.BadParameter("the name is empty; name a file or folder.")
    try:
        path = Path(text).expanduser()
        os.stat(path)
    except RuntimeError:
        raise typer.BadParameter(f"{text}: there is no such home folder.") from None
    except ValueError:
        raise typer.BadParameter(f"{text!r} can be no name of a file.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise typer.BadParameter(f"{text} is a link that leads to itself.") from None
    return path


def file_for_output(path: Path, endings: tuple[str, ...] = ()) -> None:
    """Raise one sentence if `path` cannot be written, or is no file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file, but a device or the like; name another.")
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path} is a link to a file that is not there; name another.")
    if endings and path.suffix.lower() not in endings:
        raise ValueError(f"{path}: the name must end in {', '.join(endings[:-1])} or {endings[-1]}.")
    folder_for_output(path.parent)
    if len(os.fsencode(path.name)) > 200:
        raise ValueError(f"the name {path.name[:20]}... is too long for a file.")


def folder_for_output(folder: Path) -> None:
    """Raise one sentence if nothing can be written to `folder`, which need not exist. Nothing is left behind."""
    if any(len(os.fsencode(part)) > 200 for part in folder.parts):
        raise ValueError(f"the name {str(folder)[:20]}... is too long for a folder.")
    place = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), Path())
    if not place.is_dir():
        raise NotADirectoryError(f"{folder} must be a folder, but {place} is none.")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        raise OSError(f"nothing can be written to {folder} ({error.strerror}).") from None
