from __future__ import annotations

import asyncio
import threading
import time

import pytest

from taccuino.server.file_calls import FileCalls, NoAnswer


async def test_a_call_answers_or_raises() -> None:
    calls = FileCalls()
    assert await calls.run(lambda: 6 * 7, 5) == 42
    with pytest.raises(FileNotFoundError):
        await calls.run(lambda: open("/not/there"), 5)  # noqa: SIM115, PTH123
    assert not calls.silent


async def test_one_that_hangs_is_given_up_and_the_loop_goes_on() -> None:
    calls, hang = FileCalls(room=2), threading.Event()
    waiting = [asyncio.create_task(calls.run(hang.wait, 0.05)) for _ in range(2)]
    assert await asyncio.wait_for(asyncio.sleep(0, "the loop goes on"), 1)
    assert {
        type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)
    } == {NoAnswer}
    assert calls.silent
    with pytest.raises(NoAnswer, match="too many"):  # no third thread that only hangs too
        await calls.run(lambda: None, 5)
    hang.set()
    deadline = asyncio.get_running_loop().time() + 5
    while True:  # what hung comes back, and makes room
        try:
            await calls.run(lambda: None, 5)
            break
        except NoAnswer:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
    assert not calls.silent


async def test_a_call_that_hung_before_says_nothing_of_now() -> None:
    calls, hang = FileCalls(), threading.Event()
    early = asyncio.create_task(calls.run(hang.wait, 5))
    await asyncio.sleep(0)
    with pytest.raises(NoAnswer):
        await calls.run(lambda: threading.Event().wait(1), 0.01)
    hang.set()
    assert await early
    assert calls.silent


async def test_more_than_there_is_room_for_wait_their_turn() -> None:
    calls = FileCalls(room=2)
    answers = (calls.run(lambda: time.sleep(0.02), 5) for _ in range(9))
    assert await asyncio.gather(*answers) == [None] * 9


async def test_the_wait_for_room_is_within_the_limit() -> None:
    calls, hang, begun = FileCalls(room=1), threading.Event(), threading.Event()
    first = asyncio.create_task(calls.run(hang.wait, 5))
    await asyncio.sleep(0)
    with pytest.raises(NoAnswer, match="no room"):
        await calls.run(begun.set, 0.05)
    assert not calls.silent  # the one under way has time left
    hang.set()
    assert await first
    assert await calls.run(lambda: 42, 5) == 42
    assert not begun.is_set()


async def test_a_thread_that_can_not_be_started_takes_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls = FileCalls(room=1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        for _ in range(2):
            with pytest.raises(NoAnswer, match="can't start"):
                await calls.run(lambda: None, 0.1)
    assert await calls.run(lambda: 42, 5) == 42


async def test_a_time_out_of_the_call_itself_is_its_answer() -> None:
    def refused() -> None:
        raise TimeoutError("told by FUSE")

    calls = FileCalls()
    with pytest.raises(TimeoutError, match="FUSE"):
        await calls.run(refused, 5)
    assert not calls.silent
