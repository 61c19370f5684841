"""The system's Chromium, and sites to open in it from their files."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.sites import write_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REQUIRED = "HALOBENCH_REQUIRE_BROWSER"
LOCAL = ("file://", "data:", "blob:")


# not of the session: while Playwright runs, nothing else in this process can call asyncio.run
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium without a window; without it tests skip, or fail if the environment says so."""
    chromium = shutil.which("chromium")
    lacks = [
        *(["Debian's package chromium"] if chromium is None else []),
        *(["make browser"] if importlib.util.find_spec("axe_playwright_python") is None else []),
    ]
    if lacks:
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(f"needs {' and '.join(lacks)}")

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # root has no sandbox; the pages are our own
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


class Visitor:
    """Opens files as a reader does, and keeps what a page that is inert and works from files never does.

    Attributes:
        complaints: console messages, errors, dialogs, requests that fail or are not for a file.
    """

    def __init__(self, browser: Browser):
        self.complaints: list[str] = []
        self._browser = browser
        self._contexts: list[Any] = []

    def __call__(self, file: Path, fragment: str = "", **options: Any) -> Page:
        """Open a file in a fresh profile; `options` are Playwright's of a context."""
        context = self._browser.new_context(**options)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self.complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", self._dismiss)
        page.on("request", self._check)
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url[:200]}"))
        page.goto(file.as_uri() + (fragment and f"#{fragment}"))
        return page

    def _dismiss(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _check(self, request: Any) -> None:
        if not request.url.startswith(LOCAL):
            self.complaints.append(f"request: {request.url[:200]}")

    def close(self) -> None:
        """Close what was opened."""
        for context in self._contexts:
            context.close()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """A visitor whose complaints the test looks at."""
    opened = Visitor(browser)
    yield opened
    opened.close()


@pytest.fixture
def visit(visitor: Visitor) -> Iterator[Callable[..., Page]]:
    """A visitor who must have nothing to complain about in the end."""
    yield visitor
    assert visitor.complaints == []


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of two settings and of published numbers."""
    return write_site(tmp_path_factory.mktemp("site"))
