from __future__ import annotations

import asyncio

import pytest

from taccuino.errors import ServiceError
from taccuino.hub import readiness
from taccuino.hub.readiness import Check, Readiness


async def fine():
    return None


async def down():
    raise ServiceError("the engine's socket is not there;\n  is it running?")


async def leaky():
    raise RuntimeError("postgresql://hub:hunter2@db/hub")


async def stuck():
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("probe", "needed", "ready", "state"),
    [
        (fine, True, True, "ok"),
        (down, True, False, "failed"),
        (down, False, True, "failed"),  # a start is poorer, but there is one
        (leaky, True, False, "failed"),
        (stuck, True, False, "failed"),
    ],
)
async def test_only_what_a_start_needs_decides(monkeypatch, probe, needed, ready, state):
    monkeypatch.setattr(readiness, "LIMIT_SECONDS", 0.05)
    checks = [Check("database", fine, needed=True), Check("part", probe, needed=needed)]
    answer = (await Readiness(checks).report()).as_json()
    assert answer["ready"] is ready
    assert answer["checks"]["database"]["state"] == "ok"
    assert answer["checks"]["part"]["state"] == state
    assert "hunter2" not in str(answer)


async def test_a_message_says_what_is_wrong_on_one_line():
    report = await Readiness([Check("engine", down, needed=True)]).report()
    assert report.checks["engine"].message == (
        "the engine's socket is not there; is it running?"
    )


async def test_many_who_ask_at_once_ask_the_parts_once():
    asked = 0

    async def count():
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)

    subject = Readiness([Check("part", count, needed=True)])
    await asyncio.gather(*(subject.report() for _ in range(50)))
    await subject.report()
    assert asked == 1


async def test_parts_are_asked_at_the_same_time():
    both = asyncio.Barrier(2)
    checks = [Check(name, both.wait, needed=True) for name in ("one", "two")]
    assert (await Readiness(checks).report()).ready
