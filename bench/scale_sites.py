"""The sites of ``bench scale``, with running servers and their users."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import psutil
import requests

from .storm import Storm, ask_for_server, until_ready
from .storm_hubs import StormHub, own

SHARES = {"server": 70, "user": 15, "home": 5, "activity": 7, "progress": 3}
"""Of 100 requests. Most are for notebook servers. Those for the hub are more than so many users
make: 2,000 servers report their activity 7 times a second and not 25, and ask for a user's
identity as often (JupyterHub's interval and its cache are 300 s each)."""

MEANING = {
    "server": "a server's API",
    "user": "GET user",
    "home": "GET home",
    "activity": "POST activity",
    "progress": "GET progress",
}

BROWSERS = 100
"""Users of each site with a session in a browser."""
STARTS_AT_ONCE = 20


@dataclass
class Site:
    """A hub and its edge, with users whose servers run."""

    number: int
    hub: StormHub
    tokens: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    """Of those who have a browser: the whole header."""

    async def grow(self, servers: int) -> None:
        """Make users and start servers until so many run.

        Raises
        ------
        AssertionError
            If a start fails.
        """
        first = len(self.tokens)
        names = [f"site{self.number}-user{number:04d}" for number in range(first, servers)]
        self.tokens |= await asyncio.to_thread(self.hub.make_users, names)
        turns = asyncio.Semaphore(STARTS_AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(self.hub.url, timeout=timeout) as session:

            async def start(name: str) -> None:
                headers = {"Authorization": f"token {self.tokens[name]}"}
                async with turns:
                    await ask_for_server(session, name, headers, Storm())
                    await until_ready(session, name, headers)

            await asyncio.gather(*(start(name) for name in names))
        await asyncio.to_thread(self._open_browsers)

    def _open_browsers(self) -> None:
        """Log users in at the login page."""
        names = [name for name in self.tokens if name not in self.cookies]
        with ThreadPoolExecutor(2) as pool:
            names = names[: BROWSERS - len(self.cookies)]
            self.cookies |= zip(names, pool.map(self._log_in, names), strict=True)

    def _log_in(self, name: str) -> str:
        with requests.Session() as session:
            login = f"{self.hub.url}/hub/login"
            session.get(login, timeout=60).raise_for_status()
            form = {"username": name, "password": "x", "_xsrf": session.cookies["_xsrf"]}
            answer = session.post(login, data=form, timeout=60, allow_redirects=False)
            assert answer.status_code == 302, f"login of {name}: {answer.status_code}"
            return "; ".join(f"{cookie.name}={cookie.value}" for cookie in session.cookies)

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU until now: the hub's, and the edge's with its workers."""
        assert self.hub.proxy is not None
        edge = [self.hub.proxy, *self.hub.proxy.children(recursive=True)]
        return _cpu([self.hub.process]), _cpu(edge)


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@dataclass
class Sites:
    """The sites of one measurement, side by side on this machine, and a client of all."""

    all: list[Site]
    session: aiohttp.ClientSession
    chance: random.Random

    async def grow(self, servers: int) -> None:
        """Let so many servers run in all, as many on each site."""
        await asyncio.gather(*(site.grow(servers // len(self.all)) for site in self.all))

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU until now: of the hubs, and of the edges."""
        hubs, edges = zip(*(site.cpu() for site in self.all), strict=True)
        return sum(hubs), sum(edges)

    async def send(self, kind: str) -> None:
        """A request of this kind by some user, with its whole answer.

        Raises
        ------
        AssertionError
            If it is not the answer that the user wants.
        """
        site = self.chance.choice(self.all)
        method, name, headers, body = "GET", "", {}, None
        if kind == "home":
            name = self.chance.choice(list(site.cookies))
            path, headers = "/hub/home", {"Cookie": site.cookies[name]}
        else:
            name = self.chance.choice(list(site.tokens))
            headers = {"Authorization": f"token {site.tokens[name]}"}
            match kind:
                case "server":
                    path = f"/user/{name}/api/kernels"
                case "user":
                    path = "/hub/api/user"
                case "activity":
                    method, path = "POST", f"/hub/api/users/{name}/activity"
                    now = datetime.now(UTC).isoformat()
                    body = {"servers": {"": {"last_activity": now}}, "last_activity": now}
                case "progress":
                    path = f"/hub/api/users/{name}/server/progress"
                case _:
                    raise ValueError(kind)
        async with self.session.request(
            method, site.hub.url + path, headers=headers, json=body, allow_redirects=False
        ) as answer:
            text = await answer.text()
            assert answer.status == 200, f"{path}: {answer.status} {text[:200]}"
            assert kind == "activity" or name in text, f"{path}: {text[:200]}"


@asynccontextmanager
async def running(number: int, server: str, seed: int) -> AsyncIterator[Sites]:
    """Run so many sites, without any user yet; ``server`` stands for all notebook servers."""
    stack = ExitStack()
    # More would wait in this program; the wait counts all the same.
    connector = aiohttp.TCPConnector(limit=1000)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as session:
        try:
            hubs = [
                await asyncio.to_thread(stack.enter_context, own(server)) for _ in range(number)
            ]
            sites = [Site(place, hub) for place, hub in enumerate(hubs)]
            yield Sites(sites, session, random.Random(seed))
        finally:
            await asyncio.to_thread(stack.close)
