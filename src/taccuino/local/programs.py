"""The services besides Ceph and the IAM: the edge, the engine, and those of our own code."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from functools import lru_cache
from pathlib import Path

import taccuino
from taccuino.settings import Settings

from .podman import (
    forget_dead_containers,
    podman_command,
    podman_environment,
    write_podman_files,
)
from .probe import http_status, port_answers, socket_answers
from .service import SendSignal, Service
from .sites import sites_of

__all__ = [
    "edge_service",
    "engine_service",
    "front_end_service",
    "hub_service",
    "mount_plane_service",
    "storage_pages_service",
]


def engine_service(settings: Settings) -> Service:
    """Podman's API, which Docker's client library speaks."""
    engine = settings.state_dir / "engine"
    socket = settings.engine.socket
    assert socket is not None

    def prepare() -> None:
        write_podman_files(settings)
        if not socket_answers(socket, "/_ping"):
            forget_dead_containers(settings)
            write_podman_files(settings)

    return Service(
        name="engine",
        command=(
            *podman_command(settings),
            "system",
            "service",
            "--time",
            "0",
            f"unix://{socket}",
        ),
        environment=podman_environment(settings),
        prepare=prepare,
        ready=lambda: socket_answers(socket, "/_ping"),
        files=tuple(
            engine / f"{name}.conf" for name in ("containers", "storage", "registries")
        ),
    )


def edge_service(settings: Settings) -> Service:
    """HAProxy, in front of the hub, of the embedded IAM and of the embedded storage."""
    from taccuino import edge

    changed = False
    sites = [(site.site, f"{site.host}:{site.edge.proxy_port}") for site in sites_of(settings)]

    def prepare() -> None:
        nonlocal changed
        changed = edge.prepare(settings, sites)

    def reload(send_signal: SendSignal) -> None:
        if changed:
            asyncio.run(edge.reload(settings, lambda: send_signal(edge.RELOAD_SIGNAL)))

    def ready() -> bool:
        # Not by a page: the edge keeps requests waiting until the hub is there.
        try:
            asyncio.run(edge.check(settings))
        except edge.EdgeError:
            return False
        return True

    return Service(
        name="edge",
        command=tuple(edge.edge_command(settings)),
        # The IAM makes the keys that the edge serves in its stead.
        after=("iam",),
        prepare=prepare,
        ready=ready,
        ready_timeout=20.0,
        reload=reload,
    )


def mount_plane_service(settings: Settings) -> Service:
    """The mount plane; its rclone processes and their mounts outlive it."""
    socket = settings.mount_plane.socket
    assert socket is not None
    return Service(
        name="mount-plane",
        command=(sys.executable, "-m", "taccuino.storage.mount_plane"),
        ready=lambda: socket_answers(socket),
        # Of the hub's settings it needs the port alone.
        configuration=f"{settings.hub.port} "
        + _configuration(
            settings,
            *("state_dir", "host", "port", "site"),
            *("storage", "mount_plane", "workarea", "snapshots", "local"),
        ),
        ready_timeout=30.0,
    )


def storage_pages_service(settings: Settings) -> Service:
    """The storage pages, which go on while the hub restarts."""
    port = settings.local.storage_pages_port
    assert port is not None
    return Service(
        name="storage-pages",
        command=(sys.executable, "-m", "taccuino.storage.pages"),
        ready=lambda: port_answers(port, "/services/storage/health"),
        ready_timeout=30.0,
        configuration=f"{settings.hub.port} {settings.edge.certificate} "
        + _configuration(
            settings,
            *("name", "state_dir", "address", "host", "port", "site", "peers"),
            *("storage", "local"),
        ),
    )


def front_end_service(settings: Settings) -> Service:
    """What serves the static files of the images behind the edge."""
    from taccuino.front_end import nginx

    port = settings.local.front_end_port
    assert port is not None
    return Service(
        name="front-end",
        command=nginx.command(settings),
        user=nginx.USER,
        prepare=lambda: nginx.prepare(settings),
        ready=lambda: port_answers(port, nginx.HEALTH_PATH),
        ready_timeout=20.0,
        stop_signal="QUIT",
        files=(nginx.config_path(settings),),
    )


def hub_service(settings: Settings) -> Service:
    """The hub: JupyterHub with Taccuino's configuration."""
    package = Path(taccuino.__file__).parent
    config = package / "hub/jupyterhub_config.py"
    return Service(
        name="hub",
        command=(sys.executable, "-m", "taccuino.hub", "-f", str(config)),
        directory=settings.state_dir / "hub",
        after=(
            "ceph-mon",
            "ceph-osd",
            "radosgw",
            "iam",
            "engine",
            "edge",
            "mount-plane",
            "storage-pages",
        ),
        ready=lambda: http_status(settings, "/hub/ready") == 200,
        ready_timeout=90.0,
        stop_timeout=20.0,
        configuration=_configuration(settings),
    )


def _configuration(settings: Settings, *sections: str) -> str:
    """What a restart depends on: those sections (all, with none named) and our own code."""
    return settings.model_dump_json(include=set(sections) or None) + _code_digest()


@lru_cache
def _code_digest() -> str:
    """Changes when the package's own code was changed: ``git pull`` and ``up`` renew it."""
    package = Path(taccuino.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.suffix in {".py", ".html", ".js", ".css", ".svg"}:
            digest.update(f"{path}:{path.stat().st_mtime_ns}:{path.stat().st_size}".encode())
    return digest.hexdigest()
