"""Notebooks are rendered in processes of their own, which end in time."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from taccuino.storage.pages import preview
from taccuino.storage.pages.errors import CallError
from taccuino.storage.pages.preview import notebook_preview


def notebook(*cells: dict[str, Any]) -> bytes:
    """A notebook of these cells."""
    content = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells}
    return json.dumps(content).encode()


def markdown(source: str) -> dict[str, Any]:
    """A cell of text."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


HOSTILE = notebook(markdown("\\begin{a}" * 100_000))


async def test_a_notebook_is_rendered() -> None:
    shown = await notebook_preview("alice", notebook(markdown("# Héllo\n<script>x()</script>")))
    assert shown["kind"] == "notebook"
    assert "Héllo" in shown["html"]
    assert "<script" not in shown["html"]


async def test_what_is_no_notebook_is_told() -> None:
    shown = await notebook_preview("alice", b"{}")
    assert shown["kind"] == "none"
    assert "can't be read" in shown["reason"]


async def test_a_notebook_that_takes_too_long_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preview, "_NOTEBOOK_SECONDS", 1.5)
    began = time.monotonic()
    hostile = asyncio.create_task(notebook_preview("mallory", HOSTILE))
    longest = 0.0
    while not hostile.done():
        asked = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - asked)
    assert longest < 1
    assert time.monotonic() - began < 4
    shown = hostile.result()
    assert shown["kind"] == "none"
    assert "too much time" in shown["reason"]


async def test_one_user_looks_at_one_notebook_at_a_time() -> None:
    hostile = [asyncio.create_task(notebook_preview("mallory", HOSTILE)) for _ in range(7)]
    await asyncio.sleep(0)
    with pytest.raises(CallError) as refused:
        await hostile[-1]
    assert refused.value.status == 429
    shown = await notebook_preview("alice", notebook(markdown("# Hello")))
    assert shown["kind"] == "notebook"
    for task in hostile:
        task.cancel()
    await asyncio.gather(*hostile, return_exceptions=True)
