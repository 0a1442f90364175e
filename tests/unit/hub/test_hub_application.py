from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from jupyterhub import orm
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import Spawner

from taccuino.hub import verification
from taccuino.hub.application import HubApplication, HubRouteTable, all_servers_known


class Scripted(Spawner):
    """Its state says what ``poll`` answers."""

    async def start(self) -> str:
        raise AssertionError("nothing is started")

    async def poll(self) -> int | None:
        await asyncio.sleep(0)
        said = self.orm_spawner.state.get("poll") if self.orm_spawner.state else 0
        if said == "away":
            raise OSError("the engine does not answer")
        return said

    async def stop(self, now: bool = False) -> None:
        raise AssertionError("no server that runs may be stopped")

    def get_state(self) -> dict[str, Any]:
        return dict(self.orm_spawner.state or {})

    def clear_state(self) -> None:
        self.orm_spawner.state = {"poll": 0}


class NoProxy(Proxy):
    """Remembers whose routes were removed."""

    def __init__(self) -> None:
        super().__init__()
        self.removed: list[str] = []

    async def delete_user(self, user: Any, server_name: str = "") -> None:
        self.removed.append(user.name)


class Application(HubApplication):
    """Without what else a hub has."""

    def __init__(self) -> None:
        super().__init__(db_url="sqlite:///:memory:")
        self.init_db()
        self.authenticator = DummyAuthenticator()
        self.tornado_settings = {
            "spawner_class": Scripted,
            "config": self.config,
            "authenticator": None,
        }
        self.proxy = NoProxy()

    def ran(self, name: str, poll: object, *, ip: str = "127.0.0.1", port: int = 9) -> None:
        """A server that an earlier hub knew."""
        user = orm.User(name=name)
        spawner = orm.Spawner(name="", user=user, state={"poll": poll})
        spawner.server = orm.Server(ip=ip, port=port, base_url=f"/user/{name}/")
        client = orm.OAuthClient(identifier=f"jupyterhub-user-{name}")
        spawner.oauth_client = client
        self.db.add_all([user, spawner, client])
        self.db.commit()

    def running(self) -> set[str]:
        """Whose server the database knows."""
        self.db.expire_all()
        return {s.user.name for s in self.db.query(orm.Spawner) if s.server is not None}

    async def settled(self) -> None:
        async with asyncio.timeout(5):
            await all_servers_known(self)
            await asyncio.sleep(0.2)


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    monkeypatch.setattr(verification, "_SOON_SECONDS", 0.05)
    monkeypatch.setattr(verification, "_AGAIN_SECONDS", 0.05)
    made = Application()
    yield made
    for task in made._background:
        task.cancel()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where notebook servers answer."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"version": "1"})

    application = web.Application()
    application.router.add_get("/user/{name}/api", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_only_what_is_known_to_have_ended_is_removed(
    app: Application, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    app.ran("works", None, port=port)
    app.ran("silent", None, port=9)
    app.ran("unknown", "away", port=9)
    app.ran("ended", 137, port=9)
    app.ran("starting", None, ip="")
    with caplog.at_level(logging.WARNING, "taccuino"):
        assert await app.init_spawners() == 5
        assert app.users["starting"].spawners[""].pending == "check"
        await app.settled()
        async with asyncio.timeout(5):
            while "2 of the servers that ran do not answer the hub" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert app.running() == {"works", "silent", "unknown"}
    assert "ended" in app.proxy.removed
    assert "silent" in caplog.text
    for name in ("works", "silent", "unknown"):
        spawner = app.users[name].spawners[""]
        assert spawner.ready
        assert spawner._poll_callback, "it is watched from now on"
    clients = {client.identifier for client in app.db.query(orm.OAuthClient)}
    assert clients >= {f"jupyterhub-user-{name}" for name in ("works", "silent", "unknown")}
    assert verification.SILENT_SERVERS._value.get() == 2


async def test_a_silent_server_that_answers_again_is_told_of(
    app: Application, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    app.ran("cut", None, port=9)
    await app.init_spawners()
    await app.settled()
    assert verification.SILENT_SERVERS._value.get() == 1
    with caplog.at_level(logging.INFO, "taccuino"):
        app.users["cut"].spawners[""].server.port = port
        async with asyncio.timeout(5):
            while "those that run answer" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert verification.SILENT_SERVERS._value.get() == 0


async def test_an_engine_that_is_away_for_a_moment_is_asked_again_soon(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_AGAIN_SECONDS", 60)
    app.ran("ended", "away", port=9)
    await app.init_spawners()
    await app.settled()
    assert app.running() == {"ended"}
    assert app.proxy.removed == []
    app.users["ended"].spawners[""].orm_spawner.state = {"poll": 137}
    app.db.commit()
    async with asyncio.timeout(5):
        while app.running():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert app.proxy.removed == ["ended"]


async def test_a_server_is_there_for_the_first_request(app: Application) -> None:
    for number in range(30):
        app.ran(f"user{number}", None)
    assert await app.init_spawners() == 30
    assert not app.servers_known.is_set()
    assert app.users["user29"].spawners[""].ready
    app.cleanup_oauth_clients()  # too early: the others' are kept
    assert app.db.query(orm.OAuthClient).count() == 31
    await app.settled()
    assert len(app.running()) == 30
    assert app.db.query(orm.OAuthClient).count() == 31


async def test_a_server_that_its_user_stops_meanwhile_is_left_to_them(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.ran("alice", None)
    await app.init_spawners()
    app.users["alice"].spawners[""]._stop_pending = True
    await app.settled()
    assert app.users["alice"].spawners[""]._poll_callback is None


async def test_a_blocked_users_server_is_stopped(app: Application) -> None:
    stopped = []

    async def stop(self: Scripted, now: bool = False) -> None:
        stopped.append(self.user.name)
        self.orm_spawner.state = {"poll": 0}

    app.tornado_settings["spawner_class"] = type("Stopped", (Scripted,), {"stop": stop})
    app.authenticator.blocked_users = {"mallory"}
    app.ran("mallory", None)
    await app.init_spawners()
    await app.settled()
    assert stopped == ["mallory"]
    assert not app.running()


async def test_no_route_is_taken_for_stale_before_all_servers_are_known(
    app: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []

    async def check(*_: Any, **__: Any) -> None:
        checked.append(len(app.users))

    monkeypatch.setattr("jupyterhub.proxy.Proxy.check_routes", check)
    for number in range(30):
        app.ran(f"user{number}", None)
    table = HubRouteTable(
        app=app, admin_socket=str(tmp_path / "s"), routes_file=str(tmp_path / "m")
    )
    await app.init_spawners()
    await table.check_routes(app.users, {})
    assert checked == [30]
