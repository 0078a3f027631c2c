"""The commands about exercises: release, submit, grade, and what instructors do with marks."""

import math
from pathlib import Path
from typing import Annotated

import typer

from gencourse.cli.errors import INTERRUPTED
from gencourse.cli.paths import file_for_output, folder_for_output, place


def release_exercise(
    number: Annotated[str | None, typer.Argument(help="An exercise: 09.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every exercise.")] = False,
) -> None:
    """For instructors: make the exercises that students get from the solutions."""
    from gencourse.grading.release import available, release

    if (number is None) != everything:
        raise ValueError("say which exercise to release, such as 09, or --all.")
    for name in available() if number is None else [number]:
        typer.echo(str(release(name)))


def publish_edition(
    out: Annotated[Path, typer.Argument(**place("A new folder for the edition, outside the repository."))],
    url: Annotated[str, typer.Option(help="The address at which it will stand; notebooks install the library from there.")] = "",
) -> None:
    """For instructors: write the edition that students get, with book, exercises and library, and without any answers."""
    from gencourse.grading.publish import publish

    folder_for_output(out)
    for line in publish(out, url):
        typer.echo(line)


def submit_exercise(
    number: Annotated[str, typer.Argument(help="The exercise: 09.")],
    notebook: Annotated[
        Path | None, typer.Option(**place("Your notebook; default the one of this exercise, here or in exercises/."))
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the file is called: your name or number in the course.")] = None,
    out: Annotated[Path, typer.Option(**place("Folder for the file to hand in."))] = Path("."),
) -> None:
    """For students: see that your notebook runs and what it answers, and write the one file to hand in."""
    from gencourse.grading import questions
    from gencourse.grading.submit import submit

    questions.of_exercise(number.zfill(2))
    if notebook is not None and not notebook.is_file():
        raise FileNotFoundError(f"there is no notebook {notebook}.")
    folder_for_output(out)
    typer.echo("Running your notebook, as grading will ...")
    for line in submit(number, notebook, name, out):
        typer.echo(line)


def grade_class(
    folder: Annotated[Path, typer.Argument(**place("What students handed in: a notebook, archive or folder for each."))],
    exercise: Annotated[str, typer.Option(help="The exercise: 09.")],
    out: Annotated[
        Path, typer.Option(**place("Folder for marks and feedback; a second run continues and renews what is there."))
    ],
    jobs: Annotated[int | None, typer.Option(min=1, max=64, help="Hand-ins graded at once; default one a processor.")] = None,
    timeout: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds for the code of one hand-in; a sixth of it for one cell or call.")
    ] = 60,
    memory: Annotated[float, typer.Option(min=1, max=4096, help="GB for one hand-in.")] = 2,
    secret_file: Annotated[Path | None, typer.Option(**place("Draws the inputs; default OUT/secret, made if missing."))] = None,
    changes: Annotated[
        Path | None, typer.Option(**place("Marks changed by hand, weights, lateness; default OUT/changes.csv, if it is there."))
    ] = None,
    times: Annotated[Path | None, typer.Option(**place("When hand-ins arrived; default OUT/times.csv, if it is there."))] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Codes for names; OUT/names.csv says whose they are.")] = False,
    unsafe_no_sandbox: Annotated[
        bool, typer.Option("--unsafe-no-sandbox", help="Run students' code with your rights. Every row says so.")
    ] = False,
) -> None:
    """For instructors: grade a folder of notebooks, each in a sandbox of its own."""
    from tqdm import tqdm

    from gencourse.grading import handins, lms, overrides, questions
    from gencourse.grading.conversation import Limits
    from gencourse.grading.grade import grade, read_secret

    if math.isnan(timeout) or math.isnan(memory):
        raise ValueError("--timeout and --memory must be numbers.")
    number = exercise.zfill(2)
    every = questions.of_exercise(number)
    folder_for_output(out)
    handins.must_be_apart(folder, out)
    secret = None if secret_file is None else read_secret(secret_file)
    if secret is None and (out / "secret").is_file():
        secret = read_secret(out / "secret")
    decided = overrides.read(folder, number, out, changes, times, secret)  # what is wrong in a table is said before the work
    try:
        records = grade(
            folder,
            number,
            out,
            jobs=jobs,
            limits=Limits(timeout, int(memory * 2**30)),
            secret=secret,
            shut_in=not unsafe_no_sandbox,
            progress=lambda done, n: tqdm(done, total=n, desc=f"exercise {number}", unit="hand-in"),
        )
    except KeyboardInterrupt:
        typer.echo("gencourse: stopped. What is graded is kept; the same command again goes on from there.", err=True)
        raise SystemExit(INTERRUPTED) from None
    codes = (secret or read_secret(out / "secret")) if anonymous else None
    for line in lms.hand_over(records, decided, every, out, codes):
        typer.echo(line)


def gradebook_csv(
    folders: Annotated[list[Path], typer.Argument(**place("Folders that `gencourse grade` made, one for each exercise."))],
    out: Annotated[Path, typer.Option(**place("The file to write."))] = Path("gradebook.csv"),
) -> None:
    """For instructors: the marks of all exercises in one table, a row for each student."""
    from gencourse.grading import lms

    file_for_output(out, (".csv", ".txt"))
    for line in lms.gradebook(folders, out):
        typer.echo(line)


def selftest_exercise(
    number: Annotated[str, typer.Argument(help="An exercise: 09.")],
    seeds: Annotated[int, typer.Option(min=1, max=10**6, help="How many draws of the inputs.")] = 20,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Ask the solution's functions through the worker too.")] = False,
) -> None:
    """For authors: the reference has full marks, mistakes and trivial answers lose theirs, on every draw."""
    from gencourse.grading.selftest import selftest

    lines, passed = selftest(number.zfill(2), seeds, through_worker=sandbox)
    for line in lines:
        typer.echo(line)
    if not passed:
        raise SystemExit(1)


def gradescope_zip(
    number: Annotated[str, typer.Argument(help="An exercise: 09.")],
    out: Annotated[Path | None, typer.Option(**place("The archive to write; default autograder-NN.zip."))] = None,
    secret_file: Annotated[Path | None, typer.Option(**place("Draws the inputs; default a new one, in the archive."))] = None,
) -> None:
    """For instructors: the archive that makes Gradescope grade an exercise."""
    from gencourse.grading import questions
    from gencourse.grading.grade import read_secret
    from gencourse.grading.gradescope import archive

    target = out or Path(f"autograder-{number.zfill(2)}.zip")
    questions.of_exercise(number.zfill(2))
    file_for_output(target)
    secret = None if secret_file is None else read_secret(secret_file)
    typer.echo(str(archive(number.zfill(2), target, secret)))
