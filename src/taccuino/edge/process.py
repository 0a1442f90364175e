"""How HAProxy is run, and how a changed configuration is applied.

HAProxy runs in the foreground in its master-worker mode (``haproxy -W -db``): the supervisor
keeps the master, which keeps the worker that serves. On ``SIGUSR2`` the master reads the
configuration again and starts a new worker, which takes over the listening sockets and loads
the routes' map; the old worker takes no new connection, and ends when its last one does, so
websockets are not cut (they are, after 24 hours: ``hard-stop-after``). The master keeps its
process id, so a supervisor sees no change. ``SIGTERM`` ends all at once.

``taccuino up`` calls :func:`prepare` before it starts the edge; where the edge runs already and
``prepare`` returned true, it calls :func:`reload`.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from taccuino.settings import Settings

from .config import PAGES, chroot_directory, haproxy_config
from .peermap import PeerMap
from .routemap import format_map, parse_map
from .runtime import EdgeError, EdgeUnreachableError, RuntimeAPI

__all__ = ["RELOAD_SIGNAL", "check", "config_path", "edge_command", "prepare", "reload"]

RELOAD_SIGNAL = signal.SIGUSR2
"""What makes the master read its configuration again."""

_USER = "haproxy"
_SIGNAL_INTERVAL = 3.0
"""Seconds after which the signal to reload is sent again."""
_SPARE_FILES = 200
"""Files HAProxy has open besides two a connection: listeners, logs, threads' pollers."""


def config_path(settings: Settings) -> Path:
    """Where HAProxy's configuration lies."""
    return settings.state_dir / "edge/haproxy.cfg"


def edge_command(settings: Settings) -> list[str]:
    """The command that runs the edge in the foreground."""
    return [_haproxy(), "-W", "-db", "-f", str(config_path(settings))]


def _haproxy() -> str:
    program = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise EdgeError("haproxy is not installed; on Debian: apt-get install haproxy")
    return program


def prepare(settings: Settings, sites: Sequence[tuple[str, str]] = ()) -> bool:
    """Write what HAProxy reads; return whether an edge that runs must be reloaded.

    The configuration is validated by HAProxy itself before it takes the old one's place. A
    newer certificate, key set or error page counts as a change: HAProxy holds them in memory.

    Raises
    ------
    EdgeError
        If HAProxy refuses the configuration, or can't have as many files open as the
        settings' connections need.
    """
    _check_open_files(settings)
    path = config_path(settings)
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    chroot_directory(settings).mkdir(mode=0o555, exist_ok=True)
    maps = [path for path in (settings.edge.routes_file, settings.edge.peers_file) if path]
    socket = settings.edge.admin_socket
    assert socket is not None
    for directory in {socket.parent, *(path.parent for path in maps)}:
        directory.mkdir(parents=True, exist_ok=True)
    for kept in maps:
        if not kept.exists():
            kept.touch(mode=0o600)
            kept.write_text(format_map([]), encoding="utf-8")
    text = haproxy_config(
        settings,
        iam_backend=_loopback(settings.local.iam_backend_port),
        s3_backend=_loopback(settings.local.s3_backend_port),
        jwks_file=_jwks_file(settings),
        user=_user(),
        peer_secret=_peer_secret(settings),
        sites=sites,
    )
    changed = not path.exists() or path.read_text(encoding="utf-8") != text
    stale = not changed and any(_newer(read, path) for read in _read_by_haproxy(settings))
    if changed or stale:
        new = path.with_suffix(".new")
        new.touch(mode=0o600)  # it may hold the sites' secret
        new.write_text(text, encoding="utf-8")
        _validate(new)
        new.replace(path)
    return changed or stale


def _peer_secret(settings: Settings) -> str:
    if not settings.peers or settings.sites.secret_file is None:
        return ""
    try:
        text = settings.sites.secret_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeError(f"sites.secret_file: {error}") from error
    if not re.fullmatch(r"[A-Za-z0-9_-]{32,128}", text):
        raise EdgeError(
            f"sites.secret_file: {settings.sites.secret_file} must hold 32 to 128 letters, "
            "digits, - and _ and nothing else"
        )
    return text


