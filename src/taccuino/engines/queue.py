"""The queue of starts: who came first is served first, so many at once as the node does best.

A start is mostly work for the processor. Fifty at once share it, so that each is as slow as all
of them together; two or three at once finish one after the other, the last one no later. Of how
many at once, the queue finds out by itself: see `Width`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Literal

from .metrics import QUEUE_LENGTH, QUEUE_SECONDS, QUEUE_WIDTH, STARTS_UNDER_WAY

__all__ = ["Lane", "StartQueue", "Width", "start_queue"]

Lane = Literal["cold", "warm"]
"""``cold`` is the start of a container; ``warm`` takes one that runs already, and is over in a
fraction of the time: it does not wait behind cold ones."""

_TOLD_SECONDS = 1.0
_KEPT_TIMES = 200
_LONGEST_FACTOR = 4.0
_LEAST_LONGEST_SECONDS = 5.0


class Width:
    """How many starts are under way at once: the fewest that keep the node busy.

    It is what TCP Vegas does with packets (Brakmo and Peterson, 1995). The shortest time that a
    start took is its time without company, ``base``; one that took ``time`` while ``width``
    were under way has waited for the others for the rest of it, so about ``width * (1 - base /
    time)`` starts are too many for the node at any moment. One or two of these keep it busy;
    more only make all of them slow, and what runs already.
    """

    _FEW, _MANY = 1.0, 2.0

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self._value = float(least)
        self._times: deque[float] = deque(maxlen=_KEPT_TIMES)

    def __int__(self) -> int:
        return int(self._value)

    @property
    def longest(self) -> float:
        """Seconds after which a start is no measure of the node any more: something hangs."""
        if not self._times:
            return 4 * _LEAST_LONGEST_SECONDS
        usual = sorted(self._times)[len(self._times) // 2]
        return max(_LONGEST_FACTOR * usual, _LEAST_LONGEST_SECONDS)

    def completed(self, seconds: float, *, full: bool) -> None:
        """Take in a start that took so long; ``full`` where others waited meanwhile.

        With nobody waiting nothing is learnt of how many the node can take.
        """
        self._times.append(seconds)
        if not full:
            return
        too_many = self._value * (1 - min(self._times) / seconds)
        step = 1 / self._value  # about one for each round of completions
        if too_many < self._FEW:
            self._value = min(self._value + step, self.most)
        elif too_many > self._MANY:
            self._value = max(self._value - step, self.least)


class _Waiting:
    """A start that waits for its turn."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.place = 0
        self._tell = tell

    def tell(self, place: int) -> None:
        """Say where it stands, where that changed."""
        if place != self.place:
            self.place = place
            self._tell(place)


class _Row:
    """One lane: those who wait, and those under way."""

    def __init__(self, lane: Lane, width: Width) -> None:
        self.lane, self.width = lane, width
        self.waiting: deque[_Waiting] = deque()
        self.under_way = 0
        self._told = 0.0
        self._telling: asyncio.TimerHandle | None = None

    def next(self) -> None:
        """Let those begin whose turn it is, and tell the others where they stand."""
        while self.waiting and self.under_way < int(self.width):
            waiting = self.waiting.popleft()
            if not waiting.turn.done():  # else it was cancelled at this very moment
                self.under_way += 1
                waiting.turn.set_result(None)
        self._note()
        if self.waiting and self._telling is None:
            # Those who came just now are told at once; of 500 who wait, each completion would
            # be 500 events.
            pause = max(self._told + _TOLD_SECONDS - time.monotonic(), 0)
            self._telling = asyncio.get_running_loop().call_later(pause, self._tell)

    def _tell(self) -> None:
        self._telling, self._told = None, time.monotonic()
        for place, waiting in enumerate(self.waiting, 1):
            waiting.tell(place)

    def _note(self) -> None:
        QUEUE_LENGTH.labels(self.lane).set(len(self.waiting))
        STARTS_UNDER_WAY.labels(self.lane).set(self.under_way)
        QUEUE_WIDTH.labels(self.lane).set(int(self.width))


class StartQueue:
    """Gives each start its turn; one for the hub.

    Parameters
    ----------
    cores
        Of this node: so many starts at once are never too many.
    """

    _MOST_PER_CORE = 4

    def __init__(self, cores: int) -> None:
        self._rows: dict[Lane, _Row] = {
            lane: _Row(lane, Width(cores, cores * self._MOST_PER_CORE))
            for lane in ("cold", "warm")
        }

    def under_way(self) -> int:
        """Starts that have their turn now."""
        return sum(row.under_way for row in self._rows.values())

    def waiting(self) -> int:
        """Starts that wait for theirs."""
        return sum(len(row.waiting) for row in self._rows.values())

    @contextlib.asynccontextmanager
    async def turn(
        self, tell: Callable[[int], None], lane: Lane = "cold"
    ) -> AsyncIterator[None]:
        """Wait for one's turn, and give it on at the end of the block, however that ends.

        ``tell`` is called with one's place, from 1, while one waits: once a second at most.
        A start that hangs gives its turn on long before its end: it does not keep the node
        busy, and others may not have to hang with it.
        """
        row = self._rows[lane]
        came = time.monotonic()
        await self._wait(row, tell)
        began = time.monotonic()
        QUEUE_SECONDS.labels(lane).observe(began - came)
        held = True

        def give_on() -> None:
            nonlocal held
            if held:
                held = False
                row.under_way -= 1
                row.next()

        timer = asyncio.get_running_loop().call_later(row.width.longest, give_on)
        try:
            yield
            if held:
                full = bool(row.waiting) or row.under_way >= int(row.width)
                row.width.completed(time.monotonic() - began, full=full)
        finally:
            timer.cancel()
            give_on()

    async def _wait(self, row: _Row, tell: Callable[[int], None]) -> None:
        waiting = _Waiting(tell)
        row.waiting.append(waiting)
        row.next()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled():
                row.under_way -= 1  # its turn came while it went away
            else:
                with contextlib.suppress(ValueError):  # `next` met it first
                    row.waiting.remove(waiting)
            row.next()
            raise


@cache
def start_queue() -> StartQueue:
    """The hub's queue."""
    return StartQueue(len(os.sched_getaffinity(0)))
