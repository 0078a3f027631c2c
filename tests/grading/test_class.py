"""A class of sixty, whose marks were written down beforehand: by `gencourse grade` and by the archive for Gradescope."""

import shutil

import class_of_sixty
import pytest
from class_of_sixty import CLASS, FULL, NAMES

from gencourse.grading import gradescope, questions, sandbox

# One of each kind, in the exercise that has the least to train: in most, and in all of these, students share the machine.
SLICE = {
    "03": ["Wei Zhang_4711_assignsubmission_file/work.ipynb", "Wei Zhang_4712_assignsubmission_file/work.ipynb"],
    "09": ["rob.zip", "oli.ipynb"],
}


def test_the_class_is_one():
    assert len(CLASS) == 60
    assert len({(one.exercise, one.place) for one in CLASS}) == 60
    for number, names in NAMES.items():
        every = questions.of_exercise(number)
        assert [question.function for question in every] == names
        assert tuple(question.points for question in every) == FULL[number]
        marks = [one.total for one in CLASS if one.exercise == number]
        assert 0 in marks and sum(FULL[number]) in marks and len(set(marks)) >= 5
        assert all(
            0 <= got <= of for one in CLASS if one.exercise == number for got, of in zip(one.points, FULL[number], strict=True)
        )


@pytest.fixture
def handed_in(tmp_path):
    """A function that writes a part of the class, and gives the folder."""

    def write(chosen=None):
        top = tmp_path / "handed-in"
        class_of_sixty.write(top, chosen)
        (top / "secret").write_text("a secret of the class of sixty\n")
        return top

    return write


def test_a_few_of_them(handed_in, tmp_path):
    top = handed_in([one for one in CLASS if one.place in SLICE.get(one.exercise, ())])
    for number in SLICE:
        assert class_of_sixty.graded(top / number, number, tmp_path / "marks" / number, jobs=2) == []


@pytest.mark.weekly
@pytest.mark.parametrize("jobs", [1, 8])
@pytest.mark.parametrize("user", [None, 65534], ids=["me", "nobody"])
def test_the_marks_are_those_that_were_written_down(user, jobs, handed_in, tmp_path):
    if user is not None and (not sandbox._is_root() or shutil.which("setpriv") is None or class_of_sixty.interpreter() is None):
        pytest.skip("needs to be root, setpriv and an interpreter that all may read")
    for folder in (tmp_path, *tmp_path.parents[:2]) if user is not None else ():
        folder.chmod(0o755)
    top = handed_in()
    wrong = [
        line
        for number in FULL
        for line in class_of_sixty.graded(top / number, number, tmp_path / "marks" / number, jobs=jobs, user=user)
    ]
    assert wrong == []


@pytest.mark.weekly
def test_the_archives_marks_are_the_same(tmp_path):
    if not sandbox._is_root() or shutil.which("unshare") is None or class_of_sixty.interpreter() is None:
        pytest.skip("needs to be root, unshare and an interpreter that all may read")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    archives = {number: gradescope.archive(number, tmp_path / f"{number}.zip", b"0123456789abcdef") for number in FULL}
    wrong = []
    for i, one in enumerate(CLASS):
        wrong += class_of_sixty.gradescoped(one, archives[one.exercise], tmp_path / str(i))
        shutil.rmtree(tmp_path / str(i))
    assert wrong == []
