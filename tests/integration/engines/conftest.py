"""A podman of the tests' own with an image made of the host's own Python."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from engine_servers import IMAGE, Servers
from tiny_rootfs import write_rootfs

from taccuino.engines import firewall, reconcile
from taccuino.local.podman import podman_command, podman_environment, write_podman_files
from taccuino.settings import Settings

PORTS = range(26000, 26090, 10)


@pytest.fixture(scope="session")
def engine_settings() -> Iterator[Settings]:
    """Settings of an instance whose engine runs and has the tests' image."""
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("podman", "runc", "nft")):
        pytest.skip("needs root, podman, runc and nftables")
    directory = Path(tempfile.mkdtemp(prefix="tc-", dir="/tmp"))
    directory.chmod(0o711)
    settings = Settings.parse({"state_dir": str(directory), "port": _free_port()})
    write_podman_files(settings)
    podman = podman_command(settings)
    environment = {**os.environ, **podman_environment(settings)}
    tarball = directory / "image.tar"
    write_rootfs(
        tarball, {"srv/server.py": Path(__file__).with_name("server_double.py").read_bytes()}
    )
    command = '["/usr/bin/python3","/srv/server.py"]'
    subprocess.run(
        [*podman, "import", "--quiet", "--change", f"CMD={command}", str(tarball), IMAGE],
        env=environment,
        check=True,
        capture_output=True,
    )
    with (directory / "engine.log").open("wb") as log:
        service = subprocess.Popen(
            [*podman, "system", "service", "--time=0", f"unix://{settings.engine.socket}"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        assert settings.engine.socket is not None
        _wait(settings.engine.socket.exists, "podman's socket")
        yield settings
    finally:
        for verb in (["rm", "--all", "--force", "--time=0"], ["network", "prune", "--force"]):
            subprocess.run([*podman, *verb], env=environment, capture_output=True, timeout=60)
        service.terminate()
        service.wait()
        subprocess.run(
            [*podman, "rmi", "--all", "--force"], env=environment, capture_output=True
        )
        asyncio.run(firewall.remove(settings))
        subprocess.run(
            ["umount", "--recursive", str(directory / "engine/storage/overlay")],
            capture_output=True,
        )
        shutil.rmtree(directory)


def _free_port() -> int:
    for port in PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    pytest.fail(f"no free port in {PORTS}")


def _wait(condition: Callable[[], bool], what: str, limit: float = 20) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not there after {limit} s")
        time.sleep(0.05)


@pytest.fixture
async def servers(engine_settings: Settings) -> AsyncIterator[Servers]:
    """Spawners; what they leave behind is removed after the test."""
    made = Servers(engine_settings)
    yield made
    for user in made.users.values():
        for spawner in user.spawners.values():
            await spawner._clean_up()
    await reconcile(engine_settings, set)
