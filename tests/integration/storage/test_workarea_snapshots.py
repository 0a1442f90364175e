"""The workarea follows its user: real restic, two mount planes over one real S3 store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from support.mounts import UID, MountRig, eventually, mount_rig
from taccuino.storage.mount_client import MountPlaneError, MountRequestError
from taccuino.storage.mount_plane.kernel import MountTable
from taccuino.storage.snapshots import Arrival, SnapshotOwner, SnapshotState

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no /dev/fuse"),
    pytest.mark.skipif(not shutil.which("restic"), reason="restic is not installed"),
    pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed"),
]

OWNER = SnapshotOwner("alice", "alice", "alice-bucket")
SETTINGS: dict[str, Any] = {"every_minutes": 0, "stop_seconds": 30, "thin_hours": 1000}


def shell(words: str, uid: int = UID) -> str:
    """What a process of this host uid, without rights, sees and does."""
    done = subprocess.run(
        ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh", "-ec", words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Site:
    """A site as its hub drives it: a start, a server that works, a stop."""

    rig: MountRig

    async def start(self) -> Arrival:
        """As `HubStorage` does where no server waits."""
        arrival = await self.rig.snapshots.arrive(self.rig.request, "replace")
        if arrival.course == "replace":
            await self.done()
            took = await self.rig.snapshots.arrive(self.rig.request, "take")
            assert took.course == "keep", took
        status = await self.rig.client.mount(self.rig.request, workarea_only=True)
        assert status.workarea_usable, status
        if arrival.course == "beside":
            await self.done()
        return arrival

    async def stop(self) -> SnapshotState:
        state = await self.rig.snapshots.stop("alice")
        await self.rig.client.unmount("alice", drain=False)
        return state

    async def done(self, limit: float = 60) -> SnapshotState:
        """Wait for the job that is under way."""

        async def ended() -> SnapshotState | None:
            state = await self.rig.snapshots.state("alice")
            return state if state.job and state.job.state != "running" else None

        state: SnapshotState = await eventually(ended, limit, "the job's end")
        return state

    async def make(self) -> SnapshotState:
        """Make one; if one is being made already, of what there was, another."""
        if (await self.rig.snapshots.state("alice")).job:
            await self.done()
        await self.rig.snapshots.make(OWNER)
        return await self.done()

    @property
    def area(self) -> Path:
        return self.rig.workarea

    def write(self, name: str, text: str) -> None:
        shell(
            f"mkdir -p $(dirname {self.area}/{name}); printf %s {text!r} > {self.area}/{name}"
        )

    def read(self, name: str) -> str:
        return (self.area / name).read_text()

    @property
    def repository(self) -> Path:
        return self.rig.objects / ".taccuino/workarea/repository"


@contextlib.asynccontextmanager
async def site(
    name: str, store: MountRig | None = None, **settings: Any
) -> AsyncIterator[Site]:
    """A site of its own; over another's store, with its secret."""
    known = {**SETTINGS, **settings}
    endpoint = None
    if store:
        endpoint = store.settings.storage.endpoint
        known.setdefault("key_file", str(store.settings.snapshots.key_file))
    async with mount_rig(endpoint, name, known) as rig:
        yield Site(rig)
        print(rig.log)  # shown with a failure


@pytest.fixture
async def bari() -> AsyncIterator[Site]:
    async with site("bari") as running:
        yield running


@pytest.fixture
async def cnaf(bari: Site) -> AsyncIterator[Site]:
    async with site("cnaf", bari.rig) as running:
        yield running


async def test_a_workarea_is_restored_at_another_site(bari: Site, cnaf: Site) -> None:
    assert (await bari.start()).course == "keep"
    bari.write("local/notes.txt", "one")
    bari.write("cloud_storage/hidden", "no")
    bari.write("examples/mine.py", "stays")
    shell(f"ln -s notes.txt {bari.area}/local/link; chmod 700 {bari.area}/local/notes.txt")
    shell(f"printf x > {bari.area}/local/secret; chmod 0 {bari.area}/local/secret")
    state = await bari.stop()
    assert state.job
    assert state.job.message == "A snapshot was made.", state
    arrival = await cnaf.start()
    assert arrival.course == "replace"
    assert arrival.snapshot
    assert arrival.snapshot.site == "bari"
    assert cnaf.read("local/notes.txt") == "one"
    found = (cnaf.area / "local/notes.txt").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (UID, UID, 0o700)
    assert (cnaf.area / "local/link").readlink() == Path("notes.txt")
    assert (cnaf.area / "local/secret").stat().st_mode & 0o777 == 0
    assert not (cnaf.area / "examples/mine.py").exists()
    assert not (cnaf.area / "cloud_storage/hidden").exists()
    state = await cnaf.rig.snapshots.state("alice")
    assert state.job
    assert state.job.message.endswith("from site bari.")


