"""A real JupyterHub with the real authenticator, against the provider of the unit tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).parents[2] / "unit/iam"))

from provider import CLIENT_ID, CLIENT_SECRET, Provider

from taccuino.settings import Settings

CONFIG = """
import os, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from dummy_parts import CredentialsOfTests, ServerOfTests
from taccuino.hub.handlers.tokens import (
    SCOPES, SERVER_TOKEN_SCOPES, USER_ROLE, mount_plane_role, token_handlers)
from taccuino.iam import configure
from taccuino.settings import Settings

c = get_config()
settings = Settings.load(Path({settings!r}))
configure(c, settings)
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite:///{state}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{state}/cookie-secret"
c.JupyterHub.proxy_class = "dummy_parts.NoProxy"
c.JupyterHub.bind_url = "http://127.0.0.1:{hub_port}"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.redirect_to_server = False
c.JupyterHub.template_paths = [{here!r} + "/templates"]
c.JupyterHub.spawner_class = ServerOfTests
c.JupyterHub.custom_scopes = SCOPES
c.JupyterHub.load_roles = [USER_ROLE, mount_plane_role()]
c.JupyterHub.services = [
    {{"name": "mount-plane", "api_token": "mount-plane-token-of-tests"}},
    {{"name": "other", "api_token": "other-token-of-tests"}},
]
c.Spawner.server_token_scopes = SERVER_TOKEN_SCOPES
c.JupyterHub.extra_handlers = token_handlers
c.JupyterHub.tornado_settings = {{"taccuino_credentials": CredentialsOfTests()}}
{extra}
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class Hub:
    """One hub process; the tests talk to it without a proxy."""

    state: Path
    provider: Provider
    iam: dict[str, Any] = field(default_factory=dict)
    extra: str = ""

    def __post_init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (self.state / "client-secret").write_text(CLIENT_SECRET)
        self.settings = Settings.parse(
            {
                "state_dir": str(self.state),
                "host": "127.0.0.1",
                "port": self.port,
                "iam": {
                    "issuer": self.provider.issuer,
                    "client_id": CLIENT_ID,
                    "client_secret_file": str(self.state / "client-secret"),
                    "display_name": "Test Institute",
                    **self.iam,
                },
            }
        )
        self.settings.save(self.state / "settings.json")
        config = CONFIG.format(
            here=str(Path(__file__).parent),
            settings=str(self.state / "settings.json"),
            state=self.state,
            hub_port=self.port,
            extra=self.extra,
        )
        (self.state / "jupyterhub_config.py").write_text(config)

    def start(self) -> None:
        self.log = (self.state / "hub.log").open("ab")
        environment = {k: v for k, v in os.environ.items() if k != "JUPYTERHUB_CRYPT_KEY"}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterhub",
                "-f",
                str(self.state / "jupyterhub_config.py"),
            ],
            cwd=self.state,
            env=environment,
            stdout=self.log,
            stderr=self.log,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.read_log()
            try:
                if requests.get(f"{self.url}/hub/health", timeout=2).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.1)
        raise AssertionError(self.read_log())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()

    def read_log(self) -> str:
        return (self.state / "hub.log").read_text(errors="replace")

    def browser(self) -> Browser:
        return Browser(self)


class Browser(requests.Session):
    """A person's browser: cookies, redirects, and JupyterHub's XSRF token."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self.hub = hub

    def page(self, path: str, **options: Any) -> requests.Response:
        return self.get(f"{self.hub.url}{path}", timeout=30, **options)

    def log_in(self, user: str, next_page: str = "/hub/home") -> requests.Response:
        self.hub.provider.login_as = user
        return self.page(f"/hub/oauth_login?next={next_page}")

    def api(self, method: str, path: str, **options: Any) -> requests.Response:
        xsrf = next((c.value for c in self.cookies if c.name == "_xsrf"), "")
        return self.request(
            method,
            f"{self.hub.url}/hub/api{path}",
            headers={"X-XSRFToken": xsrf},
            timeout=30,
            **options,
        )


def a_hub(provider: Provider, extra: str = "", **iam: Any) -> Iterator[Hub]:
    state = Path(tempfile.mkdtemp(prefix="tc-iam-", dir="/tmp"))
    hub = Hub(state, provider, iam, extra)
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()
        shutil.rmtree(state)


def wait_for(condition: Callable[[], Any], limit: float = 20) -> Any:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")
