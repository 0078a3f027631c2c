"""The recipes that run on a laptop, exactly as they stand: they reach their bands."""

import dataclasses
import json
import os

import pytest
import torch
from toy_models import weights

from gencourse import catalog, checkpoint, recipes
from gencourse.adversarial.losses import hinge
from gencourse.data.toys import RingOfGaussians
from gencourse.kinds import Implicit
from gencourse.recipes import Recipe, evaluate, load_run, train
from gencourse.space import Space
from gencourse.train import cosine

VAE = catalog.entry("vae")


DATA = os.environ.get("GENCOURSE_DATA")  # the user's own folder, for the weekly tests
BANDS = [
    pytest.param(entry, recipe, id=f"{entry.name}-{recipe.name}", marks=[] if quick else pytest.mark.weekly)
    for i, entry in enumerate(catalog.MODELS)
    for recipe in entry.recipes
    if recipe.band is not None
    # where two models share a recipe, it is quick for the first
    for quick in [recipe.quick and not any(recipe is other for before in catalog.MODELS[:i] for other in before.recipes)]
]


@pytest.mark.parametrize(("entry", "recipe"), BANDS)
def test_the_recipe_reaches_its_band_and_its_run_can_be_used_again(tmp_path, monkeypatch, entry, recipe):
    if not recipe.quick:
        if "GPU" in recipe.needs and not torch.cuda.is_available():
            pytest.skip(f"needs {recipe.needs}")
        monkeypatch.delenv("GENCOURSE_DATA") if DATA is None else monkeypatch.setenv("GENCOURSE_DATA", DATA)
    model, history = train(entry, recipe, tmp_path, device="cpu" if recipe.quick else "auto", progress=False)
    result = evaluate(model, recipe)
    assert result["in_band"], f"{recipe.metric} {result['mean']:.3f}, band {recipe.band}"
    game = issubclass(entry.cls, Implicit)
    sampled = recipe.metric not in ("nll", "bits_per_dim")
    assert 0 < result["standard_error"] < (0.5 if sampled else 0.6)
    assert sampled or result["n"] == len(recipe.load().test)
    assert (history.best_step is None) == (not history.valid) == game  # a game is not validated
    again, *found = load_run(tmp_path)
    assert found == [entry, recipe]
    assert torch.equal(weights(model.cpu()), weights(again))
    context = again.example_context(50, generator=torch.Generator().manual_seed(1))
    draws = [m.sample(50, context, generator=torch.Generator().manual_seed(0)) for m in (model, again)]
    assert torch.equal(*draws)  # statistics of batch norm too
    if not sampled:
        assert evaluate(again, recipe, samples=20) == evaluate(model, recipe, samples=20)


def test_every_band_is_tested_and_make_test_trains_what_is_quick():
    every = {id(recipe): recipe for entry in catalog.MODELS for recipe in entry.recipes}.values()
    quick = [recipe for recipe in every if recipe.quick]
    assert all(recipe.band is not None for recipe in quick)
    assert not any("GPU" in recipe.needs for recipe in quick)
    assert len([param for param in BANDS if not param.marks]) == len(quick) >= 13


