"""The `gencourse` command: list the models, train one by a recipe, sample from it, evaluate it; get data; grade exercises.

What the user did wrong is one sentence on standard error and a status that is not 0. What cannot be written is noticed before
the work begins, and Ctrl-C is status 130.
"""

import contextlib
import errno
import math
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from gencourse.catalog import Entry
    from gencourse.recipes import Recipe
    from gencourse.space import Space

INTERRUPTED = 130
_SEED = 2**63 - 1


def _path(text: str | Path) -> Path:
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


def _place(help: str) -> dict[str, Any]:
    """What the arguments and options that name a file or folder have in common."""
    return {"help": help, "parser": _path}


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


@app.command()
def models(recipes: Annotated[bool, typer.Option("--recipes", help="Show each model's recipes too.")] = False) -> None:
    """Show every model in its place in the lecture's taxonomy."""
    from gencourse import catalog
    from gencourse.recipes import METRICS

    typer.echo("generative models")
    for path, title in catalog.BRANCHES.items():
        typer.echo("  " * len(path) + title)
        for entry in (entry for entry in catalog.MODELS if entry.branch == path):
            typer.echo("  " * (len(path) + 1) + f"{entry.name}: {entry.title} ({entry.year}), chapter {entry.chapter}")
            for recipe in entry.recipes if recipes else ():
                band = "" if recipe.band is None else f", {recipe.metric} {METRICS[recipe.metric].sign} {recipe.band}"
                typer.echo("  " * (len(path) + 2) + f"--recipe {recipe.name}: {recipe.needs}{band}")


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="A model, as `gencourse models` lists it.")],
    recipe: Annotated[str | None, typer.Option(help="One of its recipes: `gencourse models --recipes`.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Instead of a recipe: a folder of your pictures, or an array in a .npy or .npz file.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, max=4096, help="Make your pictures SIZE x SIZE pixels.")] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Make your pictures grey.")] = False,
    out: Annotated[Path | None, typer.Option(**_place("Folder for the run; default runs/NAME-RECIPE."))] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=10**9, help="Instead of the recipe's number of steps.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=_SEED, help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, max=64, help="How many processes, one device each.")] = 1,
    precision: Annotated[str | None, typer.Option(help="32 or bf16, instead of the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train a model by one of its recipes, or on your own pictures, and report its metric on the test set."""
    if (recipe is None) == (data is None) or data == "":
        raise typer.BadParameter("say --recipe NAME, or --data and a folder of your pictures.", param_hint="--recipe")
    if data is None and (size is not None or grey):
        raise typer.BadParameter("--size and --grey are for your own pictures, with --data.", param_hint="--size")
    entry = _entry(name)
    folder = out or Path("runs") / f"{name}-{recipe if data is None else Path(data).resolve().stem}"
    chosen = None if recipe is None else _recipe(entry, recipe)
    _folder_for_output(folder)
    if not resume and (folder / "checkpoint.pt").exists():
        raise FileExistsError(f"{folder} already holds a run; --resume continues it, and --out names another folder.")
    from gencourse import runs

    if chosen is None:
        from gencourse.data import Pictures

        pictures = Pictures(str(data), size, grey)
        typer.echo(repr(pictures()))
        chosen = runs.own_recipe(entry, pictures, steps=steps)
    overrides: dict[str, Any] = {"seed": seed, "device": device, "devices": devices}
    overrides |= {name: value for name, value in {"steps": steps, "precision": precision}.items() if value is not None}
    progress = not quiet and sys.stderr is not None
    model, history = runs.train(entry, chosen, folder, resume=resume, progress=progress, **overrides)
    if history.interrupted:
        typer.echo(f"gencourse: stopped; {folder} has what was learned, and the same command with --resume goes on.", err=True)
        raise SystemExit(INTERRUPTED)
    typer.echo(f"{history.steps} steps in {history.seconds:.1f} s on {history.device}; the run is in {folder}")
    if chosen.metric is None:
        typer.echo(f"no metric: {entry.title} has no likelihood, and the images no labels; look at samples.")
    else:
        _report(runs.evaluate(model, chosen), folder)


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(**_place("A folder that `gencourse train` made."))],
    samples: Annotated[
        int | None, typer.Option(min=1, max=10**6, help="Draws for each example, where the metric is estimated.")
    ] = None,
) -> None:
    """Report a trained model's metric on its test set."""
    from gencourse import runs

    model, _, recipe = runs.load_run(folder)
    _report(runs.evaluate(_on_best_device(model), recipe, samples=samples), folder)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(**_place("A folder that `gencourse train` made."))],
    out: Annotated[Path, typer.Option(**_place("What to write: a picture .png, numbers .npy, or points .csv."))],
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="How many samples.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=_SEED, help="Of the samples.")] = 0,
) -> None:
    """Draw samples from a trained model and write them: images as one picture, points as a scatter, either as numbers."""
    _file_for_output(out, (".png", ".npy", ".csv"))
    import torch

    from gencourse import checkpoint, runs

    model, entry, _ = runs.load_run(folder)
    points = len(model.space.shape) == 1
    if out.suffix.lower() == ".csv" and not points:
        raise ValueError(f"the samples of {entry.title} are images of {model.space}; write them as .png or .npy.")
    if out.suffix.lower() == ".png" and points and model.space.shape != (2,):
        raise ValueError(f"the samples of {entry.title} are points of {model.space}, not of a plane; write them as .csv or .npy.")
    model = _on_best_device(model)
    x = model.sample(n, generator=torch.Generator(device=model.device).manual_seed(seed)).cpu()
    checkpoint.write_atomically(out, _encoded(x, model.space, out.suffix.lower()))
    typer.echo(f"{n} samples in {out}")


