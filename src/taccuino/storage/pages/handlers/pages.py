"""The page itself, and the calls that need no login."""

from __future__ import annotations

from tornado.web import StaticFileHandler

from taccuino.storage.pages.errors import CallError
from taccuino.storage.pages.login import PREFIX

from .base import Call, PageHandler

__all__ = [
    "HealthHandler",
    "IndexHandler",
    "LoginHandler",
    "MissingCall",
    "MissingHandler",
    "StaticHandler",
]


class IndexHandler(PageHandler):
    """The page, which then lives of the API alone."""

    def get(self) -> None:
        """Answer with it; the part of the path after ``browse/`` is the page's own business."""
        self.finish(
            self.parts.presentation.page(
                "index.html",
                xsrf_token=self.xsrf_token.decode(),
                username=self.username,
            )
        )


class LoginHandler(PageHandler):
    """Where a page sends a user whose login ended; logged in, it leads to the pages."""

    def get(self) -> None:
        """Go on to the pages."""
        self.redirect(PREFIX)


class HealthHandler(PageHandler):
    """Whether the process runs, for its supervisor."""

    needs_login = False

    def get(self) -> None:
        """Answer without asking anybody."""
        self.finish("ok\n")


class StaticHandler(StaticFileHandler):
    """Scripts and styles, each at an address with its version."""

    def set_default_headers(self) -> None:
        """The security headers, but that of caching, and the one that bars other origins.

        A notebook's preview is in a frame that has no origin, and takes its style from here.
        """
        for name, value in self.settings["security_headers"].items():
            if name not in {"Cache-Control", "Cross-Origin-Resource-Policy"}:
                self.set_header(name, value)

    def get_cache_time(self, path: str, modified: object, mime_type: str) -> int:  # noqa: ARG002
        """Seconds: a year."""
        return 31536000


class MissingHandler(PageHandler):
    """Whatever else is asked for."""

    needs_login = False

    async def prepare(self) -> None:
        """Refuse it.

        Raises
        ------
        CallError
            Always.
        """
        raise CallError(404, "There is no such page.")


class MissingCall(Call):
    """A call that there is not."""

    needs_login = False

    async def prepare(self) -> None:
        """Refuse it.

        Raises
        ------
        CallError
            Always.
        """
        raise CallError(404, "There is no such call.")
