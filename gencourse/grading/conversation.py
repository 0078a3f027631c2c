"""A conversation with a worker about one notebook: run its cells, ask its functions for answers, keep what went wrong.

Whatever arrives from the worker may be a student's invention. It is taken apart here into numbers and short lines of text;
nothing else goes further.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gencourse.grading import handins
from gencourse.grading.check import CheckResult, Result, assess
from gencourse.grading.inside import protocol
from gencourse.grading.notebook import Cell
from gencourse.grading.questions import Check, Inputs, Question
from gencourse.grading.sandbox import DidNotStart, Stopped, Worker

Record = dict[str, Any]

_TRIES = 3
_MOST_STARTS = 12  # each may take some seconds, which are not the student's
_MOST_DEATHS = 3  # of the process that has the right answers
_PLAIN = 2  # of a cell that is left to its definitions, those and the assignments that call nothing
_NOTHING = 3  # is left of a cell that was stopped as a whole, as its definitions and as its plainest ones
_PAUSE = 0.5  # seconds before another try, then four times as long
_ODD = "something else than an answer arrived from your code."


@dataclass(frozen=True)
class Limits:
    """What a submission may use: seconds for all cells and as many for all calls, of which one gets a sixth; bytes of memory.

    Only the time counts in which a student's cells run or functions are called, by the worker's `Clock`. What a worker takes to
    start, and what it waits for a processor, is ours, so that a busy machine costs nobody a point. All of it together is bounded
    as well: of `whole` seconds, cells that never end leave something for the calls of what they define.
    """

    seconds: float = 60.0
    memory: int = 2 * 2**30

    @property
    def step(self) -> float:
        """Seconds for one cell or one call."""
        return self.seconds / 6

    @property
    def whole(self) -> float:
        """Seconds for cells and calls together."""
        return 1.5 * self.seconds

    @property
    def brief(self) -> float:
        """Seconds that a cell may take without being a slow one."""
        return self.step / 10


class Conversation:
    """Asks a worker for a notebook's answers; starts another where a student's code has ended one.

    A cell that is stopped is left to its definitions, and left out where these stop it too; in the next worker all slow cells
    are. When the seconds for cells are over, each cell that is left may take a brief time, and when these have taken a quarter
    as much again, only the plainest of it is run.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        questions: Sequence[Question],
        slot: int,
        limits: Limits,
        shut_in: bool,
        trusted: bool = False,
        own: bool = False,
    ) -> None:
        self._cells, self._slot, self._limits = cells, slot, limits
        self._shut_in, self._trusted, self._own = shut_in, trusted, own
        self._imports = sorted({question.library for question in questions})
        trainings = sum((q.seconds or 0.0) * sum(not c.of for c in q.checks) for q in questions)
        self._seconds = limits.seconds + trainings  # for all calls
        self._whole = limits.whole + trainings  # for these and the cells
        self._points = {question.id: question.points for question in questions}
        # Longer than all that is asked of a worker may take; within it, each request has a limit of its own.
        self._processor = int(3 * (limits.seconds + self._seconds)) + 120
        self._spent = 0.0  # seconds, on calls
        self._spent_on_cells = 0.0
        self._slow: set[int] = set()
        self._repeats = True  # what failed, at the end
        self._worker: Worker | None = None
        self._starts = 0
        self._stopped: dict[int, Record] = {}  # the cells that were stopped, by number
        self._defining: dict[int, int] = {}  # the cells of which only definitions are run, and how strictly; 3: nothing
        self._given: dict[str, list[str]] = {}
        self._oracle: Oracle | None = None
        self.errors: list[Record] = []

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.close()

    def give(self, earlier: Sequence[Question], oracle: Oracle) -> None:
        """From now on, in a new worker, these questions' functions are the reference's: `oracle` answers for them."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        self._given = {question.function: list(question.arguments) for question in earlier}
        self._oracle = oracle
        oracle.allowed = set(self._given)
        oracle.start()  # now, and not in the middle of a call whose time is counted

    def answers(self, question: Question, inputs: Mapping[str, Inputs]) -> dict[str, dict[str, Any]]:
        """What `assess` needs: the answers to all checks of a question and to its example."""
        found: dict[str, dict[str, Any]] = {}
        stops: list[dict[str, Any]] = []
        for check in question.checks:
            if check.of:
                continue
            if len(stops) > 1 or (stops and stops[0]["stopped"][0] == "timeout"):
                found[check.name] = stops[-1]  # it would be the same again, and take as long
                continue
            found[check.name] = self._call(question, check, check.given(inputs[check.name]))
            if "stopped" in found[check.name]:
                stops.append(found[check.name])
        plain = all("value" in answer for answer in found.values())
        found["example"] = self._call(question, None, question.example) if plain and not question.seconds else {}
        return found

    def _call(self, question: Question, check: Check | None, inputs: Inputs) -> dict[str, Any]:
        gradients = list(check.gradients) if check else []
        request = {
            "do": "call",
            "function": question.function,
            "inputs": {name: protocol.packed(array) for name, array in inputs.items()},
            "gradients": gradients,
            "options": question.calling(check),
        }
        step = max(self._limits.step, question.seconds or 0.0)
        try:
            worker = self._running()
            return _plain_answer(self._ask(worker, request, step, self._oracle if self._given else None), gradients)
        except Stopped as stopped:
            self._worker = None
            return {"stopped": (stopped.status, stopped.says)}
        except protocol.ProtocolError:
            return {"stopped": ("error", _ODD)}

    def _ask(self, worker: Worker, request: Record, seconds: float, asked: Oracle | None = None) -> Record:
        """The worker's answer to a call; its time counts.

        Raises:
            Stopped: if the worker's code was stopped, or there is no time left. The worker is closed then.
        """
        left = min(self._seconds - self._spent, self._whole - self._spent - self._spent_on_cells)
        if left <= 0:
            worker.close()
            raise self._over("not tried")
        try:
            return worker.request(request, min(seconds, left), asked)
        except Stopped as stopped:
            if stopped.status == "timeout" and left < seconds:  # how much was left differs from run to run
                raise self._over("stopped") from None
            raise
        finally:
            self._spent += worker.used

    def _over(self, what: str) -> Stopped:
        return Stopped("timeout", f"{what}: the {self._whole:.3g} seconds that all cells and calls have together were over.")

    def _running(self) -> Worker:
        """A worker in which all cells have run."""
        while self._worker is None:
            if self._starts >= _MOST_STARTS:
                raise Stopped("error", "not tried: your code has ended the process too often.")
            self._worker = self._start()
            self._run_cells(self._worker)
        return self._worker

    def _start(self) -> Worker:
        self._starts += 1
        if self._starts > 1:
            for number in self._slow - self._defining.keys():
                self._defining[number] = 1
                says = f"slow: it takes more than {self._limits.brief:.3g} seconds, so where the notebook had to be run again "
                self._stopped.setdefault(number, _timeout(number, f"{says}only its definitions counted."))
        for attempt in range(_TRIES):
            with contextlib.suppress(DidNotStart) if attempt < _TRIES - 1 else contextlib.nullcontext():
                return Worker(
                    self._slot,
                    self._imports,
                    self._limits.memory,
                    self._shut_in,
                    self._trusted,
                    self._points,
                    self._own,
                    self._processor,
                )
            time.sleep(_PAUSE * 4**attempt)
        raise AssertionError

    def _run_cells(self, worker: Worker) -> None:
        errors: list[Record] = []
        whole, brief = self._limits.seconds, self._limits.brief
        for cell in self._cells:
            only_definitions = self._defining.get(cell.number, 0)
            if only_definitions == _NOTHING or not cell.source.strip():
                continue
            over = f"the cells before it took more than the {whole:.3g} seconds that all have together."
            if self._spent_on_cells >= 1.35 * whole:
                self._stopped.setdefault(cell.number, _timeout(cell.number, f"not tried: {over}"))
                continue
            if plain := self._spent_on_cells >= 1.25 * whole:
                only_definitions = max(only_definitions, _PLAIN)
            seconds = self._limits.step if self._spent_on_cells < whole else brief
            request = {"do": "cell", "cell": cell.number, "source": cell.source, "only definitions": only_definitions}
            late = _timeout(cell.number, f"stopped after {seconds:.3g} seconds; is there a loop that does not end?")
            try:
                answer = worker.request(request | {"seconds": seconds, "quick": brief}, seconds * 1.25 + 0.5)
                found = _plain_errors(answer, cell.number)
            except (Stopped, protocol.ProtocolError) as stopped:
                self._spent_on_cells += worker.used
                self._defining[cell.number] = only_definitions + 1
                status, says = (stopped.status, stopped.says) if isinstance(stopped, Stopped) else ("error", _ODD)
                record = late if status == "timeout" else {"cell": cell.number, "status": status, "message": says}
                self._stopped[cell.number] = record
                worker.close()
                self._worker = None
                return
            self._spent_on_cells += worker.used
            if worker.used > brief:
                self._slow.add(cell.number)
            if answer.get("slow") is True:
                self._defining[cell.number] = max(only_definitions, 1)
                self._stopped.setdefault(cell.number, late)
            elif plain and answer.get("left") is True:
                self._stopped.setdefault(cell.number, _timeout(cell.number, f"left to its definitions: {over}"))
            errors += found
        step = min(self._limits.step, 1.35 * whole - self._spent_on_cells)
        if errors and self._repeats and step > 0:
            try:
                mended = worker.request({"do": "try again", "seconds": step}, step * 1.25 + 0.5).get("mended")
                errors = [e for e in errors if not isinstance(mended, list) or e["cell"] not in mended]
            except (Stopped, protocol.ProtocolError):
                self._repeats = False  # it would stop again
                worker.close()
                self._worker = None
                return
            finally:
                self._spent_on_cells += worker.used
        errors = [error for error in errors if error["cell"] not in self._stopped]
        if not self._given:
            self.errors = sorted([*errors, *self._stopped.values()], key=lambda error: error["cell"])
        elif self._worker is not None:
            try:
                worker.request({"do": "replace", "given": self._given}, self._limits.step)
            except Stopped:
                self._worker = None
            finally:
                self._spent += worker.used


def _timeout(cell: int, says: str) -> Record:
    return {"cell": cell, "status": "timeout", "message": says}


def reference_source(questions: Sequence[Question]) -> str:
    """A cell, for a trusted worker only, that defines these questions' functions as the reference has them."""
    return f"""
import importlib
modules = [importlib.import_module(name) for name in {_modules(questions)!r}]
every = [question for module in modules for question in getattr(module, "QUESTIONS", ())]
missing = set({[question.id for question in questions]!r}) - {{question.id for question in every}}
if missing:
    raise LookupError(f"there is no reference of {{sorted(missing)}}")
globals().update({{question.function: question.reference for question in every}})
"""


