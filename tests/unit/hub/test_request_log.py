"""What the log tells of a request that failed."""

from __future__ import annotations

import logging

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from taccuino.edge.sites import PEER_HEADER
from taccuino.hub.request_log import log_without_secret


class Fails(RequestHandler):
    def get(self) -> None:
        raise RuntimeError("a fault")


@pytest.mark.parametrize("name", [PEER_HEADER, PEER_HEADER.lower(), PEER_HEADER.upper()])
async def test_the_secret_of_all_sites_is_not_logged(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    socket, port = bind_unused_port()
    server = HTTPServer(Application([("/", Fails)], log_function=log_without_secret))
    server.add_socket(socket)
    secret = "0123456789abcdef"
    with caplog.at_level(logging.DEBUG):
        answer = await AsyncHTTPClient().fetch(
            f"http://127.0.0.1:{port}/",
            headers={name: secret, "Authorization": "token another", "X-Shown": "shown"},
            raise_error=False,
        )
    server.stop()
    assert answer.code == 500
    assert "X-Shown" in caplog.text
    assert secret not in caplog.text
    assert "another" not in caplog.text
