"""What a user sees of their cloud storage in JupyterLab and on the home page."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from support.instance import Instance
from support.notebook import Notebook
from support.person import Person

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

TEXT = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def enter(page: Page, person: Person) -> None:
    """Bring a person's session into the browser; the login's own pages are tested elsewhere."""
    person.login()
    page.context.add_cookies(
        [
            {"name": item.name, "value": item.value, "domain": "localhost", "path": item.path}
            for item in person.http.cookies
        ]
    )


@contextlib.contextmanager
def storage_stopped(instance: Instance) -> Iterator[None]:
    """The object storage's process is not there."""
    socket = f"unix://{instance.state_dir}/supervisor/supervisor.sock"
    control = [sys.executable, "-m", "supervisor.supervisorctl", "-s", socket]
    subprocess.run([*control, "stop", "radosgw"], cwd="/", check=True)
    try:
        yield
    finally:
        subprocess.run([*control, "start", "radosgw"], cwd="/", check=True)


def told(page: Page, **storage: Any) -> None:
    """Let the page hear of this state of the storage in place of the real one."""

    def answer(route: Route) -> None:
        heard = route.fetch().json()
        route.fulfill(
            json=heard
            | {"notices": storage.get("notices", [])}
            | {"storage": heard["storage"] | {"known": True, "away": False} | storage}
        )

    page.route("**/taccuino/notices*", answer)


@pytest.fixture
def alice(instance: Instance) -> Iterator[Person]:
    person = instance.person("alice")
    person.stop()
    assert person.start()[-1].get("ready")
    yield person
    person.stop()


def open_lab(page: Page, person: Person, folder: str = "local") -> None:
    enter(page, person)
    page.goto(f"{person.url}/user/{person.username}/lab/tree/{folder}?reset")
    page.locator(".jp-DirListing").wait_for()


def test_the_storage_goes_away_and_comes_back(
    page: Page, instance: Instance, alice: Person
) -> None:
    open_lab(page, alice)
    status, banner = page.locator(".taccuino-status"), page.locator(".taccuino-banner")
    expect(status).to_have_text("All saved to cloud storage")
    with Notebook(alice) as notebook:
        notebook.run("file = open('/workarea/cloud_storage/alice/waits.txt', 'w')")
        with storage_stopped(instance):
            notebook.run("file.write('x'); file.close()")
            expect(banner).to_contain_text("can't be reached", timeout=60_000)
            expect(status).to_have_text("Storage away, 1 waits", timeout=10_000)
            expect(banner).to_contain_text("1 saved file waits")
            # The files view of another directory goes on.
            page.goto(f"{alice.url}/user/alice/lab/tree/examples?reset")
            expect(page.locator(".jp-DirListing-item")).to_have_count(3)
            expect(banner).to_be_visible()
    expect(banner).to_be_hidden(timeout=60_000)
    expect(status).to_have_text("All saved to cloud storage", timeout=60_000)


def test_quota_conflict_and_failed_upload(page: Page, alice: Person) -> None:
    alice.api("PUT", "/user/alice/api/contents/local/a (conflict).txt", json=text("theirs"))
    copy = "local/a (conflict).txt"
    told(
        page,
        used_bytes=190 * 2**30,
        quota_bytes=200 * 2**30,
        failed=1,
        upload_errors=[{"message": "cloud_storage/alice/b: full.", "advice": "Delete."}],
        notices=[
            {"id": "conflict-1", "level": "warning", "message": "a.txt: kept", "open": copy},
            {"id": "upload-1", "level": "error", "message": "Not uploaded: cloud_storage/b"},
        ],
    )
    open_lab(page, alice)
    expect(page.locator(".taccuino-status")).to_contain_text("1 file not uploaded")
    meter = page.locator(".taccuino-status [role=meter]")
    expect(meter).to_have_attribute("aria-valuenow", "95")
    expect(meter).to_have_attribute("data-level", "warning")
    expect(page.get_by_text("Not uploaded: cloud_storage/b")).to_be_visible()
    page.get_by_role("button", name="Details").click()
    panel = page.get_by_role("dialog", name="Cloud storage")
    expect(panel).to_contain_text("190 GiB of 200 GiB used (95 %)")
    expect(panel).to_contain_text("cloud_storage/alice/b: full. Delete.")
    link = panel.get_by_role("link", name="Browse your files")
    expect(link).to_have_attribute("href", f"{alice.url}/services/storage/")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    page.get_by_role("button", name="Open the other version").click()
    expect(page.locator(".lm-TabBar-tabLabel", has_text="a (conflict).txt")).to_be_visible()


