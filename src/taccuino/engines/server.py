"""One server's container and its network: made together, watched, removed together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import IPv4Network
from itertools import islice
from typing import Any

from taccuino.settings import Settings

from .cgroups import ControlGroup
from .container import CONTAINER_LABEL, INSTANCE_LABEL, ContainerSpec
from .engine import Engine
from .errors import EngineError, NameInUseError, NetworkPoolExhaustedError
from .networks import free_subnets, gateway, network_name
from .watch import ProcessWatch, process_is_of

__all__ = ["ServerContainer", "instance_label"]

log = logging.getLogger(__name__)

_SUBNET_TRIES = 32
_LOOK_SECONDS = 0.5  # between two looks at a container that can't be watched from here
_EXIT_SECONDS = 5.0  # an engine notes a container's exit after the process's own end
_LOG_LINES = 40


def instance_label(settings: Settings) -> str:
    """The value of ``taccuino.instance``: what tells this service's objects from another's."""
    return str(settings.state_dir)


class ServerContainer:
    """The engine's objects of one notebook server.

    ``name`` is what the container is made as, and decides the network's; ``id``, ``network``
    and ``ip`` are empty until each exists. ``uid`` is the host's of its processes.
    """

    def __init__(
        self, settings: Settings, engine: Engine, name: str, labels: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._labels = {
            INSTANCE_LABEL: instance_label(settings),
            CONTAINER_LABEL: name,
            **labels,
        }
        self._watch: ProcessWatch | None = None
        self.group: ControlGroup | None = None
        self.name = name
        self.id = ""
        self.network = ""
        self.gateway = ""
        self.ip = ""
        self.uid = 0

    def as_state(self) -> dict[str, Any]:
        """What a hub that starts again needs to find the server."""
        keys = ("id", "name", "network", "ip", "gateway", "uid")
        return {key: getattr(self, key) for key in keys}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a server that was started by an earlier hub."""
        self.name = state.get("name") or self.name
        self.uid = state.get("uid", 0)
        self.id = state.get("id", "")
        self.network = state.get("network", "")
        self.ip = state.get("ip", "")
        self.gateway = state.get("gateway", "")

    async def make_network(self) -> None:
        """Make the server's isolated network; one left by a crash is removed first.

        Raises
        ------
        NetworkPoolExhaustedError
            If no subnet of ``engine.network_pool`` is free.
        """
        existing = await self._engine.networks()
        for network in existing:
            if self._is_mine(network.labels):
                log.warning("Removing the network %s of an earlier start", network.name)
                await self._engine.remove(self.name)
                await self._engine.remove_network(network.name)
        pool = IPv4Network(str(self._settings.engine.network_pool), strict=False)
        used = [subnet for network in existing for subnet in network.subnets]
        for salt, subnet in enumerate(
            islice(free_subnets(pool, used, self.name), _SUBNET_TRIES)
        ):
            name = network_name(self._settings.port, self.name, salt)
            self.network, self.gateway = name, gateway(subnet)
            if await self._engine.create_network(name, subnet, self._labels):
                return
        self.network = self.gateway = ""
        raise NetworkPoolExhaustedError(
            f"engine.network_pool: no free network in {pool}; give it a larger one"
        )

    def _is_mine(self, labels: Mapping[str, str]) -> bool:
        keys = (INSTANCE_LABEL, CONTAINER_LABEL)
        return all(labels.get(key) == self._labels[key] for key in keys)

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the container and the network."""
        return self._labels

    async def create(self, spec: ContainerSpec) -> None:
        """Create the container; one left by a crash makes way, another instance's does not.

        What is left may have been warm once, and have the label of its first name.
        """
        try:
            self.id = await self._engine.create(self.name, spec)
        except NameInUseError:
            info = await self._engine.inspect(self.name)
            labels = (info["Config"].get("Labels") or {}) if info else self._labels
            if labels.get(INSTANCE_LABEL) != self._labels[INSTANCE_LABEL]:
                raise
            log.warning("Removing the container %s of an earlier start", self.name)
            await self._engine.remove(self.name)
            self.id = await self._engine.create(self.name, spec)

    async def start(self, on_death: Callable[[], None]) -> None:
        """Start the container and learn its address; ``on_death`` is told of its end."""
        await self._engine.start(self.id)
        info = await self._engine.inspect(self.id)
        if info is None:
            raise EngineError(f"{self.name}: the container is gone right after its start")
        self.ip = info["NetworkSettings"]["Networks"].get(self.network, {}).get("IPAddress", "")
        self._arm(info, on_death)
        self.group = ControlGroup.of_process(int(info["State"].get("Pid") or 0), self.id)
        if self.group:
            self.group.boot()

    def booted(self, cpus: float) -> None:
        """Hold the container to its limit of CPU, which a start lifts while it boots."""
        if self.group:
            self.group.settle(cpus)

    def tell_death_to(self, on_death: Callable[[], None]) -> None:
        """Tell somebody else from now on of the container's end."""
        if self._watch is not None:
            self._watch.on_death = on_death

    async def rename(self, name: str) -> None:
        """Call the container by another name; its network's label keeps the first."""
        await self._engine.rename(self.id, name)

    @property
    def watched_alive(self) -> bool:
        """Whether the container is known to run, without a question to the engine."""
        return self._watch is not None and self._watch.alive

    async def running(self, on_death: Callable[[], None]) -> bool:
        """Whether the container runs, asked of the engine; it is watched from then on.

        Raises
        ------
        EngineError
            If the engine can't tell.
        """
        if self._watch is not None:
            return self._watch.alive
        info = await self._engine.inspect(self.id)
        if info is None or not self._runs(info):
            return False
        self._arm(info, on_death)
        return True

    async def wait_dead(self) -> None:
        """Return when the container's process has ended."""
        if self._watch is not None:
            await self._watch.dead.wait()
            return
        while True:
            with suppress(EngineError):  # unknown is not dead
                info = await self._engine.inspect(self.id)
                if info is None or not self._runs(info):
                    return
            await asyncio.sleep(_LOOK_SECONDS)

    async def exit_code(self) -> int | None:
        """The code of a container that ended; nothing while it runs, or never ran."""
        dead = self._watch is not None and not self._watch.alive
        deadline = asyncio.get_running_loop().time() + _EXIT_SECONDS
        while True:
            info = await self._engine.inspect(self.id) if self.id else None
            if info is None:
                return None
            state = info["State"]
            ended = state["Status"] in ("exited", "stopped", "dead") and not state["Running"]
            if ended and not state["StartedAt"].startswith("0001"):
                # podman says "stopped" with code 0 until its clean-up has noted the code.
                if state["Status"] != "stopped":
                    return int(state["ExitCode"])
            elif not dead:
                return None
            if asyncio.get_running_loop().time() > deadline:
                return int(state["ExitCode"]) if ended else None
            await asyncio.sleep(0.02)

    def oom_kills(self) -> int:
        """Processes of the container that were killed for want of memory."""
        return self._watch.oom_kills() if self._watch is not None else 0

    async def end(self, *, ask_engine: bool = True) -> tuple[int | None, int, str]:
        """What is known of its end: its exit code, processes killed for memory, last words."""
        code, log_tail = None, ""
        if self.id and ask_engine:
            try:
                code = await self.exit_code()
                log_tail = await self.log_tail()
            except EngineError as trouble:
                log.warning("Nothing is known of the end of %s: %s", self.name, trouble)
        return code, self.oom_kills(), log_tail

    async def log_tail(self) -> str:
        """The last of what the container wrote."""
        return await self._engine.tail(self.id, _LOG_LINES) if self.id else ""

    async def terminate(self, timeout: float) -> None:
        """Ask the server to end, and wait for that at most ``timeout`` seconds."""
        await self._engine.signal(self.id, "SIGTERM")
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.wait_dead()

    async def remove(self) -> None:
        """Remove the container and the network, whatever of them there is; idempotent."""
        await self._engine.remove(self.id or self.name)
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self.id = self.ip = ""
        if self.network:
            await self._engine.remove_network(self.network)
            self.network = self.gateway = ""

    def _runs(self, info: Mapping[str, Any]) -> bool:
        """Whether a container runs, from what the engine says of it.

        The embedded podman learns of a container's end from its monitor (conmon). If that was
        killed as well it says "running" for ever, so its word counts for a process that is
        there. Docker's daemon asks containerd, and its processes may be elsewhere.
        """
        state = info["State"]
        if not state["Running"] or self._settings.engine.kind != "podman":
            return bool(state["Running"])
        return process_is_of(int(state.get("Pid") or 0), str(info["Id"]))

    def _arm(self, info: Mapping[str, Any], on_death: Callable[[], None]) -> None:
        pid = int(info["State"].get("Pid") or 0)
        if pid > 0:
            self._watch = ProcessWatch.of_container(pid, str(info["Id"]), on_death)
