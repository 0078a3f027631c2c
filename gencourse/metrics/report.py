"""Any models of one data set on the same footing: every metric, with an interval and a rank.

All are judged on the same test examples and on as many samples: n of each. Where more samples are drawn, they are cut into parts
of n and the numbers averaged. Features are those of a classifier of the data, which is scored itself, so that the numbers compare
with each other and with nothing published. Classes are drawn as often as they are in the training set.

The intervals are over the test examples and the samples together, by a grouped jackknife (`gencourse.metrics.judge` says why not
by the bootstrap). Ranks are drawn from them with the test examples in common, so that two models far apart on the same examples
keep their order however wide the intervals are. No interval knows of another training run: compare seeds for that.
"""

import html
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.metrics.judge import Judge, Sampler, Scores

if TYPE_CHECKING:
    from gencourse.data import Dataset
    from gencourse.metrics.classifier import ScoredClassifier


class Column(NamedTuple):
    """A metric of the table: its name, its heading, the cost by which it ranks, of which the least is best, and its range."""

    name: str
    title: str
    cost: Callable[[Any], Any]
    decimals: int = 2
    range: tuple[float, float] = (0.0, 1.0)

    def within(self, *values: float) -> tuple[float, ...]:
        """The values, cut off at the ends of the range."""
        return tuple(min(max(value, self.range[0]), self.range[1]) for value in values)


#: The metrics in the table's order; a share that should be 1/2 ranks by its distance from there.
COLUMNS = (
    Column("nll", "NLL (nats)", lambda v: v, 1, (-math.inf, math.inf)),
    Column("frechet_ratio", "Fréchet ratio", lambda v: v, 2, (0.0, math.inf)),
    Column("kernel_distance", "kernel distance", lambda v: v, 3, (-math.inf, math.inf)),
    Column("precision", "precision", lambda v: -v),
    Column("recall", "recall", lambda v: -v),
    Column("density", "density", lambda v: -v, 2, (0.0, math.inf)),
    Column("coverage", "coverage", lambda v: -v),
    Column("inception_score", "inception score", lambda v: -v, 2, (1.0, math.inf)),
    Column("two_sample", "1-NN accuracy", lambda v: abs(v - 0.5)),
    Column("copies", "copies", lambda v: v),
)


