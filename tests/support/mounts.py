"""A mount plane of a test's own: the real daemon over a small real S3 server.

The store is ``rclone serve s3`` (a real S3 server over a directory), and the hub is one
handler that hands out credentials; so a test can take either away and bring it back.
"""

from __future__ import annotations

import asyncio
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
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from taccuino.settings import Settings
from taccuino.storage.mount_client import (
    MountPlaneClient,
    MountPlaneError,
    MountRequest,
    MountStatus,
)
from taccuino.storage.mount_plane.configuration import rclone_binary
from taccuino.storage.mount_plane.kernel import MountTable, unmount
from taccuino.storage.mount_plane.limits import ProcessGroup
from taccuino.storage.snapshots import SnapshotClient

UID = 3_001_000
TOKEN = "token-of-the-mount-plane"
ACCESS, SECRET = "ACCESSKEYOFTESTS", "SECRETKEYOFTESTS"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def eventually(
    condition: Callable[[], Any], limit: float = 20.0, what: str = "it"
) -> Any:
    """Wait until a condition (plain or async) holds; its value."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {limit:g} s")
        await asyncio.sleep(0.1)


class Store:
    """An S3 server over a directory: an object is a file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        for bucket in ("alice-bucket", "scratch"):
            (self.directory / bucket).mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [
                rclone_binary(),
                *("serve", "s3", str(self.directory), "--addr", f"127.0.0.1:{self.port}"),
                *("--auth-key", f"{ACCESS},{SECRET}", "--config", "/dev/null"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def start(self) -> None:
        self.spawn()

        def listens() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", self.port)) == 0

        await eventually(listens, what="the store")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


class MountRig:
    """A state directory, a store, a hub and the daemon, each of which can be killed."""

    def __init__(
        self,
        root: Path,
        endpoint: str | None = None,
        site: str = "local",
        snapshots: dict[str, Any] | None = None,
        **plane: Any,
    ) -> None:
        self.root = root
        self.store = Store(root / "store")
        self.credentials: Callable[[str], Awaitable[dict[str, Any]]] = _fixed_credentials
        self.hub_port = free_port()
        self.refusal: str | None = None
        self.asked: list[str] = []
        self.settings = Settings.parse(
            {
                "state_dir": str(root / "state"),
                "site": site,
                "storage": {"endpoint": endpoint or f"http://127.0.0.1:{self.store.port}"},
                "mount_plane": {"ready_timeout": 8.0, "drain_timeout": 10.0, **plane},
                "snapshots": snapshots or {},
                "hub": {"port": self.hub_port},
            }
        )
        self.client = MountPlaneClient(self.settings)
        self.snapshots = SnapshotClient(self.settings, self.client)
        self.request = MountRequest(
            username="alice",
            slug="alice",
            uid=UID,
            gid=UID,
            bucket="alice-bucket",
            scratch_bucket="scratch",
            workarea_quota="64M",
        )
        self._hub: web.AppRunner | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def workarea(self) -> Path:
        return self.root / "state/mounts/alice/workarea"

    @property
    def bucket(self) -> Path:
        return self.root / "state/mounts/alice/cloud_storage/alice"

    @property
    def status_file(self) -> Path:
        return self.bucket.parent / ".taccuino/status.json"

    @property
    def scratch(self) -> Path:
        return self.root / "state/mounts/alice/cloud_storage/scratch"

    @property
    def objects(self) -> Path:
        return self.store.directory / "alice-bucket"

    @property
    def rclone_pid(self) -> int:
        record = self.root / "state/mount-plane/users/alice/record.json"
        return int(json.loads(record.read_text())["rclone"]["pid"])

    async def start_hub(self) -> None:
        async def credentials(request: web.Request) -> web.Response:
            self.asked.append(request.match_info["username"])
            if request.headers.get("Authorization") != f"token {TOKEN}":
                return web.json_response({"status": 403, "message": "no"}, status=403)
            if self.refusal:
                return web.json_response({"status": 403, "message": self.refusal}, status=403)
            return web.json_response(await self.credentials(request.match_info["username"]))

        app = web.Application()
        app.router.add_get("/hub/api/taccuino/credentials/{username}", credentials)
        self._hub = web.AppRunner(app, shutdown_timeout=0.1)
        await self._hub.setup()
        await web.TCPSite(self._hub, "127.0.0.1", self.hub_port).start()

    async def stop_hub(self) -> None:
        if self._hub:
            await self._hub.cleanup()
            self._hub = None

    def _spawn_daemon(self) -> None:
        state = self.settings.state_dir
        (state / "secrets").mkdir(parents=True, exist_ok=True)
        (state / "secrets/mount-plane-token").write_text(TOKEN)
        self.settings.save(state / "settings.json")
        with (self.root / "daemon.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "taccuino.storage.mount_plane"],
                env={**os.environ, "TACCUINO_SETTINGS": str(state / "settings.json")},
                stdout=log,
                stderr=log,
            )

    async def start_daemon(self) -> None:
        self._spawn_daemon()

        async def answers() -> bool:
            assert self._daemon is not None
            if self._daemon.poll() is not None:
                raise AssertionError(f"the daemon ended:\n{self.log}")
            try:
                await self.client.check()
            except MountPlaneError:
                return False
            return True

        await eventually(answers, what="the daemon")

    def kill_daemon(self, number: signal.Signals = signal.SIGKILL) -> int:
        assert self._daemon is not None
        self._daemon.send_signal(number)
        code = self._daemon.wait(timeout=20)
        self._daemon = None
        return code

    @property
    def log(self) -> str:
        logs = [self.root / "daemon.log", *self.root.glob("state/mount-plane/users/*/*.log")]
        return "\n".join(path.read_text(errors="replace") for path in logs)

    async def state(self) -> MountStatus:
        return await self.client.status("alice")

    async def drained(self) -> bool:
        return (await self.state()).uploads_pending == 0

    def clean(self) -> None:
        """End what the rig started, whatever state it is in."""
        if self._daemon:
            self._daemon.kill()
            self._daemon.wait()
        self.store.kill()
        for record in self.root.glob("state/mount-plane/users/*/record.json"):
            identity = json.loads(record.read_text())["rclone"]
            if identity and _is_rclone(identity["pid"]):
                os.kill(identity["pid"], signal.SIGKILL)
        for file in ("pid", "nginx.pid"):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                pid = int((self.root / "state/mount-plane/relay" / file).read_text())
                os.kill(pid, signal.SIGTERM)
        for entry in MountTable.read().below(self.root):
            with contextlib.suppress(OSError):
                unmount(entry.path, lazy=True)
        ProcessGroup.of(self.settings, self.request.slug).remove()
        shutil.rmtree(self.root, ignore_errors=True)


async def _fixed_credentials(_: str) -> dict[str, Any]:
    expiration = datetime.now(UTC) + timedelta(hours=1)
    return {
        "AccessKeyId": ACCESS,
        "SecretAccessKey": SECRET,
        "Token": "session",
        "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _is_rclone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").resolve().name == "rclone"
    except OSError:
        return False


@contextlib.asynccontextmanager
async def mount_rig(
    endpoint: str | None = None,
    site: str = "local",
    snapshots: dict[str, Any] | None = None,
    **plane: Any,
) -> AsyncIterator[MountRig]:
    """A running rig: hub and daemon, and a store unless there is one at ``endpoint``."""
    root = Path(tempfile.mkdtemp(prefix="tc-mp-", dir="/tmp"))
    rig = MountRig(root, endpoint, site, snapshots, **plane)
    rig.root.chmod(0o755)  # as a state directory is: a user's uid passes through
    try:
        if endpoint is None:
            await rig.store.start()
        await rig.start_hub()
        await rig.start_daemon()
        yield rig
    finally:
        await rig.stop_hub()
        rig.clean()
