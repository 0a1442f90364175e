"""Blocking file calls, kept from the event loop and from each other.

A call on a mount whose object storage hangs comes back when FUSE gives up, which may take a
minute, and nothing can end it before. So each call gets a daemon thread of its own: a pool's
threads would be joined at exit, and hold up the end of Jupyter.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["FileCalls", "NoAnswer"]

_Answer = TypeVar("_Answer")


class NoAnswer(Exception):  # noqa: N818 - named for what happened
    """A file call has not come back in time; it may yet."""


class FileCalls:
    """Calls on one file system: ``room`` of them at once.

    With all of them hanging, the next is refused at once: it would only hang as well.
    """

    def __init__(self, room: int = 12) -> None:
        self._room = threading.BoundedSemaphore(room)
        self._silent_since: float | None = None

    @property
    def silent(self) -> bool:
        """Whether a call ran out of time, and none that began later has come back."""
        return self._silent_since is not None

    async def run(self, call: Callable[[], _Answer], limit: float) -> _Answer:
        """What ``call`` returns; the wait for it ends after ``limit`` seconds.

        Raises
        ------
        NoAnswer
            If it has not returned by then, and goes on; or if there is no room for it.
        """
        if not self._room.acquire(blocking=False):
            raise NoAnswer("too many calls have no answer yet")
        answer: Future[_Answer] = Future()
        threading.Thread(
            target=self._run, args=(call, answer), name="file-call", daemon=True
        ).start()
        waiting = asyncio.wrap_future(answer)
        done, _ = await asyncio.wait([waiting], timeout=limit)
        if not done:
            self._silent_since = time.monotonic()
            raise NoAnswer(f"no answer within {limit:g} s")
        return waiting.result()

    def _run(self, call: Callable[[], _Answer], answer: Future[_Answer]) -> None:
        began = time.monotonic()
        answer.set_running_or_notify_cancel()
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - it is whoever waits that handles it
            answer.set_exception(error)
        else:
            answer.set_result(value)
        finally:
            if self._silent_since is not None and began > self._silent_since:
                self._silent_since = None
            self._room.release()
