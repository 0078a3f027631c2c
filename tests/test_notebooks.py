"""The normal form of a notebook, and running one: what is kept, what is dropped, and that nothing else changes."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tools import notebooks

ROOT = Path(__file__).parents[1]
URL = "https://example.org/a/b"


def notebook(*cells):
    colab = new_code_cell(notebooks.COLAB.format(url=URL), id="colab")
    return new_notebook(cells=[colab, new_code_cell('profile = "auto"', id="size", metadata={"tags": ["parameters"]}), *cells])


def normal(nb) -> tuple[str, nbformat.NotebookNode]:
    text = notebooks.normalise(nb, URL)
    return text, nbformat.reads(text, as_version=4)


def noisy():
    cell = new_code_cell(
        "x  \ny",
        id="noisy",
        execution_count=7,
        metadata={
            "tags": ["remove-input"],
            "mystnb": {"image": {"alt": "a line"}},
            "papermill": {"duration": 1.2},
            "execution": {"iopub.execute_input": "2026-01-01"},
            "colab": {},
            "scrolled": True,
        },
        outputs=[
            new_output("stream", name="stdout", text="one\n"),
            new_output(
                "stream",
                name="stderr",
                text="  3%|3   | 3/100 [00:01<00:40, 2.5it/s]\r 50%|5   | 50/100 [00:01<00:40, 2.5it/s]\n",
            ),
            new_output("stream", name="stdout", text="two\n"),
            new_output("display_data", {notebooks.WIDGET: {"model_id": "7f"}, "text/plain": "  0%|   | 0/20"}),
            new_output("execute_result", {"text/plain": "<Thing at 0x7f12abcd1234>"}, execution_count=7),
            new_output("display_data", {"image/png": "QUJD\n", "text/plain": "<Figure size 640x480 with 1 Axes>"}),
        ],
    )
    nb = notebook(cell, new_markdown_cell("## A heading"))
    nb.cells[3].id = "noisy"  # as after copying a cell
    nb.metadata = {"kernelspec": {"name": "mine", "display_name": "mine"}, "widgets": {"state": {}}, "papermill": {}, "colab": {}}
    return nb


def test_the_normal_form_keeps_outputs_and_drops_what_changes_by_itself():
    _, nb = normal(noisy())
    cell = nb.cells[2]
    assert cell.source == "x\ny"
    assert cell.execution_count == 3, "the position, since nbval takes a cell without a count as never run"
    assert cell.metadata == {"tags": ["remove-input"], "mystnb": {"image": {"alt": "a line"}}}
    assert set(nb.metadata) == {"kernelspec", "language_info"}
    assert nb.metadata.kernelspec.name == "python3"
    assert [output.get("text") or output.data for output in cell.outputs] == [
        "one\ntwo\n",
        {"text/plain": "<Thing at 0x000000>"},
        {"image/png": "QUJD", "text/plain": "<Figure size 640x480 with 1 Axes>"},
    ]


def test_white_space_that_means_something_stays():
    nb = notebook(
        new_markdown_cell("a hard break  \nafter it   \nand again \nthe end  \n\nnext  "),
        new_code_cell('s = """two spaces  \nat the end"""\nx = 1'),
    )
    _, after = normal(nb)
    assert after.cells[2].source == "a hard break  \nafter it  \nand again\nthe end\n\nnext"
    assert after.cells[3].source == 's = """two spaces  \nat the end"""\nx = 1'


def test_cells_that_only_prepare_are_folded():
    imports = new_code_cell("import math\n\nmath.pi")
    nb = notebook(imports, new_markdown_cell("Text"), new_code_cell("import os"))
    _, after = normal(nb)
    assert [cell.metadata.get("tags", []) for cell in after.cells if cell.cell_type == "code"] == [
        ["hide-input"],
        ["parameters", "hide-input"],
        ["hide-input"],
        [],
    ]


def test_captions_are_kept():
    figure = {"figure": {"caption": "A line. It rises."}, "image": {"alt": "a line"}}
    assert normal(notebook(new_code_cell("x", metadata={"mystnb": figure})))[1].cells[2].metadata["mystnb"] == figure


def test_pictures_get_a_palette_and_no_colour_of_a_grid_changes():
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).choice([0.0, 127 / 255, 1.0], (40, 60)).repeat(8, 0).repeat(8, 1)
    matplotlib.image.imsave(buffer, pixels, cmap="gray", vmin=0, vmax=1, dpi=200)
    stored = base64.b64encode(buffer.getvalue()).decode()
    light = notebooks.lighter(stored)
    assert len(light) < len(stored) / 2
    image = Image.open(io.BytesIO(base64.b64decode(light)))
    assert image.mode == "P" and image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    np.testing.assert_array_equal(image.convert("RGBA"), Image.open(buffer))
    assert notebooks.lighter(light) == light
    assert notebooks.lighter("QUJD") == "QUJD"


def test_a_picture_that_needs_more_colours_keeps_them():
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, np.random.default_rng(0).random((64, 64, 3)))
    stored = base64.b64encode(buffer.getvalue()).decode()
    assert notebooks.lighter(stored) == stored


def test_a_second_pass_changes_nothing():
    text, nb = normal(noisy())
    assert notebooks.normalise(nb, URL) == text
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")


def test_ids_are_kept_where_they_are_unique_and_made_from_content_where_not():
    first, second = normal(noisy())[1].cells[2:], normal(noisy())[1].cells[2:]
    assert first[0].id == "noisy" != first[1].id
    assert [cell.id for cell in first] == [cell.id for cell in second]


def test_a_file_without_ids_gets_the_same_ones_each_time(tmp_path):
    raw = json.loads(normal(noisy())[0])
    for cell in raw["cells"]:
        del cell["id"]
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(raw))
    once, again = (notebooks.normalise(notebooks.read(path), URL) for _ in range(2))
    assert once == again
    assert len({cell["id"] for cell in json.loads(once)["cells"]}) == 4


def test_warnings_on_stderr_stay_only_progress_bars_go():
    cell = new_code_cell(
        "x", outputs=[new_output("stream", name="stderr", text="UserWarning: look\n10%|# | 1/10 [0:01, 3.0it/s]\n")]
    )
    assert normal(notebook(cell))[1].cells[2].outputs[0].text == "UserWarning: look\n"


def test_the_colab_cell_follows_the_address_and_papermills_cell_goes():
    nb = notebook(new_code_cell('profile = "cpu"', metadata={"tags": ["injected-parameters"]}))
    nb.cells[0].source = notebooks.COLAB.format(url="https://elsewhere.org/x/y")
    _, after = normal(nb)
    assert after.cells[0].source == notebooks.COLAB.format(url=URL)
    assert [cell.source for cell in after.cells[1:]] == ['profile = "auto"']


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda nb: nb.cells.pop(0), "first code cell must be the one that installs"),
        (lambda nb: nb.cells[1].metadata.tags.clear(), "one cell tagged `parameters`"),
        (lambda nb: nb.cells[1].update(source='profile = "gpu"'), 'reads profile = "auto"'),
    ],
)
def test_what_a_chapter_lacks_is_said(tmp_path, change, sentence):
    nb, path = notebook(), tmp_path / "book" / "01-a.ipynb"
    assert notebooks.problems(nb, path, URL) == []
    change(nb)
    (problem,) = notebooks.problems(nb, path, URL)
    assert sentence in problem


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with one chapter, which prints a time, draws, warns nobody, and shows a progress bar and a widget."""
    for folder in ("book", "tests"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "tests" / "nbval.cfg", tmp_path / "tests")
    (tmp_path / "_config.yml").write_text(f"repository:\n  url: {URL}\n")
    nb = notebook(
        new_code_cell(
            "# NBVAL_CHECK_OUTPUT\n"
            "import time\n\nstart = time.perf_counter()\n"
            'print(f"done in {time.perf_counter() - start:.6f} s")\n'
            "object()"
        ),
        new_code_cell(
            "import random\n\nimport ipywidgets\nfrom tqdm.auto import tqdm\n\n"
            "total = sum(tqdm(range(5)))\n"
            "print(profile, total, random.random())\n"
            "ipywidgets.IntSlider()"
        ),
        new_code_cell(
            "import matplotlib.pyplot as plt\n\nplt.figure(figsize=(1, 1))\nplt.plot([profile == 'smoke', 2])\nplt.show()"
        ),
    )
    path = tmp_path / "book" / "01-a.ipynb"
    path.write_text(notebooks.normalise(nb, URL))
    monkeypatch.chdir(tmp_path)
    return path


