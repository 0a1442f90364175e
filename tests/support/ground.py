"""A running service on which things are broken while somebody saves files: what was kept?"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from support import writer
from support.instance import Instance
from taccuino.naming import slug
from taccuino.storage.clients import StorageClients, s3_client
from taccuino.storage.mount_client import MountPlaneClient, MountPlaneError, MountStatus
from taccuino.storage.names import bucket_name

__all__ = ["Ground", "Outcome", "until"]


def until(
    condition: Callable[[], Any], limit: float, otherwise: Callable[[], object] = lambda: ""
) -> Any:
    """Wait until a condition holds; its value."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {limit:g} s: {otherwise()}"
        time.sleep(0.1)
    return value


@dataclass
class Outcome:
    """What one fault did to the files that were saved meanwhile."""

    fault: str
    seed: int
    saved: int = 0
    megabytes: float = 0.0
    refused: int = 0
    """Steps that the system refused: the program was told."""
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """From the end of the fault until everything was in the bucket."""


@dataclass
class Ledger:
    """What a writer noted: the content that must be there, by name."""

    saved: dict[str, str] = field(default_factory=dict)
    uncertain: dict[str, set[str]] = field(default_factory=dict)
    """Names with a step that did not end: which contents are right (none: any)."""
    ways: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    bytes: int = 0
    done: int = 0
    refused: int = 0

    @classmethod
    def read(cls, text: str) -> Ledger:
        """The ledger; its last line may be torn."""
        ledger = cls()
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            name, step = entry.get("name", ""), entry["step"]
            if step == "begin":
                earlier = {ledger.saved[name]} if name in ledger.saved else set()
                right = {entry["sha256"], *earlier} if entry["atomic"] and earlier else set()
                ledger.uncertain[name] = right
            elif step == "done":
                ledger.ways[name] = entry["way"]
                ledger.done += 1
                ledger.bytes += entry["size"]
                ledger.saved[name] = entry["sha256"]
                ledger.uncertain.pop(name, None)
            elif step == "failed":
                ledger.refused += 1
            elif step == "wrong":
                ledger.wrong.append(f"{name} (by {ledger.ways[name]}) read back wrong")
        return ledger


