"""Where a user without a server belongs: rendezvous hashing with weights.

Every site computes the same from the same list, with nothing shared. When a site is lost only
its users move, each to the site that is next for them; when it is back they belong to it again
(Thaler and Ravishankar, 1998; the weights as in Schindelhauer and Schomaker, 2005).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Place", "home"]

_HASH_BITS = 64


@dataclass(frozen=True)
class Place:
    """A site that takes new servers."""

    name: str
    weight: float = 1.0
    """Its share: of two with weights 1 and 3 the second gets three quarters of the users."""


def home(username: str, places: Iterable[Place]) -> str | None:
    """The name of the user's site among those; None if there are none."""
    best = max(places, key=lambda place: (_score(username, place), place.name), default=None)
    return best.name if best else None


def _score(username: str, place: Place) -> float:
    digest = hashlib.sha256(f"{place.name}\0{username}".encode()).digest()
    number = int.from_bytes(digest[: _HASH_BITS // 8]) + 1  # never 0: its logarithm is needed
    return -place.weight / math.log(number / (2**_HASH_BITS + 1))
