from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from tornado.web import HTTPError

from taccuino.server import hub_auth
from taccuino.server.hub_auth import CACHE_VARIABLE, HubAuth

CACHE_SECONDS = 0.05


class Hub:
    """Tells whose a token is, or hangs, or is gone."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {
            "mine": {"kind": "user", "name": "alice", "token_id": "a1", "scopes": []},
            "other": {"kind": "user", "name": "alice", "token_id": "a2", "scopes": []},
            "bruno's": {"kind": "user", "name": "bruno", "token_id": "a3", "scopes": []},
            "service": {"kind": "service", "name": "alice", "token_id": "a4", "scopes": []},
        }
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.status = 200
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/hub/api/user", self._user)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner
        await self._runner.cleanup()

    async def _user(self, request: web.Request) -> web.Response:
        self.asked += 1
        user = self.users.get(request.headers["Authorization"].removeprefix("token "))
        await self.answers.wait()
        if self.status != 200:
            return web.json_response({"message": "no"}, status=self.status)
        return web.json_response(user) if user else web.json_response({}, status=403)


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(hub_auth, "_PATIENCE", 0.3)
    monkeypatch.setattr(hub_auth, "_PATIENCE_WITH_STRANGERS", 0.5)
    monkeypatch.setattr(hub_auth, "_PAUSE", 0.2)
    monkeypatch.setenv("JUPYTERHUB_USER", "alice")
    running = Hub()
    await running.start()
    yield running
    running.answers.set()
    await running.stop()


@pytest.fixture
async def auth(hub: Hub) -> HubAuth:
    made = HubAuth(api_url=f"http://127.0.0.1:{hub.port}/hub/api", api_token="server")
    made.cache.max_age = CACHE_SECONDS
    return made


async def name(auth: HubAuth, token: str) -> str | None:
    user = await auth.user_for_token(token, session_id="s", sync=False)
    return user and user["name"]


async def lapse() -> None:
    """Let what the cache holds become too old."""
    await asyncio.sleep(2 * CACHE_SECONDS)


async def test_who_is_in_stays_in_while_the_hub_is_gone(hub: Hub, auth: HubAuth) -> None:
    assert await name(auth, "mine") == "alice"
    await hub.stop()
    for _ in range(3):
        await lapse()
        assert await name(auth, "mine") == "alice"
    with pytest.raises(HTTPError) as refused:
        await name(auth, "never seen")
    assert refused.value.status_code == 503
    assert "can't be reached" in str(refused.value.log_message)
    await hub.start()
    await asyncio.sleep(0.3)
    assert await name(auth, "mine") == "alice"
    assert await name(auth, "never seen") is None  # the hub says no


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_hub_that_answers_with_an_error_has_not_said_no(
    hub: Hub, auth: HubAuth, status: int
) -> None:
    assert await name(auth, "mine") == "alice"
    hub.status = status
    await lapse()
    assert await name(auth, "mine") == "alice"
    with pytest.raises(HTTPError) as refused:
        await name(auth, "never seen")
    assert refused.value.status_code == 503


async def test_nobody_who_is_in_waits_long_for_a_hub_that_hangs(
    hub: Hub, auth: HubAuth
) -> None:
    assert await name(auth, "mine") == "alice"
    hub.answers.clear()
    await lapse()
    began = time.monotonic()
    assert await name(auth, "mine") == "alice"
    assert 0.25 < time.monotonic() - began < 1
    began, asked = time.monotonic(), hub.asked
    for _ in range(20):
        assert await name(auth, "mine") == "alice"
    assert time.monotonic() - began < 0.2
    assert hub.asked == asked  # one question at a time
    hub.answers.set()
    async with asyncio.timeout(2):
        while auth._away:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_many_requests_ask_once(hub: Hub, auth: HubAuth) -> None:
    assert await asyncio.gather(*(name(auth, "mine") for _ in range(20))) == ["alice"] * 20
    assert hub.asked == 1


async def test_the_hub_says_otherwise_when_it_is_back(hub: Hub, auth: HubAuth) -> None:
    assert await name(auth, "mine") == "alice"
    await hub.stop()
    await lapse()
    assert await name(auth, "mine") == "alice"
    del hub.users["mine"]
    await hub.start()
    await asyncio.sleep(0.3)
    # The first request afterwards need not wait for the answer; those after it have it.
    await name(auth, "mine")
    async with asyncio.timeout(2):
        while await name(auth, "mine") is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await hub.stop()
    await lapse()
    with pytest.raises(HTTPError):  # what the hub refused is unknown from then on
        await name(auth, "mine")
    await hub.start()


async def test_a_revoked_token_is_refused_at_once_and_while_the_hub_is_gone(
    hub: Hub, auth: HubAuth
) -> None:
    assert await name(auth, "mine") == await name(auth, "other") == "alice"
    auth.forget(["a1"])
    assert await name(auth, "mine") is None
    await hub.stop()
    await lapse()
    assert await name(auth, "mine") is None
    assert await name(auth, "other") == "alice"
    await hub.start()


async def test_an_answer_that_was_on_its_way_does_not_undo_a_revocation(
    hub: Hub, auth: HubAuth
) -> None:
    hub.answers.clear()
    asking = asyncio.create_task(name(auth, "mine"))
    async with asyncio.timeout(2):
        while not hub.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    auth.forget(["a1"])
    hub.answers.set()
    assert await asking is None
    assert await name(auth, "mine") is None


@pytest.mark.parametrize("token", ["bruno's", "service"])
async def test_others_are_not_believed_without_the_hub(
    hub: Hub, auth: HubAuth, token: str
) -> None:
    assert await name(auth, token) in ("alice", "bruno")
    await hub.stop()
    await lapse()
    with pytest.raises(HTTPError) as refused:
        await name(auth, token)
    assert refused.value.status_code == 503
    await hub.start()


async def test_the_hubs_last_word_is_not_believed_for_ever(
    hub: Hub, auth: HubAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await name(auth, "mine") == "alice"
    await hub.stop()
    monkeypatch.setattr(hub_auth, "_LONGEST_SECONDS", 0.1)
    await asyncio.sleep(0.15)
    with pytest.raises(HTTPError):
        await name(auth, "mine")
    await hub.start()


@pytest.mark.parametrize(
    ("value", "seconds"), [("", 300), ("2", 2), ("-1", 300), ("a while", 300)]
)
def test_the_environment_says_for_how_long_an_answer_is_good(
    monkeypatch: pytest.MonkeyPatch, value: str, seconds: int
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, value)
    auth = HubAuth(api_url="http://127.0.0.1:9/hub/api", api_token="server")
    assert auth.cache_max_age == seconds
