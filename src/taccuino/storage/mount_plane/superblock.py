"""What an ext4 file system says of itself (kernel documentation, *ext4: The Super Block*)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Superblock"]

_OFFSET = 1024
_LENGTH = 1024
_MAGIC = 0xEF53
_VALID = 1
"""``s_state``: unmounted in order, and nothing else: no error, no orphan."""
_NEEDS_RECOVERY = 4
_LARGEST_BLOCK = 6  # 64 KiB


@dataclass(frozen=True)
class Superblock:
    """The first superblock of a file system that is not mounted, or as it was last written."""

    size: int
    """Bytes of the file system: also right where a growth was cut off half-way."""
    is_clean: bool
    """Whether ``e2fsck -p`` would find nothing to do, and look at nothing."""

    @classmethod
    def read(cls, image: Path) -> Self:
        """That of an image.

        Raises
        ------
        OSError
            If the image can't be read.
        """
        with image.open("rb") as file:
            file.seek(_OFFSET)
            return cls.parse(file.read(_LENGTH))

    @classmethod
    def parse(cls, block: bytes) -> Self:
        """From the block's bytes; what is no superblock is not clean."""

        def field(offset: int, length: int) -> int:
            return int.from_bytes(block[offset : offset + length], "little")

        blocks = (field(0x150, 4) << 32) + field(0x4, 4)
        most_mounts = field(0x36, 2)
        clean = (
            field(0x38, 2) == _MAGIC
            and field(0x3A, 2) == _VALID
            and not field(0x60, 4) & _NEEDS_RECOVERY
            and not field(0xE8, 4)  # files that were open when they were removed
            and not field(0x194, 4)  # errors that the kernel met
            # By default e2fsck looks at everything after no number of mounts, and no time.
            and (most_mounts in (0, 0xFFFF) or field(0x34, 2) < most_mounts)
            and not field(0x44, 4)
        )
        return cls(size=blocks * (1024 << min(field(0x18, 4), _LARGEST_BLOCK)), is_clean=clean)
