"""The kernel's mount table, and the mount calls that act on it.

Unmounting goes to the system call itself: ``umount(8)`` first looks at the path, which
blocks or fails on a FUSE mount whose server is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import re
import select
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = [
    "CommandError",
    "MountEntry",
    "MountTable",
    "MountWatch",
    "bind",
    "free_mount_point",
    "is_directory_within",
    "is_mount_point",
    "make_private_directory",
    "make_shared_directory",
    "make_slave",
    "mount_device",
    "run",
    "unmount",
]

_MNT_DETACH = 2
_MS_NOSUID = 1 << 1
_MS_NODEV = 1 << 2
_MS_BIND = 1 << 12
_MS_REC = 1 << 14
_MS_SLAVE = 1 << 19
_UMOUNT_NOFOLLOW = 8
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_NO_AUTOMOUNT = 0x800
_AT_STATX_DONT_SYNC = 0x4000
_STATX_ATTR_MOUNT_ROOT = 0x2000
_STATX_ATTRIBUTES, _STATX_SIZE = 8, 256
"""Bytes: where ``stx_attributes`` lies in ``struct statx``, and how long that is."""
_ESCAPE = re.compile(r"\\([0-7]{3})")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    *(ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p),
    *(ctypes.c_ulong, ctypes.c_void_p),
)


class CommandError(OSError):
    """A program failed; the text has its last words."""

    def __init__(self, command: Sequence[str], code: int, output: str) -> None:
        self.code = code
        self.output = output.strip()
        last = self.output.splitlines()[-1] if self.output else f"exit code {code}"
        super().__init__(f"{command[0]}: {last}")


def run(*command: str | Path, accept: Sequence[int] = (0,), timeout: float = 120.0) -> str:
    """Run a program and return its output; blocking.

    Raises
    ------
    CommandError
        If it exits with a code that is not accepted.
    """
    words = [str(word) for word in command]
    try:
        result = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise CommandError(words, -1, f"gave no answer within {timeout:g} s") from None
    if result.returncode not in accept:
        raise CommandError(words, result.returncode, result.stdout)
    return result.stdout


@dataclass(frozen=True)
class MountEntry:
    """A line of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5))."""

    path: Path
    kind: str
    source: str
    read_only: bool
    shared: bool

    @classmethod
    def parse(cls, line: str) -> Self:
        """The entry in one line."""
        before, after = line.split(" - ", 1)
        fields = before.split(" ")
        kind, source, *_ = after.split(" ")
        return cls(
            path=Path(_unescape(fields[4])),
            kind=kind,
            source=_unescape(source),
            read_only="ro" in fields[5].split(","),
            shared=any(word.startswith("shared:") for word in fields[6:]),
        )


def _unescape(text: str) -> str:
    """Space, tab, newline and backslash are written as three octal digits."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def _escape(path: Path) -> str:
    return re.sub(r"[ \t\n\\]", lambda match: f"\\{ord(match[0]):03o}", str(path))


