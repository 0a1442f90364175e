"""Warm servers of a running service: what a start takes, and what it leaves in the pool."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from support.instance import Instance
from support.notebook import Notebook
from support.person import Person

pytestmark = pytest.mark.integration

LIMIT = 120


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + LIMIT
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return value


class Pool:
    """The pool as an operator sees it: the engine's containers and the hub's metrics."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.engine = docker.DockerClient(f"unix://{instance.settings.engine.socket}")

    def metric(self, start: str) -> float:
        lines = requests.get(f"{self.instance.url}/hub/metrics", timeout=9).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))

    @property
    def containers(self) -> list[Any]:
        return [one for one in self.engine.containers.list() if "-warm-" in one.name]

    def wait_full(self) -> None:
        def full() -> bool:
            ready = self.metric('taccuino_warm_servers{image="localhost/taccuino/base')
            return ready >= 2 and len(self.containers) >= 2

        until(full, "the pool is not filled")

    def of(self, username: str) -> Any:
        """A user's container, which gets their name when they are there already."""
        name = f"taccuino-{self.instance.settings.port}-{username}"
        return until(lambda: self._called(name), f"no container is called {name}")

    def _called(self, name: str) -> Any:
        return next((one for one in self.engine.containers.list() if one.name == name), None)


@pytest.fixture(scope="module")
def pool(instance: Instance) -> Pool:
    return Pool(instance)


@pytest.fixture
def alice(instance: Instance, pool: Pool) -> Iterator[Person]:
    person = instance.person("alice")
    person.stop()
    pool.wait_full()
    yield person
    person.stop()


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs if pair)


def test_a_start_claims_one_and_the_pool_fills_again(alice: Person, pool: Pool) -> None:
    waiting = {one.id for one in pool.containers}
    claims = pool.metric('taccuino_warm_claims_total{result="claimed"}')
    warm = pool.metric('taccuino_server_start_seconds_count{path="warm"}')
    assert alice.start(image="base", cpu=1, memory="2G")[-1].get("ready")
    assert pool.metric('taccuino_warm_claims_total{result="claimed"}') == claims + 1
    assert pool.metric('taccuino_server_start_seconds_count{path="warm"}') == warm + 1
    mine = pool.of("alice")
    assert mine.id in waiting
    pool.wait_full()
    assert mine.id not in {one.id for one in pool.containers}
    alice.stop()
    assert mine.id not in {one.id for one in pool.engine.containers.list(all=True)}


def test_the_server_is_as_if_it_had_been_made_for_its_user(alice: Person, pool: Pool) -> None:
    assert alice.start(cpu=0.5, memory="1G", interface="notebook")[-1].get("ready")
    with Notebook(alice) as notebook:
        files = Path("/workarea/cloud_storage/alice/written.txt")
        seen = json.loads(
            notebook.run(f"""
import json, os, pathlib, subprocess
shell = lambda words: subprocess.run(words, shell=True, text=True, capture_output=True).stdout
path = pathlib.Path({str(files)!r})
path.write_text("kept")
local = pathlib.Path("/workarea/local/area.txt")
local.write_text("kept")
print(json.dumps({{
    "owners": [os.stat(p).st_uid for p in (path, local, "/workarea", "/workarea/examples")],
    "listing": sorted(os.listdir("/workarea")),
    "cwd": os.getcwd(),
    "user": os.environ["JUPYTERHUB_USER"],
    "limit": os.environ["MEM_LIMIT"],
    "memory": shell("cat /sys/fs/cgroup/memory.max"
                    " /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null").strip(),
    "line": os.listdir("/run/taccuino") if os.path.isdir("/run/taccuino") else [],
    "git": shell("cd /workarea/local && git init -q r 2>&1 && cd r && git status 2>&1"),
    "processes": shell("grep -l taccuino.server.war[m] /proc/[0-9]*/cmdline | wc -l"),
    "token": shell("oidc-token infncloud").count("."),
}}))
""")
        )
    assert seen["owners"] == [1000] * 4
    assert {"cloud_storage", "examples", "local"} <= set(seen["listing"])
    assert (seen["cwd"], seen["user"]) == ("/workarea", "alice")
    assert seen["limit"] == seen["memory"] == str(1024**3)
    assert seen["line"] == []
    assert "No commits yet" in seen["git"]
    assert seen["token"] == 2
    # The launcher and Jupyter are those that waited, and no new programs.
    assert seen["processes"] == "2\n"
    alice.stop()
    pool.wait_full()
    # The next server has other uids, and the files are the user's all the same.
    assert alice.start()[-1].get("ready")
    with Notebook(alice) as notebook:
        said = notebook.shell(
            "cat local/area.txt cloud_storage/alice/written.txt; stat -c %u local"
        )
        assert said == "keptkept1000\n"
        notebook.shell("rm -r local/area.txt local/r cloud_storage/alice/written.txt")


