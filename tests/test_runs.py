"""A run is rebuilt from what it recorded, and from nothing else."""

import dataclasses
import json
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from toy_models import weights

from gencourse import catalog, checkpoint, data, recipes, runs
from gencourse.adversarial.losses import hinge, minimax
from gencourse.data.toys import RingOfGaussians
from gencourse.recipes import Recipe
from gencourse.runs import evaluate, load_run, train

VAE = catalog.entry("vae")
GAN = catalog.entry("gan")
SMALL = Recipe(
    "small",
    data="bars_and_stripes",
    options={"latent": 1, "hidden": (8,), "beta": 4.0},
    fit={"steps": 2, "batch_size": 7},
    band=100.0,
    samples=10,
)


def run(folder, recipe=SMALL, entry=VAE, **settings):
    return train(entry, recipe, folder, device="cpu", progress=False, **settings)[0]


@pytest.fixture
def today(monkeypatch):
    """Change the recipes of today."""

    def change(*those, module="gencourse.variational.vae"):
        monkeypatch.setattr(f"{module}.RECIPES", those)

    change(SMALL)
    return change


@pytest.mark.parametrize("options", [{"latent": 1, "hidden": (8,), "beta": 1.0}, {}, {"latent": 3, "hidden": (8, 8)}])
def test_plain_options_are_those_that_were_recorded(tmp_path, today, options):
    model = run(tmp_path)
    today(dataclasses.replace(SMALL, options=options))
    again, entry, recipe = load_run(tmp_path)
    assert torch.equal(weights(model), weights(again))
    assert (entry, recipe, again.beta) == (VAE, SMALL, 4.0)
    assert evaluate(again, recipe) == evaluate(model, SMALL)


def test_the_data_the_metric_and_the_band_are_those_that_were_recorded(tmp_path, today):
    run(tmp_path)
    today(dataclasses.replace(SMALL, data="digits", metric="bits_per_dim", band=0.1, samples=3))
    assert load_run(tmp_path)[2] == SMALL
    today()
    assert load_run(tmp_path)[2] == dataclasses.replace(SMALL, fit={}, needs=Recipe("x", "x").needs)


@pytest.mark.parametrize(
    ("then", "now", "says"),
    [
        ({"loss": hinge}, {"loss": minimax}, "its option loss was 'hinge'"),
        ({"loss": hinge}, {}, "its option loss was 'hinge'"),
        ({"activation": nn.Tanh}, {"activation": nn.ReLU}, "its option activation was 'Tanh'"),
        ({"activation": partial(nn.ELU, alpha=2.0)}, {"activation": partial(nn.ELU, alpha=1.0)}, r"was 'ELU\(alpha=2.0\)'"),
    ],
)
def test_what_has_a_name_only_must_have_it_still(tmp_path, today, then, now, says):
    module, entry = ("gencourse.adversarial.gan", GAN) if "loss" in then else ("gencourse.variational.vae", VAE)
    recipe = Recipe("wide", data=RingOfGaussians().dataset, options={"latent": 2, **then}, fit={"steps": 2})
    today(recipe, module=module)
    model = run(tmp_path, recipe, entry)
    again, _, found = load_run(tmp_path)
    assert torch.equal(weights(model), weights(again))
    assert found == recipe
    today(dataclasses.replace(recipe, options={"latent": 2, **now}), module=module)
    with pytest.raises(ValueError, match=f"the recipe 'wide' of {entry.name} has changed since; .*{says}"):
        load_run(tmp_path)


def test_numpy_s_numbers_are_recorded_as_numbers(tmp_path, today):
    recipe = dataclasses.replace(SMALL, options=SMALL.options | {"beta": np.float64(2.0)})
    run(tmp_path, recipe)
    assert json.loads((tmp_path / "run.json").read_text())["options"]["beta"] == 2.0
    assert load_run(tmp_path)[0].beta == 2.0


def test_a_recipe_of_one_s_own_can_be_sampled_and_says_what_it_cannot(tmp_path):
    bars = data.load("bars_and_stripes")
    model = run(tmp_path, dataclasses.replace(SMALL, name="mine", data=lambda: bars))
    again, _, recipe = load_run(tmp_path)
    draws = [m.sample(9, generator=torch.Generator().manual_seed(0)) for m in (model, again)]
    assert torch.equal(*draws)
    with pytest.raises(ValueError, match="known only to the program that made them"):
        evaluate(again, recipe)


def test_data_that_a_function_makes_are_recorded_with_what_makes_them():
    made = {f"{entry.name} {recipe.name}": runs._data_record(recipe.data) for entry in catalog.MODELS for recipe in entry.recipes}
    assert made["gan ring"] == {"function": "RingOfGaussians(n=8, radius=2.0, sd=0.05).dataset"}
    assert made["dcgan faces"] == {"function": "faces(size=32, n=10000)"}
    recipe = dataclasses.replace(SMALL, data=RingOfGaussians(n=5).dataset)
    assert runs._data_record(recipe.data) != made["gan ring"]
    assert torch.equal(pickle.loads(pickle.dumps(recipe)).load().train, recipe.load().train)


