"""Who handed in what, and where marks may be written: never where they would be taken for hand-ins."""

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


def people(folder, *names):
    """Each student's files; a name that ends in `/` is a folder with a notebook in it."""
    for name in names:
        if name.endswith("/"):
            (folder / name).mkdir(parents=True)
            name += "work.ipynb"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    found = {}
    for one in handins.find(folder, "09"):
        found.setdefault((one.student, one.name), []).append(one.file)
    return found


@pytest.mark.parametrize(
    ("names", "students"),
    [
        (  # Moodle: folders, files, drafts, participants without a name
            [
                "Wei Zhang_4711_assignsubmission_file/",
                "Wei Zhang_4712_assignsubmission_file_/",
                "Wei Zhang_4712_assignsubmission_onlinetext/",
                "Participant_4713_assignsubmission_file_work.ipynb",
            ],
            {
                ("moodle-4711", "Wei Zhang"): 1,
                ("moodle-4712", "Wei Zhang"): 2,
                ("moodle-4713", "Participant"): 1,
            },
        ),
        (  # Canvas: a name of two people, one of them late and with two files, an anonymous one
            [
                "zhangwei_81234_900001_work.ipynb",
                "zhangwei_81999_900002_work.ipynb",
                "zhangwei_LATE_81234_900003_my_work.ipynb",
                "zhangwei_81999_900007_work-1.ipynb",
                "bo_LATE_12_345_09-x.ipynb",
                "anon_Ab1xY_900004_work.ipynb",
            ],
            {
                ("canvas-81234", "zhangwei"): 2,
                ("canvas-81999", "zhangwei"): 2,
                ("canvas-12", "bo"): 1,
                ("canvas-ab1xy", "Ab1xY"): 1,
            },
        ),
        (["smithjohn_1111_2222_work.ipynb", "smithjohn_3333_4444_work.ipynb"], {"canvas-1111": 1, "canvas-3333": 1}),
        (  # Brightspace
            [*(f"{n}-77 - Wei Zhang - Nov {day}, 2026 1015 AM/" for n, day in ((123, 24), (123, 25), (124, 24))), "index.html"],
            {"brightspace-123-77": 2, "brightspace-124-77": 1},
        ),
        (  # Blackboard, with its receipts
            [f"Exercise 9_{who}_attempt_2026-11-24-10-15-{n}{rest}" for who, n, rest in (
                ("zhang_w", 30, "_work.ipynb"), ("zhang_w", 31, "_work.ipynb"), ("li_w", 32, "_work.ipynb"), ("li_w", 32, ".txt"),
                ("cem", 33, ".txt"),
            )],
            {"blackboard-exercise 9_zhang_w": 2, "blackboard-exercise 9_li_w": 1, "blackboard-exercise 9_cem": 1},
        ),
        (  # GitHub Classroom: a repository each
            ["exercise-09-ada/", "exercise-09-bo/"],
            {"exercise-09-ada": 1, "exercise-09-bo": 1},
        ),
        # What looks like Canvas, and is a course, a year, a date, a team
        *(
            (names, {name.removesuffix(".ipynb"): 1 for name in names})
            for names in (
                ["cs231n_2022_09_ada.ipynb", "cs231n_2022_09_bob.ipynb", "cs231n_2022_13_ada.ipynb"],
                ["ws_2022_23_ada.ipynb", "ws_2022_23_bob.ipynb"],
                ["ws_2022_2023_ada.ipynb", "ws_2022_2023_bob.ipynb"],
                ["ws_2022_12345_ada.ipynb", "ws_2022_12346_bob.ipynb"],
                ["cs101_1_12345_ada.ipynb", "cs101_1_12346_bob.ipynb", "cs101_2_12347_cem.ipynb"],
                ["hw_202209_12345_ada.ipynb", "hw_202209_12346_bob.ipynb"],
                ["a_81234_12345_x.ipynb", "b_81234_12346_x.ipynb"],
                ["2026_11_24_ada.ipynb", "2026_11_24_bob.ipynb"],
                ["team-09.ipynb", "team-10.ipynb", "team_1_2_ada.ipynb", "student_09.ipynb"],
                ["strauss.ipynb", "strauß.ipynb"],
            )
        ),
        (["ada (1).ipynb", "ADA-09.ipynb", "ada.ipynb.txt", "ada.zip"], {("ada", "ADA"): 1, ("ada", "ada"): 3}),
        (["İpek.ipynb", "ipek.ipynb", "cafe\u0301.ipynb", "café-09.ipynb"], {"i̇pek": 1, "ipek": 1, "café": 2}),
    ],
)  # fmt: skip
def test_two_people_never_become_one_and_one_persons_attempts_do(tmp_path, names, students):
    found = people(tmp_path, *names)
    by_student = {}
    for (student, name), files in found.items():
        key = (student, name) if (student, name) in students else student
        by_student[key] = by_student.get(key, 0) + len(files)
    assert by_student == students


def test_a_gradescope_export_is_read_with_its_table(tmp_path):
    table = """---
submission_101:
  :submitters:
  - :name: Wei Zhang
    :sid: '1'
    :email: wei1@example.org
  :created_at: 2026-11-24 10:15:30.000000000 Z
submission_102:
  :submitters:
  - :name: Wei Zhang
    :sid: '2'
    :email: Wei2@example.org
"""
    export = tmp_path / "assignment_5_export"
    for n in (101, 102, 103):
        (export / f"submission_{n}").mkdir(parents=True)
        (export / f"submission_{n}" / "work.ipynb").write_text("{}")
    (export / "submission_metadata.yml").write_text(table)
    for folder, prefix in ((tmp_path, "assignment_5_export/"), (export, "")):
        found = handins.find(folder, "09")
        assert [(one.student, one.name, one.file) for one in found] == [
            ("gradescope-103", "103", f"{prefix}submission_103/work.ipynb"),
            ("gradescope-wei1@example.org", "Wei Zhang", f"{prefix}submission_101/work.ipynb"),
            ("gradescope-wei2@example.org", "Wei Zhang", f"{prefix}submission_102/work.ipynb"),
        ]
    assert found[1].submitted == "2026-11-24 10:15:30.000000000 Z"


def test_what_a_platform_knows_of_the_time_is_kept(tmp_path):
    (tmp_path / "Ex_ada_attempt_2026-11-24-10-15-30_work.ipynb").write_text("{}")
    (one,) = handins.find(tmp_path, "09")
    assert (one.name, one.submitted) == ("ada", "2026-11-24T10:15:30")


def test_a_folder_with_too_many_notebooks_has_a_row_that_says_so(tmp_path):
    for n in range(51):
        (tmp_path / "in" / "ada").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "ada" / f"{n}.ipynb").write_text("{}")
    (one,) = handins.find(tmp_path / "in", "09")
    with pytest.raises(handins.Unreadable, match="more than 50 notebooks"):
        one.read()
