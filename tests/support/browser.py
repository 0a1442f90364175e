"""Debian's chromium, as the tests and the benchmarks start it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page

from .person import Person

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """The program's path."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: apt-get install chromium (scripts/test does)"
    return program


_AWAY = """
table ip away {{
    chain out {{
        type nat hook output priority -100
        ip daddr 127.0.0.1 tcp dport 1024-65535 dnat to {host}
    }}
    chain back {{
        type nat hook postrouting priority 100
        oifname "eth0" masquerade
    }}
}}
"""


@contextlib.contextmanager
def chromium_apart() -> Iterator[str]:
    """A program that starts chromium in a network namespace, whose localhost is this machine's.

    A browser gives up what it fetches when a network interface comes or goes
    (``ERR_NETWORK_CHANGED``), as here with each container; a user's is on another machine.
    """
    number = os.getpid()
    name, link = f"tcb{number}", f"tcb{number}"
    network = f"198.18.{number >> 6 & 255}.{{}}"
    host, here = (network.format((number & 63) * 4 + last) for last in (1, 2))
    inside = ["ip", "netns", "exec", name]
    commands = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name],
        ["ip", "address", "add", f"{host}/30", "dev", link],
        ["ip", "link", "set", link, "up"],
        ["ip", "-n", name, "address", "add", f"{here}/30", "dev", "eth0"],
        ["ip", "-n", name, "link", "set", "lo", "up"],
        ["ip", "-n", name, "link", "set", "eth0", "up"],
        ["ip", "-n", name, "route", "add", "default", "via", host],
        [*inside, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"],
    ]
    with tempfile.TemporaryDirectory(prefix="tc-browser-") as directory:
        try:
            for command in commands:
                subprocess.run(command, check=True)
            subprocess.run(
                [*inside, "nft", "-f", "-"],
                input=_AWAY.format(host=host),
                text=True,
                check=True,
            )
            program = Path(directory, "chromium")
            program.write_text(f'#!/bin/sh\nexec {" ".join(inside)} {chromium()} "$@"\n')
            program.chmod(0o755)
            yield str(program)
        finally:
            subprocess.run(["ip", "link", "delete", link], check=False)
            subprocess.run(["ip", "netns", "delete", name], check=False)


def enter(page: Page, person: Person) -> None:
    """Bring a person's session into the browser; the login's own pages are tested elsewhere."""
    person.login()
    page.context.add_cookies(
        [
            {"name": item.name, "value": item.value, "domain": "localhost", "path": item.path}
            for item in person.http.cookies
        ]
    )
