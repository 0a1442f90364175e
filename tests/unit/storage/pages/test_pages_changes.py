"""What the storage pages do in a bucket, on a storage in memory."""

from __future__ import annotations

import io
import zipfile

import pytest
from botocore.exceptions import ClientError

from taccuino.storage.pages import changes, copying, versions
from taccuino.storage.pages.archive import Archive
from taccuino.storage.pages.errors import CallError
from taccuino.storage.pages.listing import search


def put(s3, key: str, data: bytes = b"x", **told) -> None:
    s3.put_object(Bucket="bucket", Key=key, Body=data, **told)


def keys(s3) -> set[str]:
    return {item["Key"] for item in s3.list_objects_v2(Bucket="bucket").get("Contents", [])}


def test_a_move_keeps_what_is_told_of_a_file(s3) -> None:
    put(s3, "a", b"data", ContentType="text/x", Metadata={"mtime": "1.5"})
    assert changes.move(s3, "bucket", "a", "d/b") == 1
    head = s3.head_object(Bucket="bucket", Key="d/b")
    assert (head["ContentType"], head["Metadata"]) == ("text/x", {"mtime": "1.5"})
    assert keys(s3) == {"d/b"}


def test_a_large_file_is_copied_in_parts(s3, monkeypatch) -> None:
    monkeypatch.setattr(copying, "SIMPLE_COPY", 6 * 1024**2)
    monkeypatch.setattr(copying, "_PART", 5 * 1024**2)
    data = bytes(range(256)) * 4096 * 11
    put(s3, "a", data, Metadata={"mtime": "1.5"})
    changes.move(s3, "bucket", "a", "c")
    answer = s3.get_object(Bucket="bucket", Key="c")
    assert answer["Body"].read() == data
    assert answer["Metadata"] == {"mtime": "1.5"}


def test_a_move_that_fails_loses_nothing(s3, monkeypatch) -> None:
    for number in range(5):
        put(s3, f"a/{number}")
    real = copying.copy

    def fails(client, source, bucket, key) -> None:
        if source.key == "a/3":
            raise CallError(502, "refused")
        real(client, source, bucket, key)

    monkeypatch.setattr(copying, "copy", fails)
    with pytest.raises(CallError, match=r"nothing was taken out of a/") as failure:
        changes.move(s3, "bucket", "a/", "c/")
    assert failure.value.reason == "partial"
    assert {f"a/{number}" for number in range(5)} <= keys(s3)


def test_a_copy_of_what_changed_meanwhile_is_refused(s3) -> None:
    put(s3, "a", b"new")
    with pytest.raises(CallError, match="changed meanwhile"):
        copying.copy(s3, copying.Source("bucket", "a", 3, "0" * 32), "bucket", "c")
    assert keys(s3) == {"a"}


def test_deletions_are_undone_and_purged(s3) -> None:
    for key in ("a", "d/", "d/b"):
        put(s3, key)
    gone, failed = changes.delete(s3, "bucket", ["a", "d/"])
    assert (set(gone), failed, keys(s3)) == ({"a", "d/", "d/b"}, [], set())
    assert changes.undelete(s3, "bucket", gone) == 3
    assert keys(s3) == {"a", "d/", "d/b"}
    put(s3, "a", b"newer")
    changes.delete(s3, "bucket", ["d/b"])
    assert versions.purge(s3, "bucket", "") == 2
    assert keys(s3) == {"a", "d/"}
    assert versions.deleted_files(s3, "bucket", "")["files"] == []


def test_what_is_restored_is_what_was(s3) -> None:
    put(s3, "a", b"one")
    put(s3, "a", b"two")
    put(s3, "ab", b"other")
    older = versions.versions_of(s3, "bucket", "a")[1]
    versions.restore(s3, "bucket", "a", older["id"])
    assert s3.get_object(Bucket="bucket", Key="a")["Body"].read() == b"one"
    assert len(versions.versions_of(s3, "bucket", "a")) == 3


def test_a_search_ends_in_time_and_says_so(s3) -> None:
    for number in range(4):
        put(s3, f"d/Notes {number}.txt")
    found = search(s3, "bucket", "", "nOTES")
    assert (len(found["files"]), found["complete"]) == (4, True)
    assert search(s3, "bucket", "", "notes", seconds=-1) == {"files": [], "complete": False}


def test_what_the_service_keeps_is_not_found_and_takes_its_time_too(s3) -> None:
    for key in (".taccuino/workarea/a", "a"):
        put(s3, key)
    assert [file["key"] for file in search(s3, "bucket", "", "a")["files"]] == ["a"]
    changes.delete(s3, "bucket", ["a"])
    deleted = versions.deleted_files(s3, "bucket", "")
    assert [file["key"] for file in deleted["files"]] == ["a"]
    # Of nothing else, too, not all was seen in no time.
    versions.purge(s3, "bucket", "")
    assert not search(s3, "bucket", "", "a", seconds=-1)["complete"]
    assert not versions.deleted_files(s3, "bucket", "", seconds=-1)["complete"]


def test_a_zip_holds_what_the_folder_holds(s3) -> None:
    put(s3, "d/a", b"one")
    put(s3, "d/../../evil", b"two")
    put(s3, "d/empty/", b"")
    put(s3, "other", b"no")
    archive = Archive(s3, "bucket", "d/")
    data = b"".join(archive.pieces())
    assert archive.size == len(data)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert {name: file.read(name) for name in file.namelist()} == {
            "a": b"one", "_/_/evil": b"two", "empty/": b"",
        }  # fmt: skip


def test_a_zip_of_many_is_listed_while_it_goes(s3, monkeypatch) -> None:
    monkeypatch.setattr("taccuino.storage.pages.archive._LISTED", 3)
    for number in range(5):
        put(s3, f"{number}", b"x" * number)
    archive = Archive(s3, "bucket", "")
    assert archive.size is None
    with zipfile.ZipFile(io.BytesIO(b"".join(archive.pieces()))) as file:
        assert {name: len(file.read(name)) for name in file.namelist()} == {
            str(number): number for number in range(5)
        }


def test_a_zip_breaks_off_where_a_file_is_gone_or_changed(s3) -> None:
    for change in ("gone", "changed"):
        put(s3, "d/a", b"one")
        archive = Archive(s3, "bucket", "d/")
        if change == "gone":
            s3.delete_object(Bucket="bucket", Key="d/a")
        else:
            put(s3, "d/a", b"longer than before")
        with pytest.raises((ClientError, RuntimeError, ValueError)):
            list(archive.pieces())
