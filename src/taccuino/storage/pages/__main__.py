"""The storage pages' process: ``python -m taccuino.storage.pages``.

It reads the resolved settings (``TACCUINO_SETTINGS``), listens on the loopback interface, where
the edge finds it, and ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from tornado.httpserver import HTTPServer

from taccuino.errors import TaccuinoError
from taccuino.settings import Settings

from .application import application

_LARGEST_BODY = 4 * 1024**2
"""Bytes of a call: lists of keys. Files do not come through here."""

log = logging.getLogger("taccuino.storage.pages")


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    # The edge says who asked, and by which scheme.
    server = HTTPServer(application(settings), xheaders=True, max_body_size=_LARGEST_BODY)
    assert settings.local.storage_pages_port is not None
    server.listen(settings.local.storage_pages_port, "127.0.0.1")
    log.info("ready at port %d", settings.local.storage_pages_port)
    await ended.wait()
    server.stop()


def main() -> int:
    """Read the settings and serve; the exit code."""
    parser = argparse.ArgumentParser(prog="taccuino.storage.pages", description=__doc__)
    parser.add_argument("--settings", type=Path, help="the settings file")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    # A line for each request would hold the addresses of shared files; JupyterHub's client
    # has a warning for each request of a browser that sends no Sec-Fetch-Mode.
    for name in ("tornado.access", "tornado.application"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        settings = Settings.load(arguments.settings)
        os.umask(0o077)
        asyncio.run(serve(settings))
    except TaccuinoError as error:
        log.error("%s", error)  # noqa: TRY400
        return 1
    # Threads that wait for a storage that hangs must not hold the end up.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
