"""The tree has every model as a leaf, every leaf leads to its chapter, and what it says of a model is what the model does."""

import copy
import io
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from opening import opening
from PIL import Image
from pybtex.database import parse_file
from torch.overrides import TorchFunctionMode

from gencourse import catalog
from gencourse.checks import every_example
from gencourse.explorers import TreeOfModels
from gencourse.explorers.tree_of_models import ASPECTS, BRANCHES, QUESTIONS, SAID, abilities, layout, lying, paper, svg
from gencourse.explorers.tree_samples import RECIPE, STEPS, samples
from gencourse.kinds import GenerativeModel
from gencourse.space import Space

BOOK = Path(__file__).parents[2] / "book"
REFERENCES = parse_file(str(BOOK / "references.bib"), "bibtex").entries
every_model = pytest.mark.parametrize("entry", catalog.MODELS, ids=lambda entry: entry.name)


@pytest.fixture(scope="module")
def explorer():
    return TreeOfModels()


def built(entry, **options):
    torch.manual_seed(0)
    return entry.build(Space(*entry.space), **dict(entry.options) | options).eval()


# --- what is said of a model -------------------------------------------------------------------------------------------


@every_model
def test_the_density_that_is_said_is_the_one_that_can_be_had(entry):
    model, said = built(entry), abilities(entry.cls).density
    if not model.space.is_discrete:
        assert said in ("exact for points", "none")  # that it integrates to one: tests/test_catalog.py
        assert hasattr(model, "log_prob") is (said != "none")
        return
    x = torch.randint(model.space.levels, (4, *model.space.shape), generator=torch.Generator().manual_seed(0))
    if said == "exact":
        assert model.double().log_prob(every_example(model.space)).exp().sum().item() == pytest.approx(1, abs=1e-9)
    elif said == "exact for points":  # of images a noise is drawn, and the number with it
        torch.manual_seed(1)
        assert not torch.equal(model.log_prob(x), model.log_prob(x))
    elif said == "bound":
        generator = torch.Generator().manual_seed(0)
        bound = torch.stack([model.elbo(x, generator=generator) for _ in range(100)])
        estimate = model.log_prob_estimate(x, samples=400, generator=generator)
        assert (bound.mean(0) < estimate + 4 * bound.std(0) * (1 / 100 + 1 / 400) ** 0.5).all()
    elif said == "unnormalised":
        every = every_example(model.space)
        weights, masses = (-model.free_energy(every)).exp(), model.log_prob(every).exp()
        assert masses.sum().item() == pytest.approx(1, abs=1e-4) and abs(weights.sum().item() - 1) > 0.5
        assert torch.allclose(weights / weights.sum(), masses, rtol=1e-3, atol=0)
    else:
        assert not any(hasattr(model, name) for name in ("log_prob", "log_prob_estimate", "elbo", "free_energy"))


class Uses(TorchFunctionMode):
    """Counts the products that are taken while it is on, and how often each tensor of a list is a factor or a bias in one."""

    PRODUCTS = ("linear", "conv2d", "conv_transpose2d", "matmul", "mm", "addmm", "baddbmm")

    def __init__(self, tensors):
        super().__init__()
        self.known, self.uses, self.products = {id(tensor) for tensor in tensors}, Counter(), 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in self.PRODUCTS:
            self.products += 1
            self.uses.update(self.known & {id(value) for value in (*args, *(kwargs or {}).values())})
        return func(*args, **(kwargs or {}))


def uses(model, **asked):
    context = model.example_context(2, generator=torch.Generator().manual_seed(0))
    with Uses(list(model.parameters())) as counted, torch.no_grad():
        model.sample(2, context, generator=torch.Generator().manual_seed(0), **asked)
    return counted


@every_model
def test_a_draw_takes_the_passes_that_are_said(entry):
    said = abilities(entry.cls).sampling
    if said == "one":
        counted = uses(built(entry))
        assert counted.products > 0 and set(counted.uses.values()) == {1}  # no weight is used twice
    elif said == "pixel":
        model = built(entry, **({"masks": 1} if entry.name == "made" else {}))  # of several nets each would have its turn
        with Uses([]) as one, torch.no_grad():
            model.conditionals(every_example(model.space)[:2])
        assert uses(model, cached=False).products == model.space.dim * one.products > 0  # all conditionals, for each pixel
    else:
        budget = {"chain": "sweeps" if hasattr(entry.cls, "gibbs") else "burn_in"}.get(said, "steps")
        first, second, third = (uses(built(entry, **{budget: steps})).products for steps in (4, 8, 12))
        assert third - second == second - first > 0  # as many more for each further step


