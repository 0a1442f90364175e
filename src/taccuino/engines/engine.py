"""The engine's API, asynchronous and in this package's errors.

``docker-py`` speaks to podman and Docker alike; what only podman knows (a bridge's name
without a DNS plug-in of its own) goes to its native API over the same socket. All calls run
in a small pool of threads, never on the event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound

from taccuino.settings import EngineSettings, Settings

from .container import ContainerSpec, docker_config, podman_config
from .errors import EngineError, EngineUnreachableError, ImageMissingError, NameInUseError
from .networks import gateway
from .propagation import accepted_binds

__all__ = ["DockerEngine", "Engine", "Network", "PodmanEngine", "check", "engine_for"]

T = TypeVar("T")
log = logging.getLogger(__name__)

_API_TIMEOUT = 60  # seconds an answer of the engine may take
_PING_TIMEOUT = 5.0
_REMOVAL_SECONDS = 15.0


@dataclass(frozen=True)
class Network:
    """A network that the engine has."""

    name: str
    labels: Mapping[str, str]
    subnets: tuple[IPv4Network, ...]


class Engine:
    """One engine at one socket; the part that podman and Docker share."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._client: docker.APIClient | None = None
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(12, thread_name_prefix="engine")

    @property
    def client(self) -> docker.APIClient:
        """The blocking client: made at first use, since that asks the engine its version."""
        with self._connecting:
            if self._client is None:
                self._client = docker.APIClient(
                    base_url=f"unix://{self._socket}", version="auto", timeout=_API_TIMEOUT
                )
            return self._client

    async def ping(self) -> float:
        """The engine's latency in seconds.

        Raises
        ------
        EngineUnreachableError
            If it does not answer within five seconds.
        """
        start = time.perf_counter()
        try:
            async with asyncio.timeout(_PING_TIMEOUT):
                await self._read(lambda client: client.ping())
        except TimeoutError:
            raise EngineUnreachableError(
                f"{self._socket}: no answer in {_PING_TIMEOUT:g} s; look at the engine's log"
            ) from None
        return time.perf_counter() - start

    async def wait_reachable(self, limit: float) -> None:
        """Return once the engine answers, or ``limit`` seconds have passed."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            try:
                await self.ping()
            except EngineError:
                await asyncio.sleep(0.25)
            else:
                return

    async def image(self, reference: str) -> dict[str, Any] | None:
        """What the engine knows of an image; nothing where there is none."""
        try:
            info: dict[str, Any] = await self._read(
                lambda client: client.inspect_image(reference)  # type: ignore[no-untyped-call]
            )
        except ImageMissingError:
            return None
        return info

    async def rename(self, container: str, name: str) -> None:
        """Give a container another name.

        Raises
        ------
        NameInUseError, EngineError
        """
        await self._write(lambda client: client.rename(container, name))

    async def image_id(self, reference: str) -> str | None:
        """The id of the image that a reference stands for now; nothing where there is none."""
        info = await self.image(reference)
        return None if info is None else str(info["Id"])

    async def create(self, name: str, spec: ContainerSpec) -> str:
        """Create a container; its id.

        Raises
        ------
        ImageMissingError, NameInUseError, EngineError
        """
        raise NotImplementedError

    async def start(self, container: str) -> None:
        """Start a container."""
        await self._write(lambda client: client.start(container))

    async def inspect(self, container: str) -> dict[str, Any] | None:
        """What the engine knows of a container; nothing where there is none."""
        try:
            info: dict[str, Any] = await self._read(
                lambda client: client.inspect_container(container)
            )
        except _MissingError:
            return None
        return info

    async def signal(self, container: str, signal: str) -> None:
        """Send a signal to a container; nothing where it does not run."""
        try:
            await self._write(lambda client: client.kill(container, signal))
        except _MissingError:
            return
        except EngineError as error:
            # 409 is Docker's and podman's "is not running".
            if error.status != 409:
                raise

    async def tail(self, container: str, lines: int) -> str:
        """The last lines of what a container wrote."""
        try:
            text: bytes = await self._read(
                lambda client: client.logs(container, tail=lines, stdout=True, stderr=True)
            )
        except _MissingError:
            return ""
        return text.decode(errors="replace")

    async def remove(self, container: str) -> bool:
        """Kill and remove a container; whether there was one."""
        return await self._removal(
            lambda client: client.remove_container(container, v=True, force=True)
        )

    async def containers(self, label: str) -> list[dict[str, Any]]:
        """All containers with a label, running or not."""
        found: list[dict[str, Any]] = await self._read(
            lambda client: client.containers(all=True, filters={"label": label})
        )
        return found

    async def networks(self, label: str | None = None) -> list[Network]:
        """All networks, or those with a label."""
        filters = {"label": label} if label else None
        found = await self._read(lambda client: client.networks(filters=filters))
        return [_network(item) for item in found]

    async def create_network(
        self, name: str, subnet: IPv4Network, labels: Mapping[str, str]
    ) -> bool:
        """Create an isolated bridge network named as its bridge; ``False`` if it is taken.

        Taken is a subnet that something on the host uses, or a name that exists.
        """
        raise NotImplementedError

    async def remove_network(self, name: str) -> bool:
        """Remove a network; whether there was one."""
        return await self._removal(lambda client: client.remove_network(name))

    async def remove_stray_bridges(self, prefix: str) -> list[str]:  # noqa: ARG002
        """Remove the bridges whose names begin so and that no network has; their names."""
        return []

    async def _removal(self, call: Callable[[docker.APIClient], object]) -> bool:
        """Try a removal until it is done, or refused for too long.

        podman refuses it while the end of a container is still being worked on, in many words:
        "device or resource busy", "container state improper", "network is being used".
        """
        deadline = time.monotonic() + _REMOVAL_SECONDS
        pause = 0.05
        begun = False
        while True:
            try:
                await self._write(call)
            except _MissingError:
                return begun
            except EngineError as error:
                if isinstance(error, EngineUnreachableError) or time.monotonic() > deadline:
                    raise
                begun = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            else:
                return True

    async def _read(self, call: Callable[[docker.APIClient], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, call)

    async def _write(self, call: Callable[[docker.APIClient], T]) -> T:
        """A call that changes something: a cancelled caller still learns that it ended.

        Otherwise a container could come into being after its start had been cleaned up.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._run, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            future.exception()  # the caller is gone, and nobody else asks for it
            raise

    def _run(self, call: Callable[[docker.APIClient], T]) -> T:
        try:
            return call(self.client)
        except APIError as error:
            raise _translated(error) from error
        except (DockerException, requests.exceptions.RequestException, OSError) as error:
            raise EngineUnreachableError(
                f"{self._socket}: the engine can't be reached ({_cause(error)}); "
                "is it running, and is engine.socket right?"
            ) from error


