"""A range of host uids for each user, for ever."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from taccuino.engines.errors import EngineError
from taccuino.engines.uid_ranges import RANGE_SIZE, UidRange, UidRanges


def range_for(path: Path, base: int, username: str) -> UidRange:
    return asyncio.run(UidRanges(path, base).range_for(username))


def test_ranges_are_kept_and_never_shared(tmp_path: Path) -> None:
    path = tmp_path / "engine/uid-ranges.json"
    alice = range_for(path, 3_000_000, "alice")
    bob = range_for(path, 3_000_000, "bob")
    assert alice == UidRange(3_000_000)
    assert bob.base == 3_000_000 + RANGE_SIZE
    assert range_for(path, 3_000_000, "alice") == alice
    assert alice.uid == 3_001_000
    assert json.loads(path.read_text()) == {"alice": 0, "bob": 1}


def test_a_removed_user_leaves_no_range_to_another(tmp_path: Path) -> None:
    path = tmp_path / "uid-ranges.json"
    path.write_text('{"bob": 7}')
    assert range_for(path, 3_000_000, "carol").base == 3_000_000 + 8 * RANGE_SIZE


def test_at_once(tmp_path: Path) -> None:
    path = tmp_path / "uid-ranges.json"
    bases: list[int] = []

    def give(name: str) -> None:
        bases.append(range_for(path, 100_000, name).base)

    threads = [threading.Thread(target=give, args=(f"u{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(bases)) == 20


@pytest.mark.parametrize("text", ["[]", '{"a": "b"}', "{"])
def test_a_broken_file_is_never_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "uid-ranges.json"
    path.write_text(text)
    with pytest.raises(EngineError, match=str(path)):
        range_for(path, 100_000, "a")
    assert path.read_text() == text


def test_no_uid_left(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="uid_base"):
        range_for(tmp_path / "uid-ranges.json", 2**32 - RANGE_SIZE, "a")
