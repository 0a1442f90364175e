"""What a restarted rclone finds waiting is opened first, and uploaded whether that works or not."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taccuino.storage.mount_plane import reopening
from taccuino.storage.mount_plane.configuration import RcloneError
from taccuino.storage.mount_plane.rclone import Rclone
from taccuino.storage.mount_plane.reopening import reopen


class QueueDouble(Rclone):
    """rclone's queue; opening a file, as those that are ``there``, puts it back to its time."""

    def __init__(self, *names: str, left: str = "") -> None:
        self.items: list[dict[str, Any]] = [
            {"id": number, "name": name, "expiry": 1.0, "uploading": False}
            for number, name in enumerate(names)
        ]
        self.looks = 0
        self.left = left

    def opened(self, *names: str) -> None:
        for item in self.items:
            if item["name"] in names:
                item["expiry"] = 2.0

    async def call(self, method: str, timeout: float = 10.0, **options: Any) -> dict[str, Any]:
        if method == "vfs/queue":
            self.looks += 1
            if self.looks == 2:
                self.opened("there")
            return {"queue": [dict(item) for item in self.items]}
        assert method == "vfs/queue-set-expiry"
        item = self.items[options["id"]]
        if item["name"] == self.left:
            raise RcloneError("id not found in queue")
        item["expiry"] = options["expiry"]
        return {}

    @property
    def expiries(self) -> dict[str, float]:
        return {str(item["name"]): float(item["expiry"]) for item in self.items}


async def test_what_the_directory_does_not_show_is_uploaded_all_the_same(
    tmp_path: Path,
) -> None:
    (tmp_path / "there").write_text("x")
    queue, part = QueueDouble("there", "unseen"), SimpleNamespace(vfs="v:", target=tmp_path)
    assert await reopen(queue, part) == set()  # type: ignore[arg-type]
    assert queue.expiries == {"there": 2.0, "unseen": 0}


async def test_what_cannot_be_opened_yet_stays_put_off(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()  # what is below it can't be opened: ENOTDIR
    queue = QueueDouble("there", "folder/silent")
    (tmp_path / "there").write_text("x")
    part = SimpleNamespace(vfs="v:", target=tmp_path)
    assert await reopen(queue, part) == {"folder/silent"}  # type: ignore[arg-type]
    assert queue.expiries == {"there": 2.0, "folder/silent": 600.0}


async def test_a_file_that_fails_holds_up_no_other_for_longer_than_one_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def touch(directory: Path, name: str) -> None:
        tried.append(name)
        if name == "slow":
            raise OSError(errno.EIO, "i/o timeout")
        raise FileNotFoundError

    monkeypatch.setattr(reopening, "_touch", touch)
    queue = QueueDouble("slow", "next")
    part = SimpleNamespace(vfs="v:", target=tmp_path)
    assert await reopen(queue, part) == {"slow", "next"}  # type: ignore[arg-type]
    assert tried == ["slow"]
    queue.items[1]["expiry"] -= 1  # a second later
    assert await reopen(queue, part) == {"slow"}  # type: ignore[arg-type]
    assert tried == ["slow", "next", "slow"]
    assert queue.expiries == {"slow": 600.0, "next": 0}


async def test_what_leaves_the_queue_meanwhile_keeps_nothing_else_from_its_upload(
    tmp_path: Path,
) -> None:
    queue = QueueDouble("uploaded", "unseen", left="uploaded")
    part = SimpleNamespace(vfs="v:", target=tmp_path)
    assert await reopen(queue, part) == set()  # type: ignore[arg-type]
    await queue.upload_now("v:")
    assert queue.expiries == {"uploaded": 1.0, "unseen": 0}
