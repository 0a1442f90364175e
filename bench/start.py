"""Click-to-ready: from the request for a server until the progress API says ready.

Beside plain JupyterHub with DockerSpawner and configurable-http-proxy: single starts, one of
each side after the other, so that the machine's noise falls on both; then many users at once.
Taccuino's side includes its storage, network and firewall; the baseline has none of these.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import docker
import psutil
import requests
from rich.console import Console
from rich.progress import track

from support.instance import Instance, running_instance
from support.people import make_people
from support.person import Person

from .burst import Burst, burst
from .containers import Usage, called, usage
from .plain_hub import PlainHub, plain_hub
from .pool import wait_for_the_pool
from .report import Bar, Report

OPTIONS = {"image": "base", "cpu": 1, "memory": "2G", "interface": "lab"}
ROUNDS = 30
COLD_ROUNDS = 7
CROWDS = (10, 50)
_STOPS_AT_ONCE = 6


@dataclass(frozen=True)
class Side:
    """One of the two hubs, and how its users start and stop their servers."""

    name: str
    hub: psutil.Process
    engine: docker.APIClient
    starts: Sequence[Callable[[], requests.Response | None]]
    stops: Sequence[Callable[[], None]]
    users: Sequence[str]

    def one(self, report: Report, kind: str = "") -> None:
        """Start the first user's server, note what it took, and stop it."""
        before = usage(self.engine)
        hub = sum(self.hub.cpu_times()[:2])
        began = time.monotonic()
        refused = self.starts[0]()
        seconds = time.monotonic() - began
        if refused is not None:
            raise AssertionError(f"{self.name}: {refused.status_code} {refused.text[:200]}")
        hub = sum(self.hub.cpu_times()[:2]) - hub
        after = usage(self.engine)
        mine = {one: after[one] for one in called(self.engine, self.users[0], patience=5)}
        # A container that was there before, by another name, has had its start by then.
        spent = sum((one - before.get(key, Usage())).cpu for key, one in mine.items())
        name = f"{self.name}{kind}"
        report.add(f"{name}: ready", seconds)
        report.add(f"{name}: CPU of the server", spent)
        report.add(f"{name}: CPU of the hub", hub)
        report.add(f"{name}: memory of the server", sum(one.pss for one in mine.values()), "MB")
        self.stops[0]()

    def crowd(self, number: int) -> Burst:
        """So many at once, and all of them stopped again."""
        try:
            return burst(self.starts[:number])
        finally:
            with ThreadPoolExecutor(_STOPS_AT_ONCE) as pool:
                list(pool.map(lambda stop: stop(), self.stops[:number]))


def run(rounds: int) -> Report:
    """Measure ``rounds`` single starts of each side, then the crowds."""
    report = Report("start")
    console = Console(stderr=True)
    console.print("Starting an instance of the service; minutes at the first time")
    with running_instance() as instance, TemporaryDirectory() as directory:
        cold = Path(directory) / "cold.toml"
        cold.write_text("[warm]\nservers = 0\n")
        socket = instance.settings.engine.socket
        engine = docker.APIClient(f"unix://{socket}", version="auto", timeout=300)
        network = engine.inspect_network("podman")
        gateway = network["IPAM"]["Config"][0]["Gateway"]
        ours = _own_side(instance, engine)
        with plain_hub(socket, instance.settings.images[0].reference, gateway) as plain:
            sides = (_plain_side(plain, engine), ours)
            instance.run("up", settings=cold)
            sides = (sides[0], replace(ours, hub=instance.service("hub")))
            for side in sides:  # both once unmeasured: caches, first use
                side.one(Report(""))
            for _ in track(range(min(rounds, COLD_ROUNDS)), description="cold starts"):
                for side, kind in zip(sides, ("", ", cold"), strict=True):
                    side.one(report, kind)
            instance.run("up")
            ours = replace(ours, hub=instance.service("hub"))
            sides = (sides[0], ours)
            wait_for_the_pool(instance, 2)
            ours.one(Report(""))
            for _ in track(range(rounds), description="warm starts"):
                for side in sides:
                    wait_for_the_pool(instance, 2)
                    side.one(report)
            wait_for_the_pool(instance, 2)
            there = usage(engine)
            for waiting in called(engine, "-warm-"):
                report.add("taccuino: memory of a warm server", there[waiting].pss, "MB")
            first = ours.crowd(max(CROWDS))
            report.add(f"taccuino: {max(CROWDS)} first starts at once, slowest", first.slowest)
            crowds = {}
            for number in CROWDS:
                for side in sides:
                    # As many came together just now: the pool was filled for so many.
                    wait_for_the_pool(instance, max(CROWDS))
                    console.print(f"{number} at once: {side.name}")
                    result = crowds[side.name, number] = side.crowd(number)
                    _note(report, side.name, number, result, console)
    _judge(report, crowds)
    return report


