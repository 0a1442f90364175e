"""What the edge takes for a request, beside configurable-http-proxy, in one run.

Both have the same routes to one small server, and are configured and run as they are in
service. What counts is the CPU that a proxy takes, all of its processes: requests per second
depend on what else the machine does. A route is added by the class that JupyterHub adds it by,
one after the other; for the edge that includes the file from which HAProxy starts.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from .edge_load import Answers, ensure_wrk, http_load, websocket_load
from .edge_sides import EdgeSide, configurable_http_proxy, taccuino
from .report import Bar, Comparison, percentile
from .stand_in import stand_in

ROUNDS = 2
ROUTES = (10, 1_000, 5_000)
LOAD_SECONDS = 5.0
ADDITIONS = 200
TIMES = 8.0
"""So many times configurable-http-proxy's requests per CPU-second."""
ADD_MILLISECONDS = 1.0

OURS, THEIRS = "taccuino", "configurable-http-proxy"
HTTP, WEBSOCKET = "HTTP requests", "websocket round trips"
ADD, ADD_WORST = "add a route", "add a route, 99 of 100"

Values = Mapping[str, Mapping[str, Sequence[float]]]
"""``values[operation][side]``, as `Comparison` keeps them."""


def row(operation: str, routes: int) -> str:
    """The name of a row: an operation with so many routes."""
    return f"{operation}, {routes:,} routes"


def run(rounds: int, seconds: float = LOAD_SECONDS) -> Comparison:
    """Load both with each number of routes."""
    ensure_wrk()
    report = Comparison("edge")
    with tempfile.TemporaryDirectory(prefix="tc-edge-", dir="/tmp") as directory:
        root = Path(directory)
        root.chmod(0o711)
        with stand_in() as server:
            failures = asyncio.run(_measure(report, root, server, rounds, seconds))
    report.bars += bars(report.values, failures)
    return report


def bars(values: Values, failures: int) -> list[Bar]:
    """What is promised; of the numbers of routes, the worst counts."""
    ratios = [
        _median(values, row(HTTP, n), THEIRS) / _median(values, row(HTTP, n), OURS)
        for n in ROUTES
    ]
    most = max(ROUTES)
    return [
        Bar(
            "edge: HTTP requests per CPU-second, configurable-http-proxy's of ours",
            max(ratios),
            1 / TIMES,
        ),
        Bar(
            f"edge: milliseconds to add a route to {most:,}, median",
            _median(values, row(ADD, most), OURS),
            ADD_MILLISECONDS,
        ),
        Bar("edge: failed requests and websockets", failures, 0),
    ]


def _median(values: Values, operation: str, side: str) -> float:
    return statistics.median(values[operation][side])


async def _measure(
    report: Comparison, root: Path, server: int, rounds: int, seconds: float
) -> int:
    failures = 0
    async with AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(taccuino(OURS, root / "edge")),
            await stack.enter_async_context(configurable_http_proxy(THEIRS, root / "chp")),
        ]
        filled = 0
        for routes in ROUTES:
            for side in sides:
                await side.fill(filled, routes, server)
                for number in (0, routes // 2, routes - 1):
                    await asyncio.to_thread(side.check, number)
                # Compilers that learn while they run (V8's) have learned then.
                await asyncio.to_thread(http_load, side.port, routes, seconds, root)
            filled = routes
            for _ in range(rounds):
                for side in sides:
                    failures += await _load(report, side, routes, seconds, root)
                    await _add(report, side, routes, server)
    return failures


async def _load(
    report: Comparison, side: EdgeSide, routes: int, seconds: float, root: Path
) -> int:
    """Both loads, one after the other: the number of failures."""
    failures = 0
    for operation in (HTTP, WEBSOCKET):
        before = side.cpu()
        if operation == HTTP:
            answers = await asyncio.to_thread(http_load, side.port, routes, seconds, root)
        else:
            answers = await websocket_load(side.port, routes, seconds)
        cpu = side.cpu() - before
        report.add(row(operation, routes), side.name, answers.answers / cpu, "/CPU-s")
        failures += answers.failures
        _tell(side, operation, routes, answers, cpu / seconds)
    return failures


async def _add(report: Comparison, side: EdgeSide, routes: int, server: int) -> None:
    seconds = await side.time_additions(ADDITIONS, server)
    report.add(row(ADD, routes), side.name, statistics.median(seconds) * 1000, "ms")
    report.add(row(ADD_WORST, routes), side.name, percentile(seconds, 0.99) * 1000, "ms")


def _tell(side: EdgeSide, operation: str, routes: int, answers: Answers, load: float) -> None:
    Console(stderr=True).print(
        f"{side.name}, {routes:,} routes: {answers.answers:,} {operation}, "
        f"{answers.failures} failed; it took {load:.0%} of a core"
    )
