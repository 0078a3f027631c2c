"""Captions of drawn scenes: what a scene of one object is, in plain words, in more ways than one.

    a large red disc at the top left
    in the upper left corner there is a big red circle
    the red disc at the top left is huge

A caption says four facts: shape, colour, size and place. A grammar of three sentence forms, with a synonym for most words, makes
it, so every caption of a scene can be listed, and what a caption asks for can be read back without doubt (`facts`). Two pairs of
colour and shape are held out (`HELD_OUT`): whoever has seen red squares and blue triangles, but no red triangle, may still be
asked for one.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from gencourse import arguments
from gencourse.arguments import least_integer, positive_integer
from gencourse.data.scenes import COLOURS, PLACES, SHAPES, SceneDataset, Scenes, draw_scenes, parts, sample_scenes
from gencourse.space import on_cpu

__all__ = ["FACTS", "HELD_OUT", "LENGTH", "VOCABULARY", "caption", "captioned_scenes", "captions", "every_caption", "facts"]
__all__ += ["held_out_scenes", "tokenise", "untokenise"]

FACTS = ("shape", "colour", "size", "place")
HELD_OUT = (("red", "triangle"), ("blue", "disc"))

WORDS = {  # what each value of each fact may be called
    "shape": (("disc", "circle"), ("square", "box"), ("triangle", "wedge"), ("plus", "cross"), ("ring", "hoop")),
    "colour": (("red", "crimson"), ("green", "emerald"), ("blue", "azure"), ("yellow", "golden")),
    "size": (("small", "little", "tiny"), ("large", "big", "huge")),
    "place": (
        ("in the middle", "at the centre"),
        *(
            (f"at the {place}", f"in the {place.replace('top', 'upper').replace('bottom', 'lower')} corner")
            for place in PLACES[1:]
        ),
    ),
}
FORMS = (
    "a {size} {colour} {shape} {place}",
    "{place} there is a {size} {colour} {shape}",
    "the {colour} {shape} {place} is {size}",
)

_PHRASES = [phrase for fact in FACTS for value in WORDS[fact] for phrase in value]
_PLAIN = {word for form in FORMS for word in form.split() if not word.startswith("{")}
#: Every word there is; the first, empty one fills a caption up.
VOCABULARY = ("", *sorted(_PLAIN | {word for phrase in _PHRASES for word in phrase.split()}))
_NUMBER = {word: number for number, word in enumerate(VOCABULARY)}
_LONGEST = {
    fact: max((phrase for value in WORDS[fact] for phrase in value), key=lambda phrase: len(phrase.split())) for fact in FACTS
}
#: Words in the longest caption.
LENGTH = max(len(form.format(**_LONGEST).split()) for form in FORMS)


def captions(scenes: Scenes, *, generator: torch.Generator | None = None) -> list[str]:
    """A true caption of each scene, its form and its words drawn at random.

    Raises:
        ValueError: if a scene has more than one object.
    """
    return [
        FORMS[form].format(**{fact: _pick(WORDS[fact][value], draw) for fact, value, draw in zip(FACTS, row, words, strict=True)})
        for row, form, words in zip(
            _values(scenes).tolist(),
            torch.randint(len(FORMS), (len(scenes),), generator=generator, device="cpu").tolist(),
            torch.rand(len(scenes), len(FACTS), generator=generator, dtype=torch.float32, device="cpu").tolist(),
            strict=True,
        )
    ]


def every_caption(scenes: Scenes) -> list[list[str]]:
    """All true captions of each scene; none twice.

    Raises:
        ValueError: if a scene has more than one object.
    """
    found = []
    for row in _values(scenes).tolist():
        choices = [WORDS[fact][value] for fact, value in zip(FACTS, row, strict=True)]
        found.append([form.format(**dict(zip(FACTS, words, strict=True))) for form in FORMS for words in product(*choices)])
    return found


def caption(shape: str, colour: str, size: str, place: str, *, form: int = 0) -> str:
    """The caption in plain words for named facts: `caption("disc", "red", "large", "top left")`.

    Raises:
        ValueError: if a fact has no such value; sizes are "small" and "large".

    >>> caption("disc", "red", "large", "top left")
    'a large red disc at the top left'
    """
    names = {"shape": SHAPES, "colour": COLOURS, "size": ("small", "large"), "place": PLACES}
    given = {"shape": shape, "colour": colour, "size": size, "place": place}
    for fact, value in given.items():
        if value not in names[fact]:
            raise ValueError(f"caption: {fact} must be one of {', '.join(names[fact])}, not {value!r}.")
    if form not in range(len(FORMS)):
        raise ValueError(f"caption: form must be 0 to {len(FORMS) - 1}, not {form!r}.")
    return FORMS[form].format(**{fact: WORDS[fact][names[fact].index(value)][0] for fact, value in given.items()})


def tokenise(sentences: Sequence[str]) -> Tensor:
    """Captions as the numbers of their words in `VOCABULARY`, filled up with 0: int64 `(N, LENGTH)`.

    Raises:
        ValueError: if a word is none of the vocabulary's (the nearest one is suggested), or a caption is too long or empty.

    >>> tokenise(["a red disc"])[0, :4].tolist() == [*map(VOCABULARY.index, ("a", "red", "disc")), 0]
    True
    """
    if isinstance(sentences, str):
        raise ValueError("tokenise needs a list of captions, not one; write [caption].")
    rows = []
    for sentence in sentences:
        words = sentence.lower().replace(",", " ").replace(".", " ").split()
        for word in words:
            if word not in _NUMBER:
                near = difflib.get_close_matches(word, VOCABULARY, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(VOCABULARY[1:])}."
                raise ValueError(f"tokenise: the captions have no word {word!r}; {hint}")
        if not 1 <= len(words) <= LENGTH:
            raise ValueError(f"tokenise: a caption has 1 to {LENGTH} words, not {len(words)}: {sentence!r}.")
        rows.append([_NUMBER[word] for word in words] + [0] * (LENGTH - len(words)))
    return torch.tensor(rows, dtype=torch.long, device="cpu").view(-1, LENGTH)


def untokenise(tokens: Tensor) -> list[str]:
    """The captions of token numbers `(N, L)`; the inverse of `tokenise`.

    Raises:
        ValueError: if these are no numbers of words.
    """
    _check_tokens("untokenise", tokens)
    return [" ".join(VOCABULARY[number] for number in row if number) for row in tokens.tolist()]


def facts(tokens: Tensor) -> Tensor:
    """What captions `(N, L)` ask for: the numbers of shape, colour, size (1 is large) and place, int64 `(N, 4)`; -1 if not said.

    Raises:
        ValueError: if these are no numbers of words.
    """
    _check_tokens("facts", tokens)
    rows = []
    for sentence in untokenise(tokens):
        said = f" {sentence} "
        rows.append(
            [
                next((k for k, phrases in enumerate(WORDS[fact]) if any(f" {phrase} " in said for phrase in phrases)), -1)
                for fact in FACTS
            ]
        )
    return torch.tensor(rows, dtype=torch.long, device="cpu").view(-1, len(FACTS))


@on_cpu
def captioned_scenes(size: int = 16, *, n: int = 5000, seed: int = 0, shapes: Sequence[str] = SHAPES[:3]) -> SceneDataset:
    """Pictures `(N, 3, size, size)` of one object each, with a caption each as tokens: labels int64 `(N, LENGTH)`.

    No pair of `HELD_OUT` is in any part; `held_out_scenes` draws those.

    Raises:
        ValueError: if n is less than 10, or seed no integer.

    >>> captioned_scenes(n=20).train_labels.shape
    torch.Size([16, 11])
    """
    n = least_integer("captioned_scenes: n", n, 10)
    generator = torch.Generator().manual_seed(arguments.seed("captioned_scenes: seed", seed))
    pairs = [pair for pair in product(COLOURS, shapes) if pair not in HELD_OUT]
    scenes = sample_scenes(n, pairs=pairs, generator=generator)
    tokens = tokenise(captions(scenes, generator=generator))
    return parts(f"captions{size}", draw_scenes(scenes, size), tokens, scenes)


@on_cpu
def held_out_scenes(n: int, *, generator: torch.Generator | None = None) -> tuple[Scenes, Tensor]:
    """`n` scenes of the pairs that `captioned_scenes` never shows, and the tokens of a caption of each, `(n, LENGTH)`.

    Raises:
        ValueError: if n is no positive integer.
    """
    scenes = sample_scenes(positive_integer("held_out_scenes: n", n), pairs=HELD_OUT, generator=generator)
    return scenes, tokenise(captions(scenes, generator=generator))


def _values(scenes: Scenes) -> Tensor:
    """The four facts of each scene, int64 `(N, 4)`."""
    if scenes.shape.shape[1] != 1:
        raise ValueError(f"captions are of scenes with one object, not {scenes.shape.shape[1]}; scene graphs say more.")
    return torch.cat([scenes.shape, scenes.colour, scenes.large().long(), scenes.place()], dim=1)


def _pick(words: tuple[str, ...], draw: float) -> str:
    return words[int(draw * len(words))]


def _check_tokens(what: str, tokens: Tensor) -> None:
    right = isinstance(tokens, Tensor) and tokens.dim() == 2 and not tokens.is_floating_point()
    if not right or not bool(((tokens >= 0) & (tokens < len(VOCABULARY))).all()):
        raise ValueError(f"{what} needs the numbers of words, integers (N, L) of 0 to {len(VOCABULARY) - 1}, as tokenise gives.")