async def test_back_and_forth_and_nothing_is_made_where_nothing_changed(
    bari: Site, cnaf: Site
) -> None:
    await bari.start()
    bari.write("local/a", "1")
    bari.write("local/gone", "1")
    await bari.stop()
    await cnaf.start()
    made = len(list((bari.repository / "snapshots").iterdir()))
    state = await cnaf.stop()
    assert state.job
    assert state.job.message.startswith("Nothing has changed"), state
    assert len(list((bari.repository / "snapshots").iterdir())) == made == 1
    await cnaf.start()
    cnaf.write("local/a", "2")
    shell(f"rm {cnaf.area}/local/gone")
    bari_examples = bari.rig.root / "state/workareas"
    assert bari_examples.exists()
    await cnaf.stop()
    began = await bari.start()
    assert began.course == "replace"
    assert bari.read("local/a") == "2"
    assert not (bari.area / "local/gone").exists()  # what was deleted there is
    await bari.stop()
    assert (await bari.start()).course == "keep"


async def test_the_examples_that_were_changed_stay_on_the_node(bari: Site, cnaf: Site) -> None:
    await bari.start()
    bari.write("local/a", "1")
    bari.write("examples/mine.py", "changed")
    await bari.stop()
    await cnaf.start()
    cnaf.write("local/a", "2")
    await cnaf.stop()
    assert (await bari.start()).course == "replace"
    assert (bari.read("local/a"), bari.read("examples/mine.py")) == ("2", "changed")


async def test_where_both_changed_both_are_kept(bari: Site, cnaf: Site) -> None:
    """A partition: the server at bari goes on, unseen, while the user works at cnaf."""
    await bari.start()
    bari.write("local/a", "common")
    await bari.make()
    bari.write("local/a", "bari")
    await cnaf.start()
    assert cnaf.read("local/a") == "common"
    cnaf.write("local/a", "cnaf")
    await cnaf.stop()
    state = await bari.stop()
    assert state.job
    assert "changed at site cnaf" in state.job.message
    # Who goes on at cnaf is told of what was made apart, and can have it.
    arrival = await cnaf.start()
    assert arrival.course == "keep"
    assert arrival.message
    assert "At site bari" in arrival.message
    listed = await cnaf.rig.snapshots.list(OWNER)
    assert [(one.site, one.newest, one.apart) for one in listed] == [
        ("bari", False, True),
        ("cnaf", True, False),
        ("bari", False, False),
    ]
    await cnaf.stop()
    # Who comes back to bari finds the other beside it.
    arrival = await bari.start()
    assert arrival.course == "beside"
    assert arrival.message
    assert "Nothing is lost" in arrival.message
    assert bari.read("local/a") == "bari"
    (folder,) = bari.area.glob("restored-cnaf-*")
    assert (folder / "local/a").read_text() == "cnaf"
    assert folder.stat().st_uid == UID
    state = await bari.rig.snapshots.state("alice")
    assert any(folder.name in notice for notice in state.notices)
    # From there on it is one again.
    await bari.stop()
    arrival = await cnaf.start()
    assert (arrival.course, arrival.message) == ("replace", None)
    assert cnaf.read("local/a") == "bari"
    assert (cnaf.area / folder.name / "local/a").read_text() == "cnaf"


async def test_an_image_that_was_moved_away_comes_back(bari: Site) -> None:
    await bari.start()
    bari.write("local/a", "1")
    await bari.stop()
    image = bari.rig.root / "state/workareas/alice.img"
    image.rename(image.with_suffix(".away"))
    assert (await bari.start()).course == "replace"
    assert bari.read("local/a") == "1"


async def test_an_area_from_before_there_were_snapshots_is_never_replaced(
    bari: Site, cnaf: Site
) -> None:
    await cnaf.start()
    cnaf.write("local/a", "cnaf")
    await cnaf.stop()
    await bari.rig.client.mount(bari.rig.request, workarea_only=True)
    bari.write("local/a", "old")
    await bari.rig.client.unmount("alice", drain=False)
    (bari.rig.root / "state/workareas/alice.lineage.json").unlink()
    assert (await bari.start()).course == "beside"
    assert bari.read("local/a") == "old"


