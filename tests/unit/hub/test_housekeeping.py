"""Which mounts the hub lets go of."""

from __future__ import annotations

from pathlib import Path

import pytest

from taccuino.hub.housekeeping import release_mounts
from taccuino.settings import Settings
from taccuino.storage.mount_client import MountPlaneError, MountStatus


class StandInPlane:
    def __init__(self, **states: str) -> None:
        self.states = states
        self.let_go: list[str] = []

    async def list(self):
        if "error" in self.states:
            raise MountPlaneError("it is away")
        where = Path("/m")
        return [
            MountStatus(name, state, where, where, username=name)
            for name, state in self.states.items()
        ]

    async def drain(self, slug, timeout, report):
        report("Uploading to the object storage: 1 file left")

    async def unmount(self, slug, *, drain):
        self.let_go.append(slug)


class StandInBackend:
    settings = Settings()
    snapshots = None

    def __init__(self, **states: str) -> None:
        self.mount_plane = StandInPlane(**states)


@pytest.mark.parametrize(
    ("state", "has_server", "released"),
    [
        ("mounted", False, True),
        ("failed", False, True),
        ("draining", False, False),
        ("mounted", True, False),
        ("failed", True, False),
    ],
)
async def test_only_mounts_without_a_server_are_let_go(state, has_server, released):
    backend = StandInBackend(ana=state)
    assert await release_mounts(backend, lambda _: has_server) == ["ana"] * released
    assert backend.mount_plane.let_go == ["ana"] * released


async def test_a_server_that_starts_meanwhile_keeps_its_mounts():
    backend = StandInBackend(ana="mounted")
    asked = iter([False, True])
    await release_mounts(backend, lambda _: next(asked))
    assert backend.mount_plane.let_go == []


async def test_a_mount_plane_that_is_away_is_told():
    with pytest.raises(MountPlaneError):
        await release_mounts(StandInBackend(error=""), lambda _: False)
