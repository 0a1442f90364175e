"""What a notebook server can and cannot reach, asked from inside real containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_servers import Servers

from taccuino.engines import Attachment, Bind, ServerIds
from taccuino.settings import Settings

pytestmark = pytest.mark.integration


@contextlib.contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        listener.listen()
        yield


@pytest.fixture
def outside() -> Iterator[str]:
    """A machine beyond the host: a network namespace with a listener on port 80."""
    name, address = f"tco{os.getpid() % 10_000}", "198.51.100.2"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("address", "add", "198.51.100.1/30", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        ip("-n", name, "address", "add", f"{address}/30", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "route", "add", "default", "via", "198.51.100.1")
        code = (
            "import socket; s = socket.create_server(('0.0.0.0', 80)); print(flush=True)\n"
            "while 1: s.accept()"
        )
        enter = ["nsenter", f"--net=/run/netns/{name}", "python3", "-c", code]
        with subprocess.Popen(enter, stdout=subprocess.PIPE) as listener:
            assert listener.stdout is not None
            listener.stdout.readline()
            yield address
            listener.kill()
    finally:
        ip("netns", "delete", name)


async def test_network(servers: Servers, outside: str) -> None:
    mine, other = servers.spawner("mallory"), servers.spawner("trent")
    await asyncio.gather(mine.start(), other.start())
    edge, private = servers.settings.port, servers.settings.port + 5

    async def reach(host: str, port: int) -> Any:
        return await servers.ask(mine, "connect", host=host, port=str(port))

    with listening(edge), listening(private):
        assert await reach("taccuino-edge", edge) == "connected"
        assert await reach("taccuino-edge", private) == {"error": "ConnectionRefusedError"}
        assert await reach("198.51.100.1", edge) == "connected"
        assert await reach("198.51.100.1", private) == {"error": "ConnectionRefusedError"}
        assert await reach(other.container.gateway, private) == {
            "error": "ConnectionRefusedError"
        }
    assert await reach(outside, 80) == "connected"
    assert await reach(other.container.ip, 8888) == {"error": "TimeoutError"}
    assert await reach("169.254.169.254", 80) == {"error": "TimeoutError"}
    assert mine.container.network != other.container.network

    # From beyond the host nobody reaches a server, even with a route to it.
    name = f"tco{os.getpid() % 10_000}"
    code = (
        "import socket, sys\n"
        f"try: socket.create_connection(({mine.container.ip!r}, 8888), timeout=2)\n"
        "except TimeoutError: sys.exit(3)"
    )
    enter = ["nsenter", f"--net=/run/netns/{name}", "python3", "-c", code]
    assert (await asyncio.to_thread(subprocess.run, enter)).returncode == 3
    await asyncio.gather(mine.stop(now=True), other.stop(now=True))


async def test_rights_and_limits(servers: Servers) -> None:
    spawner = servers.spawner("mallory")
    await spawner.start()
    status = await servers.ask(spawner, "status")

    def field(name: str) -> str:
        match = re.search(rf"^{name}:\s*(.*)$", status, re.MULTILINE)
        assert match
        return match[1]

    assert {field(f"Cap{kind}") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert field("NoNewPrivs") == "1"
    assert field("Seccomp") == "2"
    assert field("Uid").split() == ["1000"] * 4
    inside, host, size = await servers.ask(spawner, "uid_map")
    if servers.podman:
        assert (inside, size) == ("0", "65536")
        assert (int(host) - 3_000_000) % 65_536 == 0
    info = await servers.engine.inspect(spawner.container.id)
    limits = info["HostConfig"]
    assert limits["Memory"] == limits["MemorySwap"] == 128 << 20
    assert limits["NanoCpus"] == 500_000_000
    open_files = "RLIMIT_NOFILE" if servers.podman else "nofile"
    assert {item["Name"]: item["Hard"] for item in limits["Ulimits"]}[open_files] <= 16_384
    assert limits["ShmSize"] == 64 << 20
    assert limits["PidsLimit"] == servers.settings.engine.pids_limit
    assert limits["RestartPolicy"]["Name"] in ("", "no")
    assert not limits["Privileged"]
    await spawner.stop(now=True)


class Area:
    """A directory of the host in place of a user's storage."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def mounted_for(self, username: str) -> int | None:
        return None

    async def attach(
        self, username: str, ids: ServerIds, report: Any, place: str | None = None
    ) -> Attachment:
        if username == "owner":
            os.chown(self.path, ids.uid, ids.uid)
        return Attachment((Bind(self.path, "/workarea"),))

    async def detach(self, username: str, report: Any) -> None:
        pass


async def test_files_belong_to_their_user(servers: Servers) -> None:
    area = servers.settings.state_dir / "area"
    area.mkdir(mode=0o700)
    owner = servers.spawner("owner", storage=lambda _: Area(area))
    await owner.start()
    assert await servers.ask(owner, "write", path="/workarea/mine") == 1000
    written = (area / "mine").stat().st_uid
    assert written == area.stat().st_uid
    await owner.stop(now=True)
    if not servers.podman:  # Docker maps all its containers alike
        assert written == 1000
        return
    assert written > 3_000_000
    thief = servers.spawner("thief", storage=lambda _: Area(area))
    await thief.start()
    for path in ("/workarea", "/workarea/mine"):
        assert await servers.ask(thief, "list", path=path) == {"error": "PermissionError"}
    await thief.stop(now=True)


@pytest.fixture
def shared_area(engine_settings: Settings) -> Iterator[Path]:
    """A directory whose later mounts propagate, as the mount plane's do."""
    area = engine_settings.state_dir / "shared"
    area.mkdir()
    (area / "below").mkdir()
    subprocess.run(["mount", "--bind", area, area], check=True)
    try:
        subprocess.run(["mount", "--make-rshared", area], check=True)
        yield area
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", area], check=True)


async def test_a_later_mount_appears(servers: Servers, shared_area: Path) -> None:
    spawner = servers.spawner("owner", storage=lambda _: Area(shared_area))
    await spawner.start()
    assert await servers.ask(spawner, "list", path="/workarea/below") == []
    below = shared_area / "below"
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "late", below]
    await asyncio.to_thread(subprocess.run, mount, check=True)
    (below / "late.txt").touch()
    assert await servers.ask(spawner, "list", path="/workarea/below") == ["late.txt"]
    await spawner.stop(now=True)
