"""A start's progress: real events, kept so that a page that is loaded again sees them all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Literal

from .errors import StartStalledError
from .metrics import PHASE_SECONDS

__all__ = ["Phase", "StartProgress"]

Phase = Literal["storage", "container", "jupyter", "ready"]

_PHASES: dict[Phase, tuple[int, str]] = {
    "storage": (10, "Preparing your storage"),
    "container": (35, "Creating your container"),
    "jupyter": (60, "Starting Jupyter"),
    "ready": (95, "Your server is ready"),
}


class StartProgress:
    """The events of one start, in JupyterHub's form for its progress page."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.phase: Phase | None = None
        self.last_progress = time.monotonic()
        """When the start last got on: ``time.monotonic()``, seconds."""
        self._entered = time.monotonic()
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def sentence(self) -> str:
        """What is being done now."""
        return _PHASES[self.phase][1] if self.phase else "Server requested"

    def wait_in_queue(self, place: int) -> None:
        """Say where in the queue the start waits, from 1; earlier places are forgotten."""
        event = {
            "progress": 0,
            "message": f"You are number {place} in the queue",
            "phase": "queue",
            "place": place,
        }
        if self.events and self.events[-1].get("phase") == "queue":
            self.events.pop()
        self._say(event)

    def enter(self, phase: Phase, sentence: str = "") -> None:
        """Say that a phase begins; a phase that was entered already is not said again."""
        if phase != self.phase:
            now = time.monotonic()
            if self.phase:
                PHASE_SECONDS.labels(self.phase).observe(now - self._entered)
            self.phase, self._entered = phase, now
            percent, usual = _PHASES[phase]
            message = sentence or usual
            self._say({"progress": percent, "message": message, "phase": phase})

    def detail(self, message: str) -> None:
        """Say how the phase goes on."""
        self._say({"message": message, "phase": self.phase, "level": "detail"})

    def notice(self, message: str) -> None:
        """Say what the user should know: a fault that is worked around, or another attempt."""
        self._say({"message": message, "phase": self.phase, "level": "warning"})

    def give_up(self, message: str) -> None:
        """Say that the start is stopped because somebody asked for that."""
        self._say({"message": message, "phase": self.phase, "level": "cancelled"})

    def restart(self) -> None:
        """Begin again: the next attempt's phases are said anew."""
        self.phase = None

    async def watch(self, attempt: Coroutine[Any, Any, str], patience: float) -> str:
        """Run an attempt for as long as it gets on, and answer with its result.

        Raises
        ------
        StartStalledError
            If nothing happened for ``patience`` seconds; the attempt has ended by then.
        """
        # A user may have looked at the options for long before.
        self.last_progress = time.monotonic()
        task = asyncio.ensure_future(attempt)
        try:
            while not task.done():
                left = self.last_progress + patience - time.monotonic()
                if left <= 0:
                    raise StartStalledError(f"no progress in {patience:g} s")
                await asyncio.wait({task}, timeout=left)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def close(self) -> None:
        """End every reader's stream."""
        self._closed = True
        self._wake()

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """Every event from the first on, until the start has ended.

        Of the places in the queue a reader gets those that it comes to see.
        """
        seen = 0
        last: dict[str, Any] | None = None
        while True:
            changed = self._changed
            if seen == len(self.events) and seen and self.events[-1] is not last:
                seen -= 1  # another place
            while seen < len(self.events):
                last = self.events[seen]
                seen += 1
                yield dict(last)
            if self._closed:
                return
            await changed.wait()

    def _say(self, event: dict[str, Any]) -> None:
        if event in self.events[-1:]:  # saying the same again is no progress
            return
        self.last_progress = time.monotonic()
        self.events.append(event)
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
