"""What another client does to the bucket shows in the mount within six seconds."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from support.mounts import MountRig, eventually
from support.storage_stack import Stack
from support.versioned import Bucket, make_bucket, node, uploaded

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
]

LIMIT = 6.0


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Bucket:
    return make_bucket(stack.clients)


@pytest.fixture
async def rig(stack: Stack, bucket: Bucket) -> AsyncIterator[MountRig]:
    async with node(stack.settings, "bari") as running:
        yield running


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def shows(what: str, look: Callable[[], Any], wanted: Any, limit: float = LIMIT) -> None:
    """Look ten times a second, as a program would, until the change shows."""

    def there() -> bool:
        try:
            return bool(look() == wanted)
        except FileNotFoundError:
            return wanted is None

    began = time.monotonic()
    await eventually(there, limit, what)
    print(f"{what}: {time.monotonic() - began:.1f} s")


async def test_changes_of_another_client_show(rig: MountRig, bucket: Bucket) -> None:
    mount = rig.bucket
    bucket.put("theirs.txt", b"one")
    _names(mount)
    bucket.put("new.txt", b"new")
    await shows("a new file", lambda: (mount / "new.txt").read_bytes(), b"new")
    await shows("an old file", lambda: (mount / "theirs.txt").read_bytes(), b"one")

    bucket.put("theirs.txt", b"two")
    await shows("changed, read before", lambda: (mount / "theirs.txt").read_bytes(), b"two")
    bucket.put("theirs.txt", b"longer")
    await shows("changed size", lambda: (mount / "theirs.txt").stat().st_size, 6)
    await shows("its content", lambda: (mount / "theirs.txt").read_bytes(), b"longer")

    bucket.put("folder/inner.txt", b"in")
    await shows("a new folder", lambda: "folder" in _names(mount), True)
    await shows("what is in it", lambda: (mount / "folder/inner.txt").read_bytes(), b"in")
    bucket.delete("theirs.txt")
    await shows("a deletion", lambda: "theirs.txt" in _names(mount), False)
    await shows("opening what is gone", lambda: (mount / "theirs.txt").read_bytes(), None)


async def test_changes_to_what_this_node_made_show(rig: MountRig, bucket: Bucket) -> None:
    """The kernel may keep what was made here for longer than what it looked up."""
    mount = rig.bucket
    for name in ("a.txt", "b.txt", "c.txt"):
        (mount / name).write_bytes(b"ours")
    (mount / "d").mkdir()
    (mount / "d/e.txt").write_bytes(b"ours")
    await uploaded(rig)
    for name in ("a.txt", "b.txt", "d/e.txt"):
        bucket.put(name, b"theirs")
    bucket.delete("c.txt")
    began = time.monotonic()
    for name in ("a.txt", "d/e.txt"):
        left = LIMIT - (time.monotonic() - began)
        await shows(name, (mount / name).read_bytes, b"theirs", max(left, 0.2))
    left = max(LIMIT - (time.monotonic() - began), 0.2)
    await shows("the size", lambda: (mount / "b.txt").stat().st_size, 6, left)
    await shows("the deletion", (mount / "c.txt").read_bytes, None, left)


async def test_a_file_held_open(rig: MountRig, bucket: Bucket) -> None:
    """Who holds a file open reads on in what was opened; opened anew, it is the new one."""
    bucket.put("held.txt", b"before")
    await shows("the file", lambda: (rig.bucket / "held.txt").read_bytes(), b"before")
    with (rig.bucket / "held.txt").open("rb") as held:
        bucket.put("held.txt", b"afters")
        await shows("opened anew", lambda: "held.txt" in _names(rig.bucket), True)
        held.seek(0)
        assert held.read() in (b"before", b"afters")
    await shows("closed and opened", lambda: (rig.bucket / "held.txt").read_bytes(), b"afters")


async def test_the_bound_is_a_setting(stack: Stack, bucket: Bucket) -> None:
    async with node(stack.settings, "bari", directory_cache_seconds=1.0) as rig:
        _names(rig.bucket)
        bucket.put("soon.txt", b"1")
        await shows("new", lambda: (rig.bucket / "soon.txt").read_bytes(), b"1", 2.5)
        bucket.put("soon.txt", b"2")
        await shows("changed", lambda: (rig.bucket / "soon.txt").read_bytes(), b"2", 2.5)
