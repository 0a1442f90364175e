"""How long users and servers wait with up to 2,000 running servers, on one site and on two.

The hub with its handlers and database, the edge and its routes are real; one small server
stands for all notebook servers. Requests come at a fixed rate (see `open_loop`). The two sites
are two whole hubs with their edges, each with half of the users; as they share this machine,
what they add shows in the CPU that a request takes and in what a hub's one core can hold.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from rich.console import Console

from .open_loop import Load, drive, mixed, moments
from .report import Bar, Listing, percentile
from .scale_sites import MEANING, SHARES, Sites, running
from .stand_in import address, stand_in

ROUNDS = 1
SITES = (1, 2)
SERVERS = (100, 1_000, 2_000)
RATE = 350.0
"""Requests a second; with the most of `SERVERS` and `LIMIT_SECONDS`, what Coder publishes of
its own workspaces."""
LIMIT_SECONDS = 0.22
STEP = 1.25
"""From one rate to the next, while the limit holds."""
MOST = 4_000.0
LOAD_SECONDS = 20.0
STEP_SECONDS = 10.0
PATIENCE_SECONDS = 30.0
LATE_SECONDS = 0.05
"""More than so late at 99 of 100, and the client did not get the CPU that it needs."""

PARTS = (0.5, 0.95, 0.99)
HEAD = [
    *("sites", "servers", "rate", "request", "median", "95 %", "99 %", "n", "failed"),
    *("hubs' CPU", "edges' CPU"),
]


@dataclass(frozen=True)
class Measured:
    """A load and what it took."""

    rate: float
    load: Load
    hub_cpu: float
    edge_cpu: float
    """Seconds of CPU, of all sites."""

    @property
    def holds(self) -> bool:
        """Whether the limit held."""
        return self.load.within(LIMIT_SECONDS)

    @property
    def one_core(self) -> float:
        """Requests a second at which a hub would take the whole of the one core it can use."""
        return self.load.requests / self.hub_cpu


def run(rounds: int) -> Listing:
    """Measure one site and two, with each number of servers."""
    report = Listing("scale", head=HEAD)
    with stand_in() as port:
        for number in range(rounds):
            for sites in SITES:
                asyncio.run(_measure(report, sites, address(port), seed=number))
    return report


async def _measure(report: Listing, number: int, server: str, seed: int) -> None:
    console = Console(stderr=True)
    chance = random.Random(seed)
    async with running(number, server, seed) as sites:
        for servers in SERVERS:
            console.print(f"{_sites(number)}: starting servers, until {servers:,} run")
            await sites.grow(servers)
            measured = await _load(sites, RATE, LOAD_SECONDS, chance)
            report.lines += lines(number, servers, measured)
        report.bars += bars(number, servers, measured)
        report.notes += disturbed(number, servers, measured)
        held = measured
        while measured.holds and measured.rate * STEP <= MOST:
            measured = await _load(sites, measured.rate * STEP, STEP_SECONDS, chance)
            report.lines += lines(number, servers, measured, kinds=False)
            held = measured if measured.holds else held
    report.notes.append(most(number, servers, held))


async def _load(sites: Sites, rate: float, seconds: float, chance: random.Random) -> Measured:
    due = moments(rate, seconds, chance)
    kinds = mixed(SHARES, len(due), chance)
    before = sites.cpu()
    load = await drive(kinds, due, sites.send, PATIENCE_SECONDS)
    hub, edge = (after - b for after, b in zip(sites.cpu(), before, strict=True))
    measured = Measured(rate, load, hub, edge)
    console = Console(stderr=True)
    console.print(
        f"{rate:.0f} requests/s: {'holds' if measured.holds else 'does not hold'}; "
        f"this program was late by {percentile(load.late, 0.5) * 1000:.1f} ms at the median, "
        f"{percentile(load.late, 0.99) * 1000:.0f} ms at 99 of 100"
    )
    for failure in load.failures[:3]:
        console.print(f"  {failure}", markup=False)
    return measured


def lines(number: int, servers: int, measured: Measured, kinds: bool = True) -> list[list[str]]:
    """The table's lines: all requests, then each kind."""
    load = measured.load
    of = {"all": load.all} | (load.seconds if kinds else {})
    found = []
    for kind in ("all", *SHARES):
        if values := of.get(kind):
            latencies = [f"{percentile(values, part) * 1000:.1f} ms" for part in PARTS]
            rate = f"{measured.rate:.0f}/s"
            who = [str(number), f"{servers:,}", rate, MEANING.get(kind, kind)]
            found.append([*who, *latencies, f"{len(values):,}"])
    if found:
        cpu = (measured.hub_cpu, measured.edge_cpu)
        found[0].append(str(len(load.failures)))
        found[0] += [f"{seconds / load.requests * 1000:.2f} ms" for seconds in cpu]
    return [line + [""] * (len(HEAD) - len(line)) for line in found]


def bars(number: int, servers: int, measured: Measured) -> list[Bar]:
    """What is promised for the most servers."""
    what = f"{measured.rate:.0f} requests/s, {servers:,} servers, {_sites(number)}"
    answered = measured.load.all
    late = percentile(answered, 0.95) if answered else PATIENCE_SECONDS
    return [
        Bar(f"scale: seconds that 95 of 100 are within, {what}", late, LIMIT_SECONDS),
        Bar(f"scale: failed, {what}", len(measured.load.failures), 0),
    ]


def most(number: int, servers: int, held: Measured) -> str:
    """The sentence about the highest rate that held."""
    limit = f"95 of 100 within {LIMIT_SECONDS * 1000:.0f} ms"
    if not held.holds:
        return (
            f"{_sites(number)}, {servers:,} servers: {limit} did not hold at {held.rate:.0f}/s."
        )
    return (
        f"{_sites(number)}, {servers:,} servers: {limit} up to {held.rate:.0f} requests/s on "
        f"this machine. By the CPU that a request takes, {held.one_core:.0f} requests/s would "
        "fill the one core that each hub can use."
    )


def disturbed(number: int, servers: int, measured: Measured) -> list[str]:
    """A warning, if the machine was busy with something else: then CPU counts, not latency."""
    late = percentile(measured.load.late, 0.99)
    if late <= LATE_SECONDS:
        return []
    who = f"{_sites(number)}, {servers:,} servers"
    return [
        (
            f"{who}: this program was {late * 1000:.0f} ms late at 99 of 100 requests: the "
            "machine was busy with something else. Trust the CPU of a request, not its latency."
        )
    ]


def _sites(number: int) -> str:
    return "one site" if number == 1 else f"{number} sites"
