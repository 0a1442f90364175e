"""Ceph's texts, and that a cluster's identity is chosen once."""

from __future__ import annotations

import base64
import configparser
import json
import stat
from pathlib import Path

import pytest

from taccuino.errors import ServiceError
from taccuino.local import ceph
from taccuino.local.ceph_config import ceph_config, keyring, new_key
from taccuino.settings import Settings


def parsed(**changes: object) -> configparser.ConfigParser:
    values = {"fsid": "F", "mon_port": 1, "rgw_port": 2, "sts_key": "k" * 16, "size": 4096}
    text = ceph_config(Path("/state/ceph"), **{**values, **changes})  # type: ignore[arg-type]
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes="#")
    parser.read_string(text)
    return parser


def test_only_the_loopback_interface_listens() -> None:
    config = parsed(mon_port=22001, rgw_port=22002)
    assert config["global"]["mon host"] == "[v2:127.0.0.1:22001/0]"
    assert config["global"]["public network"] == "127.0.0.0/8"
    assert "endpoint=127.0.0.1:22002" in config["client.rgw"]["rgw frontends"]


def test_what_keeps_a_lone_monitor_from_its_quorum_is_left_out() -> None:
    options = {option for section in parsed().values() for option in section}
    assert not options & {"public addr", "mon initial members", "rgw dns name"}


def test_sts_and_size() -> None:
    config = parsed(sts_key="0123456789abcdef", size=4 << 30)
    assert config["client.rgw"]["rgw sts key"] == "0123456789abcdef"
    assert config["client.rgw"]["rgw s3 auth use sts"] == "true"
    assert config["osd"]["bluestore block size"] == str(4 << 30)


def test_keyring() -> None:
    text = keyring({"osd.0": ("KEY", {"mon": "allow profile osd", "osd": "allow *"})})
    assert text == (
        '[osd.0]\n\tkey = KEY\n\tcaps mon = "allow profile osd"\n\tcaps osd = "allow *"\n'
    )


def test_keys_have_cephs_form() -> None:
    raw = base64.b64decode(new_key())
    assert len(raw) == 28
    assert raw[:2] == b"\x01\x00"
    assert raw[10:12] == b"\x10\x00"
    assert new_key() != new_key()


def test_the_identity_is_chosen_once(tmp_path: Path) -> None:
    first = ceph._identity(tmp_path)
    assert ceph._identity(tmp_path) == first
    assert len(first["sts_key"]) == 16
    assert stat.S_IMODE((tmp_path / "identity.json").stat().st_mode) == 0o600


def test_commands_hold_no_secret(tmp_path: Path) -> None:
    identity = ceph._identity(tmp_path)
    settings = Settings.parse({"state_dir": str(tmp_path)})
    text = json.dumps([service.command for service in ceph.ceph_services(settings)])
    assert not any(value in text for key, value in identity.items() if key.endswith("_key"))


def test_a_state_directory_too_deep_for_sockets_is_named(tmp_path: Path) -> None:
    local = {"ceph_mon_port": 1, "s3_backend_port": 2}
    state = tmp_path / ("d" * 100)
    settings = Settings.parse({"state_dir": str(state), "local": local})
    with pytest.raises(ServiceError, match="shorter state directory"):
        ceph.ceph_services(settings)[0].prepare()


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ServiceError, match="no-such-program is not installed"):
        ceph._run("no-such-program", "--version")