def text(content: str) -> dict[str, str]:
    return {"type": "file", "format": "text", "content": content}


def test_a_shared_notebook_opens_in_anothers_server(
    page: Page, browser: Browser, instance: Instance, alice: Person
) -> None:
    code = {"cell_type": "code", "id": "a", "execution_count": None, "metadata": {}}
    cells = [code | {"outputs": [], "source": "print('from alice')"}]
    name = "for bruno.ipynb"
    alice.api(
        "PUT",
        f"/user/alice/api/contents/local/{name}",
        json={"type": "notebook", "format": "json", "content": TEXT | {"cells": cells}},
    )
    open_lab(page, alice)
    page.locator(".jp-DirListing-item", has_text=name).click(button="right")
    page.get_by_role("menuitem", name="Copy to scratch and get a link").click()
    field = page.get_by_label("Link to the copy")
    expect(field).to_be_visible()
    expect(page.locator(".jp-Dialog-content")).to_contain_text("All users of this service")
    link = field.input_value()
    path = link.partition("/lab/tree/")[2]

    bruno = instance.person("bruno")
    bruno.stop()
    context = browser.new_context()
    try:
        other = context.new_page()
        enter(other, bruno)
        other.goto(link)
        if re.search("/hub/spawn", other.url):
            other.click("#start")
        other.wait_for_url(re.compile(r"/user/bruno/lab/tree/"), timeout=120_000)
        expect(other.locator(".jp-Notebook .jp-CodeCell")).to_contain_text("from alice")
        theirs = bruno.api("GET", f"/user/bruno/files/{path}")
        original = alice.api("GET", f"/user/alice/files/local/{name}")
        assert theirs.content == original.content != b""
        refused = bruno.api("PUT", f"/user/bruno/api/contents/{path}", json=text("mine"))
        assert refused.status_code >= 400
    finally:
        context.close()
        bruno.stop()


def test_a_big_copy_can_be_cancelled(page: Page, alice: Person) -> None:
    with Notebook(alice) as notebook:
        notebook.run(
            "with open('/workarea/local/big.bin', 'wb') as file: file.truncate(6 * 2**30)"
        )
        open_lab(page, alice)
        page.locator(".jp-DirListing-item", has_text="big.bin").click(button="right")
        page.get_by_role("menuitem", name="Copy to scratch and get a link").click()
        expect(page.get_by_role("progressbar", name="Copying local/big.bin")).to_be_visible()
        page.get_by_role("button", name="Cancel the copy").click()
        left = (
            "import glob, time\n"
            "end = time.time() + 30\n"
            "find = lambda: glob.glob('/workarea/cloud_storage/scratch/alice/.*.part')\n"
            "while find() and time.time() < end: time.sleep(0.1)\n"
            "print(find(), glob.glob('/workarea/cloud_storage/scratch/alice/big*'))"
        )
        assert notebook.run(left) == "[] []\n"
        notebook.run("import os; os.remove('/workarea/local/big.bin')")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"used_bytes": 3 * 2**30, "quota_bytes": 4 * 2**30, "objects": 5}, "(75 %), 5 files."),
        ({"used_bytes": 2**30, "quota_bytes": None, "objects": 1}, "1.0 GiB used"),
        ({"used_bytes": None, "quota_bytes": None, "objects": None}, None),
        (None, None),
    ],
)
def test_the_home_page_tells_how_full_the_bucket_is(
    page: Page, instance: Instance, answer: dict[str, Any] | None, words: str | None
) -> None:
    def fulfill(route: Route) -> None:
        route.fulfill(json=answer) if answer else route.fulfill(status=503)

    page.route("**/hub/api/taccuino/storage", fulfill)
    enter(page, instance.person("alice"))
    with page.expect_response("**/hub/api/taccuino/storage"):
        page.goto(f"{instance.url}/hub/home")
    if words:
        expect(page.locator("#storage-words")).to_contain_text(words)
    else:
        expect(page.locator("#storage")).to_be_hidden()
    expect(page.locator("#browse-files")).to_have_attribute("href", "/services/storage/")
