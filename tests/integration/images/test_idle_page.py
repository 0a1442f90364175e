"""A page that nobody touches lets its server become idle; a user's work does not."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent))

from notebook_container import UID, NotebookContainer

from taccuino.engines.images import ImageStore

pytestmark = pytest.mark.integration

QUIET_SECONDS = 18.0
"""How long an untouched page is watched: longer than any of its own timers but the slowest."""
complaints: list[str] = []
"""What the page wrote to its console."""
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "one",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": "print(6 * 7)",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture(scope="module")
def server(
    store: ImageStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NotebookContainer]:
    workarea = tmp_path_factory.mktemp("idle")
    notebook = workarea / "work.ipynb"
    notebook.write_text(json.dumps(NOTEBOOK))
    os.chown(notebook, UID + 1000, UID + 1000)
    environment = {"JUPYTERHUB_ALLOW_TOKEN_IN_URL": "1", "TACCUINO_STORAGE_FAULTS": "[]"}
    with NotebookContainer(store, workarea, "taccuino-test-idle", environment) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def page(server: NotebookContainer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page in a browser that is in the container's network, which has no other way in."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("chromium is missing: apt-get install chromium")
    inside = tmp_path_factory.mktemp("browser") / "chromium"
    inside.write_text(
        f'#!/bin/sh\nexec nsenter --net={server.network_namespace} {chromium} "$@"\n'
    )
    inside.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=inside, args=ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.goto("http://127.0.0.1:8888/user/check/lab/tree/work.ipynb?token=t")
        expect(page.locator(".jp-Notebook .jp-CodeCell")).to_be_visible(timeout=60_000)
        expect(
            page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        ).to_be_visible()
        yield page
        browser.close()


def settled(server: NotebookContainer, page: Page, seconds: float, limit: float) -> str:
    """The time of the last activity, once it has not changed for that long."""
    end = time.monotonic() + limit
    last, since = server.last_activity(), time.monotonic()
    while time.monotonic() - since < seconds:
        assert time.monotonic() < end, f"the server is in use for {limit} s without anybody"
        page.wait_for_timeout(500)
        if (now := server.last_activity()) != last:
            last, since = now, time.monotonic()
    return last


def advanced(server: NotebookContainer, page: Page, before: str) -> None:
    end = time.monotonic() + 20
    while server.last_activity() <= before:
        assert time.monotonic() < end, "this was no activity"
        page.wait_for_timeout(200)


def test_an_untouched_page_is_no_activity(server: NotebookContainer, page: Page) -> None:
    before = settled(server, page, 3, 60)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    end = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < end:
        page.wait_for_timeout(1000)
        assert server.last_activity() == before, f"activity; the page asked for {asked[-5:]}"
    assert any("/api/metrics/v1" in url for url in asked)
    assert any("/taccuino/notices" in url for url in asked)


def test_the_front_ends_parts_fit(server: NotebookContainer, page: Page) -> None:
    """No part misses another that the image switched off."""
    assert [text for text in complaints if "No provider" in text or "error: " in text] == []


def test_running_a_cell_is_activity(server: NotebookContainer, page: Page) -> None:
    before = server.last_activity()
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+Enter")
    expect(page.locator(".jp-OutputArea-output")).to_have_text("42", timeout=30_000)
    advanced(server, page, before)


def test_saving_is_activity(server: NotebookContainer, page: Page) -> None:
    before = settled(server, page, 3, 60)
    page.keyboard.press("Control+s")
    advanced(server, page, before)


def test_a_terminal_is_activity(server: NotebookContainer, page: Page) -> None:
    before = settled(server, page, 3, 60)
    assert server.get("/api/terminals", method="POST")[0] == 200
    advanced(server, page, before)


def test_the_user_is_warned_and_can_keep_it(server: NotebookContainer, page: Page) -> None:
    sentence = "This server is idle and will be stopped in 5 minutes."
    server.tell_notices({"id": "idle-1", "level": "warning", "message": sentence})
    warning = page.locator(".jp-toastContainer .Toastify__toast", has_text=sentence)
    expect(warning).to_be_visible(timeout=60_000)
    before = settled(server, page, 3, 60)
    warning.get_by_role("button", name="Keep it running").click()
    advanced(server, page, before)
