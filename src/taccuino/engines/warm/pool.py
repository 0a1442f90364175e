"""The pool: so many warm servers of each image as are wanted, and one for who asks.

All of it is in the hub's process, and a claim is taken without a pause in between: two starts
never get the same server. None is adopted by the next hub: a warm server whose line is cut ends
by itself, and a claimed one that no spawner knows is removed (`reconcile`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from taccuino.engines.engine import DockerEngine, Engine, engine_for
from taccuino.engines.errors import EngineError
from taccuino.engines.metrics import WARM_CLAIMS, WARM_FAILURES, WARM_SERVERS, WARM_WANTED
from taccuino.engines.uid_ranges import UidRange, UidRanges
from taccuino.errors import TaccuinoError
from taccuino.settings import Settings

from .demand import Demand
from .server import WarmServer, leftovers

__all__ = ["WARM_IMAGE_LABEL", "WarmPool"]

log = logging.getLogger(__name__)

WARM_IMAGE_LABEL, WARM_IMAGE_VERSION = "taccuino.warm", "2"
"""On an image: its entry point can wait for its user, and speaks this version of the `Link`."""
_ENTRY_POINT = "taccuino-server"
_LOOK_SECONDS = 30.0
_QUIET_SECONDS = 5.0
"""While servers wait, no other one is made so soon after a start: its page is loading."""
_FIRST_PAUSE = 15.0
_LONGEST_PAUSE = 900.0


class WarmPool:
    """The warm servers of one hub.

    Parameters
    ----------
    images
        The references of the images on offer, the default first.
    uids_in_use
        The host uids that mounts and servers have; a warm server gets others.
    supported
        Whether a user's files can be shown to a server that has other uids.
    """

    def __init__(
        self,
        settings: Settings,
        images: Callable[[], Sequence[str]],
        uids_in_use: Callable[[], Awaitable[Collection[int]]],
        supported: Callable[[], Awaitable[bool]],
    ) -> None:
        self._settings = settings
        self._images = images
        self._uids_in_use = uids_in_use
        self._supported = supported
        self._last_start = 0.0
        self.starts = 0
        """Starts that wait for their turn or are under way."""
        self.cold_starts = 0
        """Of these, servers that are being made for their user."""
        self._demand = Demand(settings.warm)
        self._servers: list[WarmServer] = []
        self._refused: dict[str, tuple[float, float]] = {}
        self._told: set[str] = set()
        self._wake = asyncio.Event()
        self._off = ""
        self._counted: set[str] = set()
        self._claimed: dict[str, WarmServer] = {}

    @property
    def _engine(self) -> Engine:
        return engine_for(self._settings.engine)

    @property
    def names(self) -> list[str]:
        """The containers that are in the pool, or are being made for it."""
        return [server.name for server in self._servers]

    @property
    def held(self) -> list[WarmServer]:
        """Those of the pool, and those that were claimed and whose spawner may not know yet."""
        return [*self._servers, *self._claimed.values()]

    def claim(self, image: str) -> WarmServer | None:
        """Take a warm server of the image; nothing where none waits."""
        self._wake.set()
        for server in self._servers:
            if server.usable and server.image == image:
                self._servers.remove(server)
                self._claimed[server.name] = server
                self._count()
                WARM_CLAIMS.labels("claimed").inc()
                return server
        WARM_CLAIMS.labels("none").inc()
        return None

    async def check_image(self, server: WarmServer) -> None:
        """See that a claimed server's image is what is offered now.

        Raises
        ------
        EngineError
            If it was made anew since, or the engine can't tell.
        """
        if await self._engine.image_id(server.image) != server.image_id:
            raise EngineError(f"{server.image} was made anew")

    def give_back(self, server: WarmServer) -> None:
        """Take back what was claimed and not touched."""
        self.settled(server)
        self._servers.append(server)
        self._wake.set()

    def settled(self, server: WarmServer) -> None:
        """What was claimed has its user's files at its place, or needs none any more."""
        self._claimed.pop(server.name, None)

    def note_start(self, image: str) -> None:
        """Count a start: more will be kept warm where many come together."""
        self._last_start = time.monotonic()
        self._demand.note(image, self._last_start)

    def wake(self) -> None:
        """Look at the levels again, soon."""
        self._wake.set()

    def switch_off(self, reason: str) -> None:
        """Keep no servers warm from now on."""
        if not self._off:
            log.warning("No servers are kept warm: %s", reason)
            self._off = reason
            self._wake.set()

    async def run(self) -> None:
        """Keep the levels, until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._level()
                except (TaccuinoError, OSError) as error:
                    log.warning("The warm servers could not be looked after: %s", error)
                except Exception:
                    log.exception("The warm servers could not be looked after")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _LOOK_SECONDS)
        finally:
            for server in self._servers:
                server.link.close()  # they end by themselves

    async def _level(self) -> None:
        await self._drop_unwanted()
        while (image := self._next()) is not None:
            if not self._off and not await self._supported():
                self.switch_off(
                    "the kernel can't show a user's files to a server with other uids "
                    "(idmapped mounts, Linux 5.12)"
                )
                return
            await self._add(image)
        self._sweep()

    def _targets(self) -> dict[str, int]:
        images = list(dict.fromkeys(self._images()))
        if self._off:
            return dict.fromkeys(images, 0)
        targets = dict(self._demand.targets(images, time.monotonic()))
        for image, wanted in targets.items():
            WARM_WANTED.labels(image).set(wanted)
        return targets

    def _next(self) -> str | None:
        """The image of which a server is to be added now."""
        if self.cold_starts or self.starts > 1:
            return None  # they come first, and their end wakes this
        now = time.monotonic()
        waiting = any(server.usable for server in self._servers)
        if waiting and now - self._last_start < _QUIET_SECONDS:
            asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._wake.set)
            return None
        for image, wanted in self._targets().items():
            pause_ends = self._refused.get(image, (0.0, 0.0))[0]
            has = sum(server.image == image for server in self._servers)
            if has < wanted and now >= pause_ends:
                return image
        return None

    async def _drop_unwanted(self) -> None:
        """Remove what died, is of an older image, or is more than is wanted."""
        targets = self._targets()
        identities = {
            image: await self._engine.image_id(image)
            for image in {server.image for server in self._servers}
        }
        kept: dict[str, int] = {}
        for server in list(self._servers):
            count = kept.get(server.image, 0)
            current = server.image_id == identities.get(server.image)
            if server.usable and current and count < targets.get(server.image, 0):
                kept[server.image] = count + 1
            elif server in self._servers:  # nobody claimed it meanwhile
                await self._discard(server)

    async def _add(self, image: str) -> None:
        server: WarmServer | None = None
        try:
            identity = await self._engine.image_id(image)
            if identity is None or not await self._can_wait(image, identity):
                self._pause(image)
                return
            uids = await self._free_uids()
            server = WarmServer(self._settings, self._engine, image, identity, uids)
            self._servers.append(server)
            mapped = None if isinstance(self._engine, DockerEngine) else uids
            await server.start(mapped, self._wake.set)
        except (TaccuinoError, OSError) as error:
            WARM_FAILURES.inc()
            log.warning("No server of %s could be warmed: %s", image, error)
            self._pause(image)
            if server is not None:
                await self._discard(server)
        except asyncio.CancelledError:
            if server is not None:
                server.link.close()
            raise
        else:
            self._refused.pop(image, None)
        finally:
            self._count()

    def _pause(self, image: str) -> None:
        """Leave an image alone for a while, longer each time."""
        _, last = self._refused.get(image, (0.0, 0.0))
        pause = min(last * 2, _LONGEST_PAUSE) if last else _FIRST_PAUSE
        self._refused[image] = (time.monotonic() + pause, pause)

    async def _discard(self, server: WarmServer) -> None:
        try:
            await server.discard()
        except EngineError as error:
            log.warning("%s is left for reconcile: %s", server.name, error)
        if server in self._servers:
            self._servers.remove(server)
        self._count()

    async def _can_wait(self, image: str, identity: str) -> bool:
        """Whether the image's entry point is ours, and knows how to wait."""
        info: dict[str, Any] = await self._engine.image(image) or {}
        config = info.get("Config") or {}
        words = config.get("Entrypoint") or [""]
        able = (config.get("Labels") or {}).get(WARM_IMAGE_LABEL) == WARM_IMAGE_VERSION
        if able and words[-1].endswith(_ENTRY_POINT) and not config.get("Cmd"):
            return True
        if identity not in self._told:
            self._told.add(identity)
            log.info("%s starts the plain way: its entry point can't wait for a user", image)
        return False

    async def _free_uids(self) -> UidRange:
        """The first range that no container and no mount has."""
        engine = self._engine
        if isinstance(engine, DockerEngine):
            return UidRange(await engine.uid_offset())
        used = set(await self._uids_in_use())
        used |= {server.uids.uid for server in self.held}
        path = self._settings.state_dir / "engine/uid-ranges.json"
        ranges = UidRanges(path, self._settings.engine.uid_base)
        number = 0
        while True:
            # No user is called so: a slash is in nobody's name.
            uids = await ranges.range_for(f"/warm/{number}")
            if uids.uid not in used:
                return uids
            number += 1

    def _sweep(self) -> None:
        """Remove the places whose servers are gone; one with a user's files stays."""
        names = {server.name for server in self.held}
        for place in leftovers(self._settings):
            if place.name not in names:
                with contextlib.suppress(OSError):
                    place.rmdir()

    def _count(self) -> None:
        images = {server.image for server in self._servers} | self._counted
        for image in images:
            mine = [server for server in self._servers if server.image == image]
            ready = sum(server.usable for server in mine)
            WARM_SERVERS.labels(image, "ready").set(ready)
            WARM_SERVERS.labels(image, "booting").set(len(mine) - ready)
        self._counted = images
