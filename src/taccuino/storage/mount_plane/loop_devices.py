"""Loop devices, asked of the kernel itself (loop(4)): ``losetup`` and ``mount`` take longer.

Of fifty servers that start at once, each of these programs would cost the node a second.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["attached", "device_of"]

_GET_STATUS64 = 0x4C05
_CONFIGURE = 0x4C0A
"""Since Linux 5.8: an image and its flags at once. Flags that are set afterwards have the
kernel wait for a grace period, some 13 ms."""
_CTL_GET_FREE = 0x4C82
_AUTOCLEAR = 4
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
"""``struct loop_info64``: device, inode, ..., flags, ..., the file's name."""
_CONFIGURATION = struct.Struct(f"=2I{_INFO.size}s8Q")
"""``struct loop_config``: the image's descriptor, the block size (0: as it is), the info."""
_NAME_LENGTH = 63
_TRIES = 20


def device_of(image: Path) -> Path | None:
    """The loop device that has the image open, if one has."""
    wanted = image.stat()
    for block in Path("/sys/block").glob("loop*"):
        if (block / "loop").is_dir() and _is_of(Path("/dev", block.name), wanted):
            return Path("/dev", block.name)
    return None


def _is_of(device: Path, wanted: os.stat_result) -> bool:
    try:
        with device.open("rb", buffering=0) as opened:
            info = fcntl.ioctl(opened, _GET_STATUS64, bytes(_INFO.size))
    except OSError:  # detached at this very moment
        return False
    return _INFO.unpack(info)[:2] == (wanted.st_dev, wanted.st_ino)


@contextmanager
def attached(image: Path) -> Iterator[Path]:
    """A device over the image; it goes with the last of those that have it mounted or open.

    Raises
    ------
    OSError
        If there is none to be had.
    """
    with image.open("r+b", buffering=0) as file, ExitStack() as stack:
        for _ in range(_TRIES):
            with Path("/dev/loop-control").open("r+b", buffering=0) as control:
                path = Path(f"/dev/loop{fcntl.ioctl(control, _CTL_GET_FREE)}")
            device = stack.enter_context(path.open("r+b", buffering=0))
            name = os.fsencode(image)[:_NAME_LENGTH]
            info = _INFO.pack(*[0] * 8, _AUTOCLEAR, name, b"", b"", 0, 0)
            wanted = _CONFIGURATION.pack(file.fileno(), 0, info, *[0] * 8)
            try:
                fcntl.ioctl(device, _CONFIGURE, wanted)
            except OSError as error:
                if error.errno != errno.EBUSY:  # else somebody else was faster
                    raise
                stack.close()
                continue
            yield path
            return
    raise OSError(errno.EBUSY, "no loop device is free", str(image))
