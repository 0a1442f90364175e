"""What the benchmarks reckon with: percentiles, bars, mixes, moments, latencies."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections import Counter

import pytest
import requests
from websockets.sync.client import connect

from bench.edge import ADD, HTTP, OURS, ROUTES, THEIRS, row
from bench.edge import bars as edge_bars
from bench.edge_load import Answers, answers_of, websocket_load
from bench.open_loop import Load, drive, mixed, moments
from bench.report import Bar, Listing, percentile
from bench.scale import HEAD, LIMIT_SECONDS, Measured, disturbed, lines, most
from bench.scale import bars as scale_bars
from bench.scale_sites import MEANING, SHARES
from bench.stand_in import LONGEST_MESSAGE, address, stand_in


@pytest.mark.parametrize(
    ("number", "values", "part", "expected"),
    [
        (1, [7.0], 0.5, 7.0),
        (2, [7.0], 0.99, 7.0),
        (3, range(1, 101), 0.95, 95),
        (4, range(1, 101), 0.99, 99),
        (5, range(100, 0, -1), 0.99, 99),
        (6, range(1, 101), 0.07, 7),  # 0.07 * 100 is 7.000000000000001
        (7, range(1, 101), 1, 100),
        (8, range(1, 101), 0, 1),
        (9, [1, 2, 3], 0.5, 2),
        (10, [1, 2], 0.5, 1),
    ],
)
def test_percentile(number: int, values: list[float], part: float, expected: float) -> None:
    assert percentile(values, part) == expected


def edge_values(ours: list[float], theirs: float, added: list[float]) -> dict:
    values = {
        row(HTTP, routes): {OURS: [value], THEIRS: [theirs]}
        for routes, value in zip(ROUTES, ours, strict=True)
    }
    return values | {row(ADD, max(ROUTES)): {OURS: added, THEIRS: [9.0]}}


@pytest.mark.parametrize(
    ("number", "ours", "added", "failures", "holds"),
    [
        (1, [24000, 24000, 24000], [0.5, 0.9, 1.9], 0, [True, True, True]),
        (2, [24000, 16001, 24000], [0.5], 0, [True, True, True]),
        (3, [99000, 15999, 99000], [0.5], 0, [False, True, True]),
        (4, [24000, 24000, 24000], [0.9, 1.1, 1.2], 0, [True, False, True]),
        (5, [24000, 24000, 24000], [0.5], 1, [True, True, False]),
    ],
)
def test_bars_of_the_edge(
    number: int, ours: list[float], added: list[float], failures: int, holds: list[bool]
) -> None:
    found = edge_bars(edge_values(ours, 2000, added), failures)
    assert [bar.holds for bar in found] == holds


def test_what_wrk_says() -> None:
    text = 'Running 5s test\n  1 threads\n\n{"answers": 120, "failures": 20}\n'
    assert answers_of(text) == Answers(100, 20)


def test_a_mix_has_every_kind_in_its_share() -> None:
    kinds = mixed(SHARES, 1001, random.Random(1))
    found = Counter(kinds)
    assert len(kinds) == 1001
    assert all(abs(found[kind] - 10.01 * share) < 3 for kind, share in SHARES.items())
    assert kinds[:700] != ["server"] * 700
    assert kinds == mixed(SHARES, 1001, random.Random(1))
    assert set(MEANING) == set(SHARES)


def test_moments_have_the_rate() -> None:
    due = moments(350, 20, random.Random(1))
    assert len(due) == 7000
    assert due == sorted(due)
    assert due[0] >= 0
    assert due[-1] <= 20
    assert 2700 < sum(moment < 8 for moment in due) < 2900


async def test_latency_counts_from_the_moment_a_request_was_due() -> None:
    """A server that stalls for 0.3 s delays all that were due meanwhile."""
    stalled = asyncio.Event()

    async def send(kind: str) -> None:
        if kind == "stall":
            time.sleep(0.3)  # noqa: ASYNC251 -- nobody is served, and nobody can ask
            stalled.set()

    kinds = ["stall"] + ["quick"] * 20
    load = await drive(kinds, [0.0, *(0.01 * n for n in range(1, 21))], send, patience=5)
    assert stalled.is_set()
    assert load.requests == 21
    assert min(load.seconds["quick"]) >= 0.3 - 0.2
    assert max(load.seconds["quick"]) >= 0.28
    assert max(load.late) >= 0.28


async def test_slow_answers_do_not_hold_back_the_next_request() -> None:
    async def send(kind: str) -> None:
        await asyncio.sleep(0.3)

    began = time.monotonic()
    load = await drive(["x"] * 30, [0.01 * n for n in range(30)], send, patience=5)
    assert time.monotonic() - began < 2
    assert len(load.seconds["x"]) == 30


async def test_failures_are_counted_and_told() -> None:
    async def send(kind: str) -> None:
        if kind == "slow":
            await asyncio.sleep(60)
        if kind == "refused":
            raise ConnectionRefusedError("nobody there")

    load = await drive(["slow", "refused", "good"], [0, 0, 0], send, patience=0.1)
    assert sorted(failure.split()[0] for failure in load.failures) == ["refused:", "slow:"]
    assert load.requests == 3
    assert list(load.seconds) == ["good"]


def load_of(latencies: list[float], failures: int = 0) -> Load:
    return Load({"server": latencies}, ["x"] * failures)


@pytest.mark.parametrize(
    ("number", "load", "holds"),
    [
        (1, load_of([0.01] * 95 + [9.0] * 5), True),
        (2, load_of([0.01] * 94 + [9.0] * 6), False),
        (3, load_of([LIMIT_SECONDS] * 100), True),
        (4, load_of([0.01] * 100, failures=1), False),
        (5, load_of([], failures=1), False),
        (6, Load(), False),
    ],
)
def test_what_a_load_holds(number: int, load: Load, holds: bool) -> None:
    measured = Measured(350, load, hub_cpu=1, edge_cpu=1)
    assert measured.holds is holds
    assert all(bar.holds for bar in scale_bars(1, 2000, measured)) is holds


def test_the_table_of_scale() -> None:
    load = Load({"server": [0.01] * 90, "home": [0.1] * 10}, [])
    found = lines(2, 2000, Measured(350, load, hub_cpu=0.4, edge_cpu=0.02))
    assert [len(line) for line in found] == [len(HEAD)] * 3
    assert found[0] == [
        *("2", "2,000", "350/s", "all", "10.0 ms", "100.0 ms", "100.0 ms"),
        *("100", "0", "4.00 ms", "0.20 ms"),
    ]
    assert [line[3] for line in found[1:]] == ["a server's API", "GET home"]
    nothing = Measured(350, load_of([], failures=3), hub_cpu=0, edge_cpu=0)
    assert "did not hold at 350/s" in most(1, 2000, nothing)
    assert "250 requests/s" in most(1, 2000, Measured(350, load, hub_cpu=0.4, edge_cpu=0.02))


@pytest.mark.parametrize(("late", "told"), [(0.001, False), (0.2, True)])
def test_a_busy_machine_is_told(late: float, told: bool) -> None:
    load = Load({"server": [0.01] * 100}, [], [0.0] * 90 + [late] * 10)
    said = disturbed(1, 2000, Measured(350, load, hub_cpu=1, edge_cpu=1))
    assert [f"{late * 1000:.0f} ms late" in one for one in said] == [True] * told


def test_a_listing_says_its_bars_and_its_table() -> None:
    report = Listing("x", head=["a", "b"], lines=[["1", "2"]], notes=["So it is."])
    report.bars.append(Bar("late", 0.3, 0.22))
    assert json.loads(report.as_json()) == {
        "name": "x",
        "bars": [{"name": "late", "value": 0.3, "limit": 0.22, "holds": False}],
    }
    assert report.as_markdown().splitlines() == [
        *("| a | b |", "| --- | --- |", "| 1 | 2 |", "", "So it is.")
    ]


async def test_the_stand_in_answers_as_servers_do() -> None:
    with stand_in() as port:
        url = address(port, 300)

        def http() -> None:
            with requests.Session() as session:
                for body in (b"", b"x" * 100_000):
                    answer = session.post(f"{url}/user/a%40b/api?x=1", data=body, timeout=10)
                    assert answer.json()["path"] == "/user/a%40b/api?x=1"
            # Two requests in one piece, and one in two.
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HT")
                client.sendall(b"TP/1.1\r\n\r\n")
                received = b""
                while received.count(b'"padding"') < 3:
                    received += client.recv(10_000)
            assert [received.index(f'"path": "/{x}"'.encode()) for x in "abc"]

        def websocket() -> None:
            with connect(f"ws://127.0.0.1:{port}/user/a/ws") as client:
                for size in (0, 1, LONGEST_MESSAGE):
                    client.send(b"m" * size)
                    assert client.recv(timeout=10) == b"m" * size

        await asyncio.to_thread(http)
        await asyncio.to_thread(websocket)
        answers = await websocket_load(port, routes=10, seconds=0.5)
        assert answers.answers > 100
        assert answers.failures == 0
