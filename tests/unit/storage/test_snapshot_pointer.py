"""The pointer to the newest snapshot, in a storage that fails for a moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from taccuino.settings import Settings
from taccuino.storage.mount_plane.credentials import StorageCredentials
from taccuino.storage.mount_plane.snapshots import pointer
from taccuino.storage.mount_plane.snapshots.pointer import Pointers
from taccuino.storage.mount_plane.snapshots.restic import SnapshotError


class Storage:
    """Answers with what it is told, one after the other; None hangs up."""

    def __init__(self) -> None:
        self.answers: list[int | None] = []
        self.asked = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        status = self.answers.pop(0) if self.answers else None
        if status is None:
            assert request.transport
            request.transport.abort()
        return web.Response(status=status or 200)


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    made, app = Storage(), web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def pointers(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pointers]:
    monkeypatch.setattr(pointer, "_PAUSES", (0.01, 0.01))
    made = Pointers(
        Settings.parse({"state_dir": tmp_path, "storage": {"endpoint": storage.url}})
    )
    yield made
    await made.close()


NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = StorageCredentials("id", "secret", "token", NOW, NOW)


@pytest.mark.parametrize("answers", [[404], [500, 404], [None, 503, 404]])
async def test_what_fails_for_a_moment_is_asked_again(
    storage: Storage, pointers: Pointers, answers: list[int | None]
) -> None:
    storage.answers = list(answers)
    assert await pointers.get("alice", KEYS) is None
    assert storage.asked == len(answers)


@pytest.mark.parametrize(
    ("answers", "asked", "reason"),
    [([500] * 3, 3, "unreachable"), ([403], 1, "denied"), ([], None, "unreachable")],
)
async def test_what_goes_on_failing_is_told(
    storage: Storage, pointers: Pointers, answers: list[int | None], asked: int, reason: str
) -> None:
    storage.answers = list(answers)
    with pytest.raises(SnapshotError) as refused:
        await pointers.get("alice", KEYS)
    assert refused.value.reason == reason
    # aiohttp itself asks again where a connection is cut that was kept.
    assert asked in (storage.asked, None)
