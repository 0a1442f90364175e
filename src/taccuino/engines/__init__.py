"""The engines: what runs notebook servers in containers, and answers for them.

``NotebookSpawner`` (``PodmanSpawner``, ``DockerEngineSpawner``) starts, watches and stops one
user's server; ``ServerStorage`` is all it knows of storage. Around it: the engine's API
(``engine``), a container's rights and limits (``container``), networks and the firewall that
keep servers apart, ranges of uids, the words for failures, and ``reconcile``, which removes
what no server owns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .attachment import SharedStorage
from .errors import EngineError, FilesOutdatedError
from .storage_port import Attachment, Bind, NoStorage, ServerIds, ServerStorage

if TYPE_CHECKING:
    from .configuration import configure
    from .engine import check
    from .engine_spawners import DockerEngineSpawner, PodmanSpawner
    from .orphans import reconcile
    from .spawner import NotebookSpawner
    from .start_failure import StartFailure

__all__ = [
    "Attachment",
    "Bind",
    "DockerEngineSpawner",
    "EngineError",
    "FilesOutdatedError",
    "NoStorage",
    "NotebookSpawner",
    "PodmanSpawner",
    "ServerIds",
    "ServerStorage",
    "SharedStorage",
    "StartFailure",
    "check",
    "configure",
    "reconcile",
]

_HOMES = {
    "DockerEngineSpawner": "engine_spawners",
    "NotebookSpawner": "spawner",
    "PodmanSpawner": "engine_spawners",
    "StartFailure": "start_failure",
    "check": "engine",
    "configure": "configuration",
    "reconcile": "orphans",
}


def __getattr__(name: str) -> Any:
    """Import the heavy parts (JupyterHub, docker-py) when they are asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
