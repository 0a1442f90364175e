"""What a notebook server learns from its environment: the contract with ``taccuino.server``."""

from __future__ import annotations

import json
from collections.abc import Mapping

from taccuino.settings import Settings

from .storage_port import Attachment

__all__ = ["EDGE_NAME", "notebook_environment", "server_api"]

EDGE_NAME = "taccuino-edge"
"""The edge, as notebook servers call it: the gateway of their own network."""


def server_api(settings: Settings, gateway: str) -> tuple[str, Mapping[str, str]]:
    """The hub's API as a server reaches it, and the names its ``/etc/hosts`` must know.

    Where the edge speaks TLS it has a port of its own for servers, whose traffic never leaves
    the host. Without one (the edge is not ours) the server uses the service's public name,
    which the certificate is for, and which leads to the gateway as well.
    """
    hosts = {EDGE_NAME: gateway}
    if settings.hub.server_api_url:
        return settings.hub.server_api_url.rstrip("/"), hosts
    edge = settings.edge
    if not edge.certificate or edge.server_port:
        return f"http://{EDGE_NAME}:{edge.server_port or settings.port}/hub/api", hosts
    name = EDGE_NAME if settings.host == "localhost" else settings.host
    return f"https://{name}:{settings.port}/hub/api", {**hosts, name: gateway}


def notebook_environment(
    settings: Settings,
    username: str,
    interface: str,
    attachment: Attachment,
    front_end: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Taccuino's own variables, and the storage's; JupyterHub's come on top.

    ``front_end`` is where the edge serves the image's static files, by part, if it does.
    """
    return {
        **attachment.environment,
        "TACCUINO_USERNAME": username,
        "TACCUINO_INTERFACE": interface,
        "TACCUINO_OIDC_PROFILE": settings.iam.oidc_agent_profile,
        "TACCUINO_STORAGE_FAULTS": json.dumps(list(attachment.faults)),
        **({"TACCUINO_FRONT_END": json.dumps(dict(front_end))} if front_end else {}),
        "TACCUINO_SPARE_KERNEL": str(int(settings.engine.spare_kernel)),
        "TACCUINO_TOKEN_CACHE_SECONDS": str(settings.hub.token_cache_seconds),
        # Seconds; at JupyterHub's own 300, the hub could miss a short idle limit.
        "JUPYTERHUB_ACTIVITY_INTERVAL": str(min(300, settings.culling.idle_seconds // 2)),
    }
