"""Which cached files go, and which never do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from taccuino.storage.mount_plane.cache_budget import CachedFile, cached_files, evict, to_evict

MB = 1 << 20
HERE = Path("/cache")


def file_of(user: str, name: str, used: float, size: int = 10) -> CachedFile:
    return CachedFile(HERE / user, name, size, used)


A1, A2, A3 = (file_of("alice", f"a{n}", n) for n in (1, 4, 6))
B1, B2 = (file_of("bruno", f"b{n}", n) for n in (2, 5))
ALL = [A3, B2, A1, B1, A2]
USED = {"alice": 30, "bruno": 20}


@pytest.mark.parametrize(
    ("per_user", "total", "short", "mounted", "chosen"),
    [
        (100, 100, 0, [], []),
        (30, 50, 0, [], []),
        (15, 100, 0, [], [A1, B1, A2]),  # each user's oldest, until it fits
        (100, 25, 0, [], [A1, B1, A2]),  # the oldest of all
        (100, 40, 0, ["alice"], [B1]),  # of those without mounts first
        (100, 100, 12, ["bruno"], [A1, A2]),  # the disk is full
        (25, 40, 0, ["alice", "bruno"], [A1]),  # what goes for one limit counts for the other
        (0, 0, 0, [], [A1, B1, A2, B2, A3]),
    ],
)
def test_what_goes(
    per_user: int, total: int, short: int, mounted: list[str], chosen: list[CachedFile]
) -> None:
    found = to_evict(ALL, USED, per_user=per_user, total=total, short=short, mounted=mounted)
    assert found == chosen


def test_what_waits_for_its_upload_counts_and_stays() -> None:
    """The cache is over its limit by what can't go: all that may go does."""
    assert to_evict([A1], {"alice": 1000}, per_user=100, total=100) == [A1]


def _cached(cache: Path, name: str, about: object) -> Path:
    data, text = cache / "vfs/home/b" / name, cache / "vfsMeta/home/b" / name
    for path in (data, text):
        path.parent.mkdir(parents=True, exist_ok=True)
    data.write_bytes(b"x" * 5000)
    text.write_text(about if isinstance(about, str) else json.dumps(about))
    return data


def test_only_clean_files_that_nobody_has_open_are_taken_out(tmp_path: Path) -> None:
    cache = tmp_path / "alice"
    then = "2026-11-24T03:38:58.870176822Z"
    clean = _cached(cache, "clean", {"Dirty": False, "ATime": then})
    opened = _cached(cache, "open", {"Dirty": False, "ATime": then})
    changed = _cached(cache, "changed", {"Dirty": False, "ATime": then})
    kept = [
        _cached(cache, "dirty", {"Dirty": True, "ATime": then}),
        _cached(cache, "empty text", ""),
        _cached(cache, "half a text", '{"Dirty": fal'),
        _cached(cache, "no word of it", {"ATime": then}),
    ]
    files = cached_files(cache)
    assert sorted(file.data for file in files) == sorted([clean, opened, changed])
    _cached(cache, "changed", {"Dirty": True, "ATime": then})  # since it was chosen
    descriptor = os.open(opened, os.O_RDONLY)
    try:
        assert evict(files) == 8192
    finally:
        os.close(descriptor)
    assert not clean.exists()
    assert all(path.read_bytes() == b"x" * 5000 for path in [opened, changed, *kept])
    assert not [path for path in (cache / "evicted").rglob("*") if path.is_file()]
