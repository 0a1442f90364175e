"""What all handlers share: the login, the security headers, and errors in two dresses."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated, UserNotAllowed
from tornado.web import HTTPError, RequestHandler

from taccuino.settings import Settings
from taccuino.storage.pages.clients import UserClients
from taccuino.storage.pages.errors import CallError
from taccuino.storage.pages.login import PREFIX, PagesAuth
from taccuino.storage.pages.places import Place, places_of
from taccuino.storage.pages.presentation import Presentation
from taccuino.storage.provisioner import BucketProvisioner

if TYPE_CHECKING:
    from taccuino.storage.pages.records import Records
    from taccuino.storage.pages.sharing import Sharing

__all__ = ["Call", "CallbackHandler", "PageHandler", "Parts", "security_headers"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_READS = {"GET", "HEAD", "OPTIONS"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Parts:
    """What the handlers work with; one for the process."""

    settings: Settings
    auth: PagesAuth
    clients: UserClients
    provisioner: BucketProvisioner
    presentation: Presentation
    records: Records
    sharing: Sharing


def security_headers() -> dict[str, str]:
    """The headers of every answer: nothing but our own files runs, and nobody frames us."""
    return {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


class PageHandler(HubOAuthenticated, RequestHandler):
    """A page of a user who is logged in; who is not goes to log in first."""

    needs_login = True

    def initialize(self, parts: Parts) -> None:
        """Take what all handlers share."""
        self.parts = parts
        self.hub_auth = parts.auth
        self._user: dict[str, Any] | None = None

    def set_default_headers(self) -> None:
        """The security headers, which also errors have."""
        self.clear_header("Server")
        for name, value in self.settings["security_headers"].items():
            self.set_header(name, value)

    def get_current_user(self) -> dict[str, Any] | None:
        """Who asks, as `prepare` found; never a question to the hub, which would block."""
        return self._user

    async def prepare(self) -> None:
        """Find out who asks.

        Raises
        ------
        tornado.web.HTTPError
            403 where a request that changes something lacks its token.
        """
        if not self.needs_login:
            return
        model = await self.hub_auth.get_user(self, sync=False)
        if self.request.method not in _READS:
            self.check_xsrf_cookie()
        if model is not None:
            try:
                self._user = self.check_hub_user(model)
            except UserNotAllowed:
                raise HTTPError(403, "You may not use the storage pages.") from None
        if self._user is None:
            self.ask_to_log_in()

    def ask_to_log_in(self) -> None:
        """Send the browser to the hub, and back when it is done."""
        self.redirect(self.get_login_url())

    @property
    def username(self) -> str:
        """The user's name."""
        assert self._user is not None
        return str(self._user["name"])

    @cached_property
    def places(self) -> list[Place]:
        """The buckets that the user has to do with."""
        assert self._user is not None
        return places_of(self.parts.settings, self.username, self._user.get("groups") or ())

    def place(self, bucket: object) -> Place:
        """One of the user's buckets, by its name.

        Raises
        ------
        CallError
            404 for any other, whether it exists or not.
        """
        for place in self.places:
            if place.bucket == bucket:
                return place
        raise CallError(404, "There is no such bucket among yours.")

    def writable(self, bucket: object, *keys: str) -> Place:
        """One of the user's buckets in which these keys may be written.

        The storage decides again; this is for a sentence that says why.

        Raises
        ------
        CallError
            403 where they may not.
        """
        place = self.place(bucket)
        for key in keys:
            if not place.may_write(key):
                raise CallError(403, _read_only(place), reason="read_only")
        return place

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A plain page with the sentence."""
        status, message, _ = _described(status_code, kwargs.get("exc_info"))
        self.set_status(status)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.set_header("Retry-After", "5")
        self.finish(
            self.parts.presentation.page(
                "message.html",
                title=HTTPStatus(status).phrase,
                message=message,
                retry=self.request.uri if status == HTTPStatus.SERVICE_UNAVAILABLE else None,
            )
        )

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Nothing for what was told to the user already."""
        if not isinstance(value, CallError):
            super().log_exception(typ, value, tb)


def _described(status: int, exc_info: Any) -> tuple[int, str, str | None]:
    """Status, sentence and reason of what went wrong."""
    error = exc_info[1] if exc_info else None
    if isinstance(error, CallError):
        return error.status, str(error), error.reason
    if isinstance(error, HTTPError):
        said = (error.log_message or "") % error.args if error.args else error.log_message
        if error.status_code >= 500:
            # JupyterHub's client says 500 or 502 where its hub does not answer.
            return (
                503,
                "The hub does not answer at the moment; it may be restarting. Try again soon.",
                "hub",
            )
        return error.status_code, said or f"{HTTPStatus(error.status_code).phrase}.", None
    return status, "Something went wrong here; the administrators see it in the log.", None


class Call(PageHandler):
    """A call of the API: JSON in, JSON out."""

    def ask_to_log_in(self) -> None:
        """Tell a program where a person logs in.

        Raises
        ------
        CallError
            Always.
        """
        raise CallError(401, "Your login has ended. Log in again.", reason="login")

    def check_xsrf_cookie(self) -> None:
        """JupyterHub's check, with a sentence.

        Raises
        ------
        CallError
            403, if the request may be another page's.
        """
        try:
            super().check_xsrf_cookie()
        except HTTPError:
            raise CallError(
                403, "This page is no longer current: load it anew.", reason="xsrf"
            ) from None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """The error as JSON: ``{"status", "message"}``, and ``reason`` and ``login``."""
        status, message, reason = _described(status_code, kwargs.get("exc_info"))
        body: dict[str, Any] = {"status": status, "message": message}
        if reason:
            body["reason"] = reason
        if reason == "login":
            body["login"] = f"{PREFIX}login"
        self.answer(body, status=status)

    def answer(self, body: Any = None, *, status: int = 200) -> None:
        """End with JSON, or with nothing."""
        self.set_status(status if body is not None or status != 200 else 204)
        if body is None:
            self.finish()
            return
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(body))

    @cached_property
    def body(self) -> dict[str, Any]:
        """The request's JSON object.

        Raises
        ------
        CallError
            400, if it is none.
        """
        try:
            data = json.loads(self.request.body or b"{}")
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise CallError(400, "The body must be a JSON object.")
        return data

    def field(self, name: str, kind: type[_T]) -> _T:
        """A field of the body.

        Raises
        ------
        CallError
            400, if it is not there or of another kind.
        """
        value = self.body.get(name)
        # True is an int to Python.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise CallError(400, f"{name}: missing, or not of the kind that is needed.")
        return value


def _read_only(place: Place) -> str:
    if place.kind == "scratch":
        return f"In scratch you write below {place.write_prefix} only; the rest is others'."
    return f"You may read {place.directory}, but not change it."


class CallbackHandler(HubOAuthCallbackHandler):
    """Where the hub sends a user back to, with a code."""

    def initialize(self, parts: Parts) -> None:
        """Take what all handlers share."""
        self.parts = parts
        self.hub_auth = parts.auth

    def get_current_user(self) -> None:
        """Nobody yet: JupyterHub's way would ask the hub and block."""
        return

    set_default_headers = PageHandler.set_default_headers
    write_error = PageHandler.write_error
