"""Route keys, targets and the map file."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.utils import url_escape_path

from taccuino.edge import EdgeError
from taccuino.edge.routemap import Route, format_map, parse_map, parse_target, route_key


@pytest.mark.parametrize(
    ("number", "routespec", "key"),
    [
        (1, "/", "/"),
        (2, "/user/alice/", "/user/alice/"),
        (3, "/user/alice", "/user/alice/"),
        (4, "/user/alice/lab-2/", "/user/alice/lab-2/"),
        (5, "/services/x/", "/services/x/"),
        (6, "/user/a@b.it/", "/user/a%40b.it/"),
        (7, "/user/a%40b.it/", "/user/a%40b.it/"),
        (8, "/user/%61lice/", "/user/alice/"),
        (9, "/user/maria%20rossi/", "/user/maria%20rossi/"),
        (10, "/user/maria%2520rossi/", "/user/maria%2520rossi/"),
        (11, "/user/jos%c3%a9/", "/user/jos%C3%A9/"),
        (12, "/user/josé/", "/user/jos%C3%A9/"),
        (13, "/user/a b/", "/user/a%20b/"),
        (14, "/user/a\ndel map x/", "/user/a%0Adel%20map%20x/"),
        (15, "/user/a;show info/", "/user/a%3Bshow%20info/"),
        (16, "/user/a%0a%3b%00/", "/user/a%0A%3B%00/"),
        (17, "/user/#x<<\\/", "/user/%23x%3C%3C%5C/"),
        (18, "alice.Hub.example.org/user/alice/", "alice.hub.example.org/user/alice/"),
        (19, "/user/~x/", "/user/~x/"),
    ],
)
def test_key(number: int, routespec: str, key: str) -> None:
    assert route_key(routespec) == key


@pytest.mark.parametrize(
    "routespec",
    ["", "alice", "a b/user/", "ex\nample.org/", "host;x/", "-x/", "@1/", "/" + "x" * 2100],
)
def test_no_route(routespec: str) -> None:
    with pytest.raises(EdgeError):
        route_key(routespec)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_two_names_share_no_key_and_none_is_hostile(one: str, other: str) -> None:
    try:
        keys = [route_key(f"/user/{url_escape_path(name)}/") for name in (one, other)]
    except UnicodeEncodeError:  # a lone surrogate is no name: JupyterHub can't escape it
        return
    assert (keys[0] == keys[1]) == (one == other)
    for key in keys:
        assert re.fullmatch(r"/user/[A-Za-z0-9._~%/-]+/", key)


@pytest.mark.parametrize(
    ("target", "host", "port", "is_address"),
    [
        ("http://10.0.0.1:8888", "10.0.0.1", 8888, True),
        ("http://10.0.0.1:8888/", "10.0.0.1", 8888, True),
        ("http://[fd00::1]:8888", "fd00::1", 8888, True),
        ("http://node-3.example.org", "node-3.example.org", 80, False),
    ],
)
def test_target(target: str, host: str, port: int, is_address: bool) -> None:
    found = parse_target(target)
    assert (found.host, found.port, found.is_address) == (host, port, is_address)


@pytest.mark.parametrize(
    "target",
    ["https://10.0.0.1:8888", "http+unix://%2Fx", "http://x:99999", "http://h/path", "", "x:1"],
)
def test_target_that_the_edge_cannot_serve(target: str) -> None:
    with pytest.raises(EdgeError, match="target"):
        parse_target(target)


def test_map_file_keeps_everything() -> None:
    routes = [
        Route("/user/a@b/", "http://10.0.0.1:80", "10.0.0.1:80", {"user": "a@b\n# {"}),
        Route("/services/x/", "http://[fd00::1]:81", "fd00::1:81", {"service": "x"}),
        Route("a.example.org/user/a/", "http://name:82", "10.0.0.3:82", {}),
    ]
    text = format_map(routes)
    assert parse_map(text) == ({route.key: route for route in routes}, [])
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[0] == " /user/a%40b/ 10.0.0.1:80"
    assert all(re.fullmatch(r" \S+ \S+", line) for line in lines)


def test_map_file_written_by_hand() -> None:
    routes, faults = parse_map(
        "# note\n\n/user/x/ 10.0.0.1:80\nnonsense\n# {broken\n/user/y/ fd00::1:81\n/user/z/ 9\n"
        '# {"routespec": "/user/other/", "target": "http://1.1.1.1:1", "data": {}}\n'
        "/user/w/ 10.0.0.2:80\n"
    )
    assert routes == {
        "/user/x/": Route("/user/x/", "http://10.0.0.1:80", "10.0.0.1:80"),
        "/user/y/": Route("/user/y/", "http://[fd00::1]:81", "fd00::1:81"),
        "/user/w/": Route("/user/w/", "http://10.0.0.2:80", "10.0.0.2:80"),
    }
    assert faults == ["nonsense", "# {broken", "/user/z/ 9"]