def _modules(questions: Sequence[Question]) -> list[str]:
    """Where the course keeps the references of these questions."""
    names = {getattr(question.reference, "__module__", "") for question in questions}
    return sorted(name for name in names if name.startswith("gencourse.grading.questions."))


class Oracle:
    """The reference's answers, for a student's function that builds on an earlier question's.

    A student's code chooses what is asked, so the reference runs in a sandbox as well; none of the student's code is in it,
    and it answers for earlier questions only.
    """

    def __init__(self, questions: Sequence[Question], slot: int, limits: Limits, shut_in: bool, own: bool = False) -> None:
        imports = [*sorted({q.library for q in questions}), *_modules(questions)]
        self._make = (slot, imports, limits.memory, shut_in, True, None, own)
        self._options = {question.function: question.calling() for question in questions}
        self._cell = reference_source(questions)
        self._worker: Worker | None = None
        self._deaths = 0
        self._seconds = limits.step
        self.allowed: set[str] = set()
        self.used = 0.0  # seconds, on answers; they are the student's, who chooses what is asked

    def start(self) -> Worker:
        """Its worker, with the reference's functions defined.

        Raises:
            DidNotStart: if they could not be.
        """
        if self._worker is None:
            worker = Worker(*self._make)
            try:
                said = worker.request({"do": "cell", "cell": 0, "source": self._cell, "only definitions": False}, 60.0)
            except Stopped as stopped:
                raise DidNotStart(f"the right answers: {stopped}") from None
            if said.get("errors") != []:
                worker.close()
                raise DidNotStart(f"the right answers: {_line(str(said.get('errors')))}")
            self._worker = worker
        return self._worker

    def __call__(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a worker's question, as a frame; empty if there is none."""
        name, inputs, weights = asked.get("ask"), asked.get("inputs"), asked.get("weights")
        if not isinstance(name, str) or name not in self.allowed or not isinstance(inputs, dict) or self._deaths >= _MOST_DEATHS:
            return {}
        try:
            plain = {str(key): protocol.packed(protocol.unpacked(value)) for key, value in inputs.items()}
            request = {"do": "call", "function": name, "inputs": plain, "gradients": []}
            request["options"] = self._options[name] | {"dtype": "float64", "twice": False}
            if weights is not None:
                request |= {"do": "pull back", "weights": protocol.packed(protocol.unpacked(weights))}
            worker = self.start()
            try:
                said = worker.request(request, self._seconds)
            finally:
                self.used += worker.used
        except protocol.ProtocolError:
            return {}
        except Stopped:
            self._worker = None
            self._deaths += 1
            return {}
        return {key: value for key, value in said.items() if key == "value" or key.startswith("gradient of ")}

    def close(self) -> None:
        """End its worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


# --- what comes from the other side is data of a known form -----------------------------------------------------------


def _plain_answer(answer: Mapping[str, Any], gradients: Sequence[str]) -> dict[str, Any]:
    """The parts of an answer that `assess` reads, each of its type.

    Raises:
        ProtocolError: if it has another form.
    """
    if answer.get("absent") is True:
        return {"absent": True}
    if "not callable" in answer:
        return {"not callable": _line(answer["not callable"])}
    if "error" in answer:
        return {"error": _plain_error(answer["error"])}
    plain: dict[str, Any] = {"returned": _line(answer.get("returned")), "untouched": answer.get("untouched") is True}
    if "value" in answer:
        plain["value"] = protocol.unpacked(answer["value"]).astype(float)
        plain["repeatable"] = answer.get("repeatable") is True
        if plain["repeatable"]:
            for key in (f"gradient of {name}" for name in gradients):
                plain[key] = protocol.unpacked(answer.get(key)).astype(float)
    return plain


def _plain_error(error: Any) -> Record:
    error = error if isinstance(error, dict) else {}
    line = error.get("line")
    return {
        "type": _line(error.get("type")) or "Exception",
        "message": _line(error.get("message")),
        "line": line if type(line) is int and 0 < line < 10**6 else None,
        "code": _line(error.get("code")),
        "during": "gradient" if error.get("during") == "gradient" else "call",
    }


def _plain_errors(answer: Mapping[str, Any], cell: int) -> list[Record]:
    """The first error of a cell, if there is one: enough to find it."""
    errors = answer.get("errors")
    if not isinstance(errors, list):
        raise protocol.ProtocolError("not a list of errors")
    return [{"cell": cell, "status": "error", **_plain_error(errors[0])}] if errors else []


def _line(text: Any) -> str:
    """One short line of text, the same at every run."""
    text = text if isinstance(text, str) else ""
    text = re.sub(r"\b0x[0-9a-f]{6,}\b", "0x...", text[:400])
    return handins.printable(text)[:200]


# --- judging ----------------------------------------------------------------------------------------------------------


def judge(
    question: Question,
    inputs: Mapping[str, Inputs],
    answers: Mapping[str, Mapping[str, Any]],
    defined: Mapping[str, list[int]],
    errors: Sequence[Record],
) -> Record:
    """How a question went, as data: what `assess` says, or why there is no function to judge.

    Args:
        question, inputs, answers: as for `assess`.
        defined: the names of functions in the notebook, and the cells that define them.
        errors: of cells.
    """
    first = answers[question.checks[0].name]
    if first.get("absent"):
        return _without_function(question, defined, errors)
    if "not callable" in first:
        kind = first["not callable"]
        return refused(question, "wrong", f"{question.function} is not a function but of type {kind}; define it again.")
    usable = {name: {"stopped": ("error", _ODD)} if {"absent", "not callable"} & a.keys() else a for name, a in answers.items()}
    return _as_data(assess(question, inputs, usable))


def refused(question: Question, status: str, says: str) -> Record:
    """No points for any check, all for the same reason."""
    parts = tuple(CheckResult(check.name, status, 0, check.points, says) for check in question.checks)
    return _as_data(Result(question.id, status, 0, question.points, f"{question.id}: {says}", parts))


def _without_function(question: Question, defined: Mapping[str, list[int]], errors: Sequence[Record]) -> Record:
    name = question.function
    where = defined.get(name, [])
    defined = {other: cells for other, cells in defined.items() if other != name}
    for error in errors:
        unparsed = error.get("type") in ("SyntaxError", "IndentationError", "TabError")
        if error["cell"] in where or (not where and unparsed):
            return refused(question, error["status"], f"{name} is not defined; {_cell_error(error)}")
    if where:
        return refused(question, "missing", f"{name} is defined in cell {where[-1]}, but is gone when all cells have run.")
    near = difflib.get_close_matches(name, defined, n=1, cutoff=0.7)
    hint = f'; there is "{near[0]}", so was it renamed?' if near else "."
    return refused(question, "missing", f"there is no function {name}{hint}")


def _cell_error(error: Record) -> str:
    """What went wrong in a cell, in half a sentence."""
    if "type" not in error:
        return f"cell {error['cell']}: {error['message']}"
    line = f", line {error['line']}" if error["line"] else ""
    code = f" ({error['code']})" if error["code"] else ""
    return f"cell {error['cell']}{line}{code} raised {error['type']}: {error['message'] or 'no message'}."


def _as_data(result: Result) -> Record:
    return json.loads(json.dumps(asdict(result)))
