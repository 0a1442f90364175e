"""Notebook servers in a real podman: starting, ending, and what is left behind."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from engine_servers import IMAGE, Servers

from taccuino.engines import (
    Attachment,
    Bind,
    ServerIds,
    StartFailure,
    check,
    reconcile,
)
from taccuino.engines.container import INSTANCE_LABEL, ContainerSpec
from taccuino.engines.errors import EngineUnreachableError
from taccuino.errors import TaccuinoError
from taccuino.settings import Settings

pytestmark = pytest.mark.integration


async def until(condition: Any, limit: float = 10) -> None:
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - the condition is another program's
            await asyncio.sleep(0.02)


class RecordingStorage:
    def __init__(
        self, *binds: Bind, faults: tuple[str, ...] = (), error: Exception | None = None
    ):
        self.attachment = Attachment(binds, {"TACCUINO_BUCKET": "b"}, faults)
        self.error = error
        self.calls: list[tuple[Any, ...]] = []

    async def mounted_for(self, username: str) -> int | None:
        return None

    async def attach(
        self, username: str, ids: ServerIds, report: Any, place: str | None = None
    ) -> Attachment:
        self.calls.append(("attach", username, ids.uid, ids.owner))
        report("Making your bucket")
        if self.error:
            raise self.error
        return self.attachment

    async def detach(self, username: str, report: Any) -> None:
        self.calls.append(("detach", username))


async def test_engine_answers(engine_settings: Settings) -> None:
    assert 0 < await check(engine_settings) < 5


async def test_start_poll_stop(servers: Servers) -> None:
    storage = RecordingStorage(faults=("Your cloud storage is not mounted.",))
    spawner = servers.spawner("alice", storage=lambda _: storage)
    events: list[dict[str, Any]] = []

    async def follow() -> None:
        async for event in spawner.progress():
            events.append(event)

    following = asyncio.ensure_future(follow())
    url = await spawner.start()
    await asyncio.wait_for(following, 5)
    assert url == f"http://{spawner.container.ip}:8888"
    assert await spawner.poll() is None
    phases = [event["phase"] for event in events if "progress" in event]
    assert phases == ["storage", "container", "jupyter", "ready"]
    assert "Making your bucket" in [event["message"] for event in events]
    assert {
        "message": "Your cloud storage is not mounted.",
        "phase": "storage",
        "level": "warning",
    } in events

    environment = await servers.ask(spawner, "environment")
    assert (
        environment["JUPYTERHUB_API_URL"]
        == f"http://taccuino-edge:{servers.settings.port}/hub/api"
    )
    assert environment["TACCUINO_USERNAME"] == "alice"
    assert environment["TACCUINO_BUCKET"] == "b"
    assert environment["TACCUINO_STORAGE_FAULTS"] == '["Your cloud storage is not mounted."]'
    assert environment["MEM_LIMIT"] == str(128 << 20)

    await spawner.stop()
    assert await spawner.poll() == 0
    [(_, _, uid, gid), detached] = storage.calls
    assert uid == gid
    assert uid % 65_536 == (3_000_000 + 1000) % 65_536 if servers.podman else uid == 1000
    assert detached == ("detach", "alice")
    await servers.nothing_left()


async def test_readiness_is_told(servers: Servers) -> None:
    spawner = servers.spawner("bob", "/bin/sleep", "100")
    start = asyncio.ensure_future(spawner.start())
    await until(lambda: spawner._told is not None and spawner.container.watched_alive)
    spawner.server_event("booting", "Loading extensions")
    spawner.server_event("ready", "")
    began = time.monotonic()
    await start
    assert time.monotonic() - began < 0.2
    await spawner.stop(now=True)
    await servers.nothing_left()


async def test_server_says_why_it_failed(servers: Servers) -> None:
    spawner = servers.spawner("bob", "/bin/sleep", "100")
    spawner.settings.engine.start_attempts = 1
    start = asyncio.ensure_future(spawner.start())
    await until(lambda: spawner.container.watched_alive)
    spawner.server_event("failed", "Jupyter found no port <b>")
    with pytest.raises(StartFailure) as caught:
        await start
    spawner.settings.engine.start_attempts = 2
    assert "Jupyter found no port <b>" in caught.value.jupyterhub_message
    assert "&lt;b&gt;" in caught.value.jupyterhub_html_message
    await servers.nothing_left()


async def test_death_while_starting(servers: Servers) -> None:
    spawner = servers.spawner("bob", "/bin/sh", "-c", "echo 'my <last> words'; exit 3")
    progress = spawner._progress
    began = time.monotonic()
    with pytest.raises(StartFailure) as caught:
        await spawner.start()
    assert time.monotonic() - began < 4  # two attempts
    assert caught.value.failure.reason == "exited"
    assert "code 3" in caught.value.jupyterhub_message
    assert "my &lt;last&gt; words" in caught.value.jupyterhub_html_message
    assert any("Trying again (2 of 2)" in event["message"] for event in progress.events)
    assert spawner.get_state()["last_failure"]["reason"] == "exited"
    assert await spawner.poll() == 0
    await servers.nothing_left()


async def test_death_while_starting_is_noticed_at_once(servers: Servers) -> None:
    spawner = servers.spawner("bob", "/bin/sleep", "100")
    start = asyncio.ensure_future(spawner.start())
    await until(lambda: spawner.container.watched_alive)
    progress = spawner._progress
    await servers.engine.signal(spawner.container.id, "SIGKILL")
    began = time.monotonic()
    await until(lambda: any("Trying again" in event["message"] for event in progress.events))
    assert time.monotonic() - began < 2
    assert spawner.cancel_start()
    with pytest.raises(StartFailure):
        await start
    await servers.nothing_left()


@pytest.mark.parametrize(
    ("traits", "reason"),
    [
        ({"image": "localhost/no/such:image"}, "image_missing"),
        ({"cmd": ["/no/such/program"]}, "image_unusable"),
        (
            {
                "cmd": [
                    "/usr/bin/python3",
                    "-c",
                    "x = [bytearray(1 << 20) for _ in range(9999)]",
                ]
            },
            "out_of_memory",
        ),
    ],
)
async def test_failures_without_a_retry(
    servers: Servers, traits: dict[str, Any], reason: str
) -> None:
    spawner = servers.spawner("bob", **traits)
    progress = spawner._progress
    with pytest.raises(StartFailure) as caught:
        await spawner.start()
    assert caught.value.failure.reason == reason
    assert not any("Trying again" in event["message"] for event in progress.events)
    await servers.nothing_left()


async def test_storage_failure(servers: Servers) -> None:
    storage = RecordingStorage(error=TaccuinoError("the workarea's disk is full."))
    spawner = servers.spawner("bob", storage=lambda _: storage)
    with pytest.raises(StartFailure, match="the workarea's disk is full"):
        await spawner.start()
    await until(lambda: ("detach", "bob") in storage.calls)
    assert [call[0] for call in storage.calls] == ["attach", "attach", "detach"]
    await servers.nothing_left()


async def test_start_without_progress(servers: Servers) -> None:
    spawner = servers.spawner("bob", "/bin/sleep", "100")
    engine = spawner.settings.engine
    engine.start_timeout, engine.start_attempts = 1.0, 1
    try:
        with pytest.raises(StartFailure) as caught:
            await spawner.start()
    finally:
        engine.start_timeout, engine.start_attempts = 120.0, 2
    assert caught.value.failure.reason == "timeout"
    assert '"Starting Jupyter"' in caught.value.jupyterhub_message
    await servers.nothing_left()


async def test_hub_cancels_a_start(servers: Servers) -> None:
    storage = RecordingStorage()
    spawner = servers.spawner("bob", "/bin/sleep", "100", storage=lambda _: storage)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(spawner.start(), timeout=0.15)
    assert await spawner.poll() == 0
    await until(lambda: ("detach", "bob") in storage.calls)
    await servers.nothing_left()


async def test_stop_while_starting(servers: Servers) -> None:
    spawner = servers.spawner("bob", "/bin/sleep", "100")
    start = asyncio.ensure_future(spawner.start())
    await until(lambda: spawner.container.watched_alive)
    assert await spawner.poll() is None
    await spawner.stop()
    with pytest.raises(StartFailure, match="stopped"):
        await start
    await servers.nothing_left()


async def test_death_of_a_running_server(servers: Servers) -> None:
    storage = RecordingStorage()
    spawner = servers.spawner("carol", storage=lambda _: storage)
    await spawner.start()
    told = asyncio.Event()
    spawner.add_poll_callback(told.set)
    with pytest.raises(Exception):  # noqa: B017 - it dies without an answer
        await servers.ask(spawner, "die")
    await asyncio.wait_for(told.wait(), 2)
    assert spawner.get_state()["last_failure"]["message"] == "Your server ended with code 7."
    await until(lambda: ("detach", "carol") in storage.calls)
    await servers.nothing_left()


async def test_kernel_that_eats_memory_is_told(servers: Servers) -> None:
    spawner = servers.spawner("carol")
    await spawner.start()
    assert spawner.notices() == []
    assert await servers.ask(spawner, "eat") == -9
    assert [notice["id"] for notice in spawner.notices()] == ["oom-1"]
    assert await spawner.poll() is None
    await spawner.stop()


async def test_hub_restart_keeps_the_server(servers: Servers) -> None:
    before = servers.spawner("dave")
    url = await before.start()
    state = before.get_state()
    before.container._watch.close()  # the earlier hub is gone, and its watch with it

    after = servers.spawner("dave")
    after.load_state(state)
    assert await after.poll() is None
    assert after.container.watched_alive
    assert url == f"http://{after.container.ip}:8888"
    assert await reconcile(servers.settings, lambda: {after.object_name}) == []
    await after.stop()
    await servers.nothing_left()


async def test_a_death_that_podman_does_not_know_of(servers: Servers) -> None:
    """Everything was killed at once, the container's monitor with it."""
    if not servers.podman:
        pytest.skip("Docker's daemon asks containerd")
    before = servers.spawner("dora")
    await before.start()
    state = before.get_state()
    pid = before.container._watch.pid
    before.container._watch.close()  # the earlier hub is gone, and its watch with it
    for process in (psutil.Process(pid).parent(), psutil.Process(pid)):
        process.kill()
        process.wait(5)

    after = servers.spawner("dora")
    after.load_state(state)
    info = await servers.engine.inspect(after.container.id)
    assert info["State"]["Running"]  # says podman
    assert await after.poll() is not None
    await servers.nothing_left()


