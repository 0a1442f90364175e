"""Snapshots when something breaks, or somebody means harm: real restic, a real S3 store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.mounts import eventually
from support.reliability import EVERY
from support.snapshot_sites import NEEDED, OWNER, Site, shell, site
from taccuino.storage.mount_client import MountPlaneError, MountRequestError
from taccuino.storage.mount_plane.kernel import MountTable
from taccuino.storage.snapshots import SnapshotOwner

pytestmark = NEEDED


@pytest.fixture
async def bari() -> AsyncIterator[Site]:
    async with site("bari") as running:
        yield running


@pytest.fixture
async def cnaf(bari: Site) -> AsyncIterator[Site]:
    async with site("cnaf", bari.rig) as running:
        yield running


async def test_killed_in_the_middle_of_a_snapshot(bari: Site) -> None:
    await bari.start()
    shell(f"head -c 30M /dev/urandom > {bari.area}/local/big")
    for daemon_too in (False, True):
        await bari.rig.snapshots.make(OWNER)
        await eventually(lambda: restic_pids(bari), 30, "restic")
        await asyncio.sleep(0.3)
        if daemon_too:
            bari.rig.kill_daemon()
        else:
            kill_restic(bari)
        await eventually(lambda: not restic_pids(bari), 10, "the end of restic")
        if not daemon_too:
            state = await bari.done()
            assert state.job
            assert state.job.state == "failed"
        else:
            await bari.rig.start_daemon()
    state = await bari.make()
    assert state.job
    assert state.job.state == "done", state
    image = bari.rig.root / "state/workareas/alice.img"
    await bari.stop()
    image.unlink()
    assert (await bari.start()).course == "replace"
    assert (bari.area / "local/big").stat().st_size == 30 << 20


def restic_pids(site: Site) -> list[int]:
    """What runs over the sites' store: others' tests may run restic too."""
    found = subprocess.run(["pgrep", "-x", "restic"], capture_output=True, text=True).stdout
    mine = []
    for pid in map(int, found.split()):
        with contextlib.suppress(OSError):
            if str(site.rig.settings.storage.endpoint).encode() in environment_of(pid):
                mine.append(pid)
    return mine


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def kill_restic(site: Site) -> None:
    for pid in restic_pids(site):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_killed_in_the_middle_of_a_restore(bari: Site, cnaf: Site) -> None:
    await bari.start()
    shell(f"head -c 40M /dev/urandom > {bari.area}/local/big")
    await bari.stop()
    await cnaf.rig.snapshots.arrive(cnaf.rig.request, "replace")
    await eventually(lambda: restic_pids(cnaf), 30, "restic")
    kill_restic(cnaf)
    state = await cnaf.done()
    assert state.job
    assert state.job.state == "failed"
    assert not (cnaf.rig.root / "state/workareas/alice.img").exists()
    await cnaf.rig.snapshots.arrive(cnaf.rig.request, "replace")
    await eventually(lambda: restic_pids(cnaf), 30, "restic")
    cnaf.rig.kill_daemon()
    await eventually(lambda: not restic_pids(cnaf), 10, "the end of restic")
    await cnaf.rig.start_daemon()
    assert list((cnaf.rig.root / "state/workareas").glob("*")) == []  # nothing half-made
    assert (await cnaf.start()).course == "replace"
    assert (cnaf.area / "local/big").stat().st_size == 40 << 20
    await cnaf.stop()
    left = [
        entry.path
        for entry in MountTable.read().below(cnaf.rig.root / "state/mounts/.snapshots")
    ]
    assert left == []


async def test_a_lock_that_was_left_behind_is_removed(bari: Site) -> None:
    await bari.start()
    bari.write("local/a", "1")
    await bari.make()
    before = {path.name for path in (bari.repository / "locks").glob("*")}
    # As a prune leaves it that was killed: ours, and exclusive.
    made = lock_of(bari, exclusive=True)
    assert made - before
    bari.write("local/a", "2")
    state = await bari.make()
    assert state.job
    assert state.job.message == "A snapshot was made.", state


def lock_of(site: Site, *, exclusive: bool) -> set[str]:
    """Take a lock and be killed, in the node's name."""
    from taccuino.storage.mount_plane.layout import node_name
    from taccuino.storage.mount_plane.snapshots.key import derived_key, service_secret

    settings = site.rig.settings
    key = derived_key(service_secret(settings), "alice")
    words = ["prune" if exclusive else "check"]
    url = f"s3:{settings.storage.endpoint}/alice-bucket/.taccuino/workarea/repository"
    process = subprocess.Popen(
        [
            *("unshare", "--uts", "--pid", "--fork", "--kill-child", "sh", "-c"),
            f"hostname {node_name(settings)}; exec restic --no-cache $0",
            *words,
        ],
        env={
            "PATH": os.environ["PATH"],
            "RESTIC_REPOSITORY": url,
            "RESTIC_PASSWORD": key,
            "AWS_ACCESS_KEY_ID": "ACCESSKEYOFTESTS",
            "AWS_SECRET_ACCESS_KEY": "SECRETKEYOFTESTS",
        },
    )
    locks = site.repository / "locks"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = {path.name for path in locks.glob("*")} if locks.exists() else set()
        if found:
            process.kill()
            process.wait()
            return {path.name for path in locks.glob("*")}
        assert process.poll() is None, "restic ended before it was killed"
        time.sleep(0.002)
    raise AssertionError("no lock was taken")


