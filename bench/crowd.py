"""Many users' mounts on one node: what they take, and how long it takes to make them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil

from support.mounts import MountRig

from .mounted import MountedStorage

MOUNTS = 50
AT_ONCE = 4
"""Mounts that are asked for at the same time."""
IDLE_SECONDS = 10.0
MB = 1e6


def rclones(rig: MountRig) -> list[psutil.Process]:
    """The processes behind the rig's mounts."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if process.info["name"] == "rclone" and any(str(rig.root) in word for word in words):
            found.append(process)
    return found


def proportional_memory(storage: MountedStorage) -> float:
    """MB of the process behind one user's mounts; what processes share is divided (PSS)."""
    found = rclones(storage.rig)
    return sum(process.memory_full_info().pss for process in found) / len(found) / MB


def measure_crowd(
    storage: MountedStorage, mounts: int = MOUNTS
) -> Iterator[tuple[str, float, str]]:
    """Mount for so many users, all of the one bucket, and look: ``(what, value, unit)``."""
    rig = storage.rig
    began = time.monotonic()
    storage.wait(_mount(rig, mounts - 1))
    yield f"{mounts} mounts: time to mount", time.monotonic() - began, "s"
    processes = rclones(rig)
    if len(processes) != mounts:
        raise AssertionError(f"{len(processes)} processes for {mounts} mounts")
    before = _cpu(processes)
    time.sleep(IDLE_SECONDS)
    busy = (_cpu(processes) - before) / IDLE_SECONDS * 100
    memory = sum(process.memory_full_info().pss for process in processes) / MB
    yield f"{mounts} mounts: memory in all", memory, "MB"
    yield f"{mounts} mounts: memory of each", memory / mounts, "MB"
    yield f"{mounts} mounts: CPU while idle, of one core", busy, "%"


async def _mount(rig: MountRig, count: int) -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        name = f"user{number}"
        uid = rig.request.uid + 65536 * (number + 1)
        request = replace(rig.request, username=name, slug=name, uid=uid, gid=uid)
        async with turns:
            status = await rig.client.mount(replace(request, workarea_quota="64M"))
        if status.state != "mounted":
            raise AssertionError(f"{name} is not mounted: {status}")

    await asyncio.gather(*(one(number) for number in range(count)))


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
