"""What the tests of explorers share: a saved explorer, opened in the browser, and weights that are loaded quietly."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from chromium import Visit, serve

from gencourse.explorers.base import Explorer


@contextmanager
def opening(visit: Callable[..., Visit], explorer: Explorer, folder: Path, ready: str) -> Iterator[Callable[..., Visit]]:
    """`open_page(**options)` opens the explorer, saved as a page of its own, and waits for the element `ready`."""
    explorer.save(folder / "explorer.html")
    with serve(folder) as address:

        def open_page(**options: Any) -> Visit:
            seen = visit(**options)
            seen.page.goto(address + "explorer.html")
            seen.page.locator(ready).wait_for()
            return seen

        yield open_page


def assert_draws_no_random_number(load: Callable[[], object]) -> None:
    """Assert that the global generator is where it was: a cell that shows an explorer changes no cell after it."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load()
    assert torch.equal(torch.rand(3), expected)
