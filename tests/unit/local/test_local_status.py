from __future__ import annotations

from pathlib import Path

import pytest

from taccuino.local.checks import check
from taccuino.local.mounts import mount_points
from taccuino.local.podman import containers_conf, podman_command, podman_environment
from taccuino.local.services import service_names
from taccuino.local.status import compose, status
from taccuino.local.supervision import ServiceState
from taccuino.settings import Settings

NAMES = [
    "ceph-mon", "ceph-osd", "radosgw", "iam", "edge", "engine", "mount-plane", "storage-pages", "front-end",
    "hub",
]  # fmt: skip
EXTERNAL = {
    "iam": {"issuer": "https://iam.example.org/", "client_id": "hub"},
    "storage": {"endpoint": "https://s3.example.org"},
    "engine": {"kind": "docker"},
}


def test_the_shape_is_the_contract() -> None:
    settings = Settings.parse({"state_dir": "/srv/t", "port": 8000})
    accounts = [{"username": "alice", "password": "x", "admin": False}]
    states = [ServiceState("hub", "running", 42)]
    answer = compose(settings, states, accounts, ready=True)
    assert list(answer) == [
        "url",
        "ready",
        "state_dir",
        "sites",
        "services",
        "accounts",
        "s3",
        "iam",
    ]
    assert answer["url"] == "http://localhost:8000"
    assert answer["state_dir"] == "/srv/t"
    assert answer["sites"] == [{"name": "local", "url": answer["url"], "ready": True}]
    assert [service["name"] for service in answer["services"]] == NAMES
    assert answer["services"][-1] == {"name": "hub", "state": "running", "pid": 42}
    assert answer["services"][0] == {"name": "ceph-mon", "state": "stopped", "pid": None}
    assert answer["accounts"] == accounts
    assert set(answer["s3"]) == {"endpoint", "region"}
    assert set(answer["iam"]) == {"issuer"}


def test_status_works_where_nothing_runs(tmp_path: Path) -> None:
    settings = Settings.parse({"state_dir": str(tmp_path / "none"), "port": 1})
    answer = status(settings)
    assert answer["ready"] is False
    assert {service["state"] for service in answer["services"]} == {"stopped"}
    assert answer["accounts"] == []


def test_what_runs_elsewhere_is_no_service_here() -> None:
    assert service_names(Settings()) == NAMES
    assert service_names(Settings.parse(EXTERNAL)) == [
        "edge",
        "mount-plane",
        "storage-pages",
        "front-end",
        "hub",
    ]


def test_check_names_missing_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    keys = {fault.key for fault in check(Settings())}
    assert {"haproxy", "podman", "runc", "radosgw", "nft"} <= keys
    keys = {fault.key for fault in check(Settings.parse(EXTERNAL))}
    assert "podman" in keys  # it makes the base image for Docker too
    assert "radosgw" not in keys
    own = {"images": [{"name": "own", "reference": "x/own:1", "default": True}]}
    keys = {fault.key for fault in check(Settings.parse(EXTERNAL | own))}
    assert "podman" not in keys


def test_a_closed_parent_is_a_fault(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    settings = Settings.parse({"state_dir": str(closed / "state")})
    problems = [fault.problem for fault in check(settings) if fault.key == "state_dir"]
    assert any("can't be entered by other users" in problem for problem in problems)


def test_mount_points_come_innermost_first() -> None:
    lines = [
        "1 0 8:1 / / rw - ext4 /dev/a rw",
        "2 1 8:1 /m /srv/t/mounts rw shared:1 - ext4 /dev/a rw",
        "3 2 7:0 / /srv/t/mounts/a\\040b/workarea rw - ext4 /dev/loop0 rw",
        "4 1 7:0 / /srv/tx rw - ext4 /dev/loop1 rw",
    ]
    assert mount_points(lines, Path("/srv/t")) == [
        Path("/srv/t/mounts/a b/workarea"),
        Path("/srv/t/mounts"),
    ]


def test_podman_is_the_instances_own() -> None:
    settings = Settings.parse({"state_dir": "/srv/t"})
    command = podman_command(settings)
    assert command[0] == "podman"
    assert "/srv/t/engine/storage" in command
    assert "/srv/t/engine/run" in command
    variables = podman_environment(settings)
    assert variables["CONTAINERS_CONF"] == "/srv/t/engine/containers.conf"
    text = containers_conf(Path("/srv/t/engine"))
    assert 'network_config_dir = "/srv/t/engine/networks"' in text
    assert 'runtime = "runc"' in text