async def test_another_key_reads_nothing_and_harms_nothing(bari: Site) -> None:
    await bari.start()
    bari.write("local/a", "1")
    await bari.stop()
    other = bari.rig.root / "other-key"
    other.write_text("0" * 64)
    other.chmod(0o600)
    async with site("cnaf", bari.rig, key_file=str(other)) as cnaf:
        arrival = await cnaf.rig.snapshots.arrive(cnaf.rig.request, "replace")
        assert arrival.course == "replace"
        state = await cnaf.done()
        assert state.job
        assert state.job.state == "failed"
        assert "another key" in state.job.message
        await cnaf.rig.snapshots.arrive(cnaf.rig.request, "take")
        await cnaf.rig.client.mount(cnaf.rig.request, workarea_only=True)
        cnaf.write("local/b", "2")
        state = await cnaf.stop()
        assert state.fault
        assert "another key" in state.fault
        with pytest.raises(MountPlaneError, match="another key"):
            await cnaf.rig.snapshots.list(OWNER)
    (newest,) = await bari.rig.snapshots.list(OWNER)
    assert newest.newest


@pytest.mark.skipif(not EVERY, reason="takes two minutes: TACCUINO_FAULT_ALL=1")
async def test_the_storage_is_away_at_the_stop(bari: Site) -> None:
    await bari.start()
    bari.write("local/a", "1")
    bari.rig.store.kill()

    async def away() -> bool:
        return (await bari.rig.state()).storage_away

    await eventually(away, 40, "that the storage is away")
    began = time.monotonic()
    state = await bari.stop()
    assert time.monotonic() - began < 10
    assert state.job
    assert state.job.state == "failed"
    assert "can't be reached" in state.job.message
    # A start meanwhile is not held up either, and what is there is kept.
    began = time.monotonic()
    arrival = await bari.start()
    assert time.monotonic() - began < 5
    assert arrival.course == "keep"
    await bari.stop()
    await bari.rig.store.start()
    await eventually(
        lambda: (bari.repository / "snapshots").exists(), 150, "the snapshot, after all"
    )


async def test_hostile_requests_are_refused_in_words(bari: Site) -> None:
    for snapshot in ("", "latest", "../../etc", "-h", "--help", "a" * 65, "0000", "0000000\n"):
        with pytest.raises(MountRequestError, match="no snapshot's id"):
            await bari.rig.snapshots.restore(OWNER, snapshot)
    with pytest.raises(MountPlaneError) as refused:
        await bari.rig.snapshots.restore(OWNER, "0123abcd")
    assert refused.value.status == 404
    for body in ({}, {"username": "alice", "slug": "alice", "bucket": "../x"}, []):
        with pytest.raises(MountRequestError):
            await bari.rig.client.call("POST", "/snapshots/alice/list", body=body)  # type: ignore[arg-type]
    with pytest.raises(MountRequestError):
        SnapshotOwner("alice", "bob", "alice-bucket")
    for path in ("/snapshots/..%2f..%2fetc", "/snapshots/A"):
        with pytest.raises(MountPlaneError):
            await bari.rig.client.call("GET", path)


