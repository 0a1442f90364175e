"""The edge with a real HAProxy: routes, waiting, websockets, headers, TLS, restarts."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector
from edge_harness import Edge, free_port, running_edge
from yarl import URL

from taccuino import edge
from taccuino.edge import RELOAD_SIGNAL, RuntimeAPI

pytestmark = pytest.mark.integration


async def who(http: ClientSession, url: str, **request: Any) -> str:
    async with http.get(URL(url, encoded=True), **request) as answer:
        assert answer.status == 200
        return str((await answer.json())["name"])


async def received(http: ClientSession, url: str, **request: Any) -> dict[str, list[str]]:
    """The headers that arrived behind the edge."""
    async with http.get(url, **request) as answer:
        headers: dict[str, list[str]] = {}
        for key, value in (await answer.json())["headers"]:
            headers.setdefault(key, []).append(value)
        return headers


async def test_routes_change_without_a_reload(running: Edge, http: ClientSession) -> None:
    one, two = await running.upstream("one"), await running.upstream("two")
    routes = running.routes()
    worker = await RuntimeAPI(running.settings.edge.admin_socket).worker_pid()
    url = f"{running.url}/user/alice/lab"
    assert await who(http, url) == "hub"
    await routes.add_route("/user/alice/", one.url, {"user": "alice"})
    assert await who(http, url) == "one"
    await routes.add_route("/user/alice/", two.url, {"user": "alice"})
    assert await who(http, url) == "two"
    await routes.delete_route("/user/alice/")
    assert await who(http, url) == "hub"
    assert await RuntimeAPI(running.settings.edge.admin_socket).worker_pid() == worker


async def test_the_right_server_for_each_path(running: Edge, http: ClientSession) -> None:
    routes = running.routes()
    specs = {
        "al": "/user/al/",
        "alice": "/user/alice/",
        "alice-gpu": "/user/alice/gpu/",
        "mail": "/user/a%40b.it/",
        "space": "/user/maria%20rossi/",
        "percent": "/user/maria%2520rossi/",
        "accent": "/user/jos%C3%A9/",
        "service": "/services/x/",
    }
    for name, spec in specs.items():
        await routes.add_route(spec, (await running.upstream(name)).url, {"user": name})
    for path, name in {
        "/user/al/": "al",
        "/user/alice/": "alice",
        "/user/alice/x?next=/user/al/": "alice",
        "/user/%61lice/": "alice",
        "/user/alice/gpu/tree": "alice-gpu",
        "/user/alice/gpu": "alice",
        "/user/alice/gpux/": "alice",
        "/user/a@b.it/lab": "mail",
        "/user/a%40b.it/lab": "mail",
        "/user/maria%20rossi/": "space",
        "/user/maria%2520rossi/": "percent",
        "/user/jos%c3%a9/": "accent",
        "/services/x/": "service",
        "/user/ali/": "hub",
        "/user/alicea/": "hub",
        "/user/alice": "hub",
        "/hub/user/alice/": "hub",
        "//user/alice/": "hub",
        "/user/%zz/": "hub",
        "/user/alice%00/": "hub",
        "/": "hub",
    }.items():
        assert (path, await who(http, running.url + path)) == (path, name)
    # The path arrives as it was sent.
    async with http.get(
        URL(f"{running.url}/user/a%40b.it/c%2Fd?e=%20f", encoded=True)
    ) as answer:
        assert (await answer.json())["path"] == "/user/a%40b.it/c%2Fd?e=%20f"


async def test_kept_connections_are_not_mixed_up(running: Edge) -> None:
    """One client's requests alternate between servers over connections that are reused."""
    routes = running.routes()
    for name in ("a", "b", "c"):
        await routes.add_route(f"/user/{name}/", (await running.upstream(name)).url, {})
    async with ClientSession(connector=TCPConnector(limit=2)) as http:
        names = ["abc"[n % 3] for n in range(120)]
        answers = await asyncio.gather(
            *(who(http, f"{running.url}/user/{name}/") for name in names)
        )
    assert answers == names


async def test_a_host_in_the_route(running: Edge, http: ClientSession) -> None:
    server = await running.upstream("alice")
    routes = running.routes(host_routing=True)
    await routes.add_route("alice.example.org/user/alice/", server.url, {"user": "alice"})
    url = f"{running.url}/user/alice/"
    port = running.settings.port
    assert await who(http, url, headers={"Host": f"Alice.example.org:{port}"}) == "alice"
    assert await who(http, url, headers={"Host": f"bob.example.org:{port}"}) == "hub"
    assert await who(http, url) == "hub"


async def test_an_ipv6_server(running: Edge, http: ClientSession) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    port = free_port()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b'{"name": "six"}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "::1", port):
        await running.routes().add_route("/user/six/", f"http://[::1]:{port}", {"user": "six"})
        assert await who(http, f"{running.url}/user/six/") == "six"


