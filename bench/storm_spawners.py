"""Spawners that make nothing: all servers are one small web server."""

from __future__ import annotations

import os
from typing import Any

from jupyterhub.spawner import Spawner

from taccuino.engines import PodmanSpawner
from taccuino.engines.progress import StartProgress

ADDRESS = os.environ["STORM_SERVER"]


class Remembered:
    """Knows after a restart of the hub whether its server was started."""

    running = False

    def get_state(self) -> dict[str, Any]:
        """What a hub that starts again must know."""
        state: dict[str, Any] = super().get_state()  # type: ignore[misc]
        return {**state, "running": self.running}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a server that ran before the hub did."""
        super().load_state(state)  # type: ignore[misc]
        self.running = state.get("running", False)


class PlainStandIn(Remembered, Spawner):
    """As plain as a spawner can be."""

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


class OwnStandIn(Remembered, PodmanSpawner):
    """Taccuino's own spawner with its queue, phases and admission; only nothing is made."""

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
