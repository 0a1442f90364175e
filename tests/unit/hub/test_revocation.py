from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from jupyterhub import orm, roles
from sqlalchemy import event

from taccuino.hub import revocation
from taccuino.hub.revocation import Revocations


class Server:
    """A notebook server that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[str]]] = []
        self.statuses = [204]
        self.asked = 0

    async def revoked(self, request: web.Request) -> web.Response:
        self.asked += 1
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 204:
            body = await request.json()
            self.told.append((request.headers["Authorization"], body["tokens"]))
        return web.Response(status=status)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    noted = Server()
    application = web.Application()
    application.router.add_post("/user/alice/taccuino/revoked", noted.revoked)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield noted, f"http://127.0.0.1:{runner.addresses[0][1]}/user/alice/"
    await runner.cleanup()


@pytest.fixture
def db() -> Any:
    session = orm.new_session_factory("sqlite:///:memory:")()
    session.add(orm.OAuthClient(identifier="jupyterhub"))  # whose tokens the hub's own are
    for role in roles.get_default_roles():
        roles.create_role(session, role)
    for name in ("alice", "bruno"):
        user = orm.User(name=name)
        session.add(user)
        roles.assign_default_roles(session, entity=user)
    session.commit()
    return session


def spawner(url: str, *, ready: bool = True) -> Any:
    return SimpleNamespace(
        ready=ready,
        api_token="servers-own",
        _log_name="alice",
        server=SimpleNamespace(url=url),
    )


@pytest.fixture
def users(db: Any, server: tuple[Server, str]) -> AsyncIterator[dict[int, Any]]:
    alice = orm.User.find(db, "alice")
    known = {alice.id: SimpleNamespace(spawners={"": spawner(server[1])})}
    watching = Revocations(lambda: known)
    watching.watch()
    yield known
    event.remove(orm.APIToken, "after_delete", watching._deleted)


def make_tokens(db: Any, name: str, number: int) -> list[orm.APIToken]:
    user = orm.User.find(db, name)
    before = set(user.api_tokens)
    for _ in range(number):
        user.new_api_token()
    return [token for token in user.api_tokens if token not in before]


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_server_is_told_of_its_users_tokens_at_once(
    db: Any, users: dict[int, Any], server: tuple[Server, str]
) -> None:
    noted, _ = server
    first, second, kept = make_tokens(db, "alice", 3)
    ids = [first.api_id, second.api_id]
    for token in (first, second):
        db.delete(token)
    db.commit()
    await until(lambda: noted.told)
    assert noted.told == [("token servers-own", ids)]
    assert kept.api_id not in ids


async def test_others_tokens_are_not_told(
    db: Any, users: dict[int, Any], server: tuple[Server, str]
) -> None:
    noted, url = server
    (of_bruno,) = make_tokens(db, "bruno", 1)
    (of_alice,) = make_tokens(db, "alice", 1)
    users[of_alice.user_id].spawners["off"] = spawner(url, ready=False)
    db.delete(of_bruno)
    db.delete(of_alice)
    db.commit()
    await until(lambda: noted.told)
    await asyncio.sleep(0.1)
    assert noted.told == [("token servers-own", [of_alice.api_id])]


@pytest.mark.parametrize(
    ("statuses", "asked", "told"), [([500, 503, 204], 3, 1), ([404], 1, 0), ([500], 4, 0)]
)
async def test_a_server_that_cannot_take_it_is_told_again(
    db: Any,
    users: dict[int, Any],
    server: tuple[Server, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    statuses: list[int],
    asked: int,
    told: int,
) -> None:
    monkeypatch.setattr(revocation, "_PAUSE_SECONDS", 0.01)
    noted, _ = server
    noted.statuses = statuses
    (token,) = make_tokens(db, "alice", 1)
    db.delete(token)
    db.commit()
    await until(lambda: noted.asked == asked)
    await asyncio.sleep(0.3)
    assert (noted.asked, len(noted.told)) == (asked, told)
    assert ("was not told" in caplog.text) == (asked == 4)
