"""What the hub's pages fetch ahead of a notebook server's page: the front end's own files.

They come from the edge and are the same for all users of an image, so a browser can have them
before there is a server: from the login page on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taccuino.front_end import front_end_of_reference
from taccuino.settings import Settings

from .offers import Offers, OptionsError

__all__ = ["preload", "preload_of"]


def preload(offers: Offers, settings: Settings, options: Mapping[str, Any] | None) -> list[str]:
    """The addresses for someone who chose these options, or will get the defaults."""
    try:
        chosen = offers.remembered(dict(options or {}))
    except OptionsError:
        return []
    return preload_of(settings, chosen.reference).get(chosen.interface, [])


def preload_of(settings: Settings, reference: str) -> dict[str, list[str]]:
    """The addresses by interface; none where the servers of that image serve it themselves."""
    found = front_end_of_reference(settings, reference)
    return dict(found.preload) if found else {}
