"""The line between a warm server and the hub: a unix socket that ends with the start.

A warm server has no user, no token and no name. It connects to the socket that the hub made
for it alone, says ``warm``, and waits. What it is to become comes as one JSON object, and once
the user's files are mounted a second one; from the first on it tells its phases here. The line
is closed when the server is ready.
"""

from __future__ import annotations

import json
import socket
from typing import Any

__all__ = ["LINK_VARIABLE", "Link"]

LINK_VARIABLE = "TACCUINO_LINK"
"""The path of the socket; without it, a server has its identity from the start."""

_LARGEST_MESSAGE = 1024**2  # bytes


class Link:
    """The server's end of the line.

    Raises
    ------
    OSError
        If the hub does not listen.
    """

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rb")

    def tell(self, phase: str, message: str = "") -> None:
        """Tell a phase; a hub that is gone is no reason to end."""
        line = json.dumps({"phase": phase, "message": message}) + "\n"
        try:
            self._socket.sendall(line.encode())
        except OSError:
            return

    def identity(self) -> dict[str, Any] | None:
        """Wait for ``{"environment", "arguments"}``; `None` if the hub hung up before."""
        return self._read()

    def files(self) -> dict[str, Any] | None:
        """Wait until the user's files are mounted, for ``{"environment"}``: all of it.

        It is `None` if the hub hung up before.
        """
        return self._read()

    def _read(self) -> dict[str, Any] | None:
        try:
            line = self._lines.readline(_LARGEST_MESSAGE)
        except OSError:
            return None
        return dict(json.loads(line)) if line.endswith(b"\n") else None

    def close(self, timeout: float = 0) -> None:  # noqa: ARG002 - as `Phases` has it
        """Hang up; all is told by then."""
        self._lines.close()
        self._socket.close()
