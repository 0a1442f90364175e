"""Many starts at once, in real containers."""

from __future__ import annotations

import asyncio

import pytest
from engine_servers import Servers

from taccuino.engines import queue as module
from taccuino.engines.queue import StartQueue

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NUMBER = 8


async def test_a_burst_is_served_in_order_and_each_is_told_its_place(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = StartQueue(1)
    monkeypatch.setattr("taccuino.engines.spawner.start_queue", lambda: queue)
    monkeypatch.setattr(module, "_TOLD_SECONDS", 0.05)
    begun: list[int] = []
    events: dict[int, list[dict]] = {}

    async def follow(number: int) -> None:
        spawner = servers.spawner(f"crowd{number}")
        starting = asyncio.ensure_future(spawner.start())
        await asyncio.sleep(0)
        events[number] = []
        async for event in spawner.progress():
            events[number].append(event)
            if event["phase"] == "storage" and number not in begun:
                begun.append(number)
        await starting

    await asyncio.gather(*(follow(number) for number in range(NUMBER)))
    assert begun == list(range(NUMBER))
    last = [event["place"] for event in events[NUMBER - 1] if event["phase"] == "queue"]
    assert last[0] == NUMBER - 1
    assert last == sorted(last, reverse=True)
    assert last[-1] < last[0]
    assert next(event["phase"] for event in events[0]) == "storage"
    assert events[NUMBER - 1][-1]["phase"] == "ready"
    assert (queue.under_way(), queue.waiting()) == (0, 0)
    await asyncio.gather(
        *(
            spawner.stop(now=True)
            for user in servers.users.values()
            for spawner in user.spawners.values()
        )
    )
    await servers.nothing_left()


async def test_a_start_that_waits_can_be_given_up(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = StartQueue(1)
    monkeypatch.setattr("taccuino.engines.spawner.start_queue", lambda: queue)
    one, other = servers.spawner("first"), servers.spawner("second")
    starts = [asyncio.ensure_future(spawner.start()) for spawner in (one, other)]
    while queue.waiting() != 1:  # noqa: ASYNC110 - the queue has no event
        await asyncio.sleep(0.01)
    assert other.cancel_start()
    with pytest.raises(Exception, match="The start was stopped"):
        await starts[1]
    assert not other.holds_storage
    await starts[0]
    await one.stop(now=True)
    await servers.nothing_left()
