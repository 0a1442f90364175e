"""What a start does about the newest snapshot; records that others can write."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from taccuino.errors import SettingsError
from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequestError
from taccuino.storage.mount_plane.snapshots.key import derived_key, service_secret
from taccuino.storage.mount_plane.snapshots.lineage import (
    Lineage,
    Newest,
    advanced,
    course,
    folder_name,
    with_apart,
)
from taccuino.storage.mount_plane.snapshots.pointer import _is_claimed
from taccuino.storage.mount_plane.snapshots.restic import (
    Restic,
    _to_microseconds,
    error_of,
    explain,
)
from taccuino.storage.mount_plane.snapshots.sandbox import Sandbox
from taccuino.storage.snapshots import Snapshot, SnapshotOwner, is_snapshot_id


def made(number: int, site: str = "bari") -> Snapshot:
    return Snapshot(f"{number:08x}", 1_700_000_000.0 + number, site, 10, 1)


ONE, TWO, THREE = made(1), made(2, "cnaf"), made(3)
NEWEST = Newest(TWO, (ONE.id,))


@pytest.mark.parametrize(
    ("here", "newest", "expected"),
    [
        (Lineage(), None, "keep"),  # nobody ever made one
        (Lineage(), NEWEST, "replace"),  # no area here, or one that nobody used
        (Lineage(base=TWO.id), NEWEST, "keep"),
        (Lineage(base=TWO.id, changed=True), NEWEST, "keep"),
        (Lineage(base=ONE.id), NEWEST, "replace"),
        (Lineage(base=ONE.id, changed=True), NEWEST, "beside"),
        (Lineage(base=THREE.id), NEWEST, "beside"),  # not known to lie before it
        (Lineage(changed=True), NEWEST, "beside"),  # from before there were snapshots
        (Lineage(base=ONE.id, changed=True, coming=TWO.id), NEWEST, "keep"),  # killed
        (Lineage(base=ONE.id, changed=True, apart=THREE.id), NEWEST, "beside"),
    ],
)
def test_a_workarea_is_replaced_only_if_all_of_it_is_in_a_snapshot(here, newest, expected):
    assert course(here, newest) == expected


def test_a_snapshot_becomes_the_newest_only_where_it_follows_it():
    assert advanced(None, Lineage(), ONE) == Newest(ONE)
    following = advanced(Newest(ONE), Lineage(base=ONE.id), TWO)
    assert following == NEWEST
    assert advanced(NEWEST, Lineage(base=ONE.id), THREE) is None
    assert advanced(NEWEST, Lineage(), THREE) is None


def test_what_was_made_apart_is_told_until_its_site_joins_again():
    told = with_apart(NEWEST, THREE)
    later = made(4)
    assert with_apart(told, later).apart == (later,)
    elsewhere = advanced(told, Lineage(base=TWO.id), made(5, "cnaf"))
    assert elsewhere
    assert elsewhere.apart == (THREE,)
    joined = advanced(told, Lineage(base=TWO.id), later)
    assert joined
    assert joined.apart == ()
    assert joined.ancestors == (TWO.id, ONE.id)


def test_the_pointer_is_read_as_it_was_written():
    newest = with_apart(NEWEST, THREE)
    assert Newest.parse(newest.as_text()) == newest


def _changed(**change: object) -> bytes:
    data = json.loads(NEWEST.as_text())
    data["snapshot"] |= change
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"{}",
        b'{"snapshot": 1, "ancestors": [], "apart": []}',
        b"[" * 100_000,
        _changed(id="--help"),
        _changed(id="latest"),
        _changed(site="../../etc"),
        _changed(site=None),
        _changed(at="now"),
        _changed(at=float("1e300")),
        _changed(at=float("nan")),
        _changed(at=True),
        _changed(bytes="1"),
        json.dumps({**json.loads(NEWEST.as_text()), "ancestors": ["x"]}).encode(),
        json.dumps({**json.loads(NEWEST.as_text()), "apart": {"a": 1}}).encode(),
    ],
)
def test_whatever_a_user_writes_into_their_bucket_is_no_traceback(text):
    with pytest.raises(ValueError, match=r"."):
        Newest.parse(text)


def test_a_record_that_cannot_be_read_counts_as_changed(tmp_path: Path):
    path = tmp_path / "alice.lineage.json"
    assert Lineage.read(path, there=False) == Lineage()
    assert Lineage.read(path, there=True).changed
    for text in ("", "[]", '{"x": 1}', "null"):
        path.write_text(text)
        assert Lineage.read(path, there=True).changed
        assert Lineage.read(path, there=False) == Lineage()
    known = replace(Lineage("alice", "a-bucket", changed=True).on(ONE), mark="m")
    known.save(path)
    assert Lineage.read(path, there=True) == known
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_tells_where_and_from_when():
    assert folder_name(ONE) == "restored-bari-20231114T221321Z"


@pytest.mark.parametrize(
    ("text", "good"),
    [("85bab494", True), ("a" * 64, True), ("85bab49", False), ("a" * 65, False)]
    + [(text, False) for text in ("latest", "-h", "85BAB494", "85bab494\n", "", None, 1)],
)
def test_the_form_of_an_id(text, good):
    assert is_snapshot_id(text) is good


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Fatal: wrong password or no key found", "key"),
        ("unable to create lock: repository is already locked exclusively by PID 2", "locked"),
        ("Save(<data/1>) returned error: QuotaExceeded", "quota"),
        ("client.PutObject: Access Denied", "denied"),
        ("Stat: The specified key does not exist.\nIs there a repository at", "none"),
        ("Stat: Access Denied.\nIs there a repository at the following location?", "denied"),
        ("write /workarea/x: no space left on device", "full"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "unreachable"),
        ("panic: something", "failed"),
    ],
)
def test_what_restic_says_is_told_in_a_sentence(text, reason):
    error = explain([text])
    assert error.reason == reason
    assert str(error).endswith(".")
    assert "panic" not in str(error)


@pytest.mark.parametrize(
    ("told", "plain"),
    [
        ("2026-11-25T18:43:27.244131864Z", "2026-11-25T18:43:27.244131+00:00"),
        ("2026-11-25T18:43:27Z", "2026-11-25T18:43:27+00:00"),
        ("2026-11-25T19:43:27.5+01:00", "2026-11-25T19:43:27.500000+01:00"),
    ],
)
def test_the_times_of_go(told, plain):
    assert _to_microseconds(told) == plain


def test_nothing_secret_is_on_the_command_line_and_little_is_seen(tmp_path: Path):
    reading = Sandbox("bari.1", run=tmp_path, area=tmp_path / "area").words(["restic"], {})
    assert "--ro-bind" in reading
    assert reading[reading.index("--cap-add") + 1] == "CAP_DAC_READ_SEARCH"
    assert "setpriv" not in reading
    writing = Sandbox("bari.1", area=tmp_path / "area", uid=3_001_000).words(["restic"], {})
    assert "CAP_DAC_READ_SEARCH" not in writing
    assert writing[writing.index("setpriv") + 1] == "--reuid=3001000"
    for words in (reading, writing):
        assert {"--clearenv", "--unshare-pid", "--die-with-parent"} <= set(words)
        assert words[-1] == "restic"
    idle = Sandbox("bari.1", idle=True).words(["restic"], {})
    assert idle[:4] == ["nice", "-n", "19", "ionice"]


def test_each_user_has_a_key_and_each_service(tmp_path: Path):
    keys = {
        derived_key(secret.encode(), name)
        for secret in ("a" * 32, "b" * 32)
        for name in ("alice", "alice\0", "bruno", "\udc80")
    }
    assert len(keys) == 8
    assert derived_key(b"a" * 32, "alice") == derived_key(b"a" * 32, "alice")


def test_the_secret_is_made_only_where_it_is_the_instances_own(tmp_path: Path):
    own = Settings.parse({"state_dir": str(tmp_path)})
    assert service_secret(own) == service_secret(own)
    named = tmp_path / "shared-key"
    shared = Settings.parse({"state_dir": str(tmp_path), "snapshots": {"key_file": str(named)}})
    with pytest.raises(SettingsError, match="copy it from another site"):
        service_secret(shared)
    named.write_text("short")
    named.chmod(0o600)
    with pytest.raises(SettingsError, match="openssl rand"):
        service_secret(shared)
    named.write_text("0" * 64)
    named.chmod(0o644)
    with pytest.raises(SettingsError, match="others may read"):
        service_secret(shared)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"username": "alice", "slug": "alice"},
        {"username": "alice", "slug": "bob", "bucket": "a-bucket"},
        {"username": "alice", "slug": "alice", "bucket": "../etc"},
        {"username": 1, "slug": "alice", "bucket": "a-bucket"},
        {"username": "alice", "slug": "alice", "bucket": None},
    ],
)
def test_who_is_no_owner_is_refused(data):
    with pytest.raises(MountRequestError):
        SnapshotOwner.from_json(data)


@pytest.mark.parametrize(
    ("locks", "unlocked"),
    [
        ({}, None),  # the other's is gone, and who knows whose comes next
        ({"0a" * 32: "bari.1"}, ("unlock", "--remove-all")),
        ({"0a" * 32: "bari.1", "0b" * 32: "cnaf.1"}, ("unlock",)),
    ],
)
async def test_only_locks_that_are_ours_are_removed_whatever_their_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: dict[str, str], unlocked: object
):
    owner = SnapshotOwner("alice", "alice", "alice-bucket")
    restic = Restic(
        Settings(),
        owner,
        tmp_path,
        "bari.1",
        key=str,
        credentials=None,  # type: ignore[arg-type]
        away=lambda: False,
        alone=contextlib.nullcontext,
    )
    told: list[tuple[str, ...]] = []

    async def run(*words: str, **_: object) -> list[str]:
        told.append(words)
        if words[0] == "list":
            return [*locks, ""]
        return [json.dumps({"hostname": locks[words[2]]})] if words[0] == "cat" else []

    attempts = iter([error_of("locked"), None])

    async def attempt() -> str:
        if fault := next(attempts):
            raise fault
        return "done"

    monkeypatch.setattr(restic, "_restic", run)
    assert await restic._unlocked(attempt) == "done"
    assert next((words for words in told if words[0] == "unlock"), None) == unlocked


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({}, False),
        ({"cnaf.1": "2026-11-25T18:29:59.000Z"}, True),
        ({"cnaf.1": "2026-11-25T18:31:00Z"}, True),
        ({"cnaf.1": "2026-11-25T18:20:00.000Z"}, False),  # it was killed
        ({"cnaf.1": "2026-11-25T18:20:00Z", "x": "2026-11-25T18:25:00Z"}, True),
        ({"cnaf.1": "yesterday"}, True),
    ],
)
def test_whoever_sees_anothers_claim_gives_way(others: dict[str, str], expected: bool):
    claims = {"bari.1": "2026-11-25T18:30:00.000Z", **others}
    listing = "".join(
        f"<Contents><Key>c/{name}</Key><LastModified>{at}</LastModified></Contents>"
        for name, at in claims.items()
    )
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    text = f"<ListBucketResult {space}>{listing}</ListBucketResult>".encode()
    assert _is_claimed(text, "c/bari.1") == expected
    assert _is_claimed(text[:-30], "c/bari.1")
    assert _is_claimed(text, "c/bari.2")  # the storage does not list what was just written