async def test_websockets_outlive_a_reload(running: Edge, http: ClientSession) -> None:
    server = await running.upstream("alice")
    routes = running.routes()
    await routes.add_route("/user/alice/", server.url, {"user": "alice"})
    async with http.ws_connect(f"{running.url}/user/alice/ws") as connection:
        await connection.send_str("one")
        assert await connection.receive_str(timeout=5) == "alice: one"
        worker = await RuntimeAPI(running.settings.edge.admin_socket).worker_pid()

        running.settings.edge.login_rate = 7
        assert edge.prepare(running.settings)
        await edge.reload(running.settings, lambda: running.process.send_signal(RELOAD_SIGNAL))

        assert await RuntimeAPI(running.settings.edge.admin_socket).worker_pid() != worker
        assert running.process.poll() is None
        await connection.send_str("two")
        assert await connection.receive_str(timeout=5) == "alice: two"
        assert await who(http, f"{running.url}/user/alice/") == "alice"
        await routes.add_route("/user/bob/", server.url, {"user": "bob"})
        assert await who(http, f"{running.url}/user/bob/") == "alice"


async def test_no_request_fails_during_a_reload(running: Edge) -> None:
    done = asyncio.Event()
    statuses: list[int] = []

    async def client() -> None:
        while not done.is_set():
            async with ClientSession() as http, http.get(running.url) as answer:
                statuses.append(answer.status)

    clients = [asyncio.create_task(client()) for _ in range(2)]
    for _ in range(2):
        await edge.reload(running.settings, lambda: running.process.send_signal(RELOAD_SIGNAL))
    done.set()
    await asyncio.gather(*clients)
    assert set(statuses) == {200}


async def test_requests_wait_while_the_hub_restarts(running: Edge, http: ClientSession) -> None:
    await running.hub.stop()

    async def post() -> str:
        async with http.post(f"{running.url}/hub/spawn", data=b"x=1") as answer:
            return str((await answer.json())["method"])

    waiting = [
        asyncio.create_task(who(http, f"{running.url}/hub/home")),
        asyncio.create_task(post()),
    ]
    done, _ = await asyncio.wait(waiting, timeout=1.5)
    assert not done
    await running.hub.start()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == ["hub", "POST"]


async def test_a_hub_that_stays_away(running: Edge, http: ClientSession) -> None:
    await running.hub.stop()
    start = time.monotonic()
    (page, text), (api, body) = await asyncio.gather(
        fetch(http, f"{running.url}/hub/home", Accept="text/html,*/*"),
        fetch(http, f"{running.url}/hub/api/user"),
    )
    assert 20 < time.monotonic() - start < 45
    assert (page.status, page.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert 'http-equiv="refresh"' in text
    assert page.headers["Retry-After"] == "3"
    assert (api.status, api.headers["Content-Type"]) == (503, "application/json")
    assert json.loads(body)["status"] == 503


async def fetch(http: ClientSession, url: str, **headers: str) -> tuple[Any, str]:
    async with http.get(url, headers=headers) as answer:
        return answer, await answer.text()


async def test_a_server_that_is_gone(running: Edge, http: ClientSession) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    await running.routes().add_route("/user/alice/", gone, {"user": "alice"})
    page, text = await fetch(http, f"{running.url}/user/alice/lab", Accept="text/html")
    assert page.status == 503
    assert 'href="/hub/home"' in text
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    api, body = await fetch(http, f"{running.url}/user/alice/api/contents")
    assert api.status == 503
    assert json.loads(body)["reason"] == "server_unavailable"


@pytest.mark.parametrize(
    ("media", "compressed"),
    [
        ("text/html", True),
        ("application/json", True),
        ("application/javascript", True),
        ("image/svg+xml", True),
        ("image/png", False),
        ("text/event-stream", False),
    ],
)
async def test_text_is_compressed(
    running: Edge, http: ClientSession, media: str, compressed: bool
) -> None:
    url = f"{running.url}/large?type={media.replace('+', '%2B')}"
    for accepted, expected in (("gzip", "gzip" if compressed else None), ("identity", None)):
        async with http.get(
            URL(url, encoded=True), headers={"Accept-Encoding": accepted}, auto_decompress=False
        ) as answer:
            assert answer.headers.get("Content-Encoding") == expected
            size = len(await answer.read())
            assert size == 180_000 if expected is None else size < 10_000


async def test_what_a_client_says_of_itself_is_replaced(
    running: Edge, http: ClientSession
) -> None:
    spoofed = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Real-IP": "6.6.6.6",
        "X-Scheme": "gopher",
        "Forwarded": "for=6.6.6.6",
    }
    headers = await received(http, running.url, headers=spoofed)
    port = str(running.settings.port)
    assert headers["x-forwarded-for"] == ["127.0.0.1"]
    assert headers["x-forwarded-proto"] == ["http"]
    assert headers["x-forwarded-host"] == headers["host"] == [f"localhost:{port}"]
    assert headers["x-forwarded-port"] == [port]
    assert not {"x-real-ip", "x-scheme", "forwarded", "x-forwarded-prefix"} & set(headers)


