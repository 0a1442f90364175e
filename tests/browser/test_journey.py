"""A user's journey through the pages, from the first login to the file that is still there."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import boto3
import pytest
from playwright.sync_api import Page, expect

from support.notebook import Notebook

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "write",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": "from pathlib import Path\n"
            "path = Path('/workarea/cloud_storage/{user}/journey.txt')\n"
            "path.write_text('written by a notebook')\n"
            "Path('/tmp/ephemeral.txt').write_text('gone')\n"
            "print('saved', path.stat().st_size, 'bytes')",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def shot(page: Page, name: str) -> None:
    """Keep a screenshot for a person to look at, where one is wanted."""
    if folder := os.environ.get("TACCUINO_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png")


def log_in(page: Page, instance, username: str, password: str | None = None) -> None:
    """From the service's address through the IAM's own pages, consenting if asked."""
    page.goto(instance.url)
    shot(page, f"{username}-1-login")
    page.click("#log-in")
    page.wait_for_load_state()
    shot(page, f"{username}-2-iam-login")
    page.fill("input[name=login]", username)
    page.keyboard.press("Enter")
    page.fill("input[name=password]", password or instance.accounts[username]["password"])
    page.keyboard.press("Enter")
    consent = page.locator("button[name=answer][value=accept]")
    hub = page.locator("#main")
    expect(consent.or_(hub).first).to_be_visible()
    if consent.is_visible():
        shot(page, f"{username}-3-consent")
        consent.click()
    page.wait_for_url(re.compile(re.escape(instance.url)))


def choose_and_start(page: Page, instance, cpu: str, memory: str, interface: str) -> None:
    """Fill the options form and follow the progress to the notebook server."""
    page.goto(f"{instance.url}/hub/spawn")
    page.select_option("#image", "base")
    for name, value in (("cpu", cpu), ("memory", memory), ("interface", interface)):
        page.locator(f"input[name={name}][value='{value}']").check(force=True)
    shot(page, f"form-{interface}")
    page.locator("#main [type=submit]").click()
    # A warm server may be there before the page of its progress.
    progress, jupyter = page.locator("#steps"), page.locator("#jupyter-config-data")
    expect(progress.or_(jupyter).first).to_be_attached(timeout=30_000)
    shot(page, f"progress-{interface}")


def test_the_whole_journey(page: Page, instance) -> None:
    person = instance.person("bruno")
    person.stop()
    log_in(page, instance, "bruno")

    choose_and_start(page, instance, cpu="1", memory="2G", interface="lab")
    page.wait_for_url(re.compile(r"/user/bruno/lab"), timeout=120_000)
    expect(page.locator("#jp-main-dock-panel")).to_be_visible()
    for name in ("cloud_storage", "examples", "local"):
        expect(page.locator(".jp-DirListing-item", has_text=name).first).to_be_visible()
    shot(page, "lab")
    # The limits are in the status bar.
    expect(page.locator("#jp-main-statusbar", has_text=re.compile("CPU.*Mem"))).to_be_visible()

    # A notebook in cloud_storage, run in the page.
    text = json.dumps(NOTEBOOK).replace("{user}", "bruno")
    answer = person.api(
        "PUT",
        "/user/bruno/api/contents/cloud_storage/bruno/journey.ipynb",
        json={"type": "notebook", "format": "json", "content": json.loads(text)},
    )
    assert answer.status_code in (200, 201), answer.text
    page.goto(f"{instance.url}/user/bruno/lab/tree/cloud_storage/bruno/journey.ipynb")
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    cell.wait_for()
    # JupyterLab drops what is run before its kernel is connected.
    expect(page.locator("#jp-main-statusbar", has_text="| Idle")).to_be_visible()
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    expect(cell.locator(".jp-OutputArea-output", has_text="saved 21 bytes")).to_be_visible()
    page.keyboard.press("Control+s")
    shot(page, "notebook")

    # The same object through S3, with credentials that come without a key.
    with Notebook(person) as notebook:
        values = json.loads(
            notebook.run(
                "import boto3, json, os\n"
                "c = boto3.Session().get_credentials().get_frozen_credentials()\n"
                "print(json.dumps([c.access_key, c.secret_key, c.token, os.environ['TACCUINO_BUCKET']]))"
            )
        )
    s3 = boto3.client(
        "s3",
        endpoint_url=instance.status["s3"]["endpoint"],
        region_name=instance.status["s3"]["region"],
        aws_access_key_id=values[0],
        aws_secret_access_key=values[1],
        aws_session_token=values[2],
    )
    deadline = time.monotonic() + 20
    while "Contents" not in (
        listing := s3.list_objects_v2(Bucket=values[3], Prefix="journey.txt")
    ):
        assert time.monotonic() < deadline, listing
        time.sleep(0.2)
    body = s3.get_object(Bucket=values[3], Key="journey.txt")["Body"].read()
    assert body == b"written by a notebook"

    # Stop it on the hub's page; nothing is left behind.
    page.goto(f"{instance.url}/hub/home")
    shot(page, "home-running")
    page.click("#stop")
    expect(page.locator("#server-state")).to_have_text("Stopped", timeout=90_000)
    shot(page, "home-stopped")
    assert instance.leftovers("bruno") == []

    # The form remembers; the classic interface; the file is there, the ephemeral one is not.
    page.goto(f"{instance.url}/hub/spawn")
    expect(page.locator("input[name=memory][value='2G']")).to_be_checked()
    choose_and_start(page, instance, cpu="2", memory="1G", interface="notebook")
    page.wait_for_url(re.compile(r"/user/bruno/tree"), timeout=120_000)
    page.get_by_text("cloud_storage", exact=True).first.wait_for()
    shot(page, "tree")
    with Notebook(person) as notebook:
        content = notebook.shell("cat /workarea/cloud_storage/bruno/journey.txt; ls /tmp")
        assert content.startswith("written by a notebook")
        assert "ephemeral.txt" not in content
    person.stop()


def test_logout_offers_the_iams(page: Page, instance) -> None:
    log_in(page, instance, "alice")
    page.goto(f"{instance.url}/hub/logout")
    shot(page, "logout")
    link = page.get_by_role("link", name=re.compile("log out|logout", re.IGNORECASE)).first
    expect(link).to_be_visible()
    page.goto(f"{instance.url}/hub/home")
    expect(page.locator("#log-in")).to_be_visible()


def test_another_ones_server_is_closed(page: Page, instance) -> None:
    log_in(page, instance, "alice")
    response = page.goto(f"{instance.url}/user/bruno/lab")
    assert response is not None
    assert response.status in (403, 404)
    shot(page, "forbidden")
    assert "Traceback" not in page.content()


def test_registration_is_linked(page: Page, instance) -> None:
    page.goto(instance.url)
    page.click("#register")
    page.wait_for_load_state()
    shot(page, "register")
    assert page.url.startswith(instance.status["iam"]["issuer"])
    expect(
        page.locator("input[name=user_name], input[name=email], input[name=emails]").first
    ).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_stand_on_a_phone(browser, instance, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    log_in(page, instance, "ada")
    for name in ("home", "spawn", "token"):
        page.goto(f"{instance.url}/hub/{name}")
        shot(page, f"phone-{scheme}-{name}")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{name} is {width} px wide"
    context.close()


def test_a_wrong_password_is_refused_by_the_iam(page: Page, instance) -> None:
    """Last, and not as a user of the others: the IAM slows down who mistypes."""
    page.goto(instance.url)
    page.click("#log-in")
    page.fill("input[name=login]", "ada")
    page.keyboard.press("Enter")
    page.fill("input[name=password]", "not the password")
    page.keyboard.press("Enter")
    page.wait_for_load_state()
    expect(page.locator("input[name=password]")).to_be_visible()
    page.goto(f"{instance.url}/hub/home")
    expect(page.locator("#log-in")).to_be_visible()
