"""What a listing tells, which changes in it are the mount's own, and who is told of the others."""

from __future__ import annotations

import asyncio

import pytest

from support.mounts import eventually
from taccuino.storage.mount_plane import watching
from taccuino.storage.mount_plane.asking import AskError
from taccuino.storage.mount_plane.changes import Change
from taccuino.storage.mount_plane.listings import (
    Listing,
    ListingTarget,
    Stamp,
    is_plain,
    listing_target,
    parse_listing,
    unexplained,
    with_prefix,
)
from taccuino.storage.mount_plane.watching import DirectoryWatch

ASKED = "/b?delimiter=%2F&max-keys=1000&prefix="


def listing(prefix: str = "", encoding: str = "", folders: str = "", **etags: str) -> bytes:
    items = "".join(
        f"<Contents><Key>{prefix}{name}</Key><ETag>&quot;{etag}&quot;</ETag><Size>1</Size>"
        "<LastModified>2026-11-24T10:00:00.123Z</LastModified></Contents>"
        for name, etag in etags.items()
    )
    common = f"<CommonPrefixes><Prefix>{folders}</Prefix></CommonPrefixes>" if folders else ""
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f"<ListBucketResult {space}>{encoding}{items}{common}</ListBucketResult>".encode()


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (ASKED, ListingTarget("b", "", first=True)),
        (f"{ASKED}a%20b%2F", ListingTarget("b", "a b/", first=True)),
        (f"{ASKED}&marker=x", ListingTarget("b", "", first=False)),
        ("/b?delimiter=%2F&list-type=2&continuation-token=x", ListingTarget("b", "", False)),
        ("/b?delimiter=%2F&versions", None),
        ("/b?delimiter=%2F&uploads=", None),
        ("/b?location", None),
        ("/b/key?delimiter=%2F", None),
        ("/?delimiter=%2F", None),
    ],
)
def test_what_a_request_lists(target: str, found: ListingTarget | None) -> None:
    assert listing_target(target) == found


def test_the_same_request_for_another_directory() -> None:
    wanted = ListingTarget("c", "a b/ü/", first=True)
    assert with_prefix(f"{ASKED}x%2F", wanted) == (
        "/c?delimiter=%2F&max-keys=1000&prefix=a%20b%2F%C3%BC%2F"
    )
    assert listing_target(with_prefix(ASKED, wanted)) == wanted


def test_an_answer_is_read() -> None:
    found = parse_listing(listing("d/", folders="d/e/", a="1", **{"l.rclonelink": "2"}))
    assert found.objects["d/a"] == Stamp("1", "2026-11-24T10:00:00.123Z", "1")
    assert found.directories == {"d/e/"}
    assert found.names("d/") == ["a", "l"]
    url = parse_listing(listing(encoding="<EncodingType>url</EncodingType>", **{"a%20b": "1"}))
    assert list(url.objects) == ["a b"]


@pytest.mark.parametrize("body", [b"", b"<a>", b"<Error><Code>x</Code></Error>", b"\0"])
def test_what_is_no_listing_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="listing"):
        parse_listing(body)


@pytest.mark.parametrize(
    ("path", "plain"),
    [("", True), ("a/b c", True), ("a/./b", False), ("a//b", False), ("\ufffd", False)],
)
def test_names_that_rclone_calls_otherwise(path: str, plain: bool) -> None:
    assert is_plain(path) == plain


def of(*folders: str, **etags: str) -> Listing:
    return Listing({key: Stamp(tag, "t", "1") for key, tag in etags.items()}, set(folders))


@pytest.mark.parametrize(
    ("before", "after", "own", "is_theirs"),
    [
        (of(a="1"), of(a="1"), {}, False),
        (of(), of(a="1"), {}, True),
        (of(), of(a="1"), {"a": "1"}, False),
        (of(a="1"), of(a="2"), {"a": "2"}, False),
        (of(a="1"), of(a="3"), {"a": "2"}, True),
        (of(a="1"), of(a="2"), {"a": None}, True),
        (of(a="1"), of(), {"a": ""}, False),
        (of(a="1"), of(), {}, True),
        (of(a="1"), of(), {"a": "1"}, True),
        (of(), of("d/"), {"d/x": "1"}, False),
        (of("d/"), of(), {"d/x": ""}, False),
        (of(), of("d/"), {"e": "1"}, True),
        (
            Listing({"a": Stamp("1", "t", "1")}),
            Listing({"a": Stamp("1", "later", "1")}),
            {},
            True,
        ),
    ],
)
def test_which_changes_are_ones_own(
    before: Listing, after: Listing, own: dict[str, str | None], is_theirs: bool
) -> None:
    assert unexplained(before, after, own) == is_theirs