async def test_at_intervals_and_on_request() -> None:
    async with site("bari", every_minutes=0.05) as bari:
        await bari.start()
        bari.write("local/a", "1")

        def made() -> int:
            folder = bari.repository / "snapshots"
            return len(list(folder.iterdir())) if folder.exists() else 0

        await eventually(made, 40, "a snapshot")
        await asyncio.sleep(12)  # four intervals in which nothing changes
        assert made() == 1
        bari.write("local/a", "2")
        await eventually(lambda: made() == 2, 40, "the second snapshot")
        state = await bari.make()
        assert state.job
        assert state.job.state == "done"


async def test_an_old_snapshot_is_restored_into_a_folder_of_a_running_server(
    bari: Site,
) -> None:
    await bari.start()
    bari.write("local/a", "1")
    await bari.make()
    bari.write("local/a", "2")
    await bari.make()
    first = (await bari.rig.snapshots.list(OWNER))[-1]
    assert first.files == 1
    assert first.bytes == 1
    await bari.rig.snapshots.restore(OWNER, first.id)
    state = await bari.done()
    assert state.job
    assert state.job.folder
    assert state.job.folder.startswith("restored-bari-")
    assert bari.read(f"{state.job.folder}/local/a") == "1"
    assert bari.read("local/a") == "2"
    await bari.rig.snapshots.restore(OWNER, first.id)
    again = await bari.done()
    assert again.job
    assert again.job.folder == f"{state.job.folder}-2"
    # And where no server runs.
    await bari.stop()
    await bari.rig.snapshots.restore(OWNER, first.id)
    last = await bari.done()
    assert last.job
    assert last.job.folder == f"{state.job.folder}-3"
    await bari.start()
    assert bari.read(f"{last.job.folder}/local/a") == "1"


async def test_the_mount_does_not_show_the_repository(bari: Site) -> None:
    await bari.start()
    bari.write("local/a", "1")
    await bari.make()
    await bari.rig.client.mount(bari.rig.request)
    shell(f"printf x > {bari.rig.bucket}/own.txt")
    assert shell(f"ls -A {bari.rig.bucket}").split() == ["own.txt"]
    shell(f"rm -rf {bari.rig.bucket}/* {bari.rig.bucket}/.[!.]* || true")
    await eventually(lambda: not (bari.rig.objects / "own.txt").exists(), what="the removal")
    assert (bari.repository / "config").exists()
    # Nothing that could be read lies there.
    objects = [path for path in bari.rig.objects.rglob("*") if path.is_file()]
    assert objects
    secret = bari.rig.settings.snapshots.key_file
    assert secret
    assert secret.stat().st_mode & 0o77 == 0
    assert not any(b"local/a" in path.read_bytes() for path in objects)
    left = list((bari.rig.root / "state/mount-plane/users/alice").glob("restic-run-*"))
    assert left == []


async def test_the_old_ones_are_thinned() -> None:
    async with site(
        "bari", keep_last=2, keep_hourly=0, keep_daily=0, keep_weekly=0, keep_monthly=0,
        thin_hours=0,
    ) as bari:  # fmt: skip
        await bari.start()
        for number in range(4):
            bari.write("local/a", str(number))
            await bari.make()

        async def few() -> bool:
            return len(await bari.rig.snapshots.list(OWNER)) == 2

        await eventually(few, 60, "the thinning")
        newest = (await bari.rig.snapshots.list(OWNER))[0]
        assert newest.newest


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
    # What was restored in part goes before the next one.
    shell(f"rm {bari.area}/local/big")
    await bari.rig.snapshots.restore(OWNER, one.id)
    state = await bari.done()
    assert state.job
    assert state.job.state == "done", state
    assert not list(bari.area.glob(".restoring-*"))


async def test_a_plain_area_is_restored_too(bari: Site, cnaf: Site) -> None:
    for one in (bari, cnaf):
        one.rig.request = replace(one.rig.request, workarea_quota=None)
    await bari.start()
    bari.write("local/a", "1")
    await bari.stop()
    assert (await cnaf.start()).course == "replace"
    assert cnaf.read("local/a") == "1"
    cnaf.write("local/a", "2")
    await cnaf.stop()
    assert (await bari.start()).course == "replace"
    assert bari.read("local/a") == "2"
