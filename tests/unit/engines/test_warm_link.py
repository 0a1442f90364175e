"""The line between the hub and a warm server: both of its real ends, over a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from taccuino.engines.errors import ContainerExitedError
from taccuino.engines.warm.link import Link
from taccuino.server.link import Link as ServersLink


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(dir="/tmp") as parent:
        yield Path(parent) / "line"


async def heard(link: Link) -> None:
    async with asyncio.timeout(10):
        await link.warm.wait()


async def test_a_server_learns_who_it_is_and_tells_its_phases(directory: Path) -> None:
    link = Link(directory)
    await link.listen(os.getuid())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    server = await asyncio.to_thread(ServersLink, str(directory / "hub.sock"))
    server.tell("warm")
    await heard(link)
    assert not (directory / "hub.sock").exists()
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    link.on_phase = lambda phase, message: told.put_nowait((phase, message))
    waiting = asyncio.create_task(asyncio.to_thread(server.identity))
    await link.become({"JUPYTERHUB_USER": "ada"}, ["--debug"])
    assert await waiting == {
        "environment": {"JUPYTERHUB_USER": "ada"},
        "arguments": ["--debug"],
    }
    server.tell("failed", "no room")
    assert await asyncio.wait_for(told.get(), 10) == ("failed", "no room")
    server.close()
    await asyncio.wait_for(link.closed.wait(), 10)
    link.close()
    assert not directory.exists()


async def test_a_hub_that_hangs_up_ends_the_wait(directory: Path) -> None:
    link = Link(directory)
    await link.listen(os.getuid())
    server = await asyncio.to_thread(ServersLink, str(directory / "hub.sock"))
    server.tell("warm")
    await heard(link)
    link.close()
    assert await asyncio.to_thread(server.identity) is None


@pytest.mark.parametrize(
    "line", [b"no JSON\n", b"[]\n", b"x" * 100_000 + b"\n", b"\xff\xfe\n", b'"warm"\n', b""]
)
async def test_who_does_not_speak_the_language_is_hung_up_on(
    directory: Path, line: bytes
) -> None:
    link = Link(directory)
    await link.listen(os.getuid())
    with socket.socket(socket.AF_UNIX) as client:
        await asyncio.to_thread(client.connect, str(directory / "hub.sock"))
        await asyncio.to_thread(client.sendall, line)
        if not line:
            client.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(link.closed.wait(), 10)
    assert not link.warm.is_set()
    with pytest.raises(ContainerExitedError):
        await link.become({}, [])
    link.close()


async def test_only_the_first_is_heard(directory: Path) -> None:
    link = Link(directory)
    await link.listen(os.getuid())
    path = str(directory / "hub.sock")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        # Both are in the queue before the hub looks.
        first.connect(path)
        second.connect(path)
        first.sendall(json.dumps({"phase": "warm"}).encode() + b"\n")
        await heard(link)
        second.setblocking(False)
        loop = asyncio.get_running_loop()
        assert await asyncio.wait_for(loop.sock_recv(second, 1), 10) == b""
        assert not link.closed.is_set()
    link.close()
