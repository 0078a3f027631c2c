"""The contract of every model in the table; a new model is a row, and these tests are its first readers."""

import inspect
import re

import pytest
import torch

from gencourse import catalog
from gencourse.checks import assert_every_parameter_learns, every_example
from gencourse.kinds import Approximate, GenerativeModel, Implicit, Tractable
from gencourse.recipes import METRICS
from gencourse.space import Space

KINDS = {("explicit", "tractable"): Tractable, ("explicit", "approximate"): Approximate, ("implicit",): Implicit}


def built(entry: catalog.Entry) -> GenerativeModel:
    torch.manual_seed(0)
    return entry.build(Space(*entry.space), **dict(entry.options))


def batch(space: Space, n: int = 32) -> torch.Tensor:
    if not space.is_discrete:
        return torch.randn(n, *space.shape)
    return torch.randint(space.levels, (n, *space.shape))


every_model = pytest.mark.parametrize("entry", catalog.MODELS, ids=lambda entry: entry.name)


def test_names_are_unique_and_fit_for_a_command_line():
    names = [entry.name for entry in catalog.MODELS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) for name in names)


@every_model
def test_the_row_is_sane(entry):
    assert entry.branch in catalog.BRANCHES
    assert entry.title
    assert re.search(r"\([^)]+\)$", entry.paper), "the paper names its authors"
    assert 1980 <= entry.year <= 2022
    assert re.fullmatch(r"https://\S+", entry.url)
    for part in entry.slides.split(", "):
        first, _, last = part.partition("-")
        assert 16 <= int(first) <= int(last or first)
    assert re.fullmatch(r"\d\d-[a-z0-9-]+", entry.chapter)


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
    a, b, c = (model.sample(6, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    model.space.validate(a)
    assert a.shape == (6, *model.space.shape)
    assert a.dtype == (torch.int64 if model.space.is_discrete else torch.float32)
    assert not a.requires_grad
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert model.sample(0).shape == (0, *model.space.shape)


@every_model
@pytest.mark.parametrize("training", [True, False])
def test_sampling_restores_the_mode(entry, training):
    model = built(entry).train(training)
    model.sample(2)
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
        if model.space.is_discrete:
            assert (result <= 0).all()  # a probability


@every_model
def test_masses_of_a_tractable_model_sum_to_one(entry):
    model = built(entry).double().eval()
    if isinstance(model, Tractable) and model.space.is_discrete and "flows" not in entry.path:
        total = model.log_prob(every_example(model.space)).exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-9)


@every_model
def test_every_parameter_learns(entry):
    model = built(entry)
    assert_every_parameter_learns(model, batch(model.space))


@every_model
def test_weights_survive_a_round_trip(entry):
    model, other = built(entry), built(entry)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    other.load_state_dict(model.state_dict())
    a, b = (m.sample(4, generator=torch.Generator().manual_seed(3)) for m in (model, other))
    assert torch.equal(a, b)


@pytest.mark.parametrize(("wrong", "nearest"), [("vea", "vae"), ("VAE", None), ("xyz", None)])
def test_an_unknown_model_suggests_the_nearest(wrong, nearest):
    with pytest.raises(ValueError, match=f"unknown model: '{wrong}'") as caught:
        catalog.entry(wrong)
    assert (f"did you mean '{nearest}'?" in str(caught.value)) is (nearest is not None)
    assert "There are: " in str(caught.value)


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"unknown recipe of vae: 'binary_digit'; did you mean 'binary_digits'\?"):
        catalog.entry("vae").recipe("binary_digit")


def test_importing_the_table_imports_no_model():
    import subprocess
    import sys

    code = "import sys, gencourse.catalog; print([m for m in sys.modules if m == 'torch' or m.startswith('gencourse.var')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