def test_the_servers_cookies_are_for_the_server_alone(alice: Person, pool: Pool) -> None:
    """Sent to every path they would reach other users' servers."""
    assert alice.start()[-1].get("ready")
    assert alice.http.get(f"{alice.url}/user/alice/lab", timeout=30).status_code == 200
    paths = {c.path for c in alice.http.cookies if c.name.startswith("jupyterhub-user-")}
    assert paths == {"/user/alice/"}


def test_nothing_of_a_user_is_in_the_pool_and_nothing_of_the_pool_with_a_user(
    alice: Person, pool: Pool, instance: Instance
) -> None:
    before = {one.id: one.attrs["State"]["Pid"] for one in pool.containers}
    assert alice.start()[-1].get("ready")
    mine = pool.of("alice")
    # What waits knows nobody, and its uids are nobody's.
    for identity, pid in before.items():
        if identity == mine.id:
            continue
        known = environment(pid)
        assert not [name for name in known if name.startswith(("JUPYTERHUB", "AWS", "OIDC"))]
        mounts = Path(f"/proc/{pid}/mountinfo").read_text()
        assert "alice" not in mounts
        assert "fuse" not in mounts
    uids = {Path(f"/proc/{pid}/uid_map").read_text().split()[1] for pid in before.values()}
    assert len(uids) == len(before)
    # No token is in what the engine keeps of a container.
    assert "JUPYTERHUB_API_TOKEN" not in json.dumps(mine.attrs)
    with Notebook(alice) as notebook:
        # Secrets and sockets are of after the claim, and the environment is complete.
        said = notebook.run("""
import os
names = [name for name in os.environ if name.startswith("TACCUINO_")]
print(sorted(names), os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"][:17])
""")
        assert "TACCUINO_LINK" not in said
        assert "TACCUINO_BUCKET" in said
        assert "http://127.0.0.1:" in said


def test_one_that_died_in_the_pool_is_never_handed_out(alice: Person, pool: Pool) -> None:
    dead = {one.id for one in pool.containers}
    for one in pool.containers:
        os.kill(one.attrs["State"]["Pid"], signal.SIGKILL)
    assert alice.start()[-1].get("ready")
    assert pool.of("alice").id not in dead
    pool.wait_full()


def test_one_that_hangs_is_given_up_and_the_user_has_a_server(
    alice: Person, pool: Pool
) -> None:
    """Its processes are stopped, so it takes the claim and says nothing, and then it dies."""
    failed = pool.metric('taccuino_warm_claims_total{result="failed"}')
    claims = pool.metric('taccuino_warm_claims_total{result="claimed"}')
    containers = pool.containers
    for one in containers:
        pid = one.attrs["State"]["Pid"]
        for process in (pid, *_children(pid)):
            os.kill(process, signal.SIGSTOP)
    assert alice.api("POST", "/users/alice/server", json={}).status_code == 202
    until(
        lambda: pool.metric('taccuino_warm_claims_total{result="claimed"}') > claims,
        "none was claimed",
    )
    time.sleep(0.5)  # it is told who it is
    for one in containers:
        os.kill(one.attrs["State"]["Pid"], signal.SIGKILL)
    assert list(alice.progress())[-1].get("ready")
    assert pool.metric('taccuino_warm_claims_total{result="failed"}') == failed + 1
    with Notebook(alice) as notebook:
        assert notebook.shell("ls cloud_storage; touch local/x && rm local/x && echo done")


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    found = [int(word) for word in text.split()]
    return found + [grandchild for child in found for grandchild in _children(child)]


def test_a_hub_that_is_killed_between_claims(instance: Instance, pool: Pool) -> None:
    """No container stays that nobody knows, and everyone gets a server afterwards."""
    people = [instance.person(name) for name in ("alice", "bruno")]
    for person in people:
        person.stop()
    pool.wait_full()
    before = {one.id for one in pool.engine.containers.list(all=True)}
    for person in people:
        assert person.api("POST", f"/users/{person.username}/server", json={}).ok
    instance.kill("hub")
    instance.wait_until_ready()
    pool.wait_full()

    def gone() -> bool:
        left = {one.id for one in pool.engine.containers.list(all=True)}
        known = {pool.of(p.username).id for p in people if _has_server(p)}
        return not (left & before) - known

    until(gone, "containers of before the kill stay")
    for person in people:
        if not _has_server(person):
            assert person.start()[-1].get("ready")
        with Notebook(person) as notebook:
            assert person.username in notebook.shell("ls cloud_storage")
    for person in people:
        person.stop()


def _has_server(person: Person) -> bool:
    return bool(person.api("GET", f"/users/{person.username}").json()["servers"])
