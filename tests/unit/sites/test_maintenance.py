"""Maintenance mode is a file: it outlasts the hub, and is seen at once."""

from __future__ import annotations

import os
from pathlib import Path

from taccuino.sites.maintenance import MaintenanceFile


def test_it_begins_and_ends(tmp_path: Path) -> None:
    file, seen = MaintenanceFile(tmp_path), MaintenanceFile(tmp_path)
    assert seen.current is None
    begun = file.begin("New cooling until noon.")
    assert seen.current == begun
    assert file.end()
    assert seen.current is None
    assert not file.end()


def test_a_new_message_keeps_its_beginning(tmp_path: Path) -> None:
    file = MaintenanceFile(tmp_path)
    since = file.begin().since
    assert file.begin("until noon").since == since
    assert MaintenanceFile(tmp_path).current.message == "until noon"


def test_a_file_that_somebody_made_counts(tmp_path: Path) -> None:
    path = tmp_path / "hub/maintenance.json"
    path.parent.mkdir()
    path.write_text("")
    os.utime(path, (1000, 1000))
    assert MaintenanceFile(tmp_path).current.since == 1000
