"""A start that its user gives up, on the whole service."""

from __future__ import annotations

import time
from typing import Any

import pytest

from support.instance import Instance
from support.person import Person

pytestmark = pytest.mark.integration


def until_nothing_is_left(instance: Instance, username: str, limit: float = 20) -> None:
    deadline = time.monotonic() + limit
    while left := instance.leftovers(username):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def given_up(person: Person, phase: str) -> list[dict[str, Any]]:
    """The events of a start that is given up in this phase."""
    server = f"/users/{person.username}/server"
    assert person.api("POST", server, json={}).status_code == 202
    events = []
    for event in person.progress():
        events.append(event)
        if event.get("phase") == phase and event.get("level") is None:
            assert person.api("DELETE", server).status_code in (202, 204)
    return events


@pytest.mark.parametrize("phase", ["storage", "container", "jupyter"])
def test_a_start_is_given_up_in_every_phase(instance: Instance, phase: str) -> None:
    person = instance.person("bruno")
    for _ in range(20):  # a warm server may be ready before it can be given up
        person.stop()
        events = given_up(person, phase)
        if not events[-1].get("ready"):
            break
    assert events[-1]["message"] == "Spawn failed: The start was stopped.", events
    assert "cancelled" in [event.get("level") for event in events]
    until_nothing_is_left(instance, "bruno")
    home = person.http.get(f"{person.url}/hub/home", timeout=10).text
    assert ">Stopped<" in home
    assert "last-failure" not in home


def test_a_new_start_works_at_once(instance: Instance) -> None:
    person = instance.person("bruno")
    server = "/users/bruno/server"
    assert person.api("POST", server, json={}).status_code == 202
    next(event for event in person.progress() if event.get("phase") == "jupyter")
    # 204 where it was ready first
    assert person.api("DELETE", server).status_code in (202, 204)
    deadline = time.monotonic() + 10
    while person.api("GET", "/users/bruno").json()["servers"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # The storage may still be let go of: the start waits for that, and fails of nothing.
    assert person.start()[-1].get("ready")
    person.stop()
    assert instance.leftovers("bruno") == []
