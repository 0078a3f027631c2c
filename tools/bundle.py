"""Packs the rendered book for reading without a network: _build/gencourse-VERSION.zip.

    python -m tools.bundle          after `make book`; `make zip` does both

Pages, formulas, explorers and search need no server, so the book is packed nearly as it is. The same pages make the
same bytes.
"""

import re
import sys
import zipfile
from pathlib import Path

from tools.notebooks import root

LEFT_OUT = ("404.html", "objects.inv", ".buildinfo", ".nojekyll")  # for servers and for Sphinx
PRELOAD = re.compile(rb'[ \t]*<link rel="preload"[^>]*crossorigin[^>]*>\n?')  # browsers refuse it where there is no server
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that the format knows, for every file
README = """gencourse {version}: generative models, read and run

Unpack everything, then open index.html in a browser. Nothing is loaded from the network; links to papers, to Colab and to the
repository lead out. To run a chapter or an exercise, download its notebook from the page and install the library; see "How to run
one" on the front page.
"""


def bundle(book: Path, out: Path, version: str) -> int:
    """Pack the folder of the rendered book into the file `out`; gives the number of files.

    Raises:
        SystemExit: with one sentence, if the book is not there.
    """
    if not (book / "book" / "index.html").is_file():
        raise SystemExit(f"there is no rendered book in {book}: `make book` makes it.")
    files = sorted(path for path in book.rglob("*") if path.is_file() and path.name not in LEFT_OUT)
    name = f"gencourse-{version}"
    partial = out.with_suffix(".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(_entry(f"{name}/README.txt"), README.format(version=version))
        for path in files:
            content = PRELOAD.sub(b"", path.read_bytes()) if path.suffix == ".html" else path.read_bytes()
            archive.writestr(_entry(f"{name}/{path.relative_to(book).as_posix()}"), content)
    partial.replace(out)
    return len(files) + 1


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def main(arguments: list[str]) -> int:
    """Pack the book that `make book` has rendered; the number is the exit status."""
    import gencourse

    build = root() / "_build"
    out = build / f"gencourse-{gencourse.__version__}.zip"
    count = bundle(build / "html", out, gencourse.__version__)
    print(f"{out}: {count} files, {out.stat().st_size / 1e6:.1f} MB.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
