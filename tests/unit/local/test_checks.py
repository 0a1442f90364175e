"""``taccuino check``: each fault names its key and its mend; what others run gives warnings."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taccuino.errors import Fault
from taccuino.local.checks import check, disk_faults
from taccuino.local.outlook import issuer_warnings, warnings
from taccuino.settings import Settings

PEM = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n"
KEYS = '{"access_key": "a", "secret_key": "s"}'
EXTERNAL = {
    "iam": {"issuer": "http://127.0.0.1:1", "client_id": "x"},
    "storage": {"endpoint": "http://127.0.0.1:1"},
}


def settings_with(state: Path, **sections: Any) -> Settings:
    merged = {key: {**EXTERNAL.get(key, {}), **value} for key, value in sections.items()}
    return Settings.parse({"state_dir": str(state), **EXTERNAL, **merged})


def faults_of(key: str, settings: Settings) -> list[Fault]:
    return [fault for fault in check(settings) if fault.key == key]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, int], str]:
    def write(text: str, mode: int = 0o600) -> str:
        path = tmp_path / "file"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("key", "text", "mode", "words"),
    [
        ("iam.client_secret_file", "secret\n", 0o600, None),
        ("iam.client_secret_file", "secret\n", 0o644, "read by others"),
        ("iam.client_secret_file", "secret\n", 0o620, "read by others"),
        ("iam.client_secret_file", "\n", 0o600, "is empty"),
        ("storage.admin_credentials_file", KEYS, 0o600, None),
        ("storage.admin_credentials_file", KEYS, 0o640, "read by others"),
        ("storage.admin_credentials_file", "{}", 0o600, "holds no keys"),
        ("storage.admin_credentials_file", "[1]", 0o600, "holds no keys"),
        ("storage.admin_credentials_file", "a:s", 0o600, "holds no keys"),
        ("edge.certificate", PEM, 0o644, None),
        ("edge.certificate", "-----BEGIN CERTIFICATE-----", 0o600, "no private key"),
    ],
)
def test_files(
    tmp_path: Path, file: Any, key: str, text: str, mode: int, words: str | None
) -> None:
    section, name = key.split(".")
    found = faults_of(key, settings_with(tmp_path, **{section: {name: file(text, mode)}}))
    assert [words in fault.problem for fault in found] == ([True] if words else [])
    assert all(fault.mend for fault in found)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, iam={"client_secret_file": str(tmp_path / "none")})
    [fault] = faults_of("iam.client_secret_file", settings)
    assert "No such file" in fault.problem


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("storage.bucket", "users", "must contain {username} once"),
        ("storage.bucket", "Upper-{username}", "S3 refuses"),
        ("storage.role_arn", "taccuino", "is no role's ARN"),
        ("storage.role_arn", "arn:aws:iam:::role/IAMaccess", None),
    ],
)
def test_names_in_the_storage(tmp_path: Path, key: str, value: str, words: str | None) -> None:
    found = faults_of(key, settings_with(tmp_path, storage={key.split(".")[1]: value}))
    assert [words in fault.problem for fault in found] == ([True] if words else [])
    assert all(fault.mend for fault in found)


def test_docker(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    settings = settings_with(tmp_path, engine={"kind": "docker", "socket": str(path)})
    [fault] = faults_of("engine.socket", settings)
    assert "is no socket" in fault.problem
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        [fault] = faults_of("engine.socket", settings)
    assert "no Docker answers" in fault.problem
    assert fault.mend


def test_what_can_not_be_reached_is_a_warning(tmp_path: Path) -> None:
    found = {str(fault) for fault in asyncio.run(warnings(settings_with(tmp_path)))}
    assert len(found) == 2
    assert any("iam.issuer" in text and "Connection refused" in text for text in found)
    assert any("storage.endpoint" in text and "can't be reached" in text for text in found)


def test_the_embedded_parts_give_no_warning(tmp_path: Path) -> None:
    assert asyncio.run(warnings(Settings.parse({"state_dir": str(tmp_path)}))) == []


def test_a_storage_elsewhere_must_find_the_embedded_iam(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "state_dir": str(tmp_path),
        "storage": {"endpoint": "http://storage.invalid"},
    }
    first, second = asyncio.run(warnings(Settings.parse(data)))
    assert (first.key, second.key) == ("host", "storage.endpoint")
    data["host"] = "notebooks.example.org"
    assert [fault.key for fault in asyncio.run(warnings(Settings.parse(data)))] == [
        "storage.endpoint"
    ]


@pytest.mark.parametrize(
    ("iam", "document", "x5c", "words"),
    [
        ({}, {"scopes_supported": ["openid", "profile", "email", "groups"]}, True, []),
        ({}, {}, True, []),
        ({}, {}, False, ["no x5c"]),
        ({"client_secret_file": None}, {}, True, ["it is not set"]),
        ({}, {"scopes_supported": ["openid", "profile", "email"]}, True, ["not list groups"]),
        (
            {"scopes": ["openid"]},
            {"scopes_supported": ["openid", "offline_access"]},
            True,
            ["without offline_access"],
        ),
        (
            {"scopes": ["openid", "offline_access"]},
            {"scopes_supported": ["openid", "offline_access"]},
            True,
            [],
        ),
        ({}, {"code_challenge_methods_supported": ["S256", "plain"]}, True, []),
        ({}, {"code_challenge_methods_supported": ["plain"]}, True, ["not list S256"]),
    ],
)
def test_what_an_issuer_does_not_offer(
    tmp_path: Path,
    iam: dict[str, Any],
    document: dict[str, Any],
    x5c: bool,
    words: list[str],
) -> None:
    settings = settings_with(tmp_path, iam={"client_secret_file": "/secret", **iam})
    found = issuer_warnings(settings, document, x5c=x5c)
    assert len(found) == len(words)
    assert all(word in str(fault) for word, fault in zip(words, found, strict=True))


def test_a_path_that_is_too_long_for_podman() -> None:
    def of_length(length: int) -> list[Fault]:
        state = Path("/tmp/" + "a" * (length - 5))
        return [f for f in check(settings_with(state)) if "characters" in f.problem]

    assert of_length(39) == []
    (fault,) = of_length(40)
    assert fault.key == "state_dir"
    assert "shorter" in fault.mend


GIB = 1024**3


@pytest.mark.parametrize(
    ("free", "reserve", "key"),
    [
        (6 * GIB, "512M", None),
        (4 * GIB, "512M", "state_dir"),
        (19 * GIB, "20G", "admission.disk_reserve"),
        (21 * GIB, "20G", None),
        (4 * GIB, "20G", "state_dir"),
    ],
)
def test_a_disk_that_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, reserve: str, key: str | None
) -> None:
    usage = type(shutil.disk_usage(tmp_path))(100 * GIB, 0, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    settings = settings_with(tmp_path / "new", admission={"disk_reserve": reserve})
    found = disk_faults(settings)
    assert [fault.key for fault in found] == ([key] if key else [])
    assert all(f"{free // 1024**2} MiB left" in fault.problem for fault in found)
    assert set(found) <= set(check(settings))
    if key == "state_dir":
        assert found[0].mend
        (tmp_path / "new").mkdir()
        (tmp_path / "new/settings.json").touch()
        assert not disk_faults(settings)[0].mend, "an instance that is there comes up"
