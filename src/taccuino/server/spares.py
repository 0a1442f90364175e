"""A kernel that is started ahead, so that the first cell of a notebook does not wait for one.

What `spare_kernel` is to those who start kernels: here is decided whether there is one, and for
which command line it does.
"""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .spare_kernel import LAUNCHER, Order

__all__ = ["Spares", "spare_command"]

_PROGRAM = str(Path(__file__).with_name("spare_kernel.py"))
# Room for the kernel's own command line, which takes this one's place for `ps`.
_WAITING = "a kernel that waits for its notebook".ljust(240)
_REST_SECONDS = 5.0  # after a start: its notebook's first cells come first


def spare_command(argv: Sequence[str]) -> list[str] | None:
    """The command line of a spare for a kernel's; `None` if that is not an IPython kernel's.

    That is an interpreter, its own options, and the launcher: ``python -m ipykernel_launcher``.
    """
    if LAUNCHER not in argv:
        return None
    *interpreter, module = argv[: argv.index(LAUNCHER)]
    if module != "-m" or not interpreter:
        return None
    if any(not option.startswith("-") for option in interpreter[1:]):
        return None
    return [*interpreter, _PROGRAM, _WAITING]


class Spares:
    """At most one spare kernel, which `prepare` starts and `take` hands out."""

    def __init__(self, log: Any = None) -> None:
        self._log = log or logging.getLogger(__name__)
        self._spare: subprocess.Popen[bytes] | None = None
        self._command: list[str] | None = None
        self._not_before = 0.0

    @property
    def due(self) -> bool:
        """Whether one is missing, and it is not right after the start of a kernel."""
        return not self._alive() and time.monotonic() >= self._not_before

    @property
    def ready(self) -> bool:
        """Whether there is one."""
        return self._alive()

    def prepare(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> None:
        """Start a spare for this kernel, if it is one that there can be a spare for."""
        self.release()
        command = spare_command(argv)
        # What Python finds by a relative path depends on the notebook's directory.
        found_by = map(Path, (env.get("PYTHONPATH") or "/").split(":"))
        if command is None or not all(path.is_absolute() for path in found_by):
            self._not_before = math.inf
            return
        try:
            self._spare = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                cwd=cwd,
                env=_environment(env),
                start_new_session=True,
            )
        except OSError as error:
            self._log.warning("No kernel can be kept ready: %s", error)
            self.rest()
            return
        self._command = command

    def take(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: str
    ) -> subprocess.Popen[bytes] | None:
        """The spare, told to become this kernel; `None` if there is none for it."""
        command = spare_command(argv)
        if not self._alive() or self._spare is None or command != self._command:
            return None
        spare, self._spare = self._spare, None
        if spare.stdin is None:
            return None
        order = Order(argv=[*map(os.path.expanduser, argv)], env=_environment(env), cwd=cwd)
        try:
            spare.stdin.write(json.dumps(order).encode())
            spare.stdin.close()
        except OSError as error:
            self._log.warning("The spare kernel %d takes no order: %s", spare.pid, error)
            spare.kill()
            spare.wait()
            return None
        self._log.info("Kernel handed out of the spare %d", spare.pid)
        return spare

    def rest(self) -> None:
        """A kernel was started: leave the processor to it."""
        self._not_before = time.monotonic() + _REST_SECONDS

    def release(self) -> None:
        """Let the spare end, if there is one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.kill()
            if spare.stdin:
                spare.stdin.close()
            spare.wait()

    def _alive(self) -> bool:
        if self._spare is None:
            return False
        if (code := self._spare.poll()) is None:
            return True
        self._log.warning("The spare kernel %d ended with %d", self._spare.pid, code)
        self.release()
        return False


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """What Jupyter adds for a kernel that ends with its server."""
    return {**env, "JPY_PARENT_PID": str(os.getpid())}