async def test_headers_of_answers(running: Edge, http: ClientSession) -> None:
    async with http.get(running.url) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
        assert "Server" not in answer.headers
        assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ("taccuino-iam=secret", None),
        ("taccuino-iam=secret; a=1", "a=1"),
        ("a=1; taccuino-iam=secret", "a=1"),
        ("a=1; taccuino-iam=secret; b=2", "a=1; b=2"),
        ("canaille_login_history=x; a=1; taccuino-iam=secret; b=2", "a=1; b=2"),
        ("a=1;taccuino-iam=secret;b=2", "a=1;b=2"),
        ("taccuino-iam=secret; a=1; taccuino-iam=secret", "a=1"),
        ("taccuino-iam=a; taccuino-iam=secret; taccuino-iam=b", None),
        ("taccuino-iam=a; c=1; taccuino-iam=secret;taccuino-iam=b; d=2", "c=1; d=2"),
        ('a="x,y"; _xsrf=2|x|y', 'a="x,y"; _xsrf=2|x|y'),
        ("my-taccuino-iam=1; taccuino-iam-2=2", "my-taccuino-iam=1; taccuino-iam-2=2"),
    ],
)
async def test_the_iams_cookie_stays_out(
    running: Edge, http: ClientSession, sent: str, arrives: str | None
) -> None:
    headers = await received(http, running.url, headers={"Cookie": sent})
    assert headers.get("cookie") == ([arrives] if arrives else None)


async def test_the_iams_cookie_stays_out_of_each_header(
    running: Edge, http: ClientSession
) -> None:
    for sent in (["taccuino-iam=secret", "a=1"], ["a=1", "taccuino-iam=secret"]):
        headers = await received(http, running.url, headers=[("Cookie", one) for one in sent])
        assert "secret" not in "".join(headers.get("cookie", []))


async def test_a_restart_keeps_the_routes(running: Edge, http: ClientSession) -> None:
    server = await running.upstream("alice")
    routes = running.routes()
    await routes.add_route("/user/a%40b/", server.url, {"user": "a@b"})
    before = await routes.get_all_routes()
    await running.restart()
    assert await routes.get_all_routes() == await running.routes().get_all_routes() == before
    assert await who(http, f"{running.url}/user/a@b/") == "alice"


async def test_an_add_waits_for_a_restart(running: Edge, http: ClientSession) -> None:
    server = await running.upstream("alice")
    running.stop()
    adding = asyncio.create_task(running.routes().add_route("/user/alice/", server.url, {}))
    await running.restart()
    await adding
    assert await who(http, f"{running.url}/user/alice/") == "alice"
    runtime = RuntimeAPI(running.settings.edge.admin_socket)
    assert len(await runtime.show_map(str(running.settings.edge.routes_file))) == 1


