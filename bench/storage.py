"""Work in cloud_storage: the mount plane beside rclone without a cache and s3fs.

All three mount the same bucket of one Ceph RadosGW and work in folders of their own. In each
round every operation is done by one after the other, so that the machine's noise falls on all.
*Cold* is read through a mount that was just made, with nothing in any cache. The mount plane
returns from ``close()`` before the upload, which the others wait for: so what it writes is
timed twice, the second time until everything is in the bucket.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
from rich.console import Console

from . import storage_work as work
from .baselines import Baseline, RcloneWithoutCache, S3fs, Side, Taccuino, download, ensure_s3fs
from .crowd import measure_crowd, proportional_memory
from .mounted import MountedStorage, UserProcess, mounted_storage
from .report import Bar, Comparison

ROUNDS = 3
FASTER = 0.1
"""Of s3fs' median: small files created, notebooks saved."""
EQUAL = 1.1
"""Of s3fs' median, all else: its equal, and a tenth for the noise of a machine with others."""
DOWNLOAD = 1 / 0.8
"""Of boto3's download, the cold sequential read."""
SETTLE_SECONDS, IDLE_PERCENT = 10.0, 15.0
"""How long an operation waits, at the most, for the machine to be idle, and what idle is."""
IDLE_MEMORY = 100.0
"""MB of one idle mount."""

LARGE_WRITE, LARGE_COLD, LARGE_WARM = "write 256 MB", "read 256 MB, cold", "read 256 MB, warm"
CREATE, SAVE = "create 1,000 files", "save a notebook 20 times"
IN_BUCKET = ", until in the bucket"

Step = tuple[str, Callable[[Path], float]]

WRITING: tuple[Step, ...] = (
    (LARGE_WRITE, work.write_large),
    (CREATE, work.create_small),
    (SAVE, work.save_notebooks),
    ("write 10 notebooks of 1 MB", work.write_notebooks),
)
COLD: tuple[Step, ...] = (
    (LARGE_COLD, work.read_large),
    (LARGE_WARM, work.read_large),
    ("open 10 notebooks of 1 MB, cold", work.open_notebooks),
    ("stat 1,000 files, cold", work.stat_small),
    ("stat 1,000 files, warm", work.stat_small),
    ("read 1,000 files, cold", work.read_small),
    ("read 1,000 files, warm", work.read_small),
)
BOTH = ("stat 1,000 files", "read 1,000 files")
"""Judged by the sum of their two rows, as they are done: once, and once more."""
CLONE = "git clone, 200 files"
BOTO3 = "boto3"


def run(rounds: int) -> Comparison:
    """Measure ``rounds`` rounds of every side, then many mounts on one node."""
    ensure_s3fs()
    say = Console(stderr=True).print
    report = Comparison("storage")
    with ExitStack() as stack:
        user = stack.enter_context(UserProcess())
        root = Path(tempfile.mkdtemp(prefix="tc-bench-", dir="/tmp"))
        stack.callback(shutil.rmtree, root)
        root.chmod(0o755)
        say("Starting Ceph and the mount plane; half a minute")
        storage = stack.enter_context(mounted_storage())
        report.add("memory, idle mount", Taccuino.name, proportional_memory(storage), "MB")
        repository = root / "repository"
        work.make_repository(repository)
        sides: list[Side] = [Taccuino(storage)]
        for kind in (RcloneWithoutCache, S3fs):
            side = kind(storage, root)
            stack.callback(Baseline.unmount, side)
            sides.append(side)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            _round(report, storage, user, sides, repository, root)
        for name, value, unit in measure_crowd(storage):
            report.add(name, Taccuino.name, value, unit)
    _judge(report)
    return report


def _round(
    report: Comparison,
    storage: MountedStorage,
    user: UserProcess,
    sides: list[Side],
    repository: Path,
    root: Path,
) -> None:
    for side in sides:
        _empty(storage, side)
        side.mount_cold()
        user.run(Path.mkdir, side.directory)
    for name, function in WRITING:
        for side in sides:
            _write(report, user, side, name, function)
    for side in sides:
        _write(report, user, side, CLONE, partial(work.clone, repository))
    for side in sides:
        side.mount_cold()
    for name, function in COLD:
        for side in sides:
            _measure(report, user, side, name, function)
        if name == LARGE_COLD:
            key = f"{sides[0].prefix}/large.bin"
            report.add(name, BOTO3, download(storage, key, root / "download"))


def _write(
    report: Comparison,
    user: UserProcess,
    side: Side,
    name: str,
    function: Callable[[Path], float],
) -> None:
    began = time.perf_counter()
    if _measure(report, user, side, name, function) is None:
        return
    side.uploaded()
    seconds = time.perf_counter() - began
    if isinstance(side, Taccuino):
        report.add(name + IN_BUCKET, side.name, seconds)
    else:
        report.add(name + IN_BUCKET, side.name, report.values[name][side.name][-1])


def _measure(
    report: Comparison,
    user: UserProcess,
    side: Side,
    name: str,
    function: Callable[[Path], float],
) -> float | None:
    """The seconds; None where it does not work, which only a baseline may say."""
    _settle()
    try:
        seconds = user.run(function, side.directory)
    except (OSError, AssertionError) as error:
        if isinstance(side, Taccuino):
            raise
        report.fails(name, side.name, str(error))
        return None
    report.add(name, side.name, seconds)
    Console(stderr=True).print(f"{side.name}: {name}: {seconds:.2f} s")
    return seconds


def _settle() -> None:
    """Let the storage end what it does for the side before: that is in nobody's time."""
    os.sync()
    deadline = time.monotonic() + SETTLE_SECONDS
    while psutil.cpu_percent(interval=0.5) > IDLE_PERCENT and time.monotonic() < deadline:
        pass


def _empty(storage: MountedStorage, side: Side) -> None:
    """Delete the side's folder behind its back, in the bucket itself."""
    client = storage.stack.s3(storage.session())
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=storage.bucket, Prefix=f"{side.prefix}/"
    )
    for page in pages:
        keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        if keys:
            client.delete_objects(Bucket=storage.bucket, Delete={"Objects": keys})


def _judge(report: Comparison) -> None:
    own, other = Taccuino.name, S3fs.name
    judged: dict[str, list[str]] = {}
    for name in report.values:
        if not name.endswith(IN_BUCKET) and report.values[name].get(other):
            whole = name.rpartition(",")[0]
            judged.setdefault(whole if whole in BOTH else name, []).append(name)
    for name, rows in judged.items():
        if name == LARGE_COLD:  # judged by boto3's
            continue
        limit = FASTER if name in (CREATE, SAVE) else EQUAL
        ratio = sum(report.median(row, own) for row in rows) / sum(
            report.median(row, other) for row in rows
        )
        report.bars.append(Bar(f"{name}: of s3fs' time", ratio, limit))
    ratio = report.median(LARGE_COLD, own) / report.median(LARGE_COLD, BOTO3)
    report.bars.append(Bar(f"{LARGE_COLD}: of boto3's time", ratio, DOWNLOAD))
    memory = report.median("memory, idle mount", own)
    report.bars.append(Bar("memory of an idle mount, MB", memory, IDLE_MEMORY))
