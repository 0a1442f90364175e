from __future__ import annotations

import socket

import pytest

from taccuino.local.ports import OFFSETS, PortNeed, bindable, choose


def taken(*ports: int):
    return lambda port: "another program" if port in ports else None


def test_ports_are_derived_from_the_services_own() -> None:
    ports, faults = choose(8000, [PortNeed(key) for key in OFFSETS], taken())
    assert faults == []
    assert ports == {
        "local.iam_port": 8001,
        "local.s3_port": 8002,
        "hub.port": 8003,
        "local.iam_backend_port": 8004,
        "local.s3_backend_port": 8005,
        "local.ceph_mon_port": 8006,
        "edge.server_port": 8007,
        "local.storage_pages_port": 8008,
        "local.front_end_port": 8009,
    }


@pytest.mark.parametrize(
    ("need", "busy", "port"),
    [
        (PortNeed("local.iam_port"), (8001,), 8010),
        (PortNeed("local.iam_port"), (8001, 8010, 8011), 8012),
        (PortNeed("local.iam_port", named=9000), (8001,), 9000),
        (PortNeed("local.iam_port", kept=9001), (8001,), 9001),
        (PortNeed("local.iam_port", named=9000, kept=9001), (), 9000),
    ],
)
def test_a_port_that_is_left_open_gives_way(need: PortNeed, busy, port: int) -> None:
    assert choose(8000, [need], taken(*busy)) == ({"local.iam_port": port}, [])


def test_a_derived_port_leaves_room_for_one_that_is_named() -> None:
    needs = [PortNeed("local.iam_port"), PortNeed("hub.port", named=8001)]
    assert choose(8000, needs, taken())[0] == {"local.iam_port": 8010, "hub.port": 8001}


@pytest.mark.parametrize(
    ("needs", "busy", "key", "words"),
    [
        ([], (8000,), "port", "8000 is in use by another program"),
        ([PortNeed("hub.port", named=9000)], (9000,), "hub.port", "9000 is in use"),
        ([PortNeed("hub.port", kept=9000)], (9000,), "hub.port", "9000 is in use"),
        ([PortNeed("hub.port", named=8000)], (), "hub.port", "used twice"),
        (
            [PortNeed("hub.port", named=9), PortNeed("local.s3_port", named=9)],
            (),
            "local.s3_port",
            "used twice",
        ),
    ],
)
def test_faults_name_the_key_and_who_holds_it(needs, busy, key: str, words: str) -> None:
    _, faults = choose(8000, needs, taken(*busy))
    assert [fault.key for fault in faults] == [key]
    assert words in faults[0].problem
    assert faults[0].mend


def test_bindable_sees_a_listener_on_loopback_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not bindable(port)
    assert bindable(port)
