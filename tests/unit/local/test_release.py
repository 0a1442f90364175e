"""Letting go of servers: while podman is still busy with their ends, and of their mounts."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import taccuino.storage
from taccuino.errors import ServiceError
from taccuino.local import release
from taccuino.settings import Settings
from taccuino.storage.mount_client import MountPlaneError, MountStatus
from taccuino.storage.snapshots import Job, SnapshotState


class StandInPodman:
    """Refuses each removal so often."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.done: list[str] = []

    def __call__(self, _settings: Settings, *arguments: str) -> str:
        if arguments[0] == "ps":
            return "a b"
        if arguments[:2] == ("network", "ls"):
            return "n"
        if self.refusals:
            self.refusals -= 1
            raise ServiceError("podman rm failed: device or resource busy")
        self.done.append(" ".join(arguments[:2]))
        return ""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "engine/storage/libpod").mkdir(parents=True)
    return Settings.parse({"state_dir": str(tmp_path)})


def test_a_removal_is_tried_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    podman = StandInPodman(refusals=3)
    monkeypatch.setattr(release, "_podman", podman)
    monkeypatch.setattr(release, "_PAUSE_SECONDS", 0.0)
    told: list[str] = []
    release.release_servers(settings, told.append)
    assert podman.done == ["stop --ignore", "rm --force", "network rm"]
    assert told == ["servers      2 stopped and removed"]


def test_one_that_is_refused_for_too_long_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "_podman", StandInPodman(refusals=10**9))
    monkeypatch.setattr(release, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(release, "_REMOVAL_SECONDS", 0.05)
    with pytest.raises(ServiceError, match="busy"):
        release.release_servers(settings, print)


class StandInPlane:
    """The mount plane's client; what it does with a user's snapshot is by the user's name."""

    def __init__(self, settings: Settings, users: tuple[str, ...]) -> None:
        self.users = users
        self.done: list[str] = []
        self.settings = settings

    async def list(self) -> list[MountStatus]:
        return [MountStatus(slug, "mounted", Path(), Path()) for slug in self.users]

    async def drain(self, slug: str, *_: Any) -> MountStatus:
        self.done.append(f"drain {slug}")
        return MountStatus(slug, "mounted", Path(), Path())

    async def unmount(self, slug: str, *, drain: bool) -> None:
        self.done.append(f"unmount {slug}")

    async def renew_credentials(self, slug: str) -> None:
        self.done.append(f"renew {slug}")
        if slug == "refused":
            raise MountPlaneError("the hub gives none")
        if slug == "slow":
            await asyncio.sleep(60)

    async def call(self, method: str, path: str, **_: Any) -> dict[str, Any]:
        slug = path.split("/")[2]
        assert (method, path) == ("PUT", f"/snapshots/{slug}/stop")
        if slug == "slow":
            await asyncio.sleep(60)
        if slug == "refused":
            raise MountPlaneError("the mount plane answered 500: it met an error")
        self.done.append(f"snapshot {slug}")
        job = {
            "away": Job("make", "failed", "The object storage can't be reached."),
            "late": Job("make", "running", "A snapshot is being made."),
        }.get(slug, Job("make", "done", "A snapshot was made."))
        return asdict(SnapshotState(job=job))


def stand_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *users: str, **snapshots: Any
) -> StandInPlane:
    settings = Settings.parse({"state_dir": tmp_path, "snapshots": snapshots})
    plane = StandInPlane(settings, users)
    monkeypatch.setattr(taccuino.storage, "MountPlaneClient", lambda _: plane)
    monkeypatch.setattr(release, "socket_answers", lambda _: True)
    monkeypatch.setattr(release.os, "cpu_count", lambda: 2)
    return plane


def test_a_snapshot_is_made_before_the_mounts_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = stand_in(monkeypatch, tmp_path, "alice", "bruno")
    told: list[str] = []
    release.release_servers(plane.settings, told.append)
    for slug in ("alice", "bruno"):
        assert plane.done.index(f"snapshot {slug}") < plane.done.index(f"unmount {slug}")
    assert told == [
        "snapshots    2 users' are up to date",
        "mount-plane  2 users' mounts let go",
    ]


def test_what_becomes_of_snapshots_keeps_nothing_from_being_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = ("away", "refused", "late", "slow", "alice")
    plane = stand_in(monkeypatch, tmp_path, *users, stop_seconds=0.2)
    told: list[str] = []
    release.release_servers(plane.settings, told.append)
    again = " (the next up makes it)"
    assert told == [
        f"snapshots    away: The object storage can't be reached.{again}",
        f"snapshots    refused: the mount plane answered 500: it met an error{again}",
        f"snapshots    late: it was not made within 0.2 s{again}",
        f"snapshots    slow: it was not made within 0.2 s{again}",
        "snapshots    1 users' are up to date",
        "mount-plane  5 users' mounts let go",
    ]
    assert {f"unmount {slug}" for slug in users} <= set(plane.done)


def test_none_is_made_where_there_are_no_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = stand_in(monkeypatch, tmp_path, "alice", enabled=False)
    release.release_servers(plane.settings, lambda _: None)
    assert plane.done == ["drain alice", "unmount alice"]


def test_credentials_are_renewed_for_as_many_as_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = stand_in(monkeypatch, tmp_path, "refused", "slow", "alice")
    monkeypatch.setattr(release, "_RENEWAL_SECONDS", 0.2)
    release.renew_credentials(plane.settings)
    assert plane.done == ["renew refused", "renew slow", "renew alice"]
