"""The mount plane's pure parts: texts, tables, records, sentences, credentials."""

from __future__ import annotations

import configparser
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from taccuino.naming import slug as slug_of
from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequest
from taccuino.storage.mount_plane.cache import dirty_files, repair
from taccuino.storage.mount_plane.configuration import (
    ASKING,
    aws_config,
    command,
    environment,
    mount_options,
    parts,
    rclone_config,
)
from taccuino.storage.mount_plane.credentials import (
    CredentialError,
    CredentialSource,
    StorageCredentials,
)
from taccuino.storage.mount_plane.faults import explain_storage_error
from taccuino.storage.mount_plane.kernel import MountEntry, MountTable
from taccuino.storage.mount_plane.layout import RcloneIdentity, Record, UserPaths, read_records
from taccuino.storage.mount_plane.uploads import FailureReasons, Pending

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def request_of(username: str = "alice") -> MountRequest:
    return MountRequest(username, slug_of(username), 3001000, 3001000, "alice-b", "scratch")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.parse(
        {"state_dir": str(tmp_path), "storage": {"endpoint": "http://s3:1"}, "hub": {"port": 9}}
    )


@pytest.fixture
def paths(settings: Settings) -> UserPaths:
    made = UserPaths.of(settings, "alice")
    made.private.mkdir(parents=True)
    return made


# -- what rclone is told


def test_remotes(settings: Settings, paths: UserPaths) -> None:
    config = configparser.ConfigParser()
    config.read_string(rclone_config(settings, request_of(), paths))
    assert set(config.sections()) == {
        *("home", "scratch-store", "own-scratch", "scratch", "asked"),
    }
    assert config["asked"]["override.user_agent"] == ASKING
    assert "override.user_agent" not in config["home"]
    assert config["home"]["endpoint"] == "http://s3:1"
    assert config["home"]["env_auth"] == "true"
    assert config["scratch"]["upstreams"].split() == [
        f"{paths.scratch_overlay}:ro",
        "scratch-store:scratch:ro",
    ]


def test_parts(paths: UserPaths) -> None:
    bucket, scratch, own = parts(request_of(), paths)
    assert (bucket.vfs, bucket.target) == ("home:alice-b", paths.cloud_storage / "alice")
    assert (scratch.read_only, scratch.probe) == (True, "scratch-store:scratch")
    assert (own.remote, own.vfs) == ("own-scratch:scratch/alice/", "own-scratch:scratch/alice")
    assert not own.read_only
    assert own.title == "cloud_storage/scratch/alice"
    assert [part.asked for part in (bucket, scratch, own)] == [
        *("asked:alice-b", "asked:scratch", "asked:scratch/alice/"),
    ]
    shown = [part.directory("scratch", "alice/a b/") for part in (bucket, scratch, own)]
    assert shown == [None, "alice/a b", "a b"]
    assert (bucket.directory("alice-b", ""), own.directory("scratch", "bob/")) == ("", None)


def test_mount_options(settings: Settings, paths: UserPaths) -> None:
    options = mount_options(settings, request_of(), parts(request_of(), paths)[1], 180.0)
    vfs, mount = options["vfsOpt"], options["mountOpt"]
    assert vfs["ReadOnly"] is True
    assert (vfs["UID"], vfs["GID"], vfs["Umask"]) == (3001000, 3001000, 0o077)
    assert vfs["WriteBack"] == 2_000_000_000
    assert vfs["CacheMaxSize"] == 5 * 2**30
    assert mount == {"AllowOther": True, "DefaultPermissions": True}


def test_nothing_secret_is_passed(paths: UserPaths) -> None:
    inherited = {"AWS_SECRET_ACCESS_KEY": "s3cr3t", "RCLONE_RC_PASS": "s3cr3t", "PATH": "/bin"}
    variables = environment(paths, inherited, 1 << 30)
    assert "s3cr3t" not in json.dumps(variables)
    assert variables["PATH"] == "/bin"
    assert "--rc-no-auth" in command(paths, "bari.1")


def test_credential_process_is_one_quoted_command() -> None:
    text = aws_config(Path("/a b/api.sock"), "alice")
    assert "--unix-socket '/a b/api.sock' http://localhost/credentials/alice\n" in text


# -- the kernel's table

