"""A real hub with `configure()`, its neighbours replaced by stand-ins."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

HERE = Path(__file__).parent
ADMIN_TOKEN = "0123456789abcdef0123456789abcdef"

CONFIG = """
import asyncio, sys
sys.path.insert(0, {here!r})
from hub_stand_ins import MemoryProxy, StandInSpawner
from taccuino.hub import configure
from taccuino.settings import Settings
from jupyterhub.auth import DummyAuthenticator
from taccuino.hub.handlers.server_requests import OffersFirst

class TrialAuthenticator(OffersFirst, DummyAuthenticator):
    refresh_pre_spawn = True

    async def refresh_user(self, user, handler=None, **more):
        await asyncio.sleep(0.05)  # as long as an IAM takes
        return True


configure(c, Settings.load())
c.JupyterHub.proxy_class = MemoryProxy
c.JupyterHub.authenticator_class = TrialAuthenticator
c.Authenticator.allow_all = True
c.Authenticator.any_allow_config = True
c.JupyterHub.spawner_class = StandInSpawner
c.JupyterHub.load_groups = {{"gpu": {{"users": ["grace"]}}}}
c.JupyterHub.services.append({{"name": "tests", "api_token": {token!r}}})
c.JupyterHub.load_roles.append(
    {{"name": "tests", "services": ["tests"],
     "scopes": ["admin:users", "admin:servers", "admin:server_state", "tokens"]}}
)
c.JupyterHub.tornado_settings.update({tornado!r})
"""


class Hub:
    """A hub that runs, and those who ask it."""

    def __init__(
        self, directory: Path, culling: dict, admission: dict, tornado: dict, more: dict
    ) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hub"
        settings = {
            "state_dir": str(directory / "state"),
            "hub": {"port": self.port, "announcement": "Maintenance <on> Friday"},
            "iam": {"issuer": "http://127.0.0.1:1", "client_id": "taccuino"},
            "images": [
                {"name": "base", "reference": "local/base", "title": "Base", "default": True},
                {"name": "gpu", "reference": "local/gpu", "groups": ["/gpu"]},
            ],
            "culling": culling,
            "admission": admission,
            **more,
        }
        (directory / "settings.json").write_text(json.dumps(settings))
        config = CONFIG.format(here=str(HERE), token=ADMIN_TOKEN, tornado=tornado)
        (directory / "jupyterhub_config.py").write_text(config)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "TACCUINO_SETTINGS": str(self.directory / "settings.json"),
            "JUPYTERHUB_ACTIVITY_INTERVAL": "1",
        }
        with (self.directory / "hub.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "taccuino.hub", "-f", "jupyterhub_config.py"],
                cwd=self.directory,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self.answers, 40, self.log)

    def stop(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)  # JupyterHub gives each of its services 20 s to end

    def answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log()
        try:
            return requests.get(f"{self.url}/health", timeout=2).ok
        except requests.ConnectionError:
            return False

    def log(self) -> str:
        return (self.directory / "hub.log").read_text()

    def api(self, method: str, path: str, token: str = ADMIN_TOKEN, **how) -> requests.Response:
        headers = {"Authorization": f"token {token}"}
        return requests.request(
            method, f"{self.url}/api{path}", headers=headers, timeout=30, **how
        )

    def browser(self, name: str) -> requests.Session:
        """A session of a user who has logged in."""
        session = requests.Session()
        session.get(f"{self.url}/login", timeout=10).raise_for_status()
        form = {"username": name, "password": "-", "_xsrf": session.cookies["_xsrf"]}
        session.post(
            f"{self.url}/login", data=form, timeout=10, allow_redirects=False
        ).raise_for_status()
        return session

    def notebook_says(self, **answers) -> None:
        """What the stand-in servers answer from now on, by path below ``/api``."""
        (self.directory / "stand-in.json").write_text(json.dumps(answers))

    def run_server(self, user: str, **options) -> None:
        """Start a user's server and wait until it is ready."""
        self.api("POST", f"/users/{user}")
        answer = self.api("POST", f"/users/{user}/server", json=options)
        assert answer.status_code in {201, 202}, answer.text
        wait_until(lambda: (self.server(user) or {}).get("ready"), 30, self.log)

    def stop_server(self, user: str) -> None:
        self.api("DELETE", f"/users/{user}/server").raise_for_status()
        wait_until(lambda: self.server(user) is None, 20, self.log)

    def server(self, user: str) -> dict | None:
        return self.api("GET", f"/users/{user}").json()["servers"].get("")


def wait_until(condition, seconds: float, otherwise=lambda: "it did not happen") -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.1)


def run_hub(culling: dict, admission: dict | None = None, tornado: dict | None = None, **more):
    """A hub; ``tornado`` are settings of tornado's, ``more`` are Taccuino's."""
    directory = Path(tempfile.mkdtemp(prefix="tc-hub-", dir="/tmp"))
    # A start is answered at once, as in the service.
    hub = Hub(
        directory, culling, admission or {}, {"slow_spawn_timeout": 0} | (tornado or {}), more
    )
    try:
        hub.start()
        yield hub
    finally:
        if hub.process and hub.process.poll() is None:
            hub.stop()
        for pid in directory.glob("*.pid"):  # the stand-in servers outlive their hub
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)
        shutil.rmtree(directory)
