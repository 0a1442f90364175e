"""The hub among its peers: where a user belongs, what they are told, what is stopped here.

With no peers there is still maintenance mode, in which a site takes no new servers and empties
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from taccuino.edge import PeerMap
from taccuino.edge.sites import PEER_HEADER
from taccuino.private_files import secret
from taccuino.settings import PeerSettings, Settings
from taccuino.sites import Elsewhere, Maintenance, Peers, Place, ServerState, SiteState, home
from taccuino.sites.maintenance import MaintenanceFile
from taccuino.sites.peers import PeerError

from .activity import ask_activity, started_at
from .application import all_servers_known
from .housekeeping import active_spawners
from .notices import Notice
from .readiness import Readiness

__all__ = ["SITES_SCOPE", "Sites", "sites_role"]

log = logging.getLogger(__name__)

SITES_SCOPE = "custom:taccuino:sites"
"""Ask a site for its state."""
_ANSWER_SECONDS = 2.0
_EVERY_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_IDLE_SECONDS_IN_MAINTENANCE = 300.0
_STOPS_AT_ONCE = 8
_SILENT_SECONDS = 6 * 3600.0
"""How long a server may not answer until it is taken for one that computes nothing."""


def sites_role() -> dict[str, Any]:
    """For ``c.JupyterHub.load_roles``: the peers' service, with the secret of all sites."""
    return {
        "name": "taccuino-peers",
        "description": "Ask this site whose servers it runs",
        "scopes": [SITES_SCOPE],
        "services": ["peers"],
    }


@dataclass
class _Superseded:
    """Since when a server is superseded, and was seen to be last (monotonic clock)."""

    since: float
    last: float


