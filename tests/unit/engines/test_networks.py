"""Names and subnets of the servers' networks."""

from __future__ import annotations

from ipaddress import IPv4Network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taccuino.engines.networks import bridge_prefix, free_subnets, gateway, network_name

POOL = IPv4Network("10.90.0.0/16")


@given(st.integers(1, 65000), st.text(min_size=1), st.integers(0, 40))
def test_names_fit_an_interface(port: int, container: str, salt: int) -> None:
    name = network_name(port, container, salt)
    assert name.startswith(bridge_prefix(port))
    assert len(bridge_prefix(port)) + 6 <= len(name) <= 15
    assert name.isascii()


def test_names_differ_by_server_and_salt() -> None:
    names = {network_name(8000, f"c{n}", salt) for n in range(50) for salt in range(4)}
    assert len(names) == 200


def test_prefixes_of_two_instances_never_match() -> None:
    assert not network_name(80001, "a").startswith(bridge_prefix(8000))


def test_every_subnet_once() -> None:
    found = list(free_subnets(POOL, [], "a"))
    assert len(found) == len(set(found)) == 4096
    assert all(subnet.subnet_of(POOL) and subnet.prefixlen == 28 for subnet in found)


def test_the_same_server_begins_at_the_same_subnet() -> None:
    assert next(free_subnets(POOL, [], "a")) == next(free_subnets(POOL, [], "a"))
    assert len({next(free_subnets(POOL, [], f"c{n}")) for n in range(20)}) > 15


@pytest.mark.parametrize(
    ("used", "free"),
    [
        (["10.90.0.0/16"], 0),
        (["10.0.0.0/8"], 0),
        (["10.90.0.0/17"], 2048),
        (["10.90.3.16/28", "10.90.3.16/28"], 4095),
        (["10.90.3.17/32"], 4095),
        (["10.91.0.0/16", "192.168.0.0/16"], 4096),
    ],
)
def test_used_subnets_are_left_out(used: list[str], free: int) -> None:
    taken = [IPv4Network(network) for network in used]
    found = list(free_subnets(POOL, taken, "a"))
    assert len(found) == free
    assert not any(subnet.overlaps(network) for subnet in found for network in taken)


def test_small_pools() -> None:
    assert list(free_subnets(IPv4Network("10.0.0.0/28"), [], "a")) == [
        IPv4Network("10.0.0.0/28")
    ]
    assert len(list(islice(free_subnets(IPv4Network("10.0.0.0/24"), [], "a"), 99))) == 16


def test_gateway_is_the_first_address() -> None:
    assert gateway(IPv4Network("10.90.3.16/28")) == "10.90.3.17"
