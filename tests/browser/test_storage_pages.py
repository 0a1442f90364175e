"""The storage pages as people use them: with the mouse, with the keyboard, and with a bad network."""

from __future__ import annotations

import io
import json
import re
import zipfile

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from storage_pages_driver import StoragePage, made_up
from test_journey import shot

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

MB = 1024**2

HOSTILE = {
    "cells": [
        {
            "cell_type": "markdown",
            "id": "a",
            "metadata": {},
            "source": "# Harmless title\n\n<script>parent.hacked = 1</script>"
            "<img src=x onerror='parent.hacked = 2'>"
            "<a href='javascript:parent.hacked = 3'>a link</a>"
            "<iframe srcdoc='<script>top.hacked = 4</script>'></iframe>",
        },
        {
            "cell_type": "code",
            "id": "b",
            "execution_count": 1,
            "metadata": {},
            "outputs": [
                {
                    "output_type": "display_data",
                    "metadata": {},
                    "data": {
                        "text/html": "<svg onload='parent.hacked = 5'></svg><p>shown</p>",
                        "application/javascript": "parent.hacked = 6",
                    },
                }
            ],
            "source": "print(1)",
        },
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture
def files(page: Page, instance) -> StoragePage:
    """Alice's page, while no server of hers runs."""
    instance.person("alice").stop()
    return StoragePage.opened(page, instance)


def test_an_upload_outlasts_a_cut_of_the_network(files: StoragePage) -> None:
    page, size, seed = files.page, 30 * MB, 7
    cut = False
    puts: list[str] = []

    def part(route) -> None:
        nonlocal cut
        puts.append(re.search(r"partNumber=(\d+)", route.request.url)[1])
        cut = cut or len(puts) == 2  # from the second part on, until it is mended
        if cut:
            route.abort("internetdisconnected")
        else:
            route.continue_()

    page.route("**/storage-data/**", part)
    files.drop("large.bin", size, seed)
    item = page.locator(".st-uploads li", has_text="large.bin")
    expect(item).to_have_attribute("data-state", "waiting")
    expect(item).to_contain_text("goes on by itself")
    shot(page, "pages-upload-waiting")
    page.context.set_offline(True)
    first, cut = len(puts), False
    page.context.set_offline(False)
    expect(item).to_have_attribute("data-state", "done")
    expect(files.row("large.bin")).to_contain_text("30.0 MiB")
    shot(page, "pages-upload-done")
    assert files.stored("large.bin") == made_up(size, seed)
    # What had arrived was not sent again.
    assert len(puts) - first <= 4


def test_an_upload_goes_on_after_a_reload(files: StoragePage) -> None:
    page, size, seed = files.page, 20 * MB, 11
    done: list[str] = []

    def part(route) -> None:
        if done:
            route.abort("internetdisconnected")
        else:
            done.append(route.request.url)
            route.continue_()

    page.route("**/storage-data/**", part)
    with page.expect_response(lambda answer: "partNumber" in answer.url and answer.ok):
        files.drop("reloaded.bin", size, seed)
    item = page.locator(".st-uploads li", has_text="reloaded.bin")
    expect(item).to_have_attribute("data-state", "waiting")
    page.once("dialog", lambda dialog: dialog.accept())  # leaving would interrupt it
    page.reload()
    expect(item).to_contain_text("Not finished")
    shot(page, "pages-upload-unfinished")
    page.unroute("**/storage-data/**")
    sent: list[str] = []
    page.on("request", lambda request: "partNumber" in request.url and sent.append(request.url))
    files.drop("reloaded.bin", size, seed)
    expect(files.row("reloaded.bin")).to_be_visible()
    assert len(sent) == 2, sent
    assert files.stored("reloaded.bin") == made_up(size, seed)


def test_a_name_that_is_taken_is_asked_about(files: StoragePage) -> None:
    page = files.page
    files.upload("notes.txt", b"first")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload files").click()
    chooser.value.set_files([{"name": "notes.txt", "mimeType": "", "buffer": b"second"}])
    expect(page.get_by_role("dialog")).to_contain_text("is there already")
    shot(page, "pages-conflict")
    page.get_by_role("button", name="Keep both").click()
    expect(files.row("notes (2).txt")).to_be_visible()
    assert files.stored("notes.txt") == b"first"
    assert files.stored("notes (2).txt") == b"second"


def test_rename_move_delete_and_undo(files: StoragePage) -> None:
    page = files.page
    files.upload("draft.txt", b"words")
    files.act("draft.txt", "Rename")
    page.get_by_label("New name").fill("final.txt")
    page.keyboard.press("Enter")
    expect(files.row("final.txt")).to_be_focused()
    assert files.names() == ["final.txt"]

    page.keyboard.press("Delete")
    expect(page.get_by_role("heading", name="This folder is empty")).to_be_visible()
    page.get_by_role("button", name="Undo").last.click()
    expect(files.row("final.txt")).to_be_visible()
    assert files.stored("final.txt") == b"words"

    page.keyboard.press("n")
    page.get_by_label("Name", exact=True).fill("older")
    page.keyboard.press("Enter")
    expect(files.row("older")).to_be_focused()
    files.row("final.txt").drag_to(files.row("older"))
    expect(files.row("final.txt")).to_have_count(0)
    page.keyboard.press("z")
    expect(files.row("final.txt")).to_be_visible()

    files.act("final.txt", "Delete")
    expect(files.row("final.txt")).to_have_count(0)
    page.get_by_role("link", name="Deleted files").click()
    expect(page).to_have_url(re.compile("view=deleted"))
    page.goto(files.address(query="?view=deleted"))
    shot(page, "pages-deleted")
    # The one that was moved and moved back is listed where it was, too.
    here = page.get_by_text(files.folder, exact=True)
    row = page.locator("#view tbody tr").filter(has=here).filter(has_text="final.txt")
    row.get_by_role("button", name="Actions for final.txt").click()
    page.get_by_role("menuitem", name="Restore").click()
    page.get_by_role("button", name="Show").click()
    expect(files.row("final.txt")).to_be_focused()


def test_an_earlier_version_is_had_back(files: StoragePage) -> None:
    page = files.page
    files.upload("notes.txt", b"the first")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload files").click()
    chooser.value.set_files([{"name": "notes.txt", "mimeType": "", "buffer": b"second"}])
    page.get_by_role("button", name="Replace").click()
    expect(files.row("notes.txt")).to_contain_text("6 bytes")
    files.act("notes.txt", "Versions")
    page.get_by_role("button", name=re.compile("^Restore the version")).click()
    expect(files.row("notes.txt")).to_contain_text("9 bytes")
    assert files.stored("notes.txt") == b"the first"


def test_a_hostile_notebook_is_harmless(files: StoragePage) -> None:
    page = files.page
    files.upload("hostile.ipynb", json.dumps(HOSTILE).encode())
    page.get_by_role("link", name="hostile.ipynb").click()
    frame = page.frame_locator(".st-look iframe")
    expect(frame.get_by_role("heading", name="Harmless title")).to_be_visible()
    # Its style was let into the frame, which has no origin.
    font = frame.locator(".input_area").evaluate("e => getComputedStyle(e).borderRadius")
    assert font == "8px"
    shot(page, "pages-hostile-notebook")
    frame.get_by_text("a link").click(force=True)
    assert page.locator(".st-look iframe").get_attribute("sandbox") == ""
    assert page.evaluate("window.hacked") is None
    assert "<script" not in frame.locator("html").inner_html()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.locator(".st-look")).to_have_count(0)
    page.go_back()
    expect(page.locator(".st-look iframe")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "data", "seen"),
    [
        ("a.txt", b"one\n<b>two</b>\n", "<b>two</b>"),
        ("a.csv", b"name,value\nmass,125\n", "125"),
        ("a.bin", b"\0\1\2", "no preview"),
        ("empty.txt", b"", "The file is empty"),
    ],
)
def test_previews(files: StoragePage, name: str, data: bytes, seen: str) -> None:
    files.upload(name, data)
    files.row(name).click(position={"x": 400, "y": 10})
    files.row(name).focus()
    files.page.keyboard.press("Enter")
    expect(files.page.locator(".st-shown")).to_contain_text(seen)
    files.page.reload()
    expect(files.page.locator(".st-shown")).to_contain_text(seen)
    files.page.keyboard.press("Escape")
    expect(files.row(name)).to_be_focused()


