"""The sites' networks with the real kernel: made, mended, taken away, as often as one likes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.instance import free_port_block
from taccuino.local.namespaces import SiteNetwork, ensure_networks, remove_networks
from taccuino.local.resolve import keep, resolve
from taccuino.local.sites import down_sites, sites_of
from taccuino.settings import Settings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture
def network() -> Iterator[SiteNetwork]:
    found = SiteNetwork(free_port_block())
    yield found
    remove_networks(found, 2)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def reaches_what_is_shared(network: SiteNetwork, index: int) -> bool:
    """Nothing listens there: who reaches the machine is told so."""
    words = f"""
import errno, socket
connection = socket.socket()
connection.settimeout(2)
print(connection.connect_ex(("{network.shared}", {network.port})) == errno.ECONNREFUSED)
"""
    command = [*network.enter(index), sys.executable, "-c", words]
    return subprocess.check_output(command, text=True) == "True\n"


def test_they_are_made_once(network: SiteNetwork) -> None:
    for _ in range(2):
        ensure_networks(network, 2)
        assert reaches_what_is_shared(network, 0)
        assert reaches_what_is_shared(network, 1)
    for _ in range(2):
        remove_networks(network, 2)
    assert not Path("/run/netns", network.namespace(0)).exists()


def test_one_that_was_begun_is_completed(network: SiteNetwork) -> None:
    """As a killed ``up`` leaves it."""
    name = network.namespace(0)
    ip("link", "add", network.bridge, "type", "bridge")
    ip("netns", "add", name)
    ip("link", "add", network.link(0), "type", "veth", "peer", "name", "eth0", "netns", name)
    ensure_networks(network, 1)
    assert reaches_what_is_shared(network, 0)


def test_sites_are_taken_down_again(network: SiteNetwork, tmp_path: Path) -> None:
    """After a `down`, or a reboot, there are no networks, and all else is still there."""
    local = {"sites": ["bari", "cnaf"], "namespaces": True}
    settings = Settings.parse({"state_dir": tmp_path, "port": network.port, "local": local})
    shared = keep(resolve(settings, lambda _: None))
    for site in sites_of(shared):
        keep(resolve(site, lambda _: None))
        site.save(shared.state_dir / f"sites/{site.site}.json")
    told: list[str] = []
    for _ in range(2):
        down_sites(shared, told.append)
    assert told.count("cnaf: services      stopped") == 2
    assert not Path("/run/netns", network.namespace(1)).exists()
