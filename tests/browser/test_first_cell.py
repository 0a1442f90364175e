"""A new notebook in JupyterLab: its kernel was there before it was asked for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from support.instance import Instance
from support.person import Person

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CODE = "import os, psutil; print('older', psutil.Process().create_time(), os.getcwd(), 'so')"


@pytest.fixture
def alice(instance: Instance) -> Iterator[Person]:
    person = instance.person("alice")
    person.stop()
    assert person.start(memory="1G")[-1].get("ready")
    yield person
    person.stop()


def test_the_first_cell_of_a_new_notebook(page: Page, alice: Person) -> None:
    alice.login()
    page.context.add_cookies(
        [
            {"name": item.name, "value": item.value, "domain": "localhost", "path": item.path}
            for item in alice.http.cookies
        ]
    )
    page.goto(f"{alice.url}/user/alice/lab/tree/cloud_storage/alice?reset")
    expect(page.locator(".jp-BreadCrumbs", has_text="alice")).to_be_visible()
    card = page.locator(".jp-LauncherCard[data-category=Notebook]").first
    card.wait_for()
    clicked = time.time()
    card.click()
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    # JupyterLab drops what is run before its kernel is connected.
    expect(page.locator("#jp-main-statusbar", has_text="| Idle")).to_be_visible()
    cell.locator(".cm-content").click()
    page.keyboard.insert_text(CODE)
    page.keyboard.press("Shift+Enter")
    output = cell.locator(".jp-OutputArea-output")
    expect(output).to_have_text(re.compile(r"older .* so"))
    _, created, directory, _ = output.inner_text().split()
    assert float(created) < clicked
    assert directory == "/workarea/cloud_storage/alice"
