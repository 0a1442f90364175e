"""Where a workarea's files are read from and laid: beside the servers' own mounts.

A mount of its own keeps an area there for as long as it is worked on, whether servers come or
go meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequest
from taccuino.storage.mount_plane import workarea
from taccuino.storage.mount_plane.completion import completed
from taccuino.storage.mount_plane.kernel import MountTable, bind, make_private_directory
from taccuino.storage.mount_plane.layout import UserPaths, users_directory
from taccuino.storage.mount_plane.superblock import Superblock

from .restic import SnapshotError, error_of, kill
from .sandbox import AREA, RUN, Sandbox

__all__ = [
    "Survey",
    "borrowed",
    "clear_leftovers",
    "exists",
    "finish_folder",
    "folder",
    "keep_examples",
    "room",
    "survey",
    "swap",
    "unfilled",
]

log = logging.getLogger(__name__)

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNFINISHED = ".restoring-"
_MOUNTS = ".snapshots"
_CLEAR = (  # what is in a directory without the right to write can't be removed
    f"find {AREA}/{_UNFINISHED}* -type d ! -perm -700 -exec chmod u+rwx {{}} ';'; "
    f"rm -rf -- {AREA}/{_UNFINISHED}*"
)
_CHUNK = 1 << 16
_SMALLEST = 8 * 1024**2


@dataclass(frozen=True)
class Survey:
    """All files at a glance.

    ``mark`` changes with any of them (find(1): type, mode, size, times, target). ``entries``
    are those besides the directories that every area has.
    """

    mark: str
    entries: int
    files: int
    bytes: int


def clear_leftovers(settings: Settings) -> None:
    """Remove what a daemon that was killed had mounted and laid for itself; blocking."""
    mounts, areas = settings.mount_plane.directory, settings.workarea.directory
    assert mounts is not None
    assert areas is not None
    for entry in MountTable.read().below(mounts / _MOUNTS):
        workarea.unmount_patiently(entry.path)
    for image in areas.glob("*.img.restored"):
        image.unlink()
    for directory in areas.glob(".*.restored"):
        shutil.rmtree(directory, ignore_errors=True)
    for directory in areas.glob(".*.before"):
        slug = directory.name.removeprefix(".").removesuffix(".before")
        _drop(directory, areas / slug)
    for record in areas.glob("*.lineage.json.*.new"):
        record.unlink()
    for directory in users_directory(settings).glob("*/restic-run-*"):
        shutil.rmtree(directory, ignore_errors=True)


def exists(paths: UserPaths) -> bool:
    """Whether the node has an area of the user's."""
    return paths.image.exists() or paths.plain_area.exists()


@contextlib.asynccontextmanager
async def borrowed(paths: UserPaths) -> AsyncIterator[Path]:
    """The user's area, mounted for us; not for two at a time.

    Raises
    ------
    SnapshotError
        If there is none, or it can't be mounted.
    """
    try:
        try:
            async with workarea.lock_of(paths):
                area = await completed(asyncio.to_thread(_borrow, paths))
        except OSError as error:
            log.error("%s: %s", paths.image, error)  # noqa: TRY400
            raise SnapshotError("failed", "The workarea can't be mounted.") from error
        yield area
    finally:
        await completed(_give_back(paths))


def _ours(paths: UserPaths, name: str) -> Path:
    """A mount point of ours, below the directory that is shared with other mount namespaces.

    A container's copy of a mount elsewhere would stay, and hold the image, when ours goes.
    """
    return paths.places.with_name(_MOUNTS) / paths.root.name / name


def _make_point(point: Path) -> None:
    make_private_directory(point.parents[1])
    point.mkdir(parents=True, exist_ok=True)


def _borrow(paths: UserPaths) -> Path:
    if not paths.image.exists():
        if not paths.plain_area.exists():
            raise SnapshotError("missing", "There is no workarea of yours on this machine.")
        return paths.plain_area
    area = _ours(paths, "area")
    _make_point(area)
    table = MountTable.read()
    if table.at(area):  # left by a daemon that was killed
        workarea.unmount_patiently(area)
    if table.at(paths.workarea):
        bind(paths.workarea, area)
    else:
        workarea.mount_image(paths.image, area)
    return area


async def _give_back(paths: UserPaths) -> None:
    async with workarea.lock_of(paths):
        area = _ours(paths, "area")
        await asyncio.to_thread(workarea.unmount_patiently, area)
        _remove(area)


