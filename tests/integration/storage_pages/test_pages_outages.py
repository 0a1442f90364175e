"""The storage pages while the hub or the object storage is away."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from support.instance import Instance
from support.storage_pages import StoragePages

pytestmark = pytest.mark.integration


def test_who_is_in_goes_on_while_the_hub_is_away(
    alice: StoragePages, instance: Instance
) -> None:
    alice.put("before.txt", b"x")
    hub = instance.service("hub")
    hub.suspend()
    try:
        assert "before.txt" in alice.names()
        alice.put("meanwhile.txt", b"y")
        assert alice.get("meanwhile.txt").content == b"y"
        # Who comes now is told, and does not wait forever.
        body = requests.get(
            f"{alice.url}oauth_callback?code=x&state=y", timeout=10, allow_redirects=False
        )
        assert body.status_code in (403, 503)
    finally:
        hub.resume()
        instance.wait_until_ready()
    alice.ok("POST", "delete", {"bucket": "alice", "keys": ["before.txt", "meanwhile.txt"]})


def test_a_storage_that_hangs_is_told_and_blocks_nobody(
    alice: StoragePages, instance: Instance
) -> None:
    gateway = instance.service("radosgw")
    processes = [gateway, *gateway.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        with ThreadPoolExecutor(40) as threads:
            began = time.monotonic()
            waiting = [
                threads.submit(alice.call, "GET", "list", bucket="alice", prefix=f"{n}/")
                for n in range(40)
            ]
            while not all(future.done() for future in waiting):
                asked = time.monotonic()
                assert requests.get(f"{alice.url}health", timeout=5).status_code == 200
                assert time.monotonic() - asked < 2
                time.sleep(0.2)
            assert time.monotonic() - began < 12
        told = []
        for future in waiting:
            answer = future.result()
            told.append((answer.status_code, answer.json()["reason"]))
            assert answer.elapsed.total_seconds() < 10.5
        # Of one user's calls a few ask the storage, and the others wait in line.
        assert told.count((503, "unreachable")) >= 8
        assert set(told) <= {(503, "unreachable"), (429, "busy")}
    finally:
        for process in processes:
            process.resume()
    deadline = time.monotonic() + 30
    while alice.call("GET", "list", bucket="alice").status_code != 200:
        assert time.monotonic() < deadline


def test_the_pages_come_back_by_themselves(alice: StoragePages, instance: Instance) -> None:
    instance.kill("storage-pages")
    deadline = time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline
        try:
            if requests.get(f"{alice.url}health", timeout=5).status_code == 200:
                break
        except requests.RequestException:
            continue
    # The session goes on, with the key that signs its cookie.
    assert alice.call("GET", "list", bucket="alice").status_code == 200


def test_the_link_to_scratch_opens_in_anybodys_own_server(
    alice: StoragePages, bruno: StoragePages
) -> None:
    alice.put("for all #1, 100%?.txt", b"hello")
    shared = alice.ok("POST", "scratch", {"bucket": "alice", "key": "for all #1, 100%?.txt"})
    person = bruno.person
    person.stop()
    try:
        page = person.http.get(shared["link"], timeout=60)
        # With no server, JupyterHub offers to start one and keeps where to go.
        assert page.status_code in (200, 424)
        assert page.url.startswith(f"{person.url}/hub/spawn/bruno?next=")
        events = person.start(image="base")
        assert events[-1].get("ready"), events
        page = person.http.get(shared["link"], timeout=60)
        assert page.status_code == 200
        assert page.url.startswith(
            f"{person.url}/user/bruno/lab/tree/cloud_storage/scratch/alice/"
        )
        assert page.url.endswith("/for%20all%20%231%2C%20100%25%3F.txt")
        path = "/user/bruno/api/contents/cloud_storage/scratch/alice/for%20all%20%231%2C%20100%25%3F.txt"
        assert person.api("GET", path).json()["content"] == "hello"
    finally:
        person.stop()
        alice.ok("POST", "delete", {"bucket": "scratch", "keys": [shared["key"]]})
        alice.ok("POST", "delete", {"bucket": "alice", "keys": ["for all #1, 100%?.txt"]})
