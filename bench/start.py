"""Click-to-ready: from the request for a server until the progress API says ready.

Each round starts a server of plain JupyterHub and one of Taccuino, one after the other, so that
the machine's noise falls on both. Taccuino's side includes its storage, network and firewall;
the baseline has none of these.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import psutil
from rich.console import Console
from rich.progress import track

from support.instance import running_instance
from support.person import Person

from .plain_hub import PlainHub, plain_hub
from .report import Bar, Report

OPTIONS = {"image": "base", "cpu": 1, "memory": "2G", "interface": "lab"}
ROUNDS = 7
LIMIT = 0.7
"""Of the baseline's median."""


def run(rounds: int) -> Report:
    """Measure ``rounds`` starts of each side."""
    report = Report("start")
    Console(stderr=True).print("Starting an instance of the service; minutes at the first time")
    with running_instance() as instance:
        account = next(a for a in instance.status["accounts"] if not a["admin"])
        person = Person(instance.url, account["username"], account["password"])
        person.stop()
        engine = docker.DockerClient(f"unix://{instance.settings.engine.socket}")
        gateway = engine.networks.get("podman").attrs["IPAM"]["Config"][0]["Gateway"]
        hub = next(s for s in instance.status["services"] if s["name"] == "hub")
        process = psutil.Process(hub["pid"])
        reference = instance.settings.images[0].reference
        with plain_hub(instance.settings.engine.socket, reference, gateway) as plain:
            _plain_start(plain, engine)  # both sides once unmeasured: caches, first use
            _own_start(person, engine, process)
            for _ in track(range(rounds), description="starting servers"):
                for side, seconds, cpu in (
                    ("plain JupyterHub", *_plain_start(plain, engine)),
                    ("taccuino", *_own_start(person, engine, process)),
                ):
                    report.rows.setdefault(f"{side}: ready", []).append(seconds)
                    report.rows.setdefault(f"{side}: CPU", []).append(cpu)
    ratio = report.median("taccuino: ready") / report.median("plain JupyterHub: ready")
    report.bars.append(Bar("start: median, of plain JupyterHub's", ratio, LIMIT))
    return report


def _plain_start(plain: PlainHub, engine: docker.DockerClient) -> tuple[float, float]:
    def start() -> None:
        plain.api("POST", "/users/plain/server").raise_for_status()
        answer = plain.api("GET", "/users/plain/server/progress", stream=True)
        if not any(event.get("ready") for event in _events(answer.iter_lines(chunk_size=1))):
            raise AssertionError("the baseline's server did not become ready")

    def stop() -> None:
        plain.api("DELETE", "/users/plain/server")
        while plain.api("GET", "/users/plain").json()["servers"]:
            time.sleep(0.2)

    return _measure(start, stop, plain.process, engine, "plain")


def _own_start(
    person: Person, engine: docker.DockerClient, process: psutil.Process
) -> tuple[float, float]:
    def start() -> None:
        events = person.start(**OPTIONS)
        if not events[-1].get("ready"):
            raise AssertionError(f"the server did not become ready: {events[-1]}")

    return _measure(start, person.stop, process, engine, person.username)


def _measure(
    start: Callable[[], None],
    stop: Callable[[], None],
    hub: psutil.Process,
    engine: docker.DockerClient,
    username: str,
) -> tuple[float, float]:
    """Seconds until ready, and the hub's and the container's CPU seconds."""
    before = sum(hub.cpu_times()[:2])
    clock = time.monotonic()
    start()
    seconds = time.monotonic() - clock
    cpu = sum(hub.cpu_times()[:2]) - before
    for container in engine.containers.list():
        if username in container.name:
            cpu += _cpu_seconds(container.attrs["State"]["Pid"])
    stop()
    return seconds, cpu


def _cpu_seconds(pid: int) -> float:
    """CPU of the container that holds this process, by its cgroup (version 1 or 2)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):
            usage = Path("/sys/fs/cgroup/cpuacct") / path.lstrip("/") / "cpuacct.usage"
            return int(usage.read_text()) / 1e9
    stat = Path("/sys/fs/cgroup") / path.lstrip("/") / "cpu.stat"
    return int(stat.read_text().split("usage_usec ")[1].split()[0]) / 1e6


def _events(lines: Iterator[bytes]) -> Iterator[dict[str, object]]:
    for line in lines:
        if line.startswith(b"data:"):
            event = json.loads(line[5:])
            yield event
            if event.get("ready") or event.get("failed"):
                return
