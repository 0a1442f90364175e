"""How many servers are kept warm."""

from __future__ import annotations

import pytest

from taccuino.engines.warm import Demand
from taccuino.settings import Settings


def demand(**warm: object) -> Demand:
    return Demand(Settings.parse({"warm": warm}).warm)


@pytest.mark.parametrize(
    ("times", "now", "peak"),
    [
        ([], 0, 0),
        ([0], 10, 1),
        ([0, 10, 50, 61], 70, 3),  # the first and the last are more than a minute apart
        ([0] * 30 + [600], 700, 30),
        ([0] * 30 + [600], 3700, 1),  # an hour later, the class is forgotten
    ],
)
def test_peak(times: list[float], now: float, peak: int) -> None:
    starts = demand()
    for time in times:
        starts.note("base", time)
    assert starts.peak("base", now) == peak
    assert starts.peak("other", now) == 0


@pytest.mark.parametrize(
    ("warm", "started", "targets"),
    [
        ({}, 0, {"base": 2, "other": 1}),
        ({"servers": 0}, 9, {"base": 0, "other": 0}),
        ({"servers": 1, "others": 0}, 0, {"base": 1, "other": 0}),
        ({"memory": "2G"}, 9, {"base": 2, "other": 9}),
        # Of 640 MB, ten: everyone's least, and the rest for what is in demand.
        ({"memory": "640M"}, 50, {"base": 2, "other": 8}),
        ({"memory": "128M"}, 50, {"base": 1, "other": 1}),
        ({"memory": "64M"}, 50, {"base": 1, "other": 0}),
    ],
)
def test_targets(warm: dict[str, object], started: int, targets: dict[str, int]) -> None:
    starts = demand(**warm)
    for _ in range(started):
        starts.note("other", 100)
    assert starts.targets(["base", "other"], 200) == targets
