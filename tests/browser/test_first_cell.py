"""The first cell of a notebook in JupyterLab: it can be run at once, its kernel was there before."""

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


@pytest.fixture
def lab(page: Page, alice: Person) -> Page:
    """A page of Alice's, where JupyterLab was opened in her bucket."""
    alice.login()
    page.context.add_cookies(
        [
            {"name": item.name, "value": item.value, "domain": "localhost", "path": item.path}
            for item in alice.http.cookies
        ]
    )
    page.goto(f"{alice.url}/user/alice/lab/tree/cloud_storage/alice?reset")
    return page


def test_the_first_cell_of_a_new_notebook(lab: Page) -> None:
    page = lab
    expect(page.locator(".jp-BreadCrumbs", has_text="alice")).to_be_visible()
    card = page.locator(".jp-LauncherCard[data-category=Notebook]").first
    card.wait_for()
    clicked = time.time()
    card.click()
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    cell.locator(".cm-content").click()
    page.keyboard.insert_text(CODE)
    page.keyboard.press("Shift+Enter")
    output = cell.locator(".jp-OutputArea-output")
    expect(output).to_have_text(re.compile(r"older .* so"))
    _, created, directory, _ = output.inner_text().split()
    assert float(created) < clicked
    assert directory == "/workarea/cloud_storage/alice"


def test_what_is_run_while_the_kernel_starts_is_run_in_its_order(lab: Page) -> None:
    """Also where no kernel was started ahead, and it takes long."""
    lab.route("**/api/sessions?*", lambda route: (time.sleep(1), route.continue_())[1])
    card = lab.locator(".jp-LauncherCard[data-category=Notebook]").first
    card.click()
    first = lab.locator(".jp-Notebook .jp-CodeCell").nth(0)
    first.locator(".cm-content").click()
    lab.keyboard.insert_text("found = ['one']; print('first', *found)")
    lab.keyboard.press("Shift+Enter")
    expect(first.locator(".jp-InputPrompt")).to_have_text("[*]:")
    lab.keyboard.insert_text("found.append('two'); print('second', *found)")
    lab.keyboard.press("Shift+Enter")
    outputs = lab.locator(".jp-Notebook .jp-OutputArea-output")
    expect(outputs).to_have_text([re.compile("first one"), re.compile("second one two")])
    expect(first.locator(".jp-InputPrompt")).to_have_text("[1]:")


def test_a_second_window_has_a_workspace_of_its_own(lab: Page) -> None:
    """A window that is opened again keeps its own."""
    expect(lab.locator(".jp-LauncherCard").first).to_be_visible()
    lab.goto(lab.url.partition("/lab")[0] + "/lab")
    expect(lab.locator(".jp-LauncherCard").first).to_be_visible()
    lab.reload()
    expect(lab.locator(".jp-LauncherCard").first).to_be_visible()
    assert "/workspaces/" not in lab.url
    other = lab.context.new_page()
    other.goto(lab.url)
    expect(other).to_have_url(re.compile(r"/lab/workspaces/auto-\w"))
    expect(other.locator(".jp-LauncherCard").first).to_be_visible()
    address = lab.url
    lab.goto("about:blank")
    other.goto(address)
    expect(other.locator(".jp-LauncherCard").first).to_be_visible()
    assert "/workspaces/" not in other.url