class Ground:
    """One person's server, a program that saves files in it, and ways to break what is below.

    Parameters
    ----------
    seed
        Decides what is written, and when the fault comes.
    """

    def __init__(self, instance: Instance, username: str, seed: int) -> None:
        self.instance = instance
        self.person = instance.person(username)
        self.chance = random.Random(seed)
        self.seed = seed
        self.name = f"run-{seed}"
        self.settings = instance.settings
        self._commands: list[subprocess.Popen[bytes]] = []
        self.bucket = bucket_name(self.settings, username)

    def admin(self, service: str) -> Any:
        """A client of the object storage with the administrator's keys: ``s3`` or ``iam``."""
        return getattr(StorageClients(self.settings), service)()

    def users_s3(self) -> Any:
        """A client with the user's own credentials: objects are theirs, not the bucket owner's."""
        token = (self.instance.state_dir / "secrets/mount-plane-token").read_text().strip()
        answer = requests.get(
            f"{self.instance.url}/hub/api/taccuino/credentials/{self.person.username}",
            headers={"Authorization": f"token {token}"},
            timeout=30,
        )
        answer.raise_for_status()
        keys = answer.json()
        return s3_client(
            self.settings, keys["AccessKeyId"], keys["SecretAccessKey"], keys["Token"]
        )

    # -- the person's work

    @property
    def slug(self) -> str:
        return slug(self.person.username)

    @property
    def container(self) -> str:
        """The name of the person's container, which runs and is about to be called so."""
        own = f"label=taccuino.instance={self.instance.state_dir}"
        command = ("ps", "--format", "{{.Names}}", "--filter", own)
        return until(
            lambda: next(
                (name for name in self.instance.podman(*command).split() if self.slug in name),
                "",
            ),
            20,
            lambda: f"no container is called after {self.slug}",
        )

    def start_server(self) -> None:
        """Return when a program in the container can work in the object storage."""
        events = self.person.start()
        assert events[-1].get("ready"), events
        self.contents(f"cloud_storage/{self.person.username}")  # waits for the mount

    def write(self, seconds: float, pause: float = 0.02) -> subprocess.Popen[bytes]:
        """Let a program in the container save files for as long."""
        program = Path(writer.__file__).read_text(encoding="utf-8")
        folder = f"/workarea/cloud_storage/{self.person.username}/{self.name}"
        process = self.execute(
            *("python3", "-c", program, folder, f"/workarea/local/{self.name}.jsonl"),
            *(str(self.seed), str(seconds), str(pause)),
        )
        until(lambda: self.ledger().done > 3, 20, lambda: self._error(process))
        return process

    def execute(self, *words: str) -> subprocess.Popen[bytes]:
        """Begin a command in the container, as its user."""
        from taccuino.local import podman_command, podman_environment

        process = subprocess.Popen(
            [*podman_command(self.settings), "exec", "--user", "1000", self.container, *words],
            env={**os.environ, **podman_environment(self.settings)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._commands.append(process)
        return process

    def contents(self, path: str) -> int:
        """How many entries the Files view shows there."""
        answer = self.person.api("GET", f"/user/{self.person.username}/api/contents/{path}")
        answer.raise_for_status()
        return len(answer.json()["content"])

    def _error(self, process: subprocess.Popen[bytes]) -> str:
        if process.poll() is None or process.stderr is None:
            return "the program saves nothing"
        return process.stderr.read().decode()

    def ledger(self) -> Ledger:
        """What the program noted, read from the workarea on this machine."""
        directory = self.settings.mount_plane.directory
        assert directory is not None
        path = directory / self.slug / "workarea/local" / f"{self.name}.jsonl"
        try:
            return Ledger.read(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Ledger()

    def some_time(self, least: float = 0.3, most: float = 4.0) -> None:
        """Let the program work for a time that chance decides."""
        time.sleep(self.chance.uniform(least, most))

    # -- what is broken

    @property
    def rclone(self) -> psutil.Process:
        """The process behind the person's mounts."""
        record = self.instance.state_dir / f"mount-plane/users/{self.slug}/record.json"
        return psutil.Process(json.loads(record.read_text())["rclone"]["pid"])

    def kill_rclone(self) -> None:
        self.rclone.kill()

    def kill_relay(self) -> None:
        """Kill what leads every rclone of the node to the object storage."""
        relay = str(self.instance.state_dir / "mount-plane/relay/haproxy.cfg")
        own = [
            p for p in psutil.process_iter(["cmdline"]) if relay in (p.info["cmdline"] or ())
        ]
        assert own, "no relay runs"
        for process in own:
            process.kill()

    def kill_container(self) -> None:
        self.instance.podman("kill", "--signal", "KILL", self.container)

    def kill_machine(self) -> None:
        """Kill every process of the instance at once: all that a power cut takes but the kernel.

        Processes are found by the state directory in their command lines or environments; the
        containers' by their cgroup's parent, conmon.
        """
        own = [p for p in psutil.process_iter() if self._belongs(p)]
        everybody = {child for p in own for child in [p, *_children(p)]}
        everybody.discard(psutil.Process())
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(list(everybody), timeout=10)

    def _belongs(self, process: psutil.Process) -> bool:
        state = str(self.instance.state_dir)
        if process.pid == os.getpid():
            return False
        try:
            return state in " ".join(process.cmdline())
        except psutil.Error:
            return False

    # -- what was kept

    def status(self) -> MountStatus:
        return asyncio.run(MountPlaneClient(self.settings).status(self.slug))

    def pending(self) -> int | None:
        """How many files wait for their upload; None if the mount plane can't say."""
        try:
            return self.status().uploads_pending
        except MountPlaneError:
            return None

    def objects(self) -> dict[str, str]:
        """Name and SHA-256 of each of the run's objects in the bucket."""
        prefix, s3 = f"{self.name}/", self.users_s3()
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        found = {}
        for key in keys:
            body = s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            found[key.removeprefix(prefix)] = hashlib.sha256(body).hexdigest()
        return found

    def outcome(self, fault: str, ledger: Ledger, limit: float) -> Outcome:
        """Wait until all that was saved is in the bucket, and compare every byte.

        What is not there after ``limit`` seconds is lost.
        """
        began = time.monotonic()
        while True:
            waiting = self.pending()
            lost = self._lost(ledger) if not waiting or _is_over(began, limit) else ["?"]
            if (not waiting and not lost) or _is_over(began, limit):
                break
            time.sleep(0.5)
        if lost and waiting:
            lost.append(f"{waiting} files still wait for their upload")
        return Outcome(
            fault=fault,
            seed=self.seed,
            saved=ledger.done,
            megabytes=ledger.bytes / 1e6,
            refused=ledger.refused,
            lost=[*lost, *ledger.wrong],
            seconds=time.monotonic() - began,
        )

    def _lost(self, ledger: Ledger) -> list[str]:
        found = self.objects()
        lost = []
        for name, digest in ledger.saved.items():
            right = ledger.uncertain.get(name, {digest})
            if right and found.get(name) not in right:
                what = "another" if name in found else "missing"
                lost.append(f"{name} (by {ledger.ways[name]}) is {what}")
        return lost

    def close(self) -> None:
        """End what was started."""
        for process in self._commands:
            process.kill()
            process.wait()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_over(began: float, limit: float) -> bool:
    return time.monotonic() - began > limit
