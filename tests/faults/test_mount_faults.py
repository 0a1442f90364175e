"""What breaks under the mount plane, and what a user keeps: everything."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.mounts import UID, MountRig, eventually, mount_rig
from taccuino.storage.mount_plane.kernel import MountTable, unmount

pytestmark = [
    pytest.mark.faults,
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no /dev/fuse"),
]


@pytest.fixture
async def rig() -> AsyncIterator[MountRig]:
    async with mount_rig() as running:
        yield running
        print(running.log)  # shown with a failure


async def test_killed_rclone_uploads_what_was_pending(rig: MountRig) -> None:
    assert (await rig.client.mount(rig.request)).state == "mounted"
    _write_without_storage(rig, "kept.txt", "the only copy")
    first = rig.rclone_pid
    os.kill(first, signal.SIGKILL)

    def back() -> bool:
        return rig.rclone_pid != first and (rig.bucket / "kept.txt").is_file()

    # With the storage still away: what was written is there from the cache.
    await eventually(lambda: rig.rclone_pid != first, what="another rclone")
    await rig.store.start()
    await eventually(back, what="the file in the remounted bucket")
    await eventually(lambda: (rig.objects / "kept.txt").is_file(), 30, "the upload")
    assert (rig.objects / "kept.txt").read_text() == "the only copy"
    await eventually(rig.drained, what="an empty queue")
    assert (await rig.state()).state == "mounted"


async def test_killed_daemon_leaves_live_mounts_and_is_followed(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    pid = rig.rclone_pid
    with (rig.bucket / "open.txt").open("w") as file:
        file.write("before ")
        file.flush()
        rig.kill_daemon(signal.SIGKILL)
        file.write("while away ")
        (rig.bucket / "other.txt").write_text("written without a daemon")
        await rig.start_daemon()
        file.write("after")
    assert rig.rclone_pid == pid, "the running rclone was adopted"
    assert (await rig.state()).state == "mounted"
    assert (await rig.client.drain("alice", 20)).uploads_pending == 0
    assert (rig.objects / "open.txt").read_text() == "before while away after"
    assert (rig.objects / "other.txt").is_file()
    # The adopted rclone is watched like a child.
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: rig.rclone_pid != pid, what="another rclone")
    await eventually(lambda: _listing(rig.bucket) is not None, what="the bucket")
    assert (await rig.client.unmount("alice")).state == "absent"


async def test_ended_daemon_leaves_mounts_too(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    assert rig.kill_daemon(signal.SIGTERM) == 0
    (rig.bucket / "x").write_text("1")
    await eventually(lambda: (rig.objects / "x").is_file(), what="the upload")


async def test_everything_killed_at_once_loses_nothing(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    _write_without_storage(rig, "kept.txt", "cache only")
    (rig.workarea / "local/here.txt").write_text("image only")
    rig.kill_daemon(signal.SIGKILL)
    os.kill(rig.rclone_pid, signal.SIGKILL)
    await rig.store.start()
    await rig.start_daemon()
    await eventually(lambda: (rig.objects / "kept.txt").is_file(), 30, "the upload")
    assert (rig.workarea / "local/here.txt").read_text() == "image only"


async def test_machine_restart_uploads_and_lets_go(rig: MountRig) -> None:
    """After another boot no server runs: only what is pending is finished."""
    await rig.client.mount(rig.request)
    _write_without_storage(rig, "kept.txt", "from before")
    (rig.workarea / "local/here.txt").write_text("kept")
    rig.kill_daemon(signal.SIGKILL)
    os.kill(rig.rclone_pid, signal.SIGKILL)
    for entry in MountTable.read().below(rig.root):
        unmount(entry.path, lazy=True)
    record = rig.root / "state/mount-plane/users/alice/record.json"
    record.write_text(record.read_text().replace('"boot": "', '"boot": "another-'))
    await rig.store.start()
    await rig.start_daemon()

    async def gone() -> bool:
        return (await rig.state()).state == "absent"

    await eventually(gone, 30, "the end of the uploads")
    assert (rig.objects / "kept.txt").read_text() == "from before"
    assert (await rig.client.mount(rig.request)).state == "mounted"
    assert (rig.workarea / "local/here.txt").read_text() == "kept"


async def test_stop_without_storage_finishes_in_the_background(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    _write_without_storage(rig, "late.txt", "late")
    started = time.monotonic()
    status = await rig.client.unmount("alice", drain=False)
    assert time.monotonic() - started < 5
    assert (status.state, status.uploads_pending) == ("draining", 1)
    assert MountTable.read().at(rig.workarea) is None
    await rig.store.start()
    await rig.client.drain("alice", 1)  # asks rclone not to wait for its next try
    await eventually(lambda: (rig.objects / "late.txt").is_file(), 30, "the upload")

    async def gone() -> bool:
        return (await rig.state()).state == "absent"

    await eventually(gone, what="the end of rclone")
    assert not MountTable.read().below(rig.root / "state/mounts")


async def test_next_start_finds_what_is_still_uploading(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    _write_without_storage(rig, "late.txt", "late")
    await rig.client.unmount("alice", drain=False)
    await rig.store.start()
    status = await rig.client.mount(rig.request)
    assert status.state == "mounted"
    assert (rig.bucket / "late.txt").read_text() == "late"


async def test_storage_away_is_told_in_time_and_heals_by_itself(rig: MountRig) -> None:
    rig.store.kill()
    started = time.monotonic()
    status = await rig.client.mount(rig.request)
    assert time.monotonic() - started < 10
    assert status.state == "failed"
    assert status.workarea_usable
    assert "can't be reached" in (status.fault or "")
    assert not _touch_as_user(rig.bucket.parent / "astray.txt")
    assert _touch_as_user(rig.workarea / "local/fine.txt")
    # What a running container has bound sees the mount when it comes.
    await rig.store.start()

    async def healed() -> bool:
        status = await rig.state()
        return (status.state, status.fault) == ("mounted", None)

    await eventually(healed, 40, "the mount")


async def test_hanging_storage_does_not_hang_the_answer(rig: MountRig) -> None:
    """A storage that accepts connections and says nothing is the worst kind."""
    rig.store.kill()

    async def silence(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", rig.store.port)
    try:
        started = time.monotonic()
        status = await rig.client.mount(rig.request)
        assert time.monotonic() - started < 12
        assert status.state == "failed"
        assert status.fault
    finally:
        server.close()


async def test_storage_lost_later_is_told(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    rig.store.kill()

    async def told() -> bool:
        status = await rig.state()
        return status.state == "mounted" and "can't be reached" in (status.fault or "")

    await eventually(told, 25, "the fault")
    await rig.store.start()

    async def well() -> bool:
        return (await rig.state()).fault is None

    await eventually(well, 40, "the recovery")


async def test_hub_says_no(rig: MountRig) -> None:
    rig.refusal = "Your login has ended. Log in again"
    status = await rig.client.mount(rig.request)
    assert status.state == "failed"
    assert status.workarea_usable
    assert "Log in again" in (status.fault or "")


async def test_hub_away_does_not_stop_uploads(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    await rig.stop_hub()
    os.kill(rig.rclone_pid, signal.SIGKILL)  # the next rclone asks for credentials again
    first = rig.rclone_pid
    await eventually(lambda: rig.rclone_pid != first, what="another rclone")
    await eventually(lambda: _listing(rig.bucket) is not None, what="the bucket")
    (rig.bucket / "x").write_text("1")
    await eventually(lambda: (rig.objects / "x").is_file(), what="the upload")


async def test_refused_upload_is_told_by_name(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    rig.objects.rmdir()
    rig.objects.touch()  # no object can be stored: uploads are refused
    (rig.bucket / "lost.txt").write_text("x")

    async def told() -> list[str]:
        return (await rig.state()).upload_errors

    errors = await eventually(told, what="the upload's error")
    assert "cloud_storage/alice/lost.txt" in errors[0]
    rig.objects.unlink()
    rig.objects.mkdir()
    await rig.client.drain("alice", 10)
    await eventually(lambda: (rig.objects / "lost.txt").is_file(), what="the upload")


async def test_full_workarea_refuses_and_grows_with_its_quota(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    big = rig.workarea / "local/big"
    with pytest.raises(OSError, match="No space left"):
        big.write_bytes(bytes(70 * 2**20))
    big.unlink()
    grown = replace(rig.request, workarea_quota="128M")
    status = await rig.client.mount(grown)  # under a running server if the kernel lets us
    assert (status.state, status.fault) == ("mounted", None)
    await rig.client.unmount("alice")
    assert (await rig.client.mount(grown)).state == "mounted"
    big.write_bytes(bytes(70 * 2**20))
    # A smaller quota takes nothing away.
    assert (await rig.client.mount(rig.request)).state == "mounted"
    assert big.stat().st_size == 70 * 2**20


async def test_links_in_the_workarea_lead_root_nowhere(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    target = rig.root / "victim"
    target.mkdir(mode=0o700)
    (rig.workarea / "cloud_storage").rmdir()
    (rig.workarea / "cloud_storage").symlink_to(target)
    (rig.workarea / "local").rmdir()
    (rig.workarea / "local").symlink_to(target)
    (rig.workarea / "examples").rmdir()
    (rig.workarea / "examples").write_text("a file of the user's")
    assert (await rig.client.mount(rig.request)).state == "mounted"
    assert target.stat().st_uid == 0
    assert not any(target.iterdir())
    mount_point = rig.workarea / "cloud_storage"
    assert mount_point.is_dir()
    assert not mount_point.is_symlink()
    assert any(name.startswith("cloud_storage.conflict-") for name in _names(rig.workarea))
    assert (rig.workarea / "local").is_symlink(), "the user's own choice stays"
    assert (rig.workarea / "examples").read_text() == "a file of the user's"


async def test_files_under_the_mount_point_are_moved_aside(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    (rig.workarea / "cloud_storage/hidden.txt").write_text("would be hidden by the mount")
    await rig.client.mount(rig.request)
    [aside] = rig.workarea.glob("cloud_storage.conflict-*")
    assert (aside / "hidden.txt").is_file()
    assert not any((rig.workarea / "cloud_storage").iterdir())


async def test_swapping_the_mount_point_while_root_works(rig: MountRig) -> None:
    """A user's process that swaps the directory for a link as fast as it can wins nothing."""
    await rig.client.mount(rig.request)
    target = rig.root / "victim"
    target.mkdir(mode=0o700)
    point, ended = rig.workarea / "cloud_storage", threading.Event()

    def swap() -> None:
        while not ended.is_set():
            for action in (
                point.rmdir, lambda: point.symlink_to(target), point.unlink, point.mkdir
            ):  # fmt: skip
                try:
                    action()
                except OSError:
                    continue

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(10):
            await rig.client.mount(rig.request)
    finally:
        ended.set()
        thread.join()
    assert (target.stat().st_uid, target.stat().st_mode & 0o777) == (0, 0o700)
    assert not any(target.iterdir())


