"""What a hub among peers tells them, and which of its servers it stops."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from tornado.httpclient import AsyncHTTPClient

from taccuino.hub import sites as hub_sites
from taccuino.hub.activity import Activity
from taccuino.hub.application import HubApplication
from taccuino.hub.sites import Sites
from taccuino.settings import PeerSettings, Settings
from taccuino.sites import ServerState, SiteState


class Asked:
    """A readiness that says what it is told to."""

    def __init__(self) -> None:
        self.ready, self.times = True, 0
        self.fault: Exception | None = None

    async def report(self) -> Any:
        self.times += 1
        if self.fault:
            raise self.fault
        return SimpleNamespace(ready=self.ready)


class Spawner:
    """A server that runs; stopping it takes until ``end`` is set."""

    _stop_pending = False
    _stop_future: Any = None
    name = ""

    def __init__(self, app: App, username: str, started: float = 100) -> None:
        self._log_name = username
        self.runs = True
        self.stops = 0
        self.end = asyncio.Event()
        when = datetime.fromtimestamp(started, UTC)
        self.orm_spawner = SimpleNamespace(started=when, user_options={"cpu": 2})
        self.user = SimpleNamespace(name=username, spawners={"": self}, stop=self.stop)
        app.users[len(app.users)] = self.user

    @property
    def ready(self) -> bool:
        return self.runs and not self._stop_pending

    @property
    def active(self) -> bool:
        return self.runs

    async def stop(self, _name: str) -> None:
        self.stops += 1
        await self.end.wait()
        self.runs = False


class Routes:
    """The edge's routes."""

    version = 1

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.servers: list[tuple[str, str, str]] = []
        self.removed: list[str] = []

    async def delete_user(self, user: Any, _name: str) -> None:
        await asyncio.sleep(0)
        self.removed.append(user.name)


class App(HubApplication):
    """Without what else a hub has."""

    users: Any = None
    proxy: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.tornado_settings = {}
        self.proxy = Routes()
        self.users = {}


@pytest.fixture
def app() -> App:
    made = App()
    made.servers_known.set()
    return made


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Sites]:
    (tmp_path / "hub").mkdir()
    secret_file = tmp_path / "sites-secret"
    secret_file.write_text("s" * 40)
    secret_file.chmod(0o600)

    def made(*urls: str) -> Sites:
        peers = [PeerSettings(name=f"peer{n}", url=url) for n, url in enumerate(urls)]
        settings = Settings(
            state_dir=tmp_path,
            site="bari",
            peers=peers,
            sites={"secret_file": secret_file, "stale_seconds": 1},
            edge={"peers_file": tmp_path / "peers.map", "admin_socket": tmp_path / "socket"},
        )
        return Sites(settings, Asked())  # type: ignore[arg-type]

    return made


@pytest.fixture
def sites(make: Callable[..., Sites], monkeypatch: pytest.MonkeyPatch) -> Sites:
    """At a site with a peer, where all servers are superseded and have been for long."""
    made = make("http://127.0.0.1:9")
    monkeypatch.setattr(made.settings.sites, "stale_seconds", 0)
    return made


def newer(sites: Sites, *users: str, started: float = 200) -> None:
    """These users have a newer server at the peer."""
    servers = tuple(ServerState(user=u, route=f"/user/{u}/", started=started) for u in users)
    peer = sites.peers.peers["peer0"]
    peer.state = SiteState(site="peer0", version="1", servers=servers)
    peer.reachable = True


def says(monkeypatch: pytest.MonkeyPatch, activity: Activity | None) -> None:
    """What all servers say of themselves."""

    async def ask(_: Any) -> Activity | None:
        await asyncio.sleep(0)
        return activity

    monkeypatch.setattr(hub_sites, "ask_activity", ask)


IDLE, BUSY = Activity(busy=False, last_activity=0), Activity(busy=True, last_activity=0)


@pytest.mark.parametrize(("activity", "stopped"), [(IDLE, True), (BUSY, False), (None, False)])
async def test_only_a_server_that_says_it_is_idle_is_stopped(
    app: App,
    sites: Sites,
    monkeypatch: pytest.MonkeyPatch,
    activity: Activity | None,
    stopped: bool,
) -> None:
    server = Spawner(app, "alice")
    newer(sites, "alice")
    says(monkeypatch, activity)
    await sites._sweep(app)
    assert (not server.ready) == stopped