class MountTable:
    """The mounts of this mount namespace; of several on one path the topmost counts.

    A line is understood when it is asked for: a node with 50 servers has a thousand, and each
    container's start changes the table.
    """

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if line]
        self._lines = [(line.split(" ", 5)[4], line) for line in lines]
        self._by_path = dict(self._lines)

    @classmethod
    def read(cls) -> Self:
        """The table as it is now."""
        return cls(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))

    def at(self, path: Path) -> MountEntry | None:
        """What is mounted at exactly this path."""
        line = self._by_path.get(_escape(path))
        return MountEntry.parse(line) if line else None

    def below(self, path: Path) -> list[MountEntry]:
        """What is mounted below this path, the deepest first."""
        above = "/" if path == Path("/") else f"{_escape(path)}/"
        entries = [
            MountEntry.parse(line)
            for point, line in self._lines
            if point.startswith(above) and point != above
        ]
        return sorted(entries, key=lambda entry: len(entry.path.parts), reverse=True)


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at exactly this path; it is not asked itself (statx(2)).

    Of one path that takes a thousandth of the time that `MountTable` takes.
    """
    flags = _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT | _AT_STATX_DONT_SYNC
    answer = ctypes.create_string_buffer(_STATX_SIZE)
    if _libc.statx(_AT_FDCWD, os.fsencode(path), flags, 0, answer) != 0:
        if (number := ctypes.get_errno()) == errno.ENOENT:
            return False
        raise OSError(number, os.strerror(number), str(path))
    (attributes,) = struct.unpack_from("=Q", answer, _STATX_ATTRIBUTES)
    return bool(attributes & _STATX_ATTR_MOUNT_ROOT)


def unmount(path: Path, *, lazy: bool = False) -> None:
    """Unmount what is at the path, if anything, and all that is stacked there; blocking.

    The kernel is asked to do it rather than what is mounted: its table of a node with fifty
    servers takes milliseconds to read.

    Raises
    ------
    OSError
        If it is in use (``EBUSY``) or can't be unmounted.
    """
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    while _libc.umount2(os.fsencode(path), flags) == 0:
        pass
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOENT):  # no mount point (umount(2)), or nothing
        raise OSError(number, os.strerror(number), str(path))


def bind(source: Path, target: Path, *options: str, tree: bool = False) -> None:
    """Bind a directory to another path, with ``tree`` also what is mounted below; blocking."""
    _mount(source, target, _MS_BIND | (_MS_REC if tree else 0))
    if options:
        run("mount", "-o", ",".join(["remount", "bind", *options]), target)


def make_slave(path: Path) -> None:
    """Let mounts and unmounts reach this path, and all below, and none go out from it."""
    _mount(None, path, _MS_SLAVE | _MS_REC)


def mount_device(device: Path, kind: str, target: Path) -> None:
    """Mount a block device's file system, with ``nosuid`` and ``nodev``; blocking."""
    _mount(device, target, _MS_NOSUID | _MS_NODEV, kind)


def _mount(source: Path | None, target: Path, flags: int, kind: str | None = None) -> None:
    """mount(2) itself: the program takes several milliseconds."""
    origin = None if source is None else os.fsencode(source)
    system = None if kind is None else kind.encode()
    if _libc.mount(origin, os.fsencode(target), system, flags, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def make_shared_directory(path: Path) -> None:
    """Let mounts that appear below the path reach containers that have it bound.

    The directory is bound to itself and shared; without that nothing would appear in a
    running container, and silently so (kernel: sharedsubtree).
    """
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o711)
    entry = MountTable.read().at(path)
    if entry is None:
        bind(path, path)
    if entry is None or not entry.shared:
        run("mount", "--make-rshared", path)


def make_private_directory(path: Path) -> None:
    """A directory that only root enters."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def free_mount_point(target: Path, patience: float = 0) -> None:
    """Make a path an empty directory with nothing mounted; blocking.

    What root may have written there without the mount is moved aside.

    What is still busy after ``patience`` seconds is detached: it is dead, or a container is
    just ending.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            unmount(target, lazy=time.monotonic() >= deadline)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.1)
        else:
            break
    target.mkdir(mode=0o755, exist_ok=True)
    if any(target.iterdir()):
        target.rename(target.with_name(f"{target.name}.conflict-{time.time_ns()}"))
        target.mkdir(mode=0o755)


async def is_directory_within(path: Path, seconds: float) -> bool:
    """Whether a directory answers in time; a thread of its own may hang in the kernel."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bool] = loop.create_future()

    def settle(value: bool) -> None:
        if not answered.done():
            answered.set_result(value)

    def look() -> None:
        try:
            usable = path.is_dir()
        except OSError:
            usable = False
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, usable)

    threading.Thread(target=look, daemon=True).start()
    try:
        return await asyncio.wait_for(answered, seconds)
    except TimeoutError:
        return False


class MountWatch:
    """Calls back when the mount table changed, told by the kernel.

    ``mountinfo`` is always readable and says *priority* on a change, so it is watched
    through an epoll of its own, which asks for nothing but that.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._file = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.epoll()
        self._poll.register(self._file, select.EPOLLPRI)
        asyncio.get_running_loop().add_reader(self._poll.fileno(), self._readable)

    def _readable(self) -> None:
        # The kernel tells a change to the first who polls, which is asyncio's own epoll:
        # this one only takes the mark off and finds nothing.
        self._poll.poll(0)
        self._changed()

    def close(self) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_reader(self._poll.fileno())
        self._poll.close()
        os.close(self._file)
