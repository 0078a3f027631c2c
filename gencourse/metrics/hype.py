"""HYPE: how often people take a model's images for real (Zhou et al., 2019, https://arxiv.org/abs/1904.01121; slide 128).

HYPE-infinity shows real and fake images for as long as one likes and counts wrong answers. Half the images are real, so that a
rater who ignores them scores exactly 50 % whatever he prefers to say: wrong on fakes q, on real images 1 - q. Therefore 50 %
means "cannot be told apart", and only the two kinds together mean it. HYPE-time shows them for some milliseconds, longer after
an error and shorter after a right answer, until the rater is right a fixed share of the time.

Raters differ, and each gives many answers. So the raters are the sample: intervals resample them, never their answers, which
would count one sharp eye a hundred times. The intervals here are over raters, by the bootstrap or by Student's t.

`gencourse.metrics.answers` reads the answers of people; made-up raters are here only to see how often an interval is right.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.metrics.answers import KINDS, Answers


class ErrorRates(NamedTuple):
    """Each rater's share of wrong answers, `(R,)` float64: of both kinds in equal parts, of fakes, and of real images.

    `seen` is how many fakes and how many real images each saw, `(R, 2)`. A rater's `rate` is the mean of `fakes` and `reals`:
    the share of all his answers if he saw as many of each, and 1/2 for a guesser in any case.
    """

    rate: Tensor
    fakes: Tensor
    reals: Tensor
    seen: Tensor


def error_rates(answers: Answers) -> ErrorRates:
    """The raters' error rates, in the order in which they first answered.

    Raises:
        ValueError: if a rater saw real images only, or fakes only: then no rate of both exists.
    """
    rows, seen = [], []
    for rater, given in answers.by_rater().items():
        wrong = {kind: [answer.wrong for answer in given if answer.kind == kind] for kind in KINDS}
        if not (wrong["real"] and wrong["fake"]):
            raise ValueError(f"error_rates: rater {rater!r} saw {len(wrong['real'])} real and {len(wrong['fake'])} fake images.")
        fakes, reals = (sum(wrong[kind]) / len(wrong[kind]) for kind in ("fake", "real"))
        rows.append(((fakes + reals) / 2, fakes, reals))
        seen.append((len(wrong["fake"]), len(wrong["real"])))
    rate, of_fakes, of_reals = torch.tensor(rows, dtype=torch.float64, device="cpu").T
    return ErrorRates(rate, of_fakes, of_reals, torch.tensor(seen, device="cpu"))


class Score(NamedTuple):
    """A mean over raters and its interval."""

    mean: float
    low: float
    high: float
    raters: int

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}] of {self.raters} raters"


def hype_infinity(answers: Answers, *, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Score:
    """The HYPE-infinity score, the raters' mean error rate in [0, 1], with its bootstrap interval over raters; 1/2 is perfect.

    Raises:
        ValueError: if the answers are of the other test, or a rater saw one kind of image only.
    """
    if answers.test != "infinity":
        raise ValueError(f"hype_infinity scores a test without limits of time, not {answers.test!r}; see hype_time.")
    return over_raters(error_rates(answers).rate, level=level, draws=draws, seed=seed)


def over_raters(values: Tensor, *, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Score:
    """The mean of one number a rater, `(R,)`, with the percentile bootstrap interval that resamples raters.

    With 30 raters it holds the truth about as often as it says; with 5 it is too narrow (.83 to .87 for .95).

    Raises:
        ValueError: if there are fewer than two raters.
    """
    values = _values("over_raters", values)
    generator = torch.Generator("cpu").manual_seed(arguments.seed("over_raters: seed", seed))
    index = torch.randint(len(values), (draws, len(values)), generator=generator, device="cpu")
    means = values[index].mean(1)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64, device="cpu")
    low, high = means.quantile(ends).tolist()
    return Score(float(values.mean()), low, high, len(values))


class Difference(NamedTuple):
    """Of two means: its size, its interval, and the chance of one as large between equal models."""

    mean: float
    low: float
    high: float
    p_value: float


def compare(a: Tensor, b: Tensor, *, level: float = 0.95) -> Difference:
    """The difference of two groups of raters, one number a rater `(R,)` and `(S,)`, by Welch's t test.

    Its quantiles are Student's: with five raters those of a Gaussian call equal models different twice as often as they say.
    """
    from scipy.stats import t

    a, b = _values("compare", a), _values("compare", b)
    parts = [float(x.var()) / len(x) for x in (a, b)]
    error, difference = math.sqrt(sum(parts)), float(a.mean() - b.mean())
    if not error:
        raise ValueError("compare: in each group all raters have one and the same number, so that no error can be estimated.")
    freedom = sum(parts) ** 2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (a, b), strict=True))
    half = float(t.ppf((1 + level) / 2, freedom)) * error
    return Difference(difference, difference - half, difference + half, 2 * float(t.sf(abs(difference) / error, freedom)))


def between_raters(rates: ErrorRates) -> float:
    """The standard deviation of the raters' true error rates: what is left of their spread when the chance in it is taken off.

    The variance of the measured rates has a mean of `sd^2 + E[p (1 - p) / n] / 4` for each kind's p and n, and
    `p (1 - p) / (n - 1)` of the measured p estimates the second term without bias.

    Raises:
        ValueError: if a rater saw fewer than two images of a kind.
    """
    if bool((rates.seen < 2).any()):
        raise ValueError("between_raters needs raters with two images of each kind or more, to tell chance from ability.")
    p = torch.stack([rates.fakes, rates.reals], dim=1)  # (R, 2)
    chance = (p * (1 - p) / (rates.seen - 1)).sum(1).mean() / 4
    return math.sqrt(max(0.0, float(rates.rate.var() - chance)))


def interval_width(raters: int, images: int, *, sd: float, rate: float = 0.5, level: float = 0.95) -> float:
    """How wide the interval of a HYPE-infinity score is to be, by Student's t over raters.

        2 t_{R-1} sqrt((sd^2 + (rate (1 - rate) - sd^2) / images) / R)

    Args:
        raters: R, 2 or more.
        images: that each rater sees.
        sd: of the raters' true error rates, such as a pilot's `between_raters`.
        rate: the error rate that is expected; 1/2 is the worst case.
    """
    from scipy.stats import t

    raters = arguments.least_integer("interval_width: raters", raters, 2)
    images = arguments.positive_integer("interval_width: images", images)
    if not 0 <= arguments.non_negative("interval_width: sd", sd) ** 2 <= rate * (1 - rate):
        raise ValueError(f"interval_width: no error rates with mean {rate} have a standard deviation of {sd}.")
    variance = sd**2 + (rate * (1 - rate) - sd**2) / images
    return 2 * float(t.ppf((1 + level) / 2, raters - 1)) * math.sqrt(variance / raters)


def raters_needed(width: float, *, images: int, sd: float, rate: float = 0.5, level: float = 0.95) -> int:
    """The fewest raters whose interval is no wider than `width`, if each sees so many images; see `interval_width`.

    More images help only until the raters' own differences are what is left: no number of answers replaces a rater.
    """
    width = arguments.positive("raters_needed: width", width)

    def enough(raters: int) -> bool:
        return interval_width(raters, images, sd=sd, rate=rate, level=level) <= width

    high = 2
    while not enough(high):
        high *= 2
    low = max(2, high // 2)
    while low < high:  # the width falls with every rater
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


@dataclass(frozen=True)
class Staircase:
    """The exposure of HYPE-time, in milliseconds: up after an error, down after a right answer, within bounds.

    It stands still on average where `p * down = (1 - p) * up`, so at the share p = up / (up + down) of right answers: 3/4. With
    up and down the other way round, that share would be 1/4, below chance, and with equal steps 1/2, chance itself: every
    exposure would sink to the floor. (The other test called "three up, one down" waits for three right answers in a row before
    it goes down one step, and settles at p^3 = 1/2, p = .794.)
    """

    start: float = 500
    up: float = 30
    down: float = 10
    low: float = 100
    high: float = 1000

    @property
    def target(self) -> float:
        """The share of right answers at which it settles."""
        return self.up / (self.up + self.down)

    def after(self, exposure: Tensor, right: Tensor) -> Tensor:
        """The next exposures, given these and whether the answers to them were right."""
        return (exposure + torch.where(right, -self.down, self.up)).clamp(self.low, self.high)

    def threshold(self, right: Callable[[float], float]) -> float:
        """Where it settles for an observer who is right with probability `right(ms)`, rising in ms; within its bounds."""
        low, high = self.low, self.high
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if right(middle) < self.target else (low, middle)
        return (low + high) / 2


def hype_time(answers: Answers, *, last: int = 50, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Score:
    """The HYPE-time score in ms: the raters' mean exposure over their last answers, with its bootstrap interval over raters.

    The longer, the harder the fakes are to tell. The paper's staircase has 150 answers; the first ones only find the place.

    Raises:
        ValueError: if the answers are of the other test, one has no exposure, or a rater gave fewer than `last`.
    """
    if answers.test != "time":
        raise ValueError(f"hype_time scores exposures, not the test {answers.test!r}; see hype_infinity.")
    last, means = arguments.positive_integer("hype_time: last", last), []
    for rater, given in answers.by_rater().items():
        exposures = [answer.exposure_ms for answer in given[-last:] if answer.exposure_ms is not None]
        if len(exposures) < last:
            raise ValueError(f"hype_time: rater {rater!r} has {len(exposures)} of the {last} exposures that count.")
        means.append(sum(exposures) / last)
    return over_raters(torch.tensor(means, dtype=torch.float64, device="cpu"), level=level, draws=draws, seed=seed)


def psychometric(ms: Any, threshold: float) -> Any:
    """How often a made-up observer is right after `ms`: `.5 + .48 (1 - exp(-(ms / threshold)^1.5))`, chance at 0."""
    grown = (torch.as_tensor(ms, dtype=torch.float64, device="cpu") / threshold) ** 1.5
    return 0.5 + 0.48 * (1 - torch.exp(-grown))


def simulated_answers(
    raters: int, images: int, *, rate: float, spread: float, generator: torch.Generator | None = None
) -> Tensor:
    """Wrong or not, `(raters, images)` bool, of made-up raters, to see how often an interval is right. No result of a study.

    Each has an error rate of his own, of which the log-odds are normal around those of `rate` with standard deviation `spread`.
    """
    mean = torch.logit(torch.tensor(arguments.positive("simulated_answers: rate", rate), dtype=torch.float64, device="cpu"))
    ability = mean + spread * torch.randn(raters, 1, generator=generator, dtype=torch.float64, device="cpu")
    return torch.rand(raters, images, generator=generator, dtype=torch.float64, device="cpu") < torch.sigmoid(ability)


def simulated_exposures(
    staircase: Staircase, threshold: float, *, raters: int, trials: int = 150, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The exposures of made-up observers with `psychometric`, and whether they were right, both `(raters, trials)`."""
    exposure = torch.full((raters,), float(staircase.start), dtype=torch.float64, device="cpu")
    exposures, answers = [], []
    for _ in range(trials):
        u = torch.rand(raters, generator=generator, dtype=torch.float64, device="cpu")
        right = u < psychometric(exposure, threshold)
        exposures.append(exposure)
        answers.append(right)
        exposure = staircase.after(exposure, right)
    return torch.stack(exposures, 1), torch.stack(answers, 1)


def _values(what: str, values: Tensor | Iterable[float]) -> Tensor:
    x = torch.as_tensor(values if isinstance(values, Tensor) else list(values), dtype=torch.float64, device="cpu")
    if x.dim() != 1 or len(x) < 2 or not bool(torch.isfinite(x).all()):
        raise ValueError(f"{what} expects one finite number a rater, of two raters or more, not {tuple(x.shape)}.")
    return x