class Sites:
    """What the hub knows of itself and its peers."""

    def __init__(self, settings: Settings, readiness: Readiness) -> None:
        self.settings = settings
        self.site = settings.site
        self._readiness = readiness
        self._maintenance = MaintenanceFile(settings.state_dir)
        self._ready = True
        self._born = f"{time.time():.3f}"
        # A stopped server's spawner is gone, and its entry.
        self._superseded: WeakKeyDictionary[Any, _Superseded] = WeakKeyDictionary()
        self._silent: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._stops = asyncio.Semaphore(_STOPS_AT_ONCE)
        file, socket = settings.edge.peers_file, settings.edge.admin_socket
        assert file is not None
        assert socket is not None
        self._secret = ""
        if settings.peers and settings.sites.secret_file:
            self._secret = secret(settings.sites.secret_file)
        kept = settings.state_dir / "hub/peers.json"
        self.peers = Peers(settings.peers, self._ask, PeerMap(file, socket).set, kept)
        self._tasks: set[asyncio.Task[None]] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> Sites:
        """The same: traitlets copies what is configured."""
        return self

    def begin(self, app: Any) -> None:
        """Begin to follow the peers and to look after this site's servers, if it has peers."""
        if self.settings.peers:
            self._run(self._follow())
            self._run(_again_and_again(self.look, "The site's readiness is not known"))
            sweep = lambda: self._sweep(app)  # noqa: E731
            self._run(_again_and_again(sweep, "The site's servers can't be looked after"))

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def maintenance(self) -> Maintenance | None:
        """Whether this site takes no new servers."""
        return self._maintenance.current

    # -- what peers are told

    def state(self, app: Any) -> SiteState:
        """The state of this site."""
        users = {user.name: user for user in app.users.values()}
        servers = tuple(
            ServerState(
                user=name,
                route=route,
                started=started_at(spawner),
                options=spawner.orm_spawner.user_options or {},
            )
            # What the edge leads to: the version counts those.
            for name, server, route in app.proxy.servers
            if (user := users.get(name)) and (spawner := user.spawners.get(server))
        )
        return SiteState(
            site=self.site,
            version=self._version(app),
            ready=self._ready,
            maintenance=self.maintenance,
            servers=servers,
        )

    async def changed_state(self, app: Any, known: str, seconds: float) -> SiteState | None:
        """The state once it is another than ``known``; None if it stays for ``seconds``.

        A hub that has just started serves before it knows all servers that ran. Until then it
        has nothing to tell: its peers keep what they know.
        """
        limit = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                await all_servers_known(app)
        except TimeoutError:
            return None
        while self._version(app) == known:
            left = limit - time.monotonic()
            if left < 0:
                return None
            # Routes tell of themselves, the rest is looked at.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(app.proxy.changed.wait(), min(left, _LOOK_SECONDS))
        return self.state(app)

    def _version(self, app: Any) -> str:
        since = self.maintenance.model_dump_json() if self.maintenance else ""
        return f"{self._born}-{app.proxy.version}-{self._ready}-{since}"

    # -- where users belong

    def elsewhere(self, username: str) -> list[Elsewhere]:
        """The user's servers at other sites, the newest first."""
        return self.peers.servers_of(username)

    def place_of(self, user: Any) -> str:
        """The site that the user should be at: where their server runs, else their home."""
        if any(spawner.active for spawner in user.spawners.values()):
            return self.site
        for one in self.elsewhere(user.name):
            if one.reachable:
                return one.site
        own = Place(self.site, self.settings.sites.weight)
        places = self.peers.places()
        if self._ready and not self.maintenance:
            places.append(own)
        return home(user.name, places) or self.site

    @property
    def others(self) -> list[str]:
        """The peers that take new servers."""
        return [place.name for place in self.peers.places()]

    # -- what users are told

    def notices(self, username: str) -> list[Notice]:
        """What a server's user is told of other servers of theirs, and of this site."""
        found = []
        if begun := self.maintenance:
            text = f"The site {self.site} is in maintenance. {begun.message}".strip()
            if self.others:
                text += f" The hub's home page moves your server to {self.others[0]}."
            found.append(Notice(f"maintenance-{begun.since:.0f}", "warning", text))
        for one in self.elsewhere(username):
            mark = f"elsewhere-{one.site}-{one.server.started:.0f}-{one.reachable}"
            found.append(Notice(mark, "warning", _told(one)))
        return found

    def page(self, user: Any) -> dict[str, Any]:
        """What the hub's pages say to a user: for templates."""
        elsewhere = self.elsewhere(user.name) if user else []
        options = elsewhere[0].server.options if elsewhere else {}
        return {
            "site": self.site,
            "maintenance": self.maintenance,
            "others": self.others,
            "elsewhere": [
                {
                    "site": one.site,
                    "reachable": one.reachable,
                    "url": one.server.route,
                    "text": _told(one),
                }
                for one in elsewhere
            ],
            "again": "?" + urlencode(options) if options else "",
            "automatically": self.settings.sites.move_automatically,
        }

    async def overview(self, app: Any) -> list[dict[str, Any]]:
        """Every site, this one first: for the status page. It names no user."""
        await self.look()
        own = self.state(app)
        rows = [
            {
                "name": own.site,
                "here": True,
                "reachable": True,
                "ready": own.ready,
                "maintenance": own.maintenance,
                "servers": len(own.servers),
                "since": None,
            }
        ]
        for peer in self.peers.peers.values():
            state = peer.state
            rows.append(
                {
                    "name": peer.name,
                    "here": False,
                    "reachable": peer.reachable,
                    "ready": bool(state and state.ready),
                    "maintenance": state.maintenance if state else None,
                    "servers": len(state.servers) if state else None,
                    "since": datetime.fromtimestamp(peer.changed_at, UTC),
                }
            )
        return rows

    # -- what is done

    async def _follow(self) -> None:
        """Follow the peers, with a client that waits for nothing else."""
        client = AsyncHTTPClient(force_instance=True, max_clients=2 * len(self.settings.peers))
        with contextlib.closing(client) as self._client:
            await self.peers.run()

    async def _ask(self, peer: PeerSettings, version: str, seconds: float) -> bytes | None:
        query = urlencode({"version": version, "wait": seconds})
        request = HTTPRequest(
            f"{peer.url}/hub/api/taccuino/site?{query}",
            headers={"Authorization": f"token {self._secret}", PEER_HEADER: self._secret},
            connect_timeout=_ANSWER_SECONDS,
            request_timeout=seconds + _ANSWER_SECONDS,
        )
        try:
            response = await self._client.fetch(request)
        except (HTTPClientError, OSError) as error:
            raise PeerError(f"{peer.url}: {error}") from error
        return response.body if response.code == 200 else None

    async def look(self) -> None:
        """Ask whether this site can start servers now."""
        self._ready = (await self._readiness.report()).ready

    async def _sweep(self, app: Any) -> None:
        """Stop the servers whose users are at another site, or should be."""
        await all_servers_known(app)
        for spawner in active_spawners(app):
            if self._stops.locked():
                return  # the others in the next round: they run until then
            if spawner.ready and await self._is_to_end(spawner) and spawner.ready:
                # At once, as JupyterHub's own: what is stopping is stopped by nobody else.
                spawner._stop_pending = True  # noqa: SLF001
                await self._stops.acquire()
                spawner._stop_future = self._run(self._stop(app, spawner))  # noqa: SLF001

    async def _is_to_end(self, spawner: Any) -> bool:
        """Whether an idle server is superseded by a newer one, or its site empties itself."""
        started, now = started_at(spawner), time.monotonic()
        limit = self.settings.sites.stale_seconds
        if any(
            one.reachable and one.server.started > started
            for one in self.elsewhere(spawner.user.name)
        ):
            superseded = self._superseded.setdefault(spawner, _Superseded(now, now))
            superseded.last = now
            return now - superseded.since >= limit and await self._is_idle(spawner, 0)
        # The newer one may be just restarting.
        if (before := self._superseded.get(spawner)) and now - before.last > limit:
            del self._superseded[spawner]
        if self.maintenance and self.others:
            return await self._is_idle(spawner, _IDLE_SECONDS_IN_MAINTENANCE)
        self._silent.pop(spawner, None)
        return False

    async def _is_idle(self, spawner: Any, seconds: float) -> bool:
        """Whether a server computes nothing, and was not used for ``seconds``.

        One that does not answer may compute, and be slow for that very reason.
        """
        activity = await ask_activity(spawner)
        if activity is None:
            now = time.monotonic()
            return now - self._silent.setdefault(spawner, now) > _SILENT_SECONDS
        self._silent.pop(spawner, None)
        return not activity.busy and time.time() - activity.last_activity >= seconds

    async def _stop(self, app: Any, spawner: Any) -> None:
        """Stop a server as its user would: uploads are drained first."""
        name = spawner._log_name  # noqa: SLF001
        log.warning("%s is stopped: its user is at another site", name)
        try:
            await app.proxy.delete_user(spawner.user, spawner.name)
            await spawner.user.stop(spawner.name)
        except Exception:
            log.exception("%s could not be stopped", name)
        finally:
            spawner._stop_future = None  # noqa: SLF001
            spawner._stop_pending = False  # noqa: SLF001
            self._stops.release()


async def _again_and_again(work: Callable[[], Awaitable[None]], fault: str) -> None:
    """Do it for ever; ``fault`` is what is logged when it fails."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s", fault)
        await asyncio.sleep(_EVERY_SECONDS)


def _told(one: Elsewhere) -> str:
    """One sentence or two about a server at another site."""
    since = datetime.fromtimestamp(one.server.started, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if one.reachable:
        return (
            f"Another server of yours, started {since}, runs at {one.site}. Both write to your "
            "cloud_storage; what both change at once is kept as a conflict copy."
        )
    lost = datetime.fromtimestamp(one.since, UTC).strftime("%H:%M UTC")
    return (
        f"The site {one.site} can't be reached since {lost}. Your server there, started "
        f"{since}, may still be running; what it saves to cloud_storage is kept, and what both "
        "servers change at once is kept as a conflict copy."
    )
