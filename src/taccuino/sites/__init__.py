"""Which site a user belongs to, and what the sites know of each other.

A site shares nothing with its peers but the IAM and the object storage. Each tells the others
whose servers it runs (`SiteState`); `Peers` keeps what was told last, puts it into the edge's
map, and goes on knowing it while a peer can't be reached. `placement` says where a user without
a server belongs. Nothing here imports JupyterHub: `taccuino.hub.sites` joins the two.
"""

from __future__ import annotations

from .peers import Elsewhere, Peers
from .placement import Place, home
from .state import Maintenance, ServerState, SiteState

__all__ = [
    "Elsewhere",
    "Maintenance",
    "Peers",
    "Place",
    "ServerState",
    "SiteState",
    "home",
]
