"""Credentials are made once for all who ask, and anew before they end."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from taccuino.storage.credentials import CredentialCache
from taccuino.storage.errors import StorageError
from taccuino.storage.sts import Credentials


class Exchange:
    """An STS that counts, and answers when it is let."""

    def __init__(self, seconds: float = 3600) -> None:
        self.seconds = seconds
        self.calls: list[tuple[str, str]] = []
        self.error: StorageError | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def credentials(self, username: str, access_token: str) -> Credentials:
        self.calls.append((username, access_token))
        await self.gate.wait()
        if self.error:
            raise self.error
        end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.seconds)
        return Credentials(f"{username}-{len(self.calls)}", "s", "t", end)


async def token() -> str:
    return "token"


async def test_kept_while_they_last() -> None:
    exchange = Exchange()
    cache = CredentialCache(exchange)
    first = await cache.get("alice", token)
    assert await cache.get("alice", token) is first
    assert (await cache.get("bruno", token)).access_key == "bruno-2"
    cache.forget("alice")
    assert await cache.get("alice", token) is not first


@pytest.mark.parametrize(("seconds", "calls"), [(3600, 1), (900, 1), (0.001, 2)])
async def test_renewed_before_the_end(seconds: float, calls: int) -> None:
    exchange = Exchange(seconds)
    cache = CredentialCache(exchange, margin=1200)
    await cache.get("alice", token)
    await asyncio.sleep(0.002)
    await cache.get("alice", token)
    assert len(exchange.calls) == calls


async def test_one_exchange_for_all_even_when_the_first_leaves() -> None:
    exchange = Exchange()
    exchange.gate.clear()
    cache = CredentialCache(exchange)
    waiting = [asyncio.create_task(cache.get("alice", token)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    exchange.gate.set()
    made = await asyncio.gather(*waiting[1:])
    assert len(exchange.calls) == 1
    assert len({item.access_key for item in made}) == 1


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    exchange = Exchange()
    exchange.error = StorageError("away", reason="unreachable")
    cache = CredentialCache(exchange)
    answers = await asyncio.gather(
        *(cache.get("alice", token) for _ in range(3)), return_exceptions=True
    )
    assert [str(answer) for answer in answers] == ["away"] * 3
    assert len(exchange.calls) == 1
    exchange.error = None
    assert (await cache.get("alice", token)).access_key == "alice-2"
