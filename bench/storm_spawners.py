"""Spawners that make nothing: all servers are one small web server. For the storm."""

from __future__ import annotations

import os
from typing import Any

from jupyterhub.spawner import Spawner

from taccuino.engines import PodmanSpawner
from taccuino.engines.progress import StartProgress

ADDRESS = os.environ["STORM_SERVER"]


class PlainStandIn(Spawner):
    """As plain as a spawner can be."""

    running = False

    async def start(self) -> str:
        """The one server's address."""
        self.running = True
        return ADDRESS

    async def poll(self) -> int | None:
        """It runs until it is stopped."""
        return None if self.running else 0

    async def stop(self, now: bool = False) -> None:  # noqa: ARG002
        """Note that."""
        self.running = False


class OwnStandIn(PodmanSpawner):
    """Taccuino's own spawner with its queue, phases and admission; only nothing is made."""

    running = False

    async def _attempt(self, progress: StartProgress) -> str:
        for phase in ("storage", "container", "jupyter", "ready"):
            progress.enter(phase)
        self.running = True
        return ADDRESS

    async def poll(self) -> int | None:
        """It runs until it is stopped."""
        return None if self.running or self._starting else 0

    async def stop(self, now: bool = False) -> None:  # noqa: ARG002
        """Note that."""
        self.running = False

    async def _clean_up(self, **_: Any) -> None:
        self.running = False
