"""Who asks for the object storage waits while it is being mounted, and no longer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from taccuino.server import storage_gate
from taccuino.server.status_file import STATUS_FILE
from taccuino.server.storage_gate import StorageGate


def gate(workarea: Path, pending: str = "1") -> StorageGate:
    return StorageGate(
        {"JUPYTERHUB_ROOT_DIR": str(workarea), "TACCUINO_STORAGE_PENDING": pending}
    )


def tell(workarea: Path, state: str) -> None:
    file = workarea / STATUS_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"state": state}))
    new.replace(file)


@pytest.mark.parametrize("pending", ["", "0"])
async def test_nothing_is_to_come(tmp_path: Path, pending: str) -> None:
    async with asyncio.timeout(2):
        await gate(tmp_path, pending).wait()


async def test_it_opens_when_all_is_mounted(tmp_path: Path) -> None:
    closed = gate(tmp_path)
    waiting = [asyncio.create_task(closed.wait()) for _ in range(3)]
    for state in (None, "failed"):
        if state:
            tell(tmp_path, state)
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
    tell(tmp_path, "mounted")
    async with asyncio.timeout(4):
        await asyncio.gather(*waiting)
    tell(tmp_path, "failed")  # later faults hold up nobody
    async with asyncio.timeout(1):
        await closed.wait()


async def test_what_does_not_come_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_gate, "_PATIENCE", 0.1)
    async with asyncio.timeout(4):
        await gate(tmp_path).wait()
