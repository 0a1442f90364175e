"""The environment in which the spawner starts a notebook server, read once.

The variables are listed in ``docs/developers/architecture.md``, "Inside the notebook server".
"""

from __future__ import annotations

import json
from collections.abc import Mapping

__all__ = ["Contract"]


class Contract:
    """What the spawner told; `None` or empty where it did not.

    No dataclass: importing ``dataclasses`` would cost the launcher 12 ms of its start.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        get = environment.get
        self.username = get("TACCUINO_USERNAME") or get("JUPYTERHUB_USER") or ""
        self.server_name = get("JUPYTERHUB_SERVER_NAME") or ""
        self.interface = get("TACCUINO_INTERFACE") or "lab"
        self.profile = get("TACCUINO_OIDC_PROFILE") or "infncloud"
        self.hub_api_url = (get("JUPYTERHUB_API_URL") or "").rstrip("/")
        self.hub_token = get("JUPYTERHUB_API_TOKEN") or ""
        # The host may be another than the server's: each user's server can have its own.
        self.hub_base_url = (get("JUPYTERHUB_HOST") or "") + (get("JUPYTERHUB_BASE_URL") or "/")
        self.service_url = get("JUPYTERHUB_SERVICE_URL") or ""
        self.workarea = get("JUPYTERHUB_ROOT_DIR") or "/workarea"
        self.region = get("AWS_DEFAULT_REGION") or get("AWS_REGION") or "default"
        self.memory_limit = _integer(get("MEM_LIMIT"))
        self.storage_faults = _sentences(get("TACCUINO_STORAGE_FAULTS"))

    @property
    def has_hub(self) -> bool:
        """Whether a hub started this server; without one it is a trial run of the image."""
        return bool(self.hub_api_url and self.hub_token)


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _sentences(text: str | None) -> list[str]:
    """A JSON list of sentences; text that is none is shown as it is rather than lost."""
    if not text:
        return []
    try:
        value = json.loads(text)
    except ValueError:
        return [text]
    return [str(item) for item in value] if isinstance(value, list) else [text]
