"""Two hubs without an engine, each with its real proxy and database."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import requests

from taccuino import edge
from taccuino.errors import ServiceError
from taccuino.settings import Settings

from .plain_hub import free_port, proxy_program

_COMMON = """
import os, sys
sys.path.insert(0, os.environ["STORM_BENCH"])
c.JupyterHub.services = [{"name": "storm", "api_token": os.environ["STORM_TOKEN"]}]
c.JupyterHub.load_roles = [{
    "name": "storm", "services": ["storm"],
    "scopes": ["admin:users", "admin:servers", "servers", "tokens"],
}]
c.Authenticator.allow_all = True
"""
_PLAIN = f"""{_COMMON}
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "bench.storm_spawners.PlainStandIn"
c.JupyterHub.bind_url = "http://127.0.0.1:" + os.environ["STORM_PORT"]
c.JupyterHub.hub_port = int(os.environ["STORM_HUB_PORT"])
c.JupyterHub.db_url = "sqlite:///storm.sqlite"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:" + os.environ["STORM_PROXY_API_PORT"]
c.ConfigurableHTTPProxy.command = [os.environ["STORM_PROXY"]]
"""
_OWN = f"""{_COMMON}
from jupyterhub.auth import DummyAuthenticator
from taccuino.hub import configure
from taccuino.hub.handlers.server_requests import OffersFirst
from taccuino.settings import Settings

class StormAuthenticator(OffersFirst, DummyAuthenticator):
    pass

services, roles = c.JupyterHub.services, c.JupyterHub.load_roles
configure(c, Settings.load())
c.JupyterHub.services += services
c.JupyterHub.load_roles += roles
c.JupyterHub.authenticator_class = StormAuthenticator
c.JupyterHub.spawner_class = "bench.storm_spawners.OwnStandIn"
"""


@dataclass
class StormHub:
    """A hub that runs, as its clients reach it."""

    url: str
    token: str
    own_url: str
    """Where the hub itself listens, behind its proxy."""
    process: psutil.Process
    start_again: Callable[[], psutil.Process]
    proxy: psutil.Process | None = None
    """The proxy's, where the hub did not start it."""

    def restart(self) -> None:
        """Kill the hub and start it again; does not wait until it serves."""
        self.process.kill()
        self.process.wait(10)
        self.process = self.start_again()

    def make_users(self, names: list[str]) -> dict[str, str]:
        """Users without a server; a token of each one's own, as a login gives one."""
        with requests.Session() as session:
            session.headers["Authorization"] = f"token {self.token}"
            users = f"{self.url}/hub/api/users"
            answer = session.post(users, json={"usernames": names}, timeout=120)
            answer.raise_for_status()
            tokens = {}
            for name in names:
                answer = session.post(f"{users}/{name}/tokens", json={}, timeout=60)
                answer.raise_for_status()
                tokens[name] = answer.json()["token"]
            return tokens


@contextmanager
def plain(server: str) -> Iterator[StormHub]:
    """JupyterHub with its defaults and configurable-http-proxy."""
    port, hub_port = free_port(), free_port()
    environment = {
        "STORM_PORT": str(port),
        "STORM_HUB_PORT": str(hub_port),
        "STORM_PROXY_API_PORT": str(free_port()),
        "STORM_PROXY": str(proxy_program()),
    }
    with _directory() as directory:
        where = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{hub_port}")
        with _hub("jupyterhub", directory, _PLAIN, where, server, environment) as hub:
            yield hub


@contextmanager
def own(server: str) -> Iterator[StormHub]:
    """Taccuino's hub and edge."""
    with _directory() as directory, ExitStack() as stack:
        directory.chmod(0o711)
        settings = Settings.parse(
            {
                "state_dir": str(directory),
                "port": free_port(),
                "hub": {"port": free_port()},
                "iam": {"issuer": "http://127.0.0.1:1", "client_id": "storm"},
                "culling": {"enabled": False},
                "engine": {"firewall": False},
                # What a stand-in takes.
                "admission": {
                    "start_memory": "1K",
                    "start_processes": 1,
                    "memory_overcommit": 0,
                },
            }
        )
        file = directory / "settings.json"
        file.write_text(json.dumps(settings.model_dump(mode="json")))
        edge.prepare(settings)
        begin = partial(_begin, edge.edge_command(settings), directory, "edge", {})
        process = begin()
        stack.enter_context(_running(process))
        environment = {"TACCUINO_SETTINGS": str(file)}
        where = (f"http://127.0.0.1:{settings.port}", f"http://127.0.0.1:{settings.hub.port}")
        hub = stack.enter_context(
            _hub("taccuino.hub", directory, _OWN, where, server, environment)
        )
        hub.proxy = process
        yield hub


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="tc-storm-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def _hub(
    module: str,
    directory: Path,
    config: str,
    where: tuple[str, str],
    server: str,
    environment: dict[str, str],
) -> Iterator[StormHub]:
    (directory / "jupyterhub_config.py").write_text(config)
    token = secrets.token_hex(16)
    own_part = {
        "STORM_TOKEN": token,
        "STORM_SERVER": server,
        "STORM_BENCH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, "-m", module, "-f", "jupyterhub_config.py"]
    begin = partial(_begin, command, directory, "hub", environment | own_part)
    url, own_url = where
    hub = StormHub(url, token, own_url, begin(), begin)
    try:
        _wait(hub, directory / "hub.log")
        yield hub
    finally:
        _end(hub.process)


def _begin(
    command: list[str], directory: Path, name: str, environment: dict[str, str]
) -> psutil.Process:
    with (directory / f"{name}.log").open("ab") as log:
        return psutil.Popen(
            command, cwd=directory, env=os.environ | environment, stdout=log, stderr=log
        )


@contextmanager
def _running(process: psutil.Process) -> Iterator[None]:
    try:
        yield
    finally:
        _end(process)


def _end(process: psutil.Process) -> None:
    process.terminate()
    process.wait(60)


def _wait(hub: StormHub, log: Path) -> None:
    deadline = time.monotonic() + 60
    while hub.process.is_running() and time.monotonic() < deadline:
        try:
            # The proxy answers for a hub that is not there yet.
            if requests.get(f"{hub.url}/hub/api/", timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise ServiceError(f"a hub did not start:\n{log.read_text()[-3000:]}")
