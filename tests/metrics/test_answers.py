"""The file of answers: what is written is read again, and what is wrong in it is named with its place."""

import json

import pytest

from gencourse.metrics.answers import FORMAT, Answer, Answers, read_answers, write_answers

ROWS = (
    Answer("a", "test-1", "real", "fake"),
    Answer("b", "gan-1", "fake", "real", 250.5, "gan"),
    Answer("a", "vae-7", "fake", "fake", 90, "vae"),
)


def test_answers_are_read_as_they_were_written(tmp_path):
    answers = Answers("time", ROWS)
    write_answers(tmp_path / "all.json", answers)
    assert read_answers(tmp_path / "all.json") == answers
    assert [answer.wrong for answer in answers.answers] == [True, True, False]


def test_the_format_of_the_documentation_is_read(tmp_path):
    text = """{"format": "gencourse-hype-1", "test": "infinity", "answers": [
      {"rater": "7f3a", "image": "dcgan-012", "kind": "fake", "answer": "real", "exposure_ms": null, "model": "dcgan"},
      {"rater": "7f3a", "image": "test-107", "kind": "real", "answer": "real"}]}"""
    (tmp_path / "a.json").write_text(text)
    answers = read_answers(tmp_path / "a.json")
    assert answers.test == "infinity"
    assert answers.answers == (
        Answer("7f3a", "dcgan-012", "fake", "real", None, "dcgan"),
        Answer("7f3a", "test-107", "real", "real", None, None),
    )


def test_several_readers_files_are_one_test(tmp_path):
    for i, row in enumerate(ROWS):
        write_answers(tmp_path / f"{i}.json", Answers("infinity", (row,)))
    answers = read_answers(*(tmp_path / f"{i}.json" for i in range(3)))
    assert answers.answers == ROWS
    assert answers.by_rater() == {"a": [ROWS[0], ROWS[2]], "b": [ROWS[1]]}
    assert answers.about("vae").answers == (ROWS[0], ROWS[2])
    with pytest.raises(ValueError, match=r"no answers are about 'vea'; there are some about: gan, vae\."):
        answers.about("vea")


def row(**changes):
    return {"format": FORMAT, "test": "infinity", "answers": [{**Answer("a", "x", "real", "real")._asdict(), **changes}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", r"a\.json is no JSON"),
        ([], r'has no "format": "gencourse-hype-1"'),
        ({"format": "hype-2", "answers": []}, r'has no "format"'),
        ({**row(), "test": "both"}, r'"test" must be "infinity" or "time", not \'both\''),
        ({**row(), "answers": []}, r"answers of one test, not 0 answers"),
        ({**row(), "answers": [3]}, r"answer 1: expected names and values, not 3"),
        (row(rater=""), r"a\.json, answer 1: 'rater' must be a name, not ''"),
        (row(image=7), r"'image' must be a name, not 7"),
        (row(kind="true"), r"'kind' must be 'real' or 'fake', not 'true'"),
        (row(answer=None), r"'answer' must be 'real' or 'fake', not None"),
        (row(exposure_ms=-5), r"'exposure_ms' must be milliseconds or null, not -5"),
        (row(exposure_ms="500"), r"not '500'"),
        (row(exposure_ms=True), r"not True"),
        (row(model=3), r"'model' must be a name or null, not 3"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(content, message, tmp_path):
    (tmp_path / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_answers(tmp_path / "a.json")


def test_answers_of_two_tests_are_not_mixed(tmp_path):
    for test in ("infinity", "time"):
        write_answers(tmp_path / f"{test}.json", Answers(test, ROWS))
    with pytest.raises(ValueError, match="6 answers of 2 tests"):
        read_answers(tmp_path / "infinity.json", tmp_path / "time.json")
