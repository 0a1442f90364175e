"""The embedded IAM: canaille, for a machine that has no institute's IAM to ask.

canaille answers on the loopback interface; the edge stands in front of it at the issuer's
address and answers ``/oauth/jwks.json`` itself, from `jwks_file`: canaille publishes its key
without the ``x5c`` certificate that RadosGW 16 to 18 verify tokens with.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from taccuino.errors import ServiceError
from taccuino.private_files import keep_private, write_private
from taccuino.settings import Settings

from .iam_keys import SigningKey
from .secret_files import EMBEDDED_CLIENT_ID
from .service import Service

__all__ = [
    "EMBEDDED_ADMIN_GROUP",
    "GRANT_SECONDS",
    "SESSION_COOKIES",
    "add_user",
    "canaille_config",
    "client_registration",
    "iam_service",
    "issuer",
    "jwks_file",
    "signing_key",
]

EMBEDDED_ADMIN_GROUP = "taccuino-admins"
"""The group of the accounts that are marked as administrators."""
SESSION_COOKIES = ("taccuino-iam", "canaille_login_history")
"""canaille's cookies. A browser sends them to every port of the host (RFC 6265, 8.5): the
edge takes them out of requests that go elsewhere."""

GRANT_SECONDS = 30 * 24 * 3600
"""Life of a refresh token, as INDIGO IAM has it."""
_LOGO = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 64 64'%3E"
    "%3Crect x='12' y='6' width='42' height='52' rx='5' fill='%23155e75'/%3E"
    "%3Crect x='20' y='6' width='3' height='52' fill='%23ecfeff'/%3E"
    "%3Cg fill='none' stroke='%23155e75' stroke-width='4' stroke-linecap='round'%3E"
    "%3Cpath d='M8 18h8M8 32h8M8 46h8'/%3E%3C/g%3E"
    "%3Cg stroke='%23ecfeff' stroke-width='3' stroke-linecap='round'%3E"
    "%3Cpath d='M30 22h16M30 32h16M30 42h10'/%3E%3C/g%3E%3C/svg%3E"
)
_COMMAND_SECONDS = 60.0


def issuer(settings: Settings) -> str:
    """The embedded IAM's address as browsers, the hub and RadosGW know it."""
    return f"http://{settings.host}:{settings.local.iam_port}"


def jwks_file(settings: Settings) -> Path:
    """The public keys with ``x5c``, which the edge answers ``/oauth/jwks.json`` with."""
    return settings.state_dir / "iam/jwks.json"


def signing_key(settings: Settings) -> SigningKey:
    """The key that signs every token, made at its first use."""
    path = settings.state_dir / "iam/signing-key.json"
    return SigningKey.parse(keep_private(path, lambda: SigningKey.new(settings.host).text()))


def canaille_config(
    *,
    name: str,
    address: str,
    database: Path,
    secret_key: str,
    jwk: Mapping[str, str],
    token_seconds: int,
) -> dict[str, Any]:
    """Canaille's configuration.

    Parameters
    ----------
    address
        The issuer.
    token_seconds
        Life of an access token.

    Notes
    -----
    What differs from canaille's defaults, and why. Registration is open, so a user may neither
    choose the name that tokens carry (``preferred_username`` is the display name there) nor
    make a group (the hub's admin group could be one), and no name makes an administrator.
    No client is trusted: every user is asked for consent once, which canaille leaves out for
    ``localhost``.
    """
    parts = urlsplit(address)
    return {
        "SECRET_KEY": secret_key,
        "SERVER_NAME": parts.netloc,
        "PREFERRED_URL_SCHEME": parts.scheme,
        "SESSION_COOKIE_NAME": SESSION_COOKIES[0],
        "OAUTH2_TOKEN_EXPIRES_IN": {
            "authorization_code": token_seconds,
            "refresh_token": token_seconds,
        },
        "CANAILLE": {
            "NAME": name,
            "DATABASE": "sql",
            "LOGO": _LOGO,
            "FAVICON": _LOGO,
            "SMTP": None,
            "FORCE_HTTPS": parts.scheme == "https",
            "CAPTCHA_ENABLED": False,
            "ENABLE_REGISTRATION": True,
            "ENABLE_PASSWORD_RECOVERY": False,
            "ENABLE_INTRUDER_LOCKOUT": True,
            "ACL": {
                "DEFAULT": {
                    "PERMISSIONS": ["edit_self", "use_oidc"],
                    "READ": ["user_name", "groups", "lock_date"],
                    "WRITE": [
                        "given_name",
                        "family_name",
                        "display_name",
                        "password",
                        "emails",
                        "photo",
                        "preferred_language",
                    ],
                },
                "ADMIN": {
                    "PERMISSIONS": ["manage_users", "manage_all_groups", "manage_oidc"],
                    "READ": [],
                    "WRITE": ["groups", "lock_date"],
                    "FILTER": {"groups": EMBEDDED_ADMIN_GROUP},
                },
            },
        },
        "CANAILLE_SQL": {"DATABASE_URI": f"sqlite:///{database}"},
        "CANAILLE_OIDC": {
            "ACTIVE_JWKS": [dict(jwk)],
            "TRUSTED_DOMAINS": [],
            "USERINFO_MAPPING": {"PREFERRED_USERNAME": "{{ user.user_name }}"},
        },
        "CANAILLE_SCIM": {"ENABLE_SERVER": False},
    }


