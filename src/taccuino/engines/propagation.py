"""Which binds may ask for later mounts: Docker refuses ``rslave`` where none can come.

A mount that appears below a bind's source on the host appears in the container only if the
source's own mount is shared, or a slave of a shared one (mount_namespaces(7)). podman takes the
option anyway; Docker ends the start with "is not a shared or slave mount".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from .storage_port import Bind

__all__ = ["accepted_binds", "propagates"]

_MOUNTS = Path("/proc/self/mountinfo")
_WANT_LATER_MOUNTS = {"slave", "rslave", "shared", "rshared"}


def accepted_binds(binds: Iterable[Bind], mountinfo: Path = _MOUNTS) -> tuple[Bind, ...]:
    """The binds as Docker takes them: private where nothing could be propagated."""
    table = mountinfo.read_text(encoding="utf-8", errors="replace")
    return tuple(
        replace(bind, propagation="rprivate")
        if bind.propagation in _WANT_LATER_MOUNTS and not propagates(bind.source, table)
        else bind
        for bind in binds
    )


def propagates(path: Path, table: str) -> bool:
    """Whether mounts below a path reach its binds, from the text of ``mountinfo`` (proc(5))."""
    found, longest = False, -1
    for line in table.splitlines():
        fields, _, _ = line.partition(" - ")
        point, *options = fields.split(" ")[4:]
        mount = Path(point.encode().decode("unicode_escape"))
        # Of two mounts at one place, the later one covers the earlier.
        if path.is_relative_to(mount) and len(mount.parts) >= longest:
            longest = len(mount.parts)
            found = any(word.startswith(("shared:", "master:")) for word in options)
    return found