async def test_unreachable_engine_stops_nobody(servers: Servers) -> None:
    spawner = servers.spawner("erin")
    await spawner.start()
    state = spawner.get_state()
    elsewhere = servers.settings.model_copy(deep=True)
    elsewhere.engine.socket = servers.settings.state_dir / "nobody.sock"
    blind = servers.spawner("erin")
    blind.settings = elsewhere
    blind.load_state(state)
    assert await blind.poll() is None
    with pytest.raises(EngineUnreachableError):
        await check(elsewhere)
    servers.users["erin"].spawners[""] = spawner
    await spawner.stop()


async def test_named_servers_share_storage(servers: Servers) -> None:
    storage = RecordingStorage()
    one = servers.spawner("frank", storage=lambda _: storage)
    await one.start()
    two = servers.spawner("frank", storage=lambda _: storage)
    servers.users["frank"].spawners.update({"": one, "two": two})
    two.object_name = "taccuino-x-frank.two"
    two._server_container = None
    await two.start()
    await one.stop()
    assert ("detach", "frank") not in storage.calls
    await two.stop()
    assert storage.calls[-1] == ("detach", "frank")
    await servers.nothing_left()


async def test_restart_over_leftovers(servers: Servers) -> None:
    crashed = servers.spawner("grace")
    await crashed.start()
    again = servers.spawner("grace")
    await again.start()
    assert await again.poll() is None
    await again.stop()
    await servers.nothing_left()


