"""A directory that was listed is not asked for again, file by file, and is true all the same."""

from __future__ import annotations

import asyncio
import csv
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.mounts import MountRig, eventually
from support.storage_stack import Stack
from support.versioned import Bucket, make_bucket, node, uploaded

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
]

FILES = 60


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Bucket:
    return make_bucket(stack.clients)


@pytest.fixture
async def rig(stack: Stack, bucket: Bucket) -> AsyncIterator[MountRig]:
    for number in range(FILES):
        bucket.put(f"many/{number}.txt", b"x" * number)
    async with node(stack.settings, "bari") as running:
        yield running


def asked(rig: MountRig, backend: str = "storage") -> int:
    """How many requests the relay has led somewhere."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(rig.root / "state/mount-plane/relay/admin.sock"))
        client.sendall(b"show stat -1 2 -1\n")
        text = client.makefile().read()
    rows = csv.DictReader(text.lstrip("# ").splitlines())
    return next(int(row["stot"]) for row in rows if row["pxname"] == backend)


def looked_at(directory: Path) -> dict[str, tuple[int, float]]:
    """What ``ls -l`` sees."""
    return {
        entry.name: (entry.stat().st_size, entry.stat().st_mtime)
        for entry in os.scandir(directory)
    }


async def test_a_directory_in_use_costs_a_request_now_and_then(rig: MountRig) -> None:
    many = rig.bucket / "many"
    first = looked_at(many)
    assert {name: size for name, (size, _) in first.items()} == {
        f"{number}.txt": number for number in range(FILES)
    }
    before, began = asked(rig), time.monotonic()
    while time.monotonic() - began < 12:
        assert looked_at(many) == first
        await asyncio.sleep(1)
    assert asked(rig) - before < FILES / 2


async def test_what_is_known_of_files_outlives_their_mount(
    rig: MountRig, bucket: Bucket
) -> None:
    """As long as a listing shows them as they were."""
    first = looked_at(rig.bucket / "many")
    await rig.client.unmount("alice")
    bucket.put("many/7.txt", b"another")
    bucket.delete("many/8.txt")
    bucket.put("many/new.txt", b"n")
    await rig.client.mount(rig.request)
    before = asked(rig)
    second = looked_at(rig.bucket / "many")
    assert asked(rig) - before < FILES / 2
    assert second["7.txt"][0] == len(b"another")
    assert second["7.txt"][1] > first["7.txt"][1]
    assert "8.txt" not in second
    assert second["new.txt"][0] == 1
    same = first.keys() - {"7.txt", "8.txt"}
    assert {name: second[name] for name in same} == {name: first[name] for name in same}


async def test_ones_own_changes_are_seen_at_once(rig: MountRig, bucket: Bucket) -> None:
    many = rig.bucket / "many"
    looked_at(many)
    for number in range(3):
        (many / "own.txt").write_text("a" * (number + 1))
        await uploaded(rig)
        assert looked_at(many)["own.txt"][0] == number + 1
        os.utime(many / "own.txt", (1_000_000_000, 1_000_000_000 + number))
        assert looked_at(many)["own.txt"][1] == 1_000_000_000 + number
        await uploaded(rig)
        bucket.put(f"many/other-{number}", b"1")  # has the directory listed again
        await eventually(lambda number=number: f"other-{number}" in looked_at(many), 15)
        assert looked_at(many)["own.txt"] == (number + 1, 1_000_000_000 + number)
    (many / "own.txt").rename(many / "renamed.txt")
    (many / "9.txt").unlink()
    await uploaded(rig)
    seen = looked_at(many)
    assert "own.txt" not in seen
    assert "9.txt" not in seen
    assert seen["renamed.txt"] == (3, 1_000_000_002)


async def test_a_killed_daemon_leaves_nothing_stale(rig: MountRig, bucket: Bucket) -> None:
    many = rig.bucket / "many"
    looked_at(many)
    rig.kill_daemon()
    bucket.put("many/meanwhile.txt", b"1")
    assert len(looked_at(many)) >= FILES, "listed without a daemon, too"
    await rig.start_daemon()
    await eventually(lambda: "meanwhile.txt" in looked_at(many), 15, "the change")
    bucket.put("many/later.txt", b"1")
    await eventually(lambda: "later.txt" in looked_at(many), 15, "a later change")


async def test_listings_go_on_without_a_daemon(rig: MountRig) -> None:
    rig.kill_daemon()
    assert len(looked_at(rig.bucket / "many")) >= FILES
    await rig.start_daemon()


async def test_a_directory_of_several_pages(rig: MountRig, bucket: Bucket) -> None:
    for number in range(1100):
        bucket.put(f"pages/{number:04}", b"")
    pages = rig.bucket / "pages"
    assert len(looked_at(pages)) == 1100
    for key in ("pages/0000a", "pages/1099a"):
        bucket.put(key, b"")
        name = key.partition("/")[2]
        await eventually(lambda name=name: (pages / name).exists(), 15, key)
