"""Jupyter in a process of its own, which has imported everything and waits to be somebody's.

The launcher forks it in the pool, before it has imported much itself: there is nothing left to
copy when a user comes. (A fork of a process with Jupyter's modules, and the faults on the pages
that both have, would take as long as half of Jupyter's own start.) Two orders come over a pipe:
who it is, upon which Jupyter starts; and where the user's files are, once they are mounted,
which it waits for before it listens. Nothing that Jupyter does until then looks at the files,
unless the environment or the command line says so: `looks_at`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NoReturn

__all__ = ["NOTIFY_VARIABLE", "FilesGate", "Prefork", "looks_at"]

NOTIFY_VARIABLE = "TACCUINO_NOTIFY_FD"
"""A file descriptor to which Jupyter's extension writes a line once the server listens."""

_IMPORTED = b"imported\n"
_PLACES = ("HOME", "IPYTHON", "JUPYTER_", "XDG_")
"""What begins the names of variables that tell where configuration and data lie."""


def looks_at(workarea: str, environment: Mapping[str, str], arguments: Iterable[str]) -> bool:
    """Whether a server with these would read the user's files as it starts."""
    values = [value for name, value in environment.items() if name.startswith(_PLACES)]
    return any(workarea in text for text in (*values, *arguments))


class FilesGate:
    """Where Jupyter waits for the user's files."""

    def __init__(self, orders: BinaryIO) -> None:
        self._orders = orders

    def wait(self) -> None:
        """Return once the files are there; with them come variables of the environment.

        Raises
        ------
        SystemExit
            If the launcher has ended, and they will never be.
        """
        order = _next(self._orders)
        self._orders.close()
        os.environ.update(order["environment"])
        os.chdir(order["directory"])


class Prefork:
    """The launcher's side: a Jupyter that it may start, once, or end.

    Parameters
    ----------
    prepare
        Called in the new process: it imports, and gives what starts Jupyter. Without, there is
        no Jupyter that could be started so.
    """

    def __init__(self, prepare: Callable[[], Callable[[FilesGate], None] | None]) -> None:
        (orders, order), (told, tell) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(order)
            os.close(told)
            _be_jupyter(os.fdopen(orders, "rb"), tell, prepare)
        os.close(orders)
        os.close(tell)
        self._orders = order
        self.notifications: BinaryIO = os.fdopen(told, "rb")
        """What Jupyter says: a line when it listens; the end when it has ended."""

    def imported(self) -> bool:
        """Wait until all is imported; False if this Jupyter can't be started."""
        return self.notifications.readline() == _IMPORTED

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Let Jupyter start, with these options and all of this environment.

        The name of the descriptor to tell readiness on is added. One that has ended meanwhile
        is found by who waits for it.
        """
        self._tell({"arguments": list(arguments), "environment": dict(environment)})

    def go_on(self, directory: str, environment: Mapping[str, str]) -> None:
        """The user's files are there: let it go on, in this directory, with these variables."""
        self._tell({"directory": directory, "environment": dict(environment)})
        os.close(self._orders)

    def end(self) -> None:
        """There will be no orders."""
        os.close(self._orders)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.notifications.close()

    def _tell(self, order: Mapping[str, object]) -> None:
        text = json.dumps(order).encode() + b"\n"
        try:
            while text:
                text = text[os.write(self._orders, text) :]
        except BrokenPipeError:
            return


def _next(orders: BinaryIO) -> dict[str, Any]:
    line = orders.readline()
    if not line.endswith(b"\n"):
        raise SystemExit(1)
    return dict(json.loads(line))


def _be_jupyter(
    orders: BinaryIO, tell: int, prepare: Callable[[], Callable[[FilesGate], None] | None]
) -> NoReturn:
    """The new process's whole life."""
    try:
        import random

        start = prepare()
        if start is None:
            os._exit(0)
        os.write(tell, _IMPORTED)
        order = _next(orders)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.environ[NOTIFY_VARIABLE] = str(tell)
        os.set_inheritable(tell, True)
        # What was fixed when this process began, in the pool.
        random.seed()
        time.tzset()
        sys.argv[1:] = order["arguments"]
        start(FilesGate(orders))
        os._exit(0)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else bool(end.code))
    except BaseException:  # noqa: BLE001 - as the interpreter does at its top
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)