async def test_six_at_once(servers: Servers) -> None:
    spawners = [servers.spawner(f"user{number}") for number in range(6)]
    for _ in range(2):
        async with asyncio.timeout(60):
            await asyncio.gather(*(spawner.start() for spawner in spawners))
        assert len({spawner.container.network for spawner in spawners}) == 6
        async with asyncio.timeout(60):
            await asyncio.gather(*(spawner.stop() for spawner in spawners))
    await servers.nothing_left()


async def test_reconcile_removes_orphans_of_its_instance_only(servers: Servers) -> None:
    orphan, owned = servers.spawner("heidi"), servers.spawner("ivan")
    await asyncio.gather(orphan.start(), owned.start())
    orphan.container._watch.close()  # its hub is gone
    leftovers = [orphan.object_name, orphan.container.network]
    engine = servers.engine
    another = ContainerSpec(
        image=IMAGE,
        environment={},
        labels={INSTANCE_LABEL: "/another"},
        network=owned.container.network,
        cpus=1,
        memory=64 << 20,
        pids_limit=64,
    )
    await engine.create("another-instance", another)

    removed = await reconcile(servers.settings, lambda: {owned.object_name})
    assert removed == leftovers
    containers, networks = await servers.objects()
    assert sorted(containers) == sorted(["another-instance", owned.object_name])
    assert networks == [owned.container.network]
    assert await owned.poll() is None
    await engine.remove("another-instance")
    await owned.stop()


async def test_a_bridge_that_lost_its_network_is_removed(servers: Servers) -> None:
    if not servers.podman:
        pytest.skip("Docker's daemon looks after its bridges itself")
    owned = servers.spawner("ivan")
    await owned.start()
    stray, anothers = f"tc-{servers.settings.port}-0ff", "tc-1-0ff"
    for name in (stray, anothers):
        await ip("link", "add", name, "type", "bridge")
    try:
        removed = await reconcile(servers.settings, lambda: {owned.object_name})
        links = {name for _, name in socket.if_nameindex()}
    finally:
        await ip("link", "delete", anothers)
    assert removed == [stray]
    assert stray not in links
    assert {owned.container.network, anothers} <= links
    await owned.stop()


async def ip(*arguments: str) -> None:
    await asyncio.to_thread(subprocess.run, ["ip", *arguments], check=True)


KILLED = """
import asyncio, os, signal, sys
sys.path[:0] = {path!r}
from engine_servers import Servers
from taccuino.engines.engine import Engine
from taccuino.settings import Settings
async def killed(self, container):
    os.kill(os.getpid(), signal.SIGKILL)
Engine.start = killed
settings = Settings.parse({settings!r})
asyncio.run(Servers(settings).spawner("judy").start())
"""


async def test_hub_killed_between_create_and_start(servers: Servers) -> None:
    settings = servers.settings.model_dump(mode="json")
    code = KILLED.format(path=[str(Path(__file__).parent)], settings=settings)
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code])
    assert done.returncode == -9
    containers, networks = await servers.objects()
    assert containers == [f"taccuino-{servers.settings.port}-judy"]
    assert len(networks) == 1
    await reconcile(servers.settings, set)
    await servers.nothing_left()
