"""The workarea follows its user: real restic, two mount planes over one real S3 store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.mounts import UID, eventually
from support.snapshot_sites import NEEDED, OWNER, Site, shell, site

pytestmark = NEEDED


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
    other = UID + 5 * 65_536  # each site gives users ids as they come
    cnaf.rig.request = replace(cnaf.rig.request, uid=other, gid=other, owner=other)
    arrival = await cnaf.start()
    assert arrival.course == "replace"
    assert arrival.snapshot
    assert arrival.snapshot.site == "bari"
    assert cnaf.read("local/notes.txt") == "one"
    found = (cnaf.area / "local/notes.txt").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (other, other, 0o700)
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
