"""Debian's chromium, as the tests and the benchmarks start it."""

from __future__ import annotations

import shutil

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
