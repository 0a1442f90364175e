"""The engine's part of JupyterHub's configuration."""

from __future__ import annotations

from typing import Any

from taccuino.settings import Settings

from .engine_spawners import DockerEngineSpawner, PodmanSpawner

__all__ = ["configure"]

_PATIENCE = 10
_LONGEST_QUEUE_SECONDS = 4 * 3600


def configure(c: Any, settings: Settings) -> None:
    """Make JupyterHub start servers in the settings' engine."""
    podman = settings.engine.kind == "podman"
    c.JupyterHub.spawner_class = PodmanSpawner if podman else DockerEngineSpawner
    c.NotebookSpawner.settings = settings
    # The spawner gives up by itself when a start makes no progress; this is only the last
    # resort, for the queue and all attempts together.
    engine = settings.engine
    attempts = int(engine.start_timeout * engine.start_attempts * _PATIENCE)
    c.Spawner.start_timeout = _LONGEST_QUEUE_SECONDS + attempts
    c.Spawner.notebook_dir = "/workarea"
    c.Spawner.poll_interval = 30
    c.DockerSpawner.use_internal_ip = True
    c.DockerSpawner.remove = True
    c.DockerSpawner.pull_policy = "never"