def _note(report: Report, side: str, number: int, result: Burst, console: Console) -> None:
    for seconds in result.seconds:
        report.add(f"{side}: {number} at once, ready", seconds)
    for failure in result.failures[:3]:
        console.print(f"  {failure[:200]}")
    console.print(
        f"  {len(result.seconds)} ready, {len(result.failures)} failed, "
        f"{result.refusals} answers 429"
    )


def _judge(report: Report, crowds: dict[tuple[str, int], Burst]) -> None:
    """The bars."""
    plain, median = "plain JupyterHub", report.median
    most = max(CROWDS)
    ours, theirs = crowds["taccuino", most], crowds[plain, most]
    # Where some of the baseline's failed, the slowest that was ready counts.
    slowest = ours.slowest / max(theirs.seconds, default=float("inf"))
    base, warm = median(f"{plain}: ready"), median("taccuino: ready")
    cpu = median("taccuino: CPU of the server") + median("taccuino: CPU of the hub")
    last = report.percentile("taccuino: ready", 0.99)
    idle = median("taccuino: memory of a warm server")
    report.bars += [
        Bar("start: warm median, s", warm, 0.25),
        Bar("start: warm 99th percentile, s", last, 0.75),
        Bar("start: warm median, of plain JupyterHub's", warm / base, 1 / 12),
        Bar(
            "start: cold median, of plain JupyterHub's",
            median("taccuino, cold: ready") / base,
            0.5,
        ),
        Bar("start: CPU of a warm start, hub and server, s", cpu, 0.25),
        Bar("start: memory of a server that waits, MB (PSS)", idle, 60),
        Bar(f"start: {most} at once, failures", len(ours.failures), 0),
        Bar(f"start: {most} at once, 429s", ours.refusals, 0),
        Bar(f"start: {most} at once, slowest, of plain JupyterHub's", slowest, 0.3),
    ]


def _own_side(instance: Instance, engine: docker.APIClient) -> Side:
    people = make_people(instance, max(CROWDS))

    def starter(person: Person) -> Callable[[], requests.Response | None]:
        def start() -> requests.Response | None:
            path = f"/users/{person.username}/server"
            answer = person.api("POST", path, json=OPTIONS)
            if answer.status_code not in (201, 202):
                return answer
            last = list(person.progress())[-1]
            assert last.get("ready"), last
            return None

        return start

    for person in people:
        person.stop()
    return Side(
        "taccuino",
        instance.service("hub"),
        engine,
        [starter(person) for person in people],
        [person.stop for person in people],
        [person.username for person in people],
    )


def _plain_side(plain: PlainHub, engine: docker.APIClient) -> Side:
    names = [f"plain{number:02d}" for number in range(max(CROWDS))]
    plain.api("POST", "/users", json={"usernames": names}).raise_for_status()

    def starter(name: str) -> Callable[[], requests.Response | None]:
        def start() -> requests.Response | None:
            answer = plain.api("POST", f"/users/{name}/server")
            if answer.status_code not in (201, 202):
                return answer
            answer = plain.api("GET", f"/users/{name}/server/progress", stream=True)
            last = list(_events(answer.iter_lines(chunk_size=1)))[-1]
            assert last.get("ready"), last
            return None

        return start

    def stopper(name: str) -> Callable[[], None]:
        def stop() -> None:
            plain.api("DELETE", f"/users/{name}/server")
            while plain.api("GET", f"/users/{name}").json()["servers"]:
                time.sleep(0.2)

        return stop

    return Side(
        "plain JupyterHub",
        plain.process,
        engine,
        [starter(name) for name in names],
        [stopper(name) for name in names],
        names,
    )


def _events(lines: Iterator[bytes]) -> Iterator[dict[str, object]]:
    for line in lines:
        if line.startswith(b"data:"):
            event = json.loads(line[5:])
            yield event
            if event.get("ready") or event.get("failed"):
                return
