"""Whether a start fits: a table, and the node as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taccuino.engines.admission import (
    RESOURCES,
    Demand,
    FullDiskError,
    Node,
    check_disk,
    read_node,
    room,
    shortage,
    still_short,
)
from taccuino.engines.start_failure import StartFailure, find_room
from taccuino.settings import AdmissionSettings, Settings

MIB, GIB = 1024**2, 1024**3
NODE = Node(8 * GIB, 6 * GIB, 50 * GIB, 20_000, 100)
DEMAND = Demand(servers=10, limits=20 * GIB, starting=2, memory=2 * GIB)


@pytest.mark.parametrize(
    ("node", "demand", "cause", "said"),
    [
        ({}, {}, None, ""),
        ({"servers": 10}, {}, "servers", "It runs no more than 10 at a time."),
        ({"servers": 11}, {}, None, ""),
        ({}, {"limits": 78 * GIB}, None, ""),
        (
            {},
            {"limits": 78 * GIB + GIB // 2},
            "memory_limits",
            "You asked for 2 GiB of memory, and 1.5 GiB is not promised to others.",
        ),
        ({}, {"limits": 90 * GIB}, "memory_limits", "and 0 MiB is not promised"),
        ({"memory_available": 962 * MIB}, {}, None, ""),
        (
            {"memory_available": 961 * MIB},
            {},
            "memory",
            "A server takes 150 MiB of memory to begin with, and 149 MiB is free.",
        ),
        ({"memory_available": 940 * MIB}, {"memory": 128 * MIB}, None, ""),
        ({"memory_available": 962 * MIB}, {"starting": 3}, "memory", "0 MiB is free"),
        ({"disk_free": 511 * MIB}, {}, "disk", "Its disk is full."),
        ({"processes_free": 679}, {}, "processes", "as many processes as it can"),
    ],
)
def test_what_is_short(node: dict, demand: dict, cause: str | None, said: str) -> None:
    short = shortage(replace(NODE, **node), replace(DEMAND, **demand), AdmissionSettings())
    assert (short and short.cause) == cause
    if short:
        assert short.message.startswith("There is no room for another server on this machine.")
        assert said in short.message
        assert short.by_stopping == (cause != "disk")


def test_limits_may_be_promised_without_bound() -> None:
    demand = replace(DEMAND, limits=10_000 * GIB)
    assert shortage(NODE, demand, AdmissionSettings(memory_overcommit=0)) is None
    assert "memory_limits" not in room(NODE, demand, AdmissionSettings(memory_overcommit=0))
    assert set(room(NODE, demand, AdmissionSettings())) == set(RESOURCES)


def test_this_node(tmp_path) -> None:
    settings = Settings.parse({"state_dir": str(tmp_path)})
    node = read_node(settings)
    assert 0 < node.memory_available <= node.memory
    assert node.disk_free > 0
    assert 0 < node.processes_free < 2**22
    assert node.servers == 4096  # networks of 16 addresses in a /16
    few = Settings.parse({"state_dir": str(tmp_path), "admission": {"servers": 3}})
    assert read_node(few).servers == 3


async def test_a_full_disk(tmp_path) -> None:
    settings = {"state_dir": str(tmp_path)}
    await check_disk(Settings.parse(settings))
    full = Settings.parse(settings | {"admission": {"disk_reserve": "1000T"}})
    with pytest.raises(FullDiskError, match=r"is free, and 1000T is kept .*disk_reserve"):
        await check_disk(full)


def test_a_turn_that_comes_too_late(tmp_path) -> None:
    settings = Settings.parse(
        {"state_dir": str(tmp_path), "admission": {"memory_reserve": "1000T"}}
    )
    short = still_short(settings, 2 * GIB, 0)
    assert short
    assert short.cause == "memory"
    with pytest.raises(StartFailure) as caught:
        find_room(settings, 2 * GIB, 0)
    assert caught.value.failure.status == 503
    assert caught.value.jupyterhub_message == short.message
    find_room(Settings.parse({"state_dir": str(tmp_path)}), None, 0)
