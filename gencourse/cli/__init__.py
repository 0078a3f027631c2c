"""The `gencourse` command: list the models, train one by a recipe, sample from it, evaluate it; get data; grade exercises.

What the user did wrong is one sentence on standard error and a status that is not 0. What cannot be written is noticed before
the work begins, and Ctrl-C is status 130.
"""

import contextlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from gencourse.cli import exercises, models
from gencourse.cli.errors import INTERRUPTED, say, sentence


class _Commands(TyperGroup):
    """Ctrl-C ends any command with a sentence."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("gencourse: stopped.", err=True)
            raise SystemExit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    help="The models of the course: list them, train one by its recipe, sample from it, evaluate it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="The data sets: which are here, and how to get the others.", no_args_is_help=True)
app.add_typer(data_app, name="data")

_COMMANDS: dict[str, Callable[..., None]] = {
    "models": models.list_models,
    "train": models.train,
    "evaluate": models.evaluate,
    "sample": models.sample,
    "release": exercises.release_exercise,
    "publish": exercises.publish_edition,
    "submit": exercises.submit_exercise,
    "grade": exercises.grade_class,
    "gradebook": exercises.gradebook_csv,
    "selftest": exercises.selftest_exercise,
    "gradescope": exercises.gradescope_zip,
}
_NEEDS = {"grade": "lms", "gradebook": "lms"} | {name: name for name in ("release", "publish", "selftest", "gradescope")}
_GRADING = Path(__file__).parents[1] / "grading"
for _name, _command in _COMMANDS.items():
    if _name not in _NEEDS or (_GRADING / f"{_NEEDS[_name]}.py").exists():  # the students' edition has no instructors' commands
        app.command(_name)(_command)
data_app.command("list")(models.list_data)
data_app.command("get")(models.get_data)


def main() -> None:
    """Run the command; what the user did wrong is one sentence, not a traceback."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a sign shows another
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.showwarning = say
        try:
            app(prog_name="gencourse")
        except Exception as error:
            text = sentence(error)
            if text is None:
                raise
            say(text)
            raise SystemExit(1) from None
