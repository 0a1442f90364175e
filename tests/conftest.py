"""Fixtures for all tests; nothing is started for those that do not ask for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

from support.instance import Instance, running_instance
from support.storage_stack import Stack, missing_programs, running_stack

ALONE = "tests/faults/sites/"
"""Its twenty users take all that the machine has: it comes last, when the other lane is empty."""
TOGETHER = (ALONE, "tests/integration/engines/", "tests/integration/images/")
"""Folders whose files share what is costly to make: they run in one lane."""

RULES = "tests/unit/"
"""They depend on nothing but themselves. What depends on real services and on the machine's time
runs once more where it fails, and the summary names it (``RERUN``)."""


class Lanes(LoadFileScheduling):
    """Gives each lane a file at a time, or a folder of those that stay together."""

    def _split_scope(self, nodeid: str) -> str:
        folders = (folder for folder in TOGETHER if nodeid.startswith(folder))
        return next(folders, super()._split_scope(nodeid))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what must be alone behind everything else; give real services a second chance."""
    items.sort(key=lambda item: item.nodeid.startswith(ALONE))
    for item in items:
        if not item.nodeid.startswith(RULES):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Lanes:
    """The lanes of ``scripts/test``."""
    return Lanes(config, log)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the very end, in a line each, why a test had to be run once more."""
    for report in terminalreporter.stats.get("rerun", ()):
        crash = getattr(report.longrepr, "reprcrash", None)
        why = " ".join(str(crash.message if crash else report.longrepr).split())
        terminalreporter.write_line(f"RERUN {report.nodeid} - {why[-400:]}")


@pytest.fixture
def short() -> Iterator[Path]:
    """A short state directory: a unix socket's path has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="tc-", dir="/tmp") as directory:
        path = Path(directory)
        path.chmod(0o711)
        yield path


@pytest.fixture(scope="session")
def instance() -> Iterator[Instance]:
    """The whole service, running."""
    with running_instance() as running:
        yield running


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """An object storage with its IAM, and nothing else of the service."""
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}; install Debian's ceph and haproxy")
    with running_stack() as running:
        yield running
