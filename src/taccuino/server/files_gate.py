"""Jupyter starts while its user's files are mounted, and waits for them before it listens.

Nothing that Jupyter does until then looks at the files, unless the environment or the command
line says so: `looks_at`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping

__all__ = ["FilesGate", "looks_at"]

_PLACES = ("HOME", "IPYTHON", "JUPYTER_", "XDG_")
"""What begins the names of variables that tell where configuration and data lie."""


def looks_at(workarea: str, environment: Mapping[str, str], arguments: Iterable[str]) -> bool:
    """Whether a server with these would read the user's files as it starts."""
    values = [value for name, value in environment.items() if name.startswith(_PLACES)]
    return any(workarea in text for text in (*values, *arguments))


class FilesGate:
    """A pipe from the launcher to the Jupyter that it forked; made before the fork.

    With the files comes what was not known before: variables of the environment.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def open(self, directory: str, environment: Mapping[str, str]) -> None:
        """In the launcher: let Jupyter go on, in this directory and with these variables.

        One that has ended meanwhile needs neither.
        """
        os.close(self._reader)
        order = {"directory": directory, "environment": dict(environment)}
        try:
            with os.fdopen(self._writer, "w", encoding="utf-8") as pipe:
                json.dump(order, pipe)
        except BrokenPipeError:
            return

    def wait(self) -> None:
        """In Jupyter: return once the files are there.

        Raises
        ------
        SystemExit
            If the launcher has ended, and they will never be.
        """
        os.close(self._writer)
        with os.fdopen(self._reader, encoding="utf-8") as pipe:
            text = pipe.read()
        if not text:
            raise SystemExit(1)
        order = json.loads(text)
        os.environ.update(order["environment"])
        os.chdir(order["directory"])
