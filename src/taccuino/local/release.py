"""What must be let go before the services stop: users' servers, their uploads and mounts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable

from taccuino.errors import ServiceError, TaccuinoError
from taccuino.settings import Settings

from .podman import podman_command, podman_environment
from .probe import socket_answers

__all__ = ["LABEL", "release_servers", "remove_firewall"]

LABEL = "taccuino.instance"
"""Label of every container and network of an instance; its value is the state directory."""
_STOP_SECONDS = 10
_REMOVAL_SECONDS = 30.0
_PAUSE_SECONDS = 0.3


def release_servers(settings: Settings, report: Callable[[str], None]) -> None:
    """Stop and remove every server of the instance, and let go of its users' mounts.

    Raises
    ------
    ServiceError
        If the engine refuses.
    """
    if settings.engine.kind == "podman":
        removed = _remove_from_podman(settings)
    else:
        removed = _remove_from_docker(settings)
    if removed:
        report(f"servers      {removed} stopped and removed")
    socket = settings.mount_plane.socket
    if socket is not None and socket_answers(socket):
        asyncio.run(_release_mounts(settings, report))


def _remove_from_podman(settings: Settings) -> int:
    """By podman's command, which works whether or not its API service runs."""
    if not (settings.state_dir / "engine/storage/libpod").exists():
        return 0
    chosen = ("--filter", f"label={LABEL}={settings.state_dir}")
    ids = _podman(settings, "ps", "--all", "--quiet", "--no-trunc", *chosen).split()
    if ids:
        _patiently(settings, "stop", "--ignore", "--time", str(_STOP_SECONDS), *ids)
        _patiently(settings, "rm", "--force", "--ignore", "--time", "0", *ids)
    networks = _podman(settings, "network", "ls", "--quiet", *chosen).split()
    if networks:
        _patiently(settings, "network", "rm", "--force", *networks)
    return len(ids)


def _patiently(settings: Settings, *arguments: str) -> None:
    """As `_podman`, tried again while a container's end is still being worked on.

    Servers that waited for a user end by themselves when the hub does, just then.
    """
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while True:
        try:
            _podman(settings, *arguments)
        except ServiceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _podman(settings: Settings, *arguments: str) -> str:
    done = subprocess.run(
        [*podman_command(settings), *arguments],
        env={**os.environ, **podman_environment(settings)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceError(f"podman {arguments[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def _remove_from_docker(settings: Settings) -> int:
    import docker

    if settings.engine.socket is None or not socket_answers(settings.engine.socket, "/_ping"):
        return 0
    client = docker.DockerClient(base_url=f"unix://{settings.engine.socket}")
    try:
        chosen: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={settings.state_dir}"}
        containers = client.containers.list(all=True, filters=chosen)
        for container in containers:
            container.stop(timeout=_STOP_SECONDS)
            container.remove(force=True)
        for network in client.networks.list(filters=chosen):
            network.remove()
    except docker.errors.DockerException as error:
        raise ServiceError(f"docker: {error}") from None
    finally:
        client.close()
    return len(containers)


async def _release_mounts(settings: Settings, report: Callable[[str], None]) -> None:
    from taccuino.storage import MountPlaneClient

    client = MountPlaneClient(settings)
    timeout = settings.mount_plane.drain_timeout

    async def release(slug: str) -> None:
        try:
            status = await client.drain(slug, timeout, report)
            await client.unmount(slug, drain=False)
        except TaccuinoError as error:
            report(f"mount-plane  {slug}: {error}")
            return
        if status.uploads_pending:
            report(
                f"mount-plane  {slug}: {status.uploads_pending} uploads wait for the next up"
            )

    statuses = await client.list()
    await asyncio.gather(*(release(status.slug) for status in statuses))
    if statuses:
        report(f"mount-plane  {len(statuses)} users' mounts let go")


def remove_firewall(settings: Settings) -> None:
    """Remove the instance's nftables table."""
    from taccuino.engines import firewall

    asyncio.run(firewall.remove(settings))
