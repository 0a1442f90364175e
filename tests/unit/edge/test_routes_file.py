"""The file of the routes: changed in place, and whole at any moment."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taccuino.edge import EdgeError
from taccuino.edge.routemap import Route, parse_map
from taccuino.edge.routes_file import RoutesFile


class Killed(BaseException):
    """kill -9."""


def route(name: str, address: str = "10.0.0.1:8888") -> Route:
    return Route(f"/user/{name}/", f"http://{address}", address, {"user": name})


def in_file(path: Path) -> dict[str, Route]:
    routes, faults = parse_map(path.read_text())
    assert not faults
    return routes


def as_haproxy_reads(path: Path) -> list[str]:
    """Each entry; unlike ours, HAProxy's reader keeps both of two with one key."""
    lines = path.read_text().splitlines()
    return [line.strip(" ") for line in lines if line.strip(" ") and not line.startswith("#")]


def filled(path: Path, count: int = 100) -> RoutesFile:
    file = RoutesFile(path, pytest.fail)
    file.change({route(f"u{n}").key: route(f"u{n}") for n in range(count)})
    return file


def test_a_change_of_many_routes_is_made_in_place(tmp_path: Path) -> None:
    path = tmp_path / "routes.map"
    file = filled(path)
    inode = path.stat().st_ino
    moved = route("u7", "10.0.0.2:8888")
    file.change({"/user/new/": route("new"), "/user/u3/": None, moved.key: moved})
    assert path.stat().st_ino == inode
    assert path.stat().st_mode & 0o777 == 0o600
    expected = {f"/user/u{n}/" for n in range(100)} - {"/user/u3/"} | {"/user/new/"}
    assert set(in_file(path)) == expected
    assert in_file(path) == file.routes() == RoutesFile(path, pytest.fail).routes()
    assert in_file(path)[moved.key].address == "10.0.0.2:8888"
    assert len(as_haproxy_reads(path)) == 100


def test_an_undo_undoes_it(tmp_path: Path) -> None:
    path = tmp_path / "routes.map"
    file = filled(path)
    before = dict(file.routes())
    undo = file.change(
        {
            "/user/new/": route("new"),
            "/user/u3/": None,
            "/user/u7/": route("u7", "10.0.0.2:1"),
            "/user/u8/": route("u8"),  # as it was
            "/user/absent/": None,
        }
    )
    assert set(undo) == {"/user/new/", "/user/u3/", "/user/u7/"}
    file.change(undo)
    assert in_file(path) == dict(file.routes()) == before


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "routes.map"
    file = filled(path)
    full = path.stat().st_size
    for turn in range(500):
        file.change({"/user/x/": route("x", f"10.0.0.1:{turn + 1}")})
    assert path.stat().st_size < 2.2 * full
    assert in_file(path)["/user/x/"].address == "10.0.0.1:500"


def test_a_file_that_was_replaced_or_removed_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "routes.map"
    file = filled(path)
    other = tmp_path / "other"
    other.write_text("# nothing\n")
    other.replace(path)
    file.change({"/user/new/": route("new")})
    assert len(in_file(path)) == 101
    path.unlink()
    file.change({"/user/new/": None})
    assert len(in_file(path)) == 100
    with path.open("a") as stream:
        stream.write("/by/hand/ 10.0.0.9:1\n")
    file.change({"/user/new/": route("new")})
    assert in_file(path) == dict(file.routes())


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "routes.map"
    path.write_text(
        '# {"routespec": "/user/a/", "target": "http://10.0.0.1:1", "data": {"user": "a"}}\n'
        "/user/a/ 10.0.0.1:1\n"
    )
    file = RoutesFile(path, pytest.fail)
    assert file.routes()["/user/a/"].data == {"user": "a"}
    file.change({"/user/b/": route("b")})
    assert set(in_file(path)) == {"/user/a/", "/user/b/"}


def test_what_is_no_route_is_told(tmp_path: Path) -> None:
    path = tmp_path / "routes.map"
    path.write_bytes(b"\xff\xfe garbage\n /user/a/ 10.0.0.1:1\n")
    told: list[str] = []
    assert set(RoutesFile(path, told.append).routes()) == {"/user/a/"}
    assert len(told) == 1


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="Is a directory"):
        RoutesFile(tmp_path, pytest.fail).routes()


