"""What can be had back, what is shared, and what is refused."""

from __future__ import annotations

import time

import pytest
import requests

from support.instance import Instance
from support.storage_pages import StoragePages

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _versioned(alice: StoragePages, admin_s3) -> None:
    admin_s3.put_bucket_versioning(
        Bucket=alice.bucket, VersioningConfiguration={"Status": "Enabled"}
    )


def test_a_deletion_can_be_undone(
    alice: StoragePages, bruno: StoragePages, folder: str
) -> None:
    for name in ("a", "deep/b", "deep/c"):
        alice.put(folder + name, name.encode())
    gone = alice.ok(
        "POST", "delete", {"bucket": "alice", "keys": [f"{folder}a", f"{folder}deep/"]}
    )
    assert gone["deleted"] == 3
    assert alice.names(folder) == set()
    hidden = alice.ok("GET", "deleted", bucket="alice", prefix=folder)["files"]
    assert {file["key"] for file in hidden} == {folder + n for n in ("a", "deep/b", "deep/c")}
    assert bruno.call("POST", "undo", {"token": gone["undo"]}).status_code == 404
    assert alice.ok("POST", "undo", {"token": gone["undo"]}) == {"restored": 3}
    assert alice.get(f"{folder}deep/c").content == b"deep/c"
    assert alice.call("POST", "undo", {"token": gone["undo"]}).status_code == 404


def test_an_earlier_version_comes_back(alice: StoragePages, folder: str) -> None:
    key = f"{folder}notes.txt"
    alice.put(key, b"first")
    alice.put(key, b"second one")
    newer, older = alice.ok("GET", "versions", bucket="alice", key=key)["versions"]
    assert (newer["size"], newer["current"]) == (10, True)
    assert (older["size"], older["current"]) == (5, False)
    assert alice.get(key, version=older["id"]).content == b"first"
    alice.ok("POST", "restore", {"bucket": "alice", "key": key, "version": older["id"]})
    assert alice.get(key).content == b"first"
    assert len(alice.ok("GET", "versions", bucket="alice", key=key)["versions"]) == 3
    alice.ok("POST", "delete", {"bucket": "alice", "keys": [key]})
    hidden = alice.ok("GET", "deleted", bucket="alice", prefix=folder)["files"][0]
    body = {"bucket": "alice", "key": key, "version": hidden["version"]}
    assert alice.ok("POST", "restore", body) == {"key": key}
    assert alice.get(key).content == b"first"
    absent = {"bucket": "alice", "key": key, "version": "absent"}
    assert alice.call("POST", "restore", absent).status_code in (400, 404)


def test_a_purge_drops_what_is_not_current(bruno: StoragePages, admin_s3) -> None:
    admin_s3.put_bucket_versioning(
        Bucket="bruno", VersioningConfiguration={"Status": "Enabled"}
    )
    for data in (b"12345", b"1234567"):
        bruno.put("kept.txt", data)
        bruno.put("gone.txt", data)
    bruno.ok("POST", "delete", {"bucket": "bruno", "keys": ["gone.txt"]})
    assert bruno.ok("POST", "purge", {"bucket": "bruno"})["freed_bytes"] >= 5 + 5 + 7
    assert bruno.get("kept.txt").content == b"1234567"
    assert len(bruno.ok("GET", "versions", bucket="bruno", key="kept.txt")["versions"]) == 1
    assert bruno.ok("GET", "versions", bucket="bruno", key="gone.txt")["versions"] == []
    assert bruno.names() >= {"kept.txt"}


