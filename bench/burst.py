"""Many users who ask for a server at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests


@dataclass
class Burst:
    """How a burst went: the seconds until each was ready, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    refusals: int = 0
    """Requests that were answered 429."""

    @property
    def slowest(self) -> float:
        """Seconds until the last one was ready; infinite where one never was."""
        return float("inf") if self.failures or not self.seconds else max(self.seconds)


def burst(starts: Sequence[Callable[[], requests.Response | None]]) -> Burst:
    """Call all starts at once; each asks for a server and returns when it is ready.

    A start returns the answer that refused it, if one did, and raises if its server failed.
    """
    result, lock = Burst(), threading.Lock()
    together = threading.Barrier(len(starts))

    def one(start: Callable[[], requests.Response | None]) -> None:
        together.wait()
        began = time.monotonic()
        try:
            refused = start()
        except (AssertionError, requests.RequestException) as error:
            with lock:
                result.failures.append(str(error))
            return
        took = time.monotonic() - began
        with lock:
            if refused is None:
                result.seconds.append(took)
                return
            result.refusals += refused.status_code == 429
            result.failures.append(f"{refused.status_code}: {refused.text[:200]}")

    with ThreadPoolExecutor(len(starts)) as pool:
        list(pool.map(one, starts))
    return result