class Storage:
    """What the watch asks and whom it tells."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.forgotten: list[ListingTarget] = []
        self.up = True
        self.fails = 0
        self.watch = DirectoryWatch(0.25, self.ask, self.forget, lambda: self.up)

    async def ask(self, target: str) -> bytes:
        self.asked.append(target)
        if target not in self.answers:
            raise AskError("no answer")
        return self.answers[target]

    async def forget(self, directories: list[ListingTarget]) -> None:
        if self.fails:
            self.fails -= 1
            raise OSError("rclone is busy")
        self.forgotten += directories

    def list(self, target: str, body: bytes) -> None:
        self.answers[target] = body
        self.watch.answered(target, body)

    async def asked_again(self, times: int = 2) -> None:
        self.asked.clear()
        await eventually(lambda: len(self.asked) >= times)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(watching, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(watching, "_SETTLED_SECONDS", 0.0)
    return Storage()


async def test_what_does_not_change_is_believed(storage: Storage) -> None:
    storage.list(ASKED, listing(a="1"))
    await storage.asked_again(3)
    assert storage.forgotten == []


async def test_what_another_client_changes_is_listed_again(storage: Storage) -> None:
    storage.list(ASKED, listing(a="1"))
    storage.answers[ASKED] = listing(a="2")
    await eventually(lambda: storage.forgotten)
    assert storage.forgotten == [ListingTarget("b", "", first=True)]
    storage.asked.clear()
    await asyncio.sleep(0.5)
    assert storage.asked == [], "nobody looks at it any more"


async def test_ones_own_changes_are_no_news(storage: Storage) -> None:
    storage.list(ASKED, listing(a="1"))
    storage.watch.changed(Change("alice", "b", "a", made=True, etag="2"))
    storage.answers[ASKED] = listing(a="2")
    await storage.asked_again()
    assert storage.forgotten == []
    storage.watch.changed(Change("alice", "b", "a", made=False))
    storage.answers[ASKED] = listing()
    await storage.asked_again()
    assert storage.forgotten == []
    # It explains no later change.
    storage.list(ASKED, listing(a="9"))
    storage.answers[ASKED] = listing()
    await eventually(lambda: storage.forgotten)


async def test_all_pages_of_a_directory_are_looked_at(storage: Storage) -> None:
    storage.list(ASKED, listing(a="1"))
    storage.list(f"{ASKED}&marker=a", listing(b="1"))
    await storage.asked_again(4)
    assert set(storage.asked) == {ASKED, f"{ASKED}&marker=a"}
    storage.answers[f"{ASKED}&marker=a"] = listing(b="2")
    await eventually(lambda: storage.forgotten)


async def test_a_directory_too_many_or_too_large_is_forgotten(storage: Storage) -> None:
    for number in range(10):
        storage.list(f"{ASKED}{number}%2F", listing())
    await eventually(lambda: len(storage.forgotten) == 2)
    assert [found.prefix for found in storage.forgotten] == ["0/", "1/"]
    for number in range(6):
        storage.list(f"{ASKED}9%2F" + (f"&marker={number}" if number else ""), listing())
    await eventually(lambda: storage.forgotten[-1].prefix == "9/")


async def test_one_that_cannot_be_read_is_forgotten(storage: Storage) -> None:
    storage.list(ASKED, b"<ListBucketResult>\x01</ListBucketResult>")
    await eventually(lambda: storage.forgotten)


async def test_nothing_is_forgotten_while_the_storage_is_away(storage: Storage) -> None:
    storage.list(ASKED, listing(a="1"))
    storage.up = False
    storage.answers[ASKED] = listing()
    await asyncio.sleep(0.6)
    assert (storage.asked, storage.forgotten) == ([], [])
    storage.up = True
    await eventually(lambda: storage.forgotten)


async def test_failures_are_tried_again(storage: Storage) -> None:
    storage.watch.answered(ASKED, listing(a="1"))
    await storage.asked_again()
    storage.fails, storage.answers[ASKED] = 2, listing()
    await eventually(lambda: storage.forgotten)
    storage.watch.stop()


async def test_it_ends_some_time_after_the_last_listing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_WATCHED_SECONDS", 0.3)
    storage.list(ASKED, listing(a="1"))
    await eventually(lambda: storage.forgotten)
    assert storage.asked
