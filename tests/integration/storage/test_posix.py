"""What docs/posix.md promises of cloud_storage holds on the real mount, and no more is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.mounted import MountedStorage, UserProcess, mounted_storage
from bench.posix import attempt
from bench.posix_operations import CASES, Case
from support.storage_stack import missing_programs

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
]

PAGE = Path(__file__).parents[3] / "docs/posix.md"


@pytest.fixture(scope="module")
def user() -> Iterator[UserProcess]:
    with UserProcess() as process:
        yield process


@pytest.fixture(scope="module")
def storage(user: UserProcess) -> Iterator[MountedStorage]:
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}; install Debian's ceph and haproxy")
    with mounted_storage() as storage:
        yield storage


@pytest.mark.parametrize("case", [c for c in CASES if not c.because], ids=lambda c: c.name)
def test_what_is_promised_holds(storage: MountedStorage, user: UserProcess, case: Case) -> None:
    assert attempt(user, case, storage.directory) == ""


def test_everything_is_in_the_bucket_afterwards(
    storage: MountedStorage, user: UserProcess
) -> None:
    folder = storage.directory / "kept"
    wanted = {f"{number}.txt": os.urandom(500) for number in range(50)}
    user.run(_write, folder, wanted)
    storage.mount_cold()
    assert user.run(_read, folder) == wanted


def test_the_page_tells_of_every_operation() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    promised = {case.title.replace("|", "\\|"): case.because for case in CASES}
    told = {cells[2]: cells[3] for row in rows[2:] if (cells := _cells(row))}
    assert told.keys() == promised.keys()
    for title, because in promised.items():
        assert (told[title] == "yes") == (not because), title
        assert because in told[title]


def _cells(row: str) -> list[str]:
    cells = row.replace("\\|", "\0").split("|")
    return [cell.strip().replace("\0", "\\|") for cell in cells]


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
