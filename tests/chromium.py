"""A headless Chromium without a network, for the tests of pages and explorers; their conftest files import the fixtures."""

import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")  # closed after each file: while playwright runs, no other test could use asyncio
def browser():
    """The system's Chromium; playwright's own download is not used, so that the tests need nothing from elsewhere."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail("no Chromium found: install it with `apt-get install chromium`, or Google Chrome elsewhere.", pytrace=False)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


class Visit:
    """A page that may talk to loopback only, and remembers what it asked for and complained about."""

    def __init__(self, page) -> None:
        self.page, self.elsewhere, self.errors = page, [], []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", lambda r: self.errors.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.route("**/*", self._route)

    def _route(self, route) -> None:
        url = route.request.url
        if url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:")):
            route.continue_()
        else:
            self.elsewhere.append(url)
            route.abort()


@pytest.fixture
def visit(browser):
    """`visit(width=1200, height=900, dark=False, touch=False)` opens an empty page with no network but loopback."""
    contexts = []

    def start(*, width: int = 1200, height: int = 900, dark: bool = False, touch: bool = False) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", has_touch=touch
        )
        context.set_default_timeout(600_000)  # a busy machine is slow, and no fault
        contexts.append(context)
        return Visit(context.new_page())

    yield start
    for context in contexts:
        context.close()


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; gives its address, ending in a slash."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