def test_a_link_shares_one_file_until_it_ends(alice: StoragePages, folder: str) -> None:
    key = f"{folder}results & more.html"
    alice.put(key, b"<script>alert(1)</script>")
    share = alice.ok("POST", "shares", {"bucket": "alice", "key": key, "seconds": 10})
    assert 8 <= share["expires"] - time.time() <= 10
    page = requests.get(share["url"], timeout=30)
    assert page.status_code == 200
    assert "results &amp; more.html" in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    target = requests.get(f"{share['url']}/download", allow_redirects=False, timeout=30)
    assert target.status_code == 302
    seconds = int(target.headers["Location"].split("X-Amz-Expires=")[1].split("&")[0])
    assert 1 <= seconds <= 10
    file = requests.get(target.headers["Location"], timeout=30)
    assert (file.status_code, file.content) == (200, b"<script>alert(1)</script>")
    assert file.headers["Content-Disposition"].startswith("attachment")
    assert share["id"] in {one["id"] for one in alice.ok("GET", "shares")["shares"]}

    alice.put(key, b"changed")
    assert "has changed since" in requests.get(share["url"], timeout=30).text
    alice.ok("POST", "delete", {"bucket": "alice", "keys": [key]})
    gone = requests.get(share["url"], timeout=30)
    assert (gone.status_code, "is gone" in gone.text) == (410, True)
    # To its end on the second.
    while (left := share["expires"] - time.time()) > 0.5:
        assert requests.get(share["url"], timeout=30).status_code == 410, left
        time.sleep(min(1.0, left))
    deadline = time.monotonic() + 3
    while requests.get(share["url"], timeout=30).status_code != 404:
        assert time.monotonic() < deadline
    assert requests.get(f"{share['url']}/download", timeout=30).status_code == 404
    assert share["id"] not in {one["id"] for one in alice.ok("GET", "shares")["shares"]}


def test_a_link_can_be_revoked_by_its_owner(
    alice: StoragePages, bruno: StoragePages, folder: str
) -> None:
    alice.put(f"{folder}a", b"x")
    body = {"bucket": "alice", "key": f"{folder}a", "seconds": 3600}
    share = alice.ok("POST", "shares", body)
    assert bruno.call("DELETE", f"shares/{share['id']}").status_code == 404
    assert alice.call("DELETE", f"shares/{share['id']}").status_code == 204
    assert requests.get(share["url"], timeout=30).status_code == 404
    for wrong in ({"seconds": 9}, {"seconds": 10**9}, {"key": f"{folder}absent"}):
        assert alice.call("POST", "shares", {**body, **wrong}).status_code in (400, 404)
    assert alice.call("POST", "shares", {**body, "seconds": True}).status_code == 400


def test_a_copy_in_scratch_can_be_read_by_others(
    alice: StoragePages, bruno: StoragePages, folder: str
) -> None:
    alice.put(f"{folder}to share.ipynb", b"{}")
    body = {"bucket": "alice", "key": f"{folder}to share.ipynb"}
    first, second = alice.ok("POST", "scratch", body), alice.ok("POST", "scratch", body)
    assert first["key"] != second["key"]
    assert second["key"].endswith(").ipynb")
    assert first["link"].startswith(
        f"{alice.person.url}/hub/user-redirect/lab/tree/cloud_storage/scratch/alice/to%2520share"
    )
    try:
        assert bruno.get(first["key"], bucket="scratch").content == b"{}"
        stolen = {"bucket": "scratch", "keys": [first["key"]]}
        assert bruno.call("POST", "delete", stolen).status_code == 403
    finally:
        keys = [first["key"], second["key"]]
        alice.ok("POST", "delete", {"bucket": "scratch", "keys": keys})


