"""Which code of a hand-in is run: read as data, whatever the file is."""

import io
import json
import os
import zipfile

import pytest
import toy_exercise

from gencourse.grading import notebook
from gencourse.grading.notebook import Cell, Unreadable, without_magics


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("x = 1\n", "x = 1\n"),
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("if a:\n    !ls -la | grep 'x\n    x = 1", "if a:\n    pass\n    x = 1"),
        ("!pip install a \\\n  b \\\n  c\nx = 1", "pass\n\n\nx = 1"),
        ("files = !ls\nx = %pwd", "files = None\nx = None"),
        ("np.log?\n?np.log\nnp.log??", "pass\npass\npass"),
        ("y = (10\n% 3)", "y = (10\n% 3)"),  # a remainder, not a magic
        ("%time x\ny = (10\n% 3)", "pass\ny = (10\n% 3)"),
        ('s = """\n%no magic\n!none\n"""', 's = """\n%no magic\n!none\n"""'),
        ("\n%%time\nx = 1", "\n\nx = 1"),
        ("%%capture out\nx = 1", "\nx = 1"),
        ("%%bash\nrm -rf /", ""),
        ("%%writefile a.py\nx = 1", ""),
        ("def f(:\n    pass", "def f(:\n    pass"),  # an error stays the student's
        ("x = 1\r\n%time\r\n", "x = 1\npass\n"),
    ],
)
def test_what_only_a_notebook_understands_is_left_out_line_for_line(source, made):
    assert without_magics(source) == made
    if made:
        assert made.count("\n") == source.replace("\r\n", "\n").count("\n")


def test_the_last_definition_counts_but_an_empty_one_never_replaces_one_that_is_filled():
    stub = '@decorated\ndef f(x):\n    """Doc."""\n    ...  # your code here\n\ny = 1'
    cells = notebook.runnable([Cell(1, "def f(x):\n    return 1"), Cell(3, "def f(x):\n    return 2"), Cell(7, stub)], ["f"])
    assert notebook.definitions(cells) == {"f": [1, 3]}
    assert cells[2].source == "\n\n\n\n\ny = 1"
    assert notebook.runnable([Cell(7, stub)], ["f"])[0].source == stub
    assert notebook.runnable([Cell(1, "def g():\n    pass"), Cell(2, "def g():\n    return 1")], ["f"])[0].source


def test_uses_follows_the_notebooks_own_functions():
    cells = [
        Cell(1, "def a(x):\n    return helper(x)"),
        Cell(2, "def helper(x):\n    return b(x) + np.pi\ndef b(x):\n    return a(x)"),
    ]
    assert notebook.uses(cells, "a") == {"helper", "b", "np", "x"}
    assert notebook.uses(cells, "nothing") == set()


def test_any_version_and_any_metadata_give_the_same_cells():
    sources = [cell.source for cell in notebook.parse(toy_exercise.HONEST)]
    assert len(sources) == 5
    bare = json.dumps({"cells": [{"cell_type": "code", "source": s.splitlines(True)} for s in sources]}).encode()
    old = json.dumps({"worksheets": [{"cells": [{"cell_type": "code", "input": s} for s in sources]}]}).encode()
    for content in (bare, old, b"\xef\xbb\xbf" + bare):
        assert [cell.source for cell in notebook.parse(content)] == sources


def test_files_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.ipynb")
    os.symlink("/etc/passwd", tmp_path / "link.ipynb")
    for name, says in (("pipe.ipynb", "not an ordinary file"), ("link.ipynb", "a link"), ("none.ipynb", "cannot be read")):
        with pytest.raises(Unreadable, match=says):
            notebook.read_bytes(tmp_path / name)
    with pytest.raises(Unreadable, match="not an ordinary file"):
        notebook.read_bytes(tmp_path)


def test_an_archive_that_unpacks_to_gigabytes_is_refused():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("bomb.ipynb", bytes(60 * 2**20))
    assert len(held.getvalue()) < 10**5
    with pytest.raises(Unreadable, match="larger than 50 MB"):
        notebook.unzipped(held.getvalue())
    with pytest.raises(Unreadable, match="MB of code"):
        notebook.parse(toy_exercise.notebook("x" * 3 * 2**20))


def test_an_archive_with_one_damaged_byte_is_unreadable_and_nothing_else():
    """Wherever the damage is: in a name, in the compressed data, in the sums that check it."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("work.ipynb", json.dumps({"cells": [], "filler": list(range(500))}))
    whole = held.getvalue()
    refused = 0
    for place in range(30, len(whole) - 30):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        try:
            notebook.unzipped(bytes(damaged))
        except notebook.Unreadable:
            refused += 1
    assert refused > len(whole) / 2
