"""Where a workarea's files are read from and laid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from taccuino.storage.mount_plane.snapshots import area
from taccuino.storage.mount_plane.snapshots.restic import SnapshotError
from taccuino.storage.mount_plane.snapshots.sandbox import Sandbox

FILE = r"f 3 644 1.0 1.0 local/a \0"


@pytest.fixture
def sandboxed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let this run in the sandbox's place."""

    def run(script: str) -> None:
        monkeypatch.setattr(Sandbox, "words", lambda *_: ["sh", "-c", script])

    return run


@pytest.mark.parametrize("script", ["exit 1", "exit 137", f"printf '{FILE}'; exit 2"])
async def test_a_survey_that_did_not_run_is_no_empty_area(
    sandboxed: Callable[[str], None], tmp_path: Path, script: str
) -> None:
    sandboxed(script)
    with pytest.raises(SnapshotError):
        await area.survey(tmp_path, "bari.1")


async def test_a_file_may_vanish_from_a_survey(
    sandboxed: Callable[[str], None], tmp_path: Path
) -> None:
    sandboxed(f"printf '{FILE}'; exit 1")
    seen = await area.survey(tmp_path, "bari.1")
    assert (seen.entries, seen.files, seen.bytes) == (1, 1, 3)
    sandboxed("exit 0")
    assert (await area.survey(tmp_path, "bari.1")).entries == 0
