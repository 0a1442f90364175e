"""The cache when rclone is killed, its disk is full, or there is too much in it.

Contents are compared byte for byte. ``TACCUINO_FAULT_SEED`` repeats a random run exactly, and
``TACCUINO_FAULT_ROUNDS`` is how many kills a random run has.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from support.mounts import MountRig, eventually, mount_rig
from taccuino.storage.mount_plane.cache_budget import cached_files, evict

pytestmark = [
    pytest.mark.faults,
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no /dev/fuse"),
]

ROUNDS = int(os.environ.get("TACCUINO_FAULT_ROUNDS", "4"))
OLD = random.Random(1).randbytes(3_000_000)
NEW = random.Random(2).randbytes(2_000_000)


@pytest.fixture
async def rig() -> AsyncIterator[MountRig]:
    async with mount_rig() as running:
        yield running
        print(running.log)  # shown with a failure


async def _mounted(rig: MountRig, **objects: bytes) -> None:
    """The bucket with some objects in it, mounted."""
    for name, content in objects.items():
        (rig.objects / name).write_bytes(content)
    assert (await rig.client.mount(rig.request)).state == "mounted"
    await eventually(lambda: set(objects) <= _names(rig.bucket), what="the objects")


async def _kill_rclone(rig: MountRig) -> None:
    """Kill it, and wait for the next one."""
    killed = rig.rclone_pid
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: rig.rclone_pid != killed, what="another rclone")


async def _content(rig: MountRig, name: str, wanted: bytes, limit: float = 40) -> None:
    """Wait until an object is what it must become."""

    def same() -> bool:
        path = rig.objects / name
        return path.is_file() and path.read_bytes() == wanted

    try:
        await eventually(same, limit)
    except AssertionError:
        found = (rig.objects / name).read_bytes()
        parts = {"old": OLD, "new": NEW, "zeros": bytes(len(found))}
        alike = [what for what, text in parts.items() if found[:4096] == text[:4096]]
        raise AssertionError(f"{name}: {len(found)} bytes, begins as {alike}") from None


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _abandoned(file: BinaryIO):  # type: ignore[no-untyped-def]
    """A file whose server died: closing it fails."""
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            file.close()


# -- what was written down when rclone was killed


async def test_rewritten_file_that_is_open_keeps_what_was_synced(rig: MountRig) -> None:
    await _mounted(rig, file=OLD)
    with _abandoned((rig.bucket / "file").open("wb")) as file:
        file.write(NEW)
        _sync(file)
        await _kill_rclone(rig)
    await _content(rig, "file", NEW)


async def test_new_file_that_is_open_keeps_what_was_synced(rig: MountRig) -> None:
    await _mounted(rig)
    with _abandoned((rig.bucket / "file").open("wb")) as file:
        file.write(NEW)
        _sync(file)
        await _kill_rclone(rig)
    await _content(rig, "file", NEW)


CHANGES = [
    ("two places", [(5, b"X" * 10), (1_000_000, b"Y" * 10)]),
    ("aligned", [(8192, b"X" * 4096), (1_048_576, b"Y" * 300_000)]),
    ("the end", [(2_999_990, b"X" * 50), (3_000_040, b"Y" * 5000)]),
    ("beyond the end", [(100, b"X"), (3_500_000, b"Y" * 10)]),
    ("zeros within", [(70_000, b"X" + bytes(50) + b"X"), (200_000, b"Y" + bytes(9000) + b"Y")]),
]


def _changed(content: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    whole = bytearray(content)
    for position, piece in changes:
        whole.extend(bytes(max(0, position - len(whole))))
        whole[position : position + len(piece)] = piece
    return bytes(whole)


@pytest.mark.parametrize("away", [False, True], ids=["storage there", "storage away"])
@pytest.mark.parametrize("changes", [c for _, c in CHANGES], ids=[n for n, _ in CHANGES])
async def test_changed_object_is_never_uploaded_with_holes(
    rig: MountRig, changes: list[tuple[int, bytes]], away: bool
) -> None:
    """Only what was written is in the cache; the rest of it is in the object."""
    await _mounted(rig, file=OLD)
    with _abandoned((rig.bucket / "file").open("r+b", buffering=0)) as file:
        for position, piece in changes:
            file.seek(position)
            file.write(piece)
        _sync(file)
        if away:
            rig.store.kill()
        await _kill_rclone(rig)
    if away:
        status = await rig.state()
        assert status.uploads_pending == 1
        assert (rig.objects / "file").read_bytes() == OLD
        await rig.store.start()
    await _content(rig, "file", _changed(OLD, changes), 60)
    await eventually(rig.drained, what="the end of the uploads")
    assert (rig.bucket / "file").read_bytes() == _changed(OLD, changes)


async def test_append_whose_rest_could_not_be_fetched(rig: MountRig) -> None:
    """rclone gives up on such a file some 40 s after its close(), and then forgets it."""
    await _mounted(rig, file=b"old line\n")
    rig.store.kill()
    with (rig.bucket / "file").open("ab") as file:
        file.write(b"new line\n")
    await eventually(lambda: "failed to download missing parts" in rig.log, 120)

    async def waits() -> bool:
        return (await rig.state()).uploads_pending == 1

    await eventually(waits, what="the file among those that wait")
    await rig.store.start()
    await _content(rig, "file", b"old line\nnew line\n")
    await eventually(lambda: (rig.bucket / "file").read_bytes() == b"old line\nnew line\n")
    await eventually(rig.drained, what="the end of the uploads")


async def test_held_file_whose_object_was_changed_is_saved_beside_it(rig: MountRig) -> None:
    await _mounted(rig, file=OLD)
    with _abandoned((rig.bucket / "file").open("r+b", buffering=0)) as file:
        file.write(b"X" * 10)
        _sync(file)
        rig.store.kill()
        await _kill_rclone(rig)
    (rig.objects / "file").write_bytes(NEW)
    await rig.store.start()
    await eventually(lambda: list(rig.objects.glob("file (conflict*")), 40, "the copy")
    await eventually(rig.drained, what="the end of the uploads")
    assert (rig.objects / "file").read_bytes() == NEW


async def test_random_kills_lose_nothing_that_was_synced_or_closed(rig: MountRig) -> None:
    """Files are rewritten, changed and appended to; rclone is killed at any moment."""
    seed = int(os.environ.get("TACCUINO_FAULT_SEED", random.SystemRandom().randrange(10**6)))
    print(f"TACCUINO_FAULT_SEED={seed}")
    chance = random.Random(seed)
    names = [f"file{number}" for number in range(6)]
    wanted = {name: chance.randbytes(chance.randrange(1, 400_000)) for name in names}
    await _mounted(rig, **wanted)
    for _ in range(ROUNDS):
        opened: list[BinaryIO] = []
        for name in chance.sample(names, 4):
            wanted[name] = _save_somehow(rig.bucket / name, wanted[name], chance, opened)
        await asyncio.sleep(chance.choice((0, 0, 0.01, 0.5, 1.2)))
        await _kill_rclone(rig)
        for file in opened:
            with contextlib.suppress(OSError):
                file.close()
        await eventually(lambda: set(names) <= _names(rig.bucket), 40, "the mount")
    for name, content in wanted.items():
        await _content(rig, name, content, 60)


def _names(directory: Path) -> set[str]:
    try:
        return {path.name for path in directory.iterdir()}
    except OSError:
        return set()


def _save_somehow(
    path: Path, content: bytes, chance: random.Random, opened: list[BinaryIO]
) -> bytes:
    """Change a file in a way that chance chooses; what it must be afterwards."""
    # No zeros: at the edge of what was written they can't be told from a hole.
    piece = chance.randbytes(chance.randrange(1, 200_000)).replace(b"\0", b"\1")
    way = chance.choice(("rewrite", "change", "append", "replace"))
    if way == "replace":
        beside = path.with_name(f".{path.name}.new")
        beside.write_bytes(piece)
        beside.replace(path)
        return piece
    mode = {"rewrite": "wb", "change": "r+b", "append": "ab"}[way]
    file = path.open(mode, buffering=0)
    position = {"rewrite": 0, "append": len(content)}.get(way, chance.randrange(len(content)))
    file.seek(position)
    half = chance.randrange(len(piece))
    for part in (piece[:half], piece[half:]):
        file.write(part)
    if chance.random() < 0.5:
        os.fsync(file.fileno())
        opened.append(file)
    else:
        file.close()
    return piece if way == "rewrite" else _changed(content, [(position, piece)])


# -- the limits of the process


def _group(rig: MountRig, controller: str = "memory") -> Path:
    """The control group that rclone is in."""
    for line in Path(f"/proc/{rig.rclone_pid}/cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        if controller in names.split(",") or (number == "0" and path.startswith("/taccuino-")):
            root = Path("/sys/fs/cgroup") / (controller if names else "")
            return root / path.removeprefix("/")
    raise AssertionError("rclone is in no such group")


def _limit(group: Path, *names: str) -> int:
    return next(int((group / name).read_text()) for name in names if (group / name).exists())


needs_cgroups = pytest.mark.skipif(
    not os.access("/sys/fs/cgroup/memory", os.W_OK)
    and not Path("/sys/fs/cgroup/cgroup.subtree_control").exists(),
    reason="control groups can't be made here",
)


@needs_cgroups
async def test_limits_are_set_kept_and_removed() -> None:
    async with mount_rig(process_memory="300M", process_threads=100) as rig:
        await _mounted(rig)
        memory, pids = _group(rig), _group(rig, "pids")
        assert _limit(memory, "memory.limit_in_bytes", "memory.max") == 300 * 2**20
        assert _limit(pids, "pids.max") == 100
        variables = Path(f"/proc/{rig.rclone_pid}/environ").read_bytes().split(b"\0")
        assert b"GOMEMLIMIT=%d" % (150 * 2**20) in variables
        rig.kill_daemon()
        await rig.start_daemon()
        assert _group(rig) == memory, "an adopted rclone is in its group as before"
        assert (await rig.client.unmount("alice")).state == "absent"
        assert not memory.exists()
        assert not pids.exists()


@needs_cgroups
async def test_rclone_killed_by_its_memory_limit_loses_nothing() -> None:
    async with mount_rig() as rig:
        await _mounted(rig, file=OLD)
        killed, group = rig.rclone_pid, _group(rig)
        with _abandoned((rig.bucket / "file").open("wb")) as file:
            file.write(NEW)
            _sync(file)
            name = (
                "memory.limit_in_bytes"
                if group.parent.parent.name == "memory"
                else "memory.max"
            )
            await asyncio.to_thread(_squeeze, rig, group / name)
            await eventually(lambda: rig.rclone_pid != killed, 40, "another rclone")
        await _content(rig, "file", NEW)
        assert "its memory limit has killed" in rig.log
        assert (await rig.state()).state == "mounted"
        assert _limit(_group(rig), "memory.limit_in_bytes", "memory.max") == 2**30


def _squeeze(rig: MountRig, limit: Path) -> None:
    """Lower the limit below what the process needs, until the kernel kills it."""
    first = rig.rclone_pid
    while rig.rclone_pid == first and Path(f"/proc/{first}").exists():
        with contextlib.suppress(OSError):  # v1 refuses a limit below what is in use
            limit.write_text(str(8 << 20))
        with contextlib.suppress(OSError):
            limit.write_text(
                str(_limit(limit.parent, "memory.usage_in_bytes", "memory.current"))
            )
        for number in range(50):
            with contextlib.suppress(OSError):
                (rig.bucket / f"more{number}").read_bytes()


# -- the limits of the cache


def _cache(rig: MountRig) -> Path:
    directory = rig.settings.mount_plane.cache_directory
    assert directory is not None
    return directory / "alice"


async def test_cached_files_are_taken_out_beside_a_live_rclone(rig: MountRig) -> None:
    await _mounted(rig, unused=OLD, opened=NEW)
    assert (rig.bucket / "unused").read_bytes() == OLD
    with (rig.bucket / "opened").open("r+b", buffering=0) as file:
        assert file.read() == NEW
        rig.store.kill()
        (rig.bucket / "waits").write_bytes(b"only here")
        # rclone keeps a file open for some seconds after its last close().
        await eventually(lambda: evict(cached_files(_cache(rig))) >= len(OLD), what="room")
        left = {path.name for path in (_cache(rig) / "vfs/home/alice-bucket").iterdir()}
        assert left == {"opened", "waits"}
        file.seek(0)
        assert file.read() == NEW
        file.write(b"more")
    await rig.store.start()
    await _content(rig, "waits", b"only here")
    await _content(rig, "opened", NEW + b"more")
    assert (rig.bucket / "unused").read_bytes() == OLD, "it is fetched again"
    (rig.bucket / "unused").write_bytes(b"and changed")
    await _content(rig, "unused", b"and changed")


async def test_files_that_are_used_all_the_time_are_taken_out_safely(rig: MountRig) -> None:
    """Whatever is opened, written and taken out at the same moment: nothing is lost."""
    await _mounted(rig, **{f"file{number}": OLD[:50_000] for number in range(40)})
    done = asyncio.Event()

    def use() -> dict[str, bytes]:
        last = {}
        chance = random.Random(5)
        end = time.monotonic() + 15
        while time.monotonic() < end:
            path = rig.bucket / f"file{chance.randrange(40)}"
            time.sleep(0.2)  # each is left alone for some seconds now and then
            if chance.random() < 0.3:
                last[path.name] = chance.randbytes(50_000)
                path.write_bytes(last[path.name])
            else:
                assert path.read_bytes() == last.get(path.name, OLD[:50_000])
        return last

    async def take_out() -> int:
        freed = 0
        while not done.is_set():
            freed += await asyncio.to_thread(evict, cached_files(_cache(rig)))
            await asyncio.sleep(0.01)
        return freed

    taking = asyncio.create_task(take_out())
    try:
        last = await asyncio.to_thread(use)
    finally:
        done.set()
    assert await taking > 0
    for name, content in last.items():
        await _content(rig, name, content)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 256 MB."""
    root = Path(tempfile.mkdtemp(prefix="tc-disk-", dir="/tmp"))
    image, disk = root / "image", root / "disk"
    disk.mkdir()
    subprocess.run(["truncate", "--size", "256M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=False)
        shutil.rmtree(root)


def _fill(directory: Path, chance: random.Random) -> dict[str, bytes]:
    """Save files until one is refused; those whose close() had returned."""
    saved = {}
    for number in range(1000):
        content = chance.randbytes(chance.choice((2_000, 300_000, 12_000_000)))
        try:
            with (directory / f"file{number}").open("wb") as file:
                file.write(content)
        except OSError as error:
            print(f"refused after {len(saved)} files: {error}")
            return saved
        saved[f"file{number}"] = content
    raise AssertionError("nothing was refused")


async def _drained(rig: MountRig) -> bool:
    return (await rig.client.drain("alice", 1)).uploads_pending == 0


@pytest.mark.parametrize("killed", [False, True], ids=["rclone lives", "rclone killed"])
async def test_full_disk_refuses_and_keeps_what_it_took(small_disk: Path, killed: bool) -> None:
    # Uploads begin when they are asked for.
    async with mount_rig(
        cache_directory=str(small_disk / "cache"), write_back_seconds=3600
    ) as rig:
        await _mounted(rig)
        saved = await asyncio.to_thread(_fill, rig.bucket, random.Random(7))
        for name, content in list(saved.items())[-20:]:
            # Opening a file rewrites its description.
            assert (rig.bucket / name).read_bytes() == content

        async def told() -> bool:
            return "cache on this machine is full" in str((await rig.state()).fault)

        await eventually(told, 20, "the sentence")
        if killed:
            await _kill_rclone(rig)
            await eventually(lambda: set(saved) <= _names(rig.bucket), 40, "the mount")
        await eventually(lambda: _drained(rig), 90, "the end of the uploads")
        for name, content in saved.items():
            assert (rig.objects / name).read_bytes() == content

        def goes_on() -> bool:
            with contextlib.suppress(OSError):
                (rig.bucket / "after").write_bytes(OLD)
                return True
            return False

        await eventually(goes_on, 60, "room")
        await eventually(lambda: _drained(rig), 30, "the end of the uploads")
        assert (rig.objects / "after").read_bytes() == OLD
        assert (rig.bucket / "file0").read_bytes() == saved["file0"]
        print(rig.log)


async def test_room_is_made_before_the_disk_is_full(small_disk: Path) -> None:
    """Files that were uploaded go; more than the disk holds is written with no refusal."""
    async with mount_rig(cache_directory=str(small_disk / "cache")) as rig:
        await _mounted(rig)
        content = random.Random(3).randbytes(12_000_000)
        for number in range(24):
            await asyncio.to_thread((rig.bucket / f"file{number}").write_bytes, content)
            await eventually((rig.objects / f"file{number}").exists, 30, "the upload")
            if shutil.disk_usage(small_disk).free < 26 << 20:
                await eventually(
                    lambda: shutil.disk_usage(small_disk).free > 25 << 20, 20, "room"
                )
        assert (rig.bucket / "file0").read_bytes() == content


async def test_uploads_to_a_bucket_of_another_name_are_finished(rig: MountRig) -> None:
    await _mounted(rig)
    rig.store.kill()
    (rig.bucket / "late").write_bytes(NEW)
    (rig.store.directory / "other-bucket").mkdir()
    rig.request = replace(rig.request, bucket="other-bucket")
    await rig.client.mount(rig.request)
    await rig.store.start()
    await _content(rig, "late", NEW, 60)

    async def mounted() -> bool:
        return (await rig.client.mount(rig.request)).state == "mounted"

    await eventually(mounted, 40, "the other bucket")
    assert (await rig.client.unmount("alice")).state == "absent"
