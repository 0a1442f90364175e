"""Files on the storage pages, through the real login, edge and object storage."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import zipfile
from urllib.parse import urlsplit

import pytest
import requests

from support.storage_pages import StoragePages

pytestmark = pytest.mark.integration

MIB = 1024**2
KEYS = [
    "with space.txt",
    "plus+and&equals=.txt",
    "100%.txt",
    "per%20cent.txt",
    "what?.txt",
    "hash#1.txt",
    "ünïcødé 日本語 🎈.txt",
    "dots..in..name",
    ".leading-dot",
    "..two-dots/x",
    "double//slash.txt",
    "semi;colon,comma.txt",
    "quote'\"back\\slash.txt",
    "tilde~star*(paren).txt",
]


@pytest.mark.parametrize("name", KEYS)
def test_any_name_survives_the_way_through_the_edge(
    alice: StoragePages, folder: str, name: str
) -> None:
    key, data = folder + name, os.urandom(100)
    alice.put(key, data)
    answer = alice.get(key)
    assert (answer.status_code, answer.content) == (200, data)
    found = alice.ok("GET", "search", bucket="alice", prefix=folder, q="")["files"]
    assert found == []
    listed = alice.ok("GET", "list", bucket="alice", prefix=key.rpartition("/")[0] + "/")
    assert [file["key"] for file in listed["files"]] == [key]


@pytest.mark.parametrize(
    ("key", "status"),
    [("../x", 400), ("a/../x", 400), ("./x", 400), ("nul\0x", 400), ("", 400), ("/x", 400),
     ("x" * 1025, 400), ("é" * 513, 400), ("line\nbreak", 400), (7, 400), (None, 400)],
)  # fmt: skip
def test_a_hostile_key_is_refused(alice: StoragePages, key: object, status: int) -> None:
    body = {"bucket": "alice", "key": key, "size": 1, "type": ""}
    answer = alice.call("POST", "uploads", body)
    assert answer.status_code == status
    assert answer.json()["message"].endswith(".")


def test_a_large_upload_goes_on_after_a_cut(alice: StoragePages, folder: str) -> None:
    key, data = f"{folder}large.bin", os.urandom(21 * MIB + 12345)
    begun = alice.ok(
        "POST",
        "uploads",
        {"bucket": "alice", "key": key, "size": len(data), "type": "application/x-test"},
    )
    size, upload = begun["part_size"], begun["upload_id"]
    named = {"bucket": "alice", "key": key, "upload_id": upload}
    count = -(-len(data) // size)
    assert count == 3
    urls = alice.ok("POST", "uploads/urls", {**named, "numbers": list(range(1, count + 1))})[
        "urls"
    ]
    assert requests.put(urls["1"], data=data[:size], timeout=60).status_code == 200
    _cut_in_the_middle(urls["2"], data[size : 2 * size])

    arrived = alice.ok("GET", "uploads", **named, size=len(data))
    assert arrived["part_size"] == size
    assert [part["number"] for part in arrived["parts"]] == [1]
    for number in range(2, count + 1):
        part = data[(number - 1) * size : number * size]
        assert requests.put(urls[str(number)], data=part, timeout=60).status_code == 200
    parts = alice.ok("GET", "uploads", **named)["parts"]
    body = {**named, "parts": [{"number": p["number"], "etag": p["etag"]} for p in parts]}
    first = alice.ok("POST", "uploads/complete", body)
    assert alice.ok("POST", "uploads/complete", body) == first, "a repeated one says the same"
    assert alice.call("GET", "uploads", **named).status_code == 404
    got = alice.get(key)
    assert hashlib.sha256(got.content).digest() == hashlib.sha256(data).digest()
    head = alice.ok("GET", "list", bucket="alice", prefix=folder)["files"][0]
    assert (head["size"], head["etag"]) == (len(data), first["etag"])


def _cut_in_the_middle(url: str, data: bytes) -> None:
    target = urlsplit(url)
    head = (
        f"PUT {target.path}?{target.query} HTTP/1.1\r\nHost: {target.netloc}\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection((target.hostname, target.port), timeout=10) as connection:
        connection.sendall(head.encode() + data[: len(data) // 2])


def test_an_upload_can_be_given_up(alice: StoragePages, folder: str) -> None:
    key = f"{folder}never.bin"
    body = {"bucket": "alice", "key": key, "size": 30 * MIB, "type": ""}
    upload = alice.ok("POST", "uploads", body)["upload_id"]
    named = {"bucket": "alice", "key": key, "upload_id": upload}
    for _ in range(2):
        assert alice.call("DELETE", "uploads", **named).status_code == 204
    assert alice.call("GET", "uploads", **named).status_code == 404


def test_nothing_is_overwritten_unasked(alice: StoragePages, folder: str) -> None:
    key = f"{folder}a.txt"
    alice.put(key, b"first")
    alice.put(f"{folder}b.txt", b"other")
    body = {"bucket": "alice", "key": key, "size": 5, "type": "", "if_absent": True}
    answer = alice.call("POST", "uploads", body)
    assert (answer.status_code, answer.json()["reason"]) == (409, "exists")
    move = {"bucket": "alice", "from": f"{folder}b.txt", "to": key}
    assert alice.call("POST", "move", move).status_code == 409
    assert alice.get(key).content == b"first"
    assert alice.ok("POST", "move", {**move, "if_absent": False}) == {"moved": 1}
    assert alice.get(key).content == b"other"


def test_folders_are_made_moved_and_searched(alice: StoragePages, folder: str) -> None:
    made = alice.call("POST", "folders", {"bucket": "alice", "key": f"{folder}one"})
    assert (made.status_code, made.json()) == (201, {"key": f"{folder}one/"})
    again = alice.call("POST", "folders", {"bucket": "alice", "key": f"{folder}one/"})
    assert again.status_code == 409
    for number in range(12):
        alice.put(f"{folder}one/deep/Notes {number}.txt", str(number).encode())
    moved = {"bucket": "alice", "from": f"{folder}one/", "to": f"{folder}two/"}
    assert alice.ok("POST", "move", moved) == {"moved": 13}
    assert alice.names(folder) == {f"{folder}two/"}
    assert alice.get(f"{folder}two/deep/Notes 7.txt").content == b"7"
    found = alice.ok("GET", "search", bucket="alice", prefix=folder, q="notes 1")
    assert found["complete"]
    assert {f["name"] for f in found["files"]} == {f"Notes {n}.txt" for n in (1, 10, 11)}
    into_itself = {"bucket": "alice", "from": f"{folder}two/", "to": f"{folder}two/three/"}
    assert alice.call("POST", "move", into_itself).status_code == 400
    absent = {"bucket": "alice", "from": f"{folder}no/", "to": f"{folder}yes/"}
    assert alice.call("POST", "move", absent).status_code == 404
    absent = {"bucket": "alice", "from": f"{folder}no", "to": f"{folder}yes"}
    assert alice.call("POST", "move", absent).status_code == 404


def test_a_folder_comes_as_a_zip(alice: StoragePages, folder: str) -> None:
    contents = {
        "a.txt": b"text", "deep/b.bin": os.urandom(3 * MIB), "ünï/c d.txt": b"", "e": b"x" * 70000,
    }  # fmt: skip
    for name, data in contents.items():
        alice.put(folder + name, data)
    answer = alice.call("GET", "zip", bucket="alice", prefix=folder)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == contents
    assert alice.call("GET", "zip", bucket="alice", prefix="absent/").status_code == 404


def test_a_page_of_a_large_folder_is_quick(alice: StoragePages, folder: str, admin_s3) -> None:
    """Only S3's pages are read: the second one begins where the first one ended."""
    from concurrent.futures import ThreadPoolExecutor

    def put(number: int) -> None:
        admin_s3.put_object(Bucket="alice", Key=f"{folder}{number:05}", Body=b"")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, range(1500)))
    first = alice.call("GET", "list", bucket="alice", prefix=folder)
    assert first.elapsed.total_seconds() < 3
    page = first.json()
    assert len(page["files"]) == 1000
    rest = alice.ok("GET", "list", bucket="alice", prefix=folder, token=page["next"])
    assert (len(rest["files"]), rest["next"]) == (500, None)
    assert rest["files"][0]["name"] == "01000"
