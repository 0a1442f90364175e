"""Workareas' images on the kernel's loop devices."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from taccuino.storage.mount_plane.kernel import (
    MountTable,
    bind,
    is_mount_point,
    mount_device,
    unmount,
)
from taccuino.storage.mount_plane.loop_devices import attached, device_of

pytestmark = pytest.mark.integration


def make_image(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(16 * 1024**2)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", path], check=True)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    yield make_image(tmp_path / "area.img")
    assert device_of(tmp_path / "area.img") is None


def test_a_device_lives_as_long_as_its_mount(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "area"
    target.mkdir()
    assert device_of(image) is None
    with attached(image) as device:
        mount_device(device, "ext4", target)
    try:
        (target / "file").write_text("kept")
        assert device_of(image) == device
        # losetup's own word for it, and the options of the mount.
        said = subprocess.check_output(["losetup", "--noheadings", "--list", device], text=True)
        assert str(image) in said
        entry = next(
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if f" {target} " in line
        )
        assert "nosuid,nodev" in entry
    finally:
        unmount(target)
    assert MountTable.read().at(target) is None
    assert device_of(image) is None


def test_what_can_not_be_mounted_leaves_no_device(image: Path, tmp_path: Path) -> None:
    image.write_bytes(b"\0" * 1024**2)
    with pytest.raises(OSError), attached(image) as device:
        mount_device(device, "ext4", tmp_path)
    assert device_of(image) is None


def test_many_at_once_get_different_devices(tmp_path: Path) -> None:
    images = [make_image(tmp_path / f"{number}.img") for number in range(8)]
    together = ThreadPoolExecutor(len(images))

    def attach_and_look(image: Path) -> Path:
        with attached(image) as device:
            assert device_of(image) == device
            subprocess.run(["sleep", "0.2"], check=True)
            return device

    with together as pool:
        devices = list(pool.map(attach_and_look, images))
    assert len(set(devices)) == len(images)


def test_mount_points_are_told_from_directories(tmp_path: Path) -> None:
    below = tmp_path / "directory" / "below"
    below.mkdir(parents=True)
    assert not is_mount_point(tmp_path / "nothing")
    assert not is_mount_point(below)
    link = tmp_path / "link"
    link.symlink_to(below)
    bind(below, below)
    bind(below, below)
    try:
        # Also a directory of the same file system; a link to one is none.
        assert is_mount_point(below)
        assert not is_mount_point(link)
        assert not is_mount_point(below.parent)
    finally:
        unmount(below)
    assert not is_mount_point(below)
    unmount(below)  # nothing there is no error
    unmount(tmp_path / "nothing")
    bind(below, below)
    with (below / "open").open("w"), pytest.raises(OSError, match="busy"):
        unmount(below)
    unmount(below)
