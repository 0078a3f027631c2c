"""Where marks may be written: never where they would be taken for hand-ins."""

import os

import pytest

from gencourse.grading import grade, handins


@pytest.fixture
def handed_in(tmp_path):
    (tmp_path / "handed in" / "ada").mkdir(parents=True)
    (tmp_path / "handed in" / "bo.ipynb").write_text("{}")
    os.symlink(tmp_path / "handed in", tmp_path / "link")
    return tmp_path / "handed in"


@pytest.mark.parametrize(
    "out", ["handed in", "handed in/.", "link", "handed in/ada/marks", "handed in/marks/09", "link/a/../ada/b"]
)
def test_marks_among_the_hand_ins_are_refused_before_anything_is_written(handed_in, tmp_path, out):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"would be taken for hand-ins of .*name a folder beside it") as caught:
        grade.grade(handed_in, "09", tmp_path / out, shut_in=False)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("out", ["marks", ".", "handed in/marks", "handed in/../marks/09"])
def test_marks_beside_them_and_in_a_folder_that_is_left_out_are_fine(handed_in, tmp_path, out):
    handins.must_be_apart(handed_in, tmp_path / out)
    found = handins.find(handed_in, "09", leave_out=tmp_path / out)
    assert [one.student for one in found] == ["ada", "bo"]
