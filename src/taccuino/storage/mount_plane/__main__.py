"""The mount plane's daemon: ``python -m taccuino.storage.mount_plane``.

It reads the resolved settings (``TACCUINO_SETTINGS``), must be root, and ends on SIGTERM with
all mounts left as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web

from taccuino.errors import TaccuinoError
from taccuino.settings import Settings
from taccuino.storage.mount_client import MountPlaneError

from .api import application
from .credentials import CredentialSource
from .plane import MountPlane

_THREADS = 32
"""Calls that may wait for the kernel or a program at once (mkfs, e2fsck, unmount)."""

log = logging.getLogger("taccuino.storage.mount_plane")


async def serve(settings: Settings, hub_url: str) -> None:
    """Run the mount plane until SIGTERM or SIGINT.

    Raises
    ------
    MountPlaneError
        If it can't run here.
    """
    if os.geteuid() != 0:
        raise MountPlaneError("the mount plane mounts file systems: run it as root")
    if settings.storage.endpoint is None:
        raise MountPlaneError("storage.endpoint: name the object storage's address")
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    token = settings.state_dir / "secrets/mount-plane-token"
    plane = MountPlane(settings, CredentialSource(hub_url, token))
    await _listen(settings, plane, ended)


async def _listen(settings: Settings, plane: MountPlane, ended: asyncio.Event) -> None:
    path = settings.mount_plane.socket
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_socket():
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except OSError:
            path.unlink()
        else:
            writer.close()
            raise MountPlaneError(f"another mount plane answers at {path}; stop it first")
    await plane.load()
    runner = web.AppRunner(application(plane), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    # rclone asks for credentials here as soon as it is taken up: listen before that.
    mask = os.umask(0o177)
    try:
        await web.UnixSite(runner, path).start()
    finally:
        os.umask(mask)
    try:
        await plane.start()
        log.info("ready at %s", path)
        await ended.wait()
    finally:
        await runner.cleanup()
        await plane.stop()
        path.unlink(missing_ok=True)


def main() -> int:
    """Read the settings and serve; the exit code."""
    parser = argparse.ArgumentParser(prog="taccuino.storage.mount_plane", description=__doc__)
    parser.add_argument("--settings", type=Path, help="the settings file")
    parser.add_argument("--hub-url", help="base URL of the hub's API for Taccuino")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        settings = Settings.load(arguments.settings)
        hub_url = arguments.hub_url or (
            f"http://127.0.0.1:{settings.hub.port}/hub/api/taccuino"
        )
        asyncio.run(serve(settings, hub_url))
    except TaccuinoError as error:
        log.error("%s", error)  # noqa: TRY400
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
