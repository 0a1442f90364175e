"""A state directory that is a disk of its own: a real ext4, on a loop device."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from taccuino.local import purge
from taccuino.local.resolve import keep, resolve
from taccuino.settings import Settings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    image, place = tmp_path / "image", tmp_path / "state"
    place.mkdir()
    subprocess.run(["truncate", "--size", "64M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_new_disk_is_taken_and_emptied_in_the_end(disk: Path) -> None:
    assert (disk / "lost+found").is_dir()
    settings = keep(resolve(Settings.parse({"state_dir": str(disk)})))
    settings.save(disk / "settings.json")
    (disk / "mounts").mkdir(exist_ok=True)
    (disk / "hub").mkdir(exist_ok=True)
    (disk / "hub/jupyterhub.sqlite").write_text("users")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk / "mounts"], check=True)
    purge(settings, print)
    assert disk.is_mount()
    assert list(disk.iterdir()) == []


def test_a_purge_that_was_interrupted_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    settings = keep(resolve(Settings.parse({"state_dir": str(state)})))

    def killed(path: Path) -> None:
        shutil.move(path, tmp_path / "half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("taccuino.local.lifecycle.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            purge(settings, print)
    assert (state / "settings.json").exists()
    purge(settings, print)
    assert not state.exists()