class PodmanEngine(Engine):
    """podman: a mapping of uids for each container, networks without a DNS plug-in.

    Both are asked for through podman's own API; Docker's has no words for them.
    """

    async def create(self, name: str, spec: ContainerSpec) -> str:
        """Create a container with uids of its own."""
        answer = await self._post("containers/create", podman_config(name, spec))
        return str(answer["Id"])

    async def create_network(
        self, name: str, subnet: IPv4Network, labels: Mapping[str, str]
    ) -> bool:
        """Create an isolated network whose containers use the host's name servers."""
        body = {
            "name": name,
            "driver": "bridge",
            "network_interface": name,
            "subnets": [{"subnet": str(subnet), "gateway": gateway(subnet)}],
            "options": {"isolate": "true"},
            "labels": dict(labels),
            "dns_enabled": False,
        }
        try:
            await self._post("networks/create", body)
        except EngineError as error:
            if "already" in str(error):
                return False
            raise
        return True

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        def call(client: docker.APIClient) -> Any:
            url = f"{client.base_url}/v4.0.0/libpod/{path}"
            answer = client.post(url, json=body, timeout=_API_TIMEOUT)
            if answer.ok:
                return answer.json()
            try:
                words = str(answer.json()["message"])
            except (ValueError, KeyError):
                words = answer.text[:400]
            raise _error(words, answer.status_code)

        return await self._write(call)

    async def networks(self, label: str | None = None) -> list[Network]:
        """All networks, or those with a label.

        Docker's call lists each network's containers too, and podman 4.3 looks at all of them
        for each network: 1.4 s with 40 servers, where its own call takes a millisecond.
        """
        query = {"filters": json.dumps({"label": [label]})} if label else {}

        def call(client: docker.APIClient) -> Any:
            url = f"{client.base_url}/v4.0.0/libpod/networks/json"
            answer = client.get(url, params=query, timeout=_API_TIMEOUT)
            if not answer.ok:
                raise _error(answer.text[:400], answer.status_code)
            return answer.json()

        return [
            Network(
                str(item["name"]),
                item.get("labels") or {},
                _ipv4(subnet["subnet"] for subnet in item.get("subnets") or ()),
            )
            for item in await self._read(call)
        ]

    async def remove_network(self, name: str) -> bool:
        """Remove it, and its bridge: podman leaves that where a container's start failed.

        A bridge that stays keeps its subnet from being used again.
        """
        removed = await super().remove_network(name)
        if name in _links():
            await _delete_link(name)
        return removed

    async def remove_stray_bridges(self, prefix: str) -> list[str]:
        """Remove what podman left, such as where all processes were killed at once.

        The links are looked at first: a network is there before its bridge.
        """
        stray = {link for link in _links() if link.startswith(prefix)}
        if stray:
            stray -= {network.name for network in await self.networks()}
        for link in stray:
            await _delete_link(link)
        return sorted(stray)


