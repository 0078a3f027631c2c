"""What every explorer shares: one ES module, the state it starts from, and the ways to show the two.

The module's contract is anywidget's (https://anywidget.dev): it defines `render({ model, el })` and ends in
`export default { render }`. In a static page the "model" is a few lines that hold the state; with a kernel it is a real
one, and what the reader does reaches Python.
"""

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

_PAGE = """<div id="{id}" class="gencourse-explorer">{fallback}</div>
<script type="module">
{module}
const state = {state};
for (const el of document.querySelectorAll('[id="{id}"]:not([data-live])')) {{
  el.dataset.live = "";
  const own = {{ ...state }};
  const model = {{ get: (k) => own[k], set: (k, v) => {{ own[k] = v; }}, save_changes() {{}}, on() {{}}, off() {{}} }};
  render({{ model, el }});
}}
</script>
"""

_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>:root {{ color-scheme: light dark; }} body {{ margin: 1rem; font-family: system-ui, sans-serif; }}</style>
</head>
<body>
{body}</body>
</html>
"""


class Explorer:
    """An interactive picture made of an ES module and a state in JSON.

    As the value of a notebook cell it is a piece of HTML that needs nothing else, with a still picture inside for
    readers without scripts, and the same still picture as PNG for viewers that strip scripts. The element's id is a hash
    of the content: the same state gives the same bytes.

    Args:
        state: what the module reads with `model.get(name)`; JSON, with tensors passed through `pack`.
        still: the picture as PNG.
        alt: what the picture shows, in a sentence or two.
    """

    module: ClassVar[Path]
    helpers: ClassVar[tuple[Path, ...]] = ()  # plain functions that stand before the module

    def __init__(self, state: dict[str, Any], *, still: bytes, alt: str) -> None:
        self.state, self.still, self.alt = state, still, alt

    @classmethod
    def source(cls) -> str:
        """The ES module's text, its helpers first."""
        return "".join(path.read_text(encoding="utf-8") for path in (*cls.helpers, cls.module))

    def to_html(self) -> str:
        """The explorer as a piece of HTML: an element and its script."""
        module = self.source()
        # "</script>" inside the script would end it
        state = json.dumps(self.state, separators=(",", ":"), sort_keys=True).replace("</", "<\\/")
        key = hashlib.sha256((module + state).encode()).hexdigest()[:16]
        return _PAGE.format(
            id=f"{self.module.stem}-{key}",
            fallback=self.fallback(),
            module=module,
            state=state,
        )

    def fallback(self) -> str:
        """What readers without scripts see, as HTML: the still picture."""
        still = base64.b64encode(self.still).decode()
        return f'<img alt="{html.escape(self.alt, quote=True)}" src="data:image/png;base64,{still}" />'

    def save(self, path: str | Path) -> Path:
        """Write a page of its own that opens in any browser, without a network."""
        path = Path(path)
        path.write_text(_DOCUMENT.format(title=type(self).__name__, body=self.to_html()), encoding="utf-8")
        return path

    def widget(self) -> Any:
        """The same module as a widget: what the reader changes is an attribute in Python, and the reverse.

        Raises:
            ImportError: if anywidget is not installed.
        """
        try:
            import anywidget
            import traitlets
        except ImportError:
            raise ImportError("explorer.widget() needs the package anywidget: pip install anywidget.") from None
        body: dict[str, Any] = {name: traitlets.Any(value).tag(sync=True) for name, value in self.state.items()}
        body["_esm"] = self.source()
        return type(type(self).__name__ + "Widget", (anywidget.AnyWidget,), body)()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {
            "text/html": self.to_html(),
            "image/png": base64.b64encode(self.still).decode(),
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.alt})"


def pack(x: Tensor, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """A tensor as JSON: `{"dtype", "shape", "data"}`, little-endian float16 or float32 in base64."""
    array = x.detach().cpu().to(dtype).contiguous().numpy()
    array = array.astype(array.dtype.newbyteorder("<"))
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode()}
