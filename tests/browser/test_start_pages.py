"""The pages around a start and a stop, in a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time

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
    with instance.hanging("mount-plane"):  # there would be no page of a start else
        page.click("#start")
        expect(page.locator("#start-title")).to_have_text("You are number 7 in the queue")
        expect(page.locator("#start-lead")).to_contain_text("one after the other")
        expect(page.locator(".tc-step[data-state=waiting]")).to_have_count(4)
        if folder := os.environ.get("TACCUINO_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/start-queue.png")
        told[:] = [{"progress": 10, "phase": "storage", "message": "Preparing your storage"}]
        expect(page.locator("#start-title")).to_have_text("Your server is starting")
        now = page.locator(".tc-step[data-state=now]")
        expect(now).to_have_attribute("data-phase", "storage")
        page.click("#stop-server-btn")
    page.wait_for_url(re.compile("/hub/home"))
    person.stop()


def test_a_server_that_waited_is_there_without_a_page_of_its_start(
    page: Page, instance: Instance
) -> None:
    person = instance.person("bruno")
    person.stop()
    enter(page, person)
    seen: list[str] = []
    page.on("framenavigated", lambda frame: seen.append(frame.url))
    deadline = time.monotonic() + 60
    while "/user/bruno/lab" not in "".join(seen) or any("/spawn-pending/" in u for u in seen):
        assert time.monotonic() < deadline, seen  # the pool may have to be filled first
        person.stop()
        time.sleep(3)
        seen.clear()
        page.goto(f"{instance.url}/hub/spawn?image=base&cpu=1&memory=1G&interface=lab")
        page.wait_for_url(re.compile("/user/bruno/lab"), wait_until="commit")
    person.stop()


def test_a_lab_that_takes_long_to_load_says_so(page: Page, instance: Instance) -> None:
    """What covers JupyterLab offers a way out after 12 s, and is gone once all is there."""
    person = instance.person("bruno")
    person.stop()
    assert person.start(interface="lab")[-1].get("ready")
    enter(page, person)
    held: list[Route] = []
    hold = re.compile("/lab/api/workspaces/")
    page.route(hold, lambda route: held.append(route))
    page.goto(f"{instance.url}/user/bruno/lab", wait_until="commit")
    cover = page.locator("#jupyterlab-splash")
    expect(cover).to_have_text("Loading JupyterLab …")
    expect(page.locator(".jp-Dialog")).to_contain_text("JupyterLab takes long to load")
    page.click(".jp-Dialog .jp-mod-reject")
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    expect(cover).to_be_visible()
    for route in held:
        route.continue_()
    page.unroute(hold)
    expect(cover).to_have_count(0)
    expect(page.locator(".jp-DirListing-item").first).to_be_visible()
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