CHANGE = {
    "/user/new/": route("new", "10.1.1.1:80"),
    "/user/u3/": None,
    "/user/u7/": route("u7", "10.2.2.2:80"),
}


def writes_until(monkeypatch: pytest.MonkeyPatch, turn: int, error: BaseException) -> None:
    """Let the write of this turn write a part, and the next fail."""
    pwrite, turns = os.pwrite, iter(range(1000))

    def failing(descriptor: int, text: bytes, place: int) -> int:
        now = next(turns)
        if now > turn:
            monkeypatch.setattr(os, "pwrite", pwrite)
            raise error
        return pwrite(descriptor, text[: len(text) // 2] if now == turn else text, place)

    monkeypatch.setattr(os, "pwrite", failing)


@pytest.mark.parametrize("turn", range(5))
def test_who_is_killed_leaves_each_route_as_it_was_or_was_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    path = tmp_path / "routes.map"
    file = filled(path)
    before = dict(file.routes())
    writes_until(monkeypatch, turn, Killed())
    with pytest.raises(Killed):
        file.change(CHANGE)
    found = RoutesFile(path, lambda _: None).routes()
    entries = [line.split(" ") for line in as_haproxy_reads(path)]
    assert {key: route.address for key, route in found.items()} == dict(entries)
    assert len({key for key, _ in entries}) == len(entries)
    for key, old in before.items():
        if key not in CHANGE:
            assert found[key] == old
    for key, new in CHANGE.items():
        assert found.get(key) in (before.get(key), new, None)


MANY = {route(f"v{n}").key: route(f"v{n}") for n in range(100)}
"""So many that the whole file is written."""


@pytest.mark.parametrize(
    ("turn", "change"), [*((turn, CHANGE) for turn in range(5)), (0, MANY)]
)
def test_a_full_disk_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: int, change: dict[str, Route | None]
) -> None:
    path = tmp_path / "routes.map"
    file = filled(path)
    before = dict(file.routes())
    writes_until(monkeypatch, turn, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(EdgeError, match=r"No space left.*no route was changed"):
        file.change(change)
    assert in_file(path) == dict(file.routes()) == before
    file.change(change)
    assert in_file(path) == dict(file.routes()) != before


NAMES = st.sampled_from([f"u{n}" for n in range(12)] + ["josé", "a b", "x@y"])
ADDRESSES = st.sampled_from([None, "10.0.0.1:1", "10.0.0.2:65535", "fd00::1:8888"])


@settings(max_examples=60)
@given(st.lists(st.lists(st.tuples(NAMES, ADDRESSES), min_size=1, max_size=3), max_size=25))
def test_the_file_says_what_was_asked_for(turns: list[list[tuple[str, str | None]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "routes.map"
        file = filled(path, 40)
        model = dict(file.routes())
        for changes in turns:
            wanted = {
                route(name).key: None if address is None else route(name, address)
                for name, address in changes
            }
            file.change(wanted)
            model = {key: r for key, r in (model | wanted).items() if r is not None}
            assert in_file(path) == dict(file.routes()) == model
            assert len(as_haproxy_reads(path)) == len(model)


_CHANGES_FOR_EVER = """
import sys, itertools
from pathlib import Path
from taccuino.edge.routemap import Route
from taccuino.edge.routes_file import RoutesFile
file = RoutesFile(Path(sys.argv[1]), lambda torn: None)  # the last entry, by the kill
for turn in itertools.count():
    address = f"10.0.{turn % 250}.1:{turn % 60000 + 1}"
    x, y = (Route(f"/user/{name}/", f"http://{address}", address, {}) for name in "xy")
    file.change({x.key: x, y.key: None if turn % 2 else y})
    if turn == 3:
        print("begun", flush=True)
"""


def test_a_process_killed_in_the_midst_of_changes(tmp_path: Path) -> None:
    path = tmp_path / "routes.map"
    expected = dict(filled(path, 300).routes())
    chance = random.Random(1)
    for _ in range(8):
        command = [sys.executable, "-c", _CHANGES_FOR_EVER, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.wait(10)
        process.stdout.close()
        found = RoutesFile(path, lambda _: None).routes()
        entries = [line.split(" ") for line in as_haproxy_reads(path)]
        assert {key: route.address for key, route in found.items()} == dict(entries)
        assert len(dict(entries)) == len(entries)
        assert {key: found.get(key) for key in expected} == expected
        assert set(found) - set(expected) <= {"/user/x/", "/user/y/"}
