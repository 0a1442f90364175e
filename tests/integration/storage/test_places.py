"""A user's files shown to a server with other uids, at the place where it looks."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.mounts import UID, MountRig, eventually, mount_rig
from taccuino.storage.mount_client import PLACES, MountRequest, MountRequestError
from taccuino.storage.mount_plane import idmap
from taccuino.storage.mount_plane.kernel import MountTable

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no /dev/fuse"),
    pytest.mark.skipif(not idmap.is_supported(), reason="the kernel is older than 5.12"),
]

OTHER = UID + 10 * 65_536


@pytest.fixture
async def rig() -> AsyncIterator[MountRig]:
    async with mount_rig() as running:
        yield running
        print(running.log)  # shown with a failure


def waiting(rig: MountRig, uid: int = OTHER, place: str = "warm-1") -> MountRequest:
    return replace(rig.request, uid=uid, gid=uid, owner=UID, place=place)


def place_of(rig: MountRig, name: str = "warm-1") -> Path:
    return rig.root / "state/mounts" / PLACES / name


def shell(uid: int, words: str) -> str:
    """What a process of this host uid, without rights, sees and does."""
    done = subprocess.run(
        ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh", "-ec", words],
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout + done.stderr


async def test_files_are_seen_as_the_servers_and_stay_the_owners(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    shell(UID, f"echo before > {rig.workarea}/local/old.txt")
    await rig.client.unmount("alice")
    status = await rig.client.mount(waiting(rig))
    place = place_of(rig)
    assert (status.state, status.workarea, status.uid) == ("mounted", place, OTHER)
    assert place.stat().st_uid == OTHER
    said = shell(
        OTHER,
        f"cd {place}; cat local/old.txt; echo new > local/new.txt; rm local/old.txt; "
        "echo saved > cloud_storage/alice/saved.txt; stat -c %u cloud_storage/alice/saved.txt",
    )
    assert said == f"before\n{OTHER}\n"
    # Nobody else gets in, the user's own uid included.
    assert "denied" in shell(UID, f"ls {place}/local")
    assert "denied" in shell(OTHER + 1, f"ls {place}/local")
    await rig.client.unmount("alice")
    assert (rig.objects / "saved.txt").read_text() == "saved\n"
    assert (await rig.client.status("alice")).uid == 0
    left = MountTable.read().below(rig.root / "state/mounts")
    assert [entry.path for entry in left] == []
    assert not place.exists()
    await rig.client.mount(rig.request)
    assert (rig.workarea / "local/new.txt").stat().st_uid == UID


async def test_the_bucket_appears_at_the_place_whenever_it_is_mounted(rig: MountRig) -> None:
    await rig.client.mount(waiting(rig), workarea_only=True)
    inside = place_of(rig) / "cloud_storage/alice"
    assert not inside.is_mount()
    await rig.client.mount(waiting(rig))
    assert inside.is_mount()
    first = rig.rclone_pid
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: rig.rclone_pid != first, what="another rclone")
    await eventually(lambda: inside.is_mount() and inside.is_dir(), what="the bucket again")
    # It is not mounted within the user's own workarea.
    assert not (rig.workarea / "cloud_storage/alice").exists()


async def test_another_server_of_the_user_sees_the_same(rig: MountRig) -> None:
    await rig.client.mount(waiting(rig))
    pid = rig.rclone_pid
    status = await rig.client.mount(replace(rig.request, uid=OTHER, gid=OTHER, owner=UID))
    assert (status.state, status.workarea, rig.rclone_pid) == ("mounted", place_of(rig), pid)


async def test_a_daemon_that_is_started_again_keeps_the_place(rig: MountRig) -> None:
    await rig.client.mount(waiting(rig))
    rig.kill_daemon(signal.SIGKILL)
    await rig.start_daemon()
    status = await rig.client.mount(waiting(rig))
    assert (status.state, status.workarea) == ("mounted", place_of(rig))
    assert shell(OTHER, f"touch {place_of(rig)}/local/x && echo done") == "done\n"
    await rig.client.unmount("alice")
    assert MountTable.read().below(rig.root / "state/mounts") == []


async def test_what_waits_for_its_upload_outlives_a_change_of_uids(rig: MountRig) -> None:
    await rig.client.mount(waiting(rig))
    bucket = place_of(rig) / "cloud_storage/alice"
    assert shell(OTHER, f"echo first > {bucket}/first.txt; ls {bucket}") == "first.txt\n"
    await eventually(rig.drained, what="an empty queue")
    rig.store.kill()
    assert shell(OTHER, f"echo kept > {bucket}/kept.txt") == ""
    assert (await rig.client.unmount("alice", drain=False)).state == "draining"
    # The user's next server gets the uids of what is still mounted.
    held = (await rig.client.status("alice")).uid
    assert held == OTHER
    status = await rig.client.mount(replace(rig.request, uid=held, gid=held, owner=UID))
    view = status.workarea
    assert (view / "local").stat().st_uid == OTHER
    bucket = status.cloud_storage / "alice"
    assert shell(OTHER, f"cat {bucket}/kept.txt") == "kept\n"
    await rig.store.start()
    await eventually(lambda: (rig.objects / "kept.txt").exists(), 40, "the upload")
    await rig.client.unmount("alice")
    assert MountTable.read().below(rig.root / "state/mounts") == []


@pytest.mark.parametrize("place", ["../alice", "", "a/b", "-x", "A" * 99])
async def test_a_place_that_leads_elsewhere(rig: MountRig, place: str) -> None:
    with pytest.raises(MountRequestError, match="no name of a place"):
        waiting(rig, place=place)
