"""What plugs into JupyterHub: configuration, offers, pages and the HTTP calls of the service.

`configure` fills JupyterHub's configuration object from Taccuino's settings: it joins the
authenticator, the route table, the spawner and the storage, and adds this room's pages,
readiness and calls. JupyterHub itself is unmodified; `taccuino hub` runs it with the
``jupyterhub_config.py`` of this package, and an operator's own file may call `configure` too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration import configure

__all__ = ["configure"]


def __getattr__(name: str) -> Any:
    # Deferred, so that what only needs the offers does not import JupyterHub.
    if name == "configure":
        from .configuration import configure

        return configure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
