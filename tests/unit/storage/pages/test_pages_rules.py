"""The pure rules of the storage pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from taccuino.settings import Settings
from taccuino.storage.pages.errors import CallError
from taccuino.storage.pages.keys import check_folder, check_key, name_of, numbered
from taccuino.storage.pages.places import places_of
from taccuino.storage.pages.presigned import data_url, disposition, image_type
from taccuino.storage.pages.records import Records
from taccuino.storage.pages.sharing import Sharing
from taccuino.storage.pages.uploads import joined_etag, part_size

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4


@pytest.mark.parametrize(
    "key", ["a", "a b/c", "..a", "a..", "a/..b/c", ".hidden", "a//b", "%2e%2e/x", "é" * 512]
)
def test_a_key_is_taken(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key",
    ["", None, 7, "/a", "..", ".", "../a", "a/..", "a/../b", "a/./b", "a\0b", "a\nb", "\x7f",
     "é" * 513, "a" * 1025, "\ud800"],
)  # fmt: skip
def test_a_key_is_refused_with_a_sentence(key: object) -> None:
    with pytest.raises(CallError) as refused:
        check_key(key)
    assert refused.value.status == 400
    assert str(refused.value).startswith("key: ")


def test_folders_end_in_a_slash() -> None:
    assert check_folder("a/b") == check_folder("a/b/") == "a/b/"
    assert (name_of("a/b/"), name_of("a/b.txt"), name_of("c")) == ("b", "b.txt", "c")


@pytest.mark.parametrize(
    ("key", "taken", "free"),
    [
        ("a.txt", (), "a.txt"),
        ("a.txt", ("a.txt",), "a (2).txt"),
        ("x/a.txt", ("x/a.txt", "x/a (2).txt"), "x/a (3).txt"),
        ("x/.bashrc", ("x/.bashrc",), "x/.bashrc (2)"),
        ("x/plain", ("x/plain",), "x/plain (2)"),
        ("x/a.d/", ("x/a.d/",), "x/a.d (2)/"),
    ],
)
def test_a_taken_name_gets_a_number(key: str, taken: tuple[str, ...], free: str) -> None:
    assert numbered(key, taken) == free


@pytest.mark.parametrize(
    ("size", "part"),
    [
        (0, 8 * MIB),
        (8 * MIB, 8 * MIB),
        (10_000 * 8 * MIB, 8 * MIB),
        (10_000 * 8 * MIB + 1, 9 * MIB),
        (TIB, 105 * MIB),
        (5 * TIB, 525 * MIB),
    ],
)
def test_a_file_has_ten_thousand_parts_at_most(size: int, part: int) -> None:
    assert part_size(size) == part
    assert size <= part * 10_000


def test_a_file_that_s3_does_not_take() -> None:
    with pytest.raises(CallError) as refused:
        part_size(5 * TIB + 1)
    assert refused.value.status == 413


def test_the_etag_of_joined_parts() -> None:
    # Of two parts b"a" and b"b": md5(md5(a) + md5(b)).
    etags = {2: "92eb5ffee6ae2fec3ad71c777531578f", 1: "0cc175b9c0f1b6a831c399e269772661"}
    assert joined_etag(etags) == "96e024ba2074fe77e8e965ba43a704be-2"
    assert joined_etag({1: "no hex"}) == ""


@pytest.mark.parametrize(
    ("endpoint", "signed"),
    [
        ("http://localhost:8002", "http://localhost:8002/b/a%20b?X-Amz-Signature=s"),
        ("https://s3.example", "https://s3.example/b/a%20b?X-Amz-Signature=s"),
        ("https://s3.example/ceph/", "https://s3.example/ceph/b/a%20b?X-Amz-Signature=s"),
    ],
)
def test_a_signed_address_is_rewritten(endpoint: str, signed: str) -> None:
    settings = Settings.parse({"storage": {"endpoint": endpoint}})
    expected = "http://localhost:8000/storage-data/b/a%20b?X-Amz-Signature=s"
    assert data_url(settings, signed) == expected


def test_a_disposition_names_any_file() -> None:
    assert disposition('x/a "b"\\ é%.txt', "attachment") == (
        "attachment; filename=\"a _b__ __.txt\"; filename*=UTF-8''a%20%22b%22%5C%20%C3%A9%25.txt"
    )


def test_only_images_are_images() -> None:
    assert image_type("a/B.PNG") == "image/png"
    assert image_type("a.html") is None
    assert image_type("png") is None


def test_the_places_of_a_user() -> None:
    settings = Settings.parse(
        {
            "storage": {
                "group_buckets": [
                    {"group": "/lab/physics", "bucket": "g-physics"},
                    {"group": "readers", "bucket": "g-read", "read_only": True},
                    {"group": "others", "bucket": "g-others"},
                ]
            }
        }
    )
    own, scratch, physics, read = places_of(settings, "alice", ["lab/physics", "/readers"])
    assert (own.bucket, own.kind, own.may_write("x")) == ("alice", "own", True)
    assert scratch.may_write("alice/x")
    assert not scratch.may_write("alicia/x")
    assert not scratch.may_write("bruno/x")
    assert (physics.directory, physics.may_write("x")) == ("lab-physics", True)
    assert (read.bucket, read.may_write("x")) == ("g-read", False)


def test_records_keep_to_their_owner_and_their_time(tmp_path) -> None:
    clock = [1000.0]
    path = tmp_path / "deep/records.sqlite"
    records = Records(path, now=lambda: clock[0])
    assert path.stat().st_mode & 0o777 == 0o600
    share = records.add_share("alice", "b", "k", "e", 60)
    assert len(share.id) >= 32
    assert records.share(share.id) == share
    assert records.share("absent") is None
    assert records.shares_of("bruno") == []
    assert not records.revoke(share.id, "bruno")
    clock[0] = 1059.9
    assert records.share(share.id)
    clock[0] = 1060.0
    assert records.share(share.id) is None
    assert records.shares_of("alice") == []
    assert not records.revoke(share.id, "alice")
    again = records.add_share("alice", "b", "k", "e", 60)
    assert Records(path, now=lambda: clock[0]).shares_of("alice") == [again]
    assert records.revoke(again.id, "alice")

    token = records.add_deletion("alice", "b", {"k": "v"})
    assert records.deletion(token, "bruno") is None
    assert records.deletion(token, "alice").markers == {"k": "v"}
    clock[0] += 3601
    assert records.deletion(token, "alice") is None


def test_a_link_names_the_site_that_knows_it(tmp_path: Path) -> None:
    """But where there is only one."""
    alone = Settings.parse({"site": "bari"})
    records = Records(tmp_path / "records.sqlite")
    share = records.add_share("alice", "alice", "a", "e", 60)
    sharing = Sharing(alone, records, None, "token")  # type: ignore[arg-type]
    assert sharing.url(share) == f"{alone.url}/services/storage/s/{share.id}"
    peers = [{"name": "cnaf", "url": "http://localhost:1"}]
    secret = tmp_path / "secret"
    secret.write_text("s" * 40)
    two = Settings.parse(
        {"site": "bari", "peers": peers, "sites": {"secret_file": str(secret)}}
    )
    sharing = Sharing(two, records, None, "token")  # type: ignore[arg-type]
    assert sharing.url(share) == f"{two.url}/services/storage/s/bari/{share.id}"
    for here in (None, "bari"):
        sharing.check_site(here)
    for site, status in (("cnaf", 503), ("nowhere", 404)):
        with pytest.raises(CallError) as refused:
            sharing.check_site(site)
        assert refused.value.status == status
