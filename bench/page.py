"""From the login to a usable JupyterLab, and on to a notebook's first output, in chromium.

Each round does the same with plain JupyterHub and with Taccuino, one after the other: first
with an empty browser cache, then twice with what the browser has kept: files at the second
visit, and what they were compiled to at the third (V8's code cache). The baseline is plain
JupyterHub on the base image's environment: the same JupyterLab from the same lock file, with
nothing of Taccuino's. Beside it, and without a bar, stands plain JupyterHub on the base image
itself, whose JupyterLab has Taccuino's settings and splash, and kernels started ahead.

The clock starts as the password is sent and stops when the file browser shows files and
JupyterLab's splash screen is gone; the server's start is part of it. A notebook is opened by a
double click, and its cell run as soon as the kernel is there. Nothing of the visit before goes
on: the server is gone, and the pool of warm servers filled.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import docker
from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright
from rich.console import Console
from rich.progress import track

from support.browser import ARGUMENTS, chromium
from support.instance import Instance, running_instance

from .plain_hub import PlainHub, plain_hub
from .pool import wait_for_the_pool
from .report import Bar, Comparison

ROUNDS = 4
VISITS = ("cold", "warm", "warm")
LIMIT = 0.4
"""Of plain JupyterHub's median."""
PAYLOAD_LIMIT = 1.5
"""MB that a first visit to JupyterLab may take."""
_QUIET_SECONDS = 2.0
PLAIN, SAME_IMAGE, OWN = "plain JupyterHub", "plain, on our image", "taccuino"

_USABLE = """() => !document.getElementById('jupyterlab-splash')
    && document.querySelector('#jp-main-dock-panel')
    && document.querySelector('.jp-DirListing-item, .jp-LauncherCard')"""
_NOTE_CLICK = """() => document.addEventListener('dblclick', () => {
    window.benchClick = performance.now();
}, {capture: true, once: true})"""
_CELL_TAKES_KEYS = """() => document.activeElement.closest('.jp-Notebook')
    ?.querySelector('.jp-CodeCell.jp-mod-active')"""
_KERNEL_IS_THERE = """() => document.querySelector('.jp-Notebook .jp-CodeCell') && [
    ...document.querySelectorAll('#jp-main-statusbar .jp-StatusBar-TextItem')
].some((item) => /^(?!No Kernel).*\\| (Connecting|Idle)$/.test(item.textContent))"""
_SINCE_CLICK = """() => [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output')]
    .some((output) => output.textContent.includes('first output'))
    && performance.now() - window.benchClick"""
_WRITE = """async ({path, notebook}) => {
    const xsrf = Object.fromEntries(document.cookie.split('; ').map((c) => c.split('=')))._xsrf;
    const server = location.pathname.replace(/\\/lab.*/, '');
    const answer = await fetch(`${server}/api/contents/${path}`, {
        method: 'PUT', headers: {'X-XSRFToken': xsrf},
        body: JSON.stringify({type: 'notebook', format: 'json', content: notebook}),
    });
    if (!answer.ok) throw new Error(await answer.text());
}"""
_NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "first",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": "print('first', 'output')",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
_FILE = "bench.ipynb"


@dataclass
class _Side:
    """One service: how to get as far as the password, to send it, and to stop the server."""

    name: str
    url: str
    enter: Callable[[Page], None]
    submit: Callable[[Page], None]
    stop: Callable[[], None]
    takes_cells: str = _KERNEL_IS_THERE
    """When a cell may be run: what is run earlier, JupyterLab drops."""


@dataclass
class _Traffic:
    """What JupyterLab's page had from the network: bytes with headers, and requests.

    Also what was fetched for it before there was a server. The service's other pages, and the
    IAM's, are left out: JupyterLab's files are below two paths.
    """

    url: str
    sizes: dict[str, float] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def follow(self, context: BrowserContext, page: Page) -> None:
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.responseReceived", self._response)
        session.on("Network.loadingFinished", self._finished)

    def _response(self, event: dict[str, Any]) -> None:
        address = event["response"]["url"]
        if address.startswith((f"{self.url}/user/", f"{self.url}/static/")):
            self.addresses[event["requestId"]] = address

    def _finished(self, event: dict[str, Any]) -> None:
        self.sizes[event["requestId"]] = event["encodedDataLength"]

    @property
    def megabytes(self) -> float:
        return sum(self.sizes.get(one, 0) for one in self.addresses) / 1e6

    @property
    def requests(self) -> int:
        """Those that were sent; what the browser had itself counts nothing."""
        return sum(1 for one in self.addresses if self.sizes.get(one, 0) > 0)


