from __future__ import annotations

import os
from pathlib import Path

import pytest

from taccuino.server import limits
from taccuino.server.contract import Contract


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n", 1),
        ("oom_kill_disable 0\n", None),
    ],
)
def test_memory_kills(tmp_path: Path, text: str, kills: int | None) -> None:
    (tmp_path / "file").write_text(text)
    assert limits.memory_kills((tmp_path / "missing", tmp_path / "file")) == kills


@pytest.mark.parametrize(
    ("size", "text"),
    [(2 * 1024**3, "2G"), (1536 * 1024**2, "1.5G"), (5 * 1024**2, "5M"), (2048, "2K")],
)
def test_size_in_words(size: int, text: str) -> None:
    assert limits.size_in_words(size) == text


def statvfs(
    blocks: int, free: int, files: int = 1000, free_files: int = 900
) -> os.statvfs_result:
    values = [4096, 4096, blocks, free, free, files, free_files, free_files, 0, 255]
    return os.statvfs_result(values)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (statvfs(1000, 900), None),
        (statvfs(1000, 10), "nearly full: 40K of 3.9M"),
        (statvfs(10**9, 10**7), None),  # 1 % of 3.7 TiB is room enough
        (statvfs(1000, 900, 10_000, 20), "room for only 20 more files"),
        (statvfs(1000, 900, 0, 0), None),  # a file system without inodes
    ],
)
def test_workarea_warning(
    status: os.statvfs_result, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits.os, "statvfs", lambda _path: status)
    warning = limits.workarea_warning("/workarea")
    assert (text in warning) if text and warning else warning is text


def test_a_workarea_that_cannot_be_read() -> None:
    assert "No such file" in (limits.workarea_warning("/nonexistent") or "")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("[]", []),
        ('["a", "b"]', ["a", "b"]),
        ("no JSON", ["no JSON"]),
        ('"x"', ['"x"']),
        ("", []),
    ],
)
def test_storage_faults(text: str, sentences: list[str]) -> None:
    assert Contract({"TACCUINO_STORAGE_FAULTS": text}).storage_faults == sentences


@pytest.mark.parametrize(
    ("files", "room"),
    [
        (
            {
                "memory.max": "4000\n",
                "memory.current": "3000\n",
                "memory.stat": "anon 9\ninactive_file 500\n",
            },
            (4000, 1500),
        ),
        ({"memory.max": "max\n", "memory.current": "3000\n"}, (None, 2048 * 1024)),
        (
            {
                "memory/memory.limit_in_bytes": "9000\n",
                "memory/memory.usage_in_bytes": "8000\n",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 700\n",
            },
            (9000, 1700),
        ),
        ({}, (None, 2048 * 1024)),
    ],
)
def test_memory_room(
    tmp_path: Path, files: dict[str, str], room: tuple[int | None, int | None]
) -> None:
    """Of both versions of control groups; never more than the machine itself has."""
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    2048 kB\n")
    assert limits.memory_room(tmp_path, tmp_path / "meminfo") == room
    assert limits.memory_room(tmp_path / "x", tmp_path / "y") == (None, None)


@pytest.mark.parametrize(
    ("limit", "free", "enough"),
    [
        (None, None, True),
        (1024, 1024, True),
        (1023, 1023, False),
        (2048, 255, False),
        (None, 256, True),
    ],
)
def test_room_for_a_spare(limit: int | None, free: int | None, enough: bool) -> None:
    scaled = [value and value * 1024**2 for value in (limit, free)]
    assert limits.room_for_a_spare(*scaled) is enough
