"""The contract of every model in the table; a new model is a row, and these tests are its first readers."""

import dataclasses
import importlib
import inspect
import io
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pybtex.database import parse_file
from torch.overrides import TorchFunctionMode

from gencourse import catalog
from gencourse.autoregressive.base import Autoregressive
from gencourse.checks import assert_density_integrates, assert_every_parameter_learns, every_example
from gencourse.kinds import Approximate, GenerativeModel, Implicit, Tractable
from gencourse.recipes import METRICS
from gencourse.space import Space
from gencourse.train import fit
from tools import pages

ROOT = Path(__file__).parents[1]
REFERENCES = parse_file(str(ROOT / "book" / "references.bib"), "bibtex").entries
KINDS = {("explicit", "tractable"): Tractable, ("explicit", "approximate"): Approximate, ("implicit",): Implicit}


def built(entry: catalog.Entry) -> GenerativeModel:
    torch.manual_seed(0)
    return entry.build(Space(*entry.space), **dict(entry.options))


def batch(space: Space, n: int = 32) -> torch.Tensor:
    if not space.is_discrete:
        return torch.randn(n, *space.shape)
    return torch.randint(space.levels, (n, *space.shape))


def drawn(model: GenerativeModel, n: int, seed: int | None = None) -> torch.Tensor:
    """Samples, of a conditional model under the same conditions each time."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return model.sample(n, model.example_context(n, generator=torch.Generator().manual_seed(0)), generator=generator)


def dequantises(entry: catalog.Entry) -> bool:
    """Flows add noise to integers: their `log_prob` is a bound on the mass from one draw, and a draw may be above it."""
    return entry.path.startswith("gencourse.flows.")


every_model = pytest.mark.parametrize("entry", catalog.MODELS, ids=lambda entry: entry.name)


def test_names_are_unique_and_fit_for_a_command_line():
    names = [entry.name for entry in catalog.MODELS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) for name in names)


def forgotten(entry: catalog.Entry) -> list[str]:
    """What of "Add a model" in CONTRIBUTING.md is missing or wrong, a sentence each."""
    module, _, name = entry.path.partition(":")
    file = Path(*module.split(".")).with_suffix(".py")
    if not (ROOT / file).is_file():
        return [f"{entry.name}: its row names {file}, which is not there"]
    loaded = importlib.import_module(module)
    recipes = getattr(loaded, "RECIPES", ())
    paper = REFERENCES.get(entry.paper)
    tests = Path("tests", file.parts[1])
    tested = any(re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")) for path in (ROOT / tests).glob("test_*.py"))
    in_reach = [recipe for recipe in recipes if recipe.band is not None and "GPU" not in recipe.needs]
    expected = {
        f"{file} has no class {name}": hasattr(loaded, name),
        f"{file} does not end in its RECIPES": bool(recipes),
        "none of its recipes has a band that two CPU cores can test": in_reach or "implicit" in entry.branch,
        "its row has no title": bool(entry.title),
        f"its branch {entry.branch} is none of BRANCHES in gencourse/entry.py": entry.branch in catalog.BRANCHES,
        f"its slides are {entry.slides!r}; write them as '16-17, 20', or '' beside the lecture": slides_are_right(entry.slides),
        f"its chapter {entry.chapter!r} is none of those in book/lecture_map.toml": entry.chapter in pages.table()["chapters"],
        f"its paper {entry.paper!r} is no key of book/references.bib": paper is not None,
        f"its year is {entry.year}, but not in book/references.bib": paper is None or int(paper.fields["year"]) == entry.year,
        f"no test in {tests} names {name}; write {tests / f'test_{file.name}'}, what makes it right": tested,
    }
    return [f"{entry.name}: {says}" for says, holds in expected.items() if not holds]


def slides_are_right(slides: str) -> bool:
    ends = [part.split("-") for part in slides.split(", ")] if slides else []
    return all(len(pair) <= 2 and all(end.isdigit() for end in pair) and 16 <= int(pair[0]) <= int(pair[-1]) for pair in ends)


@every_model
def test_nothing_of_a_model_was_forgotten(entry):
    assert not forgotten(entry), "; ".join(forgotten(entry))
    assert entry in importlib.import_module(entry.path.rsplit(".", 1)[0]).ENTRIES, "a row stands with its family"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "gencourse.variational.vea:VAE"}, "its row names gencourse/variational/vea.py, which is not there"),
        ({"path": "gencourse.variational.vae:VEA"}, "gencourse/variational/vae.py has no class VEA"),
        (
            {"path": "gencourse.autoregressive.flat:FlatAutoregressive"},
            "gencourse/autoregressive/flat.py does not end in its RECIPES",
        ),
        ({"path": "gencourse.adversarial.began:BEGAN"}, "none of its recipes has a band"),
        (
            {"path": "gencourse.autoregressive.fvbn:_Row"},
            "no test in tests/autoregressive names _Row; write tests/autoregressive/test_fvbn",
        ),
        ({"title": ""}, "its row has no title"),
        ({"branch": ("explicit", "exact")}, "is none of BRANCHES in gencourse/entry.py"),
        ({"slides": "17-16"}, "write them as '16-17, 20'"),
        ({"slides": "sixteen"}, "write them as '16-17, 20'"),
        ({"chapter": "09-vea"}, "its chapter '09-vea' is none of those in book/lecture_map.toml"),
        ({"paper": "kingma"}, "its paper 'kingma' is no key of book/references.bib"),
        ({"year": 1914}, "its year is 1914, but not in book/references.bib"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_was_forgotten_of_a_model_is_named(change, says):
    assert any(says in sentence for sentence in forgotten(dataclasses.replace(catalog.entry("vae"), **change)))


def test_a_model_may_stand_beside_the_lecture_and_come_after_it():
    paper = next(key for key, paper in REFERENCES.items() if int(paper.fields["year"]) < 2009)
    year = int(REFERENCES[paper].fields["year"])
    assert forgotten(dataclasses.replace(catalog.entry("vae"), slides="", paper=paper, year=year)) == []


def test_each_file_of_models_has_its_rows_and_each_family_is_collected():
    named = {entry.path.partition(":")[0] for entry in catalog.MODELS}
    for path in (ROOT / "gencourse").glob("*/*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if re.search(r"^RECIPES\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert module in named, f"{module} has RECIPES, but no row in ENTRIES of its family's __init__.py"
        if path.name == "__init__.py" and re.search(r"^ENTRIES\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            family = importlib.import_module(module.removesuffix(".__init__"))
            assert family in catalog.FAMILIES, f"{family.__name__} is not named in FAMILIES of gencourse/catalog.py"


@every_model
def test_the_class_is_of_its_branch_s_kind(entry):
    kind = next(kind for branch, kind in KINDS.items() if entry.branch[: len(branch)] == branch)
    assert issubclass(entry.cls, kind)


@every_model
def test_the_constructor_takes_a_space_and_then_keywords_with_defaults(entry):
    _, space, *rest = inspect.signature(entry.cls.__init__).parameters.values()
    assert space.name == "space"
    named = [p for p in rest if p.kind is not p.VAR_KEYWORD]  # a class may pass its parent's on
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in named)
    with pytest.raises(TypeError, match="Space"):
        entry.build((1, 8, 8))


@every_model
def test_recipes_can_be_built_and_name_known_data(entry):
    from gencourse import data

    assert entry.recipes
    assert len({recipe.name for recipe in entry.recipes}) == len(entry.recipes)
    for recipe in entry.recipes:
        assert entry.recipe(recipe.name) is recipe
        assert callable(recipe.data) or recipe.data in data.names()
        assert recipe.metric in METRICS
        assert recipe.fit["steps"] > 0


@every_model
def test_samples_are_of_the_space_and_follow_the_generator(entry):
    model = built(entry)
    with torch.no_grad():
        for p in model.parameters():  # a network fresh from its paper's initialisation may give one grey whatever the noise
            p.add_(0.3 * torch.randn_like(p))
    a, b, c = (drawn(model, 6, seed) for seed in (1, 1, 2))
    model.space.validate(a)
    assert a.shape == (6, *model.space.shape)
    assert a.dtype == (torch.int64 if model.space.is_discrete else torch.float32)
    assert not a.requires_grad
    assert torch.equal(a, b)
    if entry.name == "cyclegan":  # a translator: the condition decides, and nothing else
        others = model.example_context(6, generator=torch.Generator().manual_seed(1))
        assert torch.equal(a, c) and not torch.equal(a, model.sample(6, others))
    else:
        assert not torch.equal(a, c)
    assert drawn(model, 0).shape == (0, *model.space.shape)


@every_model
@pytest.mark.parametrize("training", [True, False])
def test_sampling_restores_the_mode(entry, training):
    model = built(entry).train(training)
    drawn(model, 2)
    assert all(module.training is training for module in model.modules())


@every_model
def test_likelihoods_are_finite_and_one_an_example(entry):
    model = built(entry).eval()
    x = batch(model.space)
    results = []
    if isinstance(model, Tractable):
        results.append(model.log_prob(x))
    if isinstance(model, Approximate):
        results.append(model.log_prob_estimate(x, samples=20, generator=torch.Generator().manual_seed(0)))
    if "variational" in entry.branch:
        results.append(model.elbo(x, samples=2, generator=torch.Generator().manual_seed(0)))
    for result in results:
        assert result.shape == (len(x),)
        assert torch.isfinite(result).all()
        if model.space.is_discrete and not dequantises(entry):
            assert (result <= 0).all()  # a probability


@every_model
def test_masses_of_a_tractable_model_sum_to_one(entry):
    model = built(entry).double().eval()
    if isinstance(model, Tractable) and model.space.is_discrete and not dequantises(entry):
        total = model.log_prob(every_example(model.space)).exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-9)


@every_model
def test_the_density_of_a_tractable_model_of_points_integrates_to_one(entry):
    if issubclass(entry.cls, Tractable) and not issubclass(entry.cls, Autoregressive):
        torch.manual_seed(0)
        assert_density_integrates(entry.build(Space((2,)), **dict(entry.options)), reach=20.0, points=800)


@every_model
def test_every_parameter_learns(entry):
    model = built(entry)
    assert_every_parameter_learns(model, batch(model.space), model.example_context(32))


@every_model
def test_weights_survive_a_round_trip(entry):
    model, other = built(entry), built(entry)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    other.load_state_dict(model.state_dict())
    a, b = (drawn(m, 4, 3) for m in (model, other))
    assert torch.equal(a, b)


class CpuGenerators(TorchFunctionMode):
    """What a GPU as torch's default device does: it refuses the generators that a CPU draws with."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kwargs.get("generator") is not None and torch.device(kwargs.get("device") or "meta").type != "cpu":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        return func(*args, **kwargs)