@every_model
def test_the_latent_space_that_is_said_is_there(entry):
    model, said = built(entry), abilities(entry.cls).latent
    generator = torch.Generator().manual_seed(0)
    if said == "invertible":
        two = entry.build(Space((2,)), **dict(entry.options)).double().eval()
        x = torch.randn(5, 2, generator=generator, dtype=torch.float64)
        if hasattr(two, "decode"):
            z = two.encode(x)[0]
            back = two.decode(z)[0]
        else:
            z = two.solver(two.velocity(None, 5), x, 0.0, 1.0, ())
            back = two.solver(two.velocity(None, 5), z, 1.0, 0.0, ())
        assert z.shape == x.shape and torch.allclose(back, x, atol=1e-3) and not torch.allclose(z, x, atol=1e-3)
    elif said == "code":
        x = torch.randint(model.space.levels, (3, *model.space.shape), generator=generator)
        assert model.draw_prior(3).flatten(1).shape[1] != model.space.dim
        assert len(model.decode(model.draw_prior(3)).mean) == 3 and model.encode(x) is not None
    elif said == "levels":
        assert model.draw_prior(3).shape == (3, *model.space.shape)
    elif said == "hidden":
        x = torch.randint(2, (5, *model.space.shape), generator=generator)
        few, more = (built(entry, hidden=units) for units in (1, 4))
        count = [sum(p.numel() for p in one.parameters()) for one in (few, more)]
        assert count[0] < count[1] and few.free_energy(x).shape == more.free_energy(x).shape == (5,)  # summed over them
    elif said == "noise":
        z, context = model.draw_latent(3, generator=generator), model.example_context(3, generator=generator)
        assert z.shape == (3, model.latent)
        assert torch.equal(model.generate(z, context), model.generate(z, context))
    else:
        assert not any(hasattr(model, name) for name in ("draw_latent", "draw_prior", "decode", "free_energy", "velocity"))


@every_model
def test_the_condition_that_is_said_is_taken(entry):
    said = abilities(entry.cls).condition
    if said == "class":
        model = built(entry, classes=3)
        assert len(model.sample(3, torch.arange(3))) == 3
    else:
        model = built(entry)
        given = model.example_context(2)
        if said == "needed":
            assert len(model.sample(2, given)) == 2
            with pytest.raises((TypeError, ValueError)):
                model.sample(2)
        else:
            assert given is None and len(model.sample(2)) == 2
            with pytest.raises(ValueError, match="takes no context"):
                model.sample(2, torch.arange(2))


@every_model
def test_the_paper_that_is_named_is_the_one_of_the_references(entry):
    names, year = re.fullmatch(r"(.*), (\d{4})", paper(entry)).groups()
    fields = REFERENCES[entry.paper]
    surnames = [" ".join((*person.prelast_names, *person.last_names)).strip("{}") for person in fields.persons["author"]]
    assert int(year) == int(fields.fields["year"])
    said = re.split(r", | and | et al\.", names)
    assert said[0].lower() == surnames[0].lower()
    assert "et al." in names or [name.lower() for name in said] == [name.lower() for name in surnames]


def test_every_sentence_is_used_and_every_question_splits_the_models():
    can = [abilities(entry.cls) for entry in catalog.MODELS]
    assert set(ASPECTS) == set(SAID) == set(vars(can[0]))
    for aspect, sentences in SAID.items():
        assert {getattr(one, aspect) for one in can} == set(sentences)
    for _, aspect, keys in QUESTIONS:
        assert set(keys) < set(SAID[aspect])


def test_what_is_no_kind_of_model_is_refused():
    with pytest.raises(TypeError, match="GenerativeModel is neither Tractable nor Approximate nor Implicit"):
        abilities(GenerativeModel)
    with pytest.raises(ValueError, match="did you mean 'vae'"):
        TreeOfModels("vea")


