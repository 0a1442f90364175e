"""The embedded IAM's process: canaille, its first accounts and the hub's client.

One process does both what ``canaille install``, ``create`` and ``run`` do, since importing
canaille is most of the cost of each (2 s of CPU). Passwords and the client's secret are read
from files and the standard input, never from arguments.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import secrets
import sys
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from authlib.oidc.core.grants.util import generate_id_token  # type: ignore[import-untyped]
from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from canaille.oidc import provider
from canaille.oidc.userinfo import UserInfo, generate_user_claims
from flask import Flask, current_app
from hypercorn.asyncio import serve
from hypercorn.config import Config
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wsgi import ClosingIterator

from taccuino.private_files import keep_private
from taccuino.settings import Settings

from .iam import (
    EMBEDDED_ADMIN_GROUP,
    GRANT_SECONDS,
    canaille_config,
    client_registration,
    issuer,
    signing_key,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["make_app", "provision"]


def make_app(settings: Settings) -> Flask:
    """Canaille with this instance's configuration and database, which it makes or migrates."""
    state = settings.state_dir / "iam"
    database = state / "canaille.sqlite"
    state.mkdir(mode=0o711, exist_ok=True)
    database.touch(mode=0o600)
    database.chmod(0o600)  # it holds password hashes and tokens
    app: Flask = create_app(
        canaille_config(
            name=settings.name,
            address=issuer(settings),
            database=database,
            secret_key=keep_private(state / "secret-key", lambda: secrets.token_hex(32)),
            jwk=signing_key(settings).jwk,
            token_seconds=settings.local.iam_token_seconds,
        )
    )
    app.config["OAUTH2_ACCESS_TOKEN_GENERATOR"] = access_token
    provider.authorization.init_app(
        app, query_client=provider.query_client, save_token=save_token
    )
    app.wsgi_app = _never_without_chunks(  # type: ignore[assignment, method-assign]
        ProxyFix(app.wsgi_app, x_for=1, x_proto=1)
    )
    return app


def _never_without_chunks(app: WSGIApplication) -> WSGIApplication:
    """Add an empty chunk to each answer.

    hypercorn 0.18 answers 500 where there is none (``WSGIWrapper.run_app``), as in a 304.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        chunks = app(environ, start_response)
        return ClosingIterator(chain(chunks, (b"",)), getattr(chunks, "close", None))

    return answer


def access_token(client: Any, grant_type: str, user: Any, scope: str) -> str:
    """A signed access token, as canaille's own generator makes it, with a ``jti``.

    Without one, two tokens that a user gets within a second are the same text, and canaille
    answers 500 to the second since its database holds each token once.
    """
    claims = UserInfo(generate_user_claims(user)).filter(scope)
    config = provider.get_jwt_config(client)
    lifetimes = current_app.config["OAUTH2_TOKEN_EXPIRES_IN"]
    token: str = generate_id_token(
        token={},
        user_info={**claims, "jti": secrets.token_urlsafe(16), "client_id": client.client_id},
        aud=[audience.client_id for audience in client.audience],
        exp=lifetimes[grant_type],
        **config,
    )
    return token


def save_token(token: Mapping[str, Any], request: Any) -> None:
    """Keep a grant for as long as its refresh token may be used.

    canaille has one lifetime for both of a grant's tokens, so a refresh token would end with
    the access token that it is there to replace. The access token's own end is in its ``exp``.
    """
    provider.save_token({**token, "expires_in": GRANT_SECONDS}, request)


def provision(app: Flask, settings: Settings, accounts: list[dict[str, Any]]) -> None:
    """Make what is missing: the accounts, the admin group; and bring the client up to date."""
    secret_file = settings.iam.client_secret_file
    if secret_file is None:
        sys.exit(
            "iam.client_secret_file is not set; it names the file with the client's secret"
        )
    secret = secret_file.read_text(encoding="utf-8").strip()
    with app.app_context():
        for account in accounts:
            ensure_account(account)
        registration = client_registration(name=settings.name, url=settings.url, secret=secret)
        client = Backend.instance.get(models.Client, client_id=registration["client_id"])
        if client is None:
            now = dt.datetime.now(dt.UTC)
            client = models.Client(**registration, client_id_issued_at=now)
        else:
            for name, value in registration.items():
                setattr(client, name, value)
        client.audience = [client]
        Backend.instance.save(client)


def ensure_account(account: Mapping[str, Any]) -> None:
    """Make an account unless there is one of that name: its password may have been changed."""
    name = str(account["username"])
    if Backend.instance.get(models.User, user_name=name):
        return
    given = str(account.get("given_name") or name.capitalize())
    family = str(account.get("family_name") or "Example")
    user = models.User(
        user_name=name,
        password=str(account["password"]),
        given_name=given,
        family_name=family,
        formatted_name=f"{given} {family}",
        display_name=given,
        emails=[str(account.get("email") or f"{name}@taccuino.example")],
    )
    Backend.instance.save(user)
    if account.get("admin"):
        group = Backend.instance.get(models.Group, display_name=EMBEDDED_ADMIN_GROUP)
        if group is None:
            group = models.Group(display_name=EMBEDDED_ADMIN_GROUP, members=[user], owner=user)
            group.description = "Administrators of the hub and of this IAM"
        else:
            group.members = [*group.members, user]
        Backend.instance.save(group)


def _serve(settings: Settings) -> None:
    app = make_app(settings)
    accounts_file = settings.state_dir / "accounts.json"
    accounts = json.loads(accounts_file.read_text("utf-8")) if accounts_file.exists() else []
    provision(app, settings, accounts)
    config = Config()
    config.bind = [f"127.0.0.1:{settings.local.iam_backend_port}"]
    config.include_server_header = False
    asyncio.run(serve(app, config, mode="wsgi"))


def main() -> None:
    """Serve; or with ``add-user``, make the account that the standard input describes."""
    if sys.argv[1:] == ["add-user"]:
        order = json.load(sys.stdin)
        app = make_app(Settings.load(Path(order["settings"])))
        with app.app_context():
            ensure_account(order["account"])
    else:
        _serve(Settings.load())


if __name__ == "__main__":
    main()
