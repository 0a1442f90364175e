"""What the mount plane is asked, and what it refuses before it touches anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from taccuino.naming import slug as slug_of
from taccuino.settings import Settings
from taccuino.storage.mount_client import (
    MountPlaneClient,
    MountPlaneError,
    MountRequest,
    MountRequestError,
    MountStatus,
)
from taccuino.storage.mount_plane.api import application
from taccuino.storage.mount_plane.credentials import CredentialSource
from taccuino.storage.mount_plane.plane import MountPlane

GOOD = {
    "username": "alice",
    "slug": "alice",
    "uid": 3001000,
    "gid": 3001000,
    "bucket": "alice-bucket",
    "scratch_bucket": "scratch",
    "workarea_quota": "1G",
}

HOSTILE = [
    ("slug", "../alice"),
    ("slug", "alice/../../etc"),
    ("slug", ""),
    ("slug", "bob"),
    ("slug", None),
    ("username", "../../etc"),
    ("username", ""),
    ("username", "a\0b"),
    ("username", 7),
    ("uid", 0),
    ("uid", 999),
    ("uid", -1),
    ("uid", 2**32),
    ("uid", "3001000"),
    ("uid", True),
    ("gid", 0),
    ("bucket", "../scratch"),
    ("bucket", "a b"),
    ("bucket", "x\n[evil]"),
    ("bucket", ""),
    ("bucket", None),
    ("scratch_bucket", "scratch:ro other"),
    ("workarea_quota", "lots"),
    ("workarea_quota", "-1G"),
    ("command", "rm"),
]


def test_good_request_survives_json() -> None:
    request = MountRequest.from_json(GOOD)
    assert MountRequest.from_json(request.as_json()) == request
    assert request.quota_bytes == 2**30


@pytest.mark.parametrize(("key", "value"), HOSTILE)
def test_hostile_requests_are_refused(key: str, value: object) -> None:
    with pytest.raises(MountRequestError, match=key if key != "slug" else "slug"):
        MountRequest.from_json({**GOOD, key: value})


def test_missing_key_is_named() -> None:
    with pytest.raises(MountRequestError, match="bucket"):
        MountRequest.from_json({key: GOOD[key] for key in GOOD if key != "bucket"})


@pytest.mark.parametrize(
    ("username", "directory"),
    [
        ("alice", "alice"),
        ("jane.doe", "jane.doe"),
        ("jane@inst.it", "jane@inst.it"),
        ("scratch", "scratch--own"),
    ],
)
def test_directory_names(username: str, directory: str) -> None:
    request = MountRequest.from_json({**GOOD, "username": username, "slug": slug_of(username)})
    assert request.directory_name == directory


@pytest.mark.parametrize("username", [".", "..", "-rf", "a b", "ünï", ".hidden", "x" * 200])
def test_odd_names_get_a_safe_directory(username: str) -> None:
    request = MountRequest.from_json({**GOOD, "username": username, "slug": slug_of(username)})
    assert request.directory_name.isascii()
    assert request.directory_name[0].isalnum()
    assert "--" in request.directory_name


def test_status_survives_json() -> None:
    status = MountStatus(
        "alice", "draining", Path("/m/w"), Path("/m/c"), True, 3, ["a: no"], "away"
    )
    assert MountStatus.from_json(status.as_json()) == status


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.parse({"state_dir": str(tmp_path), "storage": {"endpoint": "http://s3"}})


async def test_api_refuses_with_400(settings: Settings, tmp_path: Path) -> None:
    plane = MountPlane(settings, CredentialSource("http://hub", tmp_path / "token"))
    plane.started.set()
    async with TestClient(TestServer(application(plane))) as client:
        for path, body in (
            ("/mounts/alice", {**GOOD, "uid": 0}),
            ("/mounts/alice", {**GOOD, "slug": "../x"}),
            ("/mounts/bob", GOOD),
            ("/mounts/alice", [1]),
        ):
            response = await client.put(path, json=body)
            assert response.status == 400, await response.text()
            assert (await response.json())["message"]
        for path in ("/mounts/..%2F..%2Fetc", "/mounts/A", "/mounts/%2e%2e", "/credentials/.."):
            response = await client.get(path)
            assert response.status in {400, 404}
        assert (await client.put("/mounts/alice", data=b"{")).status == 400
        response = await client.post("/mounts/alice/drain", json={"timeout": "soon"})
        assert response.status == 400
        assert (await client.delete("/mounts/alice?drain=maybe")).status == 400
        assert (await client.get("/credentials/alice")).status == 404
    assert not list(tmp_path.iterdir()), "nothing was made"


async def test_unknown_user_is_absent(settings: Settings, tmp_path: Path) -> None:
    plane = MountPlane(settings, CredentialSource("http://hub", tmp_path / "token"))
    assert (await plane.status("alice")).state == "absent"
    assert (await plane.release("alice", drain=True)).state == "absent"
    assert await plane.list() == []


async def test_client_says_that_the_daemon_is_not_there(settings: Settings) -> None:
    with pytest.raises(MountPlaneError, match="mount-plane runs"):
        await MountPlaneClient(settings).check()
