"""A real browser: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from support.browser import ARGUMENTS, chromium_apart

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a module: while it lives, its event loop keeps asyncio's tests from theirs."""
    with chromium_apart() as program, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(60_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page; with ``TACCUINO_SCREENSHOTS`` set, its last state is kept there as a PNG."""
    page = context.new_page()
    yield page
    if folder := os.environ.get("TACCUINO_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = re.sub(r"\W+", "-", request.node.name)
        page.screenshot(path=f"{folder}/{name}.png")