@data_app.command("list")
def data_list() -> None:
    """List the data sets, and which of them are on this machine."""
    from gencourse import data

    for name in data.embedded.SETS:
        typer.echo(f"{name:20} embedded")
    for one in data.downloads.status():
        where = f"here: {one.path}" if one.present else f"to download, {one.bytes / 1e6:.1f} MB, to {one.path}"
        typer.echo(f"{one.name:20} {where}")
        typer.echo(f"{'':20} {one.citation}; {one.licence}")


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument(help="A data set, as `gencourse data list` lists it.")]) -> None:
    """Download a data set, verify it, and keep it."""
    from gencourse import data

    typer.echo(repr(data.load(name)))


@app.command("release")
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


@app.command("submit")
def submit_exercise(
    number: Annotated[str, typer.Argument(help="The exercise: 09.")],
    notebook: Annotated[
        Path | None, typer.Option(**_place("Your notebook; default the one of this exercise in exercises/."))
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the file is called: your name or number in the course.")] = None,
    out: Annotated[Path, typer.Option(**_place("Folder for the file to hand in."))] = Path("."),
) -> None:
    """For students: see that your notebook runs and what it answers, and write the one file to hand in."""
    from gencourse.grading import questions
    from gencourse.grading.submit import submit

    questions.of_exercise(number.zfill(2))
    if notebook is not None and not notebook.is_file():
        raise FileNotFoundError(f"there is no notebook {notebook}.")
    _folder_for_output(out)
    typer.echo("Running your notebook, as grading will ...")
    for line in submit(number, notebook, name, out):
        typer.echo(line)


@app.command("grade")
def grade_class(
    folder: Annotated[Path, typer.Argument(**_place("What students handed in: a notebook, archive or folder for each."))],
    exercise: Annotated[str, typer.Option(help="The exercise: 09.")],
    out: Annotated[
        Path, typer.Option(**_place("Folder for marks and feedback; a second run continues and renews what is there."))
    ],
    jobs: Annotated[int | None, typer.Option(min=1, max=64, help="Hand-ins graded at once; default one a processor.")] = None,
    timeout: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds for the code of one hand-in; a sixth of it for one cell or call.")
    ] = 60,
    memory: Annotated[float, typer.Option(min=1, max=4096, help="GB for one hand-in.")] = 2,
    secret_file: Annotated[Path | None, typer.Option(**_place("Draws the inputs; default OUT/secret, made if missing."))] = None,
    changes: Annotated[
        Path | None, typer.Option(**_place("Marks changed by hand, weights, lateness; default OUT/changes.csv, if it is there."))
    ] = None,
    times: Annotated[Path | None, typer.Option(**_place("When hand-ins arrived; default OUT/times.csv, if it is there."))] = None,
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
    _folder_for_output(out)
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


@app.command("gradebook")
def gradebook_csv(
    folders: Annotated[list[Path], typer.Argument(**_place("Folders that `gencourse grade` made, one for each exercise."))],
    out: Annotated[Path, typer.Option(**_place("The file to write."))] = Path("gradebook.csv"),
) -> None:
    """For instructors: the marks of all exercises in one table, a row for each student."""
    from gencourse.grading import lms

    _file_for_output(out, (".csv", ".txt"))
    for line in lms.gradebook(folders, out):
        typer.echo(line)


@app.command("selftest")
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


@app.command("gradescope")
def gradescope_zip(
    number: Annotated[str, typer.Argument(help="An exercise: 09.")],
    out: Annotated[Path | None, typer.Option(**_place("The archive to write; default autograder-NN.zip."))] = None,
    secret_file: Annotated[Path | None, typer.Option(**_place("Draws the inputs; default a new one, in the archive."))] = None,
) -> None:
    """For instructors: the archive that makes Gradescope grade an exercise."""
    from gencourse.grading import questions
    from gencourse.grading.grade import read_secret
    from gencourse.grading.gradescope import archive

    target = out or Path(f"autograder-{number.zfill(2)}.zip")
    questions.of_exercise(number.zfill(2))
    _file_for_output(target)
    secret = None if secret_file is None else read_secret(secret_file)
    typer.echo(str(archive(number.zfill(2), target, secret)))


def _report(result: dict[str, Any], folder: Path) -> None:
    """Print a metric, and keep it beside the run if that can be written."""
    from gencourse import checkpoint
    from gencourse.metrics.table import METRICS

    metric = METRICS[result["metric"]]
    mean, error = f"{result['mean']:.{metric.decimals}f}", f"{result['standard_error']:.{metric.decimals}f}"
    verdict = "" if result["band"] is None else f"; band {result['band']}: {'reached' if result['in_band'] else 'MISSED'}"
    typer.echo(f"test {result['metric']} {mean} ± {error}{metric.unit and ' '}{metric.unit}{verdict}")
    kept = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in result.items()}
    try:
        checkpoint.write_json(folder / "metrics.json", kept)
    except OSError as error:
        typer.echo(f"gencourse: {folder / 'metrics.json'} cannot be written ({error.strerror}).", err=True)


