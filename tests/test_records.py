"""The records of the comparisons: there for every chapter, and written as they are read."""

import json
from pathlib import Path

import pytest

from gencourse import __version__, records

NAMES = records.names()


@pytest.mark.parametrize("name", NAMES)
def test_a_record_belongs_to_a_chapter_that_loads_it(name):
    (chapter,) = (Path(__file__).parents[1] / "book").glob(f"{name[:2]}-*.ipynb")
    sources = ["".join(cell["source"]) for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]]
    assert any(f'records.load("{name}")' in source for source in sources)


@pytest.mark.parametrize("name", NAMES)
def test_a_record_written_anew_is_the_same_file(name, tmp_path):
    path = tmp_path / "again.json"
    records.write(path, records.load(name))
    assert path.read_text() == (Path(records.__file__).parent / f"{name}.json").read_text()
    assert len(path.read_text().splitlines()) == len(records.load(name)["runs"]) + 3  # a run a line


def test_a_benchmark_goes_on_with_the_runs_of_its_file_and_says_what_makes_them(tmp_path):
    path = tmp_path / "new.json"
    record = records.begin(path, threads=1)
    assert record["runs"] == [] and record["made with"]["gencourse"] == __version__ and record["made with"]["threads"] == 1
    record["runs"].append({"seed": 0, "score": 0.5})
    records.write(path, record)
    assert records.begin(path, device="another")["runs"] == [{"seed": 0, "score": 0.5}]
    assert records.begin(path, device="another")["made with"]["device"] == "another"
    records.write(None, record)  # a trial without --out leaves nothing
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["05", "../05-experiments", "05-experiments.json", "__init__"])
def test_a_name_without_a_record_is_told_those_that_there_are(name):
    with pytest.raises(ValueError, match=r"there is no record .*; there are: 02-exact-world, 05-experiments, .*13-ring"):
        records.load(name)
