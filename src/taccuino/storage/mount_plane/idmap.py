"""Idmapped mounts: the same files, seen with another owner (mount_setattr(2)).

What belongs to one host uid on the disk belongs to another through such a mount, in both
directions: nothing is copied and nothing changes its owner. The kernel knows them since 5.12,
for ext4, xfs and btrfs among others.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["bind_as", "is_supported"]

# The calls have no wrapper in glibc 2.36; the numbers are the same on all architectures.
_OPEN_TREE = 428
_MOVE_MOUNT = 429
_MOUNT_SETATTR = 442

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x100000
_MS_PRIVATE = 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    """``struct mount_attr``."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def is_supported() -> bool:
    """Whether the kernel knows idmapped mounts; whether a file system does shows with it."""
    _libc.syscall(_MOUNT_SETATTR, -1, b"", 0, None, 0)
    return ctypes.get_errno() != errno.ENOSYS


def bind_as(source: Path, target: Path, owner: int, seen_as: int) -> None:
    """Bind a mount to another path, where uid and gid ``owner`` are ``seen_as``; blocking.

    What is mounted in one of the two does not appear in the other.

    Raises
    ------
    OSError
        If the kernel or the file system can't; nothing is mounted then.
    """
    tree = _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        if owner == seen_as:
            _set_attributes(tree, _MountAttributes(0, 0, _MS_PRIVATE, 0))
        else:
            with _user_namespace(owner, seen_as) as namespace:
                mapped = _MountAttributes(_MOUNT_ATTR_IDMAP, 0, _MS_PRIVATE, namespace)
                _set_attributes(tree, mapped)
        to = os.fsencode(target)
        _call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, to, _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


def _set_attributes(tree: int, attributes: _MountAttributes) -> None:
    size, address = ctypes.sizeof(attributes), ctypes.byref(attributes)
    _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, address, size)


@contextmanager
def _user_namespace(inside: int, outside: int) -> Iterator[int]:
    """A descriptor of a user namespace that maps one uid and one gid; blocking.

    A namespace needs a process to come into being: a fork of this one, with its threads, is not
    safe.
    """
    process = subprocess.Popen(
        ["unshare", "--user", "sh", "-c", "echo; read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        if process.stdout.readline() != b"\n":
            raise OSError(errno.EPERM, "no user namespace can be made")
        directory = Path("/proc", str(process.pid))
        for name in ("uid_map", "gid_map"):
            (directory / name).write_text(f"{inside} {outside} 1\n", encoding="ascii")
        namespace = os.open(directory / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield namespace
        finally:
            os.close(namespace)
            process.kill()


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