SMALL = Recipe(
    "small",
    data="bars_and_stripes",
    options={"latent": 1, "hidden": (8,)},
    fit={"steps": 20, "batch_size": 7, "schedule": cosine, "ema": 0.9},
    band=100.0,
    samples=10,
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("gencourse.variational.vae.RECIPES", (SMALL,))
    return SMALL


def test_a_run_leaves_all_that_is_needed_to_use_it(tmp_path, small):
    _, history = train(VAE, small, tmp_path, device="cpu", progress=False, seed=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "history.json", "model.pt", "run.json"]
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["model"] == "vae"
    assert run["space"] == {"shape": [1, 3, 3], "levels": 2}
    assert run["fit"]["seed"] == 3
    assert len(json.loads((tmp_path / "history.json").read_text())["losses"]["-elbo"]) == history.steps == 20


def test_the_seed_decides_the_initial_weights_and_the_caller_s_state_does_not(tmp_path, small):
    finals = []
    for i, seed in enumerate((0, 0, 1)):
        torch.manual_seed(i)
        state = torch.get_rng_state()
        model, _ = train(VAE, small, tmp_path / str(i), device="cpu", progress=False, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        finals.append(weights(model))
    assert torch.equal(finals[0], finals[1])
    assert not torch.equal(finals[0], finals[2])


def test_the_initial_weights_follow_the_seed(tmp_path, small):
    """With a rate at which nothing moves, so that the batches cannot be what differs."""
    settings = {"device": "cpu", "progress": False, "lr": 1e-12, "steps": 1}
    first, second = (weights(train(VAE, small, tmp_path / str(seed), seed=seed, **settings)[0]) for seed in (0, 1))
    assert float((first - second).abs().max()) > 0.1


def test_the_metric_and_the_band(small):
    torch.manual_seed(0)
    model = VAE.build(small.load().space, **small.options)
    nats = evaluate(model, small)
    bits = evaluate(model, Recipe(**{**small.__dict__, "metric": "bits_per_dim", "band": 0.5}))
    assert nats["in_band"]
    assert bits["mean"] == pytest.approx(nats["mean"] / (9 * torch.tensor(2.0).log().item()), rel=1e-6)
    assert not bits["in_band"]
    assert evaluate(model, Recipe(**{**small.__dict__, "band": None}))["in_band"]


@pytest.mark.parametrize(
    ("file", "content", "error", "says"),
    [
        ("run.json", None, FileNotFoundError, "not finished; the same .* command with --resume"),
        ("run.json", b"{", ValueError, "run.json is damaged"),
        ("run.json", b"[]", ValueError, "run.json is damaged"),
        ("run.json", b"{}", ValueError, "run.json is damaged"),
        ("model.pt", None, FileNotFoundError, "model.pt does not exist"),
        ("model.pt", b"PK", ValueError, "model.pt is damaged"),
        ("model.pt", "other", ValueError, "another architecture"),
    ],
)
def test_a_run_that_is_not_whole_is_named(tmp_path, small, file, content, error, says):
    train(VAE, small, tmp_path, device="cpu", progress=False)
    path = tmp_path / file
    if content is None:
        path.unlink()
    elif content == "other":
        checkpoint.save(path, VAE.build(small.load().space, latent=3).state_dict())
    else:
        path.write_bytes(content)
    with pytest.raises(error, match=says) as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


class Copies(Implicit):
    """Draws from a table of examples, without replacement: repeats would look like too little variety."""

    def __init__(self, space: Space, examples: torch.Tensor) -> None:
        super().__init__(space)
        self.examples = torch.nn.Parameter(examples.float(), requires_grad=False)

    def _sample(self, n, context, generator):
        return self.examples[torch.randperm(len(self.examples), generator=generator)[:n]].to(torch.get_default_dtype())


def test_mode_overlap_counts_what_a_sampler_leaves_out():
    ring = RingOfGaussians()
    recipe = Recipe("ring", data=ring.dataset, metric="mode_overlap", band=0.9, samples=10_000)
    x = recipe.load().train
    whole, half = (evaluate(Copies(ring.space, some), recipe) for some in (x, x[x[:, 0] > 0.1]))
    # 0.989 is the share of good samples; the fluctuation of eight counts of 1250 costs about 0.011 more.
    assert whole["mean"] == pytest.approx(0.978, abs=0.01)
    assert whole["in_band"]
    assert 0.3 < half["mean"] < 0.5  # three of the eight modes, and few of any other
    assert not half["in_band"]
    assert whole["n"] == 10_000


def test_the_frechet_ratio_of_real_images_is_one_and_of_others_is_not():
    digits = recipes.data.load("digits")
    recipe = Recipe("digits", data="digits", metric="frechet_ratio", band=3.0, samples=1080)

    class Images(Copies):
        def _sample(self, n, context, generator):
            return super()._sample(n, context, generator).long()

    seven = torch.cat([digits.train, digits.train])[torch.cat([digits.train_labels] * 2) < 7]
    real, some = (evaluate(Images(digits.space, x), recipe) for x in (digits.train, seven))
    assert real["mean"] == pytest.approx(1, abs=0.3)  # the standard deviation over seeds is 0.12
    assert real["in_band"]
    assert some["mean"] > 3  # a sampler that never draws 7, 8 or 9
    assert not some["in_band"]
    assert real["n"] == 3 * 360


def test_an_option_that_is_no_plain_data_is_recorded_by_name_and_restored(tmp_path, monkeypatch):
    recipe = Recipe("wide", data=RingOfGaussians().dataset, options={"latent": 2, "loss": hinge}, fit={"steps": 2})
    monkeypatch.setattr("gencourse.adversarial.gan.RECIPES", (recipe,))
    train(catalog.entry("gan"), recipe, tmp_path, device="cpu", progress=False)
    assert json.loads((tmp_path / "run.json").read_text())["options"] == {"latent": 2, "loss": "hinge"}
    model, *_ = load_run(tmp_path)
    assert model.loss is hinge
    monkeypatch.setattr("gencourse.adversarial.gan.RECIPES", (dataclasses.replace(recipe, options={}),))
    with pytest.raises(ValueError, match="the recipe 'wide' of gan has changed since"):
        load_run(tmp_path)


def test_a_recipe_s_data_may_be_a_function(small):
    assert Recipe("f", data=small.load).load().name == recipes.data.load("bars_and_stripes").name
