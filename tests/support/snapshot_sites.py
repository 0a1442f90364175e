"""Sites as their hubs drive them, for tests of snapshots: real mount planes over one store."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.mounts import UID, MountRig, eventually, mount_rig
from taccuino.storage.snapshots import Arrival, SnapshotOwner, SnapshotState

NEEDED = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no /dev/fuse"),
    pytest.mark.skipif(not shutil.which("restic"), reason="restic is not installed"),
    pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed"),
]
"""The marks of tests that need these sites."""
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
