from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from taccuino.errors import SettingsError
from taccuino.local.resolve import keep, load, resolve
from taccuino.settings import Settings

EXTERNAL = {
    "iam": {"issuer": "https://iam.example.org/", "client_id": "hub"},
    "storage": {"endpoint": "https://s3.example.org"},
}


def free(_: int) -> None:
    return None


def settings(state: Path, **data) -> Settings:
    return Settings.parse({"state_dir": str(state), "port": 8000, **data})


def resolved_and_kept(*arguments: Any) -> Settings:
    return keep(resolve(*arguments))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_nothing_is_left_open(state: Path) -> None:
    resolved = resolved_and_kept(settings(state), free)
    assert resolved.iam.issuer == "http://localhost:8001"
    assert resolved.iam.client_id == "taccuino"
    assert resolved.storage.endpoint == "http://localhost:8002"
    assert resolved.hub.port == 8003
    assert resolved.embedded_iam
    assert resolved.embedded_storage
    assert Settings.load(state / "settings.json") == resolved


def test_resolving_again_changes_nothing(state: Path) -> None:
    first = resolved_and_kept(settings(state), free)
    written = (state / "settings.json").stat().st_mtime_ns
    assert resolved_and_kept(settings(state), free) == first
    assert resolved_and_kept(first, free) == first
    assert (state / "settings.json").stat().st_mtime_ns == written


def test_a_chosen_port_stays_and_a_changed_setting_is_picked_up(state: Path) -> None:
    resolved_and_kept(settings(state), lambda port: "another" if port == 8001 else None)
    again = resolved_and_kept(settings(state, name="Quaderno", hub={"port": 9000}), free)
    assert again.local.iam_port == 8010
    assert again.name == "Quaderno"
    assert again.hub.port == 9000


def test_external_parts_get_no_port(state: Path) -> None:
    resolved_and_kept(settings(state), free)
    resolved = resolved_and_kept(settings(state, **EXTERNAL), free)
    assert not resolved.embedded_iam
    assert not resolved.embedded_storage
    assert resolved.local.iam_port is None
    assert resolved.local.ceph_mon_port is None
    assert resolved.iam.issuer == "https://iam.example.org/"
    assert resolved.iam.client_secret_file is None


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"iam": EXTERNAL["iam"], "local": {"iam_port": 9000}}, "local.iam_port"),
        ({"storage": EXTERNAL["storage"], "local": {"s3_port": 9000}}, "local.s3_port"),
        ({"iam": {"client_id": "hub"}}, "iam.client_id"),
    ],
)
def test_contradictions_are_named(state: Path, data, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolved_and_kept(settings(state, **data), free)
    assert [fault.key for fault in caught.value.faults] == [key]
    assert not state.exists()


def test_a_taken_port_is_a_fault(state: Path) -> None:
    with pytest.raises(SettingsError, match="8000 is in use by somebody"):
        resolved_and_kept(settings(state), lambda port: "somebody" if port == 8000 else None)


def test_a_directory_with_something_else_in_it_is_refused(state: Path) -> None:
    state.mkdir()
    (state / "thesis.tex").touch()
    with pytest.raises(SettingsError, match=r"thesis\.tex"):
        resolved_and_kept(settings(state), free)
    assert [path.name for path in state.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["offers.lock", "settings.json.3f2a.new", "offers.json"])
def test_what_commands_before_the_first_up_left_is_ours(state: Path, name: str) -> None:
    state.mkdir()
    (state / name).touch()
    resolved_and_kept(settings(state), free)


def test_nothing_is_written_before_it_is_kept(state: Path) -> None:
    resolve(settings(state), free)
    assert not state.exists()


def test_a_load_balancers_port_is_no_other_ones(state: Path) -> None:
    resolved = resolve(settings(state, edge={"proxy_port": 8001}), free)
    assert resolved.local.iam_port != 8001
    with pytest.raises(SettingsError, match="8000 is used twice"):
        resolve(settings(state, edge={"proxy_port": 8000}), free)


def test_modes(state: Path) -> None:
    resolved_and_kept(settings(state), free)

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(state) == 0o711
    assert mode(state / "mounts") == 0o711
    assert mode(state / "secrets") == 0o700
    assert mode(state / "logs") == 0o700
    private = [*(state / "secrets").iterdir(), state / "settings.json", state / "accounts.json"]
    assert {mode(path) for path in private} == {0o600}


def test_secrets_and_accounts_are_made_once(state: Path) -> None:
    resolved_and_kept(settings(state), free)
    files = [*(state / "secrets").iterdir(), state / "accounts.json"]
    first = [path.read_text() for path in files]
    resolved_and_kept(settings(state), free)
    assert [path.read_text() for path in files] == first
    accounts = json.loads((state / "accounts.json").read_text())
    assert [(a["username"], a["admin"]) for a in accounts] == [
        ("alice", False),
        ("bruno", False),
        ("ada", True),
    ]
    assert len({a["password"] for a in accounts}) == 3


def test_load_prefers_what_was_resolved(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TACCUINO_SETTINGS", raising=False)
    monkeypatch.setenv("TACCUINO_STATE", str(state))
    monkeypatch.setenv("TACCUINO_PORT", "8100")
    monkeypatch.chdir(state.parent)
    assert load().iam.issuer is None
    resolved_and_kept(Settings.load(), free)
    monkeypatch.delenv("TACCUINO_PORT")
    assert load().port == 8100
    assert load().iam.issuer == "http://localhost:8101"
