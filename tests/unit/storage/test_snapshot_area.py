"""Where a workarea's files are read from and laid."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.mounts import eventually
from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequest
from taccuino.storage.mount_plane import workarea
from taccuino.storage.mount_plane.layout import UserPaths
from taccuino.storage.mount_plane.snapshots import area
from taccuino.storage.mount_plane.snapshots.restic import SnapshotError
from taccuino.storage.mount_plane.snapshots.sandbox import Sandbox

FILE = r"f 3 644 1.0 1.0 local/a \0"


@pytest.fixture
def sandboxed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let this run in the sandbox's place."""

    def run(script: str) -> None:
        monkeypatch.setattr(Sandbox, "words", lambda *_: ["sh", "-c", script])

    return run


@pytest.mark.parametrize("script", ["exit 1", "exit 137", f"printf '{FILE}'; exit 2"])
async def test_a_survey_that_did_not_run_is_no_empty_area(
    sandboxed: Callable[[str], None], tmp_path: Path, script: str
) -> None:
    sandboxed(script)
    with pytest.raises(SnapshotError):
        await area.survey(tmp_path, "bari.1")


async def test_a_file_may_vanish_from_a_survey(
    sandboxed: Callable[[str], None], tmp_path: Path
) -> None:
    sandboxed(f"printf '{FILE}'; exit 1")
    seen = await area.survey(tmp_path, "bari.1")
    assert (seen.entries, seen.files, seen.bytes) == (1, 1, 3)
    sandboxed("exit 0")
    assert (await area.survey(tmp_path, "bari.1")).entries == 0


async def test_what_was_mounted_for_one_who_was_given_up_is_given_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread goes on when its waiter is cancelled: the area is still being mounted."""
    paths = UserPaths.of(settings, "alice")
    mounting, mounted, told = threading.Event(), threading.Event(), []

    def borrow(_: UserPaths) -> Path:
        mounting.set()
        assert mounted.wait(5)
        told.append("borrowed")
        return paths.plain_area

    async def give_back(_: UserPaths) -> None:
        told.append("given back")

    monkeypatch.setattr(area, "_borrow", borrow)
    monkeypatch.setattr(area, "_give_back", give_back)

    async def use() -> None:
        async with area.borrowed(paths):
            raise AssertionError("it was given up")

    using = asyncio.create_task(use())
    await asyncio.to_thread(mounting.wait, 5)
    for _ in range(2):
        using.cancel()
        await asyncio.sleep(0)
    assert workarea.lock_of(paths).locked()
    mounted.set()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert told == ["borrowed", "given back"]
    assert not workarea.lock_of(paths).locked()


async def test_what_is_done_as_the_user_ends_with_its_waiter(
    sandboxed: Callable[[str], None], tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    sandboxed(f"echo $$ > {pid}; exec sleep 60")
    working = asyncio.create_task(area._as_user(tmp_path, os.getuid()))
    await eventually(lambda: pid.exists() and pid.read_text())
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.parse({"state_dir": str(tmp_path / "state"), "site": "bari"})


@pytest.fixture
def plain(settings: Settings) -> UserPaths:
    """A user with a plain area."""
    paths = UserPaths.of(settings, "alice")
    paths.plain_area.mkdir(parents=True)
    (paths.plain_area / "file").write_text("old")
    return paths


def request_of(quota: str | None) -> MountRequest:
    uid = 3_001_000
    return MountRequest("alice", "alice", uid, uid, "alice-bucket", "scratch", quota)


@pytest.mark.skipif(os.geteuid() != 0, reason="it gives files to another user")
@pytest.mark.parametrize("quota", [None, "64M"])
async def test_a_plain_area_stays_plain(plain: UserPaths, quota: str | None) -> None:
    async with area.unfilled(plain, request_of(quota)) as new:
        (new / "file").write_text("new")
        area.swap(plain, new)
    assert [path.name for path in plain.image.parent.iterdir()] == ["alice"]
    assert (plain.plain_area / "file").read_text() == "new"


@pytest.mark.skipif(os.geteuid() != 0, reason="it gives files to another user")
async def test_a_plain_area_that_is_not_replaced_stays(
    plain: UserPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.endswith(".restored"):
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(SnapshotError):
        async with area.unfilled(plain, request_of(None)) as new:
            area.swap(plain, new)
    assert [path.name for path in plain.image.parent.iterdir()] == ["alice"]
    assert (plain.plain_area / "file").read_text() == "old"


@pytest.mark.parametrize("swapped", [False, True])
def test_a_swap_that_was_cut_off_is_undone(
    settings: Settings, plain: UserPaths, *, swapped: bool
) -> None:
    plain.plain_area.rename(plain.plain_area.with_name(".alice.before"))
    if swapped:
        plain.plain_area.mkdir()
        (plain.plain_area / "file").write_text("new")
    else:
        plain.plain_area.with_name(".alice.restored").mkdir()
    area.clear_leftovers(settings)
    assert [path.name for path in plain.image.parent.iterdir()] == ["alice"]
    assert (plain.plain_area / "file").read_text() == ("new" if swapped else "old")
