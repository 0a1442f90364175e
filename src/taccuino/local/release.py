"""What must be let go before the services stop: users' servers, their uploads and mounts.

A snapshot of each workarea is made on the way: at another site its user goes on with that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from taccuino.errors import ServiceError, TaccuinoError
from taccuino.settings import Settings

from .podman import podman_command, podman_environment
from .probe import socket_answers

if TYPE_CHECKING:
    from taccuino.storage import MountPlaneClient

__all__ = ["LABEL", "release_servers", "remove_firewall", "renew_credentials"]

LABEL = "taccuino.instance"
"""Label of every container and network of an instance; its value is the state directory."""
_STOP_SECONDS = 10
_REMOVAL_SECONDS = 30.0
_PAUSE_SECONDS = 0.3
_RENEWAL_SECONDS = 20.0
_RENEWED_AT_ONCE = 8


def renew_credentials(settings: Settings) -> None:
    """Have the mount plane renew users' storage credentials, while there is a hub to give them.

    Uploads and snapshots need them after it has stopped. For whom it gives none now, those that
    are kept may still do.
    """
    socket = settings.mount_plane.socket
    if socket is not None and socket_answers(socket):
        asyncio.run(_renew(settings))


async def _renew(settings: Settings) -> None:
    from taccuino.storage import MountPlaneClient

    client = MountPlaneClient(settings)
    turns = asyncio.Semaphore(_RENEWED_AT_ONCE)

    async def renew(slug: str) -> None:
        with contextlib.suppress(TaccuinoError):
            async with turns:
                await client.renew_credentials(slug)

    with contextlib.suppress(TimeoutError, TaccuinoError):
        async with asyncio.timeout(_RENEWAL_SECONDS):
            statuses = await client.list()
            await asyncio.gather(*(renew(status.slug) for status in statuses))


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
    statuses = await client.list()
    making = asyncio.create_task(
        _make_snapshots(settings, client, [status.slug for status in statuses], report)
    )

    async def release(slug: str) -> None:
        try:
            status = await client.drain(slug, timeout, report)
            await asyncio.wait({making})
            await client.unmount(slug, drain=False)
        except TaccuinoError as error:
            report(f"mount-plane  {slug}: {error}")
            return
        if status.uploads_pending:
            report(
                f"mount-plane  {slug}: {status.uploads_pending} uploads wait for the next up"
            )

    await asyncio.gather(making, *(release(status.slug) for status in statuses))
    if statuses:
        report(f"mount-plane  {len(statuses)} users' mounts let go")


async def _make_snapshots(
    settings: Settings,
    client: MountPlaneClient,
    slugs: Iterable[str],
    report: Callable[[str], None],
) -> None:
    """Make a snapshot of each user's workarea, within ``snapshots.stop_seconds`` for all.

    One after the other on each processor: of many at once, none might be complete in time.
    """
    from taccuino.storage.snapshots import SnapshotClient

    if not settings.snapshots.enabled:
        return
    snapshots = SnapshotClient(settings, client)
    turns = asyncio.Semaphore(os.cpu_count() or 1)
    seconds = settings.snapshots.stop_seconds
    end = asyncio.get_running_loop().time() + seconds

    async def make(slug: str) -> str:
        """What is to be told; nothing if there is one of all that the workarea has."""
        late = f"it was not made within {seconds:g} s"
        try:
            async with asyncio.timeout_at(end), turns:
                job = (await snapshots.stop(slug)).job
        except TimeoutError:
            return late
        except TaccuinoError as error:
            return str(error)
        if job is None or job.state == "done":
            return ""
        return late if job.state == "running" else job.message

    slugs = list(slugs)
    told = await asyncio.gather(*(make(slug) for slug in slugs))
    for slug, fault in zip(slugs, told, strict=True):
        if fault:
            report(f"snapshots    {slug}: {fault} (the next up makes it)")
    if made := told.count(""):
        report(f"snapshots    {made} users' are up to date")


def remove_firewall(settings: Settings) -> None:
    """Remove the instance's nftables table."""
    from taccuino.engines import firewall

    asyncio.run(firewall.remove(settings))
