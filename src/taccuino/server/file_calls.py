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
from functools import partial
from typing import TypeVar

__all__ = ["FileCalls", "NoAnswer"]

_Answer = TypeVar("_Answer")


class NoAnswer(Exception):  # noqa: N818 - named for what happened
    """A file call has not come back in time; it may yet."""


class FileCalls:
    """Calls on one file system: ``room`` of them at once; the next ones wait for room.

    With all of them hanging, the next is refused at once: it would only hang as well.
    """

    def __init__(self, room: int = 12) -> None:
        self._room = asyncio.BoundedSemaphore(room)
        self._silent_since: float | None = None

    @property
    def silent(self) -> bool:
        """Whether a call ran out of time, and none that began later has come back."""
        return self._silent_since is not None

    async def run(self, call: Callable[[], _Answer], limit: float) -> _Answer:
        """What ``call`` returns; the wait for room and for it ends after ``limit`` seconds.

        Raises
        ------
        NoAnswer
            If it has not returned by then, and goes on if it began; if there is no room for
            it on a silent file system; or if no thread can be started.
        """
        if self.silent and self._room.locked():
            raise NoAnswer("too many calls have no answer yet")
        answer: asyncio.Future[_Answer] | None = None
        try:
            async with asyncio.timeout(limit):
                await self._room.acquire()
                answer = self._begin(call)
                await asyncio.wait([answer])
        except TimeoutError:  # not the call's own: that is in the answer
            if answer is None:
                raise NoAnswer(f"no room within {limit:g} s") from None
            self._silent_since = time.monotonic()
            raise NoAnswer(f"no answer within {limit:g} s") from None
        return answer.result()

    def _begin(self, call: Callable[[], _Answer]) -> asyncio.Future[_Answer]:
        answer: Future[_Answer] = Future()
        began = time.monotonic()
        try:
            threading.Thread(
                target=_run, args=(call, answer), name="file-call", daemon=True
            ).start()
        except RuntimeError as error:  # at the limit of processes
            self._room.release()
            raise NoAnswer(str(error)) from error
        waiting = asyncio.wrap_future(answer)
        waiting.add_done_callback(partial(self._came_back, began))
        return waiting

    def _came_back(self, began: float, _: asyncio.Future[_Answer]) -> None:
        if self._silent_since is not None and began > self._silent_since:
            self._silent_since = None
        self._room.release()


def _run(call: Callable[[], _Answer], answer: Future[_Answer]) -> None:
    answer.set_running_or_notify_cancel()
    try:
        value = call()
    except BaseException as error:  # noqa: BLE001 - it is whoever waits that handles it
        answer.set_exception(error)
    else:
        answer.set_result(value)
