"""`gencourse grade`: a folder of notebooks in, marks and feedback out. This is the trusted side.

It reads notebooks as data, draws each student's inputs from a secret, asks a sandboxed worker for the answers, and judges
them with the same `assess` that stands behind `check`. A student's code never runs in this process, and nothing of a student's
reaches it but bytes, numbers and strings.

A hand-in's record is kept in OUT/records under a name made of all that it depends on: the notebook's bytes, the questions, the
secret, the limits and the version. A run that was killed continues with what it has.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import json
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gencourse
from gencourse import checkpoint
from gencourse.grading import handins, notebook, sandbox
from gencourse.grading import questions as all_questions
from gencourse.grading.conversation import Conversation, Limits, Oracle, judge, refused
from gencourse.grading.handins import HandIn
from gencourse.grading.notebook import Unreadable
from gencourse.grading.questions import Question
from gencourse.grading.sandbox import DidNotStart

Record = dict[str, Any]
"""What is known of one hand-in: who and when as in `HandIn`, `says`, `questions` (results as data), `cells` (errors), `notes`."""

_HERE = Path(__file__).parent
_judging = threading.Lock()  # `harness.run` sets the process's standard output aside


def grade(
    folder: Path,
    exercise: str,
    out: Path,
    *,
    jobs: int | None = None,
    limits: Limits | None = None,
    secret: bytes | None = None,
    shut_in: bool = True,
    progress: Callable[[Iterable, int], Iterable] | None = None,
) -> list[Record]:
    """Grade all hand-ins of a folder; the records of all, sorted by student.

    Args:
        folder: see `handins`.
        exercise: `"09"`.
        out: a folder; records are kept there.
        jobs: how many are graded at the same time; default the number of processors.
        limits: of one submission.
        secret: what inputs are drawn from; default the one in `out/secret`, which is made if there is none.
        shut_in: False runs students' code without a sandbox, which only trusted work may have.
        progress: wraps the results as they come, and is told how many there will be.

    Raises:
        ValueError: if there is no such exercise, or no sandbox on this machine, or students' code could read the folder or
            `out` in it; without a sandbox, if the code would run as root.
        FileNotFoundError: if there is nothing to grade.
        ValueError: if `out` is the folder itself, or inside a hand-in.
    """
    every = all_questions.of_exercise(exercise)
    limits = limits or Limits()
    if shut_in and (problem := sandbox.problem()):
        raise ValueError(f"{problem}\nTrusted work can be graded without it: --unsafe-no-sandbox")
    handins.must_be_apart(folder, out)
    if not shut_in and (problem := sandbox.root_problem()):
        raise ValueError(problem)
    for place in (folder, out) if shut_in else ():
        if (shown := sandbox.reaches(place)) is not None:
            raise ValueError(
                f"{place} lies in {shown}, which students' code can read, as the interpreter needs it; move it elsewhere."
            )
    found = handins.find(folder, exercise, leave_out=out)
    secret = secret if secret is not None else _own_secret(out)
    jobs = jobs or os.cpu_count() or 1
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(jobs):
        slots.put(slot)

    def one(hand_in: HandIn) -> Record:
        slot = slots.get()
        try:
            return _record(hand_in, every, out, secret, slot, limits, shut_in)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(one, hand_in) for hand_in in found]
        try:
            done = as_completed(waiting)
            for future in done if progress is None else progress(done, len(waiting)):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in waiting]


def seed(secret: bytes, student: str, question: str) -> int:
    """What a student's inputs of a question are drawn from: nobody without the secret knows it."""
    return int.from_bytes(hmac.digest(secret, f"{student}\0{question}".encode(), "sha256"), "big")


