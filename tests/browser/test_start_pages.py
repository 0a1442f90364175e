"""The pages around a start and a stop, in a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
import threading

import pytest
from playwright.sync_api import Page, Route, expect

from support.browser import enter
from support.instance import Instance
from support.notebook import Notebook

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_cancel_leads_home_and_nothing_failed(page: Page, instance: Instance) -> None:
    person = instance.person("bruno")
    person.stop()
    enter(page, person)
    page.goto(f"{instance.url}/hub/spawn")
    with instance.hanging("mount-plane"):  # a start would be over before it is cancelled
        page.click("#start")
        page.click("#stop-server-btn")
    page.wait_for_url(re.compile("/hub/home"))
    expect(page.locator("#server-state")).to_have_text("Stopped")
    expect(page.locator("#last-failure")).to_have_count(0)
    expect(page.locator("a#start")).to_have_text("Start my server")
    person.stop()
    page.goto(f"{instance.url}/user/bruno/lab")
    expect(page.locator(".tc-message-error:visible")).to_have_count(0)


def test_a_start_that_waits_shows_its_place(page: Page, instance: Instance) -> None:
    """The events are told in the hub's stead: a queue of the service's own is soon over."""
    person = instance.person("bruno")
    person.stop()
    enter(page, person)
    told = [{"progress": 0, "phase": "queue", "place": 7}]

    def tell(route: Route) -> None:
        events = [
            {"message": f"You are number {event.get('place')} in the queue", **event}
            for event in told
        ]
        body = "retry: 200\n\n" + "".join(f"data: {json.dumps(one)}\n\n" for one in events)
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    page.route("**/server/progress*", tell)
    page.goto(f"{instance.url}/hub/spawn")
    page.click("#start")
    expect(page.locator("#start-title")).to_have_text("You are number 7 in the queue")
    expect(page.locator("#start-lead")).to_contain_text("one after the other")
    expect(page.locator(".tc-step[data-state=waiting]")).to_have_count(4)
    if folder := os.environ.get("TACCUINO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/start-queue.png")
    told[:] = [{"progress": 10, "phase": "storage", "message": "Preparing your storage"}]
    expect(page.locator("#start-title")).to_have_text("Your server is starting")
    expect(page.locator(".tc-step[data-state=now]")).to_have_attribute("data-phase", "storage")
    page.click("#stop-server-btn")
    page.wait_for_url(re.compile("/hub/home"))
    person.stop()


def test_the_home_page_follows_a_stop_and_its_uploads(page: Page, instance: Instance) -> None:
    person = instance.person("bruno")
    person.stop()
    assert person.start()[-1].get("ready")
    enter(page, person)
    page.goto(f"{instance.url}/hub/home")
    with Notebook(person) as notebook:
        notebook.run("file = open('/workarea/cloud_storage/bruno/late', 'w'); file.write('x')")
        storage = instance.service("radosgw")
        storage.send_signal(signal.SIGSTOP)
        back = threading.Timer(30, storage.send_signal, [signal.SIGCONT])
        back.start()
        try:
            notebook.run("file.close()")
            page.click("#stop")
            expect(page.locator("#server-state")).to_have_text("Stopping")
            expect(page.locator("#stop-message")).to_contain_text("1 file left")
        finally:
            back.cancel()
            storage.send_signal(signal.SIGCONT)
    # An upload that is under way may have to fail first, and is then tried again.
    expect(page.locator("#server-state")).to_have_text("Stopped", timeout=60_000)
    expect(page.locator("#stop-message")).to_have_count(0)
    person.stop()


def test_the_home_page_shows_how_full_the_bucket_is(page: Page, instance: Instance) -> None:
    person = instance.person("bruno")
    if not person.api("GET", "/taccuino/storage").json():  # no server ever ran
        assert person.start()[-1].get("ready")
    enter(page, person)
    page.goto(f"{instance.url}/hub/home")
    expect(page.locator("#storage-words")).to_contain_text("of 200 GiB used")
    expect(page.locator("#storage [role=meter]")).to_have_attribute("aria-valuenow", "0")
    person.stop()


@pytest.mark.parametrize("path", ["/user/alice/lab", "/user/nobody-at-all/lab"])
def test_another_ones_server_is_told_to_be_that(
    page: Page, instance: Instance, path: str
) -> None:
    enter(page, instance.person("bruno"))
    page.goto(f"{instance.url}{path}")
    expect(page.locator("h1")).to_have_text("This is not your server")
    expect(page.locator("#logout")).to_be_visible()
