"""What holds for every explorer."""

import re
from pathlib import Path

import nbformat

from gencourse import explorers


def test_chapters_show_each_explorer_with_its_script_as_it_is_now():
    scripts = {kind.module.stem: kind.source() for kind in vars(explorers).values() if hasattr(kind, "module")}
    shown = set()
    for path in sorted((Path(__file__).parents[2] / "book").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                html = output.get("data", {}).get("text/html", "")
                if call := re.match(r'<div id="(\w+)-[0-9a-f]{16}" class="gencourse-explorer"', html):
                    assert scripts[call[1]] in html, f"run the cell of {call[1]} in {path.name} again"
                    shown.add(call[1])
    assert shown == scripts.keys()