def read_secret(path: Path) -> bytes:
    """The secret in a file.

    Raises:
        ValueError: if there is too little in it to be one.
        FileNotFoundError: if there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} with the secret; make one: openssl rand -hex 32 > {path}")
    secret = path.read_bytes().strip()
    if len(secret) < 16:
        raise ValueError(f"the secret in {path} is shorter than 16 characters; make one: openssl rand -hex 32 > {path}")
    return secret


def grade_notebook(
    content: bytes,
    every: Sequence[Question],
    seeds: Mapping[str, int],
    *,
    slot: int,
    limits: Limits,
    shut_in: bool = True,
    own: bool = False,
) -> Record:
    """Grade the bytes of one notebook: `questions`, `cells`, `notes`, and what is compared: `prints` and `words`.

    With `own` it is the notebook of the user who calls this, which may run as this user, even root, if it is not shut in.

    Raises:
        Unreadable: if it is no notebook.
        DidNotStart: if the sandbox did not start, three times.
    """
    made = notebook.read(content, [q.function for q in every], every[0].id.partition(".")[0])
    cells, defined = made.cells, made.defined
    blamed = {**defined, **made.attempted}
    notes = [f"Cell {number} begins with {word}, so it was left out." for number, word in made.left_out]
    notes += [
        f"{q.function} is defined more than once, in cells {', '.join(map(str, defined[q.function]))}; the last one counts."
        for q in every
        if len(defined.get(q.function, ())) > 1
    ]
    with Conversation(cells, every, slot, limits, shut_in, own=own) as conversation:
        results = []
        for question in every:
            inputs = question.draw(seeds[question.id])
            answers = conversation.answers(question, inputs)
            with _judging:
                results.append(judge(question, inputs, answers, blamed, conversation.errors))
        errors = conversation.errors
        with contextlib.closing(Oracle(every, slot, limits, shut_in, own)) as oracle:
            for place, question in enumerate(every):
                wrong = {q.function: q for q, r in zip(every[:place], results, strict=False) if r["points"] < r["out_of"]}
                needed = [wrong[name] for name in wrong if name in made.uses[question.function]]
                if needed and question.evaluates and results[place]["points"] < question.points:
                    results[place] = _followed(question, results[place], needed, conversation, oracle, seeds, blamed)
    known = {"prints": made.prints, "words": made.words}
    return {"questions": results, "cells": errors, "notes": notes, **known}


def _followed(
    question: Question,
    result: Record,
    needed: Sequence[Question],
    conversation: Conversation,
    oracle: Oracle,
    seeds: Mapping[str, int],
    defined: Mapping[str, list[int]],
) -> Record:
    """The result with the reference's answers to the earlier questions that this one builds on, if that is better."""
    conversation.give(needed, oracle)
    inputs = question.draw(seeds[question.id])
    answers = conversation.answers(question, inputs)
    with _judging:
        again = judge(question, inputs, answers, defined, ())
    if again["points"] <= result["points"]:
        return result
    which = " and ".join(q.id for q in needed)
    points = again["points"] - result["points"]
    more = "1 more point" if points == 1 else f"{points} more points"
    note = f"Your function builds on {which}. With the right answer to {which} in place of yours it earns {more}."
    return again | {"notes": [note]}


def _record(
    hand_in: HandIn, every: Sequence[Question], out: Path, secret: bytes, slot: int, limits: Limits, shut_in: bool
) -> Record:
    """The record of a hand-in: from an earlier run, if nothing has changed since."""
    about: Record = {name: getattr(hand_in, name) for name in ("student", "name", "file", "id", "platform", "submitted")}
    about |= {"says": "", "cells": [], "notes": [], "sandbox": shut_in}
    try:
        content = hand_in.read()
        path = out / "records" / f"{_key(content, hand_in, every, secret, limits, shut_in)}.json"
        if (kept := _kept(path)) is not None:
            return about | kept
        seeds = {question.id: seed(secret, hand_in.student, question.id) for question in every}
        record = grade_notebook(content, every, seeds, slot=slot, limits=limits, shut_in=shut_in)
    except Unreadable as error:
        return about | {"says": str(error), "questions": [refused(question, "unreadable", str(error)) for question in every]}
    except DidNotStart as error:
        return about | _not_graded(every, f"the sandbox did not start ({handins.printable(str(error))})")
    except Exception as error:  # whatever a hand-in brings, the others are graded, and this one is not a zero
        return about | _not_graded(every, f"the grader failed ({type(error).__name__}: {handins.printable(str(error))})")
    checkpoint.write_json(path, record)
    return about | record


def _not_graded(every: Sequence[Question], why: str) -> Record:
    says = f"not graded: {why}; grade again."
    return {"says": says, "questions": [refused(question, "grader_error", says) for question in every]}


def _key(content: bytes, hand_in: HandIn, every: Sequence[Question], secret: bytes, limits: Limits, shut_in: bool) -> str:
    stands = [hand_in.student, every[0].id, gencourse.__version__, asdict(limits), shut_in, _code()]
    return hmac.digest(secret, json.dumps(stands).encode() + b"\0" + content, "sha256").hex()


@functools.cache
def _code() -> str:
    """A hash of the grader and the questions: a corrected question or sentence grades anew."""
    digest = hashlib.sha256()
    for path in sorted(path for path in _HERE.rglob("*") if path.suffix in (".py", ".toml")):
        digest.update(path.relative_to(_HERE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _kept(path: Path) -> Record | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _own_secret(out: Path) -> bytes:
    path = out / "secret"
    if not path.exists():
        checkpoint.write_atomically(path, (secrets.token_hex(32) + "\n").encode())
        path.chmod(0o600)
    return read_secret(path)
