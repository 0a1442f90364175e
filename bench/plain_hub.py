"""The baseline: plain JupyterHub, DockerSpawner and configurable-http-proxy, as documented.

It uses the instance's own engine. On the base image both sides start the same software; on that
image's environment the baseline starts the same JupyterLab without Taccuino's part.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from taccuino.errors import ServiceError

CONFIG = """
import os
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.JupyterHub.bind_url = "http://127.0.0.1:" + os.environ["BENCH_PORT"]
c.JupyterHub.hub_ip = "0.0.0.0"
c.JupyterHub.hub_port = int(os.environ["BENCH_HUB_PORT"])
# The bridge has its address only while a container runs: the proxy takes the loopback.
c.JupyterHub.hub_connect_ip = "127.0.0.1"
c.Spawner.hub_connect_url = f"http://{os.environ['BENCH_GATEWAY']}:{c.JupyterHub.hub_port}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:" + os.environ["BENCH_PROXY_API_PORT"]
c.ConfigurableHTTPProxy.command = [os.environ["BENCH_PROXY"]]
c.JupyterHub.db_url = "sqlite:///bench.sqlite"
c.DockerSpawner.image = os.environ["BENCH_IMAGE"]
c.DockerSpawner.pull_policy = "never"
c.DockerSpawner.use_internal_ip = True
c.DockerSpawner.network_name = "podman"
c.DockerSpawner.remove = True
c.DockerSpawner.prefix = "plain" + os.environ["BENCH_PORT"]
c.DockerSpawner.cmd = ["/opt/taccuino/bin/jupyterhub-singleuser"]
c.DockerSpawner.notebook_dir = "/workarea"
c.DockerSpawner.extra_create_kwargs = {"entrypoint": ["tini", "--"], "user": "1000:1000"}
c.DockerSpawner.mem_limit = "2G"
c.DockerSpawner.cpu_limit = 1
c.JupyterHub.services = [{"name": "bench", "api_token": os.environ["BENCH_TOKEN"]}]
c.JupyterHub.load_roles = [{
    "name": "bench",
    "services": ["bench"],
    "scopes": ["admin:users", "admin:servers", "servers"],
}]
"""


@dataclass
class PlainHub:
    """A running baseline."""

    url: str
    token: str
    process: psutil.Process

    def api(self, method: str, path: str, **kwargs: object) -> requests.Response:
        """Call its REST API."""
        return requests.request(
            method,
            f"{self.url}/hub/api{path}",
            headers={"Authorization": f"token {self.token}"},
            timeout=600,
            **kwargs,  # type: ignore[arg-type]
        )


@contextmanager
def plain_hub(engine: Path, image: str, gateway: str) -> Iterator[PlainHub]:
    """Start the baseline over the engine at that socket; stop it at the end."""
    directory = Path(tempfile.mkdtemp(prefix="tc-plain-", dir="/tmp"))
    (directory / "jupyterhub_config.py").write_text(CONFIG)
    port, token = free_port(), secrets.token_hex(16)
    environment = os.environ | {
        "BENCH_PORT": str(port),
        "BENCH_HUB_PORT": str(free_port()),
        "BENCH_PROXY_API_PORT": str(free_port()),
        "BENCH_PROXY": str(proxy_program()),
        "BENCH_GATEWAY": gateway,
        "BENCH_IMAGE": image,
        "BENCH_TOKEN": token,
        "DOCKER_HOST": f"unix://{engine}",
    }
    log = directory / "hub.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", "jupyterhub_config.py"],
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    hub = PlainHub(f"http://127.0.0.1:{port}", token, psutil.Process(process.pid))
    try:
        _wait(hub, process, log)
        yield hub
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(directory)


def _wait(hub: PlainHub, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if requests.get(f"{hub.url}/hub/health", timeout=2).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.1)
    raise ServiceError(f"the baseline hub did not start:\n{log.read_text()[-3000:]}")


def proxy_program() -> Path:
    """configurable-http-proxy's program, installed once into the cache."""
    cache = Path(os.environ.get("TACCUINO_CACHE", "/var/cache/taccuino")) / "bench"
    program = cache / "node_modules/.bin/configurable-http-proxy"
    if not program.exists():
        if not shutil.which("npm"):
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            command = ["apt-get", "install", "-y", "--no-install-recommends", "nodejs", "npm"]
            subprocess.run(command, check=True, env=environment)
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(cache), "configurable-http-proxy@5"]
        subprocess.run(command, check=True)
    return program


def free_port() -> int:
    """A port of the loopback interface that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
