"""JupyterLab's load in a real browser: where its files come from, and when."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import BrowserContext, Page, Response, expect

from support.instance import Instance
from support.person import Person

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SPARING = """Object.defineProperty(Navigator.prototype, 'connection',
    {value: {saveData: true, effectiveType: '4g'}})"""


@dataclass
class Traffic:
    """The responses to a page's requests for scripts, by their path."""

    base: str
    responses: dict[str, Response] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        page.on("response", self._note)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _note(self, response: Response) -> None:
        path = response.url.removeprefix(self.base).partition("?")[0]
        if path.endswith(".js"):
            self.responses[path] = response

    def below(self, prefix: str) -> list[str]:
        return [path for path in self.responses if path.startswith(prefix)]


def enter(context: BrowserContext, person: Person) -> None:
    person.login()
    context.add_cookies(
        [
            {"name": item.name, "value": item.value, "domain": "localhost", "path": item.path}
            for item in person.http.cookies
        ]
    )


def test_the_login_page_fetches_what_jupyterlab_will_load(
    page: Page, instance: Instance
) -> None:
    traffic = Traffic(instance.url)
    traffic.follow(page)
    page.goto(f"{instance.url}/hub/login")
    page.wait_for_load_state("networkidle")
    fetched = {path.rpartition("/")[2].partition(".")[0] for path in traffic.below("/static/")}
    assert {"main", "jlab_core", "remoteEntry"} <= fetched
    assert len(traffic.below("/static/")) > 40


def test_nothing_is_fetched_ahead_where_data_is_spared(page: Page, instance: Instance) -> None:
    page.add_init_script(SPARING)
    traffic = Traffic(instance.url)
    traffic.follow(page)
    page.goto(f"{instance.url}/hub/login")
    page.wait_for_load_state("networkidle")
    expect(page.locator("#log-in")).to_be_visible()
    assert traffic.below("/static/") == []


@pytest.mark.parametrize(
    ("interface", "start", "shown"),
    [("lab", "lab", "#jp-main-dock-panel"), ("notebook", "tree", ".jp-DirListing-item")],
)
def test_the_notebook_server_is_asked_for_no_script(
    page: Page, instance: Instance, interface: str, start: str, shown: str
) -> None:
    """From the form to JupyterLab: its files were fetched before and come from the edge."""
    person = instance.person("bruno")
    person.stop()
    enter(page.context, person)
    ahead = Traffic(instance.url)
    ahead.follow(page)
    page.goto(f"{instance.url}/hub/spawn")
    page.locator(f"input[name=interface][value={interface}]").check(force=True)
    page.wait_for_load_state("networkidle")
    loaded = Traffic(instance.url)
    page.click("#start")
    page.wait_for_url(re.compile(f"/user/bruno/{start}"), timeout=120_000, wait_until="commit")
    loaded.follow(page)
    page.reload()  # with all of it followed
    expect(page.locator(shown).first).to_be_visible(timeout=60_000)
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)
    page.wait_for_load_state("networkidle")
    # Notebook 7.6 itself meets a plugin without a schema, wherever its files come from.
    assert [one for one in loaded.problems if "(reading 'schema')" not in one] == []
    assert loaded.below("/user/") == []
    scripts = loaded.below("/static/")
    assert len(scripts) > 40
    for path in scripts:
        headers = loaded.responses[path].headers
        assert headers["cache-control"] == "public, max-age=31536000, immutable", path
        if len(loaded.responses[path].body()) > 1000:
            assert headers.get("content-encoding") in ("br", "gzip"), path
    missed = [path for path in scripts if path not in ahead.responses]
    assert len(missed) < len(scripts) / 5, missed
    person.stop()
