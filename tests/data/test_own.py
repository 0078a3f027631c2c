"""Pictures of one's own: what is read is what is there, and what cannot be read is named."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from gencourse import data
from gencourse.data import Pictures
from gencourse.space import Space


def picture(i, size=(7, 9), mode="L"):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (size[1], size[0], *channels)).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Thirty grey pictures, each its own."""
    for i in range(30):
        picture(i).save(tmp_path / f"{i:02}.png")
    return tmp_path


def together(dataset):
    return torch.cat([dataset.train, dataset.valid, dataset.test])


def rows(x):
    return sorted(map(bytes, x.flatten(1).numpy()))


def test_every_picture_is_read_once_as_it_is(folder):
    ours = data.images(folder)
    assert ours.space == Space((1, 9, 7), 256)
    assert [len(part) for part in (ours.train, ours.valid, ours.test)] == [24, 3, 3]
    assert ours.train.dtype == torch.uint8
    assert rows(together(ours)) == sorted(picture(i).tobytes() for i in range(30))


def test_the_split_follows_from_the_names_and_the_seed(folder, tmp_path_factory):
    ours = data.images(folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for i in reversed(range(30)):
        picture(i).save(elsewhere / f"{i:02}.png")
    again, other = data.images(elsewhere), data.images(folder, seed=1)
    assert torch.equal(together(again), together(ours))
    assert not torch.equal(together(other), together(ours))
    assert rows(together(other)) == rows(together(ours))


def test_size_scales_the_shorter_side_and_cuts_out_the_middle(tmp_path):
    for i in range(20):
        wide = np.full((10, 30), 10 * i, np.uint8)
        wide[:, :8] = wide[:, -8:] = 255  # what is cut away
        Image.fromarray(wide).save(tmp_path / f"{i:02}.png")
    ours = data.images(tmp_path, size=5)
    assert ours.space == Space((1, 5, 5), 256)
    assert sorted(together(ours)[:, 0, 2, 2].tolist()) == [10 * i for i in range(20)]
    assert together(ours).amax() <= 190


def test_one_picture_in_colour_makes_all_of_them_so_and_grey_makes_none(folder):
    picture(0, mode="RGB").save(folder / "colour.png")
    colours, grey = data.images(folder), data.images(folder, grey=True)
    assert colours.space == Space((3, 9, 7), 256)
    assert grey.space == Space((1, 9, 7), 256)
    expected = np.asarray(picture(0, mode="RGB")).transpose(2, 0, 1).tobytes()
    assert expected in rows(together(colours))
    assert picture(0, mode="RGB").convert("L").tobytes() in rows(together(grey))


def test_transparent_parts_are_white_and_other_files_are_no_pictures(folder):
    Image.new("RGBA", (7, 9), (0, 0, 0, 0)).save(folder / "clear.png")
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_text("not a picture")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "00.png").write_text("not a picture")
    (folder / "more").mkdir()
    picture(99).save(folder / "more" / "99.JPG", format="PNG")
    ours = data.images(folder)
    assert len(together(ours)) == 32
    assert bytes([255]) * 189 in rows(together(ours))


def test_a_turned_photograph_stands_upright(folder):
    upright = picture(77)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    upright.rotate(90, expand=True).save(folder / "turned.png", exif=exif)
    assert upright.tobytes() in rows(together(data.images(folder)))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("layout", ["NHW", "NHW1", "NHW3", "N1HW", "N3HW"])
def test_an_array_is_read_in_any_usual_layout(tmp_path, layout, suffix):
    x = np.random.default_rng(0).integers(0, 256, (25, *([3] if "3" in layout else [1]), 6, 5))
    shaped = {"NHW": x[:, 0], "NHW1": x.transpose(0, 2, 3, 1), "N1HW": x, "NHW3": x.transpose(0, 2, 3, 1), "N3HW": x}[layout]
    path = tmp_path / f"mine.{suffix}"
    np.save(path, shaped) if suffix == "npy" else np.savez_compressed(path, shaped)
    ours = data.images(path)
    assert ours.space == Space(x.shape[1:], 256)
    assert rows(together(ours)) == sorted(one.astype(np.uint8).tobytes() for one in x)
    small = data.images(path, size=4, grey=True)
    assert small.space == Space((1, 4, 4), 256)


def test_the_record_finds_the_same_pictures_and_knows_others(folder):
    read = Pictures(str(folder), 5, True, 3)
    record = json.loads(json.dumps(read.record()))
    again = Pictures(record["images"], record["size"], record["grey"], record["seed"], record["fingerprint"])
    assert torch.equal(again().test, read().test)
    (folder / "00.png").write_bytes((folder / "01.png").read_bytes())
    with pytest.raises(ValueError, match="not those that the run was trained on"):
        Pictures(record["images"], 5, True, 3, record["fingerprint"])()


