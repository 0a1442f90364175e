"""A notebook server's container in the engines' words, from typed input.

This is the one place that says how unprivileged a server is: no capability, no new
privilege, the engine's default seccomp profile, bounded processes, memory, CPU and logs.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .cgroups import CPU_PERIOD
from .storage_port import Bind
from .uid_ranges import CONTAINER_UID, RANGE_SIZE, UidRange

__all__ = [
    "CONTAINER_LABEL",
    "INSTANCE_LABEL",
    "SERVER_LABEL",
    "USER_LABEL",
    "WARM_LABEL",
    "ContainerSpec",
    "docker_config",
    "podman_config",
]

INSTANCE_LABEL = "taccuino.instance"
USER_LABEL = "taccuino.user"
SERVER_LABEL = "taccuino.server"
WARM_LABEL = "taccuino.warm"
"""On a container that was started without a user: its image."""
CONTAINER_LABEL = "taccuino.container"
"""On a network: the container that it was made for."""

_LOG_SIZE = 4 * 1024**2  # bytes; the oldest lines go
_OPEN_FILES = 16_384
_PROCESSES = 32_768
_OOM_SCORE = 500  # the host's own services outlive a server


@dataclass(frozen=True)
class ContainerSpec:
    """All that differs between two servers' containers."""

    image: str
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    network: str
    cpus: float
    memory: int
    """Bytes; swap is not added to it."""
    pids_limit: int
    binds: Sequence[Bind] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Names that ``/etc/hosts`` resolves, with their addresses."""
    uids: UidRange | None = None
    """The host uids it is mapped to; with none, by the engine's own configuration."""
    shared_memory: int = 0
    """Bytes of ``/dev/shm``, which counts as the container's; by default half of ``memory``."""
    command: Sequence[str] = ()
    """Arguments in place of the image's own; with none, the image's."""


def docker_config(spec: ContainerSpec) -> dict[str, Any]:
    """The body of the Docker API's ``POST /containers/create``, which knows no ``uids``."""
    host: dict[str, Any] = {
        "NetworkMode": spec.network,
        "ExtraHosts": _hosts(spec),
        "Binds": [
            f"{bind.source}:{bind.target}:{','.join(_bind_options(bind))}"
            for bind in spec.binds
        ],
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "NanoCpus": int(spec.cpus * 1_000_000_000),
        "Memory": spec.memory,
        "MemorySwap": spec.memory,
        "ShmSize": _shared_memory(spec),
        "PidsLimit": spec.pids_limit,
        "OomScoreAdj": _OOM_SCORE,
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value} for name, value in _ulimits().items()
        ],
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,  # the reason of a death is read before the removal
        "LogConfig": {"Type": "json-file", "Config": {"max-size": str(_LOG_SIZE)}},
    }
    config: dict[str, Any] = {
        "Image": spec.image,
        "User": f"{CONTAINER_UID}:{CONTAINER_UID}",
        "Env": [f"{name}={value}" for name, value in sorted(spec.environment.items())],
        "Labels": dict(spec.labels),
        "HostConfig": host,
    }
    if spec.command:
        config["Cmd"] = list(spec.command)
    return config


def podman_config(name: str, spec: ContainerSpec) -> dict[str, Any]:
    """The body of podman's own ``POST /libpod/containers/create``.

    Docker's API can give a container uids of its own only as ``auto:uidmapping=...``, and two
    such creations beside a start lock podman 4.3's store for ever (``getAutoUserNS`` and
    ``mount`` take its two locks in opposite order).
    """
    config: dict[str, Any] = {
        "name": name,
        "image": spec.image,
        "user": f"{CONTAINER_UID}:{CONTAINER_UID}",
        "env": dict(spec.environment),
        "labels": dict(spec.labels),
        "netns": {"nsmode": "bridge"},
        "networks": {spec.network: {}},
        "hostadd": _hosts(spec),
        "mounts": [
            {
                "type": "bind",
                "source": str(bind.source),
                "destination": bind.target,
                "options": ["rbind", *_bind_options(bind)],
            }
            for bind in spec.binds
        ],
        "privileged": False,
        "cap_drop": ["ALL"],
        "no_new_privileges": True,
        "resource_limits": {
            "cpu": {"period": CPU_PERIOD, "quota": int(spec.cpus * CPU_PERIOD)},
            "memory": {"limit": spec.memory, "swap": spec.memory},
            "pids": {"limit": spec.pids_limit},
        },
        "shm_size": _shared_memory(spec),
        "oom_score_adj": _OOM_SCORE,
        "r_limits": [
            {"type": name, "soft": value, "hard": value} for name, value in _ulimits().items()
        ],
        "restart_policy": "no",
        "stop_timeout": 0,  # a removal kills; who wants to wait has done so before
        "log_configuration": {"driver": "k8s-file", "size": _LOG_SIZE},
    }
    if spec.uids is not None:
        mapping = [{"container_id": 0, "host_id": spec.uids.base, "size": RANGE_SIZE}]
        config["userns"] = {"nsmode": "private"}
        config["idmappings"] = {"UIDMap": mapping, "GIDMap": mapping}
    if spec.command:
        config["command"] = list(spec.command)
    return config


def _hosts(spec: ContainerSpec) -> list[str]:
    return [f"{name}:{address}" for name, address in spec.hosts.items()]


def _bind_options(bind: Bind) -> list[str]:
    return ["ro" if bind.read_only else "rw", bind.propagation]


def _shared_memory(spec: ContainerSpec) -> int:
    """Bytes of ``/dev/shm``; the engines' 64 MiB break PyTorch."""
    return spec.shared_memory or spec.memory // 2


def _ulimits() -> dict[str, int]:
    """What an engine without CAP_SYS_RESOURCE can still set: at most our own limits."""
    limits = {}
    for name, wanted, number in (
        ("nofile", _OPEN_FILES, resource.RLIMIT_NOFILE),
        ("nproc", _PROCESSES, resource.RLIMIT_NPROC),
    ):
        hard = resource.getrlimit(number)[1]
        limits[name] = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    return limits
