"""The hub's end of the line to a warm server; `taccuino.server.link` is the other.

Each server has a socket of its own, and whoever connects first is it: only its own container
has the directory. The socket is removed then, and the line closed when the server is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from taccuino.engines.errors import ContainerExitedError

__all__ = ["LINK_DIRECTORY", "LINK_VARIABLE", "Link"]

LINK_DIRECTORY = "/run/taccuino"
"""Where the container sees the line's directory."""
LINK_VARIABLE = "TACCUINO_LINK"
_SOCKET = "hub.sock"
_LONGEST_LINE = 16 * 1024  # bytes; what is in a container is not trusted

log = logging.getLogger(__name__)


class Link:
    """A line that a server is expected on: ``warm`` when it waits, ``closed`` at its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.warm = asyncio.Event()
        self.closed = asyncio.Event()
        self.on_phase: Callable[[str, str], None] | None = None
        """Told of each phase and its message from the claim on."""
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """What the container must know to find it."""
        return {LINK_VARIABLE: f"{LINK_DIRECTORY}/{_SOCKET}"}

    async def listen(self, uid: int) -> None:
        """Make the directory, which the host's ``uid`` alone may enter, and its socket.

        Raises
        ------
        OSError
            If it can't be made.
        """
        self.directory.mkdir(mode=0o700, parents=True)
        path = self.directory / _SOCKET
        self._server = await asyncio.start_unix_server(
            self._connected, path, limit=_LONGEST_LINE
        )
        for owned in (path, self.directory):
            os.chown(owned, uid, uid)

    async def become(self, environment: Mapping[str, str], arguments: Sequence[str]) -> None:
        """Tell the server who it is: it starts, and waits for the user's files.

        Raises
        ------
        ContainerExitedError
            If nobody hears it.
        """
        await self._tell({"environment": dict(environment), "arguments": list(arguments)})

    async def go_on(self, environment: Mapping[str, str]) -> None:
        """Tell the server that the user's files are there, and all of its environment.

        Raises
        ------
        ContainerExitedError
            If nobody hears it.
        """
        await self._tell({"environment": dict(environment)})

    async def _tell(self, message: Mapping[str, object]) -> None:
        if self._writer is None or self.closed.is_set():
            raise ContainerExitedError("the warm server has hung up")
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
        except OSError as error:
            raise ContainerExitedError(f"the warm server has hung up: {error}") from error

    def close(self) -> None:
        """Hang up and remove the socket; a server that nobody claimed ends by itself then."""
        if self._server is not None:
            self._server.close()
        if self._writer is not None:
            self._writer.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._writer is not None:
            writer.close()
            return
        self._writer = writer
        (self.directory / _SOCKET).unlink(missing_ok=True)
        # A line that is too long or no JSON ends it: this is no server of ours.
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                self._heard(json.loads(line))
        self.closed.set()
        writer.close()

    def _heard(self, event: object) -> None:
        if not isinstance(event, dict):
            raise ValueError("a phase is a JSON object")  # noqa: TRY004 - as bad JSON is
        phase, message = str(event.get("phase"))[:40], str(event.get("message") or "")
        if phase == "warm":
            self.warm.set()
        elif self.on_phase is not None:
            self.on_phase(phase, message)