def bomb():
    """A picture of 400 million white pixels in a few kilobytes."""
    content = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(content, format="PNG")
    return content.getvalue()


def zipped_code():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY not an array")
    return content.getvalue()


def array(shape, dtype=np.uint8, value=0):
    def write(path):
        np.save(path / "x.npy", np.full(shape, value, dtype))
        return path / "x.npy"

    return write


def files(path, content, name="x.npy"):
    (path / name).write_bytes(content)
    return path / name


def with_one(path, name, content):
    for i in range(20):
        picture(i).save(path / f"{i:02}.png")
    (path / name).write_bytes(content)
    return path


def png(image):
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def two(path):
    np.savez(path / "two.npz", x=np.zeros((30, 4, 4), np.uint8), y=np.zeros(30, np.uint8))
    return path / "two.npz"


def few(path):
    for i in range(19):
        picture(i).save(path / f"{i}.png")
    return path


BAD = {
    "nothing there": (lambda p: p / "no", {}, "there is no folder or file .*no"),
    "nobody's home": (lambda p: "~nobody-here/x", {}, "there is no home folder for ~nobody-here/x"),
    "another file": (lambda p: files(p, b"", "x.txt"), {}, r"x\.txt is neither a folder of pictures nor"),
    "no pictures": (lambda p: p, {}, r"there are no pictures in .*; looked for \.png"),
    "nineteen": (few, {}, "has 19 pictures; at least 20 are needed"),
    "one": (lambda p: files(p, png(picture(0)), "a.png").parent, {}, "has 1 picture; at least 20"),
    "two sizes": (lambda p: with_one(p, "b.png", png(picture(0, (5, 5)))), {}, r"00.png is 7x9, b.png is 5x5.*--size 28"),
    "a damaged one": (lambda p: with_one(p, "b.png", png(picture(0))[:60]), {}, r"b\.png cannot be read as a picture"),
    "text in disguise": (lambda p: with_one(p, "b.jpg", b"<html>"), {}, r"b\.jpg cannot be read as a picture"),
    "an empty one": (lambda p: with_one(p, "b.gif", b""), {}, r"b\.gif cannot be read as a picture"),
    "a bomb": (lambda p: with_one(p, "b.png", bomb()), {}, r"b\.png cannot be read as a picture \(it is very large"),
    "sixteen bits": (
        lambda p: with_one(p, "b.png", png(Image.fromarray(np.zeros((9, 7), np.uint16)))),
        {},
        r"b\.png has more than 8 bits a pixel",
    ),
    "floats": (array((30, 4, 4), np.float32), {}, r"real numbers \(float32\).*\(255 \* x\)\.round"),
    "booleans": (array((30, 4, 4), bool), {}, "holds bool, but grey levels"),
    "complex numbers": (array((30, 4, 4), complex), {}, "holds complex128, but grey levels"),
    "objects": (array((30, 4, 4), object), {}, r"x\.npy cannot be read as an array of numbers"),
    "vectors": (array((30, 16)), {}, r"has the shape \(30, 16\), not \(N, H, W\)"),
    "four channels": (array((30, 4, 4, 4)), {}, r"has the shape \(30, 4, 4, 4\), not"),
    "no pixels": (array((30, 0, 4)), {}, r"has the shape \(30, 0, 4, 1\), not"),
    "no images": (array((0, 4, 4)), {}, "has 0 pictures; at least 20"),
    "no images, smaller": (array((0, 4, 4)), {"size": 2}, "has 0 pictures; at least 20"),
    "a number": (array(()), {}, r"has the shape \(\), not"),
    "too dark": (array((30, 4, 4), int, -1), {}, "numbers from -1 to -1, but grey levels lie"),
    "too bright": (array((30, 4, 4), int, 256), {}, "numbers from 256 to 256, but grey levels lie"),
    "no array": (lambda p: files(p, b"not an array"), {}, r"x\.npy cannot be read as an array"),
    "no archive": (lambda p: files(p, b"PK\x03\x04", "x.npz"), {}, r"x\.npz cannot be read as an array"),
    "an archive of no array": (lambda p: files(p, zipped_code(), "x.npz"), {}, r"x\.npz cannot be read as an array"),
    "two arrays": (two, {}, r"holds 2 arrays \(x, y\); it should hold the pictures alone"),
    "size zero": (few, {"size": 0}, "size must be a whole number of pixels from 1 to 4096"),
    "size a half": (few, {"size": 27.5}, "size must be a whole number"),
    "size a pair": (few, {"size": (28, 28)}, "size must be a whole number"),
    "size true": (few, {"size": True}, "size must be a whole number"),
}


@pytest.mark.parametrize(("make", "settings", "says"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_one_sentence(tmp_path, make, settings, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        data.images(make(tmp_path), **settings)
    assert "\n" not in str(caught.value)