def test_a_run_that_changes_nothing_changes_no_line_and_nbval_sees_no_difference(clone):
    notebooks.run("01-a", "smoke")
    first = clone.read_text()
    notebooks.run("01-a", "smoke")
    second = clone.read_text()
    changed = [(a, b) for a, b in zip(first.split("\n"), second.split("\n"), strict=True) if a != b]
    assert len(changed) == 1, changed  # the second cell's random number: a result that did change is stored
    assert "smoke 10 0." in changed[0][0]

    cells = nbformat.reads(second, as_version=4).cells
    assert cells[1].source == 'profile = "auto"'
    assert len(cells) == 5
    assert [output.output_type for output in cells[2].outputs] == ["stream", "execute_result"]
    assert [output.output_type for output in cells[3].outputs] == ["stream"]
    assert "image/png" in cells[4].outputs[0].data
    assert notebooks.main(["check"]) == 0

    command = (
        "-m pytest -p no:cacheprovider --nbval-lax --nbval-current-env --nbval-sanitize-with=tests/nbval.cfg book/01-a.ipynb"
    )
    done = subprocess.run([sys.executable, *command.split()], cwd=clone.parents[1], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_a_cell_that_fails_leaves_the_stored_notebook_as_it_was(clone):
    nb = nbformat.read(clone, as_version=4)
    nb.cells.append(new_code_cell("1 / 0"))
    clone.write_text(notebooks.normalise(nb, URL))
    before = clone.read_bytes()
    with pytest.raises(SystemExit, match=r"01-a.ipynb is unchanged.*(?s:.)*ZeroDivisionError"):
        notebooks.run("01-a", "smoke")
    assert clone.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "02-b"], "there is no chapter '02-b'; there are: 01-a."),
        (["run", "01-a", "--profile", "huge"], "there is no profile 'huge'; there are: auto, smoke, cpu, gpu."),
        (["check", "book/none.ipynb"], "book/none.ipynb is no notebook that can be read"),
        (["normalise", "_config.yml"], "_config.yml is no notebook that can be read"),
    ],
)
def test_mistakes_on_the_command_line_get_one_sentence(clone, arguments, sentence):
    with pytest.raises(SystemExit, match=re.escape(sentence)) as caught:
        notebooks.main(arguments)
    assert "\n" not in str(caught.value)


def test_outside_a_clone_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="not inside a clone"):
        notebooks.main(["check"])
