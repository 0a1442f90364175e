from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from taccuino.errors import SettingsError
from taccuino.settings import Settings, format_size, parse_size


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TACCUINO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("512M", 512 * 1024**2),
        ("2G", 2 * 1024**3),
        ("2g", 2 * 1024**3),
        ("2 GiB", 2 * 1024**3),
        ("2GB", 2 * 1024**3),
        ("1.5G", 3 * 1024**3 // 2),
        (" 2048M ", 2 * 1024**3),
        (2147483648, 2 * 1024**3),
        ("1T", 1024**4),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    "text",
    ["", "G", "-1G", "0", "0M", "2Q", "1e3", "nan", "inf", "2G; rm -rf /", "٣G" * 100, True],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_the_shortest_text_of_a_size() -> None:
    assert [format_size(n) for n in (1024, 2048 * 1024**2, 1000, 3 * 1024**3 // 2)] == [
        "1K",
        "2G",
        "1000",
        "1536M",
    ]


def test_with_no_file_the_embedded_defaults() -> None:
    settings = Settings.load()
    assert settings.url == "http://localhost:8000"
    assert settings.state_dir == Path("/var/lib/taccuino")
    assert settings.embedded_iam
    assert settings.embedded_storage
    assert settings.mount_plane.socket == Path("/var/lib/taccuino/mount-plane/api.sock")
    assert [image.name for image in settings.images if image.default] == ["base"]


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taccuino.toml").write_text('port = 9000\nstate_dir = "/srv/a"\n')
    assert Settings.load().port == 9000
    monkeypatch.setenv("TACCUINO_PORT", "9100")
    monkeypatch.setenv("TACCUINO_STATE", "/srv/b")
    settings = Settings.load()
    assert (settings.port, settings.state_dir) == (9100, Path("/srv/b"))
    assert settings.hub.database_url == "sqlite:////srv/b/hub/jupyterhub.sqlite"


def test_instances_with_different_ports_have_different_networks() -> None:
    pools = {Settings.parse({"port": port}).engine.network_pool for port in (8000, 8001, 9000)}
    assert len(pools) == 3


def test_no_instance_has_the_network_that_podman_takes_by_default() -> None:
    pools = {Settings.parse({"port": 8000 + n}).engine.network_pool for n in range(127)}
    assert len(pools) == 127
    assert "10.88.0.0/16" not in pools


@pytest.mark.parametrize(
    ("toml", "key", "words"),
    [
        ("prot = 1", "prot", "no such setting"),
        ("port = 'x'", "port", "whole number"),
        ("port = 0", "port", "greater than or equal"),
        ("port = 70000", "port", "less than or equal"),
        ("host = 'a b'", "host", "characters"),
        ("[engine]\nkind = 'lxc'", "engine.kind", "'podman' or 'docker'"),
        ("[iam]\nissuer = 'https://iam.example.org'", "iam.client_id", "must be too"),
        ("[iam]\nscopes = 'openid'", "iam.scopes", "list"),
        ("[workarea]\nquota = '10 bananas'", "workarea.quota", "is not a size"),
        ("[storage]\nsession_seconds = 60", "storage.session_seconds", "900"),
        ("[culling]\nidle_seconds = 60", "culling.warn_seconds", "less than"),
        ("flavours = []", "flavours", "at least 1"),
        ("[[flavours]]\ncpus = [0]\nmemory = ['1G']", "flavours.0.cpus.0", "greater than 0"),
        ("[[flavours]]\ncpus = [nan]\nmemory = ['1G']", "flavours.0.cpus.0", "finite"),
        ("[[images]]\nname = '../x'\nreference = 'x'", "images.0.name", "characters"),
        ("[[images]]\nname = 'x'\nreference = 'x'", "images", "default = true"),
        ("port = ", "syntax", "Invalid value"),
    ],
)
def test_faults_name_the_key_and_the_mend(
    tmp_path: Path, toml: str, key: str, words: str
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(toml)
    with pytest.raises(SettingsError) as caught:
        Settings.load(path)
    fault = caught.value.faults[0]
    assert fault.key == key
    assert words in str(fault)
    assert str(path) in str(caught.value)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.parse({"port": "x", "hub": {"log_level": "LOUD"}, "nonsense": 1})
    assert {fault.key for fault in caught.value.faults} == {"port", "hub.log_level", "nonsense"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        Settings.load(tmp_path / "absent.toml")


def test_resolved_settings_come_back_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.parse(
        {"port": 9000, "state_dir": str(tmp_path), "local": {"iam_port": 1}}
    )
    path = tmp_path / "settings.json"
    settings.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["port"] == 9000
    monkeypatch.setenv("TACCUINO_PORT", "1234")
    assert Settings.load(path) == settings


@pytest.mark.parametrize(
    ("data", "url"),
    [
        ({"port": 80}, "http://localhost"),
        ({"port": 443, "edge": {"certificate": "/c.pem"}}, "https://localhost"),
        ({"port": 8443, "edge": {"certificate": "/c.pem"}}, "https://localhost:8443"),
        ({"host": "hub.example.org"}, "http://hub.example.org:8000"),
    ],
)
def test_the_public_address(data: dict[str, object], url: str) -> None:
    assert Settings.parse(data).url == url


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("engine.network_pool", "foo"),
        ("engine.network_pool", "fd00::/64"),
        ("edge.bind", "*:80 ssl"),
        ("edge.proxy_networks", ["10.0.0.0/8", "everybody"]),
        ("storage.endpoint", "s3.example.org"),
        ("storage.endpoint", "https://s3.example.org/a b"),
        ("storage.scratch_bucket", "Scratch_1"),
    ],
)
def test_what_a_service_could_not_use_is_a_fault(key: str, value: object) -> None:
    section, name = key.split(".")
    with pytest.raises(SettingsError) as caught:
        Settings.parse({section: {name: value}})
    assert all(fault.key.startswith(key) for fault in caught.value.faults)


def test_sites_of_the_environment_do_not_hide_a_wrong_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "taccuino.toml"
    file.write_text("local = 3\n")
    monkeypatch.setenv("TACCUINO_SITES", "bari,cnaf")
    with pytest.raises(SettingsError, match="local"):
        Settings.load(file)
