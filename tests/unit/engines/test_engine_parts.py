"""The engine's smaller parts: environment, progress, watching, the engines' own words."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound, NotFound
from prometheus_client import REGISTRY

from taccuino.engines.attachment import SharedStorage
from taccuino.engines.engine import DockerEngine, _MissingError, _translated, remapped_base
from taccuino.engines.environment import notebook_environment, server_api
from taccuino.engines.errors import (
    EngineError,
    ImageMissingError,
    NameInUseError,
    StartStalledError,
)
from taccuino.engines.progress import StartProgress
from taccuino.engines.readiness import answers
from taccuino.engines.storage_port import Attachment, NoStorage, ServerIds
from taccuino.engines.watch import ProcessWatch, count_oom_kills, memory_events_file
from taccuino.settings import Settings


@pytest.mark.parametrize(
    ("data", "url", "hosts"),
    [
        ({}, "http://taccuino-edge:8000/hub/api", ["taccuino-edge"]),
        (
            {"hub": {"server_api_url": "https://h/hub/api/"}},
            "https://h/hub/api",
            ["taccuino-edge"],
        ),
        (
            {"edge": {"certificate": "/c.pem"}, "host": "n.example"},
            "https://n.example:8000/hub/api",
            ["taccuino-edge", "n.example"],
        ),
        (
            {"edge": {"certificate": "/c.pem", "server_port": 8007}},
            "http://taccuino-edge:8007/hub/api",
            ["taccuino-edge"],
        ),
        (
            {"edge": {"certificate": "/c.pem"}},
            "https://taccuino-edge:8000/hub/api",
            ["taccuino-edge"],
        ),
    ],
)
def test_server_api(data: dict[str, Any], url: str, hosts: list[str]) -> None:
    found, names = server_api(Settings.parse({"port": 8000, **data}), "10.0.0.1")
    assert found == url
    assert names == dict.fromkeys(hosts, "10.0.0.1")


def test_environment() -> None:
    attachment = Attachment((), {"TACCUINO_BUCKET": "b"}, ("No «scratch».",))
    environment = notebook_environment(Settings.parse({}), "alice", "lab", attachment)
    assert environment == {
        "TACCUINO_BUCKET": "b",
        "TACCUINO_USERNAME": "alice",
        "TACCUINO_INTERFACE": "lab",
        "TACCUINO_OIDC_PROFILE": "infncloud",
        "TACCUINO_STORAGE_FAULTS": '["No \\u00abscratch\\u00bb."]',
        "TACCUINO_SPARE_KERNEL": "1",
        "TACCUINO_TOKEN_CACHE_SECONDS": "300",
        "JUPYTERHUB_ACTIVITY_INTERVAL": "300",
    }


def test_no_kernel_is_started_ahead_where_the_operator_wants_none() -> None:
    settings = Settings.parse({"engine": {"spare_kernel": False}})
    environment = notebook_environment(settings, "alice", "lab", Attachment())
    assert environment["TACCUINO_SPARE_KERNEL"] == "0"


def test_activity_is_told_twice_within_the_idle_limit() -> None:
    settings = Settings.parse({"culling": {"idle_seconds": 90, "warn_seconds": 10}})
    environment = notebook_environment(settings, "alice", "lab", Attachment())
    assert environment["JUPYTERHUB_ACTIVITY_INTERVAL"] == "45"


async def test_no_storage() -> None:
    assert await NoStorage().attach("a", ServerIds(1, 1), print) == Attachment()
    await NoStorage().detach("a", print)


async def test_progress_is_seen_by_all_from_the_first_event() -> None:
    progress = StartProgress()
    seen: list[list[dict[str, Any]]] = [[], []]

    async def follow(events: list[dict[str, Any]]) -> None:
        async for event in progress.stream():
            events.append(event)

    first = asyncio.ensure_future(follow(seen[0]))
    await asyncio.sleep(0)
    progress.enter("storage")
    progress.enter("storage")
    progress.detail("Making your bucket")
    late = asyncio.ensure_future(follow(seen[1]))
    await asyncio.sleep(0)
    progress.notice("Trying again")
    progress.restart()
    progress.enter("storage")
    progress.enter("ready")
    progress.close()
    await asyncio.wait_for(asyncio.gather(first, late), 1)
    assert seen[0] == seen[1] == progress.events
    assert [event["message"] for event in seen[0]] == [
        "Preparing your storage",
        "Making your bucket",
        "Trying again",
        "Preparing your storage",
        "Your server is ready",
    ]
    assert [event.get("progress") for event in seen[0]] == [10, None, None, 10, 95]


def test_each_phase_is_measured() -> None:
    def count(phase: str) -> float:
        name = "taccuino_server_start_phase_seconds_count"
        return REGISTRY.get_sample_value(name, {"phase": phase}) or 0

    phases = ("storage", "container", "jupyter", "ready")
    before = [count(phase) for phase in phases]
    progress = StartProgress()
    progress.enter("storage")
    progress.enter("storage")
    progress.enter("container")
    progress.restart()
    progress.enter("storage")
    progress.enter("ready")
    after = [count(phase) for phase in phases]
    # Of the first attempt, the phase that failed is none that was gone through.
    assert [new - old for new, old in zip(after, before, strict=True)] == [2, 0, 0, 0]


def test_saying_the_same_again_is_no_progress() -> None:
    progress = StartProgress()
    progress.detail("waiting")
    last = progress.last_progress
    progress.detail("waiting")
    assert progress.last_progress == last


async def test_patience_begins_with_the_attempt() -> None:
    async def attempt() -> str:
        return "ready"

    async def stalled() -> str:
        await asyncio.Event().wait()
        return "never"

    progress = StartProgress()
    progress.last_progress -= 3600  # made when the user looked at the options
    assert await progress.watch(attempt(), 120) == "ready"
    with pytest.raises(StartStalledError):
        await progress.watch(stalled(), 0.01)


V1 = "9:name=systemd:/libpod_parent/libpod-abc\n4:cpu,memory:/libpod_parent/libpod-abc\n0::/x\n"


@pytest.mark.parametrize(
    ("cgroup", "path"),
    [
        (V1, "/cg/memory/libpod_parent/libpod-abc/memory.oom_control"),
        ("0::/machine/libpod-abc\n", "/cg/machine/libpod-abc/memory.events"),
        ("", None),
    ],
)
def test_memory_events_file(cgroup: str, path: str | None) -> None:
    found = memory_events_file(cgroup, Path("/cg"))
    assert found == (Path(path) if path else None)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n", 1),
        ("", 0),
    ],
)
def test_count_oom_kills(text: str, count: int) -> None:
    assert count_oom_kills(text) == count


async def test_a_death_is_noticed_at_once() -> None:
    died = asyncio.Event()
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: ASYNC220
        watch = ProcessWatch(process.pid, died.set)
        assert watch.alive
        process.kill()
        await asyncio.wait_for(died.wait(), 5)
    assert not watch.alive
    watch.close()


async def test_another_process_is_not_taken_for_a_container() -> None:
    assert ProcessWatch.of_container(os.getpid(), "f" * 64, print) is None
    assert ProcessWatch.of_container(2**22 - 1, "f" * 64, print) is None


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(b"HTTP/1.1 404 Not Found\r\n\r\n", True), (b"ssh", False), (b"", False)],
)
async def test_answers(reply: bytes, expected: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert await answers("127.0.0.1", port, "/user/a/api") is expected
    assert not await answers("127.0.0.1", port, "/")


def refusal(kind: type[APIError], status: int, words: str) -> APIError:
    return kind(words, response=SimpleNamespace(status_code=status), explanation=words)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal(ImageNotFound, 404, "no such image: x"), ImageMissingError),
        (refusal(APIError, 500, "x: image not known"), ImageMissingError),
        (refusal(NotFound, 404, "no such container"), _MissingError),
        (
            refusal(APIError, 409, 'The container name "/x" is already in use by'),
            NameInUseError,
        ),
        (refusal(APIError, 500, 'the container name "x" is already in use by'), NameInUseError),
        (refusal(APIError, 500, "anything else"), EngineError),
    ],
)
def test_translated(error: APIError, kind: type[EngineError]) -> None:
    assert type(_translated(error)) is kind


@pytest.mark.parametrize(
    ("info", "base"),
    [
        ({}, 0),
        ({"SecurityOptions": ["name=seccomp"], "DockerRootDir": "/var/lib/docker"}, 0),
        ({"SecurityOptions": ["name=userns"], "DockerRootDir": "/d/165536.165536"}, 165_536),
        ({"SecurityOptions": ["name=userns"], "DockerRootDir": "/d"}, 0),
    ],
)
def test_remapped_base(info: dict[str, Any], base: int) -> None:
    assert remapped_base(info) == base


async def test_storage_that_follows_tells_its_faults() -> None:
    async def faults() -> tuple[str, ...]:
        return ("No scratch.",)

    async def breaks() -> tuple[str, ...]:
        raise OSError("secret detail")

    assert await SharedStorage.complete(Attachment()) == ()
    assert await SharedStorage.complete(Attachment(completion=faults)) == ("No scratch.",)
    (sentence,) = await SharedStorage.complete(Attachment(completion=breaks))
    assert "missing" in sentence
    assert "secret" not in sentence


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ("subnet 10.1.0.0/28 is already used on the host or by another config", True),
        ("network with name tc-1-a already exists", True),
        ("Pool overlaps with other one on this address space", True),
        ("the engine is out of memory", False),
    ],
)
async def test_a_subnet_that_is_taken_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, taken: bool
) -> None:
    async def refuse(*_: object) -> None:
        raise EngineError(words)

    engine = DockerEngine(tmp_path / "docker.sock")
    monkeypatch.setattr(engine, "_write", refuse)
    make = engine.create_network("tc-1-a", IPv4Network("10.1.0.0/28"), {})
    if taken:
        assert await make is False
    else:
        with pytest.raises(EngineError, match="memory"):
            await make
