"""The engine's part of JupyterHub's configuration."""

from __future__ import annotations

from typing import Any

from taccuino.settings import Settings

from .spawner import DockerEngineSpawner, PodmanSpawner

__all__ = ["configure"]

_PATIENCE = 10


def configure(c: Any, settings: Settings) -> None:
    """Make JupyterHub start servers in the settings' engine."""
    podman = settings.engine.kind == "podman"
    c.JupyterHub.spawner_class = PodmanSpawner if podman else DockerEngineSpawner
    c.NotebookSpawner.settings = settings
    # The spawner gives up by itself when a start makes no progress; this is only the last
    # resort, for all attempts together.
    engine = settings.engine
    c.Spawner.start_timeout = int(engine.start_timeout * engine.start_attempts * _PATIENCE)
    c.Spawner.notebook_dir = "/workarea"
    c.Spawner.poll_interval = 30
    c.DockerSpawner.use_internal_ip = True
    c.DockerSpawner.remove = True
    c.DockerSpawner.pull_policy = "never"
