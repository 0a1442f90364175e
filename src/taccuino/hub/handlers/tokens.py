"""The broker's HTTP API: access tokens and storage credentials for what runs on users' behalf.

A notebook server asks with its own token and gets what is its user's; the mount plane asks
with its service's token and gets any user's. Nobody else gets anything: cookies are not
looked at (so no page in a browser can ask), and a token that a user made for themself does
not name the scope and a server.
"""

from __future__ import annotations

from typing import Any, Final

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.scopes import Scope
from jupyterhub.user import User
from tornado import web

from taccuino.errors import TaccuinoError
from taccuino.hub.storage import refusal
from taccuino.iam.failures import GrantFailure

__all__ = [
    "CREDENTIALS_SCOPE",
    "SCOPES",
    "SERVER_TOKEN_SCOPES",
    "STORAGE_PAGES",
    "TOKENS_SCOPE",
    "USER_ROLE",
    "mount_plane_role",
    "storage_pages_role",
    "token_handlers",
]

TOKENS_SCOPE: Final = "custom:taccuino:tokens"
CREDENTIALS_SCOPE: Final = "custom:taccuino:credentials"
STORAGE_PAGES: Final = "storage"
"""What the hub calls the storage pages' service; it is in their address."""

SCOPES: Final[dict[str, dict[str, str]]] = {
    TOKENS_SCOPE: {"description": "Get access tokens and storage credentials of one's own."},
    CREDENTIALS_SCOPE: {"description": "Get the storage credentials of any user."},
}
"""For ``c.JupyterHub.custom_scopes``."""

USER_ROLE: Final[dict[str, Any]] = {
    "name": "user",
    "description": "Standard user privileges",
    "scopes": ["self", f"{TOKENS_SCOPE}!user", f"access:services!service={STORAGE_PAGES}"],
}
"""For ``c.JupyterHub.load_roles``: what a user may give their servers."""

SERVER_TOKEN_SCOPES: Final = [
    "users:activity!user",
    "access:servers!server",
    f"{TOKENS_SCOPE}!server",
]
"""For ``c.Spawner.server_token_scopes``: JupyterHub's default, and the broker."""

_LONGEST_AUDIENCE: Final = 256
_LONGEST_PERIOD: Final = 86400


def mount_plane_role(service: str = "mount-plane") -> dict[str, Any]:
    """For ``c.JupyterHub.load_roles``: the mount plane's service."""
    return {
        "name": "taccuino-mount-plane",
        "description": "Fetch the storage credentials of the users whose storage it mounts",
        "scopes": [CREDENTIALS_SCOPE],
        "services": [service],
    }


def storage_pages_role() -> dict[str, Any]:
    """For ``c.JupyterHub.load_roles``: the storage pages' service."""
    return {
        "name": "taccuino-storage-pages",
        "description": "Fetch users' storage credentials, and the groups of who shares a file",
        "scopes": [CREDENTIALS_SCOPE, "read:users:name", "read:users:groups"],
        "services": [STORAGE_PAGES],
    }


