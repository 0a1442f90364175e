"""500 users ask for a server within five seconds, and no server costs anything.

What is measured is the hub: requests, database, tokens, waits and routes. Both sides have
stand-in servers, and the rest is real: the edge and the database here, plain JupyterHub
with configurable-http-proxy there. A user who is answered 429 asks again when they are told to.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from rich.console import Console

from .report import Bar, Report
from .storm_hubs import StormHub, own, plain

ROUNDS = 1
USERS = 500
SPREAD_SECONDS = 5.0
PATIENCE_SECONDS = 240.0
LIMIT = 0.3
"""Of the baseline's median."""


@dataclass
class Storm:
    """How a storm went."""

    seconds: list[float] = field(default_factory=list)
    refusals: int = 0
    """Answers 429."""
    failures: list[str] = field(default_factory=list)
    cpu: float = 0.0
    """Seconds of the hub's process."""


def run(rounds: int, users: int = USERS) -> Report:
    """Let the storm pass over both."""
    report = Report("storm")
    storms: dict[str, list[Storm]] = {}
    console = Console(stderr=True)
    for number in range(rounds):
        for name, hub in (("plain JupyterHub", plain), ("taccuino", own)):
            storm = asyncio.run(_side(hub, users, seed=number))
            storms.setdefault(name, []).append(storm)
            report.rows.setdefault(f"{name}: ready", []).extend(storm.seconds)
            report.add(f"{name}: the hub's CPU", storm.cpu)
            console.print(
                f"{name}: {len(storm.seconds)} of {users} ready, {storm.refusals} answers 429"
            )
            for failure in storm.failures[:3]:
                console.print(f"  {failure}")
    ours = storms["taccuino"]
    ratio = report.median("taccuino: ready") / report.median("plain JupyterHub: ready")
    report.bars += [
        Bar("storm: not ready", sum(len(storm.failures) for storm in ours), 0),
        Bar("storm: 429s", sum(storm.refusals for storm in ours), 0),
        Bar("storm: median, of plain JupyterHub's", ratio, LIMIT),
    ]
    return report


async def _side(hub: object, users: int, seed: int) -> Storm:
    async with stand_in_server() as server:
        opened = hub(server)  # type: ignore[operator]
        running = await asyncio.to_thread(opened.__enter__)
        try:
            return await _storm(running, users, seed)
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)


@asynccontextmanager
async def stand_in_server() -> AsyncIterator[str]:
    """The one server that stands for all."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"version": "0"}, headers={"X-JupyterHub-Version": "6.1.1"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _storm(hub: StormHub, users: int, seed: int) -> Storm:
    names = [f"user{number:03d}" for number in range(users)]
    tokens = await asyncio.to_thread(hub.make_users, names)
    chance = random.Random(seed)  # the same moments for both sides
    storm = Storm()
    before = sum(hub.process.cpu_times()[:2])
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    async with aiohttp.ClientSession(hub.url, connector=connector, timeout=timeout) as session:
        await asyncio.gather(
            *(
                _user(session, name, token, chance.uniform(0, SPREAD_SECONDS), storm)
                for name, token in tokens.items()
            )
        )
    storm.cpu = sum(hub.process.cpu_times()[:2]) - before
    return storm


async def _user(
    session: aiohttp.ClientSession, name: str, token: str, wait: float, storm: Storm
) -> None:
    """Ask for a server, follow its start, use it once."""
    headers = {"Authorization": f"token {token}"}
    await asyncio.sleep(wait)
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ask_for_server(session, name, headers, storm)
            await until_ready(session, name, headers)
            async with session.get(f"/user/{name}/api") as answer:
                answer.raise_for_status()
    except (TimeoutError, aiohttp.ClientError, AssertionError) as error:
        storm.failures.append(f"{name}: {type(error).__name__} {error}")
    else:
        storm.seconds.append(time.monotonic() - began)


async def ask_for_server(
    session: aiohttp.ClientSession, name: str, headers: dict[str, str], storm: Storm
) -> None:
    """Ask until the hub takes the request."""
    while True:
        async with session.post(
            f"/hub/api/users/{name}/server", json={}, headers=headers
        ) as answer:
            if answer.status in (201, 202):
                return
            text = await answer.text()
            assert answer.status == 429, f"{answer.status}: {text[:200]}"
            storm.refusals += 1
            pause = float(answer.headers.get("Retry-After", 30))
        await asyncio.sleep(pause)


async def until_ready(
    session: aiohttp.ClientSession, name: str, headers: dict[str, str]
) -> None:
    """Follow the progress, as the start page does."""
    async with session.get(f"/hub/api/users/{name}/server/progress", headers=headers) as answer:
        assert answer.status == 200, f"progress: {answer.status}"
        async for line in answer.content:
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                assert not event.get("failed"), event
                if event.get("ready"):
                    return
    raise AssertionError("the progress ended before the server was ready")
