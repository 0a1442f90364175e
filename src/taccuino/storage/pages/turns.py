"""Turns, so that no user takes what serves all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from .errors import CallError

__all__ = ["Turns"]


class Turns:
    """Each user has so many at once (``each``); that many more (``waiting``) wait in line."""

    def __init__(self, each: int, waiting: int) -> None:
        self._each, self._waiting = each, waiting
        # A line lasts for as long as somebody waits in it, or has a turn of it.
        self._lines: WeakValueDictionary[str, _Line] = WeakValueDictionary()

    async def take(
        self, username: str, seconds: float | None = None, *, refuse: bool = True
    ) -> Callable[[], None]:
        """Wait for a turn; what it gives ends the turn.

        Parameters
        ----------
        seconds
            How long to wait at most.
        refuse
            Whether a long line is a reason not to wait at all.

        Raises
        ------
        CallError
            429, if too many wait already or the wait is too long.
        """
        line = self._lines.setdefault(username, _Line(self._each))
        if refuse and line.waiting >= self._waiting:
            raise _busy()
        line.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await line.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            line.waiting -= 1
        return line.release


class _Line(asyncio.Semaphore):
    waiting = 0


def _busy() -> CallError:
    return CallError(
        429,
        "Much of yours is under way here already. Try again when it is done.",
        reason="busy",
    )