class _BrokerHandler(APIHandler):
    """Takes tokens only, and answers a refusal with its reason."""

    _accept_cookie_auth = False

    def set_default_headers(self) -> None:
        """JupyterHub's headers, and that no cache may keep the answer."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    def own_user(self) -> Any:
        """The user whose running server asks.

        A server's token names this scope and the one server it was made for; a user's own
        token names neither, it inherits. (A user who asks for a token with both scopes of a
        running server of theirs gets it: it is what their server could do.)

        Raises
        ------
        tornado.web.HTTPError
            403 for any other caller.
        """
        user, token = self.current_user, self.get_token()
        if user is None or token is None:
            raise web.HTTPError(403, "Missing or invalid credentials.")
        named = set(token.scopes)
        permitted = TOKENS_SCOPE in self.parsed_scopes and any(
            scope.partition("!")[0] == TOKENS_SCOPE for scope in named
        )
        if permitted and isinstance(user, User):
            for server_name, spawner in list(user.spawners.items()):
                server = f"access:servers!server={user.name}/{server_name}"
                if spawner.active and server in named:
                    return user
        raise web.HTTPError(
            403, f"Only a running notebook server may ask, with its own token ({TOKENS_SCOPE})"
        )

    def refuse(self, error: TaccuinoError) -> None:
        """Answer with an error's sentence, and its reason where the IAM gave one."""
        if isinstance(error, GrantFailure):
            reason, message = error.reason, error.user_message
        else:
            words = refusal(error)
            reason, message = None, f"{words[0].upper()}{words[1:]}."
        status = 503 if reason in {None, "unreachable"} else 403
        self.set_status(status)
        body = {"status": status, "message": message}
        if reason:
            body["reason"] = reason
        self.finish(body)

    async def give_credentials(self, user: Any) -> None:
        """Answer with a user's storage credentials."""
        source = self.settings.get("taccuino_credentials")
        if source is None:
            raise web.HTTPError(503, "This hub hands out no storage credentials")
        try:
            credentials = await source.credentials(user)
        except TaccuinoError as error:
            self.log.warning("No storage credentials for %s: %s", user.name, error)
            self.refuse(error)
        else:
            self.finish(credentials.as_container_json())


class TokenHandler(_BrokerHandler):
    """``POST /token``: an access token of the server's user."""

    async def post(self) -> None:
        """Answer ``{"access_token", "issuer", "expires_at"}``."""
        user = self.own_user()
        min_valid_period, audience = self._asked()
        broker = self.settings.get("taccuino_broker") or self.authenticator.broker
        try:
            token = await broker.access_token(
                user, min_valid_seconds=min_valid_period, audience=audience
            )
        except GrantFailure as failure:
            self.log.warning("No access token for %s: %s", user.name, failure)
            self.refuse(failure)
        else:
            self.finish(
                {
                    "access_token": token.value,
                    "issuer": token.issuer,
                    "expires_at": int(token.expires_at),
                }
            )

    def _asked(self) -> tuple[int, str | None]:
        body = self.get_json_body()
        if body is None:
            body = {}
        if not isinstance(body, dict):
            raise web.HTTPError(400, "The body must be a JSON object")
        period = body.get("min_valid_period", 60)
        if type(period) is not int or not 0 <= period <= _LONGEST_PERIOD:
            raise web.HTTPError(
                400, f"min_valid_period must be a whole number from 0 to {_LONGEST_PERIOD}"
            )
        audience = body.get("audience")
        if audience is None or audience == "":
            return period, None
        usable = isinstance(audience, str) and audience.isascii() and audience.isprintable()
        if not usable or len(audience) > _LONGEST_AUDIENCE:
            raise web.HTTPError(
                400, f"audience must be ASCII text of at most {_LONGEST_AUDIENCE} characters"
            )
        return period, audience


class OwnCredentialsHandler(_BrokerHandler):
    """``POST /credentials``: the storage credentials of the server's user."""

    async def post(self) -> None:
        """Answer as the AWS container-credentials endpoint does."""
        await self.give_credentials(self.own_user())


class UserCredentialsHandler(_BrokerHandler):
    """``GET /credentials/<username>``: any user's, for the mount plane's service."""

    async def get(self, username: str) -> None:
        """Answer as the AWS container-credentials endpoint does."""
        service = self.current_user
        if service is None:
            raise web.HTTPError(403, "Missing or invalid credentials.")
        unbound = self.parsed_scopes.get(CREDENTIALS_SCOPE) is Scope.ALL
        if not isinstance(service, orm.Service) or not unbound:
            raise web.HTTPError(403, f"Only a service with {CREDENTIALS_SCOPE} may ask")
        user = self.find_user(username)
        if user is None:
            raise web.HTTPError(404, f"There is no user {ascii(username)[:80]}")
        await self.give_credentials(user)


token_handlers: Final = [
    (r"/api/taccuino/token", TokenHandler),
    (r"/api/taccuino/credentials", OwnCredentialsHandler),
    (r"/api/taccuino/credentials/([^/]+)", UserCredentialsHandler),
]
"""For ``c.JupyterHub.extra_handlers``."""
