"""The page of snapshots, in a real browser."""

from __future__ import annotations

import os
import re
import time

import pytest
from playwright.sync_api import Page, expect

from support.browser import enter
from support.instance import Instance

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("TACCUINO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_one_is_made_and_restored_by_two_clicks(page: Page, instance: Instance) -> None:
    person = instance.person("bruno")
    person.stop()
    person.start()
    answer = person.api(
        "PUT",
        "/user/bruno/api/contents/local/page.txt",
        json={"type": "file", "format": "text", "content": f"{time.time()}"},
    )
    assert answer.ok, answer.text
    enter(page, person)
    page.goto(f"{instance.url}/hub/home")
    page.click("a.nav-link:has-text('Snapshots')")
    expect(page).to_have_url(re.compile("/hub/snapshots$"))
    expect(page.locator("#make")).to_be_enabled()
    page.click("#make")
    expect(page.locator("#snapshot-job")).to_contain_text("is being made")
    expect(page.locator("#make")).to_be_disabled()
    expect(page.locator("#snapshot-job")).to_have_text("A snapshot was made.")
    newest = page.locator(".tc-snapshots li").first
    expect(newest).to_contain_text("Newest")
    expect(newest).to_contain_text(instance.settings.site)
    shot(page, "snapshots-made")
    newest.get_by_role("button").click()
    expect(page.locator("#snapshot-job")).to_contain_text("is in the folder restored-")
    expect(page.locator("#snapshot-message")).to_be_hidden()
    shot(page, "snapshots-restored")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 420, "height": 900})
    shot(page, "snapshots-narrow")
    # The page itself fits; only a table may be scrolled, in its own place.
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 420
    person.stop()


def test_a_failure_is_told_in_words(page: Page, instance: Instance) -> None:
    person = instance.person("bruno")
    enter(page, person)
    with instance.without("mount-plane"):
        page.goto(f"{instance.url}/hub/snapshots")
        expect(page.locator("#snapshot-message")).to_contain_text("does not answer")
        shot(page, "snapshots-failed")
    instance.wait_until_ready()
