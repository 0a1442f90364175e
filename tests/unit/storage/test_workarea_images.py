"""What is read of a workarea's image, with real file systems."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from taccuino.storage.mount_plane.superblock import Superblock

SIZE = 16 * 1024**2


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "area.img"
    with path.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", path], check=True)
    return path


def debugfs(image: Path, command: str) -> None:
    subprocess.run(["/sbin/debugfs", "-w", "-R", command, image], check=True, stderr=-3)


def test_a_new_one_is_clean_and_has_its_size(image: Path) -> None:
    block = Superblock.read(image)
    assert (block.size, block.is_clean) == (SIZE, True)


@pytest.mark.parametrize(
    "change",
    [
        "set_super_value state 0",  # mounted, or cut off
        "set_super_value state 3",  # the kernel met an error
        "set_super_value error_count 1",
        "set_super_value last_orphan 12",
        "set_super_value feature_incompat 0x2c6",  # its journal is to be replayed
        "set_super_value max_mnt_count 1",  # a check is due after one mount
        "set_super_value checkinterval 1",
    ],
)
def test_what_e2fsck_would_look_at_is_not_clean(image: Path, change: str) -> None:
    if "max_mnt_count" in change:
        debugfs(image, "set_super_value mnt_count 1")
    debugfs(image, change)
    assert not Superblock.read(image).is_clean


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"\xff" * 4096])
def test_what_is_no_file_system_is_not_clean(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "area.img"
    path.write_bytes(content)
    assert not Superblock.read(path).is_clean
