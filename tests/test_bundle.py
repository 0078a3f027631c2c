"""The book as a zip: the same bytes from the same pages, one folder, and where to begin."""

import zipfile

import pytest

from tools import bundle


@pytest.fixture
def book(tmp_path):
    html = tmp_path / "html"
    for name, text in (("index.html", "front"), ("book/index.html", "<p>é</p>"), ("404.html", "none"), (".buildinfo", "x")):
        (html / name).parent.mkdir(parents=True, exist_ok=True)
        (html / name).write_text(text, encoding="utf-8")
    return html


def test_the_zip_has_one_folder_with_the_pages_and_a_note(book, tmp_path):
    out = tmp_path / "book.zip"
    assert bundle.bundle(book, out, "1.2.3") == 3
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == [f"gencourse-1.2.3/{name}" for name in ("README.txt", "book/index.html", "index.html")]
        assert "open index.html" in archive.read(names[0]).decode() and "gencourse 1.2.3" in archive.read(names[0]).decode()
        assert archive.read(names[1]).decode() == "<p>é</p>"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["book.zip"], "nothing else is left"


def test_the_same_pages_make_the_same_bytes(book, tmp_path):
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    bundle.bundle(book, first, "1.2.3")
    for path in book.rglob("*.html"):
        path.touch()
    bundle.bundle(book, second, "1.2.3")
    assert first.read_bytes() == second.read_bytes()


def test_what_a_browser_refuses_without_a_server_is_left_out(book, tmp_path):
    preload = '<link rel="preload" as="font" type="font/woff2" crossorigin href="a.woff2" />'
    kept = '<link rel="preload" as="script" href="a.js" />\n<p>text</p>'
    (book / "book" / "index.html").write_text(f"  {preload}\n{kept}", encoding="utf-8")
    bundle.bundle(book, tmp_path / "book.zip", "1.2.3")
    with zipfile.ZipFile(tmp_path / "book.zip") as archive:
        assert archive.read("gencourse-1.2.3/book/index.html").decode() == kept


def test_without_a_rendered_book_it_says_so(tmp_path):
    with pytest.raises(SystemExit, match=r"there is no rendered book in .*`make book` makes it"):
        bundle.bundle(tmp_path, tmp_path / "book.zip", "1.2.3")
