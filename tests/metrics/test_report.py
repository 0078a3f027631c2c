"""The report: the numbers are those of the metrics one by one, the ranks follow from them, and the errors are no fiction."""

import dataclasses
import math

import pytest
import torch

from gencourse import metrics
from gencourse.adversarial.gan import GAN
from gencourse.autoregressive.made import MADE
from gencourse.data import load
from gencourse.data.toys import RingOfGaussians
from gencourse.flows.nice import NICE
from gencourse.metrics.classifier import scored_classifier
from gencourse.metrics.frechet import frechet_distance
from gencourse.metrics.inception_score import inception_score
from gencourse.metrics.judge import Judge, Scores
from gencourse.metrics.kernel import kernel_distance
from gencourse.metrics.likelihood import nll
from gencourse.metrics.memorisation import copies
from gencourse.metrics.precision_recall import density_coverage, precision_recall
from gencourse.metrics.report import COLUMNS, Column, _judged
from gencourse.metrics.two_sample import neighbour_accuracy
from gencourse.space import Space
from gencourse.variational.vae import VAE

DIGITS = load("digits")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n, generator):
    return torch.randint(0, 17, (n, 1, 8, 8), generator=generator)


@pytest.fixture(scope="module")
def found():
    ten = torch.stack([DIGITS.train[DIGITS.train_labels == k][0] for k in range(10)])
    return metrics.report(
        {"train": DIGITS.train[:360], "ten": ten.repeat(36, 1, 1, 1), "noise": noise}, DIGITS, samples=360, groups=6
    )


def test_every_number_is_the_metric_s_own(found):
    """The judge finds neighbours and kernels from distances that it computes once; here each function does so by itself."""
    classifier = scored_classifier(DIGITS)
    for row, x in zip(found.rows, (DIGITS.train[:360], None, noise(360, generator())), strict=True):
        if x is None:
            continue
        real, fake = classifier.features(DIGITS.test), classifier.features(x)
        expected = {
            "kernel_distance": kernel_distance(real, fake),
            **precision_recall(real, fake)._asdict(),
            **density_coverage(real, fake)._asdict(),
            "inception_score": inception_score(classifier.logits(x)).score,
            "two_sample": neighbour_accuracy(real, fake).accuracy,
            "copies": float(copies(x, DIGITS.train, DIGITS.test).mean()),
        }
        assert {name: row.values[name].value for name in expected} == pytest.approx(expected, rel=1e-6)
        assert set(row.values) == {*expected, "frechet_ratio"}
    first, _, last = found.rows  # the floor is one number for all
    ratio = last.values["frechet_ratio"].value / first.values["frechet_ratio"].value
    distances = [frechet_distance(classifier.features(x), classifier.features(DIGITS.test)) for x in (x, DIGITS.train[:360])]
    assert ratio == pytest.approx(distances[0] / distances[1], rel=1e-6)


def test_each_metric_is_fooled_by_somebody(found):
    """Ten training images repeated win by inception score and precision, noise by copies; only together do metrics judge."""
    train, ten, nothing = (row.values for row in found.rows)
    assert ten["inception_score"].rank == ten["precision"].rank == 1
    assert nothing["copies"].rank == 1 and ten["copies"].value == train["copies"].value == 1
    assert train["frechet_ratio"].rank == train["coverage"].rank == train["two_sample"].rank == train["recall"].rank == 1
    assert train["frechet_ratio"].ranks == (1, 1)


def test_means_over_parts_and_the_same_call_give_the_same_numbers():
    two, one, other = (
        metrics.report({"a": x}, DIGITS, samples=len(x), groups=3)
        for x in (DIGITS.train[:720], DIGITS.train[:360], DIGITS.train[360:720])
    )
    again = metrics.report({"a": DIGITS.train[:720]}, DIGITS, samples=720, groups=3)
    assert again.records() == two.records() and two.rows[0].parts == 2
    for name, judged in two.rows[0].values.items():
        mean = (one.rows[0].values[name].value + other.rows[0].values[name].value) / 2
        assert judged.value == pytest.approx(mean, rel=1e-6, abs=1e-9)