LINES = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
71 27 0:51 / /m/alice/cloud_storage/a\\040b rw,nosuid shared:7 - fuse.rclone home:b rw,user_id=0
72 27 7:0 / /m/alice/workarea rw,nosuid,nodev,relatime shared:1 master:2 - ext4 /dev/loop0 rw
73 72 0:52 / /m/alice/cloud_storage/scratch ro,nosuid - fuse.rclone scratch: ro
74 72 0:53 / /m/alice/cloud_storage/scratch rw - tmpfs over rw
"""


def test_mount_table() -> None:
    table = MountTable(LINES)
    assert table.at(Path("/m/alice/cloud_storage/a b")) == MountEntry(
        Path("/m/alice/cloud_storage/a b"), "fuse.rclone", "home:b", False, True
    )
    assert table.at(Path("/m/alice/workarea")).source == "/dev/loop0"
    assert table.at(Path("/m/alice/cloud_storage/scratch")).kind == "tmpfs", "the topmost"
    assert table.at(Path("/m/alice")) is None
    assert len(table.below(Path("/m/alice"))) == 4
    assert table.below(Path("/m/ali")) == []


def test_this_machines_table_can_be_read() -> None:
    assert MountTable.read().at(Path("/proc")).kind == "proc"


# -- records


def test_record_survives_and_is_private(settings: Settings, paths: UserPaths) -> None:
    record = Record(request_of(), rclone=RcloneIdentity(12, 345), proven={"bucket"})
    record.save(paths)
    assert read_records(settings) == ([record], [])
    mode = stat.S_IMODE((paths.private / "record.json").stat().st_mode)
    assert mode == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"request": {}}'])
def test_broken_record_is_told_and_left_alone(
    settings: Settings, paths: UserPaths, text: str
) -> None:
    (paths.private / "record.json").write_text(text)
    records, faults = read_records(settings)
    assert records == []
    assert "record.json" in faults[0]


def test_record_of_another_user_is_left_alone(settings: Settings, paths: UserPaths) -> None:
    Record(request_of("bob")).save(paths)
    assert read_records(settings)[0] == []


def test_dirty_files_counts_what_it_cannot_read(tmp_path: Path) -> None:
    meta = tmp_path / "vfsMeta/home/b/deep"
    meta.mkdir(parents=True)
    assert dirty_files(tmp_path) == 0
    (meta / "clean").write_text('{"Dirty": false}')
    (meta / "dirty").write_text('{"Dirty": true}')
    (meta / "cut-off").write_text('{"Di')
    assert dirty_files(tmp_path) == 2
    assert dirty_files(tmp_path / "nothing") == 0


@pytest.mark.parametrize("text", ["", '{"Dirty": tr', "[]"])
def test_repair_saves_what_has_no_description(tmp_path: Path, text: str) -> None:
    cache, aside = tmp_path / "cache", tmp_path / "aside"
    data, meta = cache / "vfs/home/b", cache / "vfsMeta/home/b"
    data.mkdir(parents=True)
    meta.mkdir(parents=True)
    (meta / "fine").write_text('{"Dirty": false, "Size": 1}')
    (data / "fine").write_text("x")
    for name in ("whole", "empty", "holes", "no-data"):
        (meta / name).write_text(text)
    (data / "whole").write_bytes(b"x" * 5000)
    (data / "empty").touch()
    with (data / "holes").open("wb") as file:
        file.write(b"x" * 4096)
        file.truncate(2**20)
    assert repair(cache, aside) == ["home/b/holes"]
    whole = json.loads((meta / "whole").read_text())
    assert (whole["Dirty"], whole["Rs"]) == (True, [{"Pos": 0, "Size": 5000}])
    assert json.loads((meta / "empty").read_text())["Dirty"] is True
    assert (aside / "home/b/holes").stat().st_size == 2**20
    assert sorted(path.name for path in meta.iterdir()) == ["empty", "fine", "whole"]
    assert json.loads((meta / "fine").read_text())["Dirty"] is False
    assert repair(cache, aside) == []
    assert dirty_files(cache) == 2


# -- sentences

ERRORS = [
    ("https response error StatusCode: 403, api error AccessDenied: x", "refuses access"),
    ("api error InvalidAccessKeyId: The Access Key", "refuses access"),
    ("api error SignatureDoesNotMatch", "refuses access"),
    ("api error ExpiredToken: old", "expired"),
    ("error in ListJSON: directory not found", "does not exist"),
    ("api error NoSuchBucket: x", "does not exist"),
    ("dial tcp 127.0.0.1:1: connect: connection refused", "can't be reached"),
    ("dial tcp: lookup s3: no such host", "can't be reached"),
    ("rclone's operations/list: i/o timeout after 8 s", "can't be reached"),
    ("StatusCode: 503, api error SlowDown: wait", "can't be reached"),
    ("failed to refresh cached credentials, process provider error", "no storage credentials"),
    ("api error QuotaExceeded: UnknownError", "bucket is full"),
    ("api error EntityTooLarge: too much", "EntityTooLarge: too much"),
    ("something new", "something new"),
    ("", "error"),
]


@pytest.mark.parametrize(("text", "told"), ERRORS)
def test_storage_errors_as_sentences(text: str, told: str) -> None:
    sentence = explain_storage_error(text, "cloud_storage/alice", "http://s3")
    assert sentence.startswith("cloud_storage/alice: ")
    assert told in sentence
    assert sentence.endswith(".")


async def test_upload_errors_name_file_and_reason(tmp_path: Path) -> None:
    def line(name: str, text: str) -> str:
        return json.dumps({"time": "2026-11-24T03:00:00Z", "msg": text, "object": name}) + "\n"

    def failed(name: str, why: str) -> str:
        text = "vfs cache: failed to upload try #2, will retry in 20s: vfs cache: failed to "
        return line(name, f"{text}transfer file: api error {why}: no")

    log, flood = tmp_path / "rclone.log", line("x", "something else") * 20_000
    log.write_text("not json\n" + failed("dir/a.txt", "AccessDenied") + flood)
    reasons = FailureReasons(log)
    failing = [("cloud_storage/alice", "dir/a.txt", 2), ("cloud_storage/alice", "b", 1)]
    assert await reasons.explain(Pending(2), "http://s3") == []
    first, second = await reasons.explain(Pending(2, failing), "http://s3")
    assert "cloud_storage/alice/dir/a.txt: the object storage refuses access" in first
    assert "2 attempt(s)" in first
    assert "cloud_storage/alice/b: the upload failed" in second
    with log.open("a") as file:
        file.write(line("dir/a.txt", "vfs cache: queuing for upload in 1s"))
        file.write(line("dir/a.txt", 'vfs cache: renamed in cache to "b"'))
        file.write("incomplete")
    first, second = await reasons.explain(Pending(2, failing), "http://s3")
    assert "dir/a.txt: the upload failed" in first
    assert "b: the object storage refuses access" in second
    with log.open("a") as file:
        file.write("\n" + line("b", "vfs cache: upload succeeded try #3"))
    assert (
        "b: the upload failed" in (await reasons.explain(Pending(2, failing), "http://s3"))[1]
    )


# -- credentials


def container_json(seconds: float) -> dict[str, Any]:
    end = NOW + timedelta(seconds=seconds)
    return {
        "AccessKeyId": "A",
        "SecretAccessKey": "S",
        "Token": "T",
        "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


@pytest.mark.parametrize(
    ("life", "told"), [(3600, 3600 - 120), (900, 900 - 120), (100, 100), (130, 130)]
)
def test_rclone_is_told_an_earlier_end(life: int, told: int) -> None:
    credentials = StorageCredentials.from_container_json(container_json(life), NOW)
    answer = credentials.as_process_json(NOW)
    assert answer["Version"] == 1
    assert answer["SessionToken"] == "T"
    end = datetime.fromisoformat(answer["Expiration"])
    assert (end - NOW).total_seconds() == told


class Hub:
    """A hub whose answers a test sets."""

    def __init__(self) -> None:
        self.calls = 0
        self.status, self.answer = 200, container_json(3600)

    async def handle(self, request: web.Request) -> web.Response:
        self.calls += 1
        assert request.headers["Authorization"] == "token secret"
        assert request.match_info["name"] == "jane doe"
        return web.json_response(self.answer, status=self.status)


async def test_credentials_are_kept_and_served_while_the_hub_is_away(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    hub, now = Hub(), NOW
    app = web.Application()
    app.router.add_get("/base/credentials/{name}", hub.handle)
    async with TestServer(app) as server:
        source = CredentialSource(
            str(server.make_url("/base")), tmp_path / "token", now=lambda: now
        )
        assert (await source.get("jane doe")).access_key == "A"
        await source.get("jane doe")
        assert hub.calls == 1
        now += timedelta(seconds=3600 - 200)  # near the end: asked again
        hub.status, hub.answer = 503, {"status": 503, "message": "busy"}
        assert (await source.get("jane doe")).access_key == "A"
        assert hub.calls == 2
        now += timedelta(seconds=300)  # over
        with pytest.raises(CredentialError, match="busy"):
            await source.get("jane doe")
        hub.status, hub.answer = 200, {"AccessKeyId": "A"}
        with pytest.raises(CredentialError, match="can't be read"):
            await source.get("jane doe")
    with pytest.raises(CredentialError, match="can't be reached"):
        await source.get("jane doe")


async def test_missing_token_is_named(tmp_path: Path) -> None:
    source = CredentialSource("http://127.0.0.1:1", tmp_path / "no-token")
    with pytest.raises(CredentialError, match="no-token"):
        await source.get("alice")


@pytest.mark.skipif(os.geteuid() != 0, reason="ids can only be given away by root")
def test_workarea_content_is_the_users(tmp_path: Path) -> None:
    from taccuino.storage.mount_plane.workarea import _prepare_content

    area = tmp_path / "area"
    (area / "lost+found").mkdir(parents=True)
    (area / "cloud_storage").symlink_to("/etc")
    _prepare_content(area, 3001000, 3001000)
    _prepare_content(area, 3001000, 3001000)
    names = sorted(path.name for path in area.iterdir())
    assert names[0] == "cloud_storage"
    assert names[1].startswith("cloud_storage.conflict-")
    assert names[2:] == ["examples", "local"]
    for name in ("cloud_storage", "examples", "local"):
        found = (area / name).lstat()
        assert stat.S_ISDIR(found.st_mode)
        assert (found.st_uid, found.st_gid) == (3001000, 3001000)
