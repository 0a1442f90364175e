"""What goes wrong for one user, one file or one process harms no other, and loses nothing."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequest
from taccuino.storage.mount_plane import cloud, held, mending, plane, rclone
from taccuino.storage.mount_plane.cache import dirty_files, hold_unfinished
from taccuino.storage.mount_plane.cache_budget import CacheBudget
from taccuino.storage.mount_plane.held import held_files, hold
from taccuino.storage.mount_plane.journal import Journal
from taccuino.storage.mount_plane.kernel import MountTable
from taccuino.storage.mount_plane.layout import RcloneIdentity, Record, UserPaths
from taccuino.storage.mount_plane.limits import Hierarchies, ProcessGroup
from taccuino.storage.mount_plane.ranges import Range
from taccuino.storage.mount_plane.rclone import Rclone
from taccuino.storage.mount_plane.relay import StorageRelay

REQUEST = MountRequest("alice", "alice", 3001000, 3001000, "alice-b", "scratch")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.parse(
        {"state_dir": str(tmp_path), "storage": {"endpoint": "http://s3:1"}, "hub": {"port": 9}}
    )


# -- rclone's process


class GroupDouble(ProcessGroup):
    """A group of which it is known whether it was removed."""

    def __init__(self, directory: Path) -> None:
        super().__init__("alice", 1, 1, Hierarchies({}, directory))
        (directory / "alice").mkdir()

    @property
    def is_there(self) -> bool:
        return self._directories()[0].exists()


@pytest.fixture
def silent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers nothing."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def identity_of(process: subprocess.Popen[bytes]) -> RcloneIdentity:
    started = rclone._started(process.pid)
    assert started is not None
    return RcloneIdentity(process.pid, started)


async def test_an_rclone_that_does_not_answer_is_ended_before_another_one_starts(
    settings: Settings, tmp_path: Path, silent: subprocess.Popen[bytes]
) -> None:
    group, paths = GroupDouble(tmp_path), UserPaths.of(settings, "alice")
    assert await Rclone.adopt(identity_of(silent), paths, group, timeout=0.05) is None
    assert silent.wait(1) == -signal.SIGTERM
    assert not group.is_there


async def test_a_later_process_of_the_same_number_is_left_alone(
    settings: Settings, tmp_path: Path, silent: subprocess.Popen[bytes]
) -> None:
    other = RcloneIdentity(silent.pid, identity_of(silent).started - 1)
    paths = UserPaths.of(settings, "alice")
    assert await Rclone.adopt(other, paths, GroupDouble(tmp_path), timeout=0.05) is None
    assert silent.poll() is None


async def test_a_process_that_can_not_be_ended_in_time_is_watched_until_it_has(
    tmp_path: Path, silent: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rclone, "_STOP_SECONDS", 0.01)
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *_: None)  # it hangs in the kernel
    pidfd = os.pidfd_open(silent.pid)
    process = Rclone(identity_of(silent), tmp_path / "none", GroupDouble(tmp_path), pidfd)
    await process.stop()
    assert not process.exited.is_set()
    silent.kill()
    await asyncio.wait_for(process.exited.wait(), 2.0)


# -- the plane's loops


class UserDouble:
    """A user whose look fails, or is counted."""

    def __init__(self, slug: str, error: Exception | None = None) -> None:
        self.slug, self.error, self.looks, self.is_gone = slug, error, 0, False

    async def look(self, table: MountTable) -> None:
        self.looks += 1
        if self.error:
            raise self.error


async def _run_for(seconds: float, work: Any) -> None:
    task = asyncio.create_task(work)
    await asyncio.sleep(seconds)
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_one_bad_state_does_not_end_the_look_at_all_users(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane, "_LOOK_SECONDS", 0.005)
    faults = [OSError(errno.ENOMEM, "no memory")]

    def read() -> MountTable:
        if faults:
            raise faults.pop()
        return MountTable("")

    monkeypatch.setattr(MountTable, "read", read)
    mounts = plane.MountPlane(settings, cast("Any", None))
    bad, good = UserDouble("bad", KeyError("path")), UserDouble("good")
    mounts._users = cast("Any", {"bad": bad, "good": good})
    await _run_for(0.1, mounts._keep_looking())
    assert bad.looks > 1
    assert good.looks > 1


async def test_the_sweep_goes_on_after_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane, "_SWEEP_SECONDS", 0.005)
    mounts, tries = plane.MountPlane(settings, cast("Any", None)), []

    def refuse(known: object) -> None:
        tries.append(known)
        raise OSError(errno.ENOTEMPTY, "not empty")

    monkeypatch.setattr(mounts._budget, "drop_unused", refuse)
    await _run_for(0.1, mounts._sweep())
    assert len(tries) > 1


# -- caches that are dropped


def _unused(settings: Settings, slug: str) -> Path:
    cache = UserPaths.of(settings, slug).cache
    (cache / "vfs").mkdir(parents=True)
    os.utime(cache, (1, 1))
    return cache


def test_what_a_killed_daemon_had_begun_to_drop_is_dropped(settings: Settings) -> None:
    cache = _unused(settings, "alice")
    begun = cache.with_name(".dropped-alice")
    (begun / "vfs").mkdir(parents=True)
    CacheBudget(settings).drop_unused(list)
    assert not begun.exists()
    assert not cache.exists()


def test_a_cache_with_a_held_file_whose_note_is_lost_is_kept(settings: Settings) -> None:
    cache = _unused(settings, "alice")
    (cache / "held/x").mkdir(parents=True)
    (cache / "held/x/data").write_text("what was written")
    (cache / "held/x/note.json").touch()
    os.utime(cache, (1, 1))
    CacheBudget(settings).drop_unused(list)
    assert (cache / "held/x/data").read_text() == "what was written"


# -- what is held


def _changed(cache: Path, name: str = "home/b/report") -> Path:
    """A file of a cache that was changed, and of which only the first half is there."""
    data, text = cache / "vfs" / name, cache / "vfsMeta" / name
    for path in (data, text):
        path.parent.mkdir(parents=True, exist_ok=True)
    with data.open("wb") as file:
        file.write(b"x" * 4096)
        file.truncate(8192)
    text.write_text(json.dumps({"Dirty": True, "Size": 8192, "Rs": [{"Pos": 0, "Size": 4096}]}))
    return Path(name)


def _hold(cache: Path, path: Path) -> held.HeldFile:
    return hold(cache, path, {"Fingerprint": "1,2,3"}, [Range(0, 4096)], move=False)


def test_the_note_of_a_held_file_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    file = _hold(tmp_path, _changed(tmp_path))
    assert (file.directory / "note.json").stat().st_ino in synced
    assert held_files(tmp_path) == [file]


def test_an_unreadable_note_hides_no_other_and_its_data_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = _hold(tmp_path, _changed(tmp_path))
    kept = _hold(tmp_path, _changed(tmp_path, "home/b/other"))
    (lost.directory / "note.json").write_text("")
    assert held_files(tmp_path) == held_files(tmp_path) == [kept]
    assert lost.data.exists()
    assert caplog.text.count("can't be read") == 1


def test_what_another_task_restores_meanwhile_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _hold(tmp_path, _changed(tmp_path))
    gone = file.directory.with_name("gone") / "note.json"
    notes = list(held._notes(tmp_path))
    monkeypatch.setattr(held, "_notes", lambda _: iter([gone, *notes]))
    assert held_files(tmp_path) == [file]


def test_a_file_is_held_once_and_a_full_disk_leaves_the_earlier_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _changed(tmp_path)
    _hold(tmp_path, path)
    latest = _hold(tmp_path, path)
    assert held_files(tmp_path) == [latest]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(held, "write_private", full)
    with pytest.raises(OSError, match="no space"):
        _hold(tmp_path, path)
    assert held_files(tmp_path) == [latest]
    assert list((tmp_path / "held").iterdir()) == [latest.directory]
    assert dirty_files(tmp_path) == 2  # the file itself, and what is held of it


# -- rclone's log


def given_up(name: str) -> str:
    now = datetime.fromtimestamp(time.time() + 5, UTC).isoformat()
    text = "vfs cache: failed to download missing parts of cache file"
    return json.dumps({"time": now, "object": name, "msg": text}) + "\n"


def test_the_rest_of_a_rotated_log_is_read_first(tmp_path: Path) -> None:
    log = tmp_path / "rclone.log"
    (tmp_path / "rclone-2026-11-24T03-38-05.508.log").write_text("long ago\n")
    log.write_text("one\n")
    tail = mending.LogTail(log)
    assert tail.read() == ["one"]
    with log.open("a") as file:
        file.write("two\n")
    log.rename(tmp_path / "rclone-2026-11-25T03-38-05.508.log")
    assert tail.read() == ["two"]
    log.write_text("three\nhal")
    assert tail.has_news
    assert tail.read() == ["three"]
    with log.open("a") as file:
        file.write("f\n")
    assert tail.read() == ["half"]


async def test_a_file_that_was_given_up_on_is_held_as_soon_as_that_can_be(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, log = UserPaths.of(settings, "alice"), tmp_path / "rclone.log"
    log.write_text(given_up(_changed(paths.cache).name))
    monkeypatch.setattr(mending, "_LOOK_SECONDS", 0.005)
    refusals, running = [1, 2], SimpleNamespace(exited=asyncio.Event())

    def full_at_first(cache: Path, name: str, before: float) -> list[held.HeldFile]:
        if refusals:
            raise OSError(errno.ENOSPC, "no space", refusals.pop())
        running.exited.set()
        return hold_unfinished(cache, name, before)

    async def no_parts() -> list[Any]:
        return []

    monkeypatch.setattr(mending, "hold_unfinished", full_at_first)
    tail = mending.LogTail(log)
    async with asyncio.timeout(5.0):
        await mending.mend(cast("Rclone", running), tail, paths, no_parts, "bari", print)
    assert [file.path for file in held_files(paths.cache)] == ["home/b/report"]


def test_a_log_that_is_rotated_just_now_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert Journal(tmp_path / "rclone.log").read() == []


# -- one user's storage


class RcloneDouble:
    """An rclone that runs, and answers nothing."""

    def __init__(self) -> None:
        self.exited = asyncio.Event()
        self.identity = RcloneIdentity(1, 1)

    def release(self) -> None:
        pass


@pytest.fixture
def storage(settings: Settings) -> cloud.CloudMounts:
    relay, credentials = StorageRelay(settings, {}), cast("Any", None)
    record = Record(REQUEST, rclone=RcloneIdentity(1, 1))
    made = cloud.CloudMounts(settings, record, credentials, relay, lambda: None)
    made._paths.private.mkdir(parents=True)
    made._proxy = relay.proxy("alice")
    made._rclone = cast("Rclone", RcloneDouble())
    return made


async def test_what_waits_at_an_adopted_rclone_is_opened_first(
    storage: cloud.CloudMounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def adopt(*_: Any, **__: Any) -> RcloneDouble:
        return RcloneDouble()

    async def take_up() -> None:
        pass

    monkeypatch.setattr(Rclone, "adopt", adopt)
    monkeypatch.setattr(storage, "_use", lambda _: None)
    monkeypatch.setattr(storage._directories, "take_up", take_up)
    await storage.adopt()
    assert storage._unopened == {part.name for part in storage.parts}


async def test_a_slow_directory_holds_up_no_look(
    storage: cloud.CloudMounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def hurry_uploads() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("ended")

    monkeypatch.setattr(storage, "hurry_uploads", hurry_uploads)
    storage._unopened.add("home")
    storage._hurried = -1000.0
    storage._log_size = 0
    async with asyncio.timeout(1.0):
        await storage.look()
        first = storage._hurrying
        await asyncio.sleep(0)
        await storage.look()
    assert first is not None
    assert storage._hurrying is first, "one at a time"
    storage.leave()
    with suppress(asyncio.CancelledError):
        await first
    assert ended == ["ended"]


async def test_a_hurry_that_fails_is_told_of_and_tried_again(
    storage: cloud.CloudMounts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def hurry_uploads() -> None:
        raise OSError(errno.EIO, "the mount table")

    monkeypatch.setattr(storage, "hurry_uploads", hurry_uploads)
    storage._unopened.add("home")
    storage._hurried = -1000.0
    storage._log_size = 0
    for _ in range(2):
        await storage.look()
        assert storage._hurrying is not None
        await storage._hurrying
    assert caplog.text.count("the mount table") >= 2