def test_a_folder_is_downloaded_as_a_zip(files: StoragePage) -> None:
    page = files.page
    for name in ("a.txt", "ü ✓.txt"):
        files.upload(name, name.encode())
    page.goto(f"{files.instance.url}/services/storage/browse/alice/")
    with page.expect_download() as begun:
        files.act(files.folder.rstrip("/"), "Download as zip")
    assert begun.value.suggested_filename == f"{files.folder.rstrip('/')}.zip"
    with zipfile.ZipFile(io.BytesIO(begun.value.path().read_bytes())) as archive:
        assert archive.testzip() is None
        held = {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert held == {"a.txt": b"a.txt", "ü ✓.txt": "ü ✓.txt".encode()}


def test_a_link_opens_without_a_login(files: StoragePage, browser) -> None:
    page = files.page
    files.upload("shared.txt", b"for everybody")
    files.act("shared.txt", "Share a link")
    page.get_by_label("The link ends after").select_option("3600")
    page.get_by_role("button", name="Make a link").click()
    url = page.get_by_label("The link", exact=True).input_value()
    shot(page, "pages-share")
    other = browser.new_context(accept_downloads=True)
    stranger = other.new_page()
    stranger.goto(url)
    expect(stranger.get_by_role("heading", name="shared.txt")).to_be_visible()
    shot(stranger, "pages-shared")
    with stranger.expect_download() as begun:
        stranger.click("#download")
    assert begun.value.path().read_bytes() == b"for everybody"
    violations(stranger)
    page.get_by_role("button", name=re.compile("^End the link")).click()
    expect(page.get_by_role("button", name=re.compile("^End the link"))).to_have_count(0)
    stranger.goto(url)
    expect(stranger.locator("#message")).to_contain_text("has ended")
    other.close()


def test_a_copy_in_scratch_has_a_link(files: StoragePage) -> None:
    page = files.page
    name = f"{files.folder[:-1]}.txt"
    files.upload(name, b"look at this")
    files.act(name, "Copy to scratch")
    link = page.get_by_label("Link to the copy").input_value()
    assert link.endswith(f"/hub/user-redirect/lab/tree/cloud_storage/scratch/alice/{name}")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    shot(page, "pages-scratch")
    page.keyboard.press("Escape")
    page.goto(f"{files.instance.url}/services/storage/browse/scratch/")
    page.get_by_role("button", name="Go to my folder").click()
    files.act(name, "Delete")
    expect(files.row(name)).to_have_count(0)


def test_the_keyboard_is_enough(files: StoragePage) -> None:
    page = files.page
    for name in ("a.txt", "b.txt", "c.txt"):
        files.upload(name, b"text")
    page.reload()
    expect(files.row("a.txt")).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if files.row("a.txt").evaluate("e => e === document.activeElement"):
            break
    expect(files.row("a.txt")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(files.row("b.txt")).to_be_focused()
    page.keyboard.press("Space")
    expect(files.row("b.txt")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#announcements")).to_have_text("b.txt selected.")
    page.keyboard.press("Shift+ArrowDown")
    expect(page.locator("tr[aria-selected=true]")).to_have_count(2)
    page.keyboard.press("Control+a")
    expect(page.locator("tbody tr[aria-selected=true]")).to_have_count(3)
    page.keyboard.press("Escape")
    expect(page.locator("tbody tr[aria-selected=true]")).to_have_count(0)
    page.keyboard.press("F2")
    page.keyboard.type("z")
    page.keyboard.press("Enter")
    expect(files.row("z.txt")).to_be_focused()
    page.keyboard.press("Shift+F10")
    expect(page.get_by_role("menuitem", name="Preview")).to_be_focused()
    page.keyboard.press("Escape")
    expect(files.row("z.txt")).to_be_focused()
    page.keyboard.press("Backspace")
    expect(page.get_by_role("link", name=files.folder[:-1], exact=True)).to_be_visible()
    expect(files.row(files.folder[:-1])).to_be_focused()
    page.keyboard.press("Enter")
    expect(files.row("z.txt")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("Z.T")
    expect(page).to_have_url(re.compile(r"q=Z\.T"))
    expect(page.locator("#view tbody tr")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(files.row("a.txt")).to_be_visible()


def test_a_failure_is_a_sentence_with_a_retry(files: StoragePage) -> None:
    page = files.page
    answer = {"status": 503, "message": "The object storage does not answer."}
    page.route("**/api/list?*", lambda route: route.fulfill(status=503, json=answer))
    page.reload()
    expect(page.locator("#fault")).to_have_text("The object storage does not answer.")
    page.unroute("**/api/list?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="This folder is empty")).to_be_visible()


def test_a_login_that_ended_is_renewed_in_place(files: StoragePage) -> None:
    page = files.page
    page.context.clear_cookies()
    page.get_by_role("button", name="Read again").click()
    page.get_by_role("button", name="Log in again").click()
    page.wait_for_url(re.compile("hub/|/login"))
    assert requests.get(page.url, timeout=30).status_code < 500


def violations(page: Page) -> None:
    """Nothing serious or critical, by axe's rules."""
    found = [
        (rule["id"], [node["html"][:120] for node in rule["nodes"][:3]])
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in {"serious", "critical"}
    ]
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 900, 1280])
def test_every_width_is_accessible(browser, instance, width: int, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(30_000)
    page = context.new_page()
    files = StoragePage.opened(page, instance)
    violations(page)
    files.upload("notes.txt", b"one\ntwo\n")
    files.upload("book.ipynb", json.dumps(HOSTILE).encode())

    def look(name: str) -> None:
        shot(page, f"pages-{width}-{scheme}-{name}")
        violations(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    look("list")
    top = files.row("notes.txt").bounding_box()
    page.get_by_label("Select notes.txt").click()
    assert files.row("notes.txt").bounding_box() == top, "the row moved below the pointer"
    look("selected")
    page.keyboard.press("Escape")
    files.row("notes.txt").focus()
    for key, name in (("?", "keys"), ("F2", "rename"), ("m", "move"), ("s", "share")):
        page.keyboard.press(key)
        expect(page.get_by_role("dialog")).to_be_visible()
        look(name)
        page.keyboard.press("Escape")
    page.keyboard.press("Shift+F10")
    expect(page.get_by_role("menu")).to_be_visible()
    look("menu")
    page.keyboard.press("Escape")
    for name in ("notes.txt", "book.ipynb"):
        page.get_by_role("link", name=name).click()
        expect(page.locator(".st-shown .st-lines, .st-shown iframe")).to_be_visible()
        look(f"preview-{name}")
        page.keyboard.press("Escape")
    page.goto(f"{instance.url}/services/storage/browse/scratch/")
    expect(page.get_by_role("button", name="Go to my folder")).to_be_visible()
    look("scratch")
    page.goto(files.address(query="?view=deleted"))
    expect(page.get_by_role("heading", name="Nothing was deleted")).to_be_visible()
    look("deleted")
    context.close()