class DockerEngine(Engine):
    """Docker: one mapping of uids for the whole daemon, its own isolation of bridges."""

    async def create(self, name: str, spec: ContainerSpec) -> str:
        """Create a container; it gets the daemon's mapping of uids."""
        config = docker_config(replace(spec, binds=accepted_binds(spec.binds)))
        answer = await self._write(
            lambda client: client.create_container_from_config(config, name)  # type: ignore[no-untyped-call]
        )
        return str(answer["Id"])

    async def create_network(
        self, name: str, subnet: IPv4Network, labels: Mapping[str, str]
    ) -> bool:
        """Create it; Docker keeps bridges apart by itself."""
        ipam = docker.types.IPAMConfig(
            pool_configs=[docker.types.IPAMPool(subnet=str(subnet), gateway=gateway(subnet))]
        )
        try:
            await self._write(
                lambda client: client.create_network(
                    name,
                    driver="bridge",
                    ipam=ipam,
                    labels=dict(labels),
                    check_duplicate=True,
                    options={"com.docker.network.bridge.name": name},
                )
            )
        except EngineError as error:
            words = str(error).lower()  # Docker's, or podman's behind Docker's API
            if any(word in words for word in ("already", "overlap", "conflicts")):
                return False
            raise
        return True

    async def uid_offset(self) -> int:
        """What the daemon's ``userns-remap`` adds to a container's uids; 0 without one."""
        info = await self._read(lambda client: client.info())
        return remapped_base(info)


def remapped_base(info: Mapping[str, Any]) -> int:
    """The first host uid of a Docker daemon with ``userns-remap``, from its ``info``.

    Docker does not say it in so many words: its root directory is named ``<uid>.<gid>`` then.
    """
    options: Iterable[str] = info.get("SecurityOptions") or ()
    if not any(option.startswith("name=userns") for option in options):
        return 0
    uid = str(info.get("DockerRootDir", "")).rpartition("/")[2].partition(".")[0]
    return int(uid) if uid.isdigit() else 0


@cache
def _engine(kind: str, socket: Path) -> Engine:
    return PodmanEngine(socket) if kind == "podman" else DockerEngine(socket)


def engine_for(settings: EngineSettings) -> Engine:
    """The engine that the settings name; one object for each socket."""
    assert settings.socket is not None
    return _engine(settings.kind, settings.socket)


async def check(settings: Settings) -> float:
    """The engine's latency in seconds: its readiness.

    Raises
    ------
    EngineError
        If it does not answer.
    """
    return await engine_for(settings.engine).ping()


class _MissingError(EngineError):
    """The engine has no such container or network."""


def _translated(error: APIError) -> EngineError:
    """docker-py's error as ours."""
    words = str(error.explanation or error)
    if isinstance(error, ImageNotFound):
        return ImageMissingError(words, error.status_code)
    return _error(words, error.status_code)


def _error(words: str, status: int | None) -> EngineError:
    """The engine's refusal as an error: podman says in words what Docker does by status."""
    if "image not known" in words or "no such image" in words.lower():
        return ImageMissingError(words, status)
    if "already in use" in words and "name" in words:
        return NameInUseError(words, status)
    if status == 404:
        return _MissingError(words, status)
    return EngineError(words, status)


def _links() -> set[str]:
    # Not by /sys/class/net, which in a network namespace shows those of where it was mounted.
    return {name for _, name in socket.if_nameindex()}


async def _delete_link(name: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "ip", "link", "delete", name, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    if process.returncode:
        log.warning("The bridge %s stays: %s", name, errors.decode(errors="replace").strip())


def _cause(error: BaseException) -> str:
    """The innermost reason, which names what failed, without the layers around it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error)[:200] or type(error).__name__


def _network(item: Mapping[str, Any]) -> Network:
    configs = (item.get("IPAM") or {}).get("Config") or ()
    subnets = [config.get("Subnet", "") for config in configs]
    return Network(str(item["Name"]), item.get("Labels") or {}, _ipv4(subnets))


def _ipv4(subnets: Iterable[str]) -> tuple[IPv4Network, ...]:
    return tuple(IPv4Network(subnet, strict=False) for subnet in subnets if "." in subnet)
