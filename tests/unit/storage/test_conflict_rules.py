"""Which versions count as overwritten unseen, and what rclone's log tells."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taccuino.storage.mount_plane.conflicts import (
    Edit,
    Fingerprint,
    Metadata,
    Version,
    Witness,
    conflict_name,
    overwritten_unseen,
)
from taccuino.storage.mount_plane.journal import (
    Copied,
    Failed,
    Journal,
    Queued,
    Renamed,
    Uploaded,
)

OURS = "bari.1"


def md5(content: str) -> str:
    return hashlib.md5(content.encode()).hexdigest()


def chain(*items: str) -> list[Version]:
    """Versions, oldest first: ``content@time``, or ``-@time`` for a deletion."""
    made = []
    for item in items:
        content, _, at = item.partition("@")
        if content == "-":
            made.append(Version(item, float(at), deleted=True))
        else:
            made.append(Version(item, float(at), md5(content), len(content)))
    return made[::-1]


def described(content: str) -> Fingerprint:
    return Fingerprint(len(content), 0.0, md5(content))


def node_of(version: Version) -> Metadata:
    """Contents say who wrote them: a1, a2... this node, b1... another, x1... no node."""
    return Metadata(node={"a": OURS, "b": "cnaf.2"}.get(version.id[0], ""))


def witness(
    base: str = "",
    own: str = "",
    known: str = "",
    since: float = 0,
    visible: float | None = None,
) -> Witness:
    return Witness(
        base=described(base) if base else None,
        known=[described(item) for item in known.split()],
        own=[described(item) for item in own.split()],
        node=OURS,
        since=since,
        visible=visible,
        metadata=node_of,
    )


TABLE = [
    ("one save", chain("v0@1", "a1@9"), witness("v0", "a1"), ""),
    ("the other was overwritten", chain("v0@1", "b1@8", "a1@9"), witness("v0", "a1"), "b1"),
    ("the other overwrites us", chain("v0@1", "a1@8", "b1@9"), witness("v0", "a1"), ""),
    ("the other's was the base", chain("v0@1", "b1@2", "a1@9"), witness("b1", "a1"), ""),
    ("the other's saw its own", chain("v0@1", "b1@2", "b2@3", "a1@9"), witness("v0"), "b2"),
    ("many of ours", chain("v0@1", "a1@7", "a2@8", "a3@9"), witness("v0"), ""),
    ("in between ours", chain("v0@1", "a1@7", "b1@8", "a2@9"), witness("v0"), "b1"),
    ("twice", chain("v0@1", "b1@6", "a1@7", "b2@8", "a2@9"), witness("v0"), "b2 b1"),
    ("later seen", chain("v0@1", "a1@7", "b1@8", "a2@9"), witness("v0", known="b1"), ""),
    ("both new", chain("b1@8", "a1@9"), witness(), "b1"),
    ("no node", chain("v0@1", "x1@8", "a1@9"), witness("v0"), "x1"),
    ("identical", chain("v0@1", "same@8", "same@9"), witness("v0", "same"), ""),
    ("deleted elsewhere", chain("v0@1", "-@8", "a1@9"), witness("v0"), ""),
    ("deleted long after", chain("b1@1", "-@8", "a1@9"), witness(), ""),
    ("replaced by deletion", chain("v0@1", "b1@7", "-@8", "a1@9"), witness(), "b1"),
    ("renamed over an old one", chain("b1@1", "a1@9"), witness(visible=2), ""),
    ("renamed over a new one", chain("b1@3", "a1@9"), witness(visible=2), "b1"),
    ("renamed over our own", chain("b1@3", "a1@8", "a2@9"), witness(since=8.5), ""),
    ("not known what it was based on", chain("b1@1", "a1@9"), witness(since=5), "b1"),
    ("nothing of ours is there", chain("v0@1", "b1@8"), witness("v0"), ""),
    ("nothing is there", [], witness(), ""),
]


@pytest.mark.parametrize(("what", "versions", "known", "expected"), TABLE)
def test_overwritten_unseen(
    what: str, versions: list[Version], known: Witness, expected: str
) -> None:
    found = overwritten_unseen(versions, known)
    assert [item.id.partition("@")[0] for item in found] == expected.split(), what


def test_what_was_settled_is_not_looked_at_again() -> None:
    versions = chain("v0@1", "b1@6", "a1@7", "a2@9")
    assert overwritten_unseen(versions, witness(), settled="a1@7") == []


def test_fingerprints() -> None:
    text = "3,2026-11-24 03:38:05.55885278 +0000 UTC,f97c5d29941bfb1b2fdab0874906ab82"
    found = Fingerprint.parse(text)
    assert found
    assert (found.size, found.md5) == (3, "f97c5d29941bfb1b2fdab0874906ab82")
    assert found.mtime == pytest.approx(1795491485.55885278)
    assert Fingerprint.parse("") is None
    assert Fingerprint.parse("3,yesterday,x") is None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (Metadata(md5="m"), True),
        (Metadata(md5="other"), False),
        (Metadata(mtime=5.0), True),
        (Metadata(mtime=7.0), False),
    ],
)
def test_an_upload_in_parts_has_no_md5_for_an_etag(metadata: Metadata, expected: bool) -> None:
    parts = Version("v", 9.0, "0123-2", 3)
    assert Fingerprint(3, 5.0, "m").describes(parts, lambda _: metadata) is expected
    assert not Fingerprint(4, 5.0, "m").describes(parts, lambda _: metadata)


def test_what_is_read_too_late_is_no_base() -> None:
    assert Edit("ours", 1.0).uploaded("ours").base is None
    assert Edit("base", 1.0).uploaded("ours").base == "base"
    both = Edit("base", 1.0).uploaded("one").followed_by(Edit("one", 2.0).uploaded("two"))
    assert (both.base, both.since, both.known, both.uploads) == (
        "base",
        1.0,
        ["one"],
        ["one", "two"],
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a/notes.ipynb", "a/notes (conflict 2026-11-24 10.31.07 bari).ipynb"),
        ("Makefile", "Makefile (conflict 2026-11-24 10.31.07 bari)"),
        (".bashrc", ".bashrc (conflict 2026-11-24 10.31.07 bari)"),
        ("l.txt.rclonelink", "l (conflict 2026-11-24 10.31.07 bari).txt.rclonelink"),
    ],
)
def test_names_of_copies(key: str, expected: str) -> None:
    at = datetime(2026, 11, 24, 10, 31, 7, tzinfo=UTC)
    assert conflict_name(key, at, "bari") == expected
    assert conflict_name(key, at, "bari", 2) == expected.replace("bari", "bari 2")
    longest = conflict_name(f"a/{'é' * 120}.txt", at, "bari")
    assert len(longest.removeprefix("a/").encode()) <= 255
    assert longest.endswith(" bari).txt")


# -- the journal


def line(text: str, name: str = "a.txt", second: float = 5) -> str:
    time = f"2026-11-24T03:38:{second:012.9f}Z"
    return json.dumps({"time": time, "level": "info", "msg": text, "object": name}) + "\n"


LINES = (
    line("poll-interval is not supported by this remote", "S3 bucket alice")
    + line("vfs cache: queuing for upload in 1s", "ñ x.ipynb")
    + "no JSON vfs cache: \n"
    + line("vfs cache: upload succeeded try #1")
    + line('vfs cache: renamed in cache to "b \\"c\\".txt"')
    + line("Copied (server-side copy) to: d.txt")
    + line("vfs cache: failed to upload try #3, will retry in 1m20s: api error Forbidden: x")
)


def test_journal(tmp_path: Path) -> None:
    log = tmp_path / "rclone.log"
    journal = Journal(log)
    assert not journal.has_news
    assert journal.read() == []
    log.write_text(LINES + '{"time":')
    assert journal.has_news
    at = datetime(2026, 11, 24, 3, 38, 5, tzinfo=UTC).timestamp()
    assert journal.read() == [
        Queued("ñ x.ipynb", at),
        Uploaded("a.txt", at),
        Renamed("a.txt", at, 'b "c".txt'),
        Copied("a.txt", at, "d.txt"),
        Failed("a.txt", at, 3, "api error Forbidden: x"),
    ]
    assert journal.read() == []


def test_journal_goes_on_after_restarts_and_rotations(tmp_path: Path) -> None:
    log = tmp_path / "rclone.log"
    log.write_text(line("vfs cache: queuing for upload in 1s", "1", 1))
    journal = Journal(log)
    assert [entry.name for entry in journal.read()] == ["1"]
    assert not journal.has_news
    with log.open("a") as file:
        file.write(line("vfs cache: queuing for upload in 1s", "2", 2))
    log.rename(tmp_path / "rclone-2026-11-24T03-38-05.508.log")
    log.write_text(line("vfs cache: queuing for upload in 1s", "3", 3))
    later = Journal(log, journal.position)
    assert later.has_news
    assert [entry.name for entry in later.read()] == ["2", "3"]
    (tmp_path / "rclone-2026-11-24T03-38-05.508.log").unlink()
    log.write_text(line("vfs cache: queuing for upload in 1s", "4", 4))
    assert [entry.name for entry in Journal(log, journal.position).read()] == ["4"]
