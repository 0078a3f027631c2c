"""What the book's pages do beyond the theme: links to equations and chapters, numbered captions, search, lighter pages.

Notebooks keep plain text, so that they read the same in JupyterLab, on GitHub and on Colab: "(9.3)", "chapter 9", and a
caption without a number. Here, when a page is built,

- each of these becomes a link, where its target exists, and each numbered formula an address of its own;
- captions are numbered in the order of the page;
- a printed table keeps its lines and scrolls, where other outputs wrap;
- what is searched is prose, section by section: no code, no formulas, no buttons; a term's other names lead to it, too;
- pictures are told their width on the screen, and the theme's second copy of its icons (1.5 MB of script) is dropped;
- a page says what it is to whoever shares a link to it, and a wrong address is answered by `404.html`.
"""

import html
import itertools
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image

HERE = Path(__file__).parent
EQUATION = r"\d{1,2}\.\d{1,2}"
TAG = re.compile(rf"\s*\\tag\{{({EQUATION})\}}")
REFERENCES = re.compile(
    rf"\((?P<equations>{EQUATION}(?:,\s+{EQUATION})*)\)"
    r"|\b(?P<kind>[Cc]hapter|[Ee]xercise)\s+(?P<one>\d{1,2})\b(?!\.\d)"
    r"|\b(?P<kinds>[Cc]hapter|[Ee]xercise)s\s+(?P<many>\d{1,2}(?:(?:,|,?\s+and|,?\s+or|\s+to)\s+\d{1,2})+)\b(?!\.\d)"
)
UNLINKED = (
    nodes.reference,
    nodes.literal,
    nodes.literal_block,
    nodes.title,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.comment,
)


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect(
        "builder-inited",
        lambda app: setattr(app, "gencourse_targets", targets(Path(app.srcdir))),
    )
    app.connect("doctree-resolved", resolve)
    app.connect("html-page-context", describe)
    app.connect("build-finished", finish)
    app.add_js_file("gencourse.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def targets(source: Path) -> dict[str, str]:
    """Where references lead: `{"(9.3)": "book/09-vae#eq-9-3", "chapter 9": "book/09-vae", ...}`."""
    found = {}
    for folder, kind in (("book", "chapter"), ("exercises", "exercise")):
        for path in sorted((source / folder).glob("[0-9][0-9]-*.ipynb")):
            page = f"{folder}/{path.stem}"
            found[f"{kind} {int(path.name[:2])}"] = page
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"] if kind == "chapter" else []
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
            found |= {f"({number})": f"{page}#{place(number)}" for number in TAG.findall(text)}
    return found


def place(number: str) -> str:
    """The id of an equation; a dot in it would have to be escaped wherever the theme looks for it."""
    return f"eq-{number.replace('.', '-')}"


# Links, numbers ------------------------------------------------------------------------------------------------------


def resolve(app: Any, doctree: Any, docname: str) -> None:
    """Link the references of a page, number its formulas and its captions."""
    if app.builder.format != "html":
        return
    address = {}
    for key, target in app.gencourse_targets.items():
        page, _, anchor = target.partition("#")
        if page == docname:
            address[key] = f"#{anchor}" if anchor else ""  # a chapter's name in itself is no link
        elif page in app.env.all_docs:
            address[key] = app.builder.get_relative_uri(docname, page) + (f"#{anchor}" if anchor else "")
    for text in list(doctree.findall(nodes.Text)):
        if not any(isinstance(parent, UNLINKED) for parent in ancestors(text)):
            pieces = linked(str(text), address)
            if len(pieces) > 1:
                text.parent.replace(text, pieces)
    for block in list(doctree.findall(nodes.math_block)):
        number_formula(block)
    for output in doctree.findall(lambda node: "cell_output" in getattr(node, "attributes", {}).get("classes", ())):
        for block in output.findall(nodes.literal_block):
            if in_columns(block.astext()):
                block["classes"].append("columns")
    chapter = re.match(r"book/(\d\d)-", docname)
    for count, figure in enumerate((f for f in doctree.findall(nodes.figure) if f.next_node(nodes.caption)), 1):
        name = f"{int(chapter[1])}.{count}" if chapter else str(count)
        figure["ids"].append(f"figure-{name.replace('.', '-')}")
        figure.next_node(nodes.caption).insert(0, nodes.strong("", f"Figure {name}. "))


def ancestors(node: Any) -> Iterator[Any]:
    """The nodes around a node, from the inside."""
    while node.parent is not None:
        node = node.parent
        yield node


def linked(text: str, address: dict[str, str]) -> list[Any]:
    """The text as nodes, its references as links where `address` knows them."""
    pieces: list[Any] = []
    end = 0

    def link(start: int, stop: int, key: str) -> None:
        nonlocal end
        if address.get(key):
            pieces.append(nodes.Text(text[end:start]))
            pieces.append(
                nodes.reference(
                    "",
                    text[start:stop],
                    internal=True,
                    refuri=address[key],
                    classes=["gencourse-link"],
                )
            )
            end = stop

    for match in REFERENCES.finditer(text):
        if match["equations"] and "," not in match["equations"]:
            link(*match.span(), match[0])
        elif match["one"]:
            link(*match.span(), f"{match['kind'].lower()} {int(match['one'])}")
        else:
            group = "equations" if match["equations"] else "many"
            for number in re.finditer(EQUATION if match["equations"] else r"\d+", match[group]):
                start, stop = (match.start(group) + at for at in number.span())
                name = f"({number[0]})" if match["equations"] else f"{match['kinds'].lower()} {int(number[0])}"
                link(start, stop, name)
    pieces.append(nodes.Text(text[end:]))
    return [piece for piece in pieces if piece.astext()]


def in_columns(text: str) -> bool:
    """Whether a printed text is a table: in two lines that follow one another, entries begin or end at the same place."""
    entries = [[found.span(1) for found in re.finditer(r"(?<=\S) {2,}(\S+)", line)] for line in text.splitlines()]
    places = [{("begins", start) for start, _ in line} | {("ends", end) for _, end in line} for line in entries]
    return any(above & below for above, below in itertools.pairwise(places))


def number_formula(block: Any) -> None:
    """Take a formula's number out of the formula: it stands beside it as a link to it, in sight however wide it is."""
    source = block.astext()
    tags = TAG.findall(source)
    if len(tags) != 1:
        return
    (number,) = tags
    block.children = []
    block += nodes.Text(TAG.sub("", source))
    box = nodes.container("", classes=["numbered"], ids=[place(number)])
    block.replace_self(box)
    label = f'<a class="eqno" href="#{place(number)}" title="Link to this formula" aria-label="Equation {number}">({number})</a>'
    box += [block, nodes.raw("", label, format="html")]


# Heads of pages ------------------------------------------------------------------------------------------------------


def describe(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Give a page its description, for search engines and for links that are shared."""
    if doctree is None:
        return
    paragraphs = (re.sub(r"\s+", " ", prose(p)).strip() for p in doctree.findall(nodes.paragraph))
    text = next(
        (re.sub(r"^Slides? [\d\u2013, and-]+ of the lecture\. ", "", p) for p in paragraphs if len(p) > 60),
        "",
    )
    if not text:
        return
    if len(text) > 200:
        text = text[:200].rsplit(" ", 1)[0] + " \u2026"
    title = html.escape(re.sub(r"<[^>]*>", "", context.get("title", "")), quote=True)
    said = html.escape(text, quote=True)
    book = public(app)
    shared = {
        "og:title": title,
        "og:description": said,
        "og:type": "article",
        "og:site_name": "gencourse",
        "og:url": f"{book}{pagename}.html",
        "og:image": f"{book}_static/card.png",  # must be absolute, unlike what a browser loads
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": "gencourse: generative models, read and run. The lecture's tree of models.",
    }
    context["metatags"] = (
        context.get("metatags", "")
        + f'\n<meta name="description" content="{said}">\n<meta name="twitter:card" content="summary_large_image">'
        + "".join(f'\n<meta property="{name}" content="{value}">' for name, value in shared.items())
    )


def public(app: Any) -> str:
    """Where the book is published, ending in a slash: what GitHub makes of the repository's address in _config.yml."""
    owner, name = app.config.html_theme_options["repository_url"].rstrip("/").split("/")[-2:]
    return f"https://{owner.lower()}.github.io/{name}/"


# After the build -----------------------------------------------------------------------------------------------------


def finish(app: Any, exception: Exception | None) -> None:
    """Write the search index, and go over the finished pages."""
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    sections = [section for name in sorted(app.env.found_docs) for section in searchable(app, name)]
    index = json.dumps(sections, ensure_ascii=False, separators=(",", ":"))
    named = json.dumps(list(names(Path(app.srcdir), sections)), ensure_ascii=False, separators=(",", ":"))
    (out / "_static" / "search-index.js").write_text(f"const SECTIONS = {index};\nconst TERMS = {named};\n", encoding="utf-8")
    (out / "searchindex.js").unlink(missing_ok=True)  # Sphinx's own, which nothing loads any more
    (out / "404.html").write_text(not_found(public(app)), encoding="utf-8")
    pictures = {path.name: look(path) for path in (out / "_images").glob("*.png")}
    trees = {name: (out / "_static" / f"{name}.svg").read_text(encoding="utf-8") for name in ("tree", "tree-phone")}
    for path in out.rglob("*.html"):
        if "_static" not in path.relative_to(out).parts:
            text = settle(path.read_text(encoding="utf-8"), pictures, search=path == out / "search.html")
            path.write_text(planted(text, trees), encoding="utf-8")


def planted(page: str, trees: dict[str, str]) -> str:
    """A page in which the picture of the tree is part of the page: its leaves are links, and a phone has a narrow one."""
    drawn = "".join(f'<div class="{name}">{svg}</div>' for name, svg in trees.items())
    drawn = re.sub(r'href="\.\./([^"]+)\.ipynb"', r'href="\1.html"', drawn)
    return re.sub(r'<img [^>]*src="[^"]*_images/tree\.svg"[^>]*>', lambda _: drawn, page)


def not_found(book: str) -> str:
    """The page that answers a wrong address; `book` is where the front page is, should the reader's browser run no scripts."""
    sign = (HERE.parent / "_static" / "favicon.svg").read_text(encoding="utf-8")
    text = (HERE / "404.html").read_text(encoding="utf-8")
    return text.replace("<!-- sign -->", sign.strip().replace("<svg ", '<svg aria-hidden="true" ', 1)).replace("{book}", book)


def settle(page: str, pictures: dict[str, str], *, search: bool = False) -> str:
    """A finished page without what nothing needs, its pictures at the width at which they are sharp."""
    # The icons come from the web font, which the page loads as well.
    page = re.sub(r"[ \t]*<script[^>]*fontawesome[^>]*></script>\n?", "", page)
    page = re.sub(r'[ \t]*<link[^>]*rel="preload"[^>]*fontawesome[^>]*\.js[^>]*>\n?', "", page)
    page = re.sub(
        r'<img (?=[^>]*src="[^"]*_images/([^"/]*\.png)")',
        lambda m: f"<img {pictures.get(m[1], '')}",
        page,
    )
    # Chevrons of the sidebar without a name: their label is the entry beside them.
    page = re.sub(
        r'(<a class="reference internal" href="[^"]*">\s*([^<]*?)\s*</a><details[^>]*>)<summary>',
        lambda m: f'{m[1]}<summary aria-label="Pages of {html.escape(m[2], quote=True)}">',
        page,
    )
    # The logo is a way to the front page, and so a landmark.
    page = re.sub(r'(?s)(<a class="navbar-brand logo".*?</a>)', r'<nav aria-label="Front page">\1</nav>', page)
    # In a notebook an explorer without its script links the notebooks beside it; here it links their pages.
    page = re.sub(r'(<a href="\d\d-[\w-]+)\.ipynb"', r'\1.html"', page)
    # A corner of a table is no heading.
    page = re.sub(r'<th class="head">\s*<p></p>\s*</th>', "<td></td>", page)
    if search:
        ours = '<script defer src="_static/search-index.js"></script>\n<script defer src="_static/search.js"></script>'
        page = re.sub(r'<script src="_static/searchtools\.js[^>]*></script>', ours, page)
        page = re.sub(
            r'\s*<script src="(?:_static/language_data\.js|searchindex\.js)[^>]*></script>',
            "",
            page,
        )
    return page


def look(path: Path) -> str:
    """Attributes of a picture: its size on the screen, and whether it is drawn on white, so that the dark may turn it."""
    with Image.open(path) as image:
        dots = round(image.info.get("dpi", (100, 100))[0] / 100) or 1
        white = sum(count for count, colour in image.convert("RGB").getcolors(1 << 24) if colour == (255, 255, 255))
        width, height = image.size
    drawn = 'data-ground="white" ' if white > 0.6 * width * height else ""
    return f'{drawn}width="{round(width / dots)}" height="{round(height / dots)}" loading="lazy" '


def searchable(app: Any, name: str) -> Iterator[list[str]]:
    """The sections of a page: address, page's title, section's title, prose, numbers of its equations."""
    if name not in app.env.titles:
        return
    doctree = app.env.get_doctree(name)
    page = app.env.titles[name].astext()
    for section in doctree.findall(nodes.section):
        title = next(
            (child.astext() for child in section.children if isinstance(child, nodes.title)),
            "",
        )
        parts = [child for child in section.children if not isinstance(child, nodes.section | nodes.title)]
        text = re.sub(r"\s+", " ", " ".join(prose(part) for part in parts)).strip()
        numbers = [n for part in parts for block in part.findall(nodes.math_block) for n in TAG.findall(block.astext())]
        first = section.parent is doctree or not isinstance(section.parent, nodes.section)
        anchor = "" if first else f"#{section['ids'][0]}"
        yield [f"{name}.html{anchor}", page, title, text, " ".join(numbers)]


def names(source: Path, sections: list[list[str]]) -> Iterator[list[Any]]:
    """The glossary's terms: address where each is introduced, its names, what else leads there, and what it is."""

    def plain(title: str) -> str:
        return title.translate(str.maketrans("\u2018\u2019\u201c\u201d", "''\"\""))  # a page's quotes are set as in print

    places = {(address.partition("#")[0], plain(title)): address for address, _, title, *_ in sections}
    for name, said in tomllib.loads((source / "book" / "glossary.toml").read_text(encoding="utf-8")).items():
        chapter, _, heading = said["at"].partition("#")
        if address := places.get((f"book/{chapter}.html", plain(heading))):
            yield [address, [name, *said.get("also", [])], said.get("search", []), said["says"]]


def prose(node: Any) -> str:
    """The text that a reader reads: formulas as an ellipsis, no code, no outputs but captions."""
    if isinstance(node, nodes.Text):
        return str(node)
    if isinstance(node, nodes.math):
        return "\u2026"
    if isinstance(
        node,
        nodes.literal_block | nodes.math_block | nodes.raw | nodes.comment | nodes.image,
    ):
        return " "
    gap = " " if isinstance(node, nodes.Body | nodes.Structural | nodes.Part) else ""
    return gap + "".join(prose(child) for child in node.children) + gap
