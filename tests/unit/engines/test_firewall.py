"""The firewall's rules, as text; that they hold is proven on real containers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from taccuino.engines.firewall import (
    edge_ports,
    leads_here,
    neighbour_ports,
    resolvers,
    ruleset,
)
from taccuino.settings import Settings


def test_ruleset() -> None:
    assert (
        ruleset(8000, [9001, 8000], ["10.0.0.53", "fd00::1"])
        == """\
table inet taccuino_8000
delete table inet taccuino_8000
table inet taccuino_8000 {
    chain input {
        type filter hook input priority -10; policy accept;
        iifname != "tc-8000-*" accept
        ct state established,related accept
        tcp dport { 8000, 9001 } accept
        iifname "tc-8000-*" ip daddr 10.0.0.53 meta l4proto { tcp, udp } th dport 53 accept
        iifname "tc-8000-*" ip6 daddr fd00::1 meta l4proto { tcp, udp } th dport 53 accept
        iifname "tc-8000-*" meta l4proto tcp counter reject with tcp reset
        iifname "tc-8000-*" counter drop
    }
    chain forward {
        type filter hook forward priority -10; policy accept;
        ct state established,related accept
        oifname "tc-8000-*" counter drop
        iifname "tc-8000-*" ip daddr 10.0.0.53 meta l4proto { tcp, udp } th dport 53 accept
        iifname "tc-8000-*" ip6 daddr fd00::1 meta l4proto { tcp, udp } th dport 53 accept
        iifname "tc-8000-*" oifname "tc-*" counter drop
        iifname "tc-8000-*" ip daddr 169.254.0.0/16 counter drop
        iifname "tc-8000-*" ip6 daddr fe80::/10 counter drop
    }
}
"""
    )


@pytest.mark.skipif(shutil.which("nft") is None, reason="nftables is not installed")
def test_nft_reads_it() -> None:
    text = ruleset(8000, [8000], ["10.0.0.53"])
    done = subprocess.run(
        ["nft", "--check", "-f", "-"], input=text.encode(), capture_output=True
    )
    if b"Operation not permitted" in done.stderr:
        pytest.skip("nft --check needs root")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("endpoint", "issuer", "ports"),
    [
        (None, None, ()),
        ("http://here:7480", "https://elsewhere:8443/", (7480,)),
        ("https://here", "http://here/realms/x", (80, 443)),
        ("https://rgw.example.org", "https://here:8443", (8443,)),
    ],
)
def test_services_on_this_host_are_reached(
    endpoint: str | None, issuer: str | None, ports: tuple[int, ...]
) -> None:
    settings = Settings.parse(
        {"storage": {"endpoint": endpoint}, "iam": {"issuer": issuer, "client_id": "x"}}
    )
    assert neighbour_ports(settings, lambda host: host == "here") == ports


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("192.0.2.77", False),
        ("no.such.name.invalid", False),
    ],
)
def test_leads_here(host: str, expected: bool) -> None:
    assert leads_here(host) is expected


def test_edge_ports() -> None:
    settings = Settings.parse({"port": 8000, "local": {"iam_port": 8001, "s3_port": 8002}})
    assert edge_ports(settings) == (8000, 8001, 8002)
    assert edge_ports(Settings.parse({"port": 8000})) == (8000,)


def test_resolvers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    assert resolvers(file) == ()
    file.write_text(
        "# nameserver 1.1.1.1\nnameserver 127.0.0.53\nnameserver 10.1.1.1\n"
        "search x\nnameserver fd00::53\nnameserver; drop\nnameserver\n"
    )
    assert resolvers(file) == ("10.1.1.1", "fd00::53")
