"""One user's calls leave threads to the others."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taccuino.settings import Settings
from taccuino.storage.pages import clients as clients_module
from taccuino.storage.pages.clients import UserClients
from taccuino.storage.pages.errors import CallError
from taccuino.storage.pages.turns import Turns


class _Source:
    """Credentials at hand."""

    async def get(self, username: str) -> None: ...


class _Slow:
    """Work that goes on until it is let go, and counts how much of it runs."""

    def __init__(self) -> None:
        self.running, self.most = 0, 0
        self.go, self._changed = threading.Event(), threading.Condition()

    async def reaches(self, number: int) -> None:
        """Wait until so much of it runs."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: self.running == number, 5)

        assert await asyncio.to_thread(wait)

    def __call__(self, *_: object) -> str:
        with self._changed:
            self.running += 1
            self.most = max(self.most, self.running)
            self._changed.notify_all()
        self.go.wait(10)
        with self._changed:
            self.running -= 1
        return "done"


@pytest.fixture
async def slow() -> AsyncIterator[_Slow]:
    work = _Slow()
    yield work
    work.go.set()


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> UserClients:
    monkeypatch.setattr(UserClients, "_client", lambda *_, **__: None)
    source: Any = _Source()
    return UserClients(Settings.parse({}), source)


@pytest.mark.parametrize(("way", "each"), [("call", 8), ("long_call", 3)])
async def test_one_user_takes_a_part_of_the_threads(
    users: UserClients, slow: _Slow, way: str, each: int
) -> None:
    call = getattr(users, way)
    waiting = [asyncio.create_task(call("mallory", "wait", slow)) for _ in range(40)]
    await slow.reaches(each)
    assert await call("alice", "do something", lambda _: "hers") == "hers"
    assert await users.in_long_thread("alice", lambda: "hers") == "hers"
    slow.go.set()
    assert await asyncio.gather(*waiting) == ["done"] * 40
    assert slow.most == each


async def test_who_waits_with_too_many_is_told(users: UserClients, slow: _Slow) -> None:
    waiting = [asyncio.create_task(users.long_call("m", "wait", slow)) for _ in range(53)]
    await slow.reaches(3)
    with pytest.raises(CallError) as refused:
        await users.long_call("m", "wait", slow)
    assert (refused.value.status, refused.value.reason) == (429, "busy")
    piece = asyncio.create_task(users.in_long_thread("m", lambda: "piece"))
    slow.go.set()
    assert await piece == "piece"
    await asyncio.gather(*waiting)


async def test_a_turn_lasts_as_long_as_its_thread(
    users: UserClients, slow: _Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients_module, "CALL_SECONDS", 0.3)
    calls = [users.call("mallory", "wait", slow) for _ in range(12)]
    failures: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    assert slow.most == 8
    # Those whose turn came are told of the storage, and those in line are not.
    assert [failure.reason for failure in failures] == ["unreachable"] * 8 + ["busy"] * 4
    with pytest.raises(CallError) as refused:
        await users.call("mallory", "list", lambda _: "his")
    assert refused.value.status == 429
    slow.go.set()
    monkeypatch.setattr(clients_module, "CALL_SECONDS", 5)
    assert await users.call("mallory", "list", lambda _: "his") == "his"


async def test_time_in_line_is_not_the_storages(
    users: UserClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients_module, "CALL_SECONDS", 1.0)
    calls = [users.call("alice", "wait", lambda _: time.sleep(0.6)) for _ in range(16)]
    await asyncio.gather(*calls)


async def test_lines_that_nobody_waits_in_are_forgotten() -> None:
    turns = Turns(1, waiting=1)
    end = await turns.take("alice")
    with pytest.raises(CallError):
        await turns.take("alice", 0.01)
    assert list(turns._lines) == ["alice"]
    end()
    del end
    await asyncio.sleep(0)  # until then the loop holds on to the failure
    gc.collect()
    assert not turns._lines
