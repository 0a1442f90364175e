from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from tornado.httpclient import HTTPClientError

from taccuino.server import hub_fetch
from taccuino.server.hub_fetch import fetch


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async def echo(request: web.Request) -> web.Response:
        text = f"{request.method} {request.headers.get('X-Word')} {await request.text()}"
        return web.Response(text=text, headers={"X-JupyterHub-Version": "6.1"})

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(text="not yours: ü", status=403)

    app = web.Application()
    app.router.add_route("*", "/echo", echo)
    app.router.add_get("/refuse", refuse)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_it_asks_as_it_is_told(address: str) -> None:
    answer = await fetch(f"{address}/echo")
    assert (answer.status, await answer.text()) == (200, "GET None ")
    assert answer.headers.get("x-jupyterhub-version") == "6.1"
    answer = await fetch(
        f"{address}/echo", method="POST", headers={"X-Word": "one"}, data=b"a=b"
    )
    assert await answer.text() == "POST one a=b"
    assert await (await fetch(f"{address}/echo", method="POST")).text() == "POST None "


async def test_a_refusal_is_an_answer_for_who_asks_so(address: str) -> None:
    answer = await fetch(f"{address}/refuse", raise_for_status=False)
    assert answer.status == 403
    assert "not yours: ü" in await answer.text()
    with pytest.raises(HTTPClientError, match="403"):
        await fetch(f"{address}/refuse")


async def test_many_at_once(address: str) -> None:
    answers = await asyncio.gather(*(fetch(f"{address}/echo") for _ in range(150)))
    assert {answer.status for answer in answers} == {200}


@pytest.mark.parametrize("raise_for_status", [True, False])
async def test_no_answer_is_an_error(raise_for_status: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        await fetch(f"http://127.0.0.1:{port}/", raise_for_status=raise_for_status)


@pytest.mark.parametrize("reset", [False, True])
async def test_an_answer_that_breaks_off_is_an_error(
    reset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_fetch, "_SECONDS", 0.5)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not reset:  # what was sent and not read makes the kernel reset the connection
            await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises((HTTPClientError, OSError)):
        await fetch(f"http://127.0.0.1:{port}/", raise_for_status=False)
    server.close()
