"""What the tests of the storage pages do in the browser, in words."""

from __future__ import annotations

import re
import secrets
from array import array
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page, expect

DROP = """
async ({selector, name, size, seed}) => {
  // Bytes that differ from part to part, made here: 30 MB are slow to hand over.
  const words = new Uint32Array(size / 4);
  for (let i = 0; i < words.length; i += 1) words[i] = Math.imul(i, seed);
  const data = new DataTransfer();
  data.items.add(new File([words], name, {lastModified: 1700000000000}));
  const target = document.querySelector(selector);
  for (const type of ['dragenter', 'dragover', 'drop']) {
    target.dispatchEvent(new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true}));
  }
}
"""


def made_up(size: int, seed: int) -> bytes:
    """The bytes that `DROP` makes."""
    return array("I", (i * seed & 0xFFFFFFFF for i in range(size // 4))).tobytes()


@dataclass
class StoragePage:
    """The page of a user's own bucket, in a folder that no other test has."""

    page: Page
    instance: Any
    username: str
    folder: str

    @classmethod
    def opened(cls, page: Page, instance: Any, username: str = "alice") -> StoragePage:
        """Log in, from the pages' own address, and go to a new folder."""
        folder = f"browser-{secrets.token_hex(4)}/"
        made = cls(page, instance, username, folder)
        page.goto(made.address())
        if "/services/storage/" not in page.url or page.locator("#log-in").count():
            log_in_here(page, instance, username)
        expect(page.get_by_role("heading", name="This folder is empty")).to_be_visible()
        return made

    def address(self, path: str = "", query: str = "") -> str:
        """The address of the folder."""
        base = f"{self.instance.url}/services/storage/browse/{self.username}/{self.folder}"
        return f"{base}{path}{query}"

    def upload(self, name: str, data: bytes) -> None:
        """By the button that lets one choose files."""
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_role("button", name="Upload files").first.click()
        file = {"name": name, "mimeType": "", "buffer": data}
        chooser.value.set_files([file])
        expect(self.row(name)).to_be_visible()

    def drop(self, name: str, size: int, seed: int) -> None:
        """Drop a file on the page."""
        values = {"selector": "#view", "name": name, "size": size, "seed": seed}
        self.page.evaluate(DROP, values)

    def row(self, name: str) -> Locator:
        """The row of a file or a folder."""
        link = self.page.get_by_role("link", name=name, exact=True)
        return self.page.locator("#view tbody tr").filter(has=link)

    def names(self) -> list[str]:
        """What is listed."""
        return self.page.locator("#view tbody a").all_inner_texts()

    def act(self, name: str, action: str) -> None:
        """Choose an action of a row's menu."""
        self.page.get_by_role("button", name=f"Actions for {name}").click()
        self.page.get_by_role("menuitem", name=re.compile(f"^{action}")).click()

    def stored(self, name: str) -> bytes:
        """What the object storage holds; the object is the session's that wrote it."""
        credentials = self.instance.person(self.username)
        credentials.login()
        answer = credentials.http.get(
            f"{self.instance.url}/services/storage/api/download",
            params={"bucket": self.username, "key": self.folder + name},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        return answer.content


def log_in_here(page: Page, instance: Any, username: str) -> None:
    """From wherever the hub asks for it, through the IAM, and back."""
    if page.locator("#log-in").count():
        page.click("#log-in")
    page.fill("input[name=login]", username)
    page.keyboard.press("Enter")
    page.fill("input[name=password]", instance.accounts[username]["password"])
    page.keyboard.press("Enter")
    consent = page.locator("button[name=answer][value=accept]")
    there = page.locator("#places")
    expect(consent.or_(there).first).to_be_attached()
    if consent.is_visible():
        consent.click()
    expect(there).to_be_attached()
