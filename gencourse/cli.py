"""The `gencourse` command: list the models, train one by a recipe, sample from it, evaluate it; get data; grade exercises."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
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
    recipe: Annotated[str, typer.Option(help="One of its recipes: `gencourse models --recipes`.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the run; default runs/NAME-RECIPE.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's number of steps.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many processes, one device each.")] = 1,
    precision: Annotated[str | None, typer.Option(help="32 or bf16, instead of the recipe's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train a model by one of its recipes, and report its metric on the test set."""
    from gencourse import catalog, recipes

    entry = catalog.entry(name)
    chosen = entry.recipe(recipe)
    folder = out or Path("runs") / f"{name}-{recipe}"
    overrides: dict[str, Any] = {"seed": seed, "device": device, "devices": devices}
    overrides |= {name: value for name, value in {"steps": steps, "precision": precision}.items() if value is not None}
    model, history = recipes.train(entry, chosen, folder, resume=resume, progress=not quiet, **overrides)
    typer.echo(f"{history.steps} steps in {history.seconds:.1f} s on {history.device}; the run is in {folder}")
    _report(recipes.evaluate(model, chosen), folder)


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="A folder that `gencourse train` made.")],
    samples: Annotated[int | None, typer.Option(min=1, help="Draws for each example, where the metric is estimated.")] = None,
) -> None:
    """Report a trained model's metric on its recipe's test set."""
    from gencourse import recipes

    model, _, recipe = recipes.load_run(folder)
    _report(recipes.evaluate(_on_best_device(model), recipe, samples=samples), folder)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="A folder that `gencourse train` made.")],
    out: Annotated[Path, typer.Option(help="The picture to write, .png.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many samples.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
) -> None:
    """Draw samples from a trained model and write them as one picture."""
    import torch

    from gencourse import checkpoint, recipes, viz

    model, _, _ = recipes.load_run(folder)
    model = _on_best_device(model)
    images = model.sample(n, generator=torch.Generator(device=model.device).manual_seed(seed))
    checkpoint.write_atomically(out, viz.png_grid(images.cpu(), model.space))
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
    notebook: Annotated[Path | None, typer.Option(help="Your notebook; default the one of this exercise in exercises/.")] = None,
    name: Annotated[str | None, typer.Option(help="What the file is called: your name or number in the course.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the file to hand in.")] = Path("."),
) -> None:
    """For students: see that your notebook runs and what it answers, and write the one file to hand in."""
    from gencourse.grading.submit import submit

    typer.echo("Running your notebook, as grading will ...")
    for line in submit(number, notebook, name, out):
        typer.echo(line)


@app.command("grade")
def grade_class(
    folder: Annotated[Path, typer.Argument(help="What students handed in: a notebook, archive or folder for each.")],
    exercise: Annotated[str, typer.Option(help="The exercise: 09.")],
    out: Annotated[Path, typer.Option(help="Folder for marks and feedback; a second run continues and renews what is there.")],
    jobs: Annotated[int | None, typer.Option(min=1, max=64, help="Hand-ins graded at once; default one a processor.")] = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds for the code of one hand-in; a sixth of it for one cell or call.")
    ] = 60,
    memory: Annotated[float, typer.Option(min=1, help="GB for one hand-in.")] = 2,
    secret_file: Annotated[Path | None, typer.Option(help="Draws the inputs; default OUT/secret, made if missing.")] = None,
    unsafe_no_sandbox: Annotated[
        bool, typer.Option("--unsafe-no-sandbox", help="Run students' code with your rights. Every row says so.")
    ] = False,
) -> None:
    """For instructors: grade a folder of notebooks, each in a sandbox of its own."""
    from tqdm import tqdm

    from gencourse.grading import questions, report
    from gencourse.grading.conversation import Limits
    from gencourse.grading.grade import grade, read_secret

    try:
        records = grade(
            folder,
            exercise.zfill(2),
            out,
            jobs=jobs,
            limits=Limits(timeout, int(memory * 2**30)),
            secret=None if secret_file is None else read_secret(secret_file),
            shut_in=not unsafe_no_sandbox,
            progress=lambda done, n: tqdm(done, total=n, desc=f"exercise {exercise.zfill(2)}", unit="hand-in"),
        )
    except KeyboardInterrupt:
        typer.echo("gencourse: stopped. What is graded is kept; the same command again goes on from there.", err=True)
        raise SystemExit(130) from None
    report.write(records, questions.of_exercise(exercise.zfill(2)), out)
    for line in report.summary(records, out):
        typer.echo(line)


@app.command("selftest")
def selftest_exercise(
    number: Annotated[str, typer.Argument(help="An exercise: 09.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many draws of the inputs.")] = 20,
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
    out: Annotated[Path | None, typer.Option(help="The archive to write; default autograder-NN.zip.")] = None,
    secret_file: Annotated[Path | None, typer.Option(help="Draws the inputs; default a new one, in the archive.")] = None,
) -> None:
    """For instructors: the archive that makes Gradescope grade an exercise."""
    from gencourse.grading.grade import read_secret
    from gencourse.grading.gradescope import archive

    secret = None if secret_file is None else read_secret(secret_file)
    typer.echo(str(archive(number.zfill(2), out or Path(f"autograder-{number.zfill(2)}.zip"), secret)))


def _report(result: dict, folder: Path) -> None:
    from gencourse import checkpoint, recipes

    metric = recipes.METRICS[result["metric"]]
    mean, error = f"{result['mean']:.{metric.decimals}f}", f"{result['standard_error']:.{metric.decimals}f}"
    verdict = "" if result["band"] is None else f"; band {result['band']}: {'reached' if result['in_band'] else 'MISSED'}"
    typer.echo(f"test {result['metric']} {mean} ± {error}{metric.unit and ' '}{metric.unit}{verdict}")
    checkpoint.write_json(folder / "metrics.json", json.loads(json.dumps(result)))


def _on_best_device(model):  # type: ignore[no-untyped-def]
    import torch

    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    """Run the command; what the user did wrong is one sentence, not a traceback."""
    try:
        app()
    except (ValueError, TypeError, FileNotFoundError, FileExistsError, FloatingPointError, OSError) as error:
        text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else str(error)
        typer.echo(f"gencourse: {text}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