def numpys(value):
    """The same arguments as they come out of a NumPy array."""
    if isinstance(value, tuple):
        return tuple(map(numpys, value))
    return np.int64(value) if type(value) is int else value


def play(model, **settings):
    x, context = batch(model.space, 8), model.example_context(8, generator=torch.Generator().manual_seed(0))
    data = x if context is None else (x, context)
    return fit(model, data, **{"steps": 2, "batch_size": 8, "lr": 1e-3, "device": "cpu", "progress": False, **settings})


@every_model
@pytest.mark.parametrize("numbers", [lambda value: value, numpys], ids=["Python's integers", "NumPy's"])
def test_a_model_can_be_sent_to_another_process_and_trained_there(entry, numbers):
    torch.manual_seed(0)
    space = Space(numbers(entry.space[0]), numbers(entry.space[1]))
    model = entry.build(space, **{name: numbers(value) for name, value in entry.options})
    with torch.inference_mode():
        drawn(model, 2)
        if isinstance(model, Tractable):
            model.log_prob(batch(model.space))
    sent = pickle.loads(pickle.dumps(model))
    file = io.BytesIO()
    torch.save(model, file)
    for other in (model, sent, torch.load(io.BytesIO(file.getvalue()), weights_only=False)):
        torch.manual_seed(1)
        play(other)
        a, b = (drawn(m, 4, 3) for m in (model, other))
        assert torch.equal(a, b), "trained alike, they draw alike"