def test_others_things_are_refused(alice: StoragePages, instance: Instance) -> None:
    calls = [
        ("GET", "list", None, {"bucket": "bruno"}),
        ("GET", "download", None, {"bucket": "bruno", "key": "kept.txt"}),
        ("GET", "zip", None, {"bucket": "bruno", "prefix": ""}),
        ("POST", "uploads", {"bucket": "bruno", "key": "x", "size": 1, "type": ""}, {}),
        ("POST", "delete", {"bucket": "bruno", "keys": ["kept.txt"]}, {}),
        ("POST", "shares", {"bucket": "bruno", "key": "kept.txt", "seconds": 60}, {}),
    ]
    for method, path, body, query in calls:
        assert alice.call(method, path, body, **query).status_code == 404, path
    elsewhere = {"bucket": "scratch", "key": "bruno/x", "size": 1, "type": ""}
    refused = alice.call("POST", "uploads", elsewhere)
    assert refused.status_code == 403
    assert "alice/" in refused.json()["message"]
    # The storage itself refuses too: a signed address of one's own opens nobody else's file.
    alice.put("mine.txt", b"x")
    target = alice.call("GET", "download", bucket="alice", key="mine.txt").headers["Location"]
    forged = target.replace("/storage-data/alice/mine.txt", "/storage-data/bruno/kept.txt")
    assert requests.get(forged, timeout=30).status_code == 403


def test_a_change_needs_the_pages_token(alice: StoragePages) -> None:
    for headers in ({}, {"X-XSRFToken": "wrong"}):
        answer = alice.http.post(
            f"{alice.url}api/folders",
            json={"bucket": "alice", "key": "forged/"},
            headers=headers,
            timeout=30,
        )
        assert answer.status_code == 403
    assert "forged/" not in alice.names()
    # And another page of the same origin can't read either: the browser tells of its script.
    answer = alice.http.get(
        f"{alice.url}api/buckets", headers={"Sec-Fetch-Mode": "cors"}, timeout=30
    )
    assert (answer.status_code, answer.json()["reason"]) == (403, "xsrf")
    assert requests.get(f"{alice.url}api/buckets", timeout=30).json()["login"]


def test_stored_files_can_not_act_at_the_origin(alice: StoragePages, folder: str) -> None:
    alice.put(f"{folder}evil.html", b"<script>alert(1)</script>")
    alice.put(f"{folder}evil.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>")
    for key, inline in (("evil.html", 0), ("evil.html", 1), ("evil.svg", 1)):
        answer = alice.get(folder + key, inline=inline)
        headers = answer.headers
        assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Set-Cookie" not in headers
        if headers["Content-Type"].startswith("text/plain"):
            continue
        assert headers["Content-Disposition"].startswith("attachment")
        assert "html" not in headers["Content-Type"]
    target = alice.call("GET", "download", bucket="alice", key=f"{folder}evil.html")
    url = target.headers["Location"]
    assert requests.get(url.split("?")[0], timeout=30).status_code == 403
    assert requests.delete(url, timeout=30).status_code == 405
    assert requests.post(url, timeout=30).status_code == 405
    assert (
        requests.get(url, headers={"Service-Worker": "script"}, timeout=30).status_code == 403
    )


def test_the_page_is_strict(alice: StoragePages) -> None:
    for path in ("", "absent", "s/absent", "static/absent.js", "health"):
        policy = alice.http.get(alice.url + path, timeout=30).headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy, path
        assert "frame-ancestors 'none'" in policy, path


def test_a_hostile_notebook_is_harmless(alice: StoragePages, folder: str) -> None:
    notebook = """{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
      {"cell_type": "markdown", "id": "a", "metadata": {}, "source":
        "# Title\\n<script>alert(1)</script><img src=x onerror=alert(1)>[x](javascript:alert(1))"},
      {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": 1, "source": "1 < 2",
       "outputs": [{"output_type": "display_data", "metadata": {}, "data":
         {"text/html": "<iframe src=//e></iframe><b onclick=x()>bold</b><form action=/hub/logout>"}
       }]}]}"""
    alice.put(f"{folder}evil.ipynb", notebook.encode())
    shown = alice.ok("GET", "preview", bucket="alice", key=f"{folder}evil.ipynb")
    assert shown["kind"] == "notebook"
    html = shown["html"].lower()
    assert "title" in html
    assert "<b>bold</b>" in html
    for evil in ("<script", "onerror", "onclick", 'href="javascript', "<iframe", "<form"):
        assert evil not in html
