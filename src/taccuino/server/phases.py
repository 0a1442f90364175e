"""Telling the hub how far the start is: ``booting``, ``jupyter``, ``ready`` or ``failed``."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from .hub_client import HubClient, HubRefused, HubUnreachable

__all__ = ["Phases"]

_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between the attempts at telling one phase; after the last, it is left untold."""


class Phases:
    """Tells phases in order, in a thread, and never fails: no start depends on it."""

    def __init__(
        self,
        hub: HubClient,
        server_name: str,
        say: Callable[[str], None],
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        self._hub = hub
        self._server_name = server_name
        self._say = say
        self._pauses = pauses
        self._queue: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="phases", daemon=True)
        self._thread.start()

    def tell(self, phase: str, message: str = "") -> None:
        """Tell ``phase``; the message is for the user."""
        self._queue.put((phase, message))

    def close(self, timeout: float) -> None:
        """Wait until all is told, ``timeout`` seconds at most."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._post(*item)

    def _post(self, phase: str, message: str) -> None:
        body = {"server": self._server_name, "phase": phase, "message": message}
        problem = ""
        for pause in (*self._pauses, None):
            try:
                self._hub.post("/servers/events", body, timeout=5)
            except HubUnreachable as error:
                problem = str(error)
                if pause is not None:
                    threading.Event().wait(pause)
            except HubRefused as error:
                problem = str(error)
                break
            else:
                return
        self._say(f"taccuino-server: the hub was not told of the phase {phase!r}: {problem}\n")
