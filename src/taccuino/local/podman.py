"""The embedded engine: podman with a store, networks and configuration of the instance's own.

Two instances on one machine, or an operator's own podman, never see each other's containers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil

from taccuino.settings import Settings

from .mounts import unmount_below

__all__ = [
    "containers_conf",
    "forget_dead_containers",
    "podman_command",
    "podman_environment",
    "storage_conf",
    "write_podman_files",
]


def podman_command(settings: Settings) -> tuple[str, ...]:
    """The ``podman`` of the instance, to be followed by a subcommand.

    It needs `podman_environment`, and works whether or not the API service runs.
    """
    engine = settings.state_dir / "engine"
    return ("podman", "--root", str(engine / "storage"), "--runroot", str(engine / "run"))


def podman_environment(settings: Settings) -> Mapping[str, str]:
    """The variables that make `podman_command` use the instance's own configuration."""
    engine = settings.state_dir / "engine"
    return {
        "CONTAINERS_CONF": str(engine / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(engine / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(engine / "registries.conf"),
        "TMPDIR": str(engine / "tmp"),
    }


def containers_conf(engine: Path) -> str:
    """The text of ``containers.conf`` (containers.conf(5)) for an engine directory.

    runc, since crun 1.8 fails on hybrid cgroups; limits that a machine without
    CAP_SYS_RESOURCE grants; locks as files, since podman's shared memory for them is one per
    machine and a second instance's clean-up would free ours.
    """
    return f"""\
[containers]
cgroups = "enabled"
default_ulimits = ["nofile=16384:16384", "nproc=32768:32768"]
log_driver = "k8s-file"
log_size_max = 1048576

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
events_logfile_path = {_quoted(engine / "events.log")}
lock_type = "file"
runtime = "runc"
tmp_dir = {_quoted(engine / "run/libpod")}

[network]
network_backend = "netavark"
network_config_dir = {_quoted(engine / "networks")}
"""


def storage_conf(engine: Path) -> str:
    """The text of ``storage.conf`` (containers-storage.conf(5)) for an engine directory."""
    return f"""\
[storage]
driver = "overlay"
graphroot = {_quoted(engine / "storage")}
runroot = {_quoted(engine / "run")}
"""


def registries_conf() -> str:
    """The text of ``registries.conf``: short names are looked up nowhere but here."""
    return 'unqualified-search-registries = []\nshort-name-mode = "disabled"\n'


def _quoted(value: object) -> str:
    # A JSON string is a TOML basic string for every path.
    return json.dumps(str(value))


def write_podman_files(settings: Settings) -> None:
    """Make the engine's directory and its configuration."""
    engine = settings.state_dir / "engine"
    for path in (engine, engine / "storage", engine / "run"):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o711)
    for path in (engine / "networks", engine / "tmp"):
        path.mkdir(mode=0o700, exist_ok=True)
    (engine / "containers.conf").write_text(containers_conf(engine))
    (engine / "storage.conf").write_text(storage_conf(engine))
    (engine / "registries.conf").write_text(registries_conf())


def forget_dead_containers(settings: Settings) -> None:
    """Let podman see that the machine was restarted, or everything killed.

    It learns that from its run directory being empty, since that is a tmpfs by default. Ours
    lies on the disk, so it is emptied once no container's monitor (conmon) is alive.
    """
    engine = settings.state_dir / "engine"
    run = engine / "run"
    if not (run / "libpod/alive").exists():
        return
    for process in psutil.process_iter(["name", "cmdline"]):
        # podman gives conmon a short environment, but its arguments name our directories.
        if process.info["name"] in {"conmon", "podman"} and any(
            str(engine) in argument for argument in process.info["cmdline"] or ()
        ):
            return
    unmount_below(run)
    shutil.rmtree(run)
