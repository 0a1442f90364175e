"""The edge: the HAProxy in front of everything, and the routes that it holds.

``config`` turns the settings into HAProxy's configuration (pure text); ``process`` writes it,
says how HAProxy is run, and applies a change without cutting a connection; ``runtime`` speaks
to HAProxy's admin socket; ``routemap`` is the form of a route and of the file that keeps them,
``routes_file`` changes that file; ``routes`` is JupyterHub's ``Proxy`` over all three. Nothing
here imports JupyterHub but ``routes``, which :func:`configure` names without importing it.
"""

from __future__ import annotations

from typing import Any

from taccuino.settings import Settings

from .config import haproxy_config
from .peermap import PeerMap
from .process import RELOAD_SIGNAL, check, config_path, edge_command, prepare, reload
from .runtime import EdgeError, EdgeUnreachableError, RuntimeAPI

__all__ = [
    "RELOAD_SIGNAL",
    "EdgeError",
    "EdgeUnreachableError",
    "PeerMap",
    "RuntimeAPI",
    "check",
    "config_path",
    "configure",
    "edge_command",
    "haproxy_config",
    "prepare",
    "reload",
]


def configure(c: Any, settings: Settings) -> None:
    """Tell the route table where the edge is; ``c`` is JupyterHub's configuration object."""
    c.RouteTable.admin_socket = str(settings.edge.admin_socket)
    c.RouteTable.routes_file = str(settings.edge.routes_file)