def _on_best_device(model):  # type: ignore[no-untyped-def]
    import torch

    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _encoded(x: Any, space: "Space", ending: str) -> bytes:
    """Samples as the bytes of a file: `.npy` in the samples' own shape, `.csv` a row each, `.png` a grid or a scatter."""
    import io

    import numpy as np

    if ending == ".png":
        from gencourse import viz

        return viz.points(x)._repr_png_() if len(space.shape) == 1 else viz.png_grid(x, space)
    numbers = x.numpy()
    if space.levels is not None and space.levels <= 256:
        numbers = numbers.astype(np.uint8)
    buffer = io.BytesIO()
    if ending == ".npy":
        np.save(buffer, numbers)
    else:
        header = ",".join(f"x{i + 1}" for i in range(numbers.shape[1]))
        np.savetxt(buffer, numbers, fmt="%.9g", delimiter=",", header=header, comments="")
    return buffer.getvalue()


def _entry(name: str) -> "Entry":
    """The catalogue's entry; a name in capitals is recognised, and suggested."""
    from gencourse import catalog

    _same_but_for_case("model", name, [entry.name for entry in catalog.MODELS])
    return catalog.entry(name)


def _recipe(entry: "Entry", name: str) -> "Recipe":
    _same_but_for_case(f"recipe of {entry.name}", name, [recipe.name for recipe in entry.recipes])
    return entry.recipe(name)


def _same_but_for_case(what: str, name: str, known: list[str]) -> None:
    def letters(name: str) -> str:
        return "".join(c for c in name.lower() if c.isalnum())

    meant = [one for one in known if letters(one) == letters(name)]
    if meant and name not in known:
        raise ValueError(f"unknown {what}: {name!r}; did you mean {meant[0]!r}?")


def _file_for_output(path: Path, endings: tuple[str, ...] = ()) -> None:
    """Raise one sentence if `path` cannot be written, or is no file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file, but a device or the like; name another.")
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path} is a link to a file that is not there; name another.")
    if endings and path.suffix.lower() not in endings:
        raise ValueError(f"{path}: the name must end in {', '.join(endings[:-1])} or {endings[-1]}.")
    _folder_for_output(path.parent)
    if len(os.fsencode(path.name)) > 200:
        raise ValueError(f"the name {path.name[:20]}... is too long for a file.")


def _folder_for_output(folder: Path) -> None:
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


_NO_MEMORY = ("DefaultCPUAllocator", "out of memory", "allocate memory", "Storage size calculation overflowed", "overflow when")


def _sentence(error: BaseException) -> str | None:
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


def _say(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line, whatever stands in a name that it quotes."""
    line = " ".join(str(message).split())
    typer.echo(f"gencourse: {''.join(c if c.isprintable() else '?' for c in line)}", err=True)


def main() -> None:
    """Run the command; what the user did wrong is one sentence, not a traceback."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a sign shows another
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.showwarning = _say
        try:
            app(prog_name="gencourse")
        except Exception as error:
            text = _sentence(error)
            if text is None:
                raise
            _say(text)
            raise SystemExit(1) from None


if __name__ == "__main__":
    main()
