"""POSIX operations on the mount, each beside local ext4.

``scripts/bench posix --markdown docs/posix.md`` writes the table that is published. What is
not known to fail must hold: `Case.because` is the promise, and a test guards it.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from .mounted import MountedStorage, UserProcess, mounted_storage
from .posix_operations import CASES, Case
from .report import Bar, Report

ROUNDS = 1
LIMIT = 240.0
"""Seconds that one operation may take."""

HEAD = """\
# What cloud_storage can do as a file system

`cloud_storage` is object storage under a mount: rclone with a cache on the node's disk. This
table says which operations of a local file system it has. It follows the groups of
[pjdfstest](https://github.com/pjd/pjdfstest) and asks more that programs rely on. Each is run
by the user's own uid on the real mount plane over real Ceph, and beside it on the node's ext4.
`scripts/bench posix --markdown docs/posix.md` writes this page from what it found, and
`tests/integration/storage/test_posix.py` fails when what is promised here does not hold.

"""


@dataclass(frozen=True)
class Outcome:
    """What became of an operation: "" on the mount and locally if it holds, else why not."""

    case: Case
    mount: str
    local: str

    @property
    def as_promised(self) -> bool:
        """Whether it holds, or is known not to."""
        return bool(self.case.because) or not self.mount


@dataclass
class PosixReport(Report):
    """The outcomes of all operations."""

    outcomes: list[Outcome] = field(default_factory=list)

    def print(self) -> None:
        """Print what does not hold, and the bars."""
        console = Console()
        for outcome in self.outcomes:
            for where, fault in (("mount", outcome.mount), ("ext4", outcome.local)):
                if fault:
                    console.print(f"{where}: {outcome.case.name}: {fault}", markup=False)
        holding = sum(not outcome.mount for outcome in self.outcomes)
        console.print(f"{holding} of {len(self.outcomes)} operations hold on the mount")
        self.print_bars(console)

    def as_markdown(self) -> str:
        """The page that is published."""
        lines = ["| group | operation | cloud_storage | ext4 |", "| --- | --- | --- | --- |"]
        for outcome in self.outcomes:
            holds = (
                "**no.**" if outcome.mount else "not always." if outcome.case.because else "yes"
            )
            kept = f"{holds} {outcome.case.because}".strip()
            local = "no" if outcome.local else "yes"
            title = outcome.case.title.replace("|", "\\|")
            lines.append(f"| {outcome.case.group} | {title} | {kept} | {local} |")
        holding = sum(not outcome.mount for outcome in self.outcomes)
        count = f"\n{holding} of {len(self.outcomes)} operations hold.\n"
        return HEAD + "\n".join(lines) + "\n" + count


def run(rounds: int) -> PosixReport:  # noqa: ARG001 - an operation holds or not
    """Try every operation."""
    report = PosixReport("posix")
    with ExitStack() as stack:
        user = stack.enter_context(UserProcess())
        storage = stack.enter_context(mounted_storage())
        report.outcomes = outcomes(storage, user)
    broken = [outcome for outcome in report.outcomes if not outcome.as_promised]
    report.bars.append(Bar("operations that do not hold and should", len(broken), 0))
    return report


def outcomes(storage: MountedStorage, user: UserProcess) -> list[Outcome]:
    """Try every operation on the mount and on the workarea's ext4."""
    return [
        Outcome(
            case,
            attempt(user, case, storage.directory),
            attempt(user, case, storage.rig.workarea),
        )
        for case in CASES
    ]


_numbers = itertools.count()


def attempt(user: UserProcess, case: Case, directory: Path) -> str:
    """Run one operation in a directory of its own; "" if it holds, else why not."""
    own = directory / f"posix{next(_numbers)}"
    try:
        user.run(Path.mkdir, own)
        user.run(case.run, own, limit=LIMIT)
    except (OSError, AssertionError) as error:
        return str(error) or type(error).__name__
    return ""
