"""Snapshots through the whole service: the hub, warm servers, real Ceph, another node."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from support.instance import Instance
from support.notebook import Notebook
from support.person import Person
from taccuino.local.release import release_servers, renew_credentials

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


@pytest.fixture
def person(instance: Instance) -> Iterator[Person]:
    found = instance.person("bruno")
    found.stop()
    yield found
    found.stop()


def area(instance: Instance) -> Path:
    return instance.state_dir / "workareas/bruno.img"


def lineage(instance: Instance) -> dict[str, Any]:
    path = instance.state_dir / "workareas/bruno.lineage.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def snapshots(person: Person) -> list[dict[str, Any]]:
    answer = person.api("GET", "/taccuino/snapshots")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["snapshots"]
    return found


def write(person: Person, name: str, text: str) -> None:
    answer = person.api(
        "PUT",
        f"/user/{person.username}/api/contents/{name}",
        json={"type": "file", "format": "text", "content": text},
    )
    assert answer.status_code in (200, 201), answer.text


def read(person: Person, name: str) -> str:
    answer = person.api("GET", f"/user/{person.username}/api/contents/{name}")
    assert answer.status_code == 200, answer.text
    content: str = answer.json()["content"]
    return content


def finished(person: Person, limit: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + limit
    while True:
        job = person.api("GET", "/taccuino/snapshots?state").json()["state"]["job"]
        if job and job["state"] != "running":
            found: dict[str, Any] = job
            return found
        assert time.monotonic() < deadline, job
        time.sleep(0.2)


def test_a_stop_makes_one_and_a_node_without_the_workarea_restores_it(
    instance: Instance, person: Person
) -> None:
    person.start()
    text = f"written at {time.time()}"
    write(person, "local/notes.txt", text)
    person.stop()
    (newest, *_) = snapshots(person)
    assert newest["newest"]
    assert newest["site"] == instance.settings.site
    assert newest["files"] >= 1
    assert lineage(instance)["changed"] is False
    away = area(instance).with_suffix(".away")
    area(instance).rename(away)
    try:
        events = person.start()
    finally:
        away.unlink()
    said = [event.get("message", "") for event in events]
    assert any(line.startswith("Restoring your workarea of 20") for line in said), said
    assert any("Your workarea is that of" in line for line in said), said
    assert events[-1].get("ready"), said
    assert read(person, "local/notes.txt") == text


def test_one_is_made_when_the_service_is_taken_down(instance: Instance, person: Person) -> None:
    """As `down` does: the hub is stopped before the servers."""
    person.start(image="base")
    write(person, "local/notes.txt", f"{time.time()}")
    before = time.time()
    told: list[str] = []
    renew_credentials(instance.settings)
    with instance.without("hub"):
        release_servers(instance.settings, told.append)
    instance.wait_until_ready()
    assert any("users' are up to date" in line for line in told), told
    assert lineage(instance)["changed"] is False
    assert snapshots(person)[0]["at"] >= before


def test_a_start_where_the_newest_was_made_is_warm_and_restores_nothing(
    instance: Instance, person: Person
) -> None:
    person.start()
    write(person, "local/notes.txt", f"{time.time()}")
    person.stop()
    events = person.start()
    said = [event.get("message", "") for event in events]
    assert not any("Restoring" in line for line in said), said
    assert lineage(instance)["changed"] is True


def test_one_is_made_and_an_old_one_restored_while_the_server_runs(
    instance: Instance, person: Person
) -> None:
    person.start()
    first = f"first {time.time()}"
    write(person, "local/notes.txt", first)
    assert person.api("POST", "/taccuino/snapshots").status_code == 202
    assert finished(person)["message"] == "A snapshot was made."
    old = snapshots(person)[0]
    write(person, "local/notes.txt", "second")
    assert person.api("POST", "/taccuino/snapshots").status_code == 202
    finished(person)
    answer = person.api("POST", f"/taccuino/snapshots/{old['id']}/restore")
    assert answer.status_code == 202, answer.text
    job = finished(person)
    assert job["state"] == "done", job
    assert read(person, f"{job['folder']}/local/notes.txt") == first
    assert read(person, "local/notes.txt") == "second"
    # The server may do with it what it likes.
    with Notebook(person) as notebook:
        code = f"import shutil; shutil.rmtree('/workarea/{job['folder']}'); print('gone')"
        assert "gone" in notebook.run(code)


def test_nobody_else_asks(instance: Instance, person: Person) -> None:
    made = snapshots(person)
    other = instance.person("alice")
    assert {one["id"] for one in snapshots(other)}.isdisjoint(one["id"] for one in made)
    for token in ("", "0" * 32):
        answer = requests.get(
            f"{instance.url}/hub/api/taccuino/snapshots",
            headers={"Authorization": f"token {token}"},
            timeout=30,
        )
        assert answer.status_code == 403
    created = person.api(
        "POST", f"/users/{person.username}/tokens", json={"scopes": ["read:users:name!user"]}
    )
    poor = created.json()["token"]
    headers = {"Authorization": f"token {poor}"}
    assert person.api("GET", "/taccuino/snapshots", headers=headers).status_code == 403
    for name in ("latest", "..%2f..%2fx", "--help", "%00", "0123abcd"):
        answer = person.api("POST", f"/taccuino/snapshots/{name}/restore")
        assert answer.status_code in (400, 404), (name, answer.text)
        assert "Traceback" not in answer.text


def test_the_storage_pages_do_not_show_them(instance: Instance, person: Person) -> None:
    person.start()
    write(person, "local/notes.txt", f"{time.time()}")
    person.stop()
    person.http.get(f"{instance.url}/services/storage/", timeout=30)
    page = person.http.get(f"{instance.url}/services/storage/", timeout=30).text
    xsrf = page.split('name="xsrf-token" content="')[1].split('"')[0]

    def ask(call: str, **query: str) -> Any:
        return person.http.get(
            f"{instance.url}/services/storage/api/{call}",
            params={"bucket": "bruno", **query},
            headers={"X-XSRFToken": xsrf},
            timeout=30,
        )

    listed = ask("list", prefix="")
    assert listed.status_code == 200, listed.text
    assert not [one for one in listed.json()["folders"] if one["key"].startswith(".taccuino")]
    assert ask("search", prefix="", q="newest").json()["files"] == []
    refused = ask("list", prefix=".taccuino/")
    assert refused.status_code == 400
    assert "keeps for itself" in refused.json()["message"]


def test_a_full_bucket_is_told_and_the_stop_goes_on(instance: Instance, person: Person) -> None:
    from taccuino.storage.admin_ops import AdminOps
    from taccuino.storage.clients import StorageClients

    person.start()
    write(person, "local/notes.txt", f"{time.time()}")
    settings = instance.settings
    admin = AdminOps(settings, StorageClients(settings).admin_keys)
    before = admin.usage("bruno").quota_bytes
    admin.set_quota("bruno", 1024)
    try:
        time.sleep(3)  # RadosGW believes in what it knew of the usage for a moment
        began = time.monotonic()
        person.stop()
        assert time.monotonic() - began < settings.snapshots.stop_seconds + 30
        state = person.api("GET", "/taccuino/snapshots?state").json()["state"]
        assert "bucket is full" in state["fault"], state
        assert lineage(instance)["changed"] is True
    finally:
        admin.set_quota("bruno", before)
    assert person.api("POST", "/taccuino/snapshots").status_code == 202
    assert finished(person)["message"] == "A snapshot was made."
    state = person.api("GET", "/taccuino/snapshots?state").json()["state"]
    assert state["fault"] is None


def test_a_workarea_that_is_older_gives_the_warm_server_up(
    instance: Instance, person: Person
) -> None:
    """The node keeps the area of yesterday, and another site made a newer one."""
    person.start()
    write(person, "local/notes.txt", "yesterday")
    person.stop()
    kept = [area(instance), area(instance).with_name("bruno.lineage.json")]
    copies = [path.with_name(f"{path.name}.kept") for path in kept]
    for path, copy in zip(kept, copies, strict=True):
        subprocess.run(["cp", "--sparse=always", path, copy], check=True)
    person.start()
    write(person, "local/notes.txt", "today")
    person.stop()
    for path, copy in zip(kept, copies, strict=True):
        copy.replace(path)
    events = person.start()
    said = [event.get("message", "") for event in events]
    assert events[-1].get("ready"), said
    assert any(line.startswith("Restoring your workarea") for line in said), said
    assert read(person, "local/notes.txt") == "today"
