"""Requests at a fixed rate, whatever the answers take: an open loop.

Users don't wait for each other. A client that sends its next request when it has an answer
slows down with the server and leaves out the very moments that are slow ("coordinated
omission"). Here the moments are fixed beforehand, and a latency counts from the moment at which
the request was due, also where this program was late itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .report import percentile


@dataclass
class Load:
    """How a load went."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Latencies of the answered requests by their kind."""
    failures: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    """How long after their moments the requests were begun, in seconds: this program's lag."""

    @property
    def all(self) -> list[float]:
        """The latencies of all kinds."""
        return [value for values in self.seconds.values() for value in values]

    @property
    def requests(self) -> int:
        """How many were made."""
        return len(self.all) + len(self.failures)

    def within(self, seconds: float, part: float = 0.95) -> bool:
        """Whether all requests were answered, and this part of them in time."""
        return not self.failures and bool(self.all) and percentile(self.all, part) <= seconds


def moments(rate: float, seconds: float, chance: random.Random) -> list[float]:
    """When requests are due, in seconds from the beginning: ``rate`` a second on average.

    Users come independently of each other, so it is chance that spreads them (a Poisson
    process, given its number).
    """
    return sorted(chance.uniform(0, seconds) for _ in range(round(rate * seconds)))


def mixed(shares: Mapping[str, float], count: int, chance: random.Random) -> list[str]:
    """So many kinds of requests, of each its share, in an order that chance picks.

    What rounding leaves over goes to the kind with the largest share.
    """
    total = sum(shares.values())
    kinds = [kind for kind, share in shares.items() for _ in range(int(count * share / total))]
    most = max(shares, key=lambda kind: shares[kind])
    kinds += [most] * (count - len(kinds))
    chance.shuffle(kinds)
    return kinds


async def drive(
    kinds: Sequence[str],
    due: Sequence[float],
    send: Callable[[str], Awaitable[None]],
    patience: float,
) -> Load:
    """Make each request at its moment; ``send`` raises where it fails.

    Parameters
    ----------
    kinds, due
        What is sent, and when, in seconds from now.
    send
        Makes a request of this kind and takes its whole answer.
    patience
        Seconds after which a request has failed.
    """
    loop = asyncio.get_running_loop()
    load = Load()
    began = loop.time()

    async def one(kind: str, moment: float) -> None:
        load.late.append(loop.time() - moment)
        try:
            async with asyncio.timeout_at(moment + patience):
                await send(kind)
        except Exception as error:  # noqa: BLE001 -- whatever it was, it is counted and told
            load.failures.append(f"{kind}: {type(error).__name__} {error}")
        else:
            load.seconds.setdefault(kind, []).append(loop.time() - moment)

    async with asyncio.TaskGroup() as group:
        for kind, moment in zip(kinds, due, strict=True):
            # Also where it is late: the requests that are on their way go on.
            await asyncio.sleep(max(began + moment - loop.time(), 0))
            group.create_task(one(kind, began + moment))
    return load
