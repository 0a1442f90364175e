"""What is mounted below a directory, and how it is taken away, dead FUSE servers included."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from taccuino.errors import ServiceError

__all__ = ["mount_points", "release_loop_devices", "unmount_below"]

_ESCAPE = re.compile(r"\\([0-7]{3})")


def mount_points(mountinfo: Iterable[str], directory: Path) -> list[Path]:
    """The mount points at or below a directory, in the order in which they can be unmounted.

    Parameters
    ----------
    mountinfo
        Lines of ``/proc/self/mountinfo`` (proc(5)); a later line covers an earlier one.
    directory
        An absolute path.
    """
    found = []
    for line in mountinfo:
        fields = line.split(" ")
        if len(fields) > 4:
            point = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4]))
            if point.is_relative_to(directory):
                found.append(point)
    return found[::-1]


def unmount_below(directory: Path, *, itself: bool = True) -> None:
    """Unmount everything below a directory, and what is mounted at it unless told otherwise.

    What is busy, or whose FUSE server is dead, is detached (``umount -l``).

    Raises
    ------
    ServiceError
        If something is still mounted: removing the directory would then remove users' data.
    """
    for point in _now(directory, itself=itself):
        done = subprocess.run(["umount", str(point)], capture_output=True, check=False)
        if done.returncode:
            subprocess.run(["umount", "-l", str(point)], capture_output=True, check=False)
    if left := _now(directory, itself=itself):
        raise ServiceError(f"{left[0]} can't be unmounted; see who uses it with fuser -m")


def _now(directory: Path, *, itself: bool) -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [point for point in mount_points(lines, directory) if itself or point != directory]


def release_loop_devices(directory: Path) -> None:
    """Detach the loop devices whose files lie below a directory."""
    command = ["losetup", "--json", "--list", "--output", "NAME,BACK-FILE"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout.strip():
        return
    for device in json.loads(listed.stdout)["loopdevices"]:
        file = Path(str(device["back-file"]).removesuffix(" (deleted)"))
        if file.is_relative_to(directory):
            subprocess.run(["losetup", "--detach", device["name"]], check=False)
