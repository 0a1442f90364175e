"""How many servers are kept warm: by the settings, and by how many were started lately.

Pure: the time is an argument, so that a table can test it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import psutil

from taccuino.settings import WarmSettings, parse_size

__all__ = ["WARM_MEMORY", "Demand"]

WARM_MEMORY = 64 * 1024**2
"""Bytes that a warm server is counted as; it was measured at 50 to 60 MB (PSS)."""
_SHARE = 6
"""Of the node's memory, what warm servers may take where the settings do not say."""
_REMEMBERED = 3600.0
_TOGETHER = 60.0
"""Seconds within which starts count as coming together: a class, after a break."""
_MOST = 1000  # starts of one image that are remembered


class Demand:
    """The starts of the last hour; times are seconds of any clock that goes forward."""

    def __init__(self, settings: WarmSettings) -> None:
        self._settings = settings
        size = settings.memory
        self._memory = parse_size(size) if size else psutil.virtual_memory().total // _SHARE
        self._starts: dict[str, deque[float]] = {}

    def note(self, image: str, now: float) -> None:
        """A start of this image began."""
        self._starts.setdefault(image, deque(maxlen=_MOST)).append(now)

    def peak(self, image: str, now: float) -> int:
        """The most starts of this image that came together."""
        starts = self._starts.get(image)
        if not starts:
            return 0
        while starts and starts[0] < now - _REMEMBERED:
            starts.popleft()
        most, first = 0, 0
        for last, time in enumerate(starts):
            while starts[first] < time - _TOGETHER:
                first += 1
            most = max(most, last - first + 1)
        return most

    def targets(self, images: Sequence[str], now: float) -> Mapping[str, int]:
        """How many servers of each image should wait, within the memory set apart for them.

        The first image is the default. Everyone's least comes first, and then what demand adds,
        in turns, so that no image takes all.
        """
        if not self._settings.servers:
            return dict.fromkeys(images, 0)
        least = {
            image: self._settings.others if index else self._settings.servers
            for index, image in enumerate(images)
        }
        wanted = {image: max(least[image], self.peak(image, now)) for image in images}
        left = self._memory // WARM_MEMORY
        given = dict.fromkeys(images, 0)
        for goals in (least, wanted):
            while left > 0:
                behind = [image for image in images if given[image] < goals[image]]
                for image in behind[:left]:
                    given[image] += 1
                left -= min(len(behind), left)
                if not behind:
                    break
        return given
