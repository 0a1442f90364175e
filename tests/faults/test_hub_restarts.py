"""The hub is killed and started again, with the network or the engine away: nobody loses a server."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from support.instance import Instance
from support.notebook import Notebook
from support.person import Person

pytestmark = pytest.mark.integration

_NOTICED = "do not answer the hub; they are left as they are"


def addresses(instance: Instance) -> list[str]:
    """The addresses of all servers of the instance."""
    own = f"label=taccuino.instance={instance.state_dir}"
    ids = instance.podman("ps", "--quiet", "--filter", own).split()
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    return instance.podman("inspect", "--format", form, *ids).split()


@contextmanager
def cut(instance: Instance) -> Iterator[None]:
    """Nothing passes between this machine and the servers that run."""
    servers = ", ".join(addresses(instance))
    rules = f"""
    table ip tc_cut {{
        chain out {{ type filter hook output priority -300; ip daddr {{ {servers} }} drop; }}
        chain in {{ type filter hook input priority -300; ip saddr {{ {servers} }} drop; }}
    }}
    """
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "ip", "tc_cut"], check=True)


def containers(instance: Instance, *people: Person) -> set[str]:
    """The ids of these people's containers, which run and are about to be called after them."""
    deadline = time.monotonic() + 10
    while True:
        form = "{{.ID}} {{.Names}}"
        lines = instance.podman("ps", "--no-trunc", "--format", form).splitlines()
        owned = [line.split() for line in lines]
        found = {id_ for id_, name in owned if any(one.username in name for one in people)}
        if len(found) == len(people) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


@contextmanager
def two_servers(instance: Instance) -> Iterator[tuple[Person, Person]]:
    people = instance.person("alice"), instance.person("bruno")
    for person in people:
        person.stop()
        assert person.start()[-1].get("ready")
    try:
        yield people
    finally:
        for person in people:
            person.stop()


def hub_log(instance: Instance, after: int = 0) -> str:
    return (instance.state_dir / "logs/hub.log").read_bytes()[after:].decode()


def wait_for(instance: Instance, words: str, after: int, limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while words not in hub_log(instance, after):
        assert time.monotonic() < deadline, hub_log(instance, after)[-3000:]
        time.sleep(0.2)


def is_up(person: Person) -> bool:
    answer = person.api("GET", f"/users/{person.username}").json()
    return bool(answer["server"]) and answer["servers"][""]["ready"]


def test_a_restart_while_the_servers_cannot_be_reached_stops_none(instance: Instance) -> None:
    with two_servers(instance) as people, Notebook(people[0]) as notebook:
        notebook.run("kept = 42")
        before = containers(instance, *people)
        assert len(before) == 2
        seen = len(hub_log(instance).encode())
        with cut(instance):
            instance.kill("hub")
            assert all(is_up(person) for person in people)  # held, and answered
            wait_for(instance, f"2 of the servers that ran {_NOTICED}", seen)
            assert all(is_up(person) for person in people)
            metrics = people[0].http.get(f"{instance.url}/hub/metrics", timeout=10).text
            assert "taccuino_silent_servers 2.0" in metrics
        assert notebook.run("print(kept)") == "42\n"
        for person in people:
            assert person.api("GET", f"/user/{person.username}/api/status").ok
        wait_for(instance, "those that run answer", seen)
        assert containers(instance, *people) == before


def test_a_restart_while_the_engine_is_away_stops_none(instance: Instance) -> None:
    with two_servers(instance) as people, Notebook(people[0]) as notebook:
        notebook.run("kept = 42")
        before = containers(instance, *people)
        assert len(before) == 2
        seen = len(hub_log(instance).encode())
        with instance.without("engine"):
            instance.kill("hub")
            assert all(is_up(person) for person in people)
            wait_for(instance, "those that run answer", seen)
            assert all(is_up(person) for person in people)
            assert notebook.run("print(kept)") == "42\n"
        instance.wait_until_ready()
        assert all(is_up(person) for person in people)
        assert containers(instance, *people) == before


def test_what_ended_while_the_hub_was_away_is_found(instance: Instance) -> None:
    with two_servers(instance) as (alice, bruno):
        with instance.without("hub"):
            instance.podman("kill", *containers(instance, alice))
        deadline = time.monotonic() + 30
        while is_up(alice):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert is_up(bruno)
        assert not [left for left in instance.leftovers("alice") if "container" in left]


def test_requests_wait_for_a_hub_that_restarts(instance: Instance) -> None:
    with two_servers(instance) as people, Notebook(people[0]) as notebook:
        alice = people[0]
        tokens = f"/users/{alice.username}/tokens"
        calls = [("GET", f"/users/{alice.username}"), ("POST", tokens), ("GET", "/user")] * 3
        assert alice.token
        instance.kill("hub")
        with ThreadPoolExecutor(len(calls)) as pool:
            asked = [pool.submit(alice.api, *call) for call in calls]
            assert notebook.run("print(6 * 7)") == "42\n"
            answers = [one.result() for one in asked]
        assert [answer.status_code for answer in answers] == [200, 201, 200] * 3
        made = [answer.json()["id"] for answer in answers if answer.status_code == 201]
        known = [token["id"] for token in alice.api("GET", tokens).json()["api_tokens"]]
        assert len(set(made)) == 3  # none was sent twice
        assert set(made) <= set(known)
