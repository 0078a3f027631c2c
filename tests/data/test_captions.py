"""Captions are true, can be listed, and can be read back."""

import pytest
import torch

from gencourse.data.captions import (
    FACTS,
    HELD_OUT,
    LENGTH,
    VOCABULARY,
    caption,
    captioned_scenes,
    captions,
    every_caption,
    facts,
    held_out_scenes,
    tokenise,
    untokenise,
)
from gencourse.data.scenes import COLOURS, SHAPES, draw_scenes, sample_scenes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


SCENES = sample_scenes(300, shapes=SHAPES, generator=seeded())
TRUTH = torch.cat([SCENES.shape, SCENES.colour, SCENES.large().long(), SCENES.place()], dim=1)


def test_a_caption_says_the_four_facts_of_its_scene_and_no_others():
    tokens = tokenise(captions(SCENES, generator=seeded(1)))
    assert torch.equal(facts(tokens), TRUTH)
    for row, sentences in zip(TRUTH[:40], every_caption(SCENES[:40]), strict=True):
        assert bool((facts(tokenise(sentences)) == row).all())


def test_every_caption_is_listed_once_and_the_drawn_ones_are_among_them():
    listed = every_caption(SCENES)
    assert all(len(set(sentences)) == len(sentences) == 3 * 2 * 2 * 3 * 2 for sentences in listed)
    drawn = captions(SCENES, generator=seeded(2))
    assert all(sentence in sentences for sentence, sentences in zip(drawn, listed, strict=True))


def test_forms_and_words_are_drawn_fairly():
    scene = SCENES[torch.zeros(3600, dtype=torch.long)]
    listed = every_caption(scene[:1])[0]
    drawn = captions(scene, generator=seeded(3))
    counts = torch.tensor([drawn.count(sentence) for sentence in listed]).double()
    assert counts.sum() == 3600
    chi = float(((counts - 50) ** 2 / 50).sum())  # 72 sentences: 71 degrees of freedom, standard deviation sqrt(142)
    assert abs(chi - 71) < 5 * 142**0.5


def test_tokens_and_words_are_each_others_inverse():
    sentences = captions(SCENES, generator=seeded(4))
    tokens = tokenise(sentences)
    assert tokens.shape == (300, LENGTH)
    assert untokenise(tokens) == sentences
    assert VOCABULARY[0] == "" and len(set(VOCABULARY)) == len(VOCABULARY)
    used = {word for sentences in every_caption(SCENES) for sentence in sentences for word in sentence.split()}
    assert used == set(VOCABULARY[1:])
    assert max(len(sentence.split()) for sentences in every_caption(SCENES) for sentence in sentences) == LENGTH


def test_what_is_not_said_is_not_read():
    assert facts(tokenise(["a red disc"])).tolist() == [[0, 0, -1, -1]]
    assert (
        facts(tokenise([caption("ring", "yellow", "small", "middle", form=form) for form in range(3)])).tolist()
        == [[4, 3, 0, 0]] * 3
    )


def test_the_data_set_has_captions_of_its_pictures_and_no_pair_that_is_held_out():
    data = captioned_scenes(n=1000, seed=2)
    assert len(data.train) == 800
    for part in ("train", "valid", "test"):
        scenes = getattr(data, f"{part}_scenes")
        assert torch.equal(getattr(data, part), draw_scenes(scenes))
        said = facts(getattr(data, f"{part}_labels"))
        assert torch.equal(said, torch.cat([scenes.shape, scenes.colour, scenes.large().long(), scenes.place()], dim=1))
        pairs = {(COLOURS[colour], SHAPES[shape]) for shape, colour, *_ in said.tolist()}
        assert not pairs & set(HELD_OUT)
        assert len(FACTS) == said.shape[1]
    scenes, tokens = held_out_scenes(50, generator=seeded(5))
    assert {(COLOURS[colour], SHAPES[shape]) for shape, colour, *_ in facts(tokens).tolist()} == set(HELD_OUT)
    assert torch.equal(facts(tokens)[:, 3], scenes.place()[:, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tokenise(["a red dics"]), "no word 'dics'; did you mean 'disc'?"),
        (lambda: tokenise("a red disc"), "a list of captions, not one"),
        (lambda: tokenise([""]), f"a caption has 1 to {LENGTH} words, not 0"),
        (lambda: tokenise([" ".join(["red"] * 30)]), "not 30"),
        (lambda: untokenise(torch.tensor([[99999]])), "needs the numbers of words"),
        (lambda: facts(torch.zeros(3)), "needs the numbers of words"),
        (lambda: captions(sample_scenes(2, objects=2)), "scenes with one object, not 2"),
        (lambda: caption("disc", "pink", "large", "middle"), "colour must be one of red, green, blue, yellow, not 'pink'"),
        (lambda: caption("disc", "red", "large", "middle", form=3), "form must be 0 to 2"),
        (lambda: captioned_scenes(n=3), "n must be an integer of 10 or more"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
