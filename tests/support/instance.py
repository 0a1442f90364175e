"""A whole running service, for the tests that need one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import psutil

from support.person import Person
from taccuino.naming import slug
from taccuino.settings import Settings

PORT_BLOCK = range(10_000, 19_900, 20)
"""Below the ports of the mount planes' relays, and those that the kernel gives."""
_reserved: list[TextIO] = []


class Instance:
    """One instance of the service: its address, its state, and ways to disturb it.

    Parameters
    ----------
    state_dir
        The state directory, short enough for unix sockets' paths.
    port
        The service's port, for ``up``; an instance that runs has it in its settings.
    """

    def __init__(self, state_dir: Path, port: int | None = None) -> None:
        self.state_dir = state_dir
        self.settings_file: Path | None = None
        self._environment = {
            **{
                name: value for name, value in os.environ.items() if name != "TACCUINO_SETTINGS"
            },
            "TACCUINO_STATE": str(state_dir),
        }
        if port is not None:
            self._environment["TACCUINO_PORT"] = str(port)

    def run(
        self,
        *arguments: str,
        timeout: float = 600,
        check: bool = True,
        settings: Path | None = None,
    ) -> str:
        """Run ``taccuino`` with these arguments, and a settings file; its output."""
        file = settings or self.settings_file
        named = {"TACCUINO_SETTINGS": str(file)} if file else {}
        command = [str(Path(sys.executable).with_name("taccuino")), *arguments]
        done = subprocess.run(
            command,
            env={**self._environment, **named},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(
                f"taccuino {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout if check else done.stdout + done.stderr

    @property
    def status(self) -> dict[str, Any]:
        """What ``taccuino status --json`` says now."""
        return json.loads(self.run("status", "--json"))

    @cached_property
    def settings(self) -> Settings:
        """The resolved settings."""
        return Settings.load(self.state_dir / "settings.json")

    @property
    def url(self) -> str:
        """The service's address."""
        return self.settings.url

    @property
    def accounts(self) -> dict[str, dict[str, Any]]:
        """The demo accounts by name."""
        accounts = json.loads((self.state_dir / "accounts.json").read_text())
        return {account["username"]: account for account in accounts}

    def person(self, username: str) -> Person:
        """A person who has one of the demo accounts."""
        return Person(self.url, username, self.accounts[username]["password"])

    def service(self, name: str) -> psutil.Process:
        """The process of a service that runs."""
        pid = next(s["pid"] for s in self.status["services"] if s["name"] == name)
        assert pid, f"{name} does not run"
        return psutil.Process(pid)

    def kill(self, name: str) -> None:
        """Kill a service's process (SIGKILL) and wait until it is gone."""
        process = self.service(name)
        process.kill()
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.wait_procs([process], timeout=10)

    def control(self, action: str, service: str) -> None:
        """Start or stop a service through the supervisor."""
        socket = f"unix://{self.state_dir}/supervisor/supervisor.sock"
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-s", socket]
        subprocess.run(
            [*command, action, service], cwd="/", check=True, stdout=subprocess.DEVNULL
        )

    @contextlib.contextmanager
    def without(self, service: str) -> Iterator[None]:
        """A service is stopped for a while."""
        self.control("stop", service)
        try:
            yield
        finally:
            self.control("start", service)

    @contextlib.contextmanager
    def hanging(self, service: str) -> Iterator[None]:
        """A service takes connections and answers nothing for a while."""
        process = self.service(service)
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def wait_until_ready(self, limit: float = 60) -> None:
        """Wait until the service can be used again."""
        deadline = time.monotonic() + limit
        while not (status := self.status)["ready"]:
            assert time.monotonic() < deadline, f"not ready after {limit} s: {status}"
            time.sleep(0.3)

    def secrets_of(self, username: str) -> dict[str, str]:
        """Secrets that must be nowhere in a user's server, by what they are."""
        storage = json.loads((self.state_dir / "secrets/storage-admin.json").read_text())
        secrets = {
            "client_secret": (self.state_dir / "secrets/iam-client-secret").read_text().strip(),
            "storage_admin_secret": storage["secret_key"],
            "crypt_key": (self.state_dir / "secrets/hub-crypt-key").read_text().strip(),
            "password": self.accounts[username]["password"],
        }
        if refresh_token := self._refresh_token(username):
            secrets["refresh_token"] = refresh_token
        return secrets

    def _refresh_token(self, username: str) -> str | None:
        """The user's refresh token, out of the hub's database, with the hub's key."""
        from cryptography.fernet import InvalidToken
        from jupyterhub.crypto import CryptKeeper

        database = f"file:{self.state_dir / 'hub/jupyterhub.sqlite'}?mode=ro"
        with contextlib.closing(sqlite3.connect(database, uri=True)) as connection:
            row = connection.execute(
                "SELECT encrypted_auth_state FROM users WHERE name = ?", (username,)
            ).fetchone()
        if not row or not row[0]:
            return None
        key = (self.state_dir / "secrets/hub-crypt-key").read_text().strip()
        keeper = CryptKeeper(keys=[bytes.fromhex(key)], n_threads=1)
        try:
            state = keeper._decrypt(row[0])
        except InvalidToken as error:
            raise AssertionError("the hub's key does not open its own auth state") from error
        return state["refresh_token"]

    def podman(self, *arguments: str) -> str:
        """Run the instance's own podman."""
        from taccuino.local import podman_command, podman_environment

        return subprocess.run(
            [*podman_command(self.settings), *arguments],
            env={**os.environ, **podman_environment(self.settings)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def leftovers(self, username: str) -> list[str]:
        """What is left of a user's stopped server: containers, networks, mounts."""
        name = slug(username)
        own = f"label=taccuino.instance={self.state_dir}"
        found = []
        for kind, command in (
            ("container", ("ps", "--all", "--format", "{{.Names}}")),
            ("network", ("network", "ls", "--format", "{{.Name}}")),
        ):
            names = self.podman(*command, "--filter", own).split()
            found += [f"{kind} {one}" for one in names if name in one]
        mounts = f"{self.settings.mount_plane.directory}/{name}/"
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split(" ")[4] for line in lines]
        return found + [f"mount {point}" for point in points if point.startswith(mounts)]

    @contextlib.contextmanager
    def listener(self) -> Iterator[int]:
        """A port of the host, open on all interfaces, that belongs to something else."""
        with socket.create_server(("", 0)) as server:
            yield server.getsockname()[1]


def free_port_block() -> int:
    """The first port of a block of free ones, which is this process's until it ends.

    Other runs of the tests on this machine leave it alone: a lock says whose it is.
    """
    for port in PORT_BLOCK:
        lock = Path(tempfile.gettempdir(), f"taccuino-ports-{port}.lock").open("w")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.ExitStack() as stack:
                for offset in range(10):
                    stack.enter_context(socket.create_server(("", port + offset)))
            # What was killed in the middle leaves its bridges, which are named after the port.
            if any(name.startswith(f"tc-{port}-") for _, name in socket.if_nameindex()):
                raise OSError(errno.EADDRINUSE, "bridges are left", str(port))  # noqa: TRY301
        except OSError:
            lock.close()
            continue
        _reserved.append(lock)
        return port
    raise AssertionError("no block of free ports was found")


@contextlib.contextmanager
def running_instance() -> Iterator[Instance]:
    """A new instance, taken down and deleted in the end.

    ``TACCUINO_TEST_INSTANCE`` names the state directory of one that runs already; it is left
    as it is.
    """
    if there := os.environ.get("TACCUINO_TEST_INSTANCE"):
        state_dir = Path(there).absolute()
        instance = Instance(state_dir, Settings.load(state_dir / "settings.json").port)
        if file := os.environ.get("TACCUINO_SETTINGS"):
            instance.settings_file = Path(file)
        assert instance.status["ready"], f"the instance in {there} is not ready"
        yield instance
        return
    with new_instance() as instance:
        yield instance


@contextlib.contextmanager
def new_instance(
    toml: str = "", prepare: Callable[[Path], None] = lambda _: None
) -> Iterator[Instance]:
    """An instance of one's own, with these settings, taken down and deleted in the end.

    ``prepare`` gets the state directory before anything is in it.
    """
    assert os.geteuid() == 0, "tests with the real services must be run by root"
    state_dir = Path(tempfile.mkdtemp(prefix="tc-", dir="/tmp"))
    file = state_dir.with_suffix(".toml")
    file.write_text(toml)
    instance = Instance(state_dir, free_port_block())
    instance.settings_file = file
    try:
        prepare(state_dir)
        # What is missing on this machine is named in the output of `up`.
        instance.run("up", timeout=900)
        yield instance
    finally:
        said = instance.run("down", "--purge", check=False)
        file.unlink()
        if state_dir.exists() and not any(state_dir.iterdir()):
            shutil.rmtree(state_dir)
        assert not state_dir.exists(), f"the instance was not taken down:\n{said}"