async def test_a_slow_sender_is_cut_off_and_large_headers_refused(
    running: Edge, http: ClientSession
) -> None:
    async with http.get(running.url, headers={"X-Large": "x" * 20_000}) as answer:
        assert answer.status in (400, 431)
    async with http.get(running.url, headers={f"X-{n}": "x" for n in range(120)}) as answer:
        assert answer.status == 400
    reader, writer = await asyncio.open_connection("localhost", running.settings.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    assert (await asyncio.wait_for(reader.read(), 25)).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_passwords_are_limited(short: Path, http: ClientSession) -> None:
    async with running_edge(short, edge={"login_rate": 5}) as running:
        for status in [200] * 5 + [429]:
            async with http.post(f"{running.url}/hub/login", data={"p": "x"}) as answer:
                assert answer.status == status
        async with http.get(f"{running.url}/hub/login") as answer:
            assert answer.status == 200


async def test_the_embedded_iam_and_storage(short: Path, http: ClientSession) -> None:
    (short / "iam").mkdir()
    (short / "iam/jwks.json").write_text('{"keys": ["k"]}')
    iam_port, s3_port, iam_backend, s3_backend = (free_port() for _ in range(4))
    local = {
        "iam_port": iam_port,
        "iam_backend_port": iam_backend,
        "s3_port": s3_port,
        "s3_backend_port": s3_backend,
    }
    async with running_edge(short, local=local) as running:
        iam, s3 = await running.upstream("iam"), await running.upstream("s3")
        for server, port in ((iam, iam_backend), (s3, s3_backend)):
            await server.stop()
            server.port = port
            await server.start()
        async with http.get(f"http://localhost:{iam_port}/oauth/jwks.json") as answer:
            assert await answer.json() == {"keys": ["k"]}
            assert answer.content_type == "application/json"
        headers = await received(
            http, f"http://localhost:{iam_port}/x", headers={"Cookie": "taccuino-iam=s"}
        )
        assert headers["host"] == [f"localhost:{iam_port}"]
        assert headers["cookie"] == ["taccuino-iam=s"]

        url = f"http://localhost:{s3_port}/b/%20%2Fa+b"
        async with http.get(URL(url, encoded=True), headers={"X-Amz-Date": "x"}) as answer:
            got = await answer.json()
        assert got["path"] == "/b/%20%2Fa+b"
        names = {name for name, _ in got["headers"]}
        assert names == {"host", "x-amz-date", "accept", "accept-encoding", "user-agent"}

        async def body() -> Any:
            for _ in range(64):
                yield bytes(2**20)

        async with http.put(f"http://localhost:{s3_port}/b/large", data=body()) as answer:
            assert (await answer.json())["size"] == 64 * 2**20

        await s3.stop()
        async with http.get(f"http://localhost:{s3_port}/b/k") as answer:
            assert answer.status == 503
            assert "<Code>ServiceUnavailable</Code>" in await answer.text()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    chain, key, both = (tmp_path / name for name in ("chain.pem", "key.pem", "both.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(chain.read_text() + key.read_text())
    return both


async def test_tls(short: Path, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate.with_name("chain.pem")))
    async with (
        running_edge(short, edge={"certificate": str(certificate)}) as running,
        ClientSession(connector=TCPConnector(ssl=context)) as http,
    ):
        await running.routes().add_route("/user/a/", (await running.upstream("a")).url, {})
        assert running.url.startswith("https:")
        async with http.get(running.url) as answer:
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        headers = await received(http, running.url)
        assert headers["x-forwarded-proto"] == ["https"]
        async with http.ws_connect(f"{running.url}/user/a/ws") as connection:
            await connection.send_str("x")
            assert await connection.receive_str(timeout=5) == "a: x"

        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            await asyncio.open_connection("localhost", running.settings.port, ssl=old)


async def test_haproxy_gives_up_what_it_does_not_need(running: Edge) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    worker = await RuntimeAPI(running.settings.edge.admin_socket).worker_pid()
    status = Path(f"/proc/{worker}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:"))
    assert "\t0" not in uids
    assert Path(f"/proc/{worker}/root").readlink().parts[-2:] == ("edge", "chroot")
    assert running.settings.edge.admin_socket.stat().st_mode & 0o777 == 0o600


async def test_connections_to_many_servers_are_kept(running: Edge, http: ClientSession) -> None:
    routes = running.routes()
    names = [f"u{number}" for number in range(20)]
    for name in names:
        await routes.add_route(f"/user/{name}/", (await running.upstream(name)).url, {})

    async def connections() -> list[int]:
        found = []
        for name in names:
            async with http.get(f"{running.url}/user/{name}/") as answer:
                told = await answer.json()
                assert told["name"] == name
                found.append(told["connection"])
        return found

    first = await connections()
    assert await connections() == await connections() == first


async def test_five_thousand_routes(running: Edge, http: ClientSession) -> None:
    server = await running.upstream("alice")
    routes = running.routes()
    start = time.perf_counter()
    await asyncio.gather(
        *(routes.add_route(f"/user/u{n}/", server.url, {"user": f"u{n}"}) for n in range(5000))
    )
    every = time.perf_counter() - start
    start = time.perf_counter()
    await routes.add_route("/user/last/", server.url, {"user": "last"})
    one = time.perf_counter() - start
    start = time.perf_counter()
    assert len(await routes.get_all_routes()) == 5001
    read = time.perf_counter() - start
    print(
        f"\n5,000 routes in {every:.2f} s; one more {one * 1e3:.1f} ms; all read {read:.3f} s"
    )
    assert await who(http, f"{running.url}/user/u4999/") == "alice"
    # What was changed in the midst of the file is what a new HAProxy reads.
    other = await running.upstream("other")
    await routes.add_route("/user/u7/", other.url, {"user": "u7"})
    await routes.delete_route("/user/u3/")
    before = await routes.get_all_routes()
    await running.restart()
    assert await routes.get_all_routes() == await running.routes().get_all_routes() == before
    assert len(before) == 5000
    assert await who(http, f"{running.url}/user/u7/") == "other"
    assert await who(http, f"{running.url}/user/last/") == "alice"
    assert await who(http, f"{running.url}/user/u3/") == "hub"