async def test_links_lead_nowhere_out_of_the_area(bari: Site) -> None:
    """The user puts links where the service reads and writes."""
    secret = bari.rig.root / "state/secrets/mount-plane-token"
    await bari.start()
    bari.write("local/a", "1")
    shell(f"ln -s {secret.parent} {bari.area}/local/way-out; ln -s / {bari.area}/root")
    await bari.make()
    shell(f"rm -r {bari.area}/local; ln -s {bari.rig.root}/victim {bari.area}/local")
    victim = bari.rig.root / "victim"
    victim.mkdir(mode=0o777)
    victim.chmod(0o777)
    (one,) = await bari.rig.snapshots.list(OWNER)
    shell(f"ln -s {victim} {bari.area}/.restoring-{one.id}")
    await bari.rig.snapshots.restore(OWNER, one.id)
    state = await bari.done()
    assert state.job
    assert state.job.state == "done", state
    assert list(victim.iterdir()) == []
    assert bari.read(f"{state.job.folder}/local/a") == "1"


async def test_a_full_workarea_tells_and_keeps_what_is_there(bari: Site) -> None:
    await bari.start()
    shell(f"head -c 30M /dev/urandom > {bari.area}/local/big")
    await bari.make()
    (one,) = await bari.rig.snapshots.list(OWNER)
    await bari.rig.snapshots.restore(OWNER, one.id)
    state = await bari.done()
    assert state.job
    assert state.job.state == "failed"
    assert "not enough room" in state.job.message
    assert (bari.area / "local/big").stat().st_size == 30 << 20
    assert not list(bari.area.glob(".restoring-*"))
    # There would be room, but another comes first.
    shell(f"rm {bari.area}/local/big; mkdir -p {bari.area}/.restoring-0/a/b")
    shell(f"touch {bari.area}/.restoring-0/a/c; chmod -R 500 {bari.area}/.restoring-0")
    await bari.rig.snapshots.restore(OWNER, one.id)
    state = await bari.done()
    assert state.job
    assert state.job.state == "done", state
    assert not list(bari.area.glob(".restoring-*"))


async def test_a_restore_into_a_folder_that_is_cut_off_leaves_nothing(bari: Site) -> None:
    await bari.start()
    shell(f"head -c 20M /dev/urandom > {bari.area}/local/big; chmod 500 {bari.area}/local")
    await bari.make()
    (one,) = await bari.rig.snapshots.list(OWNER)
    for given_up in (True, False):
        await bari.rig.snapshots.restore(OWNER, one.id)
        folder = bari.area / f".restoring-{one.id}"
        await eventually(lambda: (folder / "local").exists(), 30, "some of it")  # noqa: B023
        if given_up:
            await bari.rig.snapshots.give_up("alice")
        else:
            kill_restic(bari)
        state = await bari.done()
        assert state.job
        assert state.job.state == "failed"
        assert sorted(path.name for path in bari.area.iterdir()) == [
            "cloud_storage",
            "examples",
            "local",
        ]


async def test_two_first_snapshots_at_once_make_one_repository(bari: Site, cnaf: Site) -> None:
    for one in (bari, cnaf):
        await one.start()
        one.write("local/a", one.rig.settings.site)
    await asyncio.gather(*(one.rig.snapshots.make(OWNER) for one in (bari, cnaf)))
    states = [await one.done() for one in (bari, cnaf)]
    for one, state in zip((bari, cnaf), states, strict=True):
        assert state.job
        if state.job.state == "failed":
            assert "from another machine" in state.job.message
            await one.make()
    for one in (bari, cnaf):
        assert len(await one.rig.snapshots.list(OWNER)) == 2
    assert not list((bari.repository.parent / "claims").glob("*"))