def _user() -> str | None:
    """Whom HAProxy becomes: only root can become someone else, if there is that user."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(_USER)
        grp.getgrnam(_USER)
    except KeyError:
        return None
    return _USER


def _read_by_haproxy(settings: Settings) -> list[Path]:
    files = list(PAGES.iterdir())
    if settings.edge.certificate is not None:
        files.append(settings.edge.certificate)
    if jwks_file := _jwks_file(settings):
        files.append(jwks_file)
    return files


def _loopback(port: int | None) -> str | None:
    return None if port is None else f"127.0.0.1:{port}"


def _jwks_file(settings: Settings) -> Path | None:
    """The embedded IAM's keys, which the IAM writes before the edge is prepared."""
    if settings.local.iam_backend_port is None:
        return None
    return settings.state_dir / "iam/jwks.json"


def _newer(file: Path, than: Path) -> bool:
    return file.exists() and file.stat().st_mtime_ns > than.stat().st_mtime_ns


def _validate(path: Path) -> None:
    result = subprocess.run(
        [_haproxy(), "-c", "-f", str(path)], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise EdgeError(f"HAProxy refuses its configuration {path}:\n{result.stderr.strip()}")


def _check_open_files(settings: Settings) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * settings.edge.max_connections + _SPARE_FILES
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise EdgeError(
            f"edge.max_connections: {settings.edge.max_connections} connections need {needed} "
            f"open files, and the hard limit is {hard}; "
            f"set at most {(hard - _SPARE_FILES) // 2}, or raise the limit (ulimit -Hn)"
        )


def _runtime(settings: Settings) -> RuntimeAPI:
    assert settings.edge.admin_socket is not None
    return RuntimeAPI(settings.edge.admin_socket)


async def check(settings: Settings) -> None:
    """Readiness: HAProxy answers and holds the routes' map, if it is before a hub.

    Raises
    ------
    EdgeError
        If it does not.
    """
    runtime = _runtime(settings)
    if settings.local.sites:
        await runtime.worker_pid()
    else:
        await runtime.show_map(str(settings.edge.routes_file))


async def reload(
    settings: Settings, send_signal: Callable[[], object], *, timeout: float = 20.0
) -> None:
    """Apply a changed configuration to the edge that runs; no connection is cut.

    Parameters
    ----------
    settings
        The settings that :func:`prepare` wrote.
    send_signal
        Sends :data:`RELOAD_SIGNAL` to HAProxy's master, such as through the supervisor.
    timeout
        Seconds until the new worker must answer.

    Raises
    ------
    EdgeError
        If no new worker answers in time; the old one goes on serving.
    """
    runtime = _runtime(settings)
    old = await runtime.worker_pid()
    limit = time.monotonic() + timeout
    again = 0.0
    while await _worker(runtime) in (None, old):
        now = time.monotonic()
        if now > limit:
            raise EdgeError(
                f"HAProxy did not take its new configuration in {timeout:g} s and serves by "
                "the old one; 'taccuino logs edge' says why"
            )
        if now > again:
            # A master that is still busy with an earlier reload loses the signal.
            again = now + _SIGNAL_INTERVAL
            await asyncio.to_thread(send_signal)
        await asyncio.sleep(0.05)
    await _catch_up(settings, runtime)


async def _worker(runtime: RuntimeAPI) -> int | None:
    try:
        return await runtime.worker_pid()
    except EdgeUnreachableError:
        return None


async def _catch_up(settings: Settings, runtime: RuntimeAPI) -> None:
    """Give the new worker what the hub wrote after it had read the maps."""
    edge = settings.edge
    if settings.peers and edge.peers_file and edge.admin_socket:
        await PeerMap(edge.peers_file, edge.admin_socket).reread()
    routes_file = settings.edge.routes_file
    assert routes_file is not None
    held = await runtime.show_map(str(routes_file))
    text = await asyncio.to_thread(routes_file.read_text, encoding="utf-8")
    wanted = {key: route.address for key, route in parse_map(text)[0].items()}
    missing = {key: address for key, address in wanted.items() if held.get(key) != address}
    if missing:
        await runtime.put(str(routes_file), missing)
