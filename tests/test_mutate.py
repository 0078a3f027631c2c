"""The tool that makes right-hand sides wrong finds weak checks, and no chapter has one."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import mutate

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "book").glob("[0-9]*.ipynb"))
IMPORTS = "import torch\nfrom gencourse.checks import claim, equation"


@pytest.fixture
def examined(tmp_path):
    def examine(*cells: str, excuses: str = ""):
        (tmp_path / "mutants.toml").write_text(excuses)
        pieces = [new_code_cell(IMPORTS)]
        pieces += [p for cell in cells for p in ((new_markdown_cell(cell[1:]) if cell[0] == "#" else new_code_cell(cell)),)]
        nbformat.write(new_notebook(cells=pieces), tmp_path / "01-toy.ipynb")
        return {v.number: v for v in mutate.examine(tmp_path / "01-toy.ipynb")}

    return examine


def test_a_check_whose_parameters_vary_notices_every_mutant(examined):
    found = examined(
        "#Text",
        "a, b = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)",
        'equation("1.1", (a + b).square().sum(), (a**2).sum() + 2 * (a * b).sum() + (b**2).sum())',
    )
    assert found["1.1"].mutants > 10
    assert (found["1.1"].survivors, found["1.1"].problem) == ([], "")


def test_parameters_that_coincide_are_found(examined):
    check = 'D, k = {D}, {k}\nx = torch.ones(D, k, dtype=torch.float64)\nequation("1.1", x.sum() + D, D * k + D)'
    assert any("letter: `D` -> `k`" in said for said in examined("#Text", check.format(D=3, k=3))["1.1"].survivors)
    assert examined("#Text", check.format(D=3, k=5))["1.1"].survivors == []


def test_a_sign_that_the_check_cannot_see_is_found(examined):
    hidden = 'x = torch.rand(4).double()\ny = x.abs() * 1.0\nequation("1.1", x * 1.0, y)'
    assert any("`x.abs()` -> `x`" in said for said in examined("#Text", hidden)["1.1"].survivors)
    seen = hidden.replace("rand(4)", "randn(4)").replace("x * 1.0, y", "torch.maximum(x, -x), y")
    assert not any("`x.abs()` -> `x`" in said for said in examined("#Text", seen)["1.1"].survivors)


def test_statements_and_functions_behind_the_right_side_are_changed_but_not_those_behind_both(examined):
    found = examined(
        "def half(v):\n    return v / 2",
        "#Text",
        "x = 3 * torch.arange(1.0, 4.0).double()\ntotal = 0.0\nfor value in x:\n    total = total + value",
        'equation("1.1", x.sum() / 2, half(total))',
        "#Text",
        'equation("1.2", x.mean(), half(2 * x.mean()))',
    )
    assert found["1.1"].survivors == []
    assert found["1.1"].mutants > 5  # the sum that only the right side uses is among them
    assert found["1.2"].survivors == []
    assert found["1.2"].mutants > 3  # the function of the first cell too


def test_changes_in_place_do_not_add_up_over_the_mutants(examined):
    found = examined(
        "#Text",
        'rows = []\nfor k in (1, 2, 3):\n    rows.append(k**2 + 1.5)\nequation("1.1", [2.5, 5.5, 10.5], rows)',
    )
    assert (found["1.1"].survivors, found["1.1"].problem) == ([], "")


def test_a_reason_excuses_a_mutant_and_one_that_excuses_nothing_is_named(examined):
    cell = 'x = torch.rand(3).double()\nequation("1.1", x, x + 0 * x)'
    said = examined("#Text", cell)["1.1"].survivors
    assert said
    lines = "\n".join(f'"{s}" = "zero"' for s in [*said, "sign: `y` -> `-y`"])
    verdict = examined("#Text", cell, excuses=f'["1.1"]\n{lines}\n')["1.1"]
    assert (verdict.survivors, verdict.excused, verdict.stale) == ([], said, ["sign: `y` -> `-y`"])


@pytest.mark.parametrize("path", CHAPTERS, ids=[path.stem for path in CHAPTERS])
def test_the_check_of_every_equation_notices_every_mutant(path):
    verdicts = list(mutate.examine(path, seconds=4.0))
    found = {v.number: v.survivors + v.stale + [v.problem] for v in verdicts if v.survivors or v.stale or v.problem}
    assert verdicts and not found
