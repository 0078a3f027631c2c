"""The commands about models and data: list, train, sample, evaluate, download."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gencourse.cli.errors import INTERRUPTED
from gencourse.cli.paths import file_for_output, folder_for_output, place

if TYPE_CHECKING:
    from gencourse.catalog import Entry
    from gencourse.recipes import Recipe
    from gencourse.space import Space

_SEED = 2**63 - 1


def list_models(recipes: Annotated[bool, typer.Option("--recipes", help="Show each model's recipes too.")] = False) -> None:
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


def train(
    name: Annotated[str, typer.Argument(help="A model, as `gencourse models` lists it.")],
    recipe: Annotated[str | None, typer.Option(help="One of its recipes: `gencourse models --recipes`.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Instead of a recipe: a folder of your pictures, or an array in a .npy or .npz file.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, max=4096, help="Make your pictures SIZE x SIZE pixels.")] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Make your pictures grey.")] = False,
    out: Annotated[Path | None, typer.Option(**place("Folder for the run; default runs/NAME-RECIPE."))] = None,
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
    folder_for_output(folder)
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


def evaluate(
    folder: Annotated[Path, typer.Argument(**place("A folder that `gencourse train` made."))],
    samples: Annotated[
        int | None, typer.Option(min=1, max=10**6, help="Draws for each example, where the metric is estimated.")
    ] = None,
) -> None:
    """Report a trained model's metric on its test set."""
    from gencourse import runs

    model, _, recipe = runs.load_run(folder)
    _report(runs.evaluate(_on_best_device(model), recipe, samples=samples), folder)


def sample(
    folder: Annotated[Path, typer.Argument(**place("A folder that `gencourse train` made."))],
    out: Annotated[Path, typer.Option(**place("What to write: a picture .png, numbers .npy, or points .csv."))],
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="How many samples.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=_SEED, help="Of the samples.")] = 0,
) -> None:
    """Draw samples from a trained model and write them: images as one picture, points as a scatter, either as numbers."""
    file_for_output(out, (".png", ".npy", ".csv"))
    import torch

    from gencourse import checkpoint, runs
    from gencourse.metrics.table import conditions

    model, entry, recipe = runs.load_run(folder)
    points = len(model.space.shape) == 1
    if out.suffix.lower() == ".csv" and not points:
        raise ValueError(f"the samples of {entry.title} are images of {model.space}; write them as .png or .npy.")
    if out.suffix.lower() == ".png" and points and model.space.shape != (2,):
        raise ValueError(f"the samples of {entry.title} are points of {model.space}, not of a plane; write them as .csv or .npy.")
    model = _on_best_device(model)
    context = None if model.example_context(1) is None else conditions(model, recipe.load(), n)
    x = model.sample(n, context, generator=torch.Generator(device=model.device).manual_seed(seed)).cpu()
    checkpoint.write_atomically(out, _encoded(x, model.space, out.suffix.lower()))
    typer.echo(f"{n} samples in {out}")


def list_data() -> None:
    """List the data sets, and which of them are on this machine."""
    from gencourse import data

    for name in data.embedded.SETS:
        typer.echo(f"{name:20} embedded")
    for one in data.downloads.status():
        where = f"here: {one.path}" if one.present else f"to download, {one.bytes / 1e6:.1f} MB, to {one.path}"
        typer.echo(f"{one.name:20} {where}")
        typer.echo(f"{'':20} {one.citation}; {one.licence}")


def get_data(name: Annotated[str, typer.Argument(help="A data set, as `gencourse data list` lists it.")]) -> None:
    """Download a data set, verify it, and keep it."""
    from gencourse import data

    typer.echo(repr(data.load(name)))


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