def test_the_error_of_a_mean_is_its_standard_error():
    """With each example a group of its own the jackknife of a mean is exact: that of the NLL."""
    torch.manual_seed(0)
    model = MADE(Space((1, 8, 8), levels=17), hidden=(16,))
    exact = nll(model, DIGITS.test)
    judge = Judge(DIGITS, 360, None, 360, seed=0)
    judge._of_part = lambda x: ({}, [], [])
    scores = judge.scores("made", model, 360, 1)
    assert scores.values["nll"] == pytest.approx(exact.mean, rel=1e-6)
    assert float(scores.by_test["nll"].square().sum()) ** 0.5 == pytest.approx(exact.standard_error, rel=1e-6)
    assert scores.by_samples["nll"].numel() == 0


def test_the_errors_are_on_the_safe_side_and_not_far_from_the_spread():
    """Fresh points and samples of two Gaussians, 30 times: the error said is 0.8 to 2.7 times the spread (here 1.1 to 2.1)."""
    dataset, shift = RingOfGaussians(n=1).dataset(train=2, valid=1, test=1), torch.tensor([0.6, 0.0])
    values, errors = {}, {}
    for seed in range(30):
        x = torch.randn(3, 100, 2, generator=generator(seed))
        world = dataclasses.replace(dataset, train=x[0], test=x[1], density=None)
        judge = Judge(world, 100, None, 10, seed)
        scores = judge.scores("moved", x[2] + shift, 100, 1)
        for name, value in scores.values.items():
            factor = judge.floor if name == "frechet_ratio" else 1
            values.setdefault(name, []).append(factor * value)
            squares = scores.by_test[name].square().sum() + scores.by_samples[name].square().sum()
            errors.setdefault(name, []).append(factor**2 * float(squares))
    assert len(values) == 8
    for name in set(values) - {"copies"}:
        assert 0.8 < math.sqrt(sum(errors[name]) / 30) / float(torch.tensor(values[name]).std()) < 2.7, name


def scores(value, by_test, by_samples):
    def tensors(moves):
        return {"m": torch.tensor(moves, dtype=torch.float64)}

    return Scores(values={"m": value}, by_test=tensors(by_test), by_samples=tensors(by_samples))


def test_ranks_that_stay_possible_know_of_what_is_common():
    """The same test examples move both by 1: the order stays. Samples of their own may turn it."""
    column = Column("m", "m", lambda v: v, 2, (-9.0, 9.0))
    first, second = _judged([scores(1.0, [1.0], []), scores(1.5, [1.0], [])], column, 0)
    assert (first.rank, first.ranks, second.rank, second.ranks) == (1, (1, 1), 2, (2, 2))
    assert (first.low, first.high) == pytest.approx((1 - 1.96, 1 + 1.96))
    first, second = _judged([scores(1.0, [0.0], [1.0]), scores(1.5, [0.0], [1.0])], column, 0)
    assert (first.rank, first.ranks, second.rank, second.ranks) == (1, (1, 2), 2, (1, 2))
    tied = _judged([scores(1.0, [0.0], []), scores(1.0, [0.0], []), scores(2.0, [0.0], [])], column, 0)
    assert [one.rank for one in tied] == [1, 1, 3]


def test_an_interval_ends_where_the_metric_does():
    (one,) = _judged([scores(0.9, [0.2], [])], Column("m", "m", lambda v: v), 0)
    assert (one.low, one.high) == pytest.approx((0.9 - 0.2 * 1.96, 1.0))


