"""What a site tells its peers of itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Maintenance", "ServerState", "SiteState"]


class _Told(BaseModel):
    """Of another release, maybe: what is not known here is left aside."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ServerState(_Told):
    """A notebook server that runs."""

    user: str
    route: str
    """The path that it is reached by: ``/user/alice/``."""
    started: float
    """Seconds since the epoch."""
    options: dict[str, Any] = {}
    """What its user chose."""


class Maintenance(_Told):
    """A site that takes no new servers, and empties itself."""

    since: float
    """Seconds since the epoch."""
    message: str = Field(default="", max_length=500)
    """What its users are told besides."""


class SiteState(_Told):
    """All that a peer needs to know."""

    site: str
    version: str
    """Changes with anything below."""
    ready: bool = True
    """Whether it can start servers."""
    maintenance: Maintenance | None = None
    servers: tuple[ServerState, ...] = ()
