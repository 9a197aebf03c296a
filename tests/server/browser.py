"""Debian's Chromium, driven at a server over a sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Browser, BrowserContext, Page

__all__ = ["chromium", "page"]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser, started once a module."""
    from playwright.sync_api import sync_playwright  # takes long, and quick tests have no use for it

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, base: str) -> Iterator[Callable[..., Page]]:
    """A page in a context of its own; nothing that it does may end in an error of a script or of the policy."""
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def opened(**options: object) -> Page:
        context = chromium.new_context(base_url=base, **options)  # type: ignore[arg-type]
        contexts.append(context)
        new = context.new_page()
        new.set_default_timeout(15_000)
        new.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        new.on("pageerror", lambda error: said.append(str(error)))
        return new

    yield opened
    for context in contexts:
        context.close()
    assert [text for text in said if "(Not Found)" not in text] == []
