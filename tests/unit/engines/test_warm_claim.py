"""One start's claim on the pool, from its beginning to its end."""

from __future__ import annotations

from typing import Any

from taccuino.engines.warm import Claim


class StandInPool:
    def __init__(self, *waiting: str) -> None:
        self.waiting = list(waiting)
        self.starts = self.cold_starts = self.woken = 0
        self.noted: list[str] = []
        self.off = ""
        self.settled_ones: list[str] = []

    def claim(self, image: str) -> str | None:
        return self.waiting.pop() if self.waiting and image == "base" else None

    def give_back(self, server: str) -> None:
        self.waiting.append(server)

    def settled(self, server: str) -> None:
        self.settled_ones.append(server)

    def note_start(self, image: str) -> None:
        self.noted.append(image)

    def switch_off(self, reason: str) -> None:
        self.off = reason

    def wake(self) -> None:
        self.woken += 1


def claim(pool: StandInPool | None, fault: str = "") -> Claim:
    given: Any = pool
    return Claim(lambda: given, lambda: fault)


def test_what_was_claimed_is_taken_once() -> None:
    pool = StandInPool("one", "two")
    mine = claim(pool)
    assert mine.begin("base")
    assert (pool.starts, pool.noted) == (1, ["base"])
    assert mine.take("base") == "two"
    assert mine.take("base") == "one"  # another attempt of the same start
    assert mine.take("base") is None
    mine.end()
    assert (pool.starts, pool.woken, pool.waiting) == (0, 1, [])
    assert pool.settled_ones == ["two", "one"]


def test_what_was_not_needed_goes_back() -> None:
    pool = StandInPool("one")
    mine = claim(pool)
    assert mine.begin("base")
    mine.end()
    assert (pool.waiting, pool.starts) == (["one"], 0)


def test_one_that_came_to_wait_since_is_taken() -> None:
    pool = StandInPool()
    mine = claim(pool)
    assert not mine.begin("base")
    pool.waiting.append("late")
    assert mine.take("base") == "late"


def test_servers_that_must_differ_by_user_switch_the_pool_off() -> None:
    pool = StandInPool("one")
    mine = claim(pool, "volumes")
    assert not mine.begin("base")
    assert (pool.off, pool.waiting) == ("volumes", ["one"])


def test_the_pool_rests_while_a_server_is_made() -> None:
    pool = StandInPool()
    with claim(pool).making():
        assert pool.cold_starts == 1
    assert (pool.cold_starts, pool.woken) == (0, 1)


def test_without_a_pool() -> None:
    none = claim(None)
    assert not none.begin("base")
    assert none.take("base") is None
    with none.making():
        pass
    none.end()
