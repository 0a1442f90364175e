"""The queue of starts: order, cancelling, how many at once, and what hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from taccuino.engines import queue as module
from taccuino.engines.progress import StartProgress
from taccuino.engines.queue import StartQueue, Width


class Start:
    """A start that ends when it is told to."""

    def __init__(self, queue: StartQueue, name: str, began: list[str], **how: object) -> None:
        self.places: list[int] = []
        self.end = asyncio.Event()
        self.error: Exception | None = None
        self.task = asyncio.ensure_future(self._run(queue, name, began, **how))

    async def _run(self, queue: StartQueue, name: str, began: list[str], **how) -> None:
        async with queue.turn(self.places.append, **how):
            began.append(name)
            await self.end.wait()
            if self.error:
                raise self.error


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it may be any condition
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOLD_SECONDS", 0.01)


async def test_who_comes_first_is_served_first_and_places_move() -> None:
    queue, began = StartQueue(1), []
    starts = [Start(queue, name, began) for name in "abcd"]
    await until(lambda: starts[3].places == [3])
    assert began == ["a"]
    assert starts[0].places == []
    assert (queue.under_way(), queue.waiting()) == (1, 3)
    for number, start in enumerate(starts):
        start.end.set()
        await until(lambda started=number + 2: len(began) >= min(started, 4))
    await asyncio.gather(*(start.task for start in starts))
    assert began == list("abcd")
    assert starts[3].places == sorted(starts[3].places, reverse=True)
    assert (queue.under_way(), queue.waiting()) == (0, 0)


async def test_a_start_that_is_given_up_leaves_the_queue() -> None:
    queue, began = StartQueue(1), []
    first, second, third = (Start(queue, name, began) for name in "abc")
    await until(lambda: third.places == [2])
    second.task.cancel()
    await until(lambda: third.places == [2, 1])
    first.task.cancel()
    await until(lambda: began == ["a", "c"])
    third.end.set()
    await third.task
    assert (queue.under_way(), queue.waiting()) == (0, 0)


async def test_a_turn_that_comes_while_its_start_is_given_up_is_not_lost() -> None:
    queue, began = StartQueue(1), []
    first, second, third = (Start(queue, name, began) for name in "abc")
    await until(lambda: third.places == [2])
    first.end.set()
    await until(first.task.done)  # the second's turn has come, and it has not run yet
    second.task.cancel()
    await until(lambda: "c" in began)
    third.end.set()
    await asyncio.wait({second.task, third.task})
    assert (queue.under_way(), queue.waiting()) == (0, 0)


async def test_all_are_given_up_at_once() -> None:
    queue, began = StartQueue(1), []
    starts = [Start(queue, name, began) for name in "abcd"]
    await until(lambda: starts[3].places == [3])
    for start in starts:
        start.task.cancel()
    await asyncio.wait({start.task for start in starts})
    assert (queue.under_way(), queue.waiting()) == (0, 0)


async def test_a_failed_start_gives_its_turn_on() -> None:
    queue, began = StartQueue(1), []
    first, second = Start(queue, "a", began), Start(queue, "b", began)
    first.error = ValueError("it broke")
    first.end.set()
    second.end.set()
    await second.task
    assert isinstance(first.task.exception(), ValueError)
    assert began == ["a", "b"]


async def test_starts_that_hang_do_not_hold_up_the_others(monkeypatch) -> None:
    monkeypatch.setattr(Width, "longest", 0.05)
    queue, began = StartQueue(1), []
    hanging, second = Start(queue, "a", began), Start(queue, "b", began)
    second.end.set()
    await second.task
    assert not hanging.task.done()
    hanging.end.set()
    await hanging.task
    assert queue.under_way() == 0


async def test_a_warm_server_does_not_wait_behind_cold_starts() -> None:
    queue, began = StartQueue(1), []
    cold = [Start(queue, name, began) for name in "ab"]
    warm = Start(queue, "warm", began, lane="warm")
    await until(lambda: began == ["a", "warm"])
    for start in (*cold, warm):
        start.end.set()
    await asyncio.gather(*(start.task for start in (*cold, warm)))


def simulate(width: Width, cores: int, cpu: float, pause: float, rounds: int) -> float:
    """The width after so many starts of ``cpu`` seconds of work and ``pause`` of waiting.

    While more are under way than the cores can do, each takes longer in proportion.
    """
    for _ in range(rounds):
        at_once = int(width)
        width.completed(max(cpu + pause, at_once * cpu / cores), full=True)
    return int(width)


@pytest.mark.parametrize(
    ("cores", "cpu", "pause", "least", "most"),
    [
        (2, 1.0, 0.0, 2, 4),  # nothing but work: hardly more than the cores
        (2, 1.0, 1.0, 4, 6),  # half of it waiting: twice as many
        (2, 0.1, 2.0, 8, 8),  # nearly all of it waiting: the most there may be
        (16, 1.0, 0.0, 16, 18),
    ],
)
def test_so_many_at_once_as_keep_the_node_busy(
    cores: int, cpu: float, pause: float, least: int, most: int
) -> None:
    assert least <= simulate(Width(cores, 4 * cores), cores, cpu, pause, 400) <= most


def test_a_node_that_gets_slower_has_fewer_at_once() -> None:
    width = Width(2, 8)
    before = simulate(width, 2, 0.2, 1.0, 100)
    after = simulate(width, 2, 1.0, 1.0, 100)  # those that run are busy now
    assert after < before


def test_without_anybody_waiting_nothing_is_learnt() -> None:
    width = Width(2, 8)
    for _ in range(50):
        width.completed(1.0, full=False)
    assert int(width) == 2
    assert width.longest == module._LEAST_LONGEST_SECONDS


async def test_a_reader_sees_the_places_as_they_are_when_it_looks() -> None:
    progress = StartProgress()
    progress.wait_in_queue(9)
    progress.wait_in_queue(7)
    stream = progress.stream()
    first = await anext(stream)
    assert (first["message"], first["place"]) == ("You are number 7 in the queue", 7)
    progress.wait_in_queue(3)
    progress.wait_in_queue(2)
    assert (await anext(stream))["place"] == 2
    progress.wait_in_queue(1)
    progress.enter("storage")
    assert (await anext(stream))["phase"] == "storage"
    progress.close()
    assert [event async for event in stream] == []
    assert [event.get("place") async for event in progress.stream()] == [1, None]
