"""The metrics that recipes name: the standard error is that of the mean that is reported."""

from types import SimpleNamespace

import pytest
import torch

from gencourse.data.captions import captioned_scenes
from gencourse.data.graphs import scene_graphs
from gencourse.data.scenes import draw_scenes, outlines_to_filled, unpaired_styles
from gencourse.data.toys import RingOfGaussians
from gencourse.metrics.table import METRICS, conditions


def sampler(sample, condition=None):
    """Something that draws, and says of what form its conditions are."""
    return SimpleNamespace(
        device="cpu",
        sample=lambda n, context, generator: sample(n, context),
        example_context=lambda n: None if condition is None else condition.expand(n, *condition.shape),
    )


def test_the_error_of_an_overlap_is_that_of_a_share():
    ring = RingOfGaussians(n=4)
    # 300 samples of one mode and 100 of another: a quarter of the mass is where it should be, and as much again
    model = sampler(lambda n, context: ring.centres[[0, 0, 0, 1]].repeat(n // 4, 1))
    overlap = METRICS["mode_overlap"].measure(model, ring.dataset(train=1, valid=1, test=1), 400, 0)
    assert overlap.mean == 0.5
    assert overlap.standard_error == pytest.approx(0.025)  # sqrt(1/2 * 1/2 / 400)


def test_the_error_of_a_ratio_is_that_of_the_mean_over_its_parts(monkeypatch):
    ratios = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr("gencourse.metrics.table.frechet_to", lambda dataset, part: SimpleNamespace(ratio=next(ratios)))
    dataset = SimpleNamespace(test=torch.zeros(10), train=torch.zeros(50))
    model = sampler(lambda n, context: torch.zeros(n, 1))
    ratio = METRICS["frechet_ratio"].measure(model, dataset, 35, 0)
    assert (ratio.mean, ratio.n) == (2.0, 30)
    assert ratio.standard_error == pytest.approx(3**-0.5)  # their standard deviation is 1


def test_a_conditional_model_is_judged_under_the_conditions_of_the_test_set():
    labels = torch.tensor([[3, 1], [4, 1], [5, 9]])  # of any shape: a caption's words, say
    model = sampler(None, condition=torch.tensor([0, 0]))
    assert torch.equal(conditions(model, SimpleNamespace(test_labels=labels), 7), labels[[0, 1, 2, 0, 1, 2, 0]])
    assert conditions(sampler(None), SimpleNamespace(test_labels=labels), 7) is None
    with pytest.raises(ValueError, match="'pairs' has no conditions to sample with"):
        conditions(model, SimpleNamespace(name="pairs", test_labels=None), 7)


def test_captions_are_right_where_all_four_facts_are():
    """Pictures of the captions themselves are all right; those of the next caption hardly ever."""
    drawn = captioned_scenes(n=400)
    model = sampler(lambda n, tokens: draw_scenes(drawn.test_scenes), condition=torch.tensor([1]))
    right = METRICS["captions_right"].measure(model, drawn, 40, 0)
    assert right.mean >= 0.97 and right.n == 40  # the reader itself is wrong now and then
    model = sampler(lambda n, tokens: draw_scenes(drawn.test_scenes).roll(1, 0), condition=torch.tensor([1]))
    wrong = METRICS["captions_right"].measure(model, drawn, 40, 0)
    assert wrong.mean <= 0.1
    assert wrong.standard_error == pytest.approx((wrong.mean * (1 - wrong.mean) / 39) ** 0.5)
    with pytest.raises(ValueError, match="drawn scenes with captions"):
        METRICS["captions_right"].measure(model, SimpleNamespace(name="digits", test_labels=torch.zeros(3)), 40, 0)


@pytest.mark.parametrize(("fill", "metric"), [("two colours", "palette_share"), ("stripes", "stripes_inside")])
def test_true_fills_are_right_and_half_of_them_grey_are_half_right(fill, metric):
    pairs = outlines_to_filled(16, fill=fill, n=200)
    right = METRICS[metric].measure(sampler(lambda n, context: pairs.test.long()), pairs, 0, 0)
    assert right.n == 20
    assert right.mean > 0.99
    grey = pairs.test.long()
    grey[::2] = 128
    half = METRICS[metric].measure(sampler(lambda n, context: grey), pairs, 0, 0)
    assert half.mean == pytest.approx(right.mean / 2, abs=1e-6)
    assert half.standard_error == pytest.approx(0.5 / 19**0.5, rel=0.03)
    with pytest.raises(ValueError, match=f"{metric} is for drawn scenes"):
        METRICS[metric].measure(sampler(None), RingOfGaussians().dataset(train=1, valid=1, test=1), 0, 0)


def test_the_error_of_a_translator_is_that_of_its_worse_direction():
    styles = unpaired_styles(16, n=100)
    x, y = styles.test, styles.test_labels
    worse = (x.long() - 51 * (x > 100)).clamp(0)  # of the grey inside, 0.4 of the range too dark
    model = SimpleNamespace(device="cpu", translate=lambda _: y, back=lambda _: worse, space=styles.space, other=styles.space)
    error = METRICS["translation_error"].measure(model, styles, 0, 0)
    assert error.n == 10
    assert error.mean == pytest.approx(0.4 * float((x > 100).double().mean()), rel=1e-4)
    with pytest.raises(ValueError, match="translation_error is for translators"):
        METRICS["translation_error"].measure(sampler(None), styles, 0, 0)


def test_relations_are_right_in_the_pictures_of_their_own_graphs_and_in_those_of_others_now_and_then():
    drawn = scene_graphs(n=400)
    given = torch.tensor([1])
    right = METRICS["relations_right"].measure(sampler(lambda n, graph: drawn.test, condition=given), drawn, 40, 0)
    assert right.mean >= 0.98 and right.n == 40
    wrong = METRICS["relations_right"].measure(sampler(lambda n, graph: drawn.test.roll(1, 0), condition=given), drawn, 40, 0)
    assert wrong.mean <= 0.35
    assert 0 < wrong.standard_error < 0.1
    with pytest.raises(ValueError, match="drawn scenes with scene graphs"):
        METRICS["relations_right"].measure(sampler(None, given), SimpleNamespace(name="digits", test_labels=given), 40, 0)
