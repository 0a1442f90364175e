"""A notebook server's container in the Docker API's words, from typed input.

This is the one place that says how unprivileged a server is: no capability, no new
privilege, the engine's default seccomp profile, bounded processes, memory, CPU and logs.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .storage_port import Bind
from .uid_ranges import CONTAINER_UID

__all__ = [
    "CONTAINER_LABEL",
    "INSTANCE_LABEL",
    "SERVER_LABEL",
    "USER_LABEL",
    "ContainerSpec",
    "container_config",
]

INSTANCE_LABEL = "taccuino.instance"
USER_LABEL = "taccuino.user"
SERVER_LABEL = "taccuino.server"
CONTAINER_LABEL = "taccuino.container"
"""On a network: the container that it was made for."""

_LOG_SIZE = "4m"
_OPEN_FILES = 16_384
_PROCESSES = 32_768


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
    log_driver: str
    binds: Sequence[Bind] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Names that ``/etc/hosts`` resolves, with their addresses."""
    userns_mode: str = ""
    command: Sequence[str] = ()
    """Arguments in place of the image's own; with none, the image's."""


def container_config(spec: ContainerSpec) -> dict[str, Any]:
    """The body of the Docker API's ``POST /containers/create``."""
    host: dict[str, Any] = {
        "NetworkMode": spec.network,
        "ExtraHosts": [f"{name}:{address}" for name, address in spec.hosts.items()],
        "Binds": [_bind(bind) for bind in spec.binds],
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "NanoCpus": int(spec.cpus * 1_000_000_000),
        "Memory": spec.memory,
        "MemorySwap": spec.memory,
        # Shared memory counts as the container's own; the engines' 64 MiB breaks PyTorch.
        "ShmSize": spec.memory // 2,
        "PidsLimit": spec.pids_limit,
        "OomScoreAdj": 500,
        "Ulimits": [
            _ulimit("nofile", _OPEN_FILES, resource.RLIMIT_NOFILE),
            _ulimit("nproc", _PROCESSES, resource.RLIMIT_NPROC),
        ],
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,  # the reason of a death is read before the removal
        "LogConfig": {"Type": spec.log_driver, "Config": {"max-size": _LOG_SIZE}},
    }
    if spec.userns_mode:
        host["UsernsMode"] = spec.userns_mode
    config: dict[str, Any] = {
        "Image": spec.image,
        "User": f"{CONTAINER_UID}:{CONTAINER_UID}",
        "Env": [f"{name}={value}" for name, value in sorted(spec.environment.items())],
        "Labels": dict(spec.labels),
        "Tty": False,
        "OpenStdin": False,
        "HostConfig": host,
    }
    if spec.command:
        config["Cmd"] = list(spec.command)
    return config


def _bind(bind: Bind) -> str:
    mode = "ro" if bind.read_only else "rw"
    return f"{bind.source}:{bind.target}:{mode},{bind.propagation}"


def _ulimit(name: str, wanted: int, limit: int) -> dict[str, Any]:
    """A ulimit that an engine without CAP_SYS_RESOURCE can still set: at most our own."""
    hard = resource.getrlimit(limit)[1]
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    return {"Name": name, "Soft": value, "Hard": value}