async def test_running_container_sees_the_mount_come_back(rig: MountRig) -> None:
    """A mount namespace with slave binds, as the engine makes one for a container."""
    await rig.client.mount(rig.request)
    (rig.scratch / "alice/first.txt").write_text("1")
    inside = rig.root / "inside"
    inside.mkdir()
    script = (
        f"mount --rbind {rig.workarea} {inside} && mount --make-rslave {inside} && "
        f"mount --rbind {rig.bucket.parent} {inside}/cloud_storage && "
        f"mount --make-rslave {inside}/cloud_storage && echo ready && exec sleep 60"
    )
    words = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script]
    container = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        assert container.stdout is not None
        assert await container.stdout.readline() == b"ready\n"
        seen = Path(f"/proc/{container.pid}/root{inside}/cloud_storage")
        assert (seen / "scratch/alice/first.txt").read_text() == "1"
        first = rig.rclone_pid
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: rig.rclone_pid != first, what="another rclone")

        target, pid = inside / "cloud_storage/alice/second.txt", container.pid
        await eventually(lambda: _touch_as_user(target, pid), what="the bucket inside")
        await eventually(lambda: (rig.objects / "second.txt").is_file(), what="the upload")
    finally:
        container.kill()
        await container.wait()


async def test_torn_down_mount_comes_back(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    unmount(rig.bucket, lazy=True)
    await eventually(lambda: MountTable.read().at(rig.bucket), what="the mount")
    (rig.bucket / "x").write_text("1")
    await eventually(lambda: (rig.objects / "x").is_file(), what="the upload")


def _write_without_storage(rig: MountRig, name: str, text: str) -> None:
    """Write a file that stays pending: in a listing just read, which needs no storage."""
    _names(rig.bucket)
    rig.store.kill()
    (rig.bucket / name).write_text(text)


def _listing(directory: Path) -> list[str] | None:
    try:
        return _names(directory) if MountTable.read().at(directory) else None
    except OSError:
        return None


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def _touch_as_user(path: Path, container: int | None = None) -> bool:
    """Make a file as the user's uid, in a container's mounts if it is given by its pid."""
    inside = ["nsenter", f"--mount=/proc/{container}/ns/mnt"] if container else []
    user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "touch", str(path)]
    return subprocess.run([*inside, *user], capture_output=True).returncode == 0


