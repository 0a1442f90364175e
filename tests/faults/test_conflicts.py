"""Two nodes write the same files: whatever was saved is current or kept as a conflict copy.

``TACCUINO_FAULT_SEED`` repeats a round of races exactly, ``TACCUINO_RACES`` is how many.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.mounts import MountRig, eventually
from support.storage_stack import Stack
from support.versioned import Bucket, checked, make_bucket, node, notes, uploaded

pytestmark = [
    pytest.mark.faults,
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
]

RACES = int(os.environ.get("TACCUINO_RACES", "100"))
SHOWS = 9.0


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Bucket:
    return make_bucket(stack.clients)


@pytest.fixture
async def bari(stack: Stack, bucket: Bucket) -> AsyncIterator[MountRig]:
    async with node(stack.settings, "bari") as rig:
        yield rig


@pytest.fixture
async def cnaf(stack: Stack, bucket: Bucket) -> AsyncIterator[MountRig]:
    async with node(stack.settings, "cnaf") as rig:
        yield rig


def in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def by_rename(path: Path, content: bytes) -> None:
    """As editors and git save."""
    beside = path.with_name(f".{path.name}.{os.urandom(3).hex()}")
    beside.write_bytes(content)
    beside.replace(path)


def anew(path: Path, content: bytes) -> None:
    """As editors save that keep the old file by another name, which they then delete."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


STYLES = [in_place, by_rename, anew]


async def test_races(bari: MountRig, cnaf: MountRig, bucket: Bucket) -> None:
    seed = int(os.environ.get("TACCUINO_FAULT_SEED") or random.SystemRandom().randrange(10**6))
    print(f"TACCUINO_FAULT_SEED={seed}")
    chance = random.Random(seed)
    folder = f"races-{seed}"
    saved: dict[str, dict[bytes, float]] = {
        f"{folder}/{number}.txt": {} for number in range(RACES)
    }
    for key in saved:
        if chance.random() < 0.8:
            bucket.put(key, b"base")
    bucket.put(f"{folder}/there", b"")
    for rig in (bari, cnaf):
        await eventually((rig.bucket / folder / "there").exists, 10, "the files")
    await asyncio.to_thread(time.sleep, SHOWS)  # what was there is known to both by now

    async def save(rig: MountRig, key: str, after: float, style: int, content: bytes) -> None:
        await asyncio.sleep(after)
        await asyncio.to_thread(STYLES[style], rig.bucket / key, content)
        saved[key][content] = time.monotonic()

    saves = []
    for number, key in enumerate(saved):
        begin = number * 0.15
        for rig, who in ((bari, "bari"), (cnaf, "cnaf")):
            after = begin + chance.choice([0.0, chance.uniform(0, 0.1), chance.uniform(0, 0.7)])
            content = f"{key} {who}".encode()
            saves.append(save(rig, key, after, chance.randrange(len(STYLES)), content))
    await asyncio.gather(*saves)
    copies = await checked(bari, cnaf)
    there = bucket.contents(f"{folder}/")
    # An upload begins a second after its save: what was saved before that did not see it.
    unseen = {
        key: contents
        for key, contents in saved.items()
        if max(contents.values()) - min(contents.values()) < 0.95
    }
    assert len(unseen) > RACES / 2, "the machine is too busy for races"
    lost = {
        key: contents.keys()
        - {content for name, content in there.items() if name.startswith(key[:-4])}
        for key, contents in unseen.items()
    }
    assert not {key: contents for key, contents in lost.items() if contents}
    assert all(there[key] in saved[key] for key in saved), "one of the two, whole"
    print(f"{len(unseen)} races, {len(copies)} conflict copies")
    assert copies


@pytest.mark.parametrize("style", STYLES)
async def test_many_saves_of_one_node_are_no_conflict(
    stack: Stack, bucket: Bucket, style: object
) -> None:
    """All of them are uploaded, since nothing waits for the next."""
    assert callable(style)
    key = f"saves-{style.__name__}.txt"
    async with node(stack.settings, "bari", write_back_seconds=0.01) as rig:
        for number in range(1000 if style is in_place else 200):
            await asyncio.to_thread(style, rig.bucket / key, f"save {number}".encode())
            await asyncio.sleep(0.02)
        assert await checked(rig) == []
    versions = bucket.s3.list_object_versions(Bucket=bucket.name, Prefix=key)["Versions"]
    assert len(versions) > 100
    assert bucket.keys(key[:-4]) == [key]


