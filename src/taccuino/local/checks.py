"""Whether this machine can run the instance: each fault with its mend."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

from taccuino.engines.base_image import BASE_IMAGE
from taccuino.errors import Fault
from taccuino.settings import Settings, format_size, parse_size
from taccuino.storage.errors import StorageError
from taccuino.storage.names import bucket_name, role_name

from .probe import socket_answers

__all__ = ["check", "disk_faults", "passable"]

_FREE_BYTES = 5 * 1024**3
_LONGEST_STATE = 39
"""Characters: podman takes a run directory (``<state>/engine/run``) of 50 at most."""
_PROGRAMS = {
    "haproxy": "haproxy",
    "nginx": "nginx",
    "nft": "nftables",
    "fusermount3": "fuse3",
    "mkfs.ext4": "e2fsprogs",
    "losetup": "mount",
    "restic": "restic",
    "bwrap": "bubblewrap",
}
_PODMAN = {
    "podman": "podman",
    "runc": "runc",
    "conmon": "conmon",
    # What podman's netavark runs for each network; no package of podman's asks for it.
    "iptables": "iptables",
}
_CEPH = {
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "radosgw": "radosgw",
    "radosgw-admin": "radosgw",
}


def check(settings: Settings) -> list[Fault]:
    """What would keep the instance from running on this machine."""
    return [
        *_programs(settings),
        *_files(settings),
        *_names(settings),
        *_engine(settings),
        *_state_directory(settings.state_dir),
        *disk_faults(settings),
    ]


def _programs(settings: Settings) -> list[Fault]:
    needed = dict(_PROGRAMS)
    makes_base = any(image.reference == BASE_IMAGE for image in settings.images)
    if settings.engine.kind == "podman" or makes_base:  # which podman makes for Docker too
        needed |= _PODMAN
    if settings.embedded_storage:
        needed |= _CEPH
    places = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return [
        Fault(program, "the program is not installed", f"apt-get install {package}")
        for program, package in needed.items()
        if shutil.which(program, path=places) is None
    ]


def _files(settings: Settings) -> list[Fault]:
    faults = []
    readable = {"edge.certificate": settings.edge.certificate}
    private = _private_files(settings)
    for key, path in {**readable, **private}.items():
        if path is None:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            faults.append(
                Fault(key, f"{path} can't be read: {reason}", "name a file that can be read")
            )
            continue
        if key in private and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            faults.append(Fault(key, f"{path} can be read by others", f"chmod 600 {path}"))
        if key == "edge.certificate" and not (
            "BEGIN CERTIFICATE" in text and "PRIVATE KEY" in text
        ):
            mend = "put the chain and its key into one PEM file"
            faults.append(Fault(key, f"{path} has no certificate or no private key", mend))
        if key == "iam.client_secret_file" and not text.strip():
            faults.append(Fault(key, f"{path} is empty", "write the client's secret into it"))
        if key == "storage.admin_credentials_file" and not _has_keys(text):
            mend = 'write {"access_key": "...", "secret_key": "..."} into it'
            faults.append(Fault(key, f"{path} holds no keys", mend))
    return faults


def _private_files(settings: Settings) -> dict[str, Path | None]:
    """Files with secrets that an operator named."""
    private: dict[str, Path | None] = {}
    if not settings.embedded_iam:
        private["iam.client_secret_file"] = settings.iam.client_secret_file
    if not settings.embedded_storage:
        private["storage.admin_credentials_file"] = settings.storage.admin_credentials_file
    if settings.peers:
        private["sites.secret_file"] = settings.sites.secret_file
    snapshots = settings.snapshots
    if snapshots.enabled and not snapshots.has_own_key(settings.state_dir):
        private["snapshots.key_file"] = snapshots.key_file
    return private


def _has_keys(text: str) -> bool:
    try:
        keys = json.loads(text)
    except ValueError:
        return False
    return isinstance(keys, dict) and all(
        isinstance(keys.get(name), str) and keys[name] for name in ("access_key", "secret_key")
    )


def _names(settings: Settings) -> list[Fault]:
    """Whether the templates of names in the object storage give some that S3 takes."""
    faults = []
    for key, name in (("storage.bucket", bucket_name), ("storage.role_arn", role_name)):
        try:
            name(settings, "somebody")
        except StorageError as error:
            problem, _, mend = str(error).removeprefix(f"{key}: ").partition("; ")
            faults.append(Fault(key, problem, mend or "see the settings' reference"))
    return faults


def _engine(settings: Settings) -> list[Fault]:
    engine = settings.engine
    if engine.kind != "docker" or engine.socket is None:
        return []
    mend = "start Docker, or name its socket"
    if not engine.socket.is_socket():
        return [Fault("engine.socket", f"{engine.socket} is no socket", mend)]
    if not socket_answers(engine.socket, "/_ping"):
        return [Fault("engine.socket", f"no Docker answers at {engine.socket}", mend)]
    return []


def _state_directory(state: Path) -> list[Fault]:
    faults = []
    if len(str(state)) > _LONGEST_STATE:
        problem = f"{state} has {len(str(state))} characters; podman allows {_LONGEST_STATE}"
        faults.append(Fault("state_dir", problem, "name a directory with a shorter path"))
    if (closed := passable(state)) is not None:
        problem = f"{closed} can't be entered by other users, whose containers lie below it"
        mend = f"chmod o+x {closed}, or name a directory such as /var/lib/taccuino"
        faults.append(Fault("state_dir", problem, mend))
    return faults


def disk_faults(settings: Settings) -> list[Fault]:
    """Whether the disk of the state directory is nearly full.

    That has no instance begin; one that is there may be brought up all the same.
    """
    state, reserve = settings.state_dir, settings.admission.disk_reserve
    there = next(path for path in (state, *state.parents) if path.exists())
    free = shutil.disk_usage(there).free
    left = f"{there} has {free // 1024**2} MiB left"
    begun = (state / "settings.json").exists()
    mend = "" if begun else "free some room, or name another directory"
    if free < _FREE_BYTES:
        return [Fault("state_dir", f"{left}; {format_size(_FREE_BYTES)} are needed", mend)]
    if free < parse_size(reserve):  # which keeps the service from no start of its own
        problem = f"{left}; no server is started while less than {reserve} is free"
        return [Fault("admission.disk_reserve", problem)]
    return []


def passable(state: Path) -> Path | None:
    """The first parent of the state directory that other users can't pass through, if any."""
    for parent in reversed(state.parents):
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None
