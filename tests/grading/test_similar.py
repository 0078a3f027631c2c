"""Which hand-ins look alike: copies do, whatever names they use; two answers to one small question do not."""

import json

import toy_exercise
from test_report import record

from gencourse.grading import notebook, report, similar

TRAINING = """def fit(x, steps=500):
    model = torch.nn.Sequential(torch.nn.Linear(12, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(steps):
        batch = x[torch.randint(len(x), (64,))]
        loss = ((model(batch) - batch[:, :4]) ** 2).sum(1).mean() + 0.1 * model[0].weight.abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 100 == 0:
            print(step, float(loss.detach()))
    return torch.cat([model[0].weight, model[0].bias[:, None]], dim=1)
"""
COPY = "# my own work\n" + TRAINING.replace("    for", "    # train\n\n    for")
for old, new in (
    ("steps", "n"),
    ("model", "network"),
    ("optimiser", "opt"),
    ("step in", "i in"),
    ("step %", "i %"),
    ("(step", "(i"),
):
    COPY = COPY.replace(old, new)
OTHER = """def fit(x):
    w = torch.zeros(12, 3, requires_grad=True)
    for e in range(2000):
        z = torch.randn(len(x), 2)
        p = torch.sigmoid(z @ w[:, :2].T + w[:, 2])
        nll = -(x * p.log() + (1 - x) * (1 - p).log()).sum(1).mean()
        (g,) = torch.autograd.grad(nll, w)
        with torch.no_grad():
            w -= 0.05 * g / (1 + e / 100)
    return w.detach()
"""


def hand_in(student, *sources):
    prints = notebook.examined(toy_exercise.notebook(*sources)).prints
    return record(student, (3, 2), prints=json.loads(json.dumps(prints)))


def test_a_copy_is_found_whatever_its_names_and_honest_work_is_not():
    answer = toy_exercise.KL_RIGHT + toy_exercise.SCALED_RIGHT
    others = [
        hand_in(f"s{n}", answer, f"{OTHER}    # {n}".replace("0.05", f"0.0{n}").replace("2000", f"{n}000")) for n in range(3, 9)
    ]
    found = similar.pairs([hand_in("ada", answer, TRAINING), hand_in("bo", COPY, answer), hand_in("cem", answer), *others])
    assert [(a, b) for _, a, b in found if {a, b} & {"ada", "bo", "cem"}] == [("ada", "bo")]
    assert found[0][0] == 1


def test_what_the_exercise_gives_does_not_count_and_the_solution_is_compared():
    given, solution = (notebook.examined(toy_exercise.notebook(text)) for text in (TRAINING, OTHER))
    class_ = [hand_in("ada", TRAINING), hand_in("bo", TRAINING), hand_in("cem", OTHER)]
    assert similar.pairs(class_, given) == []
    assert [(a, b) for _, a, b in similar.pairs(class_, given, solution)] == [("cem", similar.SOLUTION)]
    assert [(a, b) for _, a, b in similar.pairs(class_)] == [("ada", "bo")]


def test_two_hand_ins_of_one_student_are_no_pair():
    assert similar.pairs([hand_in("ada", TRAINING), hand_in("ada", TRAINING)]) == []


def test_the_class_page_shows_pairs_and_gives_no_verdict():
    students = report.by_student([hand_in("ada", TRAINING), hand_in("bo", COPY)])
    page = report.report(students, toy_exercise.QUESTIONS)
    assert '<td class=n>100 %</td><td><a href="feedback/ada.html">ada</a></td><td><a href="feedback/bo.html">bo</a></td>' in page
    assert "It says nothing of why" in page


def test_what_if_is_shown_without_what_everybody_has():
    words = [f"## What if?\nMore samples?\n\nThe gap stays, says {n}.\n<b>{n}</b>" for n in range(4)]
    students = report.by_student([record(f"s{n}", (3, 2), words=text) for n, text in enumerate(words)] + [record("t", (0, 0))])
    page = report.what_if(students, toy_exercise.QUESTIONS)
    assert "More samples?" not in page
    assert "<pre>The gap stays, says 2.\n&lt;b&gt;2&lt;/b&gt;</pre>" in page
    assert "feedback/t.html" not in page


def test_the_exercise_and_its_solution_are_found_where_the_course_is(tmp_path, monkeypatch):
    (tmp_path / "exercises").mkdir()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert similar.published("90") is None
    (tmp_path / "exercises" / "90-toy.ipynb").write_bytes(toy_exercise.notebook(OTHER))
    assert similar.published("90").prints == notebook.examined(toy_exercise.notebook(OTHER)).prints
    assert similar.published("09", "solutions").defined.keys() >= {"elbo"}
    (tmp_path / "exercises" / "90-toy.ipynb").write_bytes(b"")
    assert similar.published("90") is None
