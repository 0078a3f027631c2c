"""The favicon, the logo and the card are what their code draws."""

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from gencourse.viz.theme import COLOURS
from tools import logo


@pytest.mark.parametrize("name", [name for name in logo.FILES if name.endswith(".svg")])
def test_a_drawing_is_current_and_needs_no_font(name):
    stored = (logo.STATIC / name).read_text(encoding="utf-8")
    assert stored == logo.FILES[name](), "`make format` draws it anew"
    tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(stored).iter()}
    assert tags <= {"svg", "rect", "path", "circle"}


def test_the_letters_stand_upright_beside_the_sign():
    (word,) = re.findall(r'<path d="([^"]*)" fill="#1f2328"', logo.logo(logo.INK))
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", word)]
    xs, ys = numbers[::2], numbers[1::2]
    assert min(xs) > 17 and 3 < min(ys) < max(ys) < 16  # right of the sign, and inside the picture
    below = [y for y in ys if y > 12.0]
    assert below and max(x for x, y in zip(xs, ys, strict=True) if y > 12.0) < 30  # only the g goes below the line


def test_the_card_is_current_and_as_large_as_a_shared_link_wants_it():
    stored = Image.open(logo.STATIC / "card.png").convert("RGB")
    drawn = Image.open(io.BytesIO(logo.card())).convert("RGB")
    assert stored.size == drawn.size == (1200, 630)
    difference = np.abs(np.asarray(stored, float) - np.asarray(drawn, float))
    assert difference.mean() < 2, "`make format` draws it anew"  # another matplotlib sets letters a little differently
    assert logo.card() == logo.card()


def test_its_colours_are_the_book_s():
    assert {logo.BLUE, logo.AMBER} <= {colour.lower() for colour in COLOURS}


def test_what_is_not_current_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logo, "STATIC", tmp_path)
    assert logo.main(["--check"]) == 1
    assert "book/_static/logo-dark.svg is not current" in capsys.readouterr().out
    assert logo.main([]) == 0
    assert logo.main(["--check"]) == 0
