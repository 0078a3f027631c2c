"""The classifier that judges samples is good at its own task, and the same each time."""

from dataclasses import replace

import pytest
import torch

from gencourse.data import Dataset, load
from gencourse.data.toys import RingOfGaussians
from gencourse.metrics import classifier as module
from gencourse.metrics.classifier import scored_classifier
from gencourse.space import Space

DIGITS = load("digits")


def test_on_digits_it_is_right_in_at_least_97_percent():
    found = scored_classifier(DIGITS)
    right = (found.predict(DIGITS.test) == DIGITS.test_labels).double().mean()
    assert found.accuracy == float(right) >= 0.97
    shares = found.class_shares(DIGITS.test)
    assert float(shares.sum()) == pytest.approx(1) and shares.min() > 0.08  # stratified: a tenth each


def test_it_is_no_surer_than_the_smoothed_labels_that_it_learned():
    """Smoothing by 0.05 asks for 0.955 in the right one of ten classes."""
    sure = scored_classifier(DIGITS).logits(DIGITS.train).softmax(1).amax(1)
    assert 0.9 < float(sure.mean()) < 0.98


def test_what_a_shift_by_one_pixel_changes_it_cannot_learn():
    """A line in an even or an odd column: training images are moved, so that two of three say the wrong class."""
    at = torch.randint(2, 14, (300,), generator=torch.Generator().manual_seed(0))
    x = torch.zeros(300, 1, 16, 16, dtype=torch.uint8)
    x[torch.arange(300), 0, :, at] = 1
    parts = zip(("train", "valid", "test"), x.split(100), (at % 2).split(100), strict=True)
    named = {name: value for part, images, labels in parts for name, value in ((part, images), (f"{part}_labels", labels))}
    lines = Dataset(name="lines", space=Space((1, 16, 16), levels=2), **named)
    assert scored_classifier(lines, steps=60, width=8).accuracy < 0.5  # 1 if nothing is moved


def test_features_logits_and_predictions_agree():
    found = scored_classifier(DIGITS)
    x = DIGITS.test[:50]
    features, logits = found.features(x), found.logits(x)
    assert features.shape == (50, 64) and logits.shape == (50, 10)
    last = found.network[-1]
    torch.testing.assert_close(logits, features @ last.weight.T + last.bias)
    assert torch.equal(logits.argmax(1), found.predict(x))
    assert not features.requires_grad
    # in evaluation mode an image's features do not depend on the batch it comes in (up to the order of sums)
    torch.testing.assert_close(features[:1], found.features(x[:1]))
    assert torch.equal(found.features(x.long()), features)


def test_the_same_arguments_give_the_same_classifier_and_leave_the_random_state(monkeypatch):
    few = replace(DIGITS, train=DIGITS.train[:200], train_labels=DIGITS.train_labels[:200])
    state = torch.get_rng_state()
    first = scored_classifier(few, steps=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert scored_classifier(few, steps=5) is first
    monkeypatch.setattr(module, "_CACHE", {})
    torch.manual_seed(123)
    again = scored_classifier(few, steps=5)
    assert again is not first
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True))
    assert not torch.equal(scored_classifier(few, steps=5, seed=1).logits(few.test), again.logits(few.test))


def test_other_data_under_the_same_name_is_not_mistaken_for_it():
    few = replace(DIGITS, train=DIGITS.train[:200], train_labels=DIGITS.train_labels[:200])
    other = replace(DIGITS, train=DIGITS.train[200:400], train_labels=DIGITS.train_labels[200:400])
    relabelled = replace(few, train_labels=9 - few.train_labels)
    assert len({id(scored_classifier(data, steps=2)) for data in (few, other, relabelled)}) == 3


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 64, 64), (1, 8, 12)])
def test_it_learns_images_of_other_sizes_and_in_colour(shape):
    """Two classes that differ in one corner's brightness, which no average over the picture shows: 98 % in 20 steps."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (240, *shape), generator=g, dtype=torch.uint8)
    y = torch.arange(240) % 2
    half = shape[1] // 2
    x[y == 1, :, :half, :half] //= 2
    x[y == 0, :, half:, half:] //= 2
    data = Dataset("corners", Space(shape, 256), x[:160], x[:0], x[160:], y[:160], y[:0], y[160:])
    found = scored_classifier(data, steps=20, width=4, batch_size=32)
    assert found.accuracy >= 0.98 and found.classes == 2
    assert found.features(x[:3]).shape == (3, 64)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="has none"):
        scored_classifier(replace(DIGITS, train_labels=None))
    ring = RingOfGaussians().dataset(train=10, valid=1, test=1)
    with pytest.raises(ValueError, match=r"needs images \(C, H, W\)"):
        scored_classifier(replace(ring, train_labels=torch.zeros(10), test_labels=torch.zeros(1)))
    with pytest.raises(TypeError, match="expects integers"):
        scored_classifier(DIGITS).features(DIGITS.space.to_unit(DIGITS.test))
