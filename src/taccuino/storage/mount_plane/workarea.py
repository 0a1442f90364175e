"""The workarea: one ext4 image a user, which enforces its quota with ENOSPC.

Its content belongs to the user, also while root works in it: nothing here follows a link
that the user could have made. Directories are opened with ``O_NOFOLLOW`` and everything
below is reached through their descriptors (openat(2)).

All functions block; call them in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import stat
import time
from pathlib import Path
from weakref import WeakValueDictionary

from taccuino.errors import TaccuinoError

from .kernel import (
    CommandError,
    MountTable,
    bind,
    is_mount_point,
    mount_device,
    run,
    unmount,
)
from .layout import UserPaths
from .loop_devices import attached, device_of
from .superblock import Superblock

__all__ = [
    "WorkareaError",
    "detach",
    "ensure",
    "lock_of",
    "make_image",
    "mount_image",
    "unmount_patiently",
]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SMALLEST = 8 * 1024**2
_FSCK_MENDED = (0, 1, 2)
_OPTIONS = "nosuid,nodev"

log = logging.getLogger(__name__)

_locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()


def lock_of(paths: UserPaths) -> asyncio.Lock:
    """Held by whoever mounts the user's area or puts another in its place.

    Of two who look for its loop device at once, both would make one, and two over one image
    destroy it.
    """
    return _locks.setdefault(paths.image, asyncio.Lock())


class WorkareaError(TaccuinoError):
    """A workarea can't be had; the message is a sentence for the user."""


def ensure(paths: UserPaths, uid: int, gid: int, quota: int | None) -> None:
    """Make, mend, grow and mount the user's workarea as needed.

    An area stays what it was made as: with a quota that was set or dropped later, an image
    stays an image and a directory a directory, since neither is turned into the other
    without a copy of the user's files.

    Raises
    ------
    WorkareaError
        If it can't be mounted; what lies in it is left as it is.
    """
    try:
        paths.workarea.mkdir(parents=True, exist_ok=True)
        if paths.image.exists() or (quota is not None and not paths.plain_area.exists()):
            _ensure_image(paths, uid, gid, quota)
        else:
            _ensure_plain(paths)
        _prepare_content(paths.workarea, uid, gid)
    except OSError as error:
        output = f": {error.output}" if isinstance(error, CommandError) else ""
        log.error("workarea %s: %s%s", paths.workarea, error, output)  # noqa: TRY400
        raise WorkareaError(f"The workarea can't be mounted ({error}).") from error


def detach(paths: UserPaths) -> None:
    """Unmount the workarea."""
    unmount_patiently(paths.workarea)