def run(rounds: int) -> Comparison:
    """Measure ``rounds`` of each side's `VISITS`."""
    report = Comparison("page")
    Console(stderr=True).print("Starting an instance of the service; minutes at the first time")
    with running_instance() as instance, sync_playwright() as playwright:
        engine = docker.DockerClient(f"unix://{instance.settings.engine.socket}")
        gateway = engine.networks.get("podman").attrs["IPAM"]["Config"][0]["Gateway"]
        socket, image = instance.settings.engine.socket, instance.settings.images[0].reference
        with (
            plain_hub(socket, _environment(engine), gateway) as plain,
            plain_hub(socket, image, gateway) as same_image,
        ):
            sides = [
                _plain_side(PLAIN, plain),
                _plain_side(SAME_IMAGE, same_image),
                _own_side(instance),
            ]
            for _ in track(range(rounds), description="visiting"):
                for side in sides:
                    _visit(playwright, side, report)
    for cache in ("cold", "warm"):
        for what in ("JupyterLab is usable", "a notebook's first output"):
            row = f"{what}, {cache} cache"
            ratio = report.median(row, OWN) / report.median(row, PLAIN)
            report.bars.append(Bar(f"page: {row}, of plain JupyterHub's", ratio, LIMIT))
    payload = report.median("JupyterLab's payload, cold cache", OWN)
    report.bars.append(Bar("page: payload of a first visit, MB", payload, PAYLOAD_LIMIT))
    return report


def _environment(engine: docker.DockerClient) -> str:
    """The image that the base image is built on, of the newest build."""
    made = engine.images.list(name="localhost/taccuino/environment")
    newest = max(made, key=lambda image: image.attrs["Created"])
    return str(newest.tags[0])


def _visit(playwright: Playwright, side: _Side, report: Comparison) -> None:
    with _browser(playwright) as context:
        for cache in VISITS:
            side.stop()
            time.sleep(_QUIET_SECONDS)
            context.clear_cookies()
            page = context.new_page()
            traffic = _Traffic(side.url)
            traffic.follow(context, page)
            side.enter(page)
            clock = time.monotonic()
            side.submit(page)
            page.wait_for_url(re.compile("/user/[^/]+/lab"), wait_until="commit")
            started = time.monotonic()
            page.wait_for_function(_USABLE)
            usable = time.monotonic()
            report.add(f"JupyterLab is usable, {cache} cache", side.name, usable - clock)
            report.add(
                f"- of it: the login and the start, {cache} cache", side.name, started - clock
            )
            report.add(f"- of it: the page, {cache} cache", side.name, usable - started)
            report.add(
                f"JupyterLab's payload, {cache} cache", side.name, traffic.megabytes, "MB"
            )
            report.add(f"requests, {cache} cache", side.name, traffic.requests, "")
            output = _first_output(page, side.takes_cells)
            report.add(f"a notebook's first output, {cache} cache", side.name, output)
            page.close()
    side.stop()


def _first_output(page: Page, takes_cells: str) -> float:
    """Seconds from the double click on a notebook to its output, by the page's clock."""
    page.evaluate(_WRITE, {"path": _FILE, "notebook": _NOTEBOOK})
    entry = page.locator(".jp-DirListing-item", has_text=_FILE).first
    entry.wait_for()  # the list is looked at every ten seconds
    page.evaluate(_NOTE_CLICK)
    entry.dblclick()
    page.wait_for_function(takes_cells)
    page.keyboard.press("Shift+Enter")
    milliseconds: float = page.wait_for_function(_SINCE_CLICK).json_value()
    return milliseconds / 1000


@contextmanager
def _browser(playwright: Playwright) -> Iterator[BrowserContext]:
    """A chromium with a new profile on the disk, whose cache is a real one."""
    profile = tempfile.mkdtemp(prefix="tc-profile-")
    try:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium(),
            args=ARGUMENTS,
            viewport={"width": 1280, "height": 800},
        )
        context.set_default_timeout(120_000)
        yield context
        context.close()
    finally:
        shutil.rmtree(profile, ignore_errors=True)


def _plain_side(name: str, plain: PlainHub) -> _Side:
    def enter(page: Page) -> None:
        page.goto(f"{plain.url}/hub/login")
        page.fill("input[name=username]", "plain")
        page.fill("input[name=password]", "plain")

    def stop() -> None:
        plain.api("DELETE", "/users/plain/server")
        while (
            plain.api("GET", "/users/plain").json().get("servers")
        ):  # none before the first login
            time.sleep(0.2)

    return _Side(name, plain.url, enter, lambda page: page.keyboard.press("Enter"), stop)


def _own_side(instance: Instance) -> _Side:
    account = next(a for a in instance.status["accounts"] if not a["admin"])
    person = instance.person(account["username"])
    person.stop()  # logs in, and agrees to what is asked at the first time

    def enter(page: Page) -> None:
        # A link that names the options starts at once, as plain JupyterHub does.
        page.goto(f"{instance.url}/hub/spawn?image=base&cpu=1&memory=2G&interface=lab")
        page.click("#log-in")
        page.fill("input[name=login]", account["username"])
        page.keyboard.press("Enter")
        page.fill("input[name=password]", account["password"])

    def stop() -> None:
        person.stop()
        wait_for_the_pool(instance)

    def submit(page: Page) -> None:
        page.keyboard.press("Enter")

    return _Side(OWN, instance.url, enter, submit, stop, _CELL_TAKES_KEYS)
