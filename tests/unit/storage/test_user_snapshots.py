"""What is noted of a workarea while servers come and go, and who waits for whom."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.mounts import eventually
from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequest
from taccuino.storage.mount_plane.layout import UserPaths
from taccuino.storage.mount_plane.snapshots import area
from taccuino.storage.mount_plane.snapshots.lineage import Lineage, Newest
from taccuino.storage.mount_plane.snapshots.restic import Backup, SnapshotError, error_of
from taccuino.storage.mount_plane.snapshots.user import Node, UserSnapshots
from taccuino.storage.snapshots import Snapshot, SnapshotOwner

UID = os.getuid()
MADE = Snapshot("0123abcd", 1_700_000_000.0, "bari", 10, 1)
THERE = Snapshot("4567cdef", 1_700_000_100.0, "cnaf", 10, 1)


class StandInRestic:
    """Does at once what is asked, or waits for ``gate``."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.real_size = 0
        self.fault: SnapshotError | None = None
        self.told: list[str] = []

    async def _do(self, what: str) -> None:
        self.told.append(what)
        self.began.set()
        await self.gate.wait()
        if self.fault:
            raise self.fault

    async def backup(self, *_: Any, **__: Any) -> Backup:
        await self._do("backup")
        return Backup(f"{len(self.told):08x}", complete=True)

    async def restore(self, snapshot: str, path: Path, uid: int, folder: str) -> None:
        (path / folder / "a").write_text("restored")
        await self._do("restore")

    async def thin(self, _: Any) -> None:
        await self._do("thin")

    async def size(self, _: str) -> int:
        return self.real_size

    async def snapshots(self) -> list[Snapshot]:
        return [MADE]


class StandInStore:
    """Users' newest snapshots and credentials; ``gate`` keeps it from answering."""

    def __init__(self) -> None:
        self.newest: Newest | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    async def get(self, *words: Any) -> Any:
        if len(words) == 1:
            return "credentials"
        self.asked.set()
        await self.gate.wait()
        return self.newest

    async def put(self, _: str, __: Any, newest: Newest) -> None:
        self.newest = newest