async def test_a_server_that_was_silent_for_long_is_stopped(
    app: App, sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Spawner(app, "alice")
    newer(sites, "alice")
    now = time.monotonic()
    monkeypatch.setattr(hub_sites, "time", clock := SimpleNamespace(time=time.time))
    hours = [None, None, BUSY, None, None]
    for hour, activity in enumerate(hours):
        clock.monotonic = lambda hour=hour: now + 5 * 3600 * hour
        says(monkeypatch, activity)
        await sites._sweep(app)
        assert server.ready, f"the last word was less than six hours ago ({hour})"
    clock.monotonic = lambda: now + 5 * 3600 * len(hours)
    await sites._sweep(app)
    assert not server.ready


async def test_a_server_is_stopped_once_and_delays_no_other(
    app: App, sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bruno = Spawner(app, "alice"), Spawner(app, "bruno")
    newer(sites, "alice", "bruno")
    says(monkeypatch, IDLE)
    for _ in range(3):
        await asyncio.wait_for(sites._sweep(app), 1)
        await asyncio.sleep(0.01)
    assert (alice.stops, bruno.stops) == (1, 1)
    assert app.proxy.removed == ["alice", "bruno"]
    stopping = alice._stop_future
    alice.end.set()
    await asyncio.wait_for(stopping, 1)
    assert not alice._stop_pending
    assert bruno._stop_pending


async def test_a_site_that_empties_itself_stops_some_at_a_time(
    app: App, sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = [Spawner(app, f"user{number}") for number in range(20)]
    newer(sites, *(server.user.name for server in servers))
    says(monkeypatch, IDLE)
    for _ in range(2):
        await sites._sweep(app)
    assert sum(not server.ready for server in servers) == 8
    for server in servers:
        server.end.set()
    await asyncio.sleep(0.01)
    assert sum(server.runs for server in servers) == 12


async def test_a_server_that_its_user_stops_meanwhile_is_left_to_them(
    app: App, sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Spawner(app, "alice")
    newer(sites, "alice")

    async def ask(spawner: Any) -> Activity:
        spawner._stop_pending = True
        return IDLE

    monkeypatch.setattr(hub_sites, "ask_activity", ask)
    await sites._sweep(app)
    await asyncio.sleep(0.01)
    assert server.stops == 0
    assert app.proxy.removed == []


async def test_a_stop_that_fails_is_logged_and_tried_again(
    app: App, sites: Sites, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Spawner(app, "alice")
    newer(sites, "alice")
    says(monkeypatch, IDLE)

    async def fail(*_: Any) -> None:
        raise KeyError("")

    monkeypatch.setattr(app.proxy, "delete_user", fail)
    await sites._sweep(app)
    await asyncio.sleep(0.01)
    assert server.ready
    assert "alice could not be stopped" in caplog.text


async def test_what_is_not_superseded_any_more_begins_anew(
    app: App, sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spawner(app, "alice")
    newer(sites, "alice")
    says(monkeypatch, BUSY)
    await sites._sweep(app)
    assert len(sites._superseded) == 1
    newer(sites)
    await asyncio.sleep(0.01)
    await sites._sweep(app)
    assert len(sites._superseded) == 0


async def test_a_newer_server_that_is_restarted_supersedes_all_the_same(
    app: App, sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who restarts it again and again would else keep the old one for ever."""
    monkeypatch.setattr(sites.settings.sites, "stale_seconds", 0.2)
    spawner = Spawner(app, "alice")
    says(monkeypatch, IDLE)
    for _ in range(3):
        newer(sites, "alice")
        await sites._sweep(app)
        newer(sites)
        await asyncio.sleep(0.1)
        await sites._sweep(app)
    newer(sites, "alice")
    await sites._sweep(app)
    assert not spawner.ready


async def test_a_fault_ends_nothing(
    app: App, sites: Sites, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub_sites, "_EVERY_SECONDS", 0.01)
    sites._readiness.fault = KeyError("lost")  # type: ignore[attr-defined]
    with caplog.at_level(logging.ERROR):
        sites.begin(app)
        await asyncio.sleep(0.05)
    assert "The site's readiness is not known" in caplog.text
    sites._readiness.fault, sites._readiness.ready = None, False  # type: ignore[attr-defined]
    await asyncio.sleep(0.05)
    assert not sites.state(app).ready
    await end(sites)


async def end(sites: Sites) -> None:
    for task in sites._tasks:
        task.cancel()
    await asyncio.gather(*sites._tasks, return_exceptions=True)


async def test_a_lone_site_is_asked_only_when_somebody_looks(
    app: App, make: Callable[..., Sites]
) -> None:
    lone = make()
    lone.begin(app)
    assert not lone._tasks
    lone._readiness.ready = False  # type: ignore[attr-defined]
    (row,) = await lone.overview(app)
    assert not row["ready"]
    assert lone._readiness.times == 1  # type: ignore[attr-defined]


async def test_a_hub_that_does_not_know_its_servers_yet_tells_nothing(
    app: App, sites: Sites
) -> None:
    app.servers_known.clear()
    app.proxy.servers = [("alice", "", "/user/alice/")]
    assert await sites.changed_state(app, "", 0) is None
    asked = asyncio.ensure_future(sites.changed_state(app, "an earlier hub's", 2))
    await asyncio.sleep(0.01)
    Spawner(app, "alice")
    app.servers_known.set()
    told = await asyncio.wait_for(asked, 0.5)
    assert told is not None
    assert [server.user for server in told.servers] == ["alice"]
    assert await sites.changed_state(app, told.version, 0) is None


@pytest.fixture
async def peer() -> AsyncIterator[str]:
    """A peer that knows nothing new."""

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(0.1)
        return web.Response(status=204)

    application = web.Application()
    application.router.add_get("/hub/api/taccuino/site", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_slow_servers_delay_no_question_to_a_peer(
    app: App, make: Callable[..., Sites], peer: str
) -> None:
    sites = make(peer)
    taken: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    client = AsyncHTTPClient()
    slow = [client.fetch(f"http://127.0.0.1:{port}/") for _ in range(20)]
    sites.begin(app)
    async with asyncio.timeout(2):
        while not sites.peers.peers["peer0"].reachable:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await end(sites)
    with pytest.raises(RuntimeError, match="closed"):
        await sites._ask(sites.settings.peers[0], "", 0)
    silent.close()
    for one in slow:
        one.cancel()
    for writer in taken:
        writer.close()
