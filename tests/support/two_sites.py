"""Two real sites in network namespaces of their own, and ways to break one of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import requests

from taccuino.edge.routemap import parse_map
from taccuino.local.namespaces import SiteNetwork
from taccuino.storage.clients import s3_client
from taccuino.storage.mount_client import MountPlaneClient

from .instance import Instance, new_instance
from .reliability import EVERY

SITES = ("bari", "cnaf")
_DISK = "8G"
_SETTINGS = """
[local]
sites = ["bari", "cnaf"]
namespaces = true
[sites]
stale_seconds = 3
[storage]
keep_versions_days = 1
"""


class Site(Instance):
    """One of the sites: an instance of its own."""

    def __init__(self, shared: Instance, name: str) -> None:
        super().__init__(shared.state_dir / "sites" / name, shared.settings.port)
        self.name = name
        self.index = SITES.index(name)
        self.network = SiteNetwork(shared.settings.port)
        self.settings_file = shared.state_dir / "sites" / f"{name}.json"

    def serves(self, username: str) -> bool:
        """Whether the edge has a route to a server of the user."""
        routes = (self.state_dir / "edge/routes.map").read_text(encoding="utf-8")
        return f"/user/{username}/" in parse_map(routes)[0]

    def uploads(self) -> int:
        """How many files wait for their upload, or are uploaded now."""
        mounts = asyncio.run(MountPlaneClient(self.settings).list())
        return sum(mount.uploads_pending for mount in mounts)

    def up(self) -> None:
        """Bring the site up again, in its namespace."""
        command = [*self.network.enter(self.index), sys.executable, "-m", "taccuino.cli", "up"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TACCUINO_")}
        done = subprocess.run(
            command,
            env=environment | {"TACCUINO_SETTINGS": str(self.settings_file)},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def processes(self) -> list[psutil.Process]:
        """All processes of the site, its containers' too."""
        state = str(self.state_dir)
        found: set[psutil.Process] = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(state in word for word in process.cmdline()):
                    found |= {process, *process.children(recursive=True)}
        found.discard(psutil.Process())
        return list(found)

    def kill_everything(self) -> None:
        """Kill every process of the site, at once: none sees another's end."""
        stopped: set[psutil.Process] = set()
        while new := set(self.processes()) - stopped:  # what was being started meanwhile, too
            for process in new:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGSTOP)
            stopped |= new
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(list(stopped), timeout=10)

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """The site's link is down: nobody reaches it, and it reaches nothing."""
        link = self.network.link(self.index)
        subprocess.run(["ip", "link", "set", link, "down"], check=True)
        try:
            yield
        finally:
            subprocess.run(["ip", "link", "set", link, "up"], check=True)

    @contextlib.contextmanager
    def cut_from_peer(self) -> Iterator[None]:
        """Only the way to the other site is cut: clients and what is shared reach both."""
        enter = self.network.enter(self.index)
        peer = self.network.address(1 - self.index)
        rules = f"""
table inet partition {{
    chain input {{
        type filter hook input priority 0
        ip saddr {peer} drop
    }}
    chain output {{
        type filter hook output priority 0
        ip daddr {peer} drop
    }}
}}
"""
        subprocess.run([*enter, "nft", "-f", "-"], input=rules, text=True, check=True)
        try:
            yield
        finally:
            subprocess.run([*enter, "nft", "delete table inet partition"], check=True)

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Nothing more can be written to the disk of the site's state directory."""
        assert self.state_dir.is_mount(), "the site has no disk of its own"
        filler = self.state_dir / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler).free - 2**22)
                file.seek(0, os.SEEK_END)
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(2**12))
            yield
        finally:
            filler.unlink()

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        """All its processes are killed, and brought up again."""
        self.kill_everything()
        try:
            yield
        finally:
            self.up()

    @contextlib.contextmanager
    def killed(self, service: str) -> Iterator[None]:
        """A service is killed; the supervisor starts it again."""
        self.kill(service)
        yield


@contextlib.contextmanager
def two_sites() -> Iterator[tuple[Instance, dict[str, Site]]]:
    """Two sites with what they share; ``TACCUINO_TEST_SITES`` names those that run already."""
    if there := os.environ.get("TACCUINO_TEST_SITES"):
        import json

        port = json.loads(Path(there, "settings.json").read_text())["port"]
        shared = Instance(Path(there), port)
        yield shared, {name: Site(shared, name) for name in SITES}
        return
    with new_instance(_SETTINGS, _disks if EVERY else lambda _: None) as shared:
        yield shared, {name: Site(shared, name) for name in SITES}


def _disks(state_dir: Path) -> None:
    """Give each site a disk of its own, small enough to be filled; it goes when unmounted."""
    for name in SITES:
        image, place = state_dir.with_suffix(f".{name}"), state_dir / "sites" / name
        place.mkdir(parents=True)
        subprocess.run(["truncate", "--size", _DISK, image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        image.unlink()


def wait_for_sites(shared: Instance, limit: float = 90) -> None:
    """Wait until both sites are ready and know each other."""
    deadline = time.monotonic() + limit
    while True:
        status = shared.status
        if all(site["ready"] for site in status["sites"]):
            return
        assert time.monotonic() < deadline, status["sites"]
        time.sleep(0.5)


def users_s3(sites: dict[str, Site], username: str) -> Any:
    """A client with the user's own credentials, by whichever site has a login of theirs."""
    said = []
    for site in sites.values():
        token = (site.state_dir / "secrets/mount-plane-token").read_text().strip()
        answer = requests.get(
            f"{site.settings.edge_url}/hub/api/taccuino/credentials/{username}",
            headers={"Authorization": f"token {token}"},
            timeout=30,
        )
        if answer.status_code == 200:
            keys = answer.json()
            return s3_client(
                site.settings, keys["AccessKeyId"], keys["SecretAccessKey"], keys["Token"]
            )
        said.append(answer.text)
    raise AssertionError(said)
