"""How soon a hub with many running servers serves again after it was killed.

Both sides have stand-in servers, and the rest is real: the hub and its database, the edge here,
configurable-http-proxy there. What is measured begins with the start of the new hub's process
and ends with its first answer to an authenticated request, asked at the hub's own port; and,
through the proxy, for how long a running server could not be reached.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import aiohttp
from rich.console import Console

from .report import Bar, Report
from .storm import stand_in_server
from .storm_hubs import StormHub, own, plain

PLAIN, OWN = "plain JupyterHub", "taccuino"
ROUNDS = 3
SERVERS = (100, 1000)
LIMIT = 0.4
"""Of the baseline's median."""
_PATIENCE_SECONDS = 300.0
_PAUSE_SECONDS = 0.01
_STARTS_AT_ONCE = 16
_PAGE = 200


def run(rounds: int, servers: tuple[int, ...] = SERVERS) -> Report:
    """Restart both in turn, with each number of servers."""
    report = Report("restart")
    lost = asyncio.run(_measure(servers, rounds, report))
    most = max(servers)
    ours, theirs = (report.median(_serves(name, most)) for name in (OWN, PLAIN))
    report.bars += [
        Bar(
            f"restart: until the hub serves with {most} servers, of plain's",
            ours / theirs,
            LIMIT,
        ),
        Bar("restart: servers lost", lost, 0),
    ]
    return report


def _serves(name: str, count: int) -> str:
    return f"{name}: serves, {count} servers"


async def _measure(servers: tuple[int, ...], rounds: int, report: Report) -> int:
    """Measure both sides; how many servers ours lost."""
    lost, running = 0, 0
    stack = ExitStack()
    async with stand_in_server() as server:
        try:
            hubs: dict[str, StormHub] = {}
            for name, hub in ((PLAIN, plain), (OWN, own)):
                hubs[name] = await asyncio.to_thread(stack.enter_context, hub(server))
            for count in servers:
                for name, known in hubs.items():
                    Console(stderr=True).print(f"{name}: starting {count - running} servers")
                    await _start(known, range(running, count))
                running = count
                for _ in range(rounds):
                    for name, known in hubs.items():
                        seconds, away = await asyncio.to_thread(_restart, known)
                        report.add(_serves(name, count), seconds)
                        report.add(f"{name}: a server can't be reached, {count} servers", away)
                    lost += count - await _ready(hubs[OWN])
        finally:
            await asyncio.to_thread(stack.close)
    return lost


async def _start(hub: StormHub, numbers: range) -> None:
    """Start a server for each of these users."""
    names = [_user(number) for number in numbers]
    await asyncio.to_thread(hub.make_users, names)
    turns = asyncio.Semaphore(_STARTS_AT_ONCE)
    headers = {"Authorization": f"token {hub.token}"}

    async def start(name: str) -> None:
        async with turns:
            path = f"/hub/api/users/{name}/server"
            async with session.post(path, json={}, headers=headers) as answer:
                assert answer.status in (201, 202), f"{answer.status}: {await answer.text()}"

    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    async with aiohttp.ClientSession(hub.url, timeout=timeout) as session:
        await asyncio.gather(*(start(name) for name in names))
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while await _ready(hub) < numbers.stop:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.5)


def _user(number: int) -> str:
    return f"user{number:04d}"


def _restart(hub: StormHub) -> tuple[float, float]:
    """Seconds until the hub serves, and for how many a running server could not be reached."""
    hub.restart()
    user = _user(0)
    with ThreadPoolExecutor(1) as pool:
        serves = pool.submit(_seconds_until, hub.own_url, f"/hub/api/users/{user}", hub.token)
        away, before, reached = 0.0, time.monotonic(), True
        while not serves.done() or not reached:
            reached = _answers(hub.url, f"/user/{user}/api", hub.token)
            time.sleep(_PAUSE_SECONDS)
            now = time.monotonic()
            away, before = away + (0 if reached else now - before), now
            assert away < _PATIENCE_SECONDS, "the server can't be reached any more"
        return serves.result(), away


def _seconds_until(url: str, path: str, token: str) -> float:
    began = time.monotonic()
    while not _answers(url, path, token):
        assert time.monotonic() - began < _PATIENCE_SECONDS, "the hub does not come back"
        time.sleep(_PAUSE_SECONDS)
    return time.monotonic() - began


def _answers(url: str, path: str, token: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("GET", path, headers={"Authorization": f"token {token}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


async def _ready(hub: StormHub) -> int:
    """How many servers run, as the hub says."""
    count = offset = 0
    headers = {"Authorization": f"token {hub.token}"}
    async with aiohttp.ClientSession(hub.own_url, headers=headers) as session:
        while True:
            query = {"state": "ready", "offset": str(offset), "limit": str(_PAGE)}
            async with session.get("/hub/api/users", params=query) as answer:
                users = await answer.json()
            count += sum(bool(user["server"]) for user in users)
            if len(users) < _PAGE:
                return count
            offset += _PAGE
