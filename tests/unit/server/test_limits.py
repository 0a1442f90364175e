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