@every_model
def test_every_model_has_a_sample_and_it_is_said_how_it_came_about(entry):
    assert entry.name in samples(), f"it has none: python -m gencourse.explorers.tree_samples {entry.name}"
    sample = samples()[entry.name]
    run, recipe = sample.run, entry.recipe(sample.run["recipe"])
    assert run["of"] == recipe.fit["steps"] and run["steps"] == STEPS.get(entry.name, run["of"]) <= run["of"]
    assert f"{run['steps']:,}" in sample.says and recipe.name in sample.says and run["data"] in sample.says
    with Image.open(io.BytesIO(sample.png)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(float)
    assert pixels.shape[0] < 100 and pixels.shape[1] < 100 and pixels.std() > 10


def test_the_samples_are_small_and_are_no_other_models():
    assert set(samples()) == {entry.name for entry in catalog.MODELS} > set(STEPS) | set(RECIPE)
    assert (BOOK.parent / "gencourse" / "explorers" / "tree_samples.npz").stat().st_size < 300_000


# --- the tree ----------------------------------------------------------------------------------------------------------


def leaves(branches, path=()):
    for branch in branches:
        here = (*path, branch["title"].lower())
        yield from ((name, here) for name in branch["models"])
        yield from leaves(branch["branches"], here)


def test_every_model_is_a_leaf_once_and_on_its_branch(explorer):
    found = list(leaves(explorer.state["tree"]))
    assert sorted(name for name, _ in found) == sorted(entry.name for entry in catalog.MODELS)
    for name, path in found:
        branch = catalog.entry(name).branch
        assert path == tuple(BRANCHES[branch[: i + 1]].lower() for i in range(len(branch)))


def test_every_leaf_leads_to_a_chapter_that_is_there(explorer):
    without_script = re.findall(r'<a href="([^"]+)">', explorer.fallback())
    expected = sorted(f"{entry.chapter}.ipynb" for entry in catalog.MODELS)
    assert sorted(without_script) == expected
    for upright in (True, False):
        drawn = ElementTree.fromstring(svg(upright=upright)).iter("{http://www.w3.org/2000/svg}a")
        assert sorted(a.attrib["href"] for a in drawn) == [f"../{name}" for name in expected]
    assert all((BOOK / name).is_file() for name in expected)


@pytest.mark.parametrize("drawing", [layout, lying])
def test_boxes_of_the_picture_do_not_overlap_and_hold_their_text(drawing):
    boxes, lines = drawing()
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart_x = a.x + a.width <= b.x or b.x + b.width <= a.x
            assert apart_x or a.y + a.height <= b.y or b.y + b.height <= a.y
        size = (13 if drawing is layout else 12) if a.chapter else 14
        assert max(map(len, a.lines)) * 0.56 * size < a.width and len(a.lines) * 1.08 * size <= a.height
    titles = sorted(entry.title.replace(" ", "") for entry in catalog.MODELS)
    assert sorted("".join(box.lines).replace(" ", "") for box in boxes if box.chapter) == titles
    assert all(x1 == x2 or y1 == y2 for line in lines for (x1, y1), (x2, y2) in pairwise(line))


def contrast(a, b):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_of_the_picture_stands_out_from_its_box():
    for fill, ink in re.findall(r'fill="(#\w{6})"/><text [^>]*fill="(#\w{6})"', svg()):
        assert contrast(fill, ink) > 4.5


# --- the page ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(visit, explorer, tmp_path):
    with opening(visit, explorer, tmp_path, ".panel") as open_page:
        yield open_page


def row(page, label):
    return page.locator(f".panel dt:text-is('{label}') + dd").text_content()


@pytest.mark.browser
def test_the_page_says_of_every_model_what_python_says(opened):
    seen = opened()
    page = seen.page
    for entry in catalog.MODELS:
        page.locator(".leaf").get_by_text(entry.title, exact=True).click()
        assert page.locator(".panel .title").text_content() == entry.title
        for aspect, key in vars(abilities(entry.cls)).items():
            assert row(page, ASPECTS[aspect])[2:] == SAID[aspect][key][1]
        assert row(page, "Paper") == paper(entry)
        assert row(page, "Slides") == (entry.slides or "beside the lecture")
        assert row(page, "Code") == entry.path.replace(":", ".")
        assert page.locator(".panel figcaption").text_content() == samples()[entry.name].says
        assert page.locator(".panel img").get_attribute("alt") == f"Samples of {entry.title}: {samples()[entry.name].says}"
        assert page.locator(".panel img").evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") > 20
    assert not seen.elsewhere


@pytest.mark.browser
def test_a_question_marks_the_models_that_answer_it(opened, explorer):
    page = opened().page
    for (text, aspect, keys), sent in zip(QUESTIONS, explorer.state["questions"], strict=True):
        page.get_by_role("radio", name=f"{text}?").check()
        titles = {entry.title for entry in catalog.MODELS if getattr(abilities(entry.cls), aspect) in keys}
        assert set(page.locator(".leaf.yes").all_text_contents()) == titles
        assert page.locator(".answer").text_content() == f"{len(titles)} of {len(catalog.MODELS)} models: marked with ✓."
        assert {explorer.state["models"][name]["title"] for name in sent["yes"]} == titles
    page.get_by_role("radio", name="all of them").check()
    assert page.locator(".leaf.yes, .leaf.no").count() == 0


ADDRESS = """async ([source, chapter, places]) => {
  const module = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(source));
  return places.map((place) => module.address(chapter, place));
}"""


@pytest.mark.browser
def test_links_lead_to_the_page_the_notebook_or_the_public_address(visit):
    places = [
        {"root": "../", "path": "/book/02-generative-models.html"},
        {"root": "./", "path": "/index.html"},
        {"path": "/lab/tree/book/02-generative-models.ipynb"},
        {"path": "/notebooks/book/02-generative-models.ipynb"},
        {"path": "/outputframe.html", "home": "https://example.org/us/it/blob/abc"},
        {"path": "/saved.html", "home": ""},
    ]
    found = visit().page.evaluate(ADDRESS, [TreeOfModels.source(), "09-vae", places])
    here, there = "../book/09-vae.html", "./book/09-vae.html"
    assert found == [here, there, "09-vae.ipynb", "09-vae.ipynb", "https://example.org/us/it/blob/abc/book/09-vae.ipynb", ""]


@pytest.mark.browser
def test_in_the_book_a_leaf_is_chosen_first_and_then_opened(visit, explorer, tmp_path):
    """A page as Sphinx makes it says where its root is; chapters are stood in for by empty pages."""
    (tmp_path / "book").mkdir()
    for entry in catalog.MODELS:
        (tmp_path / "book" / f"{entry.chapter}.html").write_text("<title>chapter</title>")
    with opening(visit, explorer, tmp_path, ".panel") as open_page:
        text = (tmp_path / "explorer.html").read_text(encoding="utf-8")
        (tmp_path / "explorer.html").write_text(text.replace("<html ", '<html data-content_root="./" '), encoding="utf-8")
        page = open_page().page
        for leaf in page.locator(".leaf").all():
            address = leaf.get_attribute("href")
            assert (tmp_path / address).is_file()
        nade = page.locator(".leaf", has_text=re.compile("^NADE$"))
        nade.click()
        assert page.locator(".panel .title").text_content() == "NADE"
        assert page.locator(".panel .open").get_attribute("href") == "./book/03-chain-rule.html"
        nade.click()
        page.wait_for_url("**/book/03-chain-rule.html")
        page.go_back()
        page.locator(".leaf[aria-current]").press("Enter")  # the one that is chosen at first
        page.wait_for_url("**/book/09-vae.html")


@pytest.mark.browser
def test_the_keyboard_alone_suffices(opened):
    page = opened().page
    chosen, title = page.locator(".leaf[aria-current]"), page.locator(".panel .title")
    page.keyboard.press("Tab")  # to the question
    page.keyboard.press("ArrowRight")
    assert page.locator(".leaf.yes").count() > 0
    page.keyboard.press("Tab")  # to the tree, which is one stop
    assert chosen.evaluate("(leaf) => leaf === leaf.getRootNode().activeElement")
    page.keyboard.press("ArrowDown")
    assert title.text_content() == "Convolutional VAE"
    page.keyboard.press("ArrowRight")
    assert title.text_content() in ("Boltzmann machine", "Restricted Boltzmann machine")
    page.keyboard.press("End")
    assert title.text_content() == catalog.MODELS[-3].title == "Pictures from scene graphs"
    page.keyboard.press("ArrowRight")  # there is nothing further
    assert title.text_content() == "Pictures from scene graphs"
    page.keyboard.press("Home")
    assert title.text_content() == "Fully visible belief network"
    assert chosen.evaluate("(leaf) => leaf === leaf.getRootNode().activeElement") and chosen.count() == 1
    assert page.locator(".panel").get_attribute("aria-live") == "polite"


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_finger_on_a_phone_finds_the_answer_below_it(opened, dark):
    page = opened(width=390, height=844, dark=dark, touch=True).page
    leaf = page.locator(".leaf", has_text=re.compile("^CycleGAN$"))
    leaf.scroll_into_view_if_needed()
    before = leaf.bounding_box()
    page.touchscreen.tap(before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
    page.locator(".panel .title", has_text="CycleGAN").wait_for()
    after, panel = leaf.bounding_box(), page.locator(".panel").bounding_box()
    assert abs(after["y"] - before["y"]) < 3  # what was touched does not run away
    assert 0 < panel["y"] - (after["y"] + after["height"]) < 60
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
@pytest.mark.parametrize("width", [714, 832, 1280])
def test_on_a_wide_page_no_word_is_broken_and_no_leaf_lies_on_another(opened, width):
    page = opened(width=width).page
    assert page.locator(".frame.wide").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    boxes = [leaf.bounding_box() for leaf in page.locator(":is(.leaf, .branch)").all()]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert (
                a["x"] + a["width"] <= b["x"] + 1
                or b["x"] + b["width"] <= a["x"] + 1
                or a["y"] + a["height"] <= b["y"] + 1
                or b["y"] + b["height"] <= a["y"] + 1
            )
    assert page.evaluate(BROKEN) == []


BROKEN = """() => {
  const root = document.querySelector(".gencourse-explorer").shadowRoot, broken = [];
  for (const leaf of root.querySelectorAll(".leaf")) {
    const text = leaf.firstChild;
    for (const word of text.data.matchAll(/[^\\s-]+/g)) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) broken.push(word[0]);
    }
  }
  return broken;
}"""


@pytest.mark.browser
def test_it_runs_in_a_sandboxed_frame_as_on_colab_and_twice_in_one_page(visit, explorer):
    seen = visit()
    seen.page.set_content('<iframe sandbox="allow-scripts" width="900" height="2400"></iframe>')
    seen.page.evaluate("html => { document.querySelector('iframe').srcdoc = html; }", explorer.to_html() * 2)
    frame = seen.page.frame_locator("iframe")
    frame.locator(".panel").nth(1).wait_for()
    frame.locator(".leaf", has_text="BigGAN").nth(1).click()
    assert frame.locator(".panel .title").all_text_contents() == ["Variational autoencoder", "BigGAN"]
    assert frame.locator(".leaf").first.get_attribute("href") is None  # nobody knows where the chapters are
    assert "book/15-better-gans.ipynb" in frame.locator(".panel").nth(1).text_content()
    assert not seen.errors


def test_the_output_is_html_with_a_still_picture_and_the_same_bytes_each_time(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle == TreeOfModels()._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert re.search(r'<img alt="[^"]{40,}" src="data:image/png;base64,', bundle["text/html"])
    assert bundle["text/html"].count("</script>") == 1
    assert len(bundle["text/html"]) < 400_000
    assert json.loads(json.dumps(explorer.state)) == explorer.state


def test_the_widget_starts_from_the_same_state_and_python_sees_what_is_chosen(explorer):
    widget = explorer.widget()
    assert widget.models == explorer.state["models"] and widget.chosen == "vae"
    widget.set_state({"chosen": "gan", "asked": 2})  # what the browser sends
    assert (widget.chosen, widget.asked) == ("gan", 2)
    assert copy.copy(explorer.state)["chosen"] == "vae"
