"""Where a server that is about to start finds its image's static files at the edge."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from taccuino.front_end import front_end_of
from taccuino.settings import Settings

from .engine import Engine
from .errors import EngineError

__all__ = ["addresses_of", "front_end_addresses"]

log = logging.getLogger(__name__)


async def front_end_addresses(
    engine: Engine, settings: Settings, image: str
) -> Mapping[str, str]:
    """The address of each part of the front end; nothing where the server serves its own.

    The engine is asked which image a name stands for now: files of another build would not
    go with the server.
    """
    try:
        identity = await engine.image_id(image)
    except EngineError as error:
        log.debug("Nothing is known of the front end of %s: %s", image, error)
        return {}
    return addresses_of(settings, identity)


def addresses_of(settings: Settings, identity: str | None) -> Mapping[str, str]:
    """The address of each part of the front end of the image with this id, if there are any."""
    found = front_end_of(settings, identity) if identity else None
    return found.addresses if found else {}
