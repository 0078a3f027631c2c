"""What went wrong, in one sentence for the user."""

from typing import Any

import typer

INTERRUPTED = 130
"""The status after Ctrl-C."""

_NO_MEMORY = ("DefaultCPUAllocator", "out of memory", "allocate memory", "Storage size calculation overflowed", "overflow when")


def sentence(error: BaseException) -> str | None:
    """What an error says to a user; None if it is a fault of the program."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)):
        return "there is not enough memory for this; ask for less (fewer samples, smaller images, fewer jobs)."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else f"{error.strerror}."
    if isinstance(error, OverflowError):
        return f"a number is too large ({error})."
    if isinstance(error, ValueError | TypeError | FloatingPointError | OSError):
        return str(error)
    return None


def say(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line, whatever stands in a name that it quotes."""
    line = " ".join(str(message).split())
    typer.echo(f"gencourse: {''.join(c if c.isprintable() else '?' for c in line)}", err=True)
