"""What a start and a stop make of the mount plane's answers about snapshots."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taccuino.engines import FilesOutdatedError
from taccuino.hub.notices import ServerFacts, notices
from taccuino.hub.snapshots import HubSnapshots
from taccuino.settings import Settings
from taccuino.storage import StorageError
from taccuino.storage.mount_client import MountPlaneError, MountRequest
from taccuino.storage.snapshots import Arrival, Job, Snapshot, SnapshotState

REQUEST = MountRequest("alice", "alice", 3001000, 3001000, "alice-b", "scratch")
MADE = Snapshot("0123abcd", 1_700_000_000.0, "bari", 10, 1)
KEEP, REPLACE = Arrival("keep", MADE), Arrival("replace", MADE)


class StandInClient:
    """Answers in order; an exception is raised."""

    def __init__(self, arrivals: list[Any], states: list[SnapshotState] | None = None) -> None:
        self.arrivals, self.states = arrivals, states or []
        self.asked: list[str] = []
        self.gives_up = True

    call = None

    async def arrive(self, request: MountRequest, older: str) -> Arrival:
        self.asked.append(older)
        answer = self.arrivals.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Arrival)
        return answer

    async def state(self, slug: str) -> SnapshotState:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    async def stop(self, slug: str) -> SnapshotState:
        self.asked.append("stop")
        if not self.states:
            raise MountPlaneError("gone")
        return self.states[0]

    async def give_up(self, slug: str) -> None:
        self.asked.append("give up")
        if not self.gives_up:
            raise MountPlaneError("no answer within 15 s")

    async def unmount(self, slug: str, *, drain: bool) -> None:
        self.asked.append("unmount")


def hub(client: StandInClient, **settings: Any) -> HubSnapshots:
    made = HubSnapshots(Settings.parse({"snapshots": settings}), client)  # type: ignore[arg-type]
    made.client = client  # type: ignore[assignment]
    return made


def job(state: str, message: str = "", percent: int | None = None) -> SnapshotState:
    return SnapshotState(Job("restore", state, message, percent))  # type: ignore[arg-type]


async def test_a_waiting_server_goes_on_with_what_is_the_newest() -> None:
    snapshots = hub(StandInClient([KEEP, Arrival("keep", MADE, "Look."), REPLACE]))
    assert await snapshots.confirm(snapshots.look(REQUEST)) == ()
    assert await snapshots.confirm(snapshots.look(REQUEST)) == ("Look.",)
    with pytest.raises(FilesOutdatedError):
        await snapshots.confirm(snapshots.look(REQUEST))


async def test_a_mount_plane_that_does_not_answer_fails_the_start_in_words() -> None:
    gone = MountPlaneError("the socket is gone")
    snapshots = hub(StandInClient([gone, gone]))
    with pytest.raises(StorageError, match="does not answer"):
        await snapshots.confirm(snapshots.look(REQUEST))
    with pytest.raises(StorageError, match="does not answer"):
        await snapshots.arrive(REQUEST, lambda _: None)


async def test_an_older_workarea_is_restored_with_its_progress() -> None:
    states = [job("running"), job("running", percent=40), job("done", "It is that of then.")]
    client, said = StandInClient([REPLACE, REPLACE, KEEP], states), []
    assert await hub(client).arrive(REQUEST, said.append) == ()
    assert client.asked == ["tell", "unmount", "replace", "take"]
    words = "Restoring your workarea of 2023-11-14 22:13 UTC from site bari"
    assert said == [words, f"{words}: 40 %", "It is that of then."]


async def test_a_restore_that_fails_or_takes_too_long_stops_no_start() -> None:
    client = StandInClient([REPLACE, REPLACE, KEEP], [job("failed", "It is full.")])
    (told,) = await hub(client).arrive(REQUEST, lambda _: None)
    assert "could not be restored. It is full. It is kept" in told
    client = StandInClient([REPLACE, REPLACE, KEEP], [job("running")])
    (told,) = await hub(client, restore_seconds=0.01).arrive(REQUEST, lambda _: None)
    assert "It took too long." in told
    assert client.asked[-2:] == ["give up", "take"]
    client = StandInClient([REPLACE, REPLACE, KEEP], [job("running")])
    client.gives_up = False
    (told,) = await hub(client, restore_seconds=0.01).arrive(REQUEST, lambda _: None)
    assert "It took too long." in told


async def test_a_stop_goes_on_whatever_becomes_of_the_snapshot() -> None:
    said: list[str] = []
    await hub(StandInClient([], [job("failed", "It is full.")])).stop("alice", said.append)
    assert said[-1].endswith("it is tried again: It is full.")
    await hub(StandInClient([])).stop("alice", said.append)


async def test_who_gives_a_start_up_leaves_no_unread_error() -> None:
    snapshots = hub(StandInClient([MountPlaneError("gone")]))
    looking = snapshots.look(REQUEST)
    await asyncio.wait({looking})
    assert looking.exception()


def test_snapshots_are_told_of_in_the_server() -> None:
    state = SnapshotState(fault="Your bucket is full.", notices=("It is in restored-bari.",))
    facts = ServerFacts(now=0, started=0, last_activity=0, snapshots=state)
    told = notices(facts, Settings().culling)
    assert [notice.message for notice in told] == [
        "It is in restored-bari.",
        "No snapshot of your workarea can be made. Your bucket is full. It is tried again.",
    ]
    assert len({notice.id for notice in told}) == 2
