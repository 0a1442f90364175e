"""One warm server: a container with a network, uids and a place, and no user."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from taccuino.engines.container import WARM_LABEL, ContainerSpec
from taccuino.engines.engine import Engine
from taccuino.engines.environment import server_api
from taccuino.engines.errors import ContainerExitedError, EngineError
from taccuino.engines.readiness import answers
from taccuino.engines.server import ServerContainer
from taccuino.engines.storage_port import Bind
from taccuino.engines.uid_ranges import UidRange
from taccuino.settings import Settings, parse_size

from .link import LINK_DIRECTORY, Link

__all__ = ["WarmServer", "leftovers"]

PLACES = ".places"
"""As the mount plane has it, in ``mount_plane.directory``."""

_MEMORY = 512 * 1024**2
"""Bytes until it is claimed."""
_WEIGHT = 0.1
"""Its share of the CPUs until it is claimed: those who run come first."""
_PATIENCE = 120.0
_PORT = 8888  # any would do: nobody listens yet


def _name(settings: Settings) -> str:
    """A name that no server had before."""
    return f"taccuino-{settings.port}-warm-{secrets.token_hex(4)}"


class WarmServer:
    """A server that waits for its user; it sees the directory ``place`` as ``/workarea``."""

    def __init__(
        self, settings: Settings, engine: Engine, image: str, image_id: str, uids: UidRange
    ) -> None:
        self.image = image
        self.image_id = image_id
        self.uids = uids
        self.name = _name(settings)
        assert settings.mount_plane.directory is not None
        self.place = settings.mount_plane.directory / PLACES / self.name
        self.link = Link(settings.state_dir / "engine/warm" / self.name.rpartition("-")[2])
        self.container = ServerContainer(settings, engine, self.name, {WARM_LABEL: image})
        self.container.uid = uids.uid
        self._settings = settings

    @property
    def usable(self) -> bool:
        """Whether it waits, alive."""
        waits = self.link.warm.is_set() and not self.link.closed.is_set()
        return waits and self.container.watched_alive

    async def start(self, uids: UidRange | None, on_death: Callable[[], None]) -> None:
        """Start it, and return when it waits; ``uids`` are those that the engine must map.

        Raises
        ------
        EngineError, OSError
            If it can't be had; `discard` it then.
        """
        self.place.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.place.mkdir(mode=0o755)
        await self.link.listen(self.uids.uid)
        await self.container.make_network()
        await self.container.create(self._spec(uids))
        await self.container.start(on_death)
        if self.container.group is None:
            raise EngineError("its control group can't be seen from here")
        self.container.group.boot(_WEIGHT)
        events = [
            asyncio.ensure_future(work)
            for work in (
                self.link.warm.wait(),
                self.link.closed.wait(),
                self.container.wait_dead(),
            )
        ]
        try:
            await asyncio.wait(events, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()
        # The host learns its address now: the first packet to it may wait for a second.
        await answers(self.container.ip, _PORT, "/")
        if not self.usable:
            log = (await self.container.log_tail())[-400:]
            raise ContainerExitedError(f"it does not become ready: {log or 'it says nothing'}")

    async def discard(self) -> None:
        """Remove all of it; idempotent.

        Raises
        ------
        EngineError
            If the engine can't be asked; what is left is for `reconcile`.
        """
        self.let_go()
        await self.container.remove()

    def let_go(self) -> None:
        """Remove what a container does not need once it has, or never gets, its user."""
        self.link.close()
        with contextlib.suppress(OSError):  # the user's files are mounted there
            self.place.rmdir()

    def _spec(self, uids: UidRange | None) -> ContainerSpec:
        settings = self._settings
        _, hosts = server_api(settings, self.container.gateway)
        largest = max(parse_size(size) for item in settings.flavours for size in item.memory)
        return ContainerSpec(
            image=self.image,
            environment=self.link.environment,
            labels=self.container.labels,
            network=self.container.network,
            cpus=os.cpu_count() or 1,  # limited once it has started
            memory=_MEMORY,
            shared_memory=largest // 2,
            pids_limit=settings.engine.pids_limit,
            binds=(
                Bind(self.place, "/workarea"),
                Bind(self.link.directory, LINK_DIRECTORY),
            ),
            hosts=hosts,
            uids=uids,
        )


def leftovers(settings: Settings) -> list[Path]:
    """The places of warm servers, also of those that are gone."""
    directory = settings.mount_plane.directory
    return list((directory / PLACES).glob("*")) if directory else []