def test_what_is_best_for_each_column():
    best = {"nll": 1.0, "frechet_ratio": 1.0, "kernel_distance": -0.1, "copies": 0.0, "two_sample": 0.5}
    worse = {"nll": 2.0, "frechet_ratio": 2.0, "kernel_distance": 0.1, "copies": 0.1, "two_sample": 0.3}
    for column in COLUMNS:
        good, bad = best.get(column.name, 0.9), worse.get(column.name, 0.8)
        assert column.cost(good) < column.cost(bad), column.name


def test_every_kind_of_model_says_what_its_likelihood_is():
    torch.manual_seed(0)
    space = DIGITS.space
    models = {
        "made": MADE(space, hidden=(16,)),
        "nice": NICE(space),
        "vae": VAE(space, latent=2, hidden=(8,)),
        "gan": GAN(space, latent=2, hidden=(8,), classes=10),
    }
    result = metrics.report(models, DIGITS, samples=60, groups=3, likelihood_samples=5)
    assert [row.likelihood for row in result.rows] == ["exact", "bound", "estimate", ""]
    assert "nll" not in result.rows[3].values and all("nll" in row.values for row in result.rows[:3])
    assert result.n == 60 and {row.values["nll"].rank for row in result.rows[:3]} == {1, 2, 3}
    assert "NLL: made: exact; nice: bound; vae: estimate" in str(result)
    few = metrics.report({"vae": models["vae"]}, DIGITS, samples=60, groups=3, likelihood_samples={"vae": 1})
    assert few.rows[0].likelihood == "bound"
    assert few.rows[0].values["nll"].value > result.rows[2].values["nll"].value  # five draws come nearer from above


def test_classes_are_drawn_as_often_as_they_are_in_the_training_set():
    seen = []
    torch.manual_seed(0)
    model = GAN(DIGITS.space, latent=2, hidden=(8,), classes=10)
    draw = model.sample
    model.sample = lambda n, context, **rest: seen.append(context) or draw(n, context, **rest)
    few = dataclasses.replace(DIGITS, train_labels=DIGITS.train_labels % 3)
    metrics.report({"gan": model}, few, classifier=scored_classifier(DIGITS), samples=700, groups=2)
    labels = torch.cat(seen)
    assert len(labels) == 700
    shares = torch.bincount(few.train_labels, minlength=3) / len(few.train_labels)
    assert torch.bincount(labels, minlength=3).div(700).tolist() == pytest.approx(shares.tolist(), abs=0.08)  # 4 sd


def test_points_are_their_own_features():
    ring = RingOfGaussians()
    world = ring.dataset(train=400, valid=50, test=100)
    result = metrics.report({"train": world.train, "middle": 0.1 * world.train}, world, samples=100, groups=5)
    assert result.accuracy is None and "inception_score" not in result.rows[0].values
    assert result.rows[0].values["frechet_ratio"].rank == 1
    assert "the data themselves" in result.caption


def test_it_shows_itself_as_text_and_as_a_table(found):
    text = str(found)
    lines = text.splitlines()
    assert "98.6% on the test set" in lines[0] or "% on the test set" in lines[0]
    assert len(lines) == 2 + 3 and len({len(line) for line in lines[1:]}) == 1
    page = found._repr_html_()
    assert page.count("<tr>") == 4 and page.count('scope="row"') == 3 and "<caption>" in page
    strange = dataclasses.replace(found, rows=[dataclasses.replace(found.rows[0], name="<b>")])
    assert "&lt;b&gt;" in strange._repr_html_() and "<b>" not in strange._repr_html_()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.report({}, DIGITS), "there are no models"),
        (lambda: metrics.report({"a": DIGITS.train[:300]}, DIGITS), "'a' has 300 samples; give 360 or more"),
        (lambda: metrics.report({"a": MADE(Space((1, 3, 3), 2))}, DIGITS), "'a' is a model of Space"),
        (lambda: metrics.report({"a": DIGITS.train}, DIGITS, samples=5), "samples must be an integer of 20 or more, not 5"),
        (lambda: metrics.report({"a": DIGITS.train}, dataclasses.replace(DIGITS, test=DIGITS.test[:9])), "20 are the least"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
