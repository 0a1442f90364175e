"""The single machine: what ``taccuino up`` supervises.

Each program of the service is described by a `Service`; supervisord keeps the programs
running, and this package resolves the settings, starts the programs in the order that their
needs say, waits until each is ready, reports their state, and stops them again.
"""

from __future__ import annotations

from .checks import check, disk_faults
from .lifecycle import down, purge, up
from .outlook import warnings
from .podman import podman_command, podman_environment, write_podman_files
from .resolve import as_resolved, load, resolve
from .service import Service
from .services import service_names
from .sites import site_of
from .status import status
from .supervision import log_tail
from .supervisor_config import log_file
from .upgrade import upgrade

__all__ = [
    "Service",
    "as_resolved",
    "check",
    "disk_faults",
    "down",
    "load",
    "log_file",
    "log_tail",
    "podman_command",
    "podman_environment",
    "purge",
    "resolve",
    "service_names",
    "site_of",
    "status",
    "up",
    "upgrade",
    "warnings",
    "write_podman_files",
]
