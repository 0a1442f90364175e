"""Debian's chromium, as the tests and the benchmarks start it."""

from __future__ import annotations

import shutil

from playwright.sync_api import Page

from .person import Person

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """The program's path."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: apt-get install chromium (scripts/test does)"
    return program


def enter(page: Page, person: Person) -> None:
    """Bring a person's session into the browser; the login's own pages are tested elsewhere."""
    person.login()
    page.context.add_cookies(
        [
            {"name": item.name, "value": item.value, "domain": "localhost", "path": item.path}
            for item in person.http.cookies
        ]
    )
