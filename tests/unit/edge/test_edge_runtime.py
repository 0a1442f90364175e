"""The admin socket's client and the route table, against a scripted admin socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from taccuino.edge import EdgeError, EdgeUnreachableError, RuntimeAPI
from taccuino.edge.routes import RouteTable


class Admin:
    """An admin socket with one map, which answers as HAProxy 2.6 does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.map: dict[str, str] = {}
        self.lines: list[str] = []
        self.answer: Callable[[str], str] = self._answer

    def _answer(self, command: str) -> str:
        words = command.split(" ")
        match words[:2]:
            case ["show", "map"]:
                return "".join(f"0x55 {key} {value}\n" for key, value in self.map.items())
            case ["set", "map"] if words[3] not in self.map:
                return "entry not found.\n"
            case ["set" | "add", "map"]:
                self.map[words[3]] = words[4]
            case ["del", "map"]:
                return "" if self.map.pop(words[3], None) else "Key not found.\n"
        return ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode().rstrip("\n")
        self.lines.append(line)
        writer.write("".join(self.answer(c) + "\n" for c in line.split(";")).encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def listening(admin: Admin) -> AsyncIterator[None]:
    server = await asyncio.start_unix_server(admin.serve, str(admin.path))
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
def short() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tc-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
async def admin(short: Path) -> AsyncIterator[Admin]:
    admin = Admin(short / "a.sock")
    async with listening(admin):
        yield admin


def table(directory: Path, patience: float = 0.3) -> RouteTable:
    return RouteTable(
        admin_socket=str(directory / "a.sock"),
        routes_file=str(directory / "routes.map"),
        patience=patience,
    )


async def test_put_sets_or_adds(admin: Admin) -> None:
    runtime = RuntimeAPI(admin.path)
    admin.map = {"/a/": "1.1.1.1:1"}
    await runtime.put("/m", {"/a/": "2.2.2.2:2", "/b/": "3.3.3.3:3"})
    assert await runtime.show_map("/m") == {"/a/": "2.2.2.2:2", "/b/": "3.3.3.3:3"}
    await runtime.remove("/m", ["/a/", "/absent/"])
    assert admin.map == {"/b/": "3.3.3.3:3"}


async def test_many_commands_go_in_lines_that_fit(admin: Admin) -> None:
    await RuntimeAPI(admin.path).put("/m", {f"/user/u{n}/": "10.0.0.1:80" for n in range(1000)})
    assert len(admin.map) == 1000
    assert max(len(line) for line in admin.lines) < 16_000
    assert len(admin.lines) < 20


@pytest.mark.parametrize(
    "hostile", ["a b", "a;show info", "a\nshow info", "", "<<", "a\\", "é", "\x00"]
)
async def test_no_value_can_end_a_command(admin: Admin, hostile: str) -> None:
    runtime = RuntimeAPI(admin.path)
    for call in (
        runtime.put("/m", {hostile: "1.1.1.1:1"}),
        runtime.put("/m", {"/a/": hostile}),
        runtime.remove("/m", [hostile]),
        runtime.show_map(hostile),
    ):
        with pytest.raises(EdgeError, match="can't be part"):
            await call
    assert admin.lines == []


async def test_refusals_are_errors(admin: Admin) -> None:
    admin.answer = lambda _: "Unknown map identifier. Please use #<id> or <file>.\n"
    runtime = RuntimeAPI(admin.path)
    for call in (
        runtime.put("/m", {"/a/": "1.1.1.1:1"}),
        runtime.remove("/m", ["/a/"]),
        runtime.show_map("/m"),
    ):
        with pytest.raises(EdgeError, match="Unknown map"):
            await call


async def test_no_answer_in_time(short: Path) -> None:
    done = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with await asyncio.start_unix_server(silent, str(short / "a.sock")):
        with pytest.raises(EdgeError, match=r"no answer in 0\.1 s"):
            await RuntimeAPI(short / "a.sock", timeout=0.1).show_map("/m")
        done.set()


async def test_an_absent_socket_is_named(short: Path) -> None:
    with pytest.raises(EdgeUnreachableError, match="is the edge running"):
        await RuntimeAPI(short / "a.sock").show_map("/m")


async def test_add_and_delete(admin: Admin) -> None:
    routes = table(admin.path.parent)
    assert await routes.get_all_routes() == {}
    await routes.add_route("/", "http://127.0.0.1:8081", {"hub": True})
    await routes.add_route("/user/a@b/", "http://10.0.0.1:80", {"user": "a@b"})
    await routes.add_route("/user/a@b/", "http://10.0.0.2:80", {"user": "a@b"})
    assert admin.map == {"/user/a%40b/": "10.0.0.2:80"}
    assert await routes.get_all_routes() == {
        "/": {"routespec": "/", "target": "http://127.0.0.1:8081", "data": {"hub": True}},
        "/user/a@b/": {
            "routespec": "/user/a@b/",
            "target": "http://10.0.0.2:80",
            "data": {"user": "a@b"},
        },
    }
    assert await table(admin.path.parent).get_route("/user/a@b") is not None
    await routes.delete_route("/user/a@b/")
    await routes.delete_route("/user/a@b/")
    assert admin.map == {}
    assert set(await routes.get_all_routes()) == {"/"}


async def test_a_name_is_looked_up_and_reported_as_given(admin: Admin) -> None:
    routes = table(admin.path.parent)
    await routes.add_route("/services/x/", "http://localhost:10101", {"service": "x"})
    assert admin.map == {"/services/x/": "127.0.0.1:10101"}
    assert (await routes.get_all_routes())["/services/x/"]["target"] == "http://localhost:10101"
    with pytest.raises(EdgeError, match="no known host"):
        await routes.add_route("/services/y/", "http://absent.invalid:1", {"service": "y"})


async def test_what_haproxy_holds_is_told_not_what_was_meant(admin: Admin) -> None:
    routes = table(admin.path.parent)
    await routes.add_route("/user/a/", "http://10.0.0.1:80", {"user": "a"})
    await routes.add_route("/user/b/", "http://10.0.0.2:80", {"user": "b"})
    admin.map = {"/user/a/": "10.9.9.9:80", "/user/stale/": "10.0.0.3:80"}
    found = await routes.get_all_routes()
    assert {spec: route["target"] for spec, route in found.items()} == {
        "/user/a/": "http://10.9.9.9:80",
        "/user/stale/": "http://10.0.0.3:80",
    }
    await routes.delete_route("/user/stale/")
    assert "/user/stale/" not in admin.map


async def test_an_add_that_haproxy_refuses_changes_nothing(admin: Admin) -> None:
    routes = table(admin.path.parent)
    await routes.add_route("/user/a/", "http://10.0.0.1:80", {"user": "a"})
    file = admin.path.parent / "routes.map"
    before = file.read_text()
    admin.answer = lambda _: "Out of memory.\n"
    with pytest.raises(EdgeError, match="Out of memory"):
        await routes.add_route("/user/b/", "http://10.0.0.2:80", {"user": "b"})
    assert file.read_text() == before
    assert file.stat().st_mode & 0o777 == 0o600


async def test_an_edge_that_is_down(short: Path) -> None:
    routes = table(short)
    with pytest.raises(EdgeUnreachableError):
        await routes.add_route("/user/a/", "http://10.0.0.1:80", {"user": "a"})
    assert "/user/a/" not in (short / "routes.map").read_text()
    with pytest.raises(EdgeUnreachableError):
        await routes.get_all_routes()
    # A server can be stopped all the same: the edge starts without its route.
    await routes.delete_route("/user/a/")


async def test_an_edge_that_comes_back_in_time(short: Path) -> None:
    routes = table(short, patience=5)
    adding = asyncio.create_task(routes.add_route("/user/a/", "http://10.0.0.1:80", {}))
    await asyncio.sleep(0)
    admin = Admin(short / "a.sock")
    async with listening(admin):
        await adding
    assert admin.map == {"/user/a/": "10.0.0.1:80"}
