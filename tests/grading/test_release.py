"""The exercises are what their solutions give, and no answer slips through."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from gencourse.grading import release
from tools import notebooks

ROOT = Path(__file__).parents[2]


def notebook(*sources: str, **more) -> str:
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": s, "outputs": [], "execution_count": 1, **more}
        for i, s in enumerate(sources)
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def clone(tmp_path):
    """A function that makes a folder with `solutions/07-flows.ipynb` of the given cells."""

    def make(*sources: str, **more) -> Path:
        (tmp_path / "solutions").mkdir(exist_ok=True)
        (tmp_path / "solutions" / "07-flows.ipynb").write_text(notebook(*sources, **more))
        return tmp_path

    return make


def test_the_exercises_are_what_the_solutions_give():
    assert release.differences(ROOT) == []


@pytest.mark.parametrize("number", release.available(ROOT))
def test_an_exercise_is_in_normal_form_and_has_no_output_and_no_answer(number):
    source = next((ROOT / "solutions").glob(f"{number}-*.ipynb"))
    text = release.released(source)
    assert notebooks.normalise(nbformat.reads(text, as_version=4), notebooks.address(ROOT)) == text
    made = nbformat.reads(text, as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in made.cells if cell.cell_type == "code")
    answers = []
    for cell in nbformat.read(source, as_version=4).cells:
        for part in cell.source.split(release.BEGIN)[1:]:
            answers += [line.strip() for line in part.split(release.END)[0].splitlines()]
    answers = [line for line in answers if re.search(r"[a-z_]{2}", line)]  # a bracket or a number alone is no answer
    assert len(answers) > 10
    assert not [line for line in answers if line in text]


def test_solutions_are_cut_at_their_indentation_and_the_rest_is_kept(clone):
    root = clone(
        "a = 1\n### BEGIN SOLUTION\nb = 2\n### END SOLUTION\nc = 3",
        "def f(x):\n    '''Doc.'''\n    ### BEGIN SOLUTION\n    y = x\n    return y\n    ### END SOLUTION\n\nf(1)",
    )
    made = json.loads(release.release("07", root).read_text())
    assert ["".join(cell["source"]) for cell in made["cells"]] == [
        "a = 1\n...  # your code here\nc = 3",
        "def f(x):\n    '''Doc.'''\n    ...  # your code here\n\nf(1)",
    ]


def test_the_bytes_depend_on_what_students_see_alone(clone):
    body = "### BEGIN SOLUTION\n{}\n### END SOLUTION"
    first = release.release("07", clone(body.format("x = 1"), "check()", "check()")).read_bytes()
    output = [{"output_type": "stream", "name": "stdout", "text": "right"}]
    other = clone(
        body.format("y = 3\nx = y"), "check()", "check()", outputs=output, execution_count=9, metadata={"collapsed": True}
    )
    assert release.release("07", other).read_bytes() == first
    assert release.release(7, other).read_bytes() == first
    assert first.endswith(b"}\n")
    nbformat.validate(nbformat.reads(first.decode(), as_version=4))  # ids, of equal cells too, are unique


def test_a_change_of_the_solutions_text_or_of_the_exercise_is_noticed(clone):
    root = clone("### BEGIN SOLUTION\n1\n### END SOLUTION")
    assert not release.is_current("07", root)
    path = release.release("07", root)
    assert release.is_current("07", root)
    path.write_text(path.read_text().replace("your code", "your own code"))
    assert "gencourse release 07" in release.differences(root)[0]
    release.release("07", root)
    (root / "exercises" / "08-none.ipynb").write_text("{}")
    assert release.differences(root) == ["exercises/08-none.ipynb has no source; there is no solutions/08-none.ipynb"]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("### BEGIN SOLUTION\n1", "cell 1: '### BEGIN SOLUTION' in line 1 has no '### END SOLUTION'"),
        ("1\n### END SOLUTION", "cell 1, line 2: '### END SOLUTION' without"),
        (
            "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
            "line 2: '### BEGIN SOLUTION' inside a solution begun in line 1",
        ),
        ("## BEGIN SOLUTION\n1\n### END SOLUTION", "line 1: '## BEGIN SOLUTION' is no marker"),
        ("### BEGIN SOLUTION\n1\n### End solution", "line 3: '### End solution' is no marker"),
        ("#BEGIN SOLUTION\n1\n#END SOLUTION", "line 1: '#BEGIN SOLUTION' is no marker"),
        ("# BEGIN_SOLUTION\n1\n# END_SOLUTION", "line 1: '# BEGIN_SOLUTION' is no marker"),
        ("x = 1", "would be released with all its answers"),
    ],
)
def test_malformed_markers_are_one_sentence_and_write_nothing(clone, cell, says):
    root = clone(cell)
    with pytest.raises(ValueError) as caught:
        release.release("07", root)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (root / "exercises").exists()


def test_a_marker_in_a_text_cell_is_refused(clone):
    with pytest.raises(ValueError, match="text cell"):
        release.release("07", clone("### BEGIN SOLUTION\n1\n### END SOLUTION", cell_type="markdown"))


def test_unknown_numbers_folders_and_files_are_one_sentence(clone, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder solutions/"):
        release.release("07", tmp_path)
    with pytest.raises(ValueError, match=r"no solutions/08-\*.ipynb; there are solutions for: 07"):
        release.release("8", clone("x"))
    (tmp_path / "solutions" / "07-flows.ipynb").write_text("no json")
    with pytest.raises(ValueError, match=r"07-flows.ipynb is not a notebook"):
        release.release("07", tmp_path)
