"""What an upgrade compares, and what it says where it can't go on."""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
from pathlib import Path

import pytest

from taccuino.draining import draining
from taccuino.errors import ServiceError
from taccuino.local.supervision import Supervision
from taccuino.settings import Settings

# The package has a function of the same name.
upgrade = importlib.import_module("taccuino.local.upgrade")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    database = tmp_path / "hub/jupyterhub.sqlite"
    database.parent.mkdir()
    return Settings.parse(
        {"state_dir": tmp_path, "hub": {"database_url": f"sqlite:///{database}"}}
    )


class StandInService:
    """Servers that answer; while starts are waited for, a user stops one of theirs."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.servers = {"/user/alice/api", "/user/bruno/api"}

    def starting(self, _settings: Settings) -> int:
        assert draining(self.state_dir)
        if "/user/bruno/api" in self.servers:
            self.servers.remove("/user/bruno/api")
            return 1
        return 0

    def answering(self, _settings: Settings) -> set[str]:
        return set(self.servers)


def test_a_server_that_its_user_stopped_is_not_lost(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = StandInService(settings.state_dir)
    monkeypatch.setattr(upgrade, "_starting", service.starting)
    monkeypatch.setattr(upgrade, "_answering", service.answering)
    monkeypatch.setattr(upgrade, "image_tasks", lambda *_: [])
    monkeypatch.setattr(upgrade, "services_of", lambda _: [])
    monkeypatch.setattr(upgrade, "http_status", lambda *_: 200)
    monkeypatch.setattr(upgrade, "http_answer", lambda *_: (200, "</html>"))
    monkeypatch.setattr(Supervision, "apply", lambda *_: None)
    told: list[str] = []
    state = settings.state_dir
    upgrade._upgrade_site(settings, Supervision(state), upgrade.Release(state), told.append)
    assert "; 1 notebook servers answer as before" in told[-1]


def test_the_database_is_copied_while_it_is_in_use(settings: Settings) -> None:
    database = settings.state_dir / "hub/jupyterhub.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE users (name)")
        connection.commit()
        copy = upgrade.database_backup(settings)
    assert copy is not None
    assert copy.stat().st_mode & 0o077 == 0
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT * FROM users").fetchall() == []


def test_who_goes_back_overwrites_no_copy(settings: Settings) -> None:
    database = settings.state_dir / "hub/jupyterhub.sqlite"
    copies = []
    for version in range(7):
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute(f"CREATE TABLE version{version} (name)")
        copies.append(upgrade.database_backup(settings))
    kept = sorted(database.parent.glob("*before-upgrade*"))
    assert kept == copies[-5:]
    with contextlib.closing(sqlite3.connect(kept[0])) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    assert tables == (3,)


def test_a_database_that_can_not_be_copied_is_told_of(settings: Settings) -> None:
    database = settings.state_dir / "hub/jupyterhub.sqlite"
    database.write_bytes(b"no database" * 100)
    with pytest.raises(ServiceError, match=r"can't be copied .* nothing was restarted"):
        upgrade.database_backup(settings)
    assert list(database.parent.iterdir()) == [database]


def test_a_full_disk_is_told_of(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (settings.state_dir / "hub/jupyterhub.sqlite").touch()
    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(ServiceError, match="No space left"):
        upgrade.database_backup(settings)
