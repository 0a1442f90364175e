"""Letting go of servers while podman is still busy with their ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from taccuino.errors import ServiceError
from taccuino.local import release
from taccuino.settings import Settings


class StandInPodman:
    """Refuses each removal so often."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.done: list[str] = []

    def __call__(self, _settings: Settings, *arguments: str) -> str:
        if arguments[0] == "ps":
            return "a b"
        if arguments[:2] == ("network", "ls"):
            return "n"
        if self.refusals:
            self.refusals -= 1
            raise ServiceError("podman rm failed: device or resource busy")
        self.done.append(" ".join(arguments[:2]))
        return ""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "engine/storage/libpod").mkdir(parents=True)
    return Settings.parse({"state_dir": str(tmp_path)})


def test_a_removal_is_tried_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    podman = StandInPodman(refusals=3)
    monkeypatch.setattr(release, "_podman", podman)
    monkeypatch.setattr(release, "_PAUSE_SECONDS", 0.0)
    told: list[str] = []
    release.release_servers(settings, told.append)
    assert podman.done == ["stop --ignore", "rm --force", "network rm"]
    assert told == ["servers      2 stopped and removed"]


def test_one_that_is_refused_for_too_long_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "_podman", StandInPodman(refusals=10**9))
    monkeypatch.setattr(release, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(release, "_REMOVAL_SECONDS", 0.05)
    with pytest.raises(ServiceError, match="busy"):
        release.release_servers(settings, print)
