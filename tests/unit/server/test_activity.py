"""What a page does by itself, and what its user does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tornado.testing import AsyncHTTPTestCase
from tornado.web import Application, RequestHandler

from taccuino.server.activity import ignore_background_requests, is_background


@pytest.mark.parametrize(
    ("method", "path", "background"),
    [
        ("GET", "/user/a/api/metrics/v1", True),
        ("GET", "/user/a/api/contents", True),
        ("HEAD", "/user/a/api/contents/notes.ipynb", True),
        ("PUT", "/user/a/lab/api/workspaces/default", True),
        ("DELETE", "/user/a/lab/api/workspaces/default", False),
        ("PUT", "/user/a/api/contents/notes.ipynb", False),
        ("PUT", "/user/a/api/contents/lab/api/workspaces/notes/x", False),
        ("POST", "/user/a/api/kernels", False),
        ("PUT", "/user/a/lab/api/settings/x", False),
    ],
)
def test_background_requests(method: str, path: str, background: bool) -> None:
    assert is_background(method, path) is background


class _Handler(RequestHandler):
    def get(self) -> None:
        self.finish(self.get_argument("no_track_activity", "counts"))

    def post(self) -> None:
        self.get()


class TestTheMarker(AsyncHTTPTestCase):
    def get_app(self) -> Application:
        application = Application([("/.*", _Handler)])
        self.kernels = SimpleNamespace(untracked_message_types=["kernel_info_request"])
        ignore_background_requests(
            SimpleNamespace(web_app=application, kernel_manager=self.kernels)
        )
        application.add_handlers(".*$", [("/later", _Handler)])
        return application

    def test_the_handlers_are_found_as_before(self) -> None:
        assert self.fetch("/a/api/kernels").body == b"1"
        assert self.fetch("/a/api/kernels", method="POST", body="").body == b"counts"
        assert self.fetch("/later").body == b"1"

    def test_messages_that_ask_for_memory_in_use_do_not_count(self) -> None:
        assert "usage_request" in self.kernels.untracked_message_types
        assert "kernel_info_request" in self.kernels.untracked_message_types