@pytest.mark.parametrize("before", ["", "what was there before, which is longer"])
async def test_what_a_killed_rclone_left_is_there_once_it_is_uploaded(
    rig: MountRig, before: str
) -> None:
    """rclone forgot what it had uploaded for another, as long as the listing was kept."""
    await rig.client.mount(rig.request)
    if before:
        (rig.bucket / "kept.txt").write_text(before)
        await eventually(rig.drained, what="the first upload")
    _write_without_storage(rig, "kept.txt", "the only copy")
    first = rig.rclone_pid
    await rig.store.start()
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: rig.rclone_pid != first, what="another rclone")
    # Whoever works beside it has the directory listed before the upload.
    await eventually(lambda: _listing(rig.bucket), what="the listing")
    content = "the only copy"
    await eventually(
        lambda: (
            (rig.objects / "kept.txt").is_file()
            and (rig.objects / "kept.txt").read_text() == content
        ),
        30,
        "the upload",
    )
    await eventually(rig.drained, what="an empty queue")
    with (rig.bucket / "kept.txt").open("a") as file:
        file.write(", and more")
    content += ", and more"
    assert (rig.bucket / "kept.txt").read_text() == content
    await eventually(lambda: (rig.objects / "kept.txt").read_text() == content, what="it")


async def test_another_cache_directory_leaves_what_waits_where_it_is(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    _write_without_storage(rig, "kept.txt", "the only copy")
    rig.kill_daemon(signal.SIGKILL)
    os.kill(rig.rclone_pid, signal.SIGKILL)
    rig.settings.mount_plane.cache_directory = rig.root / "another"
    await rig.start_daemon()
    await rig.store.start()
    await eventually(lambda: (rig.objects / "kept.txt").is_file(), 30, "the upload")
    assert (rig.objects / "kept.txt").read_text() == "the only copy"
    await rig.client.unmount("alice")
    await rig.client.mount(rig.request)
    assert (rig.bucket / "kept.txt").read_text() == "the only copy"
    assert (rig.root / "another/alice/vfs").is_dir()


async def test_a_cache_that_is_not_there_is_waited_for(rig: MountRig) -> None:
    """Its disk was not mounted, say; rclone would forget all that lies in it."""
    await rig.client.mount(rig.request)
    _write_without_storage(rig, "kept.txt", "the only copy")
    rig.kill_daemon(signal.SIGKILL)
    os.kill(rig.rclone_pid, signal.SIGKILL)
    caches = rig.root / "state/mount-plane/cache"
    caches.rename(rig.root / "elsewhere")
    await rig.start_daemon()
    await rig.store.start()

    async def told() -> bool:
        return "is its disk mounted?" in str((await rig.state()).fault)

    await eventually(told, 20, "the fault")
    (rig.root / "elsewhere/alice").rename(caches / "alice")
    await eventually(lambda: (rig.objects / "kept.txt").is_file(), 60, "the upload")
    assert (rig.objects / "kept.txt").read_text() == "the only copy"
