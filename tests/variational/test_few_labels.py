"""The experiment with few labels: what is drawn, what is shared between two ways of a seed, and what must not be recorded."""

import pytest
import torch

from gencourse.data import load
from gencourse.train import History
from gencourse.variational import few_labels
from gencourse.variational.few_labels import ENCODERS, WAYS, label_set, on_pixels, play, untrained, whole


def test_a_label_set_has_as_many_of_each_class_and_follows_its_seed():
    labels = load("digits").train_labels
    chosen = label_set(labels, 50, seed=3)
    assert torch.bincount(labels[chosen]).tolist() == [5] * 10
    assert len(chosen.unique()) == 50
    assert torch.equal(chosen, label_set(labels, 50, seed=3))
    assert not torch.equal(chosen, label_set(labels, 50, seed=4))
    for n in (0, 15, 5000):
        with pytest.raises(ValueError, match="label_set: n must be"):
            label_set(labels, n, seed=0)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_all_ways_of_a_seed_begin_with_the_same_weights(encoder):
    space, state = load("digits").space, torch.get_rng_state()
    a, b, c = (untrained(encoder, space, seed=s, denoising=d) for s, d in ((1, False), (1, True), (2, False)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True))
    assert (a.corrupt is None, b.corrupt is None) == (True, False)


def test_ways_share_labels_and_softmax_layer_and_differ_in_the_encoder(monkeypatch):
    seen = []

    def note(classifier, data, **arguments):
        seen.append((classifier.head.weight.detach().clone(), classifier.encoder, classifier.frozen, data[1], arguments))
        return History({"cross_entropy": []})

    monkeypatch.setattr(few_labels, "fit", note)
    trained = untrained("fully connected", load("digits").space, seed=9)
    monkeypatch.setattr(few_labels, "pretrained", lambda *_, **__: trained)
    for way in WAYS:
        play("fully connected", way, 20, seed=0, lr=0.01)
    heads, encoders, frozen, labels, arguments = zip(*seen, strict=True)
    assert all(torch.equal(head, heads[0]) for head in heads)
    assert all(torch.equal(label, labels[0]) for label in labels)
    assert all(a == arguments[0] for a in arguments)
    assert list(frozen) == [way.frozen for way in WAYS.values()]
    starts = [next(encoder.parameters()) for encoder in encoders]
    assert [torch.equal(start, next(trained.encoder.parameters())) for start in starts] == [False, True, True, True, True]


def test_a_training_that_was_cut_short_is_no_result():
    whole(History({"error": []}))
    with pytest.raises(KeyboardInterrupt):
        whole(History({"error": []}, interrupted=True))


def test_pixels_are_read_by_the_nearest_neighbour():
    from sklearn.neighbors import KNeighborsClassifier

    digits = load("digits")
    chosen = label_set(digits.train_labels, 100, seed=1)
    distance = torch.cdist(digits.test.flatten(1).double(), digits.train[chosen].flatten(1).double())
    right = digits.train_labels[chosen][distance.argmin(1)] == digits.test_labels
    assert on_pixels(KNeighborsClassifier(1), 100, seed=1) == pytest.approx(float(right.double().mean()), abs=0.006)
