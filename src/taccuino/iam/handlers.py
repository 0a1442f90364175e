"""The hub's pages of a login: to the IAM, back from it, and out again."""

from __future__ import annotations

import secrets
import time
from typing import Any, Final

from jupyterhub.handlers.login import LoginHandler
from oauthenticator.oauth2 import (
    OAuthCallbackHandler,
    OAuthLoginHandler,
    OAuthLogoutHandler,
    _deserialize_state,
    _serialize_state,
)
from tornado import web
from tornado.httputil import url_concat

from .discovery import DiscoveryError
from .failures import GrantFailure, grant_failure_reason, login_reason_message

__all__ = [
    "IAMCallbackHandler",
    "IAMLoginHandler",
    "IAMLogoutHandler",
    "LoginPageHandler",
    "login_state",
    "refuse_start",
    "send_to_login",
]

_STALE_LOGIN: Final = (
    "This login was begun in another browser or tab, or too long ago. Go back to the login "
    "page and log in again."
)


def login_state(handler: Any) -> dict[str, Any]:
    """What the login began with: state, nonce and code verifier, from the signed cookie."""
    state: dict[str, Any] = _deserialize_state(handler.get_state_cookie())
    return state


def send_to_login(handler: Any, user: Any, code: str, message: str) -> None:
    """Have a request whose user is no longer welcome end at the login page, with the reason.

    JupyterHub redirects there by itself when a refresh says no; the reason and the way back
    are added to the address. A start is answered at once, since JupyterHub has no other words
    for it than "auth has expired". What others ask about the user (an administrator, say) goes
    on as JupyterHub has it.

    Raises
    ------
    tornado.web.HTTPError
        403, when the user's own request is already under way: a start.
    """
    if handler is None or handler.current_user is not user:
        return
    handler.login_refusal = (code, message)
    login_url = url_concat(
        handler.settings["login_url"], {"reason": code, "next": handler.request.uri}
    )
    handler.get_login_url = lambda: login_url
    # JupyterHub sets the scopes once it knows the user: before that it only asks who it is.
    if hasattr(handler, "parsed_scopes"):
        raise _StartRefusedError(code, message)


def refuse_start(handler: Any, user: Any) -> None:
    """Refuse a start that a user asks for in a request in which they were refused.

    Raises
    ------
    tornado.web.HTTPError
        403, with the reason's sentence.
    """
    refusal = getattr(handler, "login_refusal", None)
    if refusal and handler.current_user is user:
        raise _StartRefusedError(*refusal)


class _StartRefusedError(web.HTTPError):
    """A start ended by the IAM refusing its user; the code is in a header, for API callers."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(403, message)
        self.headers = {"X-Taccuino-Reason": code}
        # What JupyterHub shows: it replaces the text of an error that is raised in a start.
        self.jupyterhub_message = message


class LoginPageHandler(LoginHandler):
    """The login page; it says why a user was logged out (``?reason=``, known codes only)."""

    def _render(
        self, login_error: str | None = None, username: str | None = None, **kwargs: Any
    ) -> Any:
        _, refusal = getattr(self, "login_refusal", (None, None))
        reason = login_reason_message(self.get_argument("reason", None))
        message = login_error or refusal or reason
        return super()._render(login_error=message, username=username, **kwargs)


class IAMLoginHandler(OAuthLoginHandler):
    """Sends the browser to the IAM with a fresh state, nonce and PKCE challenge."""

    async def get(self) -> None:
        """Begin a login.

        The state cookie is signed and http-only, so any hub process with the same cookie
        secret can end what another began.
        """
        authenticator = self.authenticator
        next_url = self._get_next_url()
        try:
            await authenticator.use_discovered_endpoints()
        except DiscoveryError as error:
            self.log.warning("No login is possible: %s", error)
            where = {"reason": "unreachable"} | ({"next": next_url} if next_url else {})
            self.redirect(url_concat(self.settings["login_url"], where))
            return
        code_verifier, code_challenge = self._generate_pkce_params()
        state_id, nonce = self._generate_state_id(), secrets.token_urlsafe(32)
        self.set_state_cookie(
            _serialize_state(
                {
                    "state_id": state_id,
                    "next_url": next_url,
                    "code_verifier": code_verifier,
                    "nonce": nonce,
                }
            )
        )
        self.authorize_redirect(
            redirect_uri=authenticator.get_callback_url(self),
            client_id=authenticator.client_id,
            scope=authenticator.scope,
            extra_params={
                **authenticator.extra_authorize_params,
                "state": _serialize_state({"state_id": state_id}),
                "nonce": nonce,
                "code_challenge": code_challenge,
                "code_challenge_method": "S256",
            },
            response_type="code",
        )


class IAMCallbackHandler(OAuthCallbackHandler):
    """Takes the browser back from the IAM and ends the login."""

    def check_arguments(self) -> None:
        """Check the state before anything else: what has no state of ours is not answered."""
        self.check_state()
        self.check_error()
        self.check_code()

    def check_state(self) -> None:
        """Check that this browser began this login, and that its issuer answers.

        Raises
        ------
        tornado.web.HTTPError
            400, with a sentence for the user.
        """
        began = login_state(self).get("state_id") if self.get_state_cookie() else None
        given = _deserialize_state(self.get_argument("state", ""))
        returned = given.get("state_id") if isinstance(given, dict) else None
        if (
            not began
            or not isinstance(returned, str)
            or not secrets.compare_digest(str(began).encode(), returned.encode())
        ):
            self.log.warning("A login came back with a state that is not its own")
            raise web.HTTPError(400, _STALE_LOGIN)
        issuer = self.get_argument("iss", None)  # RFC 9207: who answers must be who was asked
        if issuer is not None and issuer.rstrip("/") != self.authenticator.issuer.rstrip("/"):
            self.log.warning("A login came back from another issuer: %s", ascii(issuer)[:120])
            raise web.HTTPError(400, _STALE_LOGIN)

    def check_error(self) -> None:
        """Raise what the IAM says instead of a code.

        Raises
        ------
        GrantFailure
            With the reason, unless the user declined: that is told by `get`.
        """
        error = self.get_argument("error", None)
        if error:
            description = self.get_argument("error_description", "")
            reason = grant_failure_reason(error, description)
            raise GrantFailure(reason, f"{error[:60]} {description[:200]}".strip())

    async def get(self) -> None:
        """End the login, or go back to the login page with the reason why not."""
        try:
            await super().get()
        except GrantFailure as failure:
            denied = self.get_argument("error", None) == "access_denied"
            code = (
                "consent_denied" if denied and failure.reason == "refused" else failure.reason
            )
            self.log.warning("The IAM ended a login: %s", failure)
            self.redirect(url_concat(self.settings["login_url"], {"reason": code}))


class IAMLogoutHandler(OAuthLogoutHandler):
    """Ends the hub's session and offers to end the IAM's.

    The grant is kept: servers that go on running need it.
    """

    _iam_logout_url: str | None = None

    async def handle_logout(self) -> None:
        """Find where the IAM's session ends, while it is still known whose it is."""
        await super().handle_logout()
        user = self.current_user
        state = await user.get_auth_state() if user else None
        self._iam_logout_url = await self.authenticator.iam_logout_url(state, time.time())

    async def render_logout_page(self) -> None:
        """Show ``logout.html`` with ``iam_logout_url`` (or none) and ``iam_name``."""
        html = await self.render_template(
            "logout.html",
            iam_logout_url=self._iam_logout_url,
            iam_name=self.authenticator.login_service,
        )
        self.finish(html)