async def test_what_was_seen_is_no_conflict(
    bari: MountRig, cnaf: MountRig, bucket: Bucket
) -> None:
    """The user goes from one node to the other, and saves in each of the ways."""
    files = {style: f"turns-{style.__name__}.txt" for style in STYLES}
    for turn, rig in enumerate([bari, cnaf, bari, cnaf]):
        for key in files.values():
            path = rig.bucket / key
            if turn:
                wanted = f"turn {turn - 1}".encode()
                await eventually(lambda p=path, w=wanted: _read(p) == w, 70, "the last turn")
        # What is replaced by a rename has no description: it must have been there a while.
        await asyncio.to_thread(time.sleep, SHOWS)
        for style, key in files.items():
            await asyncio.to_thread(style, rig.bucket / key, f"turn {turn}".encode())
        assert await checked(rig) == []
    assert bucket.keys("turns-") == sorted(files.values())


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


async def test_another_s3_client(bari: MountRig, bucket: Bucket) -> None:
    """It knows nothing of nodes. What it wrote while a file was being edited is kept."""
    bucket.put("client.txt", b"base")
    await eventually(lambda: _read(bari.bucket / "client.txt") == b"base", 10, "the file")
    with (bari.bucket / "client.txt").open("wb") as file:
        file.write(b"ours")
        file.flush()
        bucket.put("client.txt", b"theirs")
    (copy,) = await checked(bari)
    name = copy["copy"].removeprefix("cloud_storage/alice/")
    assert bucket.contents("client") == {"client.txt": b"ours", name: b"theirs"}
    assert name.startswith("client (conflict ")
    assert name.endswith(" elsewhere).txt")


async def test_deleted_elsewhere_and_identical(bari: MountRig, bucket: Bucket) -> None:
    for name in ("deleted.txt", "same.txt"):
        bucket.put(name, b"base")
    for name in ("deleted.txt", "same.txt"):
        path = bari.bucket / name
        await eventually(lambda p=path: _read(p) == b"base", 10, name)
        path.write_bytes(b"ours")
    bucket.delete("deleted.txt")
    bucket.put("same.txt", b"ours")
    assert await checked(bari) == []
    assert bucket.get("deleted.txt") == bucket.get("same.txt") == b"ours"


async def test_large_files(bari: MountRig, bucket: Bucket) -> None:
    """Uploaded in parts: their ETag is no MD5."""
    base, theirs, ours = (os.urandom(230 << 20) for _ in range(3))
    path = bari.bucket / "large.bin"
    path.write_bytes(base)
    await uploaded(bari)
    path.write_bytes(ours)
    assert await checked(bari) == []
    path.write_bytes(base)
    bucket.put("large.bin", theirs)
    (copy,) = await checked(bari)
    name = copy["copy"].removeprefix("cloud_storage/alice/")
    assert bucket.get("large.bin") == base
    assert bucket.get(name) == theirs
    for key in ("large.bin", name):
        bucket.delete(key)


@pytest.mark.parametrize("killed", ["daemon", "rclone", "both"])
async def test_killed_in_between(bari: MountRig, bucket: Bucket, killed: str) -> None:
    """What is to be checked is written down, or found in the journal."""
    key = f"killed-{killed}.txt"
    bucket.put(key, b"base")
    await eventually(lambda: _read(bari.bucket / key) == b"base", 10, "the file")
    (bari.bucket / key).write_bytes(b"ours")
    bucket.put(key, b"theirs")
    await asyncio.sleep(random.uniform(0, 2.5))
    if killed != "daemon":
        os.kill(bari.rclone_pid, signal.SIGKILL)
    if killed != "rclone":
        bari.kill_daemon()
        await bari.start_daemon()
    await bari.client.mount(bari.request)
    (copy,) = await checked(bari)
    name = copy["copy"].removeprefix("cloud_storage/alice/")
    assert bucket.contents(key[:-4]) == {key: b"ours", name: b"theirs"}


async def test_a_bucket_without_versions(stack: Stack, bucket: Bucket) -> None:
    """Nothing can be kept there; that is said once."""
    state = {"Status": "Suspended"}
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration=state)
    try:
        async with node(stack.settings, "bari") as rig:
            for number in range(3):
                (rig.bucket / "plain.txt").write_text(f"{number}")
                await checked(rig)
            assert rig.log.count("keeps no earlier versions") == 1
            assert notes(rig)["found"] == []
    finally:
        make_bucket(stack.clients)