def unmount_patiently(path: Path, *, patience: float = 5.0) -> None:
    """Unmount; what stays busy is let go as soon as it is free.

    ``patience`` is how many seconds a container that is just ending gets to release it.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            unmount(path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if time.monotonic() >= deadline:
                log.warning("%s is still in use; detached", path)
                unmount(path, lazy=True)
                return
            time.sleep(0.1)
        else:
            return


def _ensure_plain(paths: UserPaths) -> None:
    paths.plain_area.mkdir(parents=True, exist_ok=True)
    paths.plain_area.parent.chmod(0o711)
    if not is_mount_point(paths.workarea):
        bind(paths.plain_area, paths.workarea, *_OPTIONS.split(","))


def _ensure_image(paths: UserPaths, uid: int, gid: int, quota: int | None) -> None:
    image, wanted = paths.image, max(quota or 0, _SMALLEST)
    if not image.exists():
        make_image(image, uid, gid, wanted)
    smaller = Superblock.read(image).size < wanted - _SMALLEST
    if is_mount_point(paths.workarea):
        if smaller and (mounted := MountTable.read().at(paths.workarea)):
            _grow_mounted(image, mounted.source, wanted)
        return
    mount_image(image, paths.workarea, wanted if smaller else 0)


def mount_image(image: Path, target: Path, grow_to: int = 0) -> None:
    """Mount an image, mended and grown if it is not in use; blocking, under `lock_of`.

    Raises
    ------
    OSError, WorkareaError
        If it can't be mounted.
    """
    if _mount_attached(image, target):
        return
    if grow_to:
        _grow_unmounted(image, grow_to)
    elif Superblock.read(image).is_clean:
        try:
            _mount_unattached(image, target)
        except OSError as error:
            log.warning("workarea %s: %s; it is checked", target, error)
        else:
            return
    _check_file_system(image)
    _mount_unattached(image, target)


def _mount_attached(image: Path, target: Path, *, patience: float = 5.0) -> bool:
    """Mount an image that is still attached; False if it is not.

    It is mounted elsewhere (a container that is just ending) or left by a crash; a second
    device over the same image would destroy it. Or the kernel is about to let go of it, which
    it does a moment after the last unmount: then the device fails, or is another image's.
    """
    deadline = time.monotonic() + patience
    while device := device_of(image):
        try:
            mount_device(device, "ext4", target)
        except OSError:
            if time.monotonic() >= deadline:
                raise
        else:
            if device_of(image) == device:
                return True
            unmount(target)
        time.sleep(0.05)
    return False


def _mount_unattached(image: Path, target: Path) -> None:
    with attached(image) as device:
        mount_device(device, "ext4", target)


def _grow_mounted(image: Path, device: str, size: int) -> None:
    """Grow the area under running servers.

    The kernel wants CAP_SYS_RESOURCE for it; without, the area grows at the next mount.
    """
    os.truncate(image, max(size, image.stat().st_size))
    run("losetup", "--set-capacity", device)
    try:
        run("resize2fs", device)
    except CommandError as error:
        log.warning("%s grows to %d bytes when it is next mounted: %s", image, size, error)
    else:
        log.info("%s grew to %d bytes", image, size)


def _grow_unmounted(image: Path, size: int) -> None:
    os.truncate(image, max(size, image.stat().st_size))
    _check_file_system(image, "-f")  # resize2fs insists on it
    run("resize2fs", image, timeout=600)
    log.info("%s grew to %d bytes", image, size)


def make_image(image: Path, uid: int, gid: int, size: int) -> None:
    """Make a sparse image with an empty file system that belongs to the user; blocking."""
    image.parent.mkdir(parents=True, exist_ok=True)
    image.parent.chmod(0o711)
    unfinished = image.with_suffix(".img.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.ftruncate(descriptor, size)
    os.close(descriptor)
    extended = f"root_owner={uid}:{gid},lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", extended, unfinished)
    unfinished.replace(image)


def _check_file_system(image: Path, *options: str) -> None:
    """Replay the journal and mend what can be mended without a question."""
    try:
        run("e2fsck", "-p", *options, image, accept=_FSCK_MENDED, timeout=600)
    except CommandError as error:
        log.error("e2fsck %s: %s", image, error.output)  # noqa: TRY400
        raise WorkareaError(
            "The workarea's file system is damaged; an administrator must mend it with "
            f"'e2fsck -f {image}'."
        ) from error


def _prepare_content(area: Path, uid: int, gid: int) -> None:
    root = os.open(area, _DIRECTORY)
    try:
        owner = os.fstat(root)
        if (owner.st_uid, owner.st_gid) != (uid, gid):
            _give(area, root, uid, gid)
        os.fchmod(root, 0o700)
        # mkfs makes lost+found, which the user can neither use nor remove. e2fsck makes
        # it anew if it ever needs it; one that holds something stays.
        with contextlib.suppress(OSError):
            os.rmdir("lost+found", dir_fd=root)
        _free_mount_point(root, "cloud_storage")
        for name in ("cloud_storage", "local", "examples"):
            _make_directory(root, name, uid, gid)
    finally:
        os.close(root)


def _give(area: Path, root: int, uid: int, gid: int) -> None:
    """Hand the area to the user's ids, which are others after a change of the engine."""
    if any(name != "lost+found" for name in os.listdir(root)):
        run("chown", "--no-dereference", "--recursive", "-P", f"{uid}:{gid}", area)
    else:
        os.fchown(root, uid, gid)


def _free_mount_point(root: int, name: str) -> None:
    """Move aside what stands where the object storage is mounted, so that nothing is lost.

    An empty directory stays; a file, a link, or a directory with files in it (they would be
    hidden by the mount) gets a name with the time.
    """
    try:
        found = os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        directory = os.open(name, _DIRECTORY, dir_fd=root)
        try:
            if not os.listdir(directory):  # noqa: PTH208 - a descriptor has no path
                return
        finally:
            os.close(directory)
    aside = f"{name}.conflict-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6:06d}"
    os.rename(name, aside, src_dir_fd=root, dst_dir_fd=root)
    log.warning("moved %s in a workarea aside, to %s", name, aside)


def _make_directory(root: int, name: str, uid: int, gid: int) -> None:
    """Make a directory of the user's; whatever has the name already is the user's choice."""
    try:
        os.mkdir(name, 0o700, dir_fd=root)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and name != "cloud_storage":
            log.warning("workarea is full: no directory %s made", name)
            return
        raise
    directory = os.open(name, _DIRECTORY, dir_fd=root)
    try:
        os.fchown(directory, uid, gid)
        os.fchmod(directory, 0o755)
    finally:
        os.close(directory)