def client_registration(*, name: str, url: str, secret: str) -> dict[str, Any]:
    """The hub's client: what is registered of it (RFC 7591's names)."""
    return {
        "client_id": EMBEDDED_CLIENT_ID,
        "client_secret": secret,
        "client_name": name,
        "client_uri": url,
        "contacts": [],
        "redirect_uris": [f"{url}/hub/oauth_callback"],
        "post_logout_redirect_uris": [f"{url}/hub/login", f"{url}/hub/logout"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": ["openid", "profile", "email", "groups"],
        "token_endpoint_auth_method": "client_secret_basic",
        "id_token_signed_response_alg": "RS256",
    }


def iam_service(settings: Settings) -> Service:
    """canaille, in one process of its own."""
    environment = {} if issuer(settings).startswith("https:") else _INSECURE
    return Service(
        name="iam",
        command=(sys.executable, "-m", "taccuino.local.iam_server"),
        environment=environment,
        directory=settings.state_dir / "iam",
        prepare=lambda: _prepare(settings),
        ready=lambda: _ready(settings),
        configuration=json.dumps(
            [settings.name, settings.url, issuer(settings), settings.local.iam_token_seconds]
        ),
    )


_INSECURE = {"AUTHLIB_INSECURE_TRANSPORT": "1"}
"""Authlib refuses plain http unless it is told that this is meant."""


def _prepare(settings: Settings) -> None:
    (settings.state_dir / "iam").mkdir(mode=0o711, exist_ok=True)
    text = json.dumps(signing_key(settings).jwks())
    path = jwks_file(settings)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_private(path, text)
    path.chmod(0o644)  # the edge's account reads it; nothing in it is secret


def _ready(settings: Settings) -> bool:
    """Whether the discovery document is there and is that of the issuer."""
    parts = urlsplit(issuer(settings))
    port = settings.local.iam_backend_port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    headers = {"Host": parts.netloc, "X-Forwarded-Proto": parts.scheme}
    try:
        connection.request("GET", "/.well-known/openid-configuration", headers=headers)
        response = connection.getresponse()
        document = json.loads(response.read()) if response.status == 200 else {}
    except (OSError, http.client.HTTPException, json.JSONDecodeError):
        return False
    finally:
        connection.close()
    return bool(document.get("issuer") == issuer(settings))


def add_user(
    settings: Settings, username: str, password: str, *, admin: bool = False, **profile: str
) -> None:
    """Make an account in the embedded IAM, which may be running; an existing one stays.

    Parameters
    ----------
    profile
        ``given_name``, ``family_name`` and ``email``, where they should not be made up.

    Raises
    ------
    ServiceError
        If the account can't be made.
    """
    account = {"username": username, "password": password, "admin": admin, **profile}
    path = settings.state_dir / "settings.json"
    # The password goes through the standard input: arguments are in the process list.
    done = subprocess.run(
        [sys.executable, "-m", "taccuino.local.iam_server", "add-user"],
        input=json.dumps({"settings": str(path), "account": account}),
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason was given"]
        raise ServiceError(f"iam: the account {username!r} was not made: {reason[0]}")
