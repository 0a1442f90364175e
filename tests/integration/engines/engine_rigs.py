"""Engines of the tests' own, each with a tiny image: a podman, and a Docker."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import docker
import pytest
from engine_servers import IMAGE
from tiny_rootfs import write_rootfs

from support.instance import free_port_block
from taccuino.engines import NotebookSpawner, firewall
from taccuino.local.podman import podman_command, podman_environment, write_podman_files
from taccuino.local.probe import socket_answers
from taccuino.settings import Settings

COMMAND = 'CMD ["/usr/bin/python3","/srv/server.py"]'


@contextmanager
def running_engine(kind: str) -> Iterator[Settings]:
    """Settings of an instance whose engine, of this kind, runs and has the tests' image."""
    rig = {"podman": podman, "docker": dockerd}[kind]
    needed = {"podman": ("podman", "runc", "nft"), "docker": ("dockerd", "nft")}[kind]
    if os.geteuid() != 0 or not all(shutil.which(name) for name in needed):
        pytest.skip(f"needs root, {', '.join(needed)}")
    directory = Path(tempfile.mkdtemp(prefix="tc-", dir="/tmp"))
    directory.chmod(0o711)
    engine = {"kind": kind, "socket": str(directory / "engine.sock")}
    settings = Settings.parse(
        {"state_dir": str(directory), "port": free_port_block(), "engine": engine}
    )
    image = directory / "image.tar"
    double = Path(__file__).with_name("server_double.py").read_bytes()
    write_rootfs(image, {"srv/server.py": double})
    NotebookSpawner._firewalled = False  # as in a hub of this instance's own
    try:
        with (directory / "engine.log").open("wb") as log, rig(settings, image, log):
            yield settings
    finally:
        asyncio.run(firewall.remove(settings))
        shutil.rmtree(directory)


@contextmanager
def podman(settings: Settings, image: Path, log: BinaryIO) -> Iterator[None]:
    """The embedded engine, as ``taccuino up`` runs it."""
    write_podman_files(settings)
    command = podman_command(settings)
    environment = {**os.environ, **podman_environment(settings)}

    def run(*words: str, check: bool = False) -> None:
        subprocess.run(
            [*command, *words], env=environment, check=check, capture_output=True, timeout=60
        )

    run("import", "--quiet", "--change", COMMAND, str(image), IMAGE, check=True)
    service = subprocess.Popen(
        [*command, "system", "service", "--time=0", f"unix://{settings.engine.socket}"],
        env=environment,
        cwd=settings.state_dir,  # conmon leaves a file "oom" there when it sees a kill
        stdout=log,
        stderr=log,
    )
    try:
        wait_for_api(settings)
        yield
    finally:
        run("rm", "--all", "--force", "--time=0")
        run("network", "prune", "--force")
        service.terminate()
        service.wait()
        run("rmi", "--all", "--force")
        unmount(settings.state_dir / "engine/storage/overlay")


@contextmanager
def dockerd(settings: Settings, image: Path, log: BinaryIO) -> Iterator[None]:
    """A Docker beside any other on this machine, which leaves the host's rules as they are.

    Without NAT its containers reach no further than this host, which is all that is asked;
    what keeps them apart then are our own rules alone.
    """
    directory = settings.state_dir
    service = subprocess.Popen(
        [
            *("dockerd", "--host", f"unix://{settings.engine.socket}", "--bridge=none"),
            *("--data-root", str(directory / "docker"), "--exec-root", str(directory / "run")),
            *("--pidfile", str(directory / "docker.pid")),
            *("--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            # A machine without CAP_SYS_RESOURCE grants no more than its own limits.
            *("--default-ulimit", "nofile=16384:16384"),
        ],
        stdout=log,
        stderr=log,
    )
    try:
        wait_for_api(settings)
        client = docker.APIClient(base_url=f"unix://{settings.engine.socket}")
        repository, _, tag = IMAGE.rpartition(":")
        client.import_image_from_file(str(image), repository, tag, changes=[COMMAND])
        yield
        for container in client.containers(all=True):
            client.remove_container(container["Id"], force=True)
        client.prune_networks()
        client.close()
    finally:
        service.terminate()
        service.wait()
        unmount(directory)


def wait_for_api(settings: Settings) -> None:
    socket_file = settings.engine.socket
    assert socket_file is not None
    wait(lambda: socket_answers(socket_file, "/_ping"), f"an answer at {socket_file}")


def wait(condition: Callable[[], bool], what: str, limit: float = 30) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not there after {limit} s")
        time.sleep(0.05)


def unmount(below: Path) -> None:
    """Unmount what the engine left mounted below a directory, the deepest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((p for p in points if Path(p).is_relative_to(below)), reverse=True):
        subprocess.run(["umount", "--lazy", point], capture_output=True)