async def survey(area: Path, node: str) -> Survey:
    """Look at all files; their content is not read.

    Raises
    ------
    SnapshotError
        If that is not possible.
    """
    spared = [*("(", "-path", "./cloud_storage", "-o", "-path", "./examples", "-o")]
    spared += ["-path", "./lost+found", "-o"]
    spared += ["-path", f"./{_UNFINISHED}*", ")", "-prune", "-o"]
    words = ["find", ".", "-xdev", "-mindepth", "1", *spared]
    words += ["-printf", r"%y %s %m %T@ %C@ %P %l\0"]
    process = await asyncio.create_subprocess_exec(
        *Sandbox(node, area=area, idle=True).words(words, {"LC_ALL": "C"}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    mark, entries, files, size, rest = hashlib.sha256(), 0, 0, 0, b""
    try:
        while data := await process.stdout.read(_CHUNK):
            mark.update(data)
            *records, rest = (rest + data).split(b"\0")
            for record in records:
                kind, length, _ = record.split(b" ", 2)
                if kind == b"f":
                    files, size = files + 1, size + int(length)
                entries += not (kind == b"d" and record.split(b" ")[5] == b"local")
        code = await process.wait()
    finally:
        kill(process)
        await process.wait()
    # find's 1: a file vanished meanwhile. A sandbox that can't start ends with it too.
    if code not in (0, 1) or (code and not entries):
        raise error_of("failed")
    return Survey(mark.hexdigest(), entries, files, size)


def room(area: Path) -> int:
    """The bytes that its user can still write; blocking."""
    told = os.statvfs(area)
    return told.f_bavail * told.f_frsize


@contextlib.asynccontextmanager
async def folder(area: Path, name: str, uid: int) -> AsyncIterator[str]:
    """The directory that a snapshot is restored into first; its name.

    On an error it is removed, with all that is in it; so is what an earlier restore left.
    """
    unfinished = f"{_UNFINISHED}{name}"
    await _as_user(area, uid, "sh", "-c", f"{_CLEAR}; mkdir -m 0700 -- {AREA}/{unfinished}")
    try:
        yield unfinished
    except BaseException:
        with contextlib.suppress(SnapshotError):
            await completed(_as_user(area, uid, "sh", "-c", _CLEAR))
        raise


def finish_folder(area: Path, unfinished: str, name: str) -> str:
    """Give the directory its name, or one with a number; blocking."""
    root = os.open(area, _DIRECTORY)
    try:
        for number in range(1, 1000):
            final = name if number == 1 else f"{name}-{number}"
            try:
                os.stat(final, dir_fd=root, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(unfinished, final, src_dir_fd=root, dst_dir_fd=root)
                return final
        raise FileExistsError(name)
    finally:
        os.close(root)


@contextlib.asynccontextmanager
async def unfilled(paths: UserPaths, request: MountRequest) -> AsyncIterator[Path]:
    """An empty area, which is to take the place of the user's (`swap`) when it is filled.

    Until then, and where the daemon is killed, the one that was there stays.

    Raises
    ------
    SnapshotError
        If there is no room for it.
    """
    # An area stays what it was made as: see `workarea.ensure`.
    image = paths.image.exists() or (
        request.quota_bytes is not None and not paths.plain_area.exists()
    )
    new = _ours(paths, "restored") if image else _plain(paths, "restored")
    try:
        await completed(asyncio.to_thread(_lay_new, paths, request, new))
        yield new
    except OSError as error:
        log.error("%s: %s", new, error)  # noqa: TRY400
        raise SnapshotError("failed", f"No room could be made for it ({error}).") from error
    finally:
        await completed(asyncio.to_thread(_clear_new, paths, new))


async def keep_examples(paths: UserPaths, new: Path, uid: int) -> None:
    """Lay into a new area what the user made of the examples: no snapshot has it."""
    if exists(paths):
        async with borrowed(paths) as old:
            words = f"[ ! -e {RUN}/examples ] || cp -a {RUN}/examples {AREA}/"
            await _as_user(new, uid, "sh", "-c", words, other=old)


def _plain(paths: UserPaths, name: str) -> Path:
    """A directory beside a plain area, on the same disk."""
    return paths.plain_area.with_name(f".{paths.plain_area.name}.{name}")


def _new_image(paths: UserPaths) -> Path:
    return paths.image.with_suffix(".img.restored")


def _lay_new(paths: UserPaths, request: MountRequest, new: Path) -> None:
    _clear_new(paths, new)
    if new == _plain(paths, "restored"):
        new.mkdir(parents=True)
        os.chown(new, request.owner, request.owner)
        new.chmod(0o700)
        return
    _make_point(new)
    image = _new_image(paths)
    known = Superblock.read(paths.image).size if paths.image.exists() else 0
    size = max(request.quota_bytes or 0, known, _SMALLEST)
    workarea.make_image(image, request.owner, request.owner, size)
    workarea.mount_image(image, new)


def swap(paths: UserPaths, new: Path) -> None:
    """Put a new area in the place of the user's; blocking, under `workarea.lock_of`.

    Raises
    ------
    OSError, SnapshotError
        If a server has that, or it can't be done; it stays, then.
    """
    table = MountTable.read()
    if table.at(paths.workarea):
        raise SnapshotError("failed", "A server has your workarea.")
    if table.at(new):
        workarea.unmount_patiently(new)
        _new_image(paths).replace(paths.image)
        return
    before = _plain(paths, "before")
    _drop(before, paths.plain_area)
    try:
        if paths.plain_area.exists():
            paths.plain_area.rename(before)
        new.rename(paths.plain_area)
    except OSError:
        _drop(before, paths.plain_area)
        raise


def _drop(before: Path, plain_area: Path) -> None:
    """Remove a plain area that another has replaced; where none has, put it back."""
    if before.exists() and not plain_area.exists():
        before.rename(plain_area)
    shutil.rmtree(before, ignore_errors=True)


def _clear_new(paths: UserPaths, new: Path) -> None:
    if MountTable.read().at(new):
        workarea.unmount_patiently(new)
    shutil.rmtree(new, ignore_errors=True)
    _remove(new)
    _new_image(paths).unlink(missing_ok=True)
    _drop(_plain(paths, "before"), paths.plain_area)


def _remove(point: Path) -> None:
    for directory in (point, point.parent):
        with contextlib.suppress(OSError):  # not there, or another is in it
            directory.rmdir()


async def _as_user(area: Path, uid: int, *words: str, other: Path | None = None) -> None:
    process = await asyncio.create_subprocess_exec(
        *Sandbox("local", area=area, uid=uid, run=other).words(words, {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = await process.communicate()
    finally:
        kill(process)
        await process.wait()
    if process.returncode:
        text = said.decode(errors="replace").strip()
        log.warning("%s: %s", words, text)
        raise error_of("full" if "No space" in text else "failed")