def test_a_run_of_an_earlier_version_is_read(tmp_path, today):
    model = run(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    checkpoint.write_json(tmp_path / "run.json", {key: record[key] for key in ("model", "recipe", "space", "options", "fit")})
    again, *found = load_run(tmp_path)
    assert torch.equal(weights(model), weights(again))
    assert found == [VAE, SMALL]


DAMAGE = {
    "options a list": lambda r: r | {"options": []},
    "options a string": lambda r: r | {"options": "hidden"},
    "an unknown option": lambda r: r | {"options": {"depth": 3}},
    "an option of another type": lambda r: r | {"options": {"hidden": 8}},
    "a negative option": lambda r: r | {"options": {"latent": -1}},
    "a huge option": lambda r: r | {"options": {"hidden": [10**9, 10**9]}},
    "an option beyond any machine": lambda r: r | {"options": {"hidden": [10**40]}},
    "a function nobody knows": lambda r: r | {"options": {"activation": "Tanh"}},
    "a huge shape": lambda r: r | {"space": {"shape": [1, 10**9, 10**9], "levels": 2}},
    "a negative shape": lambda r: r | {"space": {"shape": [1, -3, 3], "levels": 2}},
    "a shape of words": lambda r: r | {"space": {"shape": ["a", "b"], "levels": 2}},
    "a shape that is a number": lambda r: r | {"space": {"shape": 3, "levels": 2}},
    "no levels": lambda r: r | {"space": {"shape": [1, 3, 3]}},
    "levels a word": lambda r: r | {"space": {"shape": [1, 3, 3], "levels": "two"}},
    "a list for the space": lambda r: r | {"space": [1, 3, 3]},
    "an unknown model": lambda r: r | {"model": "vea"},
    "a number for the model": lambda r: r | {"model": 3},
    "an unknown metric": lambda r: r | {"metric": "accuracy"},
    "a list for the metric": lambda r: r | {"metric": ["nll"]},
    "a band that is a word": lambda r: r | {"band": "good"},
    "no samples": lambda r: r | {"samples": 0},
    "data a number": lambda r: r | {"data": 3},
    "data without a place": lambda r: r | {"data": {"images": "x"}},
    "a list": lambda r: [r],
    "null": lambda r: None,
    "a number": lambda r: 3,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_one_sentence(tmp_path, today, damage):
    run(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    checkpoint.write_json(tmp_path / "run.json", damage(record))
    with pytest.raises(ValueError, match=r"run\.json") as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"model": "vaé"}'.encode("latin-1"), b"\xff\xfe\x00", ""])
def test_a_record_that_is_no_json_is_one_sentence(tmp_path, today, content):
    run(tmp_path)
    (tmp_path / "run.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        load_run(tmp_path)


def spoil(value):
    def change(state):
        state["encoder.0.weight"].view(-1)[3] = value

    return change


WEIGHTS = {
    "nan": (spoil(float("nan")), "1 of its weights are not finite"),
    "infinite": (spoil(-float("inf")), "1 of its weights are not finite"),
    "one missing": (lambda state: state.pop("encoder.0.weight"), "another architecture"),
    "a name too many": (lambda state: state.update(more=torch.zeros(2)), "another architecture"),
    "a number for a tensor": (lambda state: state.update({"encoder.0.weight": 3.0}), "holds no weights"),
}


@pytest.mark.parametrize(("change", "says"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_cannot_be_right_are_refused(tmp_path, today, change, says):
    state = run(tmp_path).state_dict()
    change(state)
    checkpoint.save(tmp_path / "model.pt", state)
    with pytest.raises(ValueError, match=f"model.pt.*{says}"):
        load_run(tmp_path)


@pytest.mark.parametrize("state", [[1, 2], 3, "weights", None])
def test_a_file_without_weights_is_named(tmp_path, today, state):
    run(tmp_path)
    checkpoint.save(tmp_path / "model.pt", state)
    with pytest.raises(ValueError, match=r"model.pt holds no weights"):
        load_run(tmp_path)


def test_a_metric_that_is_not_a_number_is_no_result():
    model = VAE.build(SMALL.load().space, **SMALL.options)
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match=r"nll of VAE is not a number"):
        evaluate(model, SMALL)


def test_the_names_in_recipes_are_those_above_it():
    assert (recipes.train, recipes.evaluate, recipes.load_run) == (runs.train, runs.evaluate, runs.load_run)
    assert "nll" in recipes.METRICS
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = recipes.trian


def test_a_home_folder_and_numpy_numbers_are_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    train(VAE, SMALL, "~/mine", device="cpu", progress=False, lr=np.float64(0.01), seed=np.int64(3))
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "checkpoint.pt",
        "history.json",
        "model.pt",
        "run.json",
    ]
    recorded = json.loads((tmp_path / "mine" / "run.json").read_text())["fit"]
    assert (recorded["lr"], recorded["seed"]) == (0.01, 3)