@every_model
def test_a_model_does_not_follow_torch_s_defaults_once_it_is_made(entry):
    """Made under one default type and used under another; with weights somewhere else than where numbers are drawn."""
    torch.set_default_dtype(torch.float64)
    try:
        model = built(entry)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    if model.space.is_discrete:
        play(model)
        model.space.validate(drawn(model, 3))
    with torch.device("meta"), CpuGenerators():
        elsewhere = built(entry)
    assert {value.device.type for value in (*elsewhere.parameters(), *elsewhere.buffers())} == {"meta"}


@every_model
def test_weights_that_are_nan_are_not_drawn_from(entry):
    """A picture without a word would be taken for the model's own."""
    model = built(entry)
    if not model.space.is_discrete:
        assert not torch.isfinite(drawn(broken(model), 3)).any()  # points show it themselves
        return
    with pytest.raises((FloatingPointError, ValueError), match="NaN"):
        drawn(broken(model), 3)


def broken(model):
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(float("nan"))
    return model


@every_model
def test_sixteen_bits_leave_the_masses_of_a_pixel_at_one(entry):
    """Rounded to the eight bits of bfloat16 they would sum to 0.99 or 1.01, and a likelihood is a product of many."""
    if entry.space[1] is None or "implicit" in entry.branch or "markov chain" in entry.branch or dequantises(entry):
        return
    torch.manual_seed(0)
    model = entry.build(Space(entry.space[0], 17), **dict(entry.options)).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
        pixels = model.decode(model.draw_prior(32)) if "variational" in entry.branch else model.conditionals(batch(model.space))
        pixels = getattr(pixels, "base_dist", pixels)
        total = sum(pixels.log_prob(torch.full((32, *model.space.shape), level)).exp() for level in range(17))
    assert total.dtype == torch.float32
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("wrong", "nearest"), [("vea", "vae"), ("VAE", None), ("xyz", None)])
def test_an_unknown_model_suggests_the_nearest(wrong, nearest):
    with pytest.raises(ValueError, match=f"unknown model: '{wrong}'") as caught:
        catalog.entry(wrong)
    assert (f"did you mean '{nearest}'?" in str(caught.value)) is (nearest is not None)
    assert ("? There are: " if nearest else "; there are: ") in str(caught.value)


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"unknown recipe of vae: 'binary_digit'; did you mean 'binary_digits'\?"):
        catalog.entry("vae").recipe("binary_digit")


def test_importing_the_table_imports_no_model():
    import subprocess
    import sys

    code = "import sys, gencourse.catalog; print(*sorted(m for m in sys.modules if m.split('.')[0] in ('torch', 'gencourse')))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    families = {family.__name__ for family in catalog.FAMILIES}
    assert set(found) == {"gencourse", "gencourse.catalog", "gencourse.entry", *families}
