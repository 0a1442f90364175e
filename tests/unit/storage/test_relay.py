"""The relay's configurations, which HAProxy and nginx check, and the status file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from taccuino.storage.mount_client import MountStatus
from taccuino.storage.mount_plane.changes import Change, change
from taccuino.storage.mount_plane.kept import kept_config
from taccuino.storage.mount_plane.relay import relay_config
from taccuino.storage.mount_plane.status_file import StatusFile

_HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@pytest.mark.parametrize(
    ("endpoint", "addresses", "server"),
    [
        ("http://127.0.0.1:9000", ("127.0.0.1",), "server storage1 127.0.0.1:9000 check"),
        ("http://s3.example.org", ("192.0.2.1", "192.0.2.2"), "server storage2 192.0.2.2:80"),
        (
            "https://s3.example.org",
            ("192.0.2.1",),
            "192.0.2.1:443 check ssl verify required ca-file @system-ca sni str(s3.example.org)",
        ),
        ("https://s3.example.org:8443", ("2001:db8::1",), "storage1 [2001:db8::1]:8443 check"),
        ("https://unknown.example.org", (), "timeout check 4s"),
    ],
)
def test_relay_config(
    tmp_path: Path, endpoint: str, addresses: tuple[str, ...], server: str
) -> None:
    text = relay_config(endpoint, addresses, 20_001, "a2V5", tmp_path)
    assert server in text
    assert "bind 127.0.0.1:20001\n" in text
    if _HAPROXY is None:
        pytest.skip("haproxy is not installed")
    config = tmp_path / "haproxy.cfg"
    config.write_text(text)
    checked = subprocess.run([_HAPROXY, "-c", "-f", config], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.skipif(_NGINX is None, reason="nginx is not installed")
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    config.write_text(kept_config(tmp_path, lua=True))
    checked = subprocess.run(
        [_NGINX, "-t", "-c", config, "-e", tmp_path / "log"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            'alice PUT 200 "5d41" /b/a%20b/c.txt',
            Change("alice", "b", "a b/c.txt", True, "5d41"),
        ),
        ("alice PUT 200 - /b/k?x-id=PutObject", Change("alice", "b", "k", made=True)),
        ("alice DELETE 204 - /b/k?x-id=DeleteObject", Change("alice", "b", "k", made=False)),
        ("alice POST 200 - /b/k?uploadId=2~x", Change("alice", "b", "k", made=True)),
        ("alice PUT 200 - /b/k?partNumber=1&uploadId=2~x", None),
        ("alice DELETE 204 - /b/k?uploadId=2~x", None),
        ("alice POST 200 - /b/k?uploads=", None),
        ("alice PUT 504 - /b/k", None),
        ("alice PUT 200 - /b", None),
        ("alice PUT 200 - /b/", None),
        ("- PUT 407 - -", None),
    ],
)
def test_what_the_relay_tells_of_changes(line: str, found: Change | None) -> None:
    assert change(line) == found


def test_the_status_file_changes_with_the_status(tmp_path: Path) -> None:
    def status(fault: str | None) -> MountStatus:
        return MountStatus("alice", "mounted", tmp_path, tmp_path, fault=fault)

    file, path = StatusFile(tmp_path), tmp_path / ".taccuino/status.json"
    file.write(status(None), [])
    first = path.stat()
    assert first.st_mode & 0o777 == 0o644
    file.write(status(None), [])
    assert path.stat().st_ino == first.st_ino, "not written anew without a change"
    file.write(status("It is away."), [{"path": "a", "copy": "b", "at": 1}])
    told = json.loads(path.read_text())
    assert (told["fault"], told["conflicts"][0]["copy"]) == ("It is away.", "b")
    assert [left.name for left in path.parent.iterdir()] == ["status.json"]
    file.remove()
    file.write(status(None), [])
    assert json.loads(path.read_text())["fault"] is None


def test_no_status_file_without_mounts(tmp_path: Path) -> None:
    StatusFile(tmp_path / "gone").write(MountStatus("alice", "absent", tmp_path, tmp_path), [])
    assert not (tmp_path / "gone").exists()