class User:
    """A user with a plain area."""

    def __init__(self, node: Node, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.user = UserSnapshots(node, SnapshotOwner(name, name, f"{name}-bucket"))
        self.restic = StandInRestic()
        monkeypatch.setattr(self.user, "_restic", self.restic)
        self.paths = UserPaths.of(node.settings, name)
        self.area = self.paths.plain_area
        self.area.mkdir(parents=True)
        (self.area / "file").write_text("1")
        self.request = MountRequest(
            name, name, 3_001_000, 3_001_000, f"{name}-bucket", "scratch"
        )

    @property
    def known(self) -> Lineage:
        return Lineage.read(self.user._record.path, there=True)

    def knows(self, known: Lineage) -> None:
        known.save(self.user._record.path)

    async def done(self) -> str:
        assert self.user._task
        await asyncio.wait({self.user._task}, timeout=5)
        assert self.user._job
        assert self.user._job.state != "running"
        return self.user._job.message


@pytest.fixture
def store() -> StandInStore:
    return StandInStore()


@pytest.fixture
def node(tmp_path: Path, store: StandInStore) -> Node:
    settings = {"every_minutes": 30, "stop_seconds": 0.2, "look_seconds": 5}
    return Node(
        settings=Settings.parse(
            {"state_dir": str(tmp_path / "state"), "site": "bari", "snapshots": settings}
        ),
        name="bari.1",
        key=str,
        credentials=store,  # type: ignore[arg-type]
        pointers=store,  # type: ignore[arg-type]
        away=lambda: False,
        turns=asyncio.Semaphore(1),
    )


@pytest.fixture(autouse=True)
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sandboxes are for root, and for other tests."""

    async def survey(path: Path, _: str) -> area.Survey:
        files = sorted(str(file) for file in path.rglob("*") if file.is_file())
        return area.Survey(" ".join(files), len(files), len(files), 1)

    @contextlib.asynccontextmanager
    async def folder(path: Path, name: str, _: int) -> AsyncIterator[str]:
        (path / f".restoring-{name}").mkdir()
        yield f".restoring-{name}"

    async def keep_examples(*_: Any) -> None:
        pass

    monkeypatch.setattr(area, "survey", survey)
    monkeypatch.setattr(area, "folder", folder)
    monkeypatch.setattr(area, "keep_examples", keep_examples)


@pytest.fixture
def alice(node: Node, monkeypatch: pytest.MonkeyPatch) -> User:
    return User(node, "alice", monkeypatch)


async def test_after_a_stop_all_is_in_a_snapshot(alice: User) -> None:
    await alice.user.arrive(alice.request, "tell")
    assert alice.known.changed
    await alice.user.stop()
    assert not alice.known.changed


async def test_a_failed_survey_leaves_the_area_changed(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> area.Survey:
        raise error_of("failed")

    await alice.user.arrive(alice.request, "tell")
    monkeypatch.setattr(area, "survey", fail)
    await alice.user.stop()
    assert alice.known.changed


async def test_a_folder_that_was_restored_is_a_change(alice: User) -> None:
    alice.knows(Lineage(base=MADE.id))
    await alice.user.restore(MADE.id)
    await alice.done()
    assert list(alice.area.glob("restored-bari-*"))
    assert alice.known.changed


@pytest.mark.parametrize(("noted", "real", "fits"), [
    (10, 1 << 62, True),
    (1 << 62, 10, True),  # without what is excluded, and links but once
    (None, 10, True),
    (1 << 62, 1 << 61, False),
])  # fmt: skip
async def test_nothing_is_restored_into_a_folder_without_room(
    alice: User, noted: int | None, real: int, *, fits: bool
) -> None:
    alice.restic.real_size = real
    work = alice.user._lay_folder(Snapshot("0123abcd", 0.0, "bari", noted, 1))
    if fits:
        await work
    else:
        with pytest.raises(SnapshotError, match="not enough room"):
            await work
    assert alice.restic.told == (["restore"] if fits else [])


async def test_a_server_that_comes_while_a_stop_waits_is_known_of(alice: User) -> None:
    """The hub was killed while it stopped one, and starts another."""
    await alice.user.arrive(alice.request, "tell")
    alice.restic.gate.clear()
    alice.user.make()
    await alice.restic.began.wait()
    stopping = asyncio.create_task(alice.user.stop())
    await asyncio.sleep(0)
    alice.user._node.settings.snapshots.look_seconds = 0.05
    await alice.user.arrive(alice.request, "tell")
    await stopping
    alice.restic.gate.set()
    await alice.done()
    assert alice.user.arrived
    assert alice.known.changed


async def test_one_that_was_begun_before_the_stop_is_not_the_last(alice: User) -> None:
    """A server may write between the survey and its stop."""
    await alice.user.arrive(alice.request, "tell")
    alice.restic.gate.clear()
    alice.user.make()
    await alice.restic.began.wait()
    await alice.user.stop()
    alice.restic.gate.set()
    await alice.done()
    assert alice.known.changed
    await alice.user.tend(alice.user.next_try)
    await alice.done()
    assert not alice.known.changed


async def test_a_start_that_was_given_up_while_it_looked_has_no_server(
    alice: User, store: StandInStore
) -> None:
    store.gate.clear()
    arriving = asyncio.create_task(alice.user.arrive(alice.request, "tell"))
    await store.asked.wait()
    alice.user.left()
    store.gate.set()
    await arriving
    assert not alice.user.arrived


@pytest.mark.parametrize("slow", ["backup", "thin"])
async def test_nobody_waits_behind_anothers_idle_snapshot(
    alice: User, node: Node, store: StandInStore, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    bruno = User(node, "bruno", monkeypatch)
    for one in (alice, bruno):
        await one.user.arrive(one.request, "tell")
        if slow == "thin":
            one.knows(Lineage(changed=True, thinned=1.0))
    alice.restic.gate.clear()
    if slow == "thin":
        alice.restic.gate.set()
        alice.user.make()
        await alice.done()
        alice.restic.gate.clear()
    else:
        await alice.user.tend(alice.user.next_try)
    await eventually(lambda: slow in alice.restic.told)
    store.newest = None  # bruno's
    await bruno.user.tend(bruno.user.next_try)
    assert not bruno.user.busy
    state = await bruno.user.stop()
    assert state.job
    assert state.job.message == "A snapshot was made."
    await bruno.user.restore(MADE.id)
    await asyncio.sleep(0)
    assert "is in the folder" in await bruno.done()
    await alice.user.cancel()
    await bruno.user.cancel()


async def test_what_failed_to_be_made_apart_is_tried_again(
    alice: User, store: StandInStore
) -> None:
    store.newest = Newest(THERE)
    alice.knows(Lineage(base=MADE.id, changed=True, apart=MADE.id))
    alice.restic.fault = error_of("unreachable")
    await alice.user.stop()
    alice.restic.fault = None
    await alice.user.tend(alice.user.next_try)
    assert "changed at site cnaf" in await alice.done()
    alice.user._job = None
    await alice.user.tend(alice.user.next_try)  # and then no more
    assert alice.user._job is None
    assert alice.known.changed


@pytest.mark.skipif(os.geteuid() != 0, reason="it gives files to another user")
async def test_an_area_that_a_server_takes_is_not_replaced(
    alice: User, store: StandInStore
) -> None:
    """A restore that does not end in time, and can't be given up at once."""
    alice.knows(Lineage())
    store.newest = Newest(THERE)
    alice.restic.gate.clear()
    assert (await alice.user.arrive(alice.request, "replace")).course == "replace"
    await alice.restic.began.wait()
    alice.user._node.settings.snapshots.look_seconds = 0.05
    assert (await alice.user.arrive(alice.request, "take")).course == "keep"
    alice.restic.gate.set()
    assert await alice.done() == "A server has your workarea."
    assert (alice.area / "file").exists()
    assert alice.known.changed


@pytest.mark.skipif(os.geteuid() != 0, reason="it gives files to another user")
async def test_an_area_that_was_replaced_is_known_as_such_also_when_given_up(
    alice: User, store: StandInStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.knows(Lineage())
    store.newest = Newest(THERE)
    swap = area.swap

    def swapping(paths: UserPaths, new: Path) -> None:
        loop.call_soon_threadsafe(alice.user._task.cancel)  # type: ignore[union-attr]
        swap(paths, new)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(area, "swap", swapping)
    await alice.user.arrive(alice.request, "replace")
    await alice.done()
    assert (alice.area / "a").read_text() == "restored"
    assert alice.known.base == THERE.id
