"""The relay's configurations, which HAProxy and nginx check, and the status file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from taccuino.settings import Settings
from taccuino.storage.mount_client import MountStatus
from taccuino.storage.mount_plane import relay
from taccuino.storage.mount_plane.changes import Change, change
from taccuino.storage.mount_plane.kept import kept_config
from taccuino.storage.mount_plane.relay import StorageRelay, relay_config
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


def relay_of(state: Path) -> StorageRelay:
    settings = Settings.parse(
        {
            "state_dir": str(state),
            "storage": {"endpoint": "http://127.0.0.1:9"},
            "hub": {"port": 9},
        }
    )
    made = StorageRelay(settings, {})
    made._directory.mkdir(parents=True)
    return made


def test_another_process_with_the_number_of_the_relay_is_left_alone(tmp_path: Path) -> None:
    made = relay_of(tmp_path)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        try:
            made._pid_file.write_text(f"{other.pid}\n")
            assert not made._end_silent()
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.skipif(_HAPROXY is None, reason="haproxy is not installed")
async def test_a_relay_that_does_not_answer_is_started_again_at_its_port(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = relay_of(short)
    try:
        await made._ensure()
        port, first = made._port, made._processes()
        assert len(first) == 2, "the master and its worker"
        for pid in first:
            os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(relay, "_ANSWER_SECONDS", 0.5)
        await made._ensure()
        assert made._port == port
        assert not set(first) & set(made._processes())
        monkeypatch.undo()
        assert await made._answer("show info")
    finally:
        made._end_silent()


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


def test_the_status_file_tells_names_that_are_not_utf8(tmp_path: Path) -> None:
    status = MountStatus("alice", "mounted", tmp_path, tmp_path, upload_errors=["\udcff.txt"])
    StatusFile(tmp_path).write(status, [])
    told = json.loads((tmp_path / ".taccuino/status.json").read_bytes())
    assert told["upload_errors"] == ["\udcff.txt"]


def test_no_status_file_without_mounts(tmp_path: Path) -> None:
    StatusFile(tmp_path / "gone").write(MountStatus("alice", "absent", tmp_path, tmp_path), [])
    assert not (tmp_path / "gone").exists()
