"""Which servers the hub stops since their users are, or are to be, at another site."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taccuino.hub import sites as hub_sites
from taccuino.hub.activity import Activity
from taccuino.hub.sites import Sites
from taccuino.settings import Settings
from taccuino.sites import ServerState, SiteState
from taccuino.sites.maintenance import MaintenanceFile

STARTED = datetime(2026, 1, 1, tzinfo=UTC)


class Spawner:
    """Alice's server."""

    user = SimpleNamespace(name="alice")
    orm_spawner = SimpleNamespace(started=STARTED)


SERVER = Spawner()


def bari(state_dir: Path, *, peer_ready: bool = True, newer: float | None = None) -> Sites:
    """The site bari, whose peer cnaf runs a server of alice's that started so much later."""
    settings = Settings.parse(
        {
            "state_dir": state_dir,
            "site": "bari",
            "edge": {"peers_file": state_dir / "peers", "admin_socket": state_dir / "socket"},
            "peers": [{"name": "cnaf", "url": "http://cnaf"}],
            "sites": {"secret_file": state_dir / "secret", "stale_seconds": 1},
        }
    )
    made = Sites(settings, readiness=None)  # type: ignore[arg-type]
    started = STARTED.timestamp() + (newer or 0)
    server = ServerState(user="alice", route="/user/alice/", started=started)
    cnaf = made.peers.peers["cnaf"]
    cnaf.reachable = True
    servers = (server,) if newer is not None else ()
    cnaf.state = SiteState(site="cnaf", version="1", ready=peer_ready, servers=servers)
    return made


def is_to_end(
    site: Sites, monkeypatch: pytest.MonkeyPatch, *, idle: float | None, busy: bool = False
) -> bool:
    """``idle`` seconds; None where the server does not say."""

    async def answer(_: Any) -> Activity | None:
        return None if idle is None else Activity(busy, time.time() - idle)

    monkeypatch.setattr(hub_sites, "ask_activity", answer)
    return asyncio.run(site._is_to_end(SERVER))


@pytest.mark.parametrize(
    ("idle", "busy", "ends"),
    [(310, False, True), (290, False, False), (310, True, False), (None, False, False)],
)
def test_in_maintenance_a_server_ends_that_was_idle_for_five_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idle: float | None, busy: bool, ends: bool
) -> None:
    site = bari(tmp_path)
    assert not is_to_end(site, monkeypatch, idle=idle, busy=busy)
    MaintenanceFile(tmp_path).begin()
    assert is_to_end(site, monkeypatch, idle=idle, busy=busy) is ends


def test_in_maintenance_servers_stay_where_no_other_site_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MaintenanceFile(tmp_path).begin()
    assert not is_to_end(bari(tmp_path, peer_ready=False), monkeypatch, idle=10_000)


@pytest.mark.parametrize(
    ("newer", "idle", "busy", "ends"),
    [
        (60, 0, False, True),
        (60, 0, True, False),
        (60, None, False, False),
        (-60, 10_000, False, False),
    ],
)
def test_a_server_ends_that_was_superseded_for_long_enough(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    newer: float,
    idle: float | None,
    busy: bool,
    ends: bool,
) -> None:
    site = bari(tmp_path, newer=newer)
    assert not is_to_end(site, monkeypatch, idle=idle, busy=busy)
    clock = time.monotonic
    monkeypatch.setattr(hub_sites.time, "monotonic", lambda: clock() + 2)
    assert is_to_end(site, monkeypatch, idle=idle, busy=busy) is ends