@dataclass(frozen=True)
class Judged:
    """A value, its 95 % interval, its rank among the rows that have one, and the best and worst rank that stay possible."""

    value: float
    low: float
    high: float
    rank: int
    ranks: tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One sampler's numbers.

    Attributes:
        name: as it was given.
        values: by the names of `COLUMNS`; a metric that it has not is missing.
        likelihood: what the NLL is: "exact", "bound" (one draw, or dequantised data) or "estimate"; "" without one. What is
            "given the label" is of log p(x | y), up to log K lower than that of p(x), and compares with its like.
        parts: how many sets of n samples the values are means over.
        seconds: of processor time for 1000 samples, 0 where samples were given; a fact of this machine.
    """

    name: str
    values: dict[str, Judged]
    likelihood: str
    parts: int
    seconds: float


@dataclass(frozen=True, repr=False)
class Report:
    """What `report` found: a table that prints, and shows itself in a notebook.

    Attributes:
        rows: one a sampler, in the order in which they were given.
        data: the name of the data set.
        n: test examples, and samples in a part.
        accuracy: of the classifier whose features were compared; None where the features are the data themselves.
    """

    rows: list[Row]
    data: str
    n: int
    accuracy: float | None

    def records(self) -> list[dict[str, Any]]:
        """The rows as plain data, for a JSON file: a list `[value, low, high, rank, best rank, worst rank]` a metric."""
        return [
            {"name": row.name, "likelihood": row.likelihood, "parts": row.parts}
            | {name: [round(v, 4) for v in (j.value, j.low, j.high)] + [j.rank, *j.ranks] for name, j in row.values.items()}
            for row in self.rows
        ]

    @property
    def columns(self) -> list[Column]:
        """Those that a row has a value of."""
        return [column for column in COLUMNS if any(column.name in row.values for row in self.rows)]

    @property
    def caption(self) -> str:
        """What the numbers are of, in a sentence."""
        judge = "the data themselves" if self.accuracy is None else f"a classifier with {self.accuracy:.1%} on the test set"
        return (
            f"{self.data}: {self.n} samples a part against {self.n} test examples, features of {judge}; "
            "half a 95 % interval over both after ±, the rank in brackets."
        )

    def __repr__(self) -> str:
        columns = self.columns
        lines = [["", *(column.title for column in columns)]]
        for row in self.rows:
            lines.append([row.name, *(_cell(row.values.get(column.name), column) for column in columns)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
            for line in lines
        ]
        kinds = [f"{row.name}: {row.likelihood}" for row in self.rows if row.likelihood]
        return "\n".join([self.caption, *table, *(["NLL: " + "; ".join(kinds)] if kinds else [])])

    def _repr_html_(self) -> str:
        columns = self.columns
        head = "".join(f'<th scope="col">{html.escape(column.title)}</th>' for column in columns)
        body = []
        for row in self.rows:
            cells = []
            for column in columns:
                judged = row.values.get(column.name)
                text = _cell(judged, column)
                if judged is not None and judged.rank == 1:
                    text = f"<strong>{text}</strong>"
                note = f"<br><small>{html.escape(row.likelihood)}</small>" if column.name == "nll" and row.likelihood else ""
                cells.append(f"<td>{text}{note}</td>")
            body.append(f'<tr><th scope="row">{html.escape(row.name)}</th>{"".join(cells)}</tr>')
        return (
            f"<table><caption>{html.escape(self.caption)}</caption><thead><tr><td></td>{head}</tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table>"
        )


def report(
    models: Mapping[str, Sampler],
    data: "Dataset",
    *,
    samples: int | None = None,
    classifier: "ScoredClassifier | None" = None,
    groups: int = 20,
    likelihood_samples: int | Mapping[str, int] = 1000,
    seed: int = 0,
) -> Report:
    """Compare models of one data set by likelihood, Fréchet ratio, kernel distance, precision, recall, density, coverage,
    inception score, two-sample accuracy and copies of training examples.

    `copies` has no best value: a sampler that learned the distribution has .05, one that copies 1, and noise 0.

    Args:
        models: by the names of their rows; a model, a function `(n, generator) -> samples`, or samples.
        data: with test examples, and labels if they are images; points and images without labels are their own features.
        samples: of each model; None takes four times the test set. Given samples may be fewer, but as many as there are test
            examples.
        classifier: whose features are compared; None takes `scored_classifier(data)`.
        groups: of test examples, and of samples, that the jackknife leaves out in turn.
        likelihood_samples: draws for the estimate of an `Approximate` model; by name for some, as `{"ddpm": 1}`, of 1000 for the
            others. With one draw of a variational model it is the bound.
        seed: of all that is drawn.

    Raises:
        ValueError: if there is no model, one is of another space, its samples are too few, or it needs conditions that the data
            have not.
    """
    if not models:
        raise ValueError("report: there are no models to compare.")
    wanted = 4 * len(data.test) if samples is None else arguments.least_integer("report: samples", samples, 20)
    n = min(len(data.test), len(data.train), wanted)
    if n < 20:
        raise ValueError(
            f"report: {data.name!r} has {len(data.test)} test and {len(data.train)} training examples; 20 are the least."
        )
    groups = min(n // 10, arguments.least_integer("report: groups", groups, 2))
    judge = Judge(data, n, classifier, groups, arguments.seed("report: seed", seed))
    draws = likelihood_samples if isinstance(likelihood_samples, Mapping) else dict.fromkeys(models, likelihood_samples)
    found = [judge.scores(name, sampler, wanted, draws.get(name, 1000)) for name, sampler in models.items()]
    rows = [Row(name, {}, one.likelihood, one.parts, one.seconds) for name, one in zip(models, found, strict=True)]
    for column in COLUMNS:
        having = [i for i, one in enumerate(found) if column.name in one.values]
        if having:
            judged = _judged([found[i] for i in having], column, seed)
            for i, value in zip(having, judged, strict=True):
                rows[i].values[column.name] = value
    return Report(rows, data.name, judge.n, None if judge.classifier is None else judge.classifier.accuracy)


def _judged(scores: list[Scores], column: Column, seed: int) -> list[Judged]:
    """Values, intervals and ranks; ranks from 1000 Gaussian draws, in which a group of test examples moves all together."""
    generator = torch.Generator("cpu").manual_seed(seed)

    def gaussian(moves: Tensor) -> Tensor:
        return torch.randn(1000, len(moves), generator=generator, dtype=torch.float64, device="cpu")

    common = gaussian(scores[0].by_test[column.name])
    values, errors, draws = [], [], []
    for one in scores:
        value, test, samples = one.values[column.name], one.by_test[column.name], one.by_samples[column.name]
        values.append(value)
        errors.append(float(test.square().sum() + samples.square().sum()) ** 0.5)
        draws.append(value + common @ test + gaussian(samples) @ samples)
    ranks = _ranks(column.cost(torch.tensor(values, dtype=torch.float64, device="cpu"))[:, None])[:, 0].tolist()
    drawn = _ranks(column.cost(torch.stack(draws))).double()
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64, device="cpu")
    best, worst = drawn.quantile(ends, dim=1, interpolation="nearest").long().tolist()
    judged = []
    for value, error, rank, first, last in zip(values, errors, ranks, best, worst, strict=True):
        low, high = column.within(value - 1.96 * error, value + 1.96 * error)
        judged.append(Judged(value, low, high, rank, (min(first, rank), max(last, rank))))
    return judged


def _ranks(costs: Tensor) -> Tensor:
    """Of costs `(M, R)`, in each column: one more than there are smaller ones, but for rounding."""
    return 1 + (costs[None] < costs[:, None] - 1e-9).sum(1)


def _cell(judged: Judged | None, column: Column) -> str:
    if judged is None:
        return "–"
    return f"{judged.value:.{column.decimals}f} ±{(judged.high - judged.low) / 2:.{column.decimals}f} ({judged.rank})"
